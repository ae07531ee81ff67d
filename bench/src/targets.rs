//! The targets, and whether a run met them.

use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::report::{Report, interval, table};
use crate::rounds::ROUNDS_MIN;
use crate::start::SMALL_CODE_BYTES;
use crate::stats::{Estimate, Line};
use crate::whole::Way;

/// Tasks a second of `hello`, engine by bare, at one thread and at two.
const RATE_MIN: f64 = 0.80;
/// What the second thread brings, engine by bare.
const SCALING_MIN: f64 = 0.95;
/// A warm start of up to 256 KiB of code.
const START_MAX_US: f64 = 1_000.0;
/// What `vyr run` of a cached hello takes more than the bare embedder.
const PROCESS_MAX_MS: f64 = 5.0;
/// Rate of the large transform, `vyr run` by bare.
const LARGE_MIN: f64 = 0.87;
/// Its memory: of the guest, and of all processes.
const GUEST_MEMORY_MAX: f64 = 64.0;
const PROCESS_MEMORY_MAX: f64 = 128.0;
/// The size that the target of the large transform speaks of.
const LARGE_BYTES: u64 = 1 << 30;

const MIB: f64 = 1024.0 * 1024.0;

/// Whether a target was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The median of enough rounds meets it.
    Met,
    /// It does not.
    Missed,
    /// There are too few rounds, or none, and why.
    NotMeasured(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Met => write!(f, "met"),
            Self::Missed => write!(f, "missed"),
            Self::NotMeasured(reason) => write!(f, "not measured: {reason}"),
        }
    }
}

/// On which side of its bound a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Goal {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// A stable name.
    pub id: String,
    /// What it is about, for a reader.
    pub what: String,
    /// The unit of the figures; empty for a ratio.
    pub unit: String,
    /// The bound.
    pub goal: Goal,
    /// The median and its interval, if there is any sample.
    pub measured: Option<Estimate>,
    /// What follows.
    pub verdict: Verdict,
}

impl Target {
    pub(crate) fn new(id: &str, what: &str, unit: &str, goal: Goal, samples: Samples) -> Self {
        let (values, least) = match &samples {
            Samples::Rounds(values) => (values.as_slice(), ROUNDS_MIN),
            Samples::Once(values) => (values.as_slice(), 1),
            Samples::None(_) => (&[][..], 1),
        };
        let measured = Estimate::of(values);
        let verdict = match (&samples, measured) {
            (Samples::None(reason), _) => Verdict::NotMeasured(reason.clone()),
            (_, None) => Verdict::NotMeasured("no undisturbed round".into()),
            (_, Some(of)) if of.samples < least => Verdict::NotMeasured(format!(
                "{} undisturbed rounds, {least} are needed",
                of.samples
            )),
            (_, Some(of)) if goal.is_met_by(of.median) => Verdict::Met,
            (_, Some(_)) => Verdict::Missed,
        };
        Self { id: id.into(), what: what.into(), unit: unit.into(), goal, measured, verdict }
    }
}

/// All targets as a table.
pub(crate) fn judged(targets: &[Target]) -> Vec<String> {
    let rows = targets.iter().map(|target| {
        let bound = match target.goal {
            Goal::AtLeast(bound) => format!("≥ {bound} {}", target.unit),
            Goal::AtMost(bound) => format!("≤ {bound} {}", target.unit),
        };
        let measured = target.measured.as_ref().map_or("-".into(), interval);
        vec![target.what.clone(), bound.trim_end().into(), measured, target.verdict.to_string()]
    });
    table("Targets", &["target", "bound", "measured", "verdict"], rows.collect())
}

/// What a target is decided by.
pub(crate) enum Samples {
    /// Figures of rounds; at least `ROUNDS_MIN` decide.
    Rounds(Vec<f64>),
    /// Figures that do not vary from round to round; one decides.
    Once(Vec<f64>),
    /// None, and why.
    None(String),
}

impl Samples {
    /// Rounds of a part of the report, or why that part is missing.
    fn of<T>(report: &Report, part: &str, found: Option<T>, read: impl Fn(T) -> Vec<f64>) -> Self {
        match found {
            Some(found) => Self::Rounds(read(found)),
            None => Self::None(report.why_missing(part)),
        }
    }
}

/// Decides every target.
pub(crate) fn judge(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    for form in ["p1", "p2"] {
        let case = report.rates.iter().find(|rates| rates.case == format!("hello-{form}"));
        for threads in crate::rates::THREADS {
            targets.push(Target::new(
                &format!("rate-hello-{form}-{threads}"),
                &format!("hello {form}, {threads} thread(s): tasks/s, engine by bare"),
                "",
                Goal::AtLeast(RATE_MIN),
                Samples::of(report, "rates", case, |case| case.ratios(Arm::Engine, threads)),
            ));
        }
        targets.push(Target::new(
            &format!("scaling-hello-{form}"),
            &format!("hello {form}: gain of a second thread, engine by bare"),
            "",
            Goal::AtLeast(SCALING_MIN),
            Samples::of(report, "rates", case, |case| case.scaling()),
        ));
    }
    targets.push(warm_start(report));
    for form in ["p1", "p2"] {
        let case = report.hello.iter().find(|hello| hello.case == format!("hello-{form}"));
        targets.push(Target::new(
            &format!("process-hello-{form}"),
            &format!("`vyr run` of a cached hello {form}: time above the bare embedder"),
            "ms",
            Goal::AtMost(PROCESS_MAX_MS),
            Samples::of(report, "process", case, |case| case.more_ms()),
        ));
    }
    targets.extend(large(report));
    targets
}

