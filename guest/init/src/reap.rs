//! The reaper: every process whose parent is gone ends here.
//!
//! Waiting and starting share the lock: a child that could not be started is waited for by who
//! started it, and nobody takes that away.

use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};
use vyr_channel::{End, ExecEnd, Phase};

use crate::guest::{Guest, Inner, Role};
use crate::memory;

/// Reaps for ever.
pub(crate) fn watch(guest: &Arc<Guest>) {
    let guest = Arc::clone(guest);
    thread::spawn(move || {
        loop {
            // Looks without reaping: that is done under the lock.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => guest.with(reap),
                Err(Errno::CHILD) => {
                    guest.until(|inner| (!inner.children.is_empty()).then_some(()));
                }
                Err(_) => {}
            }
        }
    });
}

fn reap(inner: &mut Inner) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let Some(role) = inner.children.remove(&pid) else { continue };
        let (code, signal) = parts(status);
        match role {
            Role::Prestart => inner.prestart = Some((code, signal)),
            Role::Workload => {
                let oom_killed = memory::oom_killed();
                memory::kill_all();
                inner.phase = Phase::Ended(End { code, signal, oom_killed });
            }
            Role::Exec(id) => {
                if let Some(session) = inner.sessions.get_mut(&id) {
                    session.ended = Some(match (code, signal) {
                        (Some(code), _) => ExecEnd::Code(code),
                        (None, Some(signal)) => ExecEnd::Signal(signal),
                        (None, None) => ExecEnd::Failed("it vanished".into()),
                    });
                    inner.changed.insert(id);
                }
            }
        }
    }
}

/// Exit code and signal.
fn parts(status: WaitStatus) -> (Option<u8>, Option<u8>) {
    let byte = |number: i32| u8::try_from(number).ok();
    (status.exit_status().and_then(byte), status.terminating_signal().and_then(byte))
}
