//! Safe points of futures on tokio.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use morpheus::{Guidance, Options, SLICE_MIN_NS, Yield, tokio as guided};
use tokio::runtime::{Builder, Runtime};

use crate::place::{LONG, acknowledged};

fn options() -> Options {
    Options { workers: 8, slice_ns: SLICE_MIN_NS, ..Options::default() }
}

fn runtime(threads: usize, guidance: &Guidance) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all();
    guided::guide(&mut builder, guidance);
    builder.build().expect("a runtime")
}

fn compute(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Sums of a report: hints, acknowledged ones, and yields because of hints and of the budget.
fn sums(guidance: &Guidance) -> (u64, u64, u64, u64) {
    let report = guidance.report();
    let sum = |of: fn(&morpheus::WorkerReport) -> u64| report.workers.iter().map(of).sum();
    (
        sum(|worker| worker.timer_hints),
        sum(acknowledged),
        sum(|worker| worker.yields[0].1),
        sum(|worker| worker.yields[1].1),
    )
}

#[test]
fn a_hinted_task_lets_another_one_run() {
    let guidance = Guidance::timer(options(), Duration::from_millis(1)).expect("a timer");
    let runtime = runtime(1, &guidance);
    let ran = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&ran);
    let checkpoints = runtime.block_on(async {
        let hog = tokio::spawn(async move {
            let end = Instant::now() + LONG;
            // On the only thread there is.
            let other = Arc::clone(&waits);
            tokio::spawn(async move { other.store(true, Relaxed) });
            let mut checkpoints = 0;
            while !waits.load(Relaxed) && Instant::now() < end {
                compute(Duration::from_millis(2));
                guided::checkpoint().await;
                checkpoints += 1;
            }
            checkpoints
        });
        hog.await.expect("it ends")
    });
    assert!(ran.load(Relaxed), "it never ran");
    // Tokio's own budget is 128 of them.
    assert!(checkpoints < 128, "it ran, but after {checkpoints} checkpoints");
    drop(runtime);
    let (hints, acknowledged, yields, _) = sums(&guidance);
    assert!(acknowledged > 0 && acknowledged <= hints);
    assert_eq!(acknowledged, yields, "each hint is one yield");
}

#[test]
fn without_hints_the_budget_of_tokio_still_makes_a_task_yield() {
    let guidance = Guidance::off(options()).expect("nothing");
    let runtime = runtime(1, &guidance);
    let ran = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&ran);
    let checkpoints: u64 = runtime.block_on(async {
        let hog = tokio::spawn(async move {
            let other = Arc::clone(&waits);
            tokio::spawn(async move { other.store(true, Relaxed) });
            let mut checkpoints = 0;
            while !waits.load(Relaxed) && checkpoints < 1_000_000 {
                guided::checkpoint().await;
                checkpoints += 1;
            }
            checkpoints
        });
        hog.await.expect("it ends")
    });
    assert!(ran.load(Relaxed), "a million checkpoints, and nobody else ran");
    assert!(checkpoints >= 100, "a yield at every checkpoint is not a budget: {checkpoints}");
    drop(runtime);
    let (hints, acknowledged, by_hint, by_budget) = sums(&guidance);
    assert_eq!((hints, acknowledged, by_hint), (0, 0, 0));
    assert!(by_budget > 0, "{:?} is not counted", Yield::Budget);
}

/// Several tasks on two threads, until one of them was on both.
#[test]
fn a_task_may_go_on_elsewhere_and_counts_stay_right() {
    let guidance = Guidance::timer(options(), Duration::from_millis(1)).expect("a timer");
    let runtime = runtime(2, &guidance);
    let moved = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let moved = Arc::clone(&moved);
                tokio::spawn(async move {
                    let threads = Mutex::new(HashSet::<ThreadId>::new());
                    let end = Instant::now() + LONG;
                    while !moved.load(Relaxed) && Instant::now() < end {
                        compute(Duration::from_micros(500));
                        guided::checkpoint().await;
                        let mut threads = threads.lock().expect("not poisoned");
                        threads.insert(std::thread::current().id());
                        if threads.len() > 1 {
                            moved.store(true, Relaxed);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
    });
    drop(runtime);
    assert!(moved.load(Relaxed), "no task was ever on two threads");
    let (hints, acknowledged, yields, _) = sums(&guidance);
    assert!(acknowledged > 0 && acknowledged <= hints);
    assert_eq!(acknowledged, yields, "each hint is one yield");
    let report = guidance.report();
    assert!(report.workers.iter().all(|worker| !worker.registered), "a thread left its block");
    assert!(
        report.workers.iter().all(|worker| worker.timer_hints - self::acknowledged(worker) <= 1)
    );
}
