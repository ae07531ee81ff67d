//! What happens to a task, command by command. Everything here is before the commit.

use std::time::Instant;

use bytes::Bytes;
use vyr_base::Digest;
use vyr_journal::{
    Accepted, ArtifactRef, Body, Cancelled, Counted, Ending, InputRef, Refusal, SignerRef,
    StateAccess, StateBinding, StateId, Submitted, TaskId, TaskState, Usage,
};
use vyr_task::{Outcome, SealedCode, State};

use super::{
    CONTENT_BYTES_MAX, CONTENTS_MAX, Core, Effect, INPUTS_BYTES_MAX, Running, Unsaved, count, now,
};
use crate::node::error::NodeError;
use crate::node::handle::{Caller, Submission, SubmittedInput};
use crate::node::program::Code;
use crate::process::wire::Order;

/// What a client waits before it comes back, for each thousand tasks that wait.
const RETRY_MS_PER_THOUSAND: u64 = 50;

impl Core {
    pub(super) fn submit(&mut self, submission: Submission) -> Result<TaskId, NodeError> {
        if self.work.stopping.is_some() {
            return Err(NodeError::Stopping);
        }
        let waiting = self.ledger.tasks().len().saturating_sub(self.work.running.len());
        if waiting >= self.config.queue_max {
            let millis = (waiting as u64).div_ceil(1000) * RETRY_MS_PER_THOUSAND;
            let retry_after = std::time::Duration::from_millis(millis.max(RETRY_MS_PER_THOUSAND));
            return Err(NodeError::Overloaded { waiting, retry_after });
        }
        if !self.work.keys_known && !submission.key.is_empty() {
            // A node that does not adopt reads them when the first key comes.
            self.journal.restore_keys(&mut self.ledger)?;
            self.work.keys_known = true;
        }
        let Submission { known, key, input, limits, priority, deterministic, .. } = submission;
        let (input, content) = match input {
            SubmittedInput::Inline(bytes) => {
                let length = bytes.len() as u64;
                (InputRef { bytes: length, digest: Digest::of(&bytes), inline: true }, Some(bytes))
            }
            SubmittedInput::Stored { digest, bytes, inline } => {
                (InputRef { bytes, digest, inline }, None)
            }
        };
        let manifest = &known.manifest;
        let mut states: Vec<StateBinding> = Vec::new();
        for (id, access) in submission.states {
            let state = self.ledger.states().get(&id.seq());
            let name = state.ok_or(Refusal::NoState(id))?.created.name.clone();
            states.push(StateBinding { access, name, state: Some(id) });
        }
        for name in manifest.states() {
            if !states.iter().any(|binding| binding.name == *name) {
                let access = StateAccess::ReadWrite;
                states.push(StateBinding { access, name: name.clone(), state: None });
            }
        }
        let accepted = Accepted {
            artifact: ArtifactRef { digest: manifest.digest(), name: manifest.name().to_owned() },
            deterministic,
            input: Some(input),
            key,
            limits,
            priority,
            signer: SignerRef {
                dev: known.signer.dev,
                key_id: known.signer.key_id.to_string(),
                principal: known.signer.principal.clone(),
            },
            states,
            submitter: submission.by.name,
            traceparent: submission.traceparent,
        };
        let artifact = accepted.artifact.digest;
        let bodies = match self.ledger.submit(accepted, submission.by.operator)? {
            Submitted::Same(task) => return Ok(task),
            Submitted::New(bodies) => bodies,
        };
        let seq = self.ledger.next_seq();
        let mut stored = content.as_ref().map(|bytes| bytes.to_vec());
        for body in bodies {
            self.record(body, stored.take(), None);
        }
        if let Some(bytes) = content {
            self.remember_content(input.digest, seq);
            self.keep_input(seq, bytes);
        }
        // A program that is not there yet is made ready with what was just checked.
        if self.work.programs.get(&artifact).is_none()
            && let Some(gone) = self.work.programs.add(artifact, known.clone())
        {
            self.order(&Order::Unload { program: gone });
            self.preparers.ask(artifact, known.manifest.wasm().digest);
        } else if let Some(program) = self.work.programs.get(&artifact)
            && program.alive == 0
            && program.waiting.is_empty()
            && matches!(program.code, Code::OnItsWay)
        {
            self.preparers.ask(artifact, known.manifest.wasm().digest);
        }
        self.work.effects.push(Effect::Accepted(seq));
        if !self.config.adopt {
            self.work.mine.insert(seq);
        }
        self.line_up(seq);
        Ok(TaskId::new(self.ledger.origin(), seq))
    }

