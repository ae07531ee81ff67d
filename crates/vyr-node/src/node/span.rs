//! Spans: what a task's events look like to those who watch.
//!
//! A task has three: `submit` (its acceptance), `execute` (from start to end) and `complete` (the
//! end, terminal). They follow from its events alone, ids included, so that a span replayed from
//! the journal is the span that was sent live.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use vyr_base::{Digest, Hasher};
use vyr_journal::{Accepted, Statement, TaskId, leaf_hash};

/// Spans a subscriber may be behind; more are dropped and counted.
const BEHIND_MAX: usize = 1 << 13;

/// W3C trace context: trace id and the caller's span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() || flags.len() != 2 {
            return None;
        }
        let (trace_id, span_id) = (hex::<16>(trace)?, hex::<8>(span)?);
        let [flags] = hex::<1>(flags)?;
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Which of a task's spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Its acceptance.
    Submit,
    /// From start to end.
    Execute,
    /// Its end; terminal.
    Complete,
}

impl SpanKind {
    /// The span's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Execute => "execute",
            Self::Complete => "complete",
        }
    }
}

/// One span of one task.
#[derive(Debug, Clone)]
pub struct TaskSpan {
    /// Which.
    pub kind: SpanKind,
    /// The trace.
    pub trace_id: [u8; 16],
    /// Its own id.
    pub span_id: [u8; 8],
    /// Its parent's; zero for none.
    pub parent: [u8; 8],
    /// Whether the caller records the trace; yes, if it says nothing.
    pub sampled: bool,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The task.
    pub task: TaskId,
    /// Of what.
    pub artifact: Digest,
    /// The event it follows from.
    pub seq: u64,
    /// Who submitted it.
    pub submitter: Arc<str>,
    /// In a terminal span: how it ended.
    pub ended: Option<Arc<Ended>>,
}

/// How a task ended, with the name of what its receipt proves.
#[derive(Debug)]
pub struct Ended {
    /// The event.
    pub seq: u64,
    /// The statement.
    pub statement: Statement,
    /// The journal's leaf that holds it.
    pub leaf: Vec<u8>,
}

impl Ended {
    /// The digest of the leaf.
    pub fn receipt_digest(&self) -> Digest {
        Digest::of(&self.leaf)
    }

    /// The leaf's hash in the tree.
    pub fn leaf_hash(&self) -> Digest {
        leaf_hash(&self.leaf)
    }
}

/// The id of a task's span: the same whenever it is asked for, and never zero.
fn span_id(task: &str, kind: SpanKind) -> [u8; 8] {
    let mut hasher = Hasher::new();
    for part in [task, " ", kind.name()] {
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finish();
    let mut id: [u8; 8] = std::array::from_fn(|i| digest.as_bytes()[i]);
    id[7] |= 1;
    id
}

/// The context of a task: the caller's, or one that follows from its name.
pub fn context_of(task: TaskId, traceparent: &str) -> TraceContext {
    TraceContext::parse(traceparent).unwrap_or_else(|| {
        let digest = Digest::of(task.to_string().as_bytes());
        let trace_id = std::array::from_fn(|i| digest.as_bytes()[i]);
        TraceContext { trace_id, span_id: [0; 8], sampled: true }
    })
}

/// The span of a task's acceptance.
pub fn submit_span(task: TaskId, accepted: &Accepted, at: Timestamp) -> TaskSpan {
    let context = context_of(task, &accepted.traceparent);
    TaskSpan {
        kind: SpanKind::Submit,
        trace_id: context.trace_id,
        span_id: span_id(&task.to_string(), SpanKind::Submit),
        parent: context.span_id,
        sampled: context.sampled,
        start: at,
        end: at,
        task,
        artifact: accepted.artifact.digest,
        seq: task.seq(),
        submitter: accepted.submitter.as_str().into(),
        ended: None,
    }
}

/// The spans of a task's end: `execute` if it ran, and `complete`.
pub fn end_spans(ended: &Arc<Ended>, traceparent: &str) -> Vec<TaskSpan> {
    let executed = execute_span(ended, traceparent);
    executed.into_iter().chain([complete_span(ended, traceparent)]).collect()
}

/// The span of a task's run, if it ran.
pub(crate) fn execute_span(ended: &Ended, traceparent: &str) -> Option<TaskSpan> {
    let timings = &ended.statement.predicate.timings;
    let started = timings.started?;
    Some(span_of_end(ended, traceparent, SpanKind::Execute, started))
}

/// The terminal span.
pub(crate) fn complete_span(ended: &Arc<Ended>, traceparent: &str) -> TaskSpan {
    let at = ended.statement.predicate.timings.ended;
    let span = span_of_end(ended, traceparent, SpanKind::Complete, at);
    TaskSpan { ended: Some(Arc::clone(ended)), ..span }
}

fn span_of_end(ended: &Ended, traceparent: &str, kind: SpanKind, start: Timestamp) -> TaskSpan {
    let predicate = &ended.statement.predicate;
    let task = predicate.task_id;
    let context = context_of(task, traceparent);
    let text = task.to_string();
    TaskSpan {
        kind,
        trace_id: context.trace_id,
        span_id: span_id(&text, kind),
        parent: span_id(&text, SpanKind::Submit),
        sampled: context.sampled,
        start,
        end: predicate.timings.ended,
        task,
        artifact: predicate.artifact.digest,
        seq: ended.seq,
        submitter: predicate.submitter.as_str().into(),
        ended: None,
    }
}

/// What a subscriber wants to see. All that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct SpanFilter {
    /// Only these tasks.
    pub tasks: Vec<TaskId>,
    /// Only tasks of this artifact.
    pub artifact: Option<Digest>,
    /// Only terminal spans.
    pub terminal_only: bool,
    /// Only tasks of this submitter; `None` for an operator.
    pub submitter: Option<String>,
}

