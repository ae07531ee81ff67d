//! Intent, inventory and lock become a plan. Everything in it that is an address, a route, an
//! AllowedIPs or a rule is derived here and nowhere else.
//!
//! A compilation allocates nothing, asks nobody and cannot fail on what `intent` let through,
//! except where a hash falls on an address that is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use vyr_base::Diagnostic;

use crate::address::{interface_id, internet, with_interface_id};
use crate::intent::{self, Intent, Key, Name, Service, State, Subject};
use crate::lock::{EndName, Lock, gateway};
use crate::plan::{
    AddressSet, Client, ClientAddress, Interface, Kind, Link, LinkKind, Machine, PLAN_VERSION,
    Peer, Plan, Profile, Rule, Toward, TrustRoot, Tunnel,
};
use crate::space::Set;

/// What WireGuard adds to a packet inside IPv6: 40 IP, 8 UDP, 32 its own.
pub const OVERHEAD: u16 = 80;
/// Inside a tunnel whose other end has an unknown uplink: 1500 less the overhead.
pub const CLIENT_MTU_MAX: u16 = 1420;
/// Seconds; address translations forget UDP after 30.
pub const KEEPALIVE_S: u16 = 25;

/// What the names of links begin with.
const LINK: &str = "vyr-";
/// Characters of a link's name, for the kernel.
const LINK_CHARS_MAX: usize = 15;

/// Sets that belong to no interface are in capitals: no name has any.
pub const INTERNET: &str = "INTERNET";
const MESH_PEERS: &str = "MESH.peers";
const MESH_OWN: &str = "MESH.own";

/// The plan of `intent` with what `lock` allocated. `lock` must not be stale.
pub fn compile(intent: &Intent, lock: &Lock) -> Result<Plan, Vec<Diagnostic>> {
    let mut compiler = Compiler { intent, lock, faults: Vec::new() };
    let plan = compiler.plan();
    if compiler.faults.is_empty() { Ok(plan) } else { Err(compiler.faults) }
}

struct Compiler<'a> {
    intent: &'a Intent,
    lock: &'a Lock,
    faults: Vec<Diagnostic>,
}

/// One device: its key in use, its staged key, and the line that says what it may reach.
struct Device<'a> {
    line: &'a intent::Client,
    active: Option<Key>,
    staged: Option<Key>,
}

fn whole(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    items.into_iter().collect::<BTreeSet<T>>().into_iter().collect()
}

