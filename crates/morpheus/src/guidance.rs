//! Where hints come from, as a process sees it: a connection to an agent, or a pace of its own.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::bell::Bell;
use crate::block::{ABI, Block, Reason, Source, State, Yield};
use crate::ledger::{Latencies, Ledger};
use crate::memory::Blocks;
use crate::pace::{NAP, Pressure, TICK, hint_all};
use crate::wire::{Packet, Received, WORKERS_MAX, receive, send};
use crate::worker::{Worker, forks};

/// How much the kernel helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Tier {
    /// Nobody hints.
    Off = 0,
    /// A timer of the process hints.
    Timer = 1,
    /// The pressure files decide when a timer hints.
    Psi = 2,
    /// The kernel's programs hint.
    Observe = 3,
    /// They also schedule those who agreed. Room for it; no agent has it.
    Enforce = 4,
}

impl Tier {
    const ALL: [Self; 5] = [Self::Off, Self::Timer, Self::Psi, Self::Observe, Self::Enforce];

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Timer => "timer",
            Self::Psi => "psi",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| *tier as u32 == number)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no guidance, or no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuidanceError {
    /// There is no agent at that place, or it does not answer.
    #[error("no agent answers at {0}")]
    NoAgent(String, #[source] io::Error),
    /// It said no.
    #[error("the agent refuses: {0}")]
    Refused(String),
    /// It said what makes no sense.
    #[error("the agent's answer cannot be used: {0}")]
    Answer(String),
    /// This thread is a worker already.
    #[error("this thread is registered already")]
    Registered,
    /// As many workers as were asked for are there.
    #[error("all {0} control blocks are taken")]
    Full(usize),
    /// This process is a fork of the one that made the guidance, and makes one of its own.
    #[error("this guidance is that of the process that forked")]
    Forked,
    /// The system refuses something.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

/// What a process wants of its guidance.
pub struct Options {
    /// Threads that may be registered at a time: 1 to 1,024.
    pub workers: usize,
    /// The slice of a worker in nanoseconds, unless it asks for another.
    pub slice_ns: u64,
    /// Between two looks of the timer that takes over when the agent dies; `None`: nobody does.
    pub fallback: Option<Duration>,
    /// Called on a thread of this guidance after hints, for an engine whose safe points cannot look
    /// into memory. Without it nobody is woken for a hint, ever.
    pub on_hint: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            slice_ns: 0,
            fallback: Some(TICK),
            on_hint: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("workers", &self.workers)
            .field("slice_ns", &self.slice_ns)
            .field("fallback", &self.fallback)
            .field("on_hint", &self.on_hint.is_some())
            .finish()
    }
}

/// What the workers of this process and the guidance share.
pub(crate) struct Shared {
    blocks: Blocks,
    slots: Vec<Slot>,
    link: Option<Mutex<OwnedFd>>,
    lost: AtomicBool,
    tier: AtomicU32,
    why: Mutex<String>,
    slice_ns: AtomicU64,
    /// Why the last thread that was not registered was not.
    refused: Mutex<Option<String>>,
    on_hint: Option<Box<dyn Fn() + Send + Sync>>,
    /// Forks before it was made.
    forks: u32,
}

#[derive(Debug)]
struct Slot {
    taken: AtomicBool,
    ledger: Ledger,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn block(&self, slot: usize) -> &Block {
        // A slot's number is below the count of blocks.
        self.blocks.get(slot).expect("a slot has a block")
    }

    pub(crate) fn ledger(&self, slot: usize) -> &Ledger {
        &self.slots[slot].ledger
    }

    pub(crate) fn slice_ns(&self) -> u64 {
        self.slice_ns.load(Relaxed)
    }

    /// Whether it was made by the parent of this process, or by one of the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != forks()
    }

    pub(crate) fn claim(&self) -> Result<usize, GuidanceError> {
        let free = |slot: &Slot| !slot.taken.swap(true, Relaxed);
        self.slots.iter().position(free).ok_or(GuidanceError::Full(self.slots.len()))
    }

    /// Tells the agent that this thread is the worker of that slot.
    pub(crate) fn introduce(&self, slot: usize) -> Result<(), GuidanceError> {
        let Some(link) = &self.link else { return Ok(()) };
        if self.lost.load(Relaxed) {
            return Ok(());
        }
        let thread = own_pidfd().map_err(|e| GuidanceError::System("open a pidfd", e))?;
        let register = Packet::Register { block: block_number(slot) };
        match ask(link, &register, &[thread.as_fd()]) {
            Ok(Received { packet: Packet::Registered { .. }, .. }) => Ok(()),
            Ok(Received { packet: Packet::Refused { why }, .. }) => {
                Err(GuidanceError::Refused(why))
            }
            Ok(other) => Err(GuidanceError::Answer(format!("{:?}", other.packet))),
            // It died just now: the timer takes over, for this worker too.
            Err(_) => Ok(()),
        }
    }

    fn quiet(&self) {
        if let (Some(link), Ok(thread)) = (&self.link, own_pidfd())
            && !self.lost.load(Relaxed)
        {
            // Without it there are more hints than need be, and nothing worse.
            let _ = ask(link, &Packet::Quiet, &[thread.as_fd()]);
        }
    }

    pub(crate) fn release(&self, slot: usize) {
        if let Some(link) = &self.link
            && !self.lost.load(Relaxed)
        {
            // Refused or lost: the agent has no such worker, which is what is wanted.
            let _ = ask(link, &Packet::Unregister { block: block_number(slot) }, &[]);
        }
        self.slots[slot].taken.store(false, Relaxed);
    }

    /// Notes why a thread is not registered.
    pub(crate) fn note_refused(&self, why: &GuidanceError) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    fn set_tier(&self, tier: Tier, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why.into();
        self.tier.store(tier as u32, Relaxed);
    }

    fn tell(&self) {
        if let Some(on_hint) = &self.on_hint {
            on_hint();
        }
    }

    fn is_running(&self) -> bool {
        let running = |block: &Block| block.runtime.state.load(Relaxed) == State::Running as u32;
        self.blocks.iter().any(running)
    }
}

