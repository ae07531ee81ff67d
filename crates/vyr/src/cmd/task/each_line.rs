//! `vyr task submit --each-line`: one task a line, over one stream.
//!
//! ```text
//!  reader thread --lines--> window --SubmitTask--> node        answers, in the order of messages
//!                             ^  overloaded: again, later  <---+
//!                             +-- ids --> watcher --StreamTraces--> ends
//!  results are printed in the order of the lines
//! ```
//!
//! Bounded: lines that wait for their answer by `WINDOW`, tasks whose end is awaited by `OPEN_MAX`,
//! retries by `PATIENCE` without any acceptance.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vyr_api::control::submit_task_request::InputRef;
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{SubmitTaskRequest, SubmitTaskResponse};
use vyr_api::operator::Chunk;
use vyr_api::{ApiError, Client};
use vyr_base::{Category, Digest, Problem};
use vyr_journal::TaskId;
use vyr_node::node::INLINE_BYTES_MAX;
use vyr_node::{FileError, Report, Result};

use super::submit::Source;
use super::{Body, ends, id};
use crate::cli::SubmitArgs;
use crate::cmd::link::{Link, category, refused};
use crate::output;

/// Submissions between this side and their answers.
const WINDOW: usize = 512;

/// Tasks whose end is awaited.
const OPEN_MAX: usize = 4096;

/// Lines that were read ahead.
const AHEAD: usize = 256;

/// A line has at most this many bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Ids that come within this time are watched together.
const TOGETHER: Duration = Duration::from_millis(20);

/// When the node did not say when to come back.
const AGAIN: Duration = Duration::from_millis(100);

/// An overloaded node that accepts nothing for this long is not asked again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What ends all of it.
#[derive(Debug, thiserror::Error)]
enum EachLineError {
    #[error("line {line} has more than {LINE_BYTES_MAX} bytes")]
    TooLong { line: u64 },
    #[error("the node ended the stream after {answered} answers")]
    Ended { answered: u64 },
}

impl Problem for EachLineError {
    fn category(&self) -> Category {
        match self {
            Self::TooLong { .. } => Category::Usage,
            Self::Ended { .. } => Category::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooLong { .. } => "submit it by itself: vyr task submit --input FILE".into(),
            Self::Ended { .. } => "with the same --key it may be run again as it is".into(),
        })
    }
}

/// A line that is to be submitted, or was and waits for its answer.
struct Line {
    number: u64,
    input: Bytes,
    digest: String,
}

#[derive(Serialize)]
struct Done {
    line: u64,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize)]
struct Failed {
    line: u64,
    error: output::ErrorFields,
}

/// Prints results in the order of their lines, and counts them.
struct Results {
    json: bool,
    wait: bool,
    next: u64,
    waiting: BTreeMap<u64, std::result::Result<Body, ApiError>>,
    failed: u64,
    bar: Option<ProgressBar>,
}

impl Results {
    fn add(&mut self, line: u64, result: std::result::Result<Body, ApiError>) -> Result<()> {
        self.waiting.insert(line, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            let line = self.next;
            self.next += 1;
            let printed = match &self.bar {
                Some(bar) => bar.suspend(|| print(line, result, self.json, self.wait)),
                None => print(line, result, self.json, self.wait),
            };
            self.failed += u64::from(!printed?);
            if let Some(bar) = &self.bar {
                bar.set_message(format!("{line} lines, {} failed", self.failed));
            }
        }
        Ok(())
    }
}

/// Returns whether it is a success.
fn print(
    line: u64,
    result: std::result::Result<Body, ApiError>,
    json: bool,
    wait: bool,
) -> Result<bool> {
    match result {
        Ok(body) => {
            let good = !wait || body.completed();
            if json {
                output::json_line(Done { line, body })?;
            } else if body.ended() {
                output::print(format!("{} {}", body.task_id, body.verdict()));
            } else {
                output::print(&body.task_id);
            }
            Ok(good)
        }
        Err(error) => {
            let report = Report::from(refused(error));
            if json {
                output::json_line(Failed { line, error: output::ErrorFields::of(&report) })?;
            } else {
                let hint = report.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                output::say(format!("line {line}: {report}{hint}"));
            }
            Ok(false)
        }
    }
}

