//! What a guest can reach, and what is left of the one before it.

use std::path::Path;
use std::sync::Arc;

use vyr_task::{
    Engine, EngineConfig, Job, LoadError, Outcome, PagemapScan, Reason, SealedCode, State,
    SwapWatch, compile,
};

use crate::support::{block_on, engine, guest, load, module, run};

/// Fills 8 MiB (more than is kept resident) with a pattern; completes.
fn fill() -> Vec<u8> {
    module(
        "(memory (export \"memory\") 200)
         (func (export \"_start\")
           (memory.fill (i32.const 0) (i32.const 0xA5) (i32.const 13107200)))",
    )
}

/// Exits with 1 if any byte of its memory, or of what it grows, is not zero.
fn scan() -> Vec<u8> {
    module(
        "(memory (export \"memory\") 100)
         (func (export \"_start\") (local $at i32)
           (drop (memory.grow (i32.const 100)))
           (loop $next
             (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
               (then (call $proc_exit (i32.const 1))))
             (local.set $at (i32.add (local.get $at) (i32.const 8)))
             (br_if $next (i32.lt_u (local.get $at) (i32.const 13107200)))))",
    )
}

fn outcome(engine: &Engine, wasm: &[u8]) -> Outcome {
    block_on(engine.run(Job::new(load(engine, wasm))))
}

#[test]
fn no_byte_is_readable_by_the_next_task_in_the_slot() {
    let swap_on = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(swap_on.path(), "Filename\n/swap file 1 0 -2\n").expect("write");
    for swap in [SwapWatch::of_this_machine(), SwapWatch::new(swap_on.path())] {
        // One slot, so the second task is in the first one's.
        let engine = Engine::new(EngineConfig { swap, ..EngineConfig::new(1) }).expect("engine");
        for _ in 0..3 {
            assert_eq!(outcome(&engine, &fill()).state, State::Completed);
            let scanned = outcome(&engine, &scan());
            assert_eq!(scanned.state, State::Completed, "{:?}", engine.pagemap_scan());
        }
    }
}

#[test]
fn the_scan_would_find_a_byte() {
    // The seeded defect of the test above: a guest that dirties its own memory first.
    let wasm = module(
        "(memory (export \"memory\") 1)
         (func (export \"_start\")
           (i32.store8 (i32.const 65535) (i32.const 1))
           (if (i64.ne (i64.load (i32.const 65528)) (i64.const 0))
             (then (call $proc_exit (i32.const 1)))))",
    );
    assert_eq!(run(&wasm, |_| {}).exit_code, Some(1));
}

#[test]
fn swap_turned_on_while_running_ends_the_fast_reset() {
    let list = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(list.path(), "Filename\n").expect("write");
    let swap = SwapWatch::new(list.path());
    let engine = Engine::new(EngineConfig { swap, ..EngineConfig::new(2) }).expect("engine");
    if engine.pagemap_scan() == PagemapScan::NotInKernel {
        crate::support::not_run(PagemapScan::NotInKernel.explain());
        return;
    }
    assert_eq!(engine.pagemap_scan(), PagemapScan::Used);
    let program = load(&engine, &guest(""));
    let spin = load(&engine, &guest("(loop $again (br $again))"));
    assert_eq!(block_on(engine.run(Job::new(Arc::clone(&program)))).state, State::Completed);

    std::fs::write(list.path(), "Filename\n/swap file 1 0 -2\n").expect("write");
    // A task that runs over the change is still stopped, in the pool it began in.
    let mut job = Job::new(spin);
    job.limits.deadline_ms = 200;
    assert_eq!(block_on(engine.run(job)).reason, Some(Reason::Deadline));
    assert_eq!(engine.pagemap_scan(), PagemapScan::SwapPresent);
    // And the same program goes on in the new one.
    assert_eq!(block_on(engine.run(Job::new(program))).state, State::Completed);
}

#[test]
fn an_unreadable_list_of_swap_means_the_default_reset() {
    let swap = SwapWatch::new(Path::new("/nonexistent"));
    let engine = Engine::new(EngineConfig { swap, ..EngineConfig::new(1) }).expect("engine");
    assert_eq!(engine.pagemap_scan(), PagemapScan::SwapPresent);
}

#[test]
fn there_is_no_directory_and_no_file() {
    // errno 8 is `badf`: descriptor 3 would be the first directory.
    let wasm = guest("(call $proc_exit (call $fd_prestat_get (i32.const 3) (i32.const 0)))");
    assert_eq!(run(&wasm, |_| {}).exit_code, Some(8));
    let wasm = guest(
        "(i32.store8 (i32.const 0) (i32.const 46))
         (call $proc_exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1)
           (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))",
    );
    assert_eq!(run(&wasm, |_| {}).exit_code, Some(8));
}

#[test]
fn an_import_that_is_not_wasi_is_refused_when_loaded() {
    let engine = engine(1);
    for fields in ["(import \"env\" \"system\" (func))", "(import \"env\" \"memory\" (memory 1))"] {
        let wasm = wat::parse_str(format!("(module {fields} (func (export \"_start\")))"))
            .expect("valid text");
        let code = SealedCode::seal(&compile(&wasm).expect("compiles")).expect("seal");
        assert!(matches!(engine.load(code), Err(LoadError::Invalid(_))), "{fields}");
    }
    let no_entry = compile(&wat::parse_str("(module)").expect("valid text")).expect("compiles");
    let refused = engine.load(SealedCode::seal(&no_entry).expect("seal"));
    assert!(matches!(refused, Err(LoadError::Invalid(_))));
}

#[test]
fn an_entry_point_of_another_shape_fails_and_does_not_crash() {
    for fields in
        ["(func (export \"_start\") (param i32))", "(global (export \"_start\") i32 (i32.const 0))"]
    {
        let outcome = run(&module(&format!("(memory (export \"memory\") 1) {fields}")), |_| {});
        assert_eq!(outcome.reason, Some(Reason::Internal), "{outcome:?}");
    }
}

/// Writes 16 random bytes, the wall clock and the monotonic clock to stdout.
fn clocks() -> Vec<u8> {
    guest(
        "(drop (call $random_get (i32.const 64) (i32.const 16)))
         (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 80)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 88)))
         (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
    )
}

#[test]
fn deterministic_fixes_clock_and_seed_and_nothing_else_does() {
    let fixed = || run(&clocks(), |job| job.deterministic = true).output;
    let real = || run(&clocks(), |_| {}).output;
    assert_eq!(fixed().len(), 32);
    assert_eq!(fixed(), fixed());
    let (one, two) = (real(), real());
    assert_ne!(one[..16], two[..16], "randomness");
    assert_ne!(one[16..24], two[16..24], "wall clock");
}
