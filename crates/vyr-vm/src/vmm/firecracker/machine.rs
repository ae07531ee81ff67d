//! A running machine of Firecracker's.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::OFlags;
use vyr_channel::Phase;

use super::super::held::{Held, lock};
use super::super::record::{self, Shape, Stored};
use super::super::{Exit, Machine, Status, VmmError, digests};
use super::api::Api;
use super::place::{NEW_MEMORY, NEW_STATE, follow_console, memory_of};
use super::{RECORD, config, vsock};
use crate::channel::{Channel, ChannelError};

/// A machine. Dropped it runs on: [`super::Vmm::attach`] finds it again.
#[derive(Debug)]
pub struct FirecrackerMachine {
    held: Held,
    root: PathBuf,
    /// Both only of the process that started it. The shape is with the root disk, whose digest it
    /// lacks until a snapshot is made.
    api: Mutex<Option<Api>>,
    shape: Option<(Shape, File)>,
}

impl FirecrackerMachine {
    pub(super) fn new(held: Held, root: PathBuf, api: Api, shape: (Shape, File)) -> Self {
        Self { held, root, api: Mutex::new(Some(api)), shape: Some(shape) }
    }

    /// [`Vmm::attach`](super::Vmm::attach), which needs no driver: the VMM runs already.
    ///
    /// # Errors
    /// There is none in this directory, or it has ended.
    pub fn attach(directory: &Path) -> Result<Self, VmmError> {
        let (held, running) = Held::find(directory, RECORD)?;
        let root = running.root.ok_or_else(|| VmmError::Record {
            path: directory.join(RECORD),
            why: "it names no root directory".into(),
        })?;
        follow_console(directory)?;
        Ok(Self { held, root, api: Mutex::new(None), shape: None })
    }

    /// The number of the VMM's process; once it ended it may be another's.
    pub fn pid(&self) -> u32 {
        self.held.pid
    }

    /// Stores the guest into `to`, its memory beside it, and ends the machine. What
    /// [`Machine::snapshot`] does once the channel has shown that the guest is blank: whoever calls
    /// this answers for that, and only guests that have no channel are a reason.
    ///
    /// # Errors
    /// This process did not start the machine; the disk is full.
    pub fn store(&self, to: &Path) -> Result<(), VmmError> {
        let mut api = lock(&self.api);
        let (Some(api), Some((shape, disk))) = (api.as_mut(), &self.shape) else {
            return Err(VmmError::Adopted);
        };
        let root = digests::anew(disk).map_err(VmmError::file("read", "the root disk"))?;
        let mut stored = Stored::of(Shape { root: Some(root), ..shape.clone() });
        api.ask("PATCH", "/vm", &config::pause())?;
        api.ask("PUT", "/snapshot/create", &config::store())?;
        // From here on nobody changes what it stored.
        self.kill()?;
        // In the order in which they are looked at.
        for (name, to) in [(NEW_STATE, to), (NEW_MEMORY, &memory_of(to))] {
            let file = self.take(name, to)?;
            stored.add(&file, digests::anew).map_err(VmmError::file("read", to))?;
        }
        // Last: a snapshot without its record is none.
        record::write(&to.with_extension("json"), &stored)
    }

    /// Makes a file of the VMM's ours. It was the VMM's to put anything there, and to keep it under
    /// another name, too.
    fn take(&self, name: &str, to: &Path) -> Result<File, VmmError> {
        let from = self.root.join(name);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let ours = || -> io::Result<File> {
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&from)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.nlink() != 1 {
                return Err(io::Error::other("it is no file of one name"));
            }
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
            // For the user of the next machine; the directory says who comes here.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.sync_all()?;
            fs::rename(&from, to)?;
            Ok(file)
        };
        ours().map_err(VmmError::file("take", &from))
    }
}

impl Machine for FirecrackerMachine {
    fn status(&self) -> Status {
        self.held.status()
    }

    fn wait(&self, time: Duration) -> Result<Exit, VmmError> {
        self.held.wait(time)
    }

    fn kill(&self) -> Result<Exit, VmmError> {
        self.held.kill()
    }

    fn console(&self) -> Result<Vec<u8>, VmmError> {
        super::super::console_of(&self.held.directory)
    }

    fn channel(&self, first: bool, time: Duration) -> Result<Channel, ChannelError> {
        vsock::channel(&self.root, self.held.pid, first, time)
    }

    fn snapshot(&self, channel: Channel, to: &Path) -> Result<(), VmmError> {
        if channel.phase() != Phase::Blank {
            return Err(VmmError::NotBlank);
        }
        // Nobody can start it from here on.
        drop(channel);
        self.store(to)
    }
}
