//! Statistics: quantiles, the interval of a median, a fitted line, a histogram of times.
//!
//! Everything here is deterministic: the bootstrap draws from a generator with a fixed seed, so
//! the same samples give the same interval on every machine.

use serde::{Deserialize, Serialize};

/// Resamples of one bootstrap. Measured: with 2,000 the ends of an interval over 20 ratios move
/// by less than a thousandth from seed to seed.
const RESAMPLES: usize = 2_000;

/// Any number but 0 would do.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The value below which a share `q` (0 to 1) of `values` lies, between neighbours by a straight
/// line. `None` without values.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    of_sorted(&sorted, q)
}

/// The middle value.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position within a slice, clamped to it"
)]
fn of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let share = position - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * share)
}

/// A median with the interval that holds it, 95 times in 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median of the samples.
    pub median: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many samples there were.
    pub samples: usize,
}

impl Estimate {
    /// The median of `values` and its interval, by resampling. `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let middle = median(values)?;
        let mut random = Random(SEED);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let mut drawn: Vec<f64> =
                    values.iter().map(|_| values[random.below(values.len())]).collect();
                drawn.sort_by(f64::total_cmp);
                of_sorted(&drawn, 0.5).unwrap_or(middle)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Some(Self {
            median: middle,
            low: of_sorted(&medians, 0.025)?,
            high: of_sorted(&medians, 0.975)?,
            samples: values.len(),
        })
    }
}

/// Xorshift (Marsaglia 2003): enough to draw samples, for nothing else.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(SEED)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }
}

/// A straight line through points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The height at 0.
    pub intercept: f64,
    /// What one step to the right adds.
    pub slope: f64,
}

impl Line {
    /// The line with the least squared vertical distances from `points`; `None` unless two of
    /// them differ in `x`.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (mut xx, mut xy) = (0.0, 0.0);
        for (x, y) in points {
            xx += (x - mean_x) * (x - mean_x);
            xy += (x - mean_x) * (y - mean_y);
        }
        (xx > 0.0).then(|| {
            let slope = xy / xx;
            Self { intercept: mean_y - slope * mean_x, slope }
        })
    }
}

/// Steps within a doubling: a bucket is at most 1/64 of its value wide, so that a quantile is
/// off by less than 2 %.
const STEPS: u64 = 64;

/// Times in nanoseconds, counted in buckets whose width grows with the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    most_ns: u64,
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, ns: u64) {
        let bucket = bucket_of(ns);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.most_ns = self.most_ns.max(ns);
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.most_ns = self.most_ns.max(other.most_ns);
    }

    /// How many times were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest time.
    pub fn most_ns(&self) -> u64 {
        self.most_ns
    }

    /// The upper end of the bucket that holds the quantile `q` (0 to 1); 0 when nothing was
    /// counted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank within the count, both far below 2^53"
    )]
    pub fn quantile_ns(&self, q: f64) -> u64 {
        let rank = ((q.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return end_of(bucket).min(self.most_ns);
            }
        }
        self.most_ns
    }

    /// Every bucket that counted something, as its upper end in nanoseconds and its count.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (end_of(bucket), *count)).collect()
    }
}

/// Up to `STEPS` a bucket each; above, `STEPS` buckets a doubling.
fn bucket_of(ns: u64) -> usize {
    let bucket = if ns < STEPS {
        ns
    } else {
        let shift = u64::from(ns.ilog2() - STEPS.ilog2());
        shift * STEPS + (ns >> shift)
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest time that falls into `bucket`.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let step = bucket - shift * STEPS;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values), Some(2.5));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&[7.0], 0.999), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn an_interval_holds_its_median_and_repeats() {
        let values: Vec<f64> = (0..21).map(|n| f64::from(n) / 10.0).collect();
        let estimate = Estimate::of(&values).expect("samples");
        assert_eq!(estimate.median, 1.0);
        assert!(estimate.low < 1.0 && estimate.low > 0.3, "{estimate:?}");
        assert!(estimate.high > 1.0 && estimate.high < 1.7, "{estimate:?}");
        assert_eq!(Estimate::of(&values), Some(estimate));
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn samples_that_agree_have_no_width() {
        let estimate = Estimate::of(&[0.9; 20]).expect("samples");
        assert_eq!((estimate.low, estimate.median, estimate.high), (0.9, 0.9, 0.9));
    }

    #[test]
    fn a_line_is_found_again() {
        let line = Line::fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).expect("a line");
        assert!((line.intercept - 1.0).abs() < 1e-9 && (line.slope - 2.0).abs() < 1e-9);
        assert_eq!(Line::fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Line::fit(&[]), None);
    }

    #[test]
    fn every_time_falls_into_a_bucket_that_ends_close_above_it() {
        let mut last = 0;
        for ns in (0..2_000).chain([4_095, 4_096, 1_000_000, 123_456_789, u64::MAX / 2]) {
            let bucket = bucket_of(ns);
            assert!(bucket >= last, "buckets are in order at {ns}");
            last = bucket;
            let end = end_of(bucket);
            assert!(end >= ns && end - ns <= ns / STEPS, "{ns} in a bucket that ends at {end}");
        }
    }

    #[test]
    fn quantiles_of_a_histogram_are_within_two_percent() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|us| histogram.record(us * 1_000));
        for (q, exact) in [(0.5, 5_000_000), (0.99, 9_900_000), (0.999, 9_990_000)] {
            let found = histogram.quantile_ns(q);
            assert!(found >= exact && found <= exact + exact / 50, "{q}: {found}");
        }
        assert_eq!(histogram.quantile_ns(1.0), 10_000_000);
        assert_eq!(Histogram::default().quantile_ns(0.5), 0);
    }

    #[test]
    fn two_histograms_add_up() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(10);
        b.record(1_000_000);
        a.add(&b);
        assert_eq!((a.total(), a.most_ns(), a.buckets().len()), (2, 1_000_000, 2));
    }
}
