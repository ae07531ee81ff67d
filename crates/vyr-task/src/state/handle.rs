//! Open files and directories of a task: what its binding allows, and who keeps what alive.
//!
//! Preview 1 and preview 2 translate to and from these calls and decide nothing themselves.

use std::sync::{Arc, OnceLock};

use super::lend::Loans;
use super::tree::{Entry, How, Kind, ROOT, Serial, Stat};
use super::{Access, BoundState, EphemeralState, FileError};
use crate::control::{Control, Stopped};

/// The most one call copies: far below what fits into the 100 ms of a cancellation.
pub(super) const COPY_MAX: usize = 1 << 20;

/// Files and directories one task may have open.
pub(super) const OPEN_MAX: usize = 1024;

/// The states of one task, and what it has open in them.
pub(crate) struct Files {
    pub(super) control: Arc<Control>,
    bound: Vec<BoundState>,
    /// Counts the handles: each holds a clone. Made with the first.
    open: OnceLock<Arc<()>>,
    pub(super) descriptors: Option<super::p1::Descriptors>,
    pub(super) loans: Loans,
}

impl Files {
    pub(crate) fn new(bound: Vec<BoundState>, control: Arc<Control>) -> Self {
        Self { control, bound, open: OnceLock::new(), descriptors: None, loans: Loans::default() }
    }

    /// Every call is a safe point: may the task go on?
    pub(super) fn check(&self) -> Result<(), Stopped> {
        self.control.check()
    }

    pub(super) fn has_states(&self) -> bool {
        !self.bound.is_empty()
    }

    /// One open directory a state, and the path the guest finds it at.
    pub(super) fn roots(&self) -> Result<Vec<(Handle, String)>, FileError> {
        let roots = self.bound.iter().zip(1..).map(|(bound, device)| {
            let path = format!("/state/{}", bound.name);
            Ok((
                Handle::root(bound, device, Arc::clone(self.open.get_or_init(Arc::default)))?,
                path,
            ))
        });
        roots.collect()
    }

    pub(super) fn bound(&self, name: &str) -> Option<&BoundState> {
        self.bound.iter().find(|bound| bound.name == name)
    }
}

/// One open file or directory. Closes when dropped.
pub(super) struct Handle {
    state: EphemeralState,
    access: Access,
    node: Serial,
    pub(super) kind: Kind,
    pub(super) read: bool,
    pub(super) write: bool,
    /// The number of the state among those of the task, from 1.
    pub(super) device: u64,
    open: Arc<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.state.lock().close(self.node);
    }
}

impl Handle {
    fn root(bound: &BoundState, device: u64, open: Arc<()>) -> Result<Self, FileError> {
        bound.state.lock().hold(ROOT)?;
        Ok(Self {
            state: bound.state.clone(),
            access: bound.access,
            node: ROOT,
            kind: Kind::Directory,
            read: true,
            write: false,
            device,
            open,
        })
    }

    pub(super) fn writable(&self) -> Result<(), FileError> {
        match self.access {
            Access::ReadOnly => Err(FileError::ReadOnly),
            Access::ReadWrite => Ok(()),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.state.is_same(&other.state) && self.node == other.node
    }

    fn is_directory(&self) -> Result<(), FileError> {
        match self.kind {
            Kind::Directory => Ok(()),
            Kind::File => Err(FileError::NotDirectory),
        }
    }

    pub(super) fn is_file(&self) -> Result<(), FileError> {
        match self.kind {
            Kind::Directory => Err(FileError::IsDirectory),
            Kind::File => Ok(()),
        }
    }

    pub(super) fn open(&self, path: &str, how: How) -> Result<Self, FileError> {
        self.is_directory()?;
        // The roots count too; a task has few states.
        if Arc::strong_count(&self.open) > OPEN_MAX {
            return Err(FileError::TooManyOpen);
        }
        let mut tree = self.state.lock();
        if self.is_read_only() {
            let changes = (how.write && !how.directory)
                || how.truncate
                || (how.create && !tree.exists(self.node, path)?);
            if changes {
                return Err(FileError::ReadOnly);
            }
        }
        let (node, kind) = tree.open(self.node, path, how)?;
        drop(tree);
        Ok(Self {
            state: self.state.clone(),
            access: self.access,
            node,
            kind,
            read: how.read,
            write: how.write && kind == Kind::File,
            device: self.device,
            open: Arc::clone(&self.open),
        })
    }

    pub(super) fn stat(&self) -> Result<Stat, FileError> {
        self.state.lock().stat(self.node)
    }

    pub(super) fn stat_at(&self, path: &str) -> Result<Stat, FileError> {
        self.is_directory()?;
        self.state.lock().stat_at(self.node, path)
    }

    /// Reads up to `COPY_MAX` from `offset` on; nothing at the end.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        self.is_file()?;
        if !self.read {
            return Err(FileError::BadDescriptor);
        }
        let length = into.len().min(COPY_MAX);
        self.state.lock().read(self.node, offset, &mut into[..length])
    }

    /// Writes up to `COPY_MAX` at `offset`, or at the end; where, and how much there was room for.
    pub(super) fn write(
        &self,
        offset: Option<u64>,
        data: &[u8],
    ) -> Result<(u64, usize), FileError> {
        self.is_file()?;
        self.may_write()?;
        let data = &data[..data.len().min(COPY_MAX)];
        self.state.lock().write(self.node, offset, data)
    }

    pub(super) fn may_write(&self) -> Result<(), FileError> {
        self.writable()?;
        if self.write { Ok(()) } else { Err(FileError::BadDescriptor) }
    }

    pub(super) fn set_size(&self, size: u64) -> Result<(), FileError> {
        self.is_file()?;
        self.may_write()?;
        self.state.lock().set_size(self.node, size)
    }

    pub(super) fn set_modified(&self, ns: Option<u64>) -> Result<(), FileError> {
        self.writable()?;
        self.state.lock().set_modified(self.node, ns)
    }

    pub(super) fn set_modified_at(&self, path: &str, ns: Option<u64>) -> Result<(), FileError> {
        self.is_directory()?;
        self.writable()?;
        self.state.lock().set_modified_at(self.node, path, ns)
    }

    pub(super) fn create_directory(&self, path: &str) -> Result<(), FileError> {
        self.is_directory()?;
        self.writable()?;
        self.state.lock().create_directory(self.node, path)
    }

    pub(super) fn remove_directory(&self, path: &str) -> Result<(), FileError> {
        self.is_directory()?;
        self.writable()?;
        self.state.lock().remove_directory(self.node, path)
    }

    pub(super) fn unlink(&self, path: &str) -> Result<(), FileError> {
        self.is_directory()?;
        self.writable()?;
        self.state.lock().unlink(self.node, path)
    }

    pub(super) fn rename(&self, from: &str, other: &Self, to: &str) -> Result<(), FileError> {
        self.is_directory()?;
        other.is_directory()?;
        self.writable()?;
        other.writable()?;
        if !self.state.is_same(&other.state) {
            return Err(FileError::CrossState);
        }
        self.state.lock().rename(self.node, from, other.node, to)
    }

    pub(super) fn entry_after(&self, after: Serial) -> Result<Option<Entry>, FileError> {
        self.is_directory()?;
        self.state.lock().entry_after(self.node, after)
    }
}
