//! The `vyr` command from outside: only what its user can type, read and see on disk.
//!
//! Each test has a data directory of its own. A test of a refusal also shows that the same thing
//! without its defect is accepted, or that its judge sees a planted defect. A test that misses a
//! facility says `not run: reason` (`common::not_run`) and never passes silently.
//!
//! Not here: the parts by themselves (their crates' tests) and any figure of speed (`bench`).

mod archive;
mod audit;
mod cache;
mod common;
mod confinement;
mod crash;
mod daemon;
mod forged;
mod guests;
mod hostile;
mod image;
mod ingress;
mod interface;
mod judge;
mod many;
mod openssh;
mod people;
mod random;
mod rollback;
mod run;
mod scale;
mod secrets;
mod service_secrets;
mod services;
mod site;
mod streams;
mod system_directory;
mod tasks;
mod transcripts;
mod trust;
