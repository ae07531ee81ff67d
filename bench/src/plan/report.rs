//! The report: a table of medians, growth as a plot, verdicts.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::{SIZES, Sample};
use crate::against::is_slower;
use crate::environment::Environment;
use crate::plot::{BLUE, FONT, GREEN, GREY, ORANGE, PANEL_HEIGHT, WIDTH, failed};
use crate::report::{interval, table};
use crate::rounds::{Round, figures};
use crate::stats::{Estimate, median};
use crate::targets::{Goal, Samples, Target, Verdict, judged};

/// Which build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This one.
    Head,
    /// The one of `--against`.
    Base,
}

/// Milliseconds for the largest site.
const ALL_MS_MAX: f64 = 1_000.0;
/// MiB for it.
const PEAK_MIB_MAX: f64 = 300.0;
/// Times the work for ten times the clients.
const GROWTH_MAX: f64 = 12.0;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine.
    pub environment: Environment,
    /// Rounds that were wanted.
    pub rounds: usize,
    /// Too few to decide.
    pub quick: bool,
    /// What follows.
    pub targets: Vec<Target>,
    /// Whether this build is slower than the other one, by size; empty without one.
    pub compared: Vec<(usize, Option<Estimate>, bool)>,
    /// The raw samples.
    pub samples: Vec<Round<Vec<(Side, Sample)>>>,
}

type Figure = fn(&Sample) -> f64;

const STEPS: [(&str, Figure); 10] = [
    ("parse", |sample| sample.parse_ms),
    ("lock", |sample| sample.lock_ms),
    ("compile", |sample| sample.compile_ms),
    ("prove", |sample| sample.prove_ms),
    ("100 contracts", |sample| sample.contracts_ms),
    ("digest", |sample| sample.digest_ms),
    ("**all of it**", |sample| sample.all_ms),
    ("diff", |sample| sample.diff_ms),
    ("peak MiB", |sample| sample.peak_mib),
    ("plan MiB", |sample| sample.plan_bytes as f64 / (1024.0 * 1024.0)),
];

impl Report {
    pub(super) fn new(
        environment: Environment,
        rounds: usize,
        quick: bool,
        samples: Vec<Round<Vec<(Side, Sample)>>>,
    ) -> Self {
        let mut report =
            Self { environment, rounds, quick, targets: Vec::new(), compared: Vec::new(), samples };
        let largest = SIZES[SIZES.len() - 1];
        let before = SIZES[SIZES.len() - 2];
        let of = |size, figure: Figure| Samples::Rounds(report.of(Side::Head, size, figure));
        let growth = report
            .of(Side::Head, largest, |sample| sample.all_ms)
            .iter()
            .zip(report.of(Side::Head, before, |sample| sample.all_ms))
            .map(|(large, small)| large / small)
            .collect();
        report.targets = vec![
            Target::new(
                "plan-cpu",
                "10,000 clients, all invariants, 100 contracts: processor time",
                "ms",
                Goal::AtMost(ALL_MS_MAX),
                of(largest, |sample| sample.all_ms),
            ),
            Target::new(
                "plan-memory",
                "the same: peak memory of the process",
                "MiB",
                Goal::AtMost(PEAK_MIB_MAX),
                of(largest, |sample| sample.peak_mib),
            ),
            Target::new(
                "plan-diff",
                "semantic diff of two such plans: processor time",
                "ms",
                Goal::AtMost(ALL_MS_MAX),
                of(largest, |sample| sample.diff_ms),
            ),
            Target::new(
                "plan-growth",
                "10,000 clients by 1,000: processor time",
                "",
                Goal::AtMost(GROWTH_MAX),
                Samples::Rounds(growth),
            ),
        ];
        let ratios = |size| {
            let head = report.of(Side::Head, size, |sample| sample.all_ms);
            let base = report.of(Side::Base, size, |sample| sample.all_ms);
            let ratios: Vec<f64> = head.iter().zip(&base).map(|(head, base)| head / base).collect();
            Estimate::of(&ratios).map(|ratio| (size, Some(ratio), is_slower(&ratio)))
        };
        report.compared = SIZES.into_iter().filter_map(ratios).collect();
        report
    }

    fn of(&self, side: Side, clients: usize, figure: Figure) -> Vec<f64> {
        figures(&self.samples, |all| {
            let mut samples = all.iter();
            samples
                .find(|(of, sample)| *of == side && sample.clients == clients)
                .map(|(_, s)| figure(s))
        })
    }

