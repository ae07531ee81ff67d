//! What a node is measured against: a server of the same interface that writes the same rows to
//! the same disk in as many commits, and runs nothing.
//!
//! A current-thread runtime serves, one thread commits; a turn takes all submissions there are, as
//! a node's does. Each is answered after the first commit it is in, and its terminal span is sent
//! after the second, one turn later. No guest, no second process, no ledger, no hash.
//!
//! It ends when its stdin does.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use vyr_api::control::control_server::{Control, ControlServer};
use vyr_api::control::submit_task_response::Result as Answer;
use vyr_api::control::{
    BindStateRequest, BindStateResponse, CancelTaskRequest, CancelTaskResponse, CreateStateRequest,
    CreateStateResponse, Metrics, PutArtifactRequest, PutArtifactResponse, Span,
    StreamMetricsRequest, StreamTracesRequest, SubmitTaskRequest, SubmitTaskResponse,
};
use vyr_bench::node::rows::{Rows, Task};

/// As in a node: submissions of one stream between its reader and its answers, spans that wait for
/// one client, commands of one turn.
const WINDOW: usize = 1024;
const BEHIND_MAX: usize = 1 << 13;
const TURN_MAX: usize = 4096;

#[derive(Debug, Parser)]
struct Options {
    /// The socket to listen on
    #[arg(long)]
    socket: PathBuf,
    /// The journal to make
    #[arg(long)]
    journal: PathBuf,
    /// The directory with the parts of a task
    #[arg(long)]
    task: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let task = Task::load(&options.task)?;
    let rows = Rows::create(&options.journal)?;
    let inbox = Arc::new(Inbox::default());
    let template = Arc::new(task.span.clone());
    let of_journal = Arc::clone(&inbox);
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        if let Err(error) = journal(rows, task, &of_journal) {
            eprintln!("reference_node: {error:#}");
            std::process::exit(1);
        }
    })?;
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(&options.socket)
            .with_context(|| format!("cannot listen on {}", options.socket.display()))?;
        io::stdout().write_all(b"ready\n")?;
        io::stdout().flush()?;
        let service = ControlServer::new(Reference { inbox, template });
        Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await?;
        Ok(())
    })
}

enum Command {
    Submit(oneshot::Sender<u64>),
    Subscribe(mpsc::Sender<u64>, oneshot::Sender<()>),
}

#[derive(Default)]
struct Inbox {
    commands: Mutex<VecDeque<Command>>,
    filled: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, command: Command) {
        let mut commands = self.lock();
        commands.push_back(command);
        let first = commands.len() == 1;
        drop(commands);
        if first {
            self.filled.notify_one();
        }
    }

    fn take(&self, wait: bool, into: &mut Vec<Command>) {
        let mut commands = self.lock();
        while wait && commands.is_empty() {
            commands = self.filled.wait(commands).unwrap_or_else(PoisonError::into_inner);
        }
        let some = commands.len().min(TURN_MAX);
        into.extend(commands.drain(..some));
    }
}

/// The thread that commits.
fn journal(mut rows: Rows, mut task: Task, inbox: &Inbox) -> Result<()> {
    let mut subscribers: Vec<mpsc::Sender<u64>> = Vec::new();
    let (mut commands, mut answers) = (Vec::new(), Vec::new());
    let (mut alive, mut ended): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    loop {
        inbox.take(alive.is_empty(), &mut commands);
        rows.begin()?;
        std::mem::swap(&mut alive, &mut ended);
        for accepted in &ended {
            rows.end(&mut task, *accepted)?;
        }
        for command in commands.drain(..) {
            match command {
                Command::Submit(reply) => {
                    let accepted = rows.accept(&mut task)?;
                    alive.push(accepted);
                    answers.push((reply, accepted));
                }
                Command::Subscribe(sender, reply) => {
                    subscribers.push(sender);
                    let _ = reply.send(());
                }
            }
        }
        rows.commit()?;
        for (reply, accepted) in answers.drain(..) {
            let _ = reply.send(accepted);
        }
        for accepted in ended.drain(..) {
            // A client that is too slow misses spans, and its count shows it.
            subscribers.retain(|sender| {
                !matches!(sender.try_send(accepted), Err(mpsc::error::TrySendError::Closed(_)))
            });
        }
    }
}

struct Reference {
    inbox: Arc<Inbox>,
    template: Arc<Span>,
}

fn task_id(accepted: u64) -> String {
    format!("t-5a5a5a5a-{accepted}")
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the reference runs nothing"))
}

#[tonic::async_trait]
impl Control for Reference {
    type SubmitTaskStream = Streamed<SubmitTaskResponse>;

    async fn submit_task(
        &self,
        request: Request<Streaming<SubmitTaskRequest>>,
    ) -> Result<Response<Self::SubmitTaskStream>, Status> {
        let mut messages = request.into_inner();
        let inbox = Arc::clone(&self.inbox);
        let (sender, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(async move {
            while let Ok(permit) = sender.reserve().await {
                let Ok(Some(_)) = messages.message().await else { break };
                let (reply, answer) = oneshot::channel();
                inbox.push(Command::Submit(reply));
                permit.send(answer);
            }
        });
        let answers = ReceiverStream::new(receiver).then(async |answer: oneshot::Receiver<u64>| {
            let accepted = answer.await.map_err(|_| Status::unavailable("it ends"))?;
            Ok(SubmitTaskResponse { result: Some(Answer::TaskId(task_id(accepted))) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type StreamTracesStream = Streamed<Span>;

    async fn stream_traces(
        &self,
        _: Request<StreamTracesRequest>,
    ) -> Result<Response<Self::StreamTracesStream>, Status> {
        let (sender, receiver) = mpsc::channel(BEHIND_MAX);
        let (reply, subscribed) = oneshot::channel();
        self.inbox.push(Command::Subscribe(sender, reply));
        subscribed.await.map_err(|_| Status::unavailable("it ends"))?;
        let template = Arc::clone(&self.template);
        let spans = ReceiverStream::new(receiver)
            .map(move |accepted| Ok(Span { task_id: task_id(accepted), ..(*template).clone() }));
        Ok(Response::new(Box::pin(spans)))
    }

    async fn put_artifact(
        &self,
        _: Request<Streaming<PutArtifactRequest>>,
    ) -> Result<Response<PutArtifactResponse>, Status> {
        not_here()
    }

    async fn cancel_task(
        &self,
        _: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        not_here()
    }

    async fn create_state(
        &self,
        _: Request<CreateStateRequest>,
    ) -> Result<Response<CreateStateResponse>, Status> {
        not_here()
    }

    async fn bind_state(
        &self,
        _: Request<BindStateRequest>,
    ) -> Result<Response<BindStateResponse>, Status> {
        not_here()
    }

    type StreamMetricsStream = Streamed<Metrics>;

    async fn stream_metrics(
        &self,
        _: Request<StreamMetricsRequest>,
    ) -> Result<Response<Self::StreamMetricsStream>, Status> {
        not_here()
    }
}
