//! The report: targets, tables of each part, why something was not run, and every sample.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Part;
use super::plot;
use super::starve::{Arm, PIECES_MS, Runtime, SHORT_US};
use crate::environment::Environment;
use crate::report::{interval, table};
use crate::sample::Rounds;
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict};

/// The form of the JSON.
const FORMAT: &str = "vyr-bench-sched/1";

/// Nanoseconds of a checkpoint.
const CHECK_NS_MAX: f64 = 1.0;
/// A hint from another processor, by half the way of a line there and back.
const VISIBLE_MAX: f64 = 1.5;
/// Nanoseconds on a processor from hint to yield, p99.
const YIELD_NS_MAX: f64 = 100_000.0;
/// The same of a guest, by that of a timer.
const YIELD_BY_TIMER_MAX: f64 = 0.5;
/// Nanoseconds of programs a switch.
const SWITCH_NS_MAX: f64 = 100.0;
/// Percent that ten thousand switches a second are slower.
const PIPE_PERCENT_MAX: f64 = 1.0;
/// Percent of one processor that all that guides uses.
const AGENT_PERCENT_MAX: f64 = 2.0;
/// p99 of short tasks, by the best timer and by no guidance.
const BY_TIMER_MAX: f64 = 0.5;
const BY_OFF_MAX: f64 = 0.05;
/// The hogs' throughput, by that beside the same timer.
const HOGS_MIN: f64 = 0.97;

/// How it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// When it began, in seconds of Unix time.
    pub began_unix_s: u64,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too few to decide.
    pub quick: bool,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this.
    pub format: String,
    /// How.
    pub settings: Settings,
    /// The machine.
    pub environment: Environment,
    /// What follows.
    pub targets: Vec<Target>,
    /// The raw samples.
    pub parts: Vec<(Part, Rounds)>,
}

/// Figures of a table: the heading, the name in samples, by how much it is divided.
type Column = (&'static str, &'static str, f64);

const US: f64 = 1_000.0;

fn columns(part: Part) -> &'static [Column] {
    match part {
        Part::Checkpoint => &[
            ("a check with its loop, ns", "check_ns", 1.0),
            ("a check beside a loop, ns", "beside_loop_ns", 1.0),
            ("loop, ns", "loop_ns", 1.0),
            ("empty loop, ns", "empty_loop_ns", 1.0),
            ("instructions", "check_instructions", 1.0),
        ],
        Part::Visible => &[
            ("p50, ns", "p50_ns", 1.0),
            ("p50 less a clock reading, ns", "p50_less_clock_ns", 1.0),
            ("p99, ns", "p99_ns", 1.0),
            ("a clock reading, ns", "clock_ns", 1.0),
            ("there and back, ns", "round_trip_ns", 1.0),
            ("one way, ns", "half_ns", 1.0),
            ("samples a round", "count", 1.0),
        ],
        Part::Yield => &[
            ("p50, us", "p50_ns", US),
            ("p99, us", "p99_ns", US),
            ("wall p50, us", "wall_p50_ns", US),
            ("wall p99, us", "wall_p99_ns", US),
            ("from the hint, p50, us", "hint_p50_ns", US),
            ("from the hint, p99, us", "hint_p99_ns", US),
            ("agent, processors", "agent_cpu_share", 1.0),
            ("samples a round", "count", 1.0),
        ],
        Part::Switch => &[
            ("a run, ns", "run_ns", 1.0),
            ("runs a round", "runs", 1.0),
            ("a turn, us", "turn_us", 1.0),
            ("switches a second", "switches_per_s", 1.0),
            ("slower by, %", "slower_by_percent", 1.0),
            ("agent, % of a processor", "agent_cpu_percent", 1.0),
        ],
        Part::Starve => &[
            ("p50, us", "p50_ns", US),
            ("p99, us", "p99_ns", US),
            ("p999, us", "p999_ns", US),
            ("p99 until handed over, us", "late_p99_us", 1.0),
            ("p50 from then, us", "handed_p50_us", 1.0),
            ("p99 from then, us", "handed_p99_us", 1.0),
            ("hogs, ms a second", "hog_ms_per_s", 1.0),
            ("guides, % of a processor", "guides_cpu_percent", 1.0),
            ("hints of the kernel", "kernel_hints", 1.0),
        ],
        Part::Critical => &[
            ("yields inside", "yields_inside", 1.0),
            ("yields", "yields", 1.0),
            ("deferred checks", "deferred", 1.0),
            ("hints", "hints", 1.0),
            ("p50, us", "p50_ns", US),
            ("p99, us", "p99_ns", US),
            ("looks", "looks", 1.0),
            ("looks inside", "looks_inside", 1.0),
            ("agent, processors", "agent_cpu_share", 1.0),
        ],
    }
}

