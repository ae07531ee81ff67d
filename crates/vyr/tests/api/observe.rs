//! `StreamTraces` and `StreamMetrics`.

use std::collections::BTreeMap;

use vyr_api::Client;
use vyr_api::control::metric::Value;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    MetricFilter, Span, StreamMetricsRequest, StreamTracesRequest, SubmitTaskRequest, TraceFilter,
};
use vyr_base::Digest;

use crate::daemon::{Daemon, HANG, block, of_tasks, spans, wait};
use crate::submit::request;

/// Reads `count` spans of a filter that does not end by itself.
async fn read(stream: &mut tonic::Streaming<Span>, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.len() < count {
        let span = tokio::time::timeout(HANG, stream.message()).await.expect("in time");
        spans.push(span.expect("a span").expect("no end"));
    }
    spans
}

async fn watch(client: &mut Client, filter: TraceFilter) -> tonic::Streaming<Span> {
    let request = StreamTracesRequest { filter: Some(filter) };
    client.control.stream_traces(request).await.expect("a stream").into_inner()
}

/// By task and name; what comes in which order between tasks is nobody's promise.
fn sorted(mut spans: Vec<Span>) -> Vec<Span> {
    let rank = |span: &Span| ["submit", "execute", "complete"].iter().position(|n| *n == span.name);
    spans.sort_by_key(|span| (span.task_id.clone(), rank(span)));
    spans
}

#[test]
fn a_replayed_span_is_the_span_that_was_sent_live() {
    let mut daemon = Daemon::start();
    let echo = block(daemon.put("probe", &["echo"]));
    let fails = block(daemon.put("probe", &["exit", "7"]));
    let (live, tasks) = block(async {
        let mut client = daemon.client().await;
        let filter =
            TraceFilter { live_only: true, with_statement: true, ..TraceFilter::default() };
        let mut stream = watch(&mut client, filter).await;
        let mut tasks = Vec::new();
        for n in 0..6u8 {
            let artifact = if n % 2 == 0 { &echo } else { &fails };
            tasks.push(client.submit(artifact, &[n]).await.expect("accepted"));
        }
        (sorted(read(&mut stream, 18).await), tasks)
    });
    let names: Vec<&str> = live.iter().map(|span| span.name.as_str()).take(3).collect();
    assert_eq!(names, ["submit", "execute", "complete"]);
    for span in live.iter().filter(|span| span.name == "complete") {
        let end = span.end.as_ref().expect("an end");
        // The statement is a leaf of the journal, and the receipt is of it.
        assert_eq!(end.receipt_digest, Digest::of(&end.statement).to_string());
    }
    let ids: Vec<&str> = tasks.iter().map(String::as_str).collect();
    for restarted in [false, true] {
        if restarted {
            daemon.restart();
        }
        block(async {
            let mut client = daemon.client().await;
            let by_id = TraceFilter { with_statement: true, ..of_tasks(&ids) };
            assert_eq!(sorted(spans(&mut client, by_id).await), live, "restarted: {restarted}");
            let all = TraceFilter { with_statement: true, ..TraceFilter::default() };
            let mut stream = watch(&mut client, all).await;
            assert_eq!(sorted(read(&mut stream, 18).await), live, "restarted: {restarted}");
        });
    }
}

