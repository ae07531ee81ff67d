//! Advisory locks between processes: `index.lock` and `gc.lock`.
//!
//! Each is held for one short piece of work, never for the life of a store or of a put. Waits are
//! bounded: the lock is tried with growing pauses until a deadline, and then the error names the
//! file. The kernel releases a lock when its holder dies, however it dies.
//!
//! Order, so that no two can wait for each other: `gc.lock` before `index.lock`.
//!
//! `flock` lets newcomers share a lock that somebody waits to have alone, so steady commits would
//! keep gc out for ever. `gc.turn.lock` is the door in front of `gc.lock`: everybody passes it
//! first, and gc closes it while it waits.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use vyr_base::{Category, Problem};

use crate::fault::{Context, FsError};
use crate::layout::Store;

/// How long a lock is waited for: far longer than fifty commits on a slow disk take, and shorter
/// than a person's patience.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The longest pause between two tries; it bounds how late a freed lock is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A lock of the store could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else held it until the deadline.
    #[error("lock {} was not free within {waited_ms} ms", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long this process waited.
        waited_ms: u128,
    },
    /// The file could not be opened or locked at all.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for LockError {
    fn category(&self) -> Category {
        match self {
            Self::Busy { .. } => Category::Transient,
            Self::Fs(fault) => fault.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { path, .. } => Some(format!(
                "try again; `fuser {}` names the process that holds it",
                path.display()
            )),
            Self::Fs(fault) => fault.hint(),
        }
    }
}

/// Which lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Shared: blobs I saw stay. Exclusive: I may remove blobs.
    Gc,
    /// Exclusive: I read, change and write `index.json`.
    Index,
}

/// With whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Shared,
    Exclusive,
}

/// A held lock; dropping it lets go.
#[derive(Debug)]
#[must_use]
pub(crate) struct Guard {
    _file: OwnedFd,
}

impl Store {
    /// Takes `lock`, or says who is in the way after this store's lock wait.
    pub(crate) fn lock(&self, lock: Lock, hold: Hold) -> Result<Guard, LockError> {
        let started = Instant::now();
        match lock {
            Lock::Index => self.lock_file("index.lock", hold, started),
            Lock::Gc => {
                let _door = self.lock_file("gc.turn.lock", hold, started)?;
                self.lock_file("gc.lock", hold, started)
            }
        }
    }

    fn lock_file(
        &self,
        name: &'static str,
        hold: Hold,
        started: Instant,
    ) -> Result<Guard, LockError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = || self.path(name);
        let file = openat(self.root_dir(), name, flags, Mode::from_raw_mode(0o600));
        let file = file.at("open the lock", path)?;
        let operation = match hold {
            Hold::Shared => FlockOperation::NonBlockingLockShared,
            Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let mut pause = Duration::from_millis(1);
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Guard { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                refused => refused.at("lock", path)?,
            }
            let waited = started.elapsed();
            if waited >= self.lock_wait() {
                return Err(LockError::Busy { path: path(), waited_ms: waited.as_millis() });
            }
            thread::sleep(pause.min(self.lock_wait() - waited));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(directory.path()).expect("a new store").with_lock_wait(Duration::ZERO)
    }

    #[test]
    fn a_held_lock_is_refused_by_name_after_the_wait_and_free_after_the_drop() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (one, other) = (store(&directory), store(&directory));
        let held = one.lock(Lock::Index, Hold::Exclusive).expect("free");
        let refused = other.lock(Lock::Index, Hold::Exclusive).expect_err("held");
        assert!(refused.to_string().contains("index.lock"), "{refused}");
        assert_eq!(refused.category(), Category::Transient);
        drop(held);
        let _free = other.lock(Lock::Index, Hold::Exclusive).expect("free again");
    }

    #[test]
    fn commits_share_the_gc_lock_and_gc_does_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (one, other) = (store(&directory), store(&directory));
        let held = one.lock(Lock::Gc, Hold::Shared).expect("free");
        let also = other.lock(Lock::Gc, Hold::Shared).expect("shared");
        assert!(other.lock(Lock::Gc, Hold::Exclusive).is_err());
        drop((held, also));
        let alone = other.lock(Lock::Gc, Hold::Exclusive).expect("alone");
        assert!(one.lock(Lock::Gc, Hold::Shared).is_err());
        drop(alone);
    }

    #[test]
    fn gc_closes_the_door_to_newcomers_while_it_waits() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = store(&directory);
        let _door = store.lock_file("gc.turn.lock", Hold::Exclusive, Instant::now());
        let refused = store.lock(Lock::Gc, Hold::Shared).expect_err("the door is closed");
        assert!(refused.to_string().contains("gc.turn.lock"), "{refused}");
    }
}
