//! The network of this host: one plan after the other, and a way back from each.
//!
//! ```text
//! plan, approvals --> checked: epoch, parent, operators in charge, invariants, keys
//!                       |
//! observe -> steps -> pending.json on the disk -> a timer process is armed -> steps -> read back
//!                                                     |                                   |
//!                         deadline, or we died: steps back <-------------------- waits for `confirm`
//! ```
//!
//! Invariants:
//! 1. Nothing is changed before the way back is on the disk and another process watches it.
//! 2. What is confirmed is a whole plan: `plan.json` is replaced after what was read back equals it.
//! 3. One change at a time: who comes second is told who came first.
//! 4. A key takes over only as the plan in force allows, and only after that is on the disk.
//! 5. Who dies in the middle, or is never confirmed, leaves the host as it was.
//!
//! Not here: how steps are found and taken (`vyr-net`), what a plan says (`vyr-plan`).

mod backends;
mod change;
mod error;
mod keys;
mod moves;
mod reach;
mod record;
mod recovery;
mod spool;
mod ssh;
mod timer;
mod wire;

pub use backends::{BackendChoice, BackendKind};
pub use change::{Applied, ApplyRequest, Network, Outcome, Standing};
pub use error::NetworkError;
pub use keys::{LinkKeys, private_key};
pub use moves::{Handshake, KeyStanding, KeyWatch, Looked};
pub use reach::{Asks, Ended, Host, LinkKey};
pub(crate) use record::random_name;
pub use record::{Last, Moved, Pending, Phase};
pub use recovery::{
    BundleRequest, Bundled, Checked, Opener, RebuildRequest, Rebuilt, RecoveryError, bundle, carry,
    look, rebuild, rebuild_carried,
};
pub use spool::{Recorded, has_changes, record as record_changes};
pub use ssh::{Said, Ssh, SshAddress, SshError};
pub(crate) use timer::serve;
pub use vyr_net::Stage;
pub use wire::{PROBES_MAX, Remote, RemoteError, perform, refusal, serve as serve_words};
