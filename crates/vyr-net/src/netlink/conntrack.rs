//! The kernel's memory of connections (`linux/netfilter/nfnetlink_conntrack.h`): what it accepted
//! once it accepts on, whoever is gone meanwhile.
//!
//! Only what is needed to forget some of it is read: both tuples of a connection, its zone and id.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustix::io::Errno;

use super::socket::Socket;
use super::wire::{self, Message, NESTED, Writer, attributes, exactly};
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

    /// Forgets each connection that one of these addresses has, on either side, translated or not;
    /// how many there were. Packets of it are new ones from then on, for all rules to judge.
    pub(crate) fn forget(&mut self, addresses: &[IpNet]) -> Result<usize, NetError> {
        let mut found = Vec::new();
        let wanted = Wanted::of(addresses);
        self.socket.list(LIST, GET, &Writer::new(&[0; HEADER]), &mut |message| {
            let Some(message) = message else {
                found.clear();
                return Ok(());
            };
            if message.kind == GET - 1 || message.kind == GET {
                found.extend(read(message, &wanted)?);
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

/// Addresses to look for: clients have single ones, many of them.
struct Wanted {
    single: BTreeSet<IpAddr>,
    wide: Vec<IpNet>,
}

impl Wanted {
    fn of(addresses: &[IpNet]) -> Self {
        let whole = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let (single, wide): (Vec<IpNet>, Vec<IpNet>) = addresses.iter().partition(|net| whole(net));
        Self { single: single.iter().map(IpNet::addr).collect(), wide }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.single.contains(&address) || self.wide.iter().any(|net| net.contains(&address))
    }
}

/// A connection, if it is one of those.
fn read(message: &Message<'_>, wanted: &Wanted) -> Result<Option<Connection>, NetError> {
    let [family] = wire::bytes(message.body, 0)?;
    let mut found = Connection { family, tuple: Vec::new(), zone: None, id: None };
    let mut is_wanted = false;
    for attribute in attributes(message.body, HEADER) {
        match attribute? {
            (TUPLE_ORIG, value) => {
                is_wanted |= has(value, wanted)?;
                found.tuple = value.to_vec();
            }
            (TUPLE_REPLY, value) => is_wanted |= has(value, wanted)?,
            (ZONE, value) => found.zone = Some(value.to_vec()),
            (ID, value) => found.id = Some(value.to_vec()),
            _ => (),
        }
    }
    match is_wanted && found.tuple.is_empty() {
        true => Err(NetError::malformed("the kernel", "a connection without an origin")),
        false => Ok(is_wanted.then_some(found)),
    }
}

/// Whether one of the addresses is an end of a tuple.
fn has(tuple: &[u8], wanted: &Wanted) -> Result<bool, NetError> {
    let mut found = false;
    for attribute in attributes(tuple, 0) {
        let (TUPLE_IP, value) = attribute? else { continue };
        for end in attributes(value, 0) {
            found |= match end? {
                (IP_V4_SRC | IP_V4_DST, octets) => {
                    wanted.has(Ipv4Addr::from(exactly::<4>(octets)?).into())
                }
                (IP_V6_SRC | IP_V6_DST, octets) => {
                    wanted.has(Ipv6Addr::from(exactly::<16>(octets)?).into())
                }
                _ => false,
            };
        }
    }
    Ok(found)
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
            writer.close(tuple);
        }
        writer.put(ID, &[0, 0, 0, 9]);
        let whole = writer.finish(GET, 0, 1).expect("it fits");
        whole[wire::HEADER_BYTES..].to_vec()
    }

    fn look(body: &[u8], net: &str) -> Result<Option<Connection>, NetError> {
        let message = Message { kind: GET, flags: 0, sequence: 1, body };
        read(&message, &Wanted::of(&[net.parse().expect("a prefix")]))
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
