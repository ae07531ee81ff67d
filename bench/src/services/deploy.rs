//! A deploy of an image that was pulled before, to the first answer of its instance through the
//! ingress, beside a bare boot of the same machine.
//!
//! ```text
//! vyr deploy: lock, plan, prove, sign, send | taken: journal, network, VMM | guest | check | ingress
//! by hand:                                                             QEMU | guest |
//! ```
//!
//! Nothing else runs: the instance of the round before was removed. What is new is a variable, so that
//! the release is another one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::bare::Bare;
use super::http::until_answered;
use super::place::{INGRESS, PATIENCE, Place};
use super::{BY_HAND, HEAD};
use crate::rounds::alternate;
use crate::sample::Sample;

pub(super) const DEPLOY: &str = "a pulled image, to the first answer";

/// Milliseconds to the first answer; and where they went, in order. `taken_ms` is of what follows the
/// node's taking of the plan.
pub(super) const FIGURES: [&str; 7] =
    ["ms", "taken_ms", "plan_ms", "machine_ms", "boot_ms", "check_ms", "ingress_ms"];

/// Both arms.
pub(super) fn round(place: &Place, bare: &Bare, number: usize) -> Result<Vec<Sample>> {
    let arms = alternate(&[HEAD, BY_HAND], number).into_iter();
    let measured = arms.map(|arm| match arm {
        HEAD => deploy(place),
        _ => by_hand(place, bare),
    });
    measured.collect()
}

fn by_hand(place: &Place, bare: &Bare) -> Result<Sample> {
    let (boot, hung) = bare.by_hand(place.vmm()).context("by hand")?;
    let sample = Sample::new(DEPLOY, BY_HAND).with("ms", boot.answer_ms);
    Ok(sample.with("boot_ms", boot.running_ms).with("hung", hung.into()))
}

fn deploy(place: &Place) -> Result<Sample> {
    let (begun, clock) = (Instant::now(), SystemTime::now());
    let deploy = place.begin_deploy(1)?;
    let answered = place.space.inside(|| until_answered(INGRESS, PATIENCE))?;
    let total = answered - begun;
    place.end_deploy(deploy)?;
    let machine = place.until_running(1)?.pop().context("it was one")?;
    let written = place.written(&machine.id)?;
    let since = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
    let marks = [
        ("plan_ms", place.taken()?),
        ("machine_ms", machine.begun),
        ("boot_ms", since(written.ran_ms)),
        ("check_ms", since(written.ready_ms)),
        ("ingress_ms", clock + total),
    ];
    let mut sample = Sample::new(DEPLOY, HEAD).with("ms", total.as_secs_f64() * 1e3);
    for (name, ms) in phases(clock, &marks) {
        sample = sample.with(name, ms);
    }
    let taken_ms = sample.figure("plan_ms").map(|plan| total.as_secs_f64() * 1e3 - plan);
    place.empty()?;
    Ok(match taken_ms {
        Some(ms) => sample.with("taken_ms", ms),
        None => sample,
    })
}

/// What lies between marks. Clocks of files tick every few milliseconds: what seems to come before
/// what it follows took no time.
fn phases<'a>(start: SystemTime, marks: &[(&'a str, SystemTime)]) -> Vec<(&'a str, f64)> {
    let mut last = start;
    let mut all = Vec::new();
    for (name, at) in marks {
        let took = at.duration_since(last).unwrap_or_default();
        all.push((*name, took.as_secs_f64() * 1e3));
        last = last.max(*at);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_even_if_a_clock_ticks_late() {
        let start = UNIX_EPOCH + Duration::from_secs(1000);
        let at = |ms| start + Duration::from_millis(ms);
        let marks = [("a", at(5)), ("b", at(3)), ("c", at(9))];
        let found = phases(start, &marks);
        assert_eq!(found, [("a", 5.0), ("b", 0.0), ("c", 4.0)]);
        assert_eq!(found.iter().map(|(_, ms)| ms).sum::<f64>(), 9.0);
    }
}
