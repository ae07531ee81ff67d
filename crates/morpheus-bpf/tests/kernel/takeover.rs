//! What is left when the agent has gone.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use morpheus::{Options, Reason, Tier};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, acknowledged_for, answers, hog, pin, until};

#[test]
fn when_the_agent_ends_a_timer_takes_over_and_the_kernels_count_stands() {
    let Some(mut place) = Place::new(ObserveOptions::default()) else { return };
    let fallback = Some(Duration::from_millis(1));
    let guidance = place.guidance(Options { workers: 1, fallback, ..Default::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        pin(0);
        let _worker = guidance.register().expect("a block");
        let report = || guidance.report().workers.swap_remove(0);
        assert_eq!(answers(5), 5);
        assert_eq!(report().timer_hints, 0);
        place.end();
        // From here on no program is attached.
        let kernel = report().kernel_hints;
        assert!(kernel >= 5);
        until("the timer takes over", || guidance.tier() == Tier::Timer);
        assert!(guidance.why().contains("the agent has gone"), "{}", guidance.why());
        assert_eq!(answers(10), 10);
        let report = report();
        assert_eq!(report.kernel_hints, kernel, "a hint of the kernel's without its programs");
        // One of the kernel's was perhaps outstanding.
        assert!(report.timer_hints >= 9, "{report:?}");
        assert!(acknowledged_for(&report, Reason::Timer) >= 9, "{report:?}");
        stop.store(true, Relaxed);
    });
}
