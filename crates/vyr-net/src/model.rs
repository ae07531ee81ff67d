//! A host in memory: what a step does, as the kernel and WireGuard do it. Pure.
//!
//! It is as strict as they are: what is there is not made again, what is not there is not changed,
//! two links do not share a port, and a route needs a link that is up.

use ipnet::IpNet;
use vyr_plan::intent::Key;

use crate::diff::{AllowedIps, Op, PeerSet};
use crate::state::{Link, Peer, State};

/// Why a host would refuse a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// It is there.
    #[error("{0} is there already")]
    Exists(String),
    /// It is not there.
    #[error("{0} is not there")]
    Missing(String),
    /// Another link has the port.
    #[error("port {0} is taken")]
    Port(u16),
    /// A route into a link that is down.
    #[error("{0} is down")]
    Down(String),
}

fn add(all: &mut Vec<IpNet>, one: IpNet) -> Result<(), ModelError> {
    match all.binary_search(&one) {
        Ok(_) => Err(ModelError::Exists(one.to_string())),
        Err(at) => {
            all.insert(at, one);
            Ok(())
        }
    }
}

fn remove(all: &mut Vec<IpNet>, one: IpNet) -> Result<(), ModelError> {
    let at = all.binary_search(&one).map_err(|_| ModelError::Missing(one.to_string()))?;
    all.remove(at);
    Ok(())
}

impl State {
    /// What this host is after a step.
    pub fn take(&mut self, op: &Op) -> Result<(), ModelError> {
        match op {
            Op::Firewall { to } => self.firewall.clone_from(to),
            // A state has no connections.
            Op::Cut { .. } | Op::Forget { .. } => (),
            Op::AddLink { link } => {
                if self.link(link).is_some() {
                    return Err(ModelError::Exists(link.clone()));
                }
                self.links.push(Link::new(link));
                self.links.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Op::DelLink { link } => {
                self.link_mut(link)?;
                self.links.retain(|one| one.name != *link);
            }
            Op::SetMtu { link, mtu } => self.link_mut(link)?.mtu = *mtu,
            Op::SetUp { link, up } => {
                let link = self.link_mut(link)?;
                link.up = *up;
                if !*up {
                    link.routes.clear();
                    link.addresses.retain(|own| own.addr().is_ipv4());
                }
            }
            Op::SetListenPort { link, port } => {
                let taken = |one: &Link| one.listen_port == *port && one.name != *link;
                if *port != 0 && self.links.iter().any(taken) {
                    return Err(ModelError::Port(*port));
                }
                self.link_mut(link)?.listen_port = *port;
            }
            Op::SetFwmark { link, fwmark } => self.link_mut(link)?.fwmark = *fwmark,
            Op::SetKey { link, public_key } => self.link_mut(link)?.public_key = *public_key,
            Op::AddAddress { link, address } => add(&mut self.link_mut(link)?.addresses, *address)?,
            Op::DelAddress { link, address } => {
                remove(&mut self.link_mut(link)?.addresses, *address)?;
            }
            Op::AddRoute { link, route } => {
                if self.links.iter().any(|one| one.routes.contains(route)) {
                    return Err(ModelError::Exists(route.to_string()));
                }
                self.route_to(link, *route)?;
            }
            Op::MoveRoute { from, link, route } => {
                remove(&mut self.link_mut(from)?.routes, *route)?;
                self.route_to(link, *route)?;
            }
            Op::DelRoute { link, route } => remove(&mut self.link_mut(link)?.routes, *route)?,
            Op::PeerSet(set) => self.link_mut(&set.link)?.set_peer(set)?,
            Op::PeerRemove { link, peer } => self.link_mut(link)?.remove_peer(peer)?,
        }
        Ok(())
    }

    fn link_mut(&mut self, name: &str) -> Result<&mut Link, ModelError> {
        let found = self.links.iter_mut().find(|link| link.name == name);
        found.ok_or_else(|| ModelError::Missing(name.into()))
    }

    fn route_to(&mut self, link: &str, route: IpNet) -> Result<(), ModelError> {
        let link = self.link_mut(link)?;
        match link.up {
            true => add(&mut link.routes, route),
            false => Err(ModelError::Down(link.name.clone())),
        }
    }
}

impl Link {
    fn set_peer(&mut self, set: &PeerSet) -> Result<(), ModelError> {
        let at = match self.peers.binary_search_by(|peer| peer.public_key.cmp(&set.peer)) {
            Ok(_) if set.new => return Err(ModelError::Exists(set.peer.to_string())),
            Ok(at) => at,
            Err(_) if !set.new => return Err(ModelError::Missing(set.peer.to_string())),
            Err(at) => {
                let peer = Peer {
                    public_key: set.peer,
                    allowed_ips: Vec::new(),
                    endpoint: None,
                    keepalive_s: None,
                    has_preshared: false,
                };
                self.peers.insert(at, peer);
                at
            }
        };
        if let Some(AllowedIps::Add(gains) | AllowedIps::Replace(gains)) = &set.allowed_ips {
            for peer in &mut self.peers {
                peer.allowed_ips.retain(|ip| !gains.contains(ip));
            }
            let own = &mut self.peers[at].allowed_ips;
            if matches!(set.allowed_ips, Some(AllowedIps::Replace(_))) {
                own.clear();
            }
            own.extend(gains);
            own.sort();
            own.dedup();
        }
        let peer = &mut self.peers[at];
        peer.endpoint = set.endpoint.or(peer.endpoint);
        if let Some(seconds) = set.keepalive_s {
            peer.keepalive_s = (seconds != 0).then_some(seconds);
        }
        peer.has_preshared = set.preshared.unwrap_or(peer.has_preshared);
        Ok(())
    }

    fn remove_peer(&mut self, key: &Key) -> Result<(), ModelError> {
        let at = self.peers.binary_search_by(|peer| peer.public_key.cmp(key));
        let at = at.map_err(|_| ModelError::Missing(key.to_string()))?;
        self.peers.remove(at);
        Ok(())
    }
}
