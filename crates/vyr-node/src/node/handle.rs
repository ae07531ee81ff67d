//! What callers hold of a node.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use vyr_base::Digest;
use vyr_journal::{
    Body, CHECKPOINT_BYTES_MAX, Event, Limits, NodeCreated, NodeInfo, Origin, Receipt,
    SignedCheckpoint, State, StateAccess, StateId, TaskId, inclusion_proof,
};
use vyr_journal_sql::{Journal, Reader, TaskRow};
use vyr_store::{ReadError, Store};
use vyr_task::{CodeCache, Compiler, compatibility};

use super::admission::Budget;
use super::artifacts::{Artifacts, Known};
use super::core::{Command, Core, NodeConfig, Work};
use super::error::NodeError;
use super::executor::Host;
use super::inbox::Inbox;
use super::metrics::Metrics;
use super::program::Preparers;
use super::span::{Delivered, SpanFilter};
use crate::data_dir::DataDir;
use crate::guidance::GuidanceReport;
use crate::keys;
use crate::report::FileError;

/// Submissions between a caller and the core; more wait for their turn at the door.
const AT_THE_DOOR_MAX: usize = 1 << 16;

/// Reading connections that are kept open.
const READERS_MAX: usize = 8;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `uid:1000`, or `cert:NAME`.
    pub name: String,
    /// Whether everybody's tasks are theirs to see and end.
    pub operator: bool,
}

/// A task's input.
#[derive(Debug, Clone)]
pub enum SubmittedInput {
    /// These bytes, at most 64 KiB.
    Inline(Bytes),
    /// Bytes of the store, or (`inline`) of the journal.
    Stored {
        /// Their digest.
        digest: Digest,
        /// How many.
        bytes: u64,
        /// Where they are.
        inline: bool,
    },
}

/// A submission, checked as far as can be without the ledger.
#[derive(Debug)]
pub struct Submission {
    pub(super) known: Arc<Known>,
    /// Who submits.
    pub by: Caller,
    /// The idempotency key.
    pub key: String,
    /// What it reads.
    pub input: SubmittedInput,
    /// The limits that apply.
    pub limits: Limits,
    /// Higher runs first.
    pub priority: i32,
    /// Fixed clock and seed.
    pub deterministic: bool,
    /// States bound from the start.
    pub states: Vec<(StateId, StateAccess)>,
    /// The caller's trace context.
    pub traceparent: String,
}

/// Why a task does not run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A state it declares is not bound.
    Binding,
    /// Its code is being loaded or compiled.
    Program,
    /// There is no room for it.
    Room,
}

impl Waiting {
    /// As the interface says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Binding => "awaiting_binding",
            Self::Program => "preparing",
            Self::Room => "queued",
        }
    }
}

/// A node at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Events in the journal.
    pub events: u64,
    /// Tasks that wait.
    pub queued: usize,
    /// Tasks that run.
    pub running: usize,
    /// States that are alive.
    pub states: Vec<(StateId, State)>,
    /// What running tasks may have together.
    pub used: Budget,
}

/// A task as the journal has it.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// Its acceptance.
    pub accepted: Event,
    /// Its start.
    pub started: Option<Event>,
    /// Its end.
    pub ended: Option<Event>,
}

/// A running node. Dropping the last handle stops it at once; `stop` lets tasks end.
#[derive(Debug)]
pub struct Node {
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
    artifacts: Arc<Artifacts>,
    data: DataDir,
    store: Store,
    journal: PathBuf,
    origin: Origin,
    info: NodeInfo,
    config: NodeConfig,
    door: Semaphore,
    readers: Mutex<Vec<Reader>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    key_line: String,
    began: Instant,
    _owner: OwnerLock,
}