    /// Keeps an inline input in memory for its task, if there is room.
    fn keep_input(&mut self, task: u64, bytes: Bytes) {
        if self.work.inputs_bytes + bytes.len() <= INPUTS_BYTES_MAX {
            self.work.inputs_bytes += bytes.len();
            self.work.inputs.insert(task, bytes);
        }
    }

    pub(super) fn take_input(&mut self, task: u64) -> Option<Bytes> {
        let bytes = self.work.inputs.remove(&task)?;
        self.work.inputs_bytes -= bytes.len();
        Some(bytes)
    }

    fn remember_content(&mut self, digest: Digest, seq: u64) {
        if self.work.contents.insert(digest, seq).is_none() {
            self.work.contents_order.push_back(digest);
            if self.work.contents_order.len() > CONTENTS_MAX
                && let Some(oldest) = self.work.contents_order.pop_front()
            {
                self.work.contents.remove(&oldest);
            }
        }
    }

    /// Puts an accepted task where it belongs: to those that wait for a state, for their program,
    /// or for room.
    pub(super) fn line_up(&mut self, seq: u64) {
        let Some(task) = self.ledger.tasks().get(&seq) else { return };
        if task.awaits_binding() {
            let deadline = std::time::Duration::from_millis(task.accepted.limits.deadline_ms);
            if let Some(at) = Instant::now().checked_add(deadline) {
                self.work.deadlines.insert((at, seq));
            }
            return;
        }
        let (accepted, artifact) = (task.accepted.clone(), task.accepted.artifact.digest);
        let Some(program) = self.work.programs.get(&artifact) else {
            // After a restart: nobody has checked the artifact in this process yet.
            match (self.known)(&artifact) {
                Ok(known) => {
                    let wasm = known.manifest.wasm().digest;
                    if let Some(gone) = self.work.programs.add(artifact, known) {
                        self.order(&Order::Unload { program: gone });
                    }
                    self.preparers.ask(artifact, wasm);
                    self.line_up(seq);
                }
                Err(why) => self.fail(seq, "refused", &why),
            }
            return;
        };
        match &program.code {
            Code::OnItsWay => program.waiting.push(seq),
            Code::Ready(_) => {
                program.alive += 1;
                self.work.admission.ready(seq, accepted.priority, &accepted.limits);
            }
            Code::Failed(reason, why) => {
                let (reason, why) = (*reason, why.clone());
                self.fail(seq, reason, &why);
            }
        }
    }

    /// Ends a task that nothing ran.
    pub(super) fn fail(&mut self, task: u64, reason: &str, why: &str) {
        let ending = Ending::unseen(TaskState::Failed, Some(reason), Some(why));
        self.end(Unsaved { task, ending, content: None, log: None });
    }