impl SpanFilter {
    /// Whether it lets `span` through.
    pub fn takes(&self, span: &TaskSpan) -> bool {
        (self.tasks.is_empty() || self.tasks.contains(&span.task))
            && self.artifact.is_none_or(|artifact| artifact == span.artifact)
            && (!self.terminal_only || span.kind == SpanKind::Complete)
            && self.submitter.as_deref().is_none_or(|submitter| *submitter == *span.submitter)
    }
}

/// A span on its way to a subscriber.
#[derive(Debug)]
pub struct Delivered {
    /// The span.
    pub span: TaskSpan,
    /// How many were dropped before it.
    pub dropped: u64,
}

/// Somebody who watches.
#[derive(Debug)]
struct Subscriber {
    filter: SpanFilter,
    sender: mpsc::Sender<Delivered>,
    dropped: u64,
}

/// Those who watch. The one who publishes never waits for them.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Vec<Subscriber>);

impl Subscribers {
    pub(crate) fn add(&mut self, filter: SpanFilter) -> mpsc::Receiver<Delivered> {
        let (sender, receiver) = mpsc::channel(BEHIND_MAX);
        self.0.push(Subscriber { filter, sender, dropped: 0 });
        receiver
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody wants to see more than how tasks end.
    pub(crate) fn want_all(&self) -> bool {
        self.0.iter().any(|subscriber| !subscriber.filter.terminal_only)
    }

    /// Gives `span` to all that want it; counts what they are too slow for.
    pub(crate) fn publish(&mut self, span: &TaskSpan, dropped: &AtomicU64) {
        self.0.retain_mut(|subscriber| {
            if !subscriber.filter.takes(span) {
                return !subscriber.sender.is_closed();
            }
            let delivered = Delivered { span: span.clone(), dropped: subscriber.dropped };
            match subscriber.sender.try_send(delivered) {
                Ok(()) => {
                    subscriber.dropped = 0;
                    true
                }
                Err(TrySendError::Full(_)) => {
                    subscriber.dropped += 1;
                    dropped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_journal::Origin;

    /// Spans of the past are made anew from the journal, by later versions too.
    #[test]
    fn ids_are_the_beginnings_of_digests() {
        let task = TaskId::new(Origin::new([0xab; 16]), 7).to_string();
        for kind in [SpanKind::Submit, SpanKind::Execute, SpanKind::Complete] {
            let digest = Digest::of(format!("t-abababab-7 {}", kind.name()).as_bytes());
            let id = span_id(&task, kind);
            assert_eq!(id[..7], digest.as_bytes()[..7], "{kind:?}");
            assert_eq!(id[7], digest.as_bytes()[7] | 1);
        }
    }

    #[test]
    fn beginnings_are_worked_out_only_for_who_wants_them() {
        let mut subscribers = Subscribers::default();
        let ends = SpanFilter { terminal_only: true, ..SpanFilter::default() };
        let _ends = subscribers.add(ends);
        assert!(!subscribers.is_empty() && !subscribers.want_all());
        let _all = subscribers.add(SpanFilter::default());
        assert!(subscribers.want_all());
    }

    #[test]
    fn a_trace_context_is_read_in_its_one_form() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::parse(text).expect("valid");
        assert_eq!(context.trace_id[..2], [0x0a, 0xf7]);
        assert!(context.sampled);
        for bad in [
            "",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
