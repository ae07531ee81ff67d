//! Every interleaving of hints and acknowledgements: two who hint beside one worker, on the code of
//! `src/block.rs` itself, with loom's atomics in the place of the processor's.
//!
//! Each property has a twin, a block with a seeded defect, in which loom must find it broken.

use std::sync::Mutex;

use loom::sync::Arc;
use loom::thread;

/// Where `block.rs` looks for them: loom's, and a race beside each word.
///
/// loom 0.7 goes back to the last access of a location only, so it does not try what another thread
/// could do between a thread's own load and its compare-exchange of the same location. The race is
/// an addition that nobody reads: all accesses of a word are in its order, and loom tries all
/// orders. It is relaxed, so it makes nothing visible that would not be. The long ones are never
/// loaded by who writes them.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct AtomicU32 {
        value: loom::sync::atomic::AtomicU32,
        race: loom::sync::atomic::AtomicU32,
    }

    impl AtomicU32 {
        fn raced(&self) -> &loom::sync::atomic::AtomicU32 {
            self.race.fetch_add(1, Ordering::Relaxed);
            &self.value
        }

        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.raced().load(order)
        }

        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.raced().store(value, order);
        }

        pub(crate) fn fetch_add(&self, more: u32, order: Ordering) -> u32 {
            self.raced().fetch_add(more, order)
        }

        pub(crate) fn compare_exchange(
            &self,
            from: u32,
            to: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.raced().compare_exchange(from, to, success, failure)
        }
    }
}

#[path = "../src/block.rs"]
#[expect(dead_code, unreachable_pub, reason = "a model of a part of it")]
mod block;

use atomic::Ordering::{Acquire, Relaxed, Release};
use atomic::{AtomicU32, AtomicU64};
use block::{Block, Hint, Hints, Reason, Runtime, Source};

fn block() -> Block {
    let (word, long) = (AtomicU32::default, || AtomicU64::new(0));
    Block {
        hints: Hints {
            own: long(),
            reserved_word: word(),
            reserved_near: std::array::from_fn(|_| long()),
            reserved_half: word(),
            preempt_seq: word(),
            reason: word(),
            hint_ns: long(),
            budget_remaining_ns: long(),
            pressure: word(),
            generation: word(),
            kernel: long(),
            psi: long(),
            timer: long(),
            dropped: long(),
            looks: long(),
            critical_looks: long(),
            deadline_ns: long(),
        },
        runtime: Runtime {
            ack_seq: word(),
            critical_depth: word(),
            state: word(),
            escapable: word(),
            backlog: word(),
            yield_reason: word(),
            slice_ns: long(),
            turn_ns: long(),
            yields: long(),
        },
    }
}

/// How the two sides go about it.
#[derive(Clone, Copy)]
struct Sides {
    hint: fn(&Block, Source, Reason, u64) -> bool,
    acknowledge: fn(&Block) -> Option<Hint>,
}

const REAL: Sides = Sides { hint: Block::hint, acknowledge: Block::acknowledge };

/// Who hints, with what no other has: its source, its reason, and the times of its attempts.
const HINTERS: [(Source, Reason, &[u64]); 2] =
    [(Source::Kernel, Reason::Slice, &[10, 11]), (Source::Timer, Reason::Timer, &[20])];

/// How often the worker looks while others hint.
const CHECKPOINTS: usize = 2;

