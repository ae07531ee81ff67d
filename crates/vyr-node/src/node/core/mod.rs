//! The core: one thread that owns the ledger and the journal.
//!
//! A turn takes all commands there are, decides each, starts what fits, and commits the events of
//! all of them at once. Only then come the effects: answers, orders, spans. If the commit fails,
//! nothing has happened: callers are told so, and what `tasks` reported is kept until it can be
//! written.

mod effects;
mod tasks;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};
use vyr_base::Digest;
use vyr_journal::{
    Body, EVENT_VERSION, Ending, Event, Ledger, Limits, NodeInfo, NodeStarted, Origin,
    SignedCheckpoint, StateAccess, StateCreated, StateId, TaskId,
};
use vyr_journal_sql::{AppendError, Entry, Journal};
use vyr_store::Store;
use vyr_task::{Outcome, SealedCode};

use super::admission::{Admission, Budget};
use super::artifacts::Known;
use super::error::NodeError;
use super::executor::{Host, Link};
use super::handle::{Caller, Snapshot, Submission, Waiting};
use super::inbox::Inbox;
use super::metrics::{Metrics, count};
use super::program::{Preparers, Programs};
use super::span::{Delivered, SpanFilter, Subscribers};
use crate::checkpoint_out::{CheckpointOut, Failing};
use crate::guidance::GuidanceReport;
use crate::process::wire::{Order, Report};

/// Inputs and outputs up to this size, in bytes, are in the journal, larger ones in the store.
pub const CONTENT_BYTES_MAX: usize = 64 << 10;

/// Inline inputs of waiting tasks that are kept in memory together; more are read again.
const INPUTS_BYTES_MAX: usize = 16 << 20;

/// At most one signed checkpoint in this time, while events arrive.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Time over a task's deadline in which `tasks` must report; then it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// When the journal could not be written, it is tried again after this.
const RETRY: Duration = Duration::from_millis(250);

/// While somebody else runs a task or holds a state, how often to look whether they still live.
const LOOK_AT_OWNERS: Duration = Duration::from_secs(1);

/// A restart of `tasks` waits this long for each that came shortly before, at most ten times.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Recent small contents that can be found by digest at once.
const CONTENTS_MAX: usize = 1 << 16;

/// What is kept of tasks that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many tasks keep their events, inputs and outputs.
    pub tasks: u64,
}

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What tasks that run may have together.
    pub budget: Budget,
    /// Tasks that may wait.
    pub queue_max: usize,
    /// What is kept.
    pub retention: Retention,
    /// How long a state lives to which nothing is bound.
    pub state_idle: Duration,
    /// Where each new checkpoint goes too, if anywhere.
    pub checkpoint_out: Option<CheckpointOut>,
    /// Whether tasks that were accepted before this node started are run by it.
    pub adopt: bool,
}

/// Checks an artifact that this process has not seen yet.
pub(crate) type CheckArtifact = Box<dyn Fn(&Digest) -> Result<Arc<Known>, String> + Send>;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, NodeError>>;

