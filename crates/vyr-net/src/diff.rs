//! The steps from what a host has to what is wanted. Pure.
//!
//! ```text
//! firewall    what was wanted and what will be, both
//! ports       given up that another link needs
//! links       new ones, then those that stay: WireGuard in one set, addresses, up
//! routes      new ones, and those that change links
//! deletions   routes, addresses, links
//! firewall    what will be
//! memory      of connections, those that may not begin any more, and those of peers that are gone
//! ```
//!
//! Laws, each a property in the tests: done in order the steps make what was wanted; there are none
//! between equals; a peer that stays is not removed; an allowed IP that somebody has before and
//! after is somebody's in between, because who gets one takes it from who had it, in one set and
//! before anything is taken away; what was accepted once and would not be any more is cut, and nothing
//! else.
//!
//! Endpoints that are not wanted are not compared: see [`State::without_learnt`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vyr_plan::intent::Key;
use vyr_plan::{Block, Region, Set};

use crate::firewall::{Ruleset, union};
use crate::model::ModelError;
use crate::state::{Link, Peer, State};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Puts a table in the place of ours, in one transaction; none: removes ours.
    Firewall {
        /// The table.
        to: Option<Ruleset>,
    },
    /// Makes a WireGuard link, down and without a key.
    AddLink {
        /// Its name.
        link: String,
    },
    /// Removes a link, and everything that is on it.
    DelLink {
        /// Its name.
        link: String,
    },
    /// Sets the largest packet.
    SetMtu {
        /// The link.
        link: String,
        /// Bytes.
        mtu: u32,
    },
    /// Lets a link carry packets, or not. The kernel takes the routes of a link that goes down, and
    /// its IPv6 addresses.
    SetUp {
        /// The link.
        link: String,
        /// Whether it does.
        up: bool,
    },
    /// Sets the UDP port; 0: any.
    SetListenPort {
        /// The link.
        link: String,
        /// The port.
        port: u16,
    },
    /// Sets the mark of the link's own packets; 0: none.
    SetFwmark {
        /// The link.
        link: String,
        /// The mark.
        fwmark: u32,
    },
    /// Sets the private key, which is not here: whoever applies this has it. None: takes it away.
    SetKey {
        /// The link.
        link: String,
        /// The public key that must belong to it.
        public_key: Option<Key>,
    },
    /// Gives a link an address.
    AddAddress {
        /// The link.
        link: String,
        /// The address, with the prefix behind it.
        address: IpNet,
    },
    /// Takes one away.
    DelAddress {
        /// The link.
        link: String,
        /// The address, with the prefix behind it.
        address: IpNet,
    },
    /// Routes a prefix into a link.
    AddRoute {
        /// The link.
        link: String,
        /// The prefix.
        route: IpNet,
    },
    /// Routes a prefix of ours into another link, with no packet between the two.
    MoveRoute {
        /// Where it goes now.
        from: String,
        /// Where it will go.
        link: String,
        /// The prefix.
        route: IpNet,
    },
    /// Takes a route of ours away.
    DelRoute {
        /// The link.
        link: String,
        /// The prefix.
        route: IpNet,
    },
    /// Makes or changes a peer.
    PeerSet(PeerSet),
    /// Forgets the connections that some addresses began, except those that they still may. What was
    /// accepted once passes on as `established`, whatever the rules say since.
    Cut {
        /// Who began them.
        of: Vec<IpNet>,
        /// What they may begin.
        except: Vec<May>,
    },
    /// Forgets the connections of addresses. What was accepted once passes on as `established`,
    /// whoever's key is gone meanwhile.
    Forget {
        /// The addresses.
        addresses: Vec<IpNet>,
    },
    /// Removes a peer, and its session.
    PeerRemove {
        /// The link.
        link: String,
        /// The peer.
        peer: Key,
    },
}

/// What some addresses may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct May {
    /// These.
    pub source: Vec<IpNet>,
    /// With these.
    pub destination: Vec<IpNet>,
    /// First and last, each a protocol's number and a port behind it.
    pub services: Vec<(u32, u32)>,
}

