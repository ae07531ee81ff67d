//! Sessions of `exec`: processes beside the workload, with pipes or a terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vyr_channel::{
    EXECS_MAX, ExecEnd, ExecSpec, Inbox, Outbox, Part, Window, exec_stream, shortened, stream_part,
};

use crate::guest::{Guest, Inner, Role};
use crate::run;

/// One session.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) stdout: Outbox,
    pub(crate) stderr: Outbox,
    pub(crate) ended: Option<ExecEnd>,
    /// Offset of what the host need not send again.
    pub(crate) stdin_received: u64,
    stdin: Option<Inbox>,
    waiting: VecDeque<u8>,
    stdin_ends: bool,
    terminal: Option<Arc<File>>,
    pid: Option<Pid>,
    /// Tells a session from a later one of the same number.
    serial: u64,
}

/// The three ends that the host's side is connected to.
struct Ends {
    stdin: File,
    stdout: File,
    stderr: Option<File>,
}

/// Starts a session, or says why not.
pub(crate) fn begin(guest: &Arc<Guest>, id: u16, spec: &ExecSpec) {
    let started = guest.with(|inner| {
        if id == 0 || id > EXECS_MAX || inner.sessions.contains_key(&id) {
            return None;
        }
        let mut session = Session { stdin: Some(Inbox::from_start()), ..Session::default() };
        session.serial = inner.next_serial();
        let serial = session.serial;
        match spawn(inner, id, spec, &mut session) {
            Ok(ends) => {
                inner.sessions.insert(id, session);
                inner.changed.insert(id);
                Some((serial, ends))
            }
            Err(e) => {
                session.ended = Some(ExecEnd::Failed(shortened(&e.to_string())));
                session.stdout.end();
                session.stderr.end();
                inner.sessions.insert(id, session);
                inner.changed.insert(id);
                None
            }
        }
    });
    let Some((serial, ends)) = started else { return };
    let Ends { stdin, stdout, stderr } = ends;
    let output = Arc::clone(guest);
    thread::spawn(move || pump(&output, (id, serial), Part::Stdout, stdout));
    let output = Arc::clone(guest);
    thread::spawn(move || match stderr {
        Some(stderr) => pump(&output, (id, serial), Part::Stderr, stderr),
        None => end_of(&output, (id, serial), Part::Stderr),
    });
    let input = Arc::clone(guest);
    thread::spawn(move || feed(&input, (id, serial), stdin));
}

/// Under the lock, so that the reaper knows the child before it can end.
fn spawn(inner: &mut Inner, id: u16, spec: &ExecSpec, session: &mut Session) -> io::Result<Ends> {
    let mut command = run::command(&spec.process, spec.terminal.is_some());
    let ends = match spec.terminal {
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            session.pid = Pid::from_raw(child.id().cast_signed());
            let taken = || io::Error::other("a pipe is missing");
            let stdin = File::from(OwnedFd::from(child.stdin.take().ok_or_else(taken)?));
            let stdout = File::from(OwnedFd::from(child.stdout.take().ok_or_else(taken)?));
            let stderr = File::from(OwnedFd::from(child.stderr.take().ok_or_else(taken)?));
            Ends { stdin, stdout, stderr: Some(stderr) }
        }
        Some(window) => {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let terminal = openpt(flags)?;
            grantpt(&terminal)?;
            unlockpt(&terminal)?;
            let slave = File::from(ioctl_tiocgptpeer(&terminal, flags)?);
            tcsetwinsize(&terminal, winsize(window))?;
            command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
            let child = command.spawn()?;
            session.pid = Pid::from_raw(child.id().cast_signed());
            let terminal = File::from(terminal);
            session.terminal = Some(Arc::new(terminal.try_clone()?));
            Ends { stdin: terminal.try_clone()?, stdout: terminal, stderr: None }
        }
    };
    if let Some(pid) = session.pid {
        inner.children.insert(pid, Role::Exec(id));
    }
    Ok(ends)
}

fn winsize(window: Window) -> Winsize {
    Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn of(inner: &mut Inner, (id, serial): (u16, u64)) -> Option<&mut Session> {
    inner.sessions.get_mut(&id).filter(|session| session.serial == serial)
}

/// From the process to the host; waits while the host does not read.
fn pump(guest: &Guest, which: (u16, u64), part: Part, mut pipe: File) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = match pipe.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal whose last process is gone.
            Err(_) => break,
        };
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let taken = guest.until(|inner| {
                let Some(session) = of(inner, which) else { return Some(usize::MAX) };
                let outbox = match part {
                    Part::Stderr => &mut session.stderr,
                    _ => &mut session.stdout,
                };
                Some(outbox.push(rest)).filter(|taken| *taken > 0)
            });
            // The session is gone: nobody wants it.
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    end_of(guest, which, part);
}

fn end_of(guest: &Guest, which: (u16, u64), part: Part) {
    guest.with(|inner| {
        if let Some(session) = of(inner, which) {
            match part {
                Part::Stderr => session.stderr.end(),
                _ => session.stdout.end(),
            }
        }
    });
}

/// What the host sent for a session.
pub(crate) fn stdin(guest: &Guest, stream: u16, payload: &[u8]) {
    guest.with(|inner| {
        let Some((id, Part::Stdin)) = stream_part(stream) else { return };
        let Some(session) = inner.sessions.get_mut(&id) else { return };
        let Some(inbox) = &mut session.stdin else { return };
        // The host keeps its own bounds; what breaks them is not taken.
        if let Ok(arrived) = inbox.accept(stream, payload) {
            session.waiting.extend(arrived.bytes);
            session.stdin_ends |= arrived.end;
            session.stdin_received += arrived.bytes.len() as u64;
        }
    });
}

/// From the host to the process.
fn feed(guest: &Guest, which: (u16, u64), mut pipe: File) {
    loop {
        let piece = guest.until(|inner| {
            let Some(session) = of(inner, which) else { return Some(Vec::new()) };
            if session.waiting.is_empty() && !session.stdin_ends && session.ended.is_none() {
                return None;
            }
            let count = session.waiting.len().min(4 << 10);
            Some(session.waiting.drain(..count).collect::<Vec<u8>>())
        });
        if piece.is_empty() {
            return;
        }
        // A process that reads no more has its own way to say so.
        let written = pipe.write_all(&piece);
        guest.with(|inner| {
            let Some(session) = of(inner, which) else { return };
            let offset = session.stdin.as_mut().map(|inbox| inbox.consume(piece.len()));
            if let Some(offset) = offset {
                inner.acks.insert(exec_stream(which.0, Part::Stdin), offset);
            }
        });
        if written.is_err() {
            return;
        }
    }
}

/// The terminal's window is another.
pub(crate) fn resize(guest: &Guest, id: u16, window: Window) {
    let terminal = guest.with(|inner| inner.sessions.get(&id)?.terminal.clone());
    if let Some(terminal) = terminal {
        // A terminal that is gone has no window.
        let _ = tcsetwinsize(&*terminal, winsize(window));
    }
}

/// Kills what is left and forgets it.
pub(crate) fn close(guest: &Guest, id: u16) {
    guest.with(|inner| {
        // The host gives the number to another session only after this answer.
        inner.acks.insert(exec_stream(id, Part::Stdin), u64::MAX);
        let Some(session) = inner.sessions.remove(&id) else { return };
        if let Some(pid) = session.pid
            && inner.children.remove(&pid).is_some()
        {
            // The process and what it started; it is reaped as everybody is.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
        }
    });
}
