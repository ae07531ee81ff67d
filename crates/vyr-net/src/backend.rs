//! What reads and changes a host.

use serde::Serialize;
use vyr_plan::intent::Key;
use zeroize::Zeroizing;

use crate::diff::Op;
use crate::error::NetError;
use crate::state::{Live, State};

/// Whether a host can do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// It can; with what.
    Ready(String),
    /// It cannot; why.
    Missing(String),
}

/// What a host can do with our network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Which backend this is.
    pub backend: &'static str,
    /// WireGuard.
    pub wireguard: Ability,
    /// nftables.
    pub firewall: Ability,
    /// Forgetting connections. Without it those of a peer that is gone stay in the kernel's memory
    /// until they end, and [`Op::Forget`] does nothing.
    pub connections: Ability,
}

/// What a host has of ours, and what goes on there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// What stays as it is set. No peer has an endpoint here: see [`Observation::state_for`].
    pub state: State,
    /// What changes by itself.
    pub live: Live,
}

impl Observation {
    /// The state, with the endpoints of those peers for which `wanted` has one. This is what is
    /// compared with `wanted`.
    pub fn state_for(&self, wanted: &State) -> State {
        let mut state = self.state.clone();
        for link in &mut state.links {
            let Some(other) = wanted.link(&link.name) else { continue };
            let Some(live) = self.live.links.iter().find(|live| live.name == link.name) else {
                continue;
            };
            for peer in &mut link.peers {
                let declared = other.peer(&peer.public_key).is_some_and(|of| of.endpoint.is_some());
                let found = live.peers.binary_search_by(|of| of.public_key.cmp(&peer.public_key));
                if let (true, Ok(at)) = (declared, found) {
                    peer.endpoint = live.peers[at].endpoint;
                }
            }
        }
        state
    }
}

/// Who has the keys. They are asked for when a step needs one, and zeroed after it.
pub trait Keys {
    /// The private key of a link.
    fn private_key(&self, link: &str) -> Option<Zeroizing<[u8; 32]>>;

    /// The private key of a link that belongs to this public one, for who has two of them: one in
    /// use and one that takes over.
    fn private_key_of(&self, link: &str, _public: &Key) -> Option<Zeroizing<[u8; 32]>> {
        self.private_key(link)
    }

    /// The preshared key of a link and a peer; plans have none.
    fn preshared_key(&self, _link: &str, _peer: &Key) -> Option<Zeroizing<[u8; 32]>> {
        None
    }
}

/// Has no keys.
#[derive(Debug, Clone, Copy)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn private_key(&self, _link: &str) -> Option<Zeroizing<[u8; 32]>> {
        None
    }
}

/// Reads and changes one host: that of the network namespace of the calling thread.
pub trait Backend {
    /// What this host can do. Nothing is changed.
    fn probe(&self) -> Probe;

    /// What it has of ours.
    fn read(&mut self) -> Result<Observation, NetError>;

    /// Its links and their peers alone, without addresses, routes and the firewall: for who looks
    /// often.
    fn read_peers(&mut self) -> Result<Observation, NetError>;

    /// Takes steps, in order, until one fails. Those of WireGuard on one link that follow each
    /// other are one set.
    fn apply(&mut self, ops: &[Op], keys: &dyn Keys) -> Result<(), NetError>;
}
