//! Manifests, nodes and lock become a services plan: releases, placements and ways in are derived
//! here and nowhere else.
//!
//! A compilation allocates nothing and asks nobody. It cannot stop half-way but where a slot has no
//! node, or where two hashes agree.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use vyr_base::{Diagnostic, Digest};
use vyr_service::manifest::Manifest;
use vyr_service::place::{NodeRoom, Placement, Refused, SlotDemand, SlotName, Unplaced, place};
use vyr_service::release::Release;

use super::plan::{
    IngressRoute, Listener, Mode, NODES_MAX, Placed, PublicAddress, SERVICES_BYTES_MAX,
    SERVICES_MAX, SERVICES_VERSION, SLOTS_MAX, ServiceEntry, ServiceNode, ServicesPlan,
};
use crate::intent::{Intent, MESH_SUBNET, Name, Subject, subnet};
use crate::lock::{Applied, Lock};
use crate::plan::{Kind, TrustRoot};

/// The services plan of `intent` with what `lock` allocated, over the one that is applied. `lock`
/// must not be stale ([`super::stale`]); `network` is the network plan that is in force.
///
/// # Errors
/// Each slot without a node, with a reason for every node; two prefixes that agree.
pub fn compile_services(
    intent: &Intent,
    lock: &Lock,
    applied: Option<&Applied<ServicesPlan>>,
    network: Option<Digest>,
) -> Result<ServicesPlan, Vec<Diagnostic>> {
    if let Some(fault) = too_many(intent) {
        return Err(vec![fault]);
    }
    let placement = placement(intent, applied.map(|applied| &applied.plan));
    let mut faults = refusals(intent, &placement);
    faults.extend(collisions(intent));
    if !faults.is_empty() {
        return Err(faults);
    }
    let site = &intent.site;
    let next = lock.services.next.first();
    let services: Vec<ServiceEntry> =
        intent.services.iter().filter_map(|of| entry(intent, lock, of.manifest())).collect();
    let placements: Vec<Placed> = placement
        .placed
        .iter()
        .map(|(slot, of)| Placed { slot: slot.clone(), node: of.node.clone() })
        .collect();
    let nodes = rooms(intent)
        .map(|room| {
            let ipv4 = public_addresses(intent, lock, &room.node);
            let ingress = ingress(intent, &placements, &room.node, &ipv4);
            ServiceNode {
                prefix: service_prefix(&site.prefix.0, &room.node),
                name: room.node,
                state: room.state,
                memory_bytes: room.memory_bytes,
                cpu_milli: u32::try_from(room.cpu_milli).unwrap_or(u32::MAX),
                ipv4,
                ingress,
            }
        })
        .collect();
    let plan = ServicesPlan {
        version: SERVICES_VERSION,
        kind: Kind::Services,
        site: (*site.name).clone(),
        epoch: next.map_or(1, |next| next.epoch),
        parent: next.and_then(|next| next.parent),
        network,
        trust: TrustRoot {
            threshold: site.operators.threshold_of(Kind::Services),
            operators: intent.signers.clone(),
            from: Vec::new(),
        },
        prefix: site.prefix.0,
        nodes,
        services,
        placements,
    };
    match plan.to_bytes().map_or(usize::MAX, |bytes| bytes.len()) {
        ..=SERVICES_BYTES_MAX => Ok(plan),
        bytes => {
            let what = format!("the services plan has {bytes} bytes");
            let fault = Diagnostic::error("too-large", what);
            let fault = fault.why(format!("at most {SERVICES_BYTES_MAX} are read"));
            Err(vec![fault.hint("put what is long in a manifest into a file of the image")])
        }
    }
}

