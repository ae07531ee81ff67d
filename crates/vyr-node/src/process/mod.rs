//! The processes that see a stranger's bytes, and how this one talks to them.
//!
//! Both are this same binary, started again with a hidden first argument (`Role`); they confine
//! themselves before they read anything from outside. `compile` reads Wasm on its stdin, writes
//! machine code to a memory file on its stdout and ends. `tasks` holds a socket on its stdin and
//! gets code, input and output as descriptors over it (`wire`).

mod compile;
pub mod confine;
mod tasks;
pub(crate) mod wire;

use std::path::PathBuf;

pub use compile::{CompileLimits, CompilerProcess};
pub use tasks::{RunSpec, TasksError, TasksProcess};

/// What a process started by us is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs guests.
    Tasks,
    /// Compiles one module or component.
    Compile,
}

impl Role {
    /// The hidden first argument that selects the role.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Tasks => "__tasks",
            Self::Compile => "__compile",
        }
    }

    /// The role that `argument` selects.
    pub fn from_argument(argument: &str) -> Option<Self> {
        [Self::Tasks, Self::Compile].into_iter().find(|role| role.argument() == argument)
    }

    /// The user id the role takes on when it is started by root. Both lie in 60578..=61183, which
    /// neither Debian nor systemd gives to anybody; no passwd entry is needed.
    pub const fn uid(self) -> u32 {
        match self {
            Self::Tasks => 60801,
            Self::Compile => 60802,
        }
    }
}

/// Lives the life of `role` and returns the process's exit code. The first thing `main` calls,
/// before it parses anything or starts a thread.
pub fn serve(role: Role, arguments: &[String]) -> u8 {
    match role {
        Role::Tasks => tasks::serve(arguments),
        Role::Compile => compile::serve(arguments),
    }
}

/// This binary as it runs now, also after the file was replaced by an upgrade.
pub(crate) fn this_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
