//! One plan for one intent, placements that stay, ways in.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vyr_base::Digest;
use vyr_plan::Lock;
use vyr_plan::services::{ServicesPlan, compile_services, service_prefix};

use crate::shop::{applied, lock, plan, read, shop, texts, with};

fn slots(plan: &ServicesPlan) -> BTreeMap<String, String> {
    let of = plan.placements.iter();
    of.map(|of| (of.slot.to_string(), of.node.to_string())).collect()
}

/// Every way in, as `node address port host service/process`.
fn ways(plan: &ServicesPlan) -> Vec<String> {
    let mut all = Vec::new();
    for node in &plan.nodes {
        for of in &node.ingress {
            for route in &of.routes {
                let host = route.hostname.as_ref().map_or("raw", |name| name.as_str());
                let (name, address, port) = (&node.name, of.address, of.port);
                let (service, process) = (&route.service, &route.process);
                all.push(format!("{name} {address} {port} {host} {service}/{process}"));
            }
        }
    }
    all
}

#[test]
fn the_worked_site_becomes_slots_and_ways() {
    let plan = plan(&shop(), None);
    assert_eq!((plan.epoch, plan.parent, plan.network), (1, None, None));
    assert_eq!((plan.trust.threshold, plan.trust.operators.len()), (1, 3));
    let expected = [
        ("db/db/0", "alpha"),
        ("web/http/0", "alpha"),
        ("web/http/1", "beta"),
        ("web/worker/0", "alpha"),
    ];
    let slots = slots(&plan);
    assert_eq!(slots.keys().collect::<Vec<_>>(), expected.map(|(slot, _)| slot).to_vec());
    assert!(slots.values().all(|node| node != "gamma"), "who drains gets none: {slots:?}");
    let both: Vec<&String> = ["web/http/0", "web/http/1"].map(|slot| &slots[slot]).to_vec();
    assert_ne!(both[0], both[1], "two of one service are spread");
    for node in ["alpha", "beta"] {
        let here =
            ways(&plan).iter().filter(|way| way.starts_with(node)).cloned().collect::<Vec<_>>();
        let four = if node == "alpha" { "198.51.100." } else { "203.0.113.9" };
        assert!(here.contains(&format!("{node} :: 443 shop.example web/http")), "{here:?}");
        assert!(here.contains(&format!("{node} :: 443 www.shop.example web/http")), "{here:?}");
        let own: Vec<&String> = here.iter().filter(|way| way.contains(four)).collect();
        assert_eq!(own.len(), 1, "what asked for it has IPv4, nothing else: {here:?}");
        assert!(own[0].contains("www.shop.example"), "{own:?}");
    }
    let raw = format!("{} :: 5432 raw db/db", slots["db/db/0"]);
    let of_db: Vec<String> = ways(&plan).into_iter().filter(|way| way.contains("5432")).collect();
    assert_eq!(of_db, [raw], "a way is where its instances are, and nowhere else");
}

#[test]
fn a_plan_names_the_network_that_it_needs() {
    let intent = shop();
    let lock = lock(&intent, &Lock::default(), None);
    let network = Digest::of(b"a network plan");
    let of = |network| compile_services(&intent, &lock, None, network).expect("it compiles");
    assert_eq!(of(Some(network)).network, Some(network));
    assert_ne!(of(Some(network)).digest().expect("one"), of(None).digest().expect("one"));
}

#[test]
fn what_runs_stays_where_it_is() {
    let first = plan(&shop(), None);
    let mut swapped = first.clone();
    let two: Vec<usize> = (0..swapped.placements.len())
        .filter(|at| swapped.placements[*at].slot.process.as_str() == "http")
        .collect();
    let nodes = [1, 0].map(|at: usize| first.placements[two[at]].node.clone());
    assert_ne!(nodes[0], nodes[1], "there is something to swap");
    for (at, node) in two.iter().zip(nodes) {
        swapped.placements[*at].node = node;
    }
    let next = plan(&shop(), Some(&applied(swapped.clone())));
    assert_eq!(slots(&next), slots(&swapped), "not where each would be put first");
    assert_eq!((next.epoch, next.parent.is_some()), (2, true));
}

/// A text in another order and another layout that means the same.
fn rearranged(text: &str, seed: u64) -> String {
    let table: toml::Table = text.parse().expect("TOML");
    let lines = shuffled(&table, seed).into_iter();
    let lines = lines.map(|(key, value)| format!("{key} =  {}\n", inline(value, seed)));
    format!("# another hand\n{}", lines.collect::<String>())
}

