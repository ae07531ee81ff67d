//! What the guidance of the threads that run guests has done: the report that travels from `tasks`
//! to whoever asks.

use morpheus::{Reason, Report, Tier, WorkerReport, Yield};
use serde::{Deserialize, Serialize};

/// What an operator asks for in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Nothing hints.
    Off,
    /// Pressure files at most.
    Psi,
    /// The kernel's programs, or the next lower tier there is.
    #[default]
    Observe,
}

/// The highest tier a node could have here as this user, and why it is no higher one.
pub fn available() -> (String, String) {
    let (tier, why) = crate::process::guide::available();
    (tier.name().to_owned(), why)
}

/// What the guidance has done since `tasks` was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuidanceReport {
    /// `off`, `timer`, `psi` or `observe`.
    pub tier: String,
    /// Why it is not a higher one.
    pub why: String,
    /// Each control block, by number.
    pub workers: Vec<WorkerGuidance>,
}

/// One control block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGuidance {
    /// Whether a thread has it now.
    pub registered: bool,
    /// Hints of the kernel's programs.
    pub kernel_hints: u64,
    /// Hints because of pressure.
    pub psi_hints: u64,
    /// Ticks of a timer that were hints.
    pub timer_hints: u64,
    /// Hints because a task was queued and nobody was free for it.
    pub own_hints: u64,
    /// What would have been hints, had none been outstanding.
    pub dropped: u64,
    /// Acknowledged hints, by reason.
    pub acknowledged: Vec<(String, u64)>,
    /// Yields because of a hint.
    pub yields: u64,
    /// Safe points that found a hint in a critical section.
    pub deferred: u64,
    /// Looks of the kernel while it ran.
    pub looks: u64,
    /// How many of them found it in a critical section.
    pub critical_looks: u64,
    /// From hint to acknowledgement: ends of buckets in nanoseconds, and how many are in each.
    pub latencies: Vec<(u64, u64)>,
}

impl WorkerGuidance {
    fn of(worker: WorkerReport) -> Self {
        let name = |reason: Option<Reason>| reason.map_or("unknown", Reason::name).to_owned();
        let yields = worker.yields.iter().find(|(why, _)| *why == Yield::Hint);
        Self {
            registered: worker.registered,
            kernel_hints: worker.kernel_hints,
            psi_hints: worker.psi_hints,
            timer_hints: worker.timer_hints,
            own_hints: worker.own_hints,
            dropped: worker.dropped,
            acknowledged: worker
                .acknowledged
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (name(reason), count))
                .collect(),
            yields: yields.map_or(0, |(_, count)| *count),
            deferred: worker.deferred,
            looks: worker.looks.0,
            critical_looks: worker.looks.1,
            latencies: worker.latencies.buckets().collect(),
        }
    }

    /// Acknowledged hints, of any reason.
    pub fn acknowledged_all(&self) -> u64 {
        self.acknowledged.iter().map(|(_, count)| count).sum()
    }

    /// Hints, of any source.
    pub fn hints(&self) -> u64 {
        self.kernel_hints + self.psi_hints + self.timer_hints + self.own_hints
    }
}

impl GuidanceReport {
    /// Nobody hints, and why.
    pub fn off(why: impl Into<String>) -> Self {
        Self { tier: Tier::Off.name().into(), why: why.into(), workers: Vec::new() }
    }

    pub(crate) fn of(report: Report) -> Self {
        Self {
            tier: report.tier.name().into(),
            why: match report.refused {
                Some(refused) => format!("{}; a worker is not registered: {refused}", report.why),
                None => report.why,
            },
            workers: report.workers.into_iter().map(WorkerGuidance::of).collect(),
        }
    }
}

/// Upper bounds of the histogram of latencies among the metrics, in nanoseconds.
pub const LATENCY_BOUNDS_NS: [u64; 10] =
    [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// One worker's counts since the node began: they go on when `tasks` is started anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Hints of the kernel's programs, of pressure files, of a timer, and of the node itself.
    pub hints: [u64; 4],
    /// Hints that were acknowledged.
    pub acknowledged: u64,
    /// What would have been hints, had none been outstanding.
    pub dropped: u64,
    /// Yields because of a hint.
    pub yields: u64,
    /// Safe points that found a hint in a critical section.
    pub deferred: u64,
    /// Looks of the kernel while it ran, and how many of them found it in a critical section.
    pub looks: [u64; 2],
    /// From hint to acknowledgement, by [`LATENCY_BOUNDS_NS`].
    pub latencies: [u64; LATENCY_BOUNDS_NS.len() + 1],
}

