//! What follows a commit, and what follows one that failed.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vyr_journal::{Body, Checkpoint, Sealed, SignedCheckpoint, StateId, TaskId, root_at};
use vyr_journal_sql::Entry;

use super::{
    CHECKPOINT_EVERY, Core, Effect, LOOK_AT_OWNERS, RESTART_PAUSE, RETRY, Running, Unsaved, count,
    now,
};
use crate::checkpoint_out::CheckpointOut;
use crate::node::error::NodeError;
use crate::node::executor::Link;
use crate::node::handle::{Snapshot, Waiting};
use crate::node::program::Code;
use crate::node::span::{Ended, complete_span, execute_span, submit_span};
use crate::node::{input, metrics::Metrics};
use crate::process::wire::{InputFrom, Order, OutputTo, RunOrder};

impl Core {
    /// The commit held: do what it promised.
    pub(super) fn perform(&mut self) {
        let effects = std::mem::take(&mut self.work.effects);
        let batch = std::mem::take(&mut self.work.batch);
        let mut batch: Vec<Option<Entry>> = batch.into_iter().map(Some).collect();
        let watched = !self.work.subscribers.is_empty();
        // What a task's beginning looks like is worked out only if somebody wants to see it.
        let from_the_start = self.work.subscribers.want_all();
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Dispatch(task) => self.dispatch(task),
                Effect::MakeState(id, bytes_max) => {
                    self.order(&Order::MakeState { state: id.seq(), bytes_max });
                }
                Effect::DropState(id) => self.order(&Order::DropState { state: id.seq() }),
                Effect::Answer(answer) => answers.push(answer),
                Effect::Accepted(seq) => {
                    count(&self.metrics.accepted);
                    if from_the_start && let Some(task) = self.ledger.tasks().get(&seq) {
                        let id = TaskId::new(self.ledger.origin(), seq);
                        let span = submit_span(id, &task.accepted, task.accepted_at);
                        self.work.subscribers.publish(&span, &self.metrics.spans_dropped);
                    }
                }
                Effect::Ended(place, traceparent) if watched => {
                    let entry = batch.get_mut(place).and_then(Option::take);
                    if let Some((event, leaf)) = entry.map(Entry::into_event)
                        && let Body::Ended(statement) = event.body
                    {
                        let ended = Arc::new(Ended { seq: event.seq, statement: *statement, leaf });
                        if from_the_start && let Some(span) = execute_span(&ended, &traceparent) {
                            self.work.subscribers.publish(&span, &self.metrics.spans_dropped);
                        }
                        let span = complete_span(&ended, &traceparent);
                        self.work.subscribers.publish(&span, &self.metrics.spans_dropped);
                    }
                }
                Effect::Ended(..) => {}
            }
        }
        // Orders first: the guest starts while the answers go out.
        if let Some(link) = &mut self.work.link {
            link.flush();
        }
        for answer in answers {
            answer(Ok(()));
        }
        if !batch.is_empty() {
            self.changed.notify_waiters();
        }
        self.work.retry_at = None;
        self.checkpoints();
    }

    /// The commit failed: nothing of the turn has happened.
    pub(super) fn undo(&mut self, error: &NodeError) {
        let (why, hint) = (error.to_string(), vyr_base::Problem::hint(error));
        for effect in std::mem::take(&mut self.work.effects) {
            if let Effect::Answer(answer) = effect {
                answer(Err(NodeError::Unwritable { why: why.clone(), hint: hint.clone() }));
            }
        }
        for reply in std::mem::take(&mut self.work.checkpoint_for) {
            let _ = reply.send(Err(NodeError::Unwritable { why: why.clone(), hint: hint.clone() }));
        }
        // Their numbers may become another process's.
        self.work.mine.retain(|seq| *seq < self.journal.size());
        let batch = std::mem::take(&mut self.work.batch);
        self.work.unsaved = batch.into_iter().filter_map(Unsaved::of).collect();
        self.work.retry_at = Some(Instant::now() + RETRY);
        // Who was found dead in this turn is to be found again.
        self.work.look_at_owners = self.work.retry_at;
        self.journal.unlock();
        let reloaded = self.journal.ledger().and_then(|mut ledger| {
            self.journal.restore_keys(&mut ledger)?;
            Ok(ledger)
        });
        // If it cannot even be read, the next turn finds the ledger ahead of the journal, fails
        // to commit, and comes here again.
        if let Ok(ledger) = reloaded {
            self.ledger = ledger;
        }
        self.line_up_anew();
    }

    /// Makes the lines anew from the ledger: what started in a turn that failed has not.
    fn line_up_anew(&mut self) {
        let tasks = self.ledger.tasks();
        self.work
            .running
            .retain(|seq, _| tasks.get(seq).is_some_and(|task| task.running.is_some()));
        let running: Vec<(u64, vyr_journal::Limits)> =
            self.work.running.iter().map(|(seq, task)| (*seq, task.limits)).collect();
        self.work.admission = crate::node::admission::Admission::new(self.config.budget);
        for (seq, limits) in running {
            self.work.admission.running(seq, &limits);
        }
        self.work.programs.forget_waiting();
        let running = self.work.running.values().map(|task| task.artifact).collect::<Vec<_>>();
        for artifact in running {
            if let Some(program) = self.work.programs.get(&artifact) {
                program.alive += 1;
            }
        }
        // Inputs of submissions that were undone are not needed.
        let tasks = self.ledger.tasks();
        self.work.inputs.retain(|seq, _| tasks.contains_key(seq));
        self.work.inputs_bytes = self.work.inputs.values().map(bytes::Bytes::len).sum();
        let unsaved: Vec<u64> = self.work.unsaved.iter().map(|unsaved| unsaved.task).collect();
        let waiting: Vec<u64> = tasks
            .iter()
            .filter(|(seq, task)| task.running.is_none() && !unsaved.contains(seq))
            .filter(|(seq, _)| self.config.adopt || self.work.mine.contains(seq))
            .map(|(seq, _)| *seq)
            .collect();
        for task in waiting {
            self.line_up(task);
        }
    }

    /// Hands a task over to `tasks`.
    fn dispatch(&mut self, seq: u64) {
        let kept = self.take_input(seq);
        let Some(task) = self.ledger.tasks().get(&seq) else { return };
        let accepted = task.accepted.clone();
        let wanted = accepted.input;
        let states = accepted
            .states
            .iter()
            .filter_map(|binding| {
                let writable = binding.access == vyr_journal::StateAccess::ReadWrite;
                Some((binding.state?.seq(), binding.name.clone(), writable))
            })
            .collect();
        let mut pipe = None;
        let input = match (kept, wanted) {
            (Some(bytes), _) => InputFrom::Inline(bytes.to_vec()),
            (None, None) => InputFrom::Inline(Vec::new()),
            (None, Some(input)) if input.bytes == 0 => InputFrom::Inline(Vec::new()),
            (None, Some(input)) if input.inline => match self.content(seq, &input.digest) {
                Some(bytes) => InputFrom::Inline(bytes),
                None => {
                    return self.not_dispatched(seq, "its input is not in the journal any more");
                }
            },
            (None, Some(input)) => {
                match input::feed(&self.store, input.digest, seq, &self.inbox) {
                    Ok(reading) => pipe = Some(reading),
                    Err(e) => {
                        return self.not_dispatched(seq, &format!("cannot read its input: {e}"));
                    }
                }
                InputFrom::Descriptor
            }
        };
        let Some(program) = self.work.programs.get(&accepted.artifact.digest) else { return };
        let Some(link) = &mut self.work.link else { return };
        if program.loaded_in != Some(link.generation)
            && let Code::Ready(code) = &program.code
        {
            let manifest = &program.known.manifest;
            let args = std::iter::once(manifest.name())
                .map(String::from)
                .chain(manifest.args().iter().cloned())
                .collect();
            let env = manifest.env().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let load = Order::Load { program: program.number, kind: code.kind(), args, env };
            link.order(&load, &[code.as_fd()]);
            program.loaded_in = Some(link.generation);
        }
        let limits = &accepted.limits;
        let order = Order::Run(RunOrder {
            task: seq,
            program: program.number,
            limits: vyr_task::Limits {
                memory_bytes: limits.memory_bytes,
                deadline_ms: limits.deadline_ms,
                cpu_ms: limits.cpu_ms,
                output_bytes_max: limits.output_bytes_max,
            },
            deterministic: accepted.deterministic,
            priority: accepted.priority,
            input,
            output: OutputTo::Report,
            states,
        });
        match &pipe {
            Some(pipe) => link.order(&order, &[pipe.as_fd()]),
            None => link.order(&order, &[]),
        }
    }

    /// Its start is on the disk, but it cannot be given to `tasks`: it fails in the next turn.
    fn not_dispatched(&mut self, seq: u64, why: &str) {
        if let Some(running) = self.work.running.remove(&seq) {
            if let Some(due) = running.due {
                self.work.deadlines.remove(&(due, seq));
            }
            self.left(seq, &running.artifact);
        }
        let ending =
            vyr_journal::Ending::unseen(vyr_journal::TaskState::Failed, Some("input"), Some(why));
        self.work.unsaved.push(Unsaved { task: seq, ending, content: None, log: None });
        self.work.retry_at = Some(Instant::now());
    }

    /// The small content with this digest: that of the task's own event, a recent one, or any.
    fn content(&self, seq: u64, digest: &vyr_base::Digest) -> Option<Vec<u8>> {
        let reader = self.journal.reader().ok()?;
        let right = |bytes: &Vec<u8>| vyr_base::Digest::of(bytes) == *digest;
        let at = |seq: u64| reader.content_at(seq).ok().flatten().filter(right);
        at(seq)
            .or_else(|| self.work.contents.get(digest).and_then(|seq| at(*seq)))
            .or_else(|| reader.find_content(digest).ok().flatten())
    }

    pub(super) fn order(&mut self, order: &Order) {
        if let Some(link) = &mut self.work.link {
            link.order(order, &[]);
        }
    }

    /// Who a task says it runs under: this process's lock, and which life of `tasks`.
    pub(super) fn running_owner(&self) -> String {
        format!("{}.{}", self.owner, self.work.generation)
    }

    /// Who holds a state that is made now: the present life of `tasks`, or the one to come.
    pub(super) fn holding_owner(&self) -> String {
        let to_come = u64::from(self.work.link.is_none());
        format!("{}.{}", self.owner, self.work.generation + to_come)
    }

    pub(super) fn start_tasks(&mut self) {
        let generation = self.work.generation + 1;
        self.work.restart_at = None;
        let started = self.host.start_tasks().and_then(|socket| Link::new(socket, generation));
        match started {
            Ok(link) => {
                self.work.generation = generation;
                self.work.link = Some(link);
            }
            Err(_) => return self.pause_before_restart(),
        }
        // Those that were made for it before it was there.
        let owner = self.running_owner();
        let held = self.ledger.states().iter().filter(|(_, state)| state.created.owner == owner);
        let orders: Vec<Order> = held
            .map(|(seq, state)| Order::MakeState {
                state: *seq,
                bytes_max: state.created.bytes_max,
            })
            .collect();
        for order in orders {
            self.order(&order);
        }
    }

    fn pause_before_restart(&mut self) {
        let now = Instant::now();
        self.work.restarts.push_back(now);
        while self.work.restarts.front().is_some_and(|at| now - *at > Duration::from_secs(10)) {
            self.work.restarts.pop_front();
        }
        let recent = u32::try_from(self.work.restarts.len().saturating_sub(1).min(10)).unwrap_or(0);
        self.work.restart_at = Some(now + RESTART_PAUSE * recent);
    }

    /// The process `tasks` died: what it ran is lost, and so are the states it held.
    pub(super) fn tasks_gone(&mut self) {
        count(&self.metrics.restarts);
        self.work.link = None;
        self.work.guidance_for.clear();
        let running: HashMap<u64, Running> = std::mem::take(&mut self.work.running);
        // Those that wait for a state keep theirs.
        self.work.deadlines.retain(|(_, seq)| !running.contains_key(seq));
        for (seq, task) in running {
            self.left(seq, &task.artifact);
        }
        self.bury();
        self.pause_before_restart();
    }

    /// Whether the owner of a task or a state lives: our own lives of `tasks` by their number, others
    /// by their lock.
    fn owner_lives(&self, owner: &str) -> bool {
        match owner.split_once('.') {
            Some((name, generation)) if name == self.owner => {
                let first = self.work.generation + u64::from(self.work.link.is_none());
                generation.parse::<u64>().is_ok_and(|generation| generation >= first)
            }
            _ => (self.alive)(owner),
        }
    }

    /// Ends what dead owners left: tasks they ran, and states they held. Looks again while there
    /// are others, which may die without a word.
    fn bury(&mut self) {
        self.work.look_at_owners = None;
        let (tasks, states) = (self.ledger.tasks().values(), self.ledger.states().values());
        let owners: BTreeSet<String> = tasks
            .filter_map(|task| task.running.as_ref().map(|(owner, _)| owner.clone()))
            .chain(states.map(|state| state.created.owner.clone()))
            .collect();
        let (alive, dead): (Vec<_>, Vec<_>) =
            owners.into_iter().partition(|owner| self.owner_lives(owner));
        let ours = |owner: &String| owner.split('.').next() == Some(&self.owner);
        if !alive.iter().all(ours) {
            self.work.look_at_owners = Some(Instant::now() + LOOK_AT_OWNERS);
        }
        if dead.is_empty() {
            return;
        }
        let dead = |owner: &str| dead.iter().any(|other| other == owner);
        let bodies = self.ledger.recover(|owner| !dead(owner), &self.info, now());
        for body in bodies {
            match &body {
                Body::Ended(statement) => {
                    let predicate = &statement.predicate;
                    let ending = vyr_journal::Ending::unseen(
                        predicate.state,
                        predicate.reason.as_deref(),
                        predicate.message.as_deref(),
                    );
                    let task = predicate.task_id.seq();
                    self.end(Unsaved { task, ending, content: None, log: None });
                }
                // It may have ended with the last of its tasks, above.
                Body::StateEnded(ended)
                    if self.ledger.states().contains_key(&ended.state.seq()) =>
                {
                    self.record(body, None, None);
                }
                _ => {}
            }
        }
    }

    /// What is due though nobody said anything.
    pub(super) fn moments(&mut self) {
        let instant = Instant::now();
        if self.work.look_at_owners.is_some_and(|at| at <= instant) {
            self.bury();
        }
        if self.work.restart_at.is_some_and(|at| at <= instant) && self.work.stopping.is_none() {
            self.start_tasks();
        }
        let mut hung = false;
        while let Some((at, seq)) = self.work.deadlines.first().copied() {
            if at > instant {
                break;
            }
            self.work.deadlines.pop_first();
            if self.work.running.contains_key(&seq) {
                hung = true;
            } else if self.ledger.tasks().get(&seq).is_some_and(|task| task.awaits_binding()) {
                self.fail(seq, "deadline", "a declared state was not bound before its deadline");
            }
        }
        if hung {
            // It did not end a task in time, so nothing it says counts any more.
            self.host.stop_tasks();
            self.tasks_gone();
        }
        let idle = self.config.state_idle;
        let idle = jiff::SignedDuration::try_from(idle).unwrap_or_default();
        let limit = now().checked_sub(idle).ok();
        let expired: Vec<StateId> = self
            .ledger
            .states()
            .iter()
            .filter(|(_, state)| state.tasks == 0 && limit.is_some_and(|at| state.idle_since < at))
            .map(|(seq, _)| StateId::new(self.ledger.origin(), *seq))
            .collect();
        for id in expired {
            if let Some(body) = self.ledger.expire_state(id) {
                self.record(body, None, None);
                self.work.effects.push(Effect::DropState(id));
            }
        }
        self.retain();
    }

    /// Seals what is older than is kept, and drops sealed bytes a piece at a time.
    fn retain(&mut self) {
        let most = self.config.retention.tasks;
        if self.metrics.accepted.load(Ordering::Relaxed) >= self.work.look_at_retention {
            self.work.look_at_retention += most / 4 + 1;
            // A quarter more than is kept, so that sealing is rare.
            if let Ok(Some(before)) = self.journal.seal_point(most, &self.ledger)
                && let Ok(reader) = self.journal.reader()
                && let Ok(root) = root_at(before, &reader)
                && let Ok(views) = self.journal.view_digest(before)
            {
                self.record(Body::Sealed(Sealed { before, root, views }), None, None);
                self.work.sealing = true;
            }
        }
    }

    /// Signs a checkpoint when somebody asked for one or it is time.
    fn checkpoints(&mut self) {
        if self.work.sealing {
            self.work.sealing = self.journal.drop_sealed().unwrap_or(false);
        }
        let asked = std::mem::take(&mut self.work.checkpoint_for);
        let (size, at) = self.work.checkpointed;
        let due = size < self.journal.size() && at.elapsed() >= CHECKPOINT_EVERY;
        if !due && asked.is_empty() {
            return;
        }
        if self.work.guidance_for.is_empty() {
            // As often, for the metrics: while nothing happens nobody is asked.
            self.order(&Order::TellGuidance);
        }
        let signed = self.checkpoint();
        if signed.is_err() {
            // Not at once again: a full disk does not get emptier by trying.
            self.work.checkpointed.1 = Instant::now();
        }
        for reply in asked {
            let answer = match &signed {
                Ok(signed) => Ok(signed.clone()),
                Err(e) => Err(NodeError::Unwritable {
                    why: e.to_string(),
                    hint: vyr_base::Problem::hint(e),
                }),
            };
            let _ = reply.send(answer);
        }
    }

    /// The checkpoint over all that is durable, signed now if it was not before.
    pub(super) fn checkpoint(&mut self) -> Result<SignedCheckpoint, NodeError> {
        let size = self.journal.size();
        if self.work.checkpointed.0 == size
            && let Some(signed) = &self.work.last_checkpoint
        {
            return Ok(signed.clone());
        }
        let checkpoint =
            Checkpoint { origin: self.journal.origin(), size, root: self.journal.root() };
        let signed = checkpoint.sign(&self.key).map_err(crate::report::Report::from)?;
        self.journal.keep_checkpoint(&signed)?;
        self.hand_out(&signed);
        count(&self.metrics.checkpoints);
        self.work.checkpointed = (size, Instant::now());
        self.work.last_checkpoint = Some(signed.clone());
        Ok(signed)
    }

    /// Gives a copy to elsewhere: that it does not get there is no reason to stop.
    fn hand_out(&mut self, signed: &SignedCheckpoint) {
        let bytes = signed.to_bytes();
        let failed = match &self.config.checkpoint_out {
            None => return,
            Some(CheckpointOut::File(path)) => crate::data_dir::replace(path, &bytes)
                .err()
                .map(|e| format!("{}: {e}", path.display())),
            Some(CheckpointOut::Command(_)) => {
                self.host.keep_checkpoint(&bytes).err().map(|e| e.to_string())
            }
        };
        if failed.is_some() {
            count(&self.metrics.checkpoints_unwritten);
        }
        if let Some(said) = self.work.checkpoint_out.note(failed) {
            eprintln!("vyr api: {said}");
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let used = self.work.admission.used();
        Snapshot {
            events: self.journal.size(),
            queued: self.ledger.tasks().len().saturating_sub(self.work.running.len()),
            running: self.work.running.len(),
            states: self
                .ledger
                .states()
                .iter()
                .map(|(seq, state)| (StateId::new(self.ledger.origin(), *seq), state.clone()))
                .collect(),
            used,
        }
    }

    pub(super) fn waiting(&mut self, seq: u64) -> Option<Waiting> {
        let task = self.ledger.tasks().get(&seq)?;
        if task.running.is_some() {
            return None;
        }
        if task.awaits_binding() {
            return Some(Waiting::Binding);
        }
        let artifact = task.accepted.artifact.digest;
        match self.work.programs.get(&artifact).map(|program| &program.code) {
            Some(Code::Ready(_)) => Some(Waiting::Room),
            _ => Some(Waiting::Program),
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn measure(&self) {
        let Metrics { queued, running, reserved_bytes, states, events, .. } = &*self.metrics;
        let set = |gauge: &std::sync::atomic::AtomicU64, value: usize| {
            gauge.store(value as u64, Ordering::Relaxed);
        };
        set(queued, self.ledger.tasks().len().saturating_sub(self.work.running.len()));
        set(running, self.work.running.len());
        set(states, self.ledger.states().len());
        reserved_bytes.store(self.work.admission.used().memory_bytes, Ordering::Relaxed);
        events.store(self.journal.size(), Ordering::Relaxed);
    }
}
