//! A node in this process, with a real journal, store and confined `tasks`. Without the usual
//! harness, because the confined processes are this binary started again.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use support::{block, config, ended, guest, limits, me, place, put, put_text, start, trial};
use vyr_base::Digest;
use vyr_journal::{NodeKeys, TaskId, TaskState, verify_receipt};
use vyr_node::DataDir;
use vyr_node::node::{Budget, Caller, LocalHost, Node, NodeConfig, NodeError, SubmittedInput};
use vyr_node::process::{CompilerProcess, Role, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let trials = vec![
        trial("a_task_leaves_a_receipt_that_verifies", a_task_leaves_a_receipt_that_verifies),
        trial("a_key_gives_the_same_task_also_after_a_restart", a_key_gives_the_same_task),
        trial("a_running_task_is_cancelled_and_the_next_runs", a_running_task_is_cancelled),
        trial("a_dead_process_loses_its_tasks_and_no_others", a_dead_process_loses_its_tasks),
        trial("what_was_accepted_runs_after_a_restart", what_was_accepted_runs_after_a_restart),
        trial("too_much_is_refused_with_a_time_to_come_back", too_much_is_refused),
        trial("a_large_output_is_in_the_store", a_large_output_is_in_the_store),
        trial("a_hostile_module_fails_and_others_run", a_hostile_module_fails),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

async fn submit(
    node: &Node,
    artifact: Digest,
    key: &str,
    input: &[u8],
) -> Result<TaskId, NodeError> {
    let input = SubmittedInput::Inline(input.to_vec().into());
    let mut submission = node.artifact(artifact).await?.submission(me(), input, limits());
    submission.key = key.into();
    node.submit(submission).await
}

fn a_task_leaves_a_receipt_that_verifies() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let artifact = put(&data, &guest("transform.wasip1.wasm"));
    let node = start(&data, config());
    let input = b"{\"time\":\"2026-11-21T00:00:00Z\",\"level\":\"error\",\"message\":\"x\"}\n";
    let (receipt, statement) = block(async {
        let task = submit(&node, artifact, "one", input).await.expect("accepted");
        let statement = ended(&node, task).await;
        let receipt = node.receipt(task, me()).await.expect("receipt");
        let other = Caller { name: "uid:7".into(), operator: false };
        assert!(node.receipt(task, other).await.is_err(), "somebody else's");
        (receipt.to_bytes(), statement)
    });
    assert_eq!(statement.predicate.state, TaskState::Completed, "{statement:?}");
    assert_eq!(statement.predicate.input.digest, Digest::of(input));
    assert_eq!(statement.predicate.limits, limits());
    let keys = NodeKeys::parse(node.key_line().as_bytes()).expect("a trust file");
    let verified = verify_receipt(&receipt, &keys, true).expect("verifies");
    drop(verified);
    assert!(verify_receipt(&receipt, &keys, false).is_err(), "signed with the development key");
    let touched =
        String::from_utf8(receipt).expect("JSON").replacen("\"exit_code\":0", "\"exit_code\":1", 1);
    assert!(verify_receipt(touched.as_bytes(), &keys, true).is_err());
}

fn a_key_gives_the_same_task() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let artifact = put(&data, &guest("hello.wasip1.wasm"));
    let node = start(&data, config());
    let first = block(submit(&node, artifact, "k", b"")).expect("accepted");
    assert_eq!(block(submit(&node, artifact, "k", b"")).expect("the same"), first);
    assert!(block(submit(&node, artifact, "k", b"other")).is_err(), "another input");
    block(ended(&node, first));
    node.stop(Duration::from_secs(5));
    drop(node);
    let node = start(&data, config());
    assert_eq!(block(submit(&node, artifact, "k", b"")).expect("the same"), first);
    assert_ne!(block(submit(&node, artifact, "l", b"")).expect("another"), first);
}

