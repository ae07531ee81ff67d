//! Keys that take over from others, without a gap. Pure.
//!
//! ```text
//!   plan: staged             here, as the signed plan allows         plan: active, the old one gone
//! +-----------------+      +--------------+     +------------+      +----------------------------+
//! | new: a peer     | ---> | new: shook   | --> | moved: has | ---> | new: as it is              |
//! | without         |      | hands, after |     | all that   |      | old: retired or revoked,   |
//! | addresses       |      | the old one  |     | old had    |      | no peer any more           |
//! +-----------------+      +--------------+     +------------+      +----------------------------+
//!                             written down first, then one set
//! ```
//!
//! A server's key takes over in the same manner, by a second link with the same peers: what moves
//! there is a device, with the key that it has and with its way back.
//!
//! ```text
//!              vyr-north                     vyr-north-2
//! staged   [ ana: 10.20.0.17 ]           [ ana: nothing ]           10.20.0.0/24 -> vyr-north
//! moved    [ ana: nothing    ]           [ ana: 10.20.0.17 ]        10.20.0.17   -> vyr-north-2
//! ```
//!
//! Such a device follows its last handshake, back too: its old file works as long as the old end is
//! there. A device's own key never goes back, because somebody else may have it.
//!
//! Invariants, each checked for every reachable order of events in `tests/rotation.rs` and
//! `tests/ends.rs`:
//! 1. A move gives a device its own addresses, at a place that the plan in force names as its own,
//!    and to nobody else. What is written down and not in that plan moves nothing.
//! 2. An address has one key at any time: who gets it takes it from who had it, in one set. From one
//!    link to another it has none for the time of two sets, and never two.
//! 3. What a plan wants of a host has the moves in it: a moved host is as it should be, and the plan
//!    after it does not touch the key that is in use.
//! 4. A move is done again from what is written down, and done twice is done once.
//!
//! Deliberately elsewhere: when to look and where moves are written down (`vyr-node`).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vyr_plan::Plan;
use vyr_plan::intent::{Key, Name};
use vyr_plan::plan::{self, LinkKind};

use crate::diff::{AllowedIps, Op, PeerSet};
use crate::state::{Live, Peer, State};

/// Where a device may have its addresses: at one of its keys, on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    link: String,
    key: Key,
}

impl Place {
    fn peer<'s>(&self, state: &'s State) -> Option<&'s Peer> {
        state.link(&self.link)?.peer(&self.key)
    }

    fn shook(&self, live: &Live) -> Option<u64> {
        let link = live.links.iter().find(|link| link.name == self.link)?;
        link.peers.iter().find(|peer| peer.public_key == self.key)?.handshake_unix_s
    }
}

/// A takeover that a plan allows on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The link that has the addresses in the plan.
    pub link: String,
    /// The second link, if it is the server's key that takes over; none: the device's own does.
    pub to: Option<String>,
    /// The device or node.
    pub id: Name,
    /// Its key in use.
    pub old: Key,
    /// Its staged key; on a second link the one that it has.
    pub new: Key,
    /// Its addresses on this machine: exactly what is moved.
    pub addresses: Vec<IpNet>,
    /// Where it is before: more than one place if its own key and the server's rotate at once.
    from: Vec<Place>,
    /// Where it is after.
    after: Vec<Place>,
}

/// A takeover that has happened, or is about to: it is written down before it is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The link that had the addresses.
    pub link: String,
    /// The link that has them, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The device or node.
    pub id: Name,
    /// The key that had the addresses.
    pub old: Key,
    /// The key that has them.
    pub new: Key,
}

/// How far one takeover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The new key has not been used yet.
    Staged,
    /// It shook hands, and the old one did not after it: it is to be moved.
    Seen,
    /// It has the addresses.
    Moved,
}

