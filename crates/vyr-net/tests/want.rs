//! What a plan wants of a machine, and the normal form of its firewall.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vyr_base::{Source, canonical};
use vyr_net::{
    Live, LiveLink, LivePeer, Observation, Ruleset, State, WantError, ops, union, wanted,
};
use vyr_plan::{Files, Lock, Plan, allocate, compile, render};

fn office() -> Plan {
    let site = include_str!("../../../examples/office/site.toml");
    let clients = include_str!("../../../examples/office/clients.toml");
    let files = Files {
        clients: Some(Source::new("clients.toml", clients.to_owned())),
        ..Files::new(Source::new("site.toml", site.to_owned()))
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    compile(&intent, &lock).expect("it compiles")
}

fn known(_: &str) -> Option<SocketAddr> {
    Some(([192, 0, 2, 9], 51820).into())
}

#[test]
fn a_machine_is_wanted_as_the_plan_has_it() {
    let plan = office();
    for machine in &plan.machines {
        let state = wanted(&plan, machine.name.as_str(), &known).expect("it is wanted");
        assert_eq!(state.links.len(), machine.links.len());
        for link in &machine.links {
            let of = state.link(&link.name).expect("it is there");
            assert!(of.up && of.public_key == Some(link.public_key));
            assert_eq!(u32::from(link.mtu), of.mtu);
            assert_eq!(of.peers.len(), link.peers.len());
            for peer in &link.peers {
                let found = of.peer(&peer.public_key).expect("it is there");
                assert_eq!(found.endpoint.is_some(), peer.endpoint.is_some());
                assert_eq!(found.allowed_ips.len(), peer.allowed_ips.len());
            }
        }
        // The same from the same, and its document is read back.
        let again = wanted(&plan, machine.name.as_str(), &known).expect("it is wanted");
        assert_eq!(again.digest().expect("integers"), state.digest().expect("integers"));
        let bytes = canonical::to_vec(&state).expect("integers");
        assert_eq!(canonical::parse::<State>(&bytes).expect("canonical"), state);
    }
}

/// Two nodes of one key: others hear the peer now here, now there, and the plan knows one place.
#[test]
fn a_peer_that_was_heard_elsewhere_is_named() {
    let plan = office();
    let meshed = |machine: &&vyr_plan::plan::Machine| {
        machine.links.iter().any(|link| link.peers.iter().any(|peer| peer.endpoint.is_some()))
    };
    let machine = plan.machines.iter().find(meshed).expect("the mesh has some");
    let want = wanted(&plan, machine.name.as_str(), &known).expect("it is wanted");
    let (link, peer) = want
        .links
        .iter()
        .find_map(|link| Some((link, link.peers.iter().find(|peer| peer.endpoint.is_some())?)))
        .expect("the mesh has some");
    let differences = |elsewhere: Option<SocketAddr>| {
        let mut state = want.clone();
        let mut live = Live::default();
        for link in &mut state.links {
            let heard = |of: &mut vyr_net::Peer| LivePeer {
                public_key: of.public_key,
                // What is read of a host has endpoints in `live` alone.
                endpoint: match (of.public_key == peer.public_key, of.endpoint.take()) {
                    (true, declared) => elsewhere.or(declared),
                    (false, declared) => declared,
                },
                handshake_unix_s: None,
                rx_bytes: 0,
                tx_bytes: 0,
            };
            let peers = link.peers.iter_mut().map(heard).collect();
            live.links.push(LiveLink { name: link.name.clone(), peers });
        }
        let found = Observation { state, live }.state_for(&want);
        ops(&found, &want).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(differences(None), Vec::<String>::new());
    let told = differences(Some(([198, 51, 100, 7], 51820).into()));
    assert_eq!(told.len(), 1, "{told:?}");
    let (name, key) = (link.name.as_str(), peer.public_key.to_string());
    assert!(told[0].contains(name) && told[0].contains(&key), "{told:?}");
    assert!(told[0].contains("endpoint 192.0.2.9:51820"), "{told:?}");
}

#[test]
fn what_cannot_be_wanted_is_told() {
    let plan = office();
    let missing = wanted(&plan, "nowhere", &known);
    assert!(matches!(missing, Err(WantError::NoMachine(_))), "{missing:?}");
    let nobody = |_: &str| None;
    let with_names = plan.machines.iter().find(|machine| {
        machine.links.iter().any(|link| link.peers.iter().any(|peer| peer.endpoint.is_some()))
    });
    let name = with_names.expect("the mesh has some").name.to_string();
    let unknown = wanted(&plan, &name, &nobody);
    assert!(matches!(unknown, Err(WantError::Endpoint { .. })), "{unknown:?}");
    let mut twice = plan.clone();
    let machine = twice.machines.iter_mut().find(|machine| machine.links.len() > 1).expect("one");
    machine.links[1].listen_port = machine.links[0].listen_port;
    let name = machine.name.to_string();
    let wrong = wanted(&twice, &name, &known);
    assert!(matches!(wrong, Err(WantError::State(_))), "{wrong:?}");
}

fn tables() -> Vec<Ruleset> {
    let plan = office();
    let text = |machine| render::firewall(machine).expect("it renders");
    plan.machines.iter().map(|one| Ruleset::from_transaction(&text(one)).expect("ours")).collect()
}

#[test]
fn a_table_has_one_form() {
    for table in tables() {
        assert_eq!(Ruleset::from_transaction(&table.transaction()).expect("ours"), table);
        // As nft would list it: handles, counts, other orders.
        let mut objects: Vec<Value> = table.clone().into();
        objects.reverse();
        // Rules are in their order again.
        objects.sort_by_key(|object| object.get("rule").is_some());
        let (others, mut rules): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object.get("rule").is_none());
        rules.reverse();
        let mut listing = vec![json!({"metainfo": {"version": "1.1.1"}})];
        listing.extend(others.into_iter().chain(rules).enumerate().map(|(at, mut object)| {
            let fields = object.as_object_mut().expect("an object");
            let (_, inner) = fields.iter_mut().next().expect("one kind");
            inner["handle"] = at.into();
            let text = object.to_string();
            let text =
                text.replace("{\"counter\":null}", "{\"counter\":{\"packets\":5,\"bytes\":9}}");
            serde_json::from_str(&text).expect("JSON")
        }));
        let listing = json!({ "nftables": listing }).to_string();
        assert_eq!(Ruleset::from_listing(listing.as_bytes()).expect("ours"), table);
    }
}

#[test]
fn a_rule_in_another_place_is_another_table() {
    let table = &tables()[0];
    let mut objects: Vec<Value> = table.clone().into();
    let last = objects.len() - 1;
    assert!(objects[last].get("rule").is_some() && objects[last - 1].get("rule").is_some());
    objects.swap(last, last - 1);
    assert_ne!(Ruleset::try_from(objects).expect("its form is good"), *table);
}

#[test]
fn what_is_not_our_table_is_refused() {
    let table = json!({"table": {"family": "inet", "name": "vyr"}});
    let good =
        vec![table.clone(), json!({"chain": {"family": "inet", "table": "vyr", "name": "c"}})];
    Ruleset::try_from(good.clone()).expect("ours");
    let mut deep = json!(1);
    for _ in 0..50 {
        deep = json!([deep]);
    }
    for bad in [
        json!({"chain": {"family": "ip", "table": "vyr", "name": "c"}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "c"}}),
        json!({"delete": {"table": {"family": "ip", "name": "filter"}}}),
        json!({"flush": {"ruleset": null}}),
        json!({"chain": {"family": "inet", "table": "vyr", "name": "c"}, "rule": {}}),
        json!({"rule": {"family": "inet", "table": "vyr", "chain": "c", "expr": deep}}),
        good[1].clone(),
        table.clone(),
        json!("x"),
    ] {
        let mut objects = good.clone();
        objects.push(bad.clone());
        assert!(Ruleset::try_from(objects).is_err(), "{bad}");
    }
    assert!(Ruleset::try_from(Vec::new()).is_err());
    for text in ["", "{}", "[]", r#"{"nftables":{}}"#, r#"{"nftables":[1]}"#] {
        assert!(Ruleset::from_listing(text.as_bytes()).is_err(), "{text}");
    }
    let flushes = r#"{"nftables":[{"flush":{"ruleset":null}}]}"#;
    assert!(Ruleset::from_transaction(flushes).is_err());
}

