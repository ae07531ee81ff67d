//! Ephemeral state: a directory tree and a key-value map in memory, under one quota.
//!
//! ```text
//!  preview 1 guest --p1--\                       /-- tree  (directories, files)
//!                         +--> handle --> EphemeralState
//!  component --------p2--/                  ^    \-- bytes (contents that are wiped)
//!            \-- keyvalue ------------------/     -- keys
//! ```
//!
//! Nothing is ever on disk: a task process can open no file, and a state needs none. All tasks
//! bound to a state share it through one reference count, and so do the files they hold open; when
//! the last is gone, however its task ended, the memory is overwritten and freed.
//!
//! Invariants:
//! 1. `used_bytes` never exceeds the quota, and it is the sum of the bytes of contents, names, keys
//!    and values and an overhead for each node and key that covers what they really take. So the
//!    memory of a state is bounded by twice its quota, whatever a guest does.
//! 2. A path never leads out of the directory it is relative to: there are no links, and `..`
//!    stops at the directory of the descriptor.
//! 3. A call copies at most `COPY_MAX` of a file or `VALUE_MAX` of values, looks through at most
//!    `SUBTREE_MAX` entries, and holds the lock only meanwhile. Freeing is as fast as memory is overwritten: 100 to 160 ms a gigabyte.
//! 4. A bound state that is read-only is not changed through that binding, nor its times.
//!
//! Times are logical: the n-th change of a state happens at n nanoseconds of 1970, so that order
//! can be seen and a deterministic task has nothing to read off. Setting a time works; access times
//! are not kept.
//!
//! Deliberately absent: symbolic and hard links (no link, no escape), permissions (access is
//! the binding's), locks and notifications.

mod bytes;
mod handle;
mod keys;
mod keyvalue;
mod lend;
mod p1;
mod p2;
mod streams;
mod tree;
#[cfg(test)]
mod tree_model;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub(crate) use handle::Files;
pub(crate) use keyvalue::add_to_linker as add_keyvalue_to_linker;
pub(crate) use p1::add_to_linker as add_p1_to_linker;
pub(crate) use p2::add_to_linker as add_p2_to_linker;
use tree::Tree;

/// One ephemeral state: a directory tree and a key-value map under one quota.
///
/// Clones are the same state. It is gone, and its memory overwritten, when the last clone and the
/// last task bound to it are gone.
#[derive(Clone)]
pub struct EphemeralState(Arc<Shared>);

struct Shared {
    quota_bytes: u64,
    tree: Mutex<Tree>,
}

impl EphemeralState {
    /// An empty state that may hold `quota_bytes`, or [`EphemeralState::QUOTA_MAX_BYTES`] if that
    /// is less.
    ///
    /// A file or directory costs [`EphemeralState::NODE_BYTES`] and its name, a key
    /// [`EphemeralState::KEY_BYTES`] and itself; contents and values cost their length, holes in a
    /// file included.
    pub fn new(quota_bytes: u64) -> Self {
        let quota_bytes = quota_bytes.min(Self::QUOTA_MAX_BYTES);
        Self(Arc::new(Shared { quota_bytes, tree: Mutex::new(Tree::new(quota_bytes)) }))
    }

    /// More than any node has memory for, and little enough that the list of the pieces of one file
    /// of that size is 24 MiB: a write at its end makes all of that list at once.
    pub const QUOTA_MAX_BYTES: u64 = 64 << 30;

    /// What a file or directory costs besides its name and contents: the allocations of the worst
    /// shape there is, a chain of directories with an entry each, come to 624 bytes a node.
    pub const NODE_BYTES: u64 = 640;

    /// What a key costs besides itself and its value.
    pub const KEY_BYTES: u64 = 256;

    /// How much of the quota is used.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// What it may hold.
    pub fn quota_bytes(&self) -> u64 {
        self.0.quota_bytes
    }

    /// A reference that does not keep the state alive.
    pub fn downgrade(&self) -> WeakState {
        WeakState(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.0.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for EphemeralState {
    /// Says how full it is, nothing of what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EphemeralState")
            .field("quota_bytes", &self.0.quota_bytes)
            .finish_non_exhaustive()
    }
}

/// Knows whether a state still exists.
#[derive(Debug, Clone)]
pub struct WeakState(Weak<Shared>);

impl WeakState {
    /// The state, unless it is gone.
    pub fn upgrade(&self) -> Option<EphemeralState> {
        self.0.upgrade().map(EphemeralState)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What a task may do with a state bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it. Every change is refused.
    ReadOnly,
    /// Read and change it.
    ReadWrite,
}

/// A state as one task sees it.
#[derive(Debug, Clone)]
pub struct BoundState {
    /// The guest finds it at `/state/<name>`, and `wasi:keyvalue` opens it by this name. Without
    /// slashes, and unique among the states of a task: the caller has checked that.
    pub name: String,
    /// The state, shared with whoever else holds it.
    pub state: EphemeralState,
    /// What the task may do with it.
    pub access: Access,
}

/// Why a call on a file or directory was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("no such file or directory")]
    NoEntry,
    #[error("it exists already")]
    Exists,
    #[error("not a directory")]
    NotDirectory,
    #[error("it is a directory")]
    IsDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("a name or path is too long, or too deep")]
    NameTooLong,
    #[error("a name is not valid text")]
    IllegalName,
    #[error("the path leads out of its directory")]
    Escape,
    #[error("the quota of the state is used up")]
    Full,
    #[error("the state is bound read-only")]
    ReadOnly,
    #[error("not within one state")]
    CrossState,
    #[error("invalid argument")]
    Invalid,
    #[error("an offset is too large")]
    TooLarge,
    #[error("too many open files")]
    TooManyOpen,
    #[error("not open for that")]
    BadDescriptor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::{How, ROOT};

    #[test]
    fn an_absurd_quota_is_cut_and_a_write_at_the_end_of_all_numbers_refused() {
        let state = EphemeralState::new(u64::MAX);
        assert_eq!(state.quota_bytes(), EphemeralState::QUOTA_MAX_BYTES);
        let mut tree = state.lock();
        let how = How { write: true, create: true, ..How::default() };
        let (file, _) = tree.open(ROOT, "f", how).expect("new");
        for offset in [u64::MAX - 1, i64::MAX as u64, EphemeralState::QUOTA_MAX_BYTES] {
            assert_eq!(tree.write(file, Some(offset), b"x"), Err(FileError::Full), "{offset}");
            assert_eq!(tree.set_size(file, offset), Err(FileError::Full), "{offset}");
        }
        let last = EphemeralState::QUOTA_MAX_BYTES - EphemeralState::NODE_BYTES - 2;
        assert_eq!(tree.write(file, Some(last), b"xy"), Ok((last, 1)));
    }
}
