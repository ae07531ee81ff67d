//! Connecting to a node, and the errors it answers with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, ClientTlsConfig, Uri};
use tower::service_fn;

use crate::control::control_client::ControlClient;
use crate::control::{
    self, Resources, Span, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse, TraceFilter,
};
use crate::error::ApiError;
use crate::operator::operator_client::OperatorClient;

/// Messages up to this size are taken: the largest is a chunk of a blob.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Not used: the connector opens the socket whatever it says.
const NO_ADDRESS: &str = "http://vyr.invalid";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a node listens.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A Unix socket: `control.sock` or `operator.sock`.
    Unix(PathBuf),
    /// `https://HOST:PORT`, with both sides' certificates.
    Tls {
        /// The address.
        uri: Uri,
        /// Trust and identity.
        tls: Box<ClientTlsConfig>,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the node at {at}")]
pub struct ConnectError {
    at: String,
    source: tonic::transport::Error,
}

/// A connection to a node. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// The seven calls.
    pub control: ControlClient<Channel>,
    /// The owner's calls; only on `operator.sock`, and over TLS for operators.
    pub operator: OperatorClient<Channel>,
}

impl Client {
    /// Connects.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        let channel = match endpoint {
            Endpoint::Unix(path) => unix(path).await,
            Endpoint::Tls { uri, tls } => {
                let connect = async {
                    Channel::builder(uri.clone())
                        .connect_timeout(CONNECT_TIMEOUT)
                        .tls_config((**tls).clone())?
                        .connect()
                        .await
                };
                connect.await.map_err(|source| ConnectError { at: uri.to_string(), source })
            }
        }?;
        Ok(Self::on(channel))
    }

    /// Takes over one end of a connected socket; there is no second connection when it breaks.
    pub async fn over(stream: UnixStream) -> Result<Self, ConnectError> {
        let mut stream = Some(stream);
        let channel = Channel::from_static(NO_ADDRESS)
            .connect_with_connector(service_fn(move |_: Uri| {
                let stream = stream.take().map(TokioIo::new);
                let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
                std::future::ready(stream.ok_or_else(gone))
            }))
            .await;
        let at = || "this process".to_owned();
        channel.map(Self::on).map_err(|source| ConnectError { at: at(), source })
    }

    fn on(channel: Channel) -> Self {
        Self {
            control: ControlClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            operator: OperatorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    /// Submits one task with `input` (at most 64 KiB); returns its id once its acceptance is
    /// durable.
    pub async fn submit(&mut self, artifact: &str, input: &[u8]) -> Result<String, ApiError> {
        let request = SubmitTaskRequest {
            artifact_digest: artifact.to_owned(),
            input_ref: Some(control::submit_task_request::InputRef::Inline(input.to_vec().into())),
            resources: Some(Resources::default()),
            ..SubmitTaskRequest::default()
        };
        self.submit_request(request).await
    }

    /// Submits one task.
    pub async fn submit_request(&mut self, request: SubmitTaskRequest) -> Result<String, ApiError> {
        use control::submit_task_response::Result as Answer;
        let mut answers = self.control.submit_task(tokio_stream::once(request)).await?.into_inner();
        match answers.message().await? {
            Some(SubmitTaskResponse { result: Some(Answer::TaskId(id)) }) => Ok(id),
            Some(SubmitTaskResponse { result: Some(Answer::Error(error)) }) => Err(error.into()),
            _ => Err(Status::internal("the node did not answer a submission").into()),
        }
    }

    /// Waits for a task's end; returns its terminal span.
    pub async fn wait(&mut self, task_id: &str) -> Result<Span, ApiError> {
        let filter = TraceFilter {
            task_ids: vec![task_id.to_owned()],
            terminal_only: true,
            ..TraceFilter::default()
        };
        let request = StreamTracesRequest { filter: Some(filter) };
        let mut spans = self.control.stream_traces(request).await?.into_inner();
        while let Some(span) = spans.message().await? {
            if span.end.is_some() {
                return Ok(span);
            }
        }
        Err(Status::unavailable("the node went away before the task ended").into())
    }
}

async fn unix(path: &Path) -> Result<Channel, ConnectError> {
    let at = path.display().to_string();
    let path = path.to_owned();
    Channel::from_static(NO_ADDRESS)
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| ConnectError { at, source })
}
