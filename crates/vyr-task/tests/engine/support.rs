//! What the tests share: an engine, guests written as text, one way to run them.

use std::sync::Arc;

use vyr_task::{Engine, EngineConfig, Job, Outcome, Program, SealedCode, compile};

/// The start of every guest in text form: the WASI calls the tests use, and a memory.
pub(crate) const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write"
      (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read"
      (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (import "wasi_snapshot_preview1" "random_get"
      (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get"
      (func $clock_time_get (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff"
      (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get"
      (func $fd_prestat_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
      (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
"#;

/// A guest with one page of memory whose `_start` is `body`.
pub(crate) fn guest(body: &str) -> Vec<u8> {
    module(&format!("(memory (export \"memory\") 1) (func (export \"_start\") {body})"))
}

/// A module of `PRELUDE` and `fields`.
pub(crate) fn module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {PRELUDE} {fields})")).expect("test guest is valid text")
}

pub(crate) fn engine(slots: u32) -> Engine {
    Engine::new(EngineConfig::new(slots)).expect("engine")
}

pub(crate) fn load(engine: &Engine, wasm: &[u8]) -> Arc<Program> {
    let code = compile(wasm).expect("test guest compiles");
    Arc::new(engine.load(SealedCode::seal(&code).expect("seal")).expect("test guest links"))
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}

/// Runs `wasm` alone on a fresh engine; `change` sets what the test is about.
pub(crate) fn run(wasm: &[u8], change: impl FnOnce(&mut Job)) -> Outcome {
    let engine = engine(1);
    let mut job = Job::new(load(&engine, wasm));
    change(&mut job);
    block_on(engine.run(job))
}

/// Says that the present test was not run, and why, where `cargo xtask ci` counts it.
pub(crate) fn not_run(reason: &str) {
    println!("not run: {reason}");
    let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
    let current = std::thread::current();
    let line = format!("{}: {reason}\n", current.name().unwrap_or("unnamed"));
    let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
    // One write, so that lines of tests at once do not mix.
    log.and_then(|mut log| std::io::Write::write_all(&mut log, line.as_bytes()))
        .expect("the log can be written");
}