impl Compiler<'_> {
    fn plan(&mut self) -> Plan {
        let intent = self.intent;
        let site = &intent.site;
        let devices = devices(intent);
        let clients: Vec<Client> = devices.iter().map(|device| self.client(device)).collect();
        self.collisions(&clients);
        let interfaces = self.interfaces();
        // A node without a key runs services on a host that has no network of ours.
        let nodes = site.nodes.iter().filter(|(_, node)| node.public_key.is_some());
        let names = site.servers.keys().chain(nodes.map(|(name, _)| name));
        let names: BTreeSet<&Name> = names.map(|name| -> &Name { name }).collect();
        let machines =
            names.into_iter().map(|name| self.machine(name, &interfaces, &clients)).collect();
        let next = self.lock.next();
        let recovery = site.recovery.iter().flat_map(|recovery| &recovery.recipients);
        Plan {
            version: PLAN_VERSION,
            kind: Kind::Network,
            site: (*site.name).clone(),
            epoch: next.map_or(1, |next| next.epoch),
            parent: next.and_then(|next| next.parent),
            trust: TrustRoot {
                threshold: *site.operators.threshold,
                operators: self.intent.signers.clone(),
                from: self.operators(&clients).to_prefixes(),
            },
            recovery: sorted(recovery.map(|recipient| recipient.to_string())),
            prefix: site.prefix.0,
            interfaces,
            machines,
            clients,
            revoked: sorted(self.lock.revoked().copied()),
        }
    }

    /// Where operators work from: what was declared, and the addresses of their devices.
    fn operators(&self, clients: &[Client]) -> Set {
        let operators = &self.intent.site.operators;
        let devices = clients.iter().filter(|client| {
            client.public_key.is_some() && operators.clients.iter().any(|id| **id == client.id)
        });
        let addresses = devices.flat_map(|client| &client.addresses).flat_map(|of| &of.addresses);
        Set::prefixes(operators.from.iter().map(|prefix| &prefix.0).chain(addresses))
    }

    fn client(&mut self, device: &Device<'_>) -> Client {
        let line = device.line;
        let interface = self.intent.site.interfaces.get(&*line.interface);
        let ends = interface.into_iter().flat_map(|interface| &interface.at);
        let mut addresses = Vec::new();
        for (server, end) in ends {
            let mut found = Vec::new();
            for prefix in end.vpn.iter() {
                match prefix.0 {
                    IpNet::V4(v4) => {
                        let name = EndName {
                            interface: (*line.interface).clone(),
                            server: (**server).clone(),
                        };
                        found.extend(
                            self.lock.address(&name, &v4, &line.id).map(|v4| whole(v4.into())),
                        );
                    }
                    IpNet::V6(v6) => found.extend(self.v6(
                        &v6,
                        line.id.as_str(),
                        &Subject::Client { id: line.id.to_string() },
                    )),
                }
            }
            addresses.push(ClientAddress { server: (**server).clone(), addresses: sorted(found) });
        }
        Client {
            id: (*line.id).clone(),
            interface: (*line.interface).clone(),
            profile: (*line.profile).clone(),
            public_key: device.active,
            staged_key: device.staged,
            addresses,
        }
    }

    fn v6(&mut self, prefix: &Ipv6Net, name: &str, subject: &Subject) -> Option<IpNet> {
        let found = interface_id(prefix, name).map(|id| with_interface_id(prefix, id));
        if found.is_none() {
            let what = format!("the address of {name} in {prefix} would have a meaning of its own");
            self.fault(subject, Diagnostic::error("address-reserved", what));
        }
        found.map(|v6| whole(v6.into()))
    }

    fn fault(&mut self, subject: &Subject, fault: Diagnostic) {
        let fault = fault
            .why("addresses come from names and are never chosen")
            .hint("rename the one that came last, for instance with -2 at its end");
        self.refuse(subject, fault);
    }

    fn refuse(&mut self, subject: &Subject, fault: Diagnostic) {
        self.faults.push(Diagnostic { place: self.intent.place(subject), ..fault });
    }

    /// Two names whose hashes agree.
    fn collisions(&mut self, clients: &[Client]) {
        let mut owners: BTreeMap<IpNet, &Name> = BTreeMap::new();
        for client in clients {
            for address in client.addresses.iter().flat_map(|of| &of.addresses) {
                if let Some(other) = owners.insert(*address, &client.id) {
                    let what =
                        format!("{} and {other} would both be {}", client.id, address.addr());
                    let subject = Subject::Client { id: client.id.to_string() };
                    self.fault(&subject, Diagnostic::error("address-collision", what));
                }
            }
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let site = &self.intent.site;
        let of = |name: &Name, declared: &intent::Interface| {
            let allowed = site.constraints.get(name).into_iter().flat_map(|list| list.iter());
            let allowed: BTreeSet<&Name> = allowed.map(|name| -> &Name { name }).collect();
            let profiles =
                site.profiles.iter().filter(|(profile, _)| allowed.contains(&***profile));
            Interface {
                name: name.clone(),
                experimental: declared.experimental,
                internet: *declared.internet,
                lan: sorted(declared.lan.iter().map(|prefix| prefix.0)),
                // The first one is asked first: the order is the intent's.
                dns: declared.dns.iter().map(|address| address.0).collect(),
                profiles: profiles
                    .map(|(name, profile)| Profile {
                        name: (**name).clone(),
                        lan: profile.lan,
                        internet: profile.internet,
                    })
                    .collect(),
            }
        };
        site.interfaces.iter().map(|(name, declared)| of(name, declared)).collect()
    }

    fn machine(&mut self, name: &Name, interfaces: &[Interface], clients: &[Client]) -> Machine {
        let site = &self.intent.site;
        let (server, node) = (site.servers.get(name), site.nodes.get(name));
        let uplink_mtu = server
            .map(|server| *server.uplink_mtu)
            .into_iter()
            .chain(node.map(|node| *node.uplink_mtu))
            .min();
        let mut machine = Machine {
            name: name.clone(),
            management: sorted(server.iter().flat_map(|of| of.management.iter().map(|ip| ip.0))),
            management_port: server.map_or(22, |server| server.management_port),
            uplink_mtu: uplink_mtu.unwrap_or(CLIENT_MTU_MAX + OVERHEAD),
            links: Vec::new(),
            sets: Vec::new(),
            rules: Vec::new(),
            masquerade: Vec::new(),
        };
        for interface in interfaces {
            let end = site.interfaces.get(&interface.name).and_then(|of| of.at.get(name));
            if let Some(end) = end {
                self.end(&mut machine, interface, end, clients);
            }
        }
        if let (Some(node), Some(mesh)) = (node, &site.mesh) {
            self.mesh(&mut machine, node, mesh);
        }
        machine.sets.sort_by(|a, b| a.name.cmp(&b.name));
        machine.rules.sort_by(|a, b| a.id.cmp(&b.id));
        machine.masquerade.sort();
        machine
    }

    /// A server's end of an interface: the link, and what its clients may reach. While its key
    /// rotates there are two links, which differ in key and port and in who has moved.
    fn end(
        &mut self,
        machine: &mut Machine,
        interface: &Interface,
        end: &intent::End,
        clients: &[Client],
    ) {
        let intent = self.intent;
        let site = &intent.site;
        let name = &interface.name;
        let (link, second) = self.links(machine, name, end);
        let gateways: Vec<IpNet> = end.vpn.iter().map(|prefix| own_address(&prefix.0)).collect();
        let own = clients.iter().filter(|client| client.interface == *name);
        let (mut peers, mut known) = (Vec::new(), Vec::new());
        let mut by_profile: BTreeMap<&Name, Vec<IpNet>> = BTreeMap::new();
        for client in own {
            let addresses = client.addresses.iter().filter(|of| of.server == machine.name);
            let addresses = sorted(addresses.flat_map(|of| of.addresses.iter().copied()));
            if let Some(public_key) = client.public_key {
                by_profile.entry(&client.profile).or_default().extend(&addresses);
                peers.push(client_peer(&client.id, public_key, addresses));
            }
            let keys = client.public_key.into_iter().chain(client.staged_key);
            known.extend(keys.map(|key| client_peer(&client.id, key, Vec::new())));
            peers.extend(client.staged_key.map(|key| client_peer(&client.id, key, Vec::new())));
        }
        let all = Set::prefixes(by_profile.values().flatten());
        let operators = all.intersect(&self.operators(clients));
        let routes = sorted(end.vpn.iter().map(|prefix| prefix.0));
        let managed = !operators.is_empty() && !interface.experimental;
        let management: Vec<IpNet> = match managed {
            true => site
                .servers
                .values()
                .flat_map(|of| of.management.iter().map(|ip| whole(ip.0)))
                .collect(),
            false => Vec::new(),
        };
        let families = |net: &&IpNet| routes.iter().any(|route| same_family(route, net));

        for link in [Some(&link), second.as_ref()].into_iter().flatten() {
            let mut rules = Rules { machine, link };
            let at = format!("{}@{}", link.trim_start_matches(LINK), rules.machine.name);
            if !all.is_empty() {
                rules.set(
                    format!("{name}.gateway"),
                    &Set::prefixes(gateways.iter().map(truncated).collect::<Vec<_>>().iter()),
                );
                rules.set(format!("{name}.all"), &all);
                rules.accept(
                    format!("{at}/gateway"),
                    Toward::Local,
                    &format!("{name}.all"),
                    &format!("{name}.gateway"),
                    vec![Service::Icmp],
                );
            }
            let lan = Set::prefixes(interface.lan.iter().filter(families));
            for profile in &interface.profiles {
                let Some(addresses) = by_profile.get(&profile.name) else { continue };
                let source = format!("{name}.{}", profile.name);
                rules.set(source.clone(), &Set::prefixes(addresses));
                if profile.lan && !lan.is_empty() {
                    let to = format!("{name}.lan");
                    rules.set(to.clone(), &lan);
                    for (toward, word) in [(Toward::Elsewhere, "forward"), (Toward::Local, "local")]
                    {
                        let id = format!("{at}/{}/lan/{word}", profile.name);
                        rules.accept(id, toward, &source, &to, vec![Service::Any]);
                    }
                }
                if profile.internet && interface.internet {
                    rules.set(INTERNET.into(), &internet());
                    let id = format!("{at}/{}/internet", profile.name);
                    rules.accept(id, Toward::Elsewhere, &source, INTERNET, vec![Service::Any]);
                    rules.masquerade(source);
                }
            }
            if managed {
                rules.set(format!("{name}.operators"), &operators);
                rules.management(
                    &at,
                    name,
                    site.servers.iter().map(|(server, of)| {
                        (
                            &**server,
                            of.management.iter().map(|ip| whole(ip.0)).collect(),
                            of.management_port,
                        )
                    }),
                );
            }
        }

        let tunnels: Vec<Tunnel> = interface
            .profiles
            .iter()
            .map(|profile| {
                let mut allowed: Vec<IpNet> = gateways.iter().map(truncated).collect();
                if profile.lan {
                    allowed.extend(interface.lan.iter().filter(families));
                }
                if profile.internet && interface.internet {
                    allowed.extend(routes.iter().map(everything));
                }
                allowed.extend(management.iter().filter(families));
                Tunnel { profile: profile.name.clone(), allowed_ips: fewest(&allowed) }
            })
            .collect();
        for peers in [&mut peers, &mut known] {
            peers.sort_by(|a, b| (&a.id, a.public_key).cmp(&(&b.id, b.public_key)));
        }
        let mtu = (machine.uplink_mtu - OVERHEAD).min(CLIENT_MTU_MAX);
        let retired = end.old_keys.iter().filter(|old| *old.state == State::Retired);
        let first = Link {
            name: link,
            interface: name.clone(),
            kind: LinkKind::Clients,
            public_key: *end.public_key,
            staged_key: None,
            second_of: None,
            retired_keys: sorted(retired.map(|old| *old.public_key)),
            endpoint: Some(end.endpoint.with_port(*end.port)),
            listen_port: *end.port,
            mtu,
            addresses: sorted(gateways),
            routes,
            peers,
            tunnels,
        };
        let second = end.staged.as_ref().zip(second).map(|(staged, link)| Link {
            name: link,
            public_key: *staged.public_key,
            second_of: Some(first.name.clone()),
            retired_keys: Vec::new(),
            endpoint: Some(end.endpoint.with_port(*staged.port)),
            listen_port: *staged.port,
            // Who moves takes its own way with it; until then there is none.
            routes: Vec::new(),
            peers: known,
            ..first.clone()
        });
        machine.links.push(first);
        machine.links.extend(second);
    }

    /// The names of an end's links: the key in use has one of two, the key that takes over the
    /// other one. So a link keeps its name, its peers and its sessions when its key is the only one.
    fn links(
        &mut self,
        machine: &Machine,
        name: &Name,
        end: &intent::End,
    ) -> (String, Option<String>) {
        let own = EndName { interface: name.clone(), server: machine.name.clone() };
        let (first, other) = end_links(self.lock, &own, &end.public_key);
        let subject = end_of(name, &machine.name);
        if let Some(staged) = &end.staged
            && self.lock.is_second(&own, &end.public_key)
            && self.lock.is_second(&own, &staged.public_key)
        {
            let what = format!("the staged key of {own} was used on {first} before");
            let fault = Diagnostic::error("key-reused", what);
            self.refuse(
                &subject,
                fault.hint(format!("make a new one: vyr server rotate {}", own.server)),
            );
        }
        let second = end.staged.as_ref().map(|_| other);
        for link in [Some(&first), second.as_ref()].into_iter().flatten() {
            if link.len() > LINK_CHARS_MAX {
                let what = format!(
                    "{own} would have a link {link}, of more than {LINK_CHARS_MAX} characters"
                );
                let why =
                    "a server's key rotates by a second link, and the kernel's names are short";
                let fault = Diagnostic::error("link-name", what).why(why);
                self.refuse(
                    &subject,
                    fault.hint(format!(
                        "move its clients to an interface whose name has at most {} characters",
                        LINK_CHARS_MAX - LINK.len() - 2
                    )),
                );
            }
            if machine.links.iter().any(|other| other.name == *link) {
                let what = format!("two links of {} would be called {link}", machine.name);
                let fault = Diagnostic::error("link-name", what);
                self.refuse(&subject, fault.hint("give the other interface another name"));
            }
        }
        (first, second)
    }

    fn mesh(&mut self, machine: &mut Machine, node: &intent::Node, mesh: &intent::Mesh) {
        let site = &self.intent.site;
        // In a site with a mesh every node has a key: `intent` asks for it.
        let (IpNet::V6(prefix), Some(public_key)) =
            (self.intent.mesh_prefix(), node.public_key.as_deref().copied())
        else {
            return;
        };
        let mut addresses: BTreeMap<&Name, IpNet> = BTreeMap::new();
        for name in site.nodes.keys() {
            let subject = Subject::Node { name: name.to_string() };
            if let Some(address) = self.v6(&prefix, &format!("node:{}", name.as_str()), &subject) {
                if let Some((other, _)) = addresses.iter().find(|(_, taken)| **taken == address) {
                    let what =
                        format!("{} and {other} would both be {}", name.as_str(), address.addr());
                    self.fault(&subject, Diagnostic::error("address-collision", what));
                }
                addresses.insert(name, address);
            }
        }
        let mut peers: Vec<Peer> = site
            .nodes
            .iter()
            .filter(|(name, _)| ***name != machine.name)
            .filter_map(|(name, other)| {
                Some(Peer {
                    id: (**name).clone(),
                    public_key: **other.public_key.as_ref()?,
                    allowed_ips: addresses.get(&**name).copied().into_iter().collect(),
                    endpoint: other.endpoint.as_ref().map(|host| host.with_port(*mesh.port)),
                    // A node that nobody can find keeps its own way open.
                    keepalive_s: node.endpoint.is_none().then_some(KEEPALIVE_S),
                })
            })
            .collect();
        let others = site.nodes.iter().filter(|(name, _)| ***name != machine.name);
        peers.extend(others.filter_map(|(name, other)| {
            let endpoint = other.endpoint.as_ref().map(|host| host.with_port(*mesh.port));
            // Who has nothing to send would never learn that the key is in use: it asks for it.
            let asks = node.endpoint.is_none() || endpoint.is_some();
            Some(Peer {
                id: (**name).clone(),
                public_key: **other.staged_key.as_ref()?,
                allowed_ips: Vec::new(),
                endpoint,
                keepalive_s: asks.then_some(KEEPALIVE_S),
            })
        }));
        peers.sort_by(|a, b| (&a.id, a.public_key).cmp(&(&b.id, b.public_key)));
        let own = addresses.get(&machine.name).copied();
        let mtu = site.nodes.values().map(|node| *node.uplink_mtu).min().unwrap_or(1500) - OVERHEAD;
        let link = "vyr-mesh".to_owned();
        let others: Vec<IpNet> = peers.iter().flat_map(|peer| peer.allowed_ips.clone()).collect();
        let mut rules = Rules { machine, link: &link };
        if !others.is_empty() {
            rules.set(MESH_PEERS.into(), &Set::prefixes(&others));
            rules.set(MESH_OWN.into(), &Set::prefixes(own.iter()));
            let id = format!("mesh@{}/nodes", rules.machine.name);
            let services = sorted(mesh.allow.iter().map(|service| **service));
            rules.accept(id, Toward::Local, MESH_PEERS, MESH_OWN, services);
        }
        let name = intent::mesh();
        machine.links.push(Link {
            name: link,
            interface: name,
            kind: LinkKind::Mesh,
            public_key,
            staged_key: node.staged_key.as_deref().copied(),
            second_of: None,
            retired_keys: Vec::new(),
            endpoint: node.endpoint.as_ref().map(|host| host.with_port(*mesh.port)),
            listen_port: *mesh.port,
            mtu,
            addresses: own.map(|own| IpNet::new_assert(own.addr(), 64)).into_iter().collect(),
            routes: vec![prefix.into()],
            peers,
            tunnels: Vec::new(),
        });
    }
}

