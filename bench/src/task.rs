//! `vyr bench task`: what is asked for, and the run.
//!
//! Three modes. Without more, every part is measured, reported and judged. `--against BASE`
//! compares this build with another one. `--one-round CASE`, which the other two use, measures
//! one thing in this process and prints it as JSON.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use vyr_task::Kind;

use crate::against::{Comparison, compare};
use crate::arms::{Arm, Case, Pair};
use crate::environment::Environment;
use crate::events::{Events, warm};
use crate::guests::Guest;
use crate::memory::{MemorySample, hold};
use crate::process::Line;
use crate::rates::{CaseRates, input, measure};
use crate::report::{FORMAT, Report, Settings};
use crate::rounds::rounds;
use crate::start::{FirstStart, compile_all, first_start, keep_in, load_all};
use crate::whole::{LargeEnd, LargePlan, Programs, hello, large};

/// What a round of rates gives each arm: some thousand small tasks, some hundred large ones.
const ARM_MS: u64 = 400;

/// A look, not a measurement.
const QUICK_ROUNDS: usize = 3;
const QUICK_ARM_MS: u64 = 150;
const QUICK_LARGE_BYTES: u64 = 64 << 20;

/// Processes of each side in one round of `hello`; a round takes some tenths of a second.
const HELLO_RUNS: usize = 20;
const QUICK_HELLO_RUNS: usize = 5;

/// Processes that hold live tasks, of each side and form.
const MEMORY_RUNS: usize = 5;

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Tasks a second, and how long one takes.
    Rates,
    /// Cold compiles and warm starts.
    Start,
    /// Memory of live tasks.
    Memory,
    /// `hello` as whole processes.
    Process,
    /// The transform of a large file.
    Large,
}

/// What a run is asked for.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = crate::rounds::ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 short rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Milliseconds of each arm in a round
    #[arg(long, default_value_t = ARM_MS, value_name = "MS")]
    pub arm_ms: u64,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// JSON events, one a line, for the transform [default: made-up ones]
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,

    /// Input of the large transform [default: 1Gi]
    #[arg(long, value_parser = vyr_base::parse_bytes, value_name = "SIZE")]
    pub large_bytes: Option<u64>,

    /// Compare this build with another one: the path of its `vyr`
    #[arg(long, value_name = "BASE")]
    pub against: Option<PathBuf>,

    /// The `vyr` whose `vyr run` is measured [default: this one]
    #[arg(long, value_name = "FILE")]
    pub vyr: Option<PathBuf>,

    /// The bare embedder [default: `bare` beside this binary]
    #[arg(long, value_name = "FILE")]
    pub bare: Option<PathBuf>,

    /// The native build of the transform [default: workloads/target/release/transform]
    #[arg(long, value_name = "FILE")]
    pub native: Option<PathBuf>,

    /// A directory of guests to use instead of those built in
    #[arg(long, hide = true, value_name = "DIR")]
    pub guests: Option<PathBuf>,

    /// Measure one thing in this process
    #[arg(long, hide = true, value_name = "CASE")]
    pub one_round: Option<String>,

    /// The code cache of `--one-round first-*`
    #[arg(long, hide = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// The input of `--one-round large-*`
    #[arg(long, hide = true, value_name = "FILE")]
    pub input: Option<PathBuf>,
}

/// What a run gave.
#[derive(Debug)]
pub enum Finished {
    /// A whole report, also written to `--out`.
    Report(Box<Report>),
    /// `--against`.
    Comparison(Comparison),
    /// `--one-round`.
    OneRound(OneRound),
}

/// One measurement in one process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OneRound {
    /// `hello-p1`: one round of the engine's arm.
    Rates(CaseRates),
    /// `memory-bare-transform-p1`, `memory-engine-..`.
    Memory(MemorySample),
    /// `first-hello-p1`.
    First(FirstStart),
    /// `large-transform-p1`.
    Large(LargeEnd),
}

