//! Who else has an address, asked of the neighbours as a host asks before it takes one (RFC 5227 for
//! IPv4, RFC 4862 section 5.4 for IPv6); and who has it now, told to them.
//!
//! Neighbours remember whose hardware address an address has, for up to 45 s without asking again
//! (Linux: `base_reachable_time`, times 0.5 to 1.5). Who takes the place of another tells them.
//!
//! The kernel never asks who else has an address that is already its own, so frames are sent and
//! read here. They are written and parsed by smoltcp; an answer counts if its frame comes from
//! another hardware address than the link's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use smoltcp::phy::{ChecksumCapabilities, Device, Medium, RawSocket, RxToken, TxToken, wait};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr,
};

use crate::error::NetError;
use crate::netlink::route::{Found, Route};
use crate::state::is_ours;

/// How often it is asked: a frame may be lost.
const QUESTIONS: u32 = 3;

/// Where an address is, seen from this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Whether it is one of this host's own.
    pub own: bool,
    /// The links whose neighbours could have it, by name: its prefix is on them.
    pub links: Vec<NeighbourLink>,
}

/// A link with neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourLink {
    /// As the kernel knows it.
    pub name: String,
    hardware: [u8; 6],
}

/// Where an address is, seen from this host. Links of ours have no neighbours that answer.
pub fn whereabouts(address: IpAddr) -> Result<Whereabouts, NetError> {
    let mut route = Route::open()?;
    let links = route.links()?;
    let mut found = Whereabouts { own: false, links: Vec::new() };
    for (index, prefixes) in route.addresses()? {
        if !prefixes.iter().any(|prefix| prefix.contains(&address)) {
            continue;
        }
        found.own |= prefixes.iter().any(|prefix| prefix.addr() == address);
        let Some(Found { name, hardware, up: true, .. }) =
            links.iter().find(|link| link.index == index)
        else {
            continue;
        };
        if let (Some(hardware), false) = (hardware, is_ours(name)) {
            found.links.push(NeighbourLink { name: name.clone(), hardware: *hardware });
        }
    }
    Ok(found)
}

/// Asks the neighbours on a link who has an address; waits for an answer so long. Whoever has it, by
/// hardware address. Needs CAP_NET_RAW.
pub fn who_has(
    address: IpAddr,
    link: &NeighbourLink,
    patience: Duration,
) -> Result<Option<String>, NetError> {
    let (own, name) = (EthernetAddress(link.hardware), link.name.clone());
    let found = apart(&link.name, "asking neighbours", move || ask(address, own, &name, patience))?;
    Ok(found.map(|of| of.to_string()))
}

/// The socket's owner panics when the link goes down in between; a thread keeps that to itself.
fn apart<T: Send + 'static>(
    link: &str,
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetError> {
    let unable = |why: String| NetError::Unavailable { what, why };
    match std::thread::spawn(work).join() {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => Err(unable(format!("{link}: {e}"))),
        Err(_) => Err(unable(format!("{link} went down"))),
    }
}

/// Tells the neighbours on every link which addresses are this host's; how many were told. Links of
/// ours have no neighbours that listen. Needs CAP_NET_RAW.
pub fn announce() -> Result<usize, NetError> {
    let mut route = Route::open()?;
    let mut addresses = route.addresses()?;
    let mut told = 0;
    for link in route.links()? {
        let Found { index, name, hardware: Some(hardware), up: true, .. } = link else { continue };
        let own = addresses.remove(&index).unwrap_or_default();
        if is_ours(&name) || own.is_empty() {
            continue;
        }
        told += own.len();
        let hardware = EthernetAddress(hardware);
        let frames: Vec<_> =
            own.iter().map(|prefix| announcement(prefix.addr(), hardware)).collect();
        let to = name.clone();
        apart(&name, "telling neighbours", move || {
            let mut socket = RawSocket::new(&to, Medium::Ethernet)?;
            for frame in frames {
                if let Some(token) = socket.transmit(smoltcp::time::Instant::ZERO) {
                    token.consume(frame.len(), |to| to.copy_from_slice(&frame));
                }
            }
            Ok(())
        })?;
    }
    Ok(told)
}

fn ask(
    address: IpAddr,
    own: EthernetAddress,
    name: &str,
    patience: Duration,
) -> io::Result<Option<EthernetAddress>> {
    let mut socket = RawSocket::new(name, Medium::Ethernet)?;
    let question = question(address, own);
    let (begun, pause) = (Instant::now(), patience / QUESTIONS);
    for number in 1..=QUESTIONS {
        if let Some(token) = socket.transmit(smoltcp::time::Instant::ZERO) {
            token.consume(question.len(), |frame| frame.copy_from_slice(&question));
        }
        let left = || (pause * number).saturating_sub(begun.elapsed());
        while !left().is_zero() {
            wait(socket.as_raw_fd(), Some(left().max(Duration::from_millis(1)).into()))?;
            // Whoever floods the wire keeps nobody here for longer.
            while !left().is_zero()
                && let Some((token, _)) = socket.receive(smoltcp::time::Instant::ZERO)
            {
                if let Some(found) = token.consume(|frame| claims(frame, address, own)) {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(None)
}

/// A frame that asks who has an address, without saying that anybody does.
fn question(address: IpAddr, own: EthernetAddress) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp(Ipv4Addr::UNSPECIFIED, v4, own),
        IpAddr::V6(v6) => {
            let [.., a, b, c] = v6.octets();
            // Solicited-node multicast, RFC 4291 section 2.7.1.
            let to = Ipv6Addr::from_bits(
                0xff02 << 112 | 0x1_ff00_0000 | u128::from(u32::from_be_bytes([0, a, b, c])),
            );
            let repr = NdiscRepr::NeighborSolicit { target_addr: v6, lladdr: None };
            let group = EthernetAddress([0x33, 0x33, 0xff, a, b, c]);
            ndisc((Ipv6Addr::UNSPECIFIED, to), (own, group), repr)
        }
    }
}

/// A frame that says that an address is ours.
fn announcement(address: IpAddr, own: EthernetAddress) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp(v4, v4, own),
        IpAddr::V6(v6) => {
            let repr = NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::OVERRIDE,
                target_addr: v6,
                lladdr: Some(own.into()),
            };
            let everybody = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
            let to = Ipv6Addr::from_bits(0xff02 << 112 | 1);
            ndisc((v6, to), (own, everybody), repr)
        }
    }
}

