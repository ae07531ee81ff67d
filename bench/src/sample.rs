//! What is measured: a sample of each case and arm in each round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rounds::Round;
use crate::stats::{Histogram, quantile};

/// One arm of one case in one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was done: `other cpu`, `tokio 10 ms`.
    pub case: String,
    /// With what: `observe`, `timer 1 ms`.
    pub arm: String,
    /// Figures by name; the unit ends the name.
    pub figures: BTreeMap<String, f64>,
    /// Times in nanoseconds: the end of each bucket, and how many are in it.
    pub times_ns: Vec<(u64, u64)>,
    /// Why there is nothing else in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
}

impl Sample {
    pub(crate) fn new(case: &str, arm: &str) -> Self {
        Self { case: case.into(), arm: arm.into(), ..Self::default() }
    }

    pub(crate) fn not_run(case: &str, arm: &str, reason: String) -> Self {
        Self { not_run: Some(reason), ..Self::new(case, arm) }
    }

    pub(crate) fn with(mut self, figure: &str, value: f64) -> Self {
        self.figures.insert(figure.into(), value);
        self
    }

    /// The times, and their quantiles as figures.
    pub(crate) fn with_times(mut self, times: &Histogram) -> Self {
        self.times_ns = times.buckets();
        if times.total() > 0 {
            for (name, share) in QUANTILES {
                self = self.with(name, times.quantile_ns(share) as f64);
            }
        }
        self.with("count", times.total() as f64)
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// Whether it is what a reader may expect of a sample.
    #[cfg(test)]
    pub(crate) fn is_whole(&self) -> bool {
        let numbers = self.figures.values().all(|value| value.is_finite());
        let named = !self.case.is_empty() && !self.arm.is_empty();
        let ordered = self.times_ns.is_sorted_by(|a, b| a.0 < b.0);
        let says = self.not_run.is_some() == self.figures.is_empty();
        let counted: u64 = self.times_ns.iter().map(|(_, count)| count).sum();
        let adds_up = self.figure("count").is_none_or(|count| count == counted as f64);
        numbers && named && ordered && says && adds_up
    }
}

/// Figures that `with_times` adds.
const QUANTILES: [(&str, f64); 3] = [("p50_ns", 0.5), ("p99_ns", 0.99), ("p999_ns", 0.999)];

/// The rounds of one part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rounds(pub Vec<Round<Vec<Sample>>>);

impl Rounds {
    /// Cases and their arms, in the order of a first round.
    pub(crate) fn arms(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for sample in self.0.iter().flat_map(|round| &round.data) {
            let arm = (sample.case.clone(), sample.arm.clone());
            if !all.contains(&arm) {
                all.push(arm);
            }
        }
        all
    }

    pub(crate) fn samples<'a>(&'a self, case: &'a str, arm: &'a str) -> Vec<&'a Sample> {
        let counted = self.0.iter().filter(|round| round.counts);
        let samples = counted.flat_map(|round| &round.data);
        samples.filter(|sample| sample.case == case && sample.arm == arm).collect()
    }

    /// The reason why an arm was not run, if it was not.
    pub(crate) fn reason(&self, case: &str, arm: &str) -> Option<&str> {
        let all = self.0.iter().flat_map(|round| &round.data);
        let mut of = all.filter(|sample| sample.case == case && sample.arm == arm);
        of.find_map(|sample| sample.not_run.as_deref())
    }

    /// A figure of the rounds that count.
    pub(crate) fn figures(&self, case: &str, arm: &str, figure: &str) -> Vec<f64> {
        self.samples(case, arm).iter().filter_map(|sample| sample.figure(figure)).collect()
    }

    /// What `figure` makes of the samples of a case, round by round.
    pub(crate) fn by_round(
        &self,
        case: &str,
        figure: impl Fn(&dyn Fn(&str, &str) -> Option<f64>) -> Option<f64>,
    ) -> Vec<f64> {
        let counted = self.0.iter().filter(|round| round.counts);
        counted
            .filter_map(|round| {
                let of = |arm: &str, name: &str| {
                    let mut samples = round.data.iter();
                    samples.find(|s| s.case == case && s.arm == arm)?.figure(name)
                };
                figure(&of)
            })
            .collect()
    }

    /// A quantile of the times of all rounds that count, in nanoseconds.
    pub(crate) fn pooled_ns(&self, case: &str, arm: &str, share: f64) -> Option<f64> {
        let mut buckets: BTreeMap<u64, u64> = BTreeMap::new();
        for (end, count) in self.samples(case, arm).iter().flat_map(|sample| &sample.times_ns) {
            *buckets.entry(*end).or_default() += count;
        }
        quantile_of(&buckets, share)
    }
}