/// The takeovers that a plan allows on a machine, by link and device or node.
pub fn rotations(plan: &Plan, machine: &str) -> Vec<Rotation> {
    let links = plan.machine(machine).map_or(&[][..], |machine| &machine.links);
    let mut found = Vec::new();
    for link in links.iter().filter(|link| link.second_of.is_none()) {
        let second = links.iter().find(|other| other.second_of.as_deref() == Some(&link.name));
        for peer in link.peers.iter().filter(|peer| !peer.allowed_ips.is_empty()) {
            let is_known = |link: &plan::Link, key: Key| {
                link.peers.iter().any(|other| other.id == peer.id && other.public_key == key)
            };
            let own = peer.public_key;
            let staged = takes_over(plan, link, peer).filter(|key| is_known(link, *key));
            let second = second.filter(|second| is_known(second, own));
            let places = |links: &[Option<&plan::Link>], keys: &[Option<Key>]| -> Vec<Place> {
                let links = links.iter().flatten();
                let all =
                    links.flat_map(|link| keys.iter().flatten().map(move |key| (*link, *key)));
                let known = all.filter(|(link, key)| is_known(link, *key));
                known.map(|(link, key)| Place { link: link.name.clone(), key }).collect()
            };
            let rotation = |to: Option<&plan::Link>, new: Key, from, after| Rotation {
                link: link.name.clone(),
                to: to.map(|to| to.name.clone()),
                id: peer.id.clone(),
                old: own,
                new,
                addresses: peer.allowed_ips.clone(),
                from,
                after,
            };
            if let Some(new) = staged {
                let links = [Some(link), second];
                let (from, after) = (places(&links, &[Some(own)]), places(&links, &[staged]));
                found.push(rotation(None, new, from, after));
            }
            if second.is_some() {
                let keys = [Some(own), staged];
                let (from, after) = (places(&[Some(link)], &keys), places(&[second], &keys));
                found.push(rotation(second, own, from, after));
            }
        }
    }
    found
}

/// The key that takes over from a peer's. The plan names both: nothing is concluded from a peer
/// without addresses alone.
fn takes_over(plan: &Plan, link: &plan::Link, peer: &plan::Peer) -> Option<Key> {
    match link.kind {
        LinkKind::Clients => {
            let client = plan.client(peer.id.as_str())?;
            client.staged_key.filter(|_| client.public_key == Some(peer.public_key))
        }
        LinkKind::Mesh => {
            let other = plan.machine(peer.id.as_str())?.link(link.interface.as_str())?;
            other.staged_key.filter(|_| other.public_key == peer.public_key)
        }
    }
}

impl Rotation {
    /// The same the other way: a device that goes back to the first end; none: no key of its own
    /// does.
    pub fn as_return(&self) -> Option<Move> {
        let (link, to) = (self.to.clone()?, Some(self.link.clone()));
        Some(Move { link, to, id: self.id.clone(), old: self.old, new: self.new })
    }

    fn as_move(&self) -> Move {
        let (link, to, id) = (self.link.clone(), self.to.clone(), self.id.clone());
        Move { link, to, id, old: self.old, new: self.new }
    }

    /// When the device last shook hands where it is before, and where it is after: seconds since
    /// 1970.
    pub fn shook(&self, live: &Live) -> (Option<u64>, Option<u64>) {
        let last = |places: &[Place]| places.iter().filter_map(|place| place.shook(live)).max();
        (last(&self.from), last(&self.after))
    }

    /// Whether the new key is in use: it shook hands, and the old one did not after it. A key that
    /// was only tried, and put away again, takes nothing over.
    fn is_used(&self, live: &Live) -> bool {
        let (old, new) = self.shook(live);
        // Seconds: in one and the same the new key came later, or nobody would have needed it.
        new.is_some_and(|new| old.is_none_or(|old| new >= old))
    }

    /// Whether this is what is written down of it.
    pub fn is_of(&self, takeover: &Move) -> bool {
        self.as_move() == *takeover
    }

    /// Whether a device has gone back to the first end.
    pub fn is_back(&self, live: &Live) -> bool {
        let (old, new) = self.shook(live);
        self.to.is_some() && old.is_some_and(|old| new.is_none_or(|new| old > new))
    }

