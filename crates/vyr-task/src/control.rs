//! The end of a task that does not end by itself: cancel, deadline, processor time, output.
//!
//! One `Control` a task. The guest is asked at epoch checks (in loops and calls, compiled in) and
//! at every read and write; a guest that waits is woken by its timer or its canceller. The first
//! reason wins and is never replaced.
//!
//! Processor time is measured without a system call for the many tasks that end within one tick.
//! A slice (one poll) in which no epoch came is charged its wall time, two readings of a clock in
//! user space. When an epoch does come, the thread's processor clock is read: what it advanced
//! since its last reading, less what short slices on this thread were charged meanwhile, is the
//! running task's. So a long task pays for what it used, also on a busy machine.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::limits::Limits;
use crate::outcome::Reason;

/// Why a task was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    Limit(Reason),
}

/// The error a stopped guest unwinds with; `Control::stopped` says why.
#[derive(Debug, thiserror::Error)]
#[error("task was stopped")]
pub(crate) struct Stopped;

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) limits: Limits,
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    /// Processor time of finished slices, in nanoseconds.
    cpu_ns: AtomicU64,
    /// Set in a slice whose time was read from the processor clock.
    read_in_slice: AtomicBool,
    stopped: OnceLock<Stop>,
    cancel: CancelHandle,
}

/// The processor clock of this thread: its last reading, and what was charged in wall time since.
#[derive(Clone, Copy)]
struct ThreadClock {
    read_ns: u64,
    charged_ns: u64,
}

thread_local! {
    static CLOCK: Cell<ThreadClock> = Cell::new(ThreadClock {
        read_ns: thread_cpu_ns(),
        charged_ns: 0,
    });
}

impl Control {
    pub(crate) fn new(limits: Limits, cancel: CancelHandle) -> Self {
        let began = Instant::now();
        let deadline = began
            .checked_add(Duration::from_millis(limits.deadline_ms))
            .unwrap_or_else(|| began + Duration::from_secs(u64::from(u32::MAX)));
        Self {
            limits,
            began,
            deadline,
            cpu_ns: AtomicU64::new(0),
            read_in_slice: AtomicBool::new(false),
            stopped: OnceLock::new(),
            cancel,
        }
    }

    /// Records `stop` unless the task was stopped before.
    pub(crate) fn stop(&self, stop: Stop) -> Stopped {
        let _ = self.stopped.set(stop);
        Stopped
    }

    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.stopped.get().copied()
    }

    /// Asked at every read and write, and before the guest waits: may it go on?
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.stopped.get().is_some() {
            return Err(Stopped);
        }
        if self.cancel.is_cancelled() {
            return Err(self.stop(Stop::Cancelled));
        }
        if Instant::now() >= self.deadline {
            return Err(self.stop(Stop::Limit(Reason::Deadline)));
        }
        Ok(())
    }

    /// Asked at an epoch, on the thread that runs the guest: the same, and its processor time.
    pub(crate) fn check_at_epoch(&self) -> Result<(), Stopped> {
        self.read_clock();
        self.check()?;
        if self.cpu_ns.load(Ordering::Relaxed) / 1_000_000 >= self.limits.cpu_ms {
            return Err(self.stop(Stop::Limit(Reason::Cpu)));
        }
        Ok(())
    }

    /// Charges the task what the thread's clock advanced since it was last read.
    fn read_clock(&self) {
        let now = thread_cpu_ns();
        let last = CLOCK.replace(ThreadClock { read_ns: now, charged_ns: 0 });
        let used = now.saturating_sub(last.read_ns).saturating_sub(last.charged_ns);
        self.cpu_ns.fetch_add(used, Ordering::Relaxed);
        self.read_in_slice.store(true, Ordering::Relaxed);
    }

    /// Called after the guest's future was polled since `start`, on the same thread.
    pub(crate) fn slice_ends(&self, start: Instant) {
        if self.read_in_slice.swap(false, Ordering::Relaxed) {
            // What came after the reading is less than a tick and charged at the next one.
            return;
        }
        let wall_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.cpu_ns.fetch_add(wall_ns, Ordering::Relaxed);
        let clock = CLOCK.get();
        CLOCK.set(ThreadClock { charged_ns: clock.charged_ns.saturating_add(wall_ns), ..clock });
    }

    /// Processor time so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed) / 1_000
    }

    /// What is left of its processor time, in nanoseconds.
    pub(crate) fn cpu_left_ns(&self) -> u64 {
        let all = self.limits.cpu_ms.saturating_mul(1_000_000);
        all.saturating_sub(self.cpu_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn cancel(&self) -> &CancelHandle {
        &self.cancel
    }
}

/// Processor time of this thread, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Cancels one task, from any thread, any number of times.
#[derive(Debug, Clone, Default)]
pub struct CancelHandle(Arc<Cancel>);

#[derive(Debug, Default)]
struct Cancel {
    cancelled: AtomicBool,
    /// Of a guest that waits rather than runs.
    waker: Mutex<Option<Waker>>,
}

impl CancelHandle {
    /// A handle that has not been used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the task to end. It does so at its next safe point, or at once if it waits.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        if let Some(waker) = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Whether `cancel` was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Has `waker` woken by the next `cancel`. The caller looks at `is_cancelled` afterwards.
    pub(crate) fn wake_on_cancel(&self, waker: &Waker) {
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(limits: Limits) -> Control {
        Control::new(limits, CancelHandle::new())
    }

    #[test]
    fn the_first_reason_wins() {
        let control = control(Limits { deadline_ms: 0, ..Limits::default() });
        control.cancel().cancel();
        assert!(control.check().is_err());
        assert_eq!(control.stopped(), Some(Stop::Cancelled));
        control.stop(Stop::Limit(Reason::Output));
        assert_eq!(control.stopped(), Some(Stop::Cancelled));
    }

    #[test]
    fn a_deadline_and_a_cpu_budget_of_nothing_stop_at_once() {
        let late = control(Limits { deadline_ms: 0, ..Limits::default() });
        assert!(late.check().is_err());
        assert_eq!(late.stopped(), Some(Stop::Limit(Reason::Deadline)));
        let spent = control(Limits { cpu_ms: 0, ..Limits::default() });
        assert!(spent.check().is_ok());
        assert!(spent.check_at_epoch().is_err());
        assert_eq!(spent.stopped(), Some(Stop::Limit(Reason::Cpu)));
    }

    #[test]
    fn an_absurd_deadline_is_far_away_and_no_panic() {
        let control = control(Limits { deadline_ms: u64::MAX, ..Limits::default() });
        assert!(control.check_at_epoch().is_ok());
    }

    /// Uses processor time until the thread's clock says so.
    fn burn(ms: u64) {
        let end = thread_cpu_ns() + ms * 1_000_000;
        while thread_cpu_ns() < end {}
    }

    #[test]
    fn short_slices_are_not_charged_to_the_long_one_beside_them() {
        let (long, short) = (control(Limits::default()), control(Limits::default()));
        long.read_clock();
        long.slice_ends(Instant::now());
        let before = long.cpu_us();
        let start = Instant::now();
        burn(20);
        short.slice_ends(start);
        assert!(short.cpu_us() >= 20_000);
        burn(5);
        long.read_clock();
        let used = long.cpu_us() - before;
        assert!(used < 20_000, "{used} us: the short task's time was charged twice");
    }
}
