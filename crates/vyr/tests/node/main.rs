//! A whole node, `vyr up` as it is installed, and what it does when something goes wrong: processes
//! that die, a full disk, clients that are slow, many or hostile.
//!
//! Each test has a data directory and a node of its own and drives it over its API. What a test
//! claims of the journal it reads from the journal's file, with the auditor as judge. Nothing is
//! slept for: tests wait for what they are about, and a wait that takes [`place::HANG`] is a
//! failure. With `VYR_FULL` set the random ones go on for longer.
//!
//! Not here: commands (`tests/cli`), the core in one process (`vyr-node`), figures of speed.

mod access;
mod checkpoint_out;
mod connections;
mod deploys;
mod deploys_cut_off;
mod deploys_stuck;
mod disk_full;
mod garbage;
mod guests;
mod guidance;
mod history;
mod kill;
mod overload;
mod place;
mod processes;
mod random;
mod retention;
mod shop;
mod soak;
mod stop;
mod syncs;
mod telemetry;
mod uninstall;
