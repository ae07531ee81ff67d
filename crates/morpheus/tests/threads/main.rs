//! Threads without the kernel: checkpoints, critical sections, registrations, and who hints.

mod checkpoints;
mod fork_and_signal;
mod place;
mod registration;
mod sources;
mod tokio;
