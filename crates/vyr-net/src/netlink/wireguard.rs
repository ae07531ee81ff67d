//! WireGuard in the kernel: generic netlink's family of that name (`linux/wireguard.h`).
//!
//! A change may be longer than netlink's lengths carry (an attribute has 64 KiB): then it is several
//! messages. Each peer of one message stands alone, and one whose allowed IPs do not fit is gone on
//! with in the next, which then adds to what the first began. Who gets an address is always before
//! who loses one, so no cut leaves an address without a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use ipnet::IpNet;
use rustix::io::Errno;
use vyr_plan::intent::Key;

use super::socket::Socket;
use super::wire::{Writer, attributes, bytes, exactly, text_of, u16_of, u32_of, u64_of};
use crate::device::{ALLOWED_IPS_MAX, Change, Device, DevicePeer, Devices, PEERS_MAX, PeerChange};
use crate::diff::AllowedIps;
use crate::error::NetError;

const NAME: &str = "wireguard";
const VERSION: u8 = 1;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
/// `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// The family that knows the others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const CONTROL_ID: u16 = 1;
const CONTROL_NAME: u16 = 2;

const DEVICE_NAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_FWMARK: u16 = 7;
const DEVICE_PEERS: u16 = 8;

const PEER_PUBLIC_KEY: u16 = 1;
const PEER_PRESHARED_KEY: u16 = 2;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_HANDSHAKE: u16 = 6;
const PEER_RX: u16 = 7;
const PEER_TX: u16 = 8;
const PEER_ALLOWED_IPS: u16 = 9;

const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWED_IPS: u32 = 2;
const UPDATE_ONLY: u32 = 4;

const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDRESS: u16 = 2;
const ALLOWED_BITS: u16 = 3;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Half of what a length can say, and a sixth of what a socket buffers.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 10;
/// One peer without its allowed IPs: two keys, flags, an endpoint, an interval, and their headers.
const PEER_BYTES: usize = 160;
/// One allowed IP of IPv6, with headers.
const ALLOWED_BYTES: usize = 44;

/// WireGuard in the kernel.
#[derive(Debug)]
pub(crate) struct Wireguard {
    socket: Socket,
    family: u16,
}

fn header(command: u8, version: u8) -> Writer {
    Writer::new(&[command, version, 0, 0])
}

impl Wireguard {
    /// Finds the family; the kernel loads the module for it, if it has one.
    pub(crate) fn open() -> Result<Self, NetError> {
        let mut socket = Socket::generic()?;
        let mut body = header(GET_FAMILY, 2);
        body.put_text(CONTROL_NAME, NAME);
        let mut family = None;
        let asked = socket.ask("look for WireGuard", CONTROL, 0, &body, &mut |message| {
            for attribute in attributes(message.body, GENERIC_HEADER) {
                if let (CONTROL_ID, value) = attribute? {
                    family = Some(u16_of(value)?);
                }
            }
            Ok(())
        });
        match (asked, family) {
            (Ok(()), Some(family)) => Ok(Self { socket, family }),
            (Err(NetError::Kernel { source: Errno::NOENT, .. }), _) => {
                let why = "this kernel has no WireGuard, built in or as a module".into();
                Err(NetError::Unavailable { what: "WireGuard", why })
            }
            (Ok(()), None) => Err(NetError::malformed("the kernel", "a family without a number")),
            (Err(e), _) => Err(e),
        }
    }
}

impl Devices for Wireguard {
    fn carries(&self, _link: &str, kind: Option<&str>) -> bool {
        kind == Some(NAME)
    }

    fn get(&mut self, link: &str) -> Result<Device, NetError> {
        let mut body = header(GET_DEVICE, VERSION);
        body.put_text(DEVICE_NAME, link);
        let mut device = Device::default();
        let family = self.family;
        self.socket.list(&format!("read {link}"), family, &body, &mut |message| {
            match message {
                None => device = Device::default(),
                Some(message) if message.kind == family => read(message.body, link, &mut device)?,
                Some(_) => (),
            }
            Ok(())
        })?;
        Ok(device)
    }

    fn set(&mut self, link: &str, change: &Change) -> Result<(), NetError> {
        for body in written(link, change) {
            let doing = format!("change {link}");
            self.socket.ask(&doing, self.family, 0, &body, &mut |_| Ok(()))?;
        }
        Ok(())
    }
}

fn key(value: &[u8]) -> Result<Option<Key>, NetError> {
    let bytes = exactly::<32>(value)?;
    Ok((bytes != [0; 32]).then_some(Key::from_bytes(bytes)))
}

