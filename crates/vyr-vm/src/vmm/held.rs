//! The process of a running VMM, whichever it is: held for certain, asked how it is, ended, and its
//! traces removed with it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cgroup::Group;
use super::guard::Guard;
use super::process::Handle;
use super::record::{self, Running};
use super::{Exit, Status, VmmError};

/// A killed process is gone within this, or the kernel is stuck.
const KILLED: Duration = Duration::from_secs(60);

/// A VMM's process. Dropped it runs on.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) directory: PathBuf,
    /// The number; once it ended it may be another's.
    pub(super) pid: u32,
    /// The name of its record.
    record: &'static str,
    handle: Handle,
    /// Only of the process that started it.
    child: Mutex<Option<Child>>,
    group: Option<Group>,
    exit: Mutex<Option<Exit>>,
}

impl Held {
    /// Of a child that has its record.
    pub(super) fn started(
        directory: &Path,
        record: &'static str,
        guard: Guard<'_>,
        group: Option<Group>,
    ) -> Result<Self, VmmError> {
        let pid = guard.pid();
        let handle = Handle::of_child(pid).map_err(VmmError::file("hold", directory))?;
        let (directory, exit) = (directory.to_owned(), Mutex::new(None));
        let child = Mutex::new(guard.into_child());
        Ok(Self { directory, pid, record, handle, child, group, exit })
    }

    /// Of an earlier process's child, by its record.
    pub(super) fn find(
        directory: &Path,
        record: &'static str,
    ) -> Result<(Self, Running), VmmError> {
        let gone = || VmmError::NotRunning(directory.to_owned());
        let path = directory.join(record);
        if !path.exists() {
            return Err(gone());
        }
        let running: Running = record::read(&path)?;
        if running.boot_id != record::boot_id()? {
            return Err(gone());
        }
        let handle = Handle::find(running.pid, running.started)
            .map_err(VmmError::file("hold", directory))?
            .ok_or_else(gone)?;
        let held = Self {
            directory: directory.to_owned(),
            pid: running.pid,
            record,
            handle,
            child: Mutex::new(None),
            group: running.cgroup.as_deref().map(Group::at),
            exit: Mutex::new(None),
        };
        // One that has ended keeps its number until its parent has asked.
        if held.ended(Duration::ZERO)? { Err(gone()) } else { Ok((held, running)) }
    }

    pub(super) fn ended(&self, time: Duration) -> Result<bool, VmmError> {
        self.handle.ended(time).map_err(VmmError::file("wait for", &self.directory))
    }

    pub(super) fn status(&self) -> Status {
        match self.handle.ended(Duration::ZERO) {
            Ok(true) => Status::Ended(self.collect()),
            _ => Status::Running,
        }
    }

    pub(super) fn wait(&self, time: Duration) -> Result<Exit, VmmError> {
        if self.ended(time)? { Ok(self.collect()) } else { Err(VmmError::TimedOut) }
    }

    pub(super) fn kill(&self) -> Result<Exit, VmmError> {
        self.handle.kill().map_err(VmmError::Kill)?;
        self.wait(KILLED)
    }

    /// Once the process is gone: how, and its traces with it.
    fn collect(&self) -> Exit {
        let mut exit = lock(&self.exit);
        if let Some(exit) = *exit {
            return exit;
        }
        let status = lock(&self.child).as_mut().and_then(|child| child.wait().ok());
        let oom = self.group.as_ref().is_some_and(Group::oom_killed);
        let found = match status {
            Some(status) if status.code().is_some() => Exit::Code(status.code().unwrap_or(-1)),
            _ if oom => Exit::OutOfMemory,
            Some(status) => Exit::Signal(status.signal().unwrap_or(0)),
            None => Exit::Unknown,
        };
        if let Some(group) = &self.group {
            group.remove();
        }
        // The record is of a running machine. One that stays names a process that is gone.
        let _ = fs::remove_file(self.directory.join(self.record));
        *exit = Some(found);
        found
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
