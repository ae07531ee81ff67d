//! From what a service runs to what its plan wants: slot by slot, and back when that does not hold.
//!
//! ```text
//!            all slots serve            failed instances, or no progress in time
//!  rolling ----------------> succeeded      rolling ---> reverting ---> failed
//!                            (what served until then is forgotten)  (what served serves)
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reason::Fault;
use super::wanted::SlotSpec;
use crate::place::SlotName;

/// Slots of one service.
pub type Slots = BTreeMap<SlotName, SlotSpec>;

/// A service on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What the plan wants.
    pub wanted: Slots,
    /// What served last: what a rollout that fails returns to.
    pub good: Slots,
    /// How it goes.
    pub rollout: Rollout,
}

/// The way from what served to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Of the plan that began it.
    pub epoch: u64,
    /// Since when, in milliseconds.
    pub since_ms: u64,
    /// How it goes.
    pub state: Progress,
    /// When there has been no progress for too long.
    pub(super) deadline_ms: Option<u64>,
}

/// How a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// New instances take the places of old ones.
    Rolling {
        /// How many of the new ones ended.
        failures: u32,
        /// Why the last of them did.
        last: Option<Fault>,
    },
    /// Every slot serves what it should.
    Succeeded,
    /// It failed, and old instances take the places of new ones.
    Reverting(Fault),
    /// It failed, and what served serves.
    Failed(Fault),
}

/// What a slot should run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal<'a> {
    /// This.
    Run(&'a SlotSpec),
    /// What is there stays until the rollout is over; what ended is not started again.
    Keep,
    /// Nothing.
    Empty,
}

impl Service {
    pub(super) fn rolling(wanted: Slots, good: Slots, epoch: u64, now: u64) -> Self {
        let state = Progress::Rolling { failures: 0, last: None };
        let rollout = Rollout { epoch, since_ms: now, state, deadline_ms: None };
        let mut service = Self { wanted, good, rollout };
        service.progress(now);
        service
    }

    /// What a slot should run now.
    pub(super) fn goal(&self, slot: &SlotName) -> Goal<'_> {
        let (slots, keep) = match self.rollout.state {
            Progress::Rolling { .. } => (&self.wanted, self.good.contains_key(slot)),
            Progress::Succeeded => (&self.wanted, false),
            Progress::Reverting(_) | Progress::Failed(_) => (&self.good, false),
        };
        match slots.get(slot) {
            Some(spec) => Goal::Run(spec),
            None if keep => Goal::Keep,
            None => Goal::Empty,
        }
    }

    /// The slots that should run something now.
    pub(super) fn goals(&self) -> &Slots {
        match self.rollout.state {
            Progress::Rolling { .. } | Progress::Succeeded => &self.wanted,
            Progress::Reverting(_) | Progress::Failed(_) => &self.good,
        }
    }

    pub(super) fn is_rolling(&self) -> bool {
        matches!(self.rollout.state, Progress::Rolling { .. })
    }

    /// Whether it is on its way somewhere.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.rollout.state, Progress::Rolling { .. } | Progress::Reverting(_))
    }

    /// Something went on: there is time again.
    pub(super) fn progress(&mut self, now: u64) {
        if self.is_moving() {
            self.rollout.deadline_ms = Some(super::clock(now, super::ROLLOUT_MS));
        }
    }

    pub(super) fn turn(&mut self, state: Progress, now: u64) {
        self.rollout.state = state;
        self.rollout.deadline_ms = None;
        self.progress(now);
    }

    /// Why it failed, or is about to.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.rollout.state {
            Progress::Reverting(fault) | Progress::Failed(fault) => Some(fault),
            Progress::Rolling { .. } | Progress::Succeeded => None,
        }
    }
}

/// Whether two sets of slots run the same.
pub(super) fn same(one: &Slots, other: &Slots) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((a, x), (b, y))| a == b && x.runs == y.runs)
}
