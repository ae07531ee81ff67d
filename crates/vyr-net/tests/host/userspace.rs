//! A real data plane beside the kernel: wireguard-go.

use vyr_net::{AllowedIps, Op, PeerSet, undo};

use crate::tunnel::{PRIVATE, Two, shows, stranger};
use vyr_space::{is_able, not_run};

fn is_here(test: &str) -> bool {
    let tun = std::path::Path::new("/dev/net/tun").exists();
    if !tun {
        not_run(test, "there is no /dev/net/tun");
    }
    is_able(test, &["nft", "wg", "wireguard-go"]) && tun
}

#[test]
fn two_hosts_talk_and_no_key_is_shown() {
    if !is_here("userspace::two_hosts_talk_and_no_key_is_shown") {
        return;
    }
    let two = Two::new("t", false);
    let mut said = String::new();
    for at in [0, 1] {
        let before = two.read(at).state;
        let steps = two.becomes(at, &two.host(at, 0));
        said +=
            &format!("{before:?}\n{steps:?}\n{}\n", serde_json::to_string(&steps).expect("JSON"));
        let back = undo(&steps, &before).expect("they were taken");
        said += &format!("{back:?}\n");
    }
    let (asked, answered) = two.asked_during(|| ());
    assert!(asked > 20, "{asked}");
    assert_eq!(asked, answered);

    for at in [0, 1] {
        let seen = two.read(at);
        let peer = &seen.live.links[0].peers[0];
        assert!(peer.handshake_unix_s.is_some() && peer.rx_bytes > 0 && peer.tx_bytes > 0);
        assert!(peer.endpoint.is_some());
        // Where A heard B is no part of its state: it was not wanted to be anywhere.
        let wanted = two.host(at, 0);
        let endpoint = seen.state_for(&wanted).links[0].peers[0].endpoint;
        assert_eq!(endpoint.is_some(), at == 1);
        said += &format!("{seen:?}\n{}\n", serde_json::to_string(&seen).expect("JSON"));
    }
    // With a preshared key on both sides, too.
    for at in [0, 1] {
        let mut wanted = two.host(at, 0);
        wanted.links[0].peers[0].has_preshared = true;
        said += &format!("{:?}\n{:?}\n", two.becomes(at, &wanted), two.read(at));
    }
    for secret in PRIVATE.iter().chain([&[0x4c; 32]]) {
        assert!(!shows(&said, secret), "{said}");
    }
    // The same search finds what is there: the public keys.
    for key in &two.keys {
        assert!(shows(&said, key.bytes()));
    }
}

#[test]
fn one_peer_of_fifty_changes_and_another_loses_nothing() {
    if !is_here("userspace::one_peer_of_fifty_changes_and_another_loses_nothing") {
        return;
    }
    let two = Two::new("f", false);
    let first = two.host(0, 49);
    two.becomes(0, &first);
    two.becomes(1, &two.host(1, 0));

    // One gets another interval and an address of a second, which loses one to nobody.
    let mut second = first.clone();
    for peer in &mut second.links[0].peers {
        if peer.public_key == stranger(7) {
            peer.keepalive_s = Some(20);
            peer.allowed_ips.push("10.9.1.8/32".parse().expect("a prefix"));
        } else if peer.public_key == stranger(8) {
            peer.allowed_ips = vec!["10.9.9.8/32".parse().expect("a prefix")];
        }
    }
    second.normalise();
    let (asked, answered) = two.asked_during(|| {
        for wanted in [&second, &first].into_iter().cycle().take(10) {
            let steps = two.becomes(0, wanted);
            assert!(steps.len() <= 3, "{steps:?}");
        }
    });
    println!("{answered} of {asked} answered while one of fifty peers changed ten times");
    assert_eq!(asked, answered);

    // Its twin: who removes the peer and makes it again, as a whole configuration would, is found.
    let link = two.links[0].clone();
    let peer = two.keys[1];
    let again = PeerSet {
        link: link.clone(),
        peer,
        new: true,
        allowed_ips: Some(AllowedIps::Add(vec!["10.9.0.2/32".parse().expect("a prefix")])),
        endpoint: None,
        keepalive_s: None,
        preshared: None,
    };
    let (asked, answered) = two.asked_during(|| {
        two.apply(0, &[Op::PeerRemove { link, peer }, Op::PeerSet(again)]);
    });
    println!("{answered} of {asked} answered when it was removed and made again");
    assert!(answered < asked);
}

#[test]
fn a_peer_that_has_gone_is_not_made_by_a_change() {
    if !is_here("userspace::a_peer_that_has_gone_is_not_made_by_a_change") {
        return;
    }
    let two = Two::new("g", false);
    let wanted = two.host(0, 2);
    two.becomes(0, &wanted);
    let gone = stranger(0);
    two.spaces[0].line(&format!("wg set {} peer {gone} remove", two.links[0]));
    let set = |new| PeerSet {
        link: two.links[0].clone(),
        peer: gone,
        new,
        allowed_ips: None,
        endpoint: None,
        keepalive_s: Some(9),
        preshared: None,
    };
    two.apply(0, &[Op::PeerSet(set(false))]);
    assert_eq!(two.read(0).state.links[0].peers.len(), 2);
    // A new one is made, and what differs is found and mended.
    two.apply(0, &[Op::PeerSet(set(true))]);
    assert_eq!(two.read(0).state.links[0].peers.len(), 3);
    two.becomes(0, &wanted);
}
