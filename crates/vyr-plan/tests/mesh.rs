//! A node's key that takes over: other nodes know it before it is used.

#[expect(dead_code, reason = "one site is compiled here")]
mod common;

use common::{files, plan, read};
use vyr_base::Source;
use vyr_plan::intent::Key;
use vyr_plan::{Files, Plan, prove};

const SOUTH: &str = "public_key = \"MUHXueGx8dA/WO/jhZrpJJkyl8FmVHfPDi93WvHQhXI=\"";

/// The worked site in which the node `router-south` has this staged key.
fn staged(key: Key) -> Plan {
    let site = files().site.text().replace(SOUTH, &format!("{SOUTH}\nstaged_key = \"{key}\""));
    let intent = read(Files { site: Source::new("site.toml", site), ..files() });
    plan(&intent, None).1
}

fn broken(plan: &Plan) -> Vec<&'static str> {
    let mut ids: Vec<&str> = prove(plan, None).iter().map(|violation| violation.id).collect();
    ids.dedup();
    ids
}

#[test]
fn others_know_it_and_no_address_of_its_own_is_behind_it() {
    let key = Key::from_bytes([9; 32]);
    let staged = staged(key);
    assert_eq!(broken(&staged), Vec::<&str>::new());
    for machine in ["router-north", "witness"] {
        let link = staged.machine(machine).and_then(|of| of.link("mesh")).expect("a node");
        let peer = link.peers.iter().find(|peer| peer.public_key == key).expect("it is known");
        assert!(peer.id.as_str() == "router-south" && peer.allowed_ips.is_empty());
        // Who has nothing to send would not learn that it is in use.
        assert!(peer.endpoint.is_some() && peer.keepalive_s.is_some());
    }
    let own = staged.machine("router-south").and_then(|of| of.link("mesh")).expect("a node");
    assert!(own.staged_key == Some(key) && own.peers.iter().all(|peer| peer.public_key != key));
    let bytes = staged.to_bytes().expect("a plan");
    assert_eq!(Plan::parse(&bytes).expect("the same"), staged);
    // A plan without one has the bytes that it always had.
    let plain = plan(&read(files()), None).1;
    let bytes = plain.to_bytes().expect("a plan");
    assert!(!String::from_utf8(bytes).expect("JSON").contains("\"staged_key\":null,\"tunnels\""));
}

#[test]
fn planted_defects_are_found() {
    let key = Key::from_bytes([9; 32]);
    let mesh = |plan: &mut Plan, change: &dyn Fn(&mut vyr_plan::plan::Link)| {
        let links = plan.machines.iter_mut().filter(|of| of.name.as_str() == "witness");
        let links = links.flat_map(|of| &mut of.links).filter(|of| of.interface.as_str() == "mesh");
        links.for_each(change);
    };
    // It gets what is the active one's.
    let mut early = staged(key);
    mesh(&mut early, &|link| {
        let mut own = Vec::new();
        for peer in link.peers.iter_mut().filter(|peer| peer.id.as_str() == "router-south") {
            own.append(&mut peer.allowed_ips);
        }
        let new = link.peers.iter_mut().find(|peer| peer.public_key == key);
        new.expect("it is known").allowed_ips = own;
    });
    assert!(broken(&early).contains(&"N03"), "{:?}", broken(&early));
    // Somebody that no node names may shake hands.
    let mut stranger = staged(key);
    mesh(&mut stranger, &|link| {
        let new = link.peers.iter_mut().find(|peer| peer.public_key == key);
        new.expect("it is known").public_key = Key::from_bytes([8; 32]);
    });
    assert!(broken(&stranger).contains(&"N03"), "{:?}", broken(&stranger));
    // Another node's key.
    let other: Key = "kzefrzjSsRHnR68DMDqf2eEY39hPBdLFwb9ciddps2g=".parse().expect("a key");
    assert!(broken(&staged(other)).contains(&"N11"), "{:?}", broken(&staged(other)));
}
