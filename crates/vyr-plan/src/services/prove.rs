//! The invariants of services: what holds for every services plan.
//!
//! As with the network's (`prove`), a check reads the compiled plan alone, so that a node proves what
//! it is given and a compiler's fault is found. `tests/services/invariants.rs` plants a defect for
//! each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vyr_base::format_bytes;
use vyr_service::place::{NodeState, SlotName, taken_bytes};
use vyr_service::release::Release;

use super::plan::{IngressRoute, Mode, Placed, SLOTS_MAX, ServicesPlan};
use crate::intent::{MESH_SUBNET, Name, Subject, subnet};
use crate::prove::Violation;

/// Every IPv6 address of a node, and no IPv4 one.
const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What must hold for services.
#[derive(Debug)]
pub struct ServicesInvariant {
    /// Its name for ever: `S01`.
    pub id: &'static str,
    /// A short name.
    pub title: &'static str,
    /// Why it must hold.
    pub why: &'static str,
    check: fn(&Proof<'_>) -> Vec<Violation>,
}

/// What a check reads.
struct Proof<'a> {
    plan: &'a ServicesPlan,
    parent: Option<&'a ServicesPlan>,
}

/// All of them, in the order of their ids.
pub const SERVICES_INVARIANTS: &[ServicesInvariant] = &[
    ServicesInvariant {
        id: "S01",
        title: "each slot is placed once, and nothing else is",
        why: "a slot on two nodes answers twice, one on none not at all",
        check: slots,
    },
    ServicesInvariant {
        id: "S02",
        title: "slots are on nodes that take them",
        why: "a node that drains or is disabled is about to go",
        check: nodes,
    },
    ServicesInvariant {
        id: "S03",
        title: "the memory of a node is not given away twice",
        why: "memory is a hard limit: the kernel would end an instance that did nothing wrong",
        check: memory,
    },
    ServicesInvariant {
        id: "S04",
        title: "a release is its image and its manifest",
        why: "what is signed is a digest; it must be that of what will run",
        check: releases,
    },
    ServicesInvariant {
        id: "S05",
        title: "a hostname leads to one place",
        why: "with two, one of them gets the other one's clients",
        check: hostnames,
    },
    ServicesInvariant {
        id: "S06",
        title: "a port of an address means one thing",
        why: "who reads a client's name and who does not cannot share a port, and two raw services neither",
        check: ports,
    },
    ServicesInvariant {
        id: "S07",
        title: "clients that ask for no name have one place to go",
        why: "with two, the order of routes would decide whose they are",
        check: defaults,
    },
    ServicesInvariant {
        id: "S08",
        title: "an IPv4 address has one owner, which asked for it",
        why: "it is the only thing by which clients without a name are told apart",
        check: public,
    },
    ServicesInvariant {
        id: "S09",
        title: "the ingress leads to declared ports of instances that are placed there, and to all of them",
        why: "no service is reached by a way that it did not declare, and none reaches another",
        check: ingress,
    },
    ServicesInvariant {
        id: "S10",
        title: "each node's instances have a prefix of their own",
        why: "an address in two places would be the neighbour's as well",
        check: prefixes,
    },
    ServicesInvariant {
        id: "S11",
        title: "a service that requires secrets has them, and no other has any",
        why: "without them it starts and fails, at night",
        check: secrets,
    },
    ServicesInvariant {
        id: "S12",
        title: "a manifest breaks no rule of manifests",
        why: "a plan that was not made from files is held to the same rules",
        check: manifests,
    },
    ServicesInvariant {
        id: "S13",
        title: "enough operators can sign the next plan",
        why: "a threshold above the number of keys locks the site for ever",
        check: threshold,
    },
    ServicesInvariant {
        id: "S14",
        title: "a plan stays with its site",
        why: "another site's plan would take over its nodes and their addresses",
        check: site,
    },
];

/// The services invariant of an id.
pub fn services_invariant(id: &str) -> Option<&'static ServicesInvariant> {
    SERVICES_INVARIANTS.iter().find(|invariant| invariant.id.eq_ignore_ascii_case(id))
}

/// Everything that does not hold for `plan`; `parent` is the plan it replaces.
pub fn prove_services(plan: &ServicesPlan, parent: Option<&ServicesPlan>) -> Vec<Violation> {
    let proof = Proof { plan, parent };
    let mut violations = Vec::new();
    for invariant in SERVICES_INVARIANTS {
        let mut found = (invariant.check)(&proof);
        found.iter_mut().for_each(|violation| violation.id = invariant.id);
        found.sort();
        found.dedup();
        violations.extend(found);
    }
    violations
}

