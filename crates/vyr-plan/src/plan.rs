//! The plan: what each machine gets, complete, in one canonical JSON document named by its digest.
//!
//! Invariants:
//! 1. The same intent, lock and parent give the same bytes, in any order and on any machine: lists
//!    are sorted, and nothing comes from a clock, a host or an environment.
//! 2. There is no secret in it: public keys only.
//! 3. A reader takes only the bytes that a writer makes (RFC 8785, closed schema).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vyr_base::{Category, Digest, Problem, canonical};

use crate::intent::{Key, Name, Operator, Service};
use crate::space::{Block, Set};

/// The form of this document.
pub const PLAN_VERSION: u8 = 1;
/// Bytes of a plan. One of ten thousand clients has six million.
pub const PLAN_BYTES_MAX: usize = 128 << 20;

/// Which of the two plans of a site this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// WireGuard, addresses, routes, firewall.
    Network,
    /// Images, instances, ingress.
    Services,
}

impl Kind {
    /// As a plan, a lock and a command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Services => "services",
        }
    }
}

/// What a site becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The form of this document: [`PLAN_VERSION`].
    pub version: u8,
    /// Which plan.
    pub kind: Kind,
    /// The site's name.
    pub site: Name,
    /// One more than the parent's; a node refuses to go back.
    pub epoch: u64,
    /// The plan this one replaces; null: none.
    pub parent: Option<Digest>,
    /// Who signs the plan after this one.
    pub trust: TrustRoot,
    /// Who can open a recovery bundle.
    pub recovery: Vec<String>,
    /// The site's own prefix.
    pub prefix: IpNet,
    /// What clients connect to.
    pub interfaces: Vec<Interface>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// People's devices.
    pub clients: Vec<Client>,
    /// Keys that are refused for good. It only grows.
    pub revoked: Vec<Key>,
}

/// Whose signatures a plan needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// How many of them.
    pub threshold: u8,
    /// The holders of keys.
    pub operators: Vec<Operator>,
    /// Where they work from.
    pub from: Vec<IpNet>,
}

/// What clients connect to, on whichever server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name.
    pub name: Name,
    /// Whether it is an experiment.
    pub experimental: bool,
    /// Whether clients may reach the internet through it.
    pub internet: bool,
    /// The local networks behind it.
    pub lan: Vec<IpNet>,
    /// Name servers for its clients.
    pub dns: Vec<IpAddr>,
    /// The profiles it takes.
    pub profiles: Vec<Profile>,
}

/// What a client may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: Name,
    /// The local networks.
    pub lan: bool,
    /// The internet.
    pub internet: bool,
}

/// A machine: a server, a node, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: Name,
    /// Where operators reach it; empty for a node that is no server.
    pub management: Vec<IpAddr>,
    /// The port of SSH there.
    pub management_port: u16,
    /// Bytes of the largest packet its uplink carries.
    pub uplink_mtu: u16,
    /// Its WireGuard interfaces.
    pub links: Vec<Link>,
    /// Named sets of addresses that rules speak of.
    pub sets: Vec<AddressSet>,
    /// What may pass. What comes from or goes to a link and no rule accepts is dropped; packets
    /// between other interfaces are not ours.
    pub rules: Vec<Rule>,
    /// Sets whose packets leave with the machine's own address, when they go to `INTERNET`.
    pub masquerade: Vec<String>,
}

impl Machine {
    /// The link of an interface; of two the one that the other one follows.
    pub fn link(&self, interface: &str) -> Option<&Link> {
        self.ends(interface).find(|link| link.second_of.is_none())
    }

    /// The second end of an interface, if its server's key rotates.
    pub fn second(&self, interface: &str) -> Option<&Link> {
        self.ends(interface).find(|link| link.second_of.is_some())
    }

