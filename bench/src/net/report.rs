//! The report of `vyr bench net`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::change::{CHANGE, NOTHING, PINGED, ROLLBACK};
use super::people::{FAILOVER, REBUILD, ROTATION};
use super::tunnel::{FULL, HALF, THROUGHPUT};
use super::{BASE, BY_HAND, HEAD, plot};
use crate::against::is_slower;
use crate::environment::Environment;
use crate::report::{interval, table};
use crate::sample::Rounds;
use crate::space::version;
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict, judged};

/// Seconds from the deadline until traffic is back.
const BACK_S_MAX: f64 = 1.0;
/// Packets that a rotation loses, in the middle and at worst.
const LOST_MAX: f64 = 3.0;
const LOST_EVER_MAX: f64 = 10.0;
/// Seconds from the start of `vyr rebuild` to the first packet.
const REBUILT_S_MAX: f64 = 10.0;

/// Figures by which two builds are compared. Counts of packets have no ratio, so the longest time
/// without an answer stands for them.
const FIGURES: [(&str, &str); 13] = [
    (CHANGE, "ms"),
    (NOTHING, "ms"),
    (PINGED, "gap_ms"),
    (ROLLBACK, "s"),
    (THROUGHPUT, MORE_IS_BETTER),
    (THROUGHPUT, "cpu_s_per_gb"),
    (FULL, "p50_ms"),
    (FULL, "p99_ms"),
    (HALF, "p50_ms"),
    (HALF, "p99_ms"),
    (ROTATION, "gap_ms"),
    (REBUILD, "rebuilt_s"),
    (FAILOVER, "s"),
];
/// The only one of which more is better.
const MORE_IS_BETTER: &str = "mbit_s";

