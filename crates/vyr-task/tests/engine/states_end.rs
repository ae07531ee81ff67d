//! A state is gone, from memory too, when its last task ended, in every way a task can end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use vyr_task::{
    CancelHandle, EphemeralState, Job, Outcome, Program, Reason, State, WeakState, Workers,
};

use crate::guests::{FORMS, read};
use crate::states::{MIB, job, writable};
use crate::support::{block_on, engine, load};

/// A job that has the only reference to a new state, and the means to see that it is gone.
fn only_task(program: &Arc<Program>, steps: &[&str]) -> (Job, WeakState) {
    let state = EphemeralState::new(MIB);
    let weak = state.downgrade();
    let job = job(program, writable("a", &state), steps);
    drop(state);
    assert!(weak.upgrade().is_some(), "the job holds it");
    (job, weak)
}

fn ends(form: &str, steps: &[&str], change: impl FnOnce(&mut Job)) -> Outcome {
    let engine = engine(1);
    let program = load(&engine, &read("states", form));
    let steps = [&["write /state/a/f x", "mkdir /state/a/d"], steps].concat();
    let (mut job, state) = only_task(&program, &steps);
    change(&mut job);
    let outcome = block_on(engine.run(job));
    assert!(state.upgrade().is_none(), "{form} {steps:?}: the state outlived {outcome:?}");
    outcome
}

#[test]
fn it_is_gone_after_success_failure_deadline_and_want_of_memory() {
    for form in FORMS {
        assert_eq!(ends(form, &[], |_| {}).state, State::Completed);
        assert_eq!(ends(form, &["trap"], |_| {}).reason, Some(Reason::Trap));
        assert_eq!(ends(form, &["exhaust"], |_| {}).reason, Some(Reason::Memory));
        let output = |job: &mut Job| job.limits.output_bytes_max = 1;
        assert_eq!(ends(form, &["list /state/a"], output).reason, Some(Reason::Output));
    }
}

#[test]
fn a_guest_that_only_calls_files_meets_its_deadline_and_processor_time() {
    for form in FORMS {
        for steps in [["stat-for-ever /state/a/f"], ["write-for-ever /state/a/f"]] {
            let deadline = ends(form, &steps, |job| job.limits.deadline_ms = 100);
            assert_eq!(deadline.reason, Some(Reason::Deadline), "{form} {steps:?}");
            let cpu = ends(form, &steps, |job| job.limits.cpu_ms = 50);
            assert_eq!(cpu.reason, Some(Reason::Cpu), "{form} {steps:?}");
        }
    }
}

#[test]
fn it_is_gone_after_a_cancellation() {
    for form in FORMS {
        let engine = engine(1);
        let program = load(&engine, &read("states", form));
        let workers = Workers::start(&engine, 1, 1, || ()).expect("threads");
        let shared = EphemeralState::new(MIB);
        let (mut job, state) =
            only_task(&program, &["write /state/b/go x", "stat-for-ever /state/a"]);
        job.states.extend(writable("b", &shared));
        let cancel = CancelHandle::new();
        job.cancel = cancel.clone();
        let (done, outcomes) = std::sync::mpsc::channel();
        workers.submit(job, move |outcome| drop(done.send(outcome)));
        // Once it has written, it runs.
        while shared.used_bytes() == 0 {
            assert!(outcomes.recv_timeout(Duration::from_millis(1)).is_err(), "it ended early");
        }
        cancel.cancel();
        let outcome = outcomes.recv_timeout(Duration::from_secs(20)).expect("it ends");
        assert_eq!(outcome.state, State::Cancelled, "{outcome:?}");
        assert!(state.upgrade().is_none(), "{form}: the state outlived its task");
    }
}

#[test]
fn it_is_gone_when_the_run_is_dropped_or_never_begins() {
    for form in FORMS {
        let engine = engine(1);
        let program = load(&engine, &read("states", form));
        let (job, state) = only_task(&program, &["stat-for-ever /state/a"]);
        block_on(async {
            let run = engine.run(job);
            // One tick lets it yield; then nobody waits for it any more.
            drop(tokio::time::timeout(Duration::from_millis(20), run).await);
        });
        assert!(state.upgrade().is_none(), "{form}: the state outlived its run");
        let (job, state) = only_task(&program, &[]);
        drop(engine.run(job));
        assert!(state.upgrade().is_none(), "{form}: the state outlived its job");
    }
}

