//! What `vyr bench node` found: raw samples as JSON, tables as Markdown, and its targets.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vyr_base::format_bytes;

use super::load::Seen;
use crate::environment::{Disturbance, Environment, OTHERS_MAX, STEAL_MAX};
use crate::memory::Resident;
use crate::report::{interval, table};
use crate::rounds::{Round, figures};
use crate::stats::{Estimate, quantile};
use crate::targets::{Goal, Samples, Target, Verdict};

/// The version of the JSON form; fields are only ever added under it.
pub(super) const FORMAT: &str = "vyr-bench-node/1";

/// Sequential submit-to-terminal above two commits on the same disk.
const ABOVE_COMMITS_MAX_US: f64 = 400.0;
/// Durable throughput by that of the reference, and by itself.
const RATIO_MIN: f64 = 0.5;
const RATE_MIN: f64 = 20_000.0;
/// An idle node, all processes.
const IDLE_MAX_MIB: f64 = 40.0;

/// From a call of `CancelTask` to the terminal span, in milliseconds.
const CANCEL_MAX_MS: f64 = 100.0;

const MIB: f64 = 1024.0 * 1024.0;

/// What is decided about guests that do not end.
type CancelFigure = (&'static str, &'static str, fn(&CancelSample) -> &Vec<f64>);
const CANCEL_FIGURES: [CancelFigure; 2] = [
    ("cancel", "CancelTask to terminal span, looping or waiting: p99", |of| &of.cancel_us),
    ("late", "over the deadline, looping or waiting: p99", |of| &of.late_us),
];

/// How a run was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds wanted.
    pub rounds: usize,
    /// Milliseconds of each arm in a round.
    pub arm_ms: u64,
    /// Tasks of each arm in a round of the sequential part.
    pub sequential_tasks: usize,
    /// Tasks in flight of the streaming client.
    pub window: usize,
    /// A look, not a measurement.
    pub quick: bool,
}

/// Which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// `vyr up`.
    Node,
    /// `reference_node`.
    Reference,
}

impl Arm {
    pub(crate) const ALL: [Self; 2] = [Self::Node, Self::Reference];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Reference => "reference",
        }
    }
}

/// The ways of the sequential part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `vyr up`.
    Node,
    /// `reference_node`.
    Reference,
    /// Two transactions in the client's process.
    Commits,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Node, Self::Reference, Self::Commits];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Reference => "reference",
            Self::Commits => "two commits",
        }
    }
}

/// One way in one round of the sequential part, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequentialSample {
    /// Which.
    pub way: Way,
    /// Tasks.
    pub tasks: usize,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 did.
    pub p99_us: f64,
    /// Their mean.
    pub mean_us: f64,
}

impl SequentialSample {
    pub(crate) fn of(way: Way, times_us: &[f64]) -> Self {
        Self {
            way,
            tasks: times_us.len(),
            p50_us: quantile(times_us, 0.5).unwrap_or(0.0),
            p99_us: quantile(times_us, 0.99).unwrap_or(0.0),
            mean_us: times_us.iter().sum::<f64>() / times_us.len().max(1) as f64,
        }
    }
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One client that streams.
    Streaming,
    /// So many clients, each with its own connection and a call a task.
    Clients(usize),
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Streaming => write!(f, "one streaming client"),
            Self::Clients(1) => write!(f, "1 client"),
            Self::Clients(clients) => write!(f, "{clients} clients"),
        }
    }
}

/// One arm in one round of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSample {
    /// Which side.
    pub arm: Arm,
    /// Terminal spans seen in the counted time.
    pub tasks: u64,
    /// Tasks a second.
    pub per_second: f64,
    /// From submission to terminal span, in microseconds; 0 where not measured.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
}

impl LoadSample {
    pub(super) fn of(arm: Arm, seen: &Seen) -> Self {
        Self {
            arm,
            tasks: seen.tasks,
            per_second: seen.tasks as f64 / seen.seconds.max(f64::MIN_POSITIVE),
            p50_us: seen.times.quantile_ns(0.5) as f64 / 1_000.0,
            p99_us: seen.times.quantile_ns(0.99) as f64 / 1_000.0,
        }
    }
}

