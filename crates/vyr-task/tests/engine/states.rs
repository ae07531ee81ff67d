//! States as files, by the guest `states` in both forms: what works, what is refused, and what a
//! hostile path or number comes to.

use std::sync::Arc;
use std::time::Duration;

use vyr_task::{Access, BoundState, EphemeralState, Job, Outcome, Program, State, Workers};

use crate::guests::{FORMS, read};
use crate::support::{block_on, engine, load};

/// Numbers of preview 1 faults, which wasi-libc uses for preview 2 as well.
const EXIST: &str = "error 20";
const INVAL: &str = "error 28";
const ISDIR: &str = "error 31";
const NAMETOOLONG: &str = "error 37";
const NOENT: &str = "error 44";
const NOSPC: &str = "error 51";
const NOTDIR: &str = "error 54";
const NOTEMPTY: &str = "error 55";
const PERM: &str = "error 63";
const ROFS: &str = "error 69";
const XDEV: &str = "error 75";

/// What a full state answers to a write: wasi-libc for preview 2 makes 29 of every fault of a
/// stream, on every host. `streams_say_what_is_wrong` sees the true one.
fn full(form: &str) -> &'static str {
    if form == "wasip1" { NOSPC } else { "error 29" }
}

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn bound(name: &str, state: &EphemeralState, access: Access) -> BoundState {
    BoundState { name: name.into(), state: state.clone(), access }
}

pub(crate) fn writable(name: &str, state: &EphemeralState) -> Vec<BoundState> {
    vec![bound(name, state, Access::ReadWrite)]
}

pub(crate) fn job(program: &Arc<Program>, states: Vec<BoundState>, steps: &[&str]) -> Job {
    let mut job = Job::new(Arc::clone(program));
    job.args = std::iter::once("states").chain(steps.iter().copied()).map(String::from).collect();
    job.states = states;
    job
}

fn run(form: &str, states: Vec<BoundState>, steps: &[&str]) -> Outcome {
    let engine = engine(1);
    let program = load(&engine, &read("states", form));
    block_on(engine.run(job(&program, states, steps)))
}

/// Runs `steps` on one state of `quota` named `a`, and wants each one's line.
fn assert_steps(form: &str, state: &EphemeralState, access: Access, steps: &[(&str, &str)]) {
    let words: Vec<&str> = steps.iter().map(|(step, _)| *step).collect();
    let outcome = run(form, vec![bound("a", state, access)], &words);
    assert_eq!(outcome.state, State::Completed, "{form}: {outcome:?}");
    let output = String::from_utf8_lossy(&outcome.output);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), steps.len(), "{form}: {output}");
    for ((step, wanted), line) in steps.iter().zip(lines) {
        assert_eq!(line, *wanted, "{form}: {step}");
    }
}

#[test]
fn files_are_written_read_listed_renamed_and_removed() {
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[
                ("write /state/a/one hello", "ok"),
                ("read /state/a/one", "ok hello"),
                ("append /state/a/one -again", "ok"),
                ("read /state/a/one", "ok hello-again"),
                ("write-at /state/a/one 1 E", "ok"),
                ("read-at /state/a/one 0 5", "ok hEllo"),
                ("write-at /state/a/one 14 z", "ok"),
                ("read-at /state/a/one 8 9", "ok ain000z"),
                ("size /state/a/one", "ok 15"),
                ("set-size /state/a/one 3", "ok"),
                ("read /state/a/one", "ok hEl"),
                ("mkdir /state/a/dir/sub", "ok"),
                ("write /state/a/dir/two 2", "ok"),
                ("list /state/a", "ok one dir/"),
                ("list /state/a/dir", "ok sub/ two"),
                ("rename /state/a/one /state/a/dir/sub/1", "ok"),
                ("rename /state/a/dir /state/a/moved", "ok"),
                ("list /state/a/moved/sub", "ok 1"),
                ("read /state/a/moved/sub/../sub/./1", "ok hEl"),
                ("write /state/a/moved/two more", "ok"),
                ("read /state/a/moved/two", "ok more"),
                ("rename /state/a/moved/two /state/a/moved/sub/1", "ok"),
                ("read /state/a/moved/sub/1", "ok more"),
                ("remove /state/a/moved/sub/1", "ok"),
                ("rmdir /state/a/moved/sub", "ok"),
                ("remove-all /state/a/moved", "ok"),
                ("list /state/a", "ok"),
            ],
        );
        assert_eq!(state.used_bytes(), 0, "{form}");
    }
}

#[test]
fn faults_are_those_of_any_file_system() {
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[
                ("read /state/a/none", NOENT),
                ("remove /state/a/none", NOENT),
                ("rename /state/a/none /state/a/x", NOENT),
                ("write /state/a/none/x y", NOENT),
                ("write /state/a/f x", "ok"),
                ("create-new /state/a/f", EXIST),
                ("list /state/a/f", NOTDIR),
                ("write /state/a/f/x y", NOTDIR),
                ("rmdir /state/a/f", NOTDIR),
                ("mkdir /state/a/d/e", "ok"),
                ("rmdir /state/a/d", NOTEMPTY),
                ("remove /state/a/d", ISDIR),
                ("write /state/a/d x", ISDIR),
                ("rename /state/a/f /state/a/d", ISDIR),
                ("rename /state/a/d /state/a/f", NOTDIR),
                ("rename /state/a/d /state/a/d/e/inside", INVAL),
            ],
        );
    }
}