/// A question for `target`, told by `source` to everybody.
fn arp(source: Ipv4Addr, target: Ipv4Addr, own: EthernetAddress) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: own,
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut payload));
    ethernet((own, EthernetAddress::BROADCAST), EthernetProtocol::Arp, &payload)
}

fn ndisc(
    (from, to): (Ipv6Addr, Ipv6Addr),
    ends: (EthernetAddress, EthernetAddress),
    repr: NdiscRepr<'_>,
) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(repr);
    let header = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: repr.buffer_len(),
        hop_limit: 255,
    };
    let mut payload = vec![0; header.buffer_len() + repr.buffer_len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut payload[..]);
    header.emit(&mut packet);
    let mut inner = Icmpv6Packet::new_unchecked(packet.payload_mut());
    repr.emit(&from, &to, &mut inner, &ChecksumCapabilities::default());
    ethernet(ends, EthernetProtocol::Ipv6, &payload)
}

fn ethernet(
    (from, to): (EthernetAddress, EthernetAddress),
    kind: EthernetProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let header = EthernetRepr { src_addr: from, dst_addr: to, ethertype: kind };
    let mut frame = vec![0; header.buffer_len() + payload.len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    header.emit(&mut ethernet);
    ethernet.payload_mut().copy_from_slice(payload);
    frame
}

/// Who says in a frame that an address is theirs, if it is another than `own`.
fn claims(frame: &[u8], address: IpAddr, own: EthernetAddress) -> Option<EthernetAddress> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let from = ethernet.src_addr();
    if from == own {
        return None;
    }
    let found = match (address, ethernet.ethertype()) {
        (IpAddr::V4(v4), EthernetProtocol::Arp) => {
            let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
            match ArpRepr::parse(&packet).ok()? {
                ArpRepr::EthernetIpv4 { source_protocol_addr, .. } => source_protocol_addr == v4,
                _ => false,
            }
        }
        (IpAddr::V6(v6), EthernetProtocol::Ipv6) => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != 255 {
                return None;
            }
            let inner = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let (src, dst) = (packet.src_addr(), packet.dst_addr());
            let read = Icmpv6Repr::parse(&src, &dst, &inner, &ChecksumCapabilities::default());
            match read.ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) => {
                    target_addr == v6
                }
                _ => false,
            }
        }
        _ => false,
    };
    found.then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    fn reply(who: EthernetAddress, of: Ipv4Addr) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: who,
            source_protocol_addr: of,
            target_hardware_addr: OWN,
            target_protocol_addr: Ipv4Addr::UNSPECIFIED,
        };
        let header =
            EthernetRepr { src_addr: who, dst_addr: OWN, ethertype: EthernetProtocol::Arp };
        let mut frame = vec![0; header.buffer_len() + repr.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        header.emit(&mut ethernet);
        repr.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        frame
    }

    #[test]
    fn an_answer_of_another_counts_and_ones_own_does_not() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let found = |frame: &[u8]| claims(frame, address.into(), OWN);
        assert_eq!(found(&reply(OTHER, address)), Some(OTHER));
        assert_eq!(found(&reply(OWN, address)), None);
        assert_eq!(found(&reply(OTHER, Ipv4Addr::new(192, 0, 2, 8))), None);
        // A question is no answer, and neither is another host's.
        assert_eq!(found(&question(address.into(), OTHER)), None);
        let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        assert_eq!(claims(&question(v6.into(), OTHER), v6.into(), OWN), None);
        // Who says unasked that it is theirs, says so.
        assert_eq!(found(&announcement(address.into(), OTHER)), Some(OTHER));
        assert_eq!(claims(&announcement(v6.into(), OTHER), v6.into(), OWN), Some(OTHER));
    }

    #[test]
    fn a_question_is_as_the_rfc_has_it() {
        let v6: Ipv6Addr = "2001:db8::1:2345:6789".parse().expect("an address");
        let frame = question(v6.into(), OWN);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x45, 0x67, 0x89]);
        let packet = Ipv6Packet::new_checked(&frame[14..]).expect("a packet");
        assert_eq!(packet.dst_addr().to_string(), "ff02::1:ff45:6789");
        assert!(packet.src_addr().is_unspecified());
        assert_eq!(packet.hop_limit(), 255);
    }

    proptest! {
        #[test]
        fn garbage_claims_nothing_and_panics_nowhere(
            start in prop::sample::select(vec![vec![8_u8, 6], vec![0x86, 0xdd], vec![]]),
            rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let frame = [&[9; 12][..], &start, &rest].concat();
            let _ = claims(&frame, Ipv4Addr::new(192, 0, 2, 7).into(), OWN);
            let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
            let _ = claims(&frame, v6.into(), OWN);
        }
    }
}
