//! Export to collectors that are real, that hang, that talk nonsense, and that come back. Without
//! the usual harness, because the confined processes are this binary started again.

#[path = "support/collector.rs"]
mod collector;
mod support;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use collector::{Arrived, Collector, Speaks, data_of, misbehaving, texts, until};
use libtest_mimic::Arguments;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use support::{block, config, ended, guest, limits, me, place, put, put_text, start, trial};
use vyr_base::Digest;
use vyr_journal::{TaskId, TaskState};
use vyr_node::DataDir;
use vyr_node::node::{Node, SubmittedInput, TIME_BOUNDS_US};
use vyr_node::otlp::Otlp;
use vyr_node::process::{Role, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let trials = vec![
        trial("nothing_set_exports_nothing_and_has_no_thread", nothing_set_exports_nothing),
        trial("spans_arrive_over_grpc", || spans_arrive(Speaks::Grpc)),
        trial("spans_arrive_over_http", || spans_arrive(Speaks::Http)),
        trial("metrics_arrive_over_grpc", || metrics_arrive(Speaks::Grpc)),
        trial("metrics_arrive_over_http", || metrics_arrive(Speaks::Http)),
        trial("what_its_caller_does_not_sample_is_not_exported", unsampled_is_not_exported),
        trial("a_collector_that_hangs_over_grpc_costs_spans_only", || hanging(Speaks::Grpc)),
        trial("a_collector_that_hangs_over_http_costs_spans_only", || hanging(Speaks::Http)),
        trial("nonsense_over_grpc_costs_spans_only", || {
            nonsense(Speaks::Grpc, b"nonsense, and much of it: not one frame of HTTP/2")
        }),
        trial("nonsense_over_http_costs_spans_only", || {
            nonsense(
                Speaks::Http,
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                content-length: 8\r\n\r\n\xff\xff\xff\xffnope",
            )
        }),
        trial("a_web_page_is_no_collector", || {
            nonsense(Speaks::Http, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")
        }),
        trial("a_collector_that_comes_back_over_grpc_is_found", || comes_back(Speaks::Grpc)),
        trial("a_collector_that_comes_back_over_http_is_found", || comes_back(Speaks::Http)),
        trial("tls_over_grpc_trusts_the_named_authority_only", || tls(Speaks::Grpc)),
        trial("tls_over_http_trusts_the_named_authority_only", || tls(Speaks::Http)),
        trial("what_a_collector_rejects_is_counted", what_a_collector_rejects_is_counted),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// What `Otlp::start_with` reads: an endpoint, its protocol, no waiting, and `more`.
fn settings(
    endpoint: &str,
    speaks: Speaks,
    more: &[(&str, &str)],
) -> impl Fn(&str) -> Option<String> {
    let mut all: HashMap<String, String> = HashMap::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), endpoint.into()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL".into(), speaks.word().into()),
        ("OTEL_BSP_SCHEDULE_DELAY".into(), "20".into()),
    ]);
    all.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    move |name| all.get(name).cloned()
}

fn export(node: &Arc<Node>, get: impl Fn(&str) -> Option<String>) -> Otlp {
    Otlp::start_with(Arc::clone(node), get).expect("valid").expect("an endpoint")
}

/// Submits a task of `artifact` in a caller's trace, which it samples or not.
fn submit(node: &Node, artifact: Digest, sampled: bool) -> TaskId {
    block(async {
        let input = SubmittedInput::Inline(b"".to_vec().into());
        let mut submission =
            node.artifact(artifact).await.expect("trusted").submission(me(), input, limits());
        submission.traceparent = format!("00-{TRACE}-{CALLER}-0{}", u8::from(sampled));
        node.submit(submission).await.expect("accepted")
    })
}

/// Runs a task to its end, which must be `state`.
fn run(node: &Node, artifact: Digest, state: TaskState) -> TaskId {
    let task = submit(node, artifact, true);
    let statement = block(ended(node, task));
    assert_eq!(statement.predicate.state, state, "{statement:?}");
    task
}

fn sent_and_dropped(node: &Node) -> (u64, u64) {
    let read = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    (read(&node.metrics().otlp_sent), read(&node.metrics().otlp_dropped))
}

