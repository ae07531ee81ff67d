//! Where something in a plan comes from: an address, a rule, a key, a name, an invariant, or the
//! fate of a packet.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use vyr_base::Place as SourcePlace;

use crate::diff::{named, services};
use crate::intent::{Intent, Key, Place, Service, Subject};
use crate::lock::Lock;
use crate::plan::{LinkKind, Machine, Plan, Rule, Toward};
use crate::prove::invariant;
use crate::reach::{Reach, addresses};
use crate::space::{Block, Set, short};

/// What is known about something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub id: String,
    /// What it is.
    pub what: String,
    /// Why it is so, from near to far.
    pub because: Vec<Reason>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// In words.
    pub text: String,
    /// Where it was written, if somebody wrote it.
    #[serde(flatten)]
    pub place: Option<SourcePlace>,
}

fn reason(text: impl Into<String>) -> Reason {
    Reason { text: text.into(), place: None }
}

struct Explain<'a> {
    intent: &'a Intent,
    lock: &'a Lock,
    plan: &'a Plan,
}

/// Everything that is known by the name `id`: an invariant (`N07`), a rule
/// (`north@router/split/lan/forward`), an address or prefix, a public key, a client, an interface,
/// a server, a node, a profile.
pub fn explain(intent: &Intent, lock: &Lock, plan: &Plan, id: &str) -> Vec<Explanation> {
    let all = Explain { intent, lock, plan };
    let mut found = Vec::new();
    if let Some(invariant) = invariant(id) {
        let what = format!("invariant {}: {}", invariant.id, invariant.title);
        let because =
            vec![reason(invariant.why), reason("it is proved on every compile: vyr check")];
        found.push(Explanation { id: id.into(), what, because });
    }
    for machine in &plan.machines {
        let rules = machine.rules.iter().filter(|rule| rule.id == id);
        found.extend(rules.map(|rule| all.rule(machine, rule)));
    }
    if let Ok(address) = id.parse::<IpAddr>() {
        found.extend(all.address(address));
    } else if let Ok(prefix) = id.parse::<IpNet>() {
        found.extend(all.prefix(&prefix));
    }
    if let Ok(key) = id.parse::<Key>() {
        found.extend(all.key(key));
    }
    found.extend(all.names(id));
    found
}

/// What happens to packets from a place to a place.
pub fn explain_packets(
    intent: &Intent,
    plan: &Plan,
    from: &Place,
    to: &Place,
    service: Service,
) -> Explanation {
    let reach = Reach::of(plan);
    let block = Block {
        source: addresses(plan, from),
        destination: addresses(plan, to),
        service: service.set(),
    };
    let id = format!("{from} {to} {service}");
    let mut because = Vec::new();
    for passage in &reach.permitted {
        let common = passage.block.intersect(&block);
        if let Some(packet) = common.packet() {
            because.push(Reason {
                text: format!(
                    "{} on {} accepts {} to {} ({}), for instance {packet}",
                    passage.rule.id,
                    passage.machine.name,
                    services(&named(&common)).join(" "),
                    common.destination,
                    passage.link.name,
                ),
                place: end_place(intent, passage.machine, &passage.rule.from),
            });
        }
    }
    let left = reach.permitted_region().missing(&block);
    let what = match (because.is_empty(), left.packet()) {
        _ if block.by_family().is_empty() => "there is no such packet".to_owned(),
        (true, _) => "dropped: no rule accepts it".to_owned(),
        (false, None) => "accepted, all of it".to_owned(),
        (false, Some(packet)) => format!("accepted in part; dropped is for instance {packet}"),
    };
    Explanation { id, what, because }
}

fn end_place(intent: &Intent, machine: &Machine, link: &str) -> Option<SourcePlace> {
    let link = machine.links.iter().find(|one| one.name == link)?;
    intent.place(&match link.kind {
        LinkKind::Mesh => Subject::Node { name: machine.name.to_string() },
        LinkKind::Clients => {
            Subject::End { interface: link.interface.to_string(), server: machine.name.to_string() }
        }
    })
}

