//! What is alive, and what may happen to it: `decide` and `evolve`.
//!
//! ```text
//!            submit            start               end
//!   (nothing) ---> accepted ---------> running ---------> ended: completed | failed | cancelled
//!                     |  cancel, expire, lost state          ^
//!                     +--------------------------------------+
//! ```
//!
//! A ledger holds tasks until they end and states until they are gone; what has ended is in the
//! log only. Bounds on how much may be alive are the caller's (`vyr-node`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use vyr_base::{Category, Digest, Problem};

use crate::event::{
    Accepted, Body, Bound, Event, Started, StateAccess, StateBinding, StateCreated, StateEnded,
    StateEnding,
};
use crate::ids::{Origin, StateId, TaskId};
use crate::keys::{KeyPrint, Keys, print_of};
use crate::statement::{Counted, NodeInfo, Predicate, Statement, TaskState, Timings, Usage};

/// Why a command is refused. Nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The key was used for something else.
    #[error("idempotency key was used before, for a different submission ({task})")]
    KeyReused {
        /// The task it made.
        task: TaskId,
    },
    /// No such task is alive.
    #[error("task {0} is not known")]
    NoTask(TaskId),
    /// The task has ended.
    #[error("task {0} has ended")]
    TaskEnded(TaskId),
    /// The task runs already.
    #[error("task {0} has begun to run")]
    TaskRuns(TaskId),
    /// No such state is alive.
    #[error("state {0} is gone or was never there")]
    NoState(StateId),
    /// The state belongs to somebody else.
    #[error("state {0} is not yours")]
    ForeignState(StateId),
    /// The task has one of this name, or does not declare it.
    #[error("task {task} has no unbound state {name:?}")]
    NoSuchBinding {
        /// The task.
        task: TaskId,
        /// The name of the state.
        name: String,
    },
    /// Two bindings of one name.
    #[error("state {0:?} is bound twice")]
    BoundTwice(String),
}

impl Problem for Refusal {
    fn category(&self) -> Category {
        match self {
            Self::NoTask(_) | Self::NoState(_) => Category::NotFound,
            Self::KeyReused { .. } | Self::TaskEnded(_) | Self::TaskRuns(_) => Category::Conflict,
            Self::ForeignState(_) => Category::Auth,
            Self::NoSuchBinding { .. } => Category::Conflict,
            Self::BoundTwice(_) => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::KeyReused { .. } => "use a new key for a new task".into(),
            Self::NoTask(_) => "vyr task ls shows what is there".into(),
            Self::TaskEnded(task) => format!("vyr task show {task}"),
            Self::TaskRuns(_) => "bind states before the task starts, or at its submission".into(),
            Self::NoState(_) => "make one: vyr state create NAME".into(),
            Self::ForeignState(_) => "make your own: vyr state create NAME".into(),
            Self::NoSuchBinding { .. } => {
                "the state's name must be one the artifact declares and not be bound yet".into()
            }
            Self::BoundTwice(_) => "bind each name once".into(),
        })
    }
}

/// How a task ended, as whoever ran it reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The terminal state.
    pub state: TaskState,
    /// Why it failed; `None` unless it did.
    pub reason: Option<String>,
    /// The guest's own exit code.
    pub exit_code: Option<i32>,
    /// The figure behind the reason. Cut to 400 characters.
    pub message: Option<String>,
    /// What it read; `None`: the input it was submitted with, which nobody read.
    pub input: Option<Counted>,
    /// What it wrote; `None`: nothing.
    pub output: Option<Counted>,
    /// What it used.
    pub usage: Usage,
}

impl Ending {
    /// The end of a task that never ran, or whose end nobody saw.
    pub fn unseen(state: TaskState, reason: Option<&str>, message: Option<&str>) -> Self {
        Self {
            state,
            reason: reason.map(str::to_owned),
            exit_code: None,
            message: message.map(str::to_owned),
            input: None,
            output: None,
            usage: Usage::default(),
        }
    }
}

/// What `submit` decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A new task; these events make it.
    New(Vec<Body>),
    /// The same submission was accepted before.
    Same(TaskId),
}

/// What `cancel` decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not begun; these events end it.
    Now(Vec<Body>),
    /// It runs; whoever runs it has to end it.
    Signal,
}

