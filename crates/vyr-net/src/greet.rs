//! Peers that were removed and come back: they are greeted.
//!
//! A peer that is made again has no session, and the other end does not know. It goes on sending with
//! the old one for up to 15 seconds before it begins anew (WireGuard, section 6.5). So who takes a
//! change back tells the peer where it was last met, and asks for a keepalive: to send one, the data
//! plane shakes hands at once.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use vyr_plan::intent::Key;

use crate::backend::Observation;
use crate::diff::Op;
use crate::state::State;

/// Seconds between keepalives while a peer is greeted. The next look at the host finds that no plan
/// wants them, and takes them away.
const GREETING_S: u16 = 1;

/// Where a peer was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Met {
    /// The link.
    pub link: String,
    /// The peer.
    pub peer: Key,
    /// Where.
    pub at: SocketAddr,
}

/// The peers that `wanted` has no place for, and where they were met.
pub fn met(observed: &Observation, wanted: &State) -> Vec<Met> {
    let stays = |link: &str, peer: &Key| wanted.link(link).is_some_and(|l| l.peer(peer).is_some());
    let mut all = Vec::new();
    for link in &observed.live.links {
        for peer in link.peers.iter().filter(|peer| !stays(&link.name, &peer.public_key)) {
            if let Some(at) = peer.endpoint {
                all.push(Met { link: link.name.clone(), peer: peer.public_key, at });
            }
        }
    }
    all
}

/// Has the steps greet the peers that they make again.
pub fn greet(steps: &mut [Op], met: &[Met]) {
    for step in steps {
        let Op::PeerSet(set) = step else { continue };
        let known = met.iter().find(|met| met.link == set.link && met.peer == set.peer);
        if let (true, Some(known)) = (set.new, known) {
            // What a plan says of it is better.
            set.endpoint = set.endpoint.or(Some(known.at));
            set.keepalive_s = set.keepalive_s.filter(|seconds| *seconds > 0).or(Some(GREETING_S));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::ops;
    use crate::state::{Link, Live, LiveLink, LivePeer, Peer};

    fn key(number: u8) -> Key {
        Key::from_bytes([number; 32])
    }

    fn host(peers: &[u8]) -> State {
        let mut link = Link::new("vyr-a");
        for number in peers {
            link.peers.push(Peer {
                public_key: key(*number),
                allowed_ips: vec![format!("10.0.0.{number}/32").parse().expect("a prefix")],
                endpoint: None,
                keepalive_s: None,
                has_preshared: false,
            });
        }
        State { links: vec![link], ..State::default() }
    }

    #[test]
    fn who_comes_back_is_greeted_and_who_stayed_is_not_disturbed() {
        let at = "192.0.2.1:5000".parse().expect("an address");
        let live = |number| LivePeer {
            public_key: key(number),
            endpoint: Some(at),
            handshake_unix_s: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let links = vec![LiveLink { name: "vyr-a".into(), peers: vec![live(1), live(2)] }];
        let observed = Observation { state: host(&[1, 2]), live: Live { links } };
        let met = met(&observed, &host(&[1]));
        assert_eq!(met, [Met { link: "vyr-a".into(), peer: key(2), at }]);

        let mut steps = ops(&host(&[1]), &host(&[1, 2]));
        let silent = steps.clone();
        greet(&mut steps, &met);
        assert_ne!(steps, silent);
        let sets = steps.iter().filter_map(|step| match step {
            Op::PeerSet(set) => Some(set),
            _ => None,
        });
        for set in sets {
            assert_eq!((set.peer, set.endpoint, set.keepalive_s), (key(2), Some(at), Some(1)));
        }
        // Nobody else is.
        let mut changes = ops(&host(&[1]), &host(&[1, 3]));
        let before = changes.clone();
        greet(&mut changes, &met);
        assert_eq!(changes, before);
    }
}
