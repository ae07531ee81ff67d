//! From the start of a workload to its end: codes, signals, stops, floods.

use std::fs;
use std::time::{Duration, Instant};

use vyr_space::SmallDisk;
use vyr_vm::channel::words::{End, ExecSpec, Part, Phase, Prestart, Stage};
use vyr_vm::vmm::{Exit, Machine, Status};

use crate::place::{HANG, not_run, place, shell, start, turn};

const END: End = End { code: None, signal: None, oom_killed: false };

#[test]
fn a_workload_is_in_its_machine_and_nowhere_else() {
    let _turn = turn();
    let Some(place) = place("life::a_workload_is_in_its_machine_and_nowhere_else") else { return };
    let guest = place.restored();
    guest.run("echo release $(uname -r); echo name $(hostname); sleep 987654");
    let release = guest.line("release ");
    assert_eq!(release, format!("release {}", place.platform.release));
    assert_eq!(guest.channel.kernel(), place.platform.release);
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    assert_ne!(release, format!("release {}", host.trim()));
    assert_eq!(guest.line("name "), "name guest");
    // The host has a VMM, and no process of this command line.
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    for process in processes {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        assert!(!arguments.contains(&&b"987654"[..]), "{}", process.path().display());
    }
    assert_eq!(guest.machine.status(), Status::Running);
    // Killing the VMM is killing the workload, and it is seen at once by both.
    assert_eq!(guest.machine.kill().expect("killed"), Exit::Signal(9));
    let gone = guest.channel.wait_phase(HANG, |_| None::<()>).expect_err("the channel ended");
    assert_eq!(gone.to_string(), "the guest closed the channel");
    assert_eq!(guest.machine.status(), Status::Ended(Exit::Signal(9)));
}

#[test]
fn exit_codes_and_signals_are_told_and_the_machine_goes() {
    let _turn = turn();
    let Some(place) = place("life::exit_codes_and_signals_are_told_and_the_machine_goes") else {
        return;
    };
    for (script, end) in [
        ("exit 7", End { code: Some(7), ..END }),
        ("kill -9 $$", End { signal: Some(9), ..END }),
        ("exec /bin/none", End { code: Some(127), ..END }),
    ] {
        let guest = place.restored();
        guest.run(script);
        assert_eq!(guest.end(), end, "{script}");
        let lines = guest.log();
        assert_eq!(lines.len(), usize::from(script.contains("none")), "{lines:?}");
        guest.channel.power_off().expect("it listens");
        assert_eq!(guest.machine.wait(HANG).expect("it ends"), Exit::Code(0), "{script}");
    }
}

#[test]
fn a_stop_is_a_signal_and_then_the_end() {
    let _turn = turn();
    let Some(place) = place("life::a_stop_is_a_signal_and_then_the_end") else { return };
    let polite = place.restored();
    polite.run("trap 'echo asked; exit 3' TERM; echo ready; while true; do sleep 0.1; done");
    polite.line("ready");
    assert_eq!(polite.machine.stop(&polite.channel, 15, HANG).expect("it stops"), Exit::Code(0));
    assert_eq!(polite.channel.phase(), Phase::Ended(End { code: Some(3), ..END }));
    let deaf = place.restored();
    deaf.run("trap '' TERM; echo ready; while true; do sleep 0.1; done");
    deaf.line("ready");
    let exit = deaf.machine.stop(&deaf.channel, 15, Duration::from_millis(300)).expect("it stops");
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(deaf.channel.phase(), Phase::Ended(End { signal: Some(9), ..END }));
}

#[test]
fn a_guests_time_does_not_run_ahead() {
    let _turn = turn();
    let Some(place) = place("life::a_guests_time_does_not_run_ahead") else { return };
    let guest = place.restored();
    let tell = |name: &str| format!("read up idle < /proc/uptime; echo \"{name} $up\"");
    let uptime = |name: &str| guest.line(name)[name.len()..].trim().parse::<f64>();
    let begun = Instant::now();
    guest.run(&format!("{}; sleep 8; {}; sleep 100000", tell("first"), tell("second")));
    let (first, second) = (uptime("first "), uptime("second "));
    // Whatever keeps a guest or its words waiting makes only this longer.
    let outside = begun.elapsed().as_secs_f64();
    let inside = second.expect("seconds") - first.expect("seconds");
    assert!(inside >= 7.9 && inside < outside * 1.01, "{inside} s inside, {outside} s outside");
}

