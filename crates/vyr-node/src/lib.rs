//! Where the shells meet: a data directory, its keys and trust, the store, and the processes
//! that compile and run a stranger's code.
//!
//! ```text
//!  vyr (this library)                     tasks (confined child)      compile (confined child)
//!  keys, trust, store, code cache  --fds-->  guests                     one module, then gone
//!       ^  hashes what comes out   <-pipes-
//! ```
//!
//! Invariants:
//! 1. No guest byte is compiled or run in a process that holds a key, a capability, a socket to
//!    anywhere, or can open a file (`process::confine`).
//! 2. Input and output are hashed on this side of the pipe: a guest that breaks out of Wasm still
//!    cannot misname what it read or wrote.
//! 3. Nothing runs, and nothing enters the store, that the trust policy does not allow.

mod age_keys;
mod alone;
pub mod api;
pub mod artifact;
mod checkpoint_out;
mod config;
mod data_dir;
mod doctor;
pub mod guidance;
pub mod keys;
pub mod machines;
pub mod network;
pub mod node;
pub mod otlp;
pub mod process;
mod pump;
mod report;
mod run;
pub mod secrets;
pub mod services;
mod sockets;
mod trust;

pub use age_keys::AgeKeyError;
pub use alone::is_alone;
pub use checkpoint_out::CheckpointOut;
pub use config::{Config, ConfigError, Listen, Settings};
pub use data_dir::{DataDir, DataDirError, SYSTEM_DATA_DIR};
pub use doctor::{Finding, Status, examine};
pub use report::{FileError, Report, Result};
pub use run::{
    Input, Program, Progress, RunError, RunReport, RunRequest, SignedFile, Timings, put_file, run,
    sign_file,
};
pub use sockets::Sockets;
pub use trust::{Trust, TrustLoadError, TrustedSigner, trust_key};
