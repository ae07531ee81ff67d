//! The guest's addresses: one card, what the host said, and nothing that the network says.
//!
//! Requests of rtnetlink (`linux/rtnetlink.h`), one at a time, each acknowledged.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use vyr_channel::Network;

const CARD: &str = "eth0";

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// `NLM_F_REQUEST | NLM_F_ACK`, and with `NLM_F_CREATE | NLM_F_EXCL`.
const SET: u16 = 0x5;
const CREATE: u16 = 0x605;
const NLMSG_ERROR: u16 = 2;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Nobody else has the address: the host gave it.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
/// The gateway need not be inside of the prefix.
const RTNH_F_ONLINK: u32 = 4;

/// Loopback, and the card if there is one to configure.
pub(crate) fn configure(network: Option<&Network>) -> io::Result<()> {
    let route = Route::open()?;
    route.ask(NEW_LINK, SET, &up(index("lo")?), &[])?;
    let Some(network) = network else { return Ok(()) };
    // Addresses and routes come from the host's words, not from who else is on the wire.
    for (name, value) in [("accept_ra", "0"), ("autoconf", "0"), ("dad_transmits", "0")] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{CARD}/{name}"), value)?;
    }
    let card = index(CARD)?;
    let mtu = network.mtu.to_ne_bytes();
    let attributes = [(IFLA_ADDRESS, &network.mac[..]), (IFLA_MTU, &mtu[..])];
    route.ask(NEW_LINK, SET, &up(card), &attributes)?;
    let ipv6 = network.ipv6;
    let ipv4 = network.ipv4.map(|it| (it.address.into(), it.prefix, it.gateway.into()));
    let all = std::iter::once((ipv6.address.into(), ipv6.prefix, ipv6.gateway.into())).chain(ipv4);
    for (address, prefix, gateway) in all {
        route.address(card, address, prefix)?;
        route.default(card, gateway)?;
    }
    Ok(())
}

fn index(name: &str) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))
        .map_err(|e| io::Error::new(e.kind(), format!("no network card {name}")))?;
    text.trim().parse().map_err(io::Error::other)
}

/// `struct ifinfomsg` that switches a link on.
fn up(index: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes
}

fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

struct Route {
    socket: OwnedFd,
}

impl Route {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self { socket })
    }

    fn address(&self, card: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, octets) = parts(address);
        let flags = if family == AF_INET6 { IFA_F_NODAD } else { 0 };
        let mut head = vec![family, prefix, flags, 0];
        head.extend(card.to_ne_bytes());
        self.ask(NEW_ADDRESS, CREATE, &head, &[(IFA_LOCAL, &octets), (IFA_ADDRESS, &octets)])
    }

    fn default(&self, card: u32, gateway: IpAddr) -> io::Result<()> {
        let (family, octets) = parts(gateway);
        let mut head = vec![family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST];
        head.extend(RTNH_F_ONLINK.to_ne_bytes());
        let card = card.to_ne_bytes();
        self.ask(NEW_ROUTE, CREATE, &head, &[(RTA_GATEWAY, &octets), (RTA_OIF, &card)])
    }

    fn ask(&self, kind: u16, flags: u16, head: &[u8], list: &[(u16, &[u8])]) -> io::Result<()> {
        let message = message(kind, flags, head, list)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        let mut answer = vec![0; 4096];
        loop {
            let (count, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            let word = |at: usize| answer[..count].get(at..at + 4)?.first_chunk::<4>().copied();
            let kind = word(4).map(|it| u16::from_ne_bytes([it[0], it[1]]));
            if kind != Some(NLMSG_ERROR) {
                continue;
            }
            return match word(16).map(i32::from_ne_bytes) {
                Some(0) => Ok(()),
                Some(error) => Err(io::Error::from_raw_os_error(-error)),
                None => Err(io::Error::other("the kernel's answer is cut")),
            };
        }
    }
}

fn message(kind: u16, flags: u16, head: &[u8], list: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
    let long = |_| io::Error::other("too long for the kernel");
    let mut body = head.to_vec();
    for (name, value) in list {
        let length = u16::try_from(4 + value.len()).map_err(long)?;
        body.extend(length.to_ne_bytes());
        body.extend(name.to_ne_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(16 + body.len()).map_err(long)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: one question at a time on a socket of its own.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    Ok(message)
}