/// The slowest of all guests whose code is small enough decides.
fn warm_start(report: &Report) -> Target {
    let small = report.loads.iter().filter(|loaded| loaded.code_bytes <= SMALL_CODE_BYTES);
    let slowest = small.max_by(|a, b| {
        let middle = |of: &crate::start::Loaded| crate::stats::median(&of.totals_us());
        middle(a).partial_cmp(&middle(b)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let which = slowest.map_or_else(String::new, |loaded| {
        format!(" (slowest: {}, {} KiB)", loaded.case, loaded.code_bytes >> 10)
    });
    Target::new(
        "warm-start",
        &format!("warm start of up to 256 KiB of code{which}"),
        "us",
        Goal::AtMost(START_MAX_US),
        Samples::of(report, "start", slowest, |loaded| loaded.totals_us()),
    )
}

fn large(report: &Report) -> Vec<Target> {
    let found = report.large.as_ref();
    let missing = || report.why_missing("large");
    let too_small =
        found.filter(|large| large.input_bytes < LARGE_BYTES - (1 << 20)).map(|large| {
            format!(
                "the input had {:.0} MiB, the target is about 1 GiB",
                large.input_bytes as f64 / MIB
            )
        });
    let of_vyr = |read: &dyn Fn(&crate::whole::Large) -> Samples| match (&too_small, found) {
        (Some(reason), _) => Samples::None(reason.clone()),
        (None, None) => Samples::None(missing()),
        (None, Some(large)) => match large.not_run.iter().find(|(way, _)| *way == Way::Vyr) {
            Some((_, reason)) => Samples::None(reason.clone()),
            None => read(large),
        },
    };
    let peak = |large: &crate::whole::Large| {
        let peak = large.way(Way::Vyr).and_then(|way| way.peak);
        Samples::Once(peak.iter().map(|peak| peak.pss_bytes as f64 / MIB).collect())
    };
    let rate = of_vyr(&|large| Samples::Rounds(large.ratios(Way::Vyr, Way::Bare)));
    let process_memory = of_vyr(&peak);
    vec![
        Target::new(
            "large-rate",
            "transform of 1 GiB: rate of `vyr run` by bare, both hashing",
            "",
            Goal::AtLeast(LARGE_MIN),
            rate,
        ),
        Target::new(
            "large-guest-memory",
            "transform of 1 GiB: memory of the guest",
            "MiB",
            Goal::AtMost(GUEST_MEMORY_MAX),
            match (too_small, found) {
                (Some(reason), _) => Samples::None(reason),
                (None, None) => Samples::None(missing()),
                (None, Some(large)) => Samples::Once(vec![large.guest_memory_bytes as f64 / MIB]),
            },
        ),
        Target::new(
            "large-process-memory",
            "transform of 1 GiB: memory of all processes of `vyr run` (Pss)",
            "MiB",
            Goal::AtMost(PROCESS_MEMORY_MAX),
            process_memory,
        ),
    ]
}

/// What a MiB of code adds to a warm start, in microseconds, for the made-up guests of one form.
pub(crate) fn slope(report: &Report, kind: vyr_task::Kind) -> Option<Line> {
    let made_up = report.loads.iter().filter(|loaded| loaded.is_made_up() && loaded.kind == kind);
    let points: Vec<(f64, f64)> = made_up
        .filter_map(|loaded| {
            Some((loaded.code_bytes as f64 / MIB, crate::stats::median(&loaded.totals_us())?))
        })
        .collect();
    Line::fit(&points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(goal: Goal, samples: Samples) -> Verdict {
        Target::new("id", "what", "", goal, samples).verdict
    }

    #[test]
    fn a_median_of_enough_rounds_decides() {
        let rounds = |value: f64, count| Samples::Rounds(vec![value; count]);
        assert_eq!(verdict(Goal::AtLeast(0.8), rounds(0.8, 20)), Verdict::Met);
        assert_eq!(verdict(Goal::AtLeast(0.8), rounds(0.79, 20)), Verdict::Missed);
        assert_eq!(verdict(Goal::AtMost(5.0), rounds(5.1, 20)), Verdict::Missed);
        assert_eq!(verdict(Goal::AtMost(5.0), Samples::Once(vec![4.0])), Verdict::Met);
    }

    #[test]
    fn too_few_rounds_decide_nothing_and_say_so() {
        let few = verdict(Goal::AtLeast(0.8), Samples::Rounds(vec![0.9; 3]));
        assert_eq!(few.to_string(), "not measured: 3 undisturbed rounds, 20 are needed");
        let none = verdict(Goal::AtLeast(0.8), Samples::None("no such binary".into()));
        assert_eq!(none.to_string(), "not measured: no such binary");
        let empty = verdict(Goal::AtLeast(0.8), Samples::Rounds(Vec::new()));
        assert_eq!(empty, Verdict::NotMeasured("no undisturbed round".into()));
    }

    #[test]
    fn every_target_of_an_empty_report_is_not_measured() {
        let targets = judge(&Report::default());
        assert_eq!(targets.len(), 12);
        assert!(targets.iter().all(|t| matches!(t.verdict, Verdict::NotMeasured(_))));
        let mut ids: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        ids.dedup();
        assert_eq!(ids.len(), targets.len());
    }
}
