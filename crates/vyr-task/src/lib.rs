//! The task engine: Wasmtime under hard limits.
//!
//! ```text
//! wasm bytes --compile--> machine code --CodeCache--> SealedCode --Engine::load--> Program
//!            (a confined    (on disk, under a         (memfd, sealed)                 |
//!             child)         node-local key)                                          v
//!                                           Job --Engine::run / Workers--> Outcome
//! ```
//!
//! Invariants:
//! 1. Only machine code this node compiled and authenticated is ever mapped (`code`, `cache`).
//! 2. A task ends within its limits or is ended by them, with a reason and a figure (`limits`,
//!    `control`); it never takes the process or a neighbour along.
//! 3. No byte of one task is readable by the next in the same slot (`swap` says when the fast
//!    reset is allowed).
//! 4. A guest gets stdin, stdout, stderr, clocks, randomness and the states bound to it, and
//!    nothing else (`state`).
//!
//! Deliberately elsewhere: who may run what (`vyr-artifact`), where bytes live (`vyr-store`),
//! which process this runs in and what that process may touch (`vyr-node`).

mod cache;
mod code;
mod compile;
mod control;
mod engine;
mod guidance;
mod limits;
mod outcome;
mod run;
mod settings;
mod state;
mod stdio;
mod swap;
mod ticker;
mod workers;

pub use cache::{CacheError, CodeCache, CompileFailure, Compiler};
pub use code::{CodeError, MachineCode, SealedCode};
pub use compile::{CompileError, compile};
pub use control::CancelHandle;
pub use engine::{Engine, EngineConfig, EngineError, LoadError, Program};
pub use limits::{Ceilings, Limits};
pub use outcome::{Outcome, Reason, State, Usage};
pub use run::{Input, Job, Output};
pub use settings::{Kind, compatibility, engine_settings, pooling_settings};
pub use state::{Access, BoundState, EphemeralState, WeakState};
pub use stdio::Spill;
pub use swap::{PagemapScan, SwapWatch};
pub use ticker::TICK;
pub use workers::{OnDone, Source, Work, Workers};
