//! The end of a machine that is asked for: first the workload's, then the guest's, then the VMM's.

use std::time::{Duration, Instant};

use vyr_channel::Phase;

use super::{Exit, Machine, VmmError};
use crate::channel::Channel;

/// From the end of a workload to that of its machine, also an emulated one on a busy host.
const POWER_OFF: Duration = Duration::from_secs(30);

/// For whoever reads the log, once the workload has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What [`Machine::stop`] does, with any VMM.
pub(super) fn stop(
    machine: &(impl Machine + ?Sized),
    channel: &Channel,
    signal: u8,
    grace: Duration,
) -> Result<Exit, VmmError> {
    let end = Instant::now() + grace + POWER_OFF;
    // A guest that does not answer is killed like one that does not end.
    let ended = |phase: &Phase| {
        matches!(phase, Phase::Ended(_) | Phase::Failed(_) | Phase::Blank).then_some(())
    };
    if channel.stop(signal, grace).is_ok() && channel.wait_phase(grace + POWER_OFF, ended).is_ok() {
        // Where nobody reads the log there is nobody to lose it.
        let _ = channel.wait_log_taken(LAST_WORDS);
        // A guest that is gone is waited for like one that goes.
        let _ = channel.power_off();
        let left = end.saturating_duration_since(Instant::now());
        if let Ok(exit) = machine.wait(left) {
            return Ok(exit);
        }
    }
    machine.kill()
}