/// One message about a device. The private key and preshared keys are not kept.
fn read(body: &[u8], link: &str, device: &mut Device) -> Result<(), NetError> {
    for attribute in attributes(body, GENERIC_HEADER) {
        match attribute? {
            (DEVICE_NAME, value) if text_of(value)? != link => {
                return Err(NetError::malformed("the kernel", "an answer about another link"));
            }
            (DEVICE_PUBLIC_KEY, value) => device.public_key = key(value)?,
            (DEVICE_LISTEN_PORT, value) => device.listen_port = u16_of(value)?,
            (DEVICE_FWMARK, value) => device.fwmark = u32_of(value)?,
            (DEVICE_PEERS, value) => {
                for peer in attributes(value, 0) {
                    read_peer(peer?.1, device)?;
                }
            }
            _ => (),
        }
    }
    Ok(())
}

fn read_peer(value: &[u8], device: &mut Device) -> Result<(), NetError> {
    let bad = |why: &str| NetError::malformed("the kernel", why);
    let mut public_key = None;
    for attribute in attributes(value, 0) {
        if let (PEER_PUBLIC_KEY, value) = attribute? {
            public_key = key(value)?;
        }
    }
    let public_key = public_key.ok_or_else(|| bad("a peer without a key"))?;
    // What does not fit into one message goes on in the next: the key again, and more addresses.
    if device.peers.last().is_none_or(|last| last.public_key != public_key) {
        if device.peers.len() >= PEERS_MAX {
            return Err(bad("a link has too many peers"));
        }
        device.peers.push(DevicePeer::new(public_key));
    }
    let total: usize = device.peers.last().map_or(0, |peer| peer.allowed_ips.len());
    let Some(peer) = device.peers.last_mut() else { return Ok(()) };
    for attribute in attributes(value, 0) {
        match attribute? {
            (PEER_PRESHARED_KEY, value) => peer.has_preshared = value.iter().any(|byte| *byte != 0),
            (PEER_ENDPOINT, value) => peer.endpoint = Some(endpoint(value)?),
            (PEER_KEEPALIVE, value) => peer.keepalive_s = u16_of(value)?,
            (PEER_HANDSHAKE, value) => {
                peer.handshake_unix_s =
                    u64_of(exactly::<16>(value)?.first_chunk::<8>().unwrap_or(&[0; 8]))?;
            }
            (PEER_RX, value) => peer.rx_bytes = u64_of(value)?,
            (PEER_TX, value) => peer.tx_bytes = u64_of(value)?,
            (PEER_ALLOWED_IPS, value) => {
                for one in attributes(value, 0) {
                    peer.allowed_ips.push(allowed_ip(one?.1)?);
                }
            }
            _ => (),
        }
    }
    match total + peer.allowed_ips.len() > ALLOWED_IPS_MAX {
        true => Err(bad("a peer has too many allowed IPs")),
        false => Ok(()),
    }
}

