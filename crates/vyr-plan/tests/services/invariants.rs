//! Each invariant has seeded defects: the worked plan with one thing wrong, and the ids that must be
//! reported for it, no more and no fewer. Ids beside the first are those it cannot be had without.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vyr_base::Digest;
use vyr_base::form::Name;
use vyr_plan::services::{
    IngressRoute, Listener, Mode, Placed, PublicAddress, SERVICES_INVARIANTS, ServiceEntry,
    ServiceNode, ServicesPlan, prove_services, services_invariant,
};
use vyr_service::place::NodeState;
use vyr_service::release::Release;

use crate::shop::{plan, shop, with};

type Defect = fn(&mut ServicesPlan, &mut ServicesPlan);

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn node<'a>(plan: &'a mut ServicesPlan, name: &str) -> &'a mut ServiceNode {
    plan.nodes.iter_mut().find(|node| node.name.as_str() == name).expect(name)
}

fn service<'a>(plan: &'a mut ServicesPlan, name: &str) -> &'a mut ServiceEntry {
    plan.services.iter_mut().find(|of| of.name().as_str() == name).expect(name)
}

/// A change of a manifest that its release follows.
fn change(plan: &mut ServicesPlan, name: &str, change: impl FnOnce(&mut vyr_service::Manifest)) {
    let entry = service(plan, name);
    change(&mut entry.manifest);
    entry.release = Release::of(&entry.manifest, entry.image).id();
}

fn place<'a>(plan: &'a mut ServicesPlan, slot: &str) -> &'a mut Placed {
    plan.placements.iter_mut().find(|of| of.slot.to_string() == slot).expect(slot)
}

/// The node that has the database's raw port.
fn with_db(plan: &mut ServicesPlan) -> &mut ServiceNode {
    let of = place(plan, "db/db/0").node.to_string();
    node(plan, &of)
}

fn raw(node: &mut ServiceNode) -> &mut Listener {
    node.ingress.iter_mut().find(|of| of.mode == Mode::TcpRaw).expect("a raw port")
}