impl May {
    fn of(block: &Block) -> Self {
        let low = |point: u128| u32::try_from(point).unwrap_or(u32::MAX);
        let services = block.service.intervals().iter();
        Self {
            source: block.source.to_prefixes(),
            destination: block.destination.to_prefixes(),
            services: services.map(|(first, last)| (low(*first), low(*last))).collect(),
        }
    }

    /// As a block again.
    pub(crate) fn block(&self) -> Block {
        let services = self.services.iter();
        Block {
            source: Set::prefixes(&self.source),
            destination: Set::prefixes(&self.destination),
            service: Set::of(services.map(|(first, last)| ((*first).into(), (*last).into()))),
        }
    }
}

/// A peer, or what changes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSet {
    /// The link.
    pub link: String,
    /// The peer.
    pub peer: Key,
    /// Whether it is made. If not it must be there: one that has gone is not made again.
    pub new: bool,
    /// Allowed IPs, if they change.
    pub allowed_ips: Option<AllowedIps>,
    /// The endpoint, if it changes.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives, if they change; 0: none are sent.
    pub keepalive_s: Option<u16>,
    /// Whether it gets or loses a preshared key; the key itself is not here.
    pub preshared: Option<bool>,
}

/// What happens to the allowed IPs of a peer. Whichever it gets another peer of the link loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllowedIps {
    /// It gets these.
    Add(Vec<IpNet>),
    /// It has these, and no others. The data plane takes all away and then gives these: a packet
    /// of this peer, and of no other, may be lost in between.
    Replace(Vec<IpNet>),
}

impl Op {
    /// The link that it is about.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Firewall { .. } | Self::Cut { .. } | Self::Forget { .. } => None,
            Self::PeerSet(set) => Some(&set.link),
            Self::AddLink { link }
            | Self::DelLink { link }
            | Self::SetMtu { link, .. }
            | Self::SetUp { link, .. }
            | Self::SetListenPort { link, .. }
            | Self::SetFwmark { link, .. }
            | Self::SetKey { link, .. }
            | Self::AddAddress { link, .. }
            | Self::DelAddress { link, .. }
            | Self::AddRoute { link, .. }
            | Self::MoveRoute { link, .. }
            | Self::DelRoute { link, .. }
            | Self::PeerRemove { link, .. } => Some(link),
        }
    }

    /// What takes this step back on a host that was `before` when it was taken.
    pub fn undo(&self, before: &State) -> Result<Vec<Self>, ModelError> {
        undo(std::slice::from_ref(self), before)
    }
}

/// What takes some steps back on a host that was `before` when the first was taken.
pub fn undo(steps: &[Op], before: &State) -> Result<Vec<Op>, ModelError> {
    let mut after = before.clone();
    steps.iter().try_for_each(|op| after.take(op))?;
    Ok(ops(&after, before))
}

fn list(all: &[IpNet]) -> String {
    match all {
        [] => "none".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firewall { to: None } => write!(f, "firewall: remove the table"),
            Self::Firewall { to: Some(to) } => {
                write!(f, "firewall: {} rules in {} chains", to.rules(), to.chains())
            }
            Self::Cut { of, .. } => {
                let of = Set::prefixes(of);
                write!(f, "connections: cut those that {of} may not begin any more")
            }
            Self::Forget { addresses } => {
                write!(f, "connections: forget those of {}", list(addresses))
            }
            Self::AddLink { link } => write!(f, "{link}: make it"),
            Self::DelLink { link } => write!(f, "{link}: remove it"),
            Self::SetMtu { link, mtu } => write!(f, "{link}: mtu {mtu}"),
            Self::SetUp { link, up } => write!(f, "{link}: {}", if *up { "up" } else { "down" }),
            Self::SetListenPort { link, port: 0 } => write!(f, "{link}: listen at any port"),
            Self::SetListenPort { link, port } => write!(f, "{link}: listen at port {port}"),
            Self::SetFwmark { link, fwmark } => write!(f, "{link}: mark {fwmark:#x}"),
            Self::SetKey { link, public_key: Some(key) } => write!(f, "{link}: key of {key}"),
            Self::SetKey { link, public_key: None } => write!(f, "{link}: no key"),
            Self::AddAddress { link, address } => write!(f, "{link}: add address {address}"),
            Self::DelAddress { link, address } => write!(f, "{link}: remove address {address}"),
            Self::AddRoute { link, route } => write!(f, "{link}: add route {route}"),
            Self::MoveRoute { from, link, route } => {
                write!(f, "{link}: take route {route} from {from}")
            }
            Self::DelRoute { link, route } => write!(f, "{link}: remove route {route}"),
            Self::PeerSet(set) => set.fmt(f),
            Self::PeerRemove { link, peer } => write!(f, "{link}: remove peer {peer}"),
        }
    }
}