fn allowed_ip(value: &[u8]) -> Result<IpNet, NetError> {
    let (mut family, mut address, mut bits) = (None, None, None);
    for attribute in attributes(value, 0) {
        match attribute? {
            (ALLOWED_FAMILY, value) => family = Some(u16_of(value)?),
            (ALLOWED_ADDRESS, value) => address = Some(value),
            (ALLOWED_BITS, value) => bits = Some(exactly::<1>(value)?[0]),
            _ => (),
        }
    }
    let address = match (family, address) {
        (Some(AF_INET), Some(value)) => IpAddr::from(Ipv4Addr::from(exactly::<4>(value)?)),
        (Some(AF_INET6), Some(value)) => IpAddr::from(Ipv6Addr::from(exactly::<16>(value)?)),
        _ => return Err(NetError::malformed("the kernel", "an allowed IP of no family")),
    };
    let net = bits.and_then(|bits| IpNet::new(address, bits).ok());
    net.ok_or_else(|| NetError::malformed("the kernel", "an allowed IP without a length"))
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn endpoint(value: &[u8]) -> Result<SocketAddr, NetError> {
    let port = u16::from_be_bytes(bytes(value, 2)?);
    match u16::from_ne_bytes(bytes(value, 0)?) {
        AF_INET => {
            let address = Ipv4Addr::from(bytes::<4>(value, 4)?);
            Ok(SocketAddrV4::new(address, port).into())
        }
        AF_INET6 => {
            let address = Ipv6Addr::from(bytes::<16>(value, 8)?);
            let scope = u32::from_ne_bytes(bytes(value, 24)?);
            Ok(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => Err(NetError::malformed("the kernel", "an endpoint of no family")),
    }
}

fn put_endpoint(body: &mut Writer, at: &SocketAddr) {
    let mut value = [0; 28];
    value[2..4].copy_from_slice(&at.port().to_be_bytes());
    match at {
        SocketAddr::V4(at) => {
            value[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            value[4..8].copy_from_slice(&at.ip().octets());
            body.put(PEER_ENDPOINT, &value[..16]);
        }
        SocketAddr::V6(at) => {
            value[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            value[8..24].copy_from_slice(&at.ip().octets());
            value[24..28].copy_from_slice(&at.scope_id().to_ne_bytes());
            body.put(PEER_ENDPOINT, &value);
        }
    }
}

fn put_allowed_ip(body: &mut Writer, net: &IpNet) {
    let nest = body.nest(0);
    match net.addr() {
        IpAddr::V4(v4) => {
            body.put_u16(ALLOWED_FAMILY, AF_INET);
            body.put(ALLOWED_ADDRESS, &v4.octets());
        }
        IpAddr::V6(v6) => {
            body.put_u16(ALLOWED_FAMILY, AF_INET6);
            body.put(ALLOWED_ADDRESS, &v6.octets());
        }
    }
    body.put(ALLOWED_BITS, &[net.prefix_len()]);
    body.close(nest);
}

/// The messages that make a change.
fn written(link: &str, change: &Change) -> Vec<Writer> {
    let mut messages = Messages { link, done: Vec::new(), open: None };
    messages.begin(|body| {
        if let Some(key) = &change.private_key {
            body.put(DEVICE_PRIVATE_KEY, &**key);
        }
        if let Some(port) = change.listen_port {
            body.put_u16(DEVICE_LISTEN_PORT, port);
        }
        if let Some(fwmark) = change.fwmark {
            body.put_u32(DEVICE_FWMARK, fwmark);
        }
    });
    for peer in &change.peers {
        messages.peer(peer);
    }
    messages.end();
    messages.done
}

/// A message that peers are written into.
struct Open {
    body: Writer,
    peers: usize,
}

struct Messages<'a> {
    link: &'a str,
    done: Vec<Writer>,
    open: Option<Open>,
}

impl Messages<'_> {
    fn begin(&mut self, fill: impl FnOnce(&mut Writer)) {
        let mut body = header(SET_DEVICE, VERSION);
        body.put_text(DEVICE_NAME, self.link);
        fill(&mut body);
        let peers = body.nest(DEVICE_PEERS);
        self.open = Some(Open { body, peers });
    }

    fn end(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.body.close(open.peers);
            self.done.push(open.body);
        }
    }

    /// A message with room for so many bytes.
    fn room(&mut self, bytes: usize) -> Option<&mut Writer> {
        let full = |open: &Open| open.body.len() + bytes > MESSAGE_BYTES_MAX;
        if self.open.as_ref().is_none_or(full) {
            self.end();
            self.begin(|_| ());
        }
        self.open.as_mut().map(|open| &mut open.body)
    }

    fn peer(&mut self, change: &PeerChange) {
        let Some(body) = self.room(PEER_BYTES + ALLOWED_BYTES) else { return };
        let nest = body.nest(0);
        match change {
            PeerChange::Remove(peer) => {
                body.put(PEER_PUBLIC_KEY, peer.bytes());
                body.put_u32(PEER_FLAGS, REMOVE_ME);
                body.close(nest);
            }
            PeerChange::Set { peer, new, allowed_ips, endpoint, keepalive_s, preshared } => {
                body.put(PEER_PUBLIC_KEY, peer.bytes());
                let replaces = matches!(allowed_ips, Some(AllowedIps::Replace(_)));
                let flags = if *new { 0 } else { UPDATE_ONLY };
                body.put_u32(PEER_FLAGS, flags | if replaces { REPLACE_ALLOWED_IPS } else { 0 });
                if let Some(key) = preshared {
                    body.put(PEER_PRESHARED_KEY, &**key);
                }
                if let Some(at) = endpoint {
                    put_endpoint(body, at);
                }
                if let Some(seconds) = keepalive_s {
                    body.put_u16(PEER_KEEPALIVE, *seconds);
                }
                let all: &[IpNet] = match allowed_ips {
                    Some(AllowedIps::Add(all) | AllowedIps::Replace(all)) => all,
                    None => &[],
                };
                self.allowed_ips(peer, nest, all);
            }
        }
    }

    /// The rest of a peer, in as many messages as it needs.
    fn allowed_ips(&mut self, peer: &Key, mut nest: usize, all: &[IpNet]) {
        let Some(open) = &mut self.open else { return };
        let mut list = open.body.nest(PEER_ALLOWED_IPS);
        for net in all {
            let full = self
                .open
                .as_ref()
                .is_none_or(|open| open.body.len() + ALLOWED_BYTES > MESSAGE_BYTES_MAX);
            if full {
                if let Some(open) = &mut self.open {
                    open.body.close(list);
                    open.body.close(nest);
                }
                self.end();
                self.begin(|_| ());
                if let Some(open) = &mut self.open {
                    nest = open.body.nest(0);
                    open.body.put(PEER_PUBLIC_KEY, peer.bytes());
                    open.body.put_u32(PEER_FLAGS, UPDATE_ONLY);
                    list = open.body.nest(PEER_ALLOWED_IPS);
                }
            }
            if let Some(open) = &mut self.open {
                put_allowed_ip(&mut open.body, net);
            }
        }
        if let Some(open) = &mut self.open {
            open.body.close(list);
            open.body.close(nest);
        }
    }
}

#[cfg(test)]
mod tests;
