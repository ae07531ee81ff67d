//! The services of a node: a signed plan in, instances in microVMs out.
//!
//! ```text
//! vyr deploy --operator.sock--> accept -> engine: one event after the other into vyr_service::run
//!                                           |  ^
//!                                    orders v  | events
//!                  hands: images, net (TAPs, isolation), machines, ingress: a process each
//! ```
//!
//! Invariants:
//! 1. A plan is carried out only if the operators in charge approve it over the one before, its network
//!    is there, its invariants hold and its secrets open: all of that before anything changes.
//! 2. What the state machine decides is written down before it is done (`engine`, `deploys`, `desk`).
//! 3. This module starts no process, opens no socket and speaks with no guest: the doors do.
//!
//! Deliberately elsewhere: what is to be done (`vyr_service::run`), what a plan says (`vyr_plan`), what a
//! command prints (`vyr`).

mod accept;
mod deploys;
mod desk;
mod engine;
mod error;
mod hands;
mod ingress;
mod registries;
mod session;
mod start;
mod told;
mod wanted;

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use vyr_journal::{SessionBegun, SessionEnd};
use vyr_service::place::SlotName;
use vyr_service::run::{InstanceId, State};
use vyr_vm::channel::words::{Process, Window};

pub use accept::DeployRequest;
use desk::Desk;
pub use engine::{EndedDeploy, Taken, View};
use engine::{Engine, Input, Shown, Wish, clip, load};
pub use error::ServicesError;
use hands::{Hands, machine};
pub use session::{CLIENT_GONE, Session};

use crate::data_dir::DataDir;
use crate::machines::{Event, MachinesError};
use crate::network::random_name;
use crate::node::Node;
use crate::process::Doors;

/// Events that wait for the engine; who has more waits with them.
const INBOX: usize = 1024;

/// How long a machine that runs may take to be found after a start of the node, and between two looks.
const FOUND_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where events of `machines` go before there is an engine, and after.
#[derive(Debug, Clone)]
pub(crate) struct MachineEvents(SyncSender<Input>);

impl MachineEvents {
    /// Takes an event.
    pub(crate) fn take(&self, event: Event) {
        if let Some((id, began)) = told::began(&event) {
            let _ = self.0.send(Input::Began(id, began));
        }
        for what in told::of_event(event) {
            let _ = self.0.send(Input::What(what));
        }
    }
}

/// What an engine reads.
pub(crate) struct Inbox(std::sync::mpsc::Receiver<Input>);

/// The two ends of the engine's inbox: doors need one before there is an engine.
pub(crate) fn inbox() -> (MachineEvents, Inbox) {
    let (sender, receiver) = sync_channel(INBOX);
    (MachineEvents(sender), Inbox(receiver))
}

/// A node's services, as callers hold them. Dropping the last one ends the engine; instances go on.
pub struct Services {
    inbox: SyncSender<Input>,
    shown: Shown,
    changed: watch::Receiver<u64>,
    doors: Arc<Doors>,
    desk: Desk,
    data: DataDir,
    node: Weak<Node>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = self.inbox.try_send(Input::End);
    }
}

impl Services {
    /// Reads what the node had, and starts the engine.
    pub(crate) fn start(
        data: &DataDir,
        node: &Arc<Node>,
        doors: Arc<Doors>,
        (MachineEvents(sender), Inbox(inbox)): (MachineEvents, Inbox),
    ) -> Result<Self, ServicesError> {
        let desk = Desk::open(data.path())?;
        let loaded = load(&desk)?;
        let shown: Shown = Arc::new(RwLock::new(Arc::new(loaded.clone())));
        let (turns, changed) = watch::channel(0);
        if let Err(e) = session::end_left(data, &Arc::downgrade(node)) {
            // The next start finds them too.
            eprintln!("vyr api: sessions of before cannot be written down as ended: {e}");
        }
        let hands = Hands {
            doors: Arc::clone(&doors),
            data: data.clone(),
            desk: desk.clone(),
            inbox: sender.clone(),
            published: Arc::default(),
        };
        let mut engine = Engine::new(
            data.clone(),
            node,
            desk.clone(),
            hands,
            inbox,
            (Arc::clone(&shown), turns),
            loaded,
        )?;
        // Before anybody can ask: what is on the disk may be of two plans.
        engine.pick_up();
        let run = move || engine.run();
        let started = thread::Builder::new().name("vyr-services".into()).spawn(run);
        started.map_err(|e| ServicesError::Part(format!("cannot start a thread: {e}")))?;
        let (data, node) = (data.clone(), Arc::downgrade(node));
        Ok(Self { inbox: sender, shown, changed, doors, desk, data, node })
    }

