//! The order of events in a table that somebody may have touched.
//!
//! Each entry has a place (its row) and a number (its leaf's own). Entries whose places and
//! numbers both rise by one are one run; an honest journal is a single run. What is between the
//! runs tells removal, addition and reordering apart: the runs that stand in rising order and
//! hold most events are in place, the others were moved; a number that comes twice was added; a
//! number that no run has is missing.

use std::collections::BTreeMap;
use std::ops::Range;

/// Most runs that are told apart: a journal with more breaks is not worth a closer look.
const RUNS_MAX: usize = 4096;

/// Consecutive events in consecutive places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) place: u64,
    pub(super) seq: u64,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.seq.saturating_add(self.count)
    }

    /// The part whose numbers are below `limit`, and the part from there on.
    pub(super) fn split(self, limit: u64) -> (Option<Self>, Option<Self>) {
        let below = limit.saturating_sub(self.seq).min(self.count);
        let part = |skip: u64, count: u64| {
            (count > 0).then_some(Self { place: self.place + skip, seq: self.seq + skip, count })
        };
        (part(0, below), part(below, self.count - below))
    }
}

/// Where an entry turned out to belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// Into a run.
    InRun,
    /// Nowhere: its number was there already.
    Again,
    /// Nowhere: there are [`RUNS_MAX`] runs.
    TooMany,
}

/// The runs seen so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    runs: Vec<Run>,
    /// The numbers in runs: from the first to behind the last. They do not overlap.
    covered: BTreeMap<u64, u64>,
}

impl Order {
    /// The number that an entry at `place` has if nothing else is known: it goes on from the last.
    pub(super) fn expected(&self, place: u64) -> u64 {
        self.runs
            .last()
            .map_or(place, |last| place.saturating_sub(last.place).saturating_add(last.seq))
    }

    pub(super) fn add(&mut self, place: u64, seq: u64) -> Placed {
        let before = self.covered.range(..=seq).next_back();
        if before.is_some_and(|(_, end)| *end > seq) {
            return Placed::Again;
        }
        let full = self.runs.len() == RUNS_MAX;
        match self.runs.last_mut() {
            Some(last)
                if last.end() == seq && last.place.checked_add(last.count) == Some(place) =>
            {
                last.count += 1;
                self.covered.insert(last.seq, last.end());
            }
            _ if full => return Placed::TooMany,
            _ => {
                self.runs.push(Run { place, seq, count: 1 });
                self.covered.insert(seq, seq.saturating_add(1));
            }
        }
        Placed::InRun
    }

    /// The numbers below `end` that no run has.
    pub(super) fn missing(&self, end: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for (start, covered_to) in &self.covered {
            if *start >= end {
                break;
            }
            if *start > next {
                gaps.push(next..*start);
            }
            next = *covered_to;
        }
        if next < end {
            gaps.push(next..end);
        }
        gaps
    }

    /// The runs in place and the runs that were moved.
    pub(super) fn judge(&self) -> (Vec<Run>, Vec<Run>) {
        // The heaviest rising subsequence: `best[i]` is the weight of one that ends in run `i`.
        let mut best: Vec<(u64, Option<usize>)> = Vec::with_capacity(self.runs.len());
        for (at, run) in self.runs.iter().enumerate() {
            let before = (0..at).filter(|i| self.runs[*i].seq < run.seq);
            let before = before.max_by_key(|i| best[*i].0);
            best.push((run.count + before.map_or(0, |i| best[i].0), before));
        }
        let mut next = (0..best.len()).max_by_key(|i| best[*i].0);
        let mut in_place = vec![false; best.len()];
        while let Some(at) = next {
            in_place[at] = true;
            next = best[at].1;
        }
        let (kept, moved): (Vec<_>, Vec<_>) =
            self.runs.iter().zip(in_place).partition(|(_, in_place)| *in_place);
        let runs = |pairs: Vec<(&Run, bool)>| pairs.into_iter().map(|(run, _)| *run).collect();
        (runs(kept), runs(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seqs: &[u64]) -> (Order, usize) {
        let mut order = Order::default();
        let again =
            seqs.iter().zip(0..).filter(|(seq, place)| order.add(*place, **seq) == Placed::Again);
        let again = again.count();
        (order, again)
    }

    fn missing(order: &Order, end: u64) -> Vec<u64> {
        order.missing(end).into_iter().flatten().collect()
    }

    fn moved(order: &Order) -> Vec<u64> {
        order.judge().1.iter().flat_map(|run| run.seq..run.end()).collect()
    }

    #[test]
    fn removal_addition_and_moves_are_told_apart() {
        let (honest, again) = of(&[0, 1, 2, 3]);
        assert_eq!((moved(&honest), missing(&honest, 4), again), (vec![], vec![], 0));
        assert_eq!(missing(&honest, 6), [4, 5]);
        assert_eq!(honest.expected(9), 9);
        let (removed, _) = of(&[0, 1, 4, 5]);
        assert_eq!((moved(&removed), missing(&removed, 6)), (vec![], vec![2, 3]));
        assert_eq!(removed.expected(4), 6);
        let (added, again) = of(&[0, 1, 1, 2, 3]);
        assert_eq!((moved(&added), missing(&added, 4), again), (vec![], vec![], 1));
        let (swapped, _) = of(&[0, 4, 2, 3, 1, 5]);
        assert_eq!((moved(&swapped), missing(&swapped, 6)), (vec![4, 1], vec![]));
        let (rotated, _) = of(&[0, 2, 3, 4, 1, 5]);
        assert_eq!(moved(&rotated), [1]);
        let (replaced, _) = of(&[0, 900, 2, 3]);
        assert_eq!((moved(&replaced), missing(&replaced, 4)), (vec![900], vec![1]));
    }

    #[test]
    fn a_run_is_split_at_the_end_of_the_log() {
        let run = Run { place: 4, seq: 5, count: 3 };
        let part = |place, seq, count| Some(Run { place, seq, count });
        assert_eq!(run.split(9), (Some(run), None));
        assert_eq!(run.split(6), (part(4, 5, 1), part(5, 6, 2)));
        assert_eq!(run.split(2), (None, Some(run)));
    }

    #[test]
    fn breaks_are_bounded() {
        let mut order = Order::default();
        for seq in 0..RUNS_MAX as u64 {
            assert_eq!(order.add(seq, 2 * seq), Placed::InRun);
        }
        assert_eq!(order.add(0, 1), Placed::TooMany);
        assert_eq!(order.judge().0.len(), RUNS_MAX);
    }
}
