//! Hostile bytes: a reader takes what a writer makes, and nothing else.

use proptest::prelude::*;
use serde_json::{Value, json};
use vyr_base::{Category, Digest, Problem};
use vyr_plan::plan::kind_of;
use vyr_plan::services::{SERVICES_BYTES_MAX, ServicesPlan};
use vyr_plan::{Document, Kind, Plan, PlanError};

use crate::shop::{plan, shop};

fn bytes() -> Vec<u8> {
    plan(&shop(), None).to_bytes().expect("bytes")
}

fn value() -> Value {
    serde_json::from_slice(&bytes()).expect("JSON")
}

fn written(value: &Value) -> Vec<u8> {
    vyr_base::canonical::to_vec(value).expect("canonical")
}

#[test]
fn a_plan_is_read_as_it_is_written() {
    let plan = plan(&shop(), None);
    let bytes = plan.to_bytes().expect("bytes");
    assert_eq!(ServicesPlan::parse(&bytes).expect("its own bytes"), plan);
    assert_eq!(kind_of(&bytes), Some(Kind::Services));
    let digest = Digest::of(&bytes);
    assert_eq!(plan.digest().expect("one"), digest);
    <ServicesPlan as Document>::parse_as(&bytes, &digest).expect("its own digest");
    let other = <ServicesPlan as Document>::parse_as(&bytes, &Digest::of(b"other"));
    assert_eq!(other.expect_err("another digest").category(), Category::Auth);
}

#[test]
fn each_kind_is_told_from_the_other() {
    let services = bytes();
    let refused = Plan::parse(&services).expect_err("no network plan");
    assert!(matches!(refused, PlanError::Kind { found: Kind::Services, .. }), "{refused}");
    let mut value = value();
    value["kind"] = json!("network");
    let refused = ServicesPlan::parse(&written(&value)).expect_err("of another kind");
    assert!(matches!(refused, PlanError::Kind { found: Kind::Network, .. }), "{refused}");
    value["kind"] = json!("storage");
    ServicesPlan::parse(&written(&value)).expect_err("of no kind");
}

#[test]
fn what_no_writer_makes_is_refused() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("another version", |of| of["version"] = json!(2)),
        ("an unknown field", |of| of["more"] = json!(1)),
        ("an unknown field of a node", |of| of["nodes"][0]["more"] = json!(1)),
        ("an unknown field of a manifest", |of| {
            of["services"][0]["manifest"]["build"] = json!(".")
        }),
        ("no nodes", |of| drop(of.as_object_mut().expect("an object").remove("nodes"))),
        ("nodes in another order", |of| of["nodes"].as_array_mut().expect("a list").reverse()),
        ("services in another order", |of| {
            of["services"].as_array_mut().expect("a list").reverse()
        }),
        ("slots in another order", |of| of["placements"].as_array_mut().expect("a list").reverse()),
        ("a slot twice", |of| {
            let one = of["placements"][0].clone();
            of["placements"].as_array_mut().expect("a list").insert(0, one);
        }),
        ("ways in another order", |of| {
            let nodes = of["nodes"].as_array_mut().expect("a list");
            let ingress = nodes.iter_mut().flat_map(|node| node["ingress"].as_array_mut());
            let lists = ingress.flatten().filter_map(|of| of["routes"].as_array_mut());
            lists.for_each(|routes| routes.reverse());
        }),
        ("where operators work from", |of| of["trust"]["from"] = json!(["10.0.0.0/8"])),
        ("a slot of another spelling", |of| of["placements"][0]["slot"] = json!("db/db/00")),
        ("a slot that is none", |of| of["placements"][0]["slot"] = json!("db")),
        ("an epoch with a fraction", |of| of["epoch"] = json!(1.5)),
        ("a negative port", |of| of["nodes"][0]["ingress"][0]["port"] = json!(-1)),
        ("a list for an object", |of| of["trust"] = json!([1, [], []])),
    ];
    let sound = value();
    for (what, change) in changes {
        let mut wrong = sound.clone();
        change(&mut wrong);
        assert_ne!(wrong, sound, "{what}: nothing was changed");
        let Ok(bytes) = vyr_base::canonical::to_vec(&wrong) else { continue };
        let refused = ServicesPlan::parse(&bytes).expect_err(what);
        assert_eq!(refused.category(), Category::Usage, "{what}: {refused}");
    }
    let text = String::from_utf8(bytes()).expect("UTF-8");
    for (what, text) in [
        ("a space", text.replace("\"epoch\":1", "\"epoch\": 1")),
        ("a key twice", text.replacen("{\"epoch\":1", "{\"epoch\":1,\"epoch\":1", 1)),
        ("an end that is missing", text[..text.len() - 1].to_owned()),
        ("a line at the end", format!("{text}\n")),
        ("nothing", String::new()),
        ("a number", "1".into()),
    ] {
        ServicesPlan::parse(text.as_bytes()).expect_err(what);
    }
    let refused = ServicesPlan::parse(&vec![b' '; SERVICES_BYTES_MAX + 1]).expect_err("too large");
    assert!(matches!(refused, PlanError::TooLarge(_)), "{refused}");
}

#[test]
fn more_than_can_be_proved_in_seconds_is_refused() {
    for list in ["nodes", "services", "placements"] {
        let mut value = value();
        let items = value[list].as_array_mut().expect("a list");
        *items = vec![items[0].clone(); 10_001];
        let refused = ServicesPlan::parse(&written(&value)).expect_err(list);
        assert!(matches!(refused, PlanError::TooMany { .. }), "{list}: {refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A touched plan is refused, or is another plan under another digest; the prover takes whatever
    /// the reader takes.
    #[test]
    fn a_touched_byte_is_never_the_same_plan(at in any::<prop::sample::Index>(), by in 1_u8..) {
        let sound = bytes();
        let mut touched = sound.clone();
        let at = at.index(touched.len());
        touched[at] ^= by;
        if let Ok(plan) = ServicesPlan::parse(&touched) {
            prop_assert_eq!(plan.to_bytes().expect("bytes"), touched);
            prop_assert_ne!(plan.digest().expect("one"), Digest::of(&sound));
            let _ = vyr_plan::services::prove_services(&plan, None);
        }
    }
}
