//! The link to the process `tasks`: orders out, reports in.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::core::Command;
use crate::process::TasksProcess;
use crate::process::wire::{Order, Receiver, Report, Sender};

/// Who starts the process `tasks`: this process itself, or its supervisor.
pub trait Host: Send {
    /// Starts it anew; whatever ran before is dead when this returns.
    fn start_tasks(&mut self) -> io::Result<UnixStream>;

    /// Ends it.
    fn stop_tasks(&mut self);

    /// Gives a signed checkpoint to the command that keeps them elsewhere, without waiting for it.
    fn keep_checkpoint(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Starts the process as a child of this one.
#[derive(Debug)]
pub struct LocalHost {
    slots: u32,
    workers: u32,
    process: Option<TasksProcess>,
    fresh: bool,
}

impl LocalHost {
    /// For `slots` tasks at once on `workers` threads. The process is started here, so that it
    /// gets ready meanwhile.
    pub fn new(slots: u32, workers: u32) -> io::Result<Self> {
        let process = TasksProcess::start(slots, workers).map_err(io::Error::other)?;
        Ok(Self { slots, workers, process: Some(process), fresh: true })
    }

    /// The process that runs now.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(TasksProcess::id)
    }
}

impl Host for LocalHost {
    fn start_tasks(&mut self) -> io::Result<UnixStream> {
        let fresh = std::mem::take(&mut self.fresh);
        // The one of `new`, not used yet.
        let first = self.process.take().filter(|_| fresh);
        let process = match first {
            Some(process) => process,
            None => TasksProcess::start(self.slots, self.workers).map_err(io::Error::other)?,
        };
        let socket = process.socket().map_err(io::Error::other)?;
        self.process = Some(process);
        Ok(socket)
    }

    fn stop_tasks(&mut self) {
        self.process = None;
    }
}

/// How long the process may take no order and say nothing, while orders wait to be written.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// One life of the process.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which life.
    pub(crate) generation: u64,
    orders: Sender,
    reports: Receiver,
    /// Read while an order could not be written.
    early: Vec<Command>,
    ended: bool,
}

impl Link {
    /// Takes over `socket`.
    pub(crate) fn new(socket: UnixStream, generation: u64) -> io::Result<Self> {
        let reports = Receiver::new(socket.try_clone()?);
        let orders = Sender::new(socket);
        Ok(Self { generation, orders, reports, early: Vec::new(), ended: false })
    }

    /// What is readable when it has something to say; nothing any more once it has ended.
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended).then(|| self.orders.socket())
    }

    /// Adds what it has said: one read, so that one that talks without end does not hold up a turn.
    /// The last is that it is gone.
    pub(crate) fn read(&mut self, into: &mut Vec<Command>) {
        into.append(&mut self.early);
        if self.ended {
            return;
        }
        let filled = self.reports.fill_now();
        let generation = self.generation;
        let broken = loop {
            match self.reports.buffered::<Report>() {
                Ok(Some((report, mut beside))) => {
                    into.push(Command::Report { generation, report, pipe: beside.pop() });
                }
                Ok(None) => break false,
                // Whatever it said cannot be believed any more.
                Err(_) => break true,
            }
        };
        if broken || !matches!(filled, Ok(true)) {
            self.ended = true;
            into.push(Command::TasksGone { generation });
        }
    }

    /// Adds an order; it leaves with the next `flush`. A broken socket is noticed by `read`.
    pub(crate) fn order(&mut self, order: &Order, beside: &[BorrowedFd<'_>]) {
        if !beside.is_empty() {
            self.flush();
        }
        let _ = self.orders.send(order, beside);
    }

    /// Writes all orders. While the other side does not take them its reports are read, because it
    /// may not take any before it got rid of those.
    pub(crate) fn flush(&mut self) {
        while let Ok(false) = self.orders.flush_some() {
            let wanted = match self.ended {
                true => PollFlags::OUT,
                false => PollFlags::IN | PollFlags::OUT,
            };
            let mut socket = [PollFd::from_borrowed_fd(self.orders.socket(), wanted)];
            if let Ok(0) = poll(&mut socket, Some(&PATIENCE)) {
                // It does nothing any more: as good as dead.
                self.ended = true;
                self.early.push(Command::TasksGone { generation: self.generation });
                return;
            }
            if !socket[0].revents().is_empty() {
                let mut early = std::mem::take(&mut self.early);
                self.read(&mut early);
                self.early = early;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wire::{encode, write_all};
    use std::thread;

    /// Both directions of a socket hold some hundred kilobytes; each side here has megabytes to say
    /// before it listens.
    #[test]
    fn two_that_both_talk_do_not_wait_for_each_other() {
        const MESSAGES: u64 = 40_000;
        let (here, there) = UnixStream::pair().expect("socket pair");
        let other = thread::spawn(move || {
            let mut reports = Vec::new();
            for task in 0..MESSAGES {
                let spilled = Report::Spilled { task };
                encode(&spilled, 0, &mut reports).expect("encodes");
            }
            write_all(&there, &reports).expect("writes");
            let mut orders = Receiver::new(there);
            for expected in 0..MESSAGES {
                let (order, _) = orders.next::<Order>().expect("reads").expect("an order");
                assert!(matches!(order, Order::Cancel { task } if task == expected));
            }
        });
        let mut link = Link::new(here, 7).expect("a link");
        for task in 0..MESSAGES {
            link.order(&Order::Cancel { task }, &[]);
        }
        link.flush();
        other.join().expect("thread");
        let mut said = Vec::new();
        while link.readable().is_some() {
            link.read(&mut said);
        }
        assert!(matches!(said.pop(), Some(Command::TasksGone { generation: 7 })));
        assert_eq!(said.len() as u64, MESSAGES);
        for (command, expected) in said.iter().zip(0..) {
            let Command::Report { report: Report::Spilled { task }, .. } = command else {
                panic!("another command: {command:?}");
            };
            assert_eq!(*task, expected);
        }
    }

    #[test]
    fn nonsense_ends_it_once() {
        let (here, there) = UnixStream::pair().expect("socket pair");
        write_all(&there, &[0xff; 64]).expect("writes");
        let mut link = Link::new(here, 1).expect("a link");
        let mut said = Vec::new();
        link.read(&mut said);
        link.read(&mut said);
        assert!(matches!(said[..], [Command::TasksGone { generation: 1 }]), "{said:?}");
        assert!(link.readable().is_none());
    }
}
