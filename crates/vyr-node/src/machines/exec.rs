//! A session beside a workload, between a client's socket and the guest.
//!
//! ```text
//!  client --frames--> input thread --> guest --> output thread, errors thread --frames--> client
//! ```
//!
//! Nobody holds more than a window: a client that does not read holds up its session, and a session
//! that does not read its client. The client's end is the session's end.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vyr_vm::channel::words::{ExecEnd, Part};
use vyr_vm::channel::{ChannelError, Exec};

use super::wire::{ExecFrame, FRAME_MAX};

/// The end of the other side is looked at this often while one says nothing.
const TICK: Duration = Duration::from_secs(1);

/// Carries until the session or its client has ended. Blocks.
pub(crate) fn carry(session: Exec, client: &UnixStream) {
    let carrier = Carrier {
        session: &session,
        client,
        writing: Mutex::new(()),
        over: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        scope.spawn(|| carrier.input());
        let errors = scope.spawn(|| carrier.output(Part::Stderr));
        carrier.output(Part::Stdout);
        let _ = errors.join();
        let end = carrier.end();
        carrier.send(&ExecFrame::Ended(end));
        carrier.give_up();
    });
    // Whatever is left of it is killed; a guest that is gone has nothing left.
    let _ = session.close();
}

struct Carrier<'a> {
    session: &'a Exec,
    client: &'a UnixStream,
    /// A frame is written whole.
    writing: Mutex<()>,
    over: AtomicBool,
}

impl Carrier<'_> {
    /// Ends all that waits for the client.
    fn give_up(&self) {
        self.over.store(true, Ordering::SeqCst);
        // A socket that is closed already is what is wanted.
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn send(&self, frame: &ExecFrame) {
        let _alone = self.writing.lock();
        if frame.write(self.client).is_err() {
            self.give_up();
        }
    }

    /// Until the client or the session has ended.
    fn input(&self) {
        loop {
            let done = match ExecFrame::read(self.client) {
                Ok(Some(ExecFrame::Input(bytes))) => self.feed(&bytes),
                Ok(Some(ExecFrame::EndInput)) => self.session.end_input(),
                Ok(Some(ExecFrame::Resize(window))) => self.session.resize(window),
                Ok(Some(ExecFrame::Signal(signal))) => self.session.signal(signal),
                // The end of the client, or of its patience with the form.
                Ok(Some(_) | None) | Err(_) => break,
            };
            if done.is_err() {
                break;
            }
        }
        if !self.is_over() {
            self.give_up();
        }
    }

    fn feed(&self, mut bytes: &[u8]) -> Result<(), ChannelError> {
        while !bytes.is_empty() && !self.is_over() {
            match self.session.write_some(bytes, TICK) {
                // It has ended: nobody reads the rest.
                Ok(0) => return Ok(()),
                Ok(taken) => bytes = &bytes[taken..],
                Err(ChannelError::TimedOut(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// To the end of one of its outputs.
    fn output(&self, part: Part) {
        while !self.is_over() {
            let bytes = match self.session.read(part, TICK) {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => bytes,
                Err(ChannelError::TimedOut(_)) => continue,
                Err(_) => return,
            };
            for piece in bytes.chunks(FRAME_MAX) {
                let piece = piece.to_vec();
                self.send(&match part {
                    Part::Stderr => ExecFrame::Errors(piece),
                    _ => ExecFrame::Output(piece),
                });
            }
        }
    }

    fn end(&self) -> ExecEnd {
        loop {
            match self.session.wait(TICK) {
                Ok(end) => return end,
                Err(ChannelError::TimedOut(_)) if !self.is_over() => {}
                // The client is gone, or the machine.
                Err(e) => return ExecEnd::Failed(e.to_string()),
            }
        }
    }
}
