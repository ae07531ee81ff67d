//! The kernel's memory of connections (`linux/netfilter/nfnetlink_conntrack.h`): what it accepted
//! once it accepts on, whoever is gone meanwhile.
//!
//! Only what is needed to forget some of it is read: both tuples of a connection, its zone and id.
//!
//! ```text
//! origin   client:50000 -> 192.0.2.1:443       as it began
//! reply    192.0.2.1:443 -> 198.51.100.7:50000 as answers come: translated, if it is
//! ```
//!
//! A filter saw the packet that began it after its destination was translated and before its source
//! was: it came from the origin's source, and went to the reply's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustix::io::Errno;
use vyr_plan::{Block, Set, point};

use super::socket::Socket;
use super::wire::{self, Message, NESTED, Writer, attributes, exactly};
use crate::diff::May;
use crate::error::NetError;

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message's kind.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATS: u16 = SUBSYSTEM | 5;
/// Bytes of `nfgenmsg`: family, version, a resource that is not used.
const HEADER: usize = 4;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;

/// Connections that are forgotten at once. A table of that many takes 300 MB of the kernel.
const FOUND_MAX: usize = 1_000_000;

const LIST: &str = "list connections";

/// One connection, as much as names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    family: u8,
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

/// A way to the kernel's memory of connections.
#[derive(Debug)]
pub(crate) struct Connections {
    socket: Socket,
}

impl Connections {
    /// Fails if the kernel keeps none, or does not tell of it.
    pub(crate) fn open() -> Result<Self, NetError> {
        let mut socket = Socket::netfilter().map_err(unavailable)?;
        let question = Writer::new(&[0; HEADER]);
        socket
            .ask("count connections", GET_STATS, 0, &question, &mut |_| Ok(()))
            .map_err(unavailable)?;
        Ok(Self { socket })
    }

    /// Forgets each connection of those; how many there were. Packets of it are new ones from then on,
    /// for all rules to judge.
    pub(crate) fn forget(&mut self, which: &dyn Which) -> Result<usize, NetError> {
        let mut found = Vec::new();
        self.socket.list(LIST, GET, &Writer::new(&[0; HEADER]), &mut |message| {
            let Some(message) = message else {
                found.clear();
                return Ok(());
            };
            if message.kind == GET - 1 || message.kind == GET {
                found.extend(read(message, which)?);
            }
            match found.len() > FOUND_MAX {
                true => Err(NetError::malformed("the kernel", "there are too many connections")),
                false => Ok(()),
            }
        })?;
        let mut forgotten = 0;
        for connection in &found {
            match self.delete(connection) {
                Ok(()) => forgotten += 1,
                // It ended by itself.
                Err(NetError::Kernel { source: Errno::NOENT, .. }) => (),
                Err(e) => return Err(e),
            }
        }
        Ok(forgotten)
    }

    fn delete(&mut self, connection: &Connection) -> Result<(), NetError> {
        let mut writer = Writer::new(&[connection.family, 0, 0, 0]);
        writer.put(TUPLE_ORIG | NESTED, &connection.tuple);
        for (kind, value) in [(ZONE, &connection.zone), (ID, &connection.id)] {
            if let Some(value) = value {
                writer.put(kind, value);
            }
        }
        self.socket.ask("forget a connection", DELETE, 0, &writer, &mut |_| Ok(()))
    }
}

/// What a kernel says that has no such thing, or no way to it.
fn unavailable(e: NetError) -> NetError {
    match e {
        NetError::Kernel {
            source:
                source @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT),
            ..
        } => NetError::Unavailable { what: "conntrack", why: source.to_string() },
        e => e,
    }
}

/// One way of a connection, as much as is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Way {
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    protocol: u8,
    /// 0 where the protocol has none.
    from_port: u16,
}

/// Which connections are forgotten.
pub(crate) trait Which {
    /// Whether one with these two ways is.
    fn has(&self, origin: &Way, reply: &Way) -> bool;
}

/// Those that one of some addresses has, on either side, translated or not.
pub(crate) struct EndsOf(Set);