/// A task that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What was accepted, with the states bound since.
    pub accepted: Arc<Accepted>,
    /// When.
    pub accepted_at: Timestamp,
    /// Who runs it since when, if somebody does.
    pub running: Option<(String, Timestamp)>,
}

impl Task {
    /// Whether a declared state is not bound yet.
    pub fn awaits_binding(&self) -> bool {
        self.accepted.states.iter().any(|binding| binding.state.is_none())
    }
}

/// A state that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What was made.
    pub created: StateCreated,
    /// How many live tasks are bound to it.
    pub tasks: usize,
    /// When it was made or its last task ended.
    pub idle_since: Timestamp,
}

/// What is alive.
#[derive(Debug, Clone)]
pub struct Ledger {
    origin: Origin,
    next: u64,
    tasks: BTreeMap<u64, Task>,
    states: BTreeMap<u64, State>,
    keys: Keys,
    unseen: Option<Unseen>,
}

/// What events that were sealed and dropped began, and later ones speak of.
///
/// A range is sealed once all that began in it has ended, but the ends may lie behind it. From the
/// event that says so on, nothing of it is alive.
#[derive(Debug, Clone)]
struct Unseen {
    /// It began before this event.
    before: u64,
    /// Tasks whose end was seen, so that it is not seen twice.
    ended: BTreeSet<u64>,
}

impl Ledger {
    /// Of a journal that begins, or is loaded from, event `next`.
    pub fn new(origin: Origin, next: u64) -> Self {
        let (tasks, states, keys) = (BTreeMap::new(), BTreeMap::new(), Keys::default());
        Self { origin, next, tasks, states, keys, unseen: None }
    }

    /// Of a journal whose events before `next` were dropped, to be read from `next` on. What began
    /// among them is taken as it comes, until the event that sealed them.
    pub fn after_dropped(origin: Origin, next: u64) -> Self {
        let unseen = Some(Unseen { before: next, ended: BTreeSet::new() });
        Self { unseen, ..Self::new(origin, next) }
    }

    /// The journal's name.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The sequence number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The tasks that are alive, oldest first, by the event that accepted them.
    pub fn tasks(&self) -> &BTreeMap<u64, Task> {
        &self.tasks
    }

    /// The states that are alive, oldest first, by the event that made them.
    pub fn states(&self) -> &BTreeMap<u64, State> {
        &self.states
    }

    /// A live task by its name.
    pub fn task(&self, id: TaskId) -> Result<&Task, Refusal> {
        if !id.is_of(self.origin) || id.seq() >= self.next {
            return Err(Refusal::NoTask(id));
        }
        // It may also never have been a task; the caller who wants to know reads the log.
        self.tasks.get(&id.seq()).ok_or(Refusal::TaskEnded(id))
    }

    fn task_id(&self, seq: u64) -> TaskId {
        TaskId::new(self.origin, seq)
    }

    fn state(&self, id: StateId) -> Result<&State, Refusal> {
        let found = id.is_of(self.origin).then(|| self.states.get(&id.seq())).flatten();
        found.ok_or(Refusal::NoState(id))
    }

    /// The events of a submission, unless its key says that it is one of before. An operator may
    /// use everybody's states.
    pub fn submit(&self, wanted: Accepted, operator: bool) -> Result<Submitted, Refusal> {
        if let Some(print) = key_print(&wanted)
            && let Some((seq, request)) = self.keys.get(print.key)
        {
            let task = self.task_id(seq);
            return match request == print.request {
                true => Ok(Submitted::Same(task)),
                false => Err(Refusal::KeyReused { task }),
            };
        }
        for (n, binding) in wanted.states.iter().enumerate() {
            if wanted.states[..n].iter().any(|other| other.name == binding.name) {
                return Err(Refusal::BoundTwice(binding.name.clone()));
            }
            if let Some(id) = binding.state {
                self.may_use(id, &wanted.submitter, operator)?;
            }
        }
        Ok(Submitted::New(vec![Body::Accepted(Arc::new(wanted))]))
    }

    fn may_use(&self, id: StateId, submitter: &str, operator: bool) -> Result<(), Refusal> {
        let state = self.state(id)?;
        match operator || state.created.submitter == submitter {
            true => Ok(()),
            false => Err(Refusal::ForeignState(id)),
        }
    }