impl Report {
    pub(super) fn new(
        settings: Settings,
        environment: Environment,
        parts: Vec<(Part, Rounds)>,
    ) -> Self {
        let format = FORMAT.into();
        let mut report = Self { format, settings, environment, targets: Vec::new(), parts };
        report.decide();
        report
    }

    pub(super) fn part(&self, part: Part) -> Option<&Rounds> {
        self.parts.iter().find(|(of, _)| *of == part).map(|(_, rounds)| rounds)
    }

    /// The samples of a target, or the reason why there are none.
    fn samples(
        &self,
        part: Part,
        case: &str,
        arms: &[&str],
        figures: impl FnOnce(&Rounds) -> Vec<f64>,
    ) -> Samples {
        let Some(rounds) = self.part(part) else {
            return Samples::None("not asked for".into());
        };
        match arms.iter().find_map(|arm| rounds.reason(case, arm)) {
            Some(reason) => Samples::None(format!("not run: {reason}")),
            None => Samples::Rounds(figures(rounds)),
        }
    }

    fn decide(&mut self) {
        let mut targets = vec![self.checkpoint()];
        targets.push(Target::new(
            "sched-visible",
            "hint on another processor, p50 less a clock reading, by one way of a line",
            "",
            Goal::AtMost(VISIBLE_MAX),
            self.samples(Part::Visible, "other processor", &["hint"], |rounds| {
                rounds.by_round("other processor", |of| {
                    Some(of("hint", "p50_less_clock_ns")? / of("line there and back", "half_ns")?)
                })
            }),
        ));
        targets.push(Target::new(
            "sched-yield-native",
            "hint to yield of a native worker on its processor, p99",
            "ns",
            Goal::AtMost(YIELD_NS_MAX),
            self.samples(Part::Yield, "native", &["observe"], |rounds| {
                rounds.figures("native", "observe", "p99_ns")
            }),
        ));
        targets.push(Target::new(
            "sched-yield-wasm",
            "want to yield of a guest, p99, by that of a 1 ms timer",
            "",
            Goal::AtMost(YIELD_BY_TIMER_MAX),
            self.samples(Part::Yield, "wasm", &["observe", "timer 1 ms"], |rounds| {
                rounds.by_round("wasm", |of| {
                    Some(of("observe", "p99_ns")? / of("timer 1 ms", "p99_ns")?)
                })
            }),
        ));
        targets.extend(self.switch());
        for runtime in [Runtime::Wasm, Runtime::Tokio] {
            for piece_ms in PIECES_MS {
                targets.extend(self.starve(runtime, piece_ms));
            }
        }
        targets.push(Target::new(
            "sched-starve-agent",
            "short tasks beside hogs: all that guides, at its worst",
            "% of a processor",
            Goal::AtMost(AGENT_PERCENT_MAX),
            self.worst(Part::Starve, "guides_cpu_percent", "observe"),
        ));
        targets.push(Target::new(
            "sched-critical",
            "yields inside critical sections, at worst",
            "",
            Goal::AtMost(0.0),
            self.worst(Part::Critical, "yields_inside", "observe"),
        ));
        self.targets = targets;
    }

    fn checkpoint(&self) -> Target {
        let observe = "attached, observe";
        let figures = self.samples(Part::Checkpoint, "checkpoint", &[observe], |rounds| {
            rounds.figures("checkpoint", observe, "check_ns")
        });
        // A control block is the same, whoever writes to it.
        let figures = match (figures, self.part(Part::Checkpoint)) {
            (Samples::None(_), Some(rounds)) => {
                Samples::Rounds(rounds.figures("checkpoint", "attached, psi", "check_ns"))
            }
            (figures, _) => figures,
        };
        let what = "a checkpoint with its control block attached, its loop included";
        Target::new("sched-checkpoint", what, "ns", Goal::AtMost(CHECK_NS_MAX), figures)
    }

