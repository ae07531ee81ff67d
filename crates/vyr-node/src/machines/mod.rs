//! Machines of a node: what `api` asks for, and the process `machines` that runs them.
//!
//! ```text
//!  api: MachinesDoor --socket pair, words of `wire`--> machines: keeper
//!    ^ events, answers                                  |  one life a machine: a thread that follows it
//!    +-- sockets of sessions and logs <-----------------+  VMM (own user, no rights), guest's channel
//!                                                       +- DATA/machines/ID: record, log, console, disk
//! ```
//!
//! Invariants:
//! 1. A machine that was ordered ends exactly once, with one `Ended` or one `Failed`. Each life of
//!    `machines` tells it, until it is forgotten.
//! 2. VMMs outlive `machines`, which finds them again by their records: whatever runs is adopted, and
//!    whatever never came to run is removed.
//! 3. Two living VMMs never have one user.
//! 4. What a guest says is bounded before it goes on: phases only forward, one result of a health
//!    check in [`HEALTH_SPACING`], the newest of what waits, a log of two files.
//! 5. What is in a `Start` is in memory only. Records hold names and numbers; snapshots are of guests that
//!    were told nothing.
//!
//! What should run, and when it is started again, is decided elsewhere.

mod blank;
mod door;
mod error;
mod exec;
mod instance;
mod keeper;
mod life;
mod logs;
mod place;
mod queue;
mod record;
mod rise;
mod snapshots;
mod users;
pub mod wire;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vyr_vm::channel::words::{End, Phase, Stage, Start};
use vyr_vm::vmm::Exit;

pub use door::MachinesDoor;
pub use error::MachinesError;
pub(crate) use keeper::serve;
pub use place::{MachinesSettings, examine, find_platform};
pub(crate) use place::{Place, kvm_group};

/// Results of health checks closer together than this are told as the last of them.
pub const HEALTH_SPACING: Duration = Duration::from_millis(100);

/// The name of a machine: 1 to 64 lower case letters, digits and `-`, the first no `-`. It is one life
/// of an instance, and never returns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn new(name: &str) -> Result<Self, MachinesError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fine =
            (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain);
        if fine { Ok(Self(name.to_owned())) } else { Err(MachinesError::Id(name.to_owned())) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MachineId {
    type Error = MachinesError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A machine to be started.
#[derive(Debug)]
pub struct Order {
    /// Its name; a new one.
    pub id: MachineId,
    /// The image's squashfs. Whoever opens the door opens it; the VMM's user need not reach it.
    pub root: PathBuf,
    /// Of the guest, in bytes.
    pub memory_bytes: u64,
    /// Virtual processors.
    pub vcpus: u8,
    /// The size of the writable layer's disk; without one it is in memory.
    pub scratch_bytes: Option<u64>,
    /// A snapshot below `DATA/machines`, to start from and from nothing else. `None`: from one of its
    /// kind, where snapshots are made and there is one; else it boots.
    pub snapshot: Option<PathBuf>,
    /// Who the guest is and what it runs. Entropy and time are filled in as it is told.
    pub start: Start,
}

/// The card of a machine: the TAP, and the address of the guest's end.
pub type Tap = (OwnedFd, [u8; 6]);

/// What happened to a machine. All texts in it are bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Its VMM runs. Once more if it was restored and that was of no use: then it boots.
    Started {
        /// Which.
        id: MachineId,
        /// The VMM's process.
        pid: u32,
        /// How.
        began: Began,
    },
    /// How far the guest says it is. Ends are told by [`Event::Ended`] and [`Event::Failed`].
    Phase {
        /// Which.
        id: MachineId,
        /// How far.
        phase: Phase,
    },
    /// The result of a health check.
    Health {
        /// Which.
        id: MachineId,
        /// Whether it passed.
        passed: bool,
        /// What was seen.
        said: String,
    },
    /// It ran, and does no more.
    Ended {
        /// Which.
        id: MachineId,
        /// How the workload ended, if the guest could say so.
        end: Option<End>,
        /// How the VMM ended.
        exit: Exit,
    },
    /// It did not come to run, or the guest broke its bounds. Nothing of it runs.
    Failed {
        /// Which.
        id: MachineId,
        /// At what.
        at: FailedAt,
        /// Why, without a secret.
        why: String,
    },
    /// It was found running.
    Adopted {
        /// Which.
        id: MachineId,
        /// The VMM's process.
        pid: u32,
        /// How far the guest says it is.
        phase: Phase,
    },
}

impl Event {
    /// Whose it is.
    pub fn id(&self) -> &MachineId {
        match self {
            Self::Started { id, .. }
            | Self::Phase { id, .. }
            | Self::Health { id, .. }
            | Self::Ended { id, .. }
            | Self::Failed { id, .. }
            | Self::Adopted { id, .. } => id,
        }
    }
}

/// How a machine came to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Began {
    /// Its guest booted.
    Booted {
        /// Why it was not restored, if somebody tried to, or to make what it would have been restored
        /// from. Bounded.
        instead: Option<String>,
    },
    /// From a snapshot.
    Restored,
}

