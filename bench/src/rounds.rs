//! Rounds: the same measurement again and again, each with what the machine did meanwhile.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::environment::{Disturbance, Moment, OTHERS_MAX, STEAL_MAX};

/// Fewer undisturbed rounds than this decide nothing.
pub const ROUNDS_MIN: usize = 20;

/// One round: its measurement and how much of the machine others had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round<T> {
    /// From 0; a round that is run again keeps its number.
    pub number: usize,
    /// Whether it counts; see `choose`.
    pub counts: bool,
    /// What the machine did meanwhile.
    pub disturbance: Disturbance,
    /// What was measured.
    pub data: T,
}

/// Runs `round` until `wanted` rounds were quiet, and at most twice as many rounds in all.
///
/// All rounds are returned, also those that do not count. `round` is told its number, by whose
/// parity it alternates the order of its arms.
pub(crate) fn rounds<T>(
    wanted: usize,
    round: impl FnMut(usize) -> Result<T>,
) -> Result<Vec<Round<T>>> {
    rounds_beside(wanted, &[], round)
}

/// The same, where processes `measured` live all the time and do part of the work.
pub(crate) fn rounds_beside<T>(
    wanted: usize,
    measured: &[u32],
    mut round: impl FnMut(usize) -> Result<T>,
) -> Result<Vec<Round<T>>> {
    let mut all: Vec<Round<T>> = Vec::new();
    let mut number = 0;
    while number < wanted && all.len() < 2 * wanted {
        let before = Moment::beside(measured);
        let data = round(number)?;
        let disturbance = before.until_now();
        all.push(Round { number, counts: false, disturbance, data });
        number += usize::from(is_quiet(&disturbance));
    }
    choose(&mut all, wanted);
    Ok(all)
}

fn is_quiet(of: &Disturbance) -> bool {
    of.steal <= STEAL_MAX && of.others <= OTHERS_MAX
}

/// Quiet rounds count. If there are too few of them, all with little steal count: a busy machine
/// gives a wider interval, a stolen one gives nothing. What was measured has no part in this.
fn choose<T>(all: &mut [Round<T>], wanted: usize) {
    let quiet = all.iter().filter(|round| is_quiet(&round.disturbance)).count();
    for round in all {
        let of = &round.disturbance;
        round.counts = if quiet >= wanted { is_quiet(of) } else { of.steal <= STEAL_MAX };
    }
}

/// What the rounds that count have of `figure`.
pub(crate) fn figures<T>(rounds: &[Round<T>], figure: impl Fn(&T) -> Option<f64>) -> Vec<f64> {
    rounds.iter().filter(|round| round.counts).filter_map(|round| figure(&round.data)).collect()
}

/// `arms` in their order in even rounds, reversed in odd ones.
pub(crate) fn alternate<T: Clone>(arms: &[T], number: usize) -> Vec<T> {
    let mut arms = arms.to_vec();
    if number % 2 == 1 {
        arms.reverse();
    }
    arms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_arms_alternates() {
        assert_eq!(alternate(&[1, 2, 3], 4), [1, 2, 3]);
        assert_eq!(alternate(&[1, 2, 3], 5), [3, 2, 1]);
    }

    #[test]
    fn rounds_are_bounded_and_only_those_that_count_are_used() {
        let all = rounds(3, Ok).expect("nothing fails");
        assert!((3..=6).contains(&all.len()));
        let used = figures(&all, |number| Some(*number as f64));
        assert_eq!(used.len(), all.iter().filter(|round| round.counts).count());
    }

    #[test]
    fn stolen_rounds_never_count_and_busy_ones_only_for_want_of_quiet_ones() {
        let counted = |disturbances: &[(f64, f64)]| {
            let round = |(steal, others): &(f64, f64)| {
                let disturbance = Disturbance { steal: *steal, others: *others, load: 0.0 };
                Round { number: 0, counts: false, disturbance, data: () }
            };
            let mut all: Vec<_> = disturbances.iter().map(round).collect();
            choose(&mut all, 2);
            all.iter().map(|round| round.counts).collect::<Vec<_>>()
        };
        let (quiet, busy, stolen) = ((0.0, 0.0), (0.0, 0.5), (0.06, 0.0));
        assert_eq!(counted(&[quiet, busy, stolen, quiet]), [true, false, false, true]);
        assert_eq!(counted(&[quiet, busy, stolen]), [true, true, false]);
    }
}
