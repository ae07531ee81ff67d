//! Guests that want more than they may have. Each ends alone, with its reason and the figure, and
//! the engine runs the next one.

use std::sync::Arc;

use vyr_task::{CancelHandle, Engine, Input, Job, Limits, Outcome, Output, Reason, State, Workers};

use crate::support::{block_on, engine, guest, load, module, run};

const SPIN: &str = "(loop $again (br $again))";

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn assert_failed(outcome: &Outcome, reason: Reason, says: &str) {
    assert_eq!((outcome.state, outcome.reason), (State::Failed, Some(reason)), "{outcome:?}");
    let message = outcome.message.as_deref().unwrap_or_default();
    assert!(message.contains(says), "{message:?} does not say {says:?}");
}

/// The engine is still good for an ordinary guest.
fn assert_alive(engine: &Engine) {
    let next = block_on(engine.run(Job::new(load(engine, &guest("")))));
    assert_eq!(next.state, State::Completed, "{next:?}");
}

#[test]
fn a_memory_bomb_fails_with_the_figure() {
    // Grows a page at a time until refused, then traps.
    let wasm = guest(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
    );
    let outcome = run(&wasm, |job| job.limits.memory_bytes = 1 << 20);
    assert_failed(&outcome, Reason::Memory, "1.00 MiB allowed");
    assert_eq!(outcome.usage.memory_peak_bytes, 1 << 20);
}

#[test]
fn a_refused_grow_alone_is_no_failure() {
    let wasm = guest("(drop (memory.grow (i32.const 60000)))");
    let outcome = run(&wasm, |_| {});
    assert_eq!(outcome.state, State::Completed, "{outcome:?}");
    assert_eq!(outcome.usage.memory_peak_bytes, 65536);
}

#[test]
fn a_memory_too_large_from_the_start_fails() {
    let wasm = module("(memory (export \"memory\") 2000) (func (export \"_start\"))");
    assert_failed(&run(&wasm, |_| {}), Reason::Memory, "125 MiB of memory, 64.0 MiB allowed");
}

#[test]
fn memories_share_one_limit() {
    let wasm =
        module("(memory (export \"memory\") 600) (memory $b 600) (func (export \"_start\"))");
    assert_failed(&run(&wasm, |_| {}), Reason::Memory, "75.0 MiB of memory");
}

#[test]
fn an_infinite_loop_meets_its_deadline() {
    let outcome = run(&guest(SPIN), |job| job.limits.deadline_ms = 50);
    assert_failed(&outcome, Reason::Deadline, "50 ms");
    assert!(outcome.usage.run_us >= 50_000);
}

#[test]
fn an_infinite_loop_uses_up_its_processor_time() {
    let outcome = run(&guest(SPIN), |job| job.limits.cpu_ms = 50);
    assert_failed(&outcome, Reason::Cpu, "50 ms of processor time");
    assert!(outcome.usage.cpu_us >= 50_000);
}

#[test]
fn a_sleeping_guest_uses_no_processor_time_and_meets_its_deadline() {
    let outcome = run(&sleeper(3600), |job| {
        job.limits.deadline_ms = 100;
        job.limits.cpu_ms = 50;
    });
    assert_failed(&outcome, Reason::Deadline, "100 ms");
}

/// Waits in `poll_oneoff` for a relative monotonic clock of so many seconds.
fn sleeper(seconds: u64) -> Vec<u8> {
    guest(&format!(
        "(i32.store8 offset=8 (i32.const 0) (i32.const 0))
         (i32.store offset=16 (i32.const 0) (i32.const 1))
         (i64.store offset=24 (i32.const 0) (i64.const {}))
         (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
        seconds * 1_000_000_000
    ))
}

/// Starts `wasm` on a worker, cancels it from here, and lets the same worker run another.
fn cancelled(wasm: &[u8], change: impl FnOnce(&mut Job)) {
    let engine = engine(1);
    let workers = Workers::start(&engine, 1, 4, || ()).expect("threads");
    let (done, outcomes) = std::sync::mpsc::channel();
    let cancel = CancelHandle::new();
    let mut job = Job::new(load(&engine, wasm));
    job.cancel = cancel.clone();
    change(&mut job);
    let report = done.clone();
    workers.submit(job, move |outcome| drop(report.send(outcome)));
    workers.submit(Job::new(load(&engine, &guest(""))), move |outcome| drop(done.send(outcome)));
    // Nothing ends by itself: the second job has to wait for the only slot.
    assert!(outcomes.recv_timeout(std::time::Duration::from_millis(50)).is_err());
    cancel.cancel();
    cancel.cancel();
    let patience = std::time::Duration::from_secs(20);
    let first = outcomes.recv_timeout(patience).expect("the cancelled task ends");
    assert_eq!((first.state, first.reason), (State::Cancelled, None), "{first:?}");
    let second = outcomes.recv_timeout(patience).expect("the next task runs");
    assert_eq!(second.state, State::Completed, "{second:?}");
}

#[test]
fn an_infinite_loop_is_cancelled_and_its_worker_goes_on() {
    cancelled(&guest(SPIN), |_| {});
}

#[test]
fn a_sleeping_guest_is_cancelled() {
    cancelled(&sleeper(3600), |_| {});
}

#[test]
fn a_guest_that_waits_for_input_is_cancelled() {
    let (reading, writing) = rustix::pipe::pipe().expect("pipe");
    cancelled(&reader(), |job| job.input = Input::Descriptor(reading));
    drop(writing);
}

#[test]
fn a_guest_whose_output_nobody_reads_is_cancelled() {
    let (reading, writing) = rustix::pipe::pipe().expect("pipe");
    cancelled(&writer(4096), |job| job.output = Output::Descriptor(writing));
    drop(reading);
}

/// Reads once from stdin into memory.
fn reader() -> Vec<u8> {
    guest(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 512))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
    )
}