    fn switch(&self) -> [Target; 4] {
        let pipe = "pipe, 10,000 switches a second";
        let of = |arm: &'static str, figure: &'static str| {
            self.samples(Part::Switch, pipe, &[arm], |rounds| rounds.figures(pipe, arm, figure))
        };
        let program = self.samples(Part::Switch, "programs", &["on_switch"], |rounds| {
            rounds.figures("programs", "on_switch", "run_ns")
        });
        let [others, workers] = ["observe, no workers", "observe, workers"];
        [
            Target::new(
                "sched-switch-program",
                "the program at a context switch, the kernel's counting included",
                "ns",
                Goal::AtMost(SWITCH_NS_MAX),
                program,
            ),
            Target::new(
                "sched-switch-others",
                "10,000 switches a second of threads that are no workers: slower by",
                "%",
                Goal::AtMost(PIPE_PERCENT_MAX),
                of(others, "slower_by_percent"),
            ),
            Target::new(
                "sched-switch-workers",
                "the same of workers: slower by",
                "%",
                Goal::AtMost(PIPE_PERCENT_MAX),
                of(workers, "slower_by_percent"),
            ),
            Target::new(
                "sched-switch-agent",
                "the same: the agent",
                "% of a processor",
                Goal::AtMost(AGENT_PERCENT_MAX),
                of(workers, "agent_cpu_percent"),
            ),
        ]
    }

    fn starve(&self, runtime: Runtime, piece_ms: u64) -> Vec<Target> {
        let case = &runtime.case(piece_ms);
        let id = |what: &str| format!("sched-starve-{}-{piece_ms}ms-{what}", runtime.name());
        let of = |figure: fn(Figures<'_>) -> Option<f64>| {
            self.samples(Part::Starve, case, &["observe"], |rounds| rounds.by_round(case, figure))
        };
        let mut targets = vec![
            Target::new(
                &id("timer"),
                &format!("{case}: p99 by that of the best timer"),
                "",
                Goal::AtMost(BY_TIMER_MAX),
                of(by_best_timer),
            ),
            Target::new(
                &id("hogs"),
                &format!("{case}: the hogs' throughput by that beside the same timer"),
                "",
                Goal::AtLeast(HOGS_MIN),
                of(hogs_by_best_timer),
            ),
        ];
        // A short task alone takes a tenth of a piece of 1 ms: a twentieth cannot be.
        if SHORT_US as f64 <= BY_OFF_MAX * piece_ms as f64 * 1e3 {
            targets.push(Target::new(
                &id("off"),
                &format!("{case}: p99 by that without guidance"),
                "",
                Goal::AtMost(BY_OFF_MAX),
                of(|of| Some(of("observe", "p99_ns")? / of("off", "p99_ns")?)),
            ));
        }
        targets
    }

    /// The largest of all cases, round by round.
    fn worst(&self, part: Part, figure: &str, arm: &str) -> Samples {
        let Some(rounds) = self.part(part) else {
            return Samples::None("not asked for".into());
        };
        let reason = rounds.arms().iter().filter(|(_, of)| of == arm).find_map(|(case, arm)| {
            rounds.reason(case, arm).map(|reason| format!("not run: {reason}"))
        });
        if let Some(reason) = reason {
            return Samples::None(reason);
        }
        let counted = rounds.0.iter().filter(|round| round.counts);
        let worst = counted.filter_map(|round| {
            let of_arm = round.data.iter().filter(|sample| sample.arm == arm);
            of_arm.filter_map(|sample| sample.figure(figure)).reduce(f64::max)
        });
        Samples::Rounds(worst.collect())
    }