impl WorkerTotals {
    /// What hints are counted by, in the order of [`Self::hints`].
    pub const SOURCES: [&'static str; 4] = ["kernel", "psi", "timer", "own"];

    fn of(worker: &WorkerGuidance) -> Self {
        let mut latencies = [0; LATENCY_BOUNDS_NS.len() + 1];
        for (end, count) in &worker.latencies {
            latencies[LATENCY_BOUNDS_NS.partition_point(|bound| bound < end)] += count;
        }
        Self {
            hints: [worker.kernel_hints, worker.psi_hints, worker.timer_hints, worker.own_hints],
            acknowledged: worker.acknowledged_all(),
            dropped: worker.dropped,
            yields: worker.yields,
            deferred: worker.deferred,
            looks: [worker.looks, worker.critical_looks],
            latencies,
        }
    }

    /// Every count of it.
    fn each(&mut self) -> impl Iterator<Item = &mut u64> {
        let single =
            [&mut self.acknowledged, &mut self.dropped, &mut self.yields, &mut self.deferred];
        self.hints.iter_mut().chain(single).chain(&mut self.looks).chain(&mut self.latencies)
    }
}

/// What reports add up to.
#[derive(Debug, Default)]
pub struct Totals {
    workers: Vec<WorkerTotals>,
    /// The newest report: counts of one life of `tasks`.
    newest: Vec<WorkerTotals>,
}

impl Totals {
    /// Adds what has come since the report before.
    pub fn take(&mut self, report: &GuidanceReport) {
        let newest: Vec<_> = report.workers.iter().map(WorkerTotals::of).collect();
        if self.workers.len() < newest.len() {
            self.workers.resize_with(newest.len(), WorkerTotals::default);
        }
        self.newest.resize_with(newest.len(), WorkerTotals::default);
        for ((sum, now), before) in
            self.workers.iter_mut().zip(&newest).zip(std::mem::take(&mut self.newest))
        {
            let (mut now, mut before) = (now.clone(), before);
            for ((sum, now), before) in sum.each().zip(now.each()).zip(before.each()) {
                // Less than before: another life, which began at zero.
                *sum += now.checked_sub(*before).unwrap_or(*now);
            }
        }
        self.newest = newest;
    }

    /// By worker.
    pub fn workers(&self) -> &[WorkerTotals] {
        &self.workers
    }

    /// Of all workers together.
    pub fn sum(&self) -> WorkerTotals {
        let mut sum = WorkerTotals::default();
        for worker in &self.workers {
            for (sum, one) in sum.each().zip(worker.clone().each()) {
                *sum += *one;
            }
        }
        sum
    }
}

/// The `share` quantile of latencies (0.99 for p99) in nanoseconds: the end of its bucket.
pub fn quantile_ns(latencies: &[(u64, u64)], share: f64) -> Option<u64> {
    let count: u64 = latencies.iter().map(|(_, n)| n).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank within the count"
    )]
    let rank = ((count as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    latencies.iter().find_map(|(end, n)| {
        seen += n;
        (seen >= rank).then_some(*end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kernel_hints: u64, latencies: Vec<(u64, u64)>) -> GuidanceReport {
        let worker = WorkerGuidance {
            registered: true,
            kernel_hints,
            psi_hints: 0,
            timer_hints: 0,
            own_hints: 0,
            dropped: 1,
            acknowledged: vec![("slice".into(), kernel_hints)],
            yields: kernel_hints,
            deferred: 0,
            looks: 0,
            critical_looks: 0,
            latencies,
        };
        GuidanceReport { tier: "observe".into(), why: String::new(), workers: vec![worker] }
    }

    #[test]
    fn counts_go_on_when_tasks_begins_anew() {
        let mut totals = Totals::default();
        for kernel_hints in [3, 10, 2, 4] {
            totals.take(&report(kernel_hints, vec![]));
        }
        assert_eq!(totals.workers()[0].hints[0], 14);
        assert_eq!(totals.sum().acknowledged, 14);
        totals.take(&GuidanceReport::off("gone"));
        totals.take(&report(1, vec![]));
        assert_eq!(totals.sum().hints[0], 15, "a report without workers is an end too");
    }

    #[test]
    fn latencies_are_counted_below_their_bounds() {
        let mut totals = Totals::default();
        totals.take(&report(4, vec![(999, 1), (1_000, 1), (1_001, 1), (u64::MAX, 1)]));
        let latencies = totals.sum().latencies;
        assert_eq!((latencies[0], latencies[1], latencies[10]), (2, 1, 1));
    }
}