impl Finished {
    /// One line of JSON: for `--json`, and always for `--one-round`.
    pub fn to_json(&self) -> Result<String> {
        match self {
            Self::Report(report) => report.to_json(),
            Self::Comparison(comparison) => Ok(serde_json::to_string(comparison)? + "\n"),
            Self::OneRound(one) => Ok(serde_json::to_string(one)? + "\n"),
        }
    }

    /// For a person: Markdown tables.
    pub fn to_text(&self) -> Result<String> {
        match self {
            Self::Report(report) => Ok(report.to_markdown()),
            Self::Comparison(comparison) => Ok(comparison.to_markdown()),
            Self::OneRound(_) => self.to_json(),
        }
    }

    /// Whether no target was missed and nothing became slower. What was not measured does not
    /// make this false: it is said in the report.
    pub fn is_good(&self) -> bool {
        match self {
            Self::Report(report) => report.nothing_missed(),
            Self::Comparison(comparison) => !comparison.is_slower(),
            Self::OneRound(_) => true,
        }
    }
}

/// Measures what `options` ask for. `progress` is told what happens next, a short line each time.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished> {
    if let Some(case) = &options.one_round {
        return Ok(Finished::OneRound(one_round(options, case)?));
    }
    let bench = Bench::new(options)?;
    if let Some(base) = &options.against {
        let comparison = compare(&bench, base, progress)?;
        return Ok(Finished::Comparison(comparison));
    }
    let report = bench.report(progress)?;
    report.write(&options.out)?;
    Ok(Finished::Report(Box::new(report)))
}

fn one_round(options: &Options, case: &str) -> Result<OneRound> {
    let guests = Guest::all(options.guests.as_deref())?;
    let find = |name: &str| -> Result<&Guest> {
        guests.iter().find(|guest| guest.case() == name).with_context(|| format!("no case {case}"))
    };
    let given = |path: &'_ Option<PathBuf>, name: &str| -> Result<PathBuf> {
        path.clone().with_context(|| format!("{case} needs {name}"))
    };
    if let Some(name) = case.strip_prefix("memory-bare-") {
        return Ok(OneRound::Memory(hold(find(name)?, Arm::Bare)?));
    }
    if let Some(name) = case.strip_prefix("memory-engine-") {
        return Ok(OneRound::Memory(hold(find(name)?, Arm::Engine)?));
    }
    if let Some(name) = case.strip_prefix("first-") {
        let cache = given(&options.cache, "--cache")?;
        return Ok(OneRound::First(first_start(find(name)?, &cache)?));
    }
    if let Some(name) = case.strip_prefix("large-") {
        let input = given(&options.input, "--input")?;
        let cache = given(&options.cache, "--cache")?;
        return Ok(OneRound::Large(crate::whole::engine_alone(find(name)?, &input, &cache)?));
    }
    let guest = find(case)?;
    let events = Events::new(options.events.as_deref())?;
    let pair = Pair::new()?;
    let ready = Case::new(&pair, guest, input(guest, &events))?;
    let time = Duration::from_millis(options.arm_ms);
    let rates = measure(&pair, &ready, &[Arm::Engine], 1, time, &mut |_| {})?;
    Ok(OneRound::Rates(rates))
}