fn service(name: &Name) -> Subject {
    Subject::Service { name: name.to_string() }
}

fn in_service(name: &Name, text: impl ToString) -> Subject {
    Subject::InService { service: name.to_string(), text: text.to_string() }
}

fn node(name: &Name) -> Subject {
    Subject::Node { name: name.to_string() }
}

fn slots(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let processes = proof.plan.services.iter().flat_map(|entry| entry.manifest.processes.values());
    let count: usize = processes.map(|process| usize::from(process.scale)).sum();
    // A reader takes no more placements, so most of them would be missing.
    if count > SLOTS_MAX {
        let what = format!("the services have {count} slots, and a plan places {SLOTS_MAX}");
        return vec![Violation::new(Subject::Site, what)];
    }
    let slots = proof.plan.services.iter().flat_map(|entry| entry.manifest.slots());
    let wanted: BTreeSet<SlotName> = slots.map(|(slot, _)| slot).collect();
    let mut placed: BTreeMap<&SlotName, usize> = BTreeMap::new();
    for of in &proof.plan.placements {
        *placed.entry(&of.slot).or_default() += 1;
    }
    for slot in &wanted {
        let what = match placed.get(slot) {
            Some(1) => continue,
            None => format!("{slot} is on no node"),
            Some(count) => format!("{slot} is placed {count} times"),
        };
        found.push(Violation::new(service(&slot.service), what));
    }
    for slot in placed.keys().filter(|slot| !wanted.contains(**slot)) {
        let what = format!("{slot} is placed, and its service does not have it");
        found.push(Violation::new(service(&slot.service), what));
    }
    found
}

fn nodes(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for of in &proof.plan.placements {
        let what = match proof.plan.node(of.node.as_str()).map(|node| node.state) {
            Some(NodeState::Active) => continue,
            Some(state) => format!("{} is on {}, which is {state}", of.slot, of.node),
            None => format!("{} is on {}, which runs no services", of.slot, of.node),
        };
        found.push(Violation::new(node(&of.node), what));
    }
    found
}

fn memory(proof: &Proof<'_>) -> Vec<Violation> {
    let mut taken: BTreeMap<&Name, u64> = BTreeMap::new();
    for Placed { slot, node } in &proof.plan.placements {
        let entry = proof.plan.service(slot.service.as_str());
        let process = entry.and_then(|entry| entry.manifest.processes.get(&slot.process));
        let bytes = process.map_or(0, |of| taken_bytes(of.resources.memory_bytes));
        let all = taken.entry(node).or_default();
        *all = all.saturating_add(bytes);
    }
    let mut found = Vec::new();
    for of in &proof.plan.nodes {
        let all = taken.get(&of.name).copied().unwrap_or_default();
        if all > of.memory_bytes {
            let (all, most) = (format_bytes(all), format_bytes(of.memory_bytes));
            let what = format!("the instances of {} take {all} of {most}", of.name);
            let violation = Violation::new(node(&of.name), what);
            found.push(violation.hint("give the node more memory, or the services less"));
        }
    }
    found
}

fn releases(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for entry in &proof.plan.services {
        let release = Release::of(&entry.manifest, entry.image).id();
        if release != entry.release {
            let what =
                format!("{} is {release}, and the plan says {}", entry.name(), entry.release);
            found.push(Violation::new(service(entry.name()), what));
        }
        let reference = &entry.manifest.image.reference.0;
        let declared = reference.digest().ok().filter(|digest| *digest != entry.image);
        if declared.is_some() {
            let what =
                format!("{} declares {reference}, and {} would run", entry.name(), entry.image);
            found.push(Violation::new(service(entry.name()), what));
        }
    }
    found
}

fn hostnames(proof: &Proof<'_>) -> Vec<Violation> {
    let mut places: BTreeMap<_, (&Name, _)> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in &proof.plan.services {
        for route in &entry.manifest.routes {
            let Some(host) = &route.hostname else { continue };
            let to = (&route.process, &route.to, route.proxy_protocol);
            let here = (entry.name(), to);
            let first = *places.entry(host).or_insert(here);
            let what = match first {
                first if first == here => continue,
                (other, _) if other == entry.name() => {
                    format!("{host} leads to two places of {other}")
                }
                (other, _) => format!("{host} is a name of {other} and of {}", entry.name()),
            };
            let violation = Violation::new(in_service(entry.name(), host), what);
            found.push(violation.hint("take it from one of them"));
        }
    }
    found
}