    fn ends(&self, interface: &str) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.interface.as_str() == interface)
    }

    /// The link that a second one follows, if it is one.
    pub fn first_of(&self, second: &Link) -> Option<&Link> {
        let first = second.second_of.as_deref()?;
        self.links.iter().find(|link| link.name == first && link.second_of.is_none())
    }

    /// The addresses from which a link may hear: those of its peers, and on a second end also those
    /// that its peers have on the first, because they may be moved without another plan.
    pub fn heard<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = &'a IpNet> {
        let first = self.first_of(link).into_iter().flat_map(|first| &first.peers);
        let known: BTreeSet<&Name> = link.peers.iter().map(|peer| &peer.id).collect();
        let moved = first.filter(move |peer| known.contains(&peer.id));
        link.peers.iter().chain(moved).flat_map(|peer| &peer.allowed_ips)
    }

    /// The prefixes of a set; none if it is not there.
    pub fn set(&self, name: &str) -> &[IpNet] {
        let found = self.sets.binary_search_by(|set| set.name.as_str().cmp(name));
        found.map_or(&[], |at| &self.sets[at].prefixes)
    }
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Clients connect to it.
    Clients,
    /// Nodes are connected by it.
    Mesh,
}

/// A WireGuard interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// As the kernel knows it: `vyr-` and the interface's name, perhaps with `-2`.
    pub name: String,
    /// The interface.
    pub interface: Name,
    /// What it is for.
    pub kind: LinkKind,
    /// Its public key. The private one is on the machine.
    pub public_key: Key,
    /// In the mesh, the key that takes over; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged_key: Option<Key>,
    /// On a second end, whose key and port take over, the name of the first; absent: it is no
    /// second end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_of: Option<String>,
    /// Keys that this end had and has no more, sorted; absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired_keys: Vec<Key>,
    /// How others find it: `host:port`.
    pub endpoint: Option<String>,
    /// Its UDP port.
    pub listen_port: u16,
    /// Bytes of the largest packet inside the tunnel.
    pub mtu: u16,
    /// Its own addresses, with the prefix behind it.
    pub addresses: Vec<IpNet>,
    /// What is routed into it.
    pub routes: Vec<IpNet>,
    /// Who may speak through it.
    pub peers: Vec<Peer>,
    /// What a client sends into its tunnel, by profile.
    pub tunnels: Vec<Tunnel>,
}

/// A peer of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The client or node.
    pub id: Name,
    /// Its public key.
    pub public_key: Key,
    /// Source addresses taken from it, and destinations sent to it; none: it may shake hands only.
    pub allowed_ips: Vec<IpNet>,
    /// Where it is found, if it is found.
    pub endpoint: Option<String>,
    /// Seconds between packets that keep an address translation open.
    pub keepalive_s: Option<u16>,
}

/// What a client with a profile sends into its tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// The profile.
    pub profile: Name,
    /// AllowedIPs of the server in the client's configuration.
    pub allowed_ips: Vec<IpNet>,
}

/// A named set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressSet {
    /// Its name: `office.split`, or capitals for what belongs to no interface.
    pub name: String,
    /// The fewest prefixes that cover it, IPv4 first.
    pub prefixes: Vec<IpNet>,
}

/// Where an accepted packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Toward {
    /// To the machine itself.
    Local,
    /// Out of an interface that is not a link.
    Elsewhere,
}

/// One thing that may pass. There are no rules that drop: what no rule accepts is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, in every message about it and in the firewall's comment.
    pub id: String,
    /// The link it comes from, as the kernel knows it.
    pub from: String,
    /// Where it goes.
    pub toward: Toward,
    /// A set of source addresses.
    pub source: String,
    /// A set of destination addresses.
    pub destination: String,
    /// Protocols and ports.
    pub services: Vec<Service>,
}

impl Rule {
    /// Its packets, before links and routes have their say.
    pub fn block(&self, machine: &Machine) -> Block {
        let services = self.services.iter().fold(Set::empty(), |all, one| all.union(&one.set()));
        Block {
            source: Set::prefixes(machine.set(&self.source)),
            destination: Set::prefixes(machine.set(&self.destination)),
            service: services,
        }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The device.
    pub id: Name,
    /// What it connects to.
    pub interface: Name,
    /// What it may reach.
    pub profile: Name,
    /// Its key; null while only a staged one is there.
    pub public_key: Option<Key>,
    /// The key that takes over.
    pub staged_key: Option<Key>,
    /// Its addresses, by server.
    pub addresses: Vec<ClientAddress>,
}

/// A device's addresses on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAddress {
    /// The server.
    pub server: Name,
    /// A /32, a /128, or both.
    pub addresses: Vec<IpNet>,
}

