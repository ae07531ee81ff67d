//! Several processes, and several agents: what one does is its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use morpheus::{Block, Options, WorkerReport};
use morpheus_bpf::ObserveOptions;

use crate::place::{Place, answers, hog, pin};
use crate::wire::{Client, attempts};

/// Fills a block with numbers of no sense.
fn scribble(block: &Block, number: &mut u64) {
    let mut next = || {
        *number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        number.rotate_left(21)
    };
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
        field.store(next(), Relaxed);
    }
    for field in [
        &hints.preempt_seq,
        &hints.reason,
        &hints.pressure,
        &hints.generation,
        &runtime.ack_seq,
        &runtime.critical_depth,
        &runtime.escapable,
        &runtime.backlog,
        &runtime.yield_reason,
    ] {
        let [a, b, c, d, ..] = next().to_le_bytes();
        field.store(u32::from_le_bytes([a, b, c, d]), Relaxed);
    }
    // Half of the time it runs, and its generation is near the right one.
    runtime.state.store(u32::from(next().to_le_bytes()[0] % 4), Relaxed);
}

fn is_whole(report: &WorkerReport) -> bool {
    let answered: u64 = report.acknowledged.iter().map(|(_, count)| count).sum();
    // One may be outstanding, and none is of anybody else.
    report.kernel_hints - answered <= 1
        && report.psi_hints + report.timer_hints == 0
        && report.acknowledged[0] == (None, 0)
}

#[test]
fn who_scribbles_over_its_block_harms_no_other_process() {
    let Some(place) = Place::new(ObserveOptions::default()) else { return };
    let client = Client::new(&place.socket);
    let blocks = client.hello(2).expect("a welcome");
    let guidance = place.guidance(Options { workers: 1, ..Default::default() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            let generation = client.register(0).expect("a block");
            let block = blocks.get(0).expect("a block");
            let mut number = 7;
            while !done.load(Relaxed) {
                scribble(block, &mut number);
                if number % 2 == 0 {
                    // So that the programs go on to what else is in it.
                    block.hints.generation.store(generation, Relaxed);
                }
                for _ in 0..100 {
                    std::hint::spin_loop();
                }
            }
        });
        pin(0);
        let _worker = guidance.register().expect("a block");
        assert_eq!(answers(50), 50, "beside one that scribbles");
        done.store(true, Relaxed);
    });
    let report = guidance.report().workers.swap_remove(0);
    assert!(is_whole(&report), "{report:?}");
    let other = blocks.get(1).expect("a block");
    assert_eq!(attempts(other), 0, "a block of the same process that nobody has");
    place.guidance(Options::default());
}

#[test]
fn two_agents_hint_their_own_workers() {
    let (Some(one), Some(other)) =
        (Place::new(ObserveOptions::default()), Place::new(ObserveOptions::default()))
    else {
        return;
    };
    let stop = AtomicBool::new(false);
    let reports = std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        let workers = [&one, &other].map(|place| {
            scope.spawn(move || {
                pin(0);
                let guidance = place.guidance(Options { workers: 1, ..Default::default() });
                let _worker = guidance.register().expect("a block");
                assert_eq!(answers(10), 10);
                guidance.report().workers.swap_remove(0)
            })
        });
        let reports = workers.map(|worker| worker.join().expect("it ends"));
        stop.store(true, Relaxed);
        reports
    });
    for report in reports {
        assert!(is_whole(&report), "{report:?}");
    }
}
