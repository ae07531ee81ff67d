//! Invariants of addresses and prefixes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Proof, Violation, end, peer_of};
use crate::address::private;
use crate::intent::Subject;
use crate::plan::LinkKind;
use crate::space::{Set, point, short};

const THE_MESH: &str = "the mesh";

fn written(prefix: &IpNet) -> Subject {
    Subject::Written { text: prefix.to_string() }
}

/// Owners of overlapping prefixes, of a list, the wider one first; at most one pair each.
fn overlaps<T: Clone>(mut owned: Vec<(IpNet, T)>) -> Vec<((IpNet, T), (IpNet, T))> {
    // Families apart: `::/0` has no address of IPv4, although IPv4 lies inside it on the line.
    let bounds = |net: &IpNet| {
        let v6 = matches!(net, IpNet::V6(_));
        ((v6, point(net.network())), (v6, point(net.broadcast())))
    };
    owned.sort_by_key(|(net, _)| (bounds(net).0, Reverse(bounds(net).1)));
    let mut found = Vec::new();
    let mut widest: Option<&(IpNet, T)> = None;
    for item in &owned {
        if let Some(before) = widest
            && bounds(&item.0).0 <= bounds(&before.0).1
        {
            found.push((before.clone(), item.clone()));
        }
        if widest.is_none_or(|before| bounds(&before.0).1 < bounds(&item.0).1) {
            widest = Some(item);
        }
    }
    found
}

pub(super) fn disjoint_allowed_ips(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        for link in &machine.links {
            let owned = link.peers.iter().flat_map(|peer| {
                peer.allowed_ips.iter().map(move |net| (*net, (&peer.id, peer.public_key)))
            });
            for ((net, (id, _)), (other, (by, _))) in overlaps(owned.collect()) {
                let what = format!(
                    "{} of {id} and {} of {by} overlap on {} of {}",
                    short(&net),
                    short(&other),
                    link.name,
                    machine.name
                );
                found.push(Violation::new(peer_of(link, by), what));
            }
        }
    }
    found
}

pub(super) fn exact_clients(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Clients) {
            for peer in &link.peers {
                let client = proof.plan.client(peer.id.as_str());
                // On a second end everybody may shake hands, and nobody has moved yet.
                let second = link.second_of.is_some();
                let staged = client.is_some_and(|of| {
                    of.staged_key == Some(peer.public_key)
                        || (second && of.public_key == Some(peer.public_key))
                }) && peer.allowed_ips.is_empty();
                let own = client
                    .filter(|of| of.public_key == Some(peer.public_key))
                    .and_then(|of| of.addresses.iter().find(|of| of.server == machine.name));
                let exact = own.is_some_and(|own| {
                    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
                    peer.allowed_ips == own.addresses
                        && own.addresses.iter().all(single)
                        && own.addresses.len() == link.routes.len()
                });
                if !staged && !exact {
                    let list: Vec<String> = peer.allowed_ips.iter().map(short).collect();
                    let what = format!(
                        "{} on {} of {} may send as {}",
                        peer.id,
                        link.name,
                        machine.name,
                        list.join(", ")
                    );
                    found.push(Violation::new(Subject::Client { id: peer.id.to_string() }, what));
                }
            }
        }
    }
    found
}

pub(super) fn exact_mesh(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Mesh) {
            let prefixes = Set::prefixes(&link.routes);
            for peer in &link.peers {
                let other = proof.plan.machine(peer.id.as_str()).and_then(|of| of.link("mesh"));
                let own =
                    other.map(|other| other.addresses.iter().map(|net| IpNet::from(net.addr())));
                let own: Vec<IpNet> = own.into_iter().flatten().collect();
                let inside = Set::prefixes(&peer.allowed_ips).within(&prefixes);
                let key = other.map(|other| other.public_key);
                let staged = other.is_some_and(|other| other.staged_key == Some(peer.public_key))
                    && peer.allowed_ips.is_empty();
                let exact = peer.allowed_ips == own && inside && key == Some(peer.public_key);
                if !exact && !staged {
                    let list: Vec<String> = peer.allowed_ips.iter().map(short).collect();
                    let what =
                        format!("{} takes {} from node {}", machine.name, list.join(", "), peer.id);
                    found.push(Violation::new(Subject::Node { name: peer.id.to_string() }, what));
                }
            }
            for route in link.routes.iter().filter(|route| route.prefix_len() < 64) {
                let what = format!("{} routes {route} into the mesh", machine.name);
                found.push(Violation::new(Subject::Node { name: machine.name.to_string() }, what));
            }
        }
    }
    found
}

