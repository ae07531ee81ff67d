//! A machine outlives its parent, and is adopted.

use std::process::Command;

use vyr_vm::channel::words::{End, ExecEnd, ExecSpec, Part, Phase};
use vyr_vm::vmm::{Exit, Machine, Status, Vmm, VmmError};

use crate::place::{HANG, RUN, driver, place, run, shell, start, turn};

/// Set: this process is the parent that is killed.
const PARENT: &str = "VYR_TEST_PARENT";

/// Not a test of its own: the parent's life, in a process that the test kills.
#[test]
fn as_parent() {
    let Some(path) = std::env::var_os(PARENT) else { return };
    let Some(place) = place("adopt::as_parent") else { return };
    let path = std::path::PathBuf::from(path);
    let driver = driver();
    let spec = place.spec();
    driver.prepare(&spec, &path).expect("prepared");
    let machine = driver.start(spec, &path).expect("started");
    let channel = machine.channel(false, HANG).expect("a channel");
    channel
        .start(start("echo one; while ! test -e /tmp/go; do sleep 0.1; done; echo two; exit 9"))
        .expect("started");
    let running = |phase: &Phase| (*phase == Phase::Running).then_some(());
    channel.wait_phase(HANG, running).expect("it runs");
    let spec = ExecSpec { process: shell("echo begun; cat; exit 6"), terminal: None };
    let exec = channel.exec(spec, HANG).expect("a session");
    exec.write(b"before ", HANG).expect("it reads");
    // The session has said something that nobody took, and has taken something.
    std::fs::write(path.join("ready"), "").expect("room");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_machine_is_adopted_in_the_midst_of_a_session() {
    let _turn = turn();
    let name = "adopt::a_machine_is_adopted_in_the_midst_of_a_session";
    let Some(_place) = place(name) else { return };
    let directory = tempfile::tempdir().expect("room");
    let path = directory.path().join("machine");
    let this = std::env::current_exe().expect("this program");
    let mut parent = Command::new(this)
        .args(["--exact", "adopt::as_parent", "--nocapture"])
        .env(PARENT, &path)
        .env(RUN, run())
        .spawn()
        .expect("it starts");
    let end = std::time::Instant::now() + HANG * 2;
    while !path.join("ready").exists() {
        assert!(std::time::Instant::now() < end, "the parent does not come that far");
        assert!(parent.try_wait().expect("ours").is_none(), "the parent ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    parent.kill().expect("ours");
    parent.wait().expect("ours");

    let machine = driver().attach(&path).expect("it runs on");
    assert_eq!(machine.status(), Status::Running);
    let channel = machine.channel(false, HANG).expect("a channel");
    assert_eq!(channel.phase(), Phase::Running);
    assert_eq!(channel.sessions(), [1]);
    let exec = channel.adopt_exec(1).expect("the session");
    assert!(channel.adopt_exec(1).is_err(), "somebody has it");
    exec.write(b"and after", HANG).expect("it reads");
    exec.end_input().expect("it listens");
    // What nobody took is told again; what was sent before is not sent twice.
    let out = exec.read_all(Part::Stdout, 1000, HANG).expect("output");
    assert_eq!(String::from_utf8_lossy(&out), "begun\nbefore and after");
    assert_eq!(exec.wait(HANG).expect("an end"), ExecEnd::Code(6));
    exec.close().expect("it listens");
    let go = ExecSpec { process: shell("touch /tmp/go"), terminal: None };
    channel.exec(go, HANG).expect("a session").wait(HANG).expect("an end");
    let ended = |phase: &Phase| match phase {
        Phase::Ended(end) => Some(*end),
        _ => None,
    };
    let code = channel.wait_phase(HANG, ended).expect("it ends");
    assert_eq!(code, End { code: Some(9), signal: None, oom_killed: false });
    let mut lines = Vec::new();
    loop {
        let records = channel.read_log(HANG).expect("a log");
        if records.is_empty() {
            break;
        }
        lines.extend(records.into_iter().map(|it| String::from_utf8_lossy(&it.line).into_owned()));
    }
    assert_eq!(lines, ["one", "two"]);
    // Only the process that started it can store it.
    let stored = machine.snapshot(channel, &path.join("stored")).expect_err("it is known");
    assert!(matches!(stored, VmmError::NotBlank), "{stored}");
    let channel = machine.channel(false, HANG).expect("a channel");
    channel.power_off().expect("it listens");
    assert_eq!(machine.wait(HANG).expect("it ends"), Exit::Unknown);
    let gone = driver().attach(&path).expect_err("it is gone");
    assert!(matches!(gone, VmmError::NotRunning(_)), "{gone}");
}
