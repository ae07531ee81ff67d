//! Counters of a node, written by the core's thread and read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::guidance::Totals;

/// Upper bounds of time histograms, in microseconds.
pub const TIME_BOUNDS_US: [u64; 12] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 10_000_000];

/// A histogram of times.
#[derive(Debug, Default)]
pub struct Times {
    counts: [AtomicU64; TIME_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    /// Adds one.
    pub fn add(&self, us: u64) {
        let place = TIME_BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The counts and their sum.
    pub fn read(&self) -> (Vec<u64>, u64) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// A value at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Counts up from the node's start.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// Times in microseconds: counts by [`TIME_BOUNDS_US`], and their sum.
    Times(Vec<u64>, u64),
}

/// All metrics of a node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Submissions accepted.
    pub accepted: AtomicU64,
    /// Submissions refused.
    pub refused: AtomicU64,
    /// Submissions refused because too much waits.
    pub overloaded: AtomicU64,
    /// Tasks that completed.
    pub completed: AtomicU64,
    /// Tasks that failed.
    pub failed: AtomicU64,
    /// Tasks that were cancelled.
    pub cancelled: AtomicU64,
    /// Tasks that are accepted and do not run yet.
    pub queued: AtomicU64,
    /// Tasks that run.
    pub running: AtomicU64,
    /// Sum of the memory caps of tasks that run, in bytes.
    pub reserved_bytes: AtomicU64,
    /// States that are alive.
    pub states: AtomicU64,
    /// Events in the journal.
    pub events: AtomicU64,
    /// Batches committed.
    pub commits: AtomicU64,
    /// Checkpoints signed.
    pub checkpoints: AtomicU64,
    /// Checkpoints that the file or the command for elsewhere did not take.
    pub checkpoints_unwritten: AtomicU64,
    /// Restarts of the process that runs tasks.
    pub restarts: AtomicU64,
    /// Spans that slow subscribers missed.
    pub spans_dropped: AtomicU64,
    /// Spans that the collector missed.
    pub otlp_dropped: AtomicU64,
    /// Spans that the collector got.
    pub otlp_sent: AtomicU64,
    /// Guests' run times.
    pub run_us: Times,
    /// From acceptance to start.
    pub wait_us: Times,
    /// Commits of batches.
    pub commit_us: Times,
    /// Of the threads that run guests, once a second while tasks come in.
    guidance: Mutex<Totals>,
}

impl Metrics {
    /// What guidance has done so far.
    pub fn guidance(&self) -> MutexGuard<'_, Totals> {
        self.guidance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same of all workers, as [`Self::read`] has the rest.
    pub fn read_guidance(&self) -> Vec<(&'static str, &'static str, Value)> {
        let sum = self.guidance().sum();
        let [kernel, psi, timer, own] = sum.hints.map(Value::Counter);
        let [looks, critical] = sum.looks.map(Value::Counter);
        vec![
            ("vyr.guidance.kernel_hints", "{hint}", kernel),
            ("vyr.guidance.psi_hints", "{hint}", psi),
            ("vyr.guidance.timer_hints", "{hint}", timer),
            ("vyr.guidance.own_hints", "{hint}", own),
            ("vyr.guidance.acknowledged", "{hint}", Value::Counter(sum.acknowledged)),
            ("vyr.guidance.dropped", "{hint}", Value::Counter(sum.dropped)),
            ("vyr.guidance.yields", "{yield}", Value::Counter(sum.yields)),
            ("vyr.guidance.deferred", "{safe_point}", Value::Counter(sum.deferred)),
            ("vyr.guidance.looks", "{look}", looks),
            ("vyr.guidance.critical_looks", "{look}", critical),
        ]
    }

    /// Name, unit (UCUM) and value of each, in a fixed order.
    pub fn read(&self) -> Vec<(&'static str, &'static str, Value)> {
        let counter = |value: &AtomicU64| Value::Counter(value.load(Ordering::Relaxed));
        let gauge = |value: &AtomicU64| Value::Gauge(value.load(Ordering::Relaxed));
        let times = |times: &Times| {
            let (counts, sum) = times.read();
            Value::Times(counts, sum)
        };
        vec![
            ("vyr.tasks.accepted", "{task}", counter(&self.accepted)),
            ("vyr.tasks.refused", "{task}", counter(&self.refused)),
            ("vyr.tasks.overloaded", "{task}", counter(&self.overloaded)),
            ("vyr.tasks.completed", "{task}", counter(&self.completed)),
            ("vyr.tasks.failed", "{task}", counter(&self.failed)),
            ("vyr.tasks.cancelled", "{task}", counter(&self.cancelled)),
            ("vyr.tasks.queued", "{task}", gauge(&self.queued)),
            ("vyr.tasks.running", "{task}", gauge(&self.running)),
            ("vyr.tasks.reserved", "By", gauge(&self.reserved_bytes)),
            ("vyr.states", "{state}", gauge(&self.states)),
            ("vyr.journal.events", "{event}", gauge(&self.events)),
            ("vyr.journal.commits", "{commit}", counter(&self.commits)),
            ("vyr.journal.checkpoints", "{checkpoint}", counter(&self.checkpoints)),
            (
                "vyr.journal.checkpoints_unwritten",
                "{checkpoint}",
                counter(&self.checkpoints_unwritten),
            ),
            ("vyr.process.restarts", "{restart}", counter(&self.restarts)),
            ("vyr.spans.dropped", "{span}", counter(&self.spans_dropped)),
            ("vyr.otlp.dropped", "{span}", counter(&self.otlp_dropped)),
            ("vyr.otlp.sent", "{span}", counter(&self.otlp_sent)),
            ("vyr.task.run", "us", times(&self.run_us)),
            ("vyr.task.wait", "us", times(&self.wait_us)),
            ("vyr.journal.commit", "us", times(&self.commit_us)),
        ]
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
