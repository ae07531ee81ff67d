//! Why a node does not do what it was asked.

use std::time::Duration;

use vyr_base::{Category, Problem};
use vyr_journal::Refusal;
use vyr_journal_sql::JournalError;

use super::INLINE_BYTES_MAX;
use crate::report::Report;

/// Why a node does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The ledger says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much waits already.
    #[error("{waiting} tasks wait, which is as many as this node lets wait")]
    Overloaded {
        /// How many.
        waiting: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// As many calls of a kind as may be are under way.
    #[error("{most} {what} at once are as many as this node takes")]
    Busy {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// A client began something and says nothing more.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// The node is about to stop.
    #[error("the node is stopping")]
    Stopping,
    /// The process that changes the network does not answer.
    #[error("the process net does not answer: {0}")]
    NoNet(String),
    /// The journal cannot be written, so nothing can be promised.
    #[error("the journal cannot be written: {why}")]
    Unwritable {
        /// What SQLite or the system said.
        why: String,
        /// How to mend it.
        hint: Option<String>,
    },
    /// An artifact that is no Wasm command.
    #[error("artifact {digest} is a container image or another kind, not a Wasm artifact")]
    Unsupported {
        /// Its digest.
        digest: String,
    },
    /// An inline input that has to go through the store.
    #[error("an inline input has at most {INLINE_BYTES_MAX} bytes, this one {bytes}")]
    InlineTooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// A value of a request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It is somebody else's.
    #[error("{0}")]
    Denied(String),
    /// Not in the state it is in.
    #[error("{0}")]
    Conflict(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A problem of another part.
    #[error("{}", with_causes(.0))]
    Other(Report),
}

/// What went wrong, down to what the system said: it goes where nobody can ask for more.
fn with_causes(report: &Report) -> String {
    let causes = report.causes().into_iter();
    std::iter::once(report.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

impl From<JournalError> for NodeError {
    fn from(error: JournalError) -> Self {
        Self::Other(error.into())
    }
}

impl From<Report> for NodeError {
    fn from(report: Report) -> Self {
        Self::Other(report)
    }
}

impl NodeError {
    /// The closer word a client may act on, else the category's.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported_artifact",
            Self::Overloaded { .. } | Self::Busy { .. } => "resource_exhausted",
            other => other.category().word(),
        }
    }

    /// When the same call may succeed, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::Unwritable { .. } | Self::Busy { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl Problem for NodeError {
    fn category(&self) -> Category {
        match self {
            Self::Refused(refusal) => refusal.category(),
            Self::Overloaded { .. }
            | Self::Busy { .. }
            | Self::Silent(_)
            | Self::Stopping
            | Self::NoNet(_)
            | Self::Unwritable { .. } => Category::Transient,
            Self::Unsupported { .. } | Self::InlineTooLarge { .. } | Self::Invalid(_) => {
                Category::Usage
            }
            Self::Denied(_) => Category::Auth,
            Self::Conflict(_) => Category::Conflict,
            Self::NotFound(_) => Category::NotFound,
            Self::Other(report) => report.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::Overloaded { retry_after, .. } => {
                Some(format!("try again in {} ms", retry_after.as_millis()))
            }
            Self::Busy { .. } => Some("try again when some of them have ended".into()),
            Self::Silent(_) => Some("begin again".into()),
            Self::Stopping => Some("start it again: vyr up".into()),
            Self::NoNet(_) => Some("vyr drift says how the host stands".into()),
            Self::Unwritable { hint, .. } => hint.clone(),
            Self::Unsupported { .. } => Some("containers are services: use vyr deploy".into()),
            Self::InlineTooLarge { .. } => Some(
                "store it (vyr.operator.v0 PutBlob), then submit its digest as input_digest".into(),
            ),
            Self::Invalid(_) | Self::Denied(_) | Self::Conflict(_) | Self::NotFound(_) => None,
            Self::Other(report) => report.hint(),
        }
    }
}
