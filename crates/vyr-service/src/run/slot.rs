//! What a slot remembers beyond the lives of its instances: how often it was tried, and when again.

use serde::{Deserialize, Serialize};

use super::instance::{Instance, State};
use super::reason::Fault;
use super::wanted::Restart;
use super::{BACKOFF_MAX_MS, STEADY_MS, clock};
use crate::manifest::RestartPolicy;

/// A slot's record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Restarts in a row: none of them was ready for long.
    pub restarts: u32,
    /// Not before then, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Why there is no further try.
    pub off: Option<Off>,
    /// Whether an operator wants it to be empty.
    pub halted: bool,
    /// Why its last instance ended.
    pub fault: Option<Fault>,
}

/// Why a slot is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Off {
    /// Its process did what it had to, and its policy wants no more.
    Completed,
    /// Its policy wants no restart.
    Never,
    /// It was tried as often as its policy wants.
    GaveUp,
}

impl Slot {
    /// An instance of what the slot should run came to its end by itself.
    pub(super) fn ended(&mut self, instance: &Instance, now: u64) {
        let Restart { policy, max_retries, backoff_ms } = instance.spec.restart;
        self.fault = instance.fault.clone();
        let in_order = instance.state == State::Stopped;
        match policy {
            RestartPolicy::OnFailure | RestartPolicy::Never if in_order => {
                self.off = Some(Off::Completed)
            }
            RestartPolicy::Never => self.off = Some(Off::Never),
            RestartPolicy::OnFailure if self.restarts >= max_retries => {
                self.off = Some(Off::GaveUp)
            }
            RestartPolicy::OnFailure | RestartPolicy::Always => {
                self.retry_ms = Some(clock(now, backoff(backoff_ms, self.restarts)));
                self.restarts = self.restarts.saturating_add(1);
            }
        }
    }

    /// What it ran was ready for so long that what was before does not count any more.
    pub(super) fn forgive(&mut self, ready_for_ms: u64) {
        if ready_for_ms >= STEADY_MS {
            self.restarts = 0;
        }
    }

    /// Something else is tried.
    pub(super) fn anew(&mut self) {
        *self = Self { halted: self.halted, ..Self::default() };
    }

    /// Whether another instance may be started now.
    pub(super) fn may_start(&self, now: u64) -> bool {
        !self.halted && self.off.is_none() && self.retry_ms.is_none_or(|at| at <= now)
    }
}

/// The wait before restart number `restarts` (from 0).
fn backoff(first_ms: u64, restarts: u32) -> u64 {
    let times = 1_u64.checked_shl(restarts).unwrap_or(u64::MAX);
    first_ms.saturating_mul(times).min(BACKOFF_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = (0..10).map(|n| backoff(2_000, n)).collect();
        assert_eq!(waits[..4], [2_000, 4_000, 8_000, 16_000]);
        assert_eq!(waits[7..], [256_000, 300_000, 300_000]);
        assert_eq!(backoff(2_000, 63), 300_000);
        assert_eq!(backoff(2_000, u32::MAX), 300_000);
        assert_eq!(backoff(0, 9), 0);
    }
}
