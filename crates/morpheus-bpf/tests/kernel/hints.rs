//! Hints as workers see them, and why there are some.
//!
//! Other programs of the machine may wake up or wait on any processor. So what must not be is asked
//! of reasons and states, which others cannot change, and the times of others are no part of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use morpheus::{Options, Reason, SLICE_MAX_NS, Tier, Worker, WorkerReport, checkpoint};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, acknowledged_for, answers, hog, not_run, pin, turns, until};

fn ticks() -> ObserveOptions {
    ObserveOptions { wakeups: false, ..Default::default() }
}

#[test]
fn who_is_over_its_slice_while_another_waits_is_hinted() {
    let Some(place) = Place::new(ticks()) else { return };
    let guidance = place.guidance(Options { workers: 2, ..Default::default() });
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
        assert_eq!(acknowledged_for(report, Reason::Slice), 20, "{report:?}");
    });
}

/// A worker that computes while another thread of its processor wakes up so often.
fn beside_a_sleeper(options: ObserveOptions, wakeups: u64) -> Option<WorkerReport> {
    let place = Place::new(options)?;
    let guidance = place.guidance(Options { workers: 2, ..Default::default() });
    let woken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            for _ in 0..wakeups {
                std::thread::sleep(Duration::from_millis(1));
                woken.fetch_add(1, Relaxed);
            }
        });
        pin(0);
        let worker = guidance.register().expect("a block");
        while woken.load(Relaxed) < wakeups {
            let _ = checkpoint();
        }
        let report = guidance.report().workers.swap_remove(worker.number());
        Some(report)
    })
}

#[test]
fn a_wake_up_on_its_processor_hints_a_worker() {
    let options = ObserveOptions { ticks: false, ..Default::default() };
    let Some(report) = beside_a_sleeper(options, 100) else { return };
    // Some wake-ups find the worker itself preempted, or its hint outstanding.
    assert!(report.kernel_hints >= 20, "{report:?}");
    let answered: u64 = report.acknowledged.iter().map(|(_, count)| count).sum();
    assert_eq!(acknowledged_for(&report, Reason::Wakeup), answered, "{report:?}");
    assert_eq!(report.looks, (0, 0), "a tick came");
    // The same without the program.
    let neither = ObserveOptions { ticks: false, wakeups: false, ..Default::default() };
    let report = beside_a_sleeper(neither, 100).expect("it was possible before");
    assert_eq!(report.kernel_hints, 0, "{report:?}");
}

#[test]
fn a_worker_whose_own_queue_waits_is_hinted_though_nobody_else_does() {
    let Some(place) = Place::new(ticks()) else { return };
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let worker = guidance.register().expect("a block");
    let report = || guidance.report().workers.swap_remove(0);
    let looks = |more| {
        let enough = report().looks.0 + more;
        turns("looks of the kernel", || {
            let _ = checkpoint();
            report().looks.0 >= enough
        });
    };
    looks(50);
    assert_eq!(acknowledged_for(&report(), Reason::Backlog), 0, "nothing waits");
    worker.set_backlog(true);
    turns("hints for its own queue", || {
        let _ = checkpoint();
        acknowledged_for(&report(), Reason::Backlog) >= 5
    });
    worker.set_backlog(false);
    // The last one may be outstanding.
    let _ = checkpoint();
    let before = acknowledged_for(&report(), Reason::Backlog);
    looks(50);
    assert_eq!(acknowledged_for(&report(), Reason::Backlog), before);
}

