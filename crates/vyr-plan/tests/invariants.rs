//! Each invariant has seeded defects: the worked site with one thing wrong, and the ids that must
//! be reported for it, no more and no fewer.
//!
//! A defect is planted in the compiled plan, because the prover reads nothing else, or in the
//! intent where a person would make it. Ids beside the first are those it cannot be had without.
//!
//! It is long because it is one list: a defect that is not in it is one that nobody planted.

mod common;
#[path = "common/replace.rs"]
mod replace;

use std::collections::BTreeSet;

use ipnet::IpNet;
use vyr_plan::intent::{Key, Name, Service};
use vyr_plan::plan::{AddressSet, Client, Link, Machine, Plan, Rule, Toward};
use vyr_plan::{INTERNET, INVARIANTS, Intent, Set, Subject, Violation, point, prove};

/// What a violation must show besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// No packets are concerned.
    Words,
    /// A packet that no rule accepts.
    Dropped,
    /// A packet, and the rule that accepts it.
    Accepted,
}
use Shows::{Accepted, Dropped, Words};

/// Where a defect is planted.
enum Defect {
    /// In the compiled plan; the second one is its parent.
    Plan(fn(&mut Plan, &mut Plan)),
    /// In a file, as replacements of one text by another.
    Files(&'static [(&'static str, &'static str)]),
}
use Defect::{Files, Plan as InPlan};

struct Twin {
    name: &'static str,
    ids: &'static [&'static str],
    shows: Shows,
    defect: Defect,
}

const fn twin(
    name: &'static str,
    ids: &'static [&'static str],
    shows: Shows,
    defect: Defect,
) -> Twin {
    Twin { name, ids, shows, defect }
}

fn machine<'a>(plan: &'a mut Plan, name: &str) -> &'a mut Machine {
    plan.machines.iter_mut().find(|machine| machine.name.as_str() == name).expect(name)
}

fn link<'a>(plan: &'a mut Plan, name: &str, interface: &str) -> &'a mut Link {
    let links = &mut machine(plan, name).links;
    links.iter_mut().find(|link| link.interface.as_str() == interface).expect(interface)
}

fn client<'a>(plan: &'a mut Plan, id: &str) -> &'a mut Client {
    plan.clients.iter_mut().find(|client| client.id.as_str() == id).expect(id)
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A rule that nobody asked for.
fn accept(plan: &mut Plan, on: &str, from: &str, toward: Toward, source: &str, to: &[&str]) {
    let machine = machine(plan, on);
    let prefixes = to.iter().map(|text| net(text)).collect();
    machine.sets.push(AddressSet { name: "planted".into(), prefixes });
    machine.sets.sort_by(|a, b| a.name.cmp(&b.name));
    machine.rules.push(Rule {
        id: "planted".into(),
        from: from.into(),
        toward,
        source: source.into(),
        destination: "planted".into(),
        services: vec![Service::Any],
    });
}

/// A device that has only a staged key, and with it no peer with addresses.
fn newcomer(plan: &mut Plan, address: &str) {
    let mut one = client(plan, "ana-laptop").clone();
    (one.id, one.public_key, one.staged_key) = (name("newcomer"), None, None);
    one.addresses.retain(|of| of.server.as_str() == "router-north");
    one.addresses[0].addresses = vec![net(address)];
    plan.clients.push(one);
    plan.clients.sort_by(|a, b| a.id.cmp(&b.id));
}

/// A second end of `north` on `router-north`, made here and not by the compiler.
fn second(plan: &mut Plan) -> &mut Link {
    let own = machine(plan, "router-north");
    let first = own.links.iter().find(|link| link.interface.as_str() == "north").expect("a link");
    let mut second = first.clone();
    second.name = "vyr-north-2".into();
    second.public_key = Key::from_bytes([77; 32]);
    second.second_of = Some(first.name.clone());
    (second.endpoint, second.listen_port) = (Some("north.example.net:51821".into()), 51821);
    second.routes.clear();
    second.peers.iter_mut().for_each(|peer| peer.allowed_ips.clear());
    let rules = own.rules.iter().filter(|rule| rule.from == first.name).cloned();
    let rules: Vec<Rule> = rules
        .map(|rule| {
            let id = rule.id.replace("north@", "north-2@");
            Rule { id, from: second.name.clone(), ..rule }
        })
        .collect();
    own.rules.extend(rules);
    own.rules.sort_by(|a, b| a.id.cmp(&b.id));
    own.links.push(second);
    own.links.last_mut().expect("it was put there")
}

