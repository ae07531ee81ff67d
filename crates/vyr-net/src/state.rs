//! What a host has of ours, and nothing that changes by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vyr_base::{Digest, canonical};
use vyr_plan::intent::Key;

use crate::firewall::Ruleset;

/// The form of a [`State`].
pub const STATE_VERSION: u8 = 1;
/// The number in each route of ours (`rtm_protocol`): `V`. None below 128 of this value is named in
/// the kernel's `rtnetlink.h`; `ip route show proto 86` lists ours.
pub const ROUTE_PROTOCOL: u8 = 86;
/// What the names of our links begin with.
pub const LINK_PREFIX: &str = "vyr-";
/// Bytes of a link's name in the kernel (`IFNAMSIZ`), without its zero.
const LINK_NAME_BYTES_MAX: usize = 15;
/// The least that IPv6 works with (RFC 8200); below it the kernel takes IPv6 away from a link.
const MTU_MIN: u32 = 1280;

/// Whether a link of this name is ours, and can be one.
pub(crate) fn is_ours(name: &str) -> bool {
    name.len() > LINK_PREFIX.len()
        && name.len() <= LINK_NAME_BYTES_MAX
        && name.starts_with(LINK_PREFIX)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What a host has of ours: sorted, so that equal hosts are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The form of this document: [`STATE_VERSION`].
    pub version: u8,
    /// Our links, by name.
    pub links: Vec<Link>,
    /// Our table of nftables; none: there is no such table.
    pub firewall: Option<Ruleset>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: STATE_VERSION, links: Vec::new(), firewall: None }
    }
}

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// WireGuard, in the kernel or beside it.
    Wireguard,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// As the kernel knows it.
    pub name: String,
    /// What carries it.
    pub kind: LinkKind,
    /// Bytes of the largest packet inside.
    pub mtu: u32,
    /// Whether it carries packets. One that is down has no routes: the kernel takes them.
    pub up: bool,
    /// Its UDP port; 0: any.
    pub listen_port: u16,
    /// The mark of its own packets; 0: none.
    pub fwmark: u32,
    /// Its public key; none: it has no key. The private one is never here.
    pub public_key: Option<Key>,
    /// Its own addresses, with the prefix behind each. Link-local ones of IPv6 are the kernel's.
    pub addresses: Vec<IpNet>,
    /// What is routed into it by us, in the main table.
    pub routes: Vec<IpNet>,
    /// Who may speak through it, by key.
    pub peers: Vec<Peer>,
}

impl Link {
    /// A link as one is made: down, without a key.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            kind: LinkKind::Wireguard,
            mtu: 1420,
            up: false,
            listen_port: 0,
            fwmark: 0,
            public_key: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// A peer of it.
    pub fn peer(&self, key: &Key) -> Option<&Peer> {
        let at = self.peers.binary_search_by(|peer| peer.public_key.cmp(key));
        at.ok().map(|at| &self.peers[at])
    }
}

/// One peer of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Who it is.
    pub public_key: Key,
    /// Source addresses taken from it, and destinations sent to it.
    pub allowed_ips: Vec<IpNet>,
    /// Where it is found, if a plan says so. Where others were last heard is in [`LivePeer`].
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep an address translation open.
    pub keepalive_s: Option<u16>,
    /// Whether it has a preshared key.
    pub has_preshared: bool,
}

/// What changes by itself, and so is in no digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Live {
    /// By name, as in [`State::links`].
    pub links: Vec<LiveLink>,
}

/// The same of one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveLink {
    /// As the kernel knows it.
    pub name: String,
    /// By key, as in [`Link::peers`].
    pub peers: Vec<LivePeer>,
}

/// The same of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LivePeer {
    /// Who it is.
    pub public_key: Key,
    /// Where it was last heard, or is looked for.
    pub endpoint: Option<SocketAddr>,
    /// When it last shook hands: seconds since 1970; none: not since it was added.
    pub handshake_unix_s: Option<u64>,
    /// Bytes that came from it.
    pub rx_bytes: u64,
    /// Bytes that went to it.
    pub tx_bytes: u64,
}

/// Why a state cannot be that of any host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Of another form.
    #[error("it is a state of version {0}; this vyr reads {STATE_VERSION}")]
    Version(u8),
    /// Not a name that a link of ours can have.
    #[error("a link of ours cannot be called {0:?}")]
    Name(String),
    /// Two links of one name, or two peers of one key.
    #[error("{0} is there twice")]
    Twice(String),
    /// A list that is not sorted.
    #[error("the {what} of {link} are not in order")]
    Order {
        /// Of what.
        what: &'static str,
        /// Whose.
        link: String,
    },
    /// Two links cannot listen at one port.
    #[error("{first} and {second} both listen at port {port}")]
    Port {
        /// One link.
        first: String,
        /// The other.
        second: String,
        /// The port.
        port: u16,
    },
    /// The kernel has one way for a prefix, and WireGuard one peer.
    #[error("{prefix} would go to both {first} and {second}")]
    Prefix {
        /// The prefix.
        prefix: IpNet,
        /// One link or peer.
        first: String,
        /// The other.
        second: String,
    },
    /// The kernel has no routes into a link that is down.
    #[error("{0} is down and has routes")]
    DownWithRoutes(String),
    /// IPv6 needs more.
    #[error("an MTU of {mtu} for {link} is less than {MTU_MIN}")]
    Mtu {
        /// The link.
        link: String,
        /// What was asked for.
        mtu: u32,
    },
    /// WireGuard drops a peer that has the link's own key.
    #[error("{0} would be a peer of itself")]
    OwnKey(String),
}

