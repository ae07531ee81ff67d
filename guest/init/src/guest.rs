//! What this guest is: one value behind one lock, and a bell for who waits for a change of it.
//!
//! What there is to tell the host is never a queue: it is read off this value (a phase that was not
//! told, a session that changed, an offset that was not acknowledged). So a host that is away costs
//! nothing, and one that comes back is told what is so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use vyr_channel::{
    ExecState, Frame, GuestMessage, LOG_STREAM, Nonce, Part, Phase, State, VERSION, encode,
    exec_stream, frame,
};

use crate::log::Log;
use crate::session::Session;

/// Who a child process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Prestart,
    Workload,
    Exec(u16),
}

/// See the module.
pub(crate) struct Inner {
    pub(crate) phase: Phase,
    pub(crate) started: bool,
    pub(crate) stopping: bool,
    pub(crate) log: Log,
    pub(crate) sessions: BTreeMap<u16, Session>,
    pub(crate) children: HashMap<Pid, Role>,
    pub(crate) prestart: Option<(Option<u8>, Option<u8>)>,
    pub(crate) health: Option<(bool, String)>,
    pub(crate) acks: BTreeMap<u16, u64>,
    /// Sessions whose state was not told.
    pub(crate) changed: BTreeSet<u16>,
    told: Option<Phase>,
    /// Counts connections; a frame of an earlier one is not finished.
    pub(crate) connection: u64,
    pub(crate) connected: bool,
    welcome: Option<Nonce>,
    /// Whose turn it is among the streams.
    turn: u16,
    kernel: String,
    serials: u64,
}

/// The one value.
pub(crate) struct Guest {
    inner: Mutex<Inner>,
    bell: Condvar,
}

impl Guest {
    pub(crate) fn new(kernel: String) -> Self {
        let inner = Inner {
            phase: Phase::Blank,
            started: false,
            stopping: false,
            log: Log::default(),
            sessions: BTreeMap::new(),
            children: HashMap::new(),
            prestart: None,
            health: None,
            acks: BTreeMap::new(),
            changed: BTreeSet::new(),
            told: None,
            connection: 0,
            connected: false,
            welcome: None,
            turn: 0,
            kernel,
            serials: 0,
        };
        Self { inner: Mutex::new(inner), bell: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment or keeps its own invariants.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks or changes, and rings.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let result = work(&mut self.lock());
        self.bell.notify_all();
        result
    }

    /// Looks, and does not ring: nothing anybody waits for is changed.
    pub(crate) fn with_quietly<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.lock())
    }

    /// Waits until there is something.
    pub(crate) fn until<T>(&self, mut look: impl FnMut(&mut Inner) -> Option<T>) -> T {
        let mut inner = self.lock();
        loop {
            if let Some(seen) = look(&mut inner) {
                drop(inner);
                self.bell.notify_all();
                return seen;
            }
            inner = self.bell.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same, for a time at most.
    pub(crate) fn until_for<T>(
        &self,
        time: Duration,
        mut look: impl FnMut(&mut Inner) -> Option<T>,
    ) -> Option<T> {
        let end = std::time::Instant::now() + time;
        let mut inner = self.lock();
        loop {
            if let Some(seen) = look(&mut inner) {
                return Some(seen);
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return None;
            }
            inner = self.bell.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next bytes for the host, and the connection they belong to.
    pub(crate) fn next_bytes(&self) -> (u64, Vec<u8>) {
        self.until(|inner| inner.next_bytes().map(|bytes| (inner.connection, bytes)))
    }
}

impl Inner {
    /// A host said hello: it is told everything.
    pub(crate) fn greet(&mut self, nonce: Nonce) {
        self.connection += 1;
        (self.connected, self.welcome) = (true, Some(nonce));
        self.acks.clear();
        self.changed.clear();
        self.log.outbox.rewind();
        for session in self.sessions.values_mut() {
            session.stdout.rewind();
            session.stderr.rewind();
        }
    }

    /// A number that no session had.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// The host is gone.
    pub(crate) fn part(&mut self) {
        self.connected = false;
    }

    pub(crate) fn session_state(&self, id: u16) -> Option<ExecState> {
        let session = self.sessions.get(&id)?;
        Some(ExecState { id, ended: session.ended.clone(), stdin: session.stdin_received })
    }

    fn next_bytes(&mut self) -> Option<Vec<u8>> {
        if !self.connected {
            return None;
        }
        if let Some(nonce) = self.welcome.take() {
            let ids: Vec<u16> = self.sessions.keys().copied().collect();
            let execs = ids.into_iter().filter_map(|id| self.session_state(id)).collect();
            let state = State { phase: self.phase.clone(), execs, kernel: self.kernel.clone() };
            self.told = Some(self.phase.clone());
            let message = GuestMessage::Welcome { version: VERSION, nonce, state };
            return Some([&nonce.0[..], &frame(&encode(&message))].concat());
        }
        if let Some(message) = self.next_message() {
            return Some(frame(&encode(&message)));
        }
        let (stream, payload) = self.next_data()?;
        Some(frame(&Frame::Data(stream, payload)))
    }

    /// Control before data, always.
    fn next_message(&mut self) -> Option<GuestMessage> {
        if self.told.as_ref() != Some(&self.phase) {
            self.told = Some(self.phase.clone());
            return Some(GuestMessage::Phase(self.phase.clone()));
        }
        while let Some(id) = self.changed.pop_first() {
            if let Some(state) = self.session_state(id) {
                return Some(GuestMessage::Exec(state));
            }
        }
        if let Some((stream, offset)) = self.acks.pop_first() {
            return Some(GuestMessage::Ack(stream, offset));
        }
        let (passed, seen) = self.health.take()?;
        Some(GuestMessage::Health { passed, seen })
    }

    /// One piece a stream, in turn.
    fn next_data(&mut self) -> Option<(u16, Vec<u8>)> {
        self.log.pump();
        let log = std::iter::once((LOG_STREAM, &mut self.log.outbox));
        let sessions = self.sessions.iter_mut().flat_map(|(id, session)| {
            [
                (exec_stream(*id, Part::Stdout), &mut session.stdout),
                (exec_stream(*id, Part::Stderr), &mut session.stderr),
            ]
        });
        let mut streams: Vec<_> = log.chain(sessions).collect();
        let next = streams.iter().position(|(stream, _)| *stream > self.turn).unwrap_or(0);
        streams.rotate_left(next);
        for (stream, outbox) in streams {
            if let Some(payload) = outbox.next_payload() {
                self.turn = stream;
                return Some((stream, payload));
            }
        }
        None
    }
}
