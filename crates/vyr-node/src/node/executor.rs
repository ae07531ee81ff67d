//! The link to the process `tasks`: orders out, reports in.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use super::core::Command;
use super::inbox::Inbox;
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

/// One life of the process.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which life.
    pub(crate) generation: u64,
    orders: Sender,
}

impl Link {
    /// Takes over `socket`; a thread passes what comes back to `inbox` until it breaks.
    pub(crate) fn new(socket: UnixStream, generation: u64, inbox: &Arc<Inbox>) -> io::Result<Self> {
        let mut reports = Receiver::new(socket.try_clone()?);
        let inbox = Arc::clone(inbox);
        thread::Builder::new().name("vyr-reports".into()).spawn(move || {
            loop {
                match reports.next::<Report>() {
                    Ok(Some((report, mut beside))) => {
                        inbox.push(Command::Report { generation, report, pipe: beside.pop() });
                    }
                    Ok(None) => break,
                    // Whatever it said cannot be believed any more.
                    Err(_) => break,
                }
            }
            inbox.push(Command::TasksGone { generation });
        })?;
        Ok(Self { generation, orders: Sender::new(socket) })
    }

    /// Adds an order; it leaves with the next `flush`. A broken socket is noticed by the reader.
    pub(crate) fn order(&mut self, order: &Order, beside: &[BorrowedFd<'_>]) {
        let _ = self.orders.send(order, beside);
    }

    pub(crate) fn flush(&mut self) {
        let _ = self.orders.flush();
    }
}
