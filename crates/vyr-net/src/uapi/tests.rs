//! Answers as data planes write them, and as they should not.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

/// From the protocol's own description, with keys of ours.
const PRIVATE: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";

fn answer() -> String {
    let peer = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";
    let zeros = "0".repeat(64);
    let shared = "5f".repeat(32);
    format!(
        "private_key={PRIVATE}\nlisten_port=12912\nfwmark=3\n\
         public_key={peer}\npreshared_key={shared}\nprotocol_version=1\n\
         endpoint=[abcd:23::33]:51820\nlast_handshake_time_sec=1700000000\n\
         last_handshake_time_nsec=51\ntx_bytes=5\nrx_bytes=6\n\
         persistent_keepalive_interval=111\nallowed_ip=192.168.4.4/32\nallowed_ip=fd00::/64\n\
         public_key={}\npreshared_key={zeros}\npersistent_keepalive_interval=0\nerrno=0\n\n",
        "58".repeat(32)
    )
}

#[test]
fn an_answer_is_read_without_its_keys() {
    let device = parse(answer().as_bytes()).expect("it is whole");
    assert_eq!((device.listen_port, device.fwmark), (12912, 3));
    let [first, second] = &device.peers[..] else { panic!("{device:?}") };
    assert!(first.has_preshared && !second.has_preshared);
    assert_eq!(first.endpoint, Some("[abcd:23::33]:51820".parse().expect("an endpoint")));
    assert_eq!((first.keepalive_s, first.rx_bytes, first.tx_bytes), (111, 6, 5));
    assert_eq!(first.handshake_unix_s, 1_700_000_000);
    assert_eq!(first.allowed_ips.len(), 2);

    let private = key(PRIVATE).expect("a key");
    assert_eq!(device.public_key, Some(public_key(&private)));
    for secret in [&private[..], &[0x5f; 32]] {
        let bytes = format!("{secret:?}");
        assert!(!format!("{device:?}").contains(bytes.trim_matches(['[', ']'])));
    }
    // And it would be found: the public key stands there as its bytes.
    let shown = format!("{:?}", device.public_key.expect("there is one").bytes());
    assert!(format!("{device:?}").contains(shown.trim_matches(['[', ']'])));
}

#[test]
fn what_is_wrong_is_said_without_the_line() {
    let good = answer();
    let broken = [
        good.replace("errno=0", "errno=22"),
        good.replace("errno=0\n", ""),
        good.replace("errno=0", "errno=0\nlisten_port=1"),
        good.replace("listen_port=12912", "listen_port=70000"),
        good.replace("listen_port=12912", "listen_port=+1"),
        good.replace("listen_port=12912", "listen_port"),
        good.replace("fd00::/64", "fd00::/129"),
        good.replace("[abcd:23::33]:51820", "somewhere"),
        good.replace(&PRIVATE[1..], &PRIVATE[2..]),
        good.replace(PRIVATE, &PRIVATE.replace('e', "g")),
        good.replace("private_key=", "private_key"),
    ];
    for text in broken {
        assert_ne!(text, good);
        let wrong = parse(text.as_bytes()).expect_err("it is broken");
        let said = format!("{wrong:?} {wrong}");
        assert!(!said.contains(&PRIVATE[8..40]) && !said.contains("5f5f"), "{said}");
    }
}

#[test]
fn a_change_is_written_in_order() {
    let peer = Key::from_bytes([5; 32]);
    let gone = Key::from_bytes([6; 32]);
    let change = Change {
        private_key: Some(Zeroizing::new([1; 32])),
        listen_port: Some(51820),
        fwmark: None,
        peers: vec![
            PeerChange::Set {
                peer,
                new: false,
                allowed_ips: Some(AllowedIps::Replace(vec!["10.0.0.1/32".parse().expect("one")])),
                endpoint: Some("192.0.2.1:7".parse().expect("an endpoint")),
                keepalive_s: Some(0),
                preshared: Some(Zeroizing::new([0; 32])),
            },
            PeerChange::Remove(gone),
        ],
    };
    let text = String::from_utf8(written(&change).to_vec()).expect("text");
    let expected = format!(
        "set=1\nprivate_key={}\nlisten_port=51820\npublic_key={}\nupdate_only=true\n\
         preshared_key={}\nendpoint=192.0.2.1:7\npersistent_keepalive_interval=0\n\
         replace_allowed_ips=true\nallowed_ip=10.0.0.1/32\npublic_key={}\nremove=true\n\n",
        "01".repeat(32),
        "05".repeat(32),
        "00".repeat(32),
        "06".repeat(32)
    );
    assert_eq!(text, expected);
}

#[test]
fn memory_with_keys_does_not_move() {
    let peers = (0..200u8).map(|n| PeerChange::Set {
        peer: Key::from_bytes([n; 32]),
        new: true,
        allowed_ips: Some(AllowedIps::Add(
            (0..20u8)
                .map(|i| {
                    format!("fd00:{n:x}:{i:x}:ffff:ffff:ffff:ffff:ffff/128").parse().expect("one")
                })
                .collect(),
        )),
        endpoint: Some("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("one")),
        keepalive_s: Some(u16::MAX),
        preshared: Some(Zeroizing::new([0xff; 32])),
    });
    let change = Change { peers: peers.collect(), ..Change::default() };
    let allowed = 200 * 20 * 64;
    let text = written(&change);
    assert_eq!(text.capacity(), 1024 + 200 * 512 + allowed, "it was allocated once");
}

proptest! {
    #[test]
    fn garbage_is_refused_or_read(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&text);
    }

    #[test]
    fn a_changed_byte_does_no_harm(at in 0usize..1000, to in any::<u8>()) {
        let mut text = answer().into_bytes();
        let at = at % text.len();
        text[at] = to;
        let _ = parse(&text);
    }
}
