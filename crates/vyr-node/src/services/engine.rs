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
//!    the disk. When either cannot be written nothing is ordered, and it is tried again. Connections to a
//!    machine that is gone are cut at once: that is nobody's decision.
//! 2. An order is given once while it stands; after a start of the node all that stand are given again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use vyr_base::Digest;
use vyr_journal::{
    Body, Deploy, DeployBegun, DeployOutcome, DeployPredicate, DeployRefused, DeployRelease,
    DeployStatement, DeployTimings, InstanceStep, NetworkNode, SlotWish,
};
use vyr_plan::services::ServicesPlan;
use vyr_service::place::SlotName;
use vyr_service::run::{Event, Instance, InstanceId, Order, Outcome, Run, Slot, What};

use super::accept::{Accepted, DeployRequest, Here, accept};
use super::desk::{Deploying, Desk};
use super::error::ServicesError;
use super::hands::Hands;
use super::wanted::wanted;
use crate::data_dir::DataDir;
use crate::machines::Began;
use crate::network::{Network, random_name};
use crate::node::{Node, append, micros};
use crate::secrets;

/// What could not be done is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the ingress may take to be told of a plan; as long as a rollout may stand still.
const PUBLISH_MAX: SignedDuration = SignedDuration::from_secs(600);

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
    state: State,
}