    /// Whether no target was missed and no size is slower than the base.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
            && !self.compared.iter().any(|(_, _, slower)| *slower)
    }

    /// All of it, with every sample.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Tables.
    pub fn to_markdown(&self) -> String {
        let mut out = vec!["# Plan benchmarks".to_owned(), String::new()];
        if self.quick {
            out.extend([
                "**A quick look: too few rounds to decide anything.**".into(),
                String::new(),
            ]);
        }
        out.push(format!(
            "{}, {} processors, Linux {}. {} rounds, a process a sample, order alternating. \
             Milliseconds of processor time; in brackets the 95 % interval of the median.",
            self.environment.cpu_model, self.environment.cpus, self.environment.kernel, self.rounds,
        ));
        out.extend(judged(&self.targets));
        let names: Vec<String> = SIZES.iter().map(|size| format!("{size} clients")).collect();
        let columns: Vec<&str> =
            std::iter::once("step").chain(names.iter().map(String::as_str)).collect();
        let rows = STEPS.iter().map(|(name, figure)| {
            let cells = SIZES.iter().map(|size| {
                let found = Estimate::of(&self.of(Side::Head, *size, *figure));
                found.as_ref().map_or("-".into(), interval)
            });
            std::iter::once((*name).to_owned()).chain(cells).collect()
        });
        out.extend(table("From texts to a proven plan", &columns, rows.collect()));
        if !self.compared.is_empty() {
            let rows = self.compared.iter().map(|(size, ratio, slower)| {
                let ratio = ratio.as_ref().map_or("-".into(), interval);
                vec![size.to_string(), ratio, if *slower { "slower".into() } else { String::new() }]
            });
            let columns = ["clients", "this build by base, all of it", ""];
            out.extend(table("Against the base", &columns, rows.collect()));
        }
        let counted = self.samples.iter().filter(|round| round.counts).count();
        let steal: Vec<f64> = self.samples.iter().map(|round| round.disturbance.steal).collect();
        out.push(format!(
            "{counted} of {} rounds count; the most steal was {:.1} %.",
            self.samples.len(),
            100.0 * steal.iter().copied().fold(0.0, f64::max),
        ));
        out.join("\n") + "\n"
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("plan.json"), self.to_json()?).with_context(fail)?;
        std::fs::write(directory.join("plan.md"), self.to_markdown()).with_context(fail)?;
        self.draw(&directory.join("plan.svg"))
    }

    /// Growth, both axes in powers of ten, beside a straight line.
    fn draw(&self, file: &Path) -> Result<()> {
        let lines: [(&str, RGBColor, Figure); 3] = [
            ("all of it", BLUE, |sample| sample.all_ms),
            ("prove", ORANGE, |sample| sample.prove_ms),
            ("diff", GREEN, |sample| sample.diff_ms),
        ];
        let root = SVGBackend::new(file, (WIDTH, PANEL_HEIGHT)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("Milliseconds of processor time by clients", (FONT, 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d((8.0..12_500.0).log_scale(), (0.1..3_000.0).log_scale())
            .map_err(failed)?;
        chart.configure_mesh().x_desc("clients").label_style((FONT, 12)).draw().map_err(failed)?;
        let all = |size| median(&self.of(Side::Head, size, |sample| sample.all_ms));
        if let Some(first) = all(SIZES[2]) {
            let straight = SIZES.map(|size| (size as f64, first * size as f64 / SIZES[2] as f64));
            chart
                .draw_series(LineSeries::new(straight, GREY.stroke_width(1)))
                .map_err(failed)?
                .label("linear from 1,000 clients")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
        }
        for (name, colour, figure) in lines {
            let points: Vec<(f64, f64)> = SIZES
                .iter()
                .filter_map(|size| {
                    Some((*size as f64, median(&self.of(Side::Head, *size, figure))?))
                })
                .collect();
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()
            .map_err(failed)?;
        drop(chart);
        root.present().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::ROUNDS_MIN;

    #[test]
    fn only_what_enough_rounds_call_slower_is() {
        let slower = |ratios: &[f64]| Estimate::of(ratios).is_some_and(|ratio| is_slower(&ratio));
        assert!(slower(&[1.2; ROUNDS_MIN]));
        assert!(!slower(&[1.2; ROUNDS_MIN - 1]), "too few rounds");
        assert!(!slower(&[1.04; ROUNDS_MIN]), "within five per cent");
    }
}
