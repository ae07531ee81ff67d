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
//! Invariants, each checked for every reachable order of events in `tests/rotation.rs`:
//! 1. A move gives a device its own addresses, to its own staged key of the plan that is in force,
//!    and to nobody else. What is written down and not in that plan moves nothing.
//! 2. An address has one key at any time: who gets it takes it from who had it, in one set.
//! 3. What a plan wants of a host has the moves in it: a moved host is as it should be, and the plan
//!    after it does not touch the key that is in use.
//! 4. A move is done again from what is written down, and done twice is done once.
//!
//! Deliberately elsewhere: when to look and where moves are written down (`vyr-node`).

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vyr_plan::Plan;
use vyr_plan::intent::{Key, Name};
use vyr_plan::plan::{self, LinkKind};

use crate::diff::{AllowedIps, Op, PeerSet};
use crate::state::{Live, State};

/// A takeover that a plan allows on one link of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The link.
    pub link: String,
    /// The device or node.
    pub id: Name,
    /// Its key in use.
    pub old: Key,
    /// Its staged key.
    pub new: Key,
    /// Its addresses on this machine: exactly what is moved.
    pub addresses: Vec<IpNet>,
}

/// A takeover that has happened, or is about to: it is written down before it is done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The link.
    pub link: String,
    /// The device or node.
    pub id: Name,
    /// The key that had the addresses.
    pub old: Key,
    /// The key that has them.
    pub new: Key,
}

/// How far one takeover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    for link in links {
        for peer in link.peers.iter().filter(|peer| !peer.allowed_ips.is_empty()) {
            let Some(new) = takes_over(plan, link, peer) else { continue };
            if link.peers.iter().any(|other| other.id == peer.id && other.public_key == new) {
                found.push(Rotation {
                    link: link.name.clone(),
                    id: peer.id.clone(),
                    old: peer.public_key,
                    new,
                    addresses: peer.allowed_ips.clone(),
                });
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
    fn as_move(&self) -> Move {
        Move { link: self.link.clone(), id: self.id.clone(), old: self.old, new: self.new }
    }

    /// Whether the new key is in use: it shook hands, and the old one did not after it. A key that
    /// was only tried, and put away again, takes nothing over.
    fn is_used(&self, live: &Live) -> bool {
        let peers = live.links.iter().find(|link| link.name == self.link).map(|link| &link.peers);
        let shook = |key: &Key| {
            let peer = peers?.iter().find(|peer| peer.public_key == *key)?;
            peer.handshake_unix_s
        };
        // Seconds: in one and the same the new key came later, or nobody would have needed it.
        shook(&self.new).is_some_and(|new| shook(&self.old).is_none_or(|old| new >= old))
    }

    /// Whether the new key has all of the addresses.
    fn is_done(&self, state: &State) -> bool {
        let peer = state.link(&self.link).and_then(|link| link.peer(&self.new));
        peer.is_some_and(|peer| self.addresses.iter().all(|own| peer.allowed_ips.contains(own)))
    }

    /// How far it is on a host.
    pub fn stage(&self, state: &State, live: &Live) -> Stage {
        match () {
            () if self.is_done(state) => Stage::Moved,
            () if self.is_used(live) => Stage::Seen,
            () => Stage::Staged,
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

    /// With those whose new key is in use now.
    #[must_use]
    pub fn and_seen(&self, rotations: &[Rotation], live: &Live) -> Self {
        let seen = rotations.iter().filter(|rotation| rotation.is_used(live));
        Self(self.0.iter().cloned().chain(seen.map(Rotation::as_move)).collect())
    }

    /// What a host is to be, with what has moved under the plan whose takeovers these are.
    #[must_use]
    pub fn over(&self, mut state: State, rotations: &[Rotation]) -> State {
        for rotation in rotations.iter().filter(|rotation| self.has(rotation)) {
            let link = state.links.iter_mut().find(|link| link.name == rotation.link);
            let Some(link) = link.filter(|link| link.peer(&rotation.new).is_some()) else {
                continue;
            };
            let mut moved = Vec::new();
            for old in link.peers.iter_mut().filter(|peer| peer.public_key == rotation.old) {
                let own = |ip: &mut IpNet| rotation.addresses.contains(ip);
                moved.extend(old.allowed_ips.extract_if(.., own));
            }
            for new in link.peers.iter_mut().filter(|peer| peer.public_key == rotation.new) {
                new.allowed_ips.append(&mut moved);
                new.allowed_ips.sort();
                new.allowed_ips.dedup();
            }
        }
        state
    }

    /// What is left to do of them on a host: one set for each link. A peer that is not there is not
    /// made, and nothing but addresses changes.
    pub fn steps(&self, rotations: &[Rotation], observed: &State) -> Vec<Op> {
        let mut steps = Vec::new();
        for rotation in rotations.iter().filter(|rotation| self.has(rotation)) {
            let link = observed.link(&rotation.link);
            let Some(new) = link.and_then(|link| link.peer(&rotation.new)) else { continue };
            let missing = rotation.addresses.iter().copied();
            let missing: Vec<IpNet> =
                missing.filter(|own| !new.allowed_ips.contains(own)).collect();
            if !missing.is_empty() {
                steps.push(Op::PeerSet(PeerSet {
                    link: rotation.link.clone(),
                    peer: rotation.new,
                    new: false,
                    allowed_ips: Some(AllowedIps::Add(missing)),
                    endpoint: None,
                    keepalive_s: None,
                    preshared: None,
                }));
            }
        }
        steps
    }
}
