//! What the host knows of a guest: one value behind one lock, bounded in every part.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vyr_channel::{
    EXECS_MAX, ExecEnd, ExecState, Failure, Inbox, LOG_STREAM, LogDecoder, LogRecord, Outbox, Part,
    Phase, State, Violation, exec_stream, shortened, stream_part,
};

use super::{ChannelError, Seen};

/// A stream from the guest: at most a window.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    inbox: Inbox,
    bytes: VecDeque<u8>,
    pub(crate) ended: bool,
}

impl Incoming {
    fn accept(&mut self, stream: u16, payload: &[u8]) -> Result<(), Violation> {
        let arrived = self.inbox.accept(stream, payload)?;
        self.bytes.extend(arrived.bytes);
        self.ended |= arrived.end;
        Ok(())
    }

    /// All that is there, and the offset to acknowledge.
    pub(crate) fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        if self.bytes.is_empty() {
            return None;
        }
        let bytes: Vec<u8> = self.bytes.drain(..).collect();
        let offset = self.inbox.consume(bytes.len());
        Some((bytes, offset))
    }
}

/// A session, as the host sees it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Whether the guest has told of it: what comes before is an earlier one's.
    pub(crate) told: bool,
    /// Whether somebody in this process has it.
    pub(crate) owned: bool,
    /// Forgotten here, and not yet there.
    pub(crate) closing: bool,
    pub(crate) ended: Option<ExecEnd>,
    pub(crate) stdin: Outbox,
    pub(crate) stdout: Incoming,
    pub(crate) stderr: Incoming,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) welcomed: bool,
    pub(crate) phase: Phase,
    pub(crate) kernel: String,
    pub(crate) health: Option<(bool, String)>,
    /// Results of the health check so far.
    pub(crate) checks: u64,
    pub(crate) closed: Option<ChannelError>,
    log: Incoming,
    records: LogDecoder,
    pub(crate) sessions: BTreeMap<u16, Session>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            welcomed: false,
            phase: Phase::Blank,
            kernel: String::new(),
            health: None,
            checks: 0,
            closed: None,
            log: Incoming::default(),
            records: LogDecoder::default(),
            sessions: BTreeMap::new(),
        }
    }
}

impl View {
    pub(crate) fn welcome(&mut self, state: State) {
        self.welcomed = true;
        self.phase = bounded(state.phase);
        self.kernel = shortened(&state.kernel);
        for exec in state.execs {
            if exec.id == 0 || exec.id > EXECS_MAX {
                continue;
            }
            let stdin = Outbox::from_offset(exec.stdin);
            let ended = exec.ended.map(bounded_end);
            let session = Session { told: true, ended, stdin, ..Session::default() };
            self.sessions.insert(exec.id, session);
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen { phase: self.phase.clone(), health: self.health.clone(), checks: self.checks }
    }

    pub(crate) fn exec_state(&mut self, state: ExecState) {
        if let Some(session) = self.sessions.get_mut(&state.id)
            && !session.closing
        {
            session.told = true;
            session.ended = state.ended.map(bounded_end);
        }
    }

    /// Bytes of a stream. What belongs to a session that is forgotten is nobody's.
    pub(crate) fn data(&mut self, stream: u16, payload: &[u8]) -> Result<(), Violation> {
        if !self.welcomed {
            return Err(Violation::Unknown(stream));
        }
        let Some((id, part)) = stream_part(stream) else {
            return match stream {
                LOG_STREAM => self.log.accept(stream, payload),
                _ => Err(Violation::Unknown(stream)),
            };
        };
        let session = match self.sessions.get_mut(&id) {
            Some(session) if session.told && !session.closing => session,
            _ => return Ok(()),
        };
        match part {
            Part::Stdin => Err(Violation::Unknown(stream)),
            Part::Stdout => session.stdout.accept(stream, payload),
            Part::Stderr => session.stderr.accept(stream, payload),
        }
    }

    pub(crate) fn ack(&mut self, stream: u16, offset: u64) -> Result<(), Violation> {
        let Some((id, Part::Stdin)) = stream_part(stream) else {
            return Err(Violation::Unknown(stream));
        };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if session.closing {
            if offset == u64::MAX {
                self.sessions.remove(&id);
            }
            return Ok(());
        }
        session.stdin.ack(stream, offset)
    }

    pub(crate) fn next_stdin(&mut self, id: u16) -> Option<(u16, Vec<u8>)> {
        let session = self.sessions.get_mut(&id).filter(|session| session.told)?;
        Some((exec_stream(id, Part::Stdin), session.stdin.next_payload()?))
    }

    /// The lines that are there, and the offset to acknowledge.
    #[expect(clippy::type_complexity, reason = "waiting, failing and the end are three things")]
    pub(crate) fn take_log(
        &mut self,
    ) -> Option<Result<(Vec<LogRecord>, Option<u64>), ChannelError>> {
        if self.log.bytes.is_empty() {
            return self.log.ended.then(|| Ok((Vec::new(), None)));
        }
        let bytes: Vec<u8> = self.log.bytes.drain(..).collect();
        let held_before = self.records.held();
        match self.records.feed(&bytes) {
            // Only whole lines are acknowledged: the next host begins with a whole one.
            Ok(records) => {
                let taken = held_before + bytes.len() - self.records.held();
                let offset = self.log.inbox.consume(taken);
                (!records.is_empty()).then_some(Ok((records, Some(offset))))
            }
            Err(e) => Some(Err(e.into())),
        }
    }

    pub(crate) fn log_is_taken(&self) -> bool {
        self.log.ended && self.log.bytes.is_empty()
    }

    pub(crate) fn orphans(&mut self) -> Vec<u16> {
        let free = self.sessions.iter().filter(|(_, session)| !session.owned && !session.closing);
        free.map(|(id, _)| *id).collect()
    }

    /// A number that no session has.
    pub(crate) fn free_id(&self) -> Option<u16> {
        (1..=EXECS_MAX).find(|id| !self.sessions.contains_key(id))
    }
}

/// The guest's texts are cut: they are kept.
pub(crate) fn bounded(phase: Phase) -> Phase {
    match phase {
        Phase::Failed(Failure { stage, why }) => {
            Phase::Failed(Failure { stage, why: shortened(&why) })
        }
        other => other,
    }
}

fn bounded_end(end: ExecEnd) -> ExecEnd {
    match end {
        ExecEnd::Failed(why) => ExecEnd::Failed(shortened(&why)),
        other => other,
    }
}

/// The view, and a bell for who waits for a change of it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    view: Mutex<View>,
    bell: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, View> {
        // Every change is one assignment or keeps its own invariants.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut View) -> T) -> T {
        let result = work(&mut self.lock());
        self.bell.notify_all();
        result
    }

    pub(crate) fn close(&self, why: ChannelError) {
        self.with(|view| {
            view.closed.get_or_insert(why);
        });
    }

    /// Waits for something. What is there already is given also after the channel ended.
    pub(crate) fn wait<T>(
        &self,
        what: &'static str,
        end: Instant,
        mut look: impl FnMut(&mut View) -> Option<T>,
    ) -> Result<T, ChannelError> {
        let mut view = self.lock();
        loop {
            if let Some(seen) = look(&mut view) {
                return Ok(seen);
            }
            if let Some(why) = &view.closed {
                return Err(why.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ChannelError::TimedOut(what));
            }
            view = self.bell.wait_timeout(view, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