    /// Whether no target was missed.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
    }

    /// All of it, with every sample.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Tables.
    pub fn to_markdown(&self) -> String {
        let mut out = vec!["# Guidance benchmarks".to_owned(), String::new()];
        if self.settings.quick {
            let quick = "**A quick look: too few rounds to decide anything.**";
            out.extend([quick.into(), String::new()]);
        }
        out.push(format!(
            "{}, {} processors, Linux {}. {} rounds, arms alternating. Medians of rounds; in \
             brackets the 95 % interval of the median. The agent is part of every figure.",
            self.environment.cpu_model,
            self.environment.cpus,
            self.environment.kernel,
            self.settings.rounds,
        ));
        let rows = self.targets.iter().map(|target| {
            let bound = match target.goal {
                Goal::AtLeast(bound) => format!("≥ {bound} {}", target.unit),
                Goal::AtMost(bound) => format!("≤ {bound} {}", target.unit),
            };
            let measured = target.measured.as_ref().map_or("-".into(), interval);
            vec![target.what.clone(), bound.trim_end().into(), measured, target.verdict.to_string()]
        });
        out.extend(table("Targets", &["target", "bound", "measured", "verdict"], rows.collect()));
        for (part, rounds) in &self.parts {
            out.extend(of_part(*part, rounds));
        }
        out.push(String::new());
        for (part, rounds) in &self.parts {
            out.push(quiet(*part, rounds));
        }
        out.join("\n") + "\n"
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("sched.json"), self.to_json()?).with_context(fail)?;
        std::fs::write(directory.join("sched.md"), self.to_markdown()).with_context(fail)?;
        plot::draw(self, &directory.join("sched.svg"))
    }
}

type Figures<'a> = &'a dyn Fn(&str, &str) -> Option<f64>;

/// The timer with the shortest p99 in this round.
fn best_timer(of: Figures<'_>) -> Option<(&'static str, f64)> {
    let p99 = |arm: Arm| Some((arm.name(), of(arm.name(), "p99_ns")?));
    Arm::TIMERS.into_iter().filter_map(p99).min_by(|a, b| a.1.total_cmp(&b.1))
}

fn by_best_timer(of: Figures<'_>) -> Option<f64> {
    Some(of("observe", "p99_ns")? / best_timer(of)?.1)
}

fn hogs_by_best_timer(of: Figures<'_>) -> Option<f64> {
    let (timer, _) = best_timer(of)?;
    Some(of("observe", "hog_ms_per_s")? / of(timer, "hog_ms_per_s")?)
}

/// The table of a part: only the columns in which there is something.
fn of_part(part: Part, rounds: &Rounds) -> Vec<String> {
    let arms = rounds.arms();
    let all = columns(part).iter();
    let used: Vec<&Column> = all
        .filter(|(_, figure, _)| {
            arms.iter().any(|(case, arm)| !rounds.figures(case, arm, figure).is_empty())
        })
        .collect();
    let pooled = part == Part::Starve;
    let mut heads = vec!["case", "with"];
    heads.extend(used.iter().map(|(head, ..)| *head));
    if pooled {
        heads.push("p999 of all rounds, us");
    }
    // Reasons need a column, also where there is nothing else.
    if heads.len() == 2 {
        heads.push("");
    }
    let rows = arms.iter().map(|(case, arm)| {
        let mut row = vec![case.clone(), arm.clone()];
        if let Some(reason) = rounds.reason(case, arm) {
            row.push(format!("not run: {reason}"));
            row.resize(heads.len(), String::new());
            return row;
        }
        row.extend(used.iter().map(|(_, figure, by)| {
            let figures: Vec<f64> =
                rounds.figures(case, arm, figure).iter().map(|value| value / by).collect();
            Estimate::of(&figures).as_ref().map_or("-".into(), interval)
        }));
        if pooled {
            let ns = rounds.pooled_ns(case, arm, 0.999);
            row.push(ns.map_or("-".into(), |ns| format!("{:.0}", ns / US)));
        }
        row
    });
    table(part.title(), &heads, rows.collect())
}

