//! The node's gRPC face: who is calling, and each call in the words of `crate::node`.
//!
//! `control` is the frozen seven calls, `operator` the owner's. `access` says who may do what,
//! `deadline` ends what takes longer than its caller allows, `server` listens, `local` serves this very
//! process. `records` answers what needs no node.

mod access;
mod control;
mod convert;
mod deadline;
mod local;
mod operator;
mod put;
mod records;
mod server;
mod services;

pub use access::{Access, AccessError, Role};
pub use local::serve_here;
pub use records::{Output, Records};
pub use server::{About, Listeners, ServeError, Tls, serve};