    pub(super) fn prepared(
        &mut self,
        artifact: Digest,
        code: Result<SealedCode, (&'static str, String)>,
    ) {
        let Some(program) = self.work.programs.get(&artifact) else { return };
        program.code = match code {
            Ok(code) => Code::Ready(code),
            Err((reason, why)) => Code::Failed(reason, why),
        };
        let waiting = std::mem::take(&mut program.waiting);
        let forget = matches!(program.code, Code::Failed("internal", _));
        for task in waiting {
            self.line_up(task);
        }
        if forget {
            // Not the artifact's fault: the next submission tries again.
            self.work.programs.remove(&artifact);
        }
    }

    pub(super) fn cancel(&mut self, task: TaskId, by: &Caller) -> Result<(), NodeError> {
        let submitter = &self.ledger.task(task)?.accepted.submitter;
        if !by.operator && *submitter != by.name {
            return Err(Refusal::NoTask(task).into());
        }
        match self.ledger.cancel(task, &self.info, now())? {
            Cancelled::Signal => self.order(&Order::Cancel { task: task.seq() }),
            Cancelled::Now(_) => {
                let ending = Ending::unseen(TaskState::Cancelled, None, None);
                self.end(Unsaved { task: task.seq(), ending, content: None, log: None });
            }
        }
        Ok(())
    }

    pub(super) fn bind(
        &mut self,
        task: TaskId,
        state: StateId,
        access: StateAccess,
        by: &Caller,
    ) -> Result<(), NodeError> {
        let submitter = &self.ledger.task(task)?.accepted.submitter;
        if !by.operator && *submitter != by.name {
            return Err(Refusal::NoTask(task).into());
        }
        let bodies = self.ledger.bind(task, state, access, &by.name, by.operator)?;
        for body in bodies {
            self.record(body, None, None);
        }
        let seq = task.seq();
        if self.ledger.tasks().get(&seq).is_some_and(|task| !task.awaits_binding()) {
            self.work.deadlines.retain(|(_, other)| *other != seq);
            self.line_up(seq);
        }
        Ok(())
    }

    /// Starts what fits.
    pub(super) fn admit(&mut self) {
        if self.work.link.is_none() || self.work.stopping.is_some() {
            return;
        }
        let owner = self.running_owner();
        while let Some(seq) = self.work.admission.next() {
            let id = TaskId::new(self.ledger.origin(), seq);
            let Ok(body) = self.ledger.start(id, &owner) else {
                self.work.admission.ended(seq);
                continue;
            };
            let task = &self.ledger.tasks()[&seq];
            let limits = task.accepted.limits;
            let deadline = std::time::Duration::from_millis(limits.deadline_ms);
            let running = Running {
                limits,
                artifact: task.accepted.artifact.digest,
                due: Instant::now().checked_add(deadline + super::GRACE),
                spilled: None,
                done: None,
                input_failed: None,
            };
            let waited = now().as_microsecond() - task.accepted_at.as_microsecond();
            self.metrics.wait_us.add(waited.max(0).unsigned_abs());
            if let Some(due) = running.due {
                self.work.deadlines.insert((due, seq));
            }
            self.record(body, None, None);
            self.work.running.insert(seq, running);
            self.work.effects.push(Effect::Dispatch(seq));
        }
    }

    pub(super) fn report(
        &mut self,
        report: crate::process::wire::Report,
        pipe: Option<std::os::fd::OwnedFd>,
    ) {
        use crate::process::wire::Report;
        match report {
            Report::Spilled { task } => {
                let Some(running) = self.work.running.get_mut(&task) else { return };
                running.spilled = Some(None);
                let taken = match pipe {
                    Some(pipe) => crate::node::input::take(&self.store, pipe, task, &self.inbox),
                    None => Err(std::io::Error::other("no pipe beside it")),
                };
                if let Err(e) = taken {
                    running.spilled = Some(Some(Err(format!("cannot store the output: {e}"))));
                    self.order(&Order::Cancel { task });
                }
            }
            Report::Guidance(report) => {
                self.metrics.guidance().take(&report);
                for reply in self.work.guidance_for.drain(..) {
                    let _ = reply.send((*report).clone());
                }
            }
            Report::Done { task, mut outcome, output, log } => {
                let Some(running) = self.work.running.get_mut(&task) else { return };
                outcome.output = output;
                running.done = Some((outcome, log));
                self.settle(task);
            }
        }
    }

    /// Ends a task of which all is known: how it ended, and what it wrote.
    pub(super) fn settle(&mut self, task: u64) {
        let Some(running) = self.work.running.get(&task) else { return };
        if running.done.is_none() || matches!(running.spilled, Some(None)) {
            return;
        }
        let Some(running) = self.work.running.remove(&task) else { return };
        if let Some(due) = running.due {
            self.work.deadlines.remove(&(due, task));
        }
        let Some((mut outcome, log)) = running.done else { return };
        self.metrics.run_us.add(outcome.usage.run_us);
        let (output, content) = match running.spilled {
            Some(Some(Ok((digest, bytes)))) => {
                (Ok(Counted { bytes, complete: true, digest }), None)
            }
            Some(Some(Err(why))) => (Err(why), None),
            _ => {
                let bytes = outcome.output.len() as u64;
                let digest = Digest::of(&outcome.output);
                let content = std::mem::take(&mut outcome.output);
                (Ok(Counted { bytes, complete: true, digest }), Some(content))
            }
        };
        let mut ending = ending_of(&outcome);
        match output {
            Ok(output) => ending.output = Some(output),
            Err(why) => {
                ending.state = TaskState::Failed;
                ending.reason = Some("internal".into());
                ending.message = Some(why);
            }
        }
        if let Some(why) = running.input_failed {
            ending.state = TaskState::Failed;
            ending.reason = Some("input".into());
            ending.message = Some(why);
        }
        let content = content.filter(|bytes| bytes.len() <= CONTENT_BYTES_MAX);
        let log = (!log.is_empty()).then_some(log);
        self.left(task, &running.artifact);
        self.end(Unsaved { task, ending, content, log });
    }

    /// A task does not run any more.
    pub(super) fn left(&mut self, task: u64, artifact: &Digest) {
        self.work.admission.ended(task);
        if let Some(program) = self.work.programs.get(artifact) {
            program.alive = program.alive.saturating_sub(1);
        }
    }

    /// Writes a task's end. What cannot be committed now is kept for later (`undo`).
    pub(super) fn end(&mut self, unsaved: Unsaved) {
        let Unsaved { task, ending, mut content, mut log } = unsaved;
        let Some(alive) = self.ledger.tasks().get(&task) else { return };
        let accepted = alive.accepted.clone();
        let id = TaskId::new(self.ledger.origin(), task);
        let Ok(bodies) = self.ledger.end(id, ending, &self.info, now()) else { return };
        self.work.mine.remove(&task);
        // It may still stand in a line, when it is cancelled there.
        self.work.admission.remove(task, accepted.priority);
        if let Some(program) = self.work.programs.get(&accepted.artifact.digest) {
            program.waiting.retain(|other| *other != task);
        }
        self.take_input(task);
        for body in bodies {
            match &body {
                Body::Ended(statement) => {
                    let predicate = &statement.predicate;
                    count(match predicate.state {
                        TaskState::Completed => &self.metrics.completed,
                        TaskState::Failed => &self.metrics.failed,
                        TaskState::Cancelled => &self.metrics.cancelled,
                    });
                    if content.is_some() {
                        self.remember_content(predicate.output.digest, self.ledger.next_seq());
                    }
                    let place = self.work.batch.len();
                    self.work.effects.push(Effect::Ended(place, accepted.traceparent.clone()));
                }
                Body::StateEnded(ended) => {
                    self.work.effects.push(Effect::DropState(ended.state));
                }
                _ => {}
            }
            self.record(body, content.take(), log.take());
        }
    }
}

/// An engine's outcome in the journal's words.
fn ending_of(outcome: &Outcome) -> Ending {
    Ending {
        state: match outcome.state {
            State::Completed => TaskState::Completed,
            State::Failed => TaskState::Failed,
            State::Cancelled => TaskState::Cancelled,
        },
        reason: outcome.reason.map(|reason| reason.word().to_owned()),
        exit_code: outcome.exit_code,
        message: outcome.message.clone(),
        input: None,
        output: None,
        usage: Usage {
            cpu_us: outcome.usage.cpu_us,
            log_bytes: outcome.usage.log_bytes,
            memory_peak_bytes: outcome.usage.memory_peak_bytes,
            run_us: outcome.usage.run_us,
        },
    }
}