const TWINS: &[Twin] = &[
    twin(
        "a device has its addresses on the second end before it was seen there",
        &["N21", "N02"],
        Words,
        InPlan(|plan, _| {
            let allowed = link(plan, "router-north", "north").peers[0].allowed_ips.clone();
            second(plan).peers[0].allowed_ips = allowed;
        }),
    ),
    twin(
        "a second end has a way back for everybody",
        &["N21", "N06"],
        Words,
        InPlan(|plan, _| {
            let routes = link(plan, "router-north", "north").routes.clone();
            second(plan).routes = routes;
        }),
    ),
    twin(
        "a rule is not there for who has moved",
        &["N22"],
        Words,
        InPlan(|plan, _| {
            second(plan);
            let rules = &mut machine(plan, "router-north").rules;
            let at = rules.iter().position(|rule| rule.from == "vyr-north-2").expect("a rule");
            rules.remove(at);
        }),
    ),
    twin(
        "a device is told another port than the second end's",
        &["N22"],
        Words,
        InPlan(|plan, _| second(plan).listen_port = 51822),
    ),
    twin(
        "a device cannot get to the second end",
        &["N22", "N16"],
        Words,
        InPlan(|plan, _| {
            second(plan).peers.remove(0);
        }),
    ),
    twin(
        "a second port is open beside no first one",
        &["N22", "N14", "N16"],
        Words,
        InPlan(|plan, _| second(plan).second_of = Some("vyr-nobody".into())),
    ),
    twin(
        "a second end has the key of the first",
        &["N11"],
        Words,
        InPlan(|plan, _| {
            let own = link(plan, "router-north", "north").public_key;
            second(plan).public_key = own;
        }),
    ),
    twin(
        "two ends have one port",
        &["N15", "N22"],
        Words,
        InPlan(|plan, _| second(plan).listen_port = 51820),
    ),
    twin(
        "a server has a key that it gave up",
        &["N23"],
        Words,
        InPlan(|plan, _| {
            let own = second(plan).public_key;
            link(plan, "router-north", "north").retired_keys.push(own);
        }),
    ),
    twin(
        "a revoked key is that of a second end",
        &["N13"],
        Words,
        InPlan(|plan, _| {
            let own = second(plan).public_key;
            plan.revoked.push(own);
        }),
    ),
    twin(
        "a peer may also send as its neighbour",
        &["N01", "N02"],
        Words,
        InPlan(|plan, _| {
            let peers = &mut link(plan, "router-north", "north").peers;
            let other = peers[1].allowed_ips[0];
            peers[0].allowed_ips.push(other);
        }),
    ),
    twin(
        "two nodes have one address",
        &["N01", "N03", "N16"],
        Words,
        InPlan(|plan, _| {
            let peers = &mut link(plan, "witness", "mesh").peers;
            peers[1].allowed_ips = peers[0].allowed_ips.clone();
        }),
    ),
    twin(
        "a peer may send as an address that nobody has",
        &["N02"],
        Words,
        InPlan(|plan, _| {
            let peers = &mut link(plan, "router-south", "south").peers;
            peers[0].allowed_ips.push(net("10.30.0.3/32"));
        }),
    ),
    twin(
        "a peer lacks one of its addresses",
        &["N02", "N16"],
        Words,
        InPlan(|plan, _| {
            link(plan, "router-south", "lab").peers[0].allowed_ips.remove(0);
        }),
    ),
    twin(
        "a staged key has addresses already",
        &["N01", "N02"],
        Words,
        InPlan(|plan, _| {
            let staged = client(plan, "ben-laptop").staged_key;
            let own = client(plan, "ben-laptop").addresses[1].addresses.clone();
            let peers = &mut link(plan, "router-north", "north").peers;
            let peer = peers.iter_mut().find(|peer| Some(peer.public_key) == staged);
            peer.expect("a staged peer").allowed_ips = own;
        }),
    ),
    twin(
        "a peer is no client",
        &["N02"],
        Words,
        InPlan(|plan, _| {
            let peers = &mut link(plan, "nas", "north").peers;
            let mut one = peers[0].clone();
            (one.id, one.allowed_ips) = (name("nobody"), Vec::new());
            one.public_key = Key::from_bytes([7; 32]);
            peers.push(one);
        }),
    ),
    twin(
        "everything is taken from one node",
        &["N03", "N01", "N09", "N10"],
        Words,
        InPlan(|plan, _| {
            link(plan, "witness", "mesh").peers[0].allowed_ips = vec![net("::/0")];
        }),
    ),
    twin(
        "everything is routed into the mesh",
        &["N03", "N06", "N07", "N08", "N09", "N10"],
        Accepted,
        InPlan(|plan, _| link(plan, "router-north", "mesh").routes = vec![net("::/0")]),
    ),
    twin(
        "a profile where it may not be",
        &["N04"],
        Words,
        Files(&[(
            "\"dora-laptop\", owner = \"Dora\", interface = \"south\", profile = \"split\"",
            "\"dora-laptop\", owner = \"Dora\", interface = \"south\", profile = \"full\"",
        )]),
    ),
    twin(
        "an interface without any profile",
        &["N04"],
        Words,
        Files(&[("lab = [\"split\"]\n", "")]),
    ),
    twin(
        "an interface without internet takes a profile with it",
        &["N05"],
        Words,
        Files(&[("south = [\"split\"]", "south = [\"split\", \"full\"]")]),
    ),
    twin(
        "a rule lets an interface out that has no internet",
        &["N05", "N20"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["8.8.8.0/24", "2606:4700::/32"];
            accept(plan, "router-south", "vyr-south", Toward::Elsewhere, "south.split", &to);
        }),
    ),
    twin(
        "a rule lets a profile out that has no internet",
        &["N05", "N20"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["1.1.1.1/32"];
            accept(plan, "router-north", "vyr-north", Toward::Elsewhere, "north.split", &to);
        }),
    ),
    twin(
        "a rule lets nodes out through a node",
        &["N05", "N07", "N20"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["2606:4700::/32"];
            accept(plan, "router-north", "vyr-mesh", Toward::Elsewhere, "MESH.peers", &to);
        }),
    ),
    twin(
        "two local networks overlap",
        &["N06"],
        Words,
        Files(&[(
            "lan = [\"192.168.10.0/24\", ",
            "lan = [\"192.168.10.0/24\", \"192.168.30.128/25\", ",
        )]),
    ),
    twin(
        "clients of two servers share a prefix",
        &["N06"],
        Words,
        Files(&[("\"10.30.0.0/24\"", "\"10.16.0.0/13\"")]),
    ),
    twin(
        "a local network lies in the mesh",
        &["N06"],
        Words,
        InPlan(|plan, _| {
            let mesh = link(plan, "witness", "mesh").routes[0];
            // South's clients would need a rule to reach it; the overlap alone is the defect.
            let tunnels = &mut link(plan, "router-south", "south").tunnels;
            tunnels[0].allowed_ips.push(mesh);
            let south = plan.interfaces.iter_mut().find(|of| of.name.as_str() == "south");
            south.expect("south").lan.push(mesh);
        }),
    ),
    twin(
        "clients reach other clients",
        &["N07"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["10.30.0.0/24"];
            accept(plan, "router-north", "vyr-north", Toward::Elsewhere, "north.full", &to);
        }),
    ),
    twin(
        "clients reach a node in the mesh",
        &["N07"],
        Accepted,
        InPlan(|plan, _| {
            let own = link(plan, "router-north", "mesh").addresses[0].addr().to_string() + "/128";
            accept(plan, "router-north", "vyr-north", Toward::Local, "north.full", &[&own]);
        }),
    ),
    twin(
        "a client's address belongs to the machine",
        &["N07"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["10.30.0.77/32"];
            accept(plan, "router-north", "vyr-north", Toward::Local, "north.full", &to);
        }),
    ),
    twin(
        "nodes reach a local network through a node",
        &["N07"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["fd3a:91c2:77e0:10::/64"];
            accept(plan, "router-north", "vyr-mesh", Toward::Elsewhere, "MESH.peers", &to);
        }),
    ),
    twin(
        "nodes reach the servers' own ends",
        &["N07"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["fd3a:91c2:77e0:20::1/128"];
            accept(plan, "router-north", "vyr-mesh", Toward::Local, "MESH.peers", &to);
        }),
    ),
    twin(
        "an experiment reaches a production network",
        &["N08"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["192.168.30.0/24"];
            accept(plan, "router-south", "vyr-lab", Toward::Elsewhere, "lab.split", &to);
        }),
    ),
    twin(
        "an experiment reaches a production server's end",
        &["N08"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["10.30.0.1/32"];
            accept(plan, "router-south", "vyr-lab", Toward::Local, "lab.split", &to);
        }),
    ),
    twin(
        "production reaches an experiment",
        &["N08"],
        Accepted,
        InPlan(|plan, _| {
            let to = ["192.168.99.0/24"];
            accept(plan, "router-south", "vyr-south", Toward::Elsewhere, "south.split", &to);
        }),
    ),
    twin(
        "an experiment shares a local network with production",
        &["N08"],
        Words,
        Files(&[("lan = [\"192.168.99.0/24\"]", "lan = [\"192.168.30.0/24\"]")]),
    ),
    twin(
        "operators lose the way to one server",
        &["N09"],
        Dropped,
        InPlan(|plan, _| {
            let rules = &mut machine(plan, "router-north").rules;
            let before = rules.len();
            rules.retain(|rule| !rule.id.contains("/management/router-south/"));
            assert_eq!(rules.len(), before - 1);
        }),
    ),
    twin(
        "operators' tunnels do not carry the way to a server",
        &["N09"],
        Accepted,
        InPlan(|plan, _| {
            for tunnel in &mut link(plan, "router-north", "north").tunnels {
                tunnel.allowed_ips.retain(|to| *to != net("192.168.30.1/32"));
            }
        }),
    ),
    twin(
        "operators reach a server at another port",
        &["N09"],
        Dropped,
        InPlan(|plan, _| machine(plan, "router-south").management_port = 2222),
    ),
    twin(
        "a server is managed through its own tunnel",
        &["N09", "N07"],
        Accepted,
        Files(&[("management = [\"192.168.10.5\"]", "management = [\"10.21.0.9\"]")]),
    ),
    twin(
        "operators work from an experiment",
        &["N09"],
        Words,
        InPlan(|plan, _| plan.trust.from.push(net("10.99.0.0/24"))),
    ),
    twin(
        "operators work from nodes",
        &["N09"],
        Words,
        InPlan(|plan, _| plan.trust.from.push(net("fd3a:91c2:77e0:ffff::/64"))),
    ),
    twin(
        "a local network is somebody else's",
        &["N10"],
        Words,
        Files(&[(
            "lan = [\"192.168.10.0/24\", ",
            "lan = [\"192.168.10.0/24\", \"203.0.113.0/24\", ",
        )]),
    ),
    twin(
        "clients have addresses of the internet",
        &["N10", "N07"],
        Accepted,
        Files(&[("\"10.30.0.0/24\"", "\"11.30.0.0/24\"")]),
    ),
    twin(
        "IPv6 addresses of clients are another site's",
        &["N10"],
        Words,
        InPlan(|plan, _| plan.prefix = net("fd3a:91c2:77e1::/48")),
    ),
    twin(
        "two clients have one key",
        &["N11"],
        Words,
        Files(&[(
            "cwqVeii8VjJZdHPgSQ6SxSCBeUoGRn/n/SQZjTZZuSY=",
            "3UEkAPfmTyV9IYaqPii/uisqPz7I1hjVXsTa7na2kE4=",
        )]),
    ),
    twin(
        "a client has a server's key",
        &["N11"],
        Words,
        Files(&[(
            "cwqVeii8VjJZdHPgSQ6SxSCBeUoGRn/n/SQZjTZZuSY=",
            "J8OgpC2l8r61pSV2SlkaVHJlVoQmVsTOZOnDL/f+big=",
        )]),
    ),
    twin(
        "a node has a client's key",
        &["N11"],
        Words,
        Files(&[(
            "kzefrzjSsRHnR68DMDqf2eEY39hPBdLFwb9ciddps2g=",
            "PLr2LDVFNbaKTlE1x8WgR7pSk8TAYO5QjOOU2uAYGjc=",
        )]),
    ),
    twin(
        "two ends have one key",
        &["N11"],
        Words,
        Files(&[(
            "r+r6FDi9Tj+O2HH9eT7D4jBJKv6XbUldDbi7DBXPkEI=",
            "J8OgpC2l8r61pSV2SlkaVHJlVoQmVsTOZOnDL/f+big=",
        )]),
    ),
    twin(
        "the staged key is the one in use",
        &["N11"],
        Words,
        Files(&[(
            "V5WSZ31kjM7KV6zrM1LDJAQOPwEC1HrNzfU4T7nuVFs=",
            "I5MfFHVWKpSTJcr2i4yAVvMJOh/7YzCWkMxsgcm+SQU=",
        )]),
    ),
    twin(
        "packets inside a tunnel are larger than its uplink takes",
        &["N12"],
        Words,
        InPlan(|plan, _| link(plan, "router-north", "north").mtu = 1413),
    ),
    twin(
        "IPv6 does not fit into a tunnel",
        &["N12"],
        Words,
        InPlan(|plan, _| link(plan, "router-south", "lab").mtu = 1279),
    ),
    twin(
        "nodes disagree on the mesh's MTU",
        &["N12"],
        Words,
        InPlan(|plan, _| link(plan, "witness", "mesh").mtu = 1400),
    ),
    twin(
        "one machine declares two uplinks",
        &["N12"],
        Words,
        Files(&[(
            "roles = [\"north\"]\nuplink_mtu = 1492",
            "roles = [\"north\"]\nuplink_mtu = 1400",
        )]),
    ),
    twin(
        "a revoked key is a client's again",
        &["N13"],
        Words,
        Files(&[(
            "cwqVeii8VjJZdHPgSQ6SxSCBeUoGRn/n/SQZjTZZuSY=",
            "X+33SEk1xf8Vzn3HS6zIx3b4PdCyY+dPUxcRs9kyaUE=",
        )]),
    ),
    twin(
        "a revoked key is a server's",
        &["N13"],
        Words,
        Files(&[(
            "J8OgpC2l8r61pSV2SlkaVHJlVoQmVsTOZOnDL/f+big=",
            "X+33SEk1xf8Vzn3HS6zIx3b4PdCyY+dPUxcRs9kyaUE=",
        )]),
    ),
    twin(
        "a revocation is forgotten",
        &["N13"],
        Words,
        InPlan(|plan, parent| {
            parent.revoked.push(Key::from_bytes([9; 32]));
            plan.epoch += 1;
        }),
    ),
    twin(
        "a device that has no key yet has another one's address",
        &["N14"],
        Words,
        InPlan(|plan, _| {
            let own = client(plan, "ben-phone").addresses[1].addresses[0].to_string();
            newcomer(plan, &own);
        }),
    ),
    twin(
        "a device has the server's address",
        &["N14"],
        Words,
        InPlan(|plan, _| newcomer(plan, "10.20.0.1/32")),
    ),
    twin(
        "a device has the address of the network",
        &["N14"],
        Words,
        InPlan(|plan, _| newcomer(plan, "10.20.0.0/32")),
    ),
    twin(
        "a device has the broadcast address",
        &["N14"],
        Words,
        InPlan(|plan, _| newcomer(plan, "10.20.0.255/32")),
    ),
    twin(
        "a device has an address of another link",
        &["N14"],
        Words,
        InPlan(|plan, _| newcomer(plan, "10.21.0.250/32")),
    ),
    twin(
        "two links have one address",
        &["N14", "N07", "N17"],
        Accepted,
        InPlan(|plan, _| {
            link(plan, "router-south", "lab").addresses[0] = net("10.30.0.1/24");
        }),
    ),
    twin(
        "clients and nodes come in at one port",
        &["N15"],
        Words,
        Files(&[("port = 51871", "port = 51820")]),
    ),
    twin(
        "a rule is for addresses of nobody",
        &["N16"],
        Accepted,
        InPlan(|plan, _| {
            let sets = &mut machine(plan, "router-south").sets;
            let set = sets.iter_mut().find(|set| set.name == "south.split").expect("a set");
            set.prefixes.push(net("10.30.0.250/32"));
        }),
    ),
    twin(
        "a rule names a set that is not there",
        &["N16"],
        Words,
        InPlan(|plan, _| machine(plan, "router-north").rules[0].destination = "nothing".into()),
    ),
    twin(
        "a rule names a link that is not there",
        &["N16"],
        Words,
        InPlan(|plan, _| {
            let rules = &mut machine(plan, "witness").rules;
            rules[0].from = "vyr-north".into();
        }),
    ),
    twin(
        "a rule accepts no service",
        &["N16"],
        Words,
        InPlan(|plan, _| machine(plan, "witness").rules[0].services.clear()),
    ),
    twin(
        "a tunnel carries more than its profile says",
        &["N17"],
        Words,
        InPlan(|plan, _| {
            link(plan, "router-south", "south").tunnels[0].allowed_ips.push(net("10.0.0.0/8"));
        }),
    ),
    twin(
        "a tunnel has a default route without the internet",
        &["N17"],
        Words,
        InPlan(|plan, _| {
            link(plan, "router-south", "lab").tunnels[0].allowed_ips =
                vec![net("0.0.0.0/0"), net("::/0")];
        }),
    ),
    twin(
        "a tunnel carries less than its profile says",
        &["N17"],
        Words,
        InPlan(|plan, _| {
            let tunnel = &mut link(plan, "router-south", "south").tunnels[0];
            tunnel.allowed_ips.retain(|to| *to != net("fd3a:91c2:77e0:30::1/128"));
        }),
    ),
    twin(
        "a profile has no tunnel",
        &["N17"],
        Words,
        InPlan(|plan, _| {
            link(plan, "router-south", "lab").tunnels.clear();
        }),
    ),
    twin("more must sign than can", &["N18"], Words, Files(&[("threshold = 2", "threshold = 4")])),
    twin(
        "a name server is out of reach",
        &["N19"],
        Dropped,
        Files(&[("dns = [\"192.168.30.1\"]", "dns = [\"1.1.1.1\"]")]),
    ),
    twin(
        "a tunnel does not carry the way to the name server",
        &["N19", "N17"],
        Accepted,
        InPlan(|plan, _| {
            let tunnel = &mut link(plan, "router-south", "south").tunnels[0];
            tunnel.allowed_ips.retain(|to| *to != net("192.168.30.0/24"));
        }),
    ),
    twin(
        "clients are hidden that may not go out",
        &["N20"],
        Words,
        InPlan(|plan, _| machine(plan, "router-north").masquerade.push("north.split".into())),
    ),
    twin(
        "clients go out with private addresses",
        &["N20"],
        Accepted,
        InPlan(|plan, _| machine(plan, "nas").masquerade.clear()),
    ),
    twin(
        "one client of several goes out with a private address",
        &["N20"],
        Accepted,
        InPlan(|plan, _| {
            // The rule is for another set than the one that is translated, and a wider one.
            let router = machine(plan, "router-north");
            let full = router.set("north.full").to_vec();
            let prefixes = full[1..].to_vec();
            router.sets.push(AddressSet { name: "planted".into(), prefixes });
            router.sets.sort_by(|a, b| a.name.cmp(&b.name));
            router.masquerade = vec!["planted".into()];
            let rule = router.rules.iter().find(|rule| rule.id.ends_with("/full/internet"));
            let mut rule = rule.expect("a rule").clone();
            (rule.id, rule.source) = ("planted".into(), "planted".into());
            router.rules.push(rule);
        }),
    ),
    twin(
        "an operator without the internet goes to a server's public address",
        &["N20"],
        Accepted,
        Files(&[("management = [\"192.168.30.1\"]", "management = [\"9.9.9.9\"]")]),
    ),
    twin(
        "an operator goes to a server's public address of IPv6",
        &["N20"],
        Accepted,
        Files(&[(
            "management = [\"192.168.10.5\"]",
            "management = [\"192.168.10.5\", \"2620:fe::9\"]",
        )]),
    ),
];

