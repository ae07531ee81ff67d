//! A process that is known for certain: by its number and the time it started, held by a pidfd.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Held while a child is started: what one is to inherit, another would too.
pub(super) static SPAWNING: Mutex<()> = Mutex::new(());

/// A handle that never means another process.
#[derive(Debug)]
pub(super) struct Handle {
    pidfd: OwnedFd,
}

impl Handle {
    /// Of a child that was not waited for: its number is its own.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        Ok(Self { pidfd: open(pid)? })
    }

    /// Of the process that had this number and started at this time; `None`: it is gone.
    pub(super) fn find(pid: u32, start: u64) -> io::Result<Option<Self>> {
        let pidfd = match open(pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
            Err(e) => return Err(e),
        };
        // Looked at after it is held: the number cannot change hands in between.
        match started(pid) {
            Ok(found) if found == start => Ok(Some(Self { pidfd })),
            _ => Ok(None),
        }
    }

    /// Whether it ended, within this time. A child that nobody waited for has ended too.
    pub(super) fn ended(&self, time: Duration) -> io::Result<bool> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(
                &mut [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)],
                Some(&left),
            ) {
                Err(Errno::INTR) => {}
                Ok(count) => return Ok(count > 0),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// SIGKILL. One that has ended already is as wanted.
    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process has this number"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// When a process started, in ticks since the boot (`proc_pid_stat(5)`, field 22).
pub(super) fn started(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything: what counts stands behind the last one.
    let field = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("/proc tells no time of start"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_known_by_number_and_time() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        let start = started(child.id()).expect("/proc");
        let found = Handle::find(child.id(), start).expect("allowed").expect("it runs");
        assert!(!found.ended(Duration::ZERO).expect("a poll"));
        let other = Handle::find(child.id(), start + 1).expect("allowed");
        assert!(other.is_none(), "another process of the same number");
        found.kill().expect("allowed");
        assert!(found.ended(Duration::from_secs(60)).expect("a poll"));
        child.wait().expect("ours");
        assert!(Handle::find(child.id(), start).expect("allowed").is_none());
    }
}
