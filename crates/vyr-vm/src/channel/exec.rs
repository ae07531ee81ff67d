//! Sessions beside the workload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vyr_channel::{EXECS_MAX, ExecEnd, ExecSpec, HostMessage, Part, Window, exec_stream};

use super::view::Session;
use super::{ChannelError, Link};

/// A session. Dropped it goes on, for whoever adopts it; [`Exec::close`] ends it.
#[derive(Debug)]
pub struct Exec {
    link: Arc<Link>,
    id: u16,
}

impl Exec {
    pub(super) fn start(
        link: Arc<Link>,
        spec: ExecSpec,
        time: Duration,
    ) -> Result<Self, ChannelError> {
        let end = Instant::now() + time;
        let id = link.shared.with(|view| {
            let id = view.free_id().ok_or(ChannelError::Sessions(EXECS_MAX))?;
            view.sessions.insert(id, Session { owned: true, ..Session::default() });
            Ok::<u16, ChannelError>(id)
        })?;
        let exec = Self { link, id };
        exec.link.send(&HostMessage::Exec { id, spec })?;
        exec.wait_for("the session", end, |session| session.told.then_some(()))?;
        Ok(exec)
    }

    pub(super) fn adopt(link: Arc<Link>, id: u16) -> Result<Self, ChannelError> {
        link.shared.with(|view| match view.sessions.get_mut(&id) {
            Some(session) if !session.owned && !session.closing => {
                session.owned = true;
                Ok(())
            }
            _ => Err(ChannelError::NoSession(id)),
        })?;
        Ok(Self { link, id })
    }

    /// Its number in the guest.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Sends input; waits while the process does not read.
    ///
    /// # Errors
    /// Not all of it went in `time`; the guest is gone.
    pub fn write(&self, mut bytes: &[u8], time: Duration) -> Result<(), ChannelError> {
        let end = Instant::now() + time;
        while !bytes.is_empty() {
            let taken = self.wait_for("the session's input", end, |session| {
                Some(session.stdin.push(bytes)).filter(|taken| *taken > 0)
            })?;
            bytes = &bytes[taken..];
            self.link.send_stdin(self.id)?;
        }
        Ok(())
    }

    /// Sends as much of the input as the process has room for, at least one byte; 0 once it has ended.
    ///
    /// # Errors
    /// It did not read in `time`; the guest is gone.
    pub fn write_some(&self, bytes: &[u8], time: Duration) -> Result<usize, ChannelError> {
        let end = Instant::now() + time;
        let taken = self.wait_for("the session's input", end, |session| {
            let taken = session.stdin.push(bytes);
            (taken > 0 || session.ended.is_some()).then_some(taken)
        })?;
        self.link.send_stdin(self.id)?;
        Ok(taken)
    }

    /// No input follows.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn end_input(&self) -> Result<(), ChannelError> {
        self.link.shared.with(|view| {
            if let Some(session) = view.sessions.get_mut(&self.id) {
                session.stdin.end();
            }
        });
        self.link.send_stdin(self.id)
    }

    /// The next output, at most a window; empty at its end.
    ///
    /// # Errors
    /// None in `time`; the guest is gone.
    pub fn read(&self, part: Part, time: Duration) -> Result<Vec<u8>, ChannelError> {
        let end = Instant::now() + time;
        let (bytes, offset) = self.wait_for("the session's output", end, |session| {
            let incoming = match part {
                Part::Stderr => &mut session.stderr,
                _ => &mut session.stdout,
            };
            match incoming.take() {
                Some((bytes, offset)) => Some((bytes, Some(offset))),
                None => incoming.ended.then(|| (Vec::new(), None)),
            }
        })?;
        if let Some(offset) = offset {
            self.link.send(&HostMessage::Ack(exec_stream(self.id, part), offset))?;
        }
        Ok(bytes)
    }

    /// All output to its end, up to `bytes_max`.
    ///
    /// # Errors
    /// As [`Exec::read`].
    pub fn read_all(
        &self,
        part: Part,
        bytes_max: usize,
        time: Duration,
    ) -> Result<Vec<u8>, ChannelError> {
        let end = Instant::now() + time;
        let mut all = Vec::new();
        while all.len() < bytes_max {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.read(part, left)?;
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        all.truncate(bytes_max);
        Ok(all)
    }

    /// How it ended.
    ///
    /// # Errors
    /// It did not in `time`; the guest is gone.
    pub fn wait(&self, time: Duration) -> Result<ExecEnd, ChannelError> {
        let end = Instant::now() + time;
        self.wait_for("the session's end", end, |session| session.ended.clone())
    }

    /// Its terminal has another size.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn resize(&self, window: Window) -> Result<(), ChannelError> {
        self.link.send(&HostMessage::Resize(self.id, window))
    }

    /// A signal to its process.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn signal(&self, signal: u8) -> Result<(), ChannelError> {
        self.link.send(&HostMessage::ExecSignal(self.id, signal))
    }

    /// Kills what is left of it and forgets it.
    ///
    /// # Errors
    /// The guest is gone.
    pub fn close(self) -> Result<(), ChannelError> {
        self.link.shared.with(|view| {
            if let Some(session) = view.sessions.get_mut(&self.id) {
                *session = Session { closing: true, ..Session::default() };
            }
        });
        self.link.send(&HostMessage::ExecClose(self.id))
    }

    fn wait_for<T>(
        &self,
        what: &'static str,
        end: Instant,
        mut look: impl FnMut(&mut Session) -> Option<T>,
    ) -> Result<T, ChannelError> {
        self.link.shared.wait(what, end, |view| look(view.sessions.get_mut(&self.id)?))
    }
}
