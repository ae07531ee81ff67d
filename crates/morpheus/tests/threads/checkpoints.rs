//! When a checkpoint says yes, and what a thread's block shows of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use morpheus::{
    Block, Reason, State, Yield, checkpoint, critical, in_critical, in_host_call, is_registered,
};
use proptest::prelude::*;

use crate::place::{Place, acknowledged};

#[test]
fn a_thread_that_is_not_registered_is_never_asked() {
    let place = Place::new(1);
    assert!(place.hint(0, Reason::Slice), "a block that nobody has");
    assert!(!is_registered());
    assert!((0..1_000).all(|_| !checkpoint()));
    assert!(!critical(checkpoint));
    morpheus::note_yield(Yield::Asked);
    assert_eq!(place.report(0).yields, [(Yield::Hint, 0), (Yield::Budget, 0), (Yield::Asked, 0)]);
}

#[test]
fn a_hint_is_answered_once_and_counted() {
    let place = Place::new(1);
    let worker = place.guidance.register().expect("a block");
    assert!(is_registered());
    assert!(!checkpoint(), "nobody hinted");
    for reason in [Reason::Slice, Reason::Wakeup] {
        assert!(place.hint(worker.number(), reason));
        assert!(!place.hint(worker.number(), Reason::Backlog), "a second one is not outstanding");
        assert!(checkpoint());
        assert!(!checkpoint(), "it was acknowledged");
    }
    morpheus::note_yield(Yield::Asked);
    let report = place.report(worker.number());
    assert_eq!((report.kernel_hints, report.dropped, acknowledged(&report)), (2, 2, 2));
    assert_eq!(report.yields, [(Yield::Hint, 2), (Yield::Budget, 0), (Yield::Asked, 1)]);
    assert_eq!(report.latencies.count(), 2);
    let of = |reason| report.acknowledged.iter().find(|(r, _)| *r == Some(reason)).map(|(_, n)| *n);
    assert_eq!(
        (of(Reason::Slice), of(Reason::Wakeup), of(Reason::Backlog)),
        (Some(1), Some(1), Some(0))
    );
}

#[test]
fn in_a_critical_section_nobody_is_asked_and_the_hint_waits() {
    let place = Place::new(1);
    let worker = place.guidance.register().expect("a block");
    // Twice: in the twin, without the section, the same hint is answered at once.
    for is_critical in [true, false] {
        assert!(place.hint(worker.number(), Reason::Slice));
        if is_critical {
            critical(|| {
                assert!(!checkpoint());
                critical(|| assert!(!checkpoint(), "in the inner one"));
                assert!(!checkpoint(), "after the inner one");
                let panic = catch_unwind(AssertUnwindSafe(|| critical(|| panic!("on purpose"))));
                assert!(panic.is_err());
                assert!(in_critical(), "a panic ended the outer one");
                assert!(!checkpoint(), "after the one that panicked");
            });
        }
        assert!(checkpoint(), "the hint waited");
        assert!(!checkpoint());
    }
    let panic = catch_unwind(|| critical(|| panic!("on purpose")));
    assert!(panic.is_err() && !in_critical());
    let report = place.report(worker.number());
    assert_eq!((report.kernel_hints, acknowledged(&report), report.deferred), (2, 2, 4));
}

#[test]
fn a_host_call_is_one_level_however_often_it_is_said() {
    let place = Place::new(1);
    let worker = place.guidance.register().expect("a block");
    assert!(place.hint(worker.number(), Reason::Slice));
    in_host_call(true);
    in_host_call(true);
    assert!(critical(|| !checkpoint()) && !checkpoint());
    in_host_call(false);
    assert!(!in_critical());
    in_host_call(false);
    assert!(!in_critical() && checkpoint());
}

#[test]
fn the_block_shows_how_deep_a_thread_is() {
    let place = Place::new(1);
    let block = place.blocks.get(0).expect("a block");
    let depth = || block.runtime.critical_depth.load(Relaxed);
    critical(|| {
        assert_eq!(depth(), 0, "nobody has it");
        let worker = place.guidance.register().expect("a block");
        assert_eq!(depth(), 1, "registered in a section");
        critical(|| assert_eq!(depth(), 2));
        assert_eq!(depth(), 1);
        std::mem::forget(worker);
    });
    assert_eq!(depth(), 0);
    in_host_call(true);
    assert_eq!(depth(), 1);
    in_host_call(false);
    assert_eq!(depth(), 0);
}

