//! The node's gRPC interfaces, and a thin client over them: the Rust SDK. **Alpha**: the calls are
//! frozen, the names in this crate are not yet, and nothing here is for production.
//!
//! `control` is frozen: seven calls. `operator` grows. Both come from the `.proto` files in this
//! crate; `client` adds connecting and the errors a node answers with.
//!
//! ```no_run
//! # async fn example(artifact: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use vyr_api::{Client, Endpoint};
//!
//! let mut node = Client::connect(&Endpoint::Unix("/run/vyr/control.sock".into())).await?;
//! let task = node.submit(artifact, b"one event\n").await?;
//! let end = node.wait(&task).await?.end.expect("a terminal span has an end");
//! println!("{:?}: output {}", end.state(), end.output_digest);
//! # Ok(())
//! # }
//! ```
//!
//! What a node refuses is an [`ApiError`] with `category`, `message`, `hint`, `retryable` and
//! `retry_after`. `frozen.rs` in the tests holds the seven calls to what was committed.

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
