//! The messages by their bytes, and against another reader and writer of them
//! (`netlink-packet-wireguard`): there may be no kernel with WireGuard to ask.

use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netlink_packet_wireguard::{
    WireguardAllowedIpAttr, WireguardAttribute, WireguardMessage, WireguardPeerAttribute,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::wire::HEADER_BYTES;
use super::*;

fn peer(n: u16, allowed: Vec<IpNet>) -> PeerChange {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    PeerChange::Set {
        peer: Key::from_bytes(bytes),
        new: true,
        allowed_ips: Some(AllowedIps::Add(allowed)),
        endpoint: Some("[2001:db8::1]:51820".parse().expect("an endpoint")),
        keepalive_s: Some(25),
        preshared: Some(Zeroizing::new([3; 32])),
    }
}

fn nets(n: u16, of: u16) -> Vec<IpNet> {
    let v6 = |i: u16| format!("fd00:{n:x}:{i:x}::/48").parse().expect("a prefix");
    let v4 = |i: u16| format!("10.{}.{}.{i}/32", n / 256, n % 256).parse().expect("a prefix");
    (0..of).map(|i| if i % 2 == 0 { v4(i % 256) } else { v6(i) }).collect()
}

fn bodies(change: &Change) -> Vec<Zeroizing<Vec<u8>>> {
    let written = written("vyr-test", change);
    let all = written.iter().map(|body| body.finish(30, 1, 1).expect("it fits"));
    all.map(|whole| Zeroizing::new(whole[HEADER_BYTES..].to_vec())).collect()
}

fn theirs(body: &[u8]) -> WireguardMessage {
    let header = GenlHeader { cmd: body[0], version: body[1] };
    WireguardMessage::parse_with_param(&body[GENERIC_HEADER..], header).expect("they read it")
}

#[test]
fn small_changes_have_the_bytes_of_the_kernels_header() {
    let change = Change { listen_port: Some(515), ..Change::default() };
    let expected: [&[u8]; 4] = [
        &[1, 1, 0, 0],
        &[13, 0, 2, 0, b'v', b'y', b'r', b'-', b't', b'e', b's', b't', 0, 0, 0, 0],
        &[6, 0, 6, 0, 3, 2, 0, 0],
        &[4, 0, 8, 0x80],
    ];
    // Numbers are the processor's; this is how little-endian ones have them.
    if cfg!(target_endian = "little") {
        assert_eq!(*bodies(&change)[0], expected.concat());
    }
    let removal =
        Change { peers: vec![PeerChange::Remove(Key::from_bytes([5; 32]))], ..Change::default() };
    let tail: [&[u8]; 5] =
        [&[52, 0, 8, 0x80], &[48, 0, 0, 0x80], &[36, 0, 1, 0], &[5; 32], &[8, 0, 3, 0, 1, 0, 0, 0]];
    if cfg!(target_endian = "little") {
        assert!(bodies(&removal)[0].ends_with(&tail.concat()));
    }
}

/// What another reader finds in our messages: peers in order, each with its flags and addresses.
fn all_found(bodies: &[Zeroizing<Vec<u8>>]) -> Vec<(Vec<u8>, u32, Vec<IpNet>)> {
    let mut all: Vec<(Vec<u8>, u32, Vec<IpNet>)> = Vec::new();
    for body in bodies {
        for attribute in theirs(body).attributes {
            let WireguardAttribute::Peers(peers) = attribute else { continue };
            for peer in peers {
                let (mut key, mut flags, mut nets) = (Vec::new(), 0, Vec::new());
                for attribute in peer.0 {
                    match attribute {
                        WireguardPeerAttribute::PublicKey(bytes) => key = bytes.to_vec(),
                        WireguardPeerAttribute::Flags(of) => flags = of.bits(),
                        WireguardPeerAttribute::AllowedIps(ips) => {
                            for ip in ips {
                                nets.push(net(&ip.0));
                            }
                        }
                        _ => (),
                    }
                }
                match all.last_mut() {
                    Some(last) if last.0 == key => {
                        assert_eq!(flags, UPDATE_ONLY, "what goes on replaces nothing");
                        last.2.extend(nets);
                    }
                    _ => all.push((key, flags, nets)),
                }
            }
        }
    }
    all
}

fn net(attributes: &[WireguardAllowedIpAttr]) -> IpNet {
    let (mut address, mut bits) = (None, 0);
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(of) => address = Some(*of),
            WireguardAllowedIpAttr::Cidr(of) => bits = *of,
            _ => (),
        }
    }
    IpNet::new(address.expect("an address"), bits).expect("a prefix")
}

