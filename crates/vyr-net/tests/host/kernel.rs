//! The kernel's own WireGuard, where there is one; elsewhere, that its absence is told.

use vyr_net::{Ability, Backend, Kernel, NetError, Nft, NoKeys, Op};

use crate::place::{Namespace, is_able};

/// Whether this kernel makes such links, by `ip`.
pub(crate) fn has_wireguard(space: &Namespace) -> bool {
    let made = space.try_run("ip", &["link", "add", "vyr-try", "type", "wireguard"]).is_ok();
    if made {
        space.run("ip link del vyr-try");
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
    if !is_able("kernel::without_wireguard_nothing_is_begun", &["nft", "wg"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    if has_wireguard(&space) {
        return crate::tunnel::in_the_kernel();
    }
    let links = space.run("ip -j link");
    let steps = [Op::Firewall { to: None }, Op::AddLink { link: "vyr-a".into() }];
    let done = space.inside(|| Kernel::default().apply(&steps, &NoKeys));
    assert!(matches!(done, Err(NetError::Unavailable { what: "WireGuard", .. })), "{done:?}");
    assert_eq!(space.run("ip -j link"), links);
    // The firewall alone needs none.
    space.inside(|| Kernel::default().apply(&steps[..1], &NoKeys)).expect("nft is there");
    let seen = space.inside(|| Kernel::default().read()).expect("it is read");
    assert!(seen.state.links.is_empty() && seen.state.firewall.is_none(), "{seen:?}");
}