/// One load: all its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadRounds {
    /// Which.
    pub load: Load,
    /// Both arms in each.
    pub rounds: Vec<Round<Vec<LoadSample>>>,
}

impl LoadRounds {
    /// A figure of one arm, one a round that counts.
    pub(crate) fn of(&self, arm: Arm, figure: fn(&LoadSample) -> f64) -> Vec<f64> {
        figures(&self.rounds, |samples| samples.iter().find(|s| s.arm == arm).map(figure))
    }

    /// The node's rate by the reference's in the same round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let rate = |samples: &[LoadSample], arm| {
            samples.iter().find(|sample| sample.arm == arm).map(|sample| sample.per_second)
        };
        figures(&self.rounds, |samples| {
            Some(rate(samples, Arm::Node)? / rate(samples, Arm::Reference)?)
        })
    }
}

/// What the journal says about sequential tasks, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HopSample {
    /// From the event `task.started` to `task.ended`: a commit, the way to the process `tasks`, the
    /// run, and the way back. Median.
    pub start_to_end_us: f64,
    /// The guest's run. Median.
    pub run_us: f64,
}

/// One streaming client on two nodes, in tasks a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OtlpSample {
    /// One that exports its spans to a collector that discards them.
    pub on_per_second: f64,
    /// One that does not.
    pub off_per_second: f64,
}

/// One guest that does not end, in one round; microseconds of each task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CancelSample {
    /// What it does, and its form: `spin-p1`.
    pub case: String,
    /// From the call of `CancelTask` to the terminal span.
    pub cancel_us: Vec<f64>,
    /// The task after it on the same worker: from submission to terminal span.
    pub next_us: Vec<f64>,
    /// How long one ran over its deadline.
    pub late_us: Vec<f64>,
}

/// The memory of one node, by process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemorySample {
    /// After its start and one `PutArtifact`.
    pub idle: Vec<(String, Resident)>,
    /// After it ran `tasks` tasks.
    pub after: Vec<(String, Resident)>,
    /// With as many tasks more that wait.
    pub queued: Vec<(String, Resident)>,
    /// How many.
    pub tasks: usize,
}

pub(crate) fn pss_mib(of: &[(String, Resident)]) -> f64 {
    of.iter().map(|(_, resident)| resident.pss_bytes as f64).sum::<f64>() / MIB
}

/// All that a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `FORMAT`.
    pub format: String,
    /// Seconds of Unix time when it began.
    pub began_unix_s: u64,
    /// What was asked for.
    pub settings: Settings,
    /// Where it ran.
    pub environment: Option<Environment>,
    /// The file system of all journals.
    pub disk: String,
    /// One task after the other.
    pub sequential: Vec<Round<Vec<SequentialSample>>>,
    /// Throughput.
    pub loads: Vec<LoadRounds>,
    /// Receipts a second.
    pub receipts: Vec<Round<f64>>,
    /// From start to end.
    pub hop: Vec<Round<HopSample>>,
    /// With and without export.
    pub otlp: Vec<Round<OtlpSample>>,
    /// Cancelled and overdue guests.
    #[serde(default)]
    pub cancel: Vec<Round<Vec<CancelSample>>>,
    /// Memory.
    pub memory: Vec<MemorySample>,
    /// Parts that were not measured, and why.
    pub missing: Vec<(String, String)>,
    /// The targets, decided.
    pub targets: Vec<Target>,
}

impl Report {
    /// A figure of one way of the sequential part, one a round that counts.
    pub(crate) fn sequential(&self, way: Way, figure: fn(&SequentialSample) -> f64) -> Vec<f64> {
        figures(&self.sequential, |samples| samples.iter().find(|s| s.way == way).map(figure))
    }