impl EndsOf {
    pub(crate) fn new(addresses: &[IpNet]) -> Self {
        Self(Set::prefixes(addresses))
    }
}

impl Which for EndsOf {
    fn has(&self, origin: &Way, reply: &Way) -> bool {
        let ends = [origin.from, origin.to, reply.from, reply.to];
        ends.into_iter().flatten().any(|end| self.0.contains(point(end)))
    }
}

/// Those that some addresses began and may not begin any more.
pub(crate) struct NotAllowed {
    of: Set,
    except: Vec<Block>,
}

impl NotAllowed {
    pub(crate) fn new(of: &[IpNet], except: &[May]) -> Self {
        Self { of: Set::prefixes(of), except: except.iter().map(May::block).collect() }
    }
}

impl Which for NotAllowed {
    fn has(&self, origin: &Way, reply: &Way) -> bool {
        let Some(from) = origin.from.map(point).filter(|from| self.of.contains(*from)) else {
            return false;
        };
        // Whatever has no end is nothing that a rule lets begin.
        let Some(to) = reply.from.map(point) else { return true };
        let service = u128::from(origin.protocol) << 16 | u128::from(reply.from_port);
        !self.except.iter().any(|block| {
            block.source.contains(from)
                && block.destination.contains(to)
                && block.service.contains(service)
        })
    }
}

/// A connection, if it is one of those.
fn read(message: &Message<'_>, which: &dyn Which) -> Result<Option<Connection>, NetError> {
    let [family] = wire::bytes(message.body, 0)?;
    let mut found = Connection { family, tuple: Vec::new(), zone: None, id: None };
    let (mut origin, mut reply) = (Way::default(), Way::default());
    for attribute in attributes(message.body, HEADER) {
        match attribute? {
            (TUPLE_ORIG, value) => {
                origin = way(value)?;
                found.tuple = value.to_vec();
            }
            (TUPLE_REPLY, value) => reply = way(value)?,
            (ZONE, value) => found.zone = Some(value.to_vec()),
            (ID, value) => found.id = Some(value.to_vec()),
            _ => (),
        }
    }
    let is_wanted = which.has(&origin, &reply);
    match is_wanted && found.tuple.is_empty() {
        true => Err(NetError::malformed("the kernel", "a connection without an origin")),
        false => Ok(is_wanted.then_some(found)),
    }
}

/// One tuple of a connection.
fn way(tuple: &[u8]) -> Result<Way, NetError> {
    let mut way = Way::default();
    for attribute in attributes(tuple, 0) {
        match attribute? {
            (TUPLE_IP, value) => {
                for end in attributes(value, 0) {
                    match end? {
                        (IP_V4_SRC, octets) => way.from = Some(v4(octets)?),
                        (IP_V4_DST, octets) => way.to = Some(v4(octets)?),
                        (IP_V6_SRC, octets) => way.from = Some(v6(octets)?),
                        (IP_V6_DST, octets) => way.to = Some(v6(octets)?),
                        _ => (),
                    }
                }
            }
            (TUPLE_PROTO, value) => {
                for part in attributes(value, 0) {
                    match part? {
                        (PROTO_NUM, number) => [way.protocol] = exactly::<1>(number)?,
                        (PROTO_SRC_PORT, port) => {
                            way.from_port = u16::from_be_bytes(exactly(port)?)
                        }
                        _ => (),
                    }
                }
            }
            _ => (),
        }
    }
    Ok(way)
}

fn v4(octets: &[u8]) -> Result<IpAddr, NetError> {
    Ok(Ipv4Addr::from(exactly::<4>(octets)?).into())
}

