//! The node's gRPC face: who is calling, and each call in the words of `crate::node`.
//!
//! `control` is the frozen seven calls, `operator` the owner's. `access` says who may do what,
//! `server` listens.

mod access;
mod control;
mod convert;
mod operator;
mod put;
mod server;

pub use access::{Access, AccessError, Role};
pub use server::{About, Listeners, ServeError, Tls, serve};
