//! The references Vyr is measured against, the harness and its plots.
//!
//! ```text
//! task (options, parts) --> rounds (interleaved, steal watched) --> report (JSON, Markdown, SVG)
//!    |                        |                                       ^
//!    |                        +-- arms: bare | engine | workers       |
//!    |                        +-- start, memory, whole (processes)    +-- targets, stats
//!    +-- against (another build, process by process)
//! ```
//!
//! Invariants:
//! 1. Two sides of a ratio do the same work, on the same bytes, in the same round, and both are
//!    checked to give the same output.
//! 2. A reference is in this crate, as source: `reference` in the process, `bin/bare` as one.
//! 3. Nothing is judged by fewer than `rounds::ROUNDS_MIN` undisturbed rounds, and what was not
//!    measured says why. Every sample is kept, also of rounds that do not count.
//!
//! Deliberately elsewhere: what a pull request is judged by, and when (`xtask`); timed assertions
//! (there are none).

pub mod against;
pub mod arms;
pub mod environment;
pub mod events;
pub mod guests;
pub mod image;
pub mod ingress;
pub mod memory;
pub mod net;
pub mod node;
pub mod plan;
mod plot;
pub mod process;
pub mod rates;
pub mod reference;
pub mod report;
pub mod rounds;
pub mod sample;
pub mod sched;
pub mod services;
mod space;
pub mod start;
pub mod stats;
pub mod targets;
pub mod task;
pub mod whole;
