//! From ours to OTLP's: spans, metrics and the resource they are of.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use vyr_journal::{NodeInfo, TaskState};

use crate::guidance::{LATENCY_BOUNDS_NS, WorkerTotals};
use crate::node::{Ended, SpanKind, TIME_BOUNDS_US, TaskSpan, Value};

/// The `sampled` flag of W3C trace context.
const SAMPLED: u32 = 1;

/// Who says all this: the node, and the part of it that does.
#[derive(Debug)]
pub(super) struct Origins {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Origins {
    /// Of a node, with what the environment adds to it or says otherwise. The host's name is not
    /// told unless the environment does.
    pub(super) fn new(info: &NodeInfo, given: &[(String, String)]) -> Self {
        let mut attributes = vec![
            text("service.name", "vyr"),
            text("service.version", &info.version),
            text("service.instance.id", info.origin.to_string()),
        ];
        for (key, value) in given {
            attributes.retain(|attribute| attribute.key != *key);
            attributes.push(text(key, value));
        }
        Self {
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope {
                name: "vyr".into(),
                version: info.version.clone(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// A request that exports `spans`.
    pub(super) fn traces(&self, spans: &[TaskSpan]) -> ExportTraceServiceRequest {
        let spans = spans.iter().map(span).collect();
        let of_scope =
            ScopeSpans { scope: Some(self.scope.clone()), spans, ..ScopeSpans::default() };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![of_scope],
                ..ResourceSpans::default()
            }],
        }
    }

    /// A request that exports `values` and what guided each worker, counted from `since`.
    pub(super) fn metrics(
        &self,
        values: Vec<(&'static str, &'static str, Value)>,
        workers: &[WorkerTotals],
        since: Timestamp,
        now: Timestamp,
    ) -> ExportMetricsServiceRequest {
        let (since, now) = (nanos(since), nanos(now));
        let metrics = values.into_iter().map(|value| metric(value, since, now));
        let metrics = metrics.chain(guidance(workers, since, now)).collect();
        let of_scope =
            ScopeMetrics { scope: Some(self.scope.clone()), metrics, ..ScopeMetrics::default() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![of_scope],
                ..ResourceMetrics::default()
            }],
        }
    }
}

fn span(span: &TaskSpan) -> Span {
    let mut attributes = vec![
        text("vyr.task.id", span.task.to_string()),
        text("vyr.artifact.digest", span.artifact.to_string()),
        text("vyr.submitter", &*span.submitter),
    ];
    let mut status = None;
    if let Some(ended) = &span.ended {
        status = end(ended, &mut attributes);
    }
    // Only the first is an answer to somebody else, and only its parent is theirs.
    let remote = span.kind == SpanKind::Submit;
    let (kind, remote) = match remote {
        true => (Kind::Server, SpanFlags::ContextIsRemoteMask as u32),
        false => (Kind::Internal, 0),
    };
    let parented = span.parent != [0; 8];
    Span {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        parent_span_id: if parented { span.parent.to_vec() } else { Vec::new() },
        flags: SAMPLED
            | SpanFlags::ContextHasIsRemoteMask as u32
            | if parented { remote } else { 0 },
        name: span.kind.name().to_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes,
        status,
        ..Span::default()
    }
}

/// Adds what is known of a task's end; an error if it failed.
fn end(ended: &Ended, attributes: &mut Vec<KeyValue>) -> Option<Status> {
    let task = &ended.statement.predicate;
    let state = match task.state {
        TaskState::Completed => "completed",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    };
    let signer = if task.signer.dev { "dev" } else { &task.signer.principal };
    attributes.extend([
        text("vyr.artifact.name", &task.artifact.name),
        text("vyr.task.state", state),
        text("vyr.signer", signer),
        text("vyr.signer.key_id", &task.signer.key_id),
        text("vyr.input.digest", task.input.digest.to_string()),
        whole("vyr.input.bytes", task.input.bytes),
        text("vyr.output.digest", task.output.digest.to_string()),
        whole("vyr.output.bytes", task.output.bytes),
        text("vyr.receipt.digest", ended.receipt_digest().to_string()),
        whole("vyr.task.run_us", task.usage.run_us),
        whole("vyr.task.cpu_us", task.usage.cpu_us),
        whole("vyr.task.memory_peak_bytes", task.usage.memory_peak_bytes),
        whole("vyr.task.log_bytes", task.usage.log_bytes),
    ]);
    if let Some(code) = task.exit_code {
        attributes.push(pair("vyr.task.exit_code", Any::IntValue(code.into())));
    }
    if let Some(reason) = &task.reason {
        attributes.push(text("vyr.task.reason", reason));
    }
    if task.state != TaskState::Failed {
        return None;
    }
    let reason = task.reason.as_deref().unwrap_or("failed");
    attributes.push(text("error.type", reason));
    let message = task.message.clone().unwrap_or_else(|| reason.to_owned());
    Some(Status { message, code: StatusCode::Error.into() })
}

