//! The client: the same code for the node and for the reference, which differ in their socket.
//!
//! Every task is checked: it completed, its output has the right digest, its answer and its
//! terminal span name the same task, and no span was dropped.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    Resources, Span, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse, TaskState,
    TraceFilter,
};
use vyr_api::{Client, Endpoint};

use crate::stats::Histogram;

/// Tasks in flight of the one that streams.
pub(super) const WINDOW: usize = 512;

/// Tasks of a sequential run that are not counted.
const WARM_TASKS: usize = 20;

/// What all that is in flight gets to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom to load, and with what.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where it listens.
    pub(super) endpoint: Endpoint,
    /// The artifact to run.
    pub(super) artifact: String,
    /// The digest of what it prints.
    pub(super) output: String,
}

/// For how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Not counted.
    pub(super) warm: Duration,
    /// Counted.
    pub(super) time: Duration,
}

/// What was seen in the counted time.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Terminal spans.
    pub(super) tasks: u64,
    /// In so many seconds.
    pub(super) seconds: f64,
    /// From submission to terminal span.
    pub(super) times: Histogram,
}

impl Seen {
    /// Adds another stretch of the same load.
    pub(super) fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.seconds += other.seconds;
        self.times.add(&other.times);
    }
}

impl Target {
    fn request(&self) -> SubmitTaskRequest {
        SubmitTaskRequest { artifact_digest: self.artifact.clone(), ..Default::default() }
    }

    /// Terminal spans from now on.
    pub(super) async fn watch(&self, client: &mut Client) -> Result<Streaming<Span>> {
        let filter = TraceFilter { terminal_only: true, live_only: true, ..Default::default() };
        let request = StreamTracesRequest { filter: Some(filter) };
        Ok(client.control.stream_traces(request).await?.into_inner())
    }

    /// The next terminal span's task, checked.
    pub(super) async fn next(&self, spans: &mut Streaming<Span>) -> Result<u64> {
        let span = spans.message().await?.context("the stream of spans ended")?;
        ensure!(span.dropped == 0, "{} spans were dropped", span.dropped);
        let end = span.end.as_ref().context("a span that is not terminal")?;
        if end.state() != TaskState::Completed || end.output_digest != self.output {
            bail!("task {} ended in another way: {:?}", span.task_id, end);
        }
        seq_of(&span.task_id)
    }

    /// One task after the other, each until its terminal span; microseconds of each.
    pub(super) async fn sequential(&self, tasks: usize) -> Result<Vec<f64>> {
        let mut client = Client::connect(&self.endpoint).await?;
        let mut spans = self.watch(&mut client).await?;
        let (sender, receiver) = mpsc::channel(1);
        let mut answers =
            client.control.submit_task(ReceiverStream::new(receiver)).await?.into_inner();
        let mut times = Vec::with_capacity(tasks);
        for n in 0..WARM_TASKS + tasks {
            let began = Instant::now();
            sender.send(self.request()).await?;
            let accepted = accepted(answers.message().await?)?;
            let ended = self.next(&mut spans).await?;
            if n >= WARM_TASKS {
                times.push(began.elapsed().as_secs_f64() * 1e6);
            }
            ensure!(accepted == ended, "task {accepted} was submitted and {ended} ended");
        }
        Ok(times)
    }

    /// Runs so many tasks on one stream.
    pub(super) async fn some(&self, tasks: usize) -> Result<()> {
        let mut client = Client::connect(&self.endpoint).await?;
        let mut spans = self.watch(&mut client).await?;
        let mut left = tasks;
        while left > 0 {
            let some = left.min(WINDOW);
            let requests: Vec<_> = (0..some).map(|_| self.request()).collect();
            submit_all(&mut client, requests).await?;
            for _ in 0..some {
                self.next(&mut spans).await?;
            }
            left -= some;
        }
        Ok(())
    }

