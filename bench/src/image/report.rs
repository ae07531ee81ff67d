//! The report: medians, ratios, a verdict.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Arm, Sample};
use crate::environment::Environment;
use crate::report::{interval, table};
use crate::rounds::{Round, figures};
use crate::stats::Estimate;
use crate::targets::{Goal, Samples, Target, Verdict};

/// Times `mksquashfs -tar` of the same stream.
const RATIO_MAX: f64 = 1.2;

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
    /// The raw samples.
    pub samples: Vec<Round<Vec<Sample>>>,
}

impl Report {
    pub(super) fn new(
        environment: Environment,
        rounds: usize,
        quick: bool,
        samples: Vec<Round<Vec<Sample>>>,
    ) -> Self {
        let mut report = Self { environment, rounds, quick, targets: Vec::new(), samples };
        let ratios = |reference| {
            let ours = report.of(Arm::Vyr);
            ours.iter().zip(report.of(reference)).map(|(ours, theirs)| ours / theirs).collect()
        };
        report.targets = vec![
            Target::new(
                "image-stream",
                "image to disk, over mksquashfs -tar of the merged stream: wall time",
                "",
                Goal::AtMost(RATIO_MAX),
                Samples::Rounds(ratios(Arm::Stream)),
            ),
            Target::new(
                "image-layer",
                "the same, over gzip -dc into mksquashfs -tar",
                "",
                Goal::AtMost(RATIO_MAX),
                Samples::Rounds(ratios(Arm::Layer)),
            ),
        ];
        report
    }

    fn of(&self, arm: Arm) -> Vec<f64> {
        figures(&self.samples, |samples| {
            samples.iter().find(|sample| sample.arm == arm).map(|sample| sample.ms)
        })
    }

    /// Whether no target was missed.
    pub fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.verdict != Verdict::Missed)
    }

    /// All of it, with every sample.
    ///
    /// # Errors
    /// None that are known.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Tables.
    pub fn to_markdown(&self) -> String {
        let mut out = vec!["# Image benchmarks".to_owned(), String::new()];
        if self.quick {
            let warning = "**A quick look: too few rounds to decide anything.**";
            out.extend([warning.into(), String::new()]);
        }
        out.push(format!(
            "{}, {} processors, Linux {}. {} rounds, order alternating. Milliseconds of wall time, \
             the sync of the disk included; in brackets the 95 % interval of the median.",
            self.environment.cpu_model, self.environment.cpus, self.environment.kernel, self.rounds,
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
        let arms = [
            (Arm::Vyr, "vyr image build"),
            (Arm::Stream, "mksquashfs of the merged stream"),
            (Arm::Layer, "gzip -dc into mksquashfs"),
        ];
        let rows = arms.iter().map(|(arm, name)| {
            let found = Estimate::of(&self.of(*arm));
            vec![(*name).to_owned(), found.as_ref().map_or("-".into(), interval)]
        });
        out.extend(table("Image to disk", &["who", "ms"], rows.collect()));
        let counted = self.samples.iter().filter(|round| round.counts).count();
        out.push(format!("{counted} of {} rounds count.", self.samples.len()));
        out.join("\n") + "\n"
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let fail = || format!("cannot write into {}", directory.display());
        std::fs::create_dir_all(directory).with_context(fail)?;
        std::fs::write(directory.join("image.json"), self.to_json()?).with_context(fail)?;
        std::fs::write(directory.join("image.md"), self.to_markdown()).with_context(fail)
    }
}
