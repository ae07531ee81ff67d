//! Rates: how many tasks a second each side runs, and how long one takes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::arms::{Arm, Case, Pair, Rate};
use crate::events::{Events, SMALL_EVENTS};
use crate::guests::Guest;
use crate::rounds::{Round, alternate, figures, rounds};
use crate::stats::Histogram;

/// Threads that tasks run on; two is what the targets speak of.
pub const THREADS: [usize; 2] = [1, 2];

/// A round is cut into so many slices, each with a turn of every arm: what disturbs the machine
/// for longer than a slice disturbs all arms.
const SLICES: u32 = 4;

/// One arm in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateSample {
    /// Which side.
    pub arm: Arm,
    /// On how many threads.
    pub threads: usize,
    /// Tasks that ended in the time.
    pub tasks: u64,
    /// Tasks a second.
    pub per_second: f64,
    /// Half of the tasks took at most so long, in nanoseconds; 0 where not measured.
    pub p50_ns: u64,
    /// 99 in 100 did.
    pub p99_ns: u64,
    /// 999 in 1,000 did.
    pub p999_ns: u64,
}

/// The times of all rounds of one arm together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Which side.
    pub arm: Arm,
    /// On how many threads.
    pub threads: usize,
    /// Half of the tasks took at most so long, in nanoseconds.
    pub p50_ns: u64,
    /// 99 in 100 did.
    pub p99_ns: u64,
    /// 999 in 1,000 did.
    pub p999_ns: u64,
    /// The longest took so long.
    pub most_ns: u64,
    /// The upper end of each bucket in nanoseconds, and how many tasks fell into it.
    pub buckets: Vec<(u64, u64)>,
}

/// One case: all its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRates {
    /// `hello-p1`.
    pub case: String,
    /// Bytes of input a task.
    pub input_bytes: usize,
    /// A sample for each arm and number of threads, a round.
    pub rounds: Vec<Round<Vec<RateSample>>>,
    /// Times of the rounds that count, together.
    pub times: Vec<Times>,
}

impl CaseRates {
    /// The rate of `arm` on `threads` threads, one figure a round that counts.
    pub fn rates(&self, arm: Arm, threads: usize) -> Vec<f64> {
        figures(&self.rounds, |samples| rate(samples, arm, threads))
    }

    /// The rate of `arm` by that of `bare` in the same round.
    pub fn ratios(&self, arm: Arm, threads: usize) -> Vec<f64> {
        figures(&self.rounds, |samples| {
            Some(rate(samples, arm, threads)? / rate(samples, Arm::Bare, threads)?)
        })
    }

    /// What a second thread brings the engine, by what it brings `bare`.
    pub fn scaling(&self) -> Vec<f64> {
        figures(&self.rounds, |samples| {
            let gain = |arm| Some(rate(samples, arm, 2)? / rate(samples, arm, 1)?);
            Some(gain(Arm::Engine)? / gain(Arm::Bare)?)
        })
    }
}

fn rate(samples: &[RateSample], arm: Arm, threads: usize) -> Option<f64> {
    let sample = samples.iter().find(|s| s.arm == arm && s.threads == threads)?;
    Some(sample.per_second)
}

/// The input of a task of `guest`.
pub(crate) fn input(guest: &Guest, events: &Events) -> Bytes {
    match guest.name {
        "transform" => events.first(SMALL_EVENTS).into(),
        _ => Bytes::new(),
    }
}

