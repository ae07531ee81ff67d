//! A node in a temporary directory, for tests whose binary lives the confined roles too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use vyr_base::Digest;
use vyr_journal::{Body, Limits, Statement, TaskId};
use vyr_node::node::{
    Budget, Caller, LocalHost, Node, NodeConfig, Retention, SpanFilter, TaskView,
};
use vyr_node::process::CompilerProcess;
use vyr_node::{DataDir, Input, Program, Progress, RunRequest};

pub(crate) fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        body();
        Ok(())
    })
}

pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn place() -> Place {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("data");
    Place { _directory: directory, path }
}

pub(crate) fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/bin").join(name)
}

/// Builds, signs and puts a module written here.
pub(crate) fn put_text(data: &DataDir, name: &str, text: &str) -> Digest {
    let path = data.path().join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(text).expect("valid text")).expect("write");
    put(data, &path)
}

pub(crate) fn put(data: &DataDir, path: &Path) -> Digest {
    let request = RunRequest {
        program: Program::File { path: path.to_owned(), args: Vec::new(), key: None },
        input: Input::Empty,
        show: None,
        show_log: false,
        store_output: false,
        limits: vyr_task::Limits { deadline_ms: 200, cpu_ms: 100, ..vyr_task::Limits::default() },
        deterministic: false,
        progress: Arc::new(Progress::default()),
    };
    vyr_node::run(data, request).expect("runs").artifact
}

pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        budget: Budget { memory_bytes: 1 << 30, cpu_millis: 32_000, tasks: 32 },
        queue_max: 1000,
        retention: Retention { tasks: 1_000_000 },
        state_idle: Duration::from_secs(60),
        checkpoint_out: None,
        adopt: true,
    }
}

pub(crate) fn start(data: &DataDir, config: NodeConfig) -> Node {
    let host = LocalHost::new(32, 2).expect("host");
    Node::start(data, config, Box::new(host), Arc::new(CompilerProcess::default())).expect("node")
}

pub(crate) fn limits() -> Limits {
    Limits {
        cpu_ms: 10_000,
        deadline_ms: 10_000,
        memory_bytes: 16 << 20,
        output_bytes_max: 1 << 30,
    }
}

pub(crate) fn me() -> Caller {
    Caller { name: "uid:1000".into(), operator: false }
}

pub(crate) fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(work)
}

/// Waits for a task's end.
pub(crate) async fn ended(node: &Node, task: TaskId) -> Statement {
    let filter = SpanFilter { tasks: vec![task], terminal_only: true, ..SpanFilter::default() };
    let mut spans = node.subscribe(filter).await.expect("watched");
    let end = |view: TaskView| match view.ended.map(|event| event.body) {
        Some(Body::Ended(statement)) => Some(*statement),
        _ => None,
    };
    if let Some(statement) = end(node.task(task, me()).await.expect("known")) {
        return statement;
    }
    let span = tokio::time::timeout(Duration::from_secs(60), spans.recv()).await;
    let span = span.expect("in time").expect("a span").span;
    span.ended.expect("terminal").statement.clone()
}
