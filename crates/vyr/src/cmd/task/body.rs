//! A task as the command line prints it, wherever its parts come from.

use serde::Serialize;
use vyr_api::control::{Span, TaskEnd, TaskState};
use vyr_api::operator::Task;

/// One task. The names are part of the interface.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Body {
    pub(crate) task_id: String,
    pub(crate) state: &'static str,
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) artifact_digest: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) signer: Option<String>,
    pub(crate) submitter: Option<String>,
    pub(crate) input_digest: Option<String>,
    pub(crate) output_digest: Option<String>,
    pub(crate) output_bytes: Option<u64>,
    pub(crate) receipt_digest: Option<String>,
    pub(crate) waiting: Option<String>,
    pub(crate) limits: Option<Limits>,
    pub(crate) usage: Option<Usage>,
    pub(crate) timings: Timings,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limits {
    memory_bytes: u64,
    deadline_ms: u64,
    cpu_ms: u64,
    output_bytes_max: u64,
    priority: i32,
    deterministic: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    pub(crate) run_us: u64,
    pub(crate) cpu_us: u64,
    pub(crate) memory_peak_bytes: u64,
}

/// When what happened, in RFC 3339.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Timings {
    pub(crate) accepted: Option<String>,
    pub(crate) started: Option<String>,
    pub(crate) ended: Option<String>,
}

/// A state's word.
pub(crate) fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unknown",
        TaskState::Accepted => "accepted",
        TaskState::Running => "running",
        TaskState::Completed => "completed",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

/// A time of the interface as people and JSON read it; `None` for one that is not known.
pub(crate) fn time(nanos: u64) -> Option<String> {
    let time = jiff::Timestamp::from_nanosecond(nanos.into()).ok()?;
    (nanos > 0).then(|| time.to_string())
}

/// `None` for an empty text.
pub(crate) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Body {
    /// A task that was just accepted.
    pub(crate) fn accepted(task_id: String, artifact: &str, input: &str) -> Self {
        Self {
            task_id,
            state: word(TaskState::Accepted),
            artifact_digest: some(artifact),
            input_digest: some(input),
            ..Self::default()
        }
    }

    pub(crate) fn completed(&self) -> bool {
        self.state == word(TaskState::Completed)
    }

    pub(crate) fn ended(&self) -> bool {
        !matches!(self.state, "accepted" | "running" | "unknown" | "")
    }

    /// Adds what a span says.
    pub(crate) fn take(&mut self, span: &Span) {
        self.artifact_digest = some(&span.artifact_digest);
        match span.name.as_str() {
            "submit" => self.timings.accepted = time(span.start_unix_nano),
            "execute" => self.timings.started = time(span.start_unix_nano),
            _ => {}
        }
        if let Some(end) = &span.end {
            self.timings.ended = time(span.end_unix_nano);
            self.end(end);
        }
    }

    fn end(&mut self, end: &TaskEnd) {
        self.state = word(end.state());
        self.exit_code = end.exit_code;
        self.reason = some(&end.reason);
        self.message = some(&end.message);
        self.signer = some(&end.signer);
        self.input_digest = some(&end.input_digest);
        self.output_digest = some(&end.output_digest);
        self.output_bytes = Some(end.output_bytes);
        self.receipt_digest = some(&end.receipt_digest);
        self.usage = Some(Usage {
            run_us: end.run_us,
            cpu_us: end.cpu_us,
            memory_peak_bytes: end.memory_peak_bytes,
        });
    }

    /// `completed`, or `failed (trap): why`.
    pub(crate) fn verdict(&self) -> String {
        let mut text = self.state.to_owned();
        if let Some(reason) = &self.reason {
            text += &format!(" ({reason})");
        }
        if let Some(message) = &self.message {
            text += &format!(": {message}");
        }
        text
    }
}

impl From<Task> for Body {
    fn from(task: Task) -> Self {
        let mut body = Self {
            state: word(task.state()),
            artifact_digest: some(&task.artifact_digest),
            name: some(&task.artifact_name),
            submitter: some(&task.submitter),
            waiting: some(&task.waiting),
            limits: task.limits.as_ref().map(|limits| Limits {
                memory_bytes: limits.memory_bytes,
                deadline_ms: limits.deadline_ms,
                cpu_ms: limits.cpu_ms,
                output_bytes_max: limits.output_bytes_max,
                priority: limits.priority,
                deterministic: limits.deterministic,
            }),
            timings: Timings {
                accepted: time(task.accepted_unix_nano),
                started: time(task.started_unix_nano),
                ended: time(task.ended_unix_nano),
            },
            ..Self::default()
        };
        if let Some(end) = &task.end {
            body.end(end);
        }
        body.task_id = task.task_id;
        body
    }
}
