//! Input that never ends, output nobody reads, and what is said about both.

use std::fs::File;
use std::io::Read;

use crate::common::{HANG, Place, ends_within, exists, guest, readable_within, text_of};
use crate::guests;
use crate::judge::{blob, digest, faults};

#[test]
fn input_comes_from_a_file_or_from_stdin() {
    let place = Place::new();
    let text = b"line\n".repeat(100_000);
    let file = place.file("input", &text);
    for name in ["probe.wasip1", "probe.wasip2"] {
        let probe = guest(name);
        let echo = |input: &str| {
            let arguments = ["run", "--json", "--input", input, &probe, "--", "echo"];
            place.vyr(&arguments).input(&text[..]).run().ok().json()
        };
        for input in [&file, "-"] {
            let json = echo(input);
            assert_eq!(json["input_digest"], digest(&text), "{name} {input}");
            assert_eq!(json["input_bytes"], text.len());
            assert_eq!(json["input_complete"], true);
            assert_eq!(json["output_digest"], json["input_digest"]);
        }
        // Nothing is read that was not asked for.
        let call = place.vyr(&["run", "--json", &probe, "--", "echo"]).input(&text[..]);
        assert_eq!(call.run().ok().json()["input_bytes"], 0);
    }
}

#[test]
fn a_pipe_that_never_ends_does_not_hold_a_guest_that_has_ended() {
    let place = Place::new();
    for name in ["nop.wasip1", "nop.wasip2"] {
        let arguments = ["run", "--json", "--input", "-", &guest(name)];
        // Open until the command has ended, which it therefore does by itself.
        let json = place.vyr(&arguments).start_open().wait().ok().json();
        assert_eq!(json["state"], "completed");
        assert_eq!(json["input_complete"], false, "{name}");
        assert_eq!(json["input_bytes"], 0);
    }
    // The twin: an input that a guest reads to its end is complete.
    let echo = ["run", "--json", "--input", "-", &guest("probe.wasip1"), "--", "echo"];
    assert_eq!(place.vyr(&echo).run().ok().json()["input_complete"], true);
}

#[test]
fn a_file_is_hashed_whole_though_the_guest_does_not_read_it() {
    let place = Place::new();
    // More than any pipe holds.
    let text = b"0123456789abcdef".repeat(1 << 18);
    let file = place.file("input", &text);
    for name in ["nop.wasip1", "hello.wasip2"] {
        let json = place.vyr(&["run", "--json", "--input", &file, &guest(name)]).run().ok().json();
        assert_eq!(json["input_digest"], digest(&text), "{name}");
        assert_eq!(json["input_complete"], true);
        assert_eq!(json["usage"]["input_bytes"], 0);
    }
}

#[test]
fn a_reader_who_goes_away_ends_the_task() {
    let place = Place::new();
    for name in ["probe.wasip1", "probe.wasip2"] {
        let arguments = ["run", &guest(name), "--", "output", "100000000"];
        let (running, mut stdout) = place.vyr(&arguments).start_and_read();
        let mut first = [0];
        stdout.read_exact(&mut first).expect("a byte of output");
        drop(stdout);
        let ended = running.wait().exits(1);
        assert!(ended.stderr.contains("cannot write the output"), "{}", ended.stderr);
        assert_eq!(faults(&place.data()), [""; 0], "nothing is left of the output");
    }
    // The twin: with somebody who reads on, all of it arrives.
    let arguments = ["run", "--quiet", &guest("probe.wasip1"), "--", "output", "3000000"];
    assert_eq!(place.vyr(&arguments).run().ok().stdout.len(), 3_000_000);
}

#[test]
fn output_is_shown_while_the_guest_runs() {
    let place = Place::new();
    let file = place.file("spin.wasm", guests::ready_and_spin());
    let (running, mut stdout) = place.vyr(&["run", &file]).start_and_read();
    assert!(readable_within(&stdout, HANG), "nothing is shown");
    let mut line = [0; 6];
    stdout.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"ready\n");
    assert!(!running.ends_within(std::time::Duration::ZERO), "it still runs");
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure_of_the_command() {
    let place = Place::new();
    let hello = guest("hello.wasip1");
    let run = |output: &str| place.vyr(&["run", "--quiet", "--output", output, &hello]).run();
    run("/dev/full").refuses(6, &["cannot write the output", "No space left"]);
    run(place.path("no/such/directory").as_str()).refuses(4, &["no/such/directory"]);
    run(place.path("").as_str()).refuses(2, &["Is a directory"]);
    // The result object has nowhere to go either.
    let full = File::options().write(true).open("/dev/full").expect("a full device");
    let data = place.data();
    let arguments = ["--data-dir", data.as_str(), "run", "--json", &hello];
    let ended =
        std::process::Command::new(crate::common::VYR).args(arguments).stdout(full).output();
    assert_eq!(ended.expect("it runs").status.code(), Some(6));
    run(place.path("fine").as_str()).ok();
}

/// Whoever closes stderr loses narration, not the answer.
#[test]
fn nobody_need_listen_to_narration() {
    let place = Place::new();
    let data = place.data();
    let run = |words: &[&str]| {
        let full = File::options().write(true).open("/dev/full").expect("a full device");
        let mut command = std::process::Command::new(crate::common::VYR);
        command.arg("--data-dir").arg(&data).args(words).stderr(full);
        command.output().expect("it runs")
    };
    let ended = run(&["run", &guest("hello.wasip1")]);
    assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(0), &b"hello from vyr\n"[..]));
    assert_eq!(run(&["run", "nginx"]).status.code(), Some(2));
    assert_eq!(run(&["run", &guest("probe.wasip1"), "--", "panic"]).status.code(), Some(1));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["key", "ls"]).status.code(), Some(0));
}

#[test]
fn the_log_is_narration_and_its_end_is_in_json() {
    let place = Place::new();
    for name in ["probe.wasip1", "probe.wasip2"] {
        let arguments = ["run", &guest(name), "--", "stderr", "said by the guest"];
        let ended = place.vyr(&arguments).run().ok();
        assert_eq!(ended.text(), "");
        assert!(ended.stderr.starts_with("said by the guest"), "{}", ended.stderr);
        let arguments = ["run", "--json", &guest(name), "--", "stderr", "said by the guest"];
        let ended = place.vyr(&arguments).run().ok();
        assert_eq!(ended.stderr, "");
        assert!(text_of(&ended.json()["log"]).contains("said by the guest"));
    }
}

#[test]
fn binary_output_is_not_touched() {
    let place = Place::new();
    let every: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let input = place.file("input", &every);
    for name in ["probe.wasip1", "probe.wasip2"] {
        let arguments = ["run", "--quiet", "--input", &input, &guest(name), "--", "echo"];
        assert_eq!(place.vyr(&arguments).run().ok().stdout, every);
    }
    assert!(exists(blob(&place.data(), &digest(&every))));
}

/// An endless input and an endless guest: each is a stranger's to end.
#[test]
fn an_interrupt_ends_the_command_and_its_guest() {
    let place = Place::new();
    let file = place.file("spin.wasm", guests::ready_and_spin());
    let (running, stdout) = place.vyr(&["run", &file]).start_and_read();
    assert!(readable_within(&stdout, HANG));
    let guest =
        crate::confinement::child_of(running.pid(), "__tasks").expect("the guest's process");
    let interrupt = rustix::process::Signal::INT;
    rustix::process::kill_process(running.pid(), interrupt).expect("a running command");
    assert!(running.wait().signal().is_some());
    assert!(ends_within(guest, HANG), "its guest goes on");
    assert_eq!(faults(&place.data()), [""; 0]);
}
