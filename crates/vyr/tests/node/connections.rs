//! Clients that are slow, many, or gone in the middle.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    ArtifactHead, MetricFilter, PutArtifactRequest, StreamMetricsRequest, StreamTracesRequest,
    SubmitTaskRequest, TaskState, TraceFilter, metric,
};
use vyr_api::{ApiError, Client};
use vyr_base::Digest;
use vyr_node::DataDir;

use crate::place::{
    Daemon, Place, block, descriptors, guest, in_time, not_run, run, status_of, submission, until,
};

/// The present value of a counter.
async fn counter(client: &mut Client, name: &str) -> u64 {
    let filter = MetricFilter { name_prefix: name.into(), interval_ms: 0 };
    let request = StreamMetricsRequest { filter: Some(filter) };
    let metrics = client.control.stream_metrics(request).await.expect("metrics");
    let first = in_time("metrics", metrics.into_inner().message()).await.expect("metrics");
    match first.expect("one").metrics.first().and_then(|metric| metric.value.clone()) {
        Some(metric::Value::Counter(value)) => value,
        other => panic!("{name}: {other:?}"),
    }
}

/// The memory a process has, in bytes.
fn memory_of(pid: rustix::process::Pid) -> u64 {
    let text = status_of(pid, "VmRSS");
    text.trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_client_that_does_not_read_its_spans_costs_nobody_else_anything() {
    // More spans than are kept for one who is slow, by far: three a task.
    const TASKS: usize = 6_000;
    let place = Place::new();
    let nop = place.put("nop", &guest("nop.wasip1"), &[]);
    block(async {
        let daemon = place.ready().await;
        let api = daemon.process("api", None).await;
        let mut client = daemon.client().await;
        run(&mut client, submission(&nop, b"", "")).await;
        let mut idle = daemon.client().await;
        let filter = TraceFilter { with_statement: true, ..TraceFilter::default() };
        let request = StreamTracesRequest { filter: Some(filter) };
        let mut unread = idle.control.stream_traces(request).await.expect("spans").into_inner();
        let before = memory_of(api);
        let messages: Vec<SubmitTaskRequest> =
            (0..TASKS).map(|_| submission(&nop, b"", "")).collect();
        let answers = client.control.submit_task(tokio_stream::iter(messages)).await;
        let mut answers = answers.expect("a stream").into_inner();
        let mut accepted = 0;
        while let Some(answer) = in_time("an answer", answers.message()).await.expect("answers") {
            assert!(matches!(answer.result, Some(Answer::TaskId(_))), "{answer:?}");
            accepted += 1;
        }
        assert_eq!(accepted, TASKS);
        until("the end of all tasks", async || {
            let status = daemon.status().await;
            (status.tasks_queued + status.tasks_running == 0).then_some(())
        })
        .await;
        let dropped = counter(&mut client, "vyr.spans.dropped").await;
        assert!(dropped > 0);
        // At most 8,192 spans of some two kilobytes wait for one client.
        let grown = memory_of(api).saturating_sub(before);
        println!("{dropped} spans dropped, {} MiB grown", grown >> 20);
        assert!(grown < 128 << 20, "{grown} bytes more");
        // Read at last, the stream says what is missing where it is missing.
        let (mut read, mut told) = (0, 0);
        run(&mut client, submission(&nop, b"", "")).await;
        while told == 0 {
            let span = in_time("a span", unread.message()).await.expect("spans").expect("no end");
            read += 1;
            told += span.dropped;
            if read % 100 == 0 {
                // Something new, behind all that waits, to be told of what is missing.
                run(&mut client, submission(&nop, b"", "")).await;
            }
        }
        let dropped = counter(&mut client, "vyr.spans.dropped").await;
        assert!(told <= dropped, "{told} of {dropped}");
    });
}

#[test]
fn a_submission_stream_that_says_nothing_hinders_nobody() {
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let mut silent = Vec::new();
        // One connection takes 1,024 calls; a few more calls wait.
        for _ in 0..1_000 {
            let (sender, receiver) = mpsc::channel::<SubmitTaskRequest>(1);
            let mut idle = client.clone();
            let answers = idle.control.submit_task(ReceiverStream::new(receiver)).await;
            silent.push((sender, answers.expect("a stream").into_inner()));
        }
        let end = run(&mut client, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        let end = run(&mut daemon.control().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        // One speaks at last and is answered.
        let (sender, mut answers) = silent.pop().expect("a stream");
        sender.send(submission(&hello, b"", "")).await.expect("open");
        let answer = in_time("an answer", answers.message()).await.expect("open").expect("one");
        assert!(matches!(answer.result, Some(Answer::TaskId(_))), "{answer:?}");
    });
}

/// What an artifact is put with: its head, and its blobs.
struct Parts {
    digest: String,
    head: ArtifactHead,
    blobs: Vec<(String, Vec<u8>)>,
}

fn parts(place: &Place, digest: &str) -> Parts {
    let data = DataDir::open(place.data()).expect("data");
    let drafts = data.drafts().expect("drafts");
    let artifact: Digest = digest.parse().expect("a digest");
    let manifest = vyr_node::artifact::manifest(&drafts, &artifact).expect("a draft");
    let signature = vyr_node::artifact::signatures(&drafts, &artifact).expect("signed").remove(0);
    let blobs = [manifest.config(), manifest.wasm()].map(|part| {
        let bytes = drafts.read_blob(&part.digest, 1 << 26).expect("a blob");
        (part.digest.to_string(), bytes)
    });
    let head = ArtifactHead {
        digest: digest.into(),
        manifest: manifest.bytes().to_vec().into(),
        signature: signature.into(),
    };
    Parts { digest: digest.into(), head, blobs: blobs.into() }
}

impl Parts {
    fn messages(&self) -> Vec<PutArtifactRequest> {
        let message = |part| PutArtifactRequest { part: Some(part) };
        let mut messages = vec![message(Part::Head(self.head.clone()))];
        for (digest, bytes) in &self.blobs {
            messages.push(message(Part::BlobDigest(digest.clone())));
            for chunk in bytes.chunks(16 << 10) {
                messages.push(message(Part::Chunk(chunk.to_vec().into())));
            }
        }
        messages
    }
}

/// Files below a directory.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn a_put_that_breaks_off_leaves_nothing_half_stored() {
    let place = Place::new();
    let wasm = guest("hello.wasip2");
    block(async {
        let daemon = place.ready().await;
        let other = place.draft("hello2", &wasm, &[]);
        let parts = parts(&place, &other);
        let messages = parts.messages();
        assert!(messages.len() > 6);
        let store = place.data().join("store");
        let before = files(&store);
        for cut in 1..messages.len() {
            let mut client = daemon.control().await;
            let (sender, receiver) = mpsc::channel(messages.len());
            let call = tokio::spawn(async move {
                client.control.put_artifact(ReceiverStream::new(receiver)).await
            });
            for message in &messages[..cut] {
                sender.send(message.clone()).await.expect("open");
            }
            if cut % 2 == 0 {
                // The client is gone, in the middle of a call.
                tokio::task::yield_now().await;
                call.abort();
                assert!(call.await.is_err_and(|e| e.is_cancelled()));
            } else {
                // It says that this is all.
                drop(sender);
                let refused = in_time("an answer", call).await.expect("a call");
                let refused = ApiError::from(refused.expect_err("half of it"));
                assert_eq!(refused.category, "usage", "{refused:?}");
            }
        }
        until("nothing left behind", async || (files(&store) == before).then_some(())).await;
        let mut client = daemon.control().await;
        let refused = client.submit_request(submission(&parts.digest, b"", "")).await;
        assert_eq!(refused.expect_err("not there").category, "not_found");
        // All of it is taken.
        let put = client.control.put_artifact(tokio_stream::iter(messages)).await.expect("whole");
        assert_eq!(put.into_inner().signer, "me");
        let end = run(&mut client, submission(&parts.digest, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
    });
}

#[test]
fn puts_that_stand_still_do_not_take_the_node_away_from_others() {
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let draft = place.draft("hello2", &guest("hello.wasip2"), &[]);
        let parts = parts(&place, &draft);
        // More than there are threads for waiting.
        let mut client = daemon.control().await;
        let mut standing = Vec::new();
        for _ in 0..700 {
            let (sender, receiver) = mpsc::channel(1);
            let head = PutArtifactRequest { part: Some(Part::Head(parts.head.clone())) };
            sender.send(head).await.expect("open");
            let mut idle = client.clone();
            let call = tokio::spawn(async move {
                idle.control.put_artifact(ReceiverStream::new(receiver)).await
            });
            standing.push((sender, call));
        }
        // A call that comes after them on the same connection is answered after them.
        let filter = MetricFilter { name_prefix: "vyr.tasks".into(), interval_ms: 0 };
        let request = StreamMetricsRequest { filter: Some(filter) };
        let metrics = client.control.stream_metrics(request).await.expect("metrics");
        in_time("metrics", metrics.into_inner().message()).await.expect("metrics");
        let end = run(&mut daemon.control().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        let mut refused = 0;
        for (_, call) in &mut standing {
            if call.is_finished() {
                let error = call.await.expect("a call").expect_err("there was no room for it");
                let error = ApiError::from(error);
                assert_eq!(error.category, "resource_exhausted", "{error:?}");
                refused += 1;
            }
        }
        assert!(refused > 0, "all of them hold a thread");
        // When they are gone there is room again.
        drop(standing);
        drop(client);
        until("room for a put", async || {
            let mut client = daemon.control().await;
            let messages = tokio_stream::iter(parts.messages());
            client.control.put_artifact(messages).await.ok()
        })
        .await;
    });
}

/// Lets this process have so many descriptors, if the system does.
fn may_open(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(most.max(count)), maximum: Some(most.max(count)) };
    most >= count && setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit }).is_ok()
        || setrlimit(Resource::Nofile, raised).is_ok()
}

