//! rtnetlink: links, addresses and routes (`linux/rtnetlink.h`, `if_link.h`, `if_addr.h`).
//!
//! Addresses are set without the route that the kernel would make for the prefix behind them:
//! which prefixes go into a link is the plan's to say, and those routes are ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustix::io::Errno;

use super::socket::{CREATE, EXCL, REPLACE, Socket};
use super::wire::{self, Message, Writer, attributes, exactly, text_of, u32_of};
use crate::error::NetError;
use crate::state::ROUTE_PROTOCOL;

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

/// Bytes of `ifinfomsg`, `ifaddrmsg`, `rtmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;
/// An Ethernet, or what looks like one (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Usable at once: a link has no neighbours who could have the same address.
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
/// A flag of `rtmsg`: a copy that the kernel made for one destination.
const CLONED: u32 = 0x200;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Links of a host, addresses of all of them, routes of ours: no host has more.
const ITEMS_MAX: usize = 1_000_000;

/// A link of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// Its hardware address, if it has neighbours as an Ethernet has.
    pub(crate) hardware: Option<[u8; 6]>,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn family(net: &IpNet) -> u8 {
    if net.addr().is_ipv4() { AF_INET } else { AF_INET6 }
}

fn net(family: u8, octets: Option<&[u8]>, bits: u8) -> Result<IpNet, NetError> {
    let address = match (family, octets) {
        (AF_INET, Some(octets)) => IpAddr::from(Ipv4Addr::from(exactly::<4>(octets)?)),
        (AF_INET6, Some(octets)) => IpAddr::from(Ipv6Addr::from(exactly::<16>(octets)?)),
        // A default route has no destination.
        (AF_INET, None) => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new(address, bits)
        .map_err(|_| NetError::malformed("the kernel", format!("a prefix of {bits} bits")))
}

fn link_header(index: u32, flags: u32, change: u32) -> Writer {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    Writer::new(&header)
}

fn read_link(body: &[u8]) -> Result<Found, NetError> {
    let index = u32::from_ne_bytes(wire::bytes(body, 4)?);
    let flags = u32::from_ne_bytes(wire::bytes(body, 8)?);
    let is_ethernet = u16::from_ne_bytes(wire::bytes(body, 2)?) == ARPHRD_ETHER;
    let up = flags & IFF_UP != 0;
    let mut found = Found { index, name: String::new(), kind: None, mtu: 0, up, hardware: None };
    for attribute in attributes(body, LINK_HEADER) {
        match attribute? {
            (IFLA_IFNAME, value) => found.name = text_of(value)?.into(),
            (IFLA_MTU, value) => found.mtu = u32_of(value)?,
            (IFLA_ADDRESS, value) if is_ethernet => found.hardware = value.try_into().ok(),
            (IFLA_LINKINFO, value) => {
                for inner in attributes(value, 0) {
                    if let (IFLA_INFO_KIND, value) = inner? {
                        found.kind = Some(text_of(value)?.into());
                    }
                }
            }
            _ => (),
        }
    }
    Ok(found)
}

/// Something of the link with an index; none: it is not ours to see.
type OfLink = Option<(u32, IpNet)>;

/// The link's index and the address; none for what is not ours to see.
fn read_address(body: &[u8]) -> Result<OfLink, NetError> {
    let [family, bits, _, scope]: [u8; 4] = wire::bytes(body, 0)?;
    let index = u32::from_ne_bytes(wire::bytes(body, 4)?);
    let (mut address, mut local) = (None, None);
    for attribute in attributes(body, ADDRESS_HEADER) {
        match attribute? {
            (IFA_ADDRESS, value) => address = Some(value),
            (IFA_LOCAL, value) => local = Some(value),
            _ => (),
        }
    }
    let is_known = matches!(family, AF_INET | AF_INET6);
    // The kernel gives links link-local addresses of IPv6 by itself.
    let is_local_scope = family == AF_INET6 && scope == SCOPE_LINK;
    match local.or(address) {
        Some(own) if is_known && !is_local_scope => {
            Ok(Some((index, net(family, Some(own), bits)?)))
        }
        _ => Ok(None),
    }
}

/// The link's index and the prefix, of a route that has our number.
fn read_route(body: &[u8]) -> Result<OfLink, NetError> {
    let [family, bits, _, _]: [u8; 4] = wire::bytes(body, 0)?;
    let [table, protocol, _, kind]: [u8; 4] = wire::bytes(body, 4)?;
    let flags = u32::from_ne_bytes(wire::bytes(body, 8)?);
    let is_known = matches!(family, AF_INET | AF_INET6);
    if !is_known || protocol != ROUTE_PROTOCOL || kind != UNICAST || flags & CLONED != 0 {
        return Ok(None);
    }
    let (mut to, mut out, mut table) = (None, None, u32::from(table));
    for attribute in attributes(body, ROUTE_HEADER) {
        match attribute? {
            (RTA_DST, value) => to = Some(value),
            (RTA_OIF, value) => out = Some(u32_of(value)?),
            (RTA_TABLE, value) => table = u32_of(value)?,
            _ => (),
        }
    }
    match out {
        Some(out) if table == u32::from(TABLE_MAIN) => Ok(Some((out, net(family, to, bits)?))),
        _ => Ok(None),
    }
}

fn bounded(items: usize) -> Result<(), NetError> {
    match items < ITEMS_MAX {
        true => Ok(()),
        false => Err(NetError::malformed("the kernel", "a list is too long")),
    }
}

/// By the link's index.
pub(crate) type ByLink = BTreeMap<u32, Vec<IpNet>>;

/// rtnetlink in one network namespace.
#[derive(Debug)]
pub(crate) struct Route {
    socket: Socket,
}

impl Route {
    pub(crate) fn open() -> Result<Self, NetError> {
        Ok(Self { socket: Socket::route()? })
    }

    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Found>, NetError> {
        let mut found = Vec::new();
        let each = &mut |message: Option<&Message<'_>>| {
            match message {
                None => found.clear(),
                Some(message) if message.kind == NEW_LINK => {
                    bounded(found.len())?;
                    found.push(read_link(message.body)?);
                }
                Some(_) => (),
            }
            Ok(())
        };
        self.socket.list("list links", GET_LINK, &link_header(0, 0, 0), each)?;
        Ok(found)
    }

    /// The link of a name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Found>, NetError> {
        let mut body = link_header(0, 0, 0);
        body.put_text(IFLA_IFNAME, name);
        let mut found = None;
        let each = &mut |message: &Message<'_>| {
            if message.kind == NEW_LINK {
                found = Some(read_link(message.body)?);
            }
            Ok(())
        };
        match self.socket.ask(&format!("look for {name}"), GET_LINK, 0, &body, each) {
            Ok(()) => Ok(found),
            Err(NetError::Kernel { source: Errno::NODEV, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn index(&mut self, name: &str) -> Result<u32, NetError> {
        let found = self.link(name)?;
        let missing = || NetError::kernel(format!("find the link {name}"), Errno::NODEV);
        Ok(found.ok_or_else(missing)?.index)
    }

    fn tell(&mut self, doing: &str, kind: u16, flags: u16, body: &Writer) -> Result<(), NetError> {
        self.socket.ask(doing, kind, flags, body, &mut |_| Ok(()))
    }

    /// Makes a link of a kind that the kernel knows.
    pub(crate) fn add_link(&mut self, name: &str, kind: &str) -> Result<(), NetError> {
        let mut body = link_header(0, 0, 0);
        body.put_text(IFLA_IFNAME, name);
        let info = body.nest(IFLA_LINKINFO);
        body.put_text(IFLA_INFO_KIND, kind);
        body.close(info);
        self.tell(&format!("make the {kind} link {name}"), NEW_LINK, CREATE | EXCL, &body)
    }

    pub(crate) fn del_link(&mut self, name: &str) -> Result<(), NetError> {
        let body = link_header(self.index(name)?, 0, 0);
        self.tell(&format!("remove the link {name}"), DEL_LINK, 0, &body)
    }

    pub(crate) fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetError> {
        let mut body = link_header(self.index(name)?, 0, 0);
        body.put_u32(IFLA_MTU, mtu);
        self.tell(&format!("set the mtu of {name} to {mtu}"), NEW_LINK, 0, &body)
    }

    pub(crate) fn set_up(&mut self, name: &str, up: bool) -> Result<(), NetError> {
        let body = link_header(self.index(name)?, if up { IFF_UP } else { 0 }, IFF_UP);
        let way = if up { "up" } else { "down" };
        self.tell(&format!("set {name} {way}"), NEW_LINK, 0, &body)
    }

    fn prefixes(
        &mut self,
        doing: &str,
        kinds: (u16, u16),
        header: usize,
        read: fn(&[u8]) -> Result<OfLink, NetError>,
    ) -> Result<ByLink, NetError> {
        let mut found = ByLink::new();
        let mut items = 0;
        let each = &mut |message: Option<&Message<'_>>| {
            match message {
                None => {
                    found.clear();
                    items = 0;
                }
                Some(message) if message.kind == kinds.1 => {
                    if let Some((index, prefix)) = read(message.body)? {
                        bounded(items)?;
                        items += 1;
                        found.entry(index).or_default().push(prefix);
                    }
                }
                Some(_) => (),
            }
            Ok(())
        };
        self.socket.list(doing, kinds.0, &Writer::new(&vec![0; header]), each)?;
        Ok(found)
    }

    /// All addresses but IPv6's link-local ones.
    pub(crate) fn addresses(&mut self) -> Result<ByLink, NetError> {
        let kinds = (GET_ADDRESS, NEW_ADDRESS);
        self.prefixes("list addresses", kinds, ADDRESS_HEADER, read_address)
    }

    /// All routes of ours.
    pub(crate) fn routes(&mut self) -> Result<ByLink, NetError> {
        self.prefixes("list routes", (GET_ROUTE, NEW_ROUTE), ROUTE_HEADER, read_route)
    }

    pub(crate) fn add_address(&mut self, name: &str, address: &IpNet) -> Result<(), NetError> {
        let body = self.address(name, address)?;
        let doing = format!("give {name} the address {address}");
        self.tell(&doing, NEW_ADDRESS, CREATE | EXCL, &body)
    }

    /// Removes an address, and puts back what the kernel takes along: other IPv4 addresses behind
    /// the same prefix go with the first of them (unless `promote_secondaries` is set), and routes
    /// go with the last.
    pub(crate) fn del_address(&mut self, name: &str, address: &IpNet) -> Result<(), NetError> {
        let index = self.index(name)?;
        let body = self.address(name, address)?;
        let before = (self.addresses()?, self.routes()?);
        self.tell(&format!("take {address} from {name}"), DEL_ADDRESS, 0, &body)?;
        let after = (self.addresses()?, self.routes()?);
        let of = |all: &ByLink| all.get(&index).cloned().unwrap_or_default();
        let (left, routed) = (of(&after.0), of(&after.1));
        for lost in of(&before.0).iter().filter(|own| *own != address && !left.contains(own)) {
            self.add_address(name, lost)?;
        }
        for lost in of(&before.1).iter().filter(|route| !routed.contains(route)) {
            self.add_route(name, lost)?;
        }
        Ok(())
    }

    fn address(&mut self, name: &str, address: &IpNet) -> Result<Writer, NetError> {
        let mut header = [0; ADDRESS_HEADER];
        header[0] = family(address);
        header[1] = address.prefix_len();
        header[4..8].copy_from_slice(&self.index(name)?.to_ne_bytes());
        let mut body = Writer::new(&header);
        let own = octets(address.addr());
        body.put(IFA_LOCAL, &own);
        body.put(IFA_ADDRESS, &own);
        body.put_u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        Ok(body)
    }

    pub(crate) fn add_route(&mut self, name: &str, route: &IpNet) -> Result<(), NetError> {
        let body = self.route(name, route)?;
        self.tell(&format!("route {route} into {name}"), NEW_ROUTE, CREATE | EXCL, &body)
    }

    /// In one step, for a route that is ours: it takes the place of the one for the same prefix.
    pub(crate) fn move_route(&mut self, name: &str, route: &IpNet) -> Result<(), NetError> {
        let body = self.route(name, route)?;
        self.tell(&format!("move {route} to {name}"), NEW_ROUTE, CREATE | REPLACE, &body)
    }

    pub(crate) fn del_route(&mut self, name: &str, route: &IpNet) -> Result<(), NetError> {
        let body = self.route(name, route)?;
        self.tell(&format!("remove the route {route} into {name}"), DEL_ROUTE, 0, &body)
    }

    fn route(&mut self, name: &str, route: &IpNet) -> Result<Writer, NetError> {
        let scope = if route.addr().is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
        let bits = route.prefix_len();
        let mut header = [0; ROUTE_HEADER];
        header[..8].copy_from_slice(&[
            family(route),
            bits,
            0,
            0,
            TABLE_MAIN,
            ROUTE_PROTOCOL,
            scope,
            UNICAST,
        ]);
        let mut body = Writer::new(&header);
        if bits != 0 {
            body.put(RTA_DST, &octets(route.network()));
        }
        body.put_u32(RTA_OIF, self.index(name)?);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_refused_or_read(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            // No panic, whatever it is.
            let _ = (read_link(&body), read_address(&body), read_route(&body));
        }
    }

    /// Which kinds a kernel knows differs; WireGuard's links are made as those of any other kind.
    #[test]
    fn links_are_made_and_removed() {
        let test = "netlink::route::tests::links_are_made_and_removed";
        if !vyr_space::is_able(test, &[]) {
            return;
        }
        let space = vyr_space::Namespace::make().expect("it was made before");
        let kinds = ["bridge", "dummy", "ifb"];
        let known =
            |kind: &&str| space.run("ip", &["link", "add", "vyr-try", "type", kind], "").is_ok();
        let Some(kind) = kinds.into_iter().find(known) else {
            return vyr_space::not_run(test, "the kernel makes no simple links");
        };
        space.line("ip link del vyr-try");
        let (made, again, found, gone) = space.inside(|| {
            let mut route = Route::open().expect("a socket");
            let made = route.add_link("vyr-a", kind);
            let again = route.add_link("vyr-a", kind);
            let found = route.link("vyr-a").expect("an answer").expect("it is there");
            assert!(route.links().expect("a list").contains(&found));
            route.set_mtu("vyr-a", 1300).expect("it is set");
            route.set_up("vyr-a", true).expect("it is set");
            let now = route.link("vyr-a").expect("an answer").expect("it is there");
            assert_eq!(now, Found { mtu: 1300, up: true, ..found.clone() });
            route.del_link("vyr-a").expect("it is removed");
            (made, again, found, route.link("vyr-a").expect("an answer"))
        });
        made.expect("it is made");
        assert!(matches!(again, Err(NetError::Kernel { source: Errno::EXIST, .. })), "{again:?}");
        assert_eq!((found.name.as_str(), found.kind.as_deref()), ("vyr-a", Some(kind)));
        assert_eq!(gone, None);
        assert!(space.run("ip", &["link", "show", "vyr-a"], "").is_err());
    }

    #[test]
    fn a_short_message_is_an_error() {
        for length in 0..LINK_HEADER {
            assert!(read_link(&vec![0; length]).is_err(), "{length}");
        }
        assert!(read_address(&[0; ADDRESS_HEADER - 1]).is_err());
        assert!(read_route(&[0; ROUTE_HEADER - 1]).is_err());
    }

    #[test]
    fn a_route_of_another_is_not_read() {
        let mut header = [0; ROUTE_HEADER];
        header[..8].copy_from_slice(&[AF_INET, 8, 0, 0, TABLE_MAIN, ROUTE_PROTOCOL, 0, UNICAST]);
        let route = |header: &[u8]| {
            let mut body = Writer::new(header);
            body.put(RTA_DST, &[10, 0, 0, 0]);
            body.put_u32(RTA_OIF, 7);
            let all = body.finish(NEW_ROUTE, 0, 1).expect("it fits");
            read_route(&all[wire::HEADER_BYTES..]).expect("it is whole")
        };
        assert_eq!(route(&header), Some((7, "10.0.0.0/8".parse().expect("a prefix"))));
        for (at, other) in [(4, 255), (5, 4), (7, 2), (0, 7)] {
            let mut header = header;
            header[at] = other;
            assert_eq!(route(&header), None, "{at}");
        }
    }
}
