//! Collectors in this process: real OTLP receivers over gRPC and HTTP, and ones that misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, ServerTlsConfig};

/// An authority of tests alone, whose key is gone, and what it says of `localhost`.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tls/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/localhost.pem");
const KEY: &[u8] = include_bytes!("tls/localhost.key");

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a receiver is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Grpc,
    Http,
}

impl Speaks {
    /// As `OTEL_EXPORTER_OTLP_PROTOCOL` names it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

/// One request that arrived.
pub(crate) enum Arrived {
    Traces(HeaderMap, ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

/// A receiver on a thread of its own. Dropping it closes its port and all its connections.
pub(crate) struct Collector {
    pub(crate) at: SocketAddr,
    arrived: mpsc::Receiver<Arrived>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Receiver {
    arrived: mpsc::Sender<Arrived>,
    /// Of each request's spans.
    rejects: i64,
    tls: bool,
}

impl Receiver {
    fn traces(&self, headers: HeaderMap, request: ExportTraceServiceRequest) -> Vec<u8> {
        self.answer(headers, request).encode_to_vec()
    }

    fn answer(
        &self,
        headers: HeaderMap,
        request: ExportTraceServiceRequest,
    ) -> ExportTraceServiceResponse {
        let _ = self.arrived.send(Arrived::Traces(headers, request));
        let partial = (self.rejects > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: self.rejects,
            error_message: "no".into(),
        });
        ExportTraceServiceResponse { partial_success: partial }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        Ok(tonic::Response::new(self.answer(headers, request.into_inner())))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let _ = self.arrived.send(Arrived::Metrics(request.into_inner()));
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) fn start(speaks: Speaks) -> Self {
        Self::start_at(speaks, "127.0.0.1:0".parse().expect("an address"), 0)
    }

    /// With TLS, for those who trust the authority in the file that comes with it.
    pub(crate) fn start_tls(speaks: Speaks) -> (Self, &'static str) {
        let any = "127.0.0.1:0".parse().expect("an address");
        (Self::start_as(speaks, any, 0, true), AUTHORITY)
    }

    /// At a port that may have been another's before; rejects so many spans of each request.
    pub(crate) fn start_at(speaks: Speaks, at: SocketAddr, rejects: i64) -> Self {
        Self::start_as(speaks, at, rejects, false)
    }

    fn start_as(speaks: Speaks, at: SocketAddr, rejects: i64, tls: bool) -> Self {
        let (sender, arrived) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let receiver = Receiver { arrived: sender, rejects, tls };
        let (bound, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            crate::support::block(async move {
                let listener = tokio::net::TcpListener::bind(at).await.expect("a port");
                bound.send(listener.local_addr().expect("an address")).expect("sent");
                tokio::select! {
                    () = serve(speaks, listener, receiver) => {}
                    _ = stopped => {}
                }
            });
        });
        let at = address.recv().expect("bound");
        Self { at, arrived, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Waits for the next request.
    pub(crate) fn next(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).expect("a request in time")
    }

    /// Waits until there are as many spans as `enough` wants; with the headers of the last.
    pub(crate) fn spans(&self, enough: usize) -> (Vec<Span>, HeaderMap) {
        let mut spans = Vec::new();
        loop {
            let Arrived::Traces(headers, request) = self.next() else { continue };
            spans.extend(spans_of(request));
            if spans.len() >= enough {
                return (spans, headers);
            }
        }
    }

    /// All spans that have come and were not read.
    pub(crate) fn spans_so_far(&self) -> Vec<Span> {
        let traces = self.arrived.try_iter().filter_map(|arrived| match arrived {
            Arrived::Traces(_, request) => Some(spans_of(request)),
            Arrived::Metrics(_) => None,
        });
        traces.flatten().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(speaks: Speaks, listener: tokio::net::TcpListener, receiver: Receiver) {
    if speaks == Speaks::Grpc {
        let mut server = tonic::transport::Server::builder();
        if receiver.tls {
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(CERTIFICATE, KEY));
            server = server.tls_config(tls).expect("a certificate");
        }
        return server
            .add_service(TraceServiceServer::new(receiver.clone()))
            .add_service(MetricsServiceServer::new(receiver))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .expect("serves");
    }
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (receiver, tls) = (receiver.clone(), receiver.tls);
        tokio::spawn(async move {
            let service = service_fn(move |request| post(receiver.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            if !tls {
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            } else if let Ok(stream) = acceptor().accept(stream).await {
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("they fit")))
}

async fn post(
    receiver: Receiver,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    let answer = match parts.uri.path() {
        "/v1/traces" => {
            receiver.traces(parts.headers, ExportTraceServiceRequest::decode(body).expect("spans"))
        }
        "/v1/metrics" => {
            let request = ExportMetricsServiceRequest::decode(body).expect("metrics");
            let _ = receiver.arrived.send(Arrived::Metrics(request));
            Vec::new()
        }
        other => panic!("a POST to {other}"),
    };
    let response = Response::builder().header("content-type", "application/x-protobuf");
    Ok(response.body(Full::new(Bytes::from(answer))).expect("a response"))
}

fn spans_of(request: ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
    scopes.flat_map(|spans| spans.spans).collect()
}

/// Accepts everybody, reads, and answers each with `answer`; nothing if that is empty.
pub(crate) fn misbehaving(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    // Ends with the test binary.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let Ok(mut stream) = stream else { return };
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|n| n > 0) {
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// Attributes as text, whatever they are.
pub(crate) fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

/// The metrics of a request by name.
pub(crate) fn data_of(request: ExportMetricsServiceRequest) -> HashMap<String, Data> {
    let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
    let metrics = scopes.flat_map(|metrics| metrics.metrics);
    metrics.map(|metric| (metric.name, metric.data.expect("data"))).collect()
}

/// Waits until `holds`.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