const TWINS: &[(&str, &[&str], Defect)] = &[
    ("a slot is nowhere", &["S01"], |plan, _| {
        plan.placements.retain(|of| of.slot.to_string() != "web/worker/0");
    }),
    ("a slot is on two nodes", &["S01"], |plan, _| {
        // A slot that nothing leads to; the other node has room for it.
        let mut of = place(plan, "web/worker/0").clone();
        of.node = name(if of.node.as_str() == "alpha" { "beta" } else { "alpha" });
        node(plan, of.node.as_str()).memory_bytes = 8 << 30;
        plan.placements.push(of);
    }),
    ("a slot is placed that nobody has", &["S01"], |plan, _| {
        let mut of = place(plan, "web/worker/0").clone();
        of.slot.ordinal = 7;
        node(plan, of.node.as_str()).memory_bytes = 8 << 30;
        plan.placements.push(of);
    }),
    ("more slots than anybody places", &["S01"], |plan, _| {
        let worker = service(plan, "web").manifest.processes[&name("worker")].clone();
        for number in 0..30 {
            let copy = vyr_service::manifest::Process { scale: 100, ..worker.clone() };
            change(plan, "web", |of| drop(of.processes.insert(name(&format!("p-{number}")), copy)));
        }
        let web = service(plan, "web").clone();
        for number in 0..4 {
            let mut copy = web.clone();
            copy.manifest.service = name(&format!("web-{number}"));
            copy.manifest.routes.clear();
            copy.release = Release::of(&copy.manifest, copy.image).id();
            plan.services.push(copy);
        }
    }),
    ("a slot is on a node that drains", &["S02"], |plan, _| {
        place(plan, "web/worker/0").node = name("gamma");
    }),
    ("a node that has slots is disabled", &["S02"], |plan, _| {
        node(plan, "alpha").state = NodeState::Disabled;
    }),
    ("a slot is on a node that is not there", &["S02"], |plan, _| {
        place(plan, "web/worker/0").node = name("omega");
    }),
    ("a node has less memory than its instances", &["S03"], |plan, _| {
        node(plan, "alpha").memory_bytes = 300 << 20;
    }),
    ("the overhead of an instance is forgotten", &["S03"], |plan, _| {
        let slots: Vec<String> =
            plan.slots_on(&name("alpha")).map(|slot| slot.process.to_string()).collect();
        let size = |process: &String| if process == "http" { 256 << 20 } else { 512 << 20 };
        node(plan, "alpha").memory_bytes = slots.iter().map(size).sum();
    }),
    ("another image than the release's", &["S04"], |plan, _| {
        service(plan, "web").image = Digest::of(b"another image");
    }),
    ("another manifest than the release's", &["S04"], |plan, _| {
        let process = service(plan, "web").manifest.processes.get_mut(&name("worker"));
        process.expect("a worker").command = Some(vec!["/bin/other".parse().expect("a word")]);
    }),
    ("another image than the manifest names", &["S04"], |plan, _| {
        let entry = service(plan, "db");
        entry.image = Digest::of(b"another image");
        entry.release = Release::of(&entry.manifest, entry.image).id();
    }),
    ("a hostname of two services", &["S05", "S09"], |plan, _| {
        let mut route = service(plan, "web").manifest.routes[0].clone();
        (route.port, route.process, route.to) = (8443, name("db"), name("db"));
        (route.proxy_protocol, route.default) = (true, false);
        change(plan, "db", |of| of.routes.push(route));
    }),
    ("a hostname that leads to two places of one service", &["S05", "S09", "S12"], |plan, _| {
        let mut route = service(plan, "web").manifest.routes[0].clone();
        (route.port, route.proxy_protocol, route.default, route.ipv4) = (8443, true, false, false);
        change(plan, "web", |of| of.routes.push(route));
    }),
    ("a port is raw for one and by name for another", &["S06", "S09"], |plan, _| {
        change(plan, "db", |of| of.routes[0].port = 443);
    }),
    ("a raw port of two services", &["S06", "S09"], |plan, _| {
        let mut route = service(plan, "db").manifest.routes[0].clone();
        (route.process, route.to) = (name("http"), name("tls"));
        route.port = 5432;
        change(plan, "web", |of| {
            route.proxy_protocol = false;
            of.routes.push(route);
        });
    }),
    ("two defaults of one port", &["S07", "S09"], |plan, _| {
        change(plan, "db", |of| {
            let route = &mut of.routes[0];
            (route.port, route.default) = (443, true);
            route.hostname = Some("db.example".parse().expect("a hostname"));
        });
    }),
    ("one address on two nodes", &["S08"], |plan, _| {
        let address = Ipv4Addr::new(203, 0, 113, 9);
        node(plan, "gamma").ipv4.push(PublicAddress { address, service: None });
    }),
    ("an address of a service that is gone", &["S08"], |plan, _| {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let service = Some(name("gone"));
        node(plan, "gamma").ipv4.push(PublicAddress { address, service });
    }),
    ("two addresses of one node for one service", &["S08", "S09"], |plan, _| {
        let free = node(plan, "alpha").ipv4.iter_mut().find(|of| of.service.is_none());
        free.expect("one is free").service = Some(name("web"));
    }),
    ("a service without the address that it asked for", &["S08", "S09"], |plan, _| {
        node(plan, "beta").ipv4[0].service = None;
    }),
    ("a way to a port that nobody declared", &["S09"], |plan, _| {
        raw(with_db(plan)).routes[0].internal = 22;
    }),
    ("a way of one service leads to another", &["S09"], |plan, _| {
        let route = &mut raw(with_db(plan)).routes[0];
        (route.service, route.process, route.internal) = (name("web"), name("http"), 8443);
    }),
    ("a way that is declared is not there", &["S09"], |plan, _| {
        with_db(plan).ingress.retain(|of| of.mode != Mode::TcpRaw);
    }),
    ("a way to where nothing is placed", &["S09"], |plan, _| {
        let one = raw(with_db(plan)).clone();
        node(plan, "gamma").ingress.push(one);
    }),
    ("a header that the process does not wait for", &["S09"], |plan, _| {
        let routes = &mut node(plan, "alpha").ingress;
        let named = routes.iter_mut().find(|of| of.mode == Mode::TlsPassthrough);
        named.expect("a port by name").routes[0].proxy_protocol = true;
    }),
    ("a raw way where names decide", &["S09"], |plan, _| {
        raw(with_db(plan)).mode = Mode::TlsPassthrough
    }),
    ("two nodes share the prefix of their instances", &["S10"], |plan, _| {
        node(plan, "beta").prefix = node(plan, "alpha").prefix;
    }),
    ("instances have the mesh's prefix", &["S10"], |plan, _| {
        node(plan, "alpha").prefix = "fd5e:40b1:9c22:ffff::/64".parse().expect("a prefix");
    }),
    ("instances have a prefix of somebody else's site", &["S10"], |plan, _| {
        node(plan, "alpha").prefix = "fd00::/64".parse().expect("a prefix");
    }),
    ("instances have more than a /64", &["S10"], |plan, _| {
        node(plan, "alpha").prefix = "fd5e:40b1:9c22::/56".parse().expect("a prefix");
    }),
    ("secrets that are required are not there", &["S11"], |plan, _| {
        service(plan, "web").secrets = None;
    }),
    ("secrets of a service that needs none", &["S11"], |plan, _| {
        service(plan, "db").secrets = Some(Digest::of(b"left over"));
    }),
    ("a manifest that no file could have", &["S12"], |plan, _| {
        change(plan, "web", |of| {
            let process = of.processes.get_mut(&name("worker")).expect("a worker");
            process.resources.memory_bytes = 1;
        });
    }),
    ("more operators must sign than there are", &["S13"], |plan, _| plan.trust.threshold = 4),
    ("a plan of another site", &["S14"], |_, parent| parent.site = name("other")),
    ("a plan of another prefix", &["S14"], |_, parent| {
        parent.prefix = "fd00:1:2::/48".parse().expect("a prefix");
    }),
];

