//! Invariants of what passes: decided by intersecting regions of packets.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Proof, Violation, end, machine_of};
use crate::address::internet as the_internet;
use crate::compile::INTERNET;
use crate::intent::{Name, Subject};
use crate::plan::{LinkKind, Toward};
use crate::reach::Passage;
use crate::space::{Block, Region, Set, point};

/// A packet that a passage lets to `destination`, as a violation.
fn shown(
    passage: &Passage<'_>,
    destination: &Set,
    what: impl FnOnce() -> String,
) -> Option<Violation> {
    let block = Block { destination: destination.clone(), ..passage.block.clone() };
    let packet = passage.block.intersect(&block).packet()?;
    let violation = Violation::new(end(passage.machine, passage.link), what());
    Some(violation.packet(packet, passage.rule.id.as_str()))
}

impl Proof<'_> {
    fn prefixes(&self, kind: LinkKind, wanted: impl Fn(&Name) -> bool) -> Set {
        let all = self.plan.link_prefixes(kind);
        Set::prefixes(all.filter(|(_, link, _)| wanted(&link.interface)).map(|(_, _, net)| net))
    }

    /// The servers' own addresses inside links.
    fn gateways(&self) -> Set {
        let links = self.plan.machines.iter().flat_map(|machine| &machine.links);
        let own = links.flat_map(|link| link.addresses.iter().map(|net| IpNet::from(net.addr())));
        Set::prefixes(&own.collect::<Vec<_>>())
    }

    fn management(&self) -> Set {
        let all = self.plan.machines.iter().flat_map(|machine| &machine.management);
        Set::prefixes(&all.map(|ip| IpNet::from(*ip)).collect::<Vec<_>>())
    }

    /// A packet of `wanted` that does not arrive, as a violation.
    fn not_reached(
        &self,
        reached: &Region,
        wanted: &Block,
        subject: Subject,
        what: impl FnOnce() -> String,
    ) -> Option<Violation> {
        let packet = reached.missing(wanted).packet()?;
        let mut accepted = self.reach.permitted.iter();
        let rule = accepted.find(|passage| passage.block.meets(&packet.block()));
        let violation = match rule {
            // The server would take it; the client never sends it there.
            Some(passage) => Violation::new(subject, format!("{}: no tunnel carries it", what()))
                .packet(packet, passage.rule.id.as_str()),
            None => Violation { packet: Some(packet), ..Violation::new(subject, what()) },
        };
        Some(violation)
    }

    fn is_experimental(&self, interface: &Name) -> bool {
        self.plan.interface(interface.as_str()).is_some_and(|of| of.experimental)
    }
}

pub(super) fn profiles(proof: &Proof<'_>) -> Vec<Violation> {
    let taken: BTreeMap<&Name, BTreeSet<&Name>> = proof
        .plan
        .interfaces
        .iter()
        .map(|of| (&of.name, of.profiles.iter().map(|profile| &profile.name).collect()))
        .collect();
    let wrong = proof.plan.clients.iter().filter(|client| {
        !taken.get(&client.interface).is_some_and(|of| of.contains(&client.profile))
    });
    wrong
        .map(|client| {
            let (name, profile) = (&client.interface, &client.profile);
            let what =
                format!("{} has the profile {profile}, which {name} does not take", client.id);
            let violation = Violation::new(Subject::Client { id: client.id.to_string() }, what);
            let takes = taken.get(name).into_iter().flatten().map(|name| name.to_string());
            let takes = takes.collect::<Vec<_>>().join(", ");
            violation.hint(match takes.is_empty() {
                true => format!("{name} takes none yet: add them to [constraints]"),
                false => format!("{name} takes {takes}; [constraints] says so"),
            })
        })
        .collect()
}