/// Why bytes are no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Too many of them.
    #[error("a plan of {0} bytes is refused, {PLAN_BYTES_MAX} are the most")]
    TooLarge(usize),
    /// Not a plan, or not in its one spelling.
    #[error("it is not a plan: {0}")]
    Form(#[source] canonical::CanonicalError),
    /// Of another version.
    #[error("it is a plan of version {0}; this vyr reads {PLAN_VERSION}")]
    Version(u8),
    /// Too many things in it.
    #[error("a plan with more than {most} {what} is refused")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Of the other kind.
    #[error("it is a plan of the {} kind, not of the {} one", .found.as_str(), .wanted.as_str())]
    Kind {
        /// What was to be read.
        wanted: Kind,
        /// What it is.
        found: Kind,
    },
    /// Another plan.
    #[error("it is the plan {found}, not {wanted}")]
    Other {
        /// What was asked for.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
}

impl Problem for PlanError {
    fn category(&self) -> Category {
        match self {
            Self::TooLarge(_)
            | Self::Form(_)
            | Self::Version(_)
            | Self::TooMany { .. }
            | Self::Kind { .. } => Category::Usage,
            Self::Other { .. } => Category::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Kind { found, .. } => format!("name the kind: {}", found.as_str()),
            _ => "compile it again from the site: vyr plan".into(),
        })
    }
}

/// A plan of either kind: what is done with both in the same way.
pub trait Document: Sized {
    /// Which kind it is.
    const KIND: Kind;

    /// Reads a plan of this kind in its one spelling.
    ///
    /// # Errors
    /// Whatever is not what [`Document::to_bytes`] writes.
    fn parse(bytes: &[u8]) -> Result<Self, PlanError>;

    /// Its bytes, canonical JSON.
    ///
    /// # Errors
    /// None for a plan that was compiled or read.
    fn to_bytes(&self) -> Result<Vec<u8>, PlanError>;

    /// The site it is for.
    fn site(&self) -> &Name;

    /// One more than its parent's.
    fn epoch(&self) -> u64;

    /// The plan of the same kind that it replaces.
    fn parent(&self) -> Option<Digest>;

    /// Who signs the plan after it.
    fn trust(&self) -> &TrustRoot;

    /// Its name: the digest of its bytes.
    ///
    /// # Errors
    /// As [`Document::to_bytes`].
    fn digest(&self) -> Result<Digest, PlanError> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// Reads the plan of a digest, and nothing else.
    ///
    /// # Errors
    /// As [`Document::parse`], and [`PlanError::Other`] for bytes of another digest.
    fn parse_as(bytes: &[u8], wanted: &Digest) -> Result<Self, PlanError> {
        let found = Digest::of(bytes);
        match found == *wanted {
            true => Self::parse(bytes),
            false => Err(PlanError::Other { wanted: *wanted, found }),
        }
    }
}

impl Document for Plan {
    const KIND: Kind = Kind::Network;

    fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        Self::parse(bytes)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        self.to_bytes()
    }

    fn site(&self) -> &Name {
        &self.site
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn parent(&self) -> Option<Digest> {
        self.parent
    }

    fn trust(&self) -> &TrustRoot {
        &self.trust
    }
}

/// What both kinds of plans begin with, whatever else is in them.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
}

/// Which kind of plan these bytes say they are, if they say it.
pub fn kind_of(bytes: &[u8]) -> Option<Kind> {
    let within = bytes.len() <= PLAN_BYTES_MAX;
    within.then(|| serde_json::from_slice::<Head>(bytes).ok()).flatten().map(|head| head.kind)
}

/// Reads a document of one kind in its one spelling; one of the other kind is told so.
pub(crate) fn read_as<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    wanted: Kind,
) -> Result<T, PlanError> {
    canonical::parse(bytes).map_err(|error| match kind_of(bytes) {
        Some(found) if found != wanted => PlanError::Kind { wanted, found },
        _ => PlanError::Form(error),
    })
}