/// The lock that says that a node lives.
#[derive(Debug)]
struct OwnerLock {
    path: PathBuf,
    _file: File,
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The text of the last checkpoint of the journal that a rebuilt node's follows.
fn predecessor(directory: &Path) -> Result<Option<String>, NodeError> {
    let path = directory.join("predecessor.json");
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(file) => file.take(CHECKPOINT_BYTES_MAX as u64).read_to_end(&mut bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => Err(e),
    }
    .map_err(|e| crate::Report::from(FileError::on("read", &path)(e)))?;
    let signed = SignedCheckpoint::parse(&bytes)
        .map_err(|e| NodeError::Invalid(format!("{} is no checkpoint: {e}", path.display())))?;
    Ok(Some(signed.checkpoint().to_string()))
}

impl Node {
    /// Opens the journal of `data`, says what a dead node left behind, and starts the core.
    pub fn start(
        data: &DataDir,
        config: NodeConfig,
        host: Box<dyn Host>,
        compiler: Arc<dyn Compiler + Send + Sync>,
    ) -> Result<Self, NodeError> {
        let (journal, key) = open_journal(data)?;
        let key_line = keys::node_line(key.public_key())?;
        let owners = data.directory("node/owners").map_err(crate::Report::from)?;
        let lock = take_owner_lock(&owners)?;
        let owner = name_of(&lock.path);
        let path = data.journal();
        let mut ledger = journal.ledger()?;
        if config.adopt {
            journal.restore_keys(&mut ledger)?;
        }
        let store = data.store().map_err(crate::Report::from)?;
        let info = NodeInfo {
            engine: "wasmtime 48".into(),
            guidance: "off".into(),
            origin: journal.origin(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let inbox = Inbox::new().map_err(|e| NodeError::Invalid(format!("no eventfd: {e}")))?;
        let inbox = Arc::new(inbox);
        let metrics = Arc::new(Metrics::default());
        let changed = Arc::new(Notify::new());
        let artifacts = Arc::new(Artifacts::new(data.clone(), store.clone()));
        let compatible = compatibility().map_err(|e| NodeError::Invalid(e.to_string()))?;
        let (cached, secret) = (data.code_cache(), data.cache_secret());
        let cache = CodeCache::open(
            &cached.map_err(crate::Report::from)?,
            &secret.map_err(crate::Report::from)?,
            compatible,
        )
        .map_err(crate::Report::from)?;
        let preparers = Preparers::start(&store, cache, compiler, &inbox)
            .map_err(|e| NodeError::Invalid(format!("cannot start a thread: {e}")))?;
        let of_core = Arc::clone(&artifacts);
        let mut core = Core {
            work: Work::new(config.budget),
            config: config.clone(),
            inbox: Arc::clone(&inbox),
            metrics: Arc::clone(&metrics),
            changed: Arc::clone(&changed),
            origin: journal.origin(),
            journal,
            ledger,
            store: store.clone(),
            info: info.clone(),
            owner,
            key,
            host,
            preparers,
            known: Box::new(move |digest| of_core.check(digest).map_err(|e| e.to_string())),
            alive: Box::new(move |owner| is_alive(&owners, owner)),
        };
        core.recover()?;
        let origin = core.origin;
        let thread = std::thread::Builder::new()
            .name("vyr-core".into())
            .spawn(move || core.run())
            .map_err(|e| NodeError::Invalid(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            inbox,
            metrics,
            changed,
            artifacts,
            data: data.clone(),
            store,
            journal: path,
            origin,
            info,
            config,
            door: Semaphore::new(AT_THE_DOOR_MAX),
            readers: Mutex::default(),
            thread: Mutex::new(Some(thread)),
            key_line,
            began: Instant::now(),
            _owner: lock,
        })
    }

    /// The journal's name.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Where and with what tasks run.
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// How it is set up.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Its data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Told after each commit.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Its public key, as a line of an `allowed_signers` file.
    pub fn key_line(&self) -> &str {
        &self.key_line
    }

    /// How long it has been there.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// An artifact that may run, checked now unless it was before.
    pub async fn artifact(&self, digest: Digest) -> Result<Admitted, NodeError> {
        if let Some(known) = self.artifacts.known(&digest) {
            return Ok(Admitted(known));
        }
        let (artifacts, store) = (Arc::clone(&self.artifacts), self.store.clone());
        blocking(move || match artifacts.check(&digest) {
            Ok(known) => Ok(Admitted(known)),
            Err(_) if is_container(&store, &digest) => {
                Err(NodeError::Unsupported { digest: digest.to_string() })
            }
            Err(report) => Err(report.into()),
        })
        .await
    }

    /// Finds bytes to be read by a task: in the store, or among the journal's small contents.
    pub async fn input(&self, digest: Digest) -> Result<SubmittedInput, NodeError> {
        let store = self.store.clone();
        let stored = blocking(move || match store.open_blob(&digest) {
            Ok(blob) => Ok(Some(blob.len())),
            Err(ReadError::Missing { .. }) => Ok(None),
            Err(e) => Err(NodeError::Other(e.into())),
        })
        .await?;
        if let Some(bytes) = stored {
            return Ok(SubmittedInput::Stored { digest, bytes, inline: false });
        }
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Command::Content(digest, sender));
        let recent = receiver.await.map_err(|_| NodeError::Stopping)?;
        let found = self
            .read(move |reader| match recent {
                Some(seq) => Ok(reader.content_at(seq)?),
                None => Ok(reader.find_content(&digest)?),
            })
            .await?;
        match found {
            Some(content) if Digest::of(&content) == digest => {
                Ok(SubmittedInput::Stored { digest, bytes: content.len() as u64, inline: true })
            }
            _ => Err(NodeError::NotFound(format!("input {digest} is not here"))),
        }
    }

    /// Submits a task; answers once its acceptance is durable.
    pub async fn submit(&self, submission: Submission) -> Result<TaskId, NodeError> {
        let _at_the_door = self.door.acquire().await.map_err(|_| NodeError::Stopping)?;
        self.ask(|reply| Command::Submit(Box::new(submission), reply)).await
    }

    /// Submits a task; the receiver gets the answer once its acceptance is durable. For a stream
    /// of submissions, whose own window bounds how many there are.
    pub fn submit_later(
        &self,
        submission: Submission,
    ) -> oneshot::Receiver<Result<TaskId, NodeError>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Command::Submit(Box::new(submission), reply));
        answer
    }

