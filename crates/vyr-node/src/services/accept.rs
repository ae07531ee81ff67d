//! Whether a services plan is taken: who approved it, over what, and whether all it needs is here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use vyr_base::Digest;
use vyr_plan::plan::TrustRoot;
use vyr_plan::services::{ServicesPlan, prove_services};
use vyr_plan::{Document, Root, Signed, approve};

use super::error::ServicesError;

/// A plan that is sent to a node.
#[derive(Debug)]
pub struct DeployRequest {
    /// The plan, as its file has it.
    pub plan: Vec<u8>,
    /// Approvals of it.
    pub signed: Vec<Signed>,
    /// The name of this node in the plan; none: as last time.
    pub node: Option<String>,
    /// Who asks.
    pub by: String,
    /// The encrypted files that the plan names, by digest; those that the node has may be left out.
    pub sealed: BTreeMap<Digest, Vec<u8>>,
}

/// A plan that may be carried out.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) digest: Digest,
    pub(super) plan: ServicesPlan,
    pub(super) node: String,
    pub(super) approvers: Vec<String>,
}

/// What a plan is measured against.
pub(super) struct Here<'a> {
    /// The plan that was taken last.
    pub(super) base: Option<&'a (Digest, ServicesPlan)>,
    /// The confirmed plan of the network, and those in charge by it.
    pub(super) network: Option<(Digest, TrustRoot)>,
    /// The name of this node, if it had one.
    pub(super) node: Option<&'a str>,
    /// The time.
    pub(super) now: Timestamp,
}

/// Decides about a plan, without its secrets.
pub(super) fn accept(request: &DeployRequest, here: &Here<'_>) -> Result<Accepted, ServicesError> {
    let plan = ServicesPlan::parse(&request.plan)?;
    let digest = Digest::of(&request.plan);
    let node = named(&plan, request.node.as_deref(), here.node)?;
    let approvers = match here.base {
        // Again: what was approved needs nobody a second time.
        Some((base, _)) if *base == digest => Vec::new(),
        base => {
            let base_digest = base.map(|(digest, _)| *digest);
            if let Some((_, base)) = base
                && plan.epoch() <= base.epoch()
            {
                let (epoch, applied) = (plan.epoch(), base.epoch());
                return Err(vyr_plan::ApprovalError::Replayed { epoch, applied }.into());
            }
            if plan.parent != base_digest && (base.is_some() || plan.parent.is_some()) {
                return Err(ServicesError::Base { parent: plan.parent, base: base_digest });
            }
            let root = match (base, &here.network) {
                (Some((digest, base)), _) => Root::Plan(base, *digest),
                // The first services plan of a host that has a network: its operators are in charge.
                (None, Some((_, trust))) => Root::Keys(trust),
                // The first plan of a host: its own operators, from now on.
                (None, None) => Root::Keys(&plan.trust),
            };
            let approved = approve(&plan, &digest, root, &request.signed, here.now)?;
            approved.approvers.into_iter().map(|one| one.principal).collect()
        }
    };
    let found = here.network.as_ref().map(|(digest, _)| *digest);
    if let Some(wanted) = plan.network
        && found != Some(wanted)
    {
        return Err(ServicesError::Network { wanted, found });
    }
    let violations = prove_services(&plan, here.base.map(|(_, plan)| plan));
    if !violations.is_empty() {
        return Err(ServicesError::Broken(violations));
    }
    Ok(Accepted { digest, plan, node, approvers })
}

/// Which node of the plan this is. It never changes: instances have addresses by it.
fn named(
    plan: &ServicesPlan,
    asked: Option<&str>,
    known: Option<&str>,
) -> Result<String, ServicesError> {
    let names = || plan.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    let node = match (asked, known) {
        (Some(asked), Some(known)) if asked != known => {
            return Err(ServicesError::Node(format!("this node is {known}, not {asked}")));
        }
        (Some(name), _) | (None, Some(name)) => name,
        // A site of one node has nothing to confuse.
        (None, None) => match &plan.nodes[..] {
            [only] => only.name.as_str(),
            _ => {
                let why = format!("which node of the plan is this: {}?", names());
                return Err(ServicesError::Node(why));
            }
        },
    };
    match plan.node(node) {
        Some(_) => Ok(node.to_owned()),
        None => Err(ServicesError::Node(format!("the plan has no node {node}, but {}", names()))),
    }
}
