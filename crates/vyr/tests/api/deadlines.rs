//! `grpc-timeout`: the node ends a call itself, whatever the client does.

use tonic::Code;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::{PutArtifactRequest, StreamMetricsRequest, StreamTracesRequest};

use crate::daemon::{Daemon, block};
use crate::http2::{call, frame};
use crate::submit::request;

#[test]
fn a_call_that_has_a_deadline_ends_by_it() {
    let daemon = Daemon::start();
    let socket = daemon.control_socket();
    block(async {
        let hello = daemon.put("hello", &[]).await;
        let head = Part::Head(daemon.signed("transform", &[]).head);
        let head = frame(&PutArtifactRequest { part: Some(head) });
        let task = frame(&request(&hello, "", b""));
        let traces = frame(&StreamTracesRequest::default());
        let metrics = frame(&StreamMetricsRequest::default());
        let late = Code::DeadlineExceeded as i32;
        // A put whose blobs do not come, a stream that is left open, two that never end.
        for (name, message, stall) in [
            ("PutArtifact", head, true),
            ("SubmitTask", task.clone(), true),
            ("StreamTraces", traces, false),
            ("StreamMetrics", metrics, false),
        ] {
            let path = format!("/vyr.control.v0.Control/{name}");
            let ended = call(&socket, &path, Some("300m"), message, stall).await;
            assert_eq!(ended.status, late, "{name}: {ended:?}");
            assert!(ended.details, "{name}: {ended:?}");
        }
        // In time, a deadline changes nothing; one that is no time is none.
        for timeout in [Some("60S"), Some("soon"), None] {
            let path = "/vyr.control.v0.Control/SubmitTask";
            let ended = call(&socket, path, timeout, task.clone(), false).await;
            assert_eq!(ended.status, Code::Ok as i32, "{timeout:?}: {ended:?}");
        }
    });
}