    /// Whether the new key has all of the addresses.
    fn is_done(&self, state: &State) -> bool {
        self.after.iter().filter_map(|place| place.peer(state)).any(|peer| self.is_all_of(peer))
    }

    fn is_all_of(&self, peer: &Peer) -> bool {
        self.addresses.iter().all(|own| peer.allowed_ips.contains(own))
    }

    /// How far it is on a host.
    pub fn stage(&self, state: &State, live: &Live) -> Stage {
        match () {
            () if self.is_done(state) => Stage::Moved,
            () if self.is_used(live) => Stage::Seen,
            () => Stage::Staged,
        }
    }

    /// Whether a look has something to do.
    pub fn is_due(&self, state: &State, live: &Live) -> bool {
        match self.stage(state, live) {
            Stage::Staged => false,
            Stage::Seen => true,
            Stage::Moved => self.is_back(live),
        }
    }
}

/// What is written down of moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves(BTreeSet<Move>);

impl FromIterator<Move> for Moves {
    fn from_iter<T: IntoIterator<Item = Move>>(moves: T) -> Self {
        Self(moves.into_iter().collect())
    }
}

/// The takeovers of one device on one link.
type Device<'a> = Vec<&'a Rotation>;

fn devices(rotations: &[Rotation]) -> Vec<Device<'_>> {
    let mut all: BTreeMap<(&str, &Name), Device<'_>> = BTreeMap::new();
    for rotation in rotations {
        all.entry((&rotation.link, &rotation.id)).or_default().push(rotation);
    }
    all.into_values().collect()
}

impl Moves {
    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Move> {
        self.0.iter()
    }

    /// Whether a takeover is written down.
    pub fn has(&self, rotation: &Rotation) -> bool {
        self.0.contains(&rotation.as_move())
    }

