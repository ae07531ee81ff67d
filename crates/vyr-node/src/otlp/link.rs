//! One attempt to give one request to a collector: over gRPC, or as an HTTP/1.1 POST.
//!
//! What a collector says is not repeated anywhere, and only read as far as `ANSWER_MAX`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Extensions, Status};
use tonic_prost::ProstCodec;

use super::error::OtlpError;
use super::settings::{Protocol, Target};

/// Bytes of an answer that are read. An honest one has a few dozen.
const ANSWER_MAX: usize = 64 << 10;

/// How this exporter names itself.
const AGENT: &str = concat!("vyr/", env!("CARGO_PKG_VERSION"));

/// A request of one of the two services.
pub(super) trait Export: prost::Message + Clone + 'static {
    /// What a collector answers.
    type Answer: prost::Message + Default + 'static;
    /// The gRPC method.
    const METHOD: &'static str;
    /// How many of the request's items the collector did not want.
    fn rejected(answer: &Self::Answer) -> u64;
}

impl Export for ExportTraceServiceRequest {
    type Answer = ExportTraceServiceResponse;
    const METHOD: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn rejected(answer: &Self::Answer) -> u64 {
        let partial = answer.partial_success.as_ref();
        partial.and_then(|partial| partial.rejected_spans.try_into().ok()).unwrap_or(0)
    }
}

impl Export for ExportMetricsServiceRequest {
    type Answer = ExportMetricsServiceResponse;
    const METHOD: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

    fn rejected(answer: &Self::Answer) -> u64 {
        let partial = answer.partial_success.as_ref();
        partial.and_then(|partial| partial.rejected_data_points.try_into().ok()).unwrap_or(0)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// For a person: our words, not the collector's.
    pub(super) why: String,
    /// Whether the same request may be taken later.
    pub(super) again: bool,
    /// When, if the collector said so.
    pub(super) after: Option<Duration>,
}

impl Fault {
    fn of(why: impl Into<String>, again: bool) -> Self {
        Self { why: why.into(), again, after: None }
    }

    /// The collector was not reached, or went away.
    fn lost(verb: &str, why: impl std::fmt::Display) -> Self {
        Self::of(format!("cannot {verb} the collector: {why}"), true)
    }

    /// It did not answer in time.
    pub(super) fn late() -> Self {
        Self::of("the collector did not answer in time", true)
    }
}

/// A way to a collector. Connects when something is sent, and again after a fault.
pub(super) struct Link {
    timeout: Duration,
    way: Way,
}

enum Way {
    Grpc { endpoint: Box<Endpoint>, headers: HeaderMap, channel: Channel },
    Http { uri: Uri, headers: HeaderMap, tls: Option<TlsConnector>, open: Option<Open> },
}

impl Link {
    /// To be called inside a runtime: a gRPC channel has a task of its own.
    pub(super) fn new(target: Target) -> Result<Self, OtlpError> {
        let Target { protocol, uri, headers, timeout, authorities } = target;
        let way = match protocol {
            Protocol::Grpc => {
                let broken = |e| OtlpError::Thread(std::io::Error::other(e));
                let mut endpoint = Endpoint::from(uri).connect_timeout(timeout);
                endpoint = endpoint.user_agent(AGENT).map_err(broken)?;
                if let Some(authorities) = authorities {
                    let certificate = Certificate::from_pem(authorities.pem);
                    let tls = ClientTlsConfig::new().ca_certificate(certificate);
                    endpoint = endpoint.tls_config(tls).map_err(broken)?;
                }
                let channel = endpoint.connect_lazy();
                Way::Grpc { endpoint: Box::new(endpoint), headers, channel }
            }
            Protocol::HttpProtobuf => {
                let tls = authorities.map(|authorities| {
                    let provider = Arc::new(ring::default_provider());
                    let mut config = ClientConfig::builder_with_provider(provider)
                        .with_safe_default_protocol_versions()
                        .expect("ring has the ciphers of the default versions")
                        .with_root_certificates(authorities.roots)
                        .with_no_client_auth();
                    config.alpn_protocols.push(b"http/1.1".to_vec());
                    TlsConnector::from(Arc::new(config))
                });
                Way::Http { uri, headers, tls, open: None }
            }
        };
        Ok(Self { timeout, way })
    }

