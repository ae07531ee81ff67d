//! `SubmitTask` and `CancelTask`: one answer a message, keys, inputs, and refusals as data.

use prost::Message;
use tonic::Code;
use vyr_api::control::submit_task_request::InputRef;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    CancelTaskRequest, Error, Resources, SubmitTaskRequest, SubmitTaskResponse, TaskState,
};
use vyr_api::{ApiError, Client};
use vyr_base::Digest;

use crate::daemon::{Daemon, HANG, block, put_blob, read_blob, refused, wait};

pub(crate) fn request(artifact: &str, key: &str, input: &[u8]) -> SubmitTaskRequest {
    SubmitTaskRequest {
        artifact_digest: artifact.to_owned(),
        input_ref: Some(InputRef::Inline(input.to_vec().into())),
        idempotency_key: key.to_owned(),
        ..SubmitTaskRequest::default()
    }
}

#[test]
fn answers_come_in_order_and_a_refusal_does_not_end_the_stream() {
    let daemon = Daemon::start();
    block(async {
        let echo = daemon.put("probe", &["echo"]).await;
        let mut client = daemon.client().await;
        let messages: Vec<SubmitTaskRequest> = (0..40)
            .map(|n| match n % 4 {
                3 => request("sha256:short", "", b""),
                _ => request(&echo, "", n.to_string().as_bytes()),
            })
            .collect();
        let stream = client.control.submit_task(tokio_stream::iter(messages)).await;
        let mut stream = stream.expect("a stream").into_inner();
        let mut tasks = Vec::new();
        for n in 0..40 {
            let answer = stream.message().await.expect("an answer").expect("an answer");
            match answer {
                SubmitTaskResponse { result: Some(Answer::TaskId(task)) } => {
                    assert_ne!(n % 4, 3);
                    tasks.push((n, task));
                }
                SubmitTaskResponse { result: Some(Answer::Error(error)) } => {
                    assert_eq!(n % 4, 3, "{error:?}");
                    let code = Code::InvalidArgument as i32;
                    assert_eq!((error.category.as_str(), error.code), ("usage", code));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stream.message().await.expect("the end"), None);
        for (n, task) in tasks {
            let (_, end) = wait(&mut client, &task).await;
            assert_eq!(end.output_digest, Digest::of(n.to_string().as_bytes()).to_string());
        }
    });
}

#[test]
fn a_key_gives_the_same_task_for_the_same_submission_only() {
    let mut daemon = Daemon::start();
    let echo = block(daemon.put("probe", &["echo"]));
    let first = block(async {
        let mut client = daemon.client().await;
        let first = client.submit_request(request(&echo, "k", b"a")).await.expect("accepted");
        let again = client.submit_request(request(&echo, "k", b"a")).await.expect("the same");
        assert_eq!(again, first);
        let other = client.submit_request(request(&echo, "k", b"b")).await;
        refused(other, "conflict", &[&first]);
        let unkeyed = client.submit_request(request(&echo, "", b"a")).await.expect("accepted");
        assert_ne!(unkeyed, first);
        let long = client.submit_request(request(&echo, &"k".repeat(129), b"a")).await;
        refused(long, "usage", &["128"]);
        first
    });
    daemon.restart();
    block(async {
        let mut client = daemon.client().await;
        let again = client.submit_request(request(&echo, "k", b"a")).await.expect("the same");
        assert_eq!(again, first, "a restart forgets no key");
    });
}

#[test]
fn an_input_over_64_kib_goes_through_the_store() {
    let daemon = Daemon::start();
    block(async {
        let echo = daemon.put("probe", &["echo"]).await;
        let mut client = daemon.client().await;
        let large = vec![7; (64 << 10) + 1];
        let error = refused(client.submit(&echo, &large).await, "usage", &["65536"]);
        assert!(error.hint.expect("a hint").contains("digest"));
        // The largest that is taken.
        let task = client.submit(&echo, &large[1..]).await.expect("accepted");
        let (_, end) = wait(&mut client, &task).await;
        assert_eq!(end.output_digest, Digest::of(&large[1..]).to_string());
        // By digest, any size.
        let digest = put_blob(&mut client, &large).await;
        let by_digest = |digest: &str| SubmitTaskRequest {
            input_ref: Some(InputRef::InputDigest(digest.to_owned())),
            ..request(&echo, "", b"")
        };
        let task = client.submit_request(by_digest(&digest)).await.expect("accepted");
        let (_, end) = wait(&mut client, &task).await;
        assert_eq!((end.input_digest, end.output_digest.clone()), (digest.clone(), digest));
        assert_eq!(read_blob(&mut client, &end.output_digest).await.expect("stored"), large);
        let nowhere = Digest::of(b"nobody stored this").to_string();
        refused(client.submit_request(by_digest(&nowhere)).await, "not_found", &[&nowhere]);
    });
}

#[test]
fn a_message_that_cannot_be_read_is_told_not_swallowed() {
    let daemon = Daemon::start();
    block(async {
        let echo = daemon.put("probe", &["echo"]).await;
        let mut client = daemon.client().await;
        let messages = vec![request(&echo, "", b"one"), request(&echo, "", &vec![0; 2 << 20])];
        let stream = client.control.submit_task(tokio_stream::iter(messages)).await;
        let mut stream = stream.expect("a stream").into_inner();
        let first = stream.message().await.expect("an answer").expect("an answer");
        assert!(matches!(first.result, Some(Answer::TaskId(_))), "{first:?}");
        let error = stream.message().await.expect_err("the second is too large");
        assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
    });
}

#[test]
fn a_refused_call_carries_a_google_rpc_status_with_our_error() {
    let daemon = Daemon::start();
    block(async {
        let mut client = daemon.client().await;
        let request = CancelTaskRequest { task_id: "not-a-task".to_owned() };
        let status = client.control.cancel_task(request).await.expect_err("refused");
        // By hand, as a client without our code would.
        let google = GoogleStatus::decode(status.details()).expect("google.rpc.Status");
        assert_eq!(google.code, status.code() as i32);
        assert_eq!(google.message, status.message());
        assert_eq!(google.details.len(), 1);
        assert_eq!(google.details[0].type_url, "type.googleapis.com/vyr.control.v0.Error");
        let error = Error::decode(google.details[0].value.as_slice()).expect("our Error");
        assert_eq!((error.category.as_str(), error.code), ("usage", google.code));
        assert_eq!(error.message, google.message);
        assert!(!error.retryable);
        // The SDK reads the same.
        let read = ApiError::from(status);
        assert_eq!((read.category.as_str(), read.code), ("usage", Code::InvalidArgument));
    });
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct GoogleStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[test]
fn a_cancel_is_idempotent_and_answers_with_the_state() {
    let daemon = Daemon::start();
    block(async {
        let spin = daemon.put("probe", &["spin"]).await;
        let mut client = daemon.client().await;
        let task = client.submit(&spin, b"").await.expect("accepted");
        let cancel = async |client: &mut Client| {
            let request = CancelTaskRequest { task_id: task.clone() };
            let answer = client.control.cancel_task(request).await;
            answer.expect("cancelled").into_inner().state()
        };
        cancel(&mut client).await;
        let (_, end) = wait(&mut client, &task).await;
        assert_eq!(end.state(), TaskState::Cancelled);
        for _ in 0..2 {
            assert_eq!(cancel(&mut client).await, TaskState::Cancelled);
        }
    });
}

#[test]
fn resources_are_limits_and_a_priority_has_bounds() {
    let daemon = Daemon::start();
    block(async {
        let spin = daemon.put("probe", &["spin"]).await;
        let mut client = daemon.client().await;
        let with = |resources: Resources| SubmitTaskRequest {
            resources: Some(resources),
            ..request(&spin, "", b"")
        };
        let short = Resources { deadline_ms: 50, ..Resources::default() };
        let task = client.submit_request(with(short)).await.expect("accepted");
        let (_, end) = wait(&mut client, &task).await;
        assert_eq!((end.state(), end.reason.as_str()), (TaskState::Failed, "deadline"));
        let urgent = Resources { priority: 101, ..Resources::default() };
        refused(client.submit_request(with(urgent)).await, "usage", &["priority"]);
    });
}

#[test]
fn a_client_that_leaves_a_stream_open_gets_its_answers_at_once() {
    let daemon = Daemon::start();
    block(async {
        let echo = daemon.put("probe", &["echo"]).await;
        let mut client = daemon.client().await;
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let stream = client.control.submit_task(messages).await;
        let mut stream = stream.expect("a stream before the first message").into_inner();
        for n in 0..3 {
            sender.send(request(&echo, "", &[n])).await.expect("sent");
            let answer = tokio::time::timeout(HANG, stream.message()).await.expect("in time");
            assert!(answer.expect("an answer").is_some());
        }
        drop(sender);
        assert_eq!(stream.message().await.expect("the end"), None);
    });
}