    /// Those that one of some plans still allows; of the others nothing needs to be remembered.
    #[must_use]
    pub fn allowed<'a>(&self, rotations: impl IntoIterator<Item = &'a Rotation>) -> Self {
        let allowed: BTreeSet<Move> = rotations.into_iter().map(Rotation::as_move).collect();
        Self(self.0.intersection(&allowed).cloned().collect())
    }

    /// With those whose new key is in use now, without those devices that have gone back.
    #[must_use]
    pub fn and_seen(&self, rotations: &[Rotation], live: &Live) -> Self {
        let seen = rotations.iter().filter(|rotation| rotation.is_used(live));
        let mut all: BTreeSet<Move> =
            self.0.iter().cloned().chain(seen.map(Rotation::as_move)).collect();
        for rotation in rotations.iter().filter(|rotation| rotation.is_back(live)) {
            all.remove(&rotation.as_move());
        }
        Self(all)
    }

    /// Whether anything is known of where a device is: whose own key alone rotates, and has not
    /// moved, is where whoever applied the plan left it.
    fn is_known(&self, device: &Device<'_>) -> bool {
        device.iter().any(|one| self.has(one) || one.to.is_some())
    }

    /// Where a device has its addresses: at the one place that all of its takeovers agree on.
    fn place<'a>(&self, device: &Device<'a>) -> Option<&'a Place> {
        let own = |rotation: &'a Rotation| match self.has(rotation) {
            true => &rotation.after,
            false => &rotation.from,
        };
        let first = own(device.first()?);
        first.iter().find(|place| device.iter().all(|rotation| own(rotation).contains(place)))
    }

    /// What a host is to be, with what has moved under the plan whose takeovers these are.
    #[must_use]
    pub fn over(&self, mut state: State, rotations: &[Rotation]) -> State {
        for device in devices(rotations) {
            let is_known = self.is_known(&device);
            let place = self.place(&device).filter(|place| place.peer(&state).is_some());
            let Some(place) = place.filter(|_| is_known) else { continue };
            let addresses = &device[0].addresses;
            // Who died between two links left them nowhere.
            let between = device.iter().any(|one| one.to.is_some());
            let mut moved = if between { addresses.clone() } else { Vec::new() };
            for other in places(&device).filter(|other| *other != place) {
                let own = |ip: &mut IpNet| addresses.contains(ip);
                let peer = peer_mut(&mut state, other).into_iter();
                moved.extend(peer.flat_map(|peer| peer.allowed_ips.extract_if(.., own)));
            }
            if let Some(new) = peer_mut(&mut state, place) {
                new.allowed_ips.append(&mut moved);
                new.allowed_ips.sort();
                new.allowed_ips.dedup();
            }
            // The way back follows, away from where its prefix goes, and returns.
            let seconds: Vec<&String> = device.iter().filter_map(|one| one.to.as_ref()).collect();
            for link in state.links.iter_mut().filter(|link| seconds.contains(&&link.name)) {
                link.routes.retain(|route| !addresses.contains(route));
                if link.name == place.link {
                    link.routes.extend(addresses);
                    link.routes.sort();
                }
            }
        }
        state
    }

    /// What is left to do of them on a host: one set for each link, and the ways back. A peer that is
    /// not there is not made, and nothing but addresses changes. If a takeover is that of a server's
    /// key, `observed` must have the routes of its links.
    pub fn steps(&self, rotations: &[Rotation], observed: &State) -> Vec<Op> {
        let mut steps = Vec::new();
        for device in devices(rotations) {
            let is_known = self.is_known(&device);
            let Some(place) = self.place(&device).filter(|_| is_known) else { continue };
            let Some(peer) = place.peer(observed) else { continue };
            let addresses = &device[0].addresses;
            let missing: Vec<IpNet> =
                addresses.iter().copied().filter(|own| !peer.allowed_ips.contains(own)).collect();
            // Of another link it is taken first: never two places, and a peer that has none is safe.
            for other in places(&device).filter(|other| other.link != place.link) {
                let Some(had) = other.peer(observed) else { continue };
                let (gone, left): (Vec<IpNet>, Vec<IpNet>) =
                    had.allowed_ips.iter().partition(|ip| addresses.contains(ip));
                if !gone.is_empty() {
                    steps.push(set(other, AllowedIps::Replace(left)));
                }
            }
            steps.extend(ways(&device, place, observed));
            if !missing.is_empty() {
                steps.push(set(place, AllowedIps::Add(missing)));
            }
        }
        steps
    }
}

/// Every place of a device, each once.
fn places<'a>(device: &Device<'a>) -> impl Iterator<Item = &'a Place> + use<'a> {
    let one = device.first().copied();
    one.into_iter().flat_map(|one| one.from.iter().chain(&one.after))
}

fn peer_mut<'s>(state: &'s mut State, place: &Place) -> Option<&'s mut Peer> {
    let link = state.links.iter_mut().find(|link| link.name == place.link)?;
    link.peers.iter_mut().find(|peer| peer.public_key == place.key)
}

/// The ways back of a device: its own ones into a second link while it is there, else none.
fn ways(device: &Device<'_>, place: &Place, observed: &State) -> Vec<Op> {
    let seconds: BTreeSet<&String> = device.iter().filter_map(|one| one.to.as_ref()).collect();
    let mut steps = Vec::new();
    for link in seconds {
        let Some(routes) = observed.link(link).map(|link| &link.routes) else { continue };
        for route in &device[0].addresses {
            let (link, route) = (link.clone(), *route);
            match (link == place.link, routes.contains(&route)) {
                (true, false) => steps.push(Op::AddRoute { link, route }),
                (false, true) => steps.push(Op::DelRoute { link, route }),
                _ => (),
            }
        }
    }
    steps
}

fn set(place: &Place, allowed_ips: AllowedIps) -> Op {
    Op::PeerSet(PeerSet {
        link: place.link.clone(),
        peer: place.key,
        new: false,
        allowed_ips: Some(allowed_ips),
        endpoint: None,
        keepalive_s: None,
        preshared: None,
    })
}
