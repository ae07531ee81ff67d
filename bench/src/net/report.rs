//! The report of `vyr bench net`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{CHANGE, PINGED, ROLLBACK};
use crate::environment::Environment;
use crate::report::{interval, table};
use crate::sample::Rounds;
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict};

/// Seconds from the deadline until traffic is back.
const BACK_S_MAX: f64 = 1.0;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub format: String,
    /// The machine.
    pub environment: Environment,
    /// What carries the packets.
    pub plane: String,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too few to decide.
    pub quick: bool,
    /// What follows.
    pub targets: Vec<Target>,
    /// The raw samples.
    pub samples: Rounds,
}

impl Report {
    pub(super) fn new(
        environment: Environment,
        rounds: usize,
        quick: bool,
        samples: Rounds,
    ) -> Self {
        let of = |case: &str, arm: &str, figures: Vec<f64>| match samples.reason(case, arm) {
            Some(reason) => Samples::None(format!("not run: {reason}")),
            None => Samples::Rounds(figures),
        };
        // Whoever loses one packet in one round has lost one.
        let lost = samples.figures(PINGED, "vyr apply", "lost");
        let lost = vec![lost.iter().copied().fold(0.0, f64::max); lost.len()];
        let targets = vec![
            Target::new(
                "net-pings",
                "pings lost of 600 through another peer, in the worst round",
                "",
                Goal::AtMost(0.0),
                of(PINGED, "vyr apply", lost),
            ),
            Target::new(
                "net-rollback",
                "after a plan that locked out: from the deadline to the first answer",
                "s",
                Goal::AtMost(BACK_S_MAX),
                of(ROLLBACK, "timer", samples.figures(ROLLBACK, "timer", "s")),
            ),
        ];
        let format = "vyr-bench-net/1".into();
        let plane = "wireguard-go, in namespaces of one machine".into();
        Self { format, environment, plane, rounds, quick, targets, samples }
    }

    /// Whether no target was missed.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
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
             brackets the 95 % interval of the median. Whole processes, from start to end.",
            self.environment.cpu_model,
            self.environment.cpus,
            self.environment.kernel,
            self.plane,
            self.rounds,
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
        for (title, case, figures) in [
            ("A change", CHANGE, &["ms", "steps"][..]),
            ("Who notices", PINGED, &["lost", "changes"]),
            ("Locked out", ROLLBACK, &["s"]),
        ] {
            let heads = [&["case", "with"], figures].concat();
            let arms = self.samples.arms().into_iter().filter(|(of, _)| of == case);
            let rows = arms.map(|(case, arm)| {
                let reason = self.samples.reason(&case, &arm);
                let mut row = vec![case.clone(), arm.clone()];
                row.extend(figures.iter().enumerate().map(|(at, figure)| {
                    match reason {
                        Some(reason) if at == 0 => format!("not run: {reason}"),
                        _ => Estimate::of(&self.samples.figures(&case, &arm, figure))
                            .as_ref()
                            .map_or("-".into(), interval),
                    }
                }));
                row
            });
            out.extend(table(title, &heads, rows.collect()));
        }
        out.join("\n") + "\n"
    }

    /// Writes `net.md`, and appends a line to `net.jsonl`, so that runs can be compared.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("net.md"), self.to_markdown()).with_context(fail)?;
        let lines = directory.join("net.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(lines);
        file.and_then(|mut file| file.write_all(self.to_json().unwrap_or_default().as_bytes()))
            .with_context(fail)
    }
}