impl fmt::Display for PeerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} peer {}", self.link, if self.new { "add" } else { "change" }, self.peer)?;
        match &self.allowed_ips {
            Some(AllowedIps::Add(all)) => write!(f, ", give it {}", list(all))?,
            Some(AllowedIps::Replace(all)) => write!(f, ", allow it {} alone", list(all))?,
            None => (),
        }
        if let Some(endpoint) = self.endpoint {
            write!(f, ", endpoint {endpoint}")?;
        }
        match self.keepalive_s {
            Some(0) => write!(f, ", no keepalive")?,
            Some(seconds) => write!(f, ", keepalive {seconds} s")?,
            None => (),
        }
        match self.preshared {
            Some(true) => write!(f, ", with a preshared key"),
            Some(false) => write!(f, ", without a preshared key"),
            None => Ok(()),
        }
    }
}

/// The steps from `observed` to `wanted`; none if they are equal.
pub fn ops(observed: &State, wanted: &State) -> Vec<Op> {
    let mut links = Vec::new();
    free_ports(observed, wanted, &mut links);
    // What each link has after its own steps, for the routes.
    let mut routed: BTreeMap<IpNet, &str> = BTreeMap::new();
    let mut deletions = Vec::new();
    for link in &observed.links {
        let other = wanted.link(&link.name);
        // The kernel takes routes that go into a link when it goes down.
        let stays = other.is_none_or(|other| other.up || !link.up);
        routed.extend(link.routes.iter().filter(|_| stays).map(|route| (*route, &*link.name)));
    }
    for link in &wanted.links {
        let fresh = Link::new(&link.name);
        let now = observed.link(&link.name);
        if now.is_none() {
            links.push(Op::AddLink { link: link.name.clone() });
        }
        link_ops(now.unwrap_or(&fresh), link, observed, &mut links, &mut deletions);
    }
    let mut goal: BTreeMap<IpNet, &str> = BTreeMap::new();
    for link in &wanted.links {
        goal.extend(link.routes.iter().map(|route| (*route, &*link.name)));
    }
    for (route, link) in &goal {
        let (link, route) = ((*link).to_owned(), *route);
        match routed.get(&route) {
            None => links.push(Op::AddRoute { link, route }),
            Some(from) if **from != link => {
                links.push(Op::MoveRoute { from: (*from).into(), link, route });
            }
            Some(_) => (),
        }
    }
    let gone = |name: &str| wanted.link(name).is_none();
    for (route, link) in &routed {
        if !goal.contains_key(route) {
            links.push(Op::DelRoute { link: (*link).into(), route: *route });
        }
    }
    links.append(&mut deletions);
    for link in observed.links.iter().filter(|link| gone(&link.name)) {
        links.push(Op::DelLink { link: link.name.clone() });
    }
    let mut all = around(observed, wanted, links);
    // Last: until the firewall is the new one, connections of theirs could begin again.
    all.extend(memory(observed, wanted));
    all
}

/// The steps about what the kernel remembers of connections, alone: done again they change nothing.
pub fn memory(observed: &State, wanted: &State) -> Vec<Op> {
    let addresses = left_behind(observed, wanted);
    let cut = not_allowed_any_more(observed, wanted, &addresses);
    let forget = (!addresses.is_empty()).then_some(Op::Forget { addresses });
    cut.into_iter().chain(forget).collect()
}