    /// What the node's median task takes above two commits, in microseconds.
    fn above_commits(&self) -> Vec<f64> {
        let p50 = |samples: &[SequentialSample], way| {
            samples.iter().find(|sample| sample.way == way).map(|sample| sample.p50_us)
        };
        figures(&self.sequential, |samples| {
            Some(p50(samples, Way::Node)? - p50(samples, Way::Commits)?)
        })
    }

    /// Of each round that counts, the p99 in milliseconds of its slowest case.
    fn cancel_p99_ms(&self, figure: fn(&CancelSample) -> &Vec<f64>) -> Vec<f64> {
        figures(&self.cancel, |samples| {
            let of = |sample| quantile(figure(sample), 0.99).map(|us| us / 1e3);
            samples.iter().filter_map(of).reduce(f64::max)
        })
    }

    pub(crate) fn load(&self, load: Load) -> Option<&LoadRounds> {
        self.loads.iter().find(|rounds| rounds.load == load)
    }

    /// Why `part` has no figures.
    fn why_missing(&self, part: &str) -> String {
        let found = self.missing.iter().find(|(missing, _)| missing == part);
        found.map_or_else(|| "not asked for".into(), |(_, reason)| reason.clone())
    }

    /// Decides the targets.
    pub(crate) fn decide(&mut self) {
        let some = |part: &str, any: bool, samples: Vec<f64>| match any {
            true => Samples::Rounds(samples),
            false => Samples::None(self.why_missing(part)),
        };
        let mut targets = vec![Target::new(
            "sequential",
            "sequential submit-to-terminal: p50 above two commits",
            "us",
            Goal::AtMost(ABOVE_COMMITS_MAX_US),
            some("sequential", !self.sequential.is_empty(), self.above_commits()),
        )];
        for (load, part) in [(Load::Streaming, "streaming"), (Load::Clients(64), "clients")] {
            let found = self.load(load);
            let ratios = found.map(LoadRounds::ratios).unwrap_or_default();
            let rates = found.map(|of| of.of(Arm::Node, |sample| sample.per_second));
            targets.push(Target::new(
                &format!("ratio-{part}"),
                &format!("{load}: tasks/s, node by reference"),
                "",
                Goal::AtLeast(RATIO_MIN),
                some(part, found.is_some(), ratios),
            ));
            targets.push(Target::new(
                &format!("rate-{part}"),
                &format!("{load}: tasks/s"),
                "/s",
                Goal::AtLeast(RATE_MIN),
                some(part, found.is_some(), rates.unwrap_or_default()),
            ));
        }
        let idle: Vec<f64> = self.memory.iter().map(|sample| pss_mib(&sample.idle)).collect();
        targets.push(Target::new(
            "idle",
            "idle node: memory of all processes (Pss)",
            "MiB",
            Goal::AtMost(IDLE_MAX_MIB),
            match idle.is_empty() {
                true => Samples::None(self.why_missing("memory")),
                false => Samples::Once(idle),
            },
        ));
        for (id, what, figure) in CANCEL_FIGURES {
            targets.push(Target::new(
                id,
                what,
                "ms",
                Goal::AtMost(CANCEL_MAX_MS),
                some("cancel", !self.cancel.is_empty(), self.cancel_p99_ms(figure)),
            ));
        }
        self.targets = targets;
    }

