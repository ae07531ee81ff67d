//! The kernel's own WireGuard, where there is one; elsewhere, that its absence is told.

use vyr_net::{Ability, AllowedIps, Backend, Kernel, NetError, Nft, NoKeys, Op, PeerSet, State};

use crate::tunnel::{PRIVATE, Two, shows, stranger};
use vyr_space::{Namespace, is_able, not_run};

/// Whether this kernel makes such links, by `ip`.
pub(crate) fn has_wireguard(space: &Namespace) -> bool {
    let made = space.run("ip", &["link", "add", "vyr-try", "type", "wireguard"], "").is_ok();
    if made {
        space.line("ip link del vyr-try");
    }
    made
}

#[test]
fn the_probe_says_whether_there_is_wireguard() {
    if !is_able("kernel::the_probe_says_whether_there_is_wireguard", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    let there = has_wireguard(&space);
    let probe = space.inside(|| Kernel::default().probe());
    assert!(matches!(probe.firewall, Ability::Ready(_)), "{probe:?}");
    assert_eq!(matches!(probe.wireguard, Ability::Ready(_)), there, "{probe:?}");
    if let Ability::Missing(why) = &probe.wireguard {
        assert!(why.contains("this kernel has no WireGuard"), "{why}");
    }
    let broken = space.inside(|| {
        Kernel::new(Nft::new("/nowhere/nft", std::time::Duration::from_secs(1))).probe()
    });
    assert!(matches!(broken.firewall, Ability::Missing(_)), "{broken:?}");
}

#[test]
fn without_wireguard_nothing_is_begun() {
    if !is_able("kernel::without_wireguard_nothing_is_begun", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    if has_wireguard(&space) {
        return not_run("kernel::without_wireguard_nothing_is_begun", "the kernel has WireGuard");
    }
    let links = space.line("ip -j link");
    let steps = [Op::Firewall { to: None }, Op::AddLink { link: "vyr-a".into() }];
    let done = space.inside(|| Kernel::default().apply(&steps, &NoKeys));
    assert!(matches!(done, Err(NetError::Unavailable { what: "WireGuard", .. })), "{done:?}");
    assert_eq!(space.line("ip -j link"), links);
    // The firewall alone needs none.
    space.inside(|| Kernel::default().apply(&steps[..1], &NoKeys)).expect("nft is there");
    let seen = space.inside(|| Kernel::default().read()).expect("it is read");
    assert!(seen.state.links.is_empty() && seen.state.firewall.is_none(), "{seen:?}");
}

/// Whether there is a kernel to try it with; says so if not.
fn is_here(test: &str) -> bool {
    if !is_able(test, &["nft", "wg"]) {
        return false;
    }
    let there = Namespace::make().is_some_and(|space| has_wireguard(&space));
    if !there {
        not_run(test, "the kernel has no WireGuard");
    }
    there
}

#[test]
fn a_tunnel_is_made_changed_and_removed() {
    if !is_here("kernel::a_tunnel_is_made_changed_and_removed") {
        return;
    }
    let two = Two::new("k", true);
    let empty = two.read(0).state;
    assert_eq!(empty, State::default());
    let first = two.host(0, 49);
    two.becomes(0, &first);
    two.becomes(1, &two.host(1, 0));

    let mut second = first.clone();
    for peer in &mut second.links[0].peers {
        if peer.public_key == stranger(7) {
            peer.keepalive_s = Some(20);
            peer.has_preshared = true;
            peer.allowed_ips.push("10.9.1.8/32".parse().expect("a prefix"));
        } else if peer.public_key == stranger(8) {
            peer.allowed_ips = vec!["fd00::8/128".parse().expect("a prefix")];
        }
    }
    second.links[0].fwmark = 9;
    second.normalise();
    let (asked, answered) = two.asked_during(|| {
        for wanted in [&second, &first].into_iter().cycle().take(10) {
            two.becomes(0, wanted);
        }
    });
    println!("{answered} of {asked} answered while one of fifty peers changed ten times");
    assert_eq!(asked, answered);

    // Its twin, as with any data plane: who makes the peer again ends its session.
    let (link, peer) = (two.links[0].clone(), two.keys[1]);
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

    let seen = two.read(0);
    let said = format!("{seen:?}{}", serde_json::to_string(&seen).expect("JSON"));
    assert!(!shows(&said, &PRIVATE[0]) && !shows(&said, &[0x4c; 32]));
    assert!(shows(&said, two.keys[0].bytes()), "what is there is found");
    two.becomes(0, &empty);
}

#[test]
fn a_thousand_peers_are_set_and_read() {
    if !is_here("kernel::a_thousand_peers_are_set_and_read") {
        return;
    }
    let two = Two::new("m", true);
    let mut wanted = two.host(0, 1000);
    // One with more addresses than a message carries.
    let many = (0..3000).map(|n| format!("fd00:{n:x}::/32"));
    let many = many.map(|text| text.parse::<ipnet::IpNet>().expect("a prefix"));
    wanted.links[0].peers[500].allowed_ips.extend(many);
    wanted.normalise();
    two.becomes(0, &wanted);
    // All of them but one go, and what it had as well.
    two.becomes(0, &two.host(0, 0));
}
