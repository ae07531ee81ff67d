//! A node that can be thrown away: `vyr bundle` writes what it is, `vyr rebuild` makes it again.
//!
//! ```text
//! DATA/network, DATA/trust, DATA/store --gather--> age --> signed file     (seal)
//!
//! file --signature--> digest of every byte --> age --> checked: plan, approvals, keys   (open)
//!        --> is the old node still there? (twin) --> keys, plan --> the transaction of `apply`
//!        --> read back --> artifacts                                       (rebuild)
//!
//! a host elsewhere: the file and its own key, over ssh, then the same there                (carried)
//! ```
//!
//! Invariants:
//! 1. No private key is on the disk in clear but in `DATA/network/keys`, on either machine.
//! 2. Nothing of a bundle is used before its signature was believed and each of its bytes is the one
//!    that was signed.
//! 3. Each step of a rebuild can be taken again: who dies in the middle runs the same command.
//!
//! Not here: the form of the file (`vyr_plan::bundle`), how a host is changed (`change`).

mod carried;
mod error;
mod open;
mod rebuild;
mod seal;
mod twin;

pub use carried::{carry, rebuild_carried};
pub use error::RecoveryError;
pub use open::{Checked, look};
pub use rebuild::{Opener, RebuildRequest, Rebuilt, rebuild};
pub use seal::{BundleRequest, Bundled, bundle};