/// A run with its guests, its events and a directory that goes with it.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) guests: Vec<Guest>,
    pub(crate) rounds: usize,
    pub(crate) arm_ms: u64,
    events: Events,
    work: TempDir,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let work = tempfile::Builder::new().prefix("vyr-bench-").tempdir()?;
        let guests = Guest::all(options.guests.as_deref())?;
        // For processes that are told where they are.
        for guest in &guests {
            std::fs::write(work.path().join(guest.file_name()), &guest.wasm)?;
        }
        Ok(Self {
            options,
            guests,
            rounds: if options.quick { QUICK_ROUNDS } else { options.rounds },
            arm_ms: if options.quick { QUICK_ARM_MS } else { options.arm_ms },
            events: Events::new(options.events.as_deref())?,
            work,
        })
    }

    fn wants(&self, part: Part) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }

    pub(crate) fn file_of(&self, guest: &Guest) -> PathBuf {
        self.work.path().join(guest.file_name())
    }

    fn cache(&self) -> PathBuf {
        self.work.path().join("code")
    }

    /// The line that measures `case` in a process of `program`, a `vyr` of this or another build.
    pub(crate) fn one_round(&self, program: &Path, case: &str) -> Line {
        let line = Line::new(program).args(["--json", "bench", "task", "--one-round", case]);
        let line = line.arg("--guests").arg(self.work.path());
        let line = line.arg("--cache").arg(self.cache());
        let line = line.arg("--arm-ms").arg(self.arm_ms.to_string());
        match &self.options.events {
            Some(events) => line.arg("--events").arg(events),
            None => line,
        }
    }

    /// This program, for what needs a process of its own.
    pub(crate) fn this(&self) -> Result<PathBuf> {
        std::env::current_exe().context("cannot find this program")
    }

    fn programs(&self) -> Result<Programs> {
        let this = self.this()?;
        let bare = self.options.bare.clone().unwrap_or_else(|| this.with_file_name("bare"));
        let vyr = self.options.vyr.clone().unwrap_or(this);
        if !bare.exists() {
            bail!("there is no bare embedder beside vyr: cargo build --release -p vyr-bench");
        }
        Ok(Programs { vyr, bare, work: self.work.path().to_owned() })
    }

    fn report(&self, progress: &mut dyn FnMut(&str)) -> Result<Report> {
        let pair = Pair::new()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut report = Report {
            format: FORMAT.into(),
            began_unix_s: now.map_or(0, |since| since.as_secs()),
            settings: Settings {
                rounds: self.rounds,
                arm_ms: self.arm_ms,
                quick: self.options.quick,
                events: Some(self.events.source),
            },
            environment: Some(Environment::of_this_machine(pair.pagemap_scan())),
            ..Report::default()
        };
        for (part, name) in [
            (Part::Rates, "rates"),
            (Part::Start, "start"),
            (Part::Memory, "memory"),
            (Part::Process, "process"),
            (Part::Large, "large"),
        ] {
            if !self.wants(part) {
                report.missing.push((name.into(), "not asked for".into()));
                continue;
            }
            let measured = match part {
                Part::Rates => self.rates(&pair, &mut report, progress),
                Part::Start => self.start(&pair, &mut report, progress),
                Part::Memory => self.memory(&mut report, progress),
                Part::Process => self.process(&mut report, progress),
                Part::Large => self.large(&mut report, progress),
            };
            // One part that cannot be measured must not cost the others.
            if let Err(error) = measured {
                progress(&format!("{name}: not measured: {error:#}"));
                report.missing.push((name.into(), format!("{error:#}")));
            }
        }
        report.decide();
        Ok(report)
    }

    fn rates(
        &self,
        pair: &Pair,
        report: &mut Report,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let time = Duration::from_millis(self.arm_ms);
        for guest in &self.guests {
            let case = Case::new(pair, guest, input(guest, &self.events))?;
            report.rates.push(measure(pair, &case, &Arm::ALL, self.rounds, time, progress)?);
        }
        Ok(())
    }

    fn start(
        &self,
        pair: &Pair,
        report: &mut Report,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        report.compiles = compile_all(&self.guests, self.rounds, progress)?;
        let cache = self.cache();
        report.loads = load_all(pair.engine(), &self.guests, &cache, self.rounds, progress)?;
        for guest in self.guests.iter().filter(|guest| guest.name == "hello") {
            let case = guest.case();
            progress(&format!("first task of a process: {case}"));
            let line = self.one_round(&self.this()?, &format!("first-{case}"));
            let all = rounds(self.rounds, |_| match read(&line)? {
                OneRound::First(first) => Ok(first),
                other => bail!("another answer: {other:?}"),
            })?;
            report.first_starts.push((case, all));
        }
        Ok(())
    }

    fn memory(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let runs = self.rounds.min(MEMORY_RUNS);
        for guest in self.guests.iter().filter(|guest| guest.name == "transform") {
            for run in 0..runs {
                progress(&format!("live tasks, {}: {} of {runs}", guest.case(), run + 1));
                for side in ["bare", "engine"] {
                    let case = format!("memory-{side}-{}", guest.case());
                    match read(&self.one_round(&self.this()?, &case))? {
                        OneRound::Memory(sample) => report.memory.push(sample),
                        other => bail!("another answer: {other:?}"),
                    }
                }
            }
        }
        Ok(())
    }

    fn process(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let programs = self.programs()?;
        let runs = if self.options.quick { QUICK_HELLO_RUNS } else { HELLO_RUNS };
        for guest in self.guests.iter().filter(|guest| guest.name == "hello") {
            let wasm = self.file_of(guest);
            let found = hello(&programs, &guest.case(), &wasm, self.rounds, runs, progress)?;
            report.hello.push(found);
        }
        Ok(())
    }

    fn large(&self, report: &mut Report, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let programs = self.programs()?;
        let is_large = |guest: &&Guest| guest.name == "transform" && guest.kind == Kind::Module;
        let guest = self.guests.iter().find(is_large).context("no transform")?;
        let bytes = match self.options.large_bytes {
            Some(bytes) => bytes,
            None if self.options.quick => QUICK_LARGE_BYTES,
            None => 1 << 30,
        };
        let input = self.work.path().join("large.ndjson");
        progress("large transform: writing its input");
        self.events.fill(&input, bytes)?;
        let input_bytes = warm(&input)?;
        keep_in(&self.cache(), &guest.wasm)?;
        let native =
            self.options.native.clone().unwrap_or("workloads/target/release/transform".into());
        let native = if native.exists() {
            Ok(native)
        } else {
            Err("no native build: cd workloads && cargo build --release".into())
        };
        let line = self.one_round(&self.this()?, &format!("large-{}", guest.case()));
        let plan = LargePlan {
            case: guest.case(),
            wasm: &self.file_of(guest),
            input: &input,
            input_bytes,
            engine: line.arg("--input").arg(&input),
            native,
            rounds: self.rounds,
        };
        let read_end = |answer: &[u8]| match serde_json::from_slice(answer)? {
            OneRound::Large(end) => Ok(end),
            other => bail!("another answer: {other:?}"),
        };
        report.large = Some(large(&programs, &plan, read_end, progress)?);
        Ok(())
    }
}

