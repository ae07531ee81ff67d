#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

mod atomic;
mod block;
mod zeroed;

pub use block::{
    ABI, Block, Hint, Hints, Reason, Runtime, SLICE_DEFAULT_NS, SLICE_MAX_NS, SLICE_MIN_NS, Source,
    State, Yield,
};

#[cfg(feature = "std")]
pub mod agent;
#[cfg(feature = "std")]
mod bell;
#[cfg(feature = "std")]
mod clock;
#[cfg(feature = "std")]
mod guidance;
#[cfg(feature = "std")]
mod ledger;
#[cfg(feature = "std")]
mod memory;
#[cfg(feature = "std")]
mod pace;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "std")]
pub mod wire;
#[cfg(feature = "std")]
mod worker;

#[cfg(feature = "std")]
pub use {
    guidance::{
        Guidance, GuidanceError, Options, Registrar, Report, Tier, WorkerReport, set_patience,
    },
    ledger::Latencies,
    memory::Blocks,
    worker::{
        Worker, checkpoint, critical, in_critical, in_host_call, is_registered, note_yield, turn,
        why, yield_now, yield_to_threads,
    },
};
