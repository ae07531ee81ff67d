//! The confined processes, driven from outside. Without the usual harness, because the processes are
//! this binary started again: `main` must be able to live a role before anything else.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use vyr_node::process::{CompileLimits, CompilerProcess, Role, RunSpec, TasksProcess, serve};
use vyr_task::{CompileFailure, Compiler, Limits, MachineCode, Outcome, Reason, SealedCode, State};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let trials = vec![
        trial("a_module_and_a_component_compile", a_module_and_a_component_compile),
        trial("what_is_not_wasm_is_invalid", what_is_not_wasm_is_invalid),
        trial("a_million_functions_meet_the_cpu_limit", a_million_functions_meet_the_cpu_limit),
        trial("many_functions_meet_the_memory_limit", many_functions_meet_the_memory_limit),
        trial("machine_code_meets_its_size_limit", machine_code_meets_its_size_limit),
        trial("a_slow_compilation_meets_the_wall_limit", a_slow_compilation_meets_the_wall_limit),
        trial("a_guest_runs_and_its_streams_end", a_guest_runs_and_its_streams_end),
        trial("an_endless_guest_is_cancelled", an_endless_guest_is_cancelled),
        trial("a_killed_process_is_a_lost_task", a_killed_process_is_a_lost_task),
        trial("a_frozen_process_is_a_lost_task", a_frozen_process_is_a_lost_task),
        trial("code_that_is_not_code_is_refused", code_that_is_not_code_is_refused),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        body();
        Ok(())
    })
}

fn compile(wasm: &[u8], limits: CompileLimits) -> Result<MachineCode, CompileFailure> {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(wasm).expect("write");
    file.seek(SeekFrom::Start(0)).expect("seek");
    CompilerProcess { limits }.compile(file)
}

fn text(wasm: &str) -> Vec<u8> {
    wat::parse_str(wasm).expect("valid text")
}

fn a_module_and_a_component_compile() {
    for wasm in [text("(module)"), text("(component)")] {
        assert!(!compile(&wasm, CompileLimits::default()).expect("compiles").bytes.is_empty());
    }
}

fn what_is_not_wasm_is_invalid() {
    let mut torn = text("(module (func (export \"_start\")))");
    torn.truncate(torn.len() - 2);
    for wasm in [b"".to_vec(), b"#!/bin/sh\n".to_vec(), torn, vec![0; 4096]] {
        let refused = compile(&wasm, CompileLimits::default());
        assert!(matches!(refused, Err(CompileFailure::Invalid(_))), "{refused:?}");
    }
}