#[test]
fn a_filter_shows_what_it_names_and_ends_with_its_tasks() {
    let daemon = Daemon::start();
    block(async {
        let echo = daemon.put("probe", &["echo"]).await;
        let hello = daemon.put("hello", &[]).await;
        let mut client = daemon.client().await;
        let first = client.submit(&echo, b"").await.expect("accepted");
        let second = client.submit(&hello, b"").await.expect("accepted");
        let both = TraceFilter { terminal_only: true, ..of_tasks(&[&first, &second]) };
        let shown = spans(&mut client, both).await;
        assert_eq!(shown.len(), 2);
        assert!(shown.iter().all(|span| span.name == "complete" && span.end.is_some()));
        assert!(shown.iter().all(|span| span.end.as_ref().is_some_and(|e| e.statement.is_empty())));
        // Replayed: only those of one artifact.
        let of_hello = TraceFilter { artifact_digest: hello.clone(), ..TraceFilter::default() };
        let mut stream = watch(&mut client, of_hello).await;
        assert!(read(&mut stream, 3).await.iter().all(|span| span.task_id == second));
        // A task that nobody knows ends the stream with its reason.
        let unknown = first.replace(|c: char| c.is_ascii_digit(), "0");
        let request = StreamTracesRequest { filter: Some(of_tasks(&[&unknown])) };
        let refused = match client.control.stream_traces(request).await {
            Ok(stream) => stream.into_inner().message().await.expect_err("refused"),
            Err(status) => status,
        };
        assert!(!refused.details().is_empty(), "{refused:?}");
    });
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const OTHER: &str = "11111111111111111111111111111111";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Submits with a trace context in the call's metadata.
async fn submit(client: &mut Client, metadata: &str, message: SubmitTaskRequest) -> String {
    let mut request = tonic::Request::new(tokio_stream::once(message));
    if !metadata.is_empty() {
        request.metadata_mut().insert("traceparent", metadata.parse().expect("ASCII"));
    }
    let mut answers = client.control.submit_task(request).await.expect("a stream").into_inner();
    match answers.message().await.expect("an answer").and_then(|answer| answer.result) {
        Some(Answer::TaskId(task)) => task,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trace_goes_on_from_the_call_or_from_the_message() {
    let daemon = Daemon::start();
    block(async {
        let hello = daemon.put("hello", &[]).await;
        let mut client = daemon.client().await;
        let given = format!("00-{TRACE}-{PARENT}-01");
        let other = format!("00-{OTHER}-{PARENT}-01");
        let message = |traceparent: &str| SubmitTaskRequest {
            traceparent: traceparent.to_owned(),
            ..request(&hello, "", b"")
        };
        for (metadata, in_message, trace) in [
            (given.as_str(), "", Some(TRACE)),
            ("", given.as_str(), Some(TRACE)),
            // The message is nearer than the call.
            (other.as_str(), given.as_str(), Some(TRACE)),
            // What cannot be read is as if it were not there.
            ("garbage", "", None),
            ("", "", None),
        ] {
            let task = submit(&mut client, metadata, message(in_message)).await;
            let shown = sorted(spans(&mut client, of_tasks(&[&task])).await);
            let [submitted, executed, completed] = &shown[..] else { panic!("{shown:?}") };
            match trace {
                Some(trace) => {
                    assert_eq!(hex(&submitted.trace_id), trace);
                    assert_eq!(hex(&submitted.parent_span_id), PARENT);
                }
                None => {
                    assert_eq!(submitted.trace_id.len(), 16, "a trace of its own");
                    assert_ne!(hex(&submitted.trace_id), OTHER);
                    assert!(submitted.parent_span_id.is_empty());
                }
            }
            for span in [executed, completed] {
                assert_eq!(span.trace_id, submitted.trace_id);
                assert_eq!(span.parent_span_id, submitted.span_id);
            }
            assert!(submitted.start_unix_nano <= executed.start_unix_nano);
            assert!(executed.end_unix_nano <= completed.end_unix_nano);
        }
    });
}

#[test]
fn metrics_are_a_snapshot_and_then_what_changed() {
    let daemon = Daemon::start();
    block(async {
        let hello = daemon.put("hello", &[]).await;
        let mut client = daemon.client().await;
        let filter = |prefix: &str| StreamMetricsRequest {
            filter: Some(MetricFilter { name_prefix: prefix.to_owned(), interval_ms: 100 }),
        };
        let stream = client.control.stream_metrics(filter("vyr.tasks.")).await;
        let mut stream = stream.expect("a stream").into_inner();
        let snapshot = stream.message().await.expect("a message").expect("a snapshot");
        assert!(!snapshot.delta);
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for metric in snapshot.metrics {
            assert!(metric.name.starts_with("vyr.tasks."), "{}", metric.name);
            assert!(!metric.unit.is_empty());
            known.insert(metric.name, metric.value.expect("a value"));
        }
        for name in ["accepted", "completed", "failed", "running", "queued"] {
            assert!(known.contains_key(&format!("vyr.tasks.{name}")), "{name}: {known:?}");
        }
        let task = client.submit(&hello, b"").await.expect("accepted");
        wait(&mut client, &task).await;
        let completed = "vyr.tasks.completed";
        let Some(Value::Counter(before)) = known.get(completed).cloned() else {
            panic!("{known:?}")
        };
        let last = async {
            let mut time = snapshot.time_unix_nano;
            while known.get(completed) != Some(&Value::Counter(before + 1)) {
                let message = stream.message().await.expect("a message").expect("a delta");
                assert!(message.delta && message.time_unix_nano > time);
                time = message.time_unix_nano;
                for metric in message.metrics {
                    let value = metric.value.expect("a value");
                    let old = known.insert(metric.name.clone(), value.clone());
                    assert_ne!(old, Some(value), "{} did not change", metric.name);
                }
            }
        };
        tokio::time::timeout(HANG, last).await.expect("in time");
        // Snapshot and deltas add up to a later snapshot.
        let stream = client.control.stream_metrics(filter("vyr.tasks.completed")).await;
        let fresh = stream.expect("a stream").into_inner().message().await;
        let fresh = fresh.expect("a message").expect("a snapshot");
        assert_eq!(fresh.metrics.len(), 1);
        assert_eq!(fresh.metrics[0].value.as_ref(), known.get(completed));
    });
}
