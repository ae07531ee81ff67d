//! Exit categories: what kind of thing went wrong, for a script and for a person.

use serde::{Deserialize, Serialize};

/// What kind of failure this is; the exit code of the command and the `category` of its JSON.
///
/// The numbers are part of the interface and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The work was done and its result is "no": a task failed, a check found something.
    Failure,
    /// The command line, or a file it names, is not valid.
    Usage,
    /// A signature, a key or a permission does not allow it.
    Auth,
    /// What was named does not exist.
    NotFound,
    /// It exists, and in a state that forbids this.
    Conflict,
    /// Trying again later may work: a resource is short, a peer is away.
    Transient,
    /// A bug of ours or a broken machine.
    Internal,
}

impl Category {
    /// The process exit code: 1 to 7 (0 is success and has no category).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Auth => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Transient => 6,
            Self::Internal => 7,
        }
    }

    /// As JSON and the interfaces write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Internal => "internal",
        }
    }

    /// Whether the same command may succeed when it is run again unchanged.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Transient)
    }
}

/// An error as its reader meets it: what, why, how to mend, and the category.
///
/// Every error enum of ours turns into one at the edge; see `vyr_node::Report`.
pub trait Problem: std::error::Error {
    /// Which exit code this becomes.
    fn category(&self) -> Category;

    /// The reader's next move: one command or one sentence, if there is one.
    fn hint(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Category::*;

    #[test]
    fn exit_codes_never_change() {
        let codes = [Failure, Usage, Auth, NotFound, Conflict, Transient, Internal]
            .map(super::Category::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7]);
    }
}