    /// Sends `request`; how many of its items were rejected. Cancelling leaves no half-used
    /// connection behind.
    pub(super) async fn send<T: Export>(&mut self, request: &T) -> Result<u64, Fault> {
        let attempt = async {
            match &mut self.way {
                Way::Grpc { headers, channel, .. } => call(channel, headers, request).await,
                Way::Http { uri, headers, tls, open } => {
                    // Out of its place while it is used: an attempt that is given up closes it.
                    let mut used = match open.take().filter(|open| !open.sender.is_closed()) {
                        Some(open) => open,
                        None => Open::connect(uri, tls.as_ref()).await?,
                    };
                    let answer = used.post(uri, headers, request).await?;
                    *open = Some(used);
                    read_answer::<T>(&answer)
                }
            }
        };
        let result = tokio::time::timeout(self.timeout, attempt).await;
        let result = result.unwrap_or_else(|_| Err(Fault::late()));
        // A connection whose other end is gone without a word is never found out by HTTP/2.
        if let (Err(Fault { again: true, .. }), Way::Grpc { endpoint, channel, .. }) =
            (&result, &mut self.way)
        {
            *channel = endpoint.connect_lazy();
        }
        result
    }
}

async fn call<T: Export>(
    channel: &Channel,
    headers: &HeaderMap,
    request: &T,
) -> Result<u64, Fault> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_MAX);
    grpc.ready().await.map_err(|_| Fault::lost("reach", "its channel is closed"))?;
    let metadata = MetadataMap::from_headers(headers.clone());
    let request = tonic::Request::from_parts(metadata, Extensions::default(), request.clone());
    let codec = ProstCodec::<T, T::Answer>::default();
    let answer = grpc.unary(request, PathAndQuery::from_static(T::METHOD), codec).await;
    answer.map(|answer| T::rejected(answer.get_ref())).map_err(|status| refused(&status))
}

/// Which codes may be tried again is the OTLP specification's list. `RESOURCE_EXHAUSTED` is on it
/// only with a time to come back at, which we do not read.
fn refused(status: &Status) -> Fault {
    // With a source it is no answer at all but the transport's fault.
    let mut source = std::error::Error::source(status);
    if source.is_some() {
        while let Some(deeper) = source.and_then(|source| source.source()) {
            source = Some(deeper);
        }
        let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        let why = io.map_or("the connection broke".to_owned(), ToString::to_string);
        return Fault::lost("reach", why);
    }
    let again = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    );
    Fault::of(format!("the collector answers {:?}", status.code()), again)
}

/// An open HTTP/1.1 connection.
#[derive(Debug)]
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Open {
    async fn connect(uri: &Uri, tls: Option<&TlsConnector>) -> Result<Self, Fault> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|e| Fault::lost("reach", e))?;
        match tls {
            None => Self::speak(stream).await,
            Some(tls) => {
                let name =
                    ServerName::try_from(host.to_owned()).map_err(|e| Fault::lost("name", e))?;
                let stream =
                    tls.connect(name, stream).await.map_err(|e| Fault::lost("trust", e))?;
                Self::speak(stream).await
            }
        }
    }

    async fn speak<S>(stream: S) -> Result<Self, Fault>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| Fault::lost("speak to", e))?;
        // Its error is also that of the request under way.
        let task = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Ok(Self { sender, task })
    }

    async fn post<T: Export>(
        &mut self,
        uri: &Uri,
        headers: &HeaderMap,
        request: &T,
    ) -> Result<Answer, Fault> {
        let mut post = Request::new(Full::new(Bytes::from(request.encode_to_vec())));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        *post.headers_mut() = headers.clone();
        let host = uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
        if let Some(host) = host {
            post.headers_mut().insert(HOST, host);
        }
        post.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        post.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let lost = |e: hyper::Error| Fault::lost("speak to", e);
        self.sender.ready().await.map_err(lost)?;
        let (parts, body) = self.sender.send_request(post).await.map_err(lost)?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|_| Fault::of("the collector's answer is broken", false))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
}

/// What an answer over HTTP means. JSON is not asked for, but if it is what comes with a 200 it is
/// a collector's consent.
fn read_answer<T: Export>(answer: &Answer) -> Result<u64, Fault> {
    if answer.status != StatusCode::OK {
        let again = matches!(answer.status.as_u16(), 429 | 502 | 503 | 504);
        let after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let why = format!("the collector answers {}", answer.status.as_u16());
        return Err(Fault { why, again, after });
    }
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match kind.map(|kind| kind.split(';').next().unwrap_or_default().trim()) {
        Some("application/json") => return Ok(0),
        Some("application/x-protobuf") => {}
        _ if answer.body.is_empty() => {}
        _ => return Err(Fault::of("what answers is not a collector", false)),
    }
    <T::Answer as prost::Message>::decode(answer.body.clone())
        .map(|answer| T::rejected(&answer))
        .map_err(|_| Fault::of("the collector's answer is broken", false))
}
