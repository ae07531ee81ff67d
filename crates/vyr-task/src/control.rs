//! The end of a task that does not end by itself: cancel, deadline, processor time, output.
//!
//! One `Control` a task. The guest is asked at epoch checks (in loops and calls, compiled in) and
//! at every read and write; a guest that waits is woken by its timer or its canceller. The first
//! reason wins and is never replaced.

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
    pub(crate) deadline: Instant,
    /// Processor time of finished polls, in nanoseconds.
    cpu_spent_ns: AtomicU64,
    /// This thread's processor clock when the present poll began.
    cpu_poll_start_ns: AtomicU64,
    stopped: OnceLock<Stop>,
    cancel: CancelHandle,
}

impl Control {
    pub(crate) fn new(limits: Limits, cancel: CancelHandle) -> Self {
        let deadline = Instant::now()
            .checked_add(Duration::from_millis(limits.deadline_ms))
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(u64::from(u32::MAX)));
        Self {
            limits,
            deadline,
            cpu_spent_ns: AtomicU64::new(0),
            cpu_poll_start_ns: AtomicU64::new(0),
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

    /// Asked at every safe point of the guest: may it go on?
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
        if self.cpu_ns(thread_cpu_ns()) / 1_000_000 >= self.limits.cpu_ms {
            return Err(self.stop(Stop::Limit(Reason::Cpu)));
        }
        Ok(())
    }

    /// Called on the worker thread before the guest's future is polled.
    pub(crate) fn poll_begins(&self) {
        self.cpu_poll_start_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    /// Called on the same thread after the poll.
    pub(crate) fn poll_ends(&self) {
        let now = thread_cpu_ns();
        self.cpu_spent_ns.store(self.cpu_ns(now), Ordering::Relaxed);
        self.cpu_poll_start_ns.store(now, Ordering::Relaxed);
    }

    /// Processor time when the polling thread's clock says `now`.
    fn cpu_ns(&self, now: u64) -> u64 {
        let running = now.saturating_sub(self.cpu_poll_start_ns.load(Ordering::Relaxed));
        self.cpu_spent_ns.load(Ordering::Relaxed).saturating_add(running)
    }

    /// Processor time of all finished polls, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.cpu_spent_ns.load(Ordering::Relaxed) / 1_000
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
        spent.poll_begins();
        assert!(spent.check().is_err());
        assert_eq!(spent.stopped(), Some(Stop::Limit(Reason::Cpu)));
    }

    #[test]
    fn an_absurd_deadline_is_far_away_and_no_panic() {
        let control = control(Limits { deadline_ms: u64::MAX, ..Limits::default() });
        control.poll_begins();
        assert!(control.check().is_ok());
    }
}