/// Two who hint beside a worker. What is acknowledged may have the time of one attempt and the
/// reason of another: two that are concurrent both write, and one gets the number.
fn hints_and_acknowledgements(sides: Sides) {
    let block = Arc::new(block());
    let hinters: Vec<_> = HINTERS
        .iter()
        .map(|(source, reason, times)| {
            let block = Arc::clone(&block);
            thread::spawn(move || {
                let given = |time: &&u64| (sides.hint)(&block, *source, *reason, **time);
                times.iter().filter(given).count() as u64
            })
        })
        .collect();

    let mut acknowledged: Vec<Hint> = Vec::new();
    let look = |acknowledged: &mut Vec<Hint>| {
        acknowledged.extend((sides.acknowledge)(&block));
        let number = block.runtime.ack_seq.load(Relaxed) as usize;
        assert_eq!(number, acknowledged.len(), "more than one was outstanding");
    };
    for _ in 0..CHECKPOINTS {
        look(&mut acknowledged);
    }
    let given: Vec<u64> =
        hinters.into_iter().map(|hinter| hinter.join().expect("it ends")).collect();
    // Nobody hints any more: what was given after the last acknowledgement is there now.
    let outstanding = block.is_outstanding();
    let before = acknowledged.len() as u64;
    assert_eq!(before + u64::from(outstanding), given.iter().sum(), "acknowledged + outstanding");
    look(&mut acknowledged);
    assert!(!block.is_outstanding(), "all are acknowledged");
    assert_eq!(acknowledged.len() as u64, given.iter().sum(), "each is acknowledged once");

    let hints = &block.hints;
    let (kernel, timer) = (hints.kernel.load(Relaxed), hints.timer.load(Relaxed));
    assert_eq!([kernel, timer], *given, "each source counts its own");
    let attempts = HINTERS.iter().map(|(_, _, times)| times.len() as u64).sum::<u64>();
    assert_eq!(kernel + timer + hints.dropped.load(Relaxed), attempts, "given + dropped");
    for hint in acknowledged {
        let of = |(_, reason, times): &(Source, Reason, &[u64])| {
            (hint.reason == Some(*reason), times.contains(&hint.at_ns))
        };
        let (reasons, times): (Vec<bool>, Vec<bool>) = HINTERS.iter().map(of).unzip();
        assert!(reasons.contains(&true), "{hint:?}: a reason that nobody gave");
        assert!(times.contains(&true), "{hint:?}: a time that nobody gave");
    }
}

/// One who hints, twice: what is acknowledged is this hint, not the one before or after.
fn a_hint_and_what_it_says(sides: Sides) {
    let block = Arc::new(block());
    let hinter = {
        let block = Arc::clone(&block);
        thread::spawn(move || {
            let of = [(Reason::Slice, 10), (Reason::Wakeup, 11)];
            of.map(|(reason, time)| (sides.hint)(&block, Source::Kernel, reason, time))
        })
    };
    let mut acknowledged: Vec<Hint> =
        (0..CHECKPOINTS).filter_map(|_| (sides.acknowledge)(&block)).collect();
    let given = hinter.join().expect("it ends");
    acknowledged.extend((sides.acknowledge)(&block));
    let expected: Vec<Hint> = [(Reason::Slice, 10), (Reason::Wakeup, 11)]
        .into_iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|((reason, at_ns), _)| Hint { reason: Some(reason), at_ns })
        .collect();
    assert_eq!(acknowledged, expected);
}

/// A checkpoint in a signal handler is the worker's own, between any two steps of another one. Two
/// threads of the model are more than that, and see each other no worse.
fn two_checkpoints_of_one_worker(sides: Sides) {
    let block = Arc::new(block());
    assert!((sides.hint)(&block, Source::Kernel, Reason::Slice, 10));
    let handler = {
        let block = Arc::clone(&block);
        thread::spawn(move || (sides.acknowledge)(&block).is_some())
    };
    let here = (sides.acknowledge)(&block).is_some();
    let there = handler.join().expect("it ends");
    assert!(here != there, "one hint, acknowledged by {}", u8::from(here) + u8::from(there));
}

/// Looks at every interleaving, of three threads those with at most so many preemptions.
fn explore(property: fn(Sides), preemptions: Option<usize>, sides: Sides) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || property(sides));
}

/// Three threads and twelve steps each: all interleavings would take hours.
const SOME: Option<usize> = Some(3);

