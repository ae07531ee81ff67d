//! The thread that has a node's services: one event after the other goes into the state machine, and
//! what it then orders is carried out.
//!
//! ```text
//! event -> evolve -> journal -> state.json -> view -> orders that were not given yet -> hands
//!   ^                                                                                     |
//!   +---------------------------- what came of them --------------------------------------+
//! ```
//!
//! Invariants:
//! 1. Nothing is ordered or shown before the events that say so are in the journal and the state is on
//!    the disk. When either cannot be written nothing is ordered, what was shown stays and is called
//!    stuck, and it is tried again. Connections to a machine that is gone are cut at once: that is
//!    nobody's decision.
//! 2. An order is given once while it stands; after a start of the node all that stand are given again.
//!
//! Deliberately elsewhere: which plans are taken, and when a deploy has ended (`deploys`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use vyr_base::Digest;
use vyr_journal::{Body, DeployOutcome, InstanceStep, Origin, SlotWish};
use vyr_plan::services::ServicesPlan;
use vyr_service::place::SlotName;
use vyr_service::run::{Event, Instance, InstanceId, Order, Run, Slot, What};

use super::accept::DeployRequest;
use super::desk::{Deploying, Desk};
use super::error::ServicesError;
use super::hands::{Hands, said};
use super::wanted::wanted;
use crate::data_dir::DataDir;
use crate::machines::Began;
use crate::node::{Node, append};

/// What could not be done is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Characters of a reason that are kept.
const WHY_CHARS_MAX: usize = 400;

/// What comes to the thread.
pub(super) enum Input {
    /// Something happened.
    What(What),
    /// The machine of an instance came to run in this way.
    Began(InstanceId, Began),
    /// This order could be neither carried out nor refused.
    Unable(Order, String),
    /// This one, which could not be at first, was carried out.
    Able(Order),
    /// An operator wants something of a slot.
    Wish(Wish, SyncSender<Result<(), ServicesError>>),
    /// Somebody sends a plan.
    Deploy(Box<DeployRequest>, SyncSender<Result<Taken, ServicesError>>),
    /// The node ends.
    End,
}

/// What an operator wants of a slot, whatever the plan says.
pub(super) struct Wish {
    pub(super) slot: SlotName,
    /// It is to be empty; else the plan counts again.
    pub(super) halt: bool,
    pub(super) by: String,
}

/// A plan that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The name of the deploy.
    pub deploy: String,
    /// The plan.
    pub plan: Digest,
    /// This node's name in it.
    pub node: String,
    /// Who approved it.
    pub approvers: Vec<String>,
}

/// A deploy that has ended.
#[derive(Debug, Clone)]
pub struct EndedDeploy {
    /// Its name.
    pub deploy: String,
    /// What became of it.
    pub outcome: DeployOutcome,
    /// Why.
    pub why: String,
}

/// The services of a node at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// This node's name in its plan.
    pub node: Option<String>,
    /// The plan that was taken last.
    pub plan: Option<(Digest, Arc<ServicesPlan>)>,
    /// What should run and what runs.
    pub run: Run,
    /// How the machines of instances came to run, of those whose is known. It decides nothing.
    pub came_up: BTreeMap<InstanceId, Began>,
    /// The time of it, as its times are.
    pub now_ms: u64,
    /// The deploy that is being carried out.
    pub deploying: Option<String>,
    /// The one that ended last, in this life of the node.
    pub ended: Option<EndedDeploy>,
    /// Why nothing is done at the moment, if nothing can be.
    pub stuck: Option<String>,
    /// Why what stands cannot be done, though it is tried again and again.
    pub unable: BTreeSet<String>,
}

/// Where the present view is.
pub(super) type Shown = Arc<RwLock<Arc<View>>>;

pub(super) struct Engine {
    pub(super) data: DataDir,
    pub(super) node: std::sync::Weak<Node>,
    pub(super) desk: Desk,
    pub(super) hands: Hands,
    pub(super) inbox: Receiver<Input>,
    pub(super) shown: Shown,
    pub(super) changed: watch::Sender<u64>,
    /// Whose journal it is.
    pub(super) origin: Origin,
    pub(super) state: State,
}

