//! Names are looked up, families and counts are checked: after this a compilation cannot stop
//! half-way because of what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vyr_artifact::AllowedSigners;
use vyr_base::{Diagnostic, Place as SourcePlace, Source};
use vyr_service::manifest::{self, Manifest};

use super::contracts::{Contract, Place};
use super::site::{Client, Node, SiteFile, State};
use super::text::INTERFACE_CHARS_MAX;
use super::{At, Files, Name};

/// Clients of a site.
const CLIENTS_MAX: usize = 100_000;
/// The last /64 of the site's prefix belongs to the mesh.
pub(crate) const MESH_SUBNET: u16 = 0xffff;
/// The name of the mesh's interface; no interface of clients may have it.
pub(crate) const MESH: &str = "mesh";

/// What a team declared.
#[derive(Debug, Clone)]
pub struct Intent {
    /// `site.toml`.
    pub site: SiteFile,
    /// The lines of `clients.toml`.
    pub clients: Vec<At<Client>>,
    /// All contracts.
    pub contracts: Vec<ContractAt>,
    /// The services, by name.
    pub services: Vec<ServiceAt>,
    /// Whose signature on a plan counts.
    pub signers: Vec<Operator>,
    /// The texts.
    pub files: Files,
}

/// A contract and the file it is in.
#[derive(Debug, Clone)]
pub struct ContractAt {
    /// Its place in `Files::contracts`.
    pub file: usize,
    /// The contract.
    pub contract: At<Contract>,
}

/// A service and the file it is in.
#[derive(Debug, Clone)]
pub struct ServiceAt {
    /// Its place in `Files::services`.
    pub file: usize,
    /// What was read.
    pub read: manifest::Read,
}

impl ServiceAt {
    /// The service, in its one form.
    pub fn manifest(&self) -> &Manifest {
        &self.read.manifest
    }
}

/// A holder of a key that may sign plans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// As `allowed_signers` names them.
    pub principal: String,
    /// The public key in OpenSSH's form, without a comment.
    pub public_key: String,
}

/// What a message is about: something that stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    /// The whole site.
    Site,
    /// The table `operators`.
    Operators,
    /// A server.
    Server {
        /// Its name.
        name: String,
    },
    /// An interface.
    Interface {
        /// Its name.
        name: String,
    },
    /// A server's end of an interface.
    End {
        /// The interface.
        interface: String,
        /// The server.
        server: String,
    },
    /// A profile.
    Profile {
        /// Its name.
        name: String,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// A device.
    Client {
        /// Its id.
        id: String,
    },
    /// A service.
    Service {
        /// Its name.
        name: String,
    },
    /// Something in a service's file.
    InService {
        /// The service.
        service: String,
        /// As it is written; the whole file, if it is not there.
        text: String,
    },
    /// A prefix or an address, wherever it was written.
    Written {
        /// As it is written.
        text: String,
    },
}

impl Intent {
    /// Where something stands.
    pub fn place(&self, subject: &Subject) -> Option<SourcePlace> {
        let site = |span: Range<usize>| Some(self.files.site.place(span));
        match subject {
            Subject::Site => site(self.site.name.span()),
            Subject::Operators => site(self.site.operators.span()),
            Subject::Server { name } => {
                site(self.site.servers.keys().find(|key| key.as_str() == name)?.span())
            }
            Subject::Interface { name } => {
                site(self.site.interfaces.keys().find(|key| key.as_str() == name)?.span())
            }
            Subject::End { interface, server } => {
                let of = self.site.interfaces.iter().find(|(key, _)| key.as_str() == interface)?;
                site(of.1.at.keys().find(|key| key.as_str() == server)?.span())
            }
            Subject::Profile { name } => {
                site(self.site.profiles.keys().find(|key| key.as_str() == name)?.span())
            }
            Subject::Node { name } => {
                site(self.site.nodes.keys().find(|key| key.as_str() == name)?.span())
            }
            Subject::Client { id } => {
                let mut of = self.clients.iter().filter(|client| client.id.as_str() == id);
                let first = of.clone().next();
                let active =
                    of.find(|client| client.state == At::nowhere(State::Active)).or(first)?;
                Some(self.files.clients.as_ref()?.place(active.id.span()))
            }
            Subject::Service { name } => Some(self.service_file(name)?.place(0..0)),
            Subject::InService { service, text } => {
                let source = self.service_file(service)?;
                let quoted = format!("\"{text}\"");
                let found = [quoted.as_str(), text].into_iter().find_map(|text| {
                    source.text().find(text).map(|start| start..start + text.len())
                });
                Some(source.place(found.unwrap_or(0..0)))
            }
            Subject::Written { text } => site(self.written(text)?),
        }
    }