    /// Cancels a task; a running one ends within 100 ms.
    pub async fn cancel(&self, task: TaskId, by: Caller) -> Result<(), NodeError> {
        self.ask(|reply| Command::Cancel(task, by, reply)).await
    }

    /// Makes a state.
    pub async fn create_state(
        &self,
        name: String,
        bytes_max: u64,
        by: Caller,
    ) -> Result<StateId, NodeError> {
        self.ask(|reply| Command::CreateState { name, bytes_max, by, reply }).await
    }

    /// Binds a state to a task that has not begun.
    pub async fn bind_state(
        &self,
        task: TaskId,
        state: StateId,
        access: StateAccess,
        by: Caller,
    ) -> Result<(), NodeError> {
        self.ask(|reply| Command::BindState { task, state, access, by, reply }).await
    }

    /// Everything that happens from now on, as far as `filter` lets it through.
    pub async fn subscribe(
        &self,
        filter: SpanFilter,
    ) -> Result<mpsc::Receiver<Delivered>, NodeError> {
        self.watch(filter).await.map(|(receiver, _)| receiver)
    }

    /// The same, and the first event that is not shown as a span of the past: everything before
    /// it can be replayed from the journal.
    pub async fn watch(
        &self,
        filter: SpanFilter,
    ) -> Result<(mpsc::Receiver<Delivered>, u64), NodeError> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Command::Subscribe(filter, sender));
        receiver.await.map_err(|_| NodeError::Stopping)
    }

    /// A signed checkpoint over all that is durable.
    pub async fn checkpoint(&self) -> Result<SignedCheckpoint, NodeError> {
        self.ask(Command::Checkpoint).await
    }

    /// The node at this moment.
    pub async fn snapshot(&self) -> Result<Snapshot, NodeError> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Command::Snapshot(sender));
        receiver.await.map_err(|_| NodeError::Stopping)
    }

    /// Lets it see what another process has appended to its journal.
    pub(crate) fn look(&self) {
        let (sender, _) = oneshot::channel();
        self.inbox.push(Command::Snapshot(sender));
    }

    /// Why a task does not run yet; `None` if it does or has ended.
    pub async fn waiting(&self, task: TaskId) -> Result<Option<Waiting>, NodeError> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Command::Waiting(task.seq(), sender));
        receiver.await.map_err(|_| NodeError::Stopping)
    }

    /// What the guidance of the threads that run guests has done.
    pub async fn guidance(&self) -> Result<GuidanceReport, NodeError> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Command::Guidance(sender));
        // Its process may die over the question.
        Ok(receiver
            .await
            .unwrap_or_else(|_| GuidanceReport::off("the process that runs tasks died")))
    }

    /// Makes the views anew; their digest before and after.
    pub async fn rebuild(&self) -> Result<(Digest, Digest), NodeError> {
        self.ask(Command::Rebuild).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(super::core::Reply<T>) -> Command,
    ) -> Result<T, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(command(reply));
        answer.await.unwrap_or(Err(NodeError::Stopping))
    }

    /// Reads the journal on a thread that may wait.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let path = self.journal.clone();
        let (result, reader) = blocking(move || {
            let reader = match kept {
                Some(reader) => reader,
                None => Reader::open(&path)?,
            };
            let result = read(&reader);
            Ok((result, reader))
        })
        .await?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(reader);
        }
        result
    }

    /// A task as the journal has it. Somebody else's is not found, unless `by` is an operator.
    pub async fn task(&self, task: TaskId, by: Caller) -> Result<TaskView, NodeError> {
        let origin = self.origin;
        self.read(move |reader| view(reader, origin, task, &by)).await
    }

    /// The receipt of a task that has ended.
    pub async fn receipt(&self, task: TaskId, by: Caller) -> Result<Receipt, NodeError> {
        let seen = self.task(task, by).await?;
        let Some(ended) = seen.ended else {
            return Err(NodeError::Conflict(format!("task {task} has not ended yet")));
        };
        self.receipt_of(ended).await
    }

    /// The receipt of a change of the network that has ended; none is named: of the last.
    pub async fn change_receipt(&self, change: Option<String>) -> Result<Receipt, NodeError> {
        let ended = self.read(move |reader| change_end(reader, change.as_deref())).await?;
        self.receipt_of(ended).await
    }

    /// The receipt of a deploy that has ended; none is named: of the last.
    pub async fn deploy_receipt(&self, deploy: Option<String>) -> Result<Receipt, NodeError> {
        let ended = self.read(move |reader| deploy_end(reader, deploy.as_deref())).await?;
        self.receipt_of(ended).await
    }

    async fn receipt_of(&self, ended: Event) -> Result<Receipt, NodeError> {
        let seq = ended.seq;
        let kept = self.read(move |reader| Ok(reader.checkpoint(seq + 1)?)).await?;
        let signed = match kept {
            Some(signed) => signed,
            None => self.checkpoint().await?,
        };
        self.read(move |reader| {
            let size = signed.checkpoint().size;
            let proof = inclusion_proof(seq, size, reader).map_err(crate::Report::from)?;
            Ok(Receipt::new(&ended.to_leaf(), proof, signed).map_err(crate::Report::from)?)
        })
        .await
    }

    /// Lets running tasks end until `patience` is over, then stops. Blocks.
    pub fn stop(&self, patience: Duration) {
        self.inbox.push(Command::Stop(Instant::now() + patience));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// An artifact that may run, as a submission needs it.
#[derive(Debug, Clone)]
pub struct Admitted(Arc<Known>);

impl Admitted {
    /// A submission of it.
    pub fn submission(&self, by: Caller, input: SubmittedInput, limits: Limits) -> Submission {
        Submission {
            known: Arc::clone(&self.0),
            by,
            key: String::new(),
            input,
            limits,
            priority: 0,
            deterministic: false,
            states: Vec::new(),
            traceparent: String::new(),
        }
    }
}

/// A task's events.
pub(crate) fn view(
    reader: &Reader,
    origin: Origin,
    task: TaskId,
    by: &Caller,
) -> Result<TaskView, NodeError> {
    let missing = || NodeError::from(vyr_journal::Refusal::NoTask(task));
    let row = task.is_of(origin).then(|| reader.task(task.seq())).ok_or_else(missing)??;
    let row: TaskRow = row.ok_or_else(missing)?;
    let accepted = reader.event_at(row.accepted)?;
    let Body::Accepted(submission) = &accepted.body else { return Err(missing()) };
    if !by.operator && submission.submitter != by.name {
        return Err(missing());
    }
    let event = |seq: Option<u64>| seq.map(|seq| reader.event_at(seq)).transpose();
    let (started, ended) = (event(row.started)?, event(row.ended)?);
    Ok(TaskView { accepted, started, ended })
}

/// The event in which a change of the network ended; none is named: the last.
pub(crate) fn change_end(reader: &Reader, change: Option<&str>) -> Result<Event, NodeError> {
    let missing = || match change {
        Some(change) => NodeError::NotFound(format!("no change {change} has ended here")),
        None => NodeError::NotFound("no change of the network has ended here".into()),
    };
    let seq = match change {
        Some(change) => reader.change(change)?,
        None => reader.last_change()?,
    };
    let event = reader.event_at(seq.ok_or_else(missing)?)?;
    match event.body {
        Body::NetworkEnded(_) => Ok(event),
        _ => Err(missing()),
    }
}

/// The event in which a deploy ended; none is named: the last.
pub(crate) fn deploy_end(reader: &Reader, deploy: Option<&str>) -> Result<Event, NodeError> {
    let missing = || match deploy {
        Some(deploy) => NodeError::NotFound(format!("no deploy {deploy} has ended here")),
        None => NodeError::NotFound("no deploy has ended here".into()),
    };
    let seq = match deploy {
        Some(deploy) => reader.change(deploy)?,
        None => reader.last_deploy()?,
    };
    let event = reader.event_at(seq.ok_or_else(missing)?)?;
    match event.body {
        Body::DeployEnded(_) => Ok(event),
        _ => Err(missing()),
    }
}

/// Whether a manifest in the store is that of a container image.
fn is_container(store: &Store, digest: &Digest) -> bool {
    let most = vyr_artifact::MANIFEST_BYTES_MAX as u64;
    store.read_blob(digest, most).is_ok_and(|bytes| is_container_manifest(&bytes))
}

/// Whether these bytes are the manifest of a container image, or an index of such.
pub(crate) fn is_container_manifest(bytes: &[u8]) -> bool {
    const CONTAINERS: [&str; 4] = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ];
    let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(bytes) else { return false };
    [&manifest["config"]["mediaType"], &manifest["mediaType"]]
        .into_iter()
        .filter_map(serde_json::Value::as_str)
        .any(|kind| CONTAINERS.contains(&kind))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(NodeError::Invalid(format!("a thread broke: {e}"))))
}

