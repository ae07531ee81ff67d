//! `vyr bench net`: how long a change of a server with 1,000 peers takes, and who notices.
//!
//! ```text
//! change    one peer and one rule: `vyr apply`, all of it; `wg syncconf` and `nft -f` by hand; no-op
//! pings     600 through another peer's tunnel while such changes are made
//! rollback  a plan that locks this client out: from the deadline to the first answer
//! ```
//!
//! Server and client are namespaces on one machine, with `wireguard-go` as the data plane: what is
//! measured is Vyr, not a network. What this machine cannot do is `not run`, with the reason.

mod office;
mod place;
mod report;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

pub use self::report::Report;

use self::office::{Office, Other, PEERS};
use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, alternate, rounds};
use crate::sample::{Rounds, Sample};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// Pings beside changes, a hundred a second.
const PINGS: usize = 600;

/// Changes while they are sent.
const CHANGES: usize = 3;

/// A change that locks out is taken back after so long.
const WITHIN: Duration = Duration::from_secs(2);

const CHANGE: &str = "1 of 1,000 peers and a rule";
const PINGED: &str = "600 pings through another peer";
const ROLLBACK: &str = "a plan that locks out";

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
}

/// Measures, and writes the report.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let environment = Environment::of_this_machine("not used");
    let missing = place::missing();
    let found = if missing.is_empty() {
        let vyr = std::env::current_exe().context("cannot find this program")?;
        progress(&format!("net: a server with {PEERS} peers"));
        let mut bench = Bench::new(Office::new(&vyr)?)?;
        rounds(wanted, |number| {
            progress(&format!("net: round {} of {wanted}", number + 1));
            bench.round(number)
        })?
    } else {
        let reason = missing.join(", ");
        rounds(1, |_| {
            let arms = [(CHANGE, "vyr apply"), (PINGED, "vyr apply"), (ROLLBACK, "timer")];
            let not_run = |(case, arm)| Sample::not_run(case, arm, reason.clone());
            Ok(arms.map(not_run).into())
        })?
    };
    let report = Report::new(environment, wanted, options.quick, Rounds(found));
    report.write(&options.out)?;
    Ok(report)
}

struct Bench {
    office: Office,
    other: Other,
}

impl Bench {
    fn new(office: Office) -> Result<Self> {
        let first = office.plan(Other::One, true)?;
        office.apply(&first, &["--no-confirm"])?;
        office.connect(&first)?;
        office.write_by_hand(&first, "one")?;
        let second = office.plan(Other::Two, true)?;
        office.write_by_hand(&second, "two")?;
        Ok(Self { office, other: Other::One })
    }

    /// The plan in which the other client has what it has not now.
    fn next(&mut self) -> Result<String> {
        self.other = match self.other {
            Other::One => Other::Two,
            Other::Two => Other::One,
        };
        self.office.plan(self.other, true)
    }

    fn change(&mut self) -> Result<(f64, usize)> {
        let plan = self.next()?;
        let (applied, ms) = self.office.apply(&plan, &["--no-confirm"])?;
        ensure!(applied.outcome == "confirmed", "{applied:?}");
        Ok((ms, applied.steps.len()))
    }

    fn round(&mut self, number: usize) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for by_hand in alternate(&[false, true], number) {
            if by_hand {
                let (there, back) = match self.other {
                    Other::One => ("two", "one"),
                    Other::Two => ("one", "two"),
                };
                let ms = self.office.by_hand(there)?;
                self.office.by_hand(back)?;
                samples.push(Sample::new(CHANGE, "by hand").with("ms", ms));
            } else {
                let (ms, steps) = self.change()?;
                let sample = Sample::new(CHANGE, "vyr apply").with("ms", ms);
                samples.push(sample.with("steps", steps as f64));
                let same = self.office.plan(self.other, true)?;
                let (applied, ms) = self.office.apply(&same, &["--no-confirm"])?;
                ensure!(applied.steps.is_empty(), "{applied:?}");
                samples.push(Sample::new(CHANGE, "vyr apply, nothing to do").with("ms", ms));
            }
        }
        samples.push(self.pings()?);
        samples.push(self.rollback()?);
        Ok(samples)
    }

    fn pings(&mut self) -> Result<Sample> {
        let ping = self.ping(PINGS)?;
        for _ in 0..CHANGES {
            self.change()?;
        }
        let came = answers(ping)?.len();
        let lost = PINGS.saturating_sub(came) as f64;
        Ok(Sample::new(PINGED, "vyr apply").with("lost", lost).with("changes", CHANGES as f64))
    }

    fn ping(&self, count: usize) -> Result<Child> {
        let count = count.to_string();
        let mut ping = Command::new("ping");
        ping.args(["-D", "-i", "0.01", "-c", &count, "-W", "1", "10.21.0.1"]);
        ping.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.office.client.spawn(&mut ping)
    }

    fn rollback(&self) -> Result<Sample> {
        let plan = self.office.plan(self.other, false)?;
        let within = format!("{}s", WITHIN.as_secs());
        let (applied, _) = self.office.apply(&plan, &["--confirm-within", &within])?;
        let deadline = applied.deadline.context("it does not wait")?;
        // Four seconds of them: two until the deadline, and a wait of the last.
        let seen = answers(self.ping(400)?)?;
        let deadline = deadline.as_millisecond() as f64 / 1e3;
        let early = seen.iter().filter(|at| **at < deadline).count();
        ensure!(early == 0, "{early} answers before the deadline: it did not lock out");
        let first = seen.first().context("no answer after the deadline")?;
        Ok(Sample::new(ROLLBACK, "timer").with("s", first - deadline))
    }
}

/// When each answer came: seconds since 1970, as `ping -D` writes them.
fn answers(ping: Child) -> Result<Vec<f64>> {
    let output = ping.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answers = text.lines().filter(|line| line.contains("bytes from"));
    let at = |line: &str| line.strip_prefix('[')?.split_once(']')?.0.parse().ok();
    Ok(answers.filter_map(at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_run_and_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let reason = || "wg is not installed".to_owned();
        let samples = vec![Sample::not_run(PINGED, "vyr apply", reason())];
        let disturbance = crate::environment::Disturbance::default();
        let round = crate::rounds::Round { number: 0, counts: true, disturbance, data: samples };
        let environment = Environment::of_this_machine("not used");
        let report = Report::new(environment, 20, false, Rounds(vec![round]));
        report.write(directory.path()).expect("it is written");
        let text = std::fs::read_to_string(directory.path().join("net.md")).expect("written");
        assert!(text.contains("not run: wg is not installed"), "{text}");
        assert!(report.is_good(), "what was not run is not missed");
    }
}