#[test]
fn hostile_paths_and_offsets_are_refused() {
    let long = format!("write /state/a/{} x", "n".repeat(256));
    let fits = format!("write /state/a/{} x", "n".repeat(255));
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[
                ("write /state/a/f x", "ok"),
                ("read /state/a/../../etc/passwd", PERM),
                ("read /state/a/d/../../f", NOENT),
                ("mkdir /state/a/d", "ok"),
                ("read /state/a/d/../../f", PERM),
                ("read /state/a/d/../f", "ok x"),
                (&long, NAMETOOLONG),
                (&fits, "ok"),
                // The end of what 64 bits hold, and far beyond the quota.
                ("write-at /state/a/f 9223372036854775807 x", full(form)),
                ("write-at /state/a/f 1000000000000 x", full(form)),
                ("set-size /state/a/f 1000000000000", NOSPC),
                ("read-at /state/a/f 9223372036854775807 5", "ok"),
                ("size /state/a/f", "ok 1"),
            ],
        );
    }
}

#[test]
fn twice_the_quota_fails_and_the_state_stays_usable() {
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[
                ("write /state/a/big 0123456789abcdef 131072", full(form)),
                ("create-new /state/a/other", NOSPC),
                ("mkdir /state/a/other", NOSPC),
                ("append /state/a/big x", full(form)),
                ("read-at /state/a/big 16 16", "ok 0123456789abcdef"),
                ("rename /state/a/big /state/a/gib", "ok"),
                ("remove /state/a/gib", "ok"),
                // Half of it fits: the twin of the refusal above.
                ("write /state/a/big 0123456789abcdef 32768", "ok"),
                ("size /state/a/big", "ok 524288"),
            ],
        );
        let file = 524_288 + EphemeralState::NODE_BYTES + 3;
        assert_eq!(state.used_bytes(), file, "{form}");
    }
}

#[test]
fn streams_say_what_is_wrong() {
    let state = EphemeralState::new(MIB);
    assert_steps(
        "wasip2",
        &state,
        Access::ReadWrite,
        &[
            ("raw-stream f 0 2097152", "error insufficient-space"),
            ("raw-append f 4096", "error insufficient-space"),
            ("raw-write g 0 1", "error insufficient-space"),
            ("set-size /state/a/f 0", "ok"),
            ("raw-stream f 0 8192", "ok"),
            ("raw-append f 4096", "ok"),
            ("size /state/a/f", "ok 12288"),
            ("raw-write f 18446744073709551615 1", "error file-too-large"),
            ("raw-write f 18446744073709551614 1", "error insufficient-space"),
            ("raw-stream f 18446744073709551615 1", "error file-too-large"),
            ("raw-read f 18446744073709551615 18446744073709551615", "ok 0 true"),
            ("raw-read f 12280 18446744073709551615", "ok 8 false"),
            ("raw-read-unopened f", "error bad-descriptor"),
            ("raw-write-unopened f", "error bad-descriptor"),
            ("raw-symlink l", "error unsupported"),
            ("raw-link f l", "error unsupported"),
            ("raw-open /etc/passwd", "error not-permitted"),
            ("raw-open ..", "error not-permitted"),
            ("raw-open .", "ok"),
            ("raw-open-many f", "ok true"),
            ("raw-open f", "ok"),
            ("raw-unlinked u", "ok still here 0"),
            ("list /state/a", "ok f"),
        ],
    );
    assert_eq!(state.used_bytes(), 12288 + EphemeralState::NODE_BYTES + 1);
    let refused = "error read-only";
    assert_steps(
        "wasip2",
        &state,
        Access::ReadOnly,
        &[("raw-write f 0 1", refused), ("raw-append new 1", refused), ("raw-open f", "ok")],
    );
}

#[test]
fn empty_files_use_up_the_quota_too() {
    for form in FORMS {
        let state = EphemeralState::new(100 * 1024);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[("many /state/a 1000000", NOSPC), ("remove-all /state/a", INVAL)],
        );
        assert!(state.used_bytes() <= state.quota_bytes(), "{form}");
    }
}

#[test]
fn a_directory_is_emptied_while_it_is_listed() {
    // Entries are removed between two pages of the listing: none may be skipped.
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        assert_steps(
            form,
            &state,
            Access::ReadWrite,
            &[
                ("mkdir /state/a/d", "ok"),
                ("many /state/a/d 500", "ok"),
                ("remove-all /state/a/d", "ok"),
                ("list /state/a", "ok"),
            ],
        );
        assert_eq!(state.used_bytes(), 0, "{form}");
    }
}