    /// Binds a state to a task that declares one of its name.
    pub fn bind(
        &self,
        task: TaskId,
        state: StateId,
        access: StateAccess,
        submitter: &str,
        operator: bool,
    ) -> Result<Vec<Body>, Refusal> {
        let found = self.task(task)?;
        if found.running.is_some() {
            return Err(Refusal::TaskRuns(task));
        }
        self.may_use(state, submitter, operator)?;
        let name = self.state(state)?.created.name.clone();
        match found.accepted.states.iter().find(|binding| binding.name == name) {
            Some(StateBinding { state: Some(bound), access: same, .. })
                if (*bound, *same) == (state, access) =>
            {
                Ok(Vec::new())
            }
            Some(StateBinding { state: None, .. }) => {
                Ok(vec![Body::Bound(Bound { access, state, task: task.seq() })])
            }
            _ => Err(Refusal::NoSuchBinding { task, name }),
        }
    }

    /// The event of a task that begins to run.
    pub fn start(&self, task: TaskId, owner: &str) -> Result<Body, Refusal> {
        if self.task(task)?.running.is_some() {
            return Err(Refusal::TaskRuns(task));
        }
        Ok(Body::Started(Started { owner: owner.to_owned(), task: task.seq() }))
    }

    /// The events of a task's end, and of the states that end with it.
    pub fn end(
        &self,
        task: TaskId,
        ending: Ending,
        node: &NodeInfo,
        now: Timestamp,
    ) -> Result<Vec<Body>, Refusal> {
        let found = self.task(task)?;
        let mut bodies = vec![Body::Ended(Box::new(statement(task, found, ending, node, now)))];
        for id in found.accepted.states.iter().filter_map(|binding| binding.state) {
            if self.states.get(&id.seq()).is_some_and(|state| state.tasks == 1) {
                let ended = StateEnded { reason: StateEnding::LastTask, state: id };
                bodies.push(Body::StateEnded(ended));
            }
        }
        Ok(bodies)
    }

    /// Cancels a task. One that has ended is a refusal that names it; the caller answers with its
    /// state.
    pub fn cancel(
        &self,
        task: TaskId,
        node: &NodeInfo,
        now: Timestamp,
    ) -> Result<Cancelled, Refusal> {
        if self.task(task)?.running.is_some() {
            return Ok(Cancelled::Signal);
        }
        let ending = Ending::unseen(TaskState::Cancelled, None, None);
        self.end(task, ending, node, now).map(Cancelled::Now)
    }

    /// The event of a new state.
    pub fn create_state(&self, created: StateCreated) -> Body {
        Body::StateCreated(created)
    }

    /// The event that ends a state to which nothing was bound for its idle time.
    pub fn expire_state(&self, id: StateId) -> Option<Body> {
        let idle = self.states.get(&id.seq()).is_some_and(|state| state.tasks == 0);
        idle.then_some(Body::StateEnded(StateEnded { reason: StateEnding::Idle, state: id }))
    }

    /// The events that a dead owner leaves to be said: what it ran is lost, and so is what it held.
    /// `alive` says of an owner whether its lock is held.
    ///
    /// A task that was only accepted stays, unless a state it is bound to died.
    pub fn recover(
        &self,
        alive: impl Fn(&str) -> bool,
        node: &NodeInfo,
        now: Timestamp,
    ) -> Vec<Body> {
        let mut bodies = Vec::new();
        let dead = |id: &StateId| {
            self.states.get(&id.seq()).is_none_or(|state| !alive(&state.created.owner))
        };
        for (seq, task) in &self.tasks {
            let ending = match &task.running {
                Some((owner, _)) if alive(owner) => continue,
                Some(_) => ("lost", "the process that ran it died"),
                None if task.accepted.states.iter().filter_map(|b| b.state).any(|id| dead(&id)) => {
                    ("state_lost", "the process that held its state died")
                }
                None => continue,
            };
            let ending = Ending::unseen(TaskState::Failed, Some(ending.0), Some(ending.1));
            let id = self.task_id(*seq);
            bodies.push(Body::Ended(Box::new(statement(id, task, ending, node, now))));
        }
        for (seq, state) in &self.states {
            if !alive(&state.created.owner) {
                let state = StateId::new(self.origin, *seq);
                bodies.push(Body::StateEnded(StateEnded { reason: StateEnding::Lost, state }));
            }
        }
        bodies
    }

