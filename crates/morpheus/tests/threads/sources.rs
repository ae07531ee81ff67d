//! Guidance without an agent: a timer, pressure files, nothing.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use morpheus::{Guidance, Options, Reason, SLICE_MAX_NS, SLICE_MIN_NS, Tier, Worker, checkpoint};

use crate::place::{LONG, acknowledged, not_run, until};

fn options(workers: usize) -> Options {
    Options { workers, slice_ns: SLICE_MIN_NS, ..Options::default() }
}

/// Computes until it was asked to yield so often, or for too long.
fn answers(times: usize) -> usize {
    let end = Instant::now() + LONG;
    let mut answered = 0;
    while answered < times && Instant::now() < end {
        std::hint::spin_loop();
        answered += usize::from(checkpoint());
    }
    answered
}

#[test]
fn a_timer_hints_who_is_over_its_slice_and_counts_for_itself() {
    let guidance = Guidance::timer(options(1), Duration::from_millis(1)).expect("a timer");
    assert_eq!(guidance.tier(), Tier::Timer);
    let worker = guidance.register().expect("a block");
    assert_eq!(answers(20), 20);
    let report = &guidance.report().workers[worker.number()];
    assert!(report.timer_hints >= 20, "{report:?}");
    assert_eq!((report.kernel_hints, report.psi_hints), (0, 0));
    assert!(report.timer_hints - acknowledged(report) <= 1, "{report:?}");
    assert!(report.acknowledged.iter().all(|(r, n)| *r == Some(Reason::Timer) || *n == 0));
}

/// Beside one that is hinted twenty times, which shows that the timer looks.
fn beside_one_that_is_hinted(other: impl FnOnce(&Worker, &AtomicBool) + Send) -> (u64, u64) {
    // Nobody is over a slice this long before it says what its slice is.
    let options = Options { slice_ns: SLICE_MAX_NS, ..options(2) };
    let guidance = Guidance::timer(options, Duration::from_millis(1)).expect("a timer");
    let (ready, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (number, before) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let worker = guidance.register().expect("a block");
            worker.set_idle(true);
            let before = guidance.report().workers[worker.number()].timer_hints;
            let _ = checkpoint();
            ready.store(true, Relaxed);
            other(&worker, &done);
            (worker.number(), before)
        });
        until("the other is there", || ready.load(Relaxed));
        let worker = guidance.register().expect("a block");
        worker.set_slice_ns(SLICE_MIN_NS);
        assert_eq!(answers(20), 20);
        done.store(true, Relaxed);
        other.join().expect("it ends")
    });
    let report = &guidance.report().workers[number];
    (report.timer_hints - before, report.dropped)
}

#[test]
fn who_is_idle_is_not_hinted_by_a_timer() {
    let wait = |done: &AtomicBool| until("the first is done", || done.load(Relaxed));
    let (hints, _) = beside_one_that_is_hinted(|worker, done| {
        worker.set_slice_ns(SLICE_MIN_NS);
        wait(done);
    });
    assert_eq!(hints, 0);
    // The twin says that it runs, and is hinted once, because it never looks.
    let (hints, dropped) = beside_one_that_is_hinted(|worker, done| {
        worker.set_slice_ns(SLICE_MIN_NS);
        worker.set_idle(false);
        wait(done);
    });
    assert_eq!(hints, 1);
    assert!(dropped > 0);
}

#[test]
fn who_is_within_its_slice_is_not_hinted_by_a_timer() {
    let mut longest = Duration::ZERO;
    let (hints, _) = beside_one_that_is_hinted(|worker, done| {
        worker.set_idle(false);
        let mut turned = Instant::now();
        while !done.load(Relaxed) {
            worker.turn();
            longest = longest.max(turned.elapsed());
            turned = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
        }
        longest = longest.max(turned.elapsed());
    });
    // On a machine that stood still for a slice, a hint is right.
    assert!(hints == 0 || longest >= Duration::from_nanos(SLICE_MAX_NS), "{hints}, {longest:?}");
}

#[test]
fn where_guidance_is_off_nobody_hints() {
    let guidance = Guidance::off(options(1)).expect("nothing");
    assert_eq!(guidance.tier(), Tier::Off);
    let worker = guidance.register().expect("a block");
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        assert!(!checkpoint());
    }
    let report = &guidance.report().workers[worker.number()];
    assert_eq!((report.kernel_hints, report.psi_hints, report.timer_hints), (0, 0, 0));
}

#[test]
fn under_pressure_hints_count_as_pressure() {
    if !std::path::Path::new("/proc/pressure/cpu").exists() {
        return not_run("the kernel has no /proc/pressure/cpu");
    }
    let guidance = Guidance::psi(options(1)).expect("pressure files");
    assert_eq!(guidance.tier(), Tier::Psi);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let _worker = guidance.register().expect("a block");
        let answered = answers(2);
        stop.store(true, Relaxed);
        answered
    });
    let report = &guidance.report().workers[0];
    assert_eq!((report.kernel_hints, report.timer_hints), (0, 0), "{report:?}");
    if answered == 0 {
        return not_run("this machine has processors enough and is under no pressure");
    }
    assert!(report.psi_hints >= acknowledged(report) && acknowledged(report) > 0, "{report:?}");
    assert!(report.acknowledged.iter().all(|(r, n)| *r == Some(Reason::Pressure) || *n == 0));
}

#[test]
fn who_has_computed_for_longest_is_hinted_when_something_waits() {
    // A timer that does not tick while this takes place.
    let guidance = Guidance::timer(options(2), LONG).expect("a timer");
    let worker = guidance.register().expect("a block");
    let own = |number: usize| guidance.report().workers[number].own_hints;
    let (ready, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let other = scope.spawn({
            let (ready, done, guidance) = (&ready, &done, &guidance);
            move || {
                let younger = guidance.register().expect("a block");
                younger.turn();
                ready.store(true, Relaxed);
                until("all is seen", || done.load(Relaxed));
                younger.number()
            }
        });
        until("the other is there", || ready.load(Relaxed));
        assert!(
            !guidance.something_waits(|_, age| (age == u64::MAX).then_some(age)),
            "nobody has computed for so long"
        );
        assert!(guidance.something_waits(|_, age| Some(age)));
        assert_eq!(own(worker.number()), 1, "the older one");
        // The older one has its hint: now the other one is the oldest without.
        assert!(guidance.something_waits(|_, age| Some(age)));
        assert!(!guidance.something_waits(|_, age| Some(age)), "both have one");
        done.store(true, Relaxed);
        assert_eq!(own(other.join().expect("it ends")), 1);
    });
    assert!(checkpoint());
    worker.set_idle(true);
    assert!(!guidance.something_waits(|_, age| Some(age)), "who is idle computes nothing");
    let off = Guidance::off(options(1)).expect("nothing");
    drop(worker);
    let worker = off.register().expect("a block");
    assert!(!off.something_waits(|_, age| Some(age)), "guidance is off");
    drop(worker);
}