/// Devices with a key that may be used, by id.
fn devices(intent: &Intent) -> Vec<Device<'_>> {
    let mut devices: BTreeMap<&Name, Device<'_>> = BTreeMap::new();
    for client in &intent.clients {
        let state = *client.state;
        if !matches!(state, State::Active | State::Staged) {
            continue;
        }
        let device = devices.entry(&client.id).or_insert(Device {
            line: client,
            active: None,
            staged: None,
        });
        match state {
            // The line of the key in use says what the device may reach.
            State::Active => (device.line, device.active) = (client, Some(*client.public_key)),
            _ => device.staged = Some(*client.public_key),
        }
    }
    devices.into_values().collect()
}

/// The names of the two links that an end may have: that of its key in use, and the other one, which
/// the key after it has.
pub fn end_links(lock: &Lock, end: &EndName, in_use: &Key) -> (String, String) {
    let first = format!("{LINK}{}", end.interface);
    let second = format!("{first}-2");
    match lock.is_second(end, in_use) {
        false => (first, second),
        true => (second, first),
    }
}

fn end_of(interface: &Name, server: &Name) -> Subject {
    Subject::End { interface: interface.to_string(), server: server.to_string() }
}

fn client_peer(id: &Name, public_key: Key, allowed_ips: Vec<IpNet>) -> Peer {
    Peer { id: id.clone(), public_key, allowed_ips, endpoint: None, keepalive_s: None }
}

