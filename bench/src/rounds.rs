//! Rounds: the same measurement again and again, each with what the machine did meanwhile.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::environment::{Disturbance, Moment, STEAL_MAX};

/// Fewer undisturbed rounds than this decide nothing.
pub const ROUNDS_MIN: usize = 20;

/// One round: its measurement and how much of the machine others had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round<T> {
    /// From 0; a round that is run again keeps its number.
    pub number: usize,
    /// Whether it counts: its steal was at most `STEAL_MAX`.
    pub counts: bool,
    /// What the machine did meanwhile.
    pub disturbance: Disturbance,
    /// What was measured.
    pub data: T,
}

/// Runs `round` until `wanted` rounds count, each at most once more for every round wanted.
///
/// All rounds are returned, also those that do not count. `round` is told its number, by whose
/// parity it alternates the order of its arms.
pub(crate) fn rounds<T>(
    wanted: usize,
    mut round: impl FnMut(usize) -> Result<T>,
) -> Result<Vec<Round<T>>> {
    let mut all: Vec<Round<T>> = Vec::new();
    let mut number = 0;
    while number < wanted && all.len() < 2 * wanted {
        let before = Moment::now();
        let data = round(number)?;
        let disturbance = before.until_now();
        let counts = disturbance.steal <= STEAL_MAX;
        all.push(Round { number, counts, disturbance, data });
        number += usize::from(counts);
    }
    Ok(all)
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
        let disturbed = Round {
            number: 0,
            counts: false,
            disturbance: Disturbance { steal: 0.5, ..Disturbance::default() },
            data: 1.0,
        };
        assert!(figures(&[disturbed], |data| Some(*data)).is_empty());
    }
}
