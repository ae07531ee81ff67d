//! `machines` from inside: takes what `api` asks, keeps the machines, and says what happened.
//!
//! One thread reads, one writes, each machine has its own, and whatever waits for a guest has one for
//! as long as it waits. When `api` is gone this process ends, and the VMMs go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use vyr_base::Digest;
use vyr_vm::channel::ChannelError;
use vyr_vm::channel::words::ExecSpec;
use vyr_vm::vmm::{Capabilities, Platform, Qemu, Vmm, console_of};

use super::error::file;
use super::instance::Instance;
use super::life;
use super::place::{PROBE, Place};
use super::queue::Queue;
use super::record::{self, Record};
use super::rise::Handed;
use super::snapshots::{self, Snapshots, Wish};
use super::wire::{Answer, Ask, Ordered, Request};
use super::{MachineId, MachinesError, blank, exec, users};
use crate::process::wire::{Receiver as Requests, Sender};

/// For a session to begin in a guest, also an emulated one on a busy host.
const SESSION: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) place: Place,
    pub(crate) queue: Queue,
    machines: Mutex<BTreeMap<MachineId, Arc<Instance>>>,
    driver: OnceLock<Result<Driver, String>>,
    /// Where they are wanted.
    pub(crate) snapshots: Option<Snapshots>,
    /// Of the VMM whose guest is being stored. It is taken while nobody else takes one.
    lent: Mutex<Option<u32>>,
}

/// Of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All that were not forgotten.
    Known,
    /// Those of them that have not ended.
    Living,
}

/// What starts machines.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) qemu: Qemu,
    pub(crate) platform: Platform,
}

/// An answer, and a socket beside it.
type Answered = Result<(Answer, Option<OwnedFd>), MachinesError>;

/// Serves `api` until it is gone.
pub(crate) fn serve(socket: UnixStream, place: Place) -> io::Result<()> {
    let records = left(&place)?;
    blank::clear(&place);
    let (snapshots, wishes) = open_snapshots(&place, &records).unzip();
    let keeper = Arc::new(Keeper {
        place,
        queue: Queue::default(),
        machines: Mutex::default(),
        driver: OnceLock::new(),
        snapshots,
        lent: Mutex::default(),
    });
    let to_api = Sender::new(socket.try_clone()?);
    let speaking = Arc::clone(&keeper);
    thread::Builder::new().name("vyr-saying".into()).spawn(move || say(&speaking, to_api))?;
    if let Some(wishes) = wishes {
        let storing = Arc::clone(&keeper);
        let store = move || blank::serve(&storing, &wishes);
        thread::Builder::new().name("vyr-storing".into()).spawn(store)?;
    }
    find(&keeper, records)?;
    let mut requests = Requests::new(socket);
    while let Some((request, beside)) = requests.next::<Request>()? {
        // It may have held secrets.
        requests.wipe();
        take(&keeper, request, beside);
    }
    // Machines go on. A guest that is being stored has nobody who would end it; if it is only just
    // begun and not seen here, its record is there for the next life of this process.
    blank::kill_left(&keeper.place);
    Ok(())
}

fn say(keeper: &Keeper, mut to_api: Sender) {
    loop {
        let (said, beside) = keeper.queue.next();
        let beside: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
        if to_api.send(&said, &beside).and_then(|()| to_api.flush()).is_err() {
            // Whoever reads hears the end too, and ends the process.
            return;
        }
    }
}

/// What an earlier life of this process left.
fn left(place: &Place) -> io::Result<Vec<Record>> {
    let (records, faults) = record::all(&place.directory)?;
    for fault in faults {
        eprintln!("vyr machines: {fault}");
    }
    Ok(records)
}

/// The snapshots that are there, and those who wait for others.
fn open_snapshots(place: &Place, records: &[Record]) -> Option<(Snapshots, Receiver<Wish>)> {
    if !place.snapshots {
        snapshots::clear(&place.directory);
        return None;
    }
    let known = records.iter().filter_map(|record| record.kind).collect();
    let opened = Snapshots::open(&place.directory, &known);
    opened.inspect_err(|e| eprintln!("vyr machines: no snapshots: {e}; all machines boot")).ok()
}

