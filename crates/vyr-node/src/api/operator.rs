//! `vyr.operator.v0`: what the owner of a node does with it.

use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vyr_api::operator::operator_server::Operator;
use vyr_api::operator::{
    Checkpoint, Chunk, DeployPart, DeployStep, Event, ExecInput, ExecOutput,
    GetChangeReceiptRequest, GetCheckpointRequest, GetDeployReceiptRequest, GetGuidanceRequest,
    GetServicesRequest, GetTaskRequest, Guidance, ListEventsRequest, ListStatesRequest,
    ListTasksRequest, LogLine, Process, PutBlobResponse, ReadBlobRequest, ReadLogRequest, Receipt,
    SetSlotRequest, SetSlotResponse, State, StatusRequest, StatusResponse, Task, exec_input,
    exec_output,
};
use vyr_base::Digest;
use vyr_journal::{Body, TaskId};
use vyr_net::words::{FRAME_BYTES_MAX, parse};
use vyr_store::ReadError;

use super::access::{Access, Role};
use super::convert::{self, digest, id, status};
use super::put::{self, Puts};
use super::services;
use crate::network::record_changes;
use crate::node::{Caller, Node, NodeError};
use crate::otlp::Health;
use crate::process::net::NetDoor;
use crate::services::{Services, ServicesError};

/// How long `status` waits to hear of the guidance.
const GUIDANCE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Bytes of a blob in one message.
const CHUNK: usize = 256 << 10;

/// Messages on their way to one client.
const WAITING: usize = 8;

/// Events in one read of the journal.
const ROWS: u64 = 512;

/// Tasks listed when the caller does not say how many.
const TASKS: u32 = 100;