/// Threads of this process that export.
fn exporters() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.trim() == "vyr-otlp").count()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nothing_set_exports_nothing() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let node = Arc::new(start(&data, config()));
    // Other trials may run beside this one: in a process of its own it is alone.
    if std::env::args().any(|argument| argument == "--exact") {
        let none = Otlp::start_with(Arc::clone(&node), |_| None).expect("valid");
        assert!(none.is_none());
        assert_eq!(exporters(), 0);
        let disabled = [("OTEL_SDK_DISABLED", "true")];
        let get = settings("http://127.0.0.1:1", Speaks::Grpc, &disabled);
        assert!(Otlp::start_with(Arc::clone(&node), get).expect("valid").is_none());
        assert_eq!(exporters(), 0);
        let otlp = export(&node, settings("http://127.0.0.1:1", Speaks::Grpc, &[]));
        assert_eq!(exporters(), 1);
        otlp.stop();
        assert_eq!(exporters(), 0);
        let wrong = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
        let get = settings("http://127.0.0.1:1", Speaks::Grpc, &wrong);
        let error = Otlp::start_with(Arc::clone(&node), get).expect_err("not spoken");
        assert!(error.to_string().contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{error}");
        return;
    }
    let alone = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "nothing_set_exports_nothing_and_has_no_thread"])
        .output()
        .expect("runs");
    assert!(alone.status.success(), "{alone:?}");
}

fn spans_arrive(speaks: Speaks) {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let trap = put_text(&data, "trap", TRAP);
    let node = Arc::new(start(&data, config()));
    let collector = Collector::start(speaks);
    let more = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "X-Tenant=a%20b,authorization=Bearer%20t"),
        ("OTEL_SERVICE_NAME", "here"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let otlp = export(&node, settings(&collector.endpoint(), speaks, &more));
    let good = run(&node, hello, TaskState::Completed);
    let bad = run(&node, trap, TaskState::Failed);
    let (spans, headers) = collector.spans(6);
    assert_eq!(headers["x-tenant"], "a b");
    assert_eq!(headers["authorization"], "Bearer t");
    assert_eq!(spans.len(), 6);
    let find = |task: TaskId, name: &str| -> Span {
        let of_task = |span: &&Span| texts(&span.attributes)["vyr.task.id"] == task.to_string();
        let found = spans.iter().filter(of_task).find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} of {task}")).clone()
    };
    for task in [good, bad] {
        let (submit, execute, complete) =
            (find(task, "submit"), find(task, "execute"), find(task, "complete"));
        for span in [&submit, &execute, &complete] {
            assert_eq!(hex(&span.trace_id), TRACE);
            assert_eq!(span.span_id.len(), 8);
            assert!(span.start_time_unix_nano > 1_700_000_000_000_000_000);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            assert_eq!(span.flags & 1, 1, "sampled");
        }
        assert_eq!(hex(&submit.parent_span_id), CALLER);
        assert_eq!(submit.kind, i32::from(SpanKind::Server));
        assert_eq!(submit.flags & 0x300, 0x300, "its parent is remote");
        for span in [&execute, &complete] {
            assert_eq!(span.parent_span_id, submit.span_id);
            assert_eq!(span.kind, i32::from(SpanKind::Internal));
            assert_eq!(span.flags & 0x300, 0x100, "its parent is not");
        }
        assert_ne!(execute.span_id, complete.span_id);
    }
    let complete = find(good, "complete");
    let seen = texts(&complete.attributes);
    let statement = block(ended(&node, good));
    assert_eq!(seen["vyr.task.state"], "completed");
    assert_eq!(seen["vyr.task.exit_code"], "0");
    assert_eq!(seen["vyr.artifact.digest"], hello.to_string());
    assert_eq!(seen["vyr.signer"], "dev");
    assert_eq!(seen["vyr.output.digest"], statement.predicate.output.digest.to_string());
    assert_eq!(seen["vyr.task.run_us"], statement.predicate.usage.run_us.to_string());
    let view = block(node.task(good, me())).expect("known");
    let leaf = view.ended.expect("ended").to_leaf();
    assert_eq!(seen["vyr.receipt.digest"], Digest::of(&leaf).to_string());
    assert!(complete.status.is_none() && !seen.contains_key("vyr.task.reason"));
    let complete = find(bad, "complete");
    assert_eq!(complete.status.expect("a status").code, i32::from(StatusCode::Error));
    let seen = texts(&complete.attributes);
    assert_eq!(seen["vyr.task.state"], "failed");
    assert_eq!(seen["vyr.task.reason"], "trap");
    assert_eq!(seen["error.type"], "trap");
    until("they are counted", || sent_and_dropped(&node) == (6, 0));
    assert_eq!(otlp.fault(), None);
    node.stop(Duration::ZERO);
    otlp.stop();
}

