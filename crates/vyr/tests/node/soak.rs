//! Very many tasks, one after the other through one node that keeps few of them: memory does not grow
//! with what was, the disk by the hashes of what was dropped alone, and the log still verifies.
//!
//! `VYR_SOAK` says how many; `cargo xtask ci --full` asks for a million, of a release build. The
//! looks at memory are at a twentieth of them and at the end, both with nothing under way.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    Span, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse, TaskState, TraceFilter,
};

use crate::place::{Daemon, Place, block, guest, in_time, submission};

/// Enough to seal and drop many times over.
const TASKS: usize = 10_000;

/// Tasks that are under way at once.
const WINDOW: usize = 512;

/// Memory at the end by that at the first look.
const GROWTH_MAX: f64 = 1.2;

/// A task that was dropped leaves three hashes, and pages that are not full.
const BYTES_A_TASK_MAX: u64 = 3 * 2 * 40;

/// What the log of the database and its free pages may add between two looks.
const DISK_SLACK_BYTES: u64 = 32 << 20;

/// Proportional memory of all processes of a node, in bytes.
async fn memory(daemon: &Daemon) -> u64 {
    let mut sum = 0;
    for process in daemon.status().await.processes {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid));
        let rollup = rollup.expect("a process of ours");
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        sum += kib.expect("a figure") * 1024;
    }
    sum
}

/// Bytes on disk of everything below a directory.
fn disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        // A file may be gone between the two looks.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += disk(&entry.path());
        }
    }
    sum
}

/// Two streams to a node that stay open: submissions with their answers, and ends.
struct Streams {
    sender: mpsc::Sender<SubmitTaskRequest>,
    answers: Streaming<SubmitTaskResponse>,
    spans: Streaming<Span>,
}

impl Streams {
    async fn open(daemon: &Daemon) -> Self {
        let mut client = daemon.client().await;
        let filter = TraceFilter { terminal_only: true, live_only: true, ..Default::default() };
        let request = StreamTracesRequest { filter: Some(filter) };
        let spans = client.control.stream_traces(request).await.expect("spans").into_inner();
        let (sender, receiver) = mpsc::channel(WINDOW);
        let answers = client.control.submit_task(ReceiverStream::new(receiver)).await;
        Self { sender, answers: answers.expect("a stream").into_inner(), spans }
    }

    /// Runs so many, and waits until the last has ended.
    async fn run(&mut self, request: &SubmitTaskRequest, tasks: usize) {
        let Self { sender, answers, spans } = self;
        let (mut sent, mut answered, mut ended) = (0, 0, 0);
        while answered < tasks || ended < tasks {
            while sent < tasks && sent - ended < WINDOW {
                sender.send(request.clone()).await.expect("a stream");
                sent += 1;
            }
            tokio::select! {
                answer = answers.message(), if answered < sent => {
                    let answer = answer.expect("answers").expect("no end").result;
                    assert!(matches!(answer, Some(Answer::TaskId(_))), "{answer:?}");
                    answered += 1;
                }
                span = spans.message() => {
                    let span = span.expect("spans").expect("no end");
                    assert_eq!(span.dropped, 0);
                    assert_eq!(span.end.expect("terminal").state(), TaskState::Completed);
                    ended += 1;
                }
            }
        }
    }
}

#[test]
fn very_many_tasks_leave_no_memory_and_little_disk() {
    let wanted = std::env::var("VYR_SOAK").ok().map(|text| text.parse().expect("a number"));
    let tasks: usize = wanted.unwrap_or(TASKS);
    let stretch = tasks / 20;
    let place = Place::new();
    place.config(&format!("[retention]\ntasks = {}\n", stretch / 4));
    let nop = place.put("nop", &guest("nop.wasip1"), &[]);
    let request = submission(&nop, b"", "");
    block(async {
        let daemon = place.ready().await;
        let mut streams = Streams::open(&daemon).await;
        let (mut memories, mut disks) = (Vec::new(), Vec::new());
        for n in 1..=20 {
            let began = Instant::now();
            in_time("a twentieth of the tasks", streams.run(&request, stretch)).await;
            let rate = stretch as f64 / began.elapsed().as_secs_f64();
            memories.push(memory(&daemon).await);
            disks.push(disk(place.data()));
            println!(
                "{} tasks, {rate:.0} a second; {} KiB of memory, {} KiB of disk",
                n * stretch,
                memories[n - 1] >> 10,
                disks[n - 1] >> 10
            );
        }
        drop(streams);
        let growth = memories[19] as f64 / memories[0] as f64;
        assert!(growth <= GROWTH_MAX, "memory grew by {growth:.2}: {memories:?}");
        let most = disks[0] + (19 * stretch) as u64 * BYTES_A_TASK_MAX + DISK_SLACK_BYTES;
        assert!(disks[19] <= most, "{disks:?} bytes of disk, not {most}");
        let log = daemon.log();
        assert!(daemon.stop().success(), "{log}");
    });
    let began = Instant::now();
    place.vyr(&["verify", "--journal"]);
    println!("verified in {:.1} s", began.elapsed().as_secs_f64());
}
