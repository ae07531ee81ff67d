//! What a plan wants of one node, in the words of the state machine and of the ingress.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use vyr_base::Digest;
use vyr_plan::Document;
use vyr_plan::services::ServicesPlan;
use vyr_service::place::{NodeState, SlotName};
use vyr_service::run::{InstanceId, Run, Runs, SlotSpec, Wanted};

use super::error::ServicesError;
use super::ingress::Ready;

/// What should run on `node` by a plan.
pub(super) fn wanted(
    plan: &ServicesPlan,
    digest: Digest,
    node: &str,
) -> Result<Wanted, ServicesError> {
    let of_node = plan.node(node);
    let of_node = of_node.ok_or_else(|| ServicesError::Node(format!("the plan has no {node}")))?;
    let mut slots = BTreeMap::new();
    for slot in plan.slots_on(&of_node.name) {
        let entry = plan.service(slot.service.as_str());
        let found =
            entry.and_then(|entry| Some((entry, entry.manifest.processes.get(&slot.process)?)));
        let Some((entry, process)) = found else {
            return Err(ServicesError::Node(format!(
                "the plan places {slot}, which it does not have"
            )));
        };
        let runs = Runs { release: entry.release, image: entry.image, secrets: entry.secrets };
        slots.insert(slot.clone(), SlotSpec::of(process, runs));
    }
    let draining = of_node.state != NodeState::Active;
    Ok(Wanted { epoch: plan.epoch(), plan: digest, draining, slots })
}

/// The address of an instance.
pub(super) fn address(plan: &ServicesPlan, node: &str, id: InstanceId) -> Option<Ipv6Addr> {
    plan.node(node).map(|node| id.address(node.prefix.network()))
}

/// Where the ingress finds what is ready, by process: a backend for each of its instances.
pub(super) fn backends(
    plan: &ServicesPlan,
    node: &str,
    run: &Run,
    ready: &BTreeSet<InstanceId>,
) -> Ready {
    let mut found = Ready::new();
    for id in ready {
        let Some(instance) = run.instances().get(id) else { continue };
        let SlotName { service, process, .. } = &instance.slot;
        let Some(address) = address(plan, node, *id) else { continue };
        found.entry((service.to_string(), process.to_string())).or_default().push(address);
    }
    found
}