    /// Takes in what happened. `Err` says why it cannot have happened; the ledger is as before.
    pub fn evolve(&mut self, event: &Event) -> Result<(), Impossible> {
        let seq = event.seq;
        if seq != self.next {
            return Err(Impossible { seq, why: format!("event {} is next", self.next) });
        }
        self.check(&event.body).map_err(|why| Impossible { seq, why })?;
        self.next = seq + 1;
        match &event.body {
            Body::Accepted(accepted) => {
                for id in accepted.states.iter().filter_map(|binding| binding.state) {
                    self.count(id, 1, event.time);
                }
                if let Some(print) = key_print(accepted) {
                    self.keys.insert(print, seq);
                }
                let task =
                    Task { accepted: Arc::clone(accepted), accepted_at: event.time, running: None };
                self.tasks.insert(seq, task);
            }
            Body::Bound(bound) => {
                if let Some(task) = self.tasks.get_mut(&bound.task) {
                    bind_in(&self.states, task, bound);
                }
                self.count(bound.state, 1, event.time);
            }
            Body::Started(started) => {
                if let Some(task) = self.tasks.get_mut(&started.task) {
                    task.running = Some((started.owner.clone(), event.time));
                }
            }
            Body::Ended(statement) => {
                let seq = statement.predicate.task_id.seq();
                if let Some(unseen) = &mut self.unseen
                    && seq < unseen.before
                {
                    unseen.ended.insert(seq);
                }
                if let Some(task) = self.tasks.remove(&seq) {
                    for id in task.accepted.states.iter().filter_map(|binding| binding.state) {
                        self.count(id, -1, event.time);
                    }
                }
            }
            Body::StateCreated(created) => {
                let state = State { created: created.clone(), tasks: 0, idle_since: event.time };
                self.states.insert(seq, state);
            }
            Body::StateEnded(ended) => {
                self.states.remove(&ended.state.seq());
            }
            Body::Sealed(sealed) => {
                // All of it had ended by now.
                self.unseen.take_if(|unseen| unseen.before <= sealed.before);
            }
            Body::Created(_)
            | Body::NodeStarted(_)
            | Body::NetworkEnded(_)
            | Body::NetworkMoved(_)
            | Body::NetworkRefused(_)
            | Body::DeployBegun(_)
            | Body::DeployEnded(_)
            | Body::DeployRefused(_)
            | Body::InstanceStarted(_)
            | Body::InstanceReady(_)
            | Body::InstanceEnded(_)
            | Body::SessionBegun(_)
            | Body::SessionEnded(_)
            | Body::SlotHalted(_)
            | Body::SlotResumed(_) => {}
        }
        Ok(())
    }

    fn count(&mut self, id: StateId, change: isize, at: Timestamp) {
        if let Some(state) = self.states.get_mut(&id.seq()) {
            state.tasks = state.tasks.saturating_add_signed(change);
            state.idle_since = at;
        }
    }

    /// Whether what began with event `seq` may be alive though nobody saw it begin.
    fn is_unseen(&self, seq: u64) -> bool {
        let unseen = self.unseen.as_ref();
        unseen.is_some_and(|unseen| seq < unseen.before && !unseen.ended.contains(&seq))
    }

