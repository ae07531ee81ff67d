//! Hints as workers see them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use morpheus::{Options, Reason, Tier, checkpoint};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, pin};

const LONG: Duration = Duration::from_secs(20);

/// Computes until it is asked to yield, so often, or for too long.
fn answers(times: usize) -> usize {
    let end = Instant::now() + LONG;
    let mut answered = 0;
    while answered < times && Instant::now() < end {
        for _ in 0..100 {
            std::hint::spin_loop();
        }
        if checkpoint() {
            answered += 1;
            morpheus::yield_now();
        }
    }
    answered
}

/// Computes on a processor until told to stop.
fn hog(cpu: usize, stop: &AtomicBool) {
    pin(cpu);
    while !stop.load(Relaxed) {
        std::hint::spin_loop();
    }
}

#[test]
fn who_is_over_its_slice_while_another_waits_is_hinted() {
    let options = ObserveOptions { wakeups: false, ..Default::default() };
    let Some(place) = Place::new(options) else { return };
    let guidance = place.guidance(Options { workers: 4, ..Default::default() });
    assert_eq!(guidance.tier(), Tier::Observe);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        let worker = scope.spawn(|| {
            pin(0);
            let worker = guidance.register().expect("a block");
            (worker.number(), answers(20))
        });
        let (number, answered) = worker.join().expect("it ends");
        stop.store(true, Relaxed);
        assert_eq!(answered, 20);
        let report = &guidance.report().workers[number];
        assert!(report.kernel_hints >= 20, "{report:?}");
        assert_eq!(report.psi_hints + report.timer_hints, 0);
        let slice = report.acknowledged.iter().find(|(r, _)| *r == Some(Reason::Slice));
        assert_eq!(slice.map(|(_, n)| *n), Some(20), "{report:?}");
        println!("{report:?}");
    });
}