/// What no plan may have so many of.
fn too_many(intent: &Intent) -> Option<Diagnostic> {
    let processes = intent.services.iter().flat_map(|of| of.manifest().processes.values());
    let slots: usize = processes.map(|process| usize::from(process.scale)).sum();
    let counts = [
        ("nodes", rooms(intent).count(), NODES_MAX),
        ("services", intent.services.len(), SERVICES_MAX),
        ("slots", slots, SLOTS_MAX),
    ];
    let (what, count, most) = counts.into_iter().find(|(_, count, most)| count > most)?;
    let fault = Diagnostic::error("too-many", format!("the site has {count} {what}"));
    Some(fault.why(format!("a services plan has at most {most}")))
}

/// Where each slot goes and why; previous places are those of the plan that is applied.
pub(super) fn placement(intent: &Intent, applied: Option<&ServicesPlan>) -> Placement {
    let before: BTreeMap<&SlotName, &Name> = applied
        .into_iter()
        .flat_map(|plan| plan.placements.iter().map(|of| (&of.slot, &of.node)))
        .collect();
    let mut demands = Vec::new();
    for manifest in intent.services.iter().map(|of| of.manifest()) {
        demands.extend(manifest.slots().map(|(slot, of)| {
            let previous = before.get(&slot).map(|node| (*node).clone());
            let (memory_bytes, cpu_milli) = (of.resources.memory_bytes, of.resources.cpu_milli);
            SlotDemand { slot, memory_bytes, cpu_milli, previous }
        }));
    }
    place(&rooms(intent).collect::<Vec<_>>(), &demands)
}

/// The nodes that run services.
fn rooms(intent: &Intent) -> impl Iterator<Item = NodeRoom> {
    intent.site.nodes.iter().filter_map(|(name, node)| {
        Some(NodeRoom {
            node: (**name).clone(),
            state: node.services.into(),
            memory_bytes: node.memory.as_ref()?.0,
            cpu_milli: u64::from(**node.cpu.as_ref()?) * 1000,
        })
    })
}

/// A fault for each process of which a slot has no node: what is said of one holds for all.
fn refusals(intent: &Intent, placement: &Placement) -> Vec<Diagnostic> {
    let mut processes: BTreeMap<(&Name, &Name), Vec<(&SlotName, &Refused)>> = BTreeMap::new();
    for (slot, refused) in &placement.refused {
        processes.entry((&slot.service, &slot.process)).or_default().push((slot, refused));
    }
    let told = |((service, process), of): ((&Name, &Name), Vec<(&SlotName, &Refused)>)| {
        let (slot, refused) = of[0];
        let what = match of.len() {
            1 => format!("{slot} has no node: {}", refused.why.reason()),
            n => format!("{slot} and {} more have no node: {}", n - 1, refused.why.reason()),
        };
        let why = refused.nodes.iter().map(|(node, why)| format!("{node}: {why}"));
        let why = why.collect::<Vec<_>>().join("\n  ");
        let fault = match why.is_empty() {
            true => Diagnostic::error("unplaced", what)
                .why("no node of site.toml has `memory` and `cpu`")
                .hint("add both to the nodes that are to run services"),
            false => Diagnostic::error("unplaced", what).why(why).hint(match refused.why {
                Unplaced::NoNodesActive => "say `services = \"active\"` of one of them",
                Unplaced::NoCapacityMemory => "give a node more, or the processes less",
            }),
        };
        let (service, text) = (service.to_string(), format!("[processes.{process}]"));
        Diagnostic { place: intent.place(&Subject::InService { service, text }), ..fault }
    };
    processes.into_iter().map(told).collect()
}

/// The /64 of a node's instances. From the node's name alone: another node changes nobody's.
pub fn service_prefix(site: &IpNet, node: &Name) -> Ipv6Net {
    let digest = Digest::of(format!("vyr-services-v1\n{node}\n").as_bytes());
    let number = u16::from_str_radix(&digest.hex()[..4], 16).unwrap_or_default();
    // The last one is the mesh's.
    let prefix = subnet(site, number.min(MESH_SUBNET - 1));
    match prefix {
        IpNet::V6(prefix) => prefix,
        IpNet::V4(_) => unreachable!("a /64 of a /48 is IPv6"),
    }
}