#[test]
fn the_block_shows_what_a_worker_asks_for() {
    let place = Place::new(1);
    let worker = place.guidance.register().expect("a block");
    let Block { hints, runtime } = place.blocks.get(0).expect("a block");
    assert_eq!(runtime.state.load(Relaxed), State::Running as u32);
    worker.set_slice_ns(77_000);
    worker.set_backlog(true);
    worker.set_idle(true);
    assert_eq!(runtime.slice_ns.load(Relaxed), 77_000);
    assert_eq!(runtime.backlog.load(Relaxed), 1);
    assert_eq!(runtime.state.load(Relaxed), State::Idle as u32);
    let turn = runtime.turn_ns.load(Relaxed);
    worker.set_idle(false);
    worker.set_backlog(false);
    assert_eq!(runtime.state.load(Relaxed), State::Running as u32);
    assert_eq!(runtime.backlog.load(Relaxed), 0);
    let began = runtime.turn_ns.load(Relaxed);
    assert!(began >= turn, "a slice begins with work");
    worker.turn();
    assert!(runtime.turn_ns.load(Relaxed) >= began);
    hints.budget_remaining_ns.store(5, Relaxed);
    hints.pressure.store(2_500, Relaxed);
    assert_eq!(worker.budget_remaining_ns(), 5);
    assert!((worker.pressure() - 0.25).abs() < 1e-9);
    drop(worker);
    assert_eq!(runtime.state.load(Relaxed), State::Free as u32);
}

fn scribble(block: &Block, numbers: &[u64; 22]) {
    let mut next = numbers.iter().copied();
    let mut long = || next.next().expect("a number for each field");
    let Block { hints, runtime } = block;
    for field in [
        &hints.hint_ns,
        &hints.budget_remaining_ns,
        &hints.kernel,
        &hints.psi,
        &hints.timer,
        &hints.dropped,
        &hints.looks,
        &hints.critical_looks,
        &hints.deadline_ns,
        &runtime.slice_ns,
        &runtime.turn_ns,
        &runtime.yields,
    ] {
        field.store(long(), Relaxed);
    }
    for field in [
        &hints.preempt_seq,
        &hints.reason,
        &hints.pressure,
        &hints.generation,
        &runtime.ack_seq,
        &runtime.critical_depth,
        &runtime.state,
        &runtime.escapable,
        &runtime.backlog,
        &runtime.yield_reason,
    ] {
        let [a, b, c, d, ..] = long().to_le_bytes();
        field.store(u32::from_le_bytes([a, b, c, d]), Relaxed);
    }
}

#[test]
fn whatever_is_in_a_block_nobody_panics() {
    let place = Place::new(2);
    let worker = place.guidance.register().expect("a block");
    let block = place.blocks.get(worker.number()).expect("a block");
    let number = prop_oneof![any::<u64>(), 0..6_u64, Just(u64::MAX)];
    let cases = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) };
    proptest!(cases, |(numbers in proptest::array::uniform22(number), now in any::<u64>())| {
        scribble(block, &numbers);
        let outstanding = block.is_outstanding();
        prop_assert!(!critical(checkpoint));
        prop_assert_eq!(checkpoint(), outstanding);
        prop_assert!(!checkpoint(), "one answer made it whole");
        prop_assert!(worker.pressure() <= 1.0);
        let _ = (worker.budget_remaining_ns(), block.age_ns(now), block.is_over_slice(now));
        prop_assert!((10_000..=1_000_000_000).contains(&block.slice_ns()));
        morpheus::note_yield(Yield::Budget);
        prop_assert!(place.hint(worker.number(), Reason::Slice));
        prop_assert!(checkpoint());
        let report = place.report(worker.number());
        prop_assert!(report.latencies.quantile_ns(0.99).is_some());
        let _ = format!("{report:?}");
    });
}