struct State {
    run: Run,
    plan: Option<(Digest, Arc<ServicesPlan>)>,
    name: Option<String>,
    came_up: BTreeMap<InstanceId, Began>,
    deploying: Option<Deploying>,
    ended: Option<EndedDeploy>,
    /// What the journal is still to be told.
    unwritten: Vec<Body>,
    /// Orders that somebody carries out.
    given: Vec<Order>,
    /// Orders that are given again at that time.
    later: Vec<(Instant, Order)>,
    stuck: Option<String>,
    /// Orders that nobody could carry out yet, and why.
    unable: Vec<(Order, String)>,
    /// Milliseconds since 1970 at `began`.
    began_ms: u64,
    began: Instant,
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
    Ok(View {
        node: desk.node()?,
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
        node: std::sync::Weak<Node>,
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
        Ok(Self { data, node, desk, hands, inbox, shown, changed, state })
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        self.happened(What::NodeStarted);
        if let (Some(accepted), Some(name)) = (self.state.plan.clone(), self.state.name.clone())
            && self.state.run.plan().map(|plan| plan.digest) != Some(accepted.0)
        {
            // Killed between the plan and the state.
            match wanted(&accepted.1, accepted.0, &name) {
                Ok(wanted) => self.happened(What::Plan(wanted)),
                Err(e) => eprintln!("vyr api: services: {e}"),
            }
        }
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
    fn happened(&mut self, what: What) {
        if let What::Gone(id) = &what {
            let plan = self.state.plan.as_ref().map(|(_, plan)| Arc::clone(plan));
            self.hands.cut(*id, plan, self.state.name.clone());
        }
        let event = Event { at_ms: self.state.now_ms(), what };
        let before = self.state.run.clone();
        if self.state.run.evolve(&event) {
            self.note(&before);
        }
        self.turn(before != self.state.run);
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
    fn turn(&mut self, changed: bool) {
        match self.write(changed || self.state.stuck.is_some()) {
            Ok(()) => self.state.stuck = None,
            Err(e) => {
                let why = e.to_string();
                if self.state.stuck.as_ref() != Some(&why) {
                    eprintln!("vyr api: services stand still: {why}");
                }
                self.state.stuck = Some(why);
            }
        }
        let standing = self.state.run.orders();
        self.state.unable.retain(|(order, _)| standing.contains(order));
        let known = self.state.run.instances();
        self.state.came_up.retain(|id, _| known.contains_key(id));
        *self.shown.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Arc::new(self.state.view());
        self.changed.send_modify(|turn| *turn += 1);
        if self.state.stuck.is_none() {
            self.give();
        }
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
            .map_err(|e| ServicesError::Part(e.to_string()))?;
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

    /// Says how the deploy ended, once it has.
    fn finish_deploy(&mut self) {
        let Some(deploying) = self.state.deploying.as_ref() else { return };
        let (outcome, why) = match self.state.run.plan() {
            Some(plan) if plan.digest == deploying.plan => match self.state.run.outcome() {
                Outcome::Rolling => return,
                // The next turn comes after a minute at the latest.
                Outcome::Succeeded if !self.state.run.is_published() => {
                    if Timestamp::now().duration_since(deploying.begun) < PUBLISH_MAX {
                        return;
                    }
                    let is_of_it =
                        |(order, _): &&(Order, String)| matches!(order, Order::Publish { .. });
                    let why = self.state.unable.iter().find(is_of_it).map(|(_, why)| why.as_str());
                    let why = why.unwrap_or("it does not answer");
                    let why = format!("the ingress does not take its ways in: {why}");
                    (DeployOutcome::Failed, why)
                }
                Outcome::Succeeded => {
                    (DeployOutcome::Succeeded, "all it wants is ready".to_owned())
                }
                Outcome::Failed(faults) => {
                    let faults =
                        faults.iter().map(|(service, fault)| format!("{service}: {fault}"));
                    (DeployOutcome::Failed, faults.collect::<Vec<_>>().join("; "))
                }
            },
            // Killed between the plan and the state, which is told of it next.
            _ if self.state.plan.as_ref().is_some_and(|(of, _)| *of == deploying.plan) => return,
            Some(_) => (DeployOutcome::Failed, "another plan took its place".to_owned()),
            None => return,
        };
        self.end_deploy(outcome, &why);
    }

    fn end_deploy(&mut self, outcome: DeployOutcome, why: &str) {
        let Some(of) = self.state.deploying.take() else { return };
        let Some(node) = self.node.upgrade() else { return };
        let plan = self.state.plan.as_ref().filter(|(digest, _)| *digest == of.plan);
        let mut releases: Vec<DeployRelease> = plan
            .iter()
            .flat_map(|(_, plan)| &plan.services)
            .map(|entry| DeployRelease {
                image: entry.image,
                release: entry.release.digest(),
                service: entry.name().to_string(),
            })
            .collect();
        // As a statement has them; by digest they would be in any order.
        releases.sort_by(|a, b| a.service.cmp(&b.service));
        let why = clip(why);
        let statement = DeployStatement::of(DeployPredicate {
            deploy: Deploy {
                approvers: of.approvers,
                by: of.by,
                deploy: of.deploy.clone(),
                machine: self.state.name.clone().unwrap_or_default(),
                outcome,
                parent: of.parent,
                plan: of.plan,
                releases,
                timings: DeployTimings {
                    begun: of.begun,
                    ended: micros(Timestamp::now()).max(of.begun),
                },
                why: why.clone(),
            },
            node: NetworkNode { origin: node.origin(), version: env!("CARGO_PKG_VERSION").into() },
        });
        self.state.unwritten.push(Body::DeployEnded(Box::new(statement)));
        self.state.ended = Some(EndedDeploy { deploy: of.deploy, outcome, why });
    }

    /// Takes a plan, or says why not.
    fn deploy(&mut self, request: &DeployRequest) -> Result<Taken, ServicesError> {
        match self.take(request) {
            Ok(taken) => Ok(taken),
            Err(e) => {
                let refused = DeployRefused {
                    by: request.by.clone(),
                    plan: Digest::of(&request.plan),
                    why: clip(&e.to_string()),
                };
                // What is refused is refused, whether that can be written down or not.
                let body = Body::DeployRefused(Box::new(refused));
                if append(&self.data, |_, _| Ok(vec![body])).is_ok()
                    && let Some(node) = self.node.upgrade()
                {
                    node.look();
                }
                Err(e)
            }
        }
    }

    fn take(&mut self, request: &DeployRequest) -> Result<Taken, ServicesError> {
        let part = |e: &dyn std::fmt::Display| ServicesError::Part(e.to_string());
        let network = Network::open(self.data.path()).map_err(|e| part(&e))?;
        let network = network.trust().map_err(|e| part(&e))?;
        let base = self.state.plan.as_ref().map(|(digest, plan)| (*digest, plan.as_ref().clone()));
        let here = Here {
            base: base.as_ref(),
            network,
            node: self.state.name.as_deref(),
            now: Timestamp::now(),
        };
        let Accepted { digest, plan, node, approvers } = accept(request, &here)?;
        let wanted = wanted(&plan, digest, &node)?;
        self.check_secrets(request, &plan, &node)?;
        // The same plan again: what was given up is tried again by `resume`, not by this.
        if base.as_ref().is_some_and(|(base, _)| *base == digest) {
            let deploy = self.state.deploying.as_ref().map(|of| of.deploy.clone());
            let deploy = deploy.or_else(|| self.state.ended.as_ref().map(|of| of.deploy.clone()));
            let deploy = deploy.unwrap_or_default();
            return Ok(Taken { deploy, plan: digest, node, approvers });
        }
        let deploying = Deploying {
            deploy: random_name().map_err(|e| part(&e))?,
            by: request.by.clone(),
            approvers: approvers.clone(),
            begun: micros(Timestamp::now()),
            parent: plan.parent,
            plan: digest,
        };
        // Nothing but what the plan names: it was approved, and the rest was not.
        let named = plan.services.iter().filter_map(|entry| entry.secrets);
        for bytes in named.filter_map(|digest| request.sealed.get(&digest)) {
            self.desk.keep_sealed(bytes)?;
        }
        for entry in &plan.services {
            self.desk.keep_release(entry)?;
        }
        self.desk.keep_node(&node)?;
        let begun = DeployBegun {
            by: deploying.by.clone(),
            deploy: deploying.deploy.clone(),
            parent: deploying.parent,
            plan: digest,
        };
        let body = Body::DeployBegun(Box::new(begun));
        append(&self.data, |_, _| Ok(vec![body])).map_err(|e| part(&e))?;
        self.desk.keep_deploying(Some(&deploying))?;
        self.desk.keep_plan(&request.plan)?;
        self.end_deploy(DeployOutcome::Failed, "another plan took its place");
        let taken =
            Taken { deploy: deploying.deploy.clone(), plan: digest, node: node.clone(), approvers };
        self.state.name = Some(node);
        self.state.plan = Some((digest, Arc::new(plan)));
        self.state.deploying = Some(deploying);
        self.happened(What::Plan(wanted));
        Ok(taken)
    }

    /// Every service that runs here can be given its secrets.
    fn check_secrets(
        &self,
        request: &DeployRequest,
        plan: &ServicesPlan,
        node: &str,
    ) -> Result<(), ServicesError> {
        let Some(of_node) = plan.node(node) else { return Ok(()) };
        let here: BTreeSet<&str> =
            plan.slots_on(&of_node.name).map(|slot| slot.service.as_str()).collect();
        for entry in &plan.services {
            let service = entry.name().as_str();
            if !here.contains(service) {
                continue;
            }
            let fail = |why: String| ServicesError::Secrets { service: service.to_owned(), why };
            let Some(digest) = entry.secrets else {
                match entry.manifest.secrets.is_empty() {
                    true => continue,
                    false => {
                        return Err(fail("it requires some, and the plan names no file".into()));
                    }
                }
            };
            let sealed = match request.sealed.get(&digest).filter(|of| Digest::of(of) == digest) {
                Some(sealed) => sealed.clone(),
                None => {
                    let kept = self.desk.sealed(&digest)?;
                    kept.ok_or_else(|| fail(format!("the file {digest} was not sent")))?
                }
            };
            let opened = secrets::open(&self.data, &sealed).map_err(|e| fail(e.to_string()))?;
            let missing = opened.missing(&entry.manifest.secrets);
            let missing: Vec<&str> = missing.into_iter().map(|name| name.as_str()).collect();
            if !missing.is_empty() {
                return Err(fail(format!("{} not in the file", missing.join(", "))));
            }
        }
        Ok(())
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