    fn service_file(&self, name: &str) -> Option<&Source> {
        let of = self.services.iter().find(|of| of.manifest().service.as_str() == name)?;
        self.files.services.get(of.file)
    }

    /// What is taken of the services' files, and somebody should look at.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.services.iter().flat_map(|of| &of.read.warnings)
    }

    /// A node's public IPv4 addresses.
    pub fn public_ipv4(&self, node: &Name) -> BTreeSet<Ipv4Addr> {
        let node = self.site.nodes.get(node);
        let addresses = node.into_iter().flat_map(|node| &node.ipv4_public);
        let four = addresses.filter_map(|address| match address.0 {
            IpAddr::V4(four) => Some(four),
            IpAddr::V6(_) => None,
        });
        four.collect()
    }

    /// Where a prefix or an address stands in `site.toml`. Of several places the one that gives it
    /// out counts, and of several of these the last, which was most likely added later.
    fn written(&self, text: &str) -> Option<Range<usize>> {
        let site = &self.site;
        let ends = site.interfaces.values().flat_map(|interface| interface.at.values());
        let vpn = ends.flat_map(|end| end.vpn.iter());
        let lan = site.interfaces.values().flat_map(|interface| &interface.lan);
        let given = vpn.chain(lan).filter(|prefix| prefix.to_string() == text);
        let last = given.map(At::span).max_by_key(|span| span.start);
        last.or_else(|| {
            let quoted = format!("\"{text}\"");
            let start = self.files.site.text().find(&quoted)?;
            Some(start..start + quoted.len())
        })
    }

    /// The mesh's prefix.
    pub(crate) fn mesh_prefix(&self) -> IpNet {
        subnet(&self.site.prefix.0, MESH_SUBNET)
    }

    /// The lines of a device whose keys are in use.
    pub fn clients_in(&self, state: State) -> impl Iterator<Item = &At<Client>> {
        self.clients.iter().filter(move |client| *client.state == state)
    }
}

/// A /64 of a /48.
pub(crate) fn subnet(site: &IpNet, number: u16) -> IpNet {
    let bits = match site.network() {
        IpAddr::V6(v6) => v6.to_bits() | u128::from(number) << 64,
        IpAddr::V4(_) => u128::from(number) << 64,
    };
    IpNet::new_assert(std::net::Ipv6Addr::from_bits(bits).into(), 64)
}

/// Whose signature counts, from `allowed_signers`.
pub(super) fn signers(source: Option<&Source>, faults: &mut Vec<Diagnostic>) -> Vec<Operator> {
    let Some(source) = source else { return Vec::new() };
    match AllowedSigners::parse(source.text().as_bytes()) {
        Ok(signers) => {
            let counts =
                signers.entries().iter().filter(|entry| entry.allows_namespace("vyr-plan"));
            let mut found: Vec<_> = counts
                .map(|entry| Operator {
                    principal: entry.principal().into(),
                    public_key: entry.public_key().into(),
                })
                .collect();
            found.sort();
            found.dedup();
            found
        }
        Err(error) => {
            let lines: Vec<&str> = source.text().split_inclusive('\n').collect();
            faults.extend(error.faults.iter().map(|fault| {
                let before = lines.get(..fault.line - 1).unwrap_or_default();
                let start: usize = before.iter().map(|line| line.len()).sum();
                let line = lines.get(fault.line - 1).copied().unwrap_or_default();
                let column = line.char_indices().nth(fault.column - 1);
                let start = start + column.map_or(0, |(at, _)| at);
                Diagnostic::error("signers", fault.kind.to_string())
                    .at(source.place(start..start + 1))
                    .why("a line that is not understood could let anybody sign")
                    .hint("write NAME namespaces=\"vyr-plan\" ssh-ed25519 AAAA.., as ssh-keygen(1) has it")
            }));
            Vec::new()
        }
    }
}

