//! VMMs outlive `machines`, and the next one finds them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use vyr_node::machines::wire::{ExecFrame, LogLine};
use vyr_node::machines::{Event, FailedAt, MachineId, MachinesError};
use vyr_vm::channel::words::{End, ExecEnd, Phase};
use vyr_vm::vmm::{Exit, Machine, Platform, Qemu, Spec, Vmm};

use crate::place::{HANG, House, shell};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("adopt::a_machine_outlives_machines_and_is_taken_over", is_taken_over),
        trial("adopt::an_end_that_nobody_saw_is_told_until_it_is_forgotten", an_end_nobody_saw),
        trial("adopt::a_vmm_that_never_ran_is_removed", never_ran),
        trial("adopt::a_guest_that_was_told_nothing_is_removed", told_nothing),
        trial("adopt::killed_while_it_starts_nothing_is_left_over", killed_while_it_starts),
    ]
}

pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a number");
    kill_process(pid, Signal::KILL).expect("it runs");
}

fn adopted(house: &House, id: &MachineId) -> (u32, Phase) {
    house.event("adopted machine", |event| match event {
        Event::Adopted { id: of, pid, phase } if of == id => Some((*pid, phase.clone())),
        Event::Failed { id: of, at, why } if of == id => panic!("{at}: {why}"),
        _ => None,
    })
}

fn is_taken_over(test: &str) {
    let Some(house) = House::new(test) else { return };
    let script = "n=0; while ! test -e /tmp/go; do n=$((n+1)); echo $n; sleep 0.05; done; exit 9";
    let id = house.start("kept", script);
    house.runs(&id);
    let before = house.door.list().expect("a list");
    let open =
        UnixStream::from(house.door.exec(&id, shell("echo on; cat"), None).expect("a session"));
    assert_eq!(ExecFrame::read(&open).expect("a frame"), Some(ExecFrame::Output(b"on\n".to_vec())));
    let first = house.pid();
    kill(first);
    // Its client hears the end of a session.
    assert!(!matches!(ExecFrame::read(&open), Ok(Some(_))), "somebody goes on with it");
    let (pid, phase) = adopted(&house, &id);
    assert_eq!((Some(pid), phase), (before[0].pid, Phase::Running));
    assert_ne!(house.pid(), first);
    assert_eq!(house.door.list().expect("a list"), before, "it is the same machine");
    // All numbers of sessions are free again, and a session is one as before.
    let end = Instant::now() + HANG;
    let mut sessions = Vec::new();
    while sessions.len() < 8 {
        match house.door.exec(&id, shell("cat"), None) {
            Ok(session) => sessions.push(session),
            // The guest has not said yet that the one of before is gone.
            Err(MachinesError::Guest { .. }) if Instant::now() < end => std::thread::yield_now(),
            Err(e) => panic!("{e}"),
        }
    }
    drop(sessions);
    // Restarted in order it is the same.
    let house = house.again();
    let (again, phase) = adopted(&house, &id);
    assert_eq!((again, phase), (pid, Phase::Running));
    let go =
        UnixStream::from(house.door.exec(&id, shell("touch /tmp/go"), None).expect("a session"));
    let end = std::iter::from_fn(|| ExecFrame::read(&go).expect("a frame")).last();
    assert_eq!(end, Some(ExecFrame::Ended(ExecEnd::Code(0))));
    let end = End { code: Some(9), signal: None, oom_killed: false };
    // Its parent is gone, so how the VMM ended is not known; how the workload did is.
    let ended = Event::Ended { id: id.clone(), end: Some(end), exit: Exit::Unknown };
    assert_eq!(house.ended(&id), ended);
    // No line was lost: the guest forgets one only when it is written.
    let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    let lines = std::iter::from_fn(|| LogLine::read(&log).expect("a line"));
    let mut numbers: Vec<u64> = lines
        .map(|line| String::from_utf8_lossy(&line.record.line).parse().expect("a number"))
        .collect();
    let written = numbers.len();
    numbers.dedup();
    println!("{} lines, {} of them twice", written, written - numbers.len());
    assert!(numbers.len() > 3 && numbers.iter().enumerate().all(|(n, line)| *line == n as u64 + 1));
}

fn an_end_nobody_saw(test: &str) {
    let Some(house) = House::new(test) else { return };
    let id = house.start("gone", "sleep 100000");
    house.runs(&id);
    let vmm = house.door.list().expect("a list")[0].pid.expect("it runs");
    let machines = house.pid();
    // Nobody may see it end: `machines` stands still until it is killed.
    let stopped = Pid::from_raw(machines.cast_signed()).expect("a number");
    kill_process(stopped, Signal::STOP).expect("ours");
    kill(vmm);
    kill(machines);
    let ended = Event::Ended { id: id.clone(), end: None, exit: Exit::Unknown };
    assert_eq!(house.ended(&id), ended);
    assert_eq!(house.heard(), [], "once");
    let house = house.again();
    assert_eq!(house.ended(&id), ended, "nobody has forgotten it");
    assert_eq!(house.heard(), [], "once");
    house.door.forget(&id).expect("it has ended");
    let house = house.again();
    assert_eq!(house.door.list().expect("a list"), []);
    assert_eq!(house.heard(), []);
}

