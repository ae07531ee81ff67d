//! Images: from a registry or a layout to a read-only root disk.
//!
//! ```text
//! registry ─┐ manifest, config, layers: each by digest      blobs/sha256/<hex>
//! layout  ──┴─> pull ────────────────────────────────────>  partial/<hex> while it arrives
//!                                                              |
//!   scan: every layer once, names and sizes, bounded  <────────┤
//!   tree: whiteouts, links, symlinked parents -> one tree      |
//!   emit: every layer again, what lives goes on       <────────┘
//!        |  one tar stream, never a file of the host
//!        v
//!   tar2sqfs -> disks/<digest>.squashfs, disks/<image>.json
//! ```
//!
//! The map: `reference` and `registry` ask, `pull` takes in, `blobs` keeps; `manifest` and `config`
//! read JSON; `unpack` decompresses, `archive` reads tar, `scan`, `tree`, `emit` and `merge` make
//! one stream of many layers; `users` finds the user; `disk` runs tar2sqfs and keeps the result;
//! `owner` gives all of it to the user that pulls.
//!
//! Invariants, each with a test in `tests/image/`, killed processes in `vyr`:
//! 1. No byte of a blob is used that does not belong to the digest that was asked for.
//! 2. No name in a layer ever becomes a path of the host.
//! 3. A blob and a disk are whole under their digest, or absent, whenever the process is killed.
//! 4. The same layers give the same stream, and with the same tool the same disk, byte for byte.
//! 5. Memory is bounded by [`Limits`], whatever a registry or a layer says.
//!
//! What a layer may hold follows the OCI image specification (layer.md). Devices and FIFOs are
//! kept, as it wants: inside a machine of its own they give nobody anything. A character device 0:0
//! is refused, because overlayfs reads it as a whiteout, and so are sparse files, which the
//! specification leaves out.

mod archive;
mod blobs;
mod config;
mod disk;
mod emit;
mod fault;
mod layout;
mod limits;
mod manifest;
mod merge;
mod names;
mod owner;
mod plain;
mod pull;
mod registry;
mod scan;
mod token;
mod tree;
mod unpack;
mod users;

pub use blobs::{BlobError, Images};
pub use config::{Config, ConfigError, StopSignal};
pub use disk::{BuildError, Disk, Shown};
pub use fault::{FsError, Reason};
pub use layout::LayoutError;
pub use limits::Limits;
pub use manifest::{Compression, Descriptor, Manifest, ManifestError, Selected, select};
pub use merge::{Layer, LayerBytes, LayerError, Merge, Merged};
pub use pull::{Progress, PullError, Pulled, Silent, Source};
pub use registry::{Registry, RegistryError};
pub use token::{Credentials, CredentialsError};
pub use users::{Accounts, User, UserError};
pub use vyr_service::{Named, Reference, ReferenceError};
