//! The artifact store: an OCI image layout on disk that many processes share.
//!
//! ```text
//! ROOT/oci-layout            the marker, written last when a store is made
//!      index.json            one descriptor an artifact; the only thing a reader starts from
//!      blobs/sha256/<hex>    manifests, configs, layers, outputs
//!      staging/              what is being written; the same filesystem, so a rename finishes it
//!      index.lock            held while index.json is read, changed and written
//!      gc.lock gc.turn.lock  shared by commits, exclusive to gc
//! ```
//!
//! The map: [`Store`] and opening it are in `layout`; `oci` has the JSON, `graph` follows it;
//! `put` and `import` fill a `transaction`, which alone commits; `stage` takes outputs, `read`
//! gives bytes back, `index` lists, `gc` sweeps, `archive` exports; `staging`, `lock`, `fault`
//! and `step` are what they stand on.
//!
//! Invariants, each held by a test in `tests/store/`:
//! 1. An artifact is in the index with all it names, or it is not there (killed at every step).
//! 2. No byte leaves the store unless the whole blob has its digest.
//! 3. gc removes nothing the index reaches, nothing an open put holds, and nothing at all when a
//!    manifest it would have to follow cannot be read.
//! 4. Nothing outside the store's own directory is read or written for a blob: names are digests,
//!    and links are not followed.
//!
//! Deliberately elsewhere: who may sign and what may run (`vyr-artifact`; this crate decides
//! nothing about trust), when to collect and what running tasks still need (`vyr-node`), clocks
//! for gc (a parameter).

mod archive;
mod fault;
mod gc;
mod graph;
mod import;
mod index;
mod layout;
mod lock;
mod oci;
mod put;
mod read;
mod stage;
mod staging;
mod step;
mod transaction;

pub use archive::{ExportError, Exported};
pub use fault::FsError;
pub use gc::{GcError, GcOptions, GcReport, STAGING_GRACE};
pub use graph::{MAX_DEPTH, WalkError};
pub use import::{Import, ImportError, ImportLimits, Imported};
pub use index::{IndexError, ListError, MAX_INDEX_BYTES, RemoveError};
pub use layout::{OpenError, Store};
pub use lock::{LOCK_WAIT, LockError};
pub use oci::{Entry, MAX_LINKS, MAX_MANIFEST_BYTES, ManifestError, REF_NAME, SUBJECT_HINT};
pub use put::{Put, PutError};
pub use read::{ReadError, VerifiedBlob};
pub use stage::{SMALL_BYTES, StageError, Staged};
#[doc(hidden)]
pub use step::{ProbeFn, Step};
pub use transaction::{BlobError, CommitError, MAX_BLOB_BYTES};
