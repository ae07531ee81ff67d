//! Why the journal cannot be used.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use vyr_base::{Category, Problem};

/// Why the journal cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be opened as a journal.
    #[error("cannot open the journal {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It was made by another version.
    #[error("the journal has form {found}, not {expected}")]
    Form {
        /// What it says.
        found: i64,
        /// What this program knows.
        expected: i64,
    },
    /// SQLite refused.
    #[error("cannot use the journal")]
    Sql(#[from] rusqlite::Error),
    /// What lies in it is not what was written.
    #[error("the journal is damaged at {at}: {why}")]
    Damaged {
        /// Where.
        at: String,
        /// What is wrong.
        why: String,
    },
}

impl JournalError {
    pub(crate) fn damaged(at: impl Into<String>, why: impl ToString) -> Self {
        Self::Damaged { at: at.into(), why: why.to_string() }
    }
}

/// Whether the disk, and not the file, is what refused.
fn is_transient(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            | Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}

impl Problem for JournalError {
    fn category(&self) -> Category {
        match self {
            Self::Open { source, .. } | Self::Sql(source) if is_transient(source) => {
                Category::Transient
            }
            Self::Open { .. } | Self::Sql(_) => Category::Internal,
            Self::Form { .. } => Category::Conflict,
            Self::Damaged { .. } => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } | Self::Sql(source) => match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Some("free some space and try again".into()),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Some("another process is writing; try again".into())
                }
                _ => Some("see what is wrong: vyr verify --journal".into()),
            },
            Self::Form { .. } => Some("use the version of vyr that made it".into()),
            Self::Damaged { .. } => Some("see what is wrong: vyr verify --journal".into()),
        }
    }
}

/// Why a batch was not taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Another process appended since: read what is new and decide again.
    #[error("the journal has {size} events by now")]
    Behind {
        /// Its size.
        size: u64,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<rusqlite::Error> for AppendError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}
