//! Sessions beside the workload.

use vyr_vm::channel::words::{EXECS_MAX, ExecEnd, ExecSpec, Part, Window};

use crate::place::{HANG, place, shell, turn};

fn plain(script: &str) -> ExecSpec {
    ExecSpec { process: shell(script), terminal: None }
}

#[test]
fn a_session_has_streams_and_an_end_of_its_own() {
    let _turn = turn();
    let Some(place) = place("exec::a_session_has_streams_and_an_end_of_its_own") else { return };
    let guest = place.restored();
    guest.run("echo up; sleep 100000");
    guest.line("up");
    let exec = guest.channel.exec(plain("cat; echo wrong >&2; exit 5"), HANG).expect("a session");
    // More than a window, both ways at once.
    let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let came = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            exec.write(&sent, HANG).expect("it reads");
            exec.end_input().expect("it listens");
        });
        let came = exec.read_all(Part::Stdout, usize::MAX, HANG).expect("output");
        writing.join().expect("no panic");
        came
    });
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
    assert_eq!(exec.read_all(Part::Stderr, 100, HANG).expect("output"), b"wrong\n");
    assert_eq!(exec.wait(HANG).expect("an end"), ExecEnd::Code(5));
    exec.close().expect("it listens");

    let killed = guest.channel.exec(plain("echo on; sleep 100000"), HANG).expect("a session");
    assert_eq!(killed.read(Part::Stdout, HANG).expect("output"), b"on\n");
    killed.signal(9).expect("it listens");
    assert_eq!(killed.wait(HANG).expect("an end"), ExecEnd::Signal(9));
}

#[test]
fn a_session_with_a_terminal_has_its_size() {
    let _turn = turn();
    let Some(place) = place("exec::a_session_with_a_terminal_has_its_size") else { return };
    let guest = place.restored();
    guest.run("echo up; sleep 100000");
    guest.line("up");
    let spec = ExecSpec {
        process: shell("tty >/dev/null && stty size; read line; stty size"),
        terminal: Some(Window { rows: 41, columns: 121 }),
    };
    let exec = guest.channel.exec(spec, HANG).expect("a session");
    let mut out = Vec::new();
    while !out.ends_with(b"\n") {
        out.extend(exec.read(Part::Stdout, HANG).expect("output"));
    }
    assert_eq!(out, b"41 121\r\n");
    exec.resize(Window { rows: 30, columns: 90 }).expect("it listens");
    exec.write(b"go\n", HANG).expect("it reads");
    let rest = exec.read_all(Part::Stdout, 1000, HANG).expect("output");
    assert!(rest.ends_with(b"30 90\r\n"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(exec.wait(HANG).expect("an end"), ExecEnd::Code(0));
}

#[test]
fn there_are_only_so_many_sessions_and_numbers_come_back() {
    let _turn = turn();
    let Some(place) = place("exec::there_are_only_so_many_sessions_and_numbers_come_back") else {
        return;
    };
    let guest = place.restored();
    guest.run("echo up; sleep 100000");
    guest.line("up");
    let mut execs = Vec::new();
    for _ in 0..EXECS_MAX {
        execs.push(guest.channel.exec(plain("yes"), HANG).expect("a session"));
    }
    let refused = guest.channel.exec(plain("true"), HANG).expect_err("too many");
    assert_eq!(refused.to_string(), "the guest has 8 sessions already");
    for exec in execs {
        exec.close().expect("it listens");
    }
    let end = std::time::Instant::now() + HANG;
    // The guest answers each end of a session; then its number is free.
    let exec = loop {
        match guest.channel.exec(plain("echo again"), HANG) {
            Ok(exec) => break exec,
            Err(e) if std::time::Instant::now() > end => panic!("{e}"),
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(exec.read(Part::Stdout, HANG).expect("output"), b"again\n");
}