const ENDLESS: &str = "(module (memory (export \"memory\") 1)
    (func (export \"_start\") (loop $l (br $l))))";

fn a_running_task_is_cancelled() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let endless = put_text(&data, "endless", ENDLESS);
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = start(&data, config());
    block(async {
        let task = submit(&node, endless, "", b"").await.expect("accepted");
        while node.snapshot().await.expect("snapshot").running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let other = Caller { name: "uid:7".into(), operator: false };
        assert!(node.cancel(task, other).await.is_err(), "somebody else's");
        node.cancel(task, me()).await.expect("cancelled");
        assert_eq!(ended(&node, task).await.predicate.state, TaskState::Cancelled);
        let next = submit(&node, hello, "", b"").await.expect("accepted");
        assert_eq!(ended(&node, next).await.predicate.state, TaskState::Completed);
    });
}

fn a_dead_process_loses_its_tasks() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let endless = put_text(&data, "endless", ENDLESS);
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let host = LocalHost::new(32, 2).expect("host");
    let pid = host.id().expect("a process");
    let compiler = Arc::new(CompilerProcess::default());
    let node = Node::start(&data, config(), Box::new(host), compiler).expect("node");
    block(async {
        let task = submit(&node, endless, "", b"").await.expect("accepted");
        while node.snapshot().await.expect("snapshot").running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        let statement = ended(&node, task).await;
        assert_eq!(statement.predicate.reason.as_deref(), Some("lost"));
        let next = submit(&node, hello, "", b"").await.expect("accepted");
        assert_eq!(ended(&node, next).await.predicate.state, TaskState::Completed);
    });
}

fn what_was_accepted_runs_after_a_restart() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let endless = put_text(&data, "endless", ENDLESS);
    // Room for one: the second waits.
    let budget = Budget { tasks: 1, ..config().budget };
    let node = start(&data, NodeConfig { budget, ..config() });
    let (first, second) = block(async {
        let first = submit(&node, endless, "a", b"").await.expect("accepted");
        let second = submit(&node, hello, "b", b"").await.expect("accepted");
        while node.snapshot().await.expect("snapshot").running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (first, second)
    });
    // At once: what runs is left behind as it would be by a kill.
    drop(node);
    let node = start(&data, config());
    block(async {
        let statement = ended(&node, first).await;
        assert_eq!(statement.predicate.reason.as_deref(), Some("lost"));
        assert_eq!(ended(&node, second).await.predicate.state, TaskState::Completed);
    });
}

fn too_much_is_refused() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let endless = put_text(&data, "endless", ENDLESS);
    let budget = Budget { tasks: 1, ..config().budget };
    let node = start(&data, NodeConfig { budget, queue_max: 3, ..config() });
    block(async {
        let mut refused = None;
        for n in 0..6 {
            match submit(&node, endless, &n.to_string(), b"").await {
                Ok(_) => {}
                Err(e) => refused = Some(e),
            }
        }
        let refused = refused.expect("refused");
        assert_eq!(refused.word(), "resource_exhausted", "{refused}");
        assert!(refused.retry_after().expect("a time") > Duration::ZERO);
    });
}

fn a_large_output_is_in_the_store() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let echo = put_text(&data, "echo", ECHO);
    let node = start(&data, config());
    let large = vec![7u8; 3 << 20];
    let small = vec![8u8; 64 << 10];
    block(async {
        let mut staged = node.store().stage();
        std::io::Write::write_all(&mut staged, &large).expect("staged");
        let (digest, _) = staged.commit().expect("stored");
        let input = node.input(digest).await.expect("found");
        let submission =
            node.artifact(echo).await.expect("artifact").submission(me(), input, limits());
        let task = node.submit(submission).await.expect("accepted");
        let statement = ended(&node, task).await;
        assert_eq!(statement.predicate.state, TaskState::Completed, "{statement:?}");
        assert_eq!(statement.predicate.output.digest, Digest::of(&large));
        assert_eq!(node.store().read_blob(&Digest::of(&large), 4 << 20).expect("stored"), large);
        // One byte less than is spilled stays in the journal, and is found there.
        let task = submit(&node, echo, "", &small).await.expect("accepted");
        let statement = ended(&node, task).await;
        assert_eq!(statement.predicate.output.digest, Digest::of(&small));
        let found = node.input(Digest::of(&small)).await.expect("found");
        assert!(matches!(found, SubmittedInput::Stored { inline: true, .. }), "{found:?}");
        assert!(node.input(Digest::of(b"nobody wrote this")).await.is_err());
    });
}

fn a_hostile_module_fails() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let huge = put_text(
        &data,
        "huge",
        "(module (memory (export \"memory\") 1)
        (func (export \"_start\") (drop (memory.grow (i32.const 60000))) (unreachable)))",
    );
    let node = start(&data, config());
    block(async {
        let task = submit(&node, huge, "", b"").await.expect("accepted");
        let other = submit(&node, hello, "", b"").await.expect("accepted");
        let statement = ended(&node, task).await;
        assert_eq!(statement.predicate.reason.as_deref(), Some("memory"), "{statement:?}");
        assert_eq!(ended(&node, other).await.predicate.state, TaskState::Completed);
        let began = Instant::now();
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}

/// Copies its input to its output, 4 KiB at a time.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.load (i32.const 8)) (then
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (br $more))))))"#;