fn metrics_arrive(speaks: Speaks) {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let collector = Collector::start(speaks);
    let more = [("OTEL_METRIC_EXPORT_INTERVAL", "50"), ("OTEL_TRACES_EXPORTER", "none")];
    let otlp = export(&node, settings(&collector.endpoint(), speaks, &more));
    for _ in 0..3 {
        run(&node, hello, TaskState::Completed);
    }
    // Counters and gauges are not written at one moment: what is looked at is a node at rest.
    let at_rest = |metrics: &HashMap<String, Data>| {
        let Data::Sum(completed) = &metrics["vyr.tasks.completed"] else { panic!("a sum") };
        let Data::Gauge(running) = &metrics["vyr.tasks.running"] else { panic!("a gauge") };
        completed.data_points[0].value == Some(Number::AsInt(3))
            && running.data_points[0].value == Some(Number::AsInt(0))
    };
    let requests = (0..1000).map(|_| match collector.next() {
        Arrived::Metrics(request) => request,
        Arrived::Traces(..) => panic!("spans"),
    });
    let mut metrics = requests.map(|request| {
        let resource = request.resource_metrics[0].resource.clone().expect("a resource");
        let resource = texts(&resource.attributes);
        assert_eq!(resource["service.name"], "vyr");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["service.instance.id"], node.origin().to_string());
        assert!(!resource.contains_key("host.name"));
        data_of(request)
    });
    let metrics = metrics.find(at_rest).expect("a node at rest");
    assert_eq!(metrics.len(), node.metrics().read().len());
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    let Data::Sum(accepted) = &metrics["vyr.tasks.accepted"] else { panic!("a sum") };
    assert!(accepted.is_monotonic && accepted.aggregation_temporality == cumulative);
    let point = &accepted.data_points[0];
    assert_eq!(point.value, Some(Number::AsInt(3)));
    assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano < point.time_unix_nano);
    let Data::Histogram(ran) = &metrics["vyr.task.run"] else { panic!("a histogram") };
    let point = &ran.data_points[0];
    assert_eq!((point.count, ran.aggregation_temporality), (3, cumulative));
    assert_eq!(point.explicit_bounds.len(), TIME_BOUNDS_US.len());
    assert_eq!(point.bucket_counts.len(), TIME_BOUNDS_US.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
    otlp.stop();
}

fn unsampled_is_not_exported() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let collector = Collector::start(Speaks::Grpc);
    let otlp = export(&node, settings(&collector.endpoint(), Speaks::Grpc, &[]));
    let quiet = submit(&node, hello, false);
    block(ended(&node, quiet));
    let loud = run(&node, hello, TaskState::Completed);
    node.stop(Duration::ZERO);
    otlp.stop();
    let spans = collector.spans_so_far();
    assert_eq!(spans.len(), 3);
    for span in spans {
        assert_eq!(texts(&span.attributes)["vyr.task.id"], loud.to_string());
    }
    assert_eq!(sent_and_dropped(&node), (3, 0));
}