/// The worked site with a defect: its intent, its plan, and the plan before it.
fn planted(defect: &Defect) -> (Intent, Plan, Plan) {
    let files = match defect {
        InPlan(_) => common::files(),
        Files(replacements) => replacements
            .iter()
            .fold(common::files(), |files, (from, to)| replace::replaced(&files, from, to)),
    };
    let intent = common::read(files);
    let (_, mut plan) = common::plan(&intent, None);
    let mut parent = common::plan(&common::office(), None).1;
    if let InPlan(plant) = defect {
        plant(&mut plan, &mut parent);
    }
    (intent, plan, parent)
}

/// Whether `rule` of some machine has this packet, by looking at prefixes one by one.
fn accepts(plan: &Plan, violation: &Violation) -> bool {
    let (Some(packet), Some(id)) = (&violation.packet, &violation.rule) else { return false };
    let has = |machine: &Machine, set: &str, address: std::net::IpAddr| {
        machine.set(set).iter().any(|net| net.contains(&address))
    };
    plan.machines.iter().any(|machine| {
        let mut own = machine.rules.iter().filter(|rule| rule.id == *id);
        own.any(|rule| {
            has(machine, &rule.source, packet.from)
                && has(machine, &rule.destination, packet.to)
                && rule.services.iter().any(|service| {
                    let at = u128::from(packet.protocol) << 16 | u128::from(packet.port);
                    service.set().contains(at)
                })
        })
    })
}

