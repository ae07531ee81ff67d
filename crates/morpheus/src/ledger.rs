//! What a worker did about its hints, counted by the worker itself.
//!
//! One thread writes, many read. Additions are atomic all the same: a signal handler of that thread
//! may have a checkpoint of its own in the middle of one. They stand behind hints, not before.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::block::{Hint, Reason, Yield};

/// Steps in which an octave of nanoseconds is divided.
const STEPS: usize = 4;

/// Buckets: 64 octaves.
const BUCKETS: usize = 64 * STEPS;

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Acknowledged hints by reason; the first is of those whose reason could not be read.
    acknowledged: [AtomicU64; Reason::ALL.len() + 1],
    /// Yields by why, from `Yield::Hint` on.
    yields: [AtomicU64; 3],
    /// Hints that were seen in a critical section, and waited.
    deferred: AtomicU64,
    latencies: [AtomicU64; BUCKETS],
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

fn bucket(ns: u64) -> usize {
    let octave = 63 - (ns | 1).leading_zeros() as usize;
    // The two bits below the highest one.
    let step = if octave < 2 { 0 } else { usize::from((ns >> (octave - 2)).to_le_bytes()[0] & 3) };
    octave * STEPS + step
}

/// The end of a bucket, in nanoseconds.
fn bound(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if octave < 2 {
        return (2 << octave) - 1;
    }
    let width = 1_u64 << (octave - 2);
    // One less before the sum: the last bucket ends at the largest number there is.
    ((1_u64 << octave) - 1) + (step + 1) * width
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            acknowledged: Default::default(),
            yields: Default::default(),
            deferred: AtomicU64::new(0),
            latencies: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    pub(crate) fn acknowledge(&self, hint: Hint, now_ns: u64) {
        let reason = hint.reason.map_or(0, |reason| reason as usize);
        add(&self.acknowledged[reason]);
        add(&self.latencies[bucket(now_ns.saturating_sub(hint.at_ns))]);
    }

    pub(crate) fn yielded(&self, why: Yield) {
        add(&self.yields[why as usize - 1]);
    }

    pub(crate) fn defer(&self) {
        add(&self.deferred);
    }

    pub(crate) fn acknowledged(&self) -> Vec<(Option<Reason>, u64)> {
        let reasons = std::iter::once(None).chain(Reason::ALL.map(Some));
        reasons.zip(self.acknowledged.iter().map(|count| count.load(Relaxed))).collect()
    }

    pub(crate) fn yields(&self) -> [(Yield, u64); 3] {
        let of = |why: Yield| (why, self.yields[why as usize - 1].load(Relaxed));
        [of(Yield::Hint), of(Yield::Budget), of(Yield::Asked)]
    }

    pub(crate) fn deferred(&self) -> u64 {
        self.deferred.load(Relaxed)
    }

    pub(crate) fn latencies(&self) -> Latencies {
        Latencies(self.latencies.iter().map(|count| count.load(Relaxed)).collect())
    }
}

/// How long it took from hints to their acknowledgements, in buckets of a quarter of an octave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The `share` quantile (0.99 for p99) in nanoseconds, rounded up to the end of its bucket: at
    /// most a quarter too high. `None` if there are none.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank within the count"
        )]
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, found) in self.0.iter().enumerate() {
            seen += found;
            if seen >= rank {
                return Some(bound(bucket));
            }
        }
        None
    }

    /// Each bucket that is not empty: its end in nanoseconds, and how many are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, n)| **n > 0).map(|(b, n)| (bound(b), *n))
    }

    /// Adds those of another worker.
    pub fn merge(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_the_bucket_that_ends_after_it() {
        let mut last = 0;
        for ns in (0..5_000).chain((0..63).map(|n| 1_u64 << n)).chain([u64::MAX]) {
            let end = bound(bucket(ns));
            assert!(end >= ns, "{ns}");
            assert!(ns < 4 || end - ns <= ns / 4, "{ns} is in a bucket that ends at {end}");
            assert!(bucket(ns) < BUCKETS);
            last = last.max(bucket(ns));
        }
        assert_eq!(last, BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let ledger = Ledger::new();
        for ns in 1..=1_000 {
            ledger.acknowledge(Hint { reason: Some(Reason::Slice), at_ns: 0 }, ns * 1_000);
        }
        let latencies = ledger.latencies();
        assert_eq!(latencies.count(), 1_000);
        let p50 = latencies.quantile_ns(0.5).expect("some");
        assert!((500_000..=625_000).contains(&p50), "{p50}");
        let p99 = latencies.quantile_ns(0.99).expect("some");
        assert!((990_000..=1_240_000).contains(&p99), "{p99}");
        assert_eq!(Latencies::default().quantile_ns(0.5), None);
    }
}
