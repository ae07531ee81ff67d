//! Listening: two Unix sockets, and TCP with certificates on both sides if it is asked for.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tower::layer::layer_fn;
use vyr_api::control::control_server::ControlServer;
use vyr_api::operator::operator_server::OperatorServer;
use vyr_task::{Ceilings, Limits};

use super::access::Access;
use super::control::{ControlService, Defaults};
use super::deadline::Deadlines;
use super::operator::OperatorService;
use super::put::Puts;
use crate::node::Node;
use crate::otlp::Health;
use crate::process::NetDoor;
use crate::services::Services;

/// The largest message: a chunk of an artifact, and its frame.
pub(super) const MESSAGE_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Calls at once on one connection; more wait.
const CALLS_MAX: u32 = 1024;

/// A connection that says nothing is asked whether it is still there after this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a state holds when nobody says, and the most it may be asked for.
pub(super) const STATE_BYTES: u64 = 16 << 20;
pub(super) const STATE_BYTES_MAX: u64 = 1 << 30;

/// The sockets, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// The seven calls.
    pub control: UnixListener,
    /// All calls.
    pub operator: UnixListener,
    /// All calls, with certificates.
    pub tcp: Option<(TcpListener, Tls)>,
}

/// Both sides' certificates, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's chain.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Whom clients have to be signed by.
    pub client_ca: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why nobody can be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket cannot be used.
    #[error("cannot use a listening socket")]
    Socket(#[from] std::io::Error),
    /// The certificates do not fit.
    #[error("cannot serve: the transport refused its settings")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors of our own interfaces are broken.
    #[error("cannot serve reflection: {0}")]
    Reflection(String),
}

/// What the services tell besides the node's own words.
pub struct About {
    /// Names, process ids, restarts.
    pub processes: Arc<dyn Fn() -> Vec<(String, u32, u32)> + Send + Sync>,
    /// How the export of telemetry does, where somebody named a collector.
    pub telemetry: Option<Health>,
    /// Limits that tasks get, and the most they get.
    pub limits: Limits,
    /// The most they get.
    pub ceilings: Ceilings,
    /// The process that changes the network, if this node has one.
    pub network: Option<Arc<NetDoor>>,
    /// Its services, if this node can have some.
    pub services: Option<Arc<Services>>,
}

/// Serves until `stop` says so, and then until calls under way have ended. Needs a runtime.
pub async fn serve(
    node: Arc<Node>,
    access: Access,
    listeners: Listeners,
    about: About,
    stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let access = Arc::new(access);
    let defaults = Defaults {
        limits: about.limits,
        ceilings: about.ceilings,
        state_bytes: STATE_BYTES,
        state_bytes_max: STATE_BYTES_MAX,
    };
    let settings = settings(&node, &defaults);
    let puts = Puts::new();
    let control = || {
        let service = ControlService {
            node: Arc::clone(&node),
            access: Arc::clone(&access),
            defaults,
            puts: puts.clone(),
        };
        ControlServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    };
    let operator = || {
        let service = OperatorService {
            node: Arc::clone(&node),
            access: Arc::clone(&access),
            processes: Arc::clone(&about.processes),
            telemetry: about.telemetry.clone(),
            settings: settings.clone(),
            puts: puts.clone(),
            network: about.network.clone(),
            services: about.services.clone(),
        };
        OperatorServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ControlServer<ControlService>>().await;
    let build = |with_operator: bool| -> Result<Routes, ServeError> {
        // What a socket does not serve it does not announce.
        let announced = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vyr_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.reflection.v1.ServerReflection")
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(vyr_api::control::control_server::SERVICE_NAME);
        let announced = match with_operator {
            true => announced.with_service_name(vyr_api::operator::operator_server::SERVICE_NAME),
            false => announced,
        };
        let reflection = announced.build_v1().map_err(|e| ServeError::Reflection(e.to_string()))?;
        let mut routes = RoutesBuilder::default();
        routes.add_service(control());
        routes.add_service(health.clone());
        routes.add_service(reflection);
        if with_operator {
            routes.add_service(operator());
        }
        Ok(routes.routes())
    };
    let server = || {
        Server::builder()
            .max_concurrent_streams(CALLS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .layer(layer_fn(Deadlines))
    };
    let unix = |listener: UnixListener| -> std::io::Result<UnixListenerStream> {
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener).map(UnixListenerStream::new)
    };
    let until = |mut stop: watch::Receiver<bool>| async move {
        // An error is a sender that is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let on_control = server()
        .add_routes(build(false)?)
        .serve_with_incoming_shutdown(unix(listeners.control)?, until(stop.clone()));
    let on_operator = server()
        .add_routes(build(true)?)
        .serve_with_incoming_shutdown(unix(listeners.operator)?, until(stop.clone()));
    let on_tcp = async {
        let Some((listener, tls)) = listeners.tcp else { return Ok(()) };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(&tls.certificate, &tls.key))
            .client_ca_root(Certificate::from_pem(&tls.client_ca))
            .client_auth_optional(false);
        server()
            .tls_config(config)?
            .add_routes(build(true)?)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), until(stop.clone()))
            .await
            .map_err(ServeError::from)
    };
    let (on_control, on_operator, on_tcp) = tokio::join!(on_control, on_operator, on_tcp);
    on_control?;
    on_operator?;
    on_tcp
}

/// Limits and budgets in force, for people.
fn settings(node: &Node, defaults: &Defaults) -> Vec<(String, String)> {
    let config = node.config();
    let bytes = vyr_base::format_bytes;
    let limits = |limits: &Limits| {
        format!(
            "{} memory, {} ms deadline, {} ms processor time, {} output",
            bytes(limits.memory_bytes),
            limits.deadline_ms,
            limits.cpu_ms,
            bytes(limits.output_bytes_max)
        )
    };
    let Ceilings(most) = &defaults.ceilings;
    [
        ("limits", limits(&defaults.limits)),
        ("ceilings", limits(most)),
        ("memory budget", bytes(config.budget.memory_bytes)),
        ("tasks at once", config.budget.tasks.to_string()),
        ("tasks waiting", config.queue_max.to_string()),
        ("tasks kept", config.retention.tasks.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