#[test]
fn a_thousand_peers_are_several_messages_and_nothing_is_lost() {
    // The last has more addresses than one message carries.
    let mut peers: Vec<PeerChange> = (0..1000).map(|n| peer(n, nets(n, 3))).collect();
    peers.push(peer(1000, nets(1000, 2000)));
    let change = Change {
        private_key: Some(Zeroizing::new([1; 32])),
        listen_port: Some(51820),
        fwmark: Some(7),
        peers,
    };
    let bodies = bodies(&change);
    assert!(bodies.len() > 5, "{}", bodies.len());
    for body in &bodies {
        assert!(body.len() <= MESSAGE_BYTES_MAX, "{}", body.len());
    }
    let found = all_found(&bodies);
    assert_eq!(found.len(), 1001);
    for (n, (key, flags, all)) in (0u16..).zip(&found) {
        assert_eq!(key[..2], n.to_be_bytes());
        assert_eq!(*flags, 0);
        assert_eq!(*all, nets(n, if n == 1000 { 2000 } else { 3 }));
    }
    // The device's own are in the first, once.
    let own = |body: &Zeroizing<Vec<u8>>| {
        theirs(body).attributes.iter().any(|a| matches!(a, WireguardAttribute::PrivateKey(_)))
    };
    assert_eq!(bodies.iter().map(own).collect::<Vec<_>>(), {
        let mut first = vec![false; bodies.len()];
        first[0] = true;
        first
    });

    // The twin of this test: were the messages read without the last, it would be seen.
    let short = all_found(&bodies[..bodies.len() - 1]);
    assert_ne!(short[1000].2, nets(1000, 2000));
}

#[test]
fn what_the_kernel_would_say_is_read() {
    use netlink_packet_wireguard::{
        WireguardAddressFamily, WireguardAllowedIp, WireguardCmd, WireguardPeer, WireguardTimeSpec,
    };
    let ip = |text: &str| {
        let net: IpNet = text.parse().expect("a prefix");
        let family = match net {
            IpNet::V4(_) => WireguardAddressFamily::Ipv4,
            IpNet::V6(_) => WireguardAddressFamily::Ipv6,
        };
        WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(family),
            WireguardAllowedIpAttr::IpAddr(net.addr()),
            WireguardAllowedIpAttr::Cidr(net.prefix_len()),
        ])
    };
    let peer = |more: Vec<WireguardPeerAttribute>| {
        let mut all = vec![WireguardPeerAttribute::PublicKey([4; 32])];
        all.extend(more);
        WireguardAttribute::Peers(vec![WireguardPeer(all)])
    };
    let message = |attributes| {
        let message = WireguardMessage { cmd: WireguardCmd::GetDevice, attributes };
        let mut body = vec![0, 1, 0, 0];
        let at = body.len();
        body.resize(at + message.buffer_len(), 0);
        message.emit(&mut body[at..]);
        body
    };
    let first = message(vec![
        WireguardAttribute::IfName("vyr-test".into()),
        WireguardAttribute::PrivateKey([0x5e; 32]),
        WireguardAttribute::PublicKey([2; 32]),
        WireguardAttribute::ListenPort(51820),
        WireguardAttribute::Fwmark(9),
        peer(vec![
            WireguardPeerAttribute::PresharedKey([0x5f; 32]),
            WireguardPeerAttribute::Endpoint("192.0.2.1:4000".parse().expect("an endpoint")),
            WireguardPeerAttribute::PersistentKeepalive(25),
            WireguardPeerAttribute::LastHandshake(WireguardTimeSpec {
                seconds: 1_700_000_000,
                nano_seconds: 5,
            }),
            WireguardPeerAttribute::RxBytes(11),
            WireguardPeerAttribute::TxBytes(12),
            WireguardPeerAttribute::AllowedIps(vec![ip("10.0.0.0/8")]),
        ]),
    ]);
    // The same peer goes on in another message.
    let second = message(vec![
        WireguardAttribute::IfName("vyr-test".into()),
        peer(vec![WireguardPeerAttribute::AllowedIps(vec![ip("fd00::/16")])]),
    ]);
    let mut device = Device::default();
    for body in [&first, &second] {
        read(body, "vyr-test", &mut device).expect("it is whole");
    }
    let expected = DevicePeer {
        has_preshared: true,
        endpoint: Some("192.0.2.1:4000".parse().expect("an endpoint")),
        keepalive_s: 25,
        handshake_unix_s: 1_700_000_000,
        rx_bytes: 11,
        tx_bytes: 12,
        allowed_ips: ["10.0.0.0/8", "fd00::/16"].map(|net| net.parse().expect("one")).into(),
        ..DevicePeer::new(Key::from_bytes([4; 32]))
    };
    assert_eq!(device.peers, [expected]);
    assert_eq!((device.listen_port, device.fwmark), (51820, 9));
    assert_eq!(device.public_key, Some(Key::from_bytes([2; 32])));
    // Neither secret is in what was kept: 0x5e is 94, 0x5f is 95.
    let shown = format!("{device:?}");
    assert!(!shown.contains("94, 94") && !shown.contains("95, 95"), "{shown}");
    // And one would be seen: the public key is shown as its bytes are.
    assert!(shown.contains("2, 2, 2"), "{shown}");

    assert!(read(&first, "vyr-other", &mut Device::default()).is_err());
    for cut in 1..first.len() {
        // Some cuts fall between attributes: then there is less, and no more.
        let mut device = Device::default();
        if read(&first[..cut], "vyr-test", &mut device).is_ok() {
            assert!(device.peers.is_empty(), "{cut}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_refused_or_read(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut device = Device::default();
        let _ = read(&body, "vyr-test", &mut device);
        prop_assert!(device.peers.len() <= body.len());
    }

    #[test]
    fn a_flipped_byte_does_no_harm(at in 0usize..400, to in any::<u8>()) {
        let change = Change { peers: vec![peer(1, nets(1, 5))], ..Change::default() };
        let mut body = bodies(&change)[0].to_vec();
        let at = at % body.len();
        body[at] = to;
        let mut device = Device::default();
        let _ = read(&body, "vyr-test", &mut device);
        prop_assert!(device.peers.len() <= 3);
    }
}
