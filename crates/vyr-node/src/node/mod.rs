//! A node: tasks submitted, remembered, run, ended and proved.
//!
//! ```text
//!  callers --Command--> inbox --> core (one thread, owns the ledger and the journal)
//!                                   | decide, evolve, one commit a turn, then the effects:
//!                                   +--> answers to callers
//!                                   +--> orders to the process `tasks`, whose reports come back
//!                                   +--> spans to those who watch
//!  preparers (two threads): artifact -> machine code       pumps: large inputs and outputs
//! ```
//!
//! Invariants:
//! 1. Nothing is answered, started or shown before the event that says so is on the disk.
//! 2. What has come in while a commit was under way is the next commit: one sync serves all.
//! 3. The core waits for its inbox, the socket of `tasks` and the disk, and for nothing else.
//! 4. Every queue is bounded; what does not fit is refused with a time to come back at.
//!
//! Deliberately elsewhere: what may happen (`vyr-journal`), who is calling (`crate::api`), which
//! process this is (`crate::process`).

mod admission;
mod append;
mod artifacts;
mod core;
mod error;
mod executor;
mod handle;
mod inbox;
mod input;
mod metrics;
mod program;
mod span;

pub use admission::Budget;
pub(crate) use append::{append, micros};
pub use core::{CONTENT_BYTES_MAX as INLINE_BYTES_MAX, NodeConfig, Retention};
pub use error::NodeError;
pub use executor::{Host, LocalHost};
#[cfg(test)]
pub(crate) use handle::open_journal;
pub use handle::{Admitted, Caller, Node, Snapshot, Submission, SubmittedInput, TaskView, Waiting};
pub(crate) use handle::{change_end, deploy_end, is_container_manifest, view};
pub use metrics::{Metrics, TIME_BOUNDS_US, Value};
pub use span::{
    Delivered, Ended, SpanFilter, SpanKind, TaskSpan, TraceContext, context_of, end_spans,
    submit_span,
};