pub(super) fn run(
    link: &Link,
    request: SubmitTaskRequest,
    lines: Source,
    args: &SubmitArgs,
    json: bool,
) -> Result<ExitCode> {
    // A node of this process runs them before this returns.
    let wait = args.wait || link.is_here();
    let bar = bar(lines.size);
    let (sender, receiver) = mpsc::channel(AHEAD);
    let counted = bar.clone();
    std::thread::spawn(move || {
        let (reader, path) = lines.into_parts();
        let read = read_lines(reader, &path, |number, line| {
            if let Some(bar) = &counted {
                bar.inc(line.len() as u64);
            }
            sender.blocking_send(Ok((number, line))).is_ok()
        });
        if let Err(report) = read {
            let _ = sender.blocking_send(Err(report));
        }
    });
    let results = Results { json, wait, next: 1, waiting: BTreeMap::new(), failed: 0, bar };
    let failed = link.with(async |client: Client| {
        let (messages, to_node) = mpsc::channel(WINDOW);
        let answers = client.clone().control.submit_task(ReceiverStream::new(to_node)).await;
        let (ids, ended) = watch(client.clone());
        let stream = Stream {
            client,
            request,
            results,
            messages,
            answers: answers.map_err(refused)?.into_inner(),
            pending: VecDeque::new(),
            again: VecDeque::new(),
            not_before: Instant::now(),
            accepted_at: Instant::now(),
            ids,
            open: BTreeMap::new(),
            answered: 0,
        };
        stream.run(receiver, ended).await
    })?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// One stream of submissions.
struct Stream {
    client: Client,
    request: SubmitTaskRequest,
    results: Results,
    messages: mpsc::Sender<SubmitTaskRequest>,
    answers: Streaming<SubmitTaskResponse>,
    /// Submitted, in the order in which their answers come.
    pending: VecDeque<Line>,
    /// Refused for now.
    again: VecDeque<Line>,
    not_before: Instant,
    accepted_at: Instant,
    ids: mpsc::UnboundedSender<TaskId>,
    /// Lines of tasks whose end is awaited. A repeated idempotency key may name one task twice.
    open: BTreeMap<String, Vec<u64>>,
    answered: u64,
}

impl Stream {
    /// Returns how many failed.
    async fn run(
        mut self,
        mut lines: mpsc::Receiver<Result<(u64, Bytes)>>,
        mut ended: mpsc::UnboundedReceiver<Result<Body>>,
    ) -> Result<u64> {
        let mut more = true;
        loop {
            let room = self.pending.len() < WINDOW && self.open.len() < OPEN_MAX;
            let done = !more && self.pending.is_empty() && self.again.is_empty();
            if done && self.open.is_empty() {
                break;
            }
            tokio::select! {
                answer = self.answers.message(), if !self.pending.is_empty() => {
                    self.answer(answer.map_err(refused)?)?;
                }
                body = ended.recv(), if !self.open.is_empty() => {
                    self.ended(body.ok_or(EachLineError::Ended { answered: self.answered })??)?;
                }
                () = tokio::time::sleep_until(self.not_before), if room && !self.again.is_empty() => {
                    if let Some(line) = self.again.pop_front() {
                        self.submit(line).await?;
                    }
                }
                line = lines.recv(), if room && more && self.again.is_empty() => match line {
                    None => more = false,
                    Some(line) => {
                        let (number, input) = line?;
                        let digest = Digest::of(&input).to_string();
                        self.submit(Line { number, input, digest }).await?;
                    }
                },
            }
        }
        if let Some(bar) = &self.results.bar {
            bar.finish_and_clear();
        }
        Ok(self.results.failed)
    }

    async fn submit(&mut self, line: Line) -> Result<()> {
        let mut request = self.request.clone();
        if !request.idempotency_key.is_empty() {
            request.idempotency_key += &format!("-{}", line.number);
        }
        request.input_ref = Some(if line.input.len() <= INLINE_BYTES_MAX {
            InputRef::Inline(line.input.clone())
        } else {
            let chunks: Vec<Chunk> = (0..line.input.len())
                .step_by(CHUNK)
                .map(|at| line.input.slice(at..line.input.len().min(at + CHUNK)))
                .map(|data| Chunk { data })
                .collect();
            let stored = self.client.operator.put_blob(tokio_stream::iter(chunks)).await;
            InputRef::InputDigest(stored.map_err(refused)?.into_inner().digest)
        });
        self.pending.push_back(line);
        // The window is as long as the channel, so this never waits for the node.
        if self.messages.send(request).await.is_err() {
            return Err(EachLineError::Ended { answered: self.answered }.into());
        }
        Ok(())
    }

    fn answer(&mut self, answer: Option<SubmitTaskResponse>) -> Result<()> {
        let ended = EachLineError::Ended { answered: self.answered };
        let (Some(answer), Some(line)) = (answer, self.pending.pop_front()) else {
            return Err(ended.into());
        };
        self.answered += 1;
        match answer.result {
            Some(Answer::TaskId(task)) => {
                self.accepted_at = Instant::now();
                let body = Body::accepted(task, &self.request.artifact_digest, &line.digest);
                if !self.results.wait {
                    return self.results.add(line.number, Ok(body));
                }
                let lines = self.open.entry(body.task_id.clone()).or_default();
                lines.push(line.number);
                if lines.len() == 1 {
                    // The watcher lives as long as this.
                    let _ = self.ids.send(id(&body.task_id)?);
                }
                Ok(())
            }
            Some(Answer::Error(error)) => {
                let error = ApiError::from(error);
                let patient = self.accepted_at.elapsed() < PATIENCE;
                if patient && error.retryable && category(&error) == Category::Transient {
                    self.not_before = Instant::now() + error.retry_after.unwrap_or(AGAIN);
                    self.again.push_back(line);
                    return Ok(());
                }
                self.results.add(line.number, Err(error))
            }
            None => Err(ended.into()),
        }
    }

    fn ended(&mut self, body: Body) -> Result<()> {
        for line in self.open.remove(&body.task_id).unwrap_or_default() {
            self.results.add(line, Ok(body.clone()))?;
        }
        Ok(())
    }
}

/// Bytes in one message of a blob.
const CHUNK: usize = 256 << 10;

/// A task that watches ids, those that come together in one call.
fn watch(client: Client) -> (mpsc::UnboundedSender<TaskId>, mpsc::UnboundedReceiver<Result<Body>>) {
    // Both are bounded by `OPEN_MAX`: an id is sent when a task is open.
    let (ids, mut wanted) = mpsc::unbounded_channel();
    let (sender, ended) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(first) = wanted.recv().await {
            let mut together = vec![first];
            let until = Instant::now() + TOGETHER;
            while together.len() < WINDOW
                && let Ok(Some(next)) = tokio::time::timeout_at(until, wanted.recv()).await
            {
                together.push(next);
            }
            let (client, sender) = (client.clone(), sender.clone());
            tokio::spawn(async move {
                let told = ends(client, &together, |body| {
                    // Nobody waits any more when everything is over.
                    let _ = sender.send(Ok(body));
                    Ok(())
                });
                if let Err(report) = told.await {
                    let _ = sender.send(Err(report));
                }
            });
        }
    });
    (ids, ended)
}

/// Gives each line, its line feed included, until `take` has enough.
fn read_lines(
    reader: Box<dyn Read + Send>,
    path: &Path,
    mut take: impl FnMut(u64, Bytes) -> bool,
) -> Result<()> {
    let mut reader = BufReader::with_capacity(128 << 10, reader);
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
        let read = read.map_err(FileError::on("read", path))?;
        if read as u64 > LINE_BYTES_MAX {
            return Err(EachLineError::TooLong { line: number }.into());
        }
        if read == 0 || !take(number, line.into()) {
            break;
        }
    }
    Ok(())
}

/// Shows how far it is, on a terminal.
fn bar(size: Option<u64>) -> Option<ProgressBar> {
    if !rustix::termios::isatty(io::stderr().as_fd()) {
        return None;
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{msg} {bar:40} {bytes}/{total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    let style = ProgressStyle::with_template(template);
    Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
}