/// Every address that clients may come to on whichever node, with what is declared for it.
fn declared(plan: &ServicesPlan) -> BTreeMap<(IpAddr, u16), Vec<Declared<'_>>> {
    let mut own: BTreeMap<&Name, Vec<IpAddr>> = BTreeMap::new();
    for of in plan.nodes.iter().flat_map(|node| &node.ipv4) {
        if let Some(owner) = &of.service {
            own.entry(owner).or_default().push(of.address.into());
        }
    }
    let mut all: BTreeMap<(IpAddr, u16), Vec<Declared<'_>>> = BTreeMap::new();
    for entry in &plan.services {
        for route in &entry.manifest.routes {
            let own = own.get(entry.name()).into_iter().flatten().filter(|_| route.ipv4);
            for address in [EVERYWHERE].iter().chain(own) {
                let at = all.entry((*address, route.port)).or_default();
                at.push(Declared { service: entry.name(), route });
            }
        }
    }
    all
}

struct Declared<'a> {
    service: &'a Name,
    route: &'a vyr_service::manifest::Route,
}

fn ports(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((address, port), all) in declared(proof.plan) {
        let raw = all.iter().filter(|of| of.route.hostname.is_none());
        let raw: Vec<&Declared<'_>> = raw.collect();
        let what = match (raw.as_slice(), all.len()) {
            ([], _) | ([_], 1) => continue,
            ([one], _) => {
                let other = all.iter().find(|of| !std::ptr::eq(of.route, one.route));
                let other = other.map_or_else(String::new, |of| of.service.to_string());
                format!(
                    "port {port} of {address} is raw for {} and by name for {other}",
                    one.service
                )
            }
            ([one, other, ..], _) => {
                format!("port {port} of {address} is raw for {} and {}", one.service, other.service)
            }
        };
        let last = raw.last().map(|of| in_service(of.service, format!("port = {port}")));
        let violation = Violation::new(last.unwrap_or(Subject::Site), what);
        found.push(violation.hint("give one of them another port"));
    }
    found
}

fn defaults(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((address, port), all) in declared(proof.plan) {
        let mut of = all.iter().filter(|of| of.route.default);
        if let (Some(one), Some(other)) = (of.next(), of.next()) {
            let (one, other) = (one.service, other.service);
            let what =
                format!("{one} and {other} are both the default of port {port} of {address}");
            let violation = Violation::new(in_service(other, "default"), what);
            found.push(violation.hint("take `default` from one of them"));
        }
    }
    found
}

fn public(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut nodes: BTreeMap<Ipv4Addr, &Name> = BTreeMap::new();
    for node_of in &proof.plan.nodes {
        let mut services: BTreeSet<&Name> = BTreeSet::new();
        for of in &node_of.ipv4 {
            if let Some(other) = nodes.insert(of.address, &node_of.name) {
                let what =
                    format!("{} is an address of {other} and of {}", of.address, node_of.name);
                let subject = Subject::Written { text: of.address.to_string() };
                found.push(Violation::new(subject, what).hint("an address is on one machine"));
            }
            let Some(owner) = &of.service else { continue };
            if proof.plan.service(owner.as_str()).is_none() {
                let what = format!("{} is allotted to {owner}, which is no service", of.address);
                let hint = format!("vyr lock --release {}", of.address);
                found.push(Violation::new(node(&node_of.name), what).hint(hint));
            }
            if !services.insert(owner) {
                let what = format!("{owner} has two addresses of {}", node_of.name);
                found.push(Violation::new(service(owner), what));
            }
        }
    }
    for Placed { slot, node } in &proof.plan.placements {
        let entry = proof.plan.service(slot.service.as_str());
        let mut routes = entry.into_iter().flat_map(|entry| &entry.manifest.routes);
        let asks = routes.any(|route| route.ipv4 && route.process == slot.process);
        let on = proof.plan.node(node.as_str()).filter(|_| asks);
        if let Some(on) = on
            && !on.ipv4.iter().any(|of| of.service.as_ref() == Some(&slot.service))
        {
            let what = format!("{} has no IPv4 address on {node}", slot.service);
            found.push(Violation::new(service(&slot.service), what).hint("vyr lock"));
        }
    }
    found
}

/// A way from a client to instances, in the order of its parts.
type Way<'a> = (&'a Name, IpAddr, u16, Mode, IngressRoute);