/// What the new firewall does not let begin and the old one did, for peers that stay. `gone`: whose
/// connections are forgotten anyway.
fn not_allowed_any_more(observed: &State, wanted: &State, gone: &[IpNet]) -> Option<Op> {
    if observed.firewall == wanted.firewall {
        return None;
    }
    let tables = |state: &State| state.firewall.as_ref().map(Ruleset::lets_begin);
    // No table lets everything pass; of one that is not a plan's nothing is known.
    let new = tables(wanted)??;
    let old = tables(observed).flatten();
    let gone = Set::prefixes(gone);
    let heard = |state: &State, name: &str| {
        let peers = state.link(name).map_or(&[][..], |link| &link.peers);
        Set::prefixes(peers.iter().flat_map(|peer| &peer.allowed_ips))
    };
    let may = |table: &BTreeMap<String, Region>, name: &str, sources: &Set| {
        let blocks = table.get(name).map_or(&[][..], |region| &region.0);
        let narrow =
            |block: &Block| Block { source: block.source.intersect(sources), ..block.clone() };
        Region(blocks.iter().map(narrow).filter(|block| !block.is_empty()).collect())
    };
    let (mut lost, mut left) = (Region::default(), Region::default());
    for link in &observed.links {
        let sources = heard(observed, &link.name).subtract(&gone);
        left.0.extend(may(&new, &link.name, &heard(wanted, &link.name)).0);
        lost.0.extend(match &old {
            Some(old) => may(old, &link.name, &sources).0,
            None => {
                let all = Set::everywhere();
                let service = Set::any_service();
                Block { source: sources, destination: all, service }.by_family()
            }
        });
    }
    let lost = lost.subtract(&left);
    let of = lost.0.iter().fold(Set::empty(), |all, block| all.union(&block.source));
    if of.is_empty() {
        return None;
    }
    let theirs = |block: &Block| Block { source: block.source.intersect(&of), ..block.clone() };
    // What is behind a machine and what is its own often overlap.
    let except: BTreeSet<Block> =
        left.0.iter().map(theirs).filter(|block| !block.is_empty()).collect();
    Some(Op::Cut { except: except.iter().map(May::of).collect(), of: of.to_prefixes() })
}

/// The addresses of peers that go: their keys were retired or revoked. Also those that another key
/// gets now: who used the old one is not who uses the new one. A key that has taken over before has
/// taken the addresses with it, and its connections live on.
fn left_behind(observed: &State, wanted: &State) -> Vec<IpNet> {
    let goes = |link: &Link, key: &Key| {
        wanted.link(&link.name).is_none_or(|wanted| wanted.peer(key).is_none())
    };
    let peers = observed
        .links
        .iter()
        .flat_map(|link| link.peers.iter().filter(move |peer| goes(link, &peer.public_key)));
    let addresses: BTreeSet<IpNet> = peers.flat_map(|peer| peer.allowed_ips.clone()).collect();
    addresses.into_iter().collect()
}

/// The firewall before and after everything else.
fn around(observed: &State, wanted: &State, links: Vec<Op>) -> Vec<Op> {
    let (old, new) = (&observed.firewall, &wanted.firewall);
    let mut all = Vec::new();
    let between = match (old, new) {
        // One transaction is enough.
        _ if links.is_empty() => old.clone(),
        (Some(old), Some(new)) if old != new => Some(union(old, new)),
        // No table lets everything pass: both together are the one that is there.
        (old, new) => old.clone().or_else(|| new.clone()),
    };
    if between != *old {
        all.push(Op::Firewall { to: between.clone() });
    }
    all.extend(links);
    if between != *new {
        all.push(Op::Firewall { to: new.clone() });
    }
    all
}

/// Two links cannot have one port at a time: who will not have it gives it up first.
fn free_ports(observed: &State, wanted: &State, ops: &mut Vec<Op>) {
    let needed: BTreeMap<u16, &str> = wanted
        .links
        .iter()
        .filter(|link| link.listen_port != 0)
        .map(|link| (link.listen_port, &*link.name))
        .collect();
    for link in &observed.links {
        if needed.get(&link.listen_port).is_some_and(|name| *name != link.name) {
            ops.push(Op::SetListenPort { link: link.name.clone(), port: 0 });
        }
    }
}