/// Takes over what an earlier life of this process began.
fn find(keeper: &Arc<Keeper>, records: Vec<Record>) -> io::Result<()> {
    let mut machines = keeper.machines();
    for record in records {
        let (id, ended) = (record.id.clone(), record.ended.clone());
        let directory = keeper.place.directory.join(id.as_str());
        let instance = Arc::new(Instance::new(directory, record));
        machines.insert(id.clone(), Arc::clone(&instance));
        match ended {
            // Nobody has forgotten it, so perhaps nobody has heard of it.
            Some(ending) => keeper.queue.event(ending.event(id)),
            None => drop(life::spawn(keeper, &instance, life::adopt)?),
        }
    }
    Ok(())
}

/// Does what needs no guest at once, and the rest on a thread of its own.
fn take(keeper: &Arc<Keeper>, request: Request, beside: Vec<OwnedFd>) {
    let Request { number, ask } = request;
    let at_once = match ask {
        Ask::Start(order) => keeper.start(*order, beside),
        Ask::List => {
            let machines = keeper.machines();
            let known = machines.values().map(|instance| instance.known()).collect();
            Ok((Answer::Known(known), None))
        }
        Ask::Forget { id } => keeper.forget(&id),
        Ask::Console { id } => keeper.instance(&id).map(|instance| {
            let console = console_of(&instance.directory).unwrap_or_default();
            (Answer::Console(console), None)
        }),
        other => {
            let of_thread = Arc::clone(keeper);
            let work = move || {
                let answer = of_thread.ask(other);
                of_thread.queue.answer(number, answer);
            };
            match thread::Builder::new().name("vyr-asked".into()).spawn(work) {
                Ok(_) => return,
                Err(e) => Err(file("start a thread")(e)),
            }
        }
    };
    keeper.queue.answer(number, at_once);
}

impl Keeper {
    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Arc<Instance>>> {
        // An entry is added or removed as a whole.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instance(&self, id: &MachineId) -> Result<Arc<Instance>, MachinesError> {
        let found = self.machines().get(id).cloned();
        found.ok_or_else(|| MachinesError::Unknown(id.to_string()))
    }

    /// What starts machines, or why nothing does. The first call may boot a guest to find out.
    pub(crate) fn driver(&self) -> &Result<Driver, String> {
        self.driver.get_or_init(|| {
            let path = self.place.platform.as_ref().map_err(Clone::clone)?;
            let platform = Platform::open(path).map_err(|e| e.to_string())?;
            let probe = self.place.directory.join(PROBE);
            // A user that no machine has: the last one, if it is not needed before.
            let user = self.place.users.as_ref().map(|users| *users.end());
            let user = user.map(|uid| (uid, self.place.kvm_group.unwrap_or(uid)));
            let qemu = Qemu::new(platform.clone(), probe, user).map_err(|e| e.to_string())?;
            let qemu = qemu.capped_by(self.place.cgroups.clone());
            Ok(Driver { qemu, platform })
        })
    }

    fn capabilities(&self) -> Result<Capabilities, String> {
        let driver = self.driver().as_ref().map_err(Clone::clone)?;
        let own = self.place.users.is_none();
        let no_own_user = own.then(|| "the node does not run as root".to_owned());
        Ok(Capabilities { no_own_user, ..driver.qemu.capabilities() })
    }

    fn start(self: &Arc<Self>, order: Ordered, beside: Vec<OwnedFd>) -> Answered {
        let mut beside = beside.into_iter();
        let root = beside.next().ok_or_else(|| file("take the order")("no root disk beside it"))?;
        let tap = beside.next();
        if tap.is_some() != order.mac.is_some() {
            return Err(file("take the order")("a card has a TAP and an address"));
        }
        let id = order.id.clone();
        let directory = self.place.directory.join(id.as_str());
        let mut machines = self.machines();
        if machines.contains_key(&id) || directory.exists() {
            return Err(MachinesError::Exists(id.to_string()));
        }
        let uid = match &self.place.users {
            None => None,
            Some(range) => {
                let taken = self.users(&machines);
                let none = MachinesError::Users { first: *range.start(), last: *range.end() };
                Some(users::free(range, &taken).ok_or(none)?)
            }
        };
        let what = || format!("write the record of {id}");
        let record =
            Record::new(id.clone(), uid, order.start.health.as_ref()).map_err(file(what()))?;
        DirBuilder::new().mode(0o700).create(&directory).map_err(file(what()))?;
        let written = record.write(&directory).and_then(|()| {
            let above = fs::File::open(&self.place.directory)?;
            above.sync_all()
        });
        if let Err(e) = written {
            let _ = fs::remove_dir_all(&directory);
            return Err(file(what())(e));
        }
        let instance = Arc::new(Instance::new(directory, record));
        machines.insert(id, Arc::clone(&instance));
        drop(machines);
        let handed = Handed { root, tap };
        let begin = move |keeper: &Self, instance: &Instance| {
            life::begin(keeper, instance, order, handed);
        };
        life::spawn(self, &instance, begin).map_err(file("start a thread"))?;
        Ok((Answer::Done, None))
    }