/// What the service says of itself besides the node's own words.
pub(super) struct OperatorService {
    pub(super) node: Arc<Node>,
    pub(super) access: Arc<Access>,
    /// Names and process ids.
    pub(super) processes: Arc<dyn Fn() -> Vec<(String, u32, u32)> + Send + Sync>,
    /// How the export of telemetry does.
    pub(super) telemetry: Option<Health>,
    /// Limits and budgets in force.
    pub(super) settings: Vec<(String, String)>,
    pub(super) puts: Puts,
    /// The process that changes the network, if this node has one.
    pub(super) network: Option<Arc<NetDoor>>,
    /// Its services, if this node can have some.
    pub(super) services: Option<Arc<Services>>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stream<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>) -> Response<Streamed<T>> {
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

impl OperatorService {
    fn allow<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.access.allow(request.extensions(), Role::Operate)
    }

    fn services(&self) -> Result<Arc<Services>, Status> {
        let why = "it is a command's own";
        let none = || services::refused(ServicesError::Unavailable(why.into()));
        self.services.clone().ok_or_else(none)
    }

    /// The bytes of a small content or of a blob, as chunks.
    fn send_blob(
        &self,
        wanted: Digest,
        content: Option<Vec<u8>>,
    ) -> mpsc::Receiver<Result<Chunk, Status>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let store = self.node.store().clone();
        tokio::task::spawn_blocking(move || {
            if let Some(content) = content {
                for piece in content.chunks(CHUNK) {
                    let _ = sender.blocking_send(Ok(Chunk { data: piece.to_vec().into() }));
                }
                return;
            }
            let fail = |error: ReadError| {
                let _ = sender.blocking_send(Err(status(NodeError::Other(error.into()))));
            };
            let mut blob = match store.open_blob(&wanted) {
                Ok(blob) => blob,
                Err(error) => return fail(error),
            };
            let mut piece = vec![0; CHUNK];
            loop {
                match blob.read(&mut piece) {
                    Ok(0) => return,
                    Ok(read) => {
                        let chunk = Chunk { data: piece[..read].to_vec().into() };
                        if sender.blocking_send(Ok(chunk)).is_err() {
                            return;
                        }
                    }
                    Err(e) => {
                        let _ = sender.blocking_send(Err(Status::data_loss(e.to_string())));
                        return;
                    }
                }
            }
        });
        receiver
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.allow(&request)?;
        let node = &self.node;
        let snapshot = node.snapshot().await.map_err(status)?;
        let process = |(name, pid, restarts)| Process { name, pid, restarts };
        let telemetry = self.telemetry.as_ref().map_or_else(|| "off".to_owned(), Health::to_string);
        let telemetry = ("otlp".to_owned(), telemetry);
        // Its process may be too busy to answer, which is no reason for this call to wait.
        let guidance = match tokio::time::timeout(GUIDANCE_PATIENCE, node.guidance()).await {
            Ok(Ok(report)) => format!("{} ({})", report.tier, report.why),
            Ok(Err(_)) | Err(_) => "not known: the process that runs tasks does not answer".into(),
        };
        let guidance = ("guidance".to_owned(), guidance);
        Ok(Response::new(StatusResponse {
            version: node.info().version.clone(),
            origin: node.origin().to_string(),
            node_key: node.key_line().to_owned(),
            events: snapshot.events,
            tasks_queued: snapshot.queued as u64,
            tasks_running: snapshot.running as u64,
            states: snapshot.states.len() as u64,
            uptime_ms: u64::try_from(node.uptime().as_millis()).unwrap_or(u64::MAX),
            processes: (self.processes)().into_iter().map(process).collect(),
            settings: self.settings.iter().cloned().chain([telemetry, guidance]).collect(),
            data_dir: node.data().path().display().to_string(),
        }))
    }

    type ListTasksStream = Streamed<Task>;

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<Self::ListTasksStream>, Status> {
        let by = self.allow(&request)?;
        let ListTasksRequest { limit, before, alive } = request.into_inner();
        let limit = if limit == 0 { TASKS } else { limit };
        let before = if before == 0 { u64::MAX } else { before };
        let rows = self.node.read(move |reader| Ok(reader.tasks(before, limit.into(), alive)?));
        let rows = rows.await.map_err(status)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            for row in rows {
                let task = TaskId::new(node.origin(), row.accepted);
                let answer = async {
                    let view = node.task(task, by.clone()).await?;
                    let waiting = node.waiting(task).await?;
                    Ok(convert::task(task, &view, waiting))
                };
                if sender.send(answer.await.map_err(status)).await.is_err() {
                    return;
                }
            }
        });
        Ok(stream(receiver))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let by = self.allow(&request)?;
        let task: TaskId = id(&request.get_ref().task_id).map_err(status)?;
        let view = self.node.task(task, by).await.map_err(status)?;
        let waiting = self.node.waiting(task).await.map_err(status)?;
        Ok(Response::new(convert::task(task, &view, waiting)))
    }

    async fn get_receipt(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<Receipt>, Status> {
        let by = self.allow(&request)?;
        let task: TaskId = id(&request.get_ref().task_id).map_err(status)?;
        let receipt = self.node.receipt(task, by).await.map_err(status)?;
        Ok(Response::new(Receipt { file: receipt.to_bytes().into() }))
    }

    async fn get_log(&self, request: Request<GetTaskRequest>) -> Result<Response<Chunk>, Status> {
        let by = self.allow(&request)?;
        let task: TaskId = id(&request.get_ref().task_id).map_err(status)?;
        let view = self.node.task(task, by).await.map_err(status)?;
        let Some(ended) = view.ended else {
            let why = format!("task {task} has not ended; its log comes with its end");
            return Err(status(NodeError::Conflict(why)));
        };
        let log = self.node.read(move |reader| Ok(reader.log_at(ended.seq)?));
        let data = log.await.map_err(status)?.unwrap_or_default().into();
        Ok(Response::new(Chunk { data }))
    }

    type GetOutputStream = Streamed<Chunk>;

    async fn get_output(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<Self::GetOutputStream>, Status> {
        let by = self.allow(&request)?;
        let task: TaskId = id(&request.get_ref().task_id).map_err(status)?;
        let view = self.node.task(task, by).await.map_err(status)?;
        let Some((seq, Body::Ended(statement))) = view.ended.map(|event| (event.seq, event.body))
        else {
            let why = format!("task {task} has not ended");
            return Err(status(NodeError::Conflict(why)));
        };
        let output = statement.predicate.output;
        let content = match output.bytes {
            0 => Some(Vec::new()),
            _ => self.node.read(move |reader| Ok(reader.content_at(seq)?)).await.map_err(status)?,
        };
        if content.as_ref().is_some_and(|bytes| Digest::of(bytes) != output.digest) {
            return Err(Status::data_loss(format!("the output of {task} was changed on disk")));
        }
        Ok(stream(self.send_blob(output.digest, content)))
    }

    type ReadBlobStream = Streamed<Chunk>;

    async fn read_blob(
        &self,
        request: Request<ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        self.allow(&request)?;
        let wanted = digest(&request.get_ref().digest).map_err(status)?;
        let there = self.node.store().open_blob(&wanted).is_ok();
        let content = match there {
            true => None,
            false => {
                let found = self.node.read(move |reader| Ok(reader.find_content(&wanted)?));
                found.await.map_err(status)?
            }
        };
        Ok(stream(self.send_blob(wanted, content)))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        self.allow(&request)?;
        let mut chunks = request.into_inner();
        let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(WAITING);
        let store = self.node.store().clone();
        let place = self.puts.take().map_err(status)?;
        let work = tokio::task::spawn_blocking(move || {
            // Held until the thread is free.
            let _place = place;
            let mut staged = store.stage();
            let mut whole = false;
            while let Some(chunk) = receiver.blocking_recv() {
                // An empty piece marks the end: a stream that broke off is not an end.
                if chunk.is_empty() {
                    whole = true;
                    break;
                }
                staged
                    .write_all(&chunk)
                    .map_err(|e| NodeError::Unwritable { why: e.to_string(), hint: None })?;
            }
            if !whole {
                return Err(NodeError::Invalid("the stream broke off".into()));
            }
            staged.commit().map_err(|e| NodeError::Other(e.into()))
        });
        while let Some(chunk) = put::next(&mut chunks).await? {
            if !chunk.data.is_empty() && sender.send(chunk.data).await.is_err() {
                break;
            }
        }
        let _ = sender.send(bytes::Bytes::new()).await;
        let stored = work.await.map_err(|e| Status::internal(e.to_string()))?;
        let (digest, bytes) = stored.map_err(status)?;
        Ok(Response::new(PutBlobResponse { digest: digest.to_string(), bytes }))
    }

    type ListStatesStream = Streamed<State>;

    async fn list_states(
        &self,
        request: Request<ListStatesRequest>,
    ) -> Result<Response<Self::ListStatesStream>, Status> {
        self.allow(&request)?;
        let states = self.node.snapshot().await.map_err(status)?.states;
        let (sender, receiver) = mpsc::channel(states.len().max(1));
        for (id, state) in states {
            let _ = sender.try_send(Ok(State {
                state_id: id.to_string(),
                name: state.created.name,
                submitter: state.created.submitter,
                bytes_max: state.created.bytes_max,
                tasks: u32::try_from(state.tasks).unwrap_or(u32::MAX),
                created_unix_nano: 0,
            }));
        }
        Ok(stream(receiver))
    }

    type ListEventsStream = Streamed<Event>;

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<Self::ListEventsStream>, Status> {
        self.allow(&request)?;
        let ListEventsRequest { from, limit, follow } = request.into_inner();
        let node = Arc::clone(&self.node);
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut next = from;
            let mut left = if limit == 0 { u64::MAX } else { limit };
            while left > 0 {
                // Asked for before the look, so that no commit falls between the two.
                let changed = node.changed().notified();
                let most = ROWS.min(left);
                let rows = match node.read(move |reader| Ok(reader.rows(next, most)?)).await {
                    Ok(rows) => rows,
                    Err(refused) => {
                        let _ = sender.send(Err(status(refused))).await;
                        return;
                    }
                };
                if rows.is_empty() {
                    if !follow {
                        return;
                    }
                    tokio::select! {
                        () = changed => {}
                        () = sender.closed() => return,
                    }
                }
                for row in rows {
                    next = row.seq + 1;
                    left -= 1;
                    let event = Event {
                        seq: row.seq,
                        leaf: row.leaf.unwrap_or_default().into(),
                        hash: row.hash.as_bytes().to_vec().into(),
                    };
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(stream(receiver))
    }

    async fn get_guidance(
        &self,
        request: Request<GetGuidanceRequest>,
    ) -> Result<Response<Guidance>, Status> {
        self.allow(&request)?;
        let report = self.node.guidance().await.map_err(status)?;
        Ok(Response::new(convert::guidance(report)))
    }

    type AskNetworkStream = Streamed<Chunk>;

    async fn ask_network(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::AskNetworkStream>, Status> {
        self.allow(&request)?;
        let Some(door) = self.network.clone() else {
            let why = "this node is a command's own and has no process for the network";
            return Err(status(NodeError::NoNet(why.into())));
        };
        let mut chunks = request.into_inner();
        let mut asked = Vec::new();
        while let Some(chunk) = put::next(&mut chunks).await? {
            if asked.len() + chunk.data.len() > FRAME_BYTES_MAX {
                let why = format!("a question has at most {FRAME_BYTES_MAX} bytes");
                return Err(status(NodeError::Invalid(why)));
            }
            asked.extend_from_slice(&chunk.data);
        }
        let node = Arc::clone(&self.node);
        let work = tokio::task::spawn_blocking(move || {
            let invalid = |e: String| NodeError::Invalid(e);
            let asked = parse(&asked).map_err(|e| invalid(e.to_string()))?;
            let answer = door.ask(&asked);
            // Whoever is told of an end finds it in the journal; what cannot be written now, the
            // thread that watches tries again.
            if record_changes(node.data()).is_ok_and(|recorded| recorded.events > 0) {
                node.look();
            }
            serde_json::to_vec(&answer?).map_err(|e| invalid(e.to_string()))
        });
        let answer = work.await.map_err(|e| Status::internal(e.to_string()))?.map_err(status)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            for piece in answer.chunks(CHUNK) {
                if sender.send(Ok(Chunk { data: piece.to_vec().into() })).await.is_err() {
                    return;
                }
            }
        });
        Ok(stream(receiver))
    }

    async fn get_change_receipt(
        &self,
        request: Request<GetChangeReceiptRequest>,
    ) -> Result<Response<Receipt>, Status> {
        self.allow(&request)?;
        let change = Some(request.into_inner().change).filter(|change| !change.is_empty());
        let receipt = self.node.change_receipt(change).await.map_err(status)?;
        Ok(Response::new(Receipt { file: receipt.to_bytes().into() }))
    }

    type DeployStream = Streamed<DeployStep>;

    async fn deploy(
        &self,
        request: Request<Streaming<DeployPart>>,
    ) -> Result<Response<Self::DeployStream>, Status> {
        let by = self.allow(&request)?;
        let of_node = self.services()?;
        let deploy = services::read_deploy(request.into_inner(), by.name).await?;
        let engine = Arc::clone(&of_node);
        let taken = tokio::task::spawn_blocking(move || engine.deploy(deploy));
        let taken = taken.await.map_err(|e| Status::internal(e.to_string()))?;
        let taken = taken.map_err(services::refused)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(services::follow(of_node, taken, sender));
        Ok(stream(receiver))
    }

    async fn get_deploy_receipt(
        &self,
        request: Request<GetDeployReceiptRequest>,
    ) -> Result<Response<Receipt>, Status> {
        self.allow(&request)?;
        let deploy = Some(request.into_inner().deploy).filter(|deploy| !deploy.is_empty());
        let receipt = self.node.deploy_receipt(deploy).await.map_err(status)?;
        Ok(Response::new(Receipt { file: receipt.to_bytes().into() }))
    }

    async fn get_services(
        &self,
        request: Request<GetServicesRequest>,
    ) -> Result<Response<vyr_api::operator::Services>, Status> {
        self.allow(&request)?;
        Ok(Response::new(services::services(&self.services()?.view())))
    }

    type ReadLogStream = Streamed<LogLine>;

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        self.allow(&request)?;
        let ReadLogRequest { target, from, follow } = request.into_inner();
        let of_node = self.services()?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let id = of_node.find(&target, false).map_err(services::refused)?;
        let opened = tokio::task::spawn_blocking(move || of_node.logs(id, from, follow)).await;
        let socket = opened.map_err(|e| Status::internal(e.to_string()))?;
        let socket = socket.map_err(services::refused)?;
        tokio::task::spawn_blocking(move || services::pass_log(socket, &id.to_string(), &sender));
        Ok(stream(receiver))
    }

    type ExecStream = Streamed<ExecOutput>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let by = self.allow(&request)?;
        let of_node = self.services()?;
        let mut input = request.into_inner();
        let first = put::next(&mut input).await?.and_then(|first| first.input);
        let Some(exec_input::Input::Start(start)) = first else {
            return Err(status(NodeError::Invalid("a session begins with what it runs".into())));
        };
        let (target, asked, terminal) = services::asked(start)?;
        let id = of_node.find(&target, true).map_err(services::refused)?;
        let open = move || of_node.exec(id, asked, terminal, &by.name);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.map_err(|e| Status::internal(e.to_string()))?;
        let (socket, session) = opened.map_err(services::refused)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let named = exec_output::Output::Instance(id.to_string());
        let _ = sender.try_send(Ok(ExecOutput { output: Some(named) }));
        services::pass_session(socket, session, input, sender)
            .map_err(|e| Status::internal(e.to_string()))?;
        Ok(stream(receiver))
    }

    async fn set_slot(
        &self,
        request: Request<SetSlotRequest>,
    ) -> Result<Response<SetSlotResponse>, Status> {
        let by = self.allow(&request)?;
        let SetSlotRequest { slot, wish } = request.into_inner();
        let halt = match wish.as_str() {
            "halt" => true,
            "resume" => false,
            _ => return Err(status(NodeError::Invalid("a wish is halt or resume".into()))),
        };
        let of_node = self.services()?;
        let set = move || of_node.set_slot(&slot, halt, by.name);
        let set = tokio::task::spawn_blocking(set).await;
        set.map_err(|e| Status::internal(e.to_string()))?.map_err(services::refused)?;
        Ok(Response::new(SetSlotResponse {}))
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<Checkpoint>, Status> {
        self.allow(&request)?;
        let signed = self.node.checkpoint().await.map_err(status)?;
        Ok(Response::new(Checkpoint {
            text: signed.checkpoint().to_string(),
            signature: signed.signature().to_owned(),
        }))
    }
}
