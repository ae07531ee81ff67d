//! What a task costs the disk, as the kernel sees it: two syncs, one for its acceptance and start,
//! one for its end.
//!
//! The system calls of the process `api` are those of `strace`. SQLite syncs the log for every
//! commit; what else it syncs is counted apart:
//!
//! ```text
//! a signed checkpoint, at most one a second    one commit of its own
//! a round of the log: journal.db-wal is full   the log, the database; then the log's new header
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use vyr_api::control::{StreamTracesRequest, SubmitTaskRequest, TaskState, TraceFilter};
use vyr_journal_sql::Reader;

use crate::place::{Place, block, full, in_time, not_run, submission};

/// A `strace` of a process and all its threads, from when this was made.
struct Traced {
    child: Child,
    output: PathBuf,
}

impl Traced {
    /// `None`, said aloud, when this cannot be.
    fn attach(test: &str, pid: Pid, output: PathBuf) -> Option<Self> {
        let child = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync", "-o"])
            .arg(&output)
            .args(["-p", &pid.as_raw_nonzero().to_string()])
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            not_run(test, "strace is not installed");
            return None;
        };
        // The first line says that it is attached to all threads, or why not.
        let mut said = String::new();
        let stderr = child.stderr.take().expect("piped");
        BufReader::new(stderr).read_line(&mut said).expect("it says something");
        if !said.contains("attached") {
            not_run(test, "strace may not attach");
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        Some(Self { child, output })
    }

    /// Detaches it; what was synced since.
    fn syncs(mut self) -> Syncs {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
        self.child.wait().expect("a child of ours");
        let mut syncs = Syncs::default();
        for line in BufReader::new(File::open(&self.output).expect("its output")).lines() {
            let line = line.expect("text");
            // A call that another thread's interrupts is in two lines; the file is in the first.
            if !line.contains("sync") || line.contains("resumed>") {
                continue;
            }
            match line.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
                Some((path, _)) if path.ends_with("/journal.db-wal") => syncs.log += 1,
                Some((path, _)) if path.ends_with("/journal.db") => syncs.database += 1,
                _ => syncs.other.push(line),
            }
        }
        syncs
    }
}

/// How often what was synced.
#[derive(Debug, Default)]
struct Syncs {
    log: usize,
    database: usize,
    other: Vec<String>,
}

fn checkpoints(data: &Path) -> usize {
    let reader = Reader::open(&data.join("node/journal.db")).expect("a journal");
    reader.checkpoints().expect("checkpoints").len()
}

#[test]
fn a_sequential_task_costs_two_syncs() {
    const TEST: &str = "syncs::a_sequential_task_costs_two_syncs";
    let tasks = if full() { 1_000 } else { 200 };
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let filter = TraceFilter { terminal_only: true, live_only: true, ..Default::default() };
        let request = StreamTracesRequest { filter: Some(filter) };
        let spans = client.control.stream_traces(request).await.expect("spans");
        let mut spans = spans.into_inner();
        let mut one = async |request: SubmitTaskRequest| {
            let task = in_time("an answer", client.submit_request(request)).await.expect("taken");
            let span = in_time("its end", spans.message()).await.expect("spans").expect("a span");
            assert_eq!(span.task_id, task);
            assert_eq!(span.end.expect("terminal").state(), TaskState::Completed);
        };
        // Compiled and loaded before anything is counted.
        one(submission(&hello, b"", "")).await;
        let api = daemon.process("api", None).await;
        let Some(traced) = Traced::attach(TEST, api, place.path("strace")) else { return };
        let before = checkpoints(place.data());
        for _ in 0..tasks {
            one(submission(&hello, b"some input", "")).await;
        }
        let syncs = traced.syncs();
        let signed = checkpoints(place.data()) - before;
        println!("{tasks} tasks, {signed} signed checkpoints: {syncs:?}");
        assert_eq!(syncs.other, Vec::<String>::new());
        // Each round of the log syncs it twice more, the one under way perhaps once.
        let rounds = syncs.database;
        let commits = syncs.log - signed;
        let (least, most) = (2 * tasks + (2 * rounds).saturating_sub(1), 2 * tasks + 2 * rounds);
        // A checkpoint may be signed between the two looks at their number and at the system calls.
        assert!((least.saturating_sub(1)..=most + 1).contains(&commits), "{commits} commits");
        drop(client);
        assert!(daemon.stop().success());
    });
}