/// Titles of the tables, the cases in each, and their figures.
type Table = (&'static str, &'static [&'static str], &'static [&'static str]);
const TABLES: [Table; 7] = [
    ("A change", &[CHANGE, NOTHING], &["ms", "steps"]),
    ("Who notices", &[PINGED], &["lost", "gap_ms", "changes"]),
    ("Locked out", &[ROLLBACK], &["s"]),
    (
        "Throughput",
        &[THROUGHPUT],
        &[
            "mbit_s",
            "cpu_s_per_gb",
            "device_cpu_s_per_gb",
            "router_cpu_s_per_gb",
            "iperf3_cpu_s_per_gb",
        ],
    ),
    ("Under load", &[FULL, HALF], &["p50_ms", "p99_ms", "lost", "mbit_s"]),
    ("A key rotates", &[ROTATION], &["lost", "gap_ms"]),
    ("Recovery", &[REBUILD, FAILOVER], &["s", "rebuilt_s"]),
];

/// The rounds of one part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `throughput`.
    pub part: String,
    /// Its rounds, with every sample.
    pub rounds: Rounds,
}

/// One figure of this build by that of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What was done.
    pub case: String,
    /// Which figure; the unit ends the name.
    pub figure: String,
    /// This build by the base, so that more is worse; `None` without a round that counts.
    pub ratio: Option<Estimate>,
    /// Whether enough rounds say so.
    pub slower: bool,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub format: String,
    /// The machine.
    pub environment: Environment,
    /// What carries the packets, and what makes them.
    pub plane: String,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too few to decide.
    pub quick: bool,
    /// Parts without figures, and why.
    pub missing: Vec<(String, String)>,
    /// What follows.
    pub targets: Vec<Target>,
    /// This build beside another one; empty without.
    pub compared: Vec<Compared>,
    /// The raw samples.
    pub parts: Vec<Measured>,
}

impl Report {
    pub(super) fn empty(environment: Environment, rounds: usize, quick: bool) -> Self {
        let told = |program| version(program).unwrap_or_else(|| format!("no {program}"));
        let plane = format!(
            "{} (in user space), {}, in namespaces of one machine",
            told("wireguard-go"),
            told("iperf3")
        );
        Self {
            format: "vyr-bench-net/2".into(),
            environment,
            plane,
            rounds,
            quick,
            missing: Vec::new(),
            targets: Vec::new(),
            compared: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// The rounds in which a case is, if it was measured.
    fn part_of(&self, case: &str) -> Option<&Rounds> {
        let has = |rounds: &Rounds| rounds.arms().iter().any(|(of, _)| of == case);
        self.parts.iter().map(|part| &part.rounds).find(|rounds| has(rounds))
    }

    /// A figure of the rounds that count.
    pub(super) fn figures(&self, case: &str, arm: &str, figure: &str) -> Vec<f64> {
        self.part_of(case).map_or_else(Vec::new, |rounds| rounds.figures(case, arm, figure))
    }

    /// A figure of one arm by that of another, round by round. What is 0 has no ratio.
    pub(super) fn ratios(&self, case: &str, figure: &str, arm: &str, other: &str) -> Vec<f64> {
        let Some(rounds) = self.part_of(case) else { return Vec::new() };
        rounds.by_round(case, |of| {
            let (one, by) = (of(arm, figure)?, of(other, figure)?);
            (one > 0.0 && by > 0.0).then_some(one / by)
        })
    }

    fn samples(&self, part: &str, case: &str, figure: &str) -> Samples {
        let found = self.missing.iter().find(|(missing, _)| missing == part);
        match found {
            Some((_, reason)) => Samples::None(reason.clone()),
            None => Samples::Rounds(self.figures(case, HEAD, figure)),
        }
    }

    /// Decides the targets, and which figures are worse than the base's.
    pub(super) fn decide(&mut self) {
        // Whoever loses one packet in one round has lost one.
        let worst = |samples| match samples {
            Samples::Rounds(of) => {
                let most = of.iter().copied().fold(0.0, f64::max);
                Samples::Rounds(vec![most; of.len()])
            }
            other => other,
        };
        let lost = || self.samples("rotate", ROTATION, "lost");
        self.targets = vec![
            Target::new(
                "net-pings",
                "pings lost of 600 through another peer, in the worst round",
                "",
                Goal::AtMost(0.0),
                worst(self.samples("pings", PINGED, "lost")),
            ),
            Target::new(
                "net-rollback",
                "after a plan that locked out: from the deadline to the first answer",
                "s",
                Goal::AtMost(BACK_S_MAX),
                self.samples("rollback", ROLLBACK, "s"),
            ),
            Target::new(
                "net-rotation",
                "packets lost of 300 while a key rotates",
                "",
                Goal::AtMost(LOST_MAX),
                lost(),
            ),
            Target::new(
                "net-rotation-worst",
                "the same, in the worst round",
                "",
                Goal::AtMost(LOST_EVER_MAX),
                worst(lost()),
            ),
            Target::new(
                "net-rebuild",
                "from the start of `vyr rebuild` to the first packet forwarded",
                "s",
                Goal::AtMost(REBUILT_S_MAX),
                self.samples("rebuild", REBUILD, "s"),
            ),
        ];
        let compared = FIGURES.iter().filter_map(|(case, figure)| self.compare(case, figure));
        self.compared = compared.collect();
    }

    fn compare(&self, case: &str, figure: &str) -> Option<Compared> {
        let arms = self.part_of(case)?.arms();
        arms.iter().find(|(of, arm)| of == case && arm == BASE)?;
        let (one, by) = if figure == MORE_IS_BETTER { (BASE, HEAD) } else { (HEAD, BASE) };
        let ratio = Estimate::of(&self.ratios(case, figure, one, by));
        let slower = ratio.as_ref().is_some_and(is_slower);
        Some(Compared { case: case.into(), figure: figure.into(), ratio, slower })
    }

    /// Whether no target was missed, and nothing is worse than the base.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
            && !self.compared.iter().any(|compared| compared.slower)
    }

    /// All of it, with every sample: one line.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Tables.
    pub fn to_markdown(&self) -> String {
        let mut out = vec!["# Network benchmarks".to_owned(), String::new()];
        if self.quick {
            let quick = "**A quick look: too few rounds to decide anything.**";
            out.extend([quick.into(), String::new()]);
        }
        out.push(format!(
            "{}, {} processors, Linux {}; {}. {} rounds, arms alternating. Medians of rounds; in \
             brackets the 95 % interval of the median. `ms` of a change are of the whole process, \
             from start to end. `gap_ms` is the longest time between two answers. Processor time \
             of the device's and the router's data plane and of both ends of `iperf3`; what the \
             kernel does in the name of none of them is not in it. The device of a rebuild has \
             asked for its router just before, and WireGuard asks again after 5 s: that is in the \
             first packet's time, `rebuilt_s` is of `vyr rebuild` alone. A server that dies is \
             noticed at once: `s` is from its end until a packet passed by the second file.",
            self.environment.cpu_model,
            self.environment.cpus,
            self.environment.kernel,
            self.plane,
            self.rounds,
        ));
        out.extend(judged(&self.targets));
        for (title, cases, figures) in TABLES {
            out.extend(self.table(title, cases, figures));
        }
        let missing = self.missing.iter();
        let missing = missing.map(|(part, why)| vec![part.clone(), format!("not measured: {why}")]);
        out.extend(table("Not measured", &["part", "reason"], missing.collect()));
        let ratio = |case: &str, figure: &str| {
            let found = Estimate::of(&self.ratios(case, figure, HEAD, BY_HAND))?;
            Some(vec![case.to_owned(), figure.to_owned(), interval(&found)])
        };
        let tunnel = plot::BESIDE.iter().map(|(_, case, figure)| (*case, *figure));
        let beside = tunnel.chain([(CHANGE, "ms")]);
        let by_hand = beside.filter_map(|(case, figure)| ratio(case, figure));
        out.extend(table("By what is typed", &["case", "figure", "ratio"], by_hand.collect()));
        let compared = self.compared.iter().map(|of| {
            let ratio = of.ratio.as_ref().map_or("-".into(), interval);
            let slower = if of.slower { "slower" } else { "" };
            vec![of.case.clone(), of.figure.clone(), ratio, slower.into()]
        });
        let heads = ["case", "figure", "this build by base, more is worse", ""];
        out.extend(table("Against the base", &heads, compared.collect()));
        out.join("\n") + "\n"
    }

    fn table(&self, title: &str, cases: &[&str], figures: &[&str]) -> Vec<String> {
        let heads = [&["case", "with"], figures].concat();
        let arms = cases.iter().filter_map(|case| {
            let arms = self.part_of(case)?.arms().into_iter();
            Some(arms.filter(move |(of, _)| of == case))
        });
        let rows = arms.flatten().map(|(case, arm)| {
            let cells = figures.iter().map(|figure| {
                let found = Estimate::of(&self.figures(&case, &arm, figure));
                found.as_ref().map_or("-".into(), interval)
            });
            [case.clone(), arm.clone()].into_iter().chain(cells).collect()
        });
        table(title, &heads, rows.collect())
    }

    /// Writes `net.md` and `net.svg`, and appends a line to `lines`, so that runs can be compared.
    pub(super) fn write(&self, directory: &Path, lines: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("net.md"), self.to_markdown()).with_context(fail)?;
        plot::draw(self, &directory.join("net.svg"))?;
        let line = self.to_json()?;
        let file = OpenOptions::new().append(true).create(true).open(lines);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot append to {}", lines.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;
    use crate::rounds::{ROUNDS_MIN, Round};
    use crate::sample::Sample;

    fn report(samples: &[Sample], rounds: usize) -> Report {
        let round = |number| Round {
            number,
            counts: true,
            disturbance: Disturbance::default(),
            data: samples.to_vec(),
        };
        let mut report = Report::empty(Environment::of_this_machine("not used"), rounds, false);
        let rounds = Rounds((0..rounds).map(round).collect());
        report.parts.push(Measured { part: "change".into(), rounds });
        report.decide();
        report
    }

    #[test]
    fn what_is_missing_is_not_measured_and_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut report = Report::empty(Environment::of_this_machine("not used"), 20, false);
        report.missing.push(("pings".into(), "wg is not installed".into()));
        report.decide();
        let lines = directory.path().join("lines");
        for count in 1..=2 {
            report.write(directory.path(), &lines).expect("it is written");
            let text = std::fs::read_to_string(&lines).expect("written");
            assert_eq!(text.lines().count(), count, "a line is appended");
            let read: Report = serde_json::from_str(text.lines().last().expect("a line"))
                .expect("it is read back");
            assert_eq!(read, report);
        }
        let text = std::fs::read_to_string(directory.path().join("net.md")).expect("written");
        assert_eq!(text.matches("not measured: wg is not installed").count(), 2, "{text}");
        assert!(report.is_good(), "what was not measured is not missed");
    }

    #[test]
    fn a_figure_that_is_surely_worse_than_the_base_fails() {
        let with = |ms: f64, mbit_s: f64| {
            let base = [
                Sample::new(CHANGE, BASE).with("ms", 100.0),
                Sample::new(THROUGHPUT, BASE).with("mbit_s", 200.0).with("cpu_s_per_gb", 1.0),
            ];
            let head = [
                Sample::new(CHANGE, HEAD).with("ms", ms),
                Sample::new(THROUGHPUT, HEAD).with("mbit_s", mbit_s).with("cpu_s_per_gb", 1.0),
            ];
            [base, head].concat()
        };
        let slower = |ms, mbit_s, rounds| -> Vec<String> {
            let report = report(&with(ms, mbit_s), rounds);
            let slower = report.compared.iter().filter(|of| of.slower);
            let slower: Vec<String> = slower.map(|of| of.figure.clone()).collect();
            assert_eq!(report.is_good(), slower.is_empty());
            slower
        };
        assert!(slower(104.0, 195.0, ROUNDS_MIN).is_empty(), "within five per cent");
        assert_eq!(slower(106.0, 200.0, ROUNDS_MIN), ["ms"]);
        assert_eq!(slower(90.0, 180.0, ROUNDS_MIN), ["mbit_s"], "less of it is worse");
        assert!(slower(200.0, 100.0, ROUNDS_MIN - 1).is_empty(), "too few rounds");
    }

    #[test]
    fn the_worst_round_decides_about_lost_packets() {
        let lost = |lost| [Sample::new(PINGED, HEAD).with("lost", lost).with("gap_ms", 10.0)];
        let verdict = |report: &Report| {
            let found = report.targets.iter().find(|target| target.id == "net-pings");
            found.map(|target| target.verdict.clone())
        };
        let mut report = report(&lost(0.0), ROUNDS_MIN);
        assert_eq!(verdict(&report), Some(Verdict::Met));
        report.parts[0].rounds.0[7].data = lost(1.0).to_vec();
        report.decide();
        assert_eq!(verdict(&report), Some(Verdict::Missed));
        assert!(!report.is_good());
    }
}