/// What loom found in a defective twin; a twin in which it found nothing fails.
fn defect(property: fn(Sides), sides: Sides) -> String {
    // One at a time: what they panic with would be mixed up otherwise.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let found = std::panic::catch_unwind(|| explore(property, SOME, sides));
    let panic = found.expect_err("the seeded defect was not found");
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn one_hint_is_outstanding_and_each_is_acknowledged_once() {
    explore(hints_and_acknowledgements, SOME, REAL);
}

#[test]
fn what_is_acknowledged_is_what_was_given() {
    explore(a_hint_and_what_it_says, None, REAL);
}

#[test]
fn a_hint_is_acknowledged_by_one_of_two_checkpoints() {
    explore(two_checkpoints_of_one_worker, None, REAL);
}

#[test]
fn a_hint_without_a_compare_exchange_is_found() {
    let hint = |block: &Block, source: Source, reason: Reason, now: u64| {
        let acknowledged = block.runtime.ack_seq.load(Relaxed);
        if block.hints.preempt_seq.load(Relaxed) != acknowledged {
            block.hints.dropped.fetch_add(1, Relaxed);
            return false;
        }
        block.hints.hint_ns.store(now, Relaxed);
        block.hints.reason.store(reason as u32, Relaxed);
        block.hints.preempt_seq.fetch_add(1, Release);
        match source {
            Source::Kernel => &block.hints.kernel,
            Source::Psi => &block.hints.psi,
            Source::Timer => &block.hints.timer,
            Source::Own => &block.hints.own,
        }
        .fetch_add(1, Relaxed);
        true
    };
    let said = defect(hints_and_acknowledgements, Sides { hint, ..REAL });
    assert!(said.contains("more than one was") || said.contains("acknowledged"), "{said}");
}

#[test]
fn an_acknowledgement_of_whatever_is_newest_by_now_is_found() {
    let acknowledge = |block: &Block| {
        let newest = block.hints.preempt_seq.load(Acquire);
        if newest == block.runtime.ack_seq.load(Relaxed) {
            return None;
        }
        // Gives the number back before it has read what the number is about.
        block.runtime.ack_seq.store(newest, Release);
        let _ = block.is_outstanding();
        let number = block.hints.reason.load(Relaxed);
        let reason = Reason::ALL.into_iter().find(|reason| *reason as u32 == number);
        Some(Hint { reason, at_ns: block.hints.hint_ns.load(Relaxed) })
    };
    let said = defect(a_hint_and_what_it_says, Sides { acknowledge, ..REAL });
    assert!(said.contains("Hint {"), "{said}");
}

#[test]
fn a_number_that_is_published_before_its_reason_is_found() {
    let hint = |block: &Block, _: Source, reason: Reason, now: u64| {
        let acknowledged = block.runtime.ack_seq.load(Relaxed);
        let sequence = &block.hints.preempt_seq;
        let next = acknowledged.wrapping_add(1);
        if sequence.compare_exchange(acknowledged, next, Release, Relaxed).is_err() {
            return false;
        }
        block.hints.hint_ns.store(now, Relaxed);
        block.hints.reason.store(reason as u32, Relaxed);
        true
    };
    let said = defect(a_hint_and_what_it_says, Sides { hint, ..REAL });
    assert!(said.contains("Hint {"), "{said}");
}

#[test]
fn an_acknowledgement_by_adding_one_is_found() {
    let acknowledge = |block: &Block| {
        if !block.is_outstanding() {
            return None;
        }
        block.runtime.ack_seq.fetch_add(1, Release);
        Some(Hint { reason: None, at_ns: 0 })
    };
    let said = defect(two_checkpoints_of_one_worker, Sides { acknowledge, ..REAL });
    assert!(said.contains("acknowledged by 2"), "{said}");
}

#[test]
fn an_acknowledgement_without_a_compare_exchange_is_found() {
    let acknowledge = |block: &Block| {
        let newest = block.hints.preempt_seq.load(Acquire);
        if newest == block.runtime.ack_seq.load(Relaxed) {
            return None;
        }
        block.runtime.ack_seq.store(newest, Release);
        Some(Hint { reason: None, at_ns: 0 })
    };
    let said = defect(two_checkpoints_of_one_worker, Sides { acknowledge, ..REAL });
    assert!(said.contains("acknowledged by 2"), "{said}");
}

#[test]
fn a_reason_that_is_read_without_its_number_is_found() {
    let acknowledge = |block: &Block| {
        // The number without what was written before it.
        let newest = block.hints.preempt_seq.load(Relaxed);
        let own = block.runtime.ack_seq.load(Relaxed);
        if newest == own {
            return None;
        }
        let number = block.hints.reason.load(Relaxed);
        let reason = Reason::ALL.into_iter().find(|reason| *reason as u32 == number);
        let hint = Hint { reason, at_ns: block.hints.hint_ns.load(Relaxed) };
        block.runtime.ack_seq.store(newest, Release);
        Some(hint)
    };
    let said = defect(a_hint_and_what_it_says, Sides { acknowledge, ..REAL });
    assert!(said.contains("Hint {"), "{said}");
}
