//! The state machine against a world, and the rules by which both are judged.

mod random;
mod rollouts;
mod rules;
mod table;
mod world;

use vyr_base::Digest;

use super::*;
use crate::manifest::RestartPolicy;

/// Some time.
const START: u64 = 1_700_000_000_000;

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot")
}

fn runs(release: u8) -> Runs {
    let digest = |what: &str| Digest::of(format!("{what} {release}").as_bytes());
    Runs { release: digest("release").into(), image: digest("image"), secrets: None }
}

/// Restarts as the manifest has them when it says nothing; with a check.
fn spec(release: u8) -> SlotSpec {
    SlotSpec {
        runs: runs(release),
        restart: Restart { policy: RestartPolicy::Always, max_retries: 3, backoff_ms: 2_000 },
        gate: Gate { health: Some(Thresholds { success: 1, failure: 3 }), grace_ms: 10_000 },
        boot_ms: BOOT_MS,
        drain_ms: 10_000,
        stop_ms: 10_000,
    }
}

/// A plan in which each of these slots runs a release.
fn plan(epoch: u64, slots: &[(&str, u8)]) -> Wanted {
    plan_of(epoch, slots.iter().map(|(name, release)| (*name, spec(*release))))
}

fn plan_of<'a>(epoch: u64, slots: impl IntoIterator<Item = (&'a str, SlotSpec)>) -> Wanted {
    Wanted {
        epoch,
        plan: Digest::of(&epoch.to_be_bytes()),
        draining: false,
        slots: slots.into_iter().map(|(name, spec)| (slot(name), spec)).collect(),
    }
}
