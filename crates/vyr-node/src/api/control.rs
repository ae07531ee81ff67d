//! `vyr.control.v0`: the seven calls.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use vyr_api::control::control_server::Control;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::submit_task_request::InputRef;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    BindStateRequest, BindStateResponse, CancelTaskRequest, CancelTaskResponse, CreateStateRequest,
    CreateStateResponse, Histogram, Metric, MetricFilter, Metrics, Mode, PutArtifactRequest,
    PutArtifactResponse, Span, StreamMetricsRequest, StreamTracesRequest, SubmitTaskRequest,
    SubmitTaskResponse, metric,
};
use vyr_artifact::{STATE_NAME_RULE, is_state_name};
use vyr_journal::{Body, Limits, Refusal, StateAccess, StateId, TaskId};
use vyr_task::Ceilings;

use super::access::{Access, Role};
use super::convert::{self, digest, error, id, status};
use super::put::{self, Puts};
use crate::node::{
    Caller, Ended, Node, NodeError, SpanFilter, SpanKind, Submission, SubmittedInput,
    TIME_BOUNDS_US, TaskSpan, TaskView, Value, end_spans, submit_span,
};

/// Submissions of one stream between its reader and its answers.
const WINDOW: usize = 1024;

/// Spans on their way to one client.
const SPANS_WAITING: usize = 256;

/// Events read at a time for a replay.
const REPLAY_ROWS: u64 = 512;

/// A client that waits for certain tasks is not left waiting when a span was dropped.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// An idempotency key is no longer than this.
const KEY_BYTES_MAX: usize = 128;

/// Priorities reach from minus to plus this.
const PRIORITY_MAX: i32 = 100;

/// Task ids in one filter.
const FILTER_TASKS_MAX: usize = 1 << 16;

/// What a node gives tasks that ask for nothing, and the most it gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) limits: vyr_task::Limits,
    pub(super) ceilings: Ceilings,
    pub(super) state_bytes: u64,
    pub(super) state_bytes_max: u64,
}