/// Writes `length` bytes to stdout for ever.
fn writer(length: u32) -> Vec<u8> {
    guest(&format!(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {length}))
         (loop $again
           (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
           (br $again))"
    ))
}

#[test]
fn an_output_bomb_is_cut_at_its_limit() {
    for length in [1, 4096, 60_000] {
        let outcome = run(&writer(length), |job| job.limits.output_bytes_max = 1 << 20);
        assert_failed(&outcome, Reason::Output, "1.00 MiB of output");
        assert!(outcome.usage.output_bytes <= 1 << 20, "{length}: {:?}", outcome.usage);
        assert_eq!(outcome.output.len() as u64, outcome.usage.output_bytes);
    }
}

#[test]
fn a_log_bomb_keeps_only_its_end() {
    let wasm = guest(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
         (loop $again
           (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
           (br $again))",
    );
    let outcome = run(&wasm, |job| job.limits.deadline_ms = 100);
    assert_failed(&outcome, Reason::Deadline, "100 ms");
    assert_eq!(outcome.log.len(), 64 << 10);
    assert!(outcome.usage.log_bytes > outcome.log.len() as u64);
}

#[test]
fn one_write_of_all_memory_stops_at_the_limit() {
    // A single call with one vector over 32 MiB: the host call itself must look up.
    let wasm = module(
        "(memory (export \"memory\") 600)
         (func (export \"_start\")
           (i32.store (i32.const 0) (i32.const 64))
           (i32.store (i32.const 4) (i32.const 33554432))
           (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))",
    );
    let outcome = run(&wasm, |job| job.limits.output_bytes_max = 1 << 20);
    assert_failed(&outcome, Reason::Output, "1.00 MiB");
}

#[test]
fn deep_recursion_fails_on_its_stack() {
    let wasm = module(
        "(memory (export \"memory\") 1)
         (func $down (param i32) (result i32)
           (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))
         (func (export \"_start\") (drop (call $down (i32.const 0))))",
    );
    assert_failed(&run(&wasm, |_| {}), Reason::Stack, "512 KiB");
}

#[test]
fn a_table_bomb_fails_with_the_figure() {
    let wasm = module(
        "(memory (export \"memory\") 1) (table $t 1 funcref)
         (func (export \"_start\")
           (loop $more (br_if $more (i32.ne (i32.const -1)
             (table.grow $t (ref.null func) (i32.const 1000)))))
           unreachable)",
    );
    assert_failed(&run(&wasm, |_| {}), Reason::Table, "131072 allowed");
}

#[test]
fn data_beyond_memory_is_a_trap_and_not_a_crash() {
    let wasm = module(
        "(memory (export \"memory\") 1) (data (i32.const 65530) \"past the end\")
         (func (export \"_start\"))",
    );
    assert_failed(&run(&wasm, |_| {}), Reason::Trap, "out of bounds");
}

#[test]
fn data_as_large_as_memory_counts_as_memory() {
    let text = "x".repeat(8 << 20);
    let wasm = module(&format!(
        "(memory (export \"memory\") 129) (data (i32.const 0) \"{text}\")
         (func (export \"_start\"))"
    ));
    let outcome = run(&wasm, |job| job.limits.memory_bytes = 1 << 20);
    assert_failed(&outcome, Reason::Memory, "1.00 MiB allowed");
    assert_eq!(run(&wasm, |_| {}).state, State::Completed);
}

#[test]
fn a_trap_is_named() {
    assert_failed(&run(&guest("unreachable"), |_| {}), Reason::Trap, "unreachable");
    let division = guest("(drop (i32.div_u (i32.const 1) (i32.const 0)))");
    assert_failed(&run(&division, |_| {}), Reason::Trap, "divide by zero");
}

#[test]
fn the_engine_and_the_neighbours_survive_all_of_them() {
    let engine = engine(4);
    let recursion = module(
        "(memory (export \"memory\") 1) (func $f (call $f) (call $f))
         (func (export \"_start\") (call $f))",
    );
    let hostile: Vec<_> = [guest(SPIN), guest("unreachable"), writer(60_000), recursion]
        .iter()
        .map(|wasm| load(&engine, wasm))
        .collect();
    let good = load(&engine, &guest(""));
    let workers = Workers::start(&engine, 2, 8, || ()).expect("threads");
    let (done, outcomes) = std::sync::mpsc::channel();
    for round in 0..40 {
        let is_good = round % 2 == 1;
        let program = if is_good { &good } else { &hostile[round / 2 % hostile.len()] };
        let mut job = Job::new(Arc::clone(program));
        job.limits = limits(|l| {
            // Short for those that never end; long enough for a good one on a busy machine.
            l.deadline_ms = if is_good { 60_000 } else { 30 };
            l.output_bytes_max = 1 << 20;
        });
        let done = done.clone();
        workers.submit(job, move |outcome| drop(done.send((is_good, outcome))));
    }
    drop(done);
    let mut ended = 0;
    for (is_good, outcome) in outcomes {
        assert_eq!(outcome.state == State::Completed, is_good, "{outcome:?}");
        ended += 1;
    }
    assert_eq!(ended, 40);
    assert_alive(&engine);
}
