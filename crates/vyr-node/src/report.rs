//! Any error of ours, as the edge passes it on: what, why, how to mend, and the exit category.

use std::fmt;

use vyr_base::{Category, Problem};

/// A problem of any operation. `?` turns every error enum of ours into one.
#[derive(Debug)]
pub struct Report(Box<dyn Problem + Send + Sync>);

/// What operations of this crate return.
pub type Result<T> = std::result::Result<T, Report>;

impl<P: Problem + Send + Sync + 'static> From<P> for Report {
    fn from(problem: P) -> Self {
        Self(Box::new(problem))
    }
}

impl Report {
    /// The exit category.
    pub fn category(&self) -> Category {
        self.0.category()
    }

    /// The reader's next move.
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// The same with one more thing that its reader has to know.
    pub fn and(self, more: impl Into<String>) -> Self {
        Self(Box::new(And { of: self.0, more: more.into() }))
    }

    /// What was underneath, outermost first, without what the message says already.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next = self.0.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A problem, and what it left behind.
#[derive(Debug)]
struct And {
    of: Box<dyn Problem + Send + Sync>,
    more: String,
}

impl fmt::Display for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

impl std::error::Error for And {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.of.source()
    }
}

impl Problem for And {
    fn category(&self) -> Category {
        self.of.category()
    }

    fn hint(&self) -> Option<String> {
        Some(match self.of.hint() {
            Some(hint) => format!("{hint}; {}", self.more),
            None => self.more.clone(),
        })
    }
}

/// An operation on a path that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {path}")]
pub struct FileError {
    verb: &'static str,
    path: String,
    source: std::io::Error,
}

impl FileError {
    /// For `map_err`: `FileError::on("read", path)`.
    pub fn on(verb: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self { verb, path, source }
    }
}

impl Problem for FileError {
    fn category(&self) -> Category {
        use std::io::ErrorKind;
        match self.source.kind() {
            ErrorKind::NotFound => Category::NotFound,
            ErrorKind::PermissionDenied => Category::Auth,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Category::Transient,
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => Category::Usage,
            _ => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        use std::io::ErrorKind;
        match self.source.kind() {
            ErrorKind::NotFound => Some("check the path".into()),
            ErrorKind::PermissionDenied => Some(format!("let this user {} it", self.verb)),
            ErrorKind::StorageFull => Some("free some space and run it again".into()),
            _ => None,
        }
    }
}
