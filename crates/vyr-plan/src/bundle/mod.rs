//! Recovery bundles: what a machine needs to become a node again, in one file.
//!
//! ```text
//! vyr-bundle 1                                   the form
//! {"epoch":..,"machine":..,"payload":{..},..}    the header, in clear: canonical JSON
//! -----BEGIN SSH SIGNATURE-----                  over `sha256:<hex>` of the two lines above,
//! -----END SSH SIGNATURE-----                    namespace vyr-bundle
//! age-encryption.org/v1 ..                       the payload, to the plan's recovery recipients
//!    {"entries":[{"bytes":..,"digest":..,"name":..},..],"version":1}
//!    the bytes of each entry, in that order
//! ```
//!
//! Without any program of ours: `head -n 2 FILE | sha256sum` names it, `ssh-keygen -Y verify` checks
//! who signed, `age -d` opens what follows the signature.
//!
//! Invariants:
//! 1. The signed lines name every byte of the payload: what is altered anywhere is refused before
//!    anything is decrypted.
//! 2. What is inside is a list of known names, each with a bound; no name is a path of its own.
//! 3. Nothing that is read is longer than its bound, whatever a length says.
//!
//! Not here: encryption and files (`vyr-node`), whether a plan is approved (`approve`).

mod approvals;
mod contents;
mod error;
mod head;

pub use approvals::{APPROVALS_BYTES_MAX, Approvals};
pub use contents::{
    ARTIFACTS_BYTES_MAX, CONTENTS_BYTES_MAX, Contents, ENTRIES_MAX, Entry, Item, MOVED_BYTES_MAX,
    SMALL_BYTES_MAX,
};
pub use error::BundleError;
pub use head::{HEAD_BYTES_MAX, HEADER_BYTES_MAX, Head, Header, Payload};

/// The form of a bundle, in its first line and in the lists inside.
pub const BUNDLE_VERSION: u8 = 1;