    fn forget(&self, id: &MachineId) -> Answered {
        let mut machines = self.machines();
        let instance = machines.get(id).ok_or_else(|| MachinesError::Unknown(id.to_string()))?;
        if instance.known().ended.is_none() {
            return Err(MachinesError::Runs(id.to_string()));
        }
        let what = || format!("remove the directory of {id}");
        // Without its record it is one that was never ordered, whenever this process ends.
        fs::remove_file(instance.directory.join("instance.json")).map_err(file(what()))?;
        fs::remove_dir_all(&instance.directory).map_err(file(what()))?;
        machines.remove(id);
        drop(machines);
        if let Some(snapshots) = &self.snapshots {
            snapshots.sweep(|| self.kinds(Which::Known));
        }
        Ok((Answer::Done, None))
    }

    /// The kinds of machines.
    pub(crate) fn kinds(&self, which: Which) -> BTreeSet<Digest> {
        let machines = self.machines();
        let kinds = machines.values().filter_map(|instance| instance.kind());
        kinds.filter(|(_, ended)| which == Which::Known || !ended).map(|(kind, _)| kind).collect()
    }

    /// Users that have a VMM, or are about to.
    fn users(&self, machines: &BTreeMap<MachineId, Arc<Instance>>) -> BTreeSet<u32> {
        let lent = *self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        machines.values().filter_map(|instance| instance.living_user()).chain(lent).collect()
    }

    /// A user for a VMM that is no machine's, until it is given back. One at least stays free.
    pub(crate) fn lend_user(&self) -> Result<Option<u32>, String> {
        let Some(range) = &self.place.users else { return Ok(None) };
        let machines = self.machines();
        let mut taken = self.users(&machines);
        // The lowest is the next machine's.
        taken.extend(users::free(range, &taken));
        let uid = users::free(range, &taken).ok_or("no user id is left over for it")?;
        *self.lent.lock().unwrap_or_else(PoisonError::into_inner) = Some(uid);
        Ok(Some(uid))
    }

    /// Its VMM is gone.
    pub(crate) fn give_user_back(&self) {
        *self.lent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What may wait for a guest, or for a VMM's end.
    fn ask(&self, ask: Ask) -> Answered {
        match ask {
            Ask::Stop { id, signal, grace_ms } => {
                let instance = self.instance(&id)?;
                let stopped = instance.stop(signal, Duration::from_millis(grace_ms));
                stopped.map_err(guest(&id))?;
                Ok((Answer::Done, None))
            }
            Ask::Kill { id } => {
                self.instance(&id)?.kill();
                Ok((Answer::Done, None))
            }
            Ask::Exec { id, process, terminal } => {
                let channel = self.instance(&id)?.channel();
                let channel = channel.ok_or_else(|| MachinesError::NotRunning(id.to_string()))?;
                let spec = ExecSpec { process, terminal };
                let session = channel.exec(spec, SESSION).map_err(guest(&id))?;
                let (ours, theirs) = UnixStream::pair().map_err(file("make a socket"))?;
                let carry = move || exec::carry(session, &ours);
                let thread = thread::Builder::new().name("vyr-session".into()).spawn(carry);
                thread.map_err(file("start a thread"))?;
                Ok((Answer::Socket, Some(theirs.into())))
            }
            Ask::Logs { id, from, follow } => {
                let instance = self.instance(&id)?;
                let (ours, theirs) = UnixStream::pair().map_err(file("make a socket"))?;
                let copy = move || {
                    // A client that is gone needs no more of it.
                    let _ = instance.log.copy(from, follow, &ours);
                };
                let thread = thread::Builder::new().name("vyr-logs".into()).spawn(copy);
                thread.map_err(file("start a thread"))?;
                Ok((Answer::Socket, Some(theirs.into())))
            }
            Ask::Capabilities => Ok((Answer::Capabilities(self.capabilities()), None)),
            Ask::Start(_) | Ask::List | Ask::Forget { .. } | Ask::Console { .. } => {
                Err(file("answer")("it is answered elsewhere"))
            }
        }
    }
}

fn guest(id: &MachineId) -> impl FnOnce(ChannelError) -> MachinesError {
    let id = id.to_string();
    move |e| MachinesError::Guest { id, why: e.to_string() }
}
