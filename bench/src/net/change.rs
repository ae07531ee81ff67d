//! A change of a server with 1,000 peers: how long it takes, who notices, and how it is taken back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::office::{Office, Other};
use super::ping;
use super::{BY_HAND, Side};
use crate::rounds::alternate;
use crate::sample::Sample;

/// One peer and one rule.
pub(super) const CHANGE: &str = "1 of 1,000 peers and a rule";
/// The plan that the server has.
pub(super) const NOTHING: &str = "1,000 peers, nothing to do";
pub(super) const PINGED: &str = "600 pings through another peer";
pub(super) const ROLLBACK: &str = "a plan that locks out";

/// Pings beside changes, a hundred a second.
const PINGS: usize = 600;

/// Changes while they are sent.
const CHANGES: usize = 3;

/// A change that locks out is taken back after so long.
const WITHIN: Duration = Duration::from_secs(2);

/// Pings after which nobody waits for traffic any more: ten seconds of them.
const PATIENCE: usize = 1_000;

/// A server that was made by one build, and is changed by it again and again.
#[derive(Debug)]
pub(super) struct Server {
    side: &'static str,
    office: Office,
    other: Other,
}

impl Server {
    pub(super) fn new(side: &Side) -> Result<Self> {
        let office = Office::new(&side.program, &side.name[..1])?;
        let first = office.plan(Other::One, true)?;
        office.apply(&first, &["--no-confirm"])?;
        office.connect(&first)?;
        office.write_by_hand(&first, "one")?;
        let second = office.plan(Other::Two, true)?;
        office.write_by_hand(&second, "two")?;
        Ok(Self { side: side.name, office, other: Other::One })
    }

    /// Processes that do part of the work.
    pub(super) fn processes(&self) -> [u32; 2] {
        self.office.processes()
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

    fn timed_change(&mut self) -> Result<[Sample; 2]> {
        let (ms, steps) = self.change()?;
        let changed = Sample::new(CHANGE, self.side).with("ms", ms).with("steps", steps as f64);
        let same = self.office.plan(self.other, true)?;
        let (applied, ms) = self.office.apply(&same, &["--no-confirm"])?;
        ensure!(applied.steps.is_empty(), "{applied:?}");
        Ok([changed, Sample::new(NOTHING, self.side).with("ms", ms)])
    }

    fn timed_by_hand(&self) -> Result<Sample> {
        let (there, back) = match self.other {
            Other::One => ("two", "one"),
            Other::Two => ("one", "two"),
        };
        let ms = self.office.by_hand(there)?;
        self.office.by_hand(back)?;
        Ok(Sample::new(CHANGE, BY_HAND).with("ms", ms))
    }

    fn pings(&mut self) -> Result<Sample> {
        let ping = ping::start(&self.office.client, "10.21.0.1", PINGS)?;
        for _ in 0..CHANGES {
            self.change()?;
        }
        let came = ping::answers(&ping.finish()?.said);
        let sample = Sample::new(PINGED, self.side).with("lost", PINGS as f64 - came.len() as f64);
        Ok(sample.with("gap_ms", ping::gap_ms(&came)).with("changes", CHANGES as f64))
    }

    fn rollback(&self) -> Result<Sample> {
        let plan = self.office.plan(self.other, false)?;
        let within = format!("{}s", WITHIN.as_secs());
        let (applied, _) = self.office.apply(&plan, &["--confirm-within", &within])?;
        let deadline = applied.deadline.context("it does not wait")?;
        let deadline = deadline.as_millisecond() as f64 / 1e3;
        let mut ping = ping::start(&self.office.client, "10.21.0.1", PATIENCE)?;
        let (first, early) = ping::first_after(&mut ping, deadline)?;
        ensure!(early == 0, "{early} answers before the deadline: it did not lock out");
        Ok(Sample::new(ROLLBACK, self.side).with("s", first - deadline))
    }
}

/// Changes with each build, and by hand.
pub(super) fn changes(servers: &mut [Server], number: usize) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    // Who is changed by hand is the first of them.
    let arms: Vec<Option<usize>> = (0..servers.len()).map(Some).chain([None]).collect();
    for arm in alternate(&arms, number) {
        match arm {
            Some(at) => samples.extend(servers[at].timed_change()?),
            None => samples.push(servers[0].timed_by_hand()?),
        }
    }
    Ok(samples)
}

/// Packets through another peer meanwhile.
pub(super) fn pings(servers: &mut [Server], number: usize) -> Result<Vec<Sample>> {
    order(servers, number).into_iter().map(|at| servers[at].pings()).collect()
}

/// A plan without this client.
pub(super) fn rollbacks(servers: &mut [Server], number: usize) -> Result<Vec<Sample>> {
    order(servers, number).into_iter().map(|at| servers[at].rollback()).collect()
}

fn order(servers: &[Server], number: usize) -> Vec<usize> {
    alternate(&(0..servers.len()).collect::<Vec<_>>(), number)
}
