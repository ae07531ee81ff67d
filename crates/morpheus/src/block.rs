//! The control block of a worker: what `bpf/morpheus.h` says, in Rust, and what either side may do
//! to it.
//!
//! Two sides write, each to its own line, and neither waits. Who hints advances `preempt_seq`, from
//! the acknowledged number only; the worker copies it to `ack_seq`. So there is never more than one
//! hint outstanding, and a hint that was missed is the same hint when it is seen.
//!
//! The orderings are the ones the interleavings need (`tests/model.rs`): the number is published
//! after the reason and the time, and read before them.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// The version of `bpf/morpheus.h` that this is.
pub const ABI: u32 = 1;

/// The slice of a worker that asks for none, in nanoseconds.
pub const SLICE_DEFAULT_NS: u64 = 1_000_000;

/// The shortest slice that is granted, in nanoseconds.
pub const SLICE_MIN_NS: u64 = 10_000;

/// The longest, in nanoseconds.
pub const SLICE_MAX_NS: u64 = 1_000_000_000;

/// What is written by who hints.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Hints {
    /// Advanced by one with each hint, of whichever source.
    pub preempt_seq: AtomicU32,
    /// Of the worker that has the block.
    pub generation: AtomicU32,
    /// Share of the last ten seconds in which something waited for a processor, in 1/10,000.
    pub pressure: AtomicU32,
    /// Zero.
    pub reserved_word: AtomicU32,
    /// Hints because of pressure files.
    pub psi: AtomicU64,
    /// Hints of a timer in the process itself.
    pub timer: AtomicU64,
    /// When escalation may follow the newest hint; zero is never.
    pub deadline_ns: AtomicU64,
    /// Hints of the runtime itself: something joined its queue, and nobody was free for it.
    pub own: AtomicU64,
    /// Zero: what follows changes with each hint or look, on a cache line of its own.
    pub reserved_near: [AtomicU64; 2],
    /// `CLOCK_MONOTONIC` of the newest hint, in nanoseconds.
    pub hint_ns: AtomicU64,
    /// [`Reason`] of the newest hint.
    pub reason: AtomicU32,
    /// Zero.
    pub reserved_half: AtomicU32,
    /// What was left of the slice at the last look, in nanoseconds. Advice, never a limit.
    pub budget_remaining_ns: AtomicU64,
    /// Hints of the kernel's programs.
    pub kernel: AtomicU64,
    /// What would have been a hint, had none been outstanding.
    pub dropped: AtomicU64,
    /// Looks at the worker while it ran.
    pub looks: AtomicU64,
    /// How many of them found it in a critical section.
    pub critical_looks: AtomicU64,
}

/// What is written by the worker.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Runtime {
    /// The newest hint that was acknowledged.
    pub ack_seq: AtomicU32,
    /// How deep it is in critical sections.
    pub critical_depth: AtomicU32,
    /// [`State`].
    pub state: AtomicU32,
    /// 1: it agrees to be preempted if it does not answer. Room for a later tier.
    pub escapable: AtomicU32,
    /// Not zero: its own queue waits.
    pub backlog: AtomicU32,
    /// [`Yield`] of the newest yield.
    pub yield_reason: AtomicU32,
    /// The slice it asks for, in nanoseconds; zero is the default.
    pub slice_ns: AtomicU64,
    /// `CLOCK_MONOTONIC` at which it turned to what it does now, in nanoseconds.
    pub turn_ns: AtomicU64,
    /// Yields, for any reason.
    pub yields: AtomicU64,
}

/// The control block of one worker thread.
#[repr(C)]
#[derive(Debug)]
pub struct Block {
    /// Written by who hints.
    pub hints: Hints,
    /// Written by the worker.
    pub runtime: Runtime,
}

/// Why there is a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Over its slice, and another thread waits for its processor.
    Slice = 1,
    /// Over its slice, and its own queue waits.
    Backlog = 2,
    /// A thread became runnable on its processor.
    Wakeup = 3,
    /// The machine is under pressure.
    Pressure = 4,
    /// A timer of the process ticked.
    Timer = 5,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Slice, Self::Backlog, Self::Wakeup, Self::Pressure, Self::Timer];

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slice => "slice",
            Self::Backlog => "backlog",
            Self::Wakeup => "wakeup",
            Self::Pressure => "pressure",
            Self::Timer => "timer",
        }
    }

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u32 == number)
    }
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody has the block.
    Free = 0,
    /// It waits for work and gets no hints.
    Idle = 1,
    /// It has something to do.
    Running = 2,
}

