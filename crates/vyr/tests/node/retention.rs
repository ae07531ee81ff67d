//! A node that keeps few tasks: what is older is sealed and dropped, and all that was said of it stays
//! true.

use std::fs;
use std::path::Path;

use vyr_api::Client;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{StreamTracesRequest, SubmitTaskRequest, TaskState, TraceFilter};
use vyr_journal_sql::Reader;

use crate::place::{Place, block, in_time, run, submission, until};

/// Tasks that are kept, and tasks of one stretch.
const KEPT: usize = 200;
const STRETCH: usize = 1_000;

/// Each input is another, so that none is kept for another's sake.
const INPUT_BYTES: usize = 4 << 10;

/// Bytes of a task that stay: the hashes of its three events, with as much again for pages that are
/// not full.
const BYTES_A_TASK_MAX: u64 = 3 * 2 * 40;

/// SQLite copies its log into the file at 16 MiB; a commit that is under way may make it longer.
const LOG_BYTES_MAX: u64 = 32 << 20;

/// Submits so many tasks on one stream and waits for their ends; their ids.
async fn stretch(client: &mut Client, artifact: &str, from: usize) -> Vec<String> {
    let filter = TraceFilter { terminal_only: true, live_only: true, ..Default::default() };
    let request = StreamTracesRequest { filter: Some(filter) };
    let spans = client.control.stream_traces(request).await.expect("spans");
    let mut spans = spans.into_inner();
    let requests: Vec<SubmitTaskRequest> = (from..from + STRETCH)
        .map(|n| {
            let input = format!("{n:0INPUT_BYTES$}");
            submission(artifact, input.as_bytes(), &format!("key-{n}"))
        })
        .collect();
    let answers = client.control.submit_task(tokio_stream::iter(requests)).await;
    let mut answers = answers.expect("a stream").into_inner();
    let mut tasks = Vec::new();
    while let Some(answer) = in_time("an answer", answers.message()).await.expect("answers") {
        match answer.result.expect("an answer") {
            Answer::TaskId(id) => tasks.push(id),
            Answer::Error(error) => panic!("{error:?}"),
        }
    }
    for _ in 0..tasks.len() {
        let span = in_time("an end", spans.message()).await.expect("spans").expect("a span");
        assert_eq!(span.end.expect("terminal").state(), TaskState::Completed);
    }
    tasks
}

/// Events without bytes, and all.
fn dropped(data: &Path) -> (usize, usize) {
    let reader = Reader::open(&data.join("node/journal.db")).expect("a journal");
    let rows = reader.rows(0, u64::from(u32::MAX)).expect("rows");
    (rows.iter().filter(|row| row.leaf.is_none()).count(), rows.len())
}

/// Waits until no more than what is kept, and the quarter by which sealing lags, has its bytes.
async fn settled(client: &mut Client, hello: &str, place: &Place) {
    let most = 3 * (KEPT + KEPT / 4 + 2) + 20;
    until("the end of dropping", async || {
        // Dropping goes on while something happens.
        run(client, submission(hello, b"", "")).await;
        let (dropped, all) = dropped(place.data());
        (all - dropped <= most).then_some(())
    })
    .await;
}

/// Bytes on disk of the journal's file. What is not in it yet is in the log, which has a bound.
fn size(place: &Place) -> u64 {
    let of = |name: &str| fs::metadata(place.data().join("node").join(name)).expect("a file").len();
    assert!(of("journal.db-wal") < LOG_BYTES_MAX);
    of("journal.db")
}

fn sound(place: &Place) {
    for command in [&["verify", "--journal"][..], &["events", "rebuild"]] {
        let output = place.command(command).output().expect("vyr starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
    }
}

#[test]
fn what_is_older_is_dropped_and_everything_said_of_it_stays_true() {
    let place = Place::new();
    place.config(&format!("[retention]\ntasks = {KEPT}\n"));
    let hello = place.put_hello();
    let trust = place.path("node.pub");
    let receipt = |task: &str, file: &Path| {
        let file = file.to_str().expect("UTF-8");
        place.command(&["task", "receipt", task, "--output", file]).output().expect("vyr starts")
    };
    let verifies = |file: &Path| {
        let (file, trust) = (file.to_str().expect("UTF-8"), trust.to_str().expect("UTF-8"));
        place.command(&["verify", file, "--trust", trust]).status().expect("vyr starts").success()
    };
    let (first, last) = (place.path("first.json"), place.path("last.json"));
    let (sizes, newest) = block(async {
        let daemon = place.ready().await;
        fs::write(&trust, daemon.status().await.node_key + "\n").expect("a file");
        let mut client = daemon.client().await;
        let tasks = stretch(&mut client, &hello, 0).await;
        // Taken while it was there.
        let early = run_one(&mut client, &hello).await;
        assert!(receipt(&early, &first).status.success() && verifies(&first));
        let mut sizes = Vec::new();
        for n in 1..4 {
            stretch(&mut client, &hello, n * STRETCH).await;
            settled(&mut client, &hello, &place).await;
            sizes.push(size(&place));
        }
        // A task that was dropped has no receipt any more, and the answer says why.
        let gone = receipt(&tasks[0], &last);
        let said = String::from_utf8_lossy(&gone.stderr).into_owned();
        assert_eq!(gone.status.code(), Some(4), "{said}");
        assert!(verifies(&first), "its receipt was taken and stays one");
        sound(&place);
        // The newest task: whatever settling ran before it, this one is kept.
        let newest = submission(&hello, b"newest", "newest");
        let newest = in_time("an answer", client.submit_request(newest)).await.expect("accepted");
        crate::place::ended(&mut client, &newest).await;
        drop(client);
        assert!(daemon.stop().success());
        (sizes, newest)
    });
    let (dropped_before, all) = dropped(place.data());
    println!("{dropped_before} of {all} events were dropped; the journal's file: {sizes:?} bytes");
    assert!(dropped_before > 3 * 3 * STRETCH, "{dropped_before} of {all}");
    // Two stretches more than at the first look.
    let growth = (sizes[2] - sizes[0]) / (2 * STRETCH) as u64;
    assert!(growth <= BYTES_A_TASK_MAX, "{growth} bytes a task stay");
    sound(&place);
    // On what is left another node goes on.
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let again = submission(&hello, b"newest", "newest");
        let task = in_time("an answer", client.submit_request(again)).await.expect("known");
        assert_eq!(task, newest, "the key was forgotten");
        assert!(receipt(&task, &last).status.success() && verifies(&last));
        let size_before = daemon.status().await.events;
        run_one(&mut client, &hello).await;
        assert_eq!(daemon.status().await.events, size_before + 3, "one task more and nothing else");
        drop(client);
        assert!(daemon.stop().success());
    });
    sound(&place);
    assert!(verifies(&first));
}

/// Runs a task; its id.
async fn run_one(client: &mut Client, artifact: &str) -> String {
    let task = client.submit_request(submission(artifact, b"", "")).await.expect("accepted");
    assert_eq!(crate::place::ended(client, &task).await.state(), TaskState::Completed);
    task
}