fn ids(plan: &ServicesPlan, parent: &ServicesPlan) -> Vec<&'static str> {
    let found = prove_services(plan, Some(parent));
    found.iter().map(|of| of.id).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn each_seeded_defect_is_found_and_nothing_else() {
    let sound = plan(&shop(), None);
    assert_eq!(ids(&sound, &sound), Vec::<&str>::new());
    for (what, expected, defect) in TWINS {
        let (mut wrong, mut parent) = (sound.clone(), sound.clone());
        defect(&mut wrong, &mut parent);
        assert!((&wrong, &parent) != (&sound, &sound), "{what}: nothing was planted");
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let found = prove_services(&wrong, Some(&parent));
        assert_eq!(ids(&wrong, &parent), expected, "{what}: {found:#?}");
    }
}

#[test]
fn each_invariant_has_a_twin_and_an_explanation() {
    let planted: BTreeSet<&str> = TWINS.iter().map(|(_, ids, _)| ids[0]).collect();
    for invariant in SERVICES_INVARIANTS {
        assert!(planted.contains(invariant.id), "{} has no twin", invariant.id);
        assert!(!invariant.title.is_empty() && !invariant.why.is_empty());
        let of = services_invariant(&invariant.id.to_lowercase()).expect("it is found");
        assert_eq!(of.id, invariant.id);
    }
    let ids: Vec<&str> = SERVICES_INVARIANTS.iter().map(|of| of.id).collect();
    assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 3), "{ids:?}");
}

/// What a person wrote wrong is told with its place.
#[test]
fn a_violation_has_a_place_in_the_files() {
    let intent = with(&[("port = 5432", "port = 443")]);
    let lock = crate::shop::lock(&intent, &vyr_plan::Lock::default(), None);
    let plan = vyr_plan::services::compile_services(&intent, &lock, None, None).expect("a plan");
    let found = prove_services(&plan, None);
    let told = found.iter().map(|of| of.diagnostic(&intent).to_string()).collect::<Vec<_>>();
    assert!(found.iter().all(|of| of.id == "S06"), "{told:?}");
    assert!(told[0].contains("services/db.toml:7:"), "{}", told[0]);
    assert!(told[0].contains("give one of them another port"), "{}", told[0]);
}

/// The ways that a prover compares are all that a route is.
#[test]
fn each_part_of_a_way_is_looked_at() {
    let sound = plan(&shop(), None);
    let parts: [fn(&mut IngressRoute); 6] = [
        |of| of.hostname = Some("other.example".parse().expect("a hostname")),
        |of| of.service = name("db"),
        |of| of.process = name("worker"),
        |of| of.internal += 1,
        |of| of.default = !of.default,
        |of| of.proxy_protocol = !of.proxy_protocol,
    ];
    for part in parts {
        let mut wrong = sound.clone();
        part(&mut node(&mut wrong, "alpha").ingress[0].routes[0]);
        assert_eq!(ids(&wrong, &sound), ["S09"]);
    }
    let mut wrong = sound.clone();
    node(&mut wrong, "alpha").ingress[0].port += 1;
    assert_eq!(ids(&wrong, &sound), ["S09"]);
}
