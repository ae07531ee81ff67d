//! Between the wire's words and ours.

use tonic::{Code, Status};
use vyr_api::{control, error_status, operator};
use vyr_base::{Category, Digest, Problem};
use vyr_journal::{Body, Statement, TaskState};

use crate::guidance::{GuidanceReport, WorkerGuidance};
use crate::node::{Ended, NodeError, TaskSpan, TaskView, Waiting};

/// A refusal as it is answered.
pub(super) fn error(error: &NodeError) -> control::Error {
    let code = match error {
        NodeError::Overloaded { .. } | NodeError::Busy { .. } => Code::ResourceExhausted,
        other => match other.category() {
            Category::Usage => Code::InvalidArgument,
            Category::Auth => Code::PermissionDenied,
            Category::NotFound => Code::NotFound,
            Category::Conflict | Category::Failure => Code::FailedPrecondition,
            Category::Transient => Code::Unavailable,
            Category::Internal => Code::Internal,
        },
    };
    let retry = error.retry_after().map_or(0, |time| time.as_millis());
    control::Error {
        category: error.word().to_owned(),
        message: error.to_string(),
        hint: error.hint().unwrap_or_default(),
        retryable: error.category().retryable(),
        retry_after_ms: u32::try_from(retry).unwrap_or(u32::MAX),
        code: code as i32,
    }
}

/// The same as the end of a call.
pub(super) fn status(refused: NodeError) -> Status {
    error_status(&error(&refused))
}

/// Reads a digest of a request.
pub(super) fn digest(text: &str) -> Result<Digest, NodeError> {
    text.parse().map_err(|e: vyr_base::ParseDigestError| NodeError::Invalid(e.to_string()))
}

/// Reads an id of a request.
pub(super) fn id<T: std::str::FromStr<Err = vyr_journal::ParseIdError>>(
    text: &str,
) -> Result<T, NodeError> {
    text.parse().map_err(|e: vyr_journal::ParseIdError| NodeError::Invalid(e.to_string()))
}

fn nanos(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

pub(super) fn state(state: TaskState) -> control::TaskState {
    match state {
        TaskState::Completed => control::TaskState::Completed,
        TaskState::Failed => control::TaskState::Failed,
        TaskState::Cancelled => control::TaskState::Cancelled,
    }
}

pub(super) fn span(span: TaskSpan, dropped: u64, with_statement: bool) -> control::Span {
    control::Span {
        trace_id: span.trace_id.to_vec().into(),
        span_id: span.span_id.to_vec().into(),
        parent_span_id: match span.parent {
            [0, 0, 0, 0, 0, 0, 0, 0] => bytes::Bytes::new(),
            parent => parent.to_vec().into(),
        },
        name: span.kind.name().to_owned(),
        start_unix_nano: nanos(span.start),
        end_unix_nano: nanos(span.end),
        task_id: span.task.to_string(),
        artifact_digest: span.artifact.to_string(),
        end: span.ended.map(|ended| end(&ended, with_statement)),
        dropped,
    }
}

pub(super) fn end(ended: &Ended, with_statement: bool) -> control::TaskEnd {
    let Statement { predicate, .. } = &ended.statement;
    control::TaskEnd {
        state: state(predicate.state).into(),
        reason: predicate.reason.clone().unwrap_or_default(),
        exit_code: predicate.exit_code,
        message: predicate.message.clone().unwrap_or_default(),
        input_digest: predicate.input.digest.to_string(),
        output_digest: predicate.output.digest.to_string(),
        output_bytes: predicate.output.bytes,
        receipt_digest: ended.receipt_digest().to_string(),
        statement: if with_statement { ended.leaf.clone().into() } else { bytes::Bytes::new() },
        run_us: predicate.usage.run_us,
        cpu_us: predicate.usage.cpu_us,
        memory_peak_bytes: predicate.usage.memory_peak_bytes,
        signer: predicate.signer.principal.clone(),
    }
}

/// A task for its owner.
pub(super) fn task(
    id: vyr_journal::TaskId,
    view: &TaskView,
    waiting: Option<Waiting>,
) -> operator::Task {
    let mut task = operator::Task { task_id: id.to_string(), ..operator::Task::default() };
    if let Body::Accepted(accepted) = &view.accepted.body {
        let limits = &accepted.limits;
        task.artifact_digest = accepted.artifact.digest.to_string();
        task.artifact_name = accepted.artifact.name.clone();
        task.submitter = accepted.submitter.clone();
        task.traceparent = accepted.traceparent.clone();
        task.limits = Some(control::Resources {
            memory_bytes: limits.memory_bytes,
            deadline_ms: limits.deadline_ms,
            cpu_ms: limits.cpu_ms,
            output_bytes_max: limits.output_bytes_max,
            priority: accepted.priority,
            deterministic: accepted.deterministic,
        });
    }
    task.accepted_unix_nano = nanos(view.accepted.time);
    task.started_unix_nano = view.started.as_ref().map_or(0, |event| nanos(event.time));
    task.state = match (&view.started, &view.ended) {
        (None, None) => control::TaskState::Accepted,
        (Some(_), None) => control::TaskState::Running,
        _ => control::TaskState::Unspecified,
    }
    .into();
    if let Some(event) = &view.ended
        && let Body::Ended(statement) = &event.body
    {
        task.ended_unix_nano = nanos(event.time);
        task.state = state(statement.predicate.state).into();
        let statement = (**statement).clone();
        let ended = Ended { seq: event.seq, statement, leaf: event.to_leaf() };
        task.end = Some(end(&ended, false));
    }
    task.waiting = waiting.map(|waiting| waiting.word().to_owned()).unwrap_or_default();
    task
}

/// What the guidance has done, for an operator.
pub(crate) fn guidance(report: GuidanceReport) -> operator::Guidance {
    let worker = |worker: WorkerGuidance| operator::GuidedWorker {
        registered: worker.registered,
        kernel_hints: worker.kernel_hints,
        psi_hints: worker.psi_hints,
        timer_hints: worker.timer_hints,
        own_hints: worker.own_hints,
        dropped: worker.dropped,
        acknowledged: worker.acknowledged.into_iter().collect(),
        yields: worker.yields,
        deferred: worker.deferred,
        looks: worker.looks,
        critical_looks: worker.critical_looks,
        latencies: worker
            .latencies
            .into_iter()
            .map(|(up_to_ns, count)| operator::LatencyBucket { up_to_ns, count })
            .collect(),
    };
    operator::Guidance {
        tier: report.tier,
        why: report.why,
        workers: report.workers.into_iter().map(worker).collect(),
    }
}