impl State {
    /// A link.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Sorts it.
    pub fn normalise(&mut self) {
        self.links.sort_by(|a, b| a.name.cmp(&b.name));
        for link in &mut self.links {
            sort(&mut link.addresses);
            shorten(&mut link.routes);
            link.peers.sort_by_key(|peer| peer.public_key);
            for peer in &mut link.peers {
                shorten(&mut peer.allowed_ips);
                peer.keepalive_s = peer.keepalive_s.filter(|seconds| *seconds != 0);
            }
        }
    }

    /// Its name: the digest of its canonical bytes.
    pub fn digest(&self) -> Result<Digest, canonical::CanonicalError> {
        Ok(Digest::of(&canonical::to_vec(self)?))
    }

    /// The same without endpoints that `wanted` does not speak of: those peers roam.
    #[must_use]
    pub fn without_learnt(mut self, wanted: &Self) -> Self {
        for link in &mut self.links {
            let other = wanted.link(&link.name);
            for peer in &mut link.peers {
                let declared = other.and_then(|other| other.peer(&peer.public_key));
                if declared.is_none_or(|declared| declared.endpoint.is_none()) {
                    peer.endpoint = None;
                }
            }
        }
        self
    }

    /// Whether some host could be like this.
    pub fn check(&self) -> Result<(), StateError> {
        if self.version != STATE_VERSION {
            return Err(StateError::Version(self.version));
        }
        if let Some(pair) = self.links.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(StateError::Twice(pair[0].name.clone()));
        }
        if !self.links.is_sorted_by_key(|link| &link.name) {
            return Err(StateError::Order { what: "names", link: "the host's links".into() });
        }
        let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
        let mut routes: BTreeMap<IpNet, &str> = BTreeMap::new();
        for link in &self.links {
            link.check()?;
            let taken = ports.insert(link.listen_port, &link.name);
            if let Some(first) = taken.filter(|_| link.listen_port != 0) {
                let (first, second) = (first.into(), link.name.clone());
                return Err(StateError::Port { first, second, port: link.listen_port });
            }
            for route in &link.routes {
                if let Some(first) = routes.insert(*route, &link.name) {
                    let (first, second) = (first.into(), link.name.clone());
                    return Err(StateError::Prefix { prefix: *route, first, second });
                }
            }
        }
        Ok(())
    }
}

impl Link {
    fn check(&self) -> Result<(), StateError> {
        if !is_ours(&self.name) {
            return Err(StateError::Name(self.name.clone()));
        }
        if self.mtu < MTU_MIN {
            return Err(StateError::Mtu { link: self.name.clone(), mtu: self.mtu });
        }
        if !self.up && !self.routes.is_empty() {
            return Err(StateError::DownWithRoutes(self.name.clone()));
        }
        let keys: BTreeSet<&Key> = self.peers.iter().map(|peer| &peer.public_key).collect();
        if keys.len() != self.peers.len() {
            return Err(StateError::Twice(format!("a peer of {}", self.name)));
        }
        if self.public_key.is_some_and(|own| keys.contains(&own)) {
            return Err(StateError::OwnKey(self.name.clone()));
        }
        let order = |what, sorted: bool| match sorted {
            true => Ok(()),
            false => Err(StateError::Order { what, link: self.name.clone() }),
        };
        order("addresses", rises(&self.addresses))?;
        order("routes", rises(&self.routes))?;
        order("peers", self.peers.is_sorted_by_key(|peer| peer.public_key))?;
        let mut owners: BTreeMap<IpNet, Key> = BTreeMap::new();
        for peer in &self.peers {
            order("allowed IPs", rises(&peer.allowed_ips))?;
            for prefix in &peer.allowed_ips {
                if let Some(first) = owners.insert(*prefix, peer.public_key) {
                    let (first, second) = (first.to_string(), peer.public_key.to_string());
                    return Err(StateError::Prefix { prefix: *prefix, first, second });
                }
            }
        }
        Ok(())
    }
}

/// Bits after the prefix say nothing, and the kernel drops them.
fn shorten(prefixes: &mut Vec<IpNet>) {
    prefixes.iter_mut().for_each(|prefix| *prefix = prefix.trunc());
    sort(prefixes);
}

fn sort(prefixes: &mut Vec<IpNet>) {
    prefixes.sort();
    prefixes.dedup();
}

fn rises(prefixes: &[IpNet]) -> bool {
    prefixes.windows(2).all(|pair| pair[0] < pair[1])
}