fn quiet(part: Part, rounds: &Rounds) -> String {
    let counted = rounds.0.iter().filter(|round| round.counts).count();
    let most = |of: fn(&crate::environment::Disturbance) -> f64| {
        100.0 * rounds.0.iter().map(|round| of(&round.disturbance)).fold(0.0, f64::max)
    };
    format!(
        "- {}: {counted} of {} rounds count; at most {:.1} % steal, {:.1} % others.",
        part.name(),
        rounds.0.len(),
        most(|of| of.steal),
        most(|of| of.others),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;
    use crate::rounds::{ROUNDS_MIN, Round};
    use crate::sample::Sample;

    fn rounds(samples: &[Sample]) -> Rounds {
        let round = |number| Round {
            number,
            counts: true,
            disturbance: Disturbance::default(),
            data: samples.to_vec(),
        };
        Rounds((0..ROUNDS_MIN).map(round).collect())
    }

    fn report(part: Part, samples: &[Sample]) -> Report {
        let environment = Environment::of_this_machine("not asked");
        Report::new(Settings::default(), environment, vec![(part, rounds(samples))])
    }

    fn verdict<'a>(report: &'a Report, id: &str) -> &'a Verdict {
        &report.targets.iter().find(|target| target.id == id).expect("a target").verdict
    }

    fn beside(arm: Arm, p99_us: f64, hogs: f64) -> Sample {
        Sample::new("tokio, pieces of 10 ms", arm.name())
            .with("p99_ns", p99_us * 1e3)
            .with("hog_ms_per_s", hogs)
    }

    #[test]
    fn what_was_not_asked_for_or_not_run_is_not_measured_and_says_so() {
        let reason = "built without bpf".to_owned();
        let report = report(Part::Yield, &[Sample::not_run("native", "observe", reason.clone())]);
        let missing = Verdict::NotMeasured(format!("not run: {reason}"));
        assert_eq!(verdict(&report, "sched-yield-native"), &missing);
        let other = Verdict::NotMeasured("not asked for".into());
        assert_eq!(verdict(&report, "sched-visible"), &other);
        assert_eq!(verdict(&report, "sched-critical"), &other);
        assert!(report.is_good());
        let text = report.to_markdown();
        assert!(text.contains("| native | observe | not run: built without bpf |"), "{text}");
    }

    #[test]
    fn the_best_timer_is_that_with_the_shortest_p99() {
        let report = report(
            Part::Starve,
            &[
                beside(Arm::Off, 10_000.0, 2_000.0),
                beside(Arm::Timer(1), 1_000.0, 1_900.0),
                beside(Arm::Timer(10), 9_000.0, 2_000.0),
                beside(Arm::Observe, 400.0, 1_862.0),
            ],
        );
        assert_eq!(verdict(&report, "sched-starve-tokio-10ms-timer"), &Verdict::Met);
        assert_eq!(verdict(&report, "sched-starve-tokio-10ms-hogs"), &Verdict::Met);
        assert_eq!(verdict(&report, "sched-starve-tokio-10ms-off"), &Verdict::Met);
        let no_twentieth = report.targets.iter().any(|t| t.id == "sched-starve-tokio-1ms-off");
        assert!(!no_twentieth, "it could not be met");
    }

    #[test]
    fn slower_hogs_and_late_tasks_are_missed() {
        let report = report(
            Part::Starve,
            &[
                beside(Arm::Off, 10_000.0, 2_000.0),
                beside(Arm::Timer(1), 1_000.0, 2_000.0),
                beside(Arm::Observe, 501.0, 1_939.0),
            ],
        );
        for what in ["timer", "hogs", "off"] {
            let id = format!("sched-starve-tokio-10ms-{what}");
            assert_eq!(verdict(&report, &id), &Verdict::Missed, "{id}");
        }
        assert!(!report.is_good());
    }

    #[test]
    fn one_yield_inside_a_section_is_too_many() {
        let case = |yields| Sample::new("90 %", "observe").with("yields_inside", yields);
        let report_of = |yields| report(Part::Critical, &[case(0.0), case(yields)]);
        assert_eq!(verdict(&report_of(0.0), "sched-critical"), &Verdict::Met);
        assert_eq!(verdict(&report_of(1.0), "sched-critical"), &Verdict::Missed);
    }

    #[test]
    fn it_reads_back() {
        let report = report(Part::Critical, &[Sample::new("a", "b").with("yields", 1.0)]);
        let back: Report =
            serde_json::from_str(&report.to_json().expect("JSON")).expect("the same");
        assert_eq!(back, report);
    }
}