fn metric((name, unit, value): (&str, &str, Value), since: u64, now: u64) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let point = |value: u64, since| NumberDataPoint {
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(Number::AsInt(signed(value))),
        ..NumberDataPoint::default()
    };
    let data = match value {
        Value::Counter(value) => Data::Sum(Sum {
            data_points: vec![point(value, since)],
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Value::Gauge(value) => Data::Gauge(Gauge { data_points: vec![point(value, 0)] }),
        Value::Times(counts, sum) => Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                start_time_unix_nano: since,
                time_unix_nano: now,
                count: counts.iter().sum(),
                sum: Some(float(sum)),
                bucket_counts: counts,
                explicit_bounds: TIME_BOUNDS_US.iter().copied().map(float).collect(),
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: cumulative,
        }),
    };
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}

/// The guidance of each worker: the attribute `vyr.worker` is its number.
fn guidance(workers: &[WorkerTotals], since: u64, now: u64) -> Vec<Metric> {
    if workers.is_empty() {
        return Vec::new();
    }
    let cumulative: i32 = AggregationTemporality::Cumulative.into();
    let numbered = || (0_u64..).zip(workers);
    let point = |worker: u64, value: u64, more: Option<KeyValue>| NumberDataPoint {
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(Number::AsInt(signed(value))),
        attributes: std::iter::once(whole("vyr.worker", worker)).chain(more).collect(),
        ..NumberDataPoint::default()
    };
    let sum = |name: &str, unit: &str, data_points: Vec<NumberDataPoint>| Metric {
        name: name.into(),
        unit: unit.into(),
        data: Some(Data::Sum(Sum {
            data_points,
            aggregation_temporality: cumulative,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let each = |name: &str, unit: &str, of: fn(&WorkerTotals) -> u64| {
        sum(name, unit, numbered().map(|(n, worker)| point(n, of(worker), None)).collect())
    };
    let hints = numbered().flat_map(|(n, worker)| {
        let by_source = WorkerTotals::SOURCES.into_iter().zip(worker.hints);
        by_source.map(move |(source, count)| (n, source, count))
    });
    let hints = hints.map(|(n, source, count)| point(n, count, Some(text("vyr.source", source))));
    let latencies = numbered().map(|(n, worker)| HistogramDataPoint {
        start_time_unix_nano: since,
        time_unix_nano: now,
        count: worker.latencies.iter().sum(),
        bucket_counts: worker.latencies.to_vec(),
        explicit_bounds: LATENCY_BOUNDS_NS.iter().copied().map(float).collect(),
        attributes: vec![whole("vyr.worker", n)],
        ..HistogramDataPoint::default()
    });
    vec![
        sum("vyr.guidance.hints", "{hint}", hints.collect()),
        each("vyr.guidance.acknowledged", "{hint}", |worker| worker.acknowledged),
        each("vyr.guidance.dropped", "{hint}", |worker| worker.dropped),
        each("vyr.guidance.yields", "{yield}", |worker| worker.yields),
        each("vyr.guidance.deferred", "{safe_point}", |worker| worker.deferred),
        each("vyr.guidance.looks", "{look}", |worker| worker.looks[0]),
        each("vyr.guidance.critical_looks", "{look}", |worker| worker.looks[1]),
        Metric {
            name: "vyr.guidance.latency".into(),
            unit: "ns".into(),
            data: Some(Data::Histogram(Histogram {
                data_points: latencies.collect(),
                aggregation_temporality: cumulative,
            })),
            ..Metric::default()
        },
    ]
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Any::StringValue(value.into()))
}

fn whole(key: &str, value: u64) -> KeyValue {
    pair(key, Any::IntValue(signed(value)))
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// OTLP has sums and bounds as floats; microseconds are exact in one for 285 years.
#[expect(clippy::cast_precision_loss, reason = "OTLP has no other type for it")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Nanoseconds since 1970; zero, which OTLP reads as unknown, for what came before.
fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}