/// A module of so many empty functions, in the binary form: the text would be fifty times larger.
fn functions(count: u32) -> Vec<u8> {
    let section = |id: u8, body: &[u8]| {
        let mut section = vec![id];
        section.extend(leb(u32::try_from(body.len()).expect("small")));
        section.extend_from_slice(body);
        section
    };
    let mut bodies = leb(count);
    (0..count).for_each(|_| bodies.extend([2, 0, 0x0b]));
    let mut types = leb(count);
    types.resize(types.len() + count as usize, 0);
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.extend(section(1, &[1, 0x60, 0, 0]));
    wasm.extend(section(3, &types));
    wasm.extend(section(10, &bodies));
    wasm
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn assert_limit(result: &Result<MachineCode, CompileFailure>, says: &str) {
    match result {
        Err(CompileFailure::Limit(what)) => assert!(what.contains(says), "{what}"),
        other => panic!("{:?}", other.as_ref().map(|code| code.bytes.len())),
    }
}

fn a_million_functions_meet_the_cpu_limit() {
    // A few are fine, so it is their number.
    compile(&functions(1000), CompileLimits::default()).expect("compiles");
    // Wasm itself allows a million in a module.
    let limits = CompileLimits { cpu_s: 1, ..CompileLimits::default() };
    assert_limit(&compile(&functions(1_000_000), limits), "processor time");
}

fn many_functions_meet_the_memory_limit() {
    let limits = CompileLimits { memory_bytes: 300 << 20, ..CompileLimits::default() };
    assert_limit(&compile(&functions(1_000_000), limits), "memory");
}

fn machine_code_meets_its_size_limit() {
    let limits = CompileLimits { code_bytes: 64 << 10, ..CompileLimits::default() };
    assert_limit(&compile(&functions(10_000), limits), "machine code");
}

fn a_slow_compilation_meets_the_wall_limit() {
    let limits = CompileLimits { wall_s: 0, ..CompileLimits::default() };
    assert_limit(&compile(&functions(100_000), limits), "wall time");
}

const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write"
      (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
"#;

fn sealed(start: &str) -> SealedCode {
    let wasm = text(&format!("(module {PRELUDE} (func (export \"_start\") {start}))"));
    SealedCode::seal(&compile(&wasm, CompileLimits::default()).expect("compiles")).expect("seal")
}

fn spec(limits: Limits) -> RunSpec {
    RunSpec { args: vec!["guest".into()], env: Vec::new(), limits, deterministic: false }
}

/// Starts `start` in a process of its own and lets `meanwhile` at it.
fn run(
    start: &str,
    limits: Limits,
    meanwhile: impl FnOnce(u32, Box<dyn Fn() + Send>),
) -> (Outcome, String) {
    let mut process = TasksProcess::start(1, 1).expect("process");
    let (input, feed) = rustix::pipe::pipe().expect("pipe");
    let (take, output) = rustix::pipe::pipe().expect("pipe");
    let (_log, error) = rustix::pipe::pipe().expect("pipe");
    drop(feed);
    let code = sealed(start);
    let running = process
        .run(&code, spec(limits), input.as_fd(), output.as_fd(), error.as_fd())
        .expect("handed over");
    drop(output);
    meanwhile(process.id(), Box::new(running.canceller().expect("socket")));
    let outcome = running.wait().expect("an outcome");
    process.kill();
    let mut text = String::new();
    File::from(take).read_to_string(&mut text).expect("UTF-8");
    (outcome, text)
}

const HELLO: &str = r#"
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 3))
    (i32.store (i32.const 64) (i32.const 0x0a6968))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
"#;

const SPIN: &str = "(loop $again (br $again))";

fn a_guest_runs_and_its_streams_end() {
    let (outcome, output) = run(HELLO, Limits::default(), |_, _| {});
    assert_eq!(outcome.state, State::Completed, "{outcome:?}");
    assert_eq!(output, "hi\n");
}

fn an_endless_guest_is_cancelled() {
    let (outcome, _) = run(SPIN, Limits::default(), |_, cancel| cancel());
    assert_eq!(outcome.state, State::Cancelled, "{outcome:?}");
}

fn kill(process: u32, signal: rustix::process::Signal) {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(process.expect("a process id"), signal).expect("signal");
}

fn a_killed_process_is_a_lost_task() {
    let (outcome, _) =
        run(SPIN, Limits::default(), |id, _| kill(id, rustix::process::Signal::KILL));
    assert_eq!(outcome.reason, Some(Reason::Lost), "{outcome:?}");
}

fn a_frozen_process_is_a_lost_task() {
    let limits = Limits { deadline_ms: 100, ..Limits::default() };
    let (outcome, _) = run(SPIN, limits, |id, _| kill(id, rustix::process::Signal::STOP));
    assert_eq!(outcome.reason, Some(Reason::Lost), "{outcome:?}");
}

fn code_that_is_not_code_is_refused() {
    let mut process = TasksProcess::start(1, 1).expect("process");
    let pipes: Vec<(OwnedFd, OwnedFd)> =
        (0..3).map(|_| rustix::pipe::pipe().expect("pipe")).collect();
    let nonsense = MachineCode { kind: vyr_task::Kind::Module, bytes: vec![0; 4096] };
    let code = SealedCode::seal(&nonsense).expect("seal");
    let running = process
        .run(
            &code,
            spec(Limits::default()),
            pipes[0].0.as_fd(),
            pipes[1].1.as_fd(),
            pipes[2].1.as_fd(),
        )
        .expect("handed over");
    let outcome = running.wait().expect("an outcome");
    assert_eq!(outcome.reason, Some(Reason::Invalid), "{outcome:?}");
}