/// The journal of a data directory, begun if there is none, and the key that signs its checkpoints.
pub(crate) fn open_journal(data: &DataDir) -> Result<(Journal, ssh_key::PrivateKey), NodeError> {
    let key = keys::node_key(data)?;
    let directory = data.directory("node").map_err(crate::Report::from)?;
    let key_id = vyr_artifact::KeyId::of(key.public_key()).to_string();
    let predecessor = predecessor(&directory)?;
    let created = NodeCreated { key_id, origin: Origin::new(random()?), predecessor };
    let journal = Journal::open(&data.journal(), || (created, Timestamp::now()))?;
    Ok((journal, key))
}

fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| NodeError::Invalid(format!("no randomness: {e}")))?;
    Ok(bytes)
}

fn take_owner_lock(owners: &Path) -> Result<OwnerLock, NodeError> {
    let name: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = owners.join(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        })
        .map_err(|e| NodeError::Other(FileError::on("make", &path)(e).into()))?;
    Ok(OwnerLock { path, _file: file })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether the owner of a task (`LOCK.GENERATION`) still lives: its lock is held.
fn is_alive(owners: &Path, owner: &str) -> bool {
    let name = owner.split('.').next().unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    let path = owners.join(name);
    let Ok(file) = File::open(&path) else { return false };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = fs::remove_file(&path);
            false
        }
        Err(_) => true,
    }
}