pub(super) struct State {
    pub(super) run: Run,
    pub(super) plan: Option<(Digest, Arc<ServicesPlan>)>,
    pub(super) name: Option<String>,
    pub(super) came_up: BTreeMap<InstanceId, Began>,
    pub(super) deploying: Option<Deploying>,
    pub(super) ended: Option<EndedDeploy>,
    /// What the journal is still to be told.
    pub(super) unwritten: Vec<Body>,
    /// Orders that somebody carries out.
    pub(super) given: Vec<Order>,
    /// Orders that are given again at that time.
    pub(super) later: Vec<(Instant, Order)>,
    pub(super) stuck: Option<String>,
    /// Orders that nobody could carry out yet, and why.
    pub(super) unable: Vec<(Order, String)>,
    /// Milliseconds since 1970 at `began`.
    pub(super) began_ms: u64,
    pub(super) began: Instant,
}

impl State {
    fn now_ms(&self) -> u64 {
        self.began_ms + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX >> 1)
    }

    fn view(&self) -> View {
        View {
            node: self.name.clone(),
            plan: self.plan.clone(),
            run: self.run.clone(),
            came_up: self.came_up.clone(),
            now_ms: self.now_ms(),
            deploying: self.deploying.as_ref().map(|of| of.deploy.clone()),
            ended: self.ended.clone(),
            stuck: self.stuck.clone(),
            unable: self.unable.iter().map(|(_, why)| why.clone()).collect(),
        }
    }
}

/// Reads what is on the disk, and makes the thread's own of it.
pub(super) fn load(desk: &Desk) -> Result<View, ServicesError> {
    let plan = desk.plan()?.map(|(digest, plan)| (digest, Arc::new(plan)));
    // It is written before the plan: one without a plan is of a deploy that was never taken.
    let node = desk.node()?.filter(|_| plan.is_some());
    Ok(View {
        node,
        plan,
        run: desk.state()?,
        came_up: BTreeMap::new(),
        now_ms: 0,
        deploying: desk.deploying()?.map(|of| of.deploy),
        ended: None,
        stuck: None,
        unable: BTreeSet::new(),
    })
}

