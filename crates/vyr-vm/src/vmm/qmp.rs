//! QEMU's own interface (QMP): one line of JSON a message, over a socket pair that nobody else has.
//!
//! QEMU is not trusted more than its guest: lines are bounded, and nothing of an answer is believed
//! but whether there is one.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use super::VmmError;

/// Bytes of one line.
const LINE_MAX: usize = 256 << 10;

/// Events that may come before an answer.
const EVENTS_MAX: usize = 1000;

/// QEMU answers while its guest runs, also an emulated one on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often the progress of a migration is asked for; it has no end that can be waited for without
/// reading events, which come late while the machine is stopped.
const ASK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    held: Vec<u8>,
}

impl Qmp {
    /// Greets. `None`: QEMU ended.
    pub(super) fn open(stream: UnixStream) -> Result<Self, VmmError> {
        let mut qmp = Self { stream, held: Vec::new() };
        let fail = |e: io::Error| wrong("greet", &e.to_string());
        qmp.stream.set_read_timeout(Some(TIMEOUT)).map_err(fail)?;
        qmp.stream.set_write_timeout(Some(TIMEOUT)).map_err(fail)?;
        let greeting = qmp.line("greet")?;
        if greeting.get("QMP").is_none() {
            return Err(wrong("greet", "it says something else"));
        }
        qmp.ask("qmp_capabilities", None)?;
        Ok(qmp)
    }

    /// One command, and its answer.
    pub(super) fn ask(
        &mut self,
        command: &str,
        arguments: Option<Value>,
    ) -> Result<Value, VmmError> {
        self.send(command, arguments, None)?;
        self.answer(command)
    }

    /// Hands over a descriptor under a name.
    pub(super) fn hand_over(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), VmmError> {
        self.send("getfd", Some(json!({ "fdname": name })), Some(fd))?;
        self.answer("getfd").map(drop)
    }

    /// Waits until the guest's state has gone out or come in.
    pub(super) fn finish_migration(&mut self, time: Duration) -> Result<(), VmmError> {
        let end = Instant::now() + time;
        loop {
            let answer = self.ask("query-migrate", None)?;
            match answer.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let why = answer.get("error-desc").and_then(Value::as_str);
                    return Err(wrong("migrate", why.unwrap_or("it failed")));
                }
                _ if Instant::now() > end => return Err(VmmError::TimedOut),
                _ => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    fn send(
        &mut self,
        command: &str,
        arguments: Option<Value>,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), VmmError> {
        let mut message = json!({ "execute": command });
        if let Some(arguments) = arguments {
            message["arguments"] = arguments;
        }
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        let sent = match fd {
            None => self.stream.write_all(&line),
            Some(fd) => {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = [fd];
                control.push(SendAncillaryMessage::ScmRights(&fds));
                let parts = [IoSlice::new(&line)];
                sendmsg(self.stream.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL)
                    .map_err(io::Error::from)
                    .and_then(|sent| self.stream.write_all(&line[sent..]))
            }
        };
        sent.map_err(|e| gone(command, &e.to_string()))
    }

    fn answer(&mut self, command: &str) -> Result<Value, VmmError> {
        for _ in 0..EVENTS_MAX {
            let mut line = self.line(command)?;
            if let Some(answer) = line.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = line.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("it says not why");
                return Err(wrong(command, why));
            }
        }
        Err(wrong(command, "it sends events and no answer"))
    }

    fn line(&mut self, command: &str) -> Result<Value, VmmError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(at) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=at).collect();
                return serde_json::from_slice(&line).map_err(|e| wrong(command, &e.to_string()));
            }
            if self.held.len() > LINE_MAX {
                return Err(wrong(command, "a line without an end"));
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(gone(command, "it ended")),
                Ok(count) => self.held.extend(&bytes[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(gone(command, &e.to_string())),
            }
        }
    }
}

fn gone(command: &str, why: &str) -> VmmError {
    VmmError::Gone { command: command.to_owned(), why: why.to_owned() }
}

fn wrong(command: &str, why: &str) -> VmmError {
    let why = why.chars().filter(|c| !c.is_control()).take(500).collect();
    VmmError::Interface { command: command.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    /// A QEMU that answers with these lines, one after each command.
    fn qemu(answers: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        std::thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().expect("a descriptor")).lines();
            (&theirs).write_all(b"{\"QMP\":{}}\n").expect("room");
            for answer in answers {
                let _command = commands.next();
                let _ = (&theirs).write_all(answer.as_bytes());
            }
        });
        ours
    }

    #[test]
    fn events_are_skipped_and_errors_told() {
        let lines = &[
            "{\"return\":{}}\n",
            "{\"event\":\"RESUME\"}\n{\"return\":{\"status\":\"running\"}}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\\u001b[2J\"}}\n",
        ];
        let mut qmp = Qmp::open(qemu(lines)).expect("a greeting");
        assert_eq!(qmp.ask("query-status", None).expect("an answer")["status"], "running");
        let error = qmp.ask("cont", None).expect_err("an error").to_string();
        assert_eq!(error, "the VMM does not do cont: no[2J");
        assert!(qmp.ask("cont", None).expect_err("the end").to_string().contains("cont"));
    }

    #[test]
    fn what_is_no_line_of_json_is_refused() {
        assert!(Qmp::open(qemu(&["hello\n"])).is_err());
    }
}
