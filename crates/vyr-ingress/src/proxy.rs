//! PROXY protocol, version 2: tells a backend who the client is.
//!
//! The header stands before every byte of the client, the hello included. It is sent only to
//! backends whose route says that they expect it: to any other it is noise.
//!
//! Not here: reading it. Nobody in front of this proxy is believed about who the client is.

use std::net::{IpAddr, SocketAddr};

/// The first 12 bytes of each header (PROXY protocol 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// TCP over IPv4, TCP over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection from `client` that came in at `local`: INET if both are IPv4, also
/// when IPv6 carries them as mapped addresses, else INET6.
pub fn header(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_AND_COMMAND);
    match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend_from_slice(&[TCP4, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        (from, to) => {
            header.extend_from_slice(&[TCP6, 0, 36]);
            header.extend_from_slice(&sixteen(from));
            header.extend_from_slice(&sixteen(to));
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&local.port().to_be_bytes());
    header
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let four = header(address("192.0.2.1:4660"), address("198.51.100.2:443"));
        let said =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb";
        assert_eq!(four, said);
        let six = header(address("[2001:db8::1]:4660"), address("[2001:db8::2]:443"));
        assert_eq!(six.len(), 16 + 36);
        assert_eq!(six[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(six[16..20], [0x20, 1, 0x0d, 0xb8]);
        assert_eq!((six[31], six[47]), (1, 2));
        assert_eq!(six[48..], [0x12, 0x34, 0x01, 0xbb]);
    }

    #[test]
    fn mapped_addresses_are_what_they_carry() {
        let mapped = header(address("[::ffff:192.0.2.1]:1"), address("[::ffff:192.0.2.2]:2"));
        assert_eq!(mapped, header(address("192.0.2.1:1"), address("192.0.2.2:2")));
        let mixed = header(address("[2001:db8::1]:1"), address("[::ffff:192.0.2.2]:2"));
        assert_eq!(mixed[13], TCP6);
        assert_eq!(
            mixed[32..48],
            address("[::ffff:192.0.2.2]:2")
                .ip()
                .to_string()
                .parse::<std::net::Ipv6Addr>()
                .expect("six")
                .octets()
        );
    }
}