    fn check(&self, body: &Body) -> Result<(), String> {
        let alive = |seq: u64| {
            self.tasks.get(&seq).ok_or_else(|| format!("task {} is not alive", self.task_id(seq)))
        };
        match body {
            Body::Created(created) if self.next != 0 || created.origin != self.origin => {
                Err("a journal is created once".into())
            }
            Body::Bound(bound) if self.is_unseen(bound.task) => Ok(()),
            Body::Bound(bound) => {
                let task = alive(bound.task)?;
                match task.running {
                    Some(_) => Err("a running task was bound to a state".into()),
                    None if self.is_unseen(bound.state.seq()) => Ok(()),
                    None => self.state(bound.state).map(|_| ()).map_err(|e| e.to_string()),
                }
            }
            Body::Started(started) if self.is_unseen(started.task) => Ok(()),
            Body::Started(started) => match alive(started.task)?.running {
                Some(_) => Err(format!("{} started twice", self.task_id(started.task))),
                None => Ok(()),
            },
            Body::Ended(statement) => {
                let id = statement.predicate.task_id;
                if !id.is_of(self.origin) {
                    return Err(format!("task {id} is of another journal"));
                }
                match self.is_unseen(id.seq()) {
                    true => Ok(()),
                    false => alive(id.seq()).map(|_| ()),
                }
            }
            Body::NetworkEnded(statement) if statement.predicate.node.origin != self.origin => {
                Err("a change of the network is of another journal".into())
            }
            Body::DeployEnded(statement) if statement.predicate.node.origin != self.origin => {
                Err("a deploy is of another journal".into())
            }
            Body::StateEnded(ended) if self.is_unseen(ended.state.seq()) => Ok(()),
            Body::StateEnded(ended) => {
                self.state(ended.state).map(|_| ()).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Takes in a live task as a view has it, when events are not read from the first one.
    pub fn restore_task(&mut self, seq: u64, task: Task) {
        for id in task.accepted.states.iter().filter_map(|binding| binding.state) {
            self.count(id, 1, task.accepted_at);
        }
        self.tasks.insert(seq, task);
    }

    /// Binds a state to a task that is about to be restored.
    pub fn restore_binding(&self, task: &mut Task, bound: &Bound) {
        bind_in(&self.states, task, bound);
    }

    /// The same of a state; before the tasks that are bound to it.
    pub fn restore_state(&mut self, seq: u64, created: StateCreated, at: Timestamp) {
        self.states.insert(seq, State { created, tasks: 0, idle_since: at });
    }

    /// The same of a recent submission's key, oldest first.
    pub fn restore_key(&mut self, print: KeyPrint, seq: u64) {
        self.keys.insert(print, seq);
    }
}

fn bind_in(states: &BTreeMap<u64, State>, task: &mut Task, bound: &Bound) {
    let Some(state) = states.get(&bound.state.seq()) else { return };
    for binding in &mut Arc::make_mut(&mut task.accepted).states {
        if binding.name == state.created.name {
            binding.state = Some(bound.state);
            binding.access = bound.access;
        }
    }
}

/// An event that cannot have happened after those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} cannot have happened: {why}")]
pub struct Impossible {
    /// The event.
    pub seq: u64,
    /// Why not.
    pub why: String,
}

/// What tells one submission from another; `None` for one without a key, which is always new.
pub fn key_print(accepted: &Accepted) -> Option<KeyPrint> {
    if accepted.key.is_empty() {
        return None;
    }
    let Accepted { artifact, deterministic, input, limits, priority, states, .. } = accepted;
    let key = print_of([accepted.submitter.as_bytes(), accepted.key.as_bytes()]);
    let numbers = [
        u64::from(*deterministic),
        limits.cpu_ms,
        limits.deadline_ms,
        limits.memory_bytes,
        limits.output_bytes_max,
        u64::from(priority.unsigned_abs()),
        u64::from(*priority < 0),
    ];
    let numbers = numbers.map(u64::to_le_bytes);
    let input = input.map_or(Digest::of(b"a stream"), |input| input.digest);
    // What a submission binds; what is bound later is not part of it.
    let bound = states.iter().flat_map(|binding| [binding.name.as_bytes()]);
    let request = print_of(
        [artifact.digest.as_bytes().as_slice(), input.as_bytes(), numbers.as_flattened()]
            .into_iter()
            .chain(bound),
    );
    Some(KeyPrint { key, request })
}

/// Characters of a message that are kept.
const MESSAGE_CHARS_MAX: usize = 400;

fn statement(
    id: TaskId,
    task: &Task,
    ending: Ending,
    node: &NodeInfo,
    now: Timestamp,
) -> Statement {
    let accepted = &task.accepted;
    let nothing = |complete| Counted { bytes: 0, complete, digest: Digest::of(b"") };
    let unread = || match accepted.input {
        Some(input) => Counted { bytes: input.bytes, complete: true, digest: input.digest },
        None => nothing(false),
    };
    Statement::of(Predicate {
        artifact: accepted.artifact.clone(),
        deterministic: accepted.deterministic,
        exit_code: ending.exit_code,
        input: ending.input.unwrap_or_else(unread),
        limits: accepted.limits,
        message: ending.message.map(|text| text.chars().take(MESSAGE_CHARS_MAX).collect()),
        node: node.clone(),
        output: ending.output.unwrap_or_else(|| nothing(true)),
        reason: ending.reason,
        signer: accepted.signer.clone(),
        state: ending.state,
        submitter: accepted.submitter.clone(),
        task_id: id,
        timings: Timings {
            accepted: task.accepted_at,
            ended: now,
            started: task.running.as_ref().map(|(_, at)| *at),
        },
        usage: ending.usage,
    })
}