fn block_number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

fn ask(
    link: &Mutex<OwnedFd>,
    packet: &Packet,
    files: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<Received> {
    let link = link.lock().unwrap_or_else(PoisonError::into_inner);
    send(&*link, packet, files)?;
    receive(&*link)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A pidfd of this thread, not of its process.
fn own_pidfd() -> io::Result<OwnedFd> {
    // PIDFD_THREAD is O_EXCL.
    let thread = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
    Ok(pidfd_open(rustix::thread::gettid(), thread)?)
}

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bounds how long an answer is waited for on a connection to an agent.
pub fn set_patience(socket: impl AsFd) -> rustix::io::Result<()> {
    for direction in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
        sockopt::set_socket_timeout(&socket, direction, Some(PATIENCE))?;
    }
    Ok(())
}

/// Where hints come from. Its workers may outlive it; then nobody takes over for a lost agent.
#[derive(Debug)]
pub struct Guidance {
    shared: Arc<Shared>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Guidance {
    /// Introduces this process to the agent that listens at `path`.
    pub fn connect(path: &Path, options: Options) -> Result<Self, GuidanceError> {
        let no_agent = |e: rustix::io::Errno| {
            GuidanceError::NoAgent(path.display().to_string(), io::Error::from(e))
        };
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(no_agent)?;
        let address = SocketAddrUnix::new(path).map_err(no_agent)?;
        connect(&socket, &address).map_err(no_agent)?;
        set_patience(&socket).map_err(no_agent)?;
        Self::over(socket, options)
    }

    /// Introduces this process to the agent at the other end of a connection, on which
    /// [`set_patience`] was called.
    pub fn over(socket: OwnedFd, options: Options) -> Result<Self, GuidanceError> {
        let watched =
            socket.try_clone().map_err(|e| GuidanceError::System("copy a descriptor", e))?;
        let link = Mutex::new(socket);
        let hello = Packet::Hello {
            abi: ABI,
            workers: u32::try_from(options.workers).unwrap_or(u32::MAX),
            bell: options.on_hint.is_some(),
        };
        let gone = |e| GuidanceError::NoAgent("its connection".into(), e);
        let Received { packet, files, .. } = ask(&link, &hello, &[]).map_err(gone)?;
        let (tier, kind, why) = match packet {
            Packet::Welcome { tier, bell, why } => (tier, bell, why),
            Packet::Refused { why } => return Err(GuidanceError::Refused(why)),
            other => return Err(GuidanceError::Answer(format!("{other:?}"))),
        };
        let odd = |what: &str| GuidanceError::Answer(what.into());
        let tier = Tier::of(tier).ok_or_else(|| odd("an unknown tier"))?;
        let mut files = files.into_iter();
        let blocks = files.next().ok_or_else(|| odd("no control blocks"))?;
        let blocks = Blocks::map(&blocks, options.workers)
            .map_err(|e| GuidanceError::System("map the control blocks", e))?;
        let bell = match (kind, files.next()) {
            (0, None) => None,
            (1, Some(file)) => {
                Some(Bell::ring(file).map_err(|e| GuidanceError::System("map the bell", e))?)
            }
            (2, Some(file)) => Some(Bell::Event(file)),
            _ => return Err(odd("a bell of an unknown kind")),
        };
        let fallback = options.fallback;
        let shared = Arc::new(Shared::new(blocks, options, Some(link), tier, &why));
        Self::start(shared, move |shared, stop| follow(shared, stop, &watched, bell, fallback))
    }

    /// Guidance without an agent and without hints: checkpoints always say no.
    pub fn off(options: Options) -> Result<Self, GuidanceError> {
        let shared = Shared::local(options, Tier::Off, "it was not asked for")?;
        Ok(Self { shared, stop: None, thread: None })
    }

    /// Guidance by a timer of this process: every `period`, workers over their slice are hinted.
    pub fn timer(options: Options, period: Duration) -> Result<Self, GuidanceError> {
        let shared = Shared::local(options, Tier::Timer, "a timer was asked for")?;
        Self::start(shared, move |shared, stop| tick(shared, stop, period))
    }

    /// Guidance by the pressure files, which need no privilege.
    pub fn psi(options: Options) -> Result<Self, GuidanceError> {
        let pressure =
            Pressure::open().map_err(|e| GuidanceError::System("read /proc/pressure/cpu", e))?;
        let shared = Shared::local(options, Tier::Psi, "pressure files were asked for")?;
        Self::start(shared, move |shared, stop| press(shared, stop, pressure))
    }

    fn start(
        shared: Arc<Shared>,
        thread: impl FnOnce(&Shared, &OwnedFd) + Send + 'static,
    ) -> Result<Self, GuidanceError> {
        let system = |e| GuidanceError::System("start a thread", e);
        // A worker that is confined may have no sockets.
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| system(e.into()))?;
        let stopped = stop.try_clone().map_err(system)?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("morpheus".into())
            .spawn(move || thread(&of_thread, &stopped))
            .map_err(system)?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Registers this thread.
    pub fn register(&self) -> Result<Worker, GuidanceError> {
        Worker::register(&self.shared)
    }

    /// This thread serves the guidance, or the runtime: that it wakes up is no reason for a hint.
    pub fn quiet(&self) {
        self.shared.quiet();
    }

    /// Whether things wait for a worker of this process, whichever it will be.
    pub fn set_backlog(&self, waits: bool) {
        for block in self.shared.blocks.iter() {
            block.runtime.backlog.store(u32::from(waits), Relaxed);
        }
    }

    /// Something joined the runtime's own queue and nobody is free for it: hints the worker of the
    /// highest rank, and says whether it did. `rank` is asked for each that runs and has no hint yet,
    /// by its number ([`Worker::number`]) and for how many nanoseconds it has done the same; `None`:
    /// not this one. Where guidance is off nobody is hinted.
    pub fn something_waits(&self, rank: impl Fn(usize, u64) -> Option<u64>) -> bool {
        if self.tier() == Tier::Off {
            return false;
        }
        let now = crate::clock::now_ns();
        let ranks = self.shared.blocks.iter().enumerate().filter_map(|(number, block)| {
            Some((rank(number, block.unhinted_age_ns(now)?)?, block))
        });
        let first = ranks.max_by_key(|(rank, _)| *rank);
        first.is_some_and(|(_, block)| block.hint(Source::Own, Reason::Backlog, now))
    }

    /// A way to register threads that outlives this value.
    #[must_use]
    pub fn registrar(&self) -> Registrar {
        Registrar(Arc::clone(&self.shared))
    }

    /// How much the kernel helps, now.
    #[must_use]
    pub fn tier(&self) -> Tier {
        Tier::of(self.shared.tier.load(Relaxed)).unwrap_or(Tier::Off)
    }

    /// Why it does not help more.
    #[must_use]
    pub fn why(&self) -> String {
        self.shared.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.registrar().report()
    }
}

impl Drop for Guidance {
    fn drop(&mut self) {
        let (stop, thread) = (self.stop.take(), self.thread.take());
        if self.shared.is_inherited() {
            // The thread is the parent's: here is none to be told, or to be waited for.
            std::mem::forget(thread);
            return;
        }
        if let Some(stop) = stop {
            let _ = rustix::io::write(&stop, &1_u64.to_ne_bytes());
        }
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Registers threads with a [`Guidance`].
#[derive(Debug, Clone)]
pub struct Registrar(Arc<Shared>);

impl Registrar {
    /// Registers this thread.
    pub fn register(&self) -> Result<Worker, GuidanceError> {
        Worker::register(&self.0)
    }

    /// What happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let shared = &self.0;
        let workers = (0..shared.slots.len()).map(|slot| WorkerReport::of(shared, slot)).collect();
        Report {
            tier: Tier::of(shared.tier.load(Relaxed)).unwrap_or(Tier::Off),
            why: shared.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            refused: shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            workers,
        }
    }
}

/// What happened so far in a process.
#[derive(Debug, Clone)]
pub struct Report {
    /// How much the kernel helps, now.
    pub tier: Tier,
    /// Why it does not help more.
    pub why: String,
    /// Why the last thread that could not be registered was not.
    pub refused: Option<String>,
    /// Each control block, by number.
    pub workers: Vec<WorkerReport>,
}

/// What happened so far with one control block.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Whether a thread has it now.
    pub registered: bool,
    /// Hints of the kernel's programs.
    pub kernel_hints: u64,
    /// Hints because of pressure.
    pub psi_hints: u64,
    /// Ticks of a timer that were hints.
    pub timer_hints: u64,
    /// Hints of the runtime itself, whose queue something joined.
    pub own_hints: u64,
    /// What would have been hints, had none been outstanding.
    pub dropped: u64,
    /// Acknowledged hints by reason.
    pub acknowledged: Vec<(Option<Reason>, u64)>,
    /// Yields by why.
    pub yields: [(Yield, u64); 3],
    /// Checkpoints that found a hint in a critical section.
    pub deferred: u64,
    /// From hint to acknowledgement.
    pub latencies: Latencies,
    /// Looks of the kernel at the worker, and how many found it in a critical section.
    pub looks: (u64, u64),
}

impl WorkerReport {
    fn of(shared: &Shared, slot: usize) -> Self {
        let (hints, ledger) = (&shared.block(slot).hints, shared.ledger(slot));
        Self {
            registered: shared.slots[slot].taken.load(Relaxed),
            kernel_hints: hints.kernel.load(Relaxed),
            psi_hints: hints.psi.load(Relaxed),
            timer_hints: hints.timer.load(Relaxed),
            own_hints: hints.own.load(Relaxed),
            dropped: hints.dropped.load(Relaxed),
            acknowledged: ledger.acknowledged(),
            yields: ledger.yields(),
            deferred: ledger.deferred(),
            latencies: ledger.latencies(),
            looks: (hints.looks.load(Relaxed), hints.critical_looks.load(Relaxed)),
        }
    }
}

impl Shared {
    fn new(
        blocks: Blocks,
        options: Options,
        link: Option<Mutex<OwnedFd>>,
        tier: Tier,
        why: &str,
    ) -> Self {
        let slot = |_| Slot { taken: AtomicBool::new(false), ledger: Ledger::new() };
        Self {
            slots: (0..blocks.count()).map(slot).collect(),
            blocks,
            link,
            lost: AtomicBool::new(false),
            tier: AtomicU32::new(tier as u32),
            why: Mutex::new(why.into()),
            slice_ns: AtomicU64::new(options.slice_ns),
            refused: Mutex::new(None),
            on_hint: options.on_hint,
            forks: forks(),
        }
    }

    fn local(options: Options, tier: Tier, why: &str) -> Result<Arc<Self>, GuidanceError> {
        let (blocks, _) = Blocks::create(options.workers.min(WORKERS_MAX + 1))
            .map_err(|e| GuidanceError::System("make control blocks", e))?;
        Ok(Arc::new(Self::new(blocks, options, None, tier, why)))
    }
}

/// Waits for one of the descriptors; which of them are ready. `None`: it cannot be waited any more.
fn wait<const N: usize>(
    mut files: [PollFd<'_>; N],
    at_most: Option<Duration>,
) -> Option<[bool; N]> {
    let at_most = at_most.map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    match poll(&mut files, at_most.as_ref()) {
        Ok(_) => Some(files.map(|file| !file.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Some([false; N]),
        Err(_) => None,
    }
}

/// Rings through, and takes over when the agent is gone.
fn follow(
    shared: &Shared,
    stop: &OwnedFd,
    agent: &OwnedFd,
    bell: Option<Bell>,
    fallback: Option<Duration>,
) {
    if bell.is_some() {
        shared.quiet();
    }
    // Only its end is of interest: answers are read by those who ask.
    let end = PollFlags::empty();
    loop {
        let files = match &bell {
            Some(bell) => {
                let bell = PollFd::from_borrowed_fd(bell.file(), PollFlags::IN);
                wait([PollFd::new(stop, PollFlags::IN), PollFd::new(agent, end), bell], None)
            }
            None => wait([PollFd::new(stop, PollFlags::IN), PollFd::new(agent, end)], None)
                .map(|[stop, agent]| [stop, agent, false]),
        };
        let Some([stopped, lost, rung]) = files else { return };
        if stopped {
            return;
        }
        if rung && let Some(bell) = &bell {
            bell.silence();
            shared.tell();
        }
        if lost {
            break;
        }
    }
    shared.lost.store(true, Relaxed);
    match fallback {
        Some(period) => {
            shared.set_tier(Tier::Timer, "the agent has gone; a timer took over");
            tick(shared, stop, period);
        }
        None => shared.set_tier(Tier::Off, "the agent has gone"),
    }
}

fn tick(shared: &Shared, stop: &OwnedFd, period: Duration) {
    loop {
        let next = if shared.is_running() { period } else { NAP.max(period) };
        match wait([PollFd::new(stop, PollFlags::IN)], Some(next)) {
            Some([false]) => {}
            _ => return,
        }
        if hint_all(shared.blocks.iter(), Source::Timer, Reason::Timer) {
            shared.tell();
        }
    }
}

fn press(shared: &Shared, stop: &OwnedFd, mut pressure: Pressure) {
    while let Some([false]) = wait([PollFd::new(stop, PollFlags::IN)], Some(pressure.tick())) {
        pressure.look(shared.blocks.iter());
        if pressure.is_pressed() && hint_all(shared.blocks.iter(), Source::Psi, Reason::Pressure) {
            shared.tell();
        }
    }
}