/// The keys of a table in an order of `seed`.
fn shuffled(table: &toml::Table, seed: u64) -> Vec<(&String, &toml::Value)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| Digest::of(format!("{seed} {key}").as_bytes()));
    keys
}

/// A value on one line. Lists of tables (routes, ports) have no order of their own.
fn inline(value: &toml::Value, seed: u64) -> String {
    match value {
        toml::Value::Table(table) => {
            let fields = shuffled(table, seed).into_iter();
            let fields = fields.map(|(key, value)| format!("{key} = {}", inline(value, seed)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        toml::Value::Array(items) => {
            let mut texts: Vec<String> = items.iter().map(|item| inline(item, seed)).collect();
            if items.iter().all(toml::Value::is_table) {
                texts.sort_by_key(|text| Digest::of(format!("{seed} {text}").as_bytes()));
            }
            format!("[{}]", texts.join(", "))
        }
        toml::Value::String(text) => format!("{text:?}"),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(date) => panic!("no file has a date: {date}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_intent_is_the_same_plan(seed in any::<u64>()) {
        let mut texts = texts();
        for text in texts.values_mut() {
            *text = rearranged(text, seed);
        }
        let again = plan(&read(&texts), None).to_bytes().expect("bytes");
        prop_assert_eq!(&again, &plan(&shop(), None).to_bytes().expect("bytes"));
        let text = texts.get_mut("services/web.toml").expect("it is there");
        *text = text.replace("TLS_KEY", "TLS_KEYS");
        let other = plan(&read(&texts), None).to_bytes().expect("bytes");
        prop_assert_ne!(other, again, "another meaning is another plan");
    }
}

#[test]
fn a_slot_without_room_is_told_with_a_reason_for_each_node() {
    let intent = with(&[(
        "[processes.worker]\nresources = { memory = \"512Mi\" }",
        "[processes.worker]\nresources = { memory = \"4Gi\" }",
    )]);
    let lock = lock(&intent, &Lock::default(), None);
    let faults = compile_services(&intent, &lock, None, None).expect_err("it fits nowhere");
    let told = faults[0].to_string();
    assert_eq!(faults.len(), 1, "{told}");
    for word in ["web/worker/0", "no_capacity_memory", "alpha: ", "beta: ", "gamma: ", "web.toml:7"]
    {
        assert!(told.contains(word), "{word} in {told}");
    }
    let none =
        with(&[("memory = \"2304Mi\"\ncpu = 2\n", ""), ("memory = \"512Mi\"\ncpu = 1\n", "")]);
    let faults = compile_services(&none, &Lock::default(), None, None).expect_err("nowhere");
    assert!(faults[0].what.contains("no_nodes_active"), "{}", faults[0]);
}

#[test]
fn a_nodes_prefix_is_its_own_and_comes_from_its_name() {
    let plan = plan(&shop(), None);
    for node in &plan.nodes {
        assert_eq!(node.prefix, service_prefix(&plan.prefix, &node.name));
        assert!(plan.prefix.contains(&ipnet::IpNet::from(node.prefix)), "{}", node.prefix);
    }
}

#[test]
fn every_fault_of_every_file_is_told_at_once() {
    let mut texts = texts();
    let mut change = |name: &str, from: &str, to: &str| {
        let text = texts.get_mut(name).expect("it is there");
        *text = text.replace(from, to);
    };
    change("site.toml", "cpu = 1\n", "cpu = 0\n");
    change("services/web.toml", "internal = 8443", "internal = 0");
    change("services/db.toml", "[processes.db]", "[procesess.db]");
    let faults = crate::shop::files(&texts).read().expect_err("they are wrong");
    let files: Vec<&str> =
        faults.iter().filter_map(|fault| Some(fault.place.as_ref()?.file.as_str())).collect();
    for file in ["site.toml", "services/db.toml", "services/web.toml"] {
        assert!(files.contains(&file), "{file} in {files:?}");
    }
}

#[test]
fn a_services_name_is_its_files() {
    let mut texts = texts();
    let web = texts.remove("services/web.toml").expect("it is there");
    texts.insert("services/Web_2.toml".into(), web);
    let faults = crate::shop::files(&texts).read().expect_err("no name");
    assert!(faults.iter().any(|fault| fault.id == "service-name"), "{}", faults[0]);
}
