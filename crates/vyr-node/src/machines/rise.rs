//! From an order to a guest that was told what it runs: restored where there is a snapshot of its kind,
//! else booted.
//!
//! ```text
//!  prepared -> kind -> snapshot? -> VMM, guest greets, is blank ----------------> told
//!                  |       | anything goes wrong: it is removed, and why is kept    ^
//!                  +-------+--> prepared anew -> VMM boots, guest greets -----------+
//! ```
//!
//! Nothing of an instance is told before the guest greets, so a restore that fails costs time and no more:
//! the same order boots, in the same life.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vyr_base::Digest;
use vyr_vm::channel::words::{Phase, Stage, Start};
use vyr_vm::channel::{Channel, ChannelError, fresh};
use vyr_vm::vmm::{Exit, Link, Machine, QemuMachine, Spec, Vmm, console_of};
use zeroize::Zeroize;

use super::blank::short;
use super::error::{cut, text};
use super::instance::Instance;
use super::keeper::{Driver, Keeper};
use super::life::broken;
use super::snapshots::{Found, Serial, Wish};
use super::wire::Ordered;
use super::{Began, Ending, Event, FailedAt};

/// From the VMM's start to the guest's first word: an emulated guest on a busy host takes a minute.
const BOOT: Duration = Duration::from_secs(300);

/// A restored guest has booted, so its word comes at once, or it is no guest.
const RESTORED: Duration = Duration::from_secs(60);

/// A restored guest that still prepares itself after this, and is ended for it, may have a bad snapshot: the
/// next one boots, and shows it.
const PREPARED: Duration = Duration::from_secs(60);

/// What a machine is made of besides the order.
pub(crate) struct Handed {
    pub(crate) root: OwnedFd,
    pub(crate) tap: Option<OwnedFd>,
}

/// A machine that runs, and was told what.
pub(crate) struct Up {
    pub(crate) machine: Arc<QemuMachine>,
    pub(crate) channel: Arc<Channel>,
    /// A snapshot of its kind that somebody should make, once it has shown that it runs.
    pub(crate) wish: Option<Wish>,
    /// What of, if it was restored.
    pub(crate) restored: Option<(Digest, Serial)>,
}

/// What a guest is to be told. Dropped before that its secrets are overwritten.
struct Told(Option<Start>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(start) = &mut self.0 {
            start.secrets.zeroize();
        }
    }
}

/// A machine on its way up.
struct Rise<'a> {
    keeper: &'a Keeper,
    instance: &'a Instance,
    driver: &'a Driver,
    memory_bytes: u64,
    vcpus: u8,
    scratch_bytes: Option<u64>,
    mac: Option<[u8; 6]>,
    handed: Handed,
}

/// With a snapshot that is wished for, or what it was restored from.
type Risen = (Greeted, Option<Wish>, Option<(Digest, Serial)>);

/// A machine whose guest greeted.
type Greeted = (Arc<QemuMachine>, Channel);

fn failed(at: FailedAt) -> impl Fn(String) -> Ending {
    move |why| Ending::Failed { at, why }
}

/// Brings a machine up.
pub(crate) fn bring_up(
    keeper: &Keeper,
    instance: &Instance,
    order: Ordered,
    handed: Handed,
) -> Result<Up, Ending> {
    let mut told = Told(Some(order.start));
    let driver =
        keeper.driver().as_ref().map_err(Clone::clone).map_err(failed(FailedAt::Platform))?;
    let Ordered { memory_bytes, vcpus, scratch_bytes, mac, .. } = order;
    let rise = Rise { keeper, instance, driver, memory_bytes, vcpus, scratch_bytes, mac, handed };
    rise.prepare()?;
    let (greeted, wish, restored) = match order.snapshot {
        // Who ordered it named it: nothing else will do.
        Some(given) => {
            let given = keeper.place.directory.join(given);
            (rise.start(Some(&given), Began::Restored)?, None, None)
        }
        None => rise.restore_or_boot()?,
    };
    let (machine, channel) = greeted;
    let ended = |e: &ChannelError, at| boot_fault(instance, &machine, e, at);
    let (entropy, time_ns) = fresh().map_err(|e| ended(&e, FailedAt::Boot))?;
    if let Some(mut start) = told.0.take() {
        (start.entropy, start.time_ns) = (entropy, time_ns);
        channel.start(start).map_err(|e| ended(&e, FailedAt::Channel))?;
    }
    let channel = Arc::new(channel);
    instance.lock().channel = Some(Arc::clone(&channel));
    Ok(Up { machine, channel, wish, restored })
}

