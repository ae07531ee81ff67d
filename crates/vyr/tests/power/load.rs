//! Clients that write down what they were told, until nobody answers any more.
//!
//! Four at once, over one connection: small submissions in a window, large inputs through the store,
//! a new artifact, and one that watches ends. An answer counts from the moment it was read here: the
//! node said it, so it must be true after any cut.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vyr_api::control::put_artifact_request::Part;
use vyr_api::control::submit_task_request::InputRef;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    PutArtifactRequest, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse, TraceFilter,
};
use vyr_api::operator::Chunk;
use vyr_api::{ApiError, Client};
use vyr_base::Digest;

use crate::guests::input_of;
use crate::known::Notes;

/// Submissions under way at once.
const WINDOW: usize = 12;

/// Tasks that were acknowledged and have not ended: enough that a cut always finds some, and few
/// enough that the next boot has done them soon.
const WAITING_MAX: usize = 48;

/// The size of a chunk in an upload.
const CHUNK: usize = 128 << 10;

/// Between two looks at what is under way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The connection is gone.
struct Gone;

/// What is submitted under `key`.
pub(crate) fn request(artifact: &str, key: &str) -> SubmitTaskRequest {
    let input = input_of(key);
    let input = match key.starts_with("large") {
        true => InputRef::InputDigest(Digest::of(&input).to_string()),
        false => InputRef::Inline(input.into()),
    };
    SubmitTaskRequest {
        artifact_digest: artifact.to_owned(),
        input_ref: Some(input),
        idempotency_key: key.to_owned(),
        ..SubmitTaskRequest::default()
    }
}

/// Runs all clients until the connection ends.
pub(crate) async fn load(
    client: Client,
    notes: Notes,
    moment: usize,
    artifact: String,
    another: (String, Vec<Part>),
) {
    let ends = watch(client.clone(), notes.clone());
    let small = small(client.clone(), notes.clone(), moment, &artifact);
    let large = large(client.clone(), notes.clone(), moment, &artifact);
    let another = put_another(client, notes, moment, another);
    tokio::join!(ends, small, large, another);
}

/// Whether a refused call is to be made again; waits until it may be.
async fn again(notes: &Notes, error: ApiError) -> Result<(), Gone> {
    match error.retry_after {
        Some(after) if error.retryable => {
            tokio::time::sleep(after).await;
            Ok(())
        }
        _ if error.retryable => Err(Gone),
        _ => {
            notes.with(|known| known.fault(format!("refused for good: {error:?}")));
            Err(Gone)
        }
    }
}

/// Waits until so few are under way that another may be submitted.
async fn room(notes: &Notes) {
    while notes.with(|known| known.waiting()) >= WAITING_MAX {
        tokio::time::sleep(LOOK_AGAIN).await;
        if notes.with(|known| known.is_closed()) {
            return;
        }
    }
}

async fn small(mut client: Client, notes: Notes, moment: usize, artifact: &str) {
    let (sender, receiver) = mpsc::channel(WINDOW);
    let Ok(answers) = client.control.submit_task(ReceiverStream::new(receiver)).await else {
        return;
    };
    let mut answers = answers.into_inner();
    let mut sent = std::collections::VecDeque::new();
    let mut next = 0;
    loop {
        while sent.len() < WINDOW && notes.with(|known| known.waiting()) < WAITING_MAX {
            let key = format!("small-{moment}-{next}");
            next += 1;
            notes.with(|known| known.sent(&key, artifact));
            let _ = sender.try_send(request(artifact, &key));
            sent.push_back(key);
        }
        if sent.is_empty() {
            room(&notes).await;
            if notes.with(|known| known.is_closed()) {
                return;
            }
            continue;
        }
        match answers.message().await {
            Ok(Some(SubmitTaskResponse { result: Some(Answer::TaskId(id)) })) => {
                let key = sent.pop_front().expect("one is open");
                notes.with(|known| known.acknowledged(&key, &id));
            }
            Ok(Some(SubmitTaskResponse { result: Some(Answer::Error(error)) })) => {
                if again(&notes, error.into()).await.is_err() {
                    return;
                }
                let key = sent.pop_front().expect("one is open");
                let _ = sender.try_send(request(artifact, &key));
                sent.push_back(key);
            }
            _ => return,
        }
    }
}

async fn large(mut client: Client, notes: Notes, moment: usize, artifact: &str) {
    for n in 0.. {
        let key = format!("large-{moment}-{n}");
        let input = Bytes::from(input_of(&key));
        loop {
            let chunks: Vec<Chunk> = (0..input.len())
                .step_by(CHUNK)
                .map(|at| Chunk { data: input.slice(at..input.len().min(at + CHUNK)) })
                .collect();
            match client.operator.put_blob(tokio_stream::iter(chunks)).await {
                Ok(_) => break,
                Err(refused) => {
                    if again(&notes, refused.into()).await.is_err() {
                        return;
                    }
                }
            }
        }
        notes.with(|known| {
            known.stored(&key);
            known.sent(&key, artifact);
        });
        if submit(&mut client, &notes, artifact, &key).await.is_err() {
            return;
        }
        room(&notes).await;
        if notes.with(|known| known.is_closed()) {
            return;
        }
    }
}

async fn submit(client: &mut Client, notes: &Notes, artifact: &str, key: &str) -> Result<(), Gone> {
    loop {
        match client.submit_request(request(artifact, key)).await {
            Ok(id) => {
                notes.with(|known| known.acknowledged(key, &id));
                return Ok(());
            }
            Err(error) => again(notes, error).await?,
        }
    }
}

async fn put_another(
    mut client: Client,
    notes: Notes,
    moment: usize,
    (digest, parts): (String, Vec<Part>),
) {
    if put(&mut client, &parts).await.is_err() {
        return;
    }
    notes.with(|known| known.put(&digest));
    let key = format!("small-{moment}-another");
    notes.with(|known| known.sent(&key, &digest));
    let _ = submit(&mut client, &notes, &digest, &key).await;
}

/// Puts an artifact.
pub(crate) async fn put(client: &mut Client, parts: &[Part]) -> Result<(), ApiError> {
    let messages: Vec<PutArtifactRequest> =
        parts.iter().map(|part| PutArtifactRequest { part: Some(part.clone()) }).collect();
    client.control.put_artifact(tokio_stream::iter(messages)).await?;
    Ok(())
}

/// Notes each end that is shown.
async fn watch(mut client: Client, notes: Notes) {
    let filter = TraceFilter { terminal_only: true, live_only: true, ..TraceFilter::default() };
    let request = StreamTracesRequest { filter: Some(filter) };
    if let Ok(spans) = client.control.stream_traces(request).await {
        let mut spans = spans.into_inner();
        while let Ok(Some(span)) = spans.message().await {
            if let Some(end) = span.end {
                notes.with(|known| known.ended(&span.task_id, end));
            }
        }
    }
    notes.with(|known| known.close());
}