#[test]
fn read_only_refuses_every_change_and_nothing_else() {
    for form in FORMS {
        let state = EphemeralState::new(MIB);
        let prepare = [("write /state/a/f hello", "ok"), ("mkdir /state/a/d", "ok")];
        assert_steps(form, &state, Access::ReadWrite, &prepare);
        let before = state.used_bytes();
        let changes = [
            "write /state/a/f x",
            "write /state/a/new x",
            "append /state/a/f x",
            "write-at /state/a/f 0 x",
            "create-new /state/a/new",
            "set-size /state/a/f 0",
            "mkdir /state/a/new",
            "rmdir /state/a/d",
            "remove /state/a/f",
            "rename /state/a/f /state/a/g",
            "touch /state/a/f",
        ];
        let steps: Vec<_> = changes.iter().map(|step| (*step, ROFS)).collect();
        assert_steps(form, &state, Access::ReadOnly, &steps);
        assert_eq!(state.used_bytes(), before, "{form}");
        let reads = [
            ("read /state/a/f", "ok hello"),
            ("size /state/a/f", "ok 5"),
            ("list /state/a", "ok f d/"),
        ];
        assert_steps(form, &state, Access::ReadOnly, &reads);
        // The twin: each of them works where it may.
        let works: Vec<_> = ["create-new /state/a/new", "rename /state/a/new /state/a/g"]
            .iter()
            .chain(&["touch /state/a/f", "set-size /state/a/f 0", "rmdir /state/a/d"])
            .map(|step| (*step, "ok"))
            .collect();
        assert_steps(form, &state, Access::ReadWrite, &works);
    }
}

#[test]
fn times_are_logical_unless_set() {
    for form in FORMS {
        let transcript = || {
            let state = EphemeralState::new(MIB);
            let steps = ["write /state/a/f x", "modified /state/a/f", "write /state/a/g y"];
            let steps = [&steps[..], &["modified /state/a/g", "touch /state/a/f"]].concat();
            let steps = [&steps[..], &["modified /state/a/f"]].concat();
            let outcome = run(form, writable("a", &state), &steps);
            String::from_utf8_lossy(&outcome.output).into_owned()
        };
        let (one, two) = (transcript(), transcript());
        assert_eq!(one, two, "{form}: the same steps give the same times");
        let times: Vec<u64> =
            one.lines().filter_map(|line| line.strip_prefix("ok ")?.parse().ok()).collect();
        assert_eq!(times.len(), 3, "{form}: {one}");
        assert!(times[0] < times[1], "{form}: {one}");
        assert_eq!(times[2], 7_000_000_000, "{form}: {one}");
    }
}

#[test]
fn two_states_are_two_file_systems() {
    for form in FORMS {
        let (one, two) = (EphemeralState::new(MIB), EphemeralState::new(MIB));
        let states =
            vec![bound("a", &one, Access::ReadWrite), bound("b-2", &two, Access::ReadWrite)];
        let steps = [
            "write /state/a/f hello",
            "rename /state/a/f /state/b-2/f",
            "list /state/b-2",
            "read /state/b-2/../a/f",
            "read /state/c/f",
            "read /etc/passwd",
        ];
        let outcome = run(form, states, &steps);
        let output = String::from_utf8_lossy(&outcome.output).into_owned();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..4], ["ok", XDEV, "ok", PERM], "{form}: {output}");
        assert!(lines[4..].iter().all(|line| line.starts_with("error")), "{form}: {output}");
        assert_eq!(two.used_bytes(), 0, "{form}");
    }
}

#[test]
fn a_task_without_states_has_no_directory() {
    for form in FORMS {
        let outcome = run(form, Vec::new(), &["write /state/a/f x", "list /"]);
        let output = String::from_utf8_lossy(&outcome.output).into_owned();
        assert_eq!(output.lines().count(), 2, "{output}");
        assert!(output.lines().all(|line| line.starts_with("error")), "{form}: {output}");
    }
}

#[test]
fn tasks_at_once_share_a_state() {
    let state = EphemeralState::new(MIB);
    let engine = engine(4);
    let workers = Workers::start(&engine, 2, 8, || ()).expect("threads");
    let (done, outcomes) = std::sync::mpsc::channel();
    let programs: Vec<_> = FORMS.iter().map(|form| load(&engine, &read("states", form))).collect();
    let submit = |program: &Arc<Program>, steps: &[&str]| {
        let done = done.clone();
        let job = job(program, writable("a", &state), steps);
        workers.submit(job, move |outcome| drop(done.send(outcome)));
    };
    // Each waits for the other's file, so they are there at once and see each other.
    let append = "increment /state/a/sum 500";
    submit(
        &programs[0],
        &["write /state/a/sum +", "write /state/a/x 1", "await /state/a/y", append],
    );
    submit(&programs[1], &["await /state/a/x", "write /state/a/y 1", append]);
    for _ in 0..2 {
        let outcome = outcomes.recv_timeout(Duration::from_secs(60)).expect("both end");
        assert_eq!(outcome.state, State::Completed, "{outcome:?}");
        assert!(!String::from_utf8_lossy(&outcome.output).contains("error"), "{outcome:?}");
    }
    assert_steps("wasip1", &state, Access::ReadOnly, &[("size /state/a/sum", "ok 1001")]);
}
