//! Who carries orders out: the doors of the node's other processes, each order in a thread of its own.
//!
//! What came of it is an event. What could be neither done nor refused is tried again after a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use vyr_base::Digest;
use vyr_net::words::InstanceAddress;
use vyr_plan::services::ServicesPlan;
use vyr_service::manifest::{Manifest, Process, PullPolicy};
use vyr_service::place::SlotName;
use vyr_service::run::{Fault, InstanceId, Order, Reason, Run, Runs, What};
use vyr_vm::channel::words::{Network, Route};

use super::desk::Desk;
use super::engine::Input;
use super::ingress::config;
use super::registries::credentials;
use super::start::{Own, start};
use super::told::{all_began, found, images_fault};
use super::wanted::{address, backends};
use crate::data_dir::DataDir;
use crate::machines::{Known, MachineId, MachinesError, Order as MachineOrder};
use crate::node::Node;
use crate::process::{Doors, Fetch, Fetched, ingress_uid};
use crate::secrets;

/// How often it is asked whether connections to an instance are left: the ingress tells who asks, and
/// nobody by itself.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// How often it is seen to that there is an ingress.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) doors: Arc<Doors>,
    pub(super) data: DataDir,
    pub(super) desk: Desk,
    pub(super) inbox: SyncSender<Input>,
    /// What the ingress has; held while it is told.
    pub(super) published: Arc<Mutex<Published>>,
}

/// What an ingress was told.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The newest set of backends.
    generation: u64,
    /// Which process; none: nobody was, or the one who was is gone.
    pid: Option<u32>,
}

/// What an order is carried out with, as it was when it was given.
struct Given {
    hands: Hands,
    plan: Option<Arc<ServicesPlan>>,
    node: Option<String>,
}

/// An order that was neither carried out nor refused, in words.
type Unable = String;

impl Hands {
    /// Tells the engine; it is there as long as anybody gives orders.
    pub(super) fn tell(&self, what: What) {
        let _ = self.inbox.send(Input::What(what));
    }

