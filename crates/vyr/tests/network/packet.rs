//! Packets as bytes: each begins a connection, and carries a number by which it is known again.

use std::net::IpAddr;

use vyr_plan::Packet;

/// What numbers of ours begin with, in the highest byte: other packets are on the wire as well.
const MARK: u32 = 0x5a00_0000;
/// How many numbers there are.
pub(crate) const NUMBERS: u32 = 1 << 24;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The mark of a number, as the kernel sees it in a packet.
pub(crate) fn mark(number: u32) -> u32 {
    MARK | (number % NUMBERS)
}

/// Whether a few bytes can be a packet of this protocol, in one family. IPv6 takes some numbers for
/// headers of its own, with something behind them, and of SCTP, DCCP and UDP-Lite the kernel wants
/// to see more before it calls them a beginning.
pub(crate) fn is_whole(protocol: u8, ipv6: bool) -> bool {
    let header = ipv6 && matches!(protocol, 0 | 43 | 44 | 51 | 59 | 60);
    !header && !matches!(protocol, 33 | 132 | 136)
}

/// The Internet checksum (RFC 1071) of some pieces, each of an even length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .fold(0, |sum, word| {
            let sum = sum + word;
            (sum & 0xffff) + (sum >> 16)
        });
    !u16::try_from(sum).expect("it was folded")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IP packet around `body`, whose checksum is at `sum` if it has one.
pub(crate) fn around(packet: &Packet, mut body: Vec<u8>, sum: Option<usize>) -> Vec<u8> {
    let (from, to) = (octets(packet.from), octets(packet.to));
    let length = u16::try_from(body.len()).expect("it is short");
    if let Some(at) = sum {
        let pseudo = [[0, packet.protocol], length.to_be_bytes()].concat();
        let found = match packet.protocol {
            ICMP => checksum(&[&body]),
            _ => checksum(&[&from, &to, &pseudo, &body]),
        };
        body[at..at + 2].copy_from_slice(&found.to_be_bytes());
    }
    let mut bytes = match packet.to {
        IpAddr::V4(_) => {
            let total = (length + 20).to_be_bytes();
            // Its own checksum is filled in by the kernel that sends it.
            vec![0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, packet.protocol, 0, 0]
        }
        IpAddr::V6(_) => {
            let length = length.to_be_bytes();
            vec![0x60, 0, 0, 0, length[0], length[1], packet.protocol, 64]
        }
    };
    bytes.extend([from, to, body].concat());
    bytes
}

/// The bytes of a packet with a number. Two of different numbers are of different connections,
/// where the protocol knows any.
pub(crate) fn bytes(packet: &Packet, number: u32) -> Vec<u8> {
    let known = mark(number).to_ne_bytes();
    let from_port = u16::try_from(1024 + number % 64_000).expect("it is a port").to_be_bytes();
    let port = packet.port.to_be_bytes();
    let spread = (number / 64_000).to_be_bytes();
    match packet.protocol {
        TCP => {
            // 20 bytes of header, SYN; what it acknowledges is not looked at.
            let body = [&from_port[..], &port, &spread, &known, &[0x50, 2, 4, 0, 0, 0, 0, 0]];
            around(packet, body.concat(), Some(16))
        }
        UDP => {
            let body = [&from_port[..], &port, &[0, 16, 0, 0], &known, &spread];
            around(packet, body.concat(), Some(6))
        }
        ICMP | ICMPV6 => {
            let echo = if packet.protocol == ICMP { 8 } else { 128 };
            let body = [&[echo, 0, 0, 0][..], &from_port, &spread[2..], &known, &spread];
            around(packet, body.concat(), Some(2))
        }
        _ => around(packet, [&[0; 8][..], &known, &[0; 8]].concat(), None),
    }
}