/// The end of the bucket that holds the quantile.
fn quantile_of(buckets: &BTreeMap<u64, u64>, share: f64) -> Option<f64> {
    let total: u64 = buckets.values().sum();
    let rank = (share.clamp(0.0, 1.0) * total as f64).ceil().max(1.0);
    let mut seen = 0;
    buckets.iter().find_map(|(end, count)| {
        seen += count;
        (seen as f64 >= rank).then_some(*end as f64)
    })
}

/// The middle of slices of a round: what disturbs one of them is not the round's.
pub(crate) fn middle(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Disturbance;

    fn round(number: usize, counts: bool, data: Vec<Sample>) -> Round<Vec<Sample>> {
        Round { number, counts, disturbance: Disturbance::default(), data }
    }

    fn timed(arm: &str, times: &[u64]) -> Sample {
        let mut histogram = Histogram::default();
        times.iter().for_each(|ns| histogram.record(*ns));
        Sample::new("case", arm).with_times(&histogram)
    }

    #[test]
    fn samples_are_whole_or_say_why_not() {
        assert!(timed("a", &[1, 2, 3]).is_whole());
        assert!(Sample::not_run("case", "a", "no kernel".into()).is_whole());
        assert!(!Sample::new("case", "a").is_whole(), "neither figures nor a reason");
        assert!(!Sample::new("case", "a").with("ns", f64::NAN).is_whole());
        assert!(!timed("a", &[1, 2]).with("count", 3.0).is_whole());
    }

    #[test]
    fn only_rounds_that_count_do() {
        let rounds = Rounds(vec![
            round(0, true, vec![timed("a", &[10]), timed("b", &[20])]),
            round(1, false, vec![timed("a", &[1_000]), timed("b", &[1])]),
            round(1, true, vec![timed("a", &[30]), timed("b", &[30])]),
        ]);
        assert_eq!(rounds.figures("case", "a", "p50_ns"), [10.0, 30.0]);
        assert_eq!(rounds.arms(), [("case".into(), "a".into()), ("case".into(), "b".into())]);
        let ratios = rounds.by_round("case", |of| Some(of("a", "p50_ns")? / of("b", "p50_ns")?));
        assert_eq!(ratios, [0.5, 1.0]);
        assert_eq!(rounds.by_round("case", |of| of("c", "p50_ns")), [] as [f64; 0]);
    }

    #[test]
    fn times_of_rounds_are_pooled() {
        let fast = [5; 99];
        let rounds = Rounds(vec![
            round(0, true, vec![timed("a", &fast)]),
            round(1, true, vec![timed("a", &[5]), timed("b", &[])]),
            round(2, true, vec![timed("a", &[60; 2])]),
        ]);
        assert_eq!(rounds.pooled_ns("case", "a", 0.5), Some(5.0));
        assert_eq!(rounds.pooled_ns("case", "a", 0.99), Some(60.0));
        assert_eq!(rounds.pooled_ns("case", "b", 0.5), None);
    }

    #[test]
    fn a_reason_is_kept() {
        let rounds =
            Rounds(vec![round(0, true, vec![Sample::not_run("case", "a", "no kernel".into())])]);
        assert_eq!(rounds.reason("case", "a"), Some("no kernel"));
        assert_eq!(rounds.reason("case", "b"), None);
    }
}
