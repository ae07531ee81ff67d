//! A running machine of QEMU's.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use vyr_channel::Phase;

use super::cgroup::Group;
use super::command::{CHANNEL, CONSOLE_SOCKET, PROGRAM};
use super::digests::Digests;
use super::process::Handle;
use super::qemu::{CONSOLE, RECORD};
use super::qmp::Qmp;
use super::record::{self, Running, Shape, Stored};
use super::{Exit, Machine, Status, VmmError, console};
use crate::channel::{Channel, ChannelError};

/// From the end of a workload to that of its machine, also an emulated one on a busy host.
const POWER_OFF: Duration = Duration::from_secs(30);

/// For whoever reads the log, once the workload has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Storing a guest of a few hundred MiB on a busy disk.
const STORE: Duration = Duration::from_secs(300);

/// A VMM whose sockets are closed is gone within this, or does not end.
const CLOSING: Duration = Duration::from_secs(5);

/// A killed process is gone within this, or the kernel is stuck.
const KILLED: Duration = Duration::from_secs(60);

/// What a machine is held by.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) directory: PathBuf,
    pub(super) pid: u32,
    pub(super) handle: Handle,
    /// Only of the process that started it.
    pub(super) child: Mutex<Option<Child>>,
    pub(super) qmp: Mutex<Option<Qmp>>,
    pub(super) group: Option<Group>,
    /// With the root disk, whose digest it may lack until a snapshot is made.
    pub(super) shape: Option<(Shape, File, Arc<Digests>)>,
}

/// A machine. Dropped it runs on: [`super::Vmm::attach`] finds it again.
#[derive(Debug)]
pub struct QemuMachine {
    parts: Parts,
    exit: Mutex<Option<Exit>>,
}

impl QemuMachine {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, exit: Mutex::new(None) }
    }

    /// [`Vmm::attach`](super::Vmm::attach), which needs no driver: QEMU runs already.
    ///
    /// # Errors
    /// There is none in this directory, or it has ended.
    pub fn attach(directory: &Path) -> Result<Self, VmmError> {
        let path = directory.join(RECORD);
        if !path.exists() {
            return Err(VmmError::NotRunning(directory.to_owned()));
        }
        let running: Running = record::read(&path)?;
        if running.boot_id != record::boot_id()? {
            return Err(VmmError::NotRunning(directory.to_owned()));
        }
        let handle = Handle::find(running.pid, running.started)
            .map_err(VmmError::file("hold", PROGRAM))?
            .ok_or_else(|| VmmError::NotRunning(directory.to_owned()))?;
        // One that has ended keeps its number until its parent has asked.
        let ended = |time| handle.ended(time).map_err(VmmError::file("hold", PROGRAM));
        if ended(Duration::ZERO)? {
            return Err(VmmError::NotRunning(directory.to_owned()));
        }
        // Lines that nobody took meanwhile are gone; the machine is not held up by that.
        let (socket, log) = (directory.join(CONSOLE_SOCKET), directory.join(CONSOLE));
        if let Err(e) = console::follow(&socket, &log) {
            // Its sockets close a moment before it ends.
            return Err(match ended(CLOSING)? {
                true => VmmError::NotRunning(directory.to_owned()),
                false => VmmError::file("follow", &socket)(e),
            });
        }
        Ok(Self::new(Parts {
            directory: directory.to_owned(),
            pid: running.pid,
            handle,
            child: Mutex::new(None),
            qmp: Mutex::new(None),
            group: running.cgroup.as_deref().map(Group::at),
            shape: None,
        }))
    }

    /// The number of the VMM's process; once it ended it may be another's.
    pub fn pid(&self) -> u32 {
        self.parts.pid
    }

    /// Once the process is gone: how, and its traces with it.
    fn collect(&self) -> Exit {
        let mut exit = lock(&self.exit);
        if let Some(exit) = *exit {
            return exit;
        }
        let status = lock(&self.parts.child).as_mut().and_then(|child| child.wait().ok());
        let oom = self.parts.group.as_ref().is_some_and(Group::oom_killed);
        let found = match status {
            Some(status) if status.code().is_some() => Exit::Code(status.code().unwrap_or(-1)),
            _ if oom => Exit::OutOfMemory,
            Some(status) => Exit::Signal(status.signal().unwrap_or(0)),
            None => Exit::Unknown,
        };
        if let Some(group) = &self.parts.group {
            group.remove();
        }
        // The record is of a running machine. One that stays names a process that is gone.
        let _ = fs::remove_file(self.parts.directory.join(RECORD));
        *exit = Some(found);
        found
    }
}

