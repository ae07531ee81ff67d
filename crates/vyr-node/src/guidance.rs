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
        self.kernel_hints + self.psi_hints + self.timer_hints
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
