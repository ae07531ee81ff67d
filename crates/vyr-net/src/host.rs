//! What both backends share: links, addresses and routes by rtnetlink, the firewall by nft, and
//! WireGuard by whichever way there is.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::backend::{Ability, Keys, Observation};
use crate::device::{Change, Devices, PeerChange, Secret};
use crate::diff::Op;
use crate::error::NetError;
use crate::firewall::Nft;
use crate::netlink::conntrack::{Connections, EndsOf, NotAllowed, Which};
use crate::netlink::route::{Found, Route};
use crate::recorder::{has_keys, private_key};
use crate::state::{Link, LinkKind, LiveLink, LivePeer, Peer, is_ours};

pub(crate) fn ability<T>(found: Result<T, NetError>, ready: impl FnOnce(T) -> String) -> Ability {
    match found {
        Ok(found) => Ability::Ready(ready(found)),
        Err(e) => Ability::Missing(said(&e)),
    }
}

/// Whether connections can be forgotten.
pub(crate) fn connections() -> Ability {
    ability(Connections::open(), |_| "by the kernel".into())
}

/// Forgets them where the kernel remembers any; who probed knows if it does not say.
fn forget(which: &dyn Which) -> Result<(), NetError> {
    match Connections::open() {
        Ok(mut connections) => connections.forget(which).map(drop),
        Err(NetError::Unavailable { .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

/// An error and why, in a line.
fn said(e: &dyn std::error::Error) -> String {
    match e.source() {
        Some(source) => format!("{e}: {}", said(source)),
        None => e.to_string(),
    }
}

/// What the host has of ours.
pub(crate) fn read(devices: &mut dyn Devices, nft: &Nft) -> Result<Observation, NetError> {
    let mut route = Route::open()?;
    let found = route.links()?;
    let (addresses, routes) = (route.addresses()?, route.routes()?);
    let mut observed = gathered(devices, found, addresses, routes)?;
    observed.state.firewall = nft.read()?;
    Ok(observed)
}

/// Links and peers of it alone.
pub(crate) fn read_peers(devices: &mut dyn Devices) -> Result<Observation, NetError> {
    gathered(devices, Route::open()?.links()?, BTreeMap::new(), BTreeMap::new())
}

/// Prefixes, by the index of their link.
type ByLink = BTreeMap<u32, Vec<IpNet>>;

fn gathered(
    devices: &mut dyn Devices,
    found: Vec<Found>,
    mut addresses: ByLink,
    mut routes: ByLink,
) -> Result<Observation, NetError> {
    let mut observed = Observation::default();
    for link in found {
        if !is_ours(&link.name) || !devices.carries(&link.name, link.kind.as_deref()) {
            continue;
        }
        let device = devices.get(&link.name)?;
        let (mut peers, mut live) = (Vec::new(), Vec::new());
        for peer in device.peers {
            live.push(LivePeer {
                public_key: peer.public_key,
                endpoint: peer.endpoint,
                handshake_unix_s: Some(peer.handshake_unix_s).filter(|at| *at != 0),
                rx_bytes: peer.rx_bytes,
                tx_bytes: peer.tx_bytes,
            });
            peers.push(Peer {
                public_key: peer.public_key,
                allowed_ips: peer.allowed_ips,
                endpoint: None,
                keepalive_s: Some(peer.keepalive_s),
                has_preshared: peer.has_preshared,
            });
        }
        live.sort_by_key(|peer| peer.public_key);
        observed.live.links.push(LiveLink { name: link.name.clone(), peers: live });
        observed.state.links.push(Link {
            name: link.name,
            kind: LinkKind::Wireguard,
            mtu: link.mtu,
            up: link.up,
            listen_port: device.listen_port,
            fwmark: device.fwmark,
            public_key: device.public_key,
            addresses: addresses.remove(&link.index).unwrap_or_default(),
            routes: routes.remove(&link.index).unwrap_or_default(),
            peers,
        });
    }
    observed.live.links.sort_by(|a, b| a.name.cmp(&b.name));
    observed.state.normalise();
    Ok(observed)
}

/// What one backend does about links.
pub(crate) trait Links {
    /// Makes one.
    fn add(&self, route: &mut Route, link: &str) -> Result<(), NetError>;
    /// Removes one that is there and ours.
    fn del(&self, route: &mut Route, link: &str) -> Result<(), NetError>;
    /// Whether it does that at all; why not.
    fn refuses(&self, op: &Op) -> Option<&'static str>;
}

/// Takes steps in order. What can be refused is refused before the first of them.
pub(crate) fn apply(
    links: &dyn Links,
    devices: &mut dyn FnMut() -> Result<Box<dyn Devices>, NetError>,
    nft: &Nft,
    ops: &[Op],
    keys: &dyn Keys,
) -> Result<(), NetError> {
    for op in ops {
        if let Some(why) = links.refuses(op) {
            return Err(NetError::Refused { op: op.to_string(), why });
        }
        if op.link().is_some_and(|link| !is_ours(link)) {
            let why = "it is no link of ours: ours begin with vyr-";
            return Err(NetError::Refused { op: op.to_string(), why });
        }
        has_keys(op, keys)?;
    }
    let mut route = Route::open()?;
    let mut set = Set { link: String::new(), change: Change::default(), any: false };
    for op in ops {
        if set.takes(op, keys)? {
            continue;
        }
        set.flush(devices)?;
        if set.takes(op, keys)? {
            continue;
        }
        match op {
            Op::Firewall { to } => nft.apply(to.as_ref())?,
            Op::Cut { of, except } => forget(&NotAllowed::new(of, except))?,
            Op::Forget { addresses } => forget(&EndsOf::new(addresses))?,
            Op::AddLink { link } => links.add(&mut route, link)?,
            Op::DelLink { link } => links.del(&mut route, link)?,
            Op::SetMtu { link, mtu } => route.set_mtu(link, *mtu)?,
            Op::SetUp { link, up } => route.set_up(link, *up)?,
            Op::AddAddress { link, address } => route.add_address(link, address)?,
            Op::DelAddress { link, address } => route.del_address(link, address)?,
            Op::AddRoute { link, route: to } => route.add_route(link, to)?,
            Op::MoveRoute { link, route: to, .. } => route.move_route(link, to)?,
            Op::DelRoute { link, route: to } => route.del_route(link, to)?,
            // The set took them.
            Op::SetListenPort { .. }
            | Op::SetFwmark { .. }
            | Op::SetKey { .. }
            | Op::PeerSet(_)
            | Op::PeerRemove { .. } => (),
        }
    }
    set.flush(devices)
}

/// Steps of WireGuard on one link that follow each other.
struct Set {
    link: String,
    change: Change,
    any: bool,
}

impl Set {
    /// Whether a step is part of this set; then it is in it.
    fn takes(&mut self, op: &Op, keys: &dyn Keys) -> Result<bool, NetError> {
        let Some(link) = op.link() else { return Ok(false) };
        if self.any && self.link != link {
            return Ok(false);
        }
        // What is of the device is written before what is of peers, and once.
        let late = !self.change.peers.is_empty();
        let change = &mut self.change;
        match op {
            Op::SetListenPort { port, .. } if !late && change.listen_port.is_none() => {
                change.listen_port = Some(*port);
            }
            Op::SetFwmark { fwmark, .. } if !late && change.fwmark.is_none() => {
                change.fwmark = Some(*fwmark);
            }
            Op::SetKey { public_key, .. } if !late && change.private_key.is_none() => {
                change.private_key = Some(match public_key {
                    Some(wanted) => private_key(link, wanted, keys)?,
                    None => Secret::default(),
                });
            }
            Op::PeerSet(set) => {
                let missing = || NetError::NoKey { kind: "preshared", of: set.peer.to_string() };
                let preshared = match set.preshared {
                    Some(true) => Some(keys.preshared_key(link, &set.peer).ok_or_else(missing)?),
                    Some(false) => Some(Secret::default()),
                    None => None,
                };
                change.peers.push(PeerChange::Set {
                    peer: set.peer,
                    new: set.new,
                    allowed_ips: set.allowed_ips.clone(),
                    endpoint: set.endpoint,
                    keepalive_s: set.keepalive_s,
                    preshared,
                });
            }
            Op::PeerRemove { peer, .. } => change.peers.push(PeerChange::Remove(*peer)),
            _ => return Ok(false),
        }
        self.link = link.into();
        self.any = true;
        Ok(true)
    }

    fn flush(
        &mut self,
        devices: &mut dyn FnMut() -> Result<Box<dyn Devices>, NetError>,
    ) -> Result<(), NetError> {
        if !self.any {
            return Ok(());
        }
        self.any = false;
        let change = std::mem::take(&mut self.change);
        devices()?.set(&self.link, &change)
    }
}

/// A host without devices.
pub(crate) struct NoDevices;

impl Devices for NoDevices {
    fn carries(&self, _link: &str, _kind: Option<&str>) -> bool {
        false
    }

    fn get(&mut self, link: &str) -> Result<crate::device::Device, NetError> {
        Err(NetError::malformed("this process", format!("it asked for {link}")))
    }

    fn set(&mut self, link: &str, _change: &Change) -> Result<(), NetError> {
        Err(NetError::malformed("this process", format!("it set {link}")))
    }
}
