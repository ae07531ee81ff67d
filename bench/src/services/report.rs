//! The report of `vyr bench services`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vyr_vm::vmm::{Accelerator, Capabilities};

use super::deploy::{DEPLOY, FIGURES};
use super::load::Step;
use super::memory::IDLE;
use super::rollout::ROLLOUT;
use super::start::START;
use super::{BY_HAND, COLD, HEAD, RESTORED, plot};
use crate::environment::{Environment, OTHERS_MAX, STEAL_MAX};
use crate::report::{interval, table};
use crate::sample::Rounds;
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict, judged};

/// A deploy to its first answer, by a bare boot of the same machine.
pub(super) const DEPLOY_MAX: f64 = 1.3;
/// A start from a snapshot, by one that boots.
const RESTORED_MAX: f64 = 0.25;
/// Of the node's own processes for each idle instance.
const MIB_MAX: f64 = 4.0;

/// Titles of the tables, the cases in each, and their figures.
type Table = (&'static str, &'static str, &'static [&'static str]);
const TABLES: [Table; 5] = [
    ("Deploy", DEPLOY, &FIGURES),
    ("By hand", DEPLOY, &["hung"]),
    ("Starts", START, &["running_ms", "answer_ms"]),
    ("Memory", IDLE, &["mib_each", "mib_none", "mib_some", "instances", "vmm_mib_each"]),
    ("Rollout", ROLLOUT, &["failed", "count", "per_s", "p50_ms", "p99_ms", "s"]),
];

/// How guests run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guests {
    /// The VMM and its version.
    pub vmm: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why they are emulated, if they are.
    pub why: Option<String>,
    /// Why the memory of VMMs is not capped, if it is not.
    pub no_memory_cap: Option<String>,
}

/// The rounds of one part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// `deploy`.
    pub part: String,
    /// Its rounds, with every sample.
    pub rounds: Rounds,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub format: String,
    /// The machine.
    pub environment: Environment,
    /// How guests ran, if any did.
    pub guests: Option<Guests>,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too few to decide.
    pub quick: bool,
    /// Connections a second during a rollout.
    pub per_s: Option<f64>,
    /// Why so many.
    pub why_per_s: String,
    /// The rates that were tried without a rollout.
    pub steady: Vec<Step>,
    /// Parts without figures, and why.
    pub missing: Vec<(String, String)>,
    /// What follows.
    pub targets: Vec<Target>,
    /// The raw samples.
    pub parts: Vec<Measured>,
}

impl Guests {
    pub(super) fn of(can: Capabilities) -> Self {
        let why = match &can.accelerator {
            Accelerator::Kvm => None,
            Accelerator::Tcg(why) => Some(why.clone()),
        };
        let accelerator = can.accelerator.word().to_owned();
        Self { vmm: can.vmm, accelerator, why, no_memory_cap: can.no_memory_cap }
    }

    /// In a sentence.
    fn words(&self) -> String {
        let how = match &self.why {
            None => "KVM".to_owned(),
            Some(why) => format!("TCG (emulated: {why})"),
        };
        let cap = self.no_memory_cap.as_ref();
        let cap = cap.map_or_else(String::new, |why| format!(", memory not capped ({why})"));
        format!("{}, {how}{cap}", self.vmm)
    }
}

