//! Links, addresses and routes: what `ip` sees of what we set, and we of what it sets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ipnet::IpNet;
use vyr_net::{
    Backend, Link, LinkKind, NetError, Nft, NoKeys, Observation, Op, ROUTE_PROTOCOL, STATE_VERSION,
    State, Userspace, ops, undo,
};

use vyr_space::{Namespace, is_able};

/// A data plane with nothing to say: links beside it are any that carry packets.
pub(crate) fn says(directory: &Path, link: &str, answer: impl Into<Vec<u8>>) {
    let listener = UnixListener::bind(directory.join(format!("{link}.sock"))).expect("a socket");
    let answer = answer.into();
    // It ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 64];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(&answer);
        }
    });
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn link(name: &str, mtu: u32, addresses: &[&str], routes: &[&str]) -> Link {
    Link {
        name: name.into(),
        kind: LinkKind::Wireguard,
        mtu,
        up: true,
        listen_port: 0,
        fwmark: 0,
        public_key: None,
        addresses: addresses.iter().map(|text| net(text)).collect(),
        routes: routes.iter().map(|text| net(text)).collect(),
        peers: Vec::new(),
    }
}

fn host(links: impl Into<Vec<Link>>) -> State {
    let mut state = State { version: STATE_VERSION, links: links.into(), firewall: None };
    state.normalise();
    state.check().expect("a host can be so");
    state
}

struct Site {
    space: Namespace,
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            space: Namespace::make().expect("it was made before"),
            directory: tempfile::tempdir().expect("a directory"),
        };
        for (at, name) in ["vyr-a", "vyr-b"].into_iter().enumerate() {
            site.space.line(&format!("ip link add {name} type veth peer name far{at}"));
            site.space.line(&format!("ip link set far{at} up"));
            says(site.directory.path(), name, "errno=0\n\n");
        }
        // A link of somebody else that has our prefix, and no data plane.
        site.space.line("ip link add vyr-tap type veth peer name far9");
        site
    }

    fn backend(&self) -> Userspace {
        Userspace::new(self.directory.path(), Nft::default())
    }

    fn read(&self) -> Observation {
        self.space.inside(|| self.backend().read()).unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn apply(&self, steps: &[Op]) {
        let done = self.space.inside(|| self.backend().apply(steps, &NoKeys));
        done.unwrap_or_else(|e| panic!("{e:?}"));
    }

    /// From whatever it is.
    fn becomes(&self, wanted: &State) -> Vec<Op> {
        let steps = ops(&self.read().state, wanted);
        self.apply(&steps);
        assert_eq!(self.read().state, *wanted);
        self.seen_by_ip(wanted);
        steps
    }

    /// What `ip` says is what was wanted, and nothing more.
    fn seen_by_ip(&self, wanted: &State) {
        for link in &wanted.links {
            let name = &link.name;
            let json = |line: &str| -> Vec<serde_json::Value> {
                serde_json::from_str(&self.space.line(line)).expect("JSON")
            };
            let shown = json(&format!("ip -j address show dev {name}"));
            assert_eq!(shown[0]["mtu"], link.mtu);
            let flags = shown[0]["flags"].as_array().expect("a list");
            assert_eq!(flags.iter().any(|flag| flag == "UP"), link.up);
            let addresses = shown[0]["addr_info"].as_array().expect("a list").iter();
            let addresses = addresses.filter(|own| own["scope"] != "link").map(|own| {
                net(&format!("{}/{}", own["local"].as_str().expect("one"), own["prefixlen"]))
            });
            assert_eq!(addresses.collect::<BTreeSet<_>>(), set(&link.addresses));
            let mut routes = BTreeSet::new();
            for (family, bits) in [("-4", 32), ("-6", 128)] {
                let line = format!("ip -j {family} route show proto {ROUTE_PROTOCOL} dev {name}");
                for route in json(&line) {
                    let to = route["dst"].as_str().expect("a destination");
                    let to = match to {
                        "default" if bits == 32 => "0.0.0.0/0".into(),
                        "default" => "::/0".into(),
                        to if to.contains('/') => to.to_owned(),
                        to => format!("{to}/{bits}"),
                    };
                    routes.insert(net(&to));
                }
            }
            assert_eq!(routes, set(&link.routes));
        }
    }
}

fn set(nets: &[IpNet]) -> BTreeSet<IpNet> {
    nets.iter().copied().collect()
}

#[test]
fn what_is_set_is_what_ip_sees() {
    if !is_able("route::what_is_set_is_what_ip_sees", &["nft"]) {
        return;
    }
    let site = Site::new();
    let empty = site.read().state;
    assert_eq!(empty.links.iter().map(|link| &*link.name).collect::<Vec<_>>(), ["vyr-a", "vyr-b"]);
    // Others' routes are not ours to see or to touch.
    site.space.line("ip link set vyr-tap up");
    site.space.line("ip address add 172.16.0.1/24 dev vyr-tap");
    site.space.line("ip route add 10.99.0.0/16 dev vyr-tap proto static");

    let first = host([
        link(
            "vyr-a",
            1400,
            &["10.1.0.1/24", "10.1.0.2/24", "fd00:1::1/64"],
            &["10.1.0.0/24", "fd00:1::/64", "10.7.7.7/32", "fd00:7::7/128", "128.0.0.0/1"],
        ),
        link("vyr-b", 1280, &["10.2.0.1/32"], &["::/0"]),
    ]);
    let steps = site.becomes(&first);
    let back = undo(&steps, &empty).expect("they were taken");

    // The first address goes, the other stays; one route changes links, one goes.
    site.space.line("sysctl -q net.ipv4.conf.all.promote_secondaries=0");
    site.space.line("sysctl -q net.ipv4.conf.vyr-a.promote_secondaries=0");
    let second = host([
        link("vyr-a", 1420, &["10.1.0.2/24", "fd00:1::1/64"], &["10.1.0.0/24", "fd00:1::/64"]),
        link("vyr-b", 1280, &["10.2.0.1/32"], &["::/0", "10.7.7.7/32", "fd00:7::7/128"]),
    ]);
    let steps = site.becomes(&second);
    let moved = steps.iter().filter(|step| matches!(step, Op::MoveRoute { .. }));
    assert_eq!(moved.count(), 2);

    // With its last IPv4 address the kernel takes a link's IPv4 routes; they are put back.
    let third = host([
        link("vyr-a", 1420, &["fd00:1::1/64"], &["10.1.0.0/24", "fd00:1::/64"]),
        second.links[1].clone(),
    ]);
    site.becomes(&third);

    site.becomes(&first);
    site.apply(&back);
    assert_eq!(site.read().state, empty);
    let foreign = site.space.line("ip route show dev vyr-tap");
    assert!(foreign.contains("10.99.0.0/16 proto static"), "{foreign}");
}