fn link_ops(now: &Link, goal: &Link, observed: &State, ops: &mut Vec<Op>, deletions: &mut Vec<Op>) {
    let link = || goal.name.clone();
    if now.up && !goal.up {
        ops.push(Op::SetUp { link: link(), up: false });
    }
    if now.mtu != goal.mtu {
        ops.push(Op::SetMtu { link: link(), mtu: goal.mtu });
    }
    if now.listen_port != goal.listen_port {
        ops.push(Op::SetListenPort { link: link(), port: goal.listen_port });
    }
    if now.fwmark != goal.fwmark {
        ops.push(Op::SetFwmark { link: link(), fwmark: goal.fwmark });
    }
    if now.public_key != goal.public_key {
        ops.push(Op::SetKey { link: link(), public_key: goal.public_key });
    }
    peer_ops(now, goal, ops);
    let falls = now.up && !goal.up;
    let kept: BTreeSet<IpNet> =
        now.addresses.iter().copied().filter(|own| !falls || own.addr().is_ipv4()).collect();
    for address in &goal.addresses {
        if !kept.contains(address) {
            ops.push(Op::AddAddress { link: link(), address: *address });
        }
    }
    for address in &kept {
        if goal.addresses.binary_search(address).is_err() {
            deletions.push(Op::DelAddress { link: link(), address: *address });
        }
    }
    let is_up = now.up && observed.link(&goal.name).is_some();
    if goal.up && !is_up {
        ops.push(Op::SetUp { link: link(), up: true });
    }
}

/// All of one link's, in a row: they are one set.
fn peer_ops(now: &Link, goal: &Link, ops: &mut Vec<Op>) {
    // Whichever of these was another peer's is taken from it by who gets it.
    let owned: BTreeSet<IpNet> =
        goal.peers.iter().flat_map(|peer| &peer.allowed_ips).copied().collect();
    let mut shrunk = Vec::new();
    for peer in &goal.peers {
        let old = now.peer(&peer.public_key);
        let set = changes(&goal.name, old, peer);
        let is_change = set.allowed_ips.is_some()
            || set.endpoint.is_some()
            || set.keepalive_s.is_some()
            || set.preshared.is_some();
        if set.new || is_change {
            ops.push(Op::PeerSet(set));
        }
        if old.is_some_and(|old| old.allowed_ips.iter().any(|ip| !owned.contains(ip))) {
            shrunk.push(Op::PeerSet(PeerSet {
                allowed_ips: Some(AllowedIps::Replace(peer.allowed_ips.clone())),
                ..nothing(&goal.name, peer.public_key)
            }));
        }
    }
    ops.append(&mut shrunk);
    for peer in &now.peers {
        if goal.peer(&peer.public_key).is_none() {
            ops.push(Op::PeerRemove { link: goal.name.clone(), peer: peer.public_key });
        }
    }
}

fn nothing(link: &str, peer: Key) -> PeerSet {
    PeerSet {
        link: link.into(),
        peer,
        new: false,
        allowed_ips: None,
        endpoint: None,
        keepalive_s: None,
        preshared: None,
    }
}

fn changes(link: &str, old: Option<&Peer>, goal: &Peer) -> PeerSet {
    let had: &[IpNet] = old.map_or(&[], |old| &old.allowed_ips);
    let gains = goal.allowed_ips.iter().copied().filter(|ip| had.binary_search(ip).is_err());
    let gains: Vec<IpNet> = gains.collect();
    let keepalive_s = old.and_then(|old| old.keepalive_s);
    let has_preshared = old.is_some_and(|old| old.has_preshared);
    PeerSet {
        new: old.is_none(),
        allowed_ips: (!gains.is_empty()).then_some(AllowedIps::Add(gains)),
        endpoint: goal.endpoint.filter(|at| old.and_then(|old| old.endpoint) != Some(*at)),
        keepalive_s: (goal.keepalive_s != keepalive_s).then_some(goal.keepalive_s.unwrap_or(0)),
        preshared: (goal.has_preshared != has_preshared).then_some(goal.has_preshared),
        ..nothing(link, goal.public_key)
    }
}
