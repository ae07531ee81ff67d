//! `vyr sched bench`: what guidance costs, how soon it is heard, and what it is good for.
//!
//! ```text
//! checkpoint  a loop of checkpoints beside an empty one
//! visible     kernel -> worker's eyes, beside a line of cache there and back
//! yield       hint -> yield: a native worker, a guest, a timer
//! switch      the programs' own time; a pipe with and without them
//! starve      short tasks beside hogs: off, psi, observe, timers, naive
//! critical    hogs in critical sections
//! ```
//!
//! The agent is a thread of this process with an agent's own code; what it and the other threads
//! that guide use of a processor is part of every figure. Arms alternate within a round. What this
//! machine cannot do is in the report as `not run`, with the reason.

mod checkpoint;
mod critical;
mod demo;
mod place;
mod plot;
mod report;

mod starve;
mod switch;
mod visible;
mod wire;
mod yields;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub use self::demo::{Shown, run as show};
pub use self::report::{Report, Settings};
use self::starve::{Cells, Prepared};
use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, rounds};
pub use crate::sample::{Rounds, Sample};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What a checkpoint costs.
    Checkpoint,
    /// From the kernel's hint to the worker's eyes.
    Visible,
    /// From a hint to the yield.
    Yield,
    /// What a context switch costs more.
    Switch,
    /// Short tasks beside hogs.
    Starve,
    /// Hogs in critical sections.
    Critical,
}

impl Part {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 6] =
        [Self::Checkpoint, Self::Visible, Self::Yield, Self::Switch, Self::Critical, Self::Starve];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Visible => "visible",
            Self::Yield => "yield",
            Self::Switch => "switch",
            Self::Starve => "starve",
            Self::Critical => "critical",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Checkpoint => "A checkpoint",
            Self::Visible => "From hint to eyes",
            Self::Yield => "From hint to yield",
            Self::Switch => "A context switch",
            Self::Starve => "Short tasks beside hogs",
            Self::Critical => "Critical sections",
        }
    }
}

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 short rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Only hogs with pieces of so many milliseconds: 1, 10 or 100
    #[arg(long, value_delimiter = ',', value_name = "MS")]
    pub pieces: Vec<u64>,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// Show instead, within half a minute, what short tasks gain by guidance
    #[arg(long, conflicts_with_all = ["rounds", "quick", "only", "pieces"])]
    pub demo: bool,
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Full,
    Quick,
    /// As little as there is, for tests.
    #[cfg(test)]
    Least,
}

impl Scale {
    fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            #[cfg(test)]
            Self::Least => quick.min(4),
        }
    }

    fn time(self, full_ms: u64, quick_ms: u64) -> Duration {
        Duration::from_millis(match self {
            Self::Full => full_ms,
            Self::Quick => quick_ms,
            #[cfg(test)]
            Self::Least => quick_ms.min(50),
        })
    }
}

fn round(
    part: Part,
    cells: &Cells,
    scale: Scale,
    number: usize,
    prepared: &mut Option<Prepared>,
) -> Result<Vec<Sample>> {
    match part {
        Part::Checkpoint => checkpoint::round(scale, number),
        Part::Visible => visible::round(scale, number),
        Part::Yield => yields::round(scale, number),
        Part::Switch => switch::round(scale, number),
        Part::Critical => critical::round(scale, number),
        Part::Starve => {
            let prepared = match prepared {
                Some(prepared) => prepared,
                None => prepared.insert(Prepared::new()?),
            };
            starve::round(cells, scale, number, prepared)
        }
    }
}

/// Measures, and writes the report.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let parts: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|part| options.only.is_empty() || options.only.contains(part))
        .collect();
    let (wanted, scale) = match options.quick {
        true => (QUICK_ROUNDS, Scale::Quick),
        false => (options.rounds, Scale::Full),
    };
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let settings = Settings { began_unix_s: began.as_secs(), rounds: wanted, quick: options.quick };
    let environment = Environment::of_this_machine("not asked");
    let mut prepared = None;
    let mut measured = Vec::new();
    for part in parts {
        let mut cells = Cells::all();
        if !options.pieces.is_empty() {
            cells.pieces_ms.retain(|piece_ms| options.pieces.contains(piece_ms));
        }
        let rounds = rounds(wanted, |number| {
            progress(&format!("{}: round {} of {wanted}", part.name(), number + 1));
            round(part, &cells, scale, number, &mut prepared)
        })?;
        measured.push((part, Rounds(rounds)));
    }
    let report = Report::new(settings, environment, measured);
    report.write(&options.out)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::starve::Arm;
    use super::*;

    /// Parts pin threads and load the machine: one at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    fn well_formed(part: Part, cells: &Cells) -> Vec<Sample> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = round(part, cells, Scale::Least, 1, &mut None).expect("it is measured");
        assert!(!samples.is_empty());
        for sample in &samples {
            assert!(sample.is_whole(), "{sample:?}");
            if let Some(reason) = &sample.not_run {
                println!("{}, {}: not run: {reason}", sample.case, sample.arm);
            }
        }
        samples
    }

    #[test]
    fn checkpoints() {
        well_formed(Part::Checkpoint, &Cells::all());
    }

    #[test]
    fn visible_hints() {
        well_formed(Part::Visible, &Cells::all());
    }

    #[test]
    fn yields_of_both_kinds() {
        well_formed(Part::Yield, &Cells::all());
    }

    #[test]
    fn switches() {
        well_formed(Part::Switch, &Cells::all());
    }

    #[test]
    fn critical_sections() {
        let samples = well_formed(Part::Critical, &Cells::all());
        for sample in samples.iter().filter(|sample| sample.not_run.is_none()) {
            assert_eq!(sample.figure("yields_inside"), Some(0.0), "{sample:?}");
        }
    }

    #[test]
    fn short_tasks_beside_hogs() {
        let cells = Cells { pieces_ms: vec![1], arms: Arm::ALL.into() };
        let samples = well_formed(Part::Starve, &cells);
        // Seven arms of threads, eight of tokio, six of guests.
        assert_eq!(samples.len(), 21);
        for sample in samples.iter().filter(|sample| sample.not_run.is_none()) {
            assert!(sample.figure("hog_ms_per_s") > Some(0.0), "{sample:?}");
        }
    }
}
