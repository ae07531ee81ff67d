//! The same calls for this very process, over one end of a socket pair: a command without a node
//! submits to a node of its own and takes the same way as one that has found a node.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio_stream::StreamExt;
use tonic::transport::Server;
use vyr_api::control::control_server::ControlServer;
use vyr_api::operator::operator_server::OperatorServer;

use super::access::Access;
use super::control::{ControlService, Defaults};
use super::operator::OperatorService;
use super::put::Puts;
use super::server::{About, MESSAGE_BYTES_MAX, STATE_BYTES, STATE_BYTES_MAX, ServeError};
use crate::node::Node;

/// Serves all calls on one connection until it is dropped. Needs a runtime.
pub async fn serve_here(
    node: Arc<Node>,
    access: Access,
    about: About,
    end: UnixStream,
) -> Result<(), ServeError> {
    end.set_nonblocking(true)?;
    let end = tokio::net::UnixStream::from_std(end)?;
    let access = Arc::new(access);
    let defaults = Defaults {
        limits: about.limits,
        ceilings: about.ceilings,
        state_bytes: STATE_BYTES,
        state_bytes_max: STATE_BYTES_MAX,
    };
    let puts = Puts::new();
    let control = ControlService {
        node: Arc::clone(&node),
        access: Arc::clone(&access),
        defaults,
        puts: puts.clone(),
    };
    let processes = about.processes;
    let (telemetry, settings, network) = (about.telemetry, Vec::new(), about.network);
    let services = None;
    let operator =
        OperatorService { node, access, processes, telemetry, settings, puts, network, services };
    // No second connection, and no end of them either, which would be a reason to stop.
    let only = tokio_stream::once(std::io::Result::Ok(end)).chain(tokio_stream::pending());
    Server::builder()
        .add_service(ControlServer::new(control).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(OperatorServer::new(operator).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .serve_with_incoming(only)
        .await?;
    Ok(())
}