impl Report {
    pub(super) fn empty(environment: Environment, rounds: usize, quick: bool) -> Self {
        Self {
            format: "vyr-bench-services/1".into(),
            environment,
            guests: None,
            rounds,
            quick,
            per_s: None,
            why_per_s: String::new(),
            steady: Vec::new(),
            missing: Vec::new(),
            targets: Vec::new(),
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

    /// A figure of one arm by that of another, round by round.
    pub(super) fn ratios(&self, case: &str, figure: &str, arm: &str, other: &str) -> Vec<f64> {
        self.ratios_of(case, (arm, figure), (other, figure))
    }

    /// The same of two figures. What is 0 has no ratio.
    pub(super) fn ratios_of(&self, case: &str, one: (&str, &str), by: (&str, &str)) -> Vec<f64> {
        let Some(rounds) = self.part_of(case) else { return Vec::new() };
        rounds.by_round(case, |of| {
            let (one, by) = (of(one.0, one.1)?, of(by.0, by.1)?);
            (one > 0.0 && by > 0.0).then_some(one / by)
        })
    }

    fn samples(&self, part: &str, values: impl FnOnce() -> Vec<f64>) -> Samples {
        let found = self.missing.iter().find(|(missing, _)| missing == part);
        match found {
            Some((_, reason)) => Samples::None(reason.clone()),
            None => Samples::Rounds(values()),
        }
    }

    /// Decides the targets.
    pub(super) fn decide(&mut self) {
        // Whoever is refused in one round was refused.
        let worst = || {
            let of = self.figures(ROLLOUT, HEAD, "failed");
            let most = of.iter().copied().fold(0.0, f64::max);
            vec![most; of.len()]
        };
        let rate = match self.per_s {
            Some(rate) => format!(" at {rate:.0} new ones a second ({})", self.why_per_s),
            None => String::new(),
        };
        self.targets = vec![
            Target::new(
                "services-deploy",
                "deploy of a pulled image to the first answer, by a bare boot of the same machine",
                "",
                Goal::AtMost(DEPLOY_MAX),
                self.samples("deploy", || self.ratios(DEPLOY, "ms", HEAD, BY_HAND)),
            ),
            Target::new(
                "services-restored",
                "start from a snapshot until the process runs, by one that boots",
                "",
                Goal::AtMost(RESTORED_MAX),
                self.samples("start", || self.ratios(START, "running_ms", RESTORED, COLD)),
            ),
            Target::new(
                "services-memory",
                "the node's own processes for each idle instance",
                "MiB",
                Goal::AtMost(MIB_MAX),
                self.samples("memory", || self.figures(IDLE, HEAD, "mib_each")),
            ),
            Target::new(
                "services-rollout",
                &format!("connections refused or cut in a rollout{rate}, in the worst round"),
                "",
                Goal::AtMost(0.0),
                self.samples("rollout", worst),
            ),
        ];
    }

    /// Whether no target was missed.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
    }

    /// All of it, with every sample: one line.
    ///
    /// # Errors
    /// None that are known.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Tables.
    pub fn to_markdown(&self) -> String {
        let mut out = vec!["# Service benchmarks".to_owned(), String::new()];
        if self.quick {
            let quick = "**A quick look: too few rounds to decide anything.**";
            out.extend([quick.into(), String::new()]);
        }
        let guests = self.guests.as_ref().map_or("no guest ran".into(), Guests::words);
        out.push(format!(
            "{}, {} processors, Linux {}; {guests}. {} rounds, arms alternating. Medians of rounds; \
             in brackets the 95 % interval of the median. A deploy is timed from the start of \
             `vyr deploy` to the first answer through the ingress: `plan_ms` to the node's taking of \
             the plan (lock, plan, prove, sign, send), `machine_ms` to the running VMM, `boot_ms` to \
             the guest's process, `check_ms` until its check passed, `ingress_ms` to the answer; \
             `taken_ms` is all after the first of them. By hand `boot_ms` is from QEMU's start to the \
             guest's process, and the wire and the scratch disk are there before; `hung` boots said no \
             word in 45 s and were begun anew, with a new clock. Starts are by the \
             driver, scratch disk included. `mib_each` is what the node's own processes have more \
             (Pss) with `instances` idle ones than the least they had without any so far, for each; \
             `vmm_mib_each` is what a VMM itself has.",
            self.environment.cpu_model,
            self.environment.cpus,
            self.environment.kernel,
            self.rounds,
        ));
        out.extend(judged(&self.targets));
        for (title, case, figures) in TABLES {
            out.extend(self.table(title, case, figures));
        }
        let ratios = [
            ("deploy", "ms", self.ratios(DEPLOY, "ms", HEAD, BY_HAND)),
            ("deploy", "taken_ms", self.ratios_of(DEPLOY, (HEAD, "taken_ms"), (BY_HAND, "ms"))),
            ("start", "running_ms", self.ratios(START, "running_ms", RESTORED, COLD)),
            ("start", "answer_ms", self.ratios(START, "answer_ms", RESTORED, COLD)),
        ];
        let ratios = ratios.iter().filter_map(|(part, figure, values)| {
            let found = Estimate::of(values)?;
            Some(vec![(*part).to_owned(), (*figure).to_owned(), interval(&found)])
        });
        out.extend(table("By the boot beside it", &["part", "figure", "ratio"], ratios.collect()));
        let steady = self.steady.iter().map(|step| {
            let whether = if step.sustained { "yes" } else { "no" };
            vec![
                format!("{:.0}", step.offered_per_s),
                format!("{:.1}", step.answered_per_s),
                step.failed.to_string(),
                format!("{:.1}", step.p99_ms),
                whether.into(),
            ]
        });
        let heads = ["offered a second", "answered", "failed", "p99 ms", "sustained"];
        out.extend(table("Without a rollout", &heads, steady.collect()));
        let missing = self.missing.iter();
        let missing = missing.map(|(part, why)| vec![part.clone(), format!("not measured: {why}")]);
        out.extend(table("Not measured", &["part", "reason"], missing.collect()));
        out.extend(self.disturbances());
        out.join("\n") + "\n"
    }

    fn table(&self, title: &str, case: &str, figures: &[&str]) -> Vec<String> {
        let heads = [&["with"], figures].concat();
        let arms = self.part_of(case).map(Rounds::arms).unwrap_or_default();
        let rows = arms.iter().filter(|(of, _)| of == case).map(|(_, arm)| {
            let cells = figures.iter().map(|figure| {
                let found = Estimate::of(&self.figures(case, arm, figure));
                found.as_ref().map_or("-".into(), interval)
            });
            std::iter::once(arm.clone()).chain(cells).collect()
        });
        table(&format!("{title}: {case}"), &heads, rows.collect())
    }

    /// What others had of the machine meanwhile.
    fn disturbances(&self) -> Vec<String> {
        let rows = self.parts.iter().map(|part| {
            let rounds = &part.rounds.0;
            let most = |of: fn(&crate::environment::Disturbance) -> f64| {
                let all = rounds.iter().map(|round| of(&round.disturbance));
                format!("{:.1} %", all.fold(0.0, f64::max) * 100.0)
            };
            let counted = rounds.iter().filter(|round| round.counts).count();
            vec![
                part.part.clone(),
                rounds.len().to_string(),
                counted.to_string(),
                most(|of| of.steal),
                most(|of| of.others),
            ]
        });
        let heads = [
            "part".to_owned(),
            "rounds".into(),
            "count".into(),
            format!("most steal (bound {:.0} %)", STEAL_MAX * 100.0),
            format!("most of others (bound {:.0} %)", OTHERS_MAX * 100.0),
        ];
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        table("The machine meanwhile", &heads, rows.collect())
    }

    /// Writes `services.md` and `services.svg`, and appends a line to `lines`, so that runs can be
    /// compared.
    pub(super) fn write(&self, directory: &Path, lines: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("services.md"), self.to_markdown()).with_context(fail)?;
        plot::draw(self, &directory.join("services.svg"))?;
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

    /// A report of as many rounds, of which all are alike but the first.
    fn report(rounds: usize, of: impl Fn(usize) -> Vec<(&'static str, Sample)>) -> Report {
        let mut report = Report::empty(Environment::of_this_machine("not used"), rounds, false);
        for part in ["deploy", "start", "memory", "rollout"] {
            let samples = |number| {
                let all = of(number).into_iter().filter(|(name, _)| *name == part);
                all.map(|(_, sample)| sample).collect()
            };
            let round = |number| Round {
                number,
                counts: true,
                disturbance: Disturbance::default(),
                data: samples(number),
            };
            let rounds = Rounds((0..rounds).map(round).collect());
            report.parts.push(Measured { part: part.into(), rounds });
        }
        report.decide();
        report
    }

    /// Figures at the bounds, or beyond them by a little.
    fn samples(more: f64, failed: f64) -> Vec<(&'static str, Sample)> {
        vec![
            ("deploy", Sample::new(DEPLOY, HEAD).with("ms", 1300.0 + more).with("taken_ms", 1e3)),
            ("deploy", Sample::new(DEPLOY, BY_HAND).with("ms", 1000.0)),
            ("start", Sample::new(START, RESTORED).with("running_ms", 250.0 + more)),
            ("start", Sample::new(START, COLD).with("running_ms", 1000.0)),
            ("memory", Sample::new(IDLE, HEAD).with("mib_each", 4.0 + more)),
            ("rollout", Sample::new(ROLLOUT, HEAD).with("failed", failed)),
        ]
    }

    fn verdicts(report: &Report) -> Vec<Verdict> {
        report.targets.iter().map(|target| target.verdict.clone()).collect()
    }

    #[test]
    fn each_target_is_met_at_its_bound_and_missed_beyond_it() {
        let met = report(ROUNDS_MIN, |_| samples(0.0, 0.0));
        assert_eq!(verdicts(&met), vec![Verdict::Met; 4]);
        assert!(met.is_good());
        let missed = report(ROUNDS_MIN, |_| samples(1.0, 1.0));
        assert_eq!(verdicts(&missed), vec![Verdict::Missed; 4]);
        assert!(!missed.is_good());
    }

    #[test]
    fn one_connection_in_one_round_is_one_too_many() {
        let report = report(ROUNDS_MIN, |number| samples(0.0, f64::from(u8::from(number == 7))));
        let missed: Vec<&str> = report
            .targets
            .iter()
            .filter(|target| target.verdict == Verdict::Missed)
            .map(|target| target.id.as_str())
            .collect();
        assert_eq!(missed, ["services-rollout"]);
    }

    #[test]
    fn few_rounds_decide_nothing() {
        let report = report(ROUNDS_MIN - 1, |_| samples(9.0, 9.0));
        let decided = |verdict: &Verdict| !matches!(verdict, Verdict::NotMeasured(_));
        assert!(!verdicts(&report).iter().any(decided), "{:?}", report.targets);
    }

    #[test]
    fn what_is_missing_is_not_measured_and_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut report = Report::empty(Environment::of_this_machine("not used"), 20, false);
        for (_, part) in super::super::PARTS {
            report.missing.push((part.into(), "there is no /dev/net/tun".into()));
        }
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
        let text = std::fs::read_to_string(directory.path().join("services.md")).expect("written");
        assert_eq!(text.matches("not measured: there is no /dev/net/tun").count(), 8, "{text}");
        assert!(report.is_good(), "what was not measured is not missed");
    }

    #[test]
    fn emulation_is_said_with_its_reason() {
        let can = Capabilities {
            vmm: "QEMU 1".into(),
            accelerator: Accelerator::Tcg("there is no /dev/kvm".into()),
            snapshots: true,
            no_memory_cap: None,
            no_own_user: None,
            no_channel: None,
        };
        let words = Guests::of(can).words();
        assert_eq!(words, "QEMU 1, TCG (emulated: there is no /dev/kvm)");
    }
}
