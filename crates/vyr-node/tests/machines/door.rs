//! What the door does: start, sessions, logs, stop, the ends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use rustix::process::Signal;
use vyr_node::machines::wire::{ExecFrame, LogLine};
use vyr_node::machines::{Ending, Event, FailedAt, MachineId, MachinesError};
use vyr_vm::channel::words::{
    Check, End, ExecEnd, LogSource, Phase, Prestart, Process, Stage, Window,
};
use vyr_vm::vmm::{Exit, open_tap};

use crate::hold::status;
use crate::place::{House, not_run, shell};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("door::a_machine_runs_is_asked_and_stops", a_machine_runs_is_asked_and_stops),
        trial("door::silence_is_a_check_that_failed", silence_is_a_check_that_failed),
        trial("door::each_end_is_told_once_and_as_what_it_is", each_end_is_told_once),
        trial("door::a_machine_has_the_card_it_was_given", a_machine_has_its_card),
        trial("door::a_flood_is_bounded_and_what_is_gone_is_counted", a_flood_is_bounded),
    ]
}

/// The whole log, or what there is of it.
fn lines(house: &House, id: &MachineId, from: u64, follow: bool) -> Vec<LogLine> {
    let socket = UnixStream::from(house.door.logs(id, from, follow).expect("a log"));
    std::iter::from_fn(|| LogLine::read(&socket).expect("a line")).collect()
}

fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.record.line).into_owned()).collect()
}

/// Output, errors and the end of a session, from here on.
fn rest(socket: &UnixStream) -> (String, String, Option<ExecEnd>) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let end = loop {
        match ExecFrame::read(socket).expect("a frame") {
            Some(ExecFrame::Output(bytes)) => out.extend(bytes),
            Some(ExecFrame::Errors(bytes)) => errors.extend(bytes),
            Some(ExecFrame::Ended(end)) => break Some(end),
            Some(other) => panic!("{other:?}"),
            None => break None,
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(out), text(errors), end)
}

fn silence_is_a_check_that_failed(test: &str) {
    let Some(house) = House::new(test) else { return };
    let mut order = house.order("quiet", "httpd -f -p 127.0.0.1:80 -h /www");
    order.start.health = Some(Check {
        at: "127.0.0.1:80".parse().expect("an address"),
        path: None,
        interval_ms: 100,
        timeout_ms: 1000,
    });
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    let pid = house.event("VMM", |event| match event {
        Event::Started { pid, .. } => Some(*pid),
        Event::Failed { at, why, .. } => panic!("{at}: {why}"),
        _ => None,
    });
    let health = |wanted: bool| {
        house.event("check", |event| match event {
            Event::Health { passed, said, .. } if *passed == wanted => Some(said.clone()),
            _ => None,
        })
    };
    house.runs(&id);
    health(true);
    let send = |signal| {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("it is there");
    };
    // It neither passes nor fails a check any more, and its VMM lives.
    send(Signal::STOP);
    assert_eq!(health(false), "no word of a check for 11 s");
    send(Signal::CONT);
    health(true);
}

