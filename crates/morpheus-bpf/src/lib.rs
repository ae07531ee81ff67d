//! The kernel's side of Morpheus: loads `bpf/morpheus.bpf.c`, which was built into a file of its
//! own, and is the [`Hinter`](morpheus::agent::Hinter) of an agent.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::os::fd::AsFd;
//!
//! let observe = morpheus_bpf::Observe::load(&morpheus_bpf::find_object()?, Default::default())?;
//! let mut agent = morpheus::agent::Agent::new(observe);
//! agent.listen(std::path::Path::new("/run/morpheus.sock"))?;
//! let (stopped, _stop) = std::os::unix::net::UnixStream::pair()?;
//! agent.run(stopped.as_fd())?;
//! # Ok(())
//! # }
//! ```

mod counter;
mod observe;
mod probe;

pub use counter::Instructions;
pub use observe::{Nothing, Observe, ObserveError, ObserveOptions, ProgramStats, StatsEnabled};
pub use probe::{Missing, NotFound, OBJECT, Probe, find_object, probe};