fn v6(octets: &[u8]) -> Result<IpAddr, NetError> {
    Ok(Ipv6Addr::from(exactly::<16>(octets)?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A connection from 10.0.0.2 to 192.0.2.1, whose answers come to 198.51.100.7.
    fn body() -> Vec<u8> {
        let mut writer = Writer::new(&[2, 0, 0, 0]);
        for (kind, source, destination) in [
            (TUPLE_ORIG, [10, 0, 0, 2], [192, 0, 2, 1]),
            (TUPLE_REPLY, [192, 0, 2, 1], [198, 51, 100, 7]),
        ] {
            let tuple = writer.nest(kind);
            let ip = writer.nest(TUPLE_IP);
            writer.put(IP_V4_SRC, &source);
            writer.put(IP_V4_DST, &destination);
            writer.close(ip);
            let protocol = writer.nest(TUPLE_PROTO);
            writer.put(PROTO_NUM, &[6]);
            let port: u16 = if kind == TUPLE_ORIG { 50_000 } else { 443 };
            writer.put(PROTO_SRC_PORT, &port.to_be_bytes());
            writer.close(protocol);
            writer.close(tuple);
        }
        writer.put(ID, &[0, 0, 0, 9]);
        let whole = writer.finish(GET, 0, 1).expect("it fits");
        whole[wire::HEADER_BYTES..].to_vec()
    }

    fn look(body: &[u8], net: &str) -> Result<Option<Connection>, NetError> {
        let message = Message { kind: GET, flags: 0, sequence: 1, body };
        read(&message, &EndsOf::new(&[net.parse().expect("a prefix")]))
    }

    #[test]
    fn it_is_found_by_each_of_its_ends_and_by_no_other() {
        let body = body();
        for net in ["10.0.0.2/32", "192.0.2.1/32", "198.51.100.7/32", "10.0.0.0/8"] {
            let found = look(&body, net).expect("whole").expect("one of its ends");
            assert_eq!((found.family, found.id.as_deref()), (2, Some(&[0, 0, 0, 9][..])));
        }
        for net in ["10.0.0.3/32", "0.0.0.0/32", "fd00::/8", "11.0.0.0/8"] {
            assert_eq!(look(&body, net).expect("whole"), None, "{net}");
        }
    }

    #[test]
    fn what_may_begin_lives_on_and_nothing_else_of_who_is_narrowed() {
        let net = |text: &str| vec![text.parse().expect("a prefix")];
        let body = body();
        let message = Message { kind: GET, flags: 0, sequence: 1, body: &body };
        let cuts = |of: &str, source: &str, destination: &str, services: (u32, u32)| {
            let may = May {
                source: net(source),
                destination: net(destination),
                services: vec![services],
            };
            let which = NotAllowed::new(&net(of), &[may]);
            read(&message, &which).expect("whole").is_some()
        };
        let (tcp, any) = (6 << 16, (0, 0xff_ffff));
        let https = (tcp | 443, tcp | 443);
        for (of, source, destination, services, expected) in [
            // It may go on: the one service, the address before it was translated.
            ("10.0.0.0/8", "10.0.0.2/32", "192.0.2.0/24", https, false),
            ("10.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", any, false),
            // Another source, destination, port or protocol may.
            ("10.0.0.0/8", "10.0.0.3/32", "192.0.2.0/24", https, true),
            ("10.0.0.0/8", "10.0.0.2/32", "198.51.100.0/24", https, true),
            ("10.0.0.0/8", "10.0.0.2/32", "192.0.2.0/24", (tcp | 444, tcp | 0xffff), true),
            ("10.0.0.0/8", "10.0.0.2/32", "192.0.2.0/24", (17 << 16, 18 << 16), true),
            // Somebody else began it, also one at its other end.
            ("10.0.0.3/32", "10.0.0.3/32", "192.0.2.0/24", https, false),
            ("192.0.2.1/32", "10.0.0.3/32", "192.0.2.0/24", https, false),
        ] {
            let found = cuts(of, source, destination, services);
            assert_eq!(found, expected, "{of} {source} {destination} {services:?}");
        }
    }

    #[test]
    fn every_cut_is_an_error_or_less() {
        let body = body();
        for cut in 0..body.len() {
            let found = look(&body[..cut], "198.51.100.7/32");
            assert!(
                found.is_err() || found.is_ok_and(|found| found.is_none() || cut + 8 == body.len()),
                "{cut}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = look(&bytes, "10.0.0.0/8");
        }
    }
}