/// Measures `arms` on `case` in `wanted` rounds of `time` an arm.
pub(crate) fn measure(
    pair: &Pair,
    case: &Case,
    arms: &[Arm],
    wanted: usize,
    time: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<CaseRates> {
    let mut in_round: Vec<Vec<Histogram>> = Vec::new();
    let all = rounds(wanted, |number| {
        progress(&format!("{}: round {} of {wanted}", case.name, number + 1));
        let mut measured: BTreeMap<(usize, Arm), Rate> = BTreeMap::new();
        for threads in alternate(&THREADS, number) {
            for slice in 0..SLICES as usize {
                for arm in alternate(arms, number + slice) {
                    let rate = case.rate(pair, arm, threads, time / SLICES)?;
                    measured.entry((threads, arm)).or_default().add(&rate);
                }
            }
        }
        let samples = measured.iter().map(|((threads, arm), rate)| sample(*arm, *threads, rate));
        let samples = samples.collect();
        in_round.push(measured.into_values().map(|rate| rate.times).collect());
        Ok(samples)
    })?;
    let times = merged(&all, &in_round);
    Ok(CaseRates { case: case.name.clone(), input_bytes: case.input_bytes(), rounds: all, times })
}

fn sample(arm: Arm, threads: usize, rate: &Rate) -> RateSample {
    RateSample {
        arm,
        threads,
        tasks: rate.tasks,
        per_second: rate.per_second(),
        p50_ns: rate.times.quantile_ns(0.5),
        p99_ns: rate.times.quantile_ns(0.99),
        p999_ns: rate.times.quantile_ns(0.999),
    }
}

/// The times of the rounds that count, one entry for each arm that measures them.
fn merged(rounds: &[Round<Vec<RateSample>>], in_round: &[Vec<Histogram>]) -> Vec<Times> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let mut all = Vec::new();
    for (cell, sample) in first.data.iter().enumerate() {
        let mut together = Histogram::default();
        for (_, times) in rounds.iter().zip(in_round).filter(|(round, _)| round.counts) {
            times.get(cell).into_iter().for_each(|histogram| together.add(histogram));
        }
        if together.total() > 0 {
            all.push(Times {
                arm: sample.arm,
                threads: sample.threads,
                p50_ns: together.quantile_ns(0.5),
                p99_ns: together.quantile_ns(0.99),
                p999_ns: together.quantile_ns(0.999),
                most_ns: together.most_ns(),
                buckets: together.buckets(),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;

    fn sample(arm: Arm, threads: usize, per_second: f64) -> RateSample {
        RateSample { arm, threads, tasks: 1, per_second, p50_ns: 0, p99_ns: 0, p999_ns: 0 }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_only_of_rounds_that_count() {
        let data = vec![
            sample(Arm::Bare, 1, 100.0),
            sample(Arm::Engine, 1, 90.0),
            sample(Arm::Bare, 2, 200.0),
            sample(Arm::Engine, 2, 144.0),
        ];
        let disturbance = Disturbance::default();
        let round = |counts| Round { number: 0, counts, disturbance, data: data.clone() };
        let case = CaseRates {
            case: "hello-p1".into(),
            input_bytes: 0,
            rounds: vec![round(true), round(false)],
            times: Vec::new(),
        };
        assert_eq!(case.ratios(Arm::Engine, 1), [0.9]);
        assert_eq!(case.ratios(Arm::Workers, 1), [0.0; 0]);
        let scaling = case.scaling();
        assert!(scaling.len() == 1 && (scaling[0] - 0.8).abs() < 1e-9, "{scaling:?}");
    }

    #[test]
    fn both_sides_run_hello_in_both_forms_and_agree() {
        let pair = Pair::new().expect("pools");
        for guest in Guest::all(None).expect("built in").iter().filter(|g| g.name == "hello") {
            let case = Case::new(&pair, guest, Bytes::new()).expect("both sides agree");
            let time = Duration::from_millis(20);
            let rates = measure(&pair, &case, &Arm::ALL, 1, time, &mut |_| {}).expect("runs");
            let samples = &rates.rounds[0].data;
            assert_eq!(samples.len(), 6);
            assert!(samples.iter().all(|sample| sample.tasks > 0), "{samples:?}");
            // Times of rounds that something else disturbed are not kept.
            let counts = rates.rounds.iter().any(|round| round.counts);
            let arms = if counts { 4 } else { 0 };
            assert_eq!(rates.times.len(), arms, "the queue has no times of single tasks");
        }
    }
}
