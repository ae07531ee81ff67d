//! Where something in a services plan comes from: a slot's place, a name, an address, an image.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vyr_base::format_bytes;
use vyr_service::place::{NoRoom, OVERHEAD_BYTES, Placed, Refused, SlotName};

use super::compile::placement;
use super::diff::way;
use super::plan::{Listener, ServiceEntry, ServicesPlan};
use super::prove::services_invariant;
use crate::explain::{Explanation, Reason};
use crate::intent::{Intent, Name, Subject};

/// Everything that is known by the name `id`: an invariant (`S03`), a slot (`web/http/0`), a service,
/// a process (`web/http`), a node, a hostname, a public IPv4 address, a release. `plan` is that of
/// `intent` over `applied`; none: there is no plan, because a slot has no node.
pub fn explain_services(
    intent: &Intent,
    plan: Option<&ServicesPlan>,
    applied: Option<&ServicesPlan>,
    id: &str,
) -> Vec<Explanation> {
    let mut found = Vec::new();
    if let Some(invariant) = services_invariant(id) {
        found.push(Explanation {
            id: id.into(),
            what: format!("invariant {}: {}", invariant.id, invariant.title),
            because: vec![
                reason(invariant.why),
                reason("it is proved on every compile: vyr check"),
            ],
        });
    }
    if let Ok(slot) = id.parse::<SlotName>() {
        let placement = placement(intent, applied);
        let placed = placement.placed.get(&slot).map(|of| chosen(intent, &slot, of));
        let refused = placement.refused.get(&slot).map(|of| nowhere(intent, &slot, of));
        let ways = plan.map(|plan| ways_to(plan, &slot)).unwrap_or_default();
        found.extend(placed.or(refused).map(|mut told| {
            told.because.extend(ways);
            told
        }));
    }
    let Some(plan) = plan else { return found };
    let all = Explain { intent, plan };
    found.extend(plan.service(id).map(|entry| all.service(entry)));
    if let Some((service, process)) = id.split_once('/') {
        found.extend(all.process(service, process));
    }
    found.extend(all.node(id));
    found.extend(all.ways(id));
    found.extend(id.parse().ok().and_then(|address| all.address(address)));
    for entry in plan.services.iter().filter(|entry| entry.release.is_named(id)) {
        found.push(Explanation { id: id.into(), ..all.service(entry) });
    }
    found
}

fn reason(text: impl Into<String>) -> Reason {
    Reason { text: text.into(), place: None }
}

fn declared(intent: &Intent, slot: &SlotName) -> Reason {
    let text = format!("[processes.{}]", slot.process);
    let subject = Subject::InService { service: slot.service.to_string(), text };
    Reason { text: "declared".into(), place: intent.place(&subject) }
}

fn others(nodes: &BTreeMap<Name, NoRoom>) -> impl Iterator<Item = Reason> {
    nodes.iter().map(|(node, why)| reason(format!("not on {node}: {why} ({})", why.reason())))
}

/// How clients reach an instance of a slot, where it is.
fn ways_to(plan: &ServicesPlan, slot: &SlotName) -> Vec<Reason> {
    let placed = plan.placements.iter().find(|of| of.slot == *slot);
    let node = placed.and_then(|of| plan.node(of.node.as_str()));
    let mut found = Vec::new();
    for listener in node.iter().flat_map(|node| &node.ingress) {
        let own =
            |service: &Name, process: &Name| (service, process) == (&slot.service, &slot.process);
        let routes = listener.routes.iter().filter(|of| own(&of.service, &of.process));
        found.extend(routes.map(|route| reason(format!("reached as {}", way(listener, route)))));
    }
    if found.is_empty() && node.is_some() {
        found.push(reason("no route leads to it"));
    }
    found
}

fn chosen(intent: &Intent, slot: &SlotName, of: &Placed) -> Explanation {
    let first = [declared(intent, slot), reason(of.why.to_string())];
    let because = first.into_iter().chain(others(&of.others)).collect();
    Explanation { id: slot.to_string(), what: format!("a slot on {}", of.node), because }
}

fn nowhere(intent: &Intent, slot: &SlotName, of: &Refused) -> Explanation {
    let what = format!("a slot without a node: {}", of.why.reason());
    let because = [declared(intent, slot)].into_iter().chain(others(&of.nodes)).collect();
    Explanation { id: slot.to_string(), what, because }
}

