//! Errors on the wire: `google.rpc.Status` with our `Error` in its details.
//!
//! That is what `grpc-status-details-bin` holds by convention, so any client's own tools show it.

use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::control;

/// The name of our detail, as `Any` wants it.
const TYPE_URL: &str = "type.googleapis.com/vyr.control.v0.Error";

/// `google.rpc.Status`: three fields, stable since 2015.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// A status that carries `error` in its details.
pub fn error_status(error: &control::Error) -> Status {
    let any = Any { type_url: TYPE_URL.to_owned(), value: error.encode_to_vec() };
    let status = RpcStatus { code: error.code, message: error.message.clone(), details: vec![any] };
    let code = Code::from_i32(error.code);
    Status::with_details(code, error.message.clone(), status.encode_to_vec().into())
}

/// What a node refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// `usage`, `auth`, `not_found`, `conflict`, `transient`, `failure`, `internal`, or a closer
    /// word: `unsupported_artifact`, `resource_exhausted`.
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
        let details = RpcStatus::decode(status.details()).unwrap_or_default().details;
        let ours = details.iter().find(|any| any.type_url == TYPE_URL);
        if let Some(Ok(error)) = ours.map(|any| control::Error::decode(any.value.as_slice())) {
            return error.into();
        }
        // A status that has a source was not sent by the node: the connection broke.
        let broken = std::error::Error::source(&status).is_some();
        let passes = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
        let retryable = broken || passes;
        let category = match status.code() {
            _ if broken => "transient",
            Code::Unavailable | Code::DeadlineExceeded => "transient",
            Code::PermissionDenied | Code::Unauthenticated => "auth",
            Code::InvalidArgument | Code::Unimplemented => "usage",
            Code::NotFound => "not_found",
            _ => "internal",
        };
        Self {
            category: category.into(),
            message: status.message().to_owned(),
            hint: None,
            retryable,
            retry_after: None,
            code: status.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire_and_a_plain_status_is_one_too() {
        let error = control::Error {
            category: "conflict".into(),
            message: "m".into(),
            hint: "h".into(),
            retryable: true,
            retry_after_ms: 7,
            code: Code::FailedPrecondition as i32,
        };
        let read = ApiError::from(error_status(&error));
        assert_eq!((read.category.as_str(), read.hint.as_deref()), ("conflict", Some("h")));
        assert_eq!(read.retry_after, Some(Duration::from_millis(7)));
        let read = ApiError::from(Status::with_details(Code::NotFound, "x", vec![0xff].into()));
        assert_eq!((read.category.as_str(), read.hint), ("not_found", None));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        let read = ApiError::from(broken);
        assert_eq!((read.category.as_str(), read.retryable), ("transient", true));
        assert!(!ApiError::from(Status::unknown("said by a node")).retryable);
    }
}