pub(super) fn internet(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for interface in proof.plan.interfaces.iter().filter(|interface| !interface.internet) {
        for profile in interface.profiles.iter().filter(|profile| profile.internet) {
            let what = format!(
                "{} takes the profile {}, and has no internet",
                interface.name, profile.name
            );
            let subject = Subject::Interface { name: interface.name.to_string() };
            found.push(
                Violation::new(subject, what)
                    .hint("set `internet = true`, or take the profile out of [constraints]"),
            );
        }
    }
    let outside = the_internet();
    // What goes to the machine itself goes no further.
    let away = |passage: &&Passage<'_>| passage.rule.toward == Toward::Elsewhere;
    for passage in proof.reach.permitted.iter().filter(away) {
        let interface = proof.plan.interface(passage.link.interface.as_str());
        let may = passage.link.kind == LinkKind::Clients && interface.is_some_and(|of| of.internet);
        let clients = proof.plan.clients.iter().filter(|client| {
            client.interface == passage.link.interface
                && interface.is_some_and(|of| {
                    of.profiles.iter().any(|p| p.internet && p.name == client.profile)
                })
        });
        let may = match may {
            true => Set::prefixes(
                clients.flat_map(|client| &client.addresses).flat_map(|of| &of.addresses),
            ),
            false => Set::empty(),
        };
        let block = Block {
            source: passage.block.source.subtract(&may),
            destination: passage
                .block
                .destination
                .intersect(&outside.subtract(&proof.management())),
            service: passage.block.service.clone(),
        };
        if let Some(packet) = block.packet() {
            let what = format!("{} lets somebody to the internet who may not", passage.rule.id);
            found.push(
                Violation::new(end(passage.machine, passage.link), what)
                    .packet(packet, passage.rule.id.as_str()),
            );
        }
    }
    found
}

pub(super) fn apart(proof: &Proof<'_>) -> Vec<Violation> {
    let clients = proof.prefixes(LinkKind::Clients, |_| true);
    let mesh = proof.prefixes(LinkKind::Mesh, |_| true);
    let own = proof.gateways();
    let mut found = Vec::new();
    for passage in &proof.reach.permitted {
        let local = passage.rule.toward == Toward::Local;
        let closed = match passage.link.kind {
            // A client may ask its server's own end for a sign of life.
            LinkKind::Clients if local => clients.union(&mesh).subtract(&own),
            LinkKind::Clients => clients.union(&mesh),
            LinkKind::Mesh if local => clients.clone(),
            LinkKind::Mesh => Set::everywhere(),
        };
        let mut into_mesh = None;
        // Its own end in the mesh is the mesh's as well.
        if passage.link.kind == LinkKind::Clients {
            into_mesh =
                shown(passage, &mesh, || format!("{} lets clients into the mesh", passage.rule.id));
        }
        found.extend(into_mesh.or_else(|| {
            shown(passage, &closed, || {
                format!("{} lets {} reach another link", passage.rule.id, passage.link.name)
            })
        }));
    }
    found
}

pub(super) fn experiments(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let of = |wanted: bool| {
        let lans =
            plan.interfaces.iter().filter(|of| of.experimental == wanted).flat_map(|of| &of.lan);
        let own = proof.prefixes(LinkKind::Clients, |name| proof.is_experimental(name) == wanted);
        own.union(&Set::prefixes(lans))
    };
    let lab = of(true);
    let production =
        of(false).union(&proof.prefixes(LinkKind::Mesh, |_| true)).union(&proof.management());
    let mut found = Vec::new();
    for passage in &proof.reach.permitted {
        let experimental = proof.is_experimental(&passage.link.interface);
        let (closed, word) = match experimental {
            true => (&production, "an experiment reach production"),
            false => (&lab, "production reach an experiment"),
        };
        found.extend(shown(passage, closed, || format!("{} lets {word}", passage.rule.id)));
    }
    for interface in plan.interfaces.iter().filter(|of| of.experimental) {
        for other in plan.interfaces.iter().filter(|of| !of.experimental) {
            let (a, b) = (Set::prefixes(&interface.lan), Set::prefixes(&other.lan));
            if a.meets(&b) {
                let what = format!(
                    "{} and {} share the local network {}",
                    interface.name,
                    other.name,
                    a.intersect(&b)
                );
                found.push(Violation::new(
                    Subject::Interface { name: interface.name.to_string() },
                    what,
                ));
            }
        }
    }
    found
}