/// Adds what stops a compilation to `faults`.
/// `whole`: whether everything in the site's file, and in that of the clients, could be read.
pub(super) fn resolve(intent: &Intent, whole: (bool, bool), faults: &mut Vec<Diagnostic>) {
    let (all_site, all_clients) = whole;
    let mut check = Check { intent, all_site, all_clients, faults };
    check.site();
    check.interfaces();
    check.nodes();
    check.clients();
    check.contracts();
}

struct Check<'a> {
    intent: &'a Intent,
    all_site: bool,
    all_clients: bool,
    faults: &'a mut Vec<Diagnostic>,
}

/// A name that is near, for a hint.
fn near<'a>(name: &Name, known: impl Iterator<Item = &'a Name>) -> Option<&'a Name> {
    known
        .map(|other| (strsim::jaro_winkler(other.as_str(), name.as_str()), other))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// Whether a site may have this prefix: it is nobody else's, and never changes (RFC 4193).
fn ula(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(v6) if v6.prefix_len() == 48
        && v6.network().segments()[0] >> 8 == 0xfd)
}

impl Check<'_> {
    /// A fault of what is written at `span`; what cannot be read has had its own.
    fn at_site(&mut self, span: Range<usize>, fault: Diagnostic) {
        if span.is_empty() {
            return;
        }
        let place = self.intent.files.site.place(span);
        self.faults.push(fault.at(place));
    }

    fn at_clients(&mut self, span: Range<usize>, fault: Diagnostic) {
        let place = self.intent.files.clients.as_ref().map(|source| source.place(span));
        self.faults.push(Diagnostic { place, ..fault });
    }

    fn unknown<V>(
        &self,
        kind: &str,
        name: &Name,
        known: &BTreeMap<At<Name>, V>,
    ) -> Option<Diagnostic> {
        // A name that cannot be read may be the one, and so may any of a table that is not there.
        let lost = !known.keys().all(At::is_written) || (known.is_empty() && !self.all_site);
        if lost || known.contains_key(name) {
            return None;
        }
        let fault = Diagnostic::error("unknown-name", format!("there is no {kind} {name}"));
        let mut keys = known.keys().map(|key| -> &Name { key });
        Some(match near(name, known.keys().map(|key| -> &Name { key })) {
            Some(other) => fault.hint(format!("did you mean {other}?")),
            None if known.is_empty() => fault.hint(format!("declare it: [{kind}s.{name}]")),
            None => {
                let names: Vec<String> = keys.by_ref().take(8).map(Name::to_string).collect();
                fault.hint(format!("there is {}", names.join(", ")))
            }
        })
    }

    fn unknown_client(&self, id: &Name) -> Option<Diagnostic> {
        let clients = &self.intent.clients;
        if !self.all_clients || clients.iter().any(|client| *client.id == *id) {
            return None;
        }
        let fault = Diagnostic::error("unknown-name", format!("there is no client {id}"));
        Some(match near(id, clients.iter().map(|client| -> &Name { &client.id })) {
            Some(other) => fault.hint(format!("did you mean {other}?")),
            None => fault.hint("clients.toml has its devices"),
        })
    }

    fn site(&mut self) {
        let site = &self.intent.site;
        let prefix = site.prefix.0;
        if !ula(&prefix) {
            let fault = Diagnostic::error("site-prefix", format!("the site's prefix is {prefix}"))
                .why("it must be a /48 in fd00::/8: a provider's prefix changes, this one never does")
                .hint("draw one with `vyr init` in an empty directory and copy it");
            self.at_site(site.prefix.span(), fault);
        }
        for server in site.servers.values() {
            if server.management.is_empty() {
                let fault =
                    Diagnostic::error("no-management", "a server has no management address")
                        .why("operators could not reach it after a change")
                        .hint("add the address that you reach it at by SSH");
                self.at_site(server.management.span(), fault);
            }
        }
        for id in &site.operators.clients {
            if let Some(fault) = self.unknown_client(id) {
                self.at_site(id.span(), fault);
            }
        }
        for (interface, profiles) in &site.constraints {
            if let Some(fault) = self.unknown("interface", interface, &site.interfaces) {
                self.at_site(interface.span(), fault);
            }
            for profile in profiles.iter() {
                if let Some(fault) = self.unknown("profile", profile, &site.profiles) {
                    self.at_site(profile.span(), fault);
                }
            }
        }
    }

    fn interfaces(&mut self) {
        let site = &self.intent.site;
        for (name, interface) in &site.interfaces {
            if name.as_str() == MESH || name.as_str().len() > INTERFACE_CHARS_MAX {
                let fault = Diagnostic::error("interface-name", format!("an interface is named {name}"))
                    .why("the kernel knows it as vyr-NAME with at most 15 characters, and vyr-mesh is the mesh's")
                    .hint(format!("choose another name of at most {INTERFACE_CHARS_MAX} characters"));
                self.at_site(name.span(), fault);
            }
            self.ends(name, interface);
            // Who carries a role that cannot be read?
            let roles = site.servers.values().flat_map(|server| &server.roles);
            if !interface.role.is_written() || !roles.clone().all(At::is_written) {
                continue;
            }
            let carriers: BTreeSet<&Name> = site
                .servers
                .iter()
                .filter(|(name, server)| {
                    name.is_written() && server.roles.contains(&interface.role)
                })
                .map(|(server, _)| -> &Name { server })
                .collect();
            if carriers.is_empty() && site.servers.keys().all(At::is_written) {
                let what = format!("no server has the role {}", interface.role.as_str());
                let known = roles.map(|role| -> &Name { role });
                let fault = Diagnostic::error("no-server", what);
                let fault = match near(&interface.role, known) {
                    Some(other) => fault
                        .why(format!("a server has the role {other}"))
                        .hint("one of the two may be misspelt"),
                    None => fault.hint("add it to a server's `roles`"),
                };
                self.at_site(interface.role.span(), fault);
            }
            for server in interface.at.keys() {
                if let Some(fault) = self.unknown("server", server, &site.servers) {
                    self.at_site(server.span(), fault);
                } else if !carriers.is_empty()
                    && site.servers.contains_key(server)
                    && !carriers.contains(&**server)
                {
                    let what = format!(
                        "server {} does not have the role {}",
                        server.as_str(),
                        interface.role.as_str()
                    );
                    let fault = Diagnostic::error("role", what).hint(format!(
                        "add {:?} to its roles, or remove this end",
                        interface.role.as_str()
                    ));
                    self.at_site(server.span(), fault);
                }
            }
            // The end of a server that is missing may be the one that is misspelt.
            let misspelt = interface.at.keys().any(|server| !site.servers.contains_key(server));
            let missing = carriers.iter().filter(|server| !interface.at.contains_key(**server));
            for server in missing.filter(|_| !misspelt) {
                let what = format!(
                    "server {server} has the role {} and no end of {}",
                    interface.role.as_str(),
                    name.as_str()
                );
                let fault = Diagnostic::error("role", what)
                    .why("a role is carried whole")
                    .hint(format!("add [interfaces.{}.at.{server}]", name.as_str()));
                self.at_site(name.span(), fault);
            }
        }
    }

    fn ends(&mut self, name: &At<Name>, interface: &super::Interface) {
        let site = &self.intent.site;
        for old in interface.at.values().flat_map(|end| &end.old_keys) {
            if !matches!(*old.state, State::Retired | State::Revoked) {
                let what = format!("an old key is {}", old.state.as_str());
                let fault = Diagnostic::error("old-key-state", what)
                    .why("the keys in use are `public_key` and `staged`")
                    .hint("write state = \"retired\", or \"revoked\" to refuse it for good");
                self.at_site(old.state.span(), fault);
            }
        }
        // With a prefix that cannot be read there may be one of each family, or two.
        let ends = interface.at.values().filter(|end| end.vpn.iter().all(At::is_written));
        for end in ends {
            let (v4, v6): (Vec<_>, Vec<_>) =
                end.vpn.iter().partition(|prefix| matches!(prefix.0, IpNet::V4(_)));
            for family in [&v4, &v6] {
                if let Some(second) = family.get(1) {
                    let fault =
                        Diagnostic::error("vpn-prefixes", "an end has two prefixes of one family")
                            .why("a client has one address of each family on each server")
                            .hint("keep one");
                    self.at_site(second.span(), fault);
                }
            }
            if end.vpn.is_empty() {
                let fault =
                    Diagnostic::error("vpn-prefixes", "an end has no prefix for its clients")
                        .hint("add one of each family");
                self.at_site(end.vpn.span(), fault);
            }
            for prefix in &v4 {
                if !(8..=30).contains(&prefix.0.prefix_len()) {
                    let what = format!("{} is not for clients", prefix.0);
                    let fault = Diagnostic::error("vpn-prefixes", what)
                        .why("it must hold the server and its clients: /8 to /30")
                        .hint("a /24 has room for 253 of them");
                    self.at_site(prefix.span(), fault);
                }
            }
            // A site without a prefix of its own is told so once.
            for prefix in v6.iter().filter(|_| ula(&site.prefix.0)) {
                let inside = site.prefix.0.contains(&prefix.0) && prefix.0.prefix_len() == 64;
                if !inside || prefix.0 == self.intent.mesh_prefix() {
                    let fault = Diagnostic::error(
                        "vpn-prefixes",
                        format!("{} is not for clients", prefix.0),
                    )
                    .why(format!(
                        "it must be a /64 of the site's {}, and not {}, the mesh's",
                        site.prefix.0,
                        self.intent.mesh_prefix()
                    ));
                    self.at_site(prefix.span(), fault);
                }
            }
            let told = interface.ipv6.is_written() && !end.vpn.is_empty();
            if told && *interface.ipv6 == v6.is_empty() {
                let what = match *interface.ipv6 {
                    true => format!("{} has IPv6, and this end no prefix of it", name.as_str()),
                    false => format!("{} has no IPv6, and this end a prefix of it", name.as_str()),
                };
                let fault = Diagnostic::error("vpn-prefixes", what)
                    .hint("make `ipv6` and the prefixes in `vpn` agree");
                self.at_site(end.vpn.span(), fault);
            }
        }
    }

    fn nodes(&mut self) {
        let site = &self.intent.site;
        let mut keyed = site.nodes.iter().filter(|(_, node)| node.public_key.is_some());
        if site.mesh.is_none()
            && let Some((node, _)) = keyed.next()
        {
            let fault = Diagnostic::error("no-mesh", "there are nodes and no mesh")
                .hint("add [mesh] with `port` and `allow`");
            self.at_site(node.span(), fault);
        }
        for (name, node) in &site.nodes {
            self.node(name, node);
        }
    }

    fn node(&mut self, name: &At<Name>, node: &Node) {
        if self.intent.site.mesh.is_some() && node.public_key.is_none() {
            let fault = Diagnostic::error("missing-key", format!("`{name}` has no `public_key`"))
                .why("there is a mesh, and each node is one of its")
                .hint("add `public_key = ...`");
            self.at_site(name.span(), fault);
        }
        if node.memory.is_some() != node.cpu.is_some() {
            let (there, missing) = match node.memory.is_some() {
                true => ("memory", "cpu"),
                false => ("cpu", "memory"),
            };
            let what = format!("`{name}` has `{there}` and no `{missing}`");
            let fault = Diagnostic::error("node-room", what)
                .why("services are placed by both; without either a node runs none")
                .hint(format!("add `{missing} = ...`"));
            self.at_site(name.span(), fault);
        }
        if let Some(recipient) = node.secrets.as_ref()
            && recipient.is_written()
            && !recipient.to_string().starts_with("age1")
        {
            let fault =
                Diagnostic::error("node-secrets", format!("`secrets` of {name} is no age key"))
                    .why("a node has a key of its own for secrets")
                    .hint("print it there: vyr node key --secrets");
            self.at_site(recipient.span(), fault);
        }
        for address in &node.ipv4_public {
            if address.0.is_ipv6() {
                let fault = Diagnostic::error("node-ipv4", format!("{address} is no IPv4 address"))
                    .why("services are reached by IPv6 without being given an address")
                    .hint("list IPv4 addresses alone");
                self.at_site(address.span(), fault);
            }
        }
    }

    fn clients(&mut self) {
        let (site, clients) = (&self.intent.site, &self.intent.clients);
        if clients.len() > CLIENTS_MAX {
            let what = format!("there are {} clients", clients.len());
            self.faults
                .push(Diagnostic::error("too-many", what).why(format!("at most {CLIENTS_MAX}")));
        }
        let mut seen: BTreeMap<(&Name, State), &At<Client>> = BTreeMap::new();
        let mut lines: BTreeMap<&Name, &At<Client>> = BTreeMap::new();
        for client in clients {
            if let Some(fault) = self.unknown("interface", &client.interface, &site.interfaces) {
                self.at_clients(client.interface.span(), fault);
            }
            if let Some(fault) = self.unknown("profile", &client.profile, &site.profiles) {
                self.at_clients(client.profile.span(), fault);
            }
            let once = matches!(*client.state, State::Active | State::Staged);
            let other = once.then(|| seen.insert((&client.id, *client.state), client)).flatten();
            if let (Some(other), Some(source)) = (other, &self.intent.files.clients) {
                let word = if *client.state == State::Active { "active" } else { "staged" };
                let what = format!("{} has two {word} keys", client.id.as_str());
                let line = source.place(other.id.span()).line;
                let why = "a device has at most one active and one staged key";
                let fault = Diagnostic::error("client-state", what)
                    .why(format!("{why}; the other one is in line {line}"))
                    .hint("retire one of them, or give the other device an id of its own");
                self.at_clients(client.id.span(), fault);
            }
            let first = lines.entry(&client.id).or_insert(client);
            if first.interface != client.interface {
                let what = format!("{} is on two interfaces", client.id.as_str());
                let fault = Diagnostic::error("client-interface", what)
                    .why("a device has an id, a key and addresses of its own on each interface")
                    .hint(format!("name it {}-{}", client.id.as_str(), client.interface.as_str()));
                self.at_clients(client.interface.span(), fault);
            }
        }
    }

    fn contracts(&mut self) {
        let site = &self.intent.site;
        let mut names: BTreeMap<&Name, SourcePlace> = BTreeMap::new();
        for ContractAt { file, contract } in &self.intent.contracts {
            let source = &self.intent.files.contracts[*file];
            let place = source.place(contract.name.span());
            if let Some(other) = names.insert(&contract.name, place.clone()) {
                let what = format!("two contracts are named {}", contract.name.as_str());
                let fault = Diagnostic::error("contract-name", what)
                    .why(format!("the other one is in {}, line {}", other.file, other.line))
                    .hint("name one of them otherwise");
                self.faults.push(fault.at(place));
            }
            for (list, what) in [(&contract.from, "from"), (&contract.to, "to")] {
                if list.is_empty() {
                    let fault = Diagnostic::error("contract-empty", format!("`{what}` is empty"))
                        .why("a contract about no packet holds whatever happens")
                        .hint("name a place, such as interface:NAME or 0.0.0.0/0");
                    self.faults.push(fault.at(source.place(list.span())));
                }
            }
            if contract.port.is_empty() {
                let fault = Diagnostic::error("contract-empty", "`port` is empty")
                    .why("a contract about no packet holds whatever happens")
                    .hint("leave it out to mean every protocol and port");
                self.faults.push(fault.at(source.place(contract.port.span())));
            }
            for place in contract.from.iter().chain(contract.to.iter()) {
                let fault = match &**place {
                    Place::Client(id) => self.unknown_client(id),
                    Place::Interface(name) | Place::Lan(name) => {
                        self.unknown("interface", name, &site.interfaces)
                    }
                    Place::Profile(name) => self.unknown("profile", name, &site.profiles),
                    Place::Server(name) => self.unknown("server", name, &site.servers),
                    Place::Node(name) => self.unknown("node", name, &site.nodes),
                    Place::Mesh | Place::Operators | Place::Internet | Place::Prefix(_) => None,
                };
                if let Some(fault) = fault {
                    self.faults.push(fault.at(source.place(place.span())));
                }
            }
        }
    }
}