impl Explain<'_> {
    fn at(&self, text: impl Into<String>, subject: &Subject) -> Reason {
        Reason { text: text.into(), place: self.intent.place(subject) }
    }

    fn rule(&self, machine: &Machine, rule: &Rule) -> Explanation {
        let toward = match rule.toward {
            Toward::Local => "to the machine itself",
            Toward::Elsewhere => "out of interfaces that are not links",
        };
        let block = rule.block(machine);
        let mut because = vec![
            reason(format!("from {}: {} ({})", rule.from, rule.source, block.source)),
            reason(format!("{toward}: {} ({})", rule.destination, block.destination)),
            reason(format!("services: {}", services(&block.service).join(" "))),
        ];
        if let Some(place) = end_place(self.intent, machine, &rule.from) {
            because.push(Reason { text: "the end it belongs to".into(), place: Some(place) });
        }
        let parts: Vec<&str> = rule.id.split('/').collect();
        match parts.as_slice() {
            [_, "management", server, _] => {
                because.push(
                    self.at("operators work from there (`operators.from`)", &Subject::Operators),
                );
                let server = Subject::Server { name: (*server).into() };
                because.push(self.at("its management address", &server));
            }
            [_, "gateway"] => {
                because.push(reason("a client may ask its server for a sign of life"))
            }
            [_, profile, ..] => {
                let subject = Subject::Profile { name: (*profile).into() };
                because.push(self.at(format!("the profile {profile} says so"), &subject));
            }
            _ => (),
        }
        let what = format!("a rule of {}: accept", machine.name);
        Explanation { id: rule.id.clone(), what, because }
    }

    fn address(&self, address: IpAddr) -> Vec<Explanation> {
        let mut found = Vec::new();
        let id = address.to_string();
        for client in &self.plan.clients {
            for of in &client.addresses {
                if !of.addresses.iter().any(|net| net.addr() == address) {
                    continue;
                }
                let subject = Subject::Client { id: client.id.to_string() };
                let why = match address {
                    IpAddr::V4(v4) => {
                        let owners = self.lock.owners(v4).count();
                        format!("vyr.lock gave it away ({owners} line), for ever")
                    }
                    IpAddr::V6(_) => "its lower half is the hash of the prefix and the id".into(),
                };
                found.push(Explanation {
                    id: id.clone(),
                    what: format!(
                        "the address of client {} on {}@{}",
                        client.id, client.interface, of.server
                    ),
                    because: vec![
                        reason(why),
                        self.at("the client", &subject),
                        self.at(
                            "the prefix is that of this end",
                            &Subject::End {
                                interface: client.interface.to_string(),
                                server: of.server.to_string(),
                            },
                        ),
                    ],
                });
            }
        }
        for machine in &self.plan.machines {
            if machine.management.contains(&address) {
                let subject = Subject::Server { name: machine.name.to_string() };
                let what = format!("where operators reach {}", machine.name);
                found.push(Explanation {
                    id: id.clone(),
                    what,
                    because: vec![self.at("declared", &subject)],
                });
            }
            for link in machine
                .links
                .iter()
                .filter(|link| link.addresses.iter().any(|net| net.addr() == address))
            {
                let why = match link.kind {
                    LinkKind::Mesh => {
                        "its lower half is the hash of the prefix and the node's name"
                    }
                    LinkKind::Clients => "the first address of the prefix is the server's own",
                };
                let mut because = vec![reason(why)];
                because.extend(
                    end_place(self.intent, machine, &link.name)
                        .map(|place| Reason { text: "the end".into(), place: Some(place) }),
                );
                let what = format!("the own address of {} on {}", machine.name, link.name);
                found.push(Explanation { id: id.clone(), what, because });
            }
        }
        if found.is_empty() {
            found.extend(self.prefix(&IpNet::from(address)));
        }
        found
    }

    /// What a prefix lies in.
    fn prefix(&self, prefix: &IpNet) -> Vec<Explanation> {
        let set = Set::prefixes([prefix]);
        let mut found = Vec::new();
        let mut add = |what: String, because: Vec<Reason>| {
            found.push(Explanation { id: short(prefix), what, because });
        };
        for interface in &self.plan.interfaces {
            for lan in interface.lan.iter().filter(|lan| set.within(&Set::prefixes([*lan]))) {
                let subject = Subject::Written { text: lan.to_string() };
                add(
                    format!("in {lan}, the local network of {}", interface.name),
                    vec![self.at("declared", &subject)],
                );
            }
        }
        for kind in [LinkKind::Clients, LinkKind::Mesh] {
            let mut said = Vec::new();
            for (machine, link, route) in self.plan.link_prefixes(kind) {
                if !set.within(&Set::prefixes([route])) || said.contains(route) {
                    continue;
                }
                said.push(*route);
                let subject = Subject::Written { text: route.to_string() };
                let what = match kind {
                    LinkKind::Mesh => {
                        format!("in {route}, the mesh's: the last /64 of the site's prefix")
                    }
                    LinkKind::Clients => {
                        format!("in {route}, of the clients of {}@{}", link.interface, machine.name)
                    }
                };
                add(what, vec![self.at("declared", &subject)]);
            }
        }
        if set.within(&Set::prefixes(&self.plan.trust.from)) {
            add("where operators work from".into(), vec![self.at("declared", &Subject::Operators)]);
        }
        if set.within(&crate::address::internet()) {
            add("in the internet".into(), vec![reason("neither private nor special (RFC 6890)")]);
        }
        found
    }

    fn key(&self, key: Key) -> Vec<Explanation> {
        let mut found = Vec::new();
        let subject = Subject::Written { text: key.to_string() };
        let mut add = |what: String| {
            let because = vec![self.at("written", &subject)];
            found.push(Explanation { id: key.to_string(), what, because });
        };
        for client in &self.plan.clients {
            if client.public_key == Some(key) {
                add(format!("the key of client {}", client.id));
            }
            if client.staged_key == Some(key) {
                add(format!("the key that client {} is to use next", client.id));
            }
        }
        for machine in &self.plan.machines {
            for link in &machine.links {
                let end = format!("{}@{}", link.interface, machine.name);
                if link.public_key == key {
                    add(match &link.second_of {
                        None => format!("the key of {end}"),
                        Some(first) => format!("the key that {end} is to use next, beside {first}"),
                    });
                }
                if link.retired_keys.contains(&key) {
                    add(format!("a retired key of {end}: not in force any more"));
                }
            }
        }
        if self.plan.revoked.contains(&key) {
            add("a revoked key: refused for good".into());
        }
        found
    }

    fn names(&self, name: &str) -> Vec<Explanation> {
        let mut found = Vec::new();
        let mut add = |what: String, subject: Subject, more: Vec<String>| {
            let mut because = vec![self.at("declared", &subject)];
            because.extend(more.into_iter().map(reason));
            found.push(Explanation { id: name.into(), what, because });
        };
        if let Some(client) = self.plan.client(name) {
            let own_addresses = client.addresses.iter().map(|of| {
                let all: Vec<String> = of.addresses.iter().map(short).collect();
                format!("on {}: {}", of.server, all.join(" "))
            });
            let reach = Reach::of(self.plan);
            let own = addresses(self.plan, &Place::Client(client.id.clone()));
            let rules = reach.permitted.iter().filter(|passage| passage.block.source.meets(&own));
            let rules = rules.map(|passage| {
                format!("reaches {} by {}", passage.block.destination, passage.rule.id)
            });
            add(
                format!("client {} of {}, profile {}", client.id, client.interface, client.profile),
                Subject::Client { id: name.into() },
                own_addresses.chain(rules).collect(),
            );
        } else if self.intent.clients.iter().any(|client| client.id.as_str() == name) {
            let subject = Subject::Client { id: name.into() };
            add(format!("client {name}: none of its keys is in use"), subject, Vec::new());
        }
        if let Some(interface) = self.plan.interface(name) {
            let clients =
                self.plan.clients.iter().filter(|of| of.interface == interface.name).count();
            let subject = Subject::Interface { name: name.into() };
            add(format!("interface {name} with {clients} clients"), subject, Vec::new());
        }
        if let Some(machine) = self.plan.machine(name) {
            let links: Vec<String> = machine
                .links
                .iter()
                .map(|link| match &link.second_of {
                    None => format!("{}, {} peers", link.name, link.peers.len()),
                    Some(first) => format!("{}, the next key of {first}", link.name),
                })
                .collect();
            let subject = match machine.management.is_empty() {
                true => Subject::Node { name: name.into() },
                false => Subject::Server { name: name.into() },
            };
            add(format!("machine {name}"), subject, links);
        }
        let profile = self.intent.site.profiles.keys().any(|key| key.as_str() == name);
        if profile {
            let clients = self.plan.clients.iter().filter(|of| of.profile.as_str() == name).count();
            let subject = Subject::Profile { name: name.into() };
            add(format!("profile {name} of {clients} clients"), subject, Vec::new());
        }
        found
    }
}