pub(super) fn management(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let operators = Set::prefixes(&plan.trust.from);
    let links = proof
        .prefixes(LinkKind::Clients, |_| true)
        .union(&proof.prefixes(LinkKind::Mesh, |_| true));
    let mut found = Vec::new();
    let servers: Vec<_> =
        plan.machines.iter().filter(|machine| !machine.management.is_empty()).collect();
    for machine in &servers {
        // From outside of all links a packet is not ours, unless a link takes it on its way.
        for address in &machine.management {
            if links.contains(point(*address)) {
                let what =
                    format!("{address}, where operators reach {}, is inside a link", machine.name);
                let violation =
                    Violation::new(Subject::Server { name: machine.name.to_string() }, what);
                found.push(violation.hint("name an address that is there without Vyr"));
            }
        }
    }
    let reached = Region(proof.reach.reached.iter().map(|passage| passage.block.clone()).collect());
    for machine in &plan.machines {
        for link in &machine.links {
            let peers = Set::prefixes(link.peers.iter().flat_map(|peer| &peer.allowed_ips));
            let from = operators.intersect(&peers);
            if from.is_empty() {
                continue;
            }
            if link.kind == LinkKind::Mesh || proof.is_experimental(&link.interface) {
                let inside = operators.intersect(&Set::prefixes(&link.routes));
                let from = if inside.is_empty() { &from } else { &inside };
                let what = format!("operators cannot work from {from} on {}", link.name);
                let violation = Violation::new(Subject::Operators, what);
                found.push(
                    violation.hint("nodes and experiments reach no server; work from elsewhere"),
                );
                continue;
            }
            for server in &servers {
                let families = |ip: &&std::net::IpAddr| {
                    link.routes.iter().any(|route| matches!(route, IpNet::V4(_)) == ip.is_ipv4())
                };
                let to: Vec<IpNet> =
                    server.management.iter().filter(families).map(|ip| IpNet::from(*ip)).collect();
                let port = server.management_port;
                let wanted = Block {
                    source: from.clone(),
                    destination: Set::prefixes(&to),
                    service: Set::service(6, (port, port)),
                };
                let what = || {
                    let end = format!("{}@{}", link.interface, machine.name);
                    format!("operators on {end} do not reach {}", server.name)
                };
                found.extend(proof.not_reached(&reached, &wanted, Subject::Operators, what));
            }
        }
    }
    found
}

pub(super) fn sources(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        let names: BTreeSet<&str> = machine.sets.iter().map(|set| set.name.as_str()).collect();
        for rule in &machine.rules {
            let link = machine.links.iter().find(|link| link.name == rule.from);
            let known =
                names.contains(rule.source.as_str()) && names.contains(rule.destination.as_str());
            let Some(link) = link.filter(|_| known && !rule.services.is_empty()) else {
                let what = format!("{} of {} names what is not there", rule.id, machine.name);
                found.push(Violation::new(machine_of(machine), what));
                continue;
            };
            let heard = Set::prefixes(machine.heard(link));
            let block = rule.block(machine);
            let over = block.source.subtract(&heard);
            let block = Block { source: over, ..block };
            if let Some(packet) = block.packet() {
                let what = format!("{} of {} is for addresses of nobody", rule.id, machine.name);
                found.push(
                    Violation::new(machine_of(machine), what).packet(packet, rule.id.as_str()),
                );
            }
        }
    }
    found
}