fn a_machine_runs_is_asked_and_stops(test: &str) {
    let Some(house) = House::new(test) else { return };
    let script = "trap 'echo caught; exit 3' TERM; echo begun; echo wrong >&2; httpd -p 127.0.0.1:80 -h /www; while true; do sleep 0.1; done";
    let mut order = house.order("web-1", script);
    order.start.health = Some(Check {
        at: "127.0.0.1:80".parse().expect("an address"),
        path: Some("/".into()),
        interval_ms: 200,
        timeout_ms: 2000,
    });
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    let again = house.door.start(house.order("web-1", "true"), None).expect_err("the same name");
    assert_eq!(again, MachinesError::Exists("web-1".into()));
    let pid = house.event("VMM", |event| match event {
        Event::Started { id: of, pid, .. } if *of == id => Some(*pid),
        Event::Failed { at, why, .. } => panic!("{at}: {why}"),
        _ => None,
    });
    house.runs(&id);
    let said = house.event("healthy answer", |event| match event {
        Event::Health { passed: true, said, .. } => Some(said.clone()),
        _ => None,
    });
    assert_eq!(said, "HTTP 200");
    let known = house.door.list().expect("a list");
    assert_eq!((known.len(), known[0].pid, &known[0].phase), (1, Some(pid), &Phase::Running));
    assert_eq!(house.door.forget(&id), Err(MachinesError::Runs("web-1".into())));

    // A session, whose input and output are its client's.
    let session = house.door.exec(&id, shell("cat; echo no >&2; exit 5"), None).expect("a session");
    let session = UnixStream::from(session);
    ExecFrame::Input(b"carried".to_vec()).write(&session).expect("it reads");
    ExecFrame::EndInput.write(&session).expect("it reads");
    assert_eq!(rest(&session), ("carried".into(), "no\n".into(), Some(ExecEnd::Code(5))));
    let window = Some(Window { rows: 7, columns: 9 });
    let terminal = house.door.exec(&id, shell("stty size; read line; stty size"), window);
    let terminal = UnixStream::from(terminal.expect("a session"));
    let mut first = Vec::new();
    while !first.ends_with(b"\n") {
        match ExecFrame::read(&terminal).expect("a frame") {
            Some(ExecFrame::Output(bytes)) => first.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first, b"7 9\r\n");
    ExecFrame::Resize(Window { rows: 8, columns: 10 }).write(&terminal).expect("it reads");
    ExecFrame::Input(b"go\n".to_vec()).write(&terminal).expect("it reads");
    let (out, _, end) = rest(&terminal);
    assert!(out.ends_with("8 10\r\n") && end == Some(ExecEnd::Code(0)), "{out:?} {end:?}");
    // The client's end is the session's.
    let left = UnixStream::from(
        house.door.exec(&id, shell("echo on; sleep 100000"), None).expect("a session"),
    );
    assert_eq!(ExecFrame::read(&left).expect("a frame"), Some(ExecFrame::Output(b"on\n".to_vec())));
    left.shutdown(Shutdown::Both).expect("ours");

    house.door.stop(&id, 15, 60_000).expect("it listens");
    let end = End { code: Some(3), signal: None, oom_killed: false };
    let ended = Event::Ended { id: id.clone(), end: Some(end), exit: Exit::Code(0) };
    assert_eq!(house.ended(&id), ended);
    let known = house.door.list().expect("a list").remove(0);
    assert_eq!(known.ended, Some(Ending::Ended { end: Some(end), exit: Exit::Code(0) }));
    assert_eq!(known.pid, None);
    // The log outlives the machine, until it is forgotten.
    let log = lines(&house, &id, 0, true);
    let mut said = texts(&log);
    assert_eq!(said.pop().as_deref(), Some("caught"));
    said.sort();
    assert_eq!(said, ["begun", "wrong"]);
    let wrong = log.iter().find(|line| line.record.line == b"wrong").expect("a line");
    assert_eq!(wrong.record.source, LogSource::Stderr);
    assert_eq!(texts(&lines(&house, &id, 2, false)), ["caught"]);
    assert!(!house.machines().join("web-1/scratch.img").exists(), "its disk is given back");
    let refused = house.door.exec(&id, shell("true"), None).expect_err("it has ended");
    assert_eq!(refused, MachinesError::NotRunning("web-1".into()));
    house.door.forget(&id).expect("it has ended");
    assert_eq!(house.door.list().expect("a list"), []);
    assert!(!house.machines().join("web-1").exists());
}

const END: End = End { code: None, signal: None, oom_killed: false };

fn each_end_is_told_once(test: &str) {
    let Some(house) = House::new(test) else { return };
    let ended = |id: &MachineId| match house.ended(id) {
        Event::Ended { end, exit, .. } => (end, exit),
        other => panic!("{other:?}"),
    };
    let failed = |id: &MachineId| match house.ended(id) {
        Event::Failed { at, why, .. } => (at, why),
        other => panic!("{other:?}"),
    };
    let id = house.start("code", "exit 7");
    assert_eq!(ended(&id), (Some(End { code: Some(7), ..END }), Exit::Code(0)));

    // Out of memory inside of the guest: the workload is killed, and that is what is said.
    let id = house.start("greedy", "tail /dev/zero");
    let (end, exit) = ended(&id);
    assert!(end.is_some_and(|end| end.oom_killed), "{end:?}");
    assert_eq!(exit, Exit::Code(0), "the machine is unharmed");

    // One that does not want to end.
    let id = house.start("deaf", "trap '' TERM; echo up; while true; do sleep 0.1; done");
    // It has said so only once it does not hear.
    let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    assert_eq!(LogLine::read(&log).expect("a line").expect("one").record.line, b"up");
    house.door.stop(&id, 15, 300).expect("it listens");
    assert_eq!(ended(&id), (Some(End { signal: Some(9), ..END }), Exit::Code(0)));

    let id = house.start("killed", "sleep 100000");
    house.runs(&id);
    house.door.kill(&id).expect("there is one");
    assert_eq!(ended(&id), (None, Exit::Signal(9)));

    // Before it has come up nobody is asked.
    let id = house.start("early", "sleep 100000");
    house.door.stop(&id, 15, 60_000).expect("there is one");
    assert_eq!(ended(&id), (None, Exit::Signal(9)));

    let mut order = house.order("absent", "");
    order.start.process = Process::root(["/bin/none"]);
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    assert_eq!(ended(&id).0, Some(End { code: Some(127), ..END }), "as a shell has it");
    let mut order = house.order("unprepared", "sleep 100000");
    order.start.prestart = Some(Prestart { process: shell("exit 4"), timeout_ms: 60_000 });
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    let (at, why) = failed(&id);
    assert!(at == FailedAt::Guest(Stage::Prestart) && why.contains('4'), "{at} {why}");

    // No disk of that size can be made, and no machine of that memory.
    let mut order = house.order("odd", "true");
    order.scratch_bytes = Some(17);
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    let (at, why) = failed(&id);
    assert!(at == FailedAt::Disk && why.contains("17 bytes"), "{at} {why}");

    // Each was told once, and is known until it is forgotten.
    assert_eq!(house.heard(), []);
    let known = house.door.list().expect("a list");
    assert_eq!(known.len(), 8);
    for known in known {
        assert!(known.ended.is_some() && known.pid.is_none(), "{known:?}");
        house.door.forget(&known.id).expect("it has ended");
    }
    let nobody = MachineId::new("nobody").expect("a name");
    assert_eq!(house.door.kill(&nobody), Err(MachinesError::Unknown("nobody".into())));
}

/// Lines of the flood: with their heads more than both files of a log.
const FLOOD: u64 = 600_000;

fn a_flood_is_bounded(test: &str) {
    let Some(house) = House::new(test) else { return };
    let id = house.start("flood", &format!("seq 1 {FLOOD}; echo over; sleep 100000"));
    house.runs(&id);
    // Somebody follows it, and somebody else asks for a log and does not read it.
    let idle = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    let reading = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    let (mut came, mut gone, mut last) = (0, 0, Vec::new());
    loop {
        let line = LogLine::read(&reading).expect("a line").expect("the last one is not here");
        match line.record.dropped() {
            Some(count) => gone += count,
            None if line.record.line == b"over" => break,
            None => {
                came += 1;
                last = line.record.line;
            }
        }
    }
    println!("{came} lines came, {gone} were dropped");
    assert_eq!((came + gone, &last[..]), (FLOOD, FLOOD.to_string().as_bytes()));
    // The files are bounded, and so is the process.
    for name in ["log", "log.older"] {
        let size =
            std::fs::metadata(house.machines().join("flood").join(name)).expect("a file").len();
        assert!(size <= 4 << 20, "{name} has {size} bytes");
    }
    let memory = status(house.pid(), "VmRSS");
    let memory: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(memory < 64 << 10, "machines has {memory} KiB");
    // Who reads late hears what is left, and how much is not.
    drop(idle);
    let late = lines(&house, &id, 0, false);
    let gone = late[0].record.dropped().expect("a count of what is gone");
    assert!(gone > 0 && late[0].number == gone, "{gone}");
    let last = late.last().expect("a line");
    assert_eq!(last.record.line, b"over");
    assert_eq!(last.number + 1 - gone, late.len() as u64 - 1, "none in between is missing");
    // A guest that floods is heard all the same.
    house.door.stop(&id, 9, 0).expect("it listens");
    house.ended(&id);
}

fn a_machine_has_its_card(test: &str) {
    if !rustix::process::geteuid().is_root() {
        return not_run(test, "needs root");
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return not_run(test, "there is no /dev/net/tun");
    }
    let Some(house) = House::new(test) else { return };
    // The TAP is in a namespace that ends with the test.
    let keeper = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut keeper) = keeper else { return not_run(test, "unshare is not installed") };
    keeper.stdin.as_mut().expect("a pipe").write_all(b"x").expect("it reads");
    let entered = keeper.stdout.as_mut().expect("a pipe").read_exact(&mut [0]);
    if entered.is_err() {
        return not_run(test, "may not make network namespaces");
    }
    let namespace = format!("/proc/{}/ns/net", keeper.id());
    let tap = open_tap("vyr-test", Some(namespace.as_ref())).expect("root may");
    let mut order = house.order("carded", "cat /sys/class/net/eth0/address; sleep 100000");
    // A snapshot is of a machine with the same cards.
    order.snapshot = None;
    let id = order.id.clone();
    house.door.start(order, Some((tap, [2, 0, 0, 7, 0, 9]))).expect("it is taken");
    let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    let line = LogLine::read(&log).expect("a line").expect("one").record.line;
    assert_eq!(String::from_utf8_lossy(&line), "02:00:00:07:00:09");
    house.door.kill(&id).expect("there is one");
    house.ended(&id);
    keeper.kill().expect("ours");
    keeper.wait().expect("ours");
}
