//! What a node tells its state machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_base::form::Name;

use super::id::InstanceId;
use super::reason::{End, Fault};
use super::wanted::Wanted;
use crate::place::SlotName;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Milliseconds since 1970 as the node counts them: its clock's at its start, and monotonic
    /// from there. One before the last event's is taken for the last event's.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happened. What cannot have happened to the state that it meets changes nothing: it may come
/// late, twice, or of an instance that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A plan was accepted: verified, and approved by those in charge. Only a greater epoch counts.
    Plan(Wanted),
    /// The node starts again. The time it was away counts for no deadline.
    NodeStarted,
    /// Time went on; see [`Run::wake_ms`](super::Run::wake_ms).
    Tick,
    /// All machines there are, after `machines` was started: what is missing is gone, and what
    /// nobody knows will be ended.
    Found(BTreeMap<InstanceId, Phase>),

    /// The root disk of an image is here.
    ImageReady(Digest),
    /// It is not, and why.
    ImageFailed(Digest, Fault),

    /// The machine of an instance runs.
    Started(InstanceId),
    /// It could not be started, or its network or secrets could not be made; it is not there.
    StartFailed(InstanceId, Fault),
    /// How far its guest is.
    Guest(InstanceId, Phase),
    /// A check was made.
    Health {
        /// Of which instance.
        id: InstanceId,
        /// Whether it passed.
        passed: bool,
        /// What was seen.
        said: String,
    },
    /// The machine is not there (any more); also the answer to [`Order::Kill`](super::Order::Kill).
    Gone(InstanceId),
    /// Its directory is gone too.
    Forgotten(InstanceId),

    /// The ingress uses this generation.
    Published(u64),
    /// The ingress lost what it had.
    Unpublished,
    /// No connection to the instance is left.
    Drained(InstanceId),
    /// The end of a rollout was written down.
    Reported {
        /// Of which service.
        service: Name,
        /// Of which plan.
        epoch: u64,
    },

    /// An operator wants a slot to be empty, whatever the plan says.
    Halt(SlotName),
    /// An operator wants it to run again; also one that was given up is tried again.
    Resume(SlotName),
}

/// How far a machine and its guest are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The machine runs, the process does not yet.
    Starting,
    /// The process runs.
    Running,
    /// It ended; the machine may still be there.
    Ended(End),
    /// It never ran.
    Failed(Fault),
    /// The machine is not there; how its process ended is not known.
    Gone,
}