pub(super) fn tunnels(proof: &Proof<'_>) -> Vec<Violation> {
    let outside = the_internet();
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Clients) {
            let Some(interface) = proof.plan.interface(link.interface.as_str()) else { continue };
            let own: Vec<IpNet> =
                link.addresses.iter().map(|net| IpNet::from(net.addr())).collect();
            let base = Set::prefixes(&own).union(&proof.management());
            for profile in &interface.profiles {
                let tunnel = link.tunnels.iter().find(|tunnel| tunnel.profile == profile.name);
                let carried =
                    Set::prefixes(tunnel.into_iter().flat_map(|tunnel| &tunnel.allowed_ips));
                let lan = if profile.lan { Set::prefixes(&interface.lan) } else { Set::empty() };
                let internet = profile.internet && interface.internet;
                let allowed = if internet { Set::everywhere() } else { base.union(&lan) };
                let routes = &machine.first_of(link).unwrap_or(link).routes;
                let families = Set::prefixes(
                    &routes
                        .iter()
                        .map(|route| match route {
                            IpNet::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
                            IpNet::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
                        })
                        .collect::<Vec<_>>(),
                );
                let wanted = if internet { lan.union(&outside) } else { lan };
                let wanted = wanted.union(&Set::prefixes(&own)).intersect(&families);
                let (over, under) = (carried.subtract(&allowed), wanted.subtract(&carried));
                let end = || Subject::End {
                    interface: link.interface.to_string(),
                    server: machine.name.to_string(),
                };
                if !over.is_empty() {
                    let what = format!(
                        "the tunnel of {} clients to {} carries {over} as well",
                        profile.name, machine.name
                    );
                    found.push(Violation::new(end(), what));
                }
                if !under.is_empty() {
                    let what = format!(
                        "the tunnel of {} clients to {} does not carry {under}",
                        profile.name, machine.name
                    );
                    found.push(Violation::new(end(), what));
                }
            }
        }
    }
    found
}

pub(super) fn name_servers(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let port_53 = Set::service(17, (53, 53)).union(&Set::service(6, (53, 53)));
    let reached = Region(proof.reach.reached.iter().map(|passage| passage.block.clone()).collect());
    for interface in &proof.plan.interfaces {
        // A client whose profile is not taken here reaches nothing at all: that is N04's to say.
        let taken = |name: &Name| interface.profiles.iter().any(|profile| profile.name == *name);
        let clients = proof.plan.client_addresses(|client| {
            client.interface == interface.name
                && client.public_key.is_some()
                && taken(&client.profile)
        });
        for server in &interface.dns {
            let wanted = Block {
                source: clients.clone(),
                destination: Set::address(*server),
                service: port_53.clone(),
            };
            let what =
                || format!("clients of {} do not reach their name server {server}", interface.name);
            let subject = Subject::Interface { name: interface.name.to_string() };
            let violation = proof.not_reached(&reached, &wanted, subject, what);
            found.extend(violation.map(|violation| {
                violation.hint("name one in `lan`, or allow the internet to the profile")
            }));
        }
    }
    found
}

pub(super) fn masquerade(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        for set in &machine.masquerade {
            let backed = machine.rules.iter().any(|rule| {
                rule.source == *set
                    && rule.destination == INTERNET
                    && rule.toward == Toward::Elsewhere
            });
            if !backed {
                let what = format!(
                    "{} hides {set} behind its own address, and no rule lets it out",
                    machine.name
                );
                found.push(Violation::new(machine_of(machine), what));
            }
        }
    }
    let (outside, management) = (the_internet(), proof.management());
    let away = |passage: &&Passage<'_>| passage.rule.toward == Toward::Elsewhere;
    for passage in proof.reach.permitted.iter().filter(away) {
        let Passage { machine, rule, .. } = passage;
        let translated = machine.masquerade.iter().map(|set| Block {
            source: Set::prefixes(machine.set(set)),
            destination: Set::prefixes(machine.set(INTERNET)),
            service: Set::any_service(),
        });
        let leaving = Block {
            destination: passage.block.destination.intersect(&outside),
            ..passage.block.clone()
        };
        let Some(packet) = Region(translated.collect()).missing(&leaving).packet() else {
            continue;
        };
        let what = format!("{} lets {} out with private addresses", rule.id, rule.source);
        let violation = Violation::new(end(machine, passage.link), what);
        let violation = violation.packet(packet, rule.id.as_str());
        // A profile says who goes to the internet; operators go to a server's address whatever
        // theirs says.
        found.push(match management.contains(point(packet.to)) {
            true => violation.hint(format!(
                "give the operators' devices there a profile with the internet, or the server \
                 another address for them than {}",
                packet.to
            )),
            false => violation,
        });
    }
    found
}
