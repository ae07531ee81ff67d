//! A running machine of QEMU's.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vyr_channel::Phase;

use super::command::{CHANNEL, CONSOLE_SOCKET};
use super::digests::Digests;
use super::held::{Held, lock};
use super::qemu::RECORD;
use super::qmp::Qmp;
use super::record::{self, Shape, Stored};
use super::{Exit, Machine, Status, VmmError, console};
use crate::channel::{Channel, ChannelError};

/// Storing a guest of a few hundred MiB on a busy disk.
const STORE: Duration = Duration::from_secs(300);

/// What a snapshot has besides the memory of its guest: the state of its devices.
const BESIDE_MEMORY_BYTES: u64 = 64 << 20;

/// A VMM whose sockets are closed is gone within this, or does not end.
const CLOSING: Duration = Duration::from_secs(5);

/// A machine. Dropped it runs on: [`super::Vmm::attach`] finds it again.
#[derive(Debug)]
pub struct QemuMachine {
    held: Held,
    /// Both only of the process that started it. The shape is with the root disk, whose digest it
    /// lacks until a snapshot is made.
    qmp: Mutex<Option<Qmp>>,
    shape: Option<(Shape, File, Arc<Digests>)>,
}

impl QemuMachine {
    pub(super) fn new(held: Held, qmp: Qmp, shape: (Shape, File, Arc<Digests>)) -> Self {
        Self { held, qmp: Mutex::new(Some(qmp)), shape: Some(shape) }
    }

    /// [`Vmm::attach`](super::Vmm::attach), which needs no driver: QEMU runs already.
    ///
    /// # Errors
    /// There is none in this directory, or it has ended.
    pub fn attach(directory: &Path) -> Result<Self, VmmError> {
        let (held, _) = Held::find(directory, RECORD)?;
        // Lines that nobody took meanwhile are gone; the machine is not held up by that.
        let (socket, log) = (directory.join(CONSOLE_SOCKET), directory.join(console::FILE));
        if let Err(e) = console::follow(&socket, &log) {
            // Its sockets close a moment before it ends.
            return Err(match held.ended(CLOSING)? {
                true => VmmError::NotRunning(directory.to_owned()),
                false => VmmError::file("follow", &socket)(e),
            });
        }
        Ok(Self { held, qmp: Mutex::new(None), shape: None })
    }

    /// The number of the VMM's process; once it ended it may be another's.
    pub fn pid(&self) -> u32 {
        self.held.pid
    }
}

impl Machine for QemuMachine {
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
        super::console_of(&self.held.directory)
    }

    fn channel(&self, first: bool, time: Duration) -> Result<Channel, ChannelError> {
        let socket = self.held.directory.join(CHANNEL);
        Channel::connect(&socket, Some(self.held.pid), first, time)
    }

    fn snapshot(&self, channel: Channel, to: &Path) -> Result<(), VmmError> {
        if channel.phase() != Phase::Blank {
            return Err(VmmError::NotBlank);
        }
        let mut qmp = lock(&self.qmp);
        let (Some(qmp), Some((shape, root, digests))) = (qmp.as_mut(), &self.shape) else {
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
        // From here on nobody changes what it stored.
        self.kill()?;
        file.sync_all().map_err(VmmError::file("write", &new))?;
        let bytes = file.metadata().map_err(VmmError::file("look at", &new))?.len();
        if bytes > shape.memory_bytes.saturating_add(BESIDE_MEMORY_BYTES) {
            return Err(VmmError::Snapshot(format!("it has {bytes} bytes")));
        }
        let mut stored = Stored::of(shape);
        stored.add(&file, |file| digests.of(file)).map_err(VmmError::file("read", &new))?;
        fs::rename(&new, to).map_err(VmmError::file("rename", &new))?;
        // Last: a snapshot without its record is none.
        record::write(&to.with_extension("json"), &stored)
    }
}
