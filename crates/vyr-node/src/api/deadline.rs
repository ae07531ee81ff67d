//! Deadlines that callers give with `grpc-timeout`, for every call and every kind of stream.
//!
//! The transport ends a call that has not begun to answer when its time is over, but says
//! `CANCELLED`, and lets a stream that answers go on for ever. This layer is within it and a
//! little earlier, so that a caller reads `DEADLINE_EXCEEDED` and our own error in both cases.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service};
use tonic::{Code, Status};
use vyr_api::{control, error_status};

/// How much earlier than the transport we are, at most; less for short times.
const EARLIER: Duration = Duration::from_millis(10);

/// A service whose calls end by their deadlines.
#[derive(Debug, Clone)]
pub(super) struct Deadlines<S>(pub(super) S);

impl<S> Service<Request<Body>> for Deadlines<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let time = time_of(request.headers());
        let call = self.0.call(request);
        let Some(time) = time else { return Box::pin(call) };
        let deadline = Instant::now() + (time - EARLIER.min(time / 16));
        Box::pin(async move {
            match timeout_at(deadline, call).await {
                Ok(answer) => answer.map(|response| {
                    let sleep = Box::pin(sleep_until(deadline));
                    response.map(|body| Body::new(Until { body, sleep, ended: false }))
                }),
                Err(_) => Ok(exceeded().into_http()),
            }
        })
    }
}

/// A body that ends at an instant, with a status of ours in its trailers.
struct Until {
    body: Body,
    sleep: Pin<Box<Sleep>>,
    ended: bool,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // First, so that a stream with something to say at every moment ends as well.
        if self.sleep.as_mut().poll(context).is_ready() {
            self.ended = true;
            // What makes the messages stops when nobody takes them any more.
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            let added = exceeded().add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

fn exceeded() -> Status {
    error_status(&control::Error {
        category: "transient".into(),
        message: "the call's deadline is over".into(),
        hint: "allow more time; what was accepted goes on".into(),
        retryable: true,
        retry_after_ms: 0,
        code: Code::DeadlineExceeded as i32,
    })
}

/// The time a caller gives: at most eight digits and a unit. Anything else is none, as for the
/// transport.
fn time_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_form() {
        let time = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a value"));
            time_of(&headers)
        };
        assert_eq!(time("300m"), Some(Duration::from_millis(300)));
        assert_eq!(time("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "soon", "123456789S", "-1S", "1.5S", "1s"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
