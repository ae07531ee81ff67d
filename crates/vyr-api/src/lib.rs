//! The node's gRPC interfaces, and a thin client over them: the Rust SDK (alpha).
//!
//! `control` is frozen: seven calls. `operator` grows. Both come from the `.proto` files in this
//! crate; `client` adds connecting and the errors a node answers with.

mod client;
mod error;

pub use client::{Client, ConnectError, Endpoint};
pub use error::{ApiError, error_status};

/// The generated code, in modules as its packages are nested.
mod packages {
    #![expect(missing_docs, reason = "generated; the documentation is in the .proto files")]
    #![expect(
        clippy::all,
        clippy::allow_attributes,
        unreachable_pub,
        unused_qualifications,
        reason = "generated"
    )]
    pub mod control {
        pub mod v0 {
            tonic::include_proto!("vyr.control.v0");
        }
    }
    pub mod operator {
        pub mod v0 {
            tonic::include_proto!("vyr.operator.v0");
        }
    }
}

/// `vyr.control.v0`: artifacts, tasks, ephemeral state.
pub use packages::control::v0 as control;
/// `vyr.operator.v0`: what the owner of a node does with it.
pub use packages::operator::v0 as operator;

/// The descriptors of both, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