    /// Submits so many tasks of `artifact`, which do not run until a state is bound to each.
    pub(super) async fn queue(&self, artifact: &str, tasks: usize) -> Result<()> {
        let mut client = Client::connect(&self.endpoint).await?;
        let resources = Resources { deadline_ms: 600_000, ..Default::default() };
        let request = SubmitTaskRequest {
            artifact_digest: artifact.to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        submit_all(&mut client, vec![request; tasks]).await
    }

    /// One stream with `WINDOW` tasks in flight.
    pub(super) async fn streaming(&self, span: Stretch) -> Result<Seen> {
        let mut client = Client::connect(&self.endpoint).await?;
        let mut spans = self.watch(&mut client).await?;
        let (sender, receiver) = mpsc::channel(WINDOW);
        for _ in 0..WINDOW {
            sender.try_send(self.request())?;
        }
        let began = Instant::now();
        let (from, to) = (began + span.warm, began + span.warm + span.time);
        let mut answers =
            client.control.submit_task(ReceiverStream::new(receiver)).await?.into_inner();
        // Those of which only the answer or only the end was seen.
        let open = Mutex::new(HashSet::new());
        let toggle = |task: u64| {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            if !open.remove(&task) {
                open.insert(task);
            }
        };
        let answered = async {
            let mut answered = 0_usize;
            while let Some(answer) = answers.message().await? {
                toggle(accepted(Some(answer))?);
                answered += 1;
            }
            anyhow::Ok(answered)
        };
        let ended = async {
            let (mut sent, mut ended, mut counted) = (WINDOW, 0, 0);
            let mut sender = Some(sender);
            while ended < sent {
                toggle(self.next(&mut spans).await?);
                ended += 1;
                let now = Instant::now();
                if now >= to {
                    sender = None;
                    continue;
                }
                counted += u64::from(now >= from);
                if let Some(sender) = &sender {
                    sender.try_send(self.request())?;
                    sent += 1;
                }
            }
            anyhow::Ok((ended, counted))
        };
        let both = async { tokio::try_join!(answered, ended) };
        let (answered, (ended, tasks)) = in_time(span, both).await?;
        let open = open.into_inner().unwrap_or_else(PoisonError::into_inner).len();
        ensure!(answered == ended && open == 0, "{answered} answers, {ended} ends, {open} alone");
        Ok(Seen { tasks, seconds: span.time.as_secs_f64(), times: Histogram::default() })
    }

    /// `clients` connections, each of which submits one task a call and waits for its end. One more
    /// connection watches for all of them.
    pub(super) async fn clients(&self, clients: usize, span: Stretch) -> Result<Seen> {
        let mut watcher = Client::connect(&self.endpoint).await?;
        let mut spans = self.watch(&mut watcher).await?;
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Client::connect(&self.endpoint).await?);
        }
        let began = Instant::now();
        let (from, to) = (began + span.warm, began + span.warm + span.time);
        let ends = Arc::new(Ends::default());
        let (of_watcher, target) = (Arc::clone(&ends), self.clone());
        let watching = tokio::spawn(async move {
            loop {
                let task = target.next(&mut spans).await?;
                let now = Instant::now();
                if now >= from && now < to {
                    of_watcher.counted.fetch_add(1, Ordering::Relaxed);
                }
                of_watcher.ended(task);
            }
            #[expect(unreachable_code, reason = "names the type of the error above")]
            anyhow::Ok(())
        });
        let mut calling = Vec::new();
        for mut client in connections {
            let (ends, target) = (Arc::clone(&ends), self.clone());
            calling.push(tokio::spawn(async move {
                let mut times = Histogram::default();
                loop {
                    let start = Instant::now();
                    if start >= to {
                        return anyhow::Ok(times);
                    }
                    let task = client.submit_request(target.request()).await?;
                    if let Some(end) = ends.wait_for(seq_of(&task)?) {
                        end.await.context("nobody watches any more")?;
                    }
                    if start >= from {
                        times.record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    }
                }
            }));
        }
        let all = async {
            let mut times = Histogram::default();
            for calling in calling {
                times.add(&calling.await??);
            }
            anyhow::Ok(times)
        };
        let times = match in_time(span, all).await {
            Ok(times) => times,
            // Why nobody watches says more than that nobody does.
            Err(_) if watching.is_finished() => {
                watching.await??;
                bail!("the watcher ended early")
            }
            Err(error) => return Err(error),
        };
        watching.abort();
        let open = ends.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
        ensure!(open == 0, "{open} ends of tasks that nobody submitted");
        let tasks = ends.counted.load(Ordering::Relaxed);
        Ok(Seen { tasks, seconds: span.time.as_secs_f64(), times })
    }
}

async fn submit_all(client: &mut Client, requests: Vec<SubmitTaskRequest>) -> Result<()> {
    let mut answers = client.control.submit_task(tokio_stream::iter(requests)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        accepted(Some(answer))?;
    }
    Ok(())
}

async fn in_time<T>(span: Stretch, work: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = span.warm + span.time + PATIENCE;
    tokio::time::timeout(patience, work).await.context("tasks did not end in time")?
}

fn accepted(answer: Option<SubmitTaskResponse>) -> Result<u64> {
    match answer.context("the stream of answers ended")?.result {
        Some(Answer::TaskId(id)) => seq_of(&id),
        Some(Answer::Error(error)) => bail!("refused: {}", error.message),
        None => bail!("an empty answer"),
    }
}

/// The number in a task's id.
pub(crate) fn seq_of(task: &str) -> Result<u64> {
    let digits = task.rsplit('-').next().unwrap_or_default();
    digits.parse().with_context(|| format!("{task:?} is not a task's id"))
}

/// A task of which one side was seen.
enum Half {
    Ended,
    Awaited(oneshot::Sender<()>),
}

/// Ends and those who wait for them.
#[derive(Default)]
struct Ends {
    waiting: Mutex<HashMap<u64, Half>>,
    counted: AtomicU64,
}

impl Ends {
    fn ended(&self, task: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Half::Awaited(sender)) = waiting.remove(&task) {
            let _ = sender.send(());
        } else {
            waiting.insert(task, Half::Ended);
        }
    }

    /// What to wait for; `None` if it has ended.
    fn wait_for(&self, task: u64) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.remove(&task).is_some() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert(task, Half::Awaited(sender));
        Some(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_ends_with_its_number() {
        assert_eq!(seq_of("t-0a1b2c3d-1234").expect("an id"), 1234);
        assert!(seq_of("t-0a1b2c3d-").is_err());
    }

    #[test]
    fn an_end_is_found_in_either_order() {
        let ends = Ends::default();
        ends.ended(1);
        assert!(ends.wait_for(1).is_none());
        let mut waiting = ends.wait_for(2).expect("not ended yet");
        ends.ended(2);
        assert!(waiting.try_recv().is_ok());
        assert!(ends.waiting.into_inner().expect("not poisoned").is_empty());
    }
}
