//! `vyr bench services`: what a service under Vyr waits for, and what its node has to hold.
//!
//! ```text
//! deploy   a pulled image: from the command to the first answer; the same machine booted by hand
//! start    a machine restored from a snapshot; one that boots
//! memory   the node's own processes with idle instances, and without
//! rollout  the next release while clients come at a steady rate: connections refused or cut
//! ```
//!
//! A registry, a site and a node live in a network namespace, machines by hand in another one; both end
//! with the measurement. Guests run on the processor where they can (KVM) and are emulated elsewhere
//! (TCG): the report says which, and its times compare with nothing from the other. What this machine
//! cannot do is `not measured`, with the reason.

mod bare;
mod deploy;
mod http;
mod load;
mod memory;
mod place;
mod plot;
mod report;
mod rollout;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

pub use self::load::Step;
pub use self::report::{Guests, Measured, Report};

use self::bare::Bare;
use self::memory::Without;
use self::place::Place;
use self::rollout::Rate;
use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, Round, rounds_beside};
use crate::sample::{Rounds, Sample};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// How long a rate is offered before it is judged.
const WINDOW: Duration = Duration::from_secs(4);
const QUICK_WINDOW: Duration = Duration::from_secs(2);

/// This build.
const HEAD: &str = "vyr";
/// Without it.
const BY_HAND: &str = "by hand";
/// Starts of machines.
const RESTORED: &str = "restored";
const COLD: &str = "booted";

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// A deploy to its first answer, beside a bare boot.
    Deploy,
    /// A start from a snapshot, beside a boot.
    Start,
    /// The node's memory for each idle instance.
    Memory,
    /// A rollout while clients come.
    Rollout,
}

/// All, in the order in which they are measured.
const PARTS: [(Part, &str); 4] = [
    (Part::Deploy, "deploy"),
    (Part::Start, "start"),
    (Part::Memory, "memory"),
    (Part::Rollout, "rollout"),
];

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// Append the report, a line of JSON, to this file [default: services.jsonl in DIR]
    #[arg(long, value_name = "FILE")]
    pub append: Option<PathBuf>,

    /// The `vyr` to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub vyr: Option<PathBuf>,
}

/// Measures, and writes the report.
///
/// # Errors
/// The report cannot be written. A part that cannot be measured is in it, with the reason.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let vyr = match &options.vyr {
        Some(vyr) => vyr.canonicalize().with_context(|| format!("cannot use {}", vyr.display()))?,
        None => std::env::current_exe().context("cannot find this program")?,
    };
    let window = if options.quick { QUICK_WINDOW } else { WINDOW };
    let mut bench = Bench { wanted, window, vyr, place: None, rate: None };
    let mut report = Report::empty(Environment::of_this_machine("not used"), wanted, options.quick);
    for (part, name) in PARTS {
        if !options.only.is_empty() && !options.only.contains(&part) {
            report.missing.push((name.into(), "not asked for".into()));
            continue;
        }
        let found = bench.part(part, name, progress);
        if let Some((_, bare)) = &bench.place {
            report.guests = Some(Guests::of(bare.can()));
        }
        match found {
            Ok(found) => report.parts.push(Measured { part: name.into(), rounds: Rounds(found) }),
            // One part that cannot be measured must not cost the others.
            Err(error) => {
                // It is not known how far it came.
                bench.place = None;
                progress(&format!("{name}: not measured: {error:#}"));
                report.missing.push((name.into(), format!("{error:#}")));
            }
        }
    }
    if let Some(rate) = bench.rate {
        (report.per_s, report.why_per_s, report.steady) = (Some(rate.per_s), rate.why, rate.steps);
    }
    report.decide();
    let lines = options.append.clone().unwrap_or_else(|| options.out.join("services.jsonl"));
    report.write(&options.out, &lines)?;
    Ok(report)
}

struct Bench {
    wanted: usize,
    window: Duration,
    vyr: PathBuf,
    /// Once a part has asked for them.
    place: Option<(Place, Bare)>,
    /// Of the rollouts.
    rate: Option<Rate>,
}

type Sampled = Vec<Round<Vec<Sample>>>;
/// Measures the round of this number, and says what is worth it.
type Measure<'a> = dyn FnMut(usize, &mut dyn FnMut(&str)) -> Result<Vec<Sample>> + 'a;

impl Bench {
    fn part(&mut self, part: Part, name: &str, progress: &mut dyn FnMut(&str)) -> Result<Sampled> {
        let missing = place::missing();
        ensure!(missing.is_empty(), "{}", missing.join(", "));
        if self.place.is_none() {
            progress(&format!("{name}: a registry, a site and a node"));
            let place = Place::new(&self.vyr)?;
            let bare = Bare::new(&place)?;
            self.place = Some((place, bare));
        }
        let Some((place, bare)) = &self.place else { return Ok(Vec::new()) };
        let (wanted, measured) = (self.wanted, place.measured());
        let mut rounds = |measure: &mut Measure<'_>| {
            rounds_beside(wanted, &measured, |number| {
                progress(&format!("{name}: round {} of {wanted}", number + 1));
                measure(number, progress)
            })
        };
        match part {
            Part::Deploy => rounds(&mut |number, _| deploy::round(place, bare, number)),
            Part::Start => {
                let snapshot = bare.snapshot().context("a snapshot")?;
                rounds(&mut |number, _| start::round(bare, &snapshot, number))
            }
            Part::Memory => {
                let mut without = Without::default();
                rounds(&mut |_, _| memory::round(place, &mut without))
            }
            Part::Rollout => {
                let rate = Rate::find(place, &bare.can().accelerator, self.window)?;
                let found = rounds(&mut |_, progress| rollout::round(place, &rate, progress))?;
                self.rate = Some(rate);
                Ok(found)
            }
        }
    }
}