impl Rise<'_> {
    fn restore_or_boot(&self) -> Result<Risen, Ending> {
        let Some(snapshots) = &self.keeper.snapshots else {
            return Ok((self.start(None, Began::Booted { instead: None })?, None, None));
        };
        let kind = match self.driver.qemu.kind(&self.spec(None)?) {
            Ok(kind) => kind,
            Err(e) => {
                let instead = Some(cut(&format!("its kind cannot be told: {}", text(&e))));
                return Ok((self.start(None, Began::Booted { instead })?, None, None));
            }
        };
        // Known to be of this kind from here on: its snapshot stays as long as it is.
        self.instance.lock().record.kind = Some(kind);
        let instead = match snapshots.find(&kind) {
            Found::Nothing(why) => why,
            Found::Snapshot(path, serial) => match self.start(Some(&path), Began::Restored) {
                Ok(greeted) => return Ok((greeted, None, Some((kind, serial)))),
                Err(ending) if self.instance.lock().killed_at.is_some() => return Err(ending),
                Err(ending) => {
                    let why = cut(&format!("its snapshot could not be used: {}", ending.why()));
                    eprintln!(
                        "vyr machines: {}: {why}; {} is removed, and the machine boots",
                        self.instance.id,
                        short(&kind.hex())
                    );
                    snapshots.fail(kind, Some(serial), &why);
                    self.prepare()?;
                    Some(why)
                }
            },
        };
        let greeted = self.start(None, Began::Booted { instead })?;
        let wish = self.handed.root.try_clone().ok().map(|root| Wish {
            kind,
            root: root.into(),
            memory_bytes: self.memory_bytes,
            vcpus: self.vcpus,
            scratch_bytes: self.scratch_bytes,
            card: self.mac.is_some(),
        });
        Ok((greeted, wish, None))
    }

    fn prepare(&self) -> Result<(), Ending> {
        let prepared = self.driver.qemu.prepare(&self.spec(None)?, &self.instance.directory);
        prepared.map_err(|e| text(&e)).map_err(failed(FailedAt::Disk))
    }

    fn spec(&self, snapshot: Option<PathBuf>) -> Result<Spec, Ending> {
        let Handed { root, tap } = &self.handed;
        let again = |fd: &OwnedFd| {
            let why = |e: std::io::Error| format!("cannot hold what it is made of: {e}");
            fd.try_clone().map_err(why).map_err(failed(FailedAt::Vmm))
        };
        let (uid, mark) = {
            let inside = self.instance.lock();
            (inside.record.uid, inside.record.mark.clone())
        };
        let place = &self.keeper.place;
        let tap = tap.as_ref().map(again).transpose()?;
        Ok(Spec {
            platform: self.driver.platform.clone(),
            root: again(root)?.into(),
            memory_bytes: self.memory_bytes,
            vcpus: self.vcpus,
            scratch_bytes: self.scratch_bytes,
            card: tap.map(Link::Tap).zip(self.mac),
            user: uid.map(|uid| (uid, place.kvm_group.unwrap_or(uid))),
            // Where memory cannot be capped the node's capabilities say so.
            cgroup: place.cgroups.is_ok().then(|| mark.clone()),
            snapshot,
            mark: Some(mark),
        })
    }

    /// From a directory that was prepared to a guest that greets. If it fails nothing runs.
    fn start(&self, snapshot: Option<&Path>, began: Began) -> Result<Greeted, Ending> {
        let Self { keeper, instance, .. } = self;
        let restored = snapshot.is_some();
        let spec = self.spec(snapshot.map(Path::to_owned))?;
        let machine = self.driver.qemu.start(spec, &instance.directory).map_err(|e| text(&e));
        let machine = Arc::new(machine.map_err(failed(FailedAt::Vmm))?);
        let told_to_end = {
            let mut inside = instance.lock();
            inside.machine = Some(Arc::clone(&machine));
            (inside.record.ran, inside.record.began) = (true, Some(began.clone()));
            if let Err(e) = inside.record.write(&instance.directory) {
                // A later `machines` would take it for one that never ran.
                drop(inside);
                let _ = machine.kill();
                return Err(failed(FailedAt::Disk)(format!("cannot write its record: {e}")));
            }
            inside.killed_at.is_some()
        };
        keeper.queue.event(Event::Started { id: instance.id.clone(), pid: machine.pid(), began });
        if told_to_end {
            let _ = machine.kill();
        }
        let patience = if restored { RESTORED } else { BOOT };
        let channel = machine.channel(!restored, patience);
        let channel = channel.map_err(|e| boot_fault(instance, &machine, &e, FailedAt::Boot))?;
        if channel.phase() != Phase::Blank {
            let _ = machine.kill();
            return Err(failed(FailedAt::Boot)("its guest was told before who it is".into()));
        }
        Ok((machine, channel))
    }
}

/// Why a guest did not come up, with the last of what its console said; or its end, if that was
/// wanted.
fn boot_fault(
    instance: &Instance,
    machine: &Arc<QemuMachine>,
    error: &ChannelError,
    at: FailedAt,
) -> Ending {
    let wanted = instance.lock().killed_at.is_some();
    let ending = broken(machine, error, at);
    match ending {
        Ending::Ended { exit, .. } if !wanted => {
            let said = last_line(instance).unwrap_or_else(|| "its console says nothing".to_owned());
            Ending::Failed { at, why: cut(&format!("the VMM ended ({}): {said}", words(exit))) }
        }
        Ending::Failed { at, why } => {
            let said = last_line(instance).map(|line| format!("; its console: {line}"));
            Ending::Failed { at, why: cut(&(why + &said.unwrap_or_default())) }
        }
        other => other,
    }
}

/// Whether the snapshot may be why a restored machine that was up at `since` ended so: it never came to its
/// workload, and nobody wanted its end before it had had time for that.
pub(crate) fn is_to_blame(instance: &Instance, ending: &Ending, since: Instant) -> bool {
    let inside = instance.lock();
    // What a guest says of itself later is no reason to believe it.
    if !matches!(inside.phase, Phase::Blank | Phase::Preparing) {
        return false;
    }
    if inside.killed_at.is_some() {
        return since.elapsed() >= PREPARED;
    }
    match ending {
        Ending::Failed { at: FailedAt::Guest(stage), .. } => {
            matches!(stage, Stage::Seed | Stage::Root | Stage::Network | Stage::Memory)
        }
        Ending::Failed { .. } | Ending::Ended { end: None, .. } => true,
        Ending::Ended { .. } => false,
    }
}

fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::OutOfMemory => "its memory is capped, and was full".into(),
        Exit::Unknown => "nobody saw how".into(),
    }
}

/// The last line of the console with something in it.
fn last_line(instance: &Instance) -> Option<String> {
    let console = console_of(&instance.directory).ok()?;
    let console = String::from_utf8_lossy(&console);
    let line = console.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().filter(|c| !c.is_control()).take(200).collect())
}
