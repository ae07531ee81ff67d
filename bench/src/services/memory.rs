//! What a node's own processes have more with idle instances than without; their VMMs have theirs.
//!
//! A slope: the processes that the first instance needs (machines, ingress) were there before. What a
//! node keeps of instances that are gone would hide in it, so a round is compared with the least that
//! the node had without any so far.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::HEAD;
use super::place::Place;
use crate::memory::Resident;
use crate::sample::Sample;

pub(super) const IDLE: &str = "idle instances";

/// So many at once.
const INSTANCES: u8 = 4;

/// Shares change for a while after something happened: two looks that are so alike are taken.
const ALIKE_BYTES: u64 = 64 << 10;
const LOOKS_MAX: usize = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(300);

const MIB: f64 = 1024.0 * 1024.0;

/// What a node had without instances.
#[derive(Debug, Default)]
pub(super) struct Without {
    least: Option<u64>,
}

/// With none, then with some.
pub(super) fn round(place: &Place, without: &mut Without) -> Result<Vec<Sample>> {
    let none = settled(|| shares(&place.processes()))?;
    let least = without.least.map_or(none, |least| least.min(none));
    without.least = Some(least);
    place.deploy(INSTANCES)?;
    let machines = place.until_running(INSTANCES.into())?;
    let some = settled(|| shares(&place.processes()))?;
    let vmms: Vec<u32> = machines.iter().map(|machine| machine.pid).collect();
    let vmms = shares(&vmms)?;
    place.empty()?;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let each = (some as f64 - least as f64) / f64::from(INSTANCES) / MIB;
    Ok(vec![
        Sample::new(IDLE, HEAD)
            .with("mib_each", each)
            .with("mib_none", mib(none))
            .with("mib_some", mib(some))
            .with("instances", INSTANCES.into())
            .with("vmm_mib_each", mib(vmms) / f64::from(INSTANCES)),
    ])
}

/// The sum of the shares of processes.
fn shares(processes: &[u32]) -> Result<u64> {
    ensure!(!processes.is_empty(), "there is no process");
    let share = |pid: &u32| {
        let resident = Resident::of(&pid.to_string());
        resident.map(|of| of.pss_bytes).with_context(|| format!("no memory of process {pid}"))
    };
    processes.iter().map(share).sum()
}

/// The value once it has come to rest.
fn settled(look: impl Fn() -> Result<u64>) -> Result<u64> {
    let mut last = look()?;
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK_AGAIN);
        let now = look()?;
        if now.abs_diff(last) <= ALIKE_BYTES {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn this_process_has_memory_and_nobody_has_none() {
        assert!(shares(&[std::process::id()]).expect("it is told") > 0);
        assert!(shares(&[]).is_err());
        assert!(shares(&[u32::MAX]).is_err());
    }

    #[test]
    fn what_still_changes_is_looked_at_again() {
        let looks = Cell::new(0_u64);
        let grow = || {
            looks.set(looks.get() + 1);
            Ok(looks.get().min(3) * (1 << 20))
        };
        assert_eq!(settled(grow).expect("a value"), 3 << 20);
        assert_eq!(looks.get(), 4);
    }
}
