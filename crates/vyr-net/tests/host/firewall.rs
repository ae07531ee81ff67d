//! The firewall: what nft lists of what we load, what we make of a program that fails, and what
//! passes while two plans are in force.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use vyr_base::{Source, canonical};
use vyr_net::{NetError, Nft, Ruleset, union};
use vyr_plan::intent::Service;
use vyr_plan::plan::{AddressSet, Machine, Rule, Toward};
use vyr_plan::{Files, Lock, Plan, allocate, compile, render};

use vyr_space::{Namespace, is_able};

/// The plan of the worked site.
pub(crate) fn office() -> Plan {
    let site = include_str!("../../../../examples/office/site.toml");
    let clients = include_str!("../../../../examples/office/clients.toml");
    let files = Files {
        clients: Some(Source::new("clients.toml", clients.to_owned())),
        ..Files::new(Source::new("site.toml", site.to_owned()))
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    compile(&intent, &lock).expect("it compiles")
}

fn ruleset(machine: &Machine) -> Ruleset {
    Ruleset::from_transaction(&render::firewall(machine).expect("it renders")).expect("ours")
}

fn listed(space: &Namespace) -> Ruleset {
    Ruleset::from_listing(space.line("nft -j -p list table inet vyr").as_bytes()).expect("ours")
}

#[test]
fn what_is_loaded_is_what_nft_lists() {
    if !is_able("firewall::what_is_loaded_is_what_nft_lists", &["nft"]) {
        return;
    }
    let plan = office();
    let nft = Nft::default();
    let space = Namespace::make().expect("it was made before");
    space.line("nft add table inet other");
    let others = space.line("nft -j list table inet other");
    let mut last = None;
    let mut bare = plan.machines[0].clone();
    bare.links.clear();
    for machine in plan.machines.iter().chain([&every_service(), &bare]) {
        let wanted = ruleset(machine);
        assert_ne!(last, Some(wanted.clone()));
        let seen = space.inside(|| {
            nft.apply(Some(&wanted))?;
            nft.apply(Some(&wanted))?;
            nft.read()
        });
        assert_eq!(seen.expect("it is loaded"), Some(wanted.clone()));
        assert_eq!(listed(&space), wanted, "nft without us");

        if wanted.chains() == 0 {
            continue;
        }
        // A packet that is counted changes nothing; a rule or an element more does.
        let digest = |of: &Ruleset| canonical::to_vec(of).expect("integers");
        for line in [
            "nft add rule inet vyr input tcp dport 23 accept",
            "nft insert rule inet vyr input counter",
            "nft add set inet vyr more { type ipv4_addr; }",
        ] {
            space.line(line);
            let drifted = space.inside(|| nft.read()).expect("it is read").expect("it is there");
            assert_ne!(digest(&drifted), digest(&wanted), "{line}");
            // What was found can be put back as it was found.
            space
                .inside(|| nft.apply(Some(&wanted)).and_then(|()| nft.apply(Some(&drifted))))
                .expect("it is loaded again");
            space.inside(|| nft.apply(Some(&wanted))).expect("it is repaired");
            assert_eq!(listed(&space), wanted);
        }
        last = Some(wanted);
    }
    space.inside(|| nft.apply(None)).expect("it is removed");
    assert_eq!(space.inside(|| nft.read()).expect("it is read"), None);
    assert_eq!(space.line("nft -j list table inet other"), others);
}

#[test]
fn counters_are_no_part_of_it() {
    if !is_able("firewall::counters_are_no_part_of_it", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    space.line("ip link set lo up");
    space.line("nft add table inet vyr");
    space.line("nft add chain inet vyr input { type filter hook input priority 0 ; }");
    space.line("nft add rule inet vyr input counter accept");
    let plain = space.line("nft -j list table inet vyr");
    let before = listed(&space);
    space.inside(|| {
        let here = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        here.send_to(b"x", here.local_addr().expect("bound")).expect("it is sent");
    });
    assert_ne!(space.line("nft -j list table inet vyr"), plain, "it was counted");
    assert_eq!(listed(&space), before);
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    if !is_able("firewall::a_transaction_that_fails_changes_nothing", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    let plan = office();
    let good = ruleset(&plan.machines[0]);
    let mut objects: Vec<Value> = good.clone().into();
    objects.push(serde_json::json!({"rule": {
        "family": "inet", "table": "vyr", "chain": "input", "expr": [{"jump": {"target": "nowhere"}}],
    }}));
    let bad = Ruleset::try_from(objects).expect("its form is good");
    let nft = Nft::default();
    space.inside(|| nft.apply(Some(&good))).expect("it is loaded");
    let done = space.inside(|| nft.apply(Some(&bad)));
    assert!(matches!(done, Err(NetError::Nft { doing: "check a transaction", .. })), "{done:?}");
    assert_eq!(listed(&space), good);
}

/// A program in nft's place.
fn instead(directory: &tempfile::TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("nft");
    let mut file = std::fs::File::create(&path).expect("a file");
    write!(file, "#!/bin/sh\n{script}\n").expect("it is written");
    drop(file);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its owner");
    path
}

#[test]
fn a_program_that_lies_hangs_or_shouts_is_found_out() {
    if !is_able("firewall::a_program_that_lies_hangs_or_shouts_is_found_out", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    let wanted = ruleset(&office().machines[0]);
    let directory = tempfile::tempdir().expect("a directory");
    let long = Duration::from_secs(20);
    let ask = |script: &str, within: Duration| {
        let nft = Nft::new(instead(&directory, script), within);
        space.inside(|| nft.apply(Some(&wanted)))
    };
    // Ends well and does nothing, as nft 1.0.6 does with JSON from a pipe that it cannot parse.
    let lies = r#"case "$*" in *-f*) exit 0;; esac; exec nft "$@""#;
    let done = ask(lies, long);
    assert!(matches!(done, Err(NetError::Differs { .. })), "{done:?}");
    let done = ask("exec sleep 600", Duration::from_millis(100));
    assert!(matches!(done, Err(NetError::Silent { .. })), "{done:?}");
    let done = ask("yes no | head -c 100000 >&2; exit 1", long);
    let Err(NetError::Nft { said, .. }) = &done else { panic!("{done:?}") };
    assert!(said.len() <= 600, "{}", said.len());
    // It gets a path to look for programs in, and nothing else of our surroundings.
    let environment =
        r#"env | grep -v -E '^(PATH|PWD|OLDPWD|SHLVL|_)=' >&2 && exit 1; exec nft "$@""#;
    ask(environment, long).expect("it is loaded");
    // And the real one is believed.
    space.inside(|| Nft::default().apply(Some(&wanted))).expect("it is loaded");
    let missing = Nft::new("/nowhere/nft", long).version();
    assert!(matches!(missing, Err(NetError::Unavailable { .. })), "{missing:?}");
}

const PORTS: [u16; 5] = [22, 1000, 2000, 3000, 4000];
const MACHINE: [&str; 2] = ["10.20.0.1", "192.168.7.1"];

/// A machine with one link, from whose clients some ports of its own are reached.
fn machine(ports: &[u16]) -> Machine {
    let plan = office();
    let mut machine = plan.machine("router-north").expect("it is there").clone();
    machine.links.retain(|link| link.name == "vyr-north");
    let link = &mut machine.links[0];
    link.addresses = vec!["10.20.0.1/24".parse().expect("one")];
    link.routes = vec!["10.20.0.0/24".parse().expect("one")];
    machine.sets = [("clients", "10.20.0.0/24"), ("own", "10.20.0.1/32")]
        .map(|(name, prefix)| AddressSet {
            name: name.into(),
            prefixes: vec![prefix.parse().expect("a prefix")],
        })
        .into();
    machine.masquerade = Vec::new();
    machine.rules = vec![Rule {
        id: "ports".into(),
        from: "vyr-north".into(),
        toward: Toward::Local,
        source: "clients".into(),
        destination: "own".into(),
        services: ports
            .iter()
            .map(|port| Service::Ports { protocol: 6, first: *port, last: *port })
            .collect(),
    }];
    machine
}

/// Every form that a service has, and numbers of protocols for which nft has names.
fn every_service() -> Machine {
    let mut machine = machine(&[22]);
    let ports = |protocol, first, last| Service::Ports { protocol, first, last };
    let protocols = [1, 2, 6, 17, 33, 41, 47, 50, 51, 58, 89, 132, 136, 253, 255];
    let whole = protocols.map(|protocol| ports(protocol, 0, u16::MAX));
    let parts = [6, 17].into_iter().flat_map(|protocol| {
        [(1, 1), (53, 53), (80, 443), (0, 1), (1024, u16::MAX)]
            .map(|(first, last)| ports(protocol, first, last))
    });
    machine.rules[0].services = [Service::Icmp].into_iter().chain(whole).chain(parts).collect();
    // One that has all of them hides the others of its rule.
    let any = Rule { id: "any".into(), services: vec![Service::Any], ..machine.rules[0].clone() };
    machine.rules.insert(0, any);
    machine
}

/// The ports that can be reached from somewhere.
fn open(from: &Namespace, at: &str) -> Vec<u16> {
    let address: IpAddr = at.parse().expect("an address");
    let answers = |port: &u16| {
        let at = SocketAddr::new(address, *port);
        // What is dropped is never answered; what is not is answered at once.
        from.inside(|| TcpStream::connect_timeout(&at, Duration::from_millis(400)).is_ok())
    };
    PORTS.into_iter().filter(|port| answers(port)).collect()
}

#[test]
fn between_two_plans_passes_what_both_let_pass() {
    if !is_able("firewall::between_two_plans_passes_what_both_let_pass", &["nft"]) {
        return;
    }
    let host = Namespace::make().expect("it was made before");
    let sides = [(); 2].map(|()| Namespace::make().expect("it was made before"));
    for (at, (name, side)) in ["vyr-north", "lan0"].into_iter().zip(&sides).enumerate() {
        let network = MACHINE[at].rsplit_once('.').expect("an address").0;
        host.line(&format!("ip link add {name} type veth peer name far{at}"));
        host.line(&format!("ip link set far{at} netns {}", side.id()));
        host.line(&format!("ip address add {}/24 dev {name}", MACHINE[at]));
        host.line(&format!("ip link set {name} up"));
        side.line(&format!("ip address add {network}.2/24 dev far{at}"));
        side.line(&format!("ip link set far{at} up"));
    }
    let listeners =
        host.inside(|| PORTS.map(|port| TcpListener::bind(("0.0.0.0", port)).expect("a port")));
    let (old, new) = (ruleset(&machine(&[22, 1000, 2000])), ruleset(&machine(&[22, 2000, 3000])));
    let both = union(&old, &new);
    assert_eq!(both, union(&old, &new));
    let nft = Nft::default();
    let [clients, lan] = &sides;
    for (table, expected) in [
        (None, &PORTS[..]),
        (Some(&old), &[22, 1000, 2000]),
        (Some(&both), &[22, 2000]),
        (Some(&new), &[22, 2000, 3000]),
        // The order does not matter.
        (Some(&union(&new, &old)), &[22, 2000]),
        // A plan and itself are that plan.
        (Some(&union(&old, &old)), &[22, 1000, 2000]),
    ] {
        host.inside(|| nft.apply(table)).expect("it is loaded");
        assert_eq!(open(clients, MACHINE[0]), expected, "{table:?}");
        // The way of management, around the links, is open in each of them.
        assert_eq!(open(lan, MACHINE[1]), PORTS, "{table:?}");
    }
    // A connection that was made before goes on while tables change.
    host.inside(|| nft.apply(Some(&old))).expect("it is loaded");
    let at: SocketAddr = (MACHINE[0].parse::<IpAddr>().expect("an address"), 22).into();
    let mut near = clients.inside(|| TcpStream::connect(at)).expect("it is open");
    for table in [&both, &new] {
        host.inside(|| nft.apply(Some(table))).expect("it is loaded");
        near.write_all(b"still here").expect("it is sent");
    }
    drop(listeners);
}

#[test]
fn the_office_has_both_of_any_two_plans() {
    if !is_able("firewall::the_office_has_both_of_any_two_plans", &["nft"]) {
        return;
    }
    let space = Namespace::make().expect("it was made before");
    let plan = office();
    let all: Vec<Ruleset> = plan.machines.iter().map(ruleset).collect();
    for old in &all {
        for new in &all {
            let both = union(old, new);
            assert_eq!(both.rules(), old.rules() + new.rules());
            space.inside(|| Nft::default().apply(Some(&both))).expect("it is loaded");
            assert_eq!(listed(&space), both);
        }
    }
}