#[test]
fn a_flood_is_bounded_and_keeps_nobody_waiting() {
    let _turn = turn();
    let Some(place) = place("life::a_flood_is_bounded_and_keeps_nobody_waiting") else { return };
    let guest = place.restored();
    guest.run("yes flood | head -n 400000; echo done > /tmp/done; sleep 100000");
    // Nobody reads the log. The workload goes on all the same, and a session is answered.
    let spec = ExecSpec {
        process: shell("while ! test -e /tmp/done; do sleep 0.05; done; echo through"),
        terminal: None,
    };
    let exec = guest.channel.exec(spec, HANG).expect("a session");
    let out = exec.read_all(Part::Stdout, 1000, HANG).expect("output");
    assert_eq!(out, b"through\n");
    let (mut dropped, mut lines) = (0, 0);
    while dropped + lines < 400_000 {
        for record in guest.channel.read_log(HANG).expect("a log") {
            match record.dropped() {
                Some(count) => dropped += count,
                None => {
                    assert_eq!(record.line, b"flood");
                    lines += 1;
                }
            }
        }
    }
    assert_eq!(dropped + lines, 400_000);
    assert!(dropped > 0, "{lines} lines were kept");
}

#[test]
fn a_full_disk_of_the_host_is_told_to_the_guest_and_stops_nobody() {
    let test = "life::a_full_disk_of_the_host_is_told_to_the_guest_and_stops_nobody";
    let _turn = turn();
    let Some(place) = place(test) else { return };
    if !rustix::process::geteuid().is_root() {
        return not_run(test, "needs root");
    }
    let directory = tempfile::tempdir().expect("room");
    let machine = directory.path().join("machine");
    fs::create_dir(&machine).expect("room");
    let Some(disk) = SmallDisk::mount(&machine, 24) else {
        return not_run(test, "may not mount");
    };
    let guest = place.guest_in(place.spec(), directory);
    // Its own disk is larger than the host's.
    guest.run(
        "dd if=/dev/zero of=/tmp/large bs=1M count=32 conv=fsync 2>/dev/null && echo fits || \
         echo refused; sleep 100000",
    );
    assert_eq!(guest.line(""), "refused");
    let exec = guest.channel.exec(ExecSpec { process: shell("echo well"), terminal: None }, HANG);
    let out = exec.expect("a session").read_all(Part::Stdout, 100, HANG).expect("output");
    assert_eq!(out, b"well\n");
    assert_eq!(guest.machine.status(), Status::Running);
    // Before the directory that it is mounted in.
    drop(disk);
    drop(guest);
}

#[test]
fn a_guest_without_memory_says_so() {
    let _turn = turn();
    let Some(place) = place("life::a_guest_without_memory_says_so") else { return };
    let (guest, neighbour) = (place.restored(), place.restored());
    neighbour.run("echo here; sleep 100000");
    neighbour.line("here");
    guest.run("x=0123456789abcdef; while true; do x=$x$x; done");
    let end = guest.end();
    assert!(end.oom_killed, "{end:?}");
    assert_eq!(end.signal, Some(9));
    assert_eq!(neighbour.channel.phase(), Phase::Running);
    assert_eq!(neighbour.machine.status(), Status::Running);
}

#[test]
fn a_command_before_the_workload_decides() {
    let _turn = turn();
    let Some(place) = place("life::a_command_before_the_workload_decides") else { return };
    for (script, timeout_ms, why) in [
        ("echo first; touch /tmp/made", 600_000, None),
        ("exit 4", 600_000, Some("exit code 4")),
        ("sleep 100000", 1, Some("it took longer than 1 ms")),
    ] {
        let guest = place.restored();
        let mut start = start("test -e /tmp/made && echo second");
        start.prestart = Some(Prestart { process: shell(script), timeout_ms });
        guest.channel.start(start).expect("the first start");
        let came = guest.channel.wait_phase(HANG, |phase| match phase {
            Phase::Ended(end) => Some(Ok(*end)),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            _ => None,
        });
        match (came.expect("an end"), why) {
            (Ok(end), None) => {
                assert_eq!(end.code, Some(0));
                assert_eq!(guest.log(), ["first", "second"]);
            }
            (Err(failure), Some(why)) => {
                assert_eq!((failure.stage, failure.why.as_str()), (Stage::Prestart, why));
            }
            other => panic!("{script}: {other:?}"),
        }
    }
}