impl Began {
    /// `booted` or `restored`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Booted { .. } => "booted",
            Self::Restored => "restored",
        }
    }

    /// Why it was not restored, if it might have been.
    pub fn instead(&self) -> Option<&str> {
        match self {
            Self::Booted { instead } => instead.as_deref(),
            Self::Restored => None,
        }
    }
}

/// At what a machine failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailedAt {
    /// The kernel and initramfs of guests are missing, or the VMM is.
    Platform,
    /// Its directory or scratch disk.
    Disk,
    /// The VMM did not start.
    Vmm,
    /// The guest did not come up.
    Boot,
    /// The guest broke the channel.
    Channel,
    /// A step inside of the guest.
    Guest(Stage),
}

impl fmt::Display for FailedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Disk => f.write_str("disk"),
            Self::Vmm => f.write_str("VMM"),
            Self::Boot => f.write_str("boot"),
            Self::Channel => f.write_str("channel"),
            Self::Guest(stage) => stage.fmt(f),
        }
    }
}

/// A machine as `machines` knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Which.
    pub id: MachineId,
    /// The VMM's process, while it runs.
    pub pid: Option<u32>,
    /// Its user, if it has one of its own.
    pub uid: Option<u32>,
    /// How far the guest said it is.
    pub phase: Phase,
    /// How its VMM came to run, if it did.
    pub began: Option<Began>,
    /// How it ended, if it did.
    pub ended: Option<Ending>,
}

/// The end of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// As [`Event::Ended`].
    Ended {
        /// How the workload ended.
        end: Option<End>,
        /// How the VMM ended.
        exit: Exit,
    },
    /// As [`Event::Failed`].
    Failed {
        /// At what.
        at: FailedAt,
        /// Why.
        why: String,
    },
}

impl Ending {
    /// Why, in words.
    fn why(&self) -> String {
        match self {
            Self::Ended { .. } => "the VMM ended".into(),
            Self::Failed { at, why } => format!("{at}: {why}"),
        }
    }

    fn event(&self, id: MachineId) -> Event {
        match self.clone() {
            Self::Ended { end, exit } => Event::Ended { id, end, exit },
            Self::Failed { at, why } => Event::Failed { id, at, why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_directory() {
        for name in ["a", "web-1", "0", &"x".repeat(64)] {
            assert_eq!(MachineId::new(name).expect("a name").as_str(), name);
        }
        for name in ["", "-a", ".", "..", "a/b", "A", "a.b", "a\0", "ä", &"x".repeat(65)] {
            assert!(MachineId::new(name).is_err(), "{name:?}");
            let text = serde_json::to_string(name).expect("text");
            assert!(serde_json::from_str::<MachineId>(&text).is_err(), "{name:?}");
        }
    }
}
