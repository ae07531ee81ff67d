//! `--against`: this build beside another one, process by process, in the same rounds.

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::rates::{CaseRates, RateSample, THREADS};
use crate::report::interval;
use crate::rounds::{ROUNDS_MIN, Round, alternate, figures, rounds};
use crate::stats::Estimate;
use crate::task::{Bench, OneRound, read};

/// The version of the JSON form.
const FORMAT: &str = "vyr-bench-against/1";

/// A case became slower when even the favourable end of the interval says so, by 5 %.
const SLOWER_BY: f64 = 1.05;

/// Whether enough rounds say that this build takes longer than the base: `ratio` is of times.
pub(crate) fn is_slower(ratio: &Estimate) -> bool {
    ratio.samples >= ROUNDS_MIN && ratio.low > SLOWER_BY
}

/// One case on one number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// `hello-p1`.
    pub case: String,
    /// On how many threads.
    pub threads: usize,
    /// Tasks a second of this build by those of the base; `None` without an undisturbed round.
    pub ratio: Option<Estimate>,
    /// Whether it became slower.
    pub slower: bool,
}

/// Both samples of one round, a sample a number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BothSides {
    /// The other build.
    pub base: Vec<RateSample>,
    /// This build.
    pub head: Vec<RateSample>,
}

/// All cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `FORMAT`.
    pub format: String,
    /// The figures.
    pub compared: Vec<Compared>,
    /// The raw samples, a case each.
    pub samples: Vec<(String, Vec<Round<BothSides>>)>,
}

impl Comparison {
    /// Whether a case became slower.
    pub fn is_slower(&self) -> bool {
        self.compared.iter().any(|compared| compared.slower)
    }

    /// A table.
    pub fn to_markdown(&self) -> String {
        let mut out = String::from(
            "| case | threads | tasks/s, this build by base | rounds | |\n\
             | --- | --- | --- | --- | --- |\n",
        );
        for compared in &self.compared {
            let (ratio, count) = compared.ratio.map_or_else(
                || ("not measured: no undisturbed round".into(), 0),
                |ratio| (interval(&ratio), ratio.samples),
            );
            let slower = if compared.slower { "slower" } else { "" };
            let Compared { case, threads, .. } = compared;
            out.push_str(&format!("| {case} | {threads} | {ratio} | {count} | {slower} |\n"));
        }
        out
    }
}

/// Runs one round of every case on both builds, alternating, again and again.
pub(crate) fn compare(
    bench: &Bench<'_>,
    base: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Comparison> {
    let head = bench.this()?;
    let (mut compared, mut samples) = (Vec::new(), Vec::new());
    for guest in &bench.guests {
        let case = guest.case();
        let all = rounds(bench.rounds, |number| {
            progress(&format!("{case}: round {} of {}", number + 1, bench.rounds));
            let mut both = BothSides { base: Vec::new(), head: Vec::new() };
            for is_head in alternate(&[false, true], number) {
                let program = if is_head { &head } else { base };
                let rates = one(bench, program, &case)?;
                let side = if is_head { &mut both.head } else { &mut both.base };
                *side = rates.rounds.into_iter().flat_map(|round| round.data).collect();
            }
            Ok(both)
        })?;
        compared.extend(THREADS.map(|threads| judge(&case, threads, &all)));
        samples.push((case, all));
    }
    Ok(Comparison { format: FORMAT.into(), compared, samples })
}

fn one(bench: &Bench<'_>, program: &Path, case: &str) -> Result<CaseRates> {
    match read(&bench.one_round(program, case))? {
        OneRound::Rates(rates) => Ok(rates),
        other => bail!("another answer: {other:?}"),
    }
}

fn judge(case: &str, threads: usize, rounds: &[Round<BothSides>]) -> Compared {
    let rate = |side: &[RateSample]| {
        let found = side.iter().find(|s| s.arm == Arm::Engine && s.threads == threads);
        found.map(|sample| sample.per_second)
    };
    let ratios = figures(rounds, |both| Some(rate(&both.head)? / rate(&both.base)?));
    let ratio = Estimate::of(&ratios);
    let enough = |ratio: &Estimate| ratio.samples >= ROUNDS_MIN;
    let slower = ratio.filter(enough).is_some_and(|ratio| ratio.high * SLOWER_BY < 1.0);
    Compared { case: case.into(), threads, ratio, slower }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;

    #[test]
    fn only_what_is_surely_slower_is_called_so() {
        let sample = |per_second| {
            let (arm, threads) = (Arm::Engine, 1);
            vec![RateSample {
                arm,
                threads,
                tasks: 1,
                per_second,
                p50_ns: 0,
                p99_ns: 0,
                p999_ns: 0,
            }]
        };
        let rounds = |ratios: &[f64]| {
            let round = |ratio: &f64| Round {
                number: 0,
                counts: true,
                disturbance: Disturbance::default(),
                data: BothSides { base: sample(100.0), head: sample(100.0 * ratio) },
            };
            ratios.iter().map(round).collect::<Vec<_>>()
        };
        assert!(judge("x", 1, &rounds(&[0.9; 20])).slower);
        assert!(!judge("x", 1, &rounds(&[0.97; 20])).slower, "within five per cent");
        assert!(!judge("x", 1, &rounds(&[0.9; 19])).slower, "too few rounds");
        let mixed: Vec<f64> = (0..20).map(|n| 0.8 + 0.02 * f64::from(n)).collect();
        assert!(!judge("x", 1, &rounds(&mixed)).slower, "the interval reaches one");
        assert_eq!(judge("x", 2, &rounds(&[0.9; 20])).ratio, None);
    }
}
