//! The committed guests, as module and as component.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vyr_task::{Input, Job, Outcome, State};

use crate::support::{block_on, engine, load};

pub(crate) const FORMS: [&str; 2] = ["wasip1", "wasip2"];

pub(crate) fn read(name: &str, form: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../workloads/bin/{name}.{form}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn run(name: &str, form: &str, args: &[&str], change: impl FnOnce(&mut Job)) -> Outcome {
    let engine = engine(1);
    let mut job = Job::new(load(&engine, &read(name, form)));
    job.args = std::iter::once(name).chain(args.iter().copied()).map(String::from).collect();
    change(&mut job);
    block_on(engine.run(job))
}

#[test]
fn hello_says_hello() {
    for form in FORMS {
        let outcome = run("hello", form, &[], |_| {});
        assert_eq!(outcome.state, State::Completed, "{form}: {outcome:?}");
        assert_eq!(String::from_utf8_lossy(&outcome.output), "hello from vyr\n", "{form}");
    }
}

#[test]
fn arguments_and_environment_are_the_job_s_and_no_others() {
    for form in FORMS {
        let args = run("probe", form, &["args", "one", "zwei drei"], |_| {});
        assert_eq!(String::from_utf8_lossy(&args.output), "probe\nargs\none\nzwei drei\n");
        let env = run("probe", form, &["env"], |job| {
            job.env = vec![("A".into(), "1".into()), ("B".into(), "x=y".into())];
        });
        assert_eq!(String::from_utf8_lossy(&env.output), "A=1\nB=x=y\n", "{form}");
    }
}

#[test]
fn input_comes_out_again_whatever_its_size() {
    for form in FORMS {
        for size in [0usize, 1, 4095, 4096, 4097, 300_000] {
            let input: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).expect("small")).collect();
            let outcome = run("probe", form, &["echo"], |job| {
                job.input = Input::Bytes(Bytes::from(input.clone()));
                job.hash_output = true;
            });
            assert_eq!(outcome.state, State::Completed, "{form} {size}: {outcome:?}");
            assert!(outcome.output == input, "{form}: {size} bytes differ");
            assert_eq!(outcome.output_digest, Some(vyr_base::Digest::of(&input)));
            assert_eq!(outcome.usage.input_bytes, size as u64);
        }
    }
}

#[test]
fn exit_codes_and_logs_are_kept() {
    for form in FORMS {
        let outcome = run("probe", form, &["stderr", "a complaint"], |_| {});
        assert!(String::from_utf8_lossy(&outcome.log).contains("a complaint"), "{outcome:?}");
        let outcome = run("probe", form, &["exit", "3"], |_| {});
        assert_eq!(outcome.state, State::Failed);
        // WASI 0.2 has no exit code but "failed"; `wasi:cli/exit` gives 1.
        assert_eq!(outcome.exit_code, Some(if form == "wasip1" { 3 } else { 1 }), "{form}");
    }
}

#[test]
fn a_component_reaches_no_file_and_no_network() {
    for form in FORMS {
        for args in [
            &["read-file", "/etc/passwd"][..],
            &["write-file", "/tmp/escaped"],
            &["list-dir", "/"],
            &["connect", "127.0.0.1:22"],
        ] {
            let outcome = run("probe", form, args, |_| {});
            assert_eq!(outcome.state, State::Failed, "{form} {args:?}: {outcome:?}");
        }
    }
    assert!(!Path::new("/tmp/escaped").exists());
}

#[test]
fn tasks_of_one_program_share_nothing() {
    let engine = engine(2);
    let program = load(&engine, &read("probe", "wasip1"));
    for _ in 0..3 {
        let mut job = Job::new(Arc::clone(&program));
        job.args = vec!["probe".into(), "residue".into(), "scan".into(), "a5c3960f1d".into()];
        let outcome = block_on(engine.run(job));
        let found = String::from_utf8_lossy(&outcome.output).into_owned();
        assert!(found.contains("matches 0") && found.contains("grown_nonzero 0"), "{found}");
        let mut job = Job::new(Arc::clone(&program));
        job.args = vec!["probe".into(), "residue".into(), "fill".into(), "a5c3960f1d".into()];
        assert_eq!(block_on(engine.run(job)).state, State::Completed);
    }
}
