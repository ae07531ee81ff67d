//! Bells: a thread is woken for hints of its own process, and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use morpheus::Options;
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, answers, hog, pin, turns};

#[test]
fn a_bell_rings_for_hints_of_its_process_only() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let rung = Arc::new(AtomicU64::new(0));
    let ring = Arc::clone(&rung);
    let belled = place.guidance(Options {
        workers: 1,
        on_hint: Some(Box::new(move || {
            ring.fetch_add(1, Relaxed);
        })),
        ..Default::default()
    });
    let other = place.guidance(Options { workers: 1, ..Default::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        pin(0);
        let worker = other.register().expect("a block");
        assert_eq!(answers(20), 20);
        assert_eq!(rung.load(Relaxed), 0, "it rang for a hint to another");
        drop(worker);
        let worker = belled.register().expect("a block");
        let hints = || belled.report().workers[0].kernel_hints;
        for _ in 0..5 {
            let before = rung.load(Relaxed);
            turns("a bell after hints", || {
                let _ = morpheus::checkpoint();
                rung.load(Relaxed) > before
            });
        }
        assert!(rung.load(Relaxed) <= hints(), "it rang more often than there were hints");
        drop(worker);
        stop.store(true, Relaxed);
    });
    let (rung, hints) = (rung.load(Relaxed), belled.report().workers[0].kernel_hints);
    assert!(rung <= hints, "{rung} bells, {hints} hints");
}
