//! A thread that is told when to yield: its checkpoint, its critical sections, its registration.

#![expect(
    unsafe_code,
    reason = "a thread-local pointer to the control block is the whole cost of a checkpoint"
)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Once};

use crate::block::{Block, Reason, State, Yield};
use crate::clock::now_ns;
use crate::guidance::{GuidanceError, Shared};
use crate::ledger::Ledger;

/// The block of every thread that is not registered. Nobody writes to it, so it never hints.
static NOBODY: Block = Block::new();

thread_local! {
    static BLOCK: Cell<*const Block> = const { Cell::new(&raw const NOBODY) };
    static LEDGER: Cell<*const Ledger> = const { Cell::new(null()) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WHY: Cell<Option<Reason>> = const { Cell::new(None) };
}

/// How often this process is the child of a fork: what was made before is the parent's.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The number of forks so far; the first call begins to count.
pub(crate) fn forks() -> u32 {
    static AT_FORK: Once = Once::new();
    AT_FORK.call_once(|| {
        // SAFETY: a function without arguments that touches this thread's cells and an atomic,
        // all of which a child of a fork may.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Relaxed)
}

#[inline(always)]
fn block() -> &'static Block {
    // SAFETY: it is `NOBODY`, or a block of a mapping that the thread's `Worker` keeps alive until
    // it has put `NOBODY` back; no reference outlives the call in which it was taken.
    unsafe { &*BLOCK.get() }
}

fn ledger() -> Option<&'static Ledger> {
    // SAFETY: as for the block.
    unsafe { LEDGER.get().as_ref() }
}

/// Whether this thread is asked to yield: call it where yielding is possible, as often as it suits.
///
/// It costs two loads and a compare. `true` means that a hint was there, has been acknowledged, and
/// that the thread should now turn to something else ([`yield_now`] gives its processor to whoever
/// waits). In a critical section it is always `false`, and the hint waits for the section's end. On
/// a thread that is not registered it is always `false`. It may be called in a signal handler.
#[inline(always)]
#[must_use]
pub fn checkpoint() -> bool {
    block().is_outstanding() && answer()
}

#[cold]
#[inline(never)]
fn answer() -> bool {
    if DEPTH.get() > 0 {
        if let Some(ledger) = ledger() {
            ledger.defer();
        }
        return false;
    }
    let block = block();
    let Some(hint) = block.acknowledge() else { return false };
    let now = now_ns();
    WHY.set(hint.reason);
    if let Some(ledger) = ledger() {
        ledger.acknowledge(hint, now);
        ledger.yielded(Yield::Hint);
    }
    block.yielded(Yield::Hint, now);
    true
}

/// Why the hint was given that [`checkpoint`] last said yes to on this thread. `None`: there was no
/// hint, or its block was scribbled over.
#[must_use]
pub fn why() -> Option<Reason> {
    WHY.get()
}

/// Gives the processor to another thread that waits for it, if the last hint was because of one, and
/// says whether it was. That thread may have brought something for the queue of this one's runtime,
/// so look at it after this.
pub fn yield_to_threads() -> bool {
    let waits = matches!(why(), Some(Reason::Wakeup | Reason::Slice));
    if waits {
        yield_now();
    }
    waits
}

/// The worker turns to something else, with a slice of so many nanoseconds (zero: the default). On
/// a thread that is not registered it does nothing.
pub fn turn(slice_ns: u64) {
    if is_registered() {
        let block = block();
        block.runtime.slice_ns.store(slice_ns, Relaxed);
        block.turn(now_ns());
    }
}

/// Gives the processor to whoever waits for it, if anybody does.
pub fn yield_now() {
    std::thread::yield_now();
}

/// Notes that the worker yields for a reason of its own, where it is not a hint that made it yield.
pub fn note_yield(why: Yield) {
    if let Some(ledger) = ledger() {
        ledger.yielded(why);
        block().yielded(why, now_ns());
    }
}

/// Runs `section`, in which this thread must not be turned to anything else: inside, no checkpoint
/// says yes, and no tier of this guidance preempts the thread. Sections nest.
///
/// The section is a call, so it ends however the call does, on the thread on which it began, and
/// cannot be forgotten or be left open across an `.await`.
pub fn critical<R>(section: impl FnOnce() -> R) -> R {
    struct Inside(PhantomData<*const ()>);
    impl Drop for Inside {
        fn drop(&mut self) {
            deepen(-1);
        }
    }
    deepen(1);
    let _inside = Inside(PhantomData);
    section()
}

/// For engines whose critical sections are not calls of ours: whether the thread is in a host call.
/// It counts as one level of a critical section, however often it is said. Returns what was said
/// before, for engines that suspend host calls and resume them on another thread.
pub fn in_host_call(inside: bool) -> bool {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    let before = SAID.replace(inside);
    if before != inside {
        deepen(if inside { 1 } else { -1 });
    }
    before
}

fn deepen(by: i32) {
    let depth = DEPTH.get().saturating_add_signed(by);
    DEPTH.set(depth);
    if is_registered() {
        block().runtime.critical_depth.store(depth, Relaxed);
    }
}

/// Whether this thread is in a critical section.
#[must_use]
pub fn in_critical() -> bool {
    DEPTH.get() > 0
}

/// Whether this thread is registered.
#[must_use]
pub fn is_registered() -> bool {
    !LEDGER.get().is_null()
}

/// The registration of this thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    slot: usize,
    /// It is about the thread it was made on.
    here: PhantomData<*const ()>,
}

