//! What is recorded of programs that somebody runs beside an instance's own: who, where, which, and how it
//! ended. Never what the program was told or said: arguments, variables, input and output may be secrets.
//!
//! Fields stand in the order of their JSON names, as in `statement`.

use serde::{Deserialize, Serialize};

/// A session began: its program may run from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionBegun {
    /// Who asked: `uid:0`, or the name of a certificate.
    pub by: String,
    /// The instance it is in.
    pub instance: String,
    /// The program, without its arguments. At most 400 characters.
    pub program: String,
    /// The service that the instance is of.
    pub service: String,
    /// Its name: 32 hex digits, drawn at random.
    pub session: String,
    /// `service/process/ordinal`.
    pub slot: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The number of the user that it runs as.
    pub uid: u32,
    /// The user that was asked for; `None`: the instance's own.
    pub user: Option<String>,
}

/// A session is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    /// How long it was, in milliseconds; `None`: whoever began it is gone.
    pub duration_ms: Option<u64>,
    /// How it ended.
    pub end: SessionEnd,
    /// Its name.
    pub session: String,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Its program ended with this exit code.
    Code(u8),
    /// This signal ended its program.
    Signal(u8),
    /// Its program never ran, or nobody saw it end. At most 400 characters.
    Failed(String),
}

impl std::fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
