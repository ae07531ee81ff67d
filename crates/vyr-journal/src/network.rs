//! What is recorded of a host's network: a change that has ended, one that was refused, and a key
//! that took over.
//!
//! Fields stand in the order of their JSON names, as in `statement`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use crate::ids::Origin;
use crate::statement::{About, Statement};

/// `predicateType` of the statement of a change. A name, not an address: nothing is fetched.
pub const NETWORK_PREDICATE: &str = "urn:vyr:network:v0";

/// Hex digits of the name of a change.
const CHANGE_DIGITS: usize = 32;

/// The statement of a change that has ended.
pub type NetworkStatement = Statement<NetworkPredicate>;

/// What is stated of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPredicate {
    /// The change.
    pub change: NetworkChange,
    /// Whose journal says so.
    pub node: NetworkNode,
}

/// A change of the network that has ended: kept, or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkChange {
    /// The digest of the host as it was read back at the end; `None`: the machine was started anew
    /// meanwhile, and forgot all of it.
    pub after: Option<Digest>,
    /// The operators who approved the plan, if they were asked.
    pub approvers: Vec<String>,
    /// What changed the host: `kernel` or `userspace`.
    pub backend: String,
    /// The plan that was in force before; `None`: there was none.
    pub base: Option<Digest>,
    /// The digest of the host as it was read before.
    pub before: Digest,
    /// Who asked for it, in that host's words.
    pub by: String,
    /// Its name: 32 hex digits, drawn at random.
    pub change: String,
    /// The host, as it calls itself.
    pub host: String,
    /// Those of the plan on this host, sorted.
    pub interfaces: Vec<String>,
    /// The host's name in the plan.
    pub machine: String,
    /// What became of it.
    pub outcome: NetworkOutcome,
    /// The plan it led to.
    pub plan: Digest,
    /// The commit of the site's repository that the plan was sent from, if it has one.
    pub site_commit: Option<String>,
    /// When what happened.
    pub timings: NetworkTimings,
    /// Why it ended so. At most 400 characters.
    pub why: String,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkOutcome {
    /// Its plan is in force.
    Confirmed,
    /// The plan before it is.
    TakenBack,
}

impl NetworkOutcome {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::TakenBack => "taken back",
        }
    }
}

/// When a change began and ended, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTimings {
    /// Before its first step.
    pub begun: Timestamp,
    /// When it was confirmed or had been taken back.
    pub ended: Timestamp,
}

/// Whose journal a change is recorded in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkNode {
    /// The journal.
    pub origin: Origin,
    /// The version of the program.
    pub version: String,
}

/// A change that a host refused to begin: somebody else's was in the way, or it was not approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRefused {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// Who asked.
    pub by: String,
    /// The name of this attempt: 32 hex digits, drawn at random.
    pub change: String,
    /// Who came first, if that is why.
    pub first: Option<NetworkFirst>,
    /// The plan that was sent.
    pub plan: Digest,
    /// Why. At most 400 characters.
    pub why: String,
}

/// The change that was in the way of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFirst {
    /// Who asked for it.
    pub by: String,
    /// Its plan.
    pub plan: Digest,
}

/// A new key took the addresses of the one before it over, as the plan in force allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkMoved {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// The name of this move: 32 hex digits.
    pub change: String,
    /// Whose keys: the device or node.
    pub id: String,
    /// The link.
    pub link: String,
    /// The public key that has the addresses.
    pub new: String,
    /// The public key that had them.
    pub old: String,
    /// The plan that allows it.
    pub plan: Digest,
    /// The link that has the addresses, if it is another one: it was the server's key that took
    /// over, or a device that went back. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl About for NetworkPredicate {
    const TYPE: &'static str = NETWORK_PREDICATE;
    const SUBJECT: &'static str = "plan";

    fn subject(&self) -> Digest {
        self.change.plan
    }
}

/// What cannot be so in a change, if anything.
pub(crate) fn change_fault(change: &NetworkChange) -> Option<&'static str> {
    if !is_name(&change.change) {
        return Some("its name is not 32 hex digits");
    }
    if change.timings.ended < change.timings.begun {
        return Some("it ended before it began");
    }
    if !change.interfaces.is_sorted() {
        return Some("its interfaces are not sorted");
    }
    match (change.outcome, change.after) {
        (NetworkOutcome::Confirmed, None) => Some("it was confirmed, and nothing was read back"),
        _ => None,
    }
}

/// Whether this may be the name of a change.
pub(crate) fn is_name(change: &str) -> bool {
    change.len() == CHANGE_DIGITS && change.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
