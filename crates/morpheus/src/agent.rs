//! An agent: it hands control blocks to processes and tells a [`Hinter`] which threads they are for.
//!
//! One thread, one loop. What processes say is not believed: a thread is who its pidfd says, it must
//! belong to the process that the kernel names as the sender, and what a process can break is its
//! own.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
    socketpair,
};

use crate::block::{ABI, Block, Reason, Source};
use crate::guidance::Tier;
use crate::memory::Blocks;
use crate::pace::{Pressure, REST, hint_all};
use crate::wire::{PROCESSES_MAX, Packet, Received, WORKERS_MAX, receive, send};

/// What hints to the workers of an agent's processes.
pub trait Hinter {
    /// What it is.
    fn tier(&self) -> Tier;

    /// Why it is not a higher tier.
    fn why(&self) -> String;

    /// Makes room for a process: its blocks, a descriptor of them, and a bell if it wants one.
    fn admit(&mut self, process: usize, workers: usize, bell: bool) -> io::Result<Memory>;

    /// Forgets a process; all its workers were unregistered before.
    fn dismiss(&mut self, process: usize);

    /// The thread becomes a worker. It is alive, and `thread` is a pidfd of it.
    fn register(&mut self, worker: Registration<'_>) -> io::Result<()>;

    /// The thread serves its process's guidance: its wake-ups are nobody's reason.
    fn quiet(&mut self, _process: usize, _thread: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    /// It is one no more; it may have ended.
    fn unregister(&mut self, process: usize, block: usize, thread: BorrowedFd<'_>);
}

/// A thread that becomes a worker.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// The number of its process with this agent.
    pub process: usize,
    /// The number of its block.
    pub block: usize,
    /// The generation of the block.
    pub generation: u32,
    /// Whether its process has a bell.
    pub bell: bool,
    /// A pidfd of the thread.
    pub thread: BorrowedFd<'a>,
    /// The number of the thread where the agent runs.
    pub tid: i32,
}

/// The memory of a process.
#[derive(Debug)]
pub struct Memory {
    /// Its blocks, as the agent sees them.
    pub blocks: Blocks,
    /// What the process maps.
    pub file: OwnedFd,
    /// A bell, with its kind for [`Packet::Welcome`].
    pub bell: Option<(u32, OwnedFd)>,
}

/// The tier without the kernel's programs: hints while the machine is under pressure.
#[derive(Debug)]
pub struct Psi {
    why: String,
    bells: HashMap<usize, OwnedFd>,
}

impl Psi {
    /// `why` there is no higher tier.
    #[must_use]
    pub fn new(why: String) -> Self {
        Self { why, bells: HashMap::new() }
    }
}

impl Hinter for Psi {
    fn tier(&self) -> Tier {
        Tier::Psi
    }

    fn why(&self) -> String {
        self.why.clone()
    }

    fn admit(&mut self, process: usize, workers: usize, bell: bool) -> io::Result<Memory> {
        let (blocks, file) = Blocks::create(workers)?;
        let bell = if bell {
            let flags =
                rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
            let ours = rustix::event::eventfd(0, flags)?;
            let theirs = ours.try_clone()?;
            self.bells.insert(process, ours);
            Some((2, theirs))
        } else {
            None
        };
        Ok(Memory { blocks, file, bell })
    }

    fn dismiss(&mut self, process: usize) {
        self.bells.remove(&process);
    }

    fn register(&mut self, _: Registration<'_>) -> io::Result<()> {
        Ok(())
    }

    fn unregister(&mut self, _: usize, _: usize, _: BorrowedFd<'_>) {}
}

impl Psi {
    fn ring(&self, process: usize) {
        if let Some(bell) = self.bells.get(&process) {
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

/// A process that introduced itself, or is about to.
struct Process {
    socket: OwnedFd,
    /// After its `Hello`: its number, its blocks, whether it has a bell.
    known: Option<(usize, Blocks, bool)>,
    /// The process that the kernel says it is.
    pid: Option<u32>,
    workers: HashMap<usize, OwnedFd>,
}

impl Process {
    /// The thread that a pidfd is of, and its number here: it lives, and is of this process.
    fn own_thread(
        &self,
        mut files: Vec<OwnedFd>,
        sender: Option<u32>,
    ) -> io::Result<(OwnedFd, i32)> {
        let refuse = |what: &str| io::Error::other(what.to_string());
        if sender.is_none() || sender != self.pid {
            return Err(refuse("this comes from another process than the introduction"));
        }
        let (Some(thread), true) = (files.pop(), files.is_empty()) else {
            return Err(refuse("a thread is registered by one pidfd of it"));
        };
        let tid = thread_of(&thread)?;
        if process_of(tid)? != sender {
            return Err(refuse("the thread belongs to another process"));
        }
        // It had the number while it was alive, so the number was its own just now.
        if has_ended(&thread)? {
            return Err(refuse("the thread has ended"));
        }
        Ok((thread, tid))
    }
}

/// An agent. [`Agent::run`] serves until it is told to stop.
pub struct Agent<H> {
    hinter: H,
    listener: Option<OwnedFd>,
    processes: Vec<Process>,
    generation: u32,
    pressure: Option<Pressure>,
    /// Hints under pressure come from here, not from the hinter.
    psi: Option<fn(&H, usize)>,
}

impl<H> std::fmt::Debug for Agent<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("processes", &self.processes.len()).finish_non_exhaustive()
    }
}

impl Agent<Psi> {
    /// An agent that hints while the machine is under pressure.
    pub fn psi(hinter: Psi) -> io::Result<Self> {
        let pressure = Pressure::open()?;
        Ok(Self { pressure: Some(pressure), psi: Some(Psi::ring), ..Self::new(hinter) })
    }
}

impl<H: Hinter> Agent<H> {
    /// An agent for a hinter of its own.
    #[must_use]
    pub fn new(hinter: H) -> Self {
        Self {
            hinter,
            listener: None,
            processes: Vec::new(),
            generation: 0,
            // Where there are no pressure files, the pressure reads zero.
            pressure: Pressure::open().ok(),
            psi: None,
        }
    }

    /// Listens on a new socket at `path`.
    pub fn listen(&mut self, path: &Path) -> io::Result<()> {
        let listener = packets()?;
        // Connections inherit it, so that also what was sent before `accept` says who sent it.
        set_socket_passcred(&listener, true)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, 16)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Makes a connection; the other end of it is for the process.
    pub fn connect(&mut self) -> io::Result<OwnedFd> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        self.add(ours)?;
        Ok(theirs)
    }

    /// Serves a connection that was made elsewhere, on which [`tell_senders`] was called before
    /// anything could be sent.
    pub fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        set_socket_passcred(&socket, true)?;
        self.processes.push(Process { socket, known: None, pid: None, workers: HashMap::new() });
        Ok(())
    }

    /// What hints.
    pub fn hinter(&self) -> &H {
        &self.hinter
    }

    /// Serves until `stop` is readable or closed, or, without a listener, until nobody is left.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            if self.listener.is_none() && self.processes.is_empty() {
                return Ok(());
            }
            let wait = match &self.pressure {
                Some(pressure) if self.psi.is_some() => pressure.tick(),
                _ => REST,
            };
            let ready = self.wait(stop, wait)?;
            if ready.stop {
                return Ok(());
            }
            if ready.connection {
                self.accept();
            }
            for (n, block) in ready.ended {
                self.end_worker(n, block);
            }
            // From the last, so that the numbers of those before stay.
            for n in ready.packets.into_iter().rev() {
                if let Err(_gone) = self.serve(n) {
                    self.forget(n);
                }
            }
            self.press();
        }
    }

    fn press(&mut self) {
        let Some(pressure) = &mut self.pressure else { return };
        let known = || self.processes.iter().filter_map(|process| process.known.as_ref());
        pressure.look(known().flat_map(|(_, blocks, _)| blocks.iter()));
        if let Some(ring) = self.psi
            && pressure.is_pressed()
        {
            for (number, blocks, bell) in known() {
                if hint_all(blocks.iter(), Source::Psi, Reason::Pressure) && *bell {
                    ring(&self.hinter, *number);
                }
            }
        }
    }

    fn wait(&self, stop: BorrowedFd<'_>, wait: Duration) -> io::Result<Ready> {
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut files = vec![PollFd::new(&stop, PollFlags::IN)];
        // A second packet of the same process waits for the next turn; nobody starves the others.
        files.extend(self.processes.iter().map(|p| PollFd::new(&p.socket, PollFlags::IN)));
        files.extend(self.listener.iter().map(|l| PollFd::new(l, PollFlags::IN)));
        let workers: Vec<(usize, usize, &OwnedFd)> = self
            .processes
            .iter()
            .enumerate()
            .flat_map(|(n, p)| p.workers.iter().map(move |(block, thread)| (n, *block, thread)))
            .collect();
        files.extend(workers.iter().map(|(_, _, thread)| PollFd::new(*thread, PollFlags::IN)));
        match poll(&mut files, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |n: usize| !files[n].revents().is_empty();
        let first_worker = files.len() - workers.len();
        Ok(Ready {
            stop: is_ready(0),
            packets: (0..self.processes.len()).filter(|n| is_ready(1 + n)).collect(),
            connection: self.listener.is_some() && is_ready(1 + self.processes.len()),
            ended: workers
                .iter()
                .enumerate()
                .filter(|(n, _)| is_ready(first_worker + n))
                .map(|(_, (process, block, _))| (*process, *block))
                .collect(),
        })
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC) else { return };
        // Introduced or not: one that is too many is closed.
        if self.processes.len() < PROCESSES_MAX {
            let _ = self.add(socket);
        }
    }

    /// Reads and answers one packet; an error ends the connection.
    fn serve(&mut self, n: usize) -> io::Result<()> {
        let Received { packet, files, sender } = match receive(&self.processes[n].socket) {
            Ok(Some(received)) => received,
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        match packet {
            Packet::Hello { abi, workers, bell } => match self.hello(n, abi, workers, bell, sender)
            {
                Ok(memory) => self.welcome(n, memory),
                Err(e) => self.refuse(n, &e),
            },
            Packet::Register { block } => match self.register(n, block as usize, files, sender) {
                Ok(generation) => self.answer(n, &Packet::Registered { generation }),
                Err(e) => self.refuse(n, &e),
            },
            Packet::Quiet => match self.quiet(n, files, sender) {
                Ok(()) => self.answer(n, &Packet::Registered { generation: 0 }),
                Err(e) => self.refuse(n, &e),
            },
            Packet::Unregister { block } => {
                if self.end_worker(n, block as usize) {
                    self.answer(n, &Packet::Unregistered)
                } else {
                    self.refuse(n, &io::Error::other("that block has no worker"))
                }
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn answer(&self, n: usize, packet: &Packet) -> io::Result<()> {
        send(&self.processes[n].socket, packet, &[])
    }

    fn refuse(&self, n: usize, why: &io::Error) -> io::Result<()> {
        self.answer(n, &Packet::Refused { why: why.to_string() })
    }

    fn hello(
        &mut self,
        n: usize,
        abi: u32,
        workers: u32,
        bell: bool,
        sender: Option<u32>,
    ) -> io::Result<Memory> {
        if abi != ABI {
            let what = format!("control blocks of version {abi}; this agent has version {ABI}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        if self.processes[n].known.is_some() {
            return Err(io::Error::other("the process has introduced itself before"));
        }
        let workers = workers as usize;
        if workers == 0 || workers > WORKERS_MAX {
            let what = format!("{workers} workers; there may be 1 to {WORKERS_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let taken = |number: &usize| {
            self.processes.iter().any(|p| p.known.as_ref().is_some_and(|(n, ..)| n == number))
        };
        let number = (0..PROCESSES_MAX)
            .find(|number| !taken(number))
            .ok_or_else(|| io::Error::other("there are too many processes"))?;
        if sender.is_none() {
            return Err(io::Error::other("the kernel does not say who this is"));
        }
        self.processes[n].pid = sender;
        let memory = self.hinter.admit(number, workers, bell)?;
        let blocks = Blocks::map(&memory.file, workers)?;
        self.processes[n].known = Some((number, blocks, memory.bell.is_some()));
        Ok(memory)
    }

    fn welcome(&self, n: usize, memory: Memory) -> io::Result<()> {
        let (kind, bell) = memory.bell.map_or((0, None), |(kind, file)| (kind, Some(file)));
        let files: Vec<_> =
            std::iter::once(memory.file.as_fd()).chain(bell.iter().map(AsFd::as_fd)).collect();
        let welcome =
            Packet::Welcome { tier: self.hinter.tier() as u32, bell: kind, why: self.hinter.why() };
        send(&self.processes[n].socket, &welcome, &files)
    }

    fn register(
        &mut self,
        n: usize,
        block: usize,
        files: Vec<OwnedFd>,
        sender: Option<u32>,
    ) -> io::Result<u32> {
        let refuse = |what: &str| io::Error::other(what.to_string());
        let process = &self.processes[n];
        let Some((number, blocks, bell)) = &process.known else {
            return Err(refuse("the process has not introduced itself"));
        };
        let (thread, tid) = process.own_thread(files, sender)?;
        if blocks.get(block).is_none() {
            return Err(refuse("there is no such block"));
        }
        if process.workers.contains_key(&block) {
            return Err(refuse("that block has a worker"));
        }
        for other in process.workers.values() {
            if thread_of(other).ok() == Some(tid) && !has_ended(other)? {
                return Err(refuse("the thread has a block already"));
            }
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        let generation = self.generation;
        let (number, bell) = (*number, *bell);
        if let Some(block) = blocks.get(block) {
            block.hints.generation.store(generation, Relaxed);
        }
        let thread_ref = thread.as_fd();
        let registration =
            Registration { process: number, block, generation, bell, thread: thread_ref, tid };
        self.hinter.register(registration)?;
        self.processes[n].workers.insert(block, thread);
        Ok(generation)
    }

    fn quiet(&mut self, n: usize, files: Vec<OwnedFd>, sender: Option<u32>) -> io::Result<()> {
        let process = &self.processes[n];
        let Some((number, ..)) = process.known else {
            return Err(io::Error::other("the process has not introduced itself"));
        };
        let (thread, _) = process.own_thread(files, sender)?;
        self.hinter.quiet(number, thread.as_fd())
    }

    /// Whether there was one.
    fn end_worker(&mut self, n: usize, block: usize) -> bool {
        let Some(process) = self.processes.get_mut(n) else { return false };
        let Some(thread) = process.workers.remove(&block) else { return false };
        let Some((number, blocks, _)) = &process.known else { return false };
        self.hinter.unregister(*number, block, thread.as_fd());
        if let Some(block) = blocks.get(block) {
            forget_block(block);
        }
        true
    }

    fn forget(&mut self, n: usize) {
        let blocks: Vec<usize> = self.processes[n].workers.keys().copied().collect();
        for block in blocks {
            self.end_worker(n, block);
        }
        if let Some((number, ..)) = self.processes.swap_remove(n).known {
            self.hinter.dismiss(number);
        }
    }
}

/// Has the kernel say of each packet that arrives here who sent it.
pub fn tell_senders(socket: impl AsFd) -> rustix::io::Result<()> {
    set_socket_passcred(socket, true)
}

/// Answers the first packet on a connection with a refusal: there is no agent behind it, and why.
pub fn decline(socket: impl AsFd, why: &str) -> io::Result<()> {
    match receive(&socket)? {
        Some(_) => send(&socket, &Packet::Refused { why: why.into() }, &[]),
        None => Ok(()),
    }
}

/// After it, a hint of the kernel's for the worker that was there finds another generation.
fn forget_block(block: &Block) {
    block.hints.generation.store(0, Relaxed);
}

struct Ready {
    stop: bool,
    connection: bool,
    packets: Vec<usize>,
    ended: Vec<(usize, usize)>,
}

fn packets() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// The number of the thread that a pidfd is of, here.
fn thread_of(pidfd: &OwnedFd) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    field(&text, "Pid:")
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| io::Error::other("that is no pidfd, or of no thread that is seen here"))
}

/// The process of a thread.
fn process_of(tid: i32) -> io::Result<Option<u32>> {
    let text = fs::read_to_string(format!("/proc/{tid}/status"))?;
    Ok(field(&text, "Tgid:"))
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn has_ended(thread: &OwnedFd) -> io::Result<bool> {
    let mut files = [PollFd::new(thread, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut files, Some(&now))? > 0)
}