/// A worker beside another one of the same processor, which is hinted twenty times.
///
/// Its slice is the longest, so that it is over none before it begins.
fn beside_one_that_is_hinted(
    begin: impl Fn(&Worker) + Sync,
    turn: impl Fn(&Worker) + Sync,
) -> Option<WorkerReport> {
    let place = Place::new(ticks())?;
    let options = Options { workers: 2, slice_ns: SLICE_MAX_NS, ..Default::default() };
    let guidance = place.guidance(options);
    let (ready, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            pin(0);
            let worker = guidance.register().expect("a block");
            begin(&worker);
            ready.store(true, Relaxed);
            while !done.load(Relaxed) {
                turn(&worker);
            }
            guidance.report().workers.swap_remove(worker.number())
        });
        until("the other is there", || ready.load(Relaxed));
        pin(0);
        let worker = guidance.register().expect("a block");
        worker.set_slice_ns(1_000_000);
        assert_eq!(answers(20), 20, "who runs beside it is hinted");
        done.store(true, Relaxed);
        Some(other.join().expect("it ends"))
    })
}

#[test]
fn who_is_idle_is_not_hinted() {
    let idle = |worker: &Worker| {
        worker.set_idle(true);
        worker.set_slice_ns(1_000_000);
    };
    let Some(report) = beside_one_that_is_hinted(idle, |_| std::hint::spin_loop()) else { return };
    assert_eq!((report.kernel_hints, report.dropped), (0, 0), "{report:?}");
    // The same that says it runs.
    let running = |worker: &Worker| worker.set_slice_ns(1_000_000);
    let report = beside_one_that_is_hinted(running, |_| std::hint::spin_loop());
    let report = report.expect("it was possible before");
    assert_eq!(report.kernel_hints, 1, "it never answers: {report:?}");
}

#[test]
fn who_is_within_its_slice_is_not_hinted() {
    let longest = AtomicU64::new(0);
    let turn = |worker: &Worker| {
        let turned = std::time::Instant::now();
        worker.turn();
        for _ in 0..1_000 {
            std::hint::spin_loop();
        }
        let ns = u64::try_from(turned.elapsed().as_nanos()).unwrap_or(u64::MAX);
        longest.fetch_max(ns, Relaxed);
    };
    let Some(report) = beside_one_that_is_hinted(|_| {}, turn) else { return };
    assert!(report.looks.0 > 0, "the kernel never looked: {report:?}");
    // On a machine that stood still for a slice a hint is right.
    let stood_still = longest.load(Relaxed) >= SLICE_MAX_NS / 2;
    assert!(stood_still || report.kernel_hints == 0, "{report:?}");
}

/// How long this thread waited for a processor so far, in nanoseconds.
fn waited_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn who_is_over_its_slice_is_not_hinted_while_nobody_waits() {
    let Some(place) = Place::new(ticks()) else { return };
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let _worker = guidance.register().expect("a block");
    let report = || guidance.report().workers.swap_remove(0);
    // In a time in which this thread did not wait itself, nobody was in line for long; or somebody
    // was who may be kept waiting, a build at the lowest priority: then another time is needed.
    let mut seen = Vec::new();
    for _ in 0..100 {
        let (before, waited) = (report(), waited_ns());
        if waited.is_none() {
            return not_run("the kernel does not count waiting (/proc/self/schedstat)");
        }
        turns("looks of the kernel", || {
            let _ = checkpoint();
            report().looks.0 >= before.looks.0 + 20
        });
        let after = report();
        if waited_ns() == waited {
            let (hints, looks) =
                (after.kernel_hints - before.kernel_hints, after.looks.0 - before.looks.0);
            // Somebody may have been in line here at one look and have gone elsewhere.
            if hints <= looks / 4 {
                return;
            }
            seen.push((hints, looks));
        }
    }
    assert!(seen.is_empty(), "hints at looks: {seen:?}");
    not_run("others want this processor all the time");
}

#[test]
fn one_hint_is_outstanding_until_it_is_acknowledged() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        pin(0);
        let _worker = guidance.register().expect("a block");
        let report = || guidance.report().workers.swap_remove(0);
        for hint in 1..4 {
            let before = report().dropped;
            turns("ten that are dropped", || report().dropped >= before + 10);
            assert_eq!(report().kernel_hints, hint, "more than one is outstanding");
            assert!(checkpoint());
        }
        stop.store(true, Relaxed);
    });
}