    /// Whether no target was missed. One that was not measured was not missed; a reader sees it.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
    }

    /// All of it, with every sample.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Writes `node.json`, `node.md` and `node.svg` into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let inside = |name: &str| directory.join(name);
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(inside("node.json"), self.to_json()?).with_context(fail)?;
        std::fs::write(inside("node.md"), self.to_markdown()).with_context(fail)?;
        super::plot::draw(self, &inside("node.svg"))
    }

    /// The tables.
    pub fn to_markdown(&self) -> String {
        let mut lines = vec!["# Node benchmarks".to_owned(), String::new()];
        if self.settings.quick {
            lines.push("**A quick look: too few rounds to decide anything.**".into());
            lines.push(String::new());
        }
        for section in [
            self.where_it_ran(),
            self.target_table(),
            self.sequential_table(),
            self.load_table(),
            self.parts_table(),
            self.cancel_table(),
            self.memory_table(),
            self.disturbances(),
        ] {
            if !section.is_empty() {
                lines.extend(section);
                lines.push(String::new());
            }
        }
        for (part, reason) in &self.missing {
            lines.push(format!("`{part}`: not measured: {reason}"));
        }
        lines.join("\n").trim_end().to_owned() + "\n"
    }

    fn where_it_ran(&self) -> Vec<String> {
        let Some(at) = &self.environment else { return Vec::new() };
        let Settings { rounds, arm_ms, sequential_tasks, window, .. } = &self.settings;
        vec![
            format!(
                "{}, {} processors, {}, Linux {}, {}. Vyr {}.",
                at.cpu_model,
                at.cpus,
                format_bytes(at.memory_bytes),
                at.kernel,
                self.disk,
                at.vyr,
            ),
            format!(
                "{rounds} rounds, order alternating: {arm_ms} ms an arm, or {sequential_tasks} \
                 sequential tasks. The streaming client has {window} tasks in flight; other \
                 clients have a connection each, and make a call a task. Client, node and \
                 reference share the processors. In brackets: the 95 % interval of the median."
            ),
        ]
    }

    fn target_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for target in &self.targets {
            let (sign, bound) = match target.goal {
                Goal::AtLeast(bound) => ("≥", bound),
                Goal::AtMost(bound) => ("≤", bound),
            };
            let unit = if target.unit.is_empty() { "" } else { " " };
            rows.push(vec![
                target.what.clone(),
                format!("{sign} {bound}{unit}{}", target.unit),
                target.measured.map_or_else(|| "-".into(), |of| interval(&of)),
                target.verdict.to_string(),
            ]);
        }
        table("Targets", &["target", "bound", "measured", "verdict"], rows)
    }

    fn sequential_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for way in Way::ALL {
            let of = |figure| shown(&self.sequential(way, figure));
            if !self.sequential.is_empty() {
                rows.push(vec![
                    way.name().into(),
                    of(|sample| sample.p50_us),
                    of(|sample| sample.p99_us),
                    of(|sample| sample.mean_us),
                ]);
            }
        }
        let columns = ["way", "p50 us", "p99 us", "mean us"];
        table("One task after the other, submission to terminal span", &columns, rows)
    }

    fn load_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for rounds in &self.loads {
            for arm in Arm::ALL {
                let time = |figure| match rounds.load {
                    Load::Streaming => "-".into(),
                    Load::Clients(_) => shown(&rounds.of(arm, figure)),
                };
                rows.push(vec![
                    rounds.load.to_string(),
                    arm.name().into(),
                    shown(&rounds.of(arm, |sample| sample.per_second)),
                    if arm == Arm::Node { shown(&rounds.ratios()) } else { "-".into() },
                    time(|sample| sample.p50_us),
                    time(|sample| sample.p99_us),
                ]);
            }
        }
        let columns = ["load", "arm", "tasks/s", "by reference", "p50 us", "p99 us"];
        table("Durable tasks a second", &columns, rows)
    }

    fn parts_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut row = |what: &str, of: &[f64]| {
            if !of.is_empty() {
                rows.push(vec![what.to_owned(), shown(of)]);
            }
        };
        row("receipts a second, one after the other", &figures(&self.receipts, |of| Some(*of)));
        row(
            "task.started to task.ended, us: a commit, two hops and the run",
            &figures(&self.hop, |of| Some(of.start_to_end_us)),
        );
        row("of it the run of the guest, us", &figures(&self.hop, |of| Some(of.run_us)));
        row(
            "streaming tasks/s with spans exported, by without",
            &figures(&self.otlp, |of| Some(of.on_per_second / of.off_per_second)),
        );
        table("Parts", &["what", "measured"], rows)
    }

    fn cancel_table(&self) -> Vec<String> {
        let counted = || self.cancel.iter().filter(|round| round.counts);
        let cases: BTreeSet<&String> =
            counted().flat_map(|round| &round.data).map(|sample| &sample.case).collect();
        let mut rows = Vec::new();
        for case in cases {
            let all = |figure: fn(&CancelSample) -> &Vec<f64>| -> Vec<f64> {
                let samples = counted().flat_map(|round| &round.data);
                let of_case = samples.filter(|sample| sample.case == *case);
                of_case.flat_map(figure).map(|us| us / 1e3).collect()
            };
            let at =
                |of: &[f64], q| quantile(of, q).map_or_else(|| "-".into(), |ms| format!("{ms:.2}"));
            let (cancel, late) = (all(|of| &of.cancel_us), all(|of| &of.late_us));
            rows.push(vec![
                case.clone(),
                cancel.len().to_string(),
                at(&cancel, 0.5),
                at(&cancel, 0.99),
                at(&cancel, 1.0),
                at(&all(|of| &of.next_us), 0.5),
                late.len().to_string(),
                at(&late, 0.5),
                at(&late, 0.99),
                at(&late, 1.0),
            ]);
        }
        let columns = [
            "guest",
            "cancelled",
            "p50 ms",
            "p99 ms",
            "max ms",
            "next task p50 ms",
            "overdue",
            "late p50 ms",
            "late p99 ms",
            "late max ms",
        ];
        table(
            "Guests that do not end: CancelTask to terminal span, and over the deadline",
            &columns,
            rows,
        )
    }

    fn memory_table(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let first = self.memory.first();
        let names: Vec<&String> =
            first.iter().flat_map(|sample| &sample.idle).map(|(name, _)| name).collect();
        type Look = fn(&MemorySample) -> &Vec<(String, Resident)>;
        let looks: [Look; 3] = [|of| &of.idle, |of| &of.after, |of| &of.queued];
        for name in names {
            let mut row = vec![name.clone()];
            for look in looks {
                let of = |sample: &MemorySample| {
                    let found = look(sample).iter().find(|(other, _)| other == name);
                    found.map(|(_, resident)| resident.pss_bytes as f64 / MIB)
                };
                row.push(shown(&self.memory.iter().filter_map(of).collect::<Vec<_>>()));
            }
            rows.push(row);
        }
        let Some(MemorySample { tasks, .. }) = first else { return Vec::new() };
        let mut all = vec!["all".to_owned()];
        for look in looks {
            let sums: Vec<f64> = self.memory.iter().map(|of| pss_mib(look(of))).collect();
            all.push(shown(&sums));
        }
        rows.push(all);
        let (after, queued) = (format!("after {tasks} tasks"), format!("{tasks} more waiting"));
        let mut out =
            table("Memory, MiB (Pss)", &["process", "idle", after.as_str(), queued.as_str()], rows);
        let each = |of: &MemorySample| {
            (pss_mib(&of.queued) - pss_mib(&of.after)) * MIB / of.tasks.max(1) as f64
        };
        let each: Vec<f64> = self.memory.iter().map(each).collect();
        out.push(String::new());
        out.push(format!("Bytes for each task that waits: {}.", shown(&each)));
        out
    }

    /// How many rounds were disturbed, and by how much at most.
    fn disturbances(&self) -> Vec<String> {
        let mut all: Vec<(bool, Disturbance)> = Vec::new();
        all.extend(self.sequential.iter().map(|round| (round.counts, round.disturbance)));
        for of in &self.loads {
            all.extend(of.rounds.iter().map(|round| (round.counts, round.disturbance)));
        }
        all.extend(self.receipts.iter().map(|round| (round.counts, round.disturbance)));
        all.extend(self.otlp.iter().map(|round| (round.counts, round.disturbance)));
        all.extend(self.cancel.iter().map(|round| (round.counts, round.disturbance)));
        all.extend(self.hop.iter().map(|round| (round.counts, round.disturbance)));
        if all.is_empty() {
            return Vec::new();
        }
        let unused = all.iter().filter(|(counts, _)| !counts).count();
        let most = |of: fn(&Disturbance) -> f64| all.iter().map(|(_, d)| of(d)).fold(0.0, f64::max);
        let steal: Vec<f64> = all.iter().map(|(_, of)| of.steal * 100.0).collect();
        vec![format!(
            "Of {} rounds {unused} do not count: more than {:.0} % steal, or run again because \
             other processes used more than {:.0} % of the machine. Median steal {:.1} %, the \
             most {:.1} %; others used {:.1} % at most; load up to {:.1}.",
            all.len(),
            STEAL_MAX * 100.0,
            OTHERS_MAX * 100.0,
            quantile(&steal, 0.5).unwrap_or(0.0),
            most(|of| of.steal) * 100.0,
            most(|of| of.others) * 100.0,
            most(|of| of.load),
        )]
    }
}