#[test]
fn a_union_has_no_name_twice_and_each_reference_its_target() {
    let all = tables();
    for old in &all {
        for new in &all {
            let both: Vec<Value> = union(old, new).into();
            let mut names = Vec::new();
            for object in &both {
                for kind in ["chain", "set"] {
                    names.extend(object[kind]["name"].as_str().map(str::to_owned));
                }
            }
            let text = json!(both).to_string();
            for piece in text.split("\"target\":\"").skip(1).chain(text.split("\"@").skip(1)) {
                let name = piece.split('"').next().expect("it ends");
                assert!(names.contains(&name.to_owned()), "{name} is nowhere");
            }
        }
    }
}

#[test]
fn both_and_one_of_them_is_both() {
    let all = tables();
    for old in &all {
        for new in &all {
            let both = union(old, new);
            for one in [old, new] {
                assert_eq!(union(&both, one), both);
                assert_eq!(union(one, &both), both);
            }
        }
    }
    // One that has a rule more in its place is another: both are needed again.
    let (old, new) = (&all[0], &all[1]);
    let both = union(old, new);
    let mut objects: Vec<Value> = both.clone().into();
    objects.push(json!({"rule": {
        "family": "inet", "table": "vyr", "chain": "o.input", "expr": [{"accept": null}],
    }}));
    let wider = Ruleset::try_from(objects).expect("its form is good");
    assert_eq!(union(&wider, old).rules(), wider.rules() + old.rules());
    assert_eq!(union(&wider, new), wider);
}
