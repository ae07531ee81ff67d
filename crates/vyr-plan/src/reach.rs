//! Who reaches what, according to a compiled plan.
//!
//! Two answers to two questions. What a plan *permits* depends on servers alone: a client may
//! ignore its own configuration. What a client *reaches* needs its own tunnel as well.
//!
//! ```text
//! permitted = AllowedIPs of the link's peers (in)  x  rule  x  not routed into a link (out)
//!             (on a second end also those that may be moved to it)
//! reached   = permitted  x  AllowedIPs of the client's tunnel, by profile
//! ```

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::intent::{Name, Place};
use crate::plan::{Link, LinkKind, Machine, Plan, Rule, Toward};
use crate::space::{Block, Region, Set};

/// Packets that one rule lets through one machine.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The link they come from.
    pub link: &'a Link,
    /// The rule.
    pub rule: &'a Rule,
    /// The packets.
    pub block: Block,
}

/// All passages of a plan.
#[derive(Debug)]
pub struct Reach<'a> {
    /// What servers let through.
    pub permitted: Vec<Passage<'a>>,
    /// What a client that follows its configuration gets.
    pub reached: Vec<Passage<'a>>,
}

impl<'a> Reach<'a> {
    /// Of a plan.
    pub fn of(plan: &'a Plan) -> Self {
        let mut all = Self { permitted: Vec::new(), reached: Vec::new() };
        let profiles = by_profile(plan);
        for machine in &plan.machines {
            let sets: BTreeMap<&str, Set> = machine
                .sets
                .iter()
                .map(|set| (set.name.as_str(), Set::prefixes(&set.prefixes)))
                .collect();
            let none = Set::empty();
            let routed = Set::prefixes(machine.links.iter().flat_map(|link| &link.routes));
            let heard: BTreeMap<&str, Set> = machine
                .links
                .iter()
                .map(|link| (link.name.as_str(), Set::prefixes(machine.heard(link))))
                .collect();
            for rule in &machine.rules {
                let Some(link) = machine.links.iter().find(|link| link.name == rule.from) else {
                    continue;
                };
                let services = rule.services.iter().map(|service| service.set());
                let source = sets.get(rule.source.as_str()).unwrap_or(&none);
                let destination = sets.get(rule.destination.as_str()).unwrap_or(&none);
                let block = Block {
                    source: source.intersect(heard.get(link.name.as_str()).unwrap_or(&none)),
                    destination: match rule.toward {
                        // What is routed into a link goes there, and no rule lets it.
                        Toward::Elsewhere => destination.subtract(&routed),
                        Toward::Local => destination.clone(),
                    },
                    service: services.fold(Set::empty(), |all, one| all.union(&one)),
                };
                for block in block.by_family() {
                    let passage = Passage { machine, link, rule, block };
                    all.reached.extend(passage.as_clients_send_it(&profiles));
                    all.permitted.push(passage);
                }
            }
        }
        all
    }

    /// What is permitted, as a region.
    pub fn permitted_region(&self) -> Region {
        Region(self.permitted.iter().map(|passage| passage.block.clone()).collect())
    }

    /// What is reached, as a region.
    pub fn reached_region(&self) -> Region {
        Region(self.reached.iter().map(|passage| passage.block.clone()).collect())
    }
}

/// The addresses of clients with a profile on a machine's link.
type Profiles<'a> = BTreeMap<(&'a Name, &'a Name, &'a Name), Set>;

fn by_profile(plan: &Plan) -> Profiles<'_> {
    let mut found: BTreeMap<_, Vec<IpNet>> = BTreeMap::new();
    for client in plan.clients.iter().filter(|client| client.public_key.is_some()) {
        for of in &client.addresses {
            let key = (&of.server, &client.interface, &client.profile);
            found.entry(key).or_default().extend(&of.addresses);
        }
    }
    found.into_iter().map(|(key, addresses)| (key, Set::prefixes(&addresses))).collect()
}

impl<'a> Passage<'a> {
    fn as_clients_send_it(&self, profiles: &Profiles<'a>) -> Vec<Self> {
        if self.link.kind == LinkKind::Mesh {
            return vec![self.clone()];
        }
        let mut sent = Vec::new();
        for tunnel in &self.link.tunnels {
            let key = (&self.machine.name, &self.link.interface, &tunnel.profile);
            let Some(clients) = profiles.get(&key) else { continue };
            let block = Block {
                source: self.block.source.intersect(clients),
                destination: self.block.destination.intersect(&Set::prefixes(&tunnel.allowed_ips)),
                service: self.block.service.clone(),
            };
            if !block.is_empty() {
                sent.push(Self { block, ..self.clone() });
            }
        }
        sent
    }
}

/// The addresses of a place, in a plan.
pub fn addresses(plan: &Plan, place: &Place) -> Set {
    let active = |client: &crate::plan::Client| client.public_key.is_some();
    match place {
        Place::Client(id) => plan.client_addresses(|client| client.id == *id && active(client)),
        Place::Interface(name) => {
            plan.client_addresses(|client| client.interface == *name && active(client))
        }
        Place::Profile(name) => {
            plan.client_addresses(|client| client.profile == *name && active(client))
        }
        Place::Lan(name) => {
            Set::prefixes(plan.interface(name.as_str()).into_iter().flat_map(|of| &of.lan))
        }
        Place::Server(name) => {
            let addresses = plan.machine(name.as_str()).into_iter().flat_map(|of| &of.management);
            Set::prefixes(&addresses.map(|ip| IpNet::from(*ip)).collect::<Vec<_>>())
        }
        Place::Node(name) => {
            let mesh = plan.machine(name.as_str()).and_then(|machine| machine.link("mesh"));
            let own = mesh.into_iter().flat_map(|link| &link.addresses);
            Set::prefixes(&own.map(|net| IpNet::from(net.addr())).collect::<Vec<_>>())
        }
        Place::Mesh => {
            Set::prefixes(plan.link_prefixes(LinkKind::Mesh).map(|(_, _, prefix)| prefix))
        }
        Place::Operators => Set::prefixes(&plan.trust.from),
        Place::Internet => crate::address::internet(),
        Place::Prefix(prefix) => Set::prefixes([&prefix.0]),
    }
}