impl Worker {
    pub(crate) fn register(shared: &Arc<Shared>) -> Result<Self, GuidanceError> {
        if is_registered() {
            return Err(GuidanceError::Registered);
        }
        if shared.is_inherited() {
            return Err(GuidanceError::Forked);
        }
        let slot = shared.claim().inspect_err(|e| shared.note_refused(e))?;
        let worker = Self { shared: Arc::clone(shared), slot, here: PhantomData };
        let block = worker.block();
        let runtime = &block.runtime;
        runtime.critical_depth.store(DEPTH.get(), Relaxed);
        runtime.backlog.store(0, Relaxed);
        runtime.escapable.store(0, Relaxed);
        runtime.slice_ns.store(shared.slice_ns(), Relaxed);
        // What an earlier worker left open is not for this one.
        let _ = block.acknowledge();
        block.turn(now_ns());
        runtime.state.store(State::Running as u32, Relaxed);
        // If the agent refuses, the slot goes back as `worker` is dropped.
        shared.introduce(slot).inspect_err(|e| shared.note_refused(e))?;
        BLOCK.set(worker.block());
        LEDGER.set(worker.shared.ledger(slot));
        Ok(worker)
    }

    fn block(&self) -> &Block {
        if self.shared.is_inherited() {
            // The block is in memory that parent and child share, and it is the parent's.
            return &NOBODY;
        }
        self.shared.block(self.slot)
    }

    /// The number of its control block.
    #[must_use]
    pub fn number(&self) -> usize {
        self.slot
    }

    /// The thread turns to something else: its slice begins anew.
    pub fn turn(&self) {
        self.block().turn(now_ns());
    }

    /// Asks for a slice of so many nanoseconds; the kernel's side clamps it to
    /// [`SLICE_MIN_NS`](crate::SLICE_MIN_NS) and [`SLICE_MAX_NS`](crate::SLICE_MAX_NS).
    pub fn set_slice_ns(&self, slice_ns: u64) {
        self.block().runtime.slice_ns.store(slice_ns, Relaxed);
    }

    /// Whether things wait that this worker would run, were it not busy.
    pub fn set_backlog(&self, waits: bool) {
        self.block().runtime.backlog.store(u32::from(waits), Relaxed);
    }

    /// Whether it waits for work: an idle worker gets no hints.
    pub fn set_idle(&self, idle: bool) {
        let state = if idle { State::Idle } else { State::Running };
        if !idle {
            self.turn();
        }
        self.block().runtime.state.store(state as u32, Relaxed);
    }

    /// What was left of its slice at the kernel's last look, in nanoseconds. Advice.
    #[must_use]
    pub fn budget_remaining_ns(&self) -> u64 {
        self.block().hints.budget_remaining_ns.load(Relaxed)
    }

    /// The share of the last ten seconds in which something on this machine waited for a processor,
    /// from 0 to 1.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        f64::from(self.block().hints.pressure.load(Relaxed).min(10_000)) / 10_000.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            // The parent's registration, in its child: it is not ours to end.
            return;
        }
        if std::ptr::eq(BLOCK.get(), self.block()) {
            BLOCK.set(&raw const NOBODY);
            LEDGER.set(null());
        }
        self.block().runtime.state.store(State::Free as u32, Relaxed);
        self.shared.release(self.slot);
    }
}

extern "C" fn in_child() {
    BLOCK.set(&raw const NOBODY);
    LEDGER.set(null());
    FORKS.fetch_add(1, Relaxed);
}
