//! The core's inbox: what callers tell it, taken all at once.
//!
//! The core sleeps on the inbox and on the socket from `tasks` together: a report that went through
//! a thread of its own would reach it one wake-up later, which costs as much as a small guest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::core::Command;

/// Commands taken in one turn, and so events in one commit: some milliseconds of work.
const TURN_MAX: usize = 4096;

/// A queue of commands. Who fills it bounds what it puts in (`Node::submit`).
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    /// Readable from when a sleeping core was called until it has looked.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// The core sleeps, or is about to: whoever adds a command rings, once.
    asleep: bool,
}

impl Inbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), bell })
    }

    pub(crate) fn push(&self, command: Command) {
        let mut queue = self.lock();
        queue.commands.push_back(command);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            // It can only be full, and then it is readable.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// All that is there, as far as it fits into one turn.
    pub(crate) fn take(&self, into: &mut Vec<Command>) {
        let mut queue = self.lock();
        let some = queue.commands.len().min(TURN_MAX);
        into.extend(queue.commands.drain(..some));
    }

    /// Waits until a command is there, `socket` can be read, or it is `until`. Returns whether to
    /// read the socket.
    pub(crate) fn wait(&self, socket: Option<BorrowedFd<'_>>, until: Option<Instant>) -> bool {
        {
            let mut queue = self.lock();
            if !queue.commands.is_empty() {
                return false;
            }
            queue.asleep = true;
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(timespec);
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let (rung, readable) = match &socket {
            Some(socket) => {
                let mut both = [bell, PollFd::new(socket, PollFlags::IN)];
                let _ = poll(&mut both, left.as_ref());
                (!both[0].revents().is_empty(), !both[1].revents().is_empty())
            }
            None => {
                let mut one = [bell];
                let _ = poll(&mut one, left.as_ref());
                (!one[0].revents().is_empty(), false)
            }
        };
        self.lock().asleep = false;
        if rung {
            let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
        }
        readable
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    #[test]
    fn a_command_wakes_a_sleeper_and_only_one_that_sleeps_is_rung() {
        let inbox = Arc::new(Inbox::new().expect("an eventfd"));
        let mut taken = Vec::new();
        // Nobody sleeps: nothing rings, and the command is found without a wait.
        inbox.push(Command::TasksGone { generation: 1 });
        assert!(rustix::io::read(&inbox.bell, &mut [0u8; 8]).is_err(), "rung for nobody");
        assert!(!inbox.wait(None, soon()));
        inbox.take(&mut taken);
        let other = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || other.push(Command::TasksGone { generation: 2 }));
        let began = Instant::now();
        while taken.len() < 2 {
            inbox.wait(None, soon());
            inbox.take(&mut taken);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "slept through the bell");
        thread.join().expect("thread");
    }

    #[test]
    fn a_socket_wakes_it_and_so_does_the_time() {
        let inbox = Inbox::new().expect("an eventfd");
        let (mut here, there) = UnixStream::pair().expect("socket pair");
        let past = Some(Instant::now());
        assert!(!inbox.wait(Some(there.as_fd()), past));
        here.write_all(b"x").expect("write");
        assert!(inbox.wait(Some(there.as_fd()), soon()));
    }
}