struct Explain<'a> {
    intent: &'a Intent,
    plan: &'a ServicesPlan,
}

impl Explain<'_> {
    fn at(&self, text: impl Into<String>, subject: &Subject) -> Reason {
        Reason { text: text.into(), place: self.intent.place(subject) }
    }

    fn service(&self, entry: &ServiceEntry) -> Explanation {
        let name = entry.name();
        let mut because = vec![
            self.at("declared", &Subject::Service { name: name.to_string() }),
            reason(format!("image {} {}", entry.manifest.image.reference, entry.image)),
            reason(match entry.manifest.image.reference.0.digest() {
                Ok(_) => "the manifest names the digest",
                Err(_) => "vyr.lock says what the tag was when it was asked for",
            }),
        ];
        if let Some(secrets) = &entry.secrets {
            because.push(reason(format!("secrets/{name}.age is {secrets}")));
        }
        let slots = self.plan.placements.iter().filter(|of| of.slot.service == *name);
        because.extend(slots.map(|of| reason(format!("{} on {}", of.slot, of.node))));
        let what = format!("service {name}, release {}", entry.release.short());
        Explanation { id: name.to_string(), what, because }
    }

    fn process(&self, service: &str, process: &str) -> Option<Explanation> {
        let entry = self.plan.service(service)?;
        let of = entry.manifest.processes.iter().find(|(name, _)| name.as_str() == process)?.1;
        let resources = of.resources;
        let text = format!("[processes.{process}]");
        let subject = Subject::InService { service: service.into(), text };
        Some(Explanation {
            id: format!("{service}/{process}"),
            what: format!("a process with {} instances", of.scale),
            because: vec![
                self.at("declared", &subject),
                reason(format!(
                    "each takes {} and {} beside it of its node's memory",
                    format_bytes(resources.memory_bytes),
                    format_bytes(OVERHEAD_BYTES)
                )),
            ],
        })
    }

    fn node(&self, id: &str) -> Option<Explanation> {
        let node = self.plan.node(id)?;
        let slots: Vec<String> = self.plan.slots_on(&node.name).map(ToString::to_string).collect();
        let subject = Subject::Node { name: id.into() };
        let mut because = vec![
            self.at("declared", &subject),
            reason(format!("instances have addresses of {}: from its name", node.prefix)),
        ];
        if !slots.is_empty() {
            because.push(reason(format!("has {}", slots.join(", "))));
        }
        let memory = format_bytes(node.memory_bytes);
        let what = format!("node {id} is {}, with {memory} for services", node.state);
        Some(Explanation { id: id.into(), what, because })
    }

    /// The ways to a hostname, to a service or to a port.
    fn ways(&self, id: &str) -> Vec<Explanation> {
        let mut found = Vec::new();
        for node in &self.plan.nodes {
            for listener in &node.ingress {
                for route in &listener.routes {
                    let host = route.hostname.as_ref().is_some_and(|name| name.as_str() == id);
                    let service = route.service.as_str() == id;
                    if !host && !service {
                        continue;
                    }
                    let text = match &route.hostname {
                        Some(name) => name.to_string(),
                        None => listener.port.to_string(),
                    };
                    let subject = Subject::InService { service: route.service.to_string(), text };
                    let what = format!("a way on {}: {}", node.name, way(listener, route));
                    let because = vec![self.at("declared", &subject), reason(family(listener))];
                    found.push(Explanation { id: id.into(), what, because });
                }
            }
        }
        found
    }

    fn address(&self, address: Ipv4Addr) -> Option<Explanation> {
        let of = self.plan.nodes.iter().find_map(|node| {
            node.ipv4.iter().find(|of| of.address == address).map(|of| (node, of))
        });
        let (node, of) = of?;
        let subject = Subject::Written { text: address.to_string() };
        let mut because = vec![self.at("declared", &subject)];
        let what = match &of.service {
            Some(service) => {
                because.push(reason("vyr.lock gives it, until vyr lock --release"));
                format!("a public address of {}, allotted to {service}", node.name)
            }
            None => format!("a public address of {}, allotted to nobody", node.name),
        };
        Some(Explanation { id: address.to_string(), what, because })
    }
}

fn family(listener: &Listener) -> String {
    match listener.address.is_ipv6() {
        true => "every IPv6 address of the node listens".into(),
        false => "its routes have `ipv4 = true`, and the lock gave the address".into(),
    }
}