/// What the core is told.
#[derive(Debug)]
pub(crate) enum Command {
    Submit(Box<Submission>, Reply<TaskId>),
    Cancel(TaskId, Caller, Reply<()>),
    CreateState {
        name: String,
        bytes_max: u64,
        by: Caller,
        reply: Reply<StateId>,
    },
    BindState {
        task: TaskId,
        state: StateId,
        access: StateAccess,
        by: Caller,
        reply: Reply<()>,
    },
    Prepared {
        artifact: Digest,
        code: Result<SealedCode, (&'static str, String)>,
    },
    Report {
        generation: u64,
        report: Report,
        pipe: Option<OwnedFd>,
    },
    TasksGone {
        generation: u64,
    },
    InputFailed {
        task: u64,
        why: String,
    },
    Taken {
        task: u64,
        taken: Result<(Digest, u64), String>,
    },
    Subscribe(SpanFilter, oneshot::Sender<(mpsc::Receiver<Delivered>, u64)>),
    Checkpoint(Reply<SignedCheckpoint>),
    Snapshot(oneshot::Sender<Snapshot>),
    Waiting(u64, oneshot::Sender<Option<Waiting>>),
    Content(Digest, oneshot::Sender<Option<u64>>),
    Rebuild(Reply<(Digest, Digest)>),
    Guidance(oneshot::Sender<GuidanceReport>),
    /// Accept nothing more; end when nothing runs, at the latest at the given time.
    Stop(Instant),
}

/// What becomes of a turn once its commit is known.
enum Effect {
    /// Called with whether the commit held.
    Answer(Box<dyn FnOnce(Result<(), NodeError>) + Send>),
    /// Give a task to `tasks`.
    Dispatch(u64),
    /// A state was made, or is gone.
    MakeState(StateId, u64),
    DropState(StateId),
    /// A submission was accepted.
    Accepted(u64),
    /// A task ended: its event in the batch.
    Ended(usize, String),
}

/// A task that `tasks` has.
#[derive(Debug)]
struct Running {
    limits: Limits,
    artifact: Digest,
    /// When `tasks` must have reported its end.
    due: Option<Instant>,
    /// Its output comes through a pipe, and how far that is.
    spilled: Option<Option<Result<(Digest, u64), String>>>,
    /// Its outcome, which waits for the output.
    done: Option<(Box<Outcome>, Vec<u8>)>,
    /// Why its input could not be read.
    input_failed: Option<String>,
}

/// An end that has to be written.
#[derive(Debug)]
struct Unsaved {
    task: u64,
    ending: Ending,
    content: Option<Vec<u8>>,
    log: Option<Vec<u8>>,
}

impl Unsaved {
    /// The end that an entry says, if it says one: the commit that held it failed.
    fn of(entry: Entry) -> Option<Self> {
        let (event, content, log) = entry.into_parts();
        let Body::Ended(statement) = event.body else { return None };
        let told = statement.predicate;
        let ending = Ending {
            state: told.state,
            reason: told.reason,
            exit_code: told.exit_code,
            message: told.message,
            input: Some(told.input),
            output: Some(told.output),
            usage: told.usage,
        };
        Some(Self { task: told.task_id.seq(), ending, content, log })
    }
}

pub(crate) struct Core {
    pub(crate) config: NodeConfig,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told after each commit.
    pub(crate) changed: Arc<Notify>,
    pub(crate) origin: Origin,
    pub(crate) journal: Journal,
    pub(crate) ledger: Ledger,
    pub(crate) store: Store,
    pub(crate) info: NodeInfo,
    pub(crate) owner: String,
    pub(crate) key: ssh_key::PrivateKey,
    pub(crate) host: Box<dyn Host>,
    pub(crate) preparers: Preparers,
    pub(crate) known: CheckArtifact,
    pub(crate) alive: Box<dyn Fn(&str) -> bool + Send>,
    pub(crate) work: Work,
}

/// What the core remembers between turns besides the ledger.
pub(crate) struct Work {
    admission: Admission,
    programs: Programs,
    running: HashMap<u64, Running>,
    inputs: HashMap<u64, Bytes>,
    inputs_bytes: usize,
    contents: HashMap<Digest, u64>,
    contents_order: VecDeque<Digest>,
    subscribers: Subscribers,
    link: Option<Link>,
    /// Who asked for what `tasks` says of its guidance.
    guidance_for: Vec<oneshot::Sender<GuidanceReport>>,
    generation: u64,
    restarts: VecDeque<Instant>,
    restart_at: Option<Instant>,
    unsaved: Vec<Unsaved>,
    retry_at: Option<Instant>,
    /// When to look whether owners of tasks and states have died.
    look_at_owners: Option<Instant>,
    deadlines: BTreeSet<(Instant, u64)>,
    checkpointed: (u64, Instant),
    checkpoint_for: Vec<Reply<SignedCheckpoint>>,
    stopping: Option<Instant>,
    sealing: bool,
    /// Accepted tasks after which the retention is looked at again.
    look_at_retention: u64,
    last_checkpoint: Option<SignedCheckpoint>,
    /// Whether checkpoints get out.
    checkpoint_out: Failing,
    /// The keys of recent submissions are in the ledger.
    keys_known: bool,
    /// Submitted here; kept only by a node that does not adopt, which runs no others.
    mine: HashSet<u64>,
    // Of the turn that is under way.
    batch: Vec<Entry>,
    effects: Vec<Effect>,
}

impl Work {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            admission: Admission::new(budget),
            programs: Programs::default(),
            running: HashMap::new(),
            inputs: HashMap::new(),
            inputs_bytes: 0,
            contents: HashMap::new(),
            contents_order: VecDeque::new(),
            subscribers: Subscribers::default(),
            link: None,
            guidance_for: Vec::new(),
            generation: 0,
            restarts: VecDeque::new(),
            restart_at: None,
            unsaved: Vec::new(),
            retry_at: None,
            look_at_owners: None,
            deadlines: BTreeSet::new(),
            checkpointed: (0, Instant::now()),
            checkpoint_for: Vec::new(),
            stopping: None,
            sealing: false,
            look_at_retention: 0,
            last_checkpoint: None,
            checkpoint_out: Failing::default(),
            keys_known: false,
            mine: HashSet::new(),
            batch: Vec::new(),
            effects: Vec::new(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn unwritable(error: AppendError) -> NodeError {
    match error {
        AppendError::Journal(e) => e.into(),
        other => NodeError::Unwritable { why: other.to_string(), hint: None },
    }
}

/// Times in events are in microseconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

impl Core {
    /// Says what a dead owner left behind and that this one is here. Before the first turn.
    pub(crate) fn recover(&mut self) -> Result<(), NodeError> {
        if self.journal.lock()? {
            self.journal.catch_up(&mut self.ledger)?;
        }
        let alive = &self.alive;
        let bodies = self.ledger.recover(|owner| alive(owner), &self.info, now());
        if self.config.adopt {
            let started =
                NodeStarted { owner: self.owner.clone(), version: self.info.version.clone() };
            self.record(Body::NodeStarted(started), None, None);
        }
        for body in bodies {
            self.record(body, None, None);
        }
        let batch = std::mem::take(&mut self.work.batch);
        if batch.is_empty() {
            self.journal.unlock();
        } else {
            self.journal.append(&batch).map_err(unwritable)?;
        }
        if self.config.adopt {
            self.work.keys_known = true;
            self.adopt();
        }
        // One that was killed a moment ago may still hold its lock.
        self.work.look_at_owners = Some(Instant::now());
        Ok(())
    }

    /// Lines up the tasks that were accepted and have not begun.
    fn adopt(&mut self) {
        let waiting: Vec<u64> = self
            .ledger
            .tasks()
            .iter()
            .filter(|(seq, task)| task.running.is_none() && !self.work.running.contains_key(seq))
            .map(|(seq, _)| *seq)
            .collect();
        for task in waiting {
            self.line_up(task);
        }
    }

    /// The life of the core's thread.
    pub(crate) fn run(mut self) {
        self.start_tasks();
        let mut commands = Vec::new();
        loop {
            self.gather(&mut commands);
            if self.turn(&mut commands) {
                break;
            }
        }
        self.host.stop_tasks();
        // A last word on what is durable.
        let _ = self.checkpoint();
    }

    /// All that was said since the last turn; nothing when something else is due.
    fn gather(&mut self, commands: &mut Vec<Command>) {
        let until = self.next_moment();
        self.listen(commands);
        while commands.is_empty() && until.is_none_or(|until| Instant::now() < until) {
            let link = self.work.link.as_ref().and_then(Link::readable);
            let said = self.inbox.wait(link, until);
            self.inbox.take(commands);
            if said && let Some(link) = &mut self.work.link {
                link.read(commands);
            }
        }
    }

    fn listen(&mut self, commands: &mut Vec<Command>) {
        self.inbox.take(commands);
        if let Some(link) = &mut self.work.link {
            link.read(commands);
        }
    }

    /// When something has to be done though nobody says anything.
    fn next_moment(&self) -> Option<Instant> {
        let work = &self.work;
        let checkpoint = (work.checkpointed.0 < self.journal.size())
            .then(|| work.checkpointed.1 + CHECKPOINT_EVERY);
        let idle_state = self
            .ledger
            .states()
            .values()
            .any(|state| state.tasks == 0)
            .then(|| Instant::now() + Duration::from_secs(1));
        let sealing = work.sealing.then(Instant::now);
        [
            work.retry_at,
            work.restart_at,
            work.look_at_owners,
            work.stopping,
            work.deadlines.first().map(|(at, _)| *at),
            checkpoint,
            idle_state,
            sealing,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// One turn; `true`: the node has stopped.
    fn turn(&mut self, commands: &mut Vec<Command>) -> bool {
        let locked = match self.journal.lock() {
            Ok(behind) if behind => {
                self.work.look_at_owners.get_or_insert(Instant::now() + LOOK_AT_OWNERS);
                let read = self.journal.catch_up(&mut self.ledger);
                self.changed.notify_waiters();
                read.map_err(|e| e.into())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(NodeError::from(e)),
        };
        let mut failed = locked.err();
        // What is not written yet comes first: it happened first.
        for unsaved in std::mem::take(&mut self.work.unsaved) {
            self.end(unsaved);
        }
        for command in commands.drain(..) {
            self.handle(command);
        }
        self.moments();
        if failed.is_none() {
            self.admit();
            failed = self.commit().err();
        }
        match failed {
            None => self.perform(),
            Some(error) => self.undo(&error),
        }
        self.measure();
        self.work.stopping.is_some_and(|at| {
            let done = self.work.running.is_empty() && self.work.unsaved.is_empty();
            done || Instant::now() >= at
        })
    }

    fn commit(&mut self) -> Result<(), NodeError> {
        if self.work.batch.is_empty() {
            self.journal.unlock();
            return Ok(());
        }
        let began = Instant::now();
        self.journal.append(&self.work.batch).map_err(unwritable)?;
        count(&self.metrics.commits);
        self.metrics.commit_us.add(micros(began.elapsed()));
        Ok(())
    }

    /// Numbers an event and takes it into ledger and batch.
    fn record(&mut self, body: Body, content: Option<Vec<u8>>, log: Option<Vec<u8>>) -> u64 {
        let seq = self.ledger.next_seq();
        let event = Event { body, seq, time: now(), v: EVENT_VERSION };
        // What the ledger decides, it can take in.
        self.ledger.evolve(&event).unwrap_or_else(|e| panic!("decided the impossible: {e}"));
        self.work.batch.push(Entry::new(event, content, log));
        seq
    }

    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, NodeError>) {
        self.work.effects.push(Effect::Answer(Box::new(move |committed| {
            let _ = reply.send(committed.and(answer));
        })));
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Submit(submission, reply) => {
                let answer = self.submit(*submission);
                match &answer {
                    Ok(_) => {}
                    Err(NodeError::Overloaded { .. }) => count(&self.metrics.overloaded),
                    Err(_) => count(&self.metrics.refused),
                }
                self.answer(reply, answer);
            }
            Command::Cancel(task, by, reply) => {
                let answer = self.cancel(task, &by);
                self.answer(reply, answer);
            }
            Command::CreateState { name, bytes_max, by, reply } => {
                let owner = self.holding_owner();
                let created = StateCreated { bytes_max, name, owner, submitter: by.name };
                let body = self.ledger.create_state(created);
                let seq = self.record(body, None, None);
                let id = StateId::new(self.ledger.origin(), seq);
                self.work.effects.push(Effect::MakeState(id, bytes_max));
                self.answer(reply, Ok(id));
            }
            Command::BindState { task, state, access, by, reply } => {
                let answer = self.bind(task, state, access, &by);
                self.answer(reply, answer);
            }
            Command::Prepared { artifact, code } => self.prepared(artifact, code),
            Command::Report { generation, report, pipe } => {
                if self.work.link.as_ref().is_some_and(|link| link.generation == generation) {
                    self.report(report, pipe);
                }
            }
            Command::TasksGone { generation } => {
                if self.work.link.as_ref().is_some_and(|link| link.generation == generation) {
                    self.tasks_gone();
                }
            }
            Command::InputFailed { task, why } => {
                if let Some(running) = self.work.running.get_mut(&task) {
                    running.input_failed = Some(why);
                    self.order(&Order::Cancel { task });
                }
            }
            Command::Taken { task, taken } => {
                if let Some(running) = self.work.running.get_mut(&task) {
                    running.spilled = Some(Some(taken));
                    self.settle(task);
                }
            }
            Command::Subscribe(filter, reply) => {
                // What is committed by now is for a replay to show, what follows is not.
                let _ = reply.send((self.work.subscribers.add(filter), self.journal.size()));
            }
            // Signed at the end of the turn, over what the turn commits.
            Command::Checkpoint(reply) => self.work.checkpoint_for.push(reply),
            Command::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            Command::Waiting(task, reply) => {
                let _ = reply.send(self.waiting(task));
            }
            Command::Content(digest, reply) => {
                let _ = reply.send(self.work.contents.get(&digest).copied());
            }
            Command::Guidance(reply) => {
                if self.work.link.is_some() {
                    if self.work.guidance_for.is_empty() {
                        self.order(&Order::TellGuidance);
                    }
                    self.work.guidance_for.push(reply);
                } else {
                    let _ = reply.send(GuidanceReport::off("no process runs tasks"));
                }
            }
            Command::Rebuild(reply) => {
                // It has a transaction of its own; nothing of this turn is in it yet.
                self.journal.unlock();
                let _ = reply.send(self.journal.rebuild().map_err(NodeError::from));
            }
            Command::Stop(at) => self.work.stopping = Some(at),
        }
    }
}
