//! gRPC calls by hand: what no generated client can be made to do, such as stall.

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::net::UnixStream;
use tonic::codegen::http::{HeaderMap, Method, Request, Version};

use crate::daemon::HANG;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    /// Whether `grpc-status-details-bin` came with it.
    pub(crate) details: bool,
}

/// A message in its gRPC frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).expect("a short message"));
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// Calls `path` with one message and waits for the end of the answer. With `stall` the request
/// stream is left open, so that nothing but the node can end the call.
pub(crate) async fn call(
    socket: &Path,
    path: &str,
    timeout: Option<&str>,
    message: Bytes,
    stall: bool,
) -> Ended {
    let work = async {
        let stream = UnixStream::connect(socket).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.expect("ready");
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://vyr.invalid{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(()).expect("a request");
        let (response, mut body) = client.send_request(request, false).expect("sent");
        body.send_data(message, !stall).expect("sent");
        let response = response.await.expect("an answer");
        let head = response.headers().clone();
        let mut data = response.into_body();
        while let Some(piece) = data.data().await {
            let piece = piece.expect("data");
            data.flow_control().release_capacity(piece.len()).expect("released");
        }
        let trailers = data.trailers().await.expect("trailers").unwrap_or(head);
        connection.abort();
        ended(&trailers)
    };
    tokio::time::timeout(HANG, work).await.expect("the call ends")
}

fn ended(headers: &HeaderMap) -> Ended {
    let status = headers.get("grpc-status").expect("a status").to_str().expect("text");
    let details = headers.contains_key("grpc-status-details-bin");
    Ended { status: status.parse().expect("a number"), details }
}
