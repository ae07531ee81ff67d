//! One machine, as the threads of `machines` share it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vyr_base::Digest;
use vyr_vm::channel::words::Phase;
use vyr_vm::channel::{Channel, ChannelError};
use vyr_vm::vmm::{Machine, QemuMachine};

use super::logs::Log;
use super::record::Record;
use super::{Ending, Known, MachineId};

/// From the end of a workload to that of its machine, also an emulated one on a busy host.
pub(crate) const POWER_OFF: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: MachineId,
    pub(crate) directory: PathBuf,
    pub(crate) log: Log,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) record: Record,
    pub(crate) phase: Phase,
    pub(crate) machine: Option<Arc<QemuMachine>>,
    /// Once the guest was told what it runs.
    pub(crate) channel: Option<Arc<Channel>>,
    /// It is to end: at once, or at this time at the latest.
    pub(crate) killed_at: Option<Instant>,
}

impl Instance {
    pub(crate) fn new(directory: PathBuf, record: Record) -> Self {
        let log = Log::open(&directory);
        if record.ended.is_some() {
            log.close();
        }
        let inside = Inside {
            phase: Phase::Blank,
            machine: None,
            channel: None,
            killed_at: None,
            record: record.clone(),
        };
        Self { id: record.id, directory, log, inside: Mutex::new(inside) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inside> {
        // Each change is one assignment.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn known(&self) -> Known {
        let inside = self.lock();
        Known {
            id: self.id.clone(),
            pid: inside.machine.as_ref().map(|machine| machine.pid()),
            uid: inside.record.uid,
            phase: inside.phase.clone(),
            began: inside.record.began.clone(),
            ended: inside.record.ended.clone(),
        }
    }

    /// The user of a VMM that may run.
    pub(crate) fn living_user(&self) -> Option<u32> {
        let inside = self.lock();
        inside.record.uid.filter(|_| inside.record.ended.is_none())
    }

    /// Of which kind it is, and whether it has ended.
    pub(crate) fn kind(&self) -> Option<(Digest, bool)> {
        let inside = self.lock();
        inside.record.kind.map(|kind| (kind, inside.record.ended.is_some()))
    }

    /// The channel of a workload that was begun and has not ended.
    pub(crate) fn channel(&self) -> Option<Arc<Channel>> {
        let inside = self.lock();
        let runs = matches!(inside.phase, Phase::Prestart | Phase::Running | Phase::Stopping);
        inside.channel.clone().filter(|_| runs && inside.record.ended.is_none())
    }

    /// Ends the workload: with a signal and a grace if it can hear that, else with the machine.
    pub(crate) fn stop(&self, signal: u8, grace: Duration) -> Result<(), ChannelError> {
        let (channel, machine) = {
            let mut inside = self.lock();
            let at = Instant::now() + grace + POWER_OFF;
            let at = if inside.channel.is_some() { at } else { Instant::now() };
            inside.killed_at = Some(inside.killed_at.map_or(at, |before| before.min(at)));
            (inside.channel.clone(), inside.machine.clone())
        };
        match (channel, machine) {
            (Some(channel), _) => channel.stop(signal, grace),
            // Nobody is there to be asked. Who follows it tells how it ended.
            (None, Some(machine)) => {
                let _ = machine.kill();
                Ok(())
            }
            // It is killed as soon as it is there.
            (None, None) => Ok(()),
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        let machine = {
            let mut inside = self.lock();
            inside.killed_at = Some(Instant::now());
            inside.machine.clone()
        };
        if let Some(machine) = machine {
            // One that cannot be killed is tried again by who follows it.
            let _ = machine.kill();
        }
    }

    /// Writes down how it ended. From here on nothing of it runs.
    pub(crate) fn end(&self, ending: &Ending) -> std::io::Result<()> {
        let mut inside = self.lock();
        (inside.machine, inside.channel) = (None, None);
        inside.record.ended = Some(ending.clone());
        inside.record.write(&self.directory)
    }
}