    fn told(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the machines of an earlier life of the node.
    pub(super) fn find(&self, run: &Run) {
        let any = run.instances().values().any(|of| of.step.has_machine());
        if !self.doors.machines.adopt() && !any {
            return self.tell_later(What::Found(BTreeMap::new()));
        }
        let hands = self.clone();
        spawn("vyr-found", move || {
            loop {
                match hands.doors.machines.list() {
                    Ok(known) => {
                        for (id, began) in all_began(&known) {
                            let _ = hands.inbox.send(Input::Began(id, began));
                        }
                        hands.tell(What::Found(found(&known)));
                        // How it ended is one thing, that nothing of it runs another.
                        let ended = known.iter().filter(|of| of.ended.is_some());
                        let ended = ended.filter_map(|of| of.id.as_str().parse().ok());
                        return ended.for_each(|id| hands.tell(What::Gone(id)));
                    }
                    Err(e) => {
                        eprintln!("vyr api: services: cannot find machines: {e}");
                        thread::sleep(Duration::from_secs(1));
                    }
                }
            }
        });
    }

    /// Sees when the ingress is not the one any more that was told everything: it was killed, or another
    /// one took its place. Telling it starts one.
    pub(super) fn look_after_ingress(&self, node: Weak<Node>) {
        let hands = self.clone();
        spawn("vyr-ingress", move || {
            // The one of an earlier life of the node has what that told it.
            match hands.doors.ingress.pid() {
                Ok(Some(pid)) => {
                    hands.told().pid.get_or_insert(pid);
                }
                Ok(None) | Err(_) => hands.tell(What::Unpublished),
            }
            while node.strong_count() > 0 {
                thread::sleep(LOOK_PAUSE);
                // Who was told, and who is there, at one moment.
                let mut told = hands.told();
                // What cannot be seen is looked at again.
                let Ok(there) = hands.doors.ingress.pid() else { continue };
                if told.pid.is_some() && told.pid != there {
                    told.pid = None;
                    drop(told);
                    eprintln!("vyr api: services: the ingress has ended; another one is told");
                    hands.tell(What::Unpublished);
                }
            }
        });
    }

    /// Has the ingress end what is connected to an instance whose machine is gone: nobody else would say
    /// so to its clients.
    pub(super) fn cut(
        &self,
        id: InstanceId,
        plan: Option<Arc<ServicesPlan>>,
        node: Option<String>,
    ) {
        let Some(host) = plan.zip(node).and_then(|(plan, node)| address(&plan, &node, id)) else {
            return;
        };
        let doors = Arc::clone(&self.doors);
        spawn("vyr-cut", move || {
            if let Err(e) = doors.ingress.cut(host.into()) {
                // They end when they have been idle for long.
                eprintln!("vyr api: services: connections to {host} are not cut: {}", said(&e));
            }
        });
    }

    /// From another thread: the engine does not read what it is told while it tells itself.
    fn tell_later(&self, what: What) {
        let hands = self.clone();
        spawn("vyr-told", move || hands.tell(what));
    }

    /// Carries an order out.
    pub(super) fn give(
        &self,
        order: Order,
        plan: Option<Arc<ServicesPlan>>,
        node: Option<String>,
        run: &Run,
        is_second_try: bool,
    ) {
        let given = Given { hands: self.clone(), plan, node };
        let same = order.clone();
        let hands = self.clone();
        let run = run.clone();
        spawn("vyr-order", move || match given.carry_out(order, &run) {
            Err(why) => drop(hands.inbox.send(Input::Unable(same, why))),
            Ok(()) if is_second_try => drop(hands.inbox.send(Input::Able(same))),
            Ok(()) => {}
        });
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(e) = thread::Builder::new().name(name.into()).spawn(work) {
        eprintln!("vyr api: services: no thread: {e}");
    }
}

impl Given {
    fn carry_out(&self, order: Order, run: &Run) -> Result<(), Unable> {
        let doors = &self.hands.doors;
        let tell = |what| self.hands.tell(what);
        match order {
            Order::Fetch(image) => match self.fetch_of(image, run) {
                Ok(_) => tell(What::ImageReady(image)),
                Err(fault) => tell(What::ImageFailed(image, fault)),
            },
            Order::Start { id, slot, runs } => {
                // This process may have been killed after it had it started, and before it wrote that
                // down: whatever became of it is what there is, and its link is taken.
                let there = self.there(id);
                if !there.is_empty() {
                    there.into_iter().for_each(tell);
                    return Ok(());
                }
                match self.start(id, &slot, runs, run) {
                    Ok(()) => {}
                    Err(Start::Again) => tell(What::Gone(id)),
                    Err(Start::Fault(fault)) => tell(What::StartFailed(id, fault)),
                }
            }
            Order::Publish { generation, ready } => {
                let mut told = self.hands.told();
                // Each set has a thread: one that was held up must not bring back whom a newer one left.
                if generation < told.generation {
                    return Ok(());
                }
                told.pid = self.publish(run, &ready)?.or(told.pid);
                told.generation = generation;
                tell(What::Published(generation));
            }
            Order::Watch(id) => {
                self.watch(id)?;
                tell(What::Drained(id));
            }
            Order::Stop { id, grace_ms } => {
                let signal = self.stop_signal(id, run);
                match doors.machines.stop(&machine(id), signal, grace_ms) {
                    Ok(()) => {}
                    Err(MachinesError::Unknown(_)) => tell(What::Gone(id)),
                    // Its end is on its way.
                    Err(MachinesError::NotRunning(_)) => {}
                    Err(e) => return Err(e.to_string()),
                }
            }
            Order::Kill(id) => match doors.machines.kill(&machine(id)) {
                // Its end comes as an event, unless it had ended, which was told before.
                Ok(()) => {
                    let known = doors.machines.list().map_err(|e| e.to_string())?;
                    let name = machine(id);
                    if known.iter().all(|of| of.id != name || of.ended.is_some()) {
                        tell(What::Gone(id));
                    }
                }
                Err(MachinesError::Unknown(_)) => tell(What::Gone(id)),
                Err(e) => return Err(e.to_string()),
            },
            Order::Forget(id) => {
                match doors.machines.forget(&machine(id)) {
                    Ok(()) | Err(MachinesError::Unknown(_)) => {}
                    Err(e) => return Err(e.to_string()),
                }
                doors.net.detach(&id.to_string()).map_err(|e| e.to_string())?;
                tell(What::Forgotten(id));
            }
            Order::Report { .. } => {}
        }
        Ok(())
    }

    /// What `machines` knows of a machine; nothing: there is none, or it cannot say, and who asks it to
    /// start one hears why.
    fn there(&self, id: InstanceId) -> Vec<What> {
        let known = self.hands.doors.machines.list().unwrap_or_default();
        let gone = |of: &Known| of.ended.is_some().then_some(What::Gone(id));
        let own: Vec<Known> = known.into_iter().filter(|of| of.id == machine(id)).collect();
        let phase = found(&own).remove(&id).map(|phase| What::Guest(id, phase));
        phase.into_iter().chain(own.iter().find_map(gone)).collect()
    }

    /// An image that some release in use has.
    fn fetch_of(&self, image: Digest, run: &Run) -> Result<Fetched, Fault> {
        let fault = |why: String| Fault::new(Reason::ImagePullFailed, why);
        let specs = run.in_use();
        let runs = specs.iter().find(|runs| runs.image == image);
        let release = runs.map(|runs| runs.release.digest());
        let entry = match release {
            Some(release) => self.hands.desk.release(&release).map_err(|e| fault(e.to_string()))?,
            None => None,
        };
        let entry = entry.ok_or_else(|| fault("no release here has it".into()))?;
        self.fetch(image, &entry.manifest)
    }

    fn fetch(&self, image: Digest, manifest: &Manifest) -> Result<Fetched, Fault> {
        let images = &self.hands.doors.images;
        let ask = manifest.image.pull_policy == PullPolicy::Always;
        if !ask && let Some(found) = images.cached(&image).map_err(|e| images_fault(&e))? {
            return Ok(found);
        }
        let reference = manifest.image.reference.0.clone();
        let plain_http = self.hands.doors.plain_http.contains(&reference.registry);
        let credentials = credentials(&self.hands.data, &reference.registry)?;
        let fetch = Fetch { reference, digest: image, plain_http, credentials, ask };
        images.fetch(&fetch, &mut |_| {}).map_err(|e| images_fault(&e))
    }

    fn start(&self, id: InstanceId, slot: &SlotName, runs: Runs, run: &Run) -> Result<(), Start> {
        let Self { hands, plan, node } = self;
        let fail = |reason, why: String| Start::Fault(Fault::new(reason, why));
        let entry = hands.desk.release(&runs.release.digest());
        let entry = entry.map_err(|e| fail(Reason::VmmStartFailed, e.to_string()))?;
        let lost = || fail(Reason::VmmStartFailed, format!("release {} is not here", runs.release));
        let entry = entry.ok_or_else(lost)?;
        let process: &Process = entry.manifest.processes.get(&slot.process).ok_or_else(lost)?;
        let image = self.fetch(runs.image, &entry.manifest).map_err(Start::Fault)?;
        let secrets = match runs.secrets {
            None => None,
            Some(digest) => {
                let missing = |why: String| fail(Reason::SecretsMissing, why);
                let sealed = hands.desk.sealed(&digest).map_err(|e| missing(e.to_string()))?;
                let sealed = sealed.ok_or_else(|| missing(format!("{digest} is not here")))?;
                let opened = secrets::open(&hands.data, &sealed);
                Some(opened.map_err(|e| missing(e.to_string()))?.to_bytes())
            }
        };
        let here = plan.as_ref().zip(node.as_deref());
        let address = here.and_then(|(plan, node)| address(plan, node, id)).ok_or_else(lost)?;
        let setup = |e: String| fail(Reason::NetworkSetupFailed, e);
        self.isolate(run, Some((id, address))).map_err(setup)?;
        let card = hands.doors.net.attach(&id.to_string(), address);
        let card = card.map_err(|e| setup(e.to_string()))?;
        let own = Own {
            hostname: format!("{}-{}-{}", slot.service, slot.process, slot.ordinal),
            network: Some(Network {
                mac: card.mac,
                mtu: card.mtu,
                ipv6: Route { address, prefix: 128, gateway: card.gateway },
                ipv4: None,
            }),
            secrets: secrets.map(|bytes| bytes.to_vec()),
        };
        let start = start(&entry.manifest, process, &image, own);
        let start = start.map_err(|e| fail(e.reason, e.why))?;
        let order = MachineOrder {
            id: machine(id),
            root: image.disk,
            memory_bytes: process.resources.memory_bytes,
            vcpus: vcpus(process.resources.cpu_milli),
            scratch_bytes: Some(process.resources.disk_bytes),
            snapshot: None,
            start,
        };
        match hands.doors.machines.start(order, Some((card.tap, card.mac))) {
            // What becomes of it comes as events.
            Ok(()) => Ok(()),
            Err(MachinesError::Exists(_)) => Err(Start::Again),
            Err(e) => Err(fail(Reason::VmmStartFailed, e.to_string())),
        }
    }

    /// These instances may be reached, by the ingress alone: all that have a machine, and `more`.
    fn isolate(&self, run: &Run, more: Option<(InstanceId, Ipv6Addr)>) -> Result<(), Unable> {
        let (Some(plan), Some(node)) = (&self.plan, &self.node) else { return Ok(()) };
        let living = run.instances().values().filter(|of| of.step.has_machine());
        let living = living.filter_map(|of| Some((of.id, address(plan, node, of.id)?)));
        let all: BTreeMap<InstanceId, Ipv6Addr> = living.chain(more).collect();
        let all = all.into_iter();
        let all = all.map(|(id, guest)| InstanceAddress { instance: id.to_string(), guest });
        self.hands.doors.net.isolate(all.collect(), ingress_uid()).map_err(|e| e.to_string())
    }

    /// Tells the ingress, and which process it is; none: there need be none.
    fn publish(&self, run: &Run, ready: &BTreeSet<InstanceId>) -> Result<Option<u32>, Unable> {
        let (Some(plan), Some(node)) = (&self.plan, &self.node) else { return Ok(None) };
        let Some(of_node) = plan.node(node) else { return Ok(None) };
        let ingress = &self.hands.doors.ingress;
        // Nobody comes in, and nobody ever did.
        if of_node.ingress.is_empty() && ingress.status().map_err(|e| e.to_string())?.is_none() {
            return Ok(None);
        }
        let backends = backends(plan, node, run, ready);
        let config = config(of_node, &backends, (ingress.control(), ingress.connections_max()));
        ingress.apply(&config).map_err(|e| said(&e))?;
        let pid = ingress.pid().map_err(|e| said(&e))?;
        pid.map(Some).ok_or_else(|| "the ingress ended as soon as it was told".to_owned())
    }

    /// Waits until the ingress has no connection to an instance. The state machine has its own
    /// patience with that; what it decided meanwhile makes this answer a late one.
    fn watch(&self, id: InstanceId) -> Result<(), Unable> {
        let (Some(plan), Some(node)) = (&self.plan, &self.node) else { return Ok(()) };
        let Some(address) = address(plan, node, id) else { return Ok(()) };
        let ingress = &self.hands.doors.ingress;
        while let Some(status) = ingress.status().map_err(|e| said(&e))? {
            let of_it = status.backends.iter().filter(|of| of.address.ip() == address);
            if of_it.map(|of| of.open).sum::<u64>() == 0 {
                break;
            }
            thread::sleep(WATCH_PAUSE);
        }
        Ok(())
    }

    /// The signal that asks the process of an instance to end.
    fn stop_signal(&self, id: InstanceId, run: &Run) -> u8 {
        const TERM: u8 = 15;
        let Some(instance) = run.instances().get(&id) else { return TERM };
        let runs = instance.spec.runs;
        let entry = self.hands.desk.release(&runs.release.digest()).ok().flatten();
        let process =
            entry.as_ref().and_then(|of| of.manifest.processes.get(&instance.slot.process));
        if let Some(signal) = process.and_then(|process| process.stop_signal) {
            return signal.number();
        }
        let image = self.hands.doors.images.cached(&runs.image).ok().flatten();
        image.map_or(TERM, |image| image.config.stop_signal.0)
    }
}

/// An error and what is beneath it.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Why there is no machine.
enum Start {
    /// There was one of this name.
    Again,
    /// This.
    Fault(Fault),
}

pub(super) fn machine(id: InstanceId) -> MachineId {
    MachineId::new(&id.to_string()).unwrap_or_else(|_| unreachable!("16 hex digits"))
}

/// Whole processors; what is left over is soft.
fn vcpus(milli: u32) -> u8 {
    u8::try_from(milli.div_ceil(1000)).unwrap_or(u8::MAX).max(1)
}
