//! The port of the channel: who reads it, who writes it, what the host's words do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_process};
use rustix::system::{RebootCommand, reboot};
use vyr_channel::{
    Decoder, Frame, HOST_FRAME_MAX, HostMessage, LOG_STREAM, Part, Phase, VERSION, Violation,
    decode_host, stream_part,
};

use crate::guest::{Guest, Role};
use crate::{memory, reap, session, start};

/// How often a guest without a host looks for one. The port has no event for it.
const HOST_LOOK: Duration = Duration::from_millis(50);

/// Serves the host until the end of the machine; gives why it cannot.
pub(crate) fn serve(port: File) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let guest = Arc::new(Guest::new(kernel.trim().to_owned()));
    reap::watch(&guest);
    let writer = match port.try_clone() {
        Ok(writer) => writer,
        Err(e) => return format!("the channel: {e}"),
    };
    let writing = Arc::clone(&guest);
    thread::spawn(move || {
        loop {
            let (connection, bytes) = writing.next_bytes();
            write(&writing, &writer, connection, &bytes);
        }
    });
    read(&guest, port)
}

/// Writes all of it, unless the host is another one by then.
fn write(guest: &Guest, mut port: &File, connection: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if guest.with_quietly(|inner| inner.connection != connection || !inner.connected) {
            return;
        }
        match port.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => {
                let time = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                // Full, or nobody is there: either way it is looked at again.
                let _ = poll(&mut [PollFd::new(port, PollFlags::OUT)], Some(&time));
            }
        }
    }
}

fn read(guest: &Arc<Guest>, mut port: File) -> String {
    let mut decoder = Decoder::new(HOST_FRAME_MAX);
    let mut bytes = vec![0; 32 << 10];
    let mut greeted = false;
    loop {
        match port.read(&mut bytes) {
            Ok(0) => {
                // The host is gone. What it had begun is void.
                decoder.clear();
                if greeted {
                    guest.with(|inner| inner.part());
                    greeted = false;
                }
                thread::sleep(HOST_LOOK);
                continue;
            }
            Ok(count) => decoder.feed(&bytes[..count]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&port, PollFlags::IN)], None);
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return format!("the channel: {e}"),
        }
        loop {
            match decoder.next() {
                Ok(None) => break,
                // Of a host that died in the midst of it.
                Err(_) => {}
                Ok(Some(Frame::Control(payload))) => match decode_host(&payload) {
                    Ok(HostMessage::Hello { version, nonce }) => {
                        // Another version is told ours, and nothing it says is done.
                        greeted = version == VERSION;
                        guest.with(|inner| inner.greet(nonce));
                    }
                    Ok(message) if greeted => obey(guest, message),
                    Ok(_) | Err(_) => {}
                },
                Ok(Some(Frame::Data(stream, payload))) if greeted => {
                    session::stdin(guest, stream, &payload);
                }
                Ok(Some(Frame::Data(..))) => {}
            }
        }
    }
}

fn obey(guest: &Arc<Guest>, message: HostMessage) {
    match message {
        HostMessage::Hello { .. } => {}
        HostMessage::Start(spec) => start::begin(guest, *spec),
        HostMessage::Stop { signal, grace_ms } => {
            stop(guest, signal, Duration::from_millis(grace_ms));
        }
        HostMessage::Signal(signal) => signal_role(guest, Role::Workload, signal),
        HostMessage::Exec { id, spec } => session::begin(guest, id, &spec),
        HostMessage::Resize(id, window) => session::resize(guest, id, window),
        HostMessage::ExecSignal(id, signal) => signal_role(guest, Role::Exec(id), signal),
        HostMessage::ExecClose(id) => session::close(guest, id),
        HostMessage::Ack(stream, offset) => {
            // A host that acknowledges what was not sent is broken; nothing is lost by going on.
            let _: Result<(), Violation> = guest.with(|inner| match stream_part(stream) {
                None if stream == LOG_STREAM => inner.log.outbox.ack(stream, offset),
                Some((id, part)) => match (inner.sessions.get_mut(&id), part) {
                    (Some(session), Part::Stdout) => session.stdout.ack(stream, offset),
                    (Some(session), Part::Stderr) => session.stderr.ack(stream, offset),
                    _ => Err(Violation::Unknown(stream)),
                },
                None => Err(Violation::Unknown(stream)),
            });
        }
        HostMessage::PowerOff => {
            rustix::fs::sync();
            if let Err(e) = reboot(RebootCommand::PowerOff) {
                println!("vyr-init: power off: {e}");
            }
        }
    }
}

/// A signal to a process of ours, while it is not reaped: its number cannot be another's then.
pub(crate) fn signal_role(guest: &Guest, role: Role, signal: u8) {
    let Some(signal) = Signal::from_named_raw(i32::from(signal)) else { return };
    guest.with_quietly(|inner| {
        let pid = inner.children.iter().find(|(_, it)| **it == role).map(|(pid, _)| *pid);
        if let Some(pid) = pid {
            // It may have ended this moment.
            let _ = kill_process(pid, signal);
        }
    });
}

/// The signal, the grace, and then whatever is left is killed.
fn stop(guest: &Arc<Guest>, signal: u8, grace: Duration) {
    let runs = guest.with(|inner| {
        inner.stopping = true;
        if inner.phase == Phase::Running {
            inner.phase = Phase::Stopping;
        }
        inner.children.values().any(|role| *role == Role::Workload)
    });
    if !runs {
        memory::kill_all();
        return;
    }
    signal_role(guest, Role::Workload, signal);
    let guest = Arc::clone(guest);
    thread::spawn(move || {
        let ended = guest.until_for(grace, |inner| {
            matches!(inner.phase, Phase::Ended(_) | Phase::Failed(_)).then_some(())
        });
        if ended.is_none() {
            memory::kill_all();
        }
    });
}