impl Machine for QemuMachine {
    fn status(&self) -> Status {
        match self.parts.handle.ended(Duration::ZERO) {
            Ok(true) => Status::Ended(self.collect()),
            _ => Status::Running,
        }
    }

    fn wait(&self, time: Duration) -> Result<Exit, VmmError> {
        match self.parts.handle.ended(time) {
            Ok(true) => Ok(self.collect()),
            Ok(false) => Err(VmmError::TimedOut),
            Err(e) => Err(VmmError::file("wait for", &self.parts.directory)(e)),
        }
    }

    fn stop(&self, channel: &Channel, signal: u8, grace: Duration) -> Result<Exit, VmmError> {
        let end = Instant::now() + grace + POWER_OFF;
        // A guest that does not answer is killed like one that does not end.
        let ended = |phase: &Phase| {
            matches!(phase, Phase::Ended(_) | Phase::Failed(_) | Phase::Blank).then_some(())
        };
        if channel.stop(signal, grace).is_ok()
            && channel.wait_phase(grace + POWER_OFF, ended).is_ok()
        {
            // Where nobody reads the log there is nobody to lose it.
            let _ = channel.wait_log_taken(LAST_WORDS);
            // A guest that is gone is waited for like one that goes.
            let _ = channel.power_off();
            let left = end.saturating_duration_since(Instant::now());
            if let Ok(exit) = self.wait(left) {
                return Ok(exit);
            }
        }
        self.kill()
    }

    fn kill(&self) -> Result<Exit, VmmError> {
        self.parts.handle.kill().map_err(VmmError::Kill)?;
        self.wait(KILLED)
    }

    fn console(&self) -> Result<Vec<u8>, VmmError> {
        let path = self.parts.directory.join(CONSOLE);
        console::read(&path).map_err(VmmError::file("read", path))
    }

    fn channel(&self, first: bool, time: Duration) -> Result<Channel, ChannelError> {
        let socket = self.parts.directory.join(CHANNEL);
        Channel::connect(&socket, Some(self.parts.pid), first, time)
    }

    fn snapshot(&self, channel: Channel, to: &Path) -> Result<(), VmmError> {
        if channel.phase() != Phase::Blank {
            return Err(VmmError::NotBlank);
        }
        let mut qmp = lock(&self.parts.qmp);
        let (Some(qmp), Some((shape, root, digests))) = (qmp.as_mut(), &self.parts.shape) else {
            return Err(VmmError::Adopted);
        };
        let root = digests.of(root).map_err(VmmError::file("read", "the root disk"))?;
        let shape = Shape { root: Some(root), ..shape.clone() };
        // Nobody can start it from here on.
        drop(channel);
        let new = to.with_extension("new");
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&new).map_err(VmmError::file("make", &new))?;
        qmp.ask("stop", None)?;
        qmp.ask("migrate-set-parameters", Some(json!({"max-bandwidth": 1u64 << 40})))?;
        qmp.hand_over("snapshot", file.as_fd())?;
        qmp.ask("migrate", Some(json!({"uri": "fd:snapshot"})))?;
        qmp.finish_migration(STORE)?;
        file.sync_all().map_err(VmmError::file("write", &new))?;
        let digest = digests.of(&file).map_err(VmmError::file("read", &new))?;
        let bytes = file.metadata().map_err(VmmError::file("read", &new))?.len();
        fs::rename(&new, to).map_err(VmmError::file("rename", &new))?;
        // Last: a snapshot without its record is none.
        record::write(&to.with_extension("json"), &Stored::new(shape, bytes, digest))?;
        self.kill().map(drop)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