pub(super) fn disjoint_prefixes(proof: &Proof<'_>) -> Vec<Violation> {
    let mut owned: Vec<(IpNet, String)> = Vec::new();
    for (machine, link, route) in proof.plan.link_prefixes(LinkKind::Clients) {
        owned.push((*route, format!("the clients of {}@{}", link.interface, machine.name)));
    }
    // All nodes have the one prefix of the mesh.
    let mesh: BTreeSet<IpNet> =
        proof.plan.link_prefixes(LinkKind::Mesh).map(|(_, _, route)| *route).collect();
    owned.extend(mesh.into_iter().map(|route| (route, THE_MESH.to_owned())));
    // Two interfaces may lead to one local network; two networks may not overlap otherwise.
    let mut lans: BTreeMap<IpNet, String> = BTreeMap::new();
    for interface in &proof.plan.interfaces {
        for lan in &interface.lan {
            lans.entry(*lan).or_insert_with(|| format!("the local network of {}", interface.name));
        }
    }
    owned.extend(lans);
    // One fault for a prefix that is too wide, and none for each that lies in it.
    let pairs = overlaps(owned);
    let groups = pairs.chunk_by(|(wide, _), (other, _)| wide == other);
    groups
        .filter_map(|group| {
            let ((net, of), (other, by)) = group.first()?;
            let more = match group.len() {
                1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            let what = format!("{net}, {of}, overlaps {other}, {by}{more}");
            // The mesh's prefix is written nowhere.
            let shown = if of == THE_MESH { other } else { net };
            Some(Violation::new(written(shown), what).hint("give one of them another prefix"))
        })
        .collect()
}

pub(super) fn private_only(proof: &Proof<'_>) -> Vec<Violation> {
    let (plan, private) = (proof.plan, private());
    let site = Set::prefixes([&plan.prefix]);
    let mut found = Vec::new();
    let mut check = |net: &IpNet, inside: &Set, what: String| {
        if !Set::prefixes([net]).within(inside) {
            let violation = Violation::new(written(net), what);
            found.push(violation.hint("use a prefix of the site's own, or of 10.0.0.0/8"));
        }
    };
    for interface in &plan.interfaces {
        for lan in &interface.lan {
            check(
                lan,
                &private,
                format!("the local network {lan} of {} is not private", interface.name),
            );
        }
    }
    for machine in &plan.machines {
        for link in &machine.links {
            let own = link.addresses.iter().map(IpNet::trunc).collect::<Vec<_>>();
            // One fault for a prefix, and none for each address in it.
            let inside = |net: &IpNet| link.routes.iter().any(|route| route.contains(net));
            let allowed = link.peers.iter().flat_map(|peer| &peer.allowed_ips);
            let allowed = allowed.filter(|net| !inside(net));
            for net in link.routes.iter().chain(&own).chain(allowed) {
                let wanted = if matches!(net, IpNet::V6(_)) { &site } else { &private };
                check(
                    net,
                    wanted,
                    format!("{net} on {} of {} is not the site's own", link.name, machine.name),
                );
            }
        }
    }
    found
}

pub(super) fn owners(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let mut found = Vec::new();
    let mut owners: BTreeMap<IpNet, String> = BTreeMap::new();
    for machine in &plan.machines {
        // A second end answers at the addresses of the first: that is N22's to say.
        for link in machine.links.iter().filter(|link| machine.first_of(link).is_none()) {
            for own in &link.addresses {
                let name = format!("{} of {}", link.name, machine.name);
                if let Some(other) = owners.insert(IpNet::from(own.addr()), name.clone()) {
                    let what = format!("{} belongs to {name} and to {other}", own.addr());
                    found.push(Violation::new(end(machine, link), what));
                }
            }
        }
    }
    for client in &plan.clients {
        let subject = || Subject::Client { id: client.id.to_string() };
        for of in &client.addresses {
            let link = plan
                .machine(of.server.as_str())
                .and_then(|machine| machine.link(client.interface.as_str()));
            let prefixes = Set::prefixes(link.into_iter().flat_map(|link| &link.routes));
            for address in &of.addresses {
                if let Some(other) = owners.insert(*address, client.id.to_string()) {
                    let what =
                        format!("{} belongs to {} and to {other}", short(address), client.id);
                    found.push(Violation::new(subject(), what).hint("run `vyr lock`"));
                }
                // The first and the last address of an IPv4 prefix are not a machine's.
                let edges = link.into_iter().flat_map(|link| &link.routes).any(|route| {
                    let addr = address.addr();
                    matches!(route, IpNet::V4(_))
                        && (route.network() == addr || route.broadcast() == addr)
                });
                if !Set::prefixes([address]).within(&prefixes) || edges {
                    let what = format!(
                        "{} of {} is none of {}@{}'s",
                        short(address),
                        client.id,
                        client.interface,
                        of.server
                    );
                    found.push(Violation::new(subject(), what).hint("run `vyr lock`"));
                }
            }
        }
    }
    found
}