impl Engine {
    pub(super) fn new(
        data: DataDir,
        node: &Arc<Node>,
        desk: Desk,
        hands: Hands,
        inbox: Receiver<Input>,
        (shown, changed): (Shown, watch::Sender<u64>),
        loaded: View,
    ) -> Result<Self, ServicesError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let state = State {
            run: loaded.run,
            plan: loaded.plan,
            name: loaded.node,
            came_up: BTreeMap::new(),
            deploying: desk.deploying()?,
            ended: None,
            unwritten: Vec::new(),
            given: Vec::new(),
            later: Vec::new(),
            stuck: None,
            unable: Vec::new(),
            began_ms: u64::try_from(since.as_millis()).unwrap_or(0),
            began: Instant::now(),
        };
        let (origin, node) = (node.origin(), Arc::downgrade(node));
        Ok(Self { data, node, desk, hands, inbox, shown, changed, origin, state })
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        self.hands.find(&self.state.run);
        self.hands.look_after_ingress(self.node.clone());
        loop {
            let wait = self.next_wake();
            match self.inbox.recv_timeout(wait) {
                Ok(Input::What(what)) => self.happened(what),
                // What follows it is a turn, in which it is shown.
                Ok(Input::Began(id, began)) => drop(self.state.came_up.insert(id, began)),
                Ok(Input::Unable(order, why)) => self.unable(order, &why),
                Ok(Input::Able(order)) => {
                    self.state.unable.retain(|(of, _)| *of != order);
                    self.turn(false);
                }
                Ok(Input::Wish(wish, reply)) => {
                    let _ = reply.send(self.wish(wish));
                }
                Ok(Input::Deploy(request, reply)) => {
                    let taken = self.deploy(&request);
                    let _ = reply.send(taken);
                }
                Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.happened(What::Tick),
            }
            if self.node.strong_count() == 0 {
                return;
            }
        }
    }

    /// Goes on where an earlier life of the node was ended, wherever that was.
    pub(super) fn pick_up(&mut self) {
        let mut changed = self.settle_deploys();
        changed |= self.evolve(What::NodeStarted);
        if let (Some(accepted), Some(name)) = (self.state.plan.clone(), self.state.name.clone())
            && self.state.run.plan().map(|plan| plan.digest) != Some(accepted.0)
        {
            // Killed between the plan and the state. Before any turn: by the state of before, this deploy
            // would have been replaced.
            match wanted(&accepted.1, accepted.0, &name) {
                Ok(wanted) => changed |= self.evolve(What::Plan(wanted)),
                Err(e) => eprintln!("vyr api: services: {e}"),
            }
        }
        self.turn(changed);
    }

    fn next_wake(&self) -> Duration {
        let now = self.state.now_ms();
        let machine =
            self.state.run.wake_ms().map(|at| Duration::from_millis(at.saturating_sub(now)));
        let later =
            self.state.later.iter().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let stuck = self.state.stuck.as_ref().map(|_| AGAIN);
        // The node may end without a word.
        let least = machine.into_iter().chain(later).chain(stuck).min();
        least
            .unwrap_or(Duration::from_secs(60))
            .clamp(Duration::from_millis(1), Duration::from_secs(60))
    }

    fn unable(&mut self, order: Order, why: &str) {
        let why: String = why.chars().take(WHY_CHARS_MAX).collect();
        let known = self.state.unable.iter().any(|(of, known)| *of == order && *known == why);
        if !known {
            eprintln!("vyr api: services: {why}");
            self.state.unable.retain(|(of, _)| *of != order);
            self.state.unable.push((order.clone(), why));
        }
        self.state.later.push((Instant::now() + AGAIN, order));
        self.turn(false);
    }

    /// One turn.
    pub(super) fn happened(&mut self, what: What) {
        if let What::Gone(id) = &what {
            let plan = self.state.plan.as_ref().map(|(_, plan)| Arc::clone(plan));
            self.hands.cut(*id, plan, self.state.name.clone());
        }
        let changed = self.evolve(what);
        self.turn(changed);
    }

    /// Whether it makes a difference.
    pub(super) fn evolve(&mut self, what: What) -> bool {
        let event = Event { at_ms: self.state.now_ms(), what };
        let before = self.state.run.clone();
        if self.state.run.evolve(&event) {
            self.note(&before);
        }
        before != self.state.run
    }

    /// Empties a slot, or lets the plan have it again. What is so already is no event.
    fn wish(&mut self, wish: Wish) -> Result<(), ServicesError> {
        let Wish { slot, halt, by } = wish;
        if !self.state.run.knows(&slot) {
            return Err(ServicesError::Missing(format!("slot {slot}")));
        }
        let record = self.state.run.slots().get(&slot);
        let is_new = match halt {
            true => !record.is_some_and(|of| of.halted),
            // Another try of what was given up, too.
            false => record.is_some_and(|of| *of != Slot::default()),
        };
        if is_new {
            let told = Box::new(SlotWish { by, slot: slot.to_string() });
            let body = if halt { Body::SlotHalted(told) } else { Body::SlotResumed(told) };
            self.state.unwritten.push(body);
        }
        self.happened(if halt { What::Halt(slot) } else { What::Resume(slot) });
        match &self.state.stuck {
            None => Ok(()),
            Some(why) => {
                let why = format!("it cannot be written down yet, and is tried again: {why}");
                Err(ServicesError::Part(why))
            }
        }
    }

    /// Writes what is to be written, shows it, and gives the orders that are new.
    pub(super) fn turn(&mut self, changed: bool) {
        // Also of a turn that cannot be written: what does not stand any more and stands again at the next
        // one is another order.
        let standing = self.state.run.orders();
        self.state.given.retain(|order| standing.contains(order));
        if let Err(e) = self.write(changed || self.state.stuck.is_some()) {
            // With the reason beneath it: a full disk is mended by another than a directory that is gone.
            let why = clip(&said(&e));
            if self.state.stuck.as_ref() != Some(&why) {
                eprintln!("vyr api: services stand still: {why}");
            }
            self.state.stuck = Some(why);
            return self.stand_still();
        }
        self.state.stuck = None;
        self.state.unable.retain(|(order, _)| standing.contains(order));
        let known = self.state.run.instances();
        self.state.came_up.retain(|id, _| known.contains_key(id));
        self.show(self.state.view());
        self.give();
    }

    /// Shows what was shown, and that it is no more than that: what came since is not on the disk, and a
    /// node that is killed now comes back without it.
    fn stand_still(&self) {
        let shown = self.shown.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut view = View::clone(&shown);
        drop(shown);
        view.now_ms = self.state.now_ms();
        view.stuck.clone_from(&self.state.stuck);
        self.show(view);
    }

    fn show(&self, view: View) {
        *self.shown.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(view);
        self.changed.send_modify(|turn| *turn += 1);
    }

    fn write(&mut self, changed: bool) -> Result<(), ServicesError> {
        self.finish_deploy();
        if !self.state.unwritten.is_empty() {
            let bodies = self.state.unwritten.clone();
            let known = |body: &Body| matches!(body, Body::DeployEnded(_));
            append(&self.data, |reader, _| {
                let mut fresh = Vec::new();
                for body in bodies {
                    let there = match body.change().filter(|_| known(&body)) {
                        Some(name) => reader.change(name)?.is_some(),
                        None => false,
                    };
                    if !there {
                        fresh.push(body);
                    }
                }
                Ok(fresh)
            })
            .map_err(|e| ServicesError::Part(said(&e)))?;
            self.state.unwritten.clear();
            if let Some(node) = self.node.upgrade() {
                node.look();
            }
        }
        if changed {
            self.desk.keep_state(&self.state.run)?;
            self.desk.keep_deploying(self.state.deploying.as_ref())?;
            let in_use = self.state.run.in_use();
            let of_plan = self.state.plan.iter().flat_map(|(_, plan)| &plan.services);
            let releases = of_plan.clone().map(|of| of.release.digest());
            let releases = releases.chain(in_use.iter().map(|of| of.release.digest())).collect();
            let sealed = of_plan.filter_map(|of| of.secrets);
            let sealed = sealed.chain(in_use.iter().filter_map(|of| of.secrets)).collect();
            self.desk.keep_only("releases", &releases);
            self.desk.keep_only("secrets", &sealed);
        }
        Ok(())
    }

    fn give(&mut self) {
        let orders = self.state.run.orders();
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.state.later).into_iter().partition(|(at, _)| *at <= now);
        self.state.later = later.into_iter().filter(|(_, order)| orders.contains(order)).collect();
        self.state
            .given
            .retain(|order| orders.contains(order) && !due.iter().any(|(_, again)| again == order));
        for order in orders {
            if self.state.given.contains(&order) {
                continue;
            }
            self.state.given.push(order.clone());
            // The end of a deploy says more than the ends of its services.
            if let Order::Report { service, epoch, .. } = order {
                self.hands.tell(What::Reported { service, epoch });
                continue;
            }
            let plan = self.state.plan.as_ref().map(|(_, plan)| Arc::clone(plan));
            let again = self.state.unable.iter().any(|(of, _)| *of == order);
            self.hands.give(order, plan, self.state.name.clone(), &self.state.run, again);
        }
    }

    /// What the journal is to know of a step.
    fn note(&mut self, before: &Run) {
        for (id, now) in self.state.run.instances() {
            let then = before.instances().get(id);
            let was = then.map(|of| (of.state, of.step.has_machine()));
            // The machine of one that has ended may be found again by the next life of the node, to be
            // ended: it is no start.
            let over = now.state.is_terminal();
            if !over && now.step.has_machine() && !was.is_some_and(|(_, machine)| machine) {
                self.state.unwritten.push(Body::InstanceStarted(step(now)));
            }
            if was.map(|(state, _)| state) == Some(now.state) {
                continue;
            }
            match now.state {
                vyr_service::run::State::Ready => {
                    self.state.unwritten.push(Body::InstanceReady(step(now)));
                }
                state if state.is_terminal() => {
                    self.state.unwritten.push(Body::InstanceEnded(step(now)));
                }
                _ => {}
            }
        }
    }
}

fn step(of: &Instance) -> Box<InstanceStep> {
    Box::new(InstanceStep {
        instance: of.id.to_string(),
        reason: of.fault.as_ref().map(|fault| fault.reason.word().to_owned()),
        release: of.spec.runs.release.digest(),
        slot: of.slot.to_string(),
        why: of.fault.as_ref().map(|fault| clip(&fault.said)).filter(|said| !said.is_empty()),
    })
}

/// A text as an event may have it.
pub(super) fn clip(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(WHY_CHARS_MAX).map(shown).collect()
}