/// The service.
#[derive(Debug, Clone)]
pub(super) struct ControlService {
    pub(super) node: Arc<Node>,
    pub(super) access: Arc<Access>,
    pub(super) defaults: Defaults,
    pub(super) puts: Puts,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// An answer of `SubmitTask` that is known, or will be once it is durable.
enum Pending {
    Known(NodeError),
    Later(oneshot::Receiver<Result<TaskId, NodeError>>),
}

impl Pending {
    async fn answer(self) -> SubmitTaskResponse {
        let result = match self {
            Self::Known(refused) => Err(refused),
            Self::Later(answer) => answer.await.unwrap_or(Err(NodeError::Stopping)),
        };
        let result = match result {
            Ok(task) => Answer::TaskId(task.to_string()),
            Err(refused) => Answer::Error(error(&refused)),
        };
        SubmitTaskResponse { result: Some(result) }
    }
}

impl ControlService {
    /// Checks what can be checked without the ledger.
    async fn submission(
        &self,
        request: SubmitTaskRequest,
        by: &Caller,
        traceparent: &str,
    ) -> Result<Submission, NodeError> {
        let invalid = |why: String| Err(NodeError::Invalid(why));
        let artifact = digest(&request.artifact_digest)?;
        if request.idempotency_key.len() > KEY_BYTES_MAX {
            return invalid(format!("an idempotency key has at most {KEY_BYTES_MAX} bytes"));
        }
        let asked = request.resources.unwrap_or_default();
        if asked.priority.unsigned_abs() > PRIORITY_MAX.unsigned_abs() {
            return invalid(format!("a priority is from -{PRIORITY_MAX} to {PRIORITY_MAX}"));
        }
        let default = self.defaults.limits;
        let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
        let limits = self.defaults.ceilings.clamp(vyr_task::Limits {
            memory_bytes: or(asked.memory_bytes, default.memory_bytes),
            deadline_ms: or(asked.deadline_ms, default.deadline_ms),
            cpu_ms: or(asked.cpu_ms, default.cpu_ms),
            output_bytes_max: or(asked.output_bytes_max, default.output_bytes_max),
        });
        let limits = Limits {
            memory_bytes: limits.memory_bytes,
            deadline_ms: limits.deadline_ms,
            cpu_ms: limits.cpu_ms,
            output_bytes_max: limits.output_bytes_max,
        };
        let states: Vec<(StateId, StateAccess)> = request
            .state_bindings
            .iter()
            .map(|binding| Ok((id(&binding.state_id)?, access(binding.mode())?)))
            .collect::<Result<_, NodeError>>()?;
        let admitted = self.node.artifact(artifact).await?;
        let input = match request.input_ref {
            None => SubmittedInput::Inline(bytes::Bytes::new()),
            Some(InputRef::Inline(bytes)) if bytes.len() > crate::node::INLINE_BYTES_MAX => {
                return Err(NodeError::InlineTooLarge { bytes: bytes.len() });
            }
            Some(InputRef::Inline(bytes)) => SubmittedInput::Inline(bytes),
            Some(InputRef::InputDigest(text)) => self.node.input(digest(&text)?).await?,
        };
        let mut submission = admitted.submission(by.clone(), input, limits);
        submission.key = request.idempotency_key;
        submission.priority = asked.priority;
        submission.deterministic = asked.deterministic;
        submission.states = states;
        submission.traceparent = match request.traceparent.is_empty() {
            true => traceparent.to_owned(),
            false => request.traceparent,
        };
        if !submission.traceparent.is_empty()
            && crate::node::TraceContext::parse(&submission.traceparent).is_none()
        {
            // As the W3C asks: a context that cannot be read is as if there were none.
            submission.traceparent.clear();
        }
        Ok(submission)
    }
}

fn access(mode: Mode) -> Result<StateAccess, NodeError> {
    match mode {
        Mode::Ro => Ok(StateAccess::ReadOnly),
        Mode::Rw => Ok(StateAccess::ReadWrite),
        Mode::Unspecified => Err(NodeError::Invalid("a binding's mode is ro or rw".into())),
    }
}

/// By the rule of manifests, so that every name can be declared.
fn state_name(name: &str) -> Result<(), NodeError> {
    match is_state_name(name) {
        true => Ok(()),
        false => Err(NodeError::Invalid(format!("a state is named {STATE_NAME_RULE}"))),
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn put_artifact(
        &self,
        request: Request<Streaming<PutArtifactRequest>>,
    ) -> Result<Response<PutArtifactResponse>, Status> {
        self.access.allow(request.extensions(), Role::Submit)?;
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.part);
        let Some(Part::Head(head)) = first else {
            return Err(status(NodeError::Invalid("the first message is the head".into())));
        };
        let artifact = digest(&head.digest).map_err(status)?;
        let place = self.puts.take().map_err(status)?;
        let (sender, receiver) = mpsc::channel(put::WAITING_MAX);
        let node = Arc::clone(&self.node);
        let work = tokio::task::spawn_blocking(move || {
            let put = put::put(&node, artifact, &head.manifest, &head.signature, receiver);
            // Held until the thread is free, also when the client is gone by then.
            drop(place);
            put
        });
        // When the other side has enough, or refuses, it drops its end.
        while let Some(message) = put::next(&mut messages).await? {
            if sender.send(message).await.is_err() {
                break;
            }
        }
        drop(sender);
        let put = work.await.map_err(|e| Status::internal(e.to_string()))?.map_err(status)?;
        Ok(Response::new(PutArtifactResponse {
            digest: put.digest.to_string(),
            signer: put.signer.principal,
            existed: put.existed,
        }))
    }

    type SubmitTaskStream = Streamed<SubmitTaskResponse>;

    async fn submit_task(
        &self,
        request: Request<Streaming<SubmitTaskRequest>>,
    ) -> Result<Response<Self::SubmitTaskStream>, Status> {
        let by = self.access.allow(request.extensions(), Role::Submit)?;
        let traceparent = request.metadata().get("traceparent");
        let traceparent =
            traceparent.and_then(|text| text.to_str().ok()).unwrap_or_default().to_owned();
        let mut messages = request.into_inner();
        let service = self.clone();
        let (sender, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(async move {
            while let Ok(permit) = sender.reserve().await {
                let message = tokio::select! {
                    message = messages.message() => message,
                    // Nobody takes the answers: the caller left, or its time is over.
                    () = sender.closed() => return,
                };
                let pending = match message {
                    Ok(Some(message)) => {
                        match service.submission(message, &by, &traceparent).await {
                            Ok(submission) => Pending::Later(service.node.submit_later(submission)),
                            Err(refused) => Pending::Known(refused),
                        }
                    }
                    Ok(None) => return,
                    // A message that cannot be read has an answer, too: the end of the stream.
                    Err(broken) => {
                        permit.send(Err(broken));
                        return;
                    }
                };
                permit.send(Ok(pending));
            }
        });
        let answers =
            ReceiverStream::new(receiver).then(async |pending: Result<Pending, Status>| {
                match pending {
                    Ok(pending) => Ok(pending.answer().await),
                    Err(broken) => Err(broken),
                }
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let by = self.access.allow(request.extensions(), Role::Submit)?;
        let task: TaskId = id(&request.get_ref().task_id).map_err(status)?;
        match self.node.cancel(task, by.clone()).await {
            Ok(()) | Err(NodeError::Refused(Refusal::TaskEnded(_))) => {}
            Err(refused) => return Err(status(refused)),
        }
        let view = self.node.task(task, by).await.map_err(status)?;
        let state = convert::task(task, &view, None).state;
        Ok(Response::new(CancelTaskResponse { state }))
    }

    async fn create_state(
        &self,
        request: Request<CreateStateRequest>,
    ) -> Result<Response<CreateStateResponse>, Status> {
        let by = self.access.allow(request.extensions(), Role::Submit)?;
        let CreateStateRequest { name, class, bytes_max } = request.into_inner();
        if !class.is_empty() && class != "ephemeral" {
            let why = "the only class of state is ephemeral".into();
            return Err(status(NodeError::Invalid(why)));
        }
        state_name(&name).map_err(status)?;
        let most = self.defaults.state_bytes_max;
        let bytes_max = match bytes_max {
            0 => self.defaults.state_bytes,
            asked => asked.min(most),
        };
        let state = self.node.create_state(name, bytes_max, by).await.map_err(status)?;
        Ok(Response::new(CreateStateResponse { state_id: state.to_string() }))
    }

    async fn bind_state(
        &self,
        request: Request<BindStateRequest>,
    ) -> Result<Response<BindStateResponse>, Status> {
        let by = self.access.allow(request.extensions(), Role::Submit)?;
        let request = request.into_inner();
        let bind = async {
            let (task, state) = (id(&request.task_id)?, id(&request.state_id)?);
            self.node.bind_state(task, state, access(request.mode())?, by).await
        };
        bind.await.map_err(status)?;
        Ok(Response::new(BindStateResponse {}))
    }

    type StreamTracesStream = Streamed<Span>;

    async fn stream_traces(
        &self,
        request: Request<StreamTracesRequest>,
    ) -> Result<Response<Self::StreamTracesStream>, Status> {
        let by = self.access.allow(request.extensions(), Role::Observe)?;
        let filter = request.into_inner().filter.unwrap_or_default();
        if filter.task_ids.len() > FILTER_TASKS_MAX {
            let why = format!("a filter has at most {FILTER_TASKS_MAX} task ids");
            return Err(status(NodeError::Invalid(why)));
        }
        let tasks: Result<Vec<TaskId>, _> = filter.task_ids.iter().map(|text| id(text)).collect();
        let artifact = match filter.artifact_digest.as_str() {
            "" => None,
            text => Some(digest(text).map_err(status)?),
        };
        let wanted = SpanFilter {
            tasks: tasks.map_err(status)?,
            artifact,
            terminal_only: filter.terminal_only,
            submitter: (!by.operator).then(|| by.name.clone()),
        };
        let (live, from) = self.node.watch(wanted.clone()).await.map_err(status)?;
        let (sender, receiver) = mpsc::channel(SPANS_WAITING);
        let watch = Watch {
            node: Arc::clone(&self.node),
            by,
            filter: wanted,
            with_statement: filter.with_statement,
            sender,
        };
        let replay = !filter.live_only;
        tokio::spawn(async move {
            let sender = watch.sender.clone();
            if let Err(refused) = watch.run(live, from, replay).await {
                let _ = sender.send(Err(status(refused))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type StreamMetricsStream = Streamed<Metrics>;

    async fn stream_metrics(
        &self,
        request: Request<StreamMetricsRequest>,
    ) -> Result<Response<Self::StreamMetricsStream>, Status> {
        self.access.allow(request.extensions(), Role::Observe)?;
        let MetricFilter { name_prefix, interval_ms } =
            request.into_inner().filter.unwrap_or_default();
        let interval = match interval_ms {
            0 => 1_000,
            asked => asked.clamp(100, 60_000),
        };
        let node = Arc::clone(&self.node);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(interval.into()));
            let mut last: Vec<Metric> = Vec::new();
            loop {
                ticks.tick().await;
                let now: Vec<Metric> = read(&node, &name_prefix);
                let delta = !last.is_empty();
                let changed = now.iter().filter(|metric| !last.contains(metric)).cloned();
                let metrics = Metrics {
                    time_unix_nano: u64::try_from(jiff::Timestamp::now().as_nanosecond())
                        .unwrap_or(0),
                    delta,
                    metrics: changed.collect(),
                };
                last = now;
                if sender.send(Ok(metrics)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn read(node: &Node, prefix: &str) -> Vec<Metric> {
    let mut metrics = node.metrics().read();
    metrics.extend(node.metrics().read_guidance());
    let wanted = metrics.into_iter().filter(|(name, ..)| name.starts_with(prefix));
    wanted
        .map(|(name, unit, value)| Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value: Some(match value {
                Value::Counter(n) => metric::Value::Counter(n),
                Value::Gauge(n) => metric::Value::Gauge(i64::try_from(n).unwrap_or(i64::MAX)),
                Value::Times(counts, sum) => metric::Value::Histogram(Histogram {
                    bounds: TIME_BOUNDS_US.to_vec(),
                    counts,
                    sum,
                }),
            }),
        })
        .collect()
}

/// One client that watches spans.
struct Watch {
    node: Arc<Node>,
    by: Caller,
    filter: SpanFilter,
    with_statement: bool,
    sender: mpsc::Sender<Result<Span, Status>>,
}

impl Watch {
    async fn run(
        self,
        mut live: mpsc::Receiver<crate::node::Delivered>,
        from: u64,
        replay: bool,
    ) -> Result<(), NodeError> {
        let mut open: HashSet<TaskId> = self.filter.tasks.iter().copied().collect();
        let ends = !open.is_empty();
        if ends {
            for task in self.filter.tasks.clone() {
                let view = self.node.task(task, self.by.clone()).await?;
                for span in spans_of(task, &view).into_iter().filter(|span| span.seq < from) {
                    if span.kind == SpanKind::Complete {
                        open.remove(&task);
                    }
                    if !self.send(span, 0).await {
                        return Ok(());
                    }
                }
            }
        } else if replay && !self.replay(from).await? {
            return Ok(());
        }
        while !ends || !open.is_empty() {
            let delivered = tokio::select! {
                delivered = live.recv() => delivered,
                // Nobody listens any more: found out without a span to send.
                () = self.sender.closed() => return Ok(()),
                // A terminal span may have been dropped because this client was slow.
                () = tokio::time::sleep(LOOK_AGAIN), if ends => {
                    self.look_again(&mut open).await?;
                    continue;
                }
            };
            let Some(delivered) = delivered else { return Ok(()) };
            // What the task's own events already showed.
            if delivered.span.seq < from || !self.filter.takes(&delivered.span) {
                continue;
            }
            let task = delivered.span.task;
            // Shown already, when somebody looked again meanwhile.
            if ends && !open.contains(&task) {
                continue;
            }
            if delivered.span.kind == SpanKind::Complete {
                open.remove(&task);
            }
            if !self.send(delivered.span, delivered.dropped).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Shows the ends of tasks that have ended and whose spans did not come.
    async fn look_again(&self, open: &mut HashSet<TaskId>) -> Result<(), NodeError> {
        for task in open.clone() {
            let view = self.node.task(task, self.by.clone()).await?;
            if view.ended.is_some() {
                open.remove(&task);
                let spans = spans_of(task, &view);
                for span in spans.into_iter().filter(|span| span.kind == SpanKind::Complete) {
                    self.send(span, 0).await;
                }
            }
        }
        Ok(())
    }

    /// Shows what the journal still holds before event `to`; `false` when nobody listens any more.
    async fn replay(&self, to: u64) -> Result<bool, NodeError> {
        let mut next = self.node.read(|reader| Ok(reader.size()?.1)).await?;
        while next < to {
            let origin = self.node.origin();
            let spans = self.node.read(move |reader| {
                let mut spans = Vec::new();
                for row in reader.rows(next, REPLAY_ROWS)? {
                    let Some(leaf) = row.leaf.filter(|_| row.seq < to) else { continue };
                    let Ok(event) = vyr_journal::Event::from_leaf(&leaf) else { continue };
                    match event.body {
                        Body::Accepted(accepted) => {
                            let task = TaskId::new(origin, event.seq);
                            spans.push(submit_span(task, &accepted, event.time));
                        }
                        Body::Ended(statement) => {
                            let accepted = statement.predicate.task_id.seq();
                            let traceparent = match reader.event_at(accepted).map(|e| e.body) {
                                Ok(Body::Accepted(accepted)) => accepted.traceparent.clone(),
                                _ => String::new(),
                            };
                            let ended = Ended { seq: event.seq, statement: *statement, leaf };
                            spans.extend(end_spans(&Arc::new(ended), &traceparent));
                        }
                        _ => {}
                    }
                }
                Ok(spans)
            });
            for span in spans.await? {
                if self.filter.takes(&span) && !self.send(span, 0).await {
                    return Ok(false);
                }
            }
            next += REPLAY_ROWS;
        }
        Ok(true)
    }

    async fn send(&self, span: TaskSpan, dropped: u64) -> bool {
        if !self.filter.takes(&span) {
            return true;
        }
        self.sender.send(Ok(convert::span(span, dropped, self.with_statement))).await.is_ok()
    }
}

fn spans_of(task: TaskId, view: &TaskView) -> Vec<TaskSpan> {
    let Body::Accepted(accepted) = &view.accepted.body else { return Vec::new() };
    let mut spans = vec![submit_span(task, accepted, view.accepted.time)];
    if let Some(event) = &view.ended
        && let Body::Ended(statement) = &event.body
    {
        let (seq, statement) = (event.seq, (**statement).clone());
        let ended = Arc::new(Ended { seq, statement, leaf: event.to_leaf() });
        spans.extend(end_spans(&ended, &accepted.traceparent));
    }
    spans
}