fn shown(samples: &[f64]) -> String {
    Estimate::of(samples).map_or_else(|| "-".into(), |of| interval(&of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T>(data: T) -> Round<T> {
        Round { number: 0, counts: true, disturbance: Disturbance::default(), data }
    }

    fn sequential(way: Way, p50_us: f64) -> SequentialSample {
        SequentialSample { way, tasks: 1, p50_us, p99_us: 0.0, mean_us: 0.0 }
    }

    fn load(arm: Arm, per_second: f64) -> LoadSample {
        LoadSample { arm, tasks: 1, per_second, p50_us: 0.0, p99_us: 0.0 }
    }

    #[test]
    fn every_target_of_an_empty_report_is_not_measured_and_it_reads_back() {
        let mut report = Report { format: FORMAT.into(), ..Report::default() };
        report.decide();
        assert_eq!(report.targets.len(), 8);
        assert!(report.is_good());
        assert!(report.to_markdown().contains("not measured: not asked for"));
        let again: Report = serde_json::from_str(&report.to_json().expect("JSON")).expect("reads");
        assert_eq!(again, report);
    }

    #[test]
    fn figures_are_compared_within_a_round() {
        let both = vec![sequential(Way::Node, 900.0), sequential(Way::Commits, 600.0)];
        let of_load = |load_| LoadRounds {
            load: load_,
            rounds: vec![
                round(vec![load(Arm::Node, 30_000.0), load(Arm::Reference, 90_000.0)]);
                20
            ],
        };
        let mut report = Report {
            sequential: vec![round(both); 20],
            loads: vec![of_load(Load::Streaming), of_load(Load::Clients(64))],
            ..Report::default()
        };
        report.decide();
        let verdict = |id: &str| &report.targets.iter().find(|t| t.id == id).expect("id").verdict;
        assert_eq!(*verdict("sequential"), Verdict::Met);
        assert_eq!(*verdict("ratio-streaming"), Verdict::Missed);
        assert_eq!(*verdict("rate-clients"), Verdict::Met);
        assert!(!report.is_good());
    }

    #[test]
    fn the_slowest_guest_of_a_round_decides_about_cancels() {
        let sample = |case: &str, ms: f64| CancelSample {
            case: case.into(),
            cancel_us: vec![ms * 1e3; 40],
            ..CancelSample::default()
        };
        let rounds = |slow| vec![round(vec![sample("spin-p1", 5.0), sample("sleep-p1", slow)]); 20];
        for (slow, verdict) in [(90.0, Verdict::Met), (110.0, Verdict::Missed)] {
            let mut report = Report { cancel: rounds(slow), ..Report::default() };
            report.decide();
            let target = report.targets.iter().find(|target| target.id == "cancel");
            assert_eq!(target.expect("there").verdict, verdict);
            let tables = report.to_markdown();
            assert!(tables.contains("| sleep-p1 | 800 |"), "{tables}");
        }
    }

    #[test]
    fn too_few_rounds_decide_nothing() {
        let both = vec![sequential(Way::Node, 900.0), sequential(Way::Commits, 100.0)];
        let mut report = Report { sequential: vec![round(both); 3], ..Report::default() };
        report.decide();
        assert!(matches!(report.targets[0].verdict, Verdict::NotMeasured(_)));
    }
}