fn ingress(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let mut there: BTreeSet<Way<'_>> = BTreeSet::new();
    for node in &plan.nodes {
        for of in &node.ingress {
            let way =
                |route: &IngressRoute| (&node.name, of.address, of.port, of.mode, route.clone());
            there.extend(of.routes.iter().map(way));
        }
    }
    let placed = plan.placements.iter();
    let placed: BTreeSet<(&Name, &Name, &Name)> =
        placed.map(|of| (&of.node, &of.slot.service, &of.slot.process)).collect();
    let mut wanted: BTreeSet<Way<'_>> = BTreeSet::new();
    for (on, service, process) in placed {
        let (Some(node), Some(entry)) = (plan.node(on.as_str()), plan.service(service.as_str()))
        else {
            continue;
        };
        let ports = entry.manifest.processes.get(process).map(|of| &of.ports);
        for route in entry.manifest.routes.iter().filter(|route| route.process == *process) {
            let Some(port) = ports.and_then(|ports| ports.get(&route.to)) else { continue };
            let mode = match route.hostname {
                Some(_) => Mode::TlsPassthrough,
                None => Mode::TcpRaw,
            };
            let way = IngressRoute {
                hostname: route.hostname.clone(),
                service: service.clone(),
                process: process.clone(),
                internal: port.internal,
                default: route.default,
                proxy_protocol: route.proxy_protocol,
            };
            let own = node.ipv4.iter().filter(|of| of.service.as_ref() == Some(service));
            let own = own.filter(|_| route.ipv4).map(|of| IpAddr::from(of.address));
            for address in [EVERYWHERE].into_iter().chain(own) {
                wanted.insert((&node.name, address, route.port, mode, way.clone()));
            }
        }
    }
    let told = |(node, address, port, _, route): &Way<'_>| {
        let name = route.hostname.as_ref().map_or_else(|| address.to_string(), ToString::to_string);
        let IngressRoute { service, process, internal, .. } = route;
        format!("{name}:{port} on {node} to {service}/{process} port {internal}")
    };
    let one = |way: &Way<'_>, what: &str| {
        Violation::new(service(&way.4.service), format!("the way {} {what}", told(way)))
    };
    let extra = there.difference(&wanted).map(|way| one(way, "is not declared"));
    let missing = wanted.difference(&there).map(|way| one(way, "is declared and not there"));
    extra.chain(missing).collect()
}

fn prefixes(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut owners = BTreeMap::new();
    let mesh = subnet(&proof.plan.prefix, MESH_SUBNET);
    for of in &proof.plan.nodes {
        let prefix = ipnet::IpNet::from(of.prefix);
        let inside = proof.plan.prefix.contains(&prefix) && of.prefix.prefix_len() == 64;
        if !inside || prefix == mesh {
            let what = format!("{} of {} is not for instances", of.prefix, of.name);
            found.push(Violation::new(node(&of.name), what));
        }
        if let Some(other) = owners.insert(of.prefix, &of.name) {
            let what = format!("{other} and {} share {}", of.name, of.prefix);
            found.push(Violation::new(node(&of.name), what).hint("rename one of them"));
        }
    }
    found
}

fn secrets(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for entry in &proof.plan.services {
        let names = entry.manifest.secrets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let name = entry.name();
        let (what, hint) = match (names.first(), entry.secrets) {
            (Some(_), None) => (
                format!("{name} requires {} and has no secrets", names.join(", ")),
                format!("vyr secret set {} --service {name}", names[0]),
            ),
            (None, Some(_)) => (
                format!("{name} has secrets and says that it needs none"),
                "name them in `secrets.required`, or remove the file".to_owned(),
            ),
            _ => continue,
        };
        found.push(Violation::new(in_service(name, "secrets"), what).hint(hint));
    }
    found
}

fn manifests(proof: &Proof<'_>) -> Vec<Violation> {
    let faults = proof.plan.services.iter().flat_map(|entry| {
        let told = |fault: vyr_service::manifest::Fault| {
            let violation = Violation::new(service(entry.name()), fault.to_string());
            violation.hint(fault.hint)
        };
        entry.manifest.faults().into_iter().map(told)
    });
    faults.collect()
}

fn threshold(proof: &Proof<'_>) -> Vec<Violation> {
    crate::prove::too_few_keys(&proof.plan.trust).into_iter().collect()
}

fn site(proof: &Proof<'_>) -> Vec<Violation> {
    let of = |plan: &ServicesPlan| format!("{} with {}", plan.site, plan.prefix);
    let Some(parent) = proof.parent.filter(|parent| of(parent) != of(proof.plan)) else {
        return Vec::new();
    };
    let what = format!("the plan is for {}, and the one before for {}", of(proof.plan), of(parent));
    vec![Violation::new(Subject::Site, what).hint("a site keeps its name and its prefix")]
}