/// Tasks whose spans go nowhere end all the same, what waits is bounded, and all is counted.
fn goes_nowhere(speaks: Speaks, endpoint: &str, tasks: u64, more: &[(&str, &str)]) {
    const QUEUE: usize = 8;
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let queue = QUEUE.to_string();
    let mut all = vec![
        ("OTEL_BSP_MAX_QUEUE_SIZE", queue.as_str()),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    all.extend(more);
    let otlp = export(&node, settings(endpoint, speaks, &all));
    for _ in 0..tasks {
        run(&node, hello, TaskState::Completed);
        assert!(otlp.held() <= QUEUE);
    }
    until("spans are dropped", || sent_and_dropped(&node).1 >= 3 * tasks - QUEUE as u64);
    node.stop(Duration::ZERO);
    otlp.stop();
    assert_eq!(sent_and_dropped(&node), (0, 3 * tasks));
}

fn hanging(speaks: Speaks) {
    let endpoint = format!("http://{}", misbehaving(b""));
    // Nothing gives up before the tasks are done, and the end does not wait for it either.
    let patient =
        [("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"), ("OTEL_BSP_EXPORT_TIMEOUT", "86400000")];
    goes_nowhere(speaks, &endpoint, 10, &patient);
}

fn nonsense(speaks: Speaks, answer: &'static [u8]) {
    let endpoint = format!("http://{}", misbehaving(answer));
    goes_nowhere(speaks, &endpoint, 4, &[]);
}

fn comes_back(speaks: Speaks) {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let collector = Collector::start(speaks);
    let at = collector.at;
    // A batch is given up at once, so that the one that arrives is a later one.
    let more = [("OTEL_BSP_EXPORT_TIMEOUT", "100"), ("OTEL_METRICS_EXPORTER", "none")];
    let otlp = export(&node, settings(&collector.endpoint(), speaks, &more));
    run(&node, hello, TaskState::Completed);
    collector.spans(3);
    drop(collector);
    run(&node, hello, TaskState::Completed);
    until("its spans are given up", || sent_and_dropped(&node).1 >= 3);
    assert!(otlp.fault().expect("a fault").contains("the collector"), "{:?}", otlp.fault());
    let collector = Collector::start_at(speaks, at, 0);
    let later = run(&node, hello, TaskState::Completed);
    let (spans, _) = collector.spans(3);
    for span in &spans {
        assert_eq!(texts(&span.attributes)["vyr.task.id"], later.to_string());
    }
    until("they are counted", || sent_and_dropped(&node) == (6, 3));
    assert_eq!(otlp.fault(), None);
    node.stop(Duration::ZERO);
    otlp.stop();
}

fn tls(speaks: Speaks) {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let (collector, authority) = Collector::start_tls(speaks);
    let endpoint = format!("https://localhost:{}", collector.at.port());
    let trusting = [("OTEL_EXPORTER_OTLP_CERTIFICATE", authority)];
    let otlp = export(&node, settings(&endpoint, speaks, &trusting));
    run(&node, hello, TaskState::Completed);
    assert_eq!(collector.spans(3).0.len(), 3);
    until("they are counted", || sent_and_dropped(&node) == (3, 0));
    otlp.stop();
    // Another authority, of the same name.
    let other = place.path.join("other.pem");
    std::fs::write(&other, OTHER_AUTHORITY).expect("written");
    let other = other.to_str().expect("UTF-8").to_owned();
    let wary = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", other.as_str()),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1000"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let otlp = export(&node, settings(&endpoint, speaks, &wary));
    run(&node, hello, TaskState::Completed);
    until("they are dropped", || sent_and_dropped(&node) == (3, 3));
    assert!(collector.spans_so_far().is_empty());
    otlp.stop();
}

fn what_a_collector_rejects_is_counted() {
    let place = place();
    let data = DataDir::open(&place.path).expect("data");
    let hello = put(&data, &guest("hello.wasip1.wasm"));
    let node = Arc::new(start(&data, config()));
    let any = "127.0.0.1:0".parse().expect("an address");
    let collector = Collector::start_at(Speaks::Http, any, 1);
    // One request with all three: at the end, or when there are three.
    let more = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")];
    let otlp = export(&node, settings(&collector.endpoint(), Speaks::Http, &more));
    run(&node, hello, TaskState::Completed);
    collector.spans(3);
    until("they are counted", || sent_and_dropped(&node) == (2, 1));
    node.stop(Duration::ZERO);
    otlp.stop();
}

/// Nobody's: its key is gone, and it vouches for nothing.
const OTHER_AUTHORITY: &[u8] = include_bytes!("support/tls/other.pem");

const TRAP: &str =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (unreachable)))";
