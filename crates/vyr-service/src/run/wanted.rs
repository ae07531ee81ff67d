//! What the services plan wants of this node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use super::{BOOT_MS, SETTLE_MS};
use crate::manifest::{Process, RestartPolicy};
use crate::place::SlotName;
use crate::release::ReleaseId;

/// What should run on this node. A later one has a greater epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Of the plan.
    pub epoch: u64,
    /// The plan's digest.
    pub plan: Digest,
    /// Whether the operators want nothing here: what goes is told so.
    pub draining: bool,
    /// What each slot runs.
    pub slots: BTreeMap<SlotName, SlotSpec>,
}

/// What one slot runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotSpec {
    /// What is started. Another one needs another instance.
    pub runs: Runs,
    /// What happens after its end.
    pub restart: Restart,
    /// When it counts as ready.
    pub gate: Gate,
    /// How long it may take from its machine's start until its process runs, and again from there,
    /// after its grace, until it is ready; in milliseconds: [`BOOT_MS`](super::BOOT_MS), and what
    /// its prestart may take.
    pub boot_ms: u64,
    /// How long its connections may take to end once it gets no new ones, in milliseconds.
    pub drain_ms: u64,
    /// How long its process may take to end after its stop signal, in milliseconds.
    pub stop_ms: u64,
}

/// What an instance is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// The release.
    pub release: ReleaseId,
    /// The image in it.
    pub image: Digest,
    /// The file of its secrets, as the plan names it; `None`: it has none.
    pub secrets: Option<Digest>,
}

/// What happens after the end of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Whether there is another one.
    pub policy: RestartPolicy,
    /// How many tries in a row `on-failure` has; how many until `always` is called a crash loop.
    pub max_retries: u32,
    /// The wait before the first, in milliseconds; each further wait is twice as long, up to
    /// [`BACKOFF_MAX_MS`](super::BACKOFF_MAX_MS).
    pub backoff_ms: u64,
}

/// When an instance counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its health check; `None`: it is ready when it ran for its grace.
    pub health: Option<Thresholds>,
    /// From its process's start, in milliseconds. Checks that fail in it are not counted.
    pub grace_ms: u64,
}

/// How many results of a check in a row count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Passed: it is ready.
    pub success: u32,
    /// Failed: it is not.
    pub failure: u32,
}

impl SlotSpec {
    /// What a slot of `process` is, when its release is made of this.
    pub fn of(process: &Process, runs: Runs) -> Self {
        let ms = |seconds: u16| u64::from(seconds) * 1000;
        let prestart = process.prestart.as_ref().map_or(0, |of| ms(of.timeout_seconds));
        let thresholds = process
            .health
            .as_ref()
            .map(|of| Thresholds { success: of.success.into(), failure: of.failure.into() });
        let grace_ms = process.health.as_ref().map_or(SETTLE_MS, |of| ms(of.grace_seconds));
        Self {
            runs,
            restart: Restart {
                policy: process.restart.policy,
                max_retries: process.restart.max_retries.into(),
                backoff_ms: ms(process.restart.backoff_seconds),
            },
            gate: Gate { health: thresholds, grace_ms },
            boot_ms: BOOT_MS + prestart,
            drain_ms: ms(process.grace_seconds),
            stop_ms: ms(process.grace_seconds),
        }
    }
}