impl Plan {
    /// Its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        canonical::to_vec(self).map_err(PlanError::Form)
    }

    /// Its name: the digest of its bytes.
    pub fn digest(&self) -> Result<Digest, PlanError> {
        Ok(Digest::of(&self.to_bytes()?))
    }

    /// Reads a plan in its one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        if bytes.len() > PLAN_BYTES_MAX {
            return Err(PlanError::TooLarge(bytes.len()));
        }
        let plan: Self = read_as(bytes, Kind::Network)?;
        if plan.kind != Kind::Network {
            return Err(PlanError::Kind { wanted: Kind::Network, found: plan.kind });
        }
        match plan.version {
            // A list in another order would be another spelling, and what is found by search in
            // one reader would not be found in the next.
            PLAN_VERSION if !plan.is_in_order() => {
                Err(PlanError::Form(canonical::CanonicalError::NotCanonical))
            }
            PLAN_VERSION => Ok(plan),
            other => Err(PlanError::Version(other)),
        }
    }

    /// Reads the plan of a digest, and nothing else.
    pub fn parse_as(bytes: &[u8], wanted: &Digest) -> Result<Self, PlanError> {
        let found = Digest::of(bytes);
        match found == *wanted {
            true => Self::parse(bytes),
            false => Err(PlanError::Other { wanted: *wanted, found }),
        }
    }

    /// Whether lists are as the compiler makes them: sorted by name, and no name twice.
    fn is_in_order(&self) -> bool {
        fn rising<'a, T, K: PartialOrd + 'a>(items: &'a [T], key: impl Fn(&'a T) -> K) -> bool {
            items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
        }
        let machine = |machine: &Machine| {
            let links: BTreeSet<(&Name, bool)> = machine
                .links
                .iter()
                .map(|link| (&link.interface, link.second_of.is_some()))
                .collect();
            let names: BTreeSet<&str> =
                machine.links.iter().map(|link| link.name.as_str()).collect();
            let peers = |link: &Link| rising(&link.peers, |peer| (&peer.id, peer.public_key));
            links.len() == machine.links.len()
                && names.len() == machine.links.len()
                && machine.links.iter().all(peers)
                && machine.links.iter().all(|link| rising(&link.retired_keys, |key| *key))
                && rising(&machine.sets, |set| &set.name)
                && rising(&machine.rules, |rule| &rule.id)
                && rising(&machine.masquerade, |set| set)
        };
        rising(&self.interfaces, |one| &one.name)
            && self.interfaces.iter().all(|one| rising(&one.profiles, |of| &of.name))
            && rising(&self.machines, |one| &one.name)
            && self.machines.iter().all(machine)
            && rising(&self.clients, |one| &one.id)
            && rising(&self.revoked, |key| *key)
    }

    /// A machine.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.name.as_str() == name)
    }

    /// An interface.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name.as_str() == name)
    }

    /// A device.
    pub fn client(&self, id: &str) -> Option<&Client> {
        let found = self.clients.binary_search_by(|client| client.id.as_str().cmp(id));
        found.ok().map(|at| &self.clients[at])
    }

    /// The addresses that clients of links have, of any interface.
    pub fn client_addresses(&self, wanted: impl Fn(&Client) -> bool) -> Set {
        let clients = self.clients.iter().filter(|client| wanted(client));
        let addresses = clients.flat_map(|client| &client.addresses);
        Set::prefixes(addresses.flat_map(|of| &of.addresses))
    }

    /// Every prefix that belongs to a link of one kind.
    pub fn link_prefixes(&self, kind: LinkKind) -> impl Iterator<Item = (&Machine, &Link, &IpNet)> {
        let links = self
            .machines
            .iter()
            .flat_map(|machine| machine.links.iter().map(move |link| (machine, link)));
        links
            .filter(move |(_, link)| link.kind == kind)
            .flat_map(|(machine, link)| link.routes.iter().map(move |route| (machine, link, route)))
    }
}
