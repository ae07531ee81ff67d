//! Who else has an address, and telling who has it now: judged by what a kernel answers and
//! remembers. Two hosts on one wire, then a third that takes the place of the second.

use std::net::IpAddr;
use std::time::Duration;

use vyr_net::{announce, whereabouts, who_has};

use vyr_space::{Namespace, is_able};

/// Nobody takes so long to answer here; who does not answer is waited for as long.
const PATIENCE: Duration = Duration::from_millis(300);

const OTHER: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

/// Two ends of a wire, with hardware addresses that are known.
fn wire(near: &Namespace, far: &Namespace, number: u8) {
    let mac = |end: u8| format!("02:00:00:00:{number:02x}:{end:02x}");
    near.line(&format!(
        "ip link add lan0 address {} type veth peer name far address {}",
        mac(1),
        mac(2)
    ));
    near.line(&format!("ip link set far netns {} name lan0", far.id()));
    for space in [near, far] {
        space.line("ip link set lan0 up");
    }
}

fn give(space: &Namespace, v4: &str, v6: &str) {
    space.line(&format!("ip address add {v4}/24 dev lan0"));
    space.line(&format!("ip address add {v6}/64 dev lan0 nodad"));
}

fn found(space: &Namespace, address: &str) -> (bool, Option<String>) {
    let address: IpAddr = address.parse().expect("an address");
    space.inside(|| {
        let place = whereabouts(address).expect("the kernel says");
        let [link] = place.links.as_slice() else { return (place.own, None) };
        (place.own, who_has(address, link, PATIENCE).expect("root may ask"))
    })
}

#[test]
fn who_else_has_an_address_is_found() {
    if !is_able("neighbour::who_else_has_an_address_is_found", &[]) {
        return;
    }
    let [near, far] = [0; 2].map(|_| Namespace::make().expect("it was made before"));
    wire(&near, &far, 1);
    give(&near, "192.0.2.6", "2001:db8::6");
    give(&far, OTHER[0], OTHER[1]);
    for address in OTHER {
        let other = Some("02-00-00-00-01-02".to_owned());
        assert_eq!(found(&near, address), (false, other), "{address}");
    }
    // Also when it is one's own by now, which a kernel asks nobody about.
    give(&near, OTHER[0], OTHER[1]);
    for address in OTHER {
        let other = Some("02-00-00-00-01-02".to_owned());
        assert_eq!(found(&near, address), (true, other), "{address}");
    }
    far.line("ip address flush dev lan0");
    for address in OTHER {
        assert_eq!(found(&near, address), (true, None), "{address} is nobody else's");
    }
    assert_eq!(found(&near, "198.51.100.1"), (false, None), "no network of this host");
}

#[test]
fn neighbours_that_are_told_remember() {
    if !is_able("neighbour::neighbours_that_are_told_remember", &[]) {
        return;
    }
    let [near, far] = [0; 2].map(|_| Namespace::make().expect("it was made before"));
    wire(&near, &far, 2);
    give(&near, "192.0.2.6", "2001:db8::6");
    give(&far, OTHER[0], OTHER[1]);
    let remembered = || near.line("ip neighbour show dev lan0");
    // What it knows of whoever was there before.
    for address in OTHER {
        near.line(&format!(
            "ip neighbour replace {address} lladdr 02:00:00:00:09:09 dev lan0 nud stale"
        ));
    }
    assert_eq!(remembered().matches("02:00:00:00:09:09").count(), 2, "{}", remembered());
    // A kernel believes a second word about one address only a second after the first
    // (`locktime`), so it is told until it does.
    let told = |_: &u32| {
        assert_eq!(far.inside(announce).expect("root may tell"), 2);
        remembered().matches("02:00:00:00:02:02").count() == 2
    };
    let pause = Duration::from_millis(100);
    let mut rounds = (0..100).inspect(|_| std::thread::sleep(pause));
    assert!(rounds.any(|round| told(&round)), "{}", remembered());
}