#[test]
fn each_defect_is_reported_under_its_id() {
    let mut wrong = Vec::new();
    for twin in TWINS {
        let (intent, plan, parent) = planted(&twin.defect);
        let found = prove(&plan, Some(&parent));
        let ids: BTreeSet<&str> = found.iter().map(|violation| violation.id).collect();
        if ids != twin.ids.iter().copied().collect() {
            wrong.push(format!("{}: wanted {:?}, found {found:#?}", twin.name, twin.ids));
            continue;
        }
        let shown = |shows: Shows| {
            found.iter().any(|violation| match shows {
                Words => true,
                Dropped => violation.packet.is_some() && violation.rule.is_none(),
                Accepted => accepts(&plan, violation),
            })
        };
        if !shown(twin.shows) {
            wrong.push(format!("{}: no {:?} in {found:#?}", twin.name, twin.shows));
        }
        for violation in &found {
            let fault = violation.diagnostic(&intent);
            if violation.rule.is_some() && !accepts(&plan, violation) {
                wrong.push(format!("{}: the rule does not accept it: {fault}", twin.name));
            }
            // What is written somewhere is shown there.
            let nowhere = match &violation.subject {
                Subject::Client { id } => ["nobody", "newcomer"].contains(&id.as_str()),
                Subject::Written { text } => {
                    ["::/0", "fd3a:91c2:77e0:ffff::/64"].contains(&text.as_str())
                }
                _ => false,
            };
            if fault.place.is_none() != nowhere {
                wrong.push(format!("{}: no place: {fault}", twin.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_invariant_has_a_twin() {
    let (_, plan, parent) = planted(&InPlan(|_, _| ()));
    assert_eq!(prove(&plan, Some(&parent)), [], "the worked site is sound");
    let tested: BTreeSet<&str> = TWINS.iter().map(|twin| twin.ids[0]).collect();
    // A second end that is as it should be is sound as well.
    let (_, plan, parent) = planted(&InPlan(|plan, _| {
        second(plan);
    }));
    assert_eq!(prove(&plan, Some(&parent)), []);
    for invariant in INVARIANTS {
        assert!(tested.contains(invariant.id), "{} has no twin", invariant.id);
    }
    let names: BTreeSet<&str> = TWINS.iter().map(|twin| twin.name).collect();
    assert_eq!(names.len(), TWINS.len(), "two twins have one name");
}

#[test]
fn ids_are_in_order_and_found_in_any_case() {
    let ids: Vec<&str> = INVARIANTS.iter().map(|invariant| invariant.id).collect();
    let expected: Vec<String> = (1..=INVARIANTS.len()).map(|n| format!("N{n:02}")).collect();
    assert_eq!(ids, expected);
    assert_eq!(vyr_plan::invariant("n07").map(|invariant| invariant.id), Some("N07"));
    assert!(vyr_plan::invariant("N99").is_none());
}

#[test]
fn the_internet_of_a_rule_is_the_whole_internet() {
    let (_, plan) = common::plan(&common::office(), None);
    let machine = plan.machine("router-north").expect("a machine");
    let set = Set::prefixes(machine.set(INTERNET));
    assert_eq!(set, vyr_plan::internet());
    assert!(!set.contains(point("10.0.0.1".parse().expect("an address"))));
}