/// Runs `line` and reads its answer.
pub(crate) fn read(line: &Line) -> Result<OneRound> {
    let ended = line.run()?;
    serde_json::from_slice(&ended.stdout).context("a build of another version answered")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Cli::parse_from([&["bench"], arguments].concat()).options
    }

    #[test]
    fn one_round_of_a_case_answers_with_the_engine_alone() {
        let options = options(&["--one-round", "nop-p1", "--arm-ms", "20"]);
        let finished = run(&options, &mut |_| {}).expect("runs");
        assert!(finished.is_good());
        let read: OneRound =
            serde_json::from_str(&finished.to_json().expect("JSON")).expect("reads back");
        let OneRound::Rates(rates) = read else { panic!("another answer: {read:?}") };
        assert_eq!(rates.rates(Arm::Bare, 1), [0.0; 0]);
        assert!(rates.rounds[0].data.iter().all(|sample| sample.arm == Arm::Engine));
    }

    #[test]
    fn a_case_that_is_none_is_named() {
        for case in ["hello-p3", "memory-bare-x", "first-hello-p1"] {
            let error = run(&options(&["--one-round", case]), &mut |_| {}).expect_err("no case");
            assert!(error.to_string().contains(case), "{error}");
        }
    }

    #[test]
    fn live_tasks_hold_memory_on_both_sides() {
        for case in ["memory-bare-transform-p1", "memory-engine-transform-p1"] {
            let finished = run(&options(&["--one-round", case]), &mut |_| {}).expect("runs");
            let Finished::OneRound(OneRound::Memory(sample)) = finished else {
                panic!("another answer: {finished:?}")
            };
            assert!(sample.bytes_per_task() > 4096.0, "{sample:?}");
        }
    }
}