fn never_ran(test: &str) {
    let Some(house) = House::new(test) else { return };
    // As `machines` leaves it that is killed between the record and the first word of the VMM.
    let directory = house.machines().join("half");
    fs::create_dir(&directory).expect("room");
    let record =
        r#"{"version":1,"id":"half","uid":null,"mark":"vyr-00ff","ran":false,"ended":null}"#;
    fs::write(directory.join("instance.json"), record).expect("room");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(house.machines()).expect("one"));
    for path in [directory.clone(), directory.join("instance.json")] {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("ours");
    }
    // It waits for its standard input, as a VMM does.
    let stray = |mark: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", mark]).stdin(Stdio::piped());
        command.spawn().expect("sh starts")
    };
    let (mut left, mut other) = (stray("vyr-00ff"), stray("vyr-00fe"));
    let house = house.again();
    let id = MachineId::new("half").expect("a name");
    match house.ended(&id) {
        Event::Failed { at, why, .. } => {
            assert!(at == FailedAt::Vmm && why.contains("started"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    assert!(!left.wait().expect("ours").success(), "it was killed");
    assert!(other.try_wait().expect("ours").is_none(), "nobody else was");
    other.kill().expect("ours");
    other.wait().expect("ours");
    house.door.forget(&id).expect("it has ended");
}

fn told_nothing(test: &str) {
    let Some(house) = House::new(test) else { return };
    // As it is left by a `machines` that is killed once the guest is up: here the test is that.
    let directory = house.machines().join("blank");
    let order = house.order("blank", "");
    let spec = Spec {
        platform: Platform::open(&house.base.guests.platform).expect("a platform"),
        root: fs::File::open(&house.base.guests.root).expect("a disk"),
        memory_bytes: order.memory_bytes,
        vcpus: 1,
        scratch_bytes: order.scratch_bytes,
        card: None,
        user: None,
        cgroup: None,
        snapshot: order.snapshot.clone(),
        mark: Some("vyr-00aa".into()),
    };
    let driver = Qemu::emulated("as in the snapshot").expect("QEMU");
    driver.prepare(&spec, &directory).expect("prepared");
    let machine = driver.start(spec, &directory).expect("started");
    let record =
        r#"{"version":1,"id":"blank","uid":null,"mark":"vyr-00aa","ran":true,"ended":null}"#;
    fs::write(directory.join("instance.json"), record).expect("room");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(house.machines()).expect("one"));
    let mut all = vec![directory.clone()];
    for below in [&directory, &directory.join("run")] {
        all.extend(fs::read_dir(below).expect("ours").flatten().map(|entry| entry.path()));
    }
    for path in all {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("ours");
    }
    let house = house.again();
    let id = MachineId::new("blank").expect("a name");
    match house.ended(&id) {
        Event::Failed { at, why, .. } => {
            assert!(at == FailedAt::Boot && why.contains("being started"), "{at} {why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(machine.wait(HANG).expect("it was killed"), Exit::Signal(9));
    house.door.forget(&id).expect("it has ended");
}

/// Processes with a mark on their command line.
pub(crate) fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())).count()
}

fn killed_while_it_starts(test: &str) {
    let Some(house) = House::new(test) else { return };
    for (n, point) in ["ordered", "started", "told", "running"].into_iter().enumerate() {
        let id = house.start(&format!("m{n}"), "sleep 100000");
        let record = fs::read_to_string(house.machines().join(format!("m{n}/instance.json")));
        let record: serde_json::Value =
            serde_json::from_str(&record.expect("a record")).expect("JSON");
        let mark = record["mark"].as_str().expect("a mark").to_owned();
        let reached = |event: &Event| match (point, event) {
            ("started", Event::Started { .. }) => Some(()),
            ("told", Event::Phase { .. }) => Some(()),
            ("running", Event::Phase { phase: Phase::Running, .. }) => Some(()),
            _ => None,
        };
        if point != "ordered" {
            house.event(point, reached);
        }
        kill(house.pid());
        // It is adopted or it failed, and either is said.
        let runs = house.event("fate", |event| match event {
            Event::Adopted { id: of, .. } if *of == id => Some(true),
            Event::Failed { id: of, .. } | Event::Ended { id: of, .. } if *of == id => Some(false),
            _ => None,
        });
        println!("killed when it was {point}: {}", if runs { "adopted" } else { "removed" });
        assert!(runs || point != "running", "what runs is adopted");
        assert_eq!(marked(&mark), usize::from(runs), "{point}");
        if runs {
            house.door.kill(&id).expect("there is one");
            house.ended(&id);
        }
        assert_eq!(marked(&mark), 0);
        house.door.forget(&id).expect("it has ended");
    }
}
