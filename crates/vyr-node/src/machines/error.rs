//! Why `machines` does not do what it is asked.

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Problem};

/// Why `machines` does not do what it is asked. It crosses a socket, so causes are texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MachinesError {
    /// The process is not there, or does not answer.
    #[error("the process machines does not answer: {0}")]
    Unavailable(String),
    /// A name.
    #[error("{0:?} is no name of a machine")]
    Id(String),
    /// A name that returns.
    #[error("there is a machine {0} already")]
    Exists(String),
    /// Nobody of this name.
    #[error("there is no machine {0}")]
    Unknown(String),
    /// It has to end first.
    #[error("the machine {0} has not ended")]
    Runs(String),
    /// It has ended, or is not there yet.
    #[error("the workload of machine {0} does not run")]
    NotRunning(String),
    /// All users of the range have a VMM.
    #[error("every user id from {first} to {last} has a VMM already")]
    Users {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
    /// A file of the machine or of the order.
    #[error("cannot {what}: {why}")]
    File {
        /// What was done, and to what.
        what: String,
        /// Why not.
        why: String,
    },
    /// The guest says no, or nothing.
    #[error("the guest of machine {id} does not take it: {why}")]
    Guest {
        /// Which.
        id: String,
        /// What the channel says.
        why: String,
    },
}

impl Problem for MachinesError {
    fn category(&self) -> Category {
        match self {
            Self::Unavailable(_) => Category::Transient,
            Self::Id(_) => Category::Usage,
            Self::Unknown(_) => Category::NotFound,
            Self::Exists(_) | Self::Runs(_) | Self::NotRunning(_) | Self::Users { .. } => {
                Category::Conflict
            }
            Self::Guest { .. } => Category::Failure,
            Self::File { .. } => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unavailable(_) => Some("vyr doctor says what is missing".into()),
            Self::Runs(_) => Some("stop it first".into()),
            Self::Users { .. } => Some("widen machines.users in the node's configuration".into()),
            _ => None,
        }
    }
}

/// Characters of a reason.
const WHY_MAX: usize = 500;

/// An error with its causes, bounded.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    cut(&text)
}

/// A reason as it goes on: bounded, and in one line.
pub(crate) fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHY_MAX).collect()
}

/// For `map_err` on files.
pub(crate) fn file<E: std::fmt::Display>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> MachinesError {
    let what = what.into();
    move |why| MachinesError::File { what, why: why.to_string() }
}
