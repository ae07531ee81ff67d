//! What is recorded of services: a deploy that began, one that ended, one that was refused, the life of
//! each instance, and slots that an operator wants to be empty.
//!
//! Fields stand in the order of their JSON names, as in `statement`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use crate::network::{NetworkNode, is_name};
use crate::statement::{About, Statement};

/// `predicateType` of the statement of a deploy. A name, not an address: nothing is fetched.
pub const DEPLOY_PREDICATE: &str = "urn:vyr:deploy:v0";

/// The statement of a deploy that has ended.
pub type DeployStatement = Statement<DeployPredicate>;

/// What is stated of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployPredicate {
    /// The deploy.
    pub deploy: Deploy,
    /// Whose journal says so.
    pub node: NetworkNode,
}

/// A services plan that a node has come to, or has given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The operators who approved the plan.
    pub approvers: Vec<String>,
    /// Who asked for it: `uid:0`, or the name of a certificate.
    pub by: String,
    /// Its name: 32 hex digits, drawn at random.
    pub deploy: String,
    /// The node's name in the plan.
    pub machine: String,
    /// What became of it.
    pub outcome: DeployOutcome,
    /// The services plan that was in force before; `None`: there was none.
    pub parent: Option<Digest>,
    /// The plan it led to, or would have.
    pub plan: Digest,
    /// What runs on this node by that plan, sorted by service.
    pub releases: Vec<DeployRelease>,
    /// When what happened.
    pub timings: DeployTimings,
    /// Why it ended so. At most 400 characters.
    pub why: String,
}

/// What became of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployOutcome {
    /// All it wants here is ready.
    Succeeded,
    /// It stopped; what served before serves.
    Failed,
}

impl DeployOutcome {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// One service of a deploy. It has no order of its own: that of a statement is by service, and fields are in
/// the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRelease {
    /// The digest of the image's manifest.
    pub image: Digest,
    /// The digest of the release.
    pub release: Digest,
    /// The service's name.
    pub service: String,
}

/// When a deploy began and ended, by the node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployTimings {
    /// When it was accepted.
    pub begun: Timestamp,
    /// When all was ready, or it was given up.
    pub ended: Timestamp,
}

/// A services plan was accepted, and is being carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployBegun {
    /// Who asked.
    pub by: String,
    /// The name of the deploy: 32 hex digits.
    pub deploy: String,
    /// The plan that was in force.
    pub parent: Option<Digest>,
    /// The plan.
    pub plan: Digest,
}

/// A services plan that the node refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRefused {
    /// Who asked.
    pub by: String,
    /// The plan that was sent.
    pub plan: Digest,
    /// Why. At most 400 characters.
    pub why: String,
}

/// One step in the life of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceStep {
    /// The instance; its name never returns.
    pub instance: String,
    /// Why it is so, in one of the words of the documentation; `None`: it was wanted so.
    pub reason: Option<String>,
    /// What it is a life of.
    pub release: Digest,
    /// `service/process/ordinal`.
    pub slot: String,
    /// The figure behind the reason, for a person. At most 400 characters.
    pub why: Option<String>,
}

/// What an operator wants of a slot, whatever the plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotWish {
    /// Who asked: `uid:0`, or the name of a certificate.
    pub by: String,
    /// `service/process/ordinal`.
    pub slot: String,
}

impl About for DeployPredicate {
    const TYPE: &'static str = DEPLOY_PREDICATE;
    const SUBJECT: &'static str = "plan";

    fn subject(&self) -> Digest {
        self.deploy.plan
    }
}

/// What cannot be so in a deploy, if anything.
pub(crate) fn deploy_fault(deploy: &Deploy) -> Option<&'static str> {
    if !is_name(&deploy.deploy) {
        return Some("its name is not 32 hex digits");
    }
    if deploy.timings.ended < deploy.timings.begun {
        return Some("it ended before it began");
    }
    let releases = &deploy.releases;
    match releases.is_sorted_by(|a, b| a.service < b.service) {
        true => None,
        false => Some("its releases are not sorted by service, each once"),
    }
}