/// Two nodes, or a node and clients, whose prefixes agree: seldom, and then somebody has to move.
fn collisions(intent: &Intent) -> Vec<Diagnostic> {
    let site = &intent.site;
    let ends = site.interfaces.values().flat_map(|interface| interface.at.values());
    let mut taken: BTreeMap<IpNet, String> =
        ends.flat_map(|end| end.vpn.iter()).map(|of| (of.0, "clients".to_owned())).collect();
    let mut faults = Vec::new();
    for room in rooms(intent) {
        let prefix = service_prefix(&site.prefix.0, &room.node);
        if let Some(other) = taken.insert(prefix.into(), room.node.to_string()) {
            let what = format!("instances of {} and {other} would share {prefix}", room.node);
            let fault = Diagnostic::error("address-collision", what)
                .why("the prefix comes from the node's name")
                .hint("rename the node, or give the clients another prefix");
            let place = intent.place(&Subject::Node { name: room.node.to_string() });
            faults.push(Diagnostic { place, ..fault });
        }
    }
    faults
}

/// A service with its image; none: its tag is pinned to nothing, and the lock is stale.
fn entry(intent: &Intent, lock: &Lock, manifest: &Manifest) -> Option<ServiceEntry> {
    let reference = &manifest.image.reference.0;
    let image = reference.digest().ok().or_else(|| lock.services.pin(reference))?;
    Some(ServiceEntry {
        release: Release::of(manifest, image).id(),
        image,
        secrets: intent.files.secrets.get(manifest.service.as_str()).copied(),
        manifest: manifest.clone(),
    })
}

/// A node's public addresses, each with the service that the lock gives it to.
fn public_addresses(intent: &Intent, lock: &Lock, node: &Name) -> Vec<PublicAddress> {
    let declared = intent.public_ipv4(node);
    let owner = |address| {
        let mut of = lock.services.allotments().filter(|(on, at, _)| *on == node && *at == address);
        of.next().map(|(_, _, owner)| owner.clone())
    };
    declared.into_iter().map(|address| PublicAddress { address, service: owner(address) }).collect()
}

/// The listeners of a node: for each address and port, the ways to what is placed there.
fn ingress(
    intent: &Intent,
    placements: &[Placed],
    node: &Name,
    ipv4: &[PublicAddress],
) -> Vec<Listener> {
    let here = placements.iter().filter(|of| of.node == *node);
    let here: BTreeSet<(&Name, &Name)> =
        here.map(|of| (&of.slot.service, &of.slot.process)).collect();
    let mut all: BTreeMap<(IpAddr, u16, Mode), BTreeSet<IngressRoute>> = BTreeMap::new();
    for manifest in intent.services.iter().map(|of| of.manifest()) {
        let service = &manifest.service;
        for route in &manifest.routes {
            let port =
                manifest.processes.get(&route.process).and_then(|of| of.ports.get(&route.to));
            let (true, Some(port)) = (here.contains(&(service, &route.process)), port) else {
                continue;
            };
            let mode = match route.hostname {
                Some(_) => Mode::TlsPassthrough,
                None => Mode::TcpRaw,
            };
            let way = IngressRoute {
                hostname: route.hostname.clone(),
                service: service.clone(),
                process: route.process.clone(),
                internal: port.internal,
                default: route.default,
                proxy_protocol: route.proxy_protocol,
            };
            let own = ipv4.iter().filter(|of| route.ipv4 && of.service.as_ref() == Some(service));
            let own = own.map(|of| IpAddr::from(of.address));
            for address in [IpAddr::from(Ipv6Addr::UNSPECIFIED)].into_iter().chain(own) {
                all.entry((address, route.port, mode)).or_default().insert(way.clone());
            }
        }
    }
    let listener = |((address, port, mode), routes): (_, BTreeSet<IngressRoute>)| Listener {
        address,
        port,
        mode,
        routes: routes.into_iter().collect(),
    };
    all.into_iter().map(listener).collect()
}