#[test]
fn a_change_from_outside_is_seen() {
    if !is_able("route::a_change_from_outside_is_seen", &["nft"]) {
        return;
    }
    let site = Site::new();
    let wanted = host([
        link("vyr-a", 1400, &["10.1.0.1/24", "fd00:1::1/64"], &["10.1.0.0/24", "fd00:1::/64"]),
        link("vyr-b", 1400, &[], &[]),
    ]);
    site.becomes(&wanted);
    let same = wanted.digest().expect("integers");
    for (change, expected) in [
        ("ip address del 10.1.0.1/24 dev vyr-a", "vyr-a: add address 10.1.0.1/24"),
        ("ip address add 10.1.0.9/32 dev vyr-a", "vyr-a: remove address 10.1.0.9/32"),
        ("ip route del fd00:1::/64 dev vyr-a proto 86", "vyr-a: add route fd00:1::/64"),
        ("ip route add 10.8.0.0/16 dev vyr-b proto 86", "vyr-b: remove route 10.8.0.0/16"),
        ("ip link set vyr-a mtu 1380", "vyr-a: mtu 1400"),
    ] {
        site.space.line(change);
        let seen = site.read().state;
        assert_ne!(seen.digest().expect("integers"), same, "{change}");
        let steps = ops(&seen, &wanted);
        let said: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert!(said.contains(&expected.to_owned()), "{change}: {said:?}");
        site.apply(&steps);
        assert_eq!(site.read().state.digest().expect("integers"), same, "{change}");
    }
    // What the kernel takes along with a link that goes down comes back too.
    site.space.line("ip link set vyr-a down");
    site.becomes(&wanted);
}

#[test]
fn thousands_of_routes_are_listed_whole() {
    if !is_able("route::thousands_of_routes_are_listed_whole", &["nft"]) {
        return;
    }
    let site = Site::new();
    let routes: Vec<String> = (0..2000).map(|n| format!("fd00:{n:x}::/32")).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let wanted = host([link("vyr-a", 1400, &[], &routes), link("vyr-b", 1400, &[], &[])]);
    site.becomes(&wanted);
}

#[test]
fn what_is_not_ours_is_refused_before_anything_is_done() {
    let test = "route::what_is_not_ours_is_refused_before_anything_is_done";
    if !is_able(test, &["nft"]) {
        return;
    }
    let site = Site::new();
    let before = site.space.line("ip -j address show");
    let good = Op::SetMtu { link: "vyr-a".into(), mtu: 1300 };
    for bad in [
        Op::SetMtu { link: "far0".into(), mtu: 1300 },
        Op::AddLink { link: "vyr-c".into() },
        Op::DelLink { link: "vyr-a".into() },
    ] {
        let done = site.space.inside(|| site.backend().apply(&[good.clone(), bad], &NoKeys));
        assert!(matches!(done, Err(NetError::Refused { .. })), "{done:?}");
    }
    assert_eq!(site.space.line("ip -j address show"), before);
    site.apply(&[good]);
    assert_ne!(site.space.line("ip -j address show"), before, "the good one alone is done");
}

#[test]
fn a_data_plane_that_talks_nonsense_is_an_error() {
    let test = "route::a_data_plane_that_talks_nonsense_is_an_error";
    if !is_able(test, &["nft"]) {
        return;
    }
    let private = "5e".repeat(32);
    let endless = format!("private_key={private}\n").repeat(3) + &"a".repeat(5000);
    for (answer, good) in [
        ("errno=0\n\n".to_owned(), true),
        (format!("private_key={private}\nerrno=0\n\n"), true),
        ("errno=0".into(), false),
        ("\n".into(), false),
        (String::new(), false),
        (endless, false),
        (format!("private_key={private}5\nerrno=0\n\n"), false),
        (format!("{private}\nerrno=0\n\n"), false),
        ("errno=-13\n\n".into(), false),
    ] {
        let site = Site::new();
        std::fs::remove_file(site.directory.path().join("vyr-a.sock")).expect("it is there");
        says(site.directory.path(), "vyr-a", answer.clone());
        let seen = site.space.inside(|| site.backend().read());
        assert_eq!(seen.is_ok(), good, "{answer}: {seen:?}");
        let said =
            format!("{seen:?} {}", seen.as_ref().err().map_or(String::new(), |e| e.to_string()));
        assert!(!said.contains("5e5e") && !said.contains("94, 94"), "{said}");
    }
}
