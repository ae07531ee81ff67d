//! The worked site compiles, holds its invariants and keeps its contracts.

mod common;

use vyr_plan::{Lock, Plan, prove, run_contracts};

#[test]
fn the_worked_site_is_sound() {
    let intent = common::office();
    let (lock, plan) = common::plan(&intent, None);
    assert_eq!(lock.stale(&intent, None), []);
    assert_eq!(prove(&plan, None), []);
    for outcome in run_contracts(&intent, &plan, None) {
        assert_eq!(outcome.broken, None, "{}", outcome.name);
    }
    let bytes = plan.to_bytes().expect("canonical");
    assert_eq!(Plan::parse(&bytes).expect("its own bytes"), plan);
}

#[test]
fn a_lock_is_read_as_it_was_written() {
    let intent = common::office();
    let (lock, _) = common::plan(&intent, None);
    let source = vyr_base::Source::new("vyr.lock", lock.to_string());
    assert_eq!(Lock::parse(&source).expect("its own text"), lock);
}

#[test]
fn owners_are_in_no_plan() {
    let (_, plan) = common::plan(&common::office(), None);
    let with = |old: &str, new: &str| {
        let mut files = common::files();
        let text = files.clients.as_ref().expect("an inventory").text().replace(old, new);
        files.clients = Some(vyr_base::Source::new("clients.toml", text));
        common::plan(&common::read(files), None).1
    };
    // An inventory is people's; who holds a device changes nothing that is derived.
    assert_eq!(with("owner = \"Ana\"", "owner = \"Zoe Quill\""), plan);
    // The judge sees another device.
    assert_ne!(with("ben-phone", "ben-watch"), plan);
    let bytes = String::from_utf8(plan.to_bytes().expect("canonical")).expect("JSON");
    assert!(!bytes.contains("owner") && !bytes.contains("Ana") && bytes.contains("ana-laptop"));
}
