//! A host in memory, which remembers what was done to it.

use x25519_dalek::{PublicKey, StaticSecret};

use crate::backend::{Ability, Backend, Keys, Observation, Probe};
use crate::diff::Op;
use crate::error::NetError;
use crate::model::ModelError;
use crate::state::{LiveLink, LivePeer, State};
use vyr_plan::intent::Key;

/// A host in memory. What a step does there is [`State::take`].
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    state: State,
    done: Vec<Op>,
    /// How many more steps it takes before it fails; none: it does not.
    fails_after: Option<usize>,
}

impl Recorder {
    /// A host that is like `state`.
    pub fn new(state: State) -> Self {
        Self { state, done: Vec::new(), fails_after: None }
    }

    /// The same, but it fails once after some steps, as a kernel may.
    #[must_use]
    pub fn failing_after(mut self, steps: usize) -> Self {
        self.fails_after = Some(steps);
        self
    }

    /// What was done to it.
    pub fn done(&self) -> &[Op] {
        &self.done
    }

    /// What it is, endpoints and all.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn take(&mut self, op: &Op, keys: &dyn Keys) -> Result<(), NetError> {
        if self.fails_after == Some(0) {
            self.fails_after = None;
            let source = ModelError::Missing("the rest of the host".into());
            return Err(NetError::Recorder { op: op.to_string(), source });
        }
        self.fails_after = self.fails_after.map(|left| left - 1);
        has_keys(op, keys)?;
        self.state.take(op).map_err(|source| NetError::Recorder { op: op.to_string(), source })?;
        self.done.push(op.clone());
        Ok(())
    }
}

/// Whether the keys that a step needs are there, and are those of the plan.
pub(crate) fn has_keys(op: &Op, keys: &dyn Keys) -> Result<(), NetError> {
    match op {
        Op::SetKey { link, public_key: Some(wanted) } => private_key(link, wanted, keys).map(drop),
        Op::PeerSet(set) if set.preshared == Some(true) => {
            match keys.preshared_key(&set.link, &set.peer) {
                Some(_) => Ok(()),
                None => Err(NetError::NoKey { kind: "preshared", of: set.peer.to_string() }),
            }
        }
        _ => Ok(()),
    }
}

/// The private key of a link, which must belong to its public one.
pub(crate) fn private_key(
    link: &str,
    wanted: &Key,
    keys: &dyn Keys,
) -> Result<crate::device::Secret, NetError> {
    let missing = || NetError::NoKey { kind: "private", of: link.into() };
    let key = keys.private_key_of(link, wanted).ok_or_else(missing)?;
    let found = public_key(&key);
    match found == *wanted {
        true => Ok(key),
        false => Err(NetError::WrongKey { link: link.into(), found, wanted: *wanted }),
    }
}

/// The public key that belongs to a private one.
pub(crate) fn public_key(private: &[u8; 32]) -> Key {
    Key::from_bytes(PublicKey::from(&StaticSecret::from(*private)).to_bytes())
}

impl Backend for Recorder {
    fn probe(&self) -> Probe {
        let ready = || Ability::Ready("in memory".into());
        Probe { backend: "recorder", wireguard: ready(), firewall: ready(), connections: ready() }
    }

    fn read(&mut self) -> Result<Observation, NetError> {
        let mut observed = Observation { state: self.state.clone(), ..Observation::default() };
        for link in &mut observed.state.links {
            let live = link.peers.iter_mut().map(|peer| LivePeer {
                public_key: peer.public_key,
                endpoint: peer.endpoint.take(),
                handshake_unix_s: None,
                rx_bytes: 0,
                tx_bytes: 0,
            });
            let peers = live.collect();
            observed.live.links.push(LiveLink { name: link.name.clone(), peers });
        }
        Ok(observed)
    }

    fn read_peers(&mut self) -> Result<Observation, NetError> {
        let mut observed = self.read()?;
        observed.state.firewall = None;
        for link in &mut observed.state.links {
            link.addresses.clear();
            link.routes.clear();
        }
        Ok(observed)
    }

    fn apply(&mut self, ops: &[Op], keys: &dyn Keys) -> Result<(), NetError> {
        ops.iter().try_for_each(|op| self.take(op, keys))
    }
}
