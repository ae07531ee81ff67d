//! States as keys and values, by `wasi:keyvalue`.

use std::sync::Arc;

use vyr_task::{Access, EphemeralState, State, Workers};

use crate::guests::read;
use crate::states::{MIB, bound, job, writable};
use crate::support::{block_on, engine, load};

/// Runs `steps` on one state named `a`, and wants each one's line.
fn assert_steps(state: &EphemeralState, access: Access, steps: &[(&str, &str)]) {
    let engine = engine(1);
    let program = load(&engine, &read("states", "wasip2"));
    let words: Vec<&str> = steps.iter().map(|(step, _)| *step).collect();
    let outcome = block_on(engine.run(job(&program, vec![bound("a", state, access)], &words)));
    assert_eq!(outcome.state, State::Completed, "{outcome:?}");
    let output = String::from_utf8_lossy(&outcome.output);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), steps.len(), "{output}");
    for ((step, wanted), line) in steps.iter().zip(lines) {
        assert_eq!(line, *wanted, "{step}");
    }
}

#[test]
fn values_are_set_read_counted_and_deleted() {
    let state = EphemeralState::new(MIB);
    assert_steps(
        &state,
        Access::ReadWrite,
        &[
            ("key-get a k", "ok none"),
            ("key-exists a k", "ok false"),
            ("key-set a k hello", "ok"),
            ("key-get a k", "ok hello"),
            ("key-exists a k", "ok true"),
            ("key-set a k other", "ok"),
            ("key-get a k", "ok other"),
            ("key-increment a n 5", "ok 5"),
            ("key-increment a n 37", "ok 42"),
            ("key-get a n", "ok 42"),
            ("key-increment a k 1", "error the value is not a number in decimal digits"),
            ("key-set a n 18446744073709551615", "ok"),
            ("key-increment a n 1", "error the sum is more than 64 bits hold"),
            ("key-get a n", "ok 18446744073709551615"),
            ("keys a", "ok k n"),
            ("key-delete a k", "ok"),
            ("key-delete a k", "ok"),
            ("keys a", "ok n"),
            ("key-delete a n", "ok"),
        ],
    );
    assert_eq!(state.used_bytes(), 0);
}

#[test]
fn batches_do_many_at_once() {
    let state = EphemeralState::new(MIB);
    assert_steps(
        &state,
        Access::ReadWrite,
        &[
            ("key-set-many a x=1 y=2 z=3", "ok"),
            ("key-get-many a z none x", "ok z=3 none x=1"),
            ("key-delete-many a x none z", "ok"),
            ("keys a", "ok y"),
        ],
    );
}

#[test]
fn only_a_bound_state_is_a_store() {
    let state = EphemeralState::new(MIB);
    let steps = [("keys b", "error no-such-store"), ("keys ", "error no-such-store")];
    assert_steps(&state, Access::ReadWrite, &steps);
    assert_steps(&state, Access::ReadWrite, &[("keys a", "ok")]);
}

#[test]
fn read_only_denies_every_change_and_nothing_else() {
    let state = EphemeralState::new(MIB);
    assert_steps(&state, Access::ReadWrite, &[("key-set a k 1", "ok")]);
    let denied = "error access-denied";
    assert_steps(
        &state,
        Access::ReadOnly,
        &[
            ("key-set a k 2", denied),
            ("key-delete a k", denied),
            ("key-increment a k 1", denied),
            ("key-set-many a k=2", denied),
            ("key-delete-many a k", denied),
            ("key-get a k", "ok 1"),
            ("key-exists a k", "ok true"),
            ("key-get-many a k", "ok k=1"),
            ("keys a", "ok k"),
        ],
    );
    assert_steps(&state, Access::ReadWrite, &[("key-increment a k 1", "ok 2")]);
}

#[test]
fn keys_and_files_share_the_quota() {
    let full = "error quota of 1048576 bytes is used up";
    let state = EphemeralState::new(MIB);
    assert_steps(
        &state,
        Access::ReadWrite,
        &[
            ("key-set a k 0123456789abcdef 131072", full),
            ("key-get a k", "ok none"),
            ("key-set a k 0123456789abcdef 32768", "ok"),
            ("write /state/a/f 0123456789abcdef 32768", "error 29"),
            ("remove /state/a/f", "ok"),
            ("key-set a k small", "ok"),
            ("write /state/a/f 0123456789abcdef 32768", "ok"),
            ("key-set a k 0123456789abcdef 32768", full),
            ("key-get a k", "ok small"),
            ("key-fill a 1000000", full),
        ],
    );
    assert!(state.used_bytes() <= MIB);
    let long = format!("key-set a {} x", "k".repeat(1025));
    assert_steps(
        &EphemeralState::new(MIB),
        Access::ReadWrite,
        &[(&long, "error the key is longer than 1024 bytes")],
    );
}

#[test]
fn one_large_value_is_not_multiplied_by_a_batch() {
    let state = EphemeralState::new(32 * MIB);
    let many = format!("key-get-many a{}", " k".repeat(5));
    let refused = "error the values asked for are longer than 16777216 bytes";
    let steps = [("key-set a k 0123456789abcdef 262144", "ok"), (many.as_str(), refused)];
    assert_steps(&state, Access::ReadWrite, &steps);
    let long =
        [("key-set a l 0123456789abcdef 1048577", "error the value is longer than 16777216 bytes")];
    assert_steps(&state, Access::ReadWrite, &long);
}

#[test]
fn keys_come_in_pages_that_miss_none() {
    let state = EphemeralState::new(MIB);
    assert_steps(
        &state,
        Access::ReadWrite,
        &[
            ("key-pages a", "ok 0"),
            ("key-fill a 100", "ok"),
            ("key-pages a", "ok 100"),
            ("key-fill a 250", "ok"),
            ("key-pages a", "ok 100 100 50"),
        ],
    );
}

#[test]
fn increments_of_two_tasks_add_up() {
    let state = EphemeralState::new(MIB);
    let engine = engine(2);
    let workers = Workers::start(&engine, 2, 4, || ()).expect("threads");
    let program = load(&engine, &read("states", "wasip2"));
    let (done, outcomes) = std::sync::mpsc::channel();
    for (mine, other) in [("x", "y"), ("y", "x")] {
        let wait = [format!("write /state/a/{mine} 1"), format!("await /state/a/{other}")];
        let steps = [&*wait[0], &*wait[1], "key-increment a n 1 2000"];
        let job = job(&Arc::clone(&program), writable("a", &state), &steps);
        let done = done.clone();
        workers.submit(job, move |outcome| drop(done.send(outcome)));
    }
    for _ in 0..2 {
        let patience = std::time::Duration::from_secs(60);
        let outcome = outcomes.recv_timeout(patience).expect("both end");
        assert_eq!(outcome.state, State::Completed, "{outcome:?}");
    }
    assert_steps(&state, Access::ReadOnly, &[("key-get a n", "ok 4000")]);
}
