//! What should run on a node, what runs, and what is to be done about the difference.
//!
//! ```text
//!  plan, operator --\                                   /--> orders: fetch, start, publish, watch,
//!  node: images,     >-- Event --evolve--> Run --orders<     stop, kill, forget, report
//!  machines, ingress/                       |           \--> wake_ms: when time alone changes something
//!                                           \--> why(slot), the same words for people and for JSON
//! ```
//!
//! A node keeps the whole of [`Run`] on its disk, and writes it before it carries out an order that
//! it did not see before. Orders say what is still to be done, not what was asked: after a crash
//! they are the same, and each can be carried out twice.
//!
//! Invariants, each with a seeded defect in `tests`:
//! 1. What is ready and still wanted leaves the ingress only when another one serves in its place.
//! 2. No slot has more than two instances that use memory; on the node at most one slot has two.
//! 3. A rollout ends, and one that failed leaves what served before it.
//! 4. A machine ends only after the ingress has left it, or by itself, or because it failed.
//! 5. An instance is never changed, what ended stays so, and an id never returns.
//! 6. What an operator stopped is not started; what failed is not started before its wait is over.
//! 7. Any event in any state is taken: what cannot have happened changes nothing.
//! 8. A world that does what it is told is left alone after finitely many orders.
//!
//! Deliberately elsewhere: which slots a node has (`place`), who carries orders out (`vyr-node`).

mod defects;
mod event;
mod evolve;
mod id;
mod instance;
mod order;
mod reason;
mod rollout;
mod settle;
mod slot;
#[cfg(test)]
mod tests;
mod wanted;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vyr_base::canonical::{self, CanonicalError};
use vyr_base::form::Name;
use vyr_base::{Category, Digest, Problem};

use crate::place::SlotName;

pub use event::{Event, Phase, What};
pub use id::{InstanceId, ParseInstanceIdError};
pub use instance::{Instance, State, Step};
pub use order::Order;
pub use reason::{End, Fault, Reason};
pub use rollout::{Progress, Rollout, Service, Slots};
pub use slot::{Off, Slot};
pub use wanted::{Gate, Restart, Runs, SlotSpec, Thresholds, Wanted};
pub use why::{Because, Why};

/// How long a rollout may go on without any progress, in milliseconds.
pub const ROLLOUT_MS: u64 = 10 * 60 * 1000;
/// How many new instances may end before a rollout has failed.
pub const ROLLOUT_FAILURES_MAX: u32 = 3;
/// How long a machine takes at most until its guest runs, with room for one that is emulated.
pub const BOOT_MS: u64 = 5 * 60 * 1000;
/// What has no check is ready when it ran for so long, in milliseconds: the grace of a check that says
/// nothing about it.
pub const SETTLE_MS: u64 = 10_000;
/// The longest wait before a restart, in milliseconds.
pub const BACKOFF_MAX_MS: u64 = 5 * 60 * 1000;
/// What was ready for so long has its restarts forgiven.
pub const STEADY_MS: u64 = 10 * 60 * 1000;
/// How much longer than its grace a process may take before its machine is ended: the guest ends it
/// itself then, and has to be heard.
pub const STOP_SLACK_MS: u64 = 5_000;
/// Instances of a slot that are kept after their end, for their logs.
pub const ENDED_KEPT: usize = 2;
/// Characters of what was said about a fault.
pub const SAID_CHARS_MAX: usize = 400;
/// Bytes of a state that is read back.
pub const STATE_BYTES_MAX: usize = 64 << 20;
/// The form of the state on disk.
const STATE_VERSION: u8 = 1;
/// Ends of rollouts that wait to be written down.
const REPORTS_MAX: usize = 1000;
/// Later than any node runs, and still an integer that canonical JSON can hold.
const TIME_MAX: u64 = (1 << 53) - 1;

/// A time from here.
fn clock(now: u64, lasts_ms: u64) -> u64 {
    now.saturating_add(lasts_ms).min(TIME_MAX)
}

/// What runs on a node, and what should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    version: u8,
    /// Of the node, drawn once: it goes into the ids of its instances.
    seed: Digest,
    now_ms: u64,
    /// Instances there have been.
    count: u64,
    plan: Option<PlanName>,
    services: BTreeMap<Name, Service>,
    slots: BTreeMap<SlotName, Slot>,
    instances: BTreeMap<InstanceId, Instance>,
    /// Machines of nobody, and whether each is gone.
    strays: BTreeMap<InstanceId, bool>,
    /// What the ingress should connect to.
    serving: Backends,
    /// What it said it does.
    served: Backends,
    reports: Vec<Report>,
}

/// The plan that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanName {
    /// Its epoch.
    pub epoch: u64,
    /// Its digest.
    pub digest: Digest,
    /// Whether it empties the node.
    pub draining: bool,
}

