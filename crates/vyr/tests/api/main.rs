//! The API from outside: a real `vyr up`, and clients that know only what its sockets say.
//!
//! Each test has a node and a data directory of its own; waits are bounded and end on events.
//! A refusal is shown beside the same request without its defect.
//!
//! Not here: the command line (`tests/cli`) and the node without sockets (`vyr-node`).

mod artifacts;
mod collector;
mod daemon;
mod deadlines;
mod http2;
mod observe;
mod states;
mod submit;
mod surface;