/// Opens connections until so many are there.
async fn connect(daemon: &Daemon, place: &Place, count: usize) -> Vec<UnixStream> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let connection = in_time("a connection", UnixStream::connect(place.control())).await;
        match connection {
            Ok(connection) => open.push(connection),
            // The node has not yet taken those before; the backlog is the system's.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                daemon.status().await;
            }
            Err(e) => panic!("{} connections: {e}", open.len()),
        }
    }
    open
}

#[test]
fn ten_thousand_connections_are_held_and_given_back() {
    const COUNT: usize = 10_000;
    const TEST: &str = "connections::ten_thousand_connections_are_held_and_given_back";
    if !may_open(COUNT as u64 + 500) {
        return not_run(TEST, "may not open 10,500 files");
    }
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let api = daemon.process("api", None).await;
        run(&mut daemon.client().await, submission(&hello, b"", "")).await;
        let before = descriptors(api);
        let open = connect(&daemon, &place, COUNT).await;
        until("all of them with the node", async || (descriptors(api) >= COUNT).then_some(()))
            .await;
        let end = run(&mut daemon.control().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        drop(open);
        // A few for connections and reads of our own.
        until("the node's descriptors back", async || {
            (descriptors(api) <= before + 16).then_some(())
        })
        .await;
        assert_eq!(daemon.process("api", None).await, api);
    });
}

#[test]
fn a_node_without_descriptors_serves_those_who_are_there_and_then_all_again() {
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let api = daemon.process("api", None).await;
        let mut client = daemon.control().await;
        run(&mut client, submission(&hello, b"", "")).await;
        let held = descriptors(api) as u64;
        let few = Rlimit { current: Some(held + 64), maximum: Some(held + 64) };
        prlimit(Some(api), Resource::Nofile, few).expect("a process of ours");
        let mut open = connect(&daemon, &place, 120).await;
        until("none left", async || (descriptors(api) as u64 >= held + 60).then_some(())).await;
        // Who is there already is served.
        let accepted = in_time("an answer", client.submit_request(submission(&hello, b"", "")));
        accepted.await.expect("accepted");
        // Those who go make room.
        open.truncate(10);
        let end = run(&mut daemon.control().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        assert_eq!(daemon.process("api", None).await, api, "{}", daemon.log());
    });
}
