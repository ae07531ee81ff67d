//! Who may be a worker, and what becomes of the blocks of those who are not any more.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use morpheus::{Guidance, GuidanceError, Options, Reason, Tier, checkpoint, is_registered};

use crate::place::{LONG, Place, acknowledged, until};

#[test]
fn a_thread_has_one_block_and_a_block_one_thread() {
    let place = Place::new(2);
    let first = place.guidance.register().expect("a block");
    assert!(matches!(place.guidance.register(), Err(GuidanceError::Registered)));
    let number = first.number();
    let registrar = place.guidance.registrar();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let second = registrar.register().expect("the other block");
            assert_ne!(second.number(), number);
            assert!(registrar.report().workers.iter().all(|worker| worker.registered));
            let third = scope.spawn(|| registrar.register().map(|_| ()));
            let third = third.join().expect("it ends");
            assert!(matches!(third, Err(GuidanceError::Full(2))), "{third:?}");
        });
    });
    assert_eq!(place.guidance.report().workers.iter().filter(|w| w.registered).count(), 1);
}

#[test]
fn blocks_are_used_again_for_other_generations() {
    let place = Place::new(1);
    let generation = || place.blocks.get(0).expect("a block").hints.generation.load(Relaxed);
    let mut seen = vec![generation()];
    for _ in 0..10 {
        let worker = place.guidance.register().expect("the block is free again");
        assert_eq!(worker.number(), 0);
        assert!(!checkpoint(), "a hint for who was there before");
        assert!(!seen.contains(&generation()), "a generation comes twice");
        seen.push(generation());
        assert!(place.hint(0, Reason::Slice), "it stays outstanding");
        drop(worker);
        assert!(!is_registered());
        assert_eq!(generation(), 0, "nobody's");
    }
    assert_eq!(acknowledged(&place.report(0)), 0, "they were for nobody");
}

#[test]
fn a_thread_that_the_agent_refuses_is_not_registered_and_leaves_its_block() {
    let place = Place::with(Options { workers: 1, ..Options::default() }, Some(0));
    for _ in 0..2 {
        let refused = place.guidance.register();
        assert!(
            matches!(&refused, Err(GuidanceError::Refused(why)) if why == "not that block"),
            "{refused:?}"
        );
        assert!(!is_registered());
        assert!(!place.report(0).registered);
    }
}

#[test]
fn there_are_as_many_workers_as_an_agent_can_have() {
    for workers in [0, 1_025, usize::MAX] {
        let off = Guidance::off(Options { workers, ..Options::default() });
        assert!(matches!(off, Err(GuidanceError::System(..))), "{workers}: {off:?}");
    }
    for workers in [1, 1_024] {
        let place = Place::new(workers);
        assert_eq!(place.guidance.report().workers.len(), workers);
    }
}

#[test]
fn when_the_agent_ends_a_timer_takes_over_and_counts_for_itself() {
    let fallback = Some(Duration::from_millis(1));
    let options = Options { workers: 1, slice_ns: 10_000, fallback, ..Options::default() };
    let mut place = Place::with(options, None);
    let _worker = place.guidance.register().expect("a block");
    assert!(place.hint(0, Reason::Slice));
    assert!(checkpoint());
    assert_eq!(place.guidance.tier(), Tier::Observe);
    place.end();
    until("the timer takes over", || place.guidance.tier() == Tier::Timer);
    assert!(place.guidance.why().contains("agent has gone"), "{}", place.guidance.why());
    for _ in 0..3 {
        until("a hint of the timer", checkpoint);
    }
    let report = place.report(0);
    assert!(report.timer_hints >= 3, "{report:?}");
    assert_eq!(report.kernel_hints, 1, "the timer's hints are not the kernel's");
    // Others can come and go without it.
    let registrar = place.guidance.registrar();
    let other = std::thread::spawn(move || registrar.register().map(|_| ()));
    assert!(matches!(other.join().expect("it ends"), Err(GuidanceError::Full(1))));
}

#[test]
fn without_a_fallback_nobody_takes_over() {
    let options = Options { workers: 1, slice_ns: 10_000, fallback: None, ..Options::default() };
    let mut place = Place::with(options, None);
    let worker = place.guidance.register().expect("a block");
    place.end();
    until("it is noticed", || place.guidance.tier() == Tier::Off);
    assert!(!checkpoint());
    drop(worker);
    let worker = place.guidance.register().expect("a block, for nobody's hints");
    assert!(!checkpoint());
    drop(worker);
}

#[test]
fn where_no_agent_is_the_error_says_where() {
    let nowhere = std::path::Path::new("/no/such/agent.sock");
    let error = Guidance::connect(nowhere, Options::default()).expect_err("nobody is there");
    assert!(error.to_string().contains("/no/such/agent.sock"), "{error}");
}

/// A guidance that nobody stops waits for nobody: it must not take long, whoever holds what.
#[test]
fn a_guidance_ends_with_its_thread() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(Guidance::timer(Options::default(), Duration::from_secs(3_600)).expect("a timer"));
        done.send(()).expect("somebody waits");
    });
    is_done.recv_timeout(LONG).expect("it ends");
}
