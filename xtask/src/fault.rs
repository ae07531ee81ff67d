//! A fault: one thing that is wrong, and where.

use std::fmt;

/// One finding of a check, printed as `where: what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    at: String,
    what: String,
}

impl Fault {
    /// A fault in a file, a crate or a document as a whole.
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }

    /// A fault in one line of a file; `line` counts from 1.
    pub(crate) fn line(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}