    /// How everything is.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes with every turn of the engine.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Takes a plan. Blocks until it was taken or refused, not until it is in force.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn deploy(&self, request: DeployRequest) -> Result<Taken, ServicesError> {
        let (reply, answer) = sync_channel(1);
        let gone = || ServicesError::Unavailable("the node is ending".into());
        self.inbox.send(Input::Deploy(Box::new(request), reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Empties a slot whatever the plan says, or lets the plan have it again, for `by`. Blocks until that is
    /// written down; what runs there ends later.
    ///
    /// # Errors
    /// No plan has such a slot; it cannot be written down.
    pub fn set_slot(&self, slot: &str, halt: bool, by: String) -> Result<(), ServicesError> {
        let missing = |_| ServicesError::Missing(format!("slot {}", clip(slot)));
        let slot: SlotName = slot.parse().map_err(missing)?;
        let (reply, answer) = sync_channel(1);
        let gone = || ServicesError::Unavailable("the node is ending".into());
        let wish = Wish { slot, halt, by };
        self.inbox.send(Input::Wish(wish, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// The instance that `target` means: its id, or the newest of a slot, process or service.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, target: &str, running: bool) -> Result<InstanceId, ServicesError> {
        let view = self.view();
        let fits = |slot: &SlotName| {
            let slot = slot.to_string();
            slot == target || slot.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
        };
        let instances = view.run.instances().values();
        let wanted = instances.filter(|of| of.id.to_string() == target || fits(&of.slot));
        let wanted = wanted.filter(|of| !running || of.step.has_machine());
        // A ready one before one that is on its way.
        let newest = wanted.max_by_key(|of| (of.state == State::Ready, of.number));
        newest.map(|of| of.id).ok_or_else(|| {
            let what = if running { "running instance" } else { "instance" };
            ServicesError::Missing(format!("{what} of {target}"))
        })
    }

    /// What an instance wrote; a socket of [`LogLine`](crate::machines::wire::LogLine)s. Blocks.
    ///
    /// # Errors
    /// It is forgotten; `machines` is not there.
    pub fn logs(&self, id: InstanceId, from: u64, follow: bool) -> Result<OwnedFd, ServicesError> {
        self.doors.machines.logs(&machine(id), from, follow).map_err(|e| of_machines(&e))
    }

    /// A process beside the one of an instance, for `by`; a socket of
    /// [`ExecFrame`](crate::machines::wire::ExecFrame)s, and its session in the journal, which is to be told
    /// how it ended. `asked` has what was asked for; what it leaves empty is as the instance's own. Blocks.
    ///
    /// # Errors
    /// It does not run; there are too many of them; that it begins cannot be written down.
    pub fn exec(
        &self,
        id: InstanceId,
        asked: Asked,
        terminal: Option<Window>,
        by: &str,
    ) -> Result<(OwnedFd, Session), ServicesError> {
        let part = |e: &dyn std::fmt::Display| ServicesError::Part(e.to_string());
        let view = self.view();
        let slot = view.run.instances().get(&id).map(|of| &of.slot);
        let slot = slot.ok_or_else(|| ServicesError::Missing(format!("instance {id}")))?;
        let program = asked.argv.first().map(|program| clip(program)).unwrap_or_default();
        let user = asked.user.as_deref().map(clip);
        let process = self.process(id, asked)?;
        let begun = SessionBegun {
            by: by.to_owned(),
            instance: id.to_string(),
            program,
            service: slot.service.to_string(),
            session: random_name().map_err(|e| part(&e))?,
            slot: slot.to_string(),
            terminal: terminal.is_some(),
            uid: process.uid,
            user,
        };
        let session = Session::begin(&self.data, &self.node, begun).map_err(|e| part(&e))?;
        match self.start_session(id, &process, terminal) {
            Ok(socket) => Ok((socket, session)),
            Err(e) => {
                session.end(SessionEnd::Failed(e.to_string()));
                Err(e)
            }
        }
    }

    fn start_session(
        &self,
        id: InstanceId,
        process: &Process,
        terminal: Option<Window>,
    ) -> Result<OwnedFd, ServicesError> {
        let until = Instant::now() + FOUND_PATIENCE;
        loop {
            match self.doors.machines.exec(&machine(id), process.clone(), terminal) {
                // After a start of the node its machines are found one after the other.
                Err(MachinesError::NotRunning(_)) if Instant::now() < until && self.runs(id) => {
                    thread::sleep(LOOK_AGAIN);
                }
                done => return done.map_err(|e| of_machines(&e)),
            }
        }
    }

    fn runs(&self, id: InstanceId) -> bool {
        self.view().run.instances().get(&id).is_some_and(|of| of.state == State::Ready)
    }

    fn process(&self, id: InstanceId, asked: Asked) -> Result<Process, ServicesError> {
        let view = self.view();
        let missing = || ServicesError::Missing(format!("instance {id}"));
        let instance = view.run.instances().get(&id).ok_or_else(missing)?;
        let entry = self.desk.release(&instance.spec.runs.release.digest())?.ok_or_else(missing)?;
        let own = entry.manifest.processes.get(&instance.slot.process).ok_or_else(missing)?;
        let image = self.doors.images.cached(&instance.spec.runs.image);
        let image = image.map_err(|e| ServicesError::Part(e.to_string()))?.ok_or_else(missing)?;
        let workload = start::workload(own, &image);
        let mut process = workload.map_err(|e| ServicesError::Part(e.to_string()))?;
        process.argv = asked.argv;
        process.env.retain(|(name, _)| !asked.env.iter().any(|(other, _)| other == name));
        process.env.extend(asked.env);
        if let Some(user) = asked.user {
            let user = image.accounts.resolve(&user);
            let user = user.map_err(|e| ServicesError::Node(e.to_string()))?;
            (process.uid, process.gid, process.groups) = (user.uid, user.gid, user.groups);
        }
        if let Some(workdir) = asked.workdir {
            process.workdir = workdir;
        }
        Ok(process)
    }
}

/// A process that somebody wants beside an instance's own.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// Variables beside the instance's own.
    pub env: Vec<(String, String)>,
    /// Whom it runs as; none: as the instance.
    pub user: Option<String>,
    /// Where it starts; none: as the instance.
    pub workdir: Option<String>,
}

fn of_machines(error: &MachinesError) -> ServicesError {
    match error {
        MachinesError::Unknown(id) => ServicesError::Missing(format!("log of {id}")),
        other => ServicesError::Part(other.to_string()),
    }
}
