//! Connecting to a node, and the errors it answers with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::transport::{Channel, ClientTlsConfig, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::control::control_client::ControlClient;
use crate::control::{
    self, Resources, Span, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse, TraceFilter,
};
use crate::operator::operator_client::OperatorClient;

/// Messages up to this size are taken: the largest is a chunk of a blob.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

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

/// What a node refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// `usage`, `auth`, `not_found`, `conflict`, `transient`, `failure`, `internal`, or a closer
    /// word.
    pub category: String,
    /// What is wrong.
    pub message: String,
    /// The reader's next move.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// When it may, if the node said so.
    pub retry_after: Option<Duration>,
    /// The gRPC status code.
    pub code: Code,
}

impl From<control::Error> for ApiError {
    fn from(error: control::Error) -> Self {
        let millis = error.retry_after_ms;
        Self {
            category: error.category,
            message: error.message,
            hint: (!error.hint.is_empty()).then_some(error.hint),
            retryable: error.retryable,
            retry_after: (millis > 0).then(|| Duration::from_millis(millis.into())),
            code: Code::from_i32(error.code),
        }
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        if let Ok(error) = control::Error::decode(status.details())
            && !error.message.is_empty()
        {
            return error.into();
        }
        let retryable = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
        Self {
            category: if retryable { "transient" } else { "internal" }.into(),
            message: status.message().to_owned(),
            hint: None,
            retryable,
            retry_after: None,
            code: status.code(),
        }
    }
}

/// A status that carries `error` in its details.
pub fn error_status(error: &control::Error) -> Status {
    let code = Code::from_i32(error.code);
    Status::with_details(code, error.message.clone(), error.encode_to_vec().into())
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
        Ok(Self {
            control: ControlClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            operator: OperatorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
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
    // The address is not used: the connector opens the socket whatever it says.
    Channel::from_static("http://vyr.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_with_connector(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| ConnectError { at, source })
}