/// A set of backends, and its number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backends {
    generation: u64,
    ready: BTreeSet<InstanceId>,
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    service: Name,
    epoch: u64,
    failed: Option<Fault>,
}

/// How all rollouts of a plan went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Not all of them are over.
    Rolling,
    /// Everything serves.
    Succeeded,
    /// These did not, and why.
    Failed(BTreeMap<Name, Fault>),
}

/// A state that was read back is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It has more bytes than any state.
    #[error("the state of instances has more than {STATE_BYTES_MAX} bytes")]
    TooLarge,
    /// It has another form.
    #[error("the state of instances has the form {0}, and this program knows {STATE_VERSION}")]
    Version(u8),
    /// It is not as it was written.
    #[error("the state of instances is damaged")]
    Form(#[source] CanonicalError),
}

impl Problem for StateError {
    fn category(&self) -> Category {
        match self {
            Self::Version(_) => Category::Conflict,
            _ => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version(_) => Some("use the version of vyr that wrote it, or a later one".into()),
            _ => None,
        }
    }
}

impl Run {
    /// Of a node on which nothing ran. `seed` is drawn at random, once for each state that begins.
    pub fn new(seed: Digest) -> Self {
        Self {
            version: STATE_VERSION,
            seed,
            now_ms: 0,
            count: 0,
            plan: None,
            services: BTreeMap::new(),
            slots: BTreeMap::new(),
            instances: BTreeMap::new(),
            strays: BTreeMap::new(),
            serving: Backends::default(),
            served: Backends::default(),
            reports: Vec::new(),
        }
    }

    /// As it is kept on the disk: canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).expect("integers are counts and times below 2^53")
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// It is of another version, or was changed by something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Version {
            version: u8,
        }
        if bytes.len() > STATE_BYTES_MAX {
            return Err(StateError::TooLarge);
        }
        if let Ok(Version { version }) = serde_json::from_slice(bytes)
            && version != STATE_VERSION
        {
            return Err(StateError::Version(version));
        }
        canonical::parse(bytes).map_err(StateError::Form)
    }

    /// The plan that is wanted.
    pub fn plan(&self) -> Option<PlanName> {
        self.plan
    }

    /// The services, by name.
    pub fn services(&self) -> &BTreeMap<Name, Service> {
        &self.services
    }

    /// What is remembered of slots.
    pub fn slots(&self) -> &BTreeMap<SlotName, Slot> {
        &self.slots
    }

    /// All instances that are not forgotten.
    pub fn instances(&self) -> &BTreeMap<InstanceId, Instance> {
        &self.instances
    }

    /// Whether the ingress connects to an instance.
    pub fn is_served(&self, id: InstanceId) -> bool {
        self.served.ready.contains(&id)
    }

    /// Every release of which an instance runs or may be wanted again: its plan, manifest and
    /// secrets have to be kept.
    pub fn in_use(&self) -> BTreeSet<Runs> {
        let wanted =
            self.services.values().flat_map(|of| of.wanted.values().chain(of.good.values()));
        let lives = self.instances.values().filter(|of| of.step != Step::Gone).map(|of| &of.spec);
        wanted.chain(lives).map(|spec| spec.runs).collect()
    }

    /// Whether the ingress has taken in what it should know: whom it may connect to, and the ways of the plan.
    pub fn is_published(&self) -> bool {
        self.serving.generation == self.served.generation
    }

    /// How the plan that is wanted went.
    pub fn outcome(&self) -> Outcome {
        if self.services.values().any(Service::is_moving) {
            return Outcome::Rolling;
        }
        let faults = self.services.iter().filter_map(|(name, of)| Some((name, of.fault()?)));
        let faults: BTreeMap<Name, Fault> =
            faults.map(|(name, fault)| (name.clone(), fault.clone())).collect();
        match faults.is_empty() {
            true => Outcome::Succeeded,
            false => Outcome::Failed(faults),
        }
    }

    /// When time alone changes something: send a [`What::Tick`] then.
    pub fn wake_ms(&self) -> Option<u64> {
        // A retry that is due waits for something else by now.
        self.deadlines().filter(|at| *at > self.now_ms).min()
    }

    fn deadlines(&self) -> impl Iterator<Item = u64> {
        let instances = self.instances.values().filter_map(Instance::wake_ms);
        let rollouts = self.services.values().filter_map(|of| of.rollout.deadline_ms);
        let retries = self.slots.values().filter_map(|slot| slot.retry_ms);
        instances.chain(rollouts).chain(retries)
    }

    /// The instances of a slot, oldest first.
    pub fn of_slot<'a>(&'a self, slot: &SlotName) -> Vec<&'a Instance> {
        let mut found: Vec<&Instance> =
            self.instances.values().filter(|instance| instance.slot == *slot).collect();
        found.sort_by_key(|instance| instance.number);
        found
    }
}