#[test]
fn it_lives_until_the_last_of_its_tasks_has_ended() {
    let engine = engine(1);
    let program = load(&engine, &read("states", "wasip1"));
    let state = EphemeralState::new(MIB);
    let weak = state.downgrade();
    let first = job(&program, writable("a", &state), &["write /state/a/f handed-on"]);
    let second = job(&program, writable("b", &state), &["read /state/b/f"]);
    drop(state);
    assert_eq!(block_on(engine.run(first)).state, State::Completed);
    assert!(weak.upgrade().is_some(), "a second task is still to come");
    let outcome = block_on(engine.run(second));
    assert_eq!(String::from_utf8_lossy(&outcome.output), "ok handed-on\n");
    assert!(weak.upgrade().is_none());
}

/// 32 bytes from the middle of what the guest's step `marker` writes, each xor-ed with `MASK` so
/// that they are nowhere in this process as such. An allocator's notes are at the ends of what was
/// freed, so the middle is what stays when nobody wipes it.
fn marker(seed: u32) -> Vec<u8> {
    let mut word = seed;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word
    });
    words.skip(128).take(8).flat_map(u32::to_le_bytes).map(|byte| byte ^ MASK).collect()
}

const MASK: u8 = 0x5A;

/// How often the marker is in the memory of this process.
fn in_memory(seed: u32) -> usize {
    let wanted = &marker(seed)[..];
    let memory = File::open("/proc/self/mem").expect("own memory");
    let maps = BufReader::new(File::open("/proc/self/maps").expect("own maps"));
    let mut found = 0;
    let mut buffer = vec![0_u8; 1 << 20];
    // What was read last is in memory too, but is not the guest's.
    let own = buffer.as_ptr().addr() as u64..(buffer.as_ptr().addr() + buffer.len()) as u64;
    for line in maps.lines() {
        let line = line.expect("text");
        let (range, rest) = line.split_once(' ').expect("a range and more");
        if !rest.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("two ends");
        let parse = |hex| u64::from_str_radix(hex, 16).expect("hexadecimal");
        let (start, end) = (parse(start), parse(end));
        let parts = [start..end.min(own.start.max(start)), start.max(own.end.min(end))..end];
        // A range without the buffer is its first part alone, or its second.
        let parts = if own.start >= end || own.end <= start { [start..end, 0..0] } else { parts };
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                let length = buffer.len().min(usize::try_from(part.end - at).expect("small"));
                let Ok(read) = memory.read_at(&mut buffer[..length], at) else { break };
                found += count(&buffer[..read], wanted);
                // Reads overlap, so that a marker on a border is found, by the second alone.
                let next = if read > wanted.len() { read - (wanted.len() - 1) } else { read };
                at += if at + read as u64 >= part.end { read.max(1) } else { next.max(1) } as u64;
            }
        }
    }
    found
}

fn count(memory: &[u8], hidden: &[u8]) -> usize {
    let first = hidden[0] ^ MASK;
    let mut found = 0;
    let mut at = 0;
    while let Some(next) = memory[at..].iter().position(|byte| *byte == first) {
        at += next;
        let here = memory.get(at..at + hidden.len());
        if here.is_some_and(|here| here.iter().zip(hidden).all(|(a, b)| *a == *b ^ MASK)) {
            found += 1;
        }
        at += 1;
    }
    found
}

#[test]
fn no_byte_of_it_is_left_in_memory() {
    let engine = engine(1);
    for (form, write, read, wanted, seed) in [
        ("wasip1", "marker /state/a/f", "look /state/a/f", "1024", 0x5EED_0001_u32),
        ("wasip2", "marker /state/a/f", "look /state/a/f", "1024", 0x5EED_0002),
        ("wasip2", "marker /state/a/f", "raw-read f 0 1024", "1024 false", 0x5EED_0003),
        ("wasip2", "marker /state/a/f", "raw-skip f 1024", "1024", 0x5EED_0006),
        ("wasip2", "key-marker a k", "key-look a k", "1024", 0x5EED_0004),
        ("wasip2", "key-marker a k", "key-look-many a k", "1024", 0x5EED_0005),
    ] {
        let program = load(&engine, &crate::guests::read("states", form));
        let state = EphemeralState::new(MIB);
        let steps = [&*format!("{write} {seed:x}"), read];
        let outcome = block_on(engine.run(job(&program, writable("a", &state), &steps)));
        let wanted = format!("ok\nok {wanted}\n");
        assert_eq!(String::from_utf8_lossy(&outcome.output), wanted, "{form} {read}");
        // The twin: while somebody holds the state, the marker is found.
        assert!(in_memory(seed) > 0, "{form} {write}");
        drop(state);
        assert_eq!(in_memory(seed), 0, "{form} {write}, {read}");
    }
}
