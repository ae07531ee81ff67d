//! `vyr bench plan`: a site of 10 to 10,000 clients from texts to a proven plan.
//!
//! Each sample is a process of its own: processor time of each step, peak of its memory. Sizes
//! (and with `--against` both builds) alternate within a round.

mod report;
mod site;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use vyr_base::Diagnostic;
use vyr_plan::{Files, Lock, allocate, compile, diff, prove, run_contracts};

pub use report::{Report, Side};
pub use site::{CONTRACTS, changed, files};

use crate::environment::{Environment, field, kib};
use crate::rounds::{ROUNDS_MIN, alternate, rounds};

/// Clients of the sites.
pub const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// Compare this build with another one: the path of its `vyr`
    #[arg(long, value_name = "BASE")]
    pub against: Option<PathBuf>,

    /// Measure one site in this process
    #[arg(long, hide = true, value_name = "CLIENTS")]
    pub one_round: Option<usize>,
}

/// One site in one process: milliseconds of processor time, MiB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its clients.
    pub clients: usize,
    /// Reading all texts, to the intent.
    pub parse_ms: f64,
    /// Allocating all addresses.
    pub lock_ms: f64,
    /// From intent and lock to the plan.
    pub compile_ms: f64,
    /// All invariants.
    pub prove_ms: f64,
    /// A hundred contracts.
    pub contracts_ms: f64,
    /// Canonical bytes and digest.
    pub digest_ms: f64,
    /// All of the above.
    pub all_ms: f64,
    /// The difference of two plans.
    pub diff_ms: f64,
    /// The most memory of the process until before the difference.
    pub peak_mib: f64,
    /// Bytes of the plan.
    pub plan_bytes: usize,
}

/// What was asked for: a report, or one sample for another process.
#[derive(Debug)]
pub enum Finished {
    /// All of it.
    Report(Box<Report>),
    /// One sample.
    One(Sample),
}

/// Measures.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished> {
    if let Some(clients) = options.one_round {
        return Ok(Finished::One(one(clients)?));
    }
    let head = std::env::current_exe().context("cannot find this program")?;
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let mut sides: Vec<(Side, PathBuf)> = vec![(Side::Head, head)];
    sides.extend(options.against.clone().map(|base| (Side::Base, base)));
    let arms: Vec<(usize, Side, PathBuf)> = SIZES
        .iter()
        .flat_map(|clients| sides.iter().map(|(side, program)| (*clients, *side, program.clone())))
        .collect();
    let found = rounds(wanted, |number| {
        progress(&format!("plan: round {} of {wanted}", number + 1));
        let mut samples = Vec::new();
        for (clients, side, program) in alternate(&arms, number) {
            let mut command = Command::new(&program);
            command.args(["bench", "plan", "--one-round", &clients.to_string()]);
            let output =
                command.output().with_context(|| format!("cannot run {}", program.display()))?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            samples.push((side, serde_json::from_slice::<Sample>(&output.stdout)?));
        }
        samples.sort_by_key(|(side, sample)| (sample.clients, *side));
        Ok(samples)
    })?;
    let environment = Environment::of_this_machine("not used");
    let report = Report::new(environment, wanted, options.quick, found);
    report.write(&options.out)?;
    Ok(Finished::Report(Box::new(report)))
}

/// Milliseconds of processor time of this process until now.
fn processor_ms() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = Duration::try_from(used).unwrap_or_default();
    used.as_secs_f64() * 1e3
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = processor_ms();
    let result = work();
    (result, processor_ms() - before)
}

fn sound<T>(result: std::result::Result<T, Vec<Diagnostic>>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(faults) => bail!("the site has faults: {}", faults[0]),
    }
}

fn one(clients: usize) -> Result<Sample> {
    let texts: Files = files(clients);
    let (intent, parse_ms) = timed(|| texts.read());
    let intent = sound(intent)?;
    let (lock, lock_ms) = timed(|| allocate(&intent, &Lock::default(), None));
    let lock = sound(lock)?;
    let (plan, compile_ms) = timed(|| compile(&intent, &lock));
    let plan = sound(plan)?;
    let (violations, prove_ms) = timed(|| prove(&plan, None));
    ensure!(violations.is_empty(), "the site breaks {:?}", violations.first());
    let (outcomes, contracts_ms) = timed(|| run_contracts(&intent, &plan, None));
    ensure!(outcomes.len() == CONTRACTS, "{} contracts ran", outcomes.len());
    let broken = outcomes.iter().find(|outcome| outcome.broken.is_some());
    ensure!(broken.is_none(), "a contract is broken: {broken:?}");
    let (bytes, digest_ms) = timed(|| plan.to_bytes().map(|bytes| (plan.digest(), bytes.len())));
    let (_, plan_bytes) = bytes?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = field(&status, "VmHWM").and_then(kib).context("no peak in /proc/self/status")?;

    let other = sound(changed(clients).read())?;
    let other = sound(compile(&other, &lock))?;
    let (found, diff_ms) = timed(|| diff(Some(&plan), Some(&other)));
    ensure!(!found.is_empty(), "the two plans are one");
    Ok(Sample {
        clients,
        parse_ms,
        lock_ms,
        compile_ms,
        prove_ms,
        contracts_ms,
        digest_ms,
        all_ms: parse_ms + lock_ms + compile_ms + prove_ms + contracts_ms + digest_ms,
        diff_ms,
        peak_mib: peak as f64 / (1024.0 * 1024.0),
        plan_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_of_any_size_is_sound() {
        for clients in [10, 128] {
            let sample = one(clients).expect("it compiles");
            assert_eq!(sample.clients, clients);
            assert!(sample.plan_bytes > clients * 100, "{sample:?}");
        }
    }
}
