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