/// The server's own address in a prefix of its clients, with that prefix's length.
fn own_address(prefix: &IpNet) -> IpNet {
    match prefix {
        IpNet::V4(v4) => IpNet::new_assert(gateway(v4).into(), v4.prefix_len()),
        IpNet::V6(v6) => IpNet::new_assert(with_interface_id(v6, 1).into(), v6.prefix_len()),
    }
}

fn truncated(address: &IpNet) -> IpNet {
    whole(address.addr())
}

fn everything(of: &IpNet) -> IpNet {
    match of {
        IpNet::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

fn same_family(a: &IpNet, b: &IpNet) -> bool {
    matches!((a, b), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)))
}

/// Without those inside another one.
fn fewest(prefixes: &[IpNet]) -> Vec<IpNet> {
    let all = sorted(prefixes.iter().copied());
    let inside = |net: &IpNet| {
        all.iter().any(|other| other != net && same_family(other, net) && other.contains(net))
    };
    all.iter().filter(|net| !inside(net)).copied().collect()
}

/// Writes sets and rules of one link into a machine.
struct Rules<'a> {
    machine: &'a mut Machine,
    link: &'a str,
}

impl Rules<'_> {
    fn set(&mut self, name: String, addresses: &Set) {
        if !self.machine.sets.iter().any(|set| set.name == name) {
            self.machine.sets.push(AddressSet { name, prefixes: addresses.to_prefixes() });
        }
    }

    fn accept(
        &mut self,
        id: String,
        toward: Toward,
        source: &str,
        destination: &str,
        services: Vec<Service>,
    ) {
        self.machine.rules.push(Rule {
            id,
            from: self.link.into(),
            toward,
            source: source.into(),
            destination: destination.into(),
            services,
        });
    }

    fn masquerade(&mut self, source: String) {
        if !self.machine.masquerade.contains(&source) {
            self.machine.masquerade.push(source);
        }
    }

    /// Operators among the clients reach every server by SSH, whatever their profile says.
    fn management<'s>(
        &mut self,
        at: &str,
        interface: &Name,
        servers: impl Iterator<Item = (&'s Name, Vec<IpNet>, u16)>,
    ) {
        for (server, addresses, port) in servers {
            let to = format!("MANAGEMENT.{server}");
            self.set(to.clone(), &Set::prefixes(&addresses));
            let ssh = Service::Ports { protocol: 6, first: port, last: port };
            let source = format!("{interface}.operators");
            let local = *server == self.machine.name;
            let (toward, word) = match local {
                true => (Toward::Local, "local"),
                false => (Toward::Elsewhere, "forward"),
            };
            let id = format!("{at}/management/{server}/{word}");
            self.accept(id, toward, &source, &to, vec![ssh]);
        }
    }
}
