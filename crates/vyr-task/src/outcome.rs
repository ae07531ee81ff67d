//! How a task ended, and what it used.

use serde::{Deserialize, Serialize};
use vyr_base::Digest;

/// The terminal states of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It ran to its end and said 0.
    Completed,
    /// It ended in another way; the reason says which.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Why a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The guest exited with a code that is not 0.
    Exit,
    /// The guest trapped: an `unreachable`, a bad access, a division by zero.
    Trap,
    /// The guest trapped after more memory was refused, or asked for too much at its start.
    Memory,
    /// The guest recursed past its stack.
    Stack,
    /// A table grew past its limit.
    Table,
    /// Wall time ran out.
    Deadline,
    /// Processor time ran out.
    Cpu,
    /// Standard output was larger than allowed.
    Output,
    /// The code is not a command this engine can start: an unknown import, no entry point.
    Invalid,
    /// Compiling it took more time or memory than allowed.
    CompileLimit,
    /// The process that ran it died.
    Lost,
    /// A fault of the engine or the machine, not of the guest.
    Internal,
}

impl Reason {
    /// As JSON and the interfaces write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Trap => "trap",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Table => "table",
            Self::Deadline => "deadline",
            Self::Cpu => "cpu",
            Self::Output => "output",
            Self::Invalid => "invalid",
            Self::CompileLimit => "compile_limit",
            Self::Lost => "lost",
            Self::Internal => "internal",
        }
    }
}

/// What a task used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of the guest and its host calls, in microseconds.
    pub cpu_us: u64,
    /// Wall time from instantiation to the end, in microseconds.
    pub run_us: u64,
    /// The most linear memory held at once, in bytes.
    pub memory_peak_bytes: u64,
    /// Bytes the guest read from standard input.
    pub input_bytes: u64,
    /// Bytes the guest wrote to standard output.
    pub output_bytes: u64,
    /// Bytes the guest wrote to standard error.
    pub log_bytes: u64,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The terminal state.
    pub state: State,
    /// Why it failed; `None` unless it did.
    pub reason: Option<Reason>,
    /// The guest's own exit code, if it got as far as to give one.
    pub exit_code: Option<i32>,
    /// The figure behind the reason, for a person: "64 MiB of memory asked for, 32 allowed".
    pub message: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// The digest of its output, when the job asked the engine to hash it.
    pub output_digest: Option<Digest>,
    /// Its output, when the job asked the engine to keep it.
    #[serde(skip)]
    pub output: Vec<u8>,
    /// The last of its log (standard error), bounded.
    #[serde(skip)]
    pub log: Vec<u8>,
}

impl Outcome {
    /// An outcome for a task whose guest never ran.
    pub fn not_run(reason: Reason, message: String) -> Self {
        Self {
            state: State::Failed,
            reason: Some(reason),
            exit_code: None,
            message: Some(message),
            usage: Usage::default(),
            output_digest: None,
            output: Vec::new(),
            log: Vec::new(),
        }
    }
}
