//! The report of `vyr bench ingress`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{CLIENTS, CONNECT, HAPROXY, Options, STREAM, STREAMS, VYR, plot};
use crate::environment::Environment;
use crate::report::{interval, table};
use crate::sample::Rounds;
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict};

/// What is asked for, over HAProxy's.
const THROUGHPUT_MIN: f64 = 0.95;
const CONNECTIONS_MIN: f64 = 0.90;
const CPU_MAX: f64 = 1.05;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub format: String,
    /// The machine.
    pub environment: Environment,
    /// Threads of each proxy.
    pub threads: usize,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too small to decide.
    pub quick: bool,
    /// What follows.
    pub targets: Vec<Target>,
    /// The raw samples.
    pub samples: Rounds,
}

impl Report {
    pub(super) fn new(
        environment: Environment,
        options: &Options,
        rounds: usize,
        samples: Rounds,
    ) -> Self {
        let over = |case: &str, figure: &str| match samples.reason(case, HAPROXY) {
            Some(reason) => Samples::None(reason.to_owned()),
            None => Samples::Rounds(
                samples.by_round(case, |of| Some(of(VYR, figure)? / of(HAPROXY, figure)?)),
            ),
        };
        let target = |id: &str, what: &str, goal, samples| Target::new(id, what, "", goal, samples);
        let targets = vec![
            target(
                "ingress-throughput",
                "throughput over HAProxy's",
                Goal::AtLeast(THROUGHPUT_MIN),
                over(STREAM, "mib_per_s"),
            ),
            target(
                "ingress-connections",
                "connections a second over HAProxy's",
                Goal::AtLeast(CONNECTIONS_MIN),
                over(CONNECT, "per_s"),
            ),
            target(
                "ingress-cpu",
                "processor time a GiB over HAProxy's",
                Goal::AtMost(CPU_MAX),
                over(STREAM, "cpu_ms_per_gib"),
            ),
        ];
        let (threads, quick) = (options.threads, options.quick);
        let format = "vyr-bench-ingress/1".into();
        Self { format, environment, threads, rounds, quick, targets, samples }
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
        let mut out = vec!["# Ingress benchmarks".to_owned(), String::new()];
        if self.quick {
            let quick = "**A quick look: too few and too small rounds to decide anything.**";
            out.extend([quick.into(), String::new()]);
        }
        out.push(format!(
            "{}, {} processors, Linux {}; loopback, clients and backends in one process beside the \
             proxies. {} threads of each proxy, HAProxy with `splice-auto`; {STREAMS} streams, \
             {CLIENTS} clients that connect. {} rounds, arms alternating. Medians of rounds; in \
             brackets the 95 % interval of the median.",
            self.environment.cpu_model,
            self.environment.cpus,
            self.environment.kernel,
            self.threads,
            self.rounds,
        ));
        let rows = self.targets.iter().map(|target| {
            let bound = match target.goal {
                Goal::AtLeast(bound) => format!("≥ {bound}"),
                Goal::AtMost(bound) => format!("≤ {bound}"),
            };
            let measured = target.measured.as_ref().map_or("-".into(), interval);
            vec![target.what.clone(), bound, measured, target.verdict.to_string()]
        });
        out.extend(table("Targets", &["target", "bound", "measured", "verdict"], rows.collect()));
        for (title, case, figures) in [
            ("Streams through the raw listener", STREAM, ["mib_per_s", "cpu_ms_per_gib"]),
            ("Connections by server name", CONNECT, ["per_s", "cpu_us_each"]),
        ] {
            let arms = self.samples.arms().into_iter().filter(|(of, _)| of == case);
            let rows = arms.map(|(case, arm)| {
                let mut row = vec![arm.clone()];
                match self.samples.reason(&case, &arm) {
                    Some(reason) => row.extend([format!("not measured: {reason}"), "-".into()]),
                    None => row.extend(figures.iter().map(|figure| {
                        let figures = self.samples.figures(&case, &arm, figure);
                        Estimate::of(&figures).as_ref().map_or("-".into(), interval)
                    })),
                }
                row
            });
            out.extend(table(title, &["proxy", figures[0], figures[1]], rows.collect()));
        }
        out.join("\n") + "\n"
    }

    /// Writes `ingress.md`, `ingress.json` and `ingress.svg`.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("ingress.md"), self.to_markdown()).with_context(fail)?;
        std::fs::write(directory.join("ingress.json"), self.to_json()?).with_context(fail)?;
        plot::draw(&self.samples, &directory.join("ingress.svg"))
    }
}