/// Why a worker yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Yield {
    /// A hint asked for it.
    Hint = 1,
    /// The cooperative budget of its runtime was used up.
    Budget = 2,
    /// The program wanted to.
    Asked = 3,
}

/// Who hints. Each is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel's programs. They count for themselves; this is for tests without a kernel.
    Kernel,
    /// Pressure files.
    Psi,
    /// A timer in the process.
    Timer,
    /// The runtime itself.
    Own,
}

/// A hint that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Why it was given; `None` if the block was scribbled over.
    pub reason: Option<Reason>,
    /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
}

impl Block {
    /// Whether a hint waits to be acknowledged: two loads and a compare.
    #[inline(always)]
    #[must_use]
    pub fn is_outstanding(&self) -> bool {
        self.hints.preempt_seq.load(Relaxed) != self.runtime.ack_seq.load(Relaxed)
    }

    /// Hints, unless a hint is outstanding; then it counts one as dropped and returns `false`.
    pub fn hint(&self, source: Source, reason: Reason, now_ns: u64) -> bool {
        let acknowledged = self.runtime.ack_seq.load(Relaxed);
        if self.hints.preempt_seq.load(Relaxed) != acknowledged {
            self.hints.dropped.fetch_add(1, Relaxed);
            return false;
        }
        // Before the number: who sees the number sees these.
        self.hints.hint_ns.store(now_ns, Relaxed);
        self.hints.reason.store(reason as u32, Relaxed);
        let next = acknowledged.wrapping_add(1);
        if self.hints.preempt_seq.compare_exchange(acknowledged, next, Release, Relaxed).is_err() {
            self.hints.dropped.fetch_add(1, Relaxed);
            return false;
        }
        match source {
            Source::Kernel => &self.hints.kernel,
            Source::Psi => &self.hints.psi,
            Source::Timer => &self.hints.timer,
            Source::Own => &self.hints.own,
        }
        .fetch_add(1, Relaxed);
        true
    }

    /// Acknowledges the outstanding hint, if there is one. Only the worker may.
    pub fn acknowledge(&self) -> Option<Hint> {
        // This one first: if a signal handler on this thread is hinted and acknowledges in between,
        // what follows fails instead of taking its acknowledgement back.
        let acknowledged = self.runtime.ack_seq.load(Relaxed);
        let newest = self.hints.preempt_seq.load(Acquire);
        if newest == acknowledged {
            return None;
        }
        // Read before the number is given back: after it, the next hint may write here.
        let hint = Hint {
            reason: Reason::of(self.hints.reason.load(Relaxed)),
            at_ns: self.hints.hint_ns.load(Relaxed),
        };
        // A signal handler on this thread may have acknowledged it since: then it is that one's.
        self.runtime
            .ack_seq
            .compare_exchange(acknowledged, newest, Release, Relaxed)
            .is_ok()
            .then_some(hint)
    }

    /// Nanoseconds since the worker turned to what it does now; a time to come counts as now.
    #[must_use]
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.runtime.turn_ns.load(Relaxed))
    }

    /// The slice the worker has: what it asks for, within bounds, in nanoseconds.
    #[must_use]
    pub fn slice_ns(&self) -> u64 {
        match self.runtime.slice_ns.load(Relaxed) {
            0 => SLICE_DEFAULT_NS,
            asked => asked.clamp(SLICE_MIN_NS, SLICE_MAX_NS),
        }
    }

    /// Whether it runs and is over its slice.
    #[must_use]
    pub fn is_over_slice(&self, now_ns: u64) -> bool {
        self.runtime.state.load(Relaxed) == State::Running as u32
            && self.age_ns(now_ns) >= self.slice_ns()
    }

    /// How long a worker that runs, and has no hint yet, has done the same, in nanoseconds.
    pub(crate) fn unhinted_age_ns(&self, now_ns: u64) -> Option<u64> {
        let running = self.runtime.state.load(Relaxed) == State::Running as u32;
        (running && !self.is_outstanding()).then(|| self.age_ns(now_ns))
    }

    /// The worker turns to something else: its slice begins anew.
    pub fn turn(&self, now_ns: u64) {
        self.runtime.turn_ns.store(now_ns, Relaxed);
    }

    /// The worker notes that it yields.
    pub fn yielded(&self, why: Yield, now_ns: u64) {
        self.runtime.yield_reason.store(why as u32, Relaxed);
        self.runtime.yields.fetch_add(1, Relaxed);
        self.turn(now_ns);
    }
}
