//! What the node said, and whether it is still so.
//!
//! Whatever was acknowledged, stored, put or shown before a cut is written down here, outside the
//! machine. After the next boot all of it is looked for: in the journal, event by event, under a
//! signed checkpoint whose root is computed here; and in the contents behind it. What is missing is
//! a fault, in words; the twin of this suite counts on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use vyr_api::control::{TaskEnd, TaskState as Shown};
use vyr_api::operator::{
    GetCheckpointRequest, GetTaskRequest, ListEventsRequest, ReadBlobRequest, StatusRequest,
};
use vyr_api::{ApiError, Client};
use vyr_base::Digest;
use vyr_journal::{
    Body, Event, Frontier, Ledger, NodeKeys, Origin, SignedCheckpoint, TaskId, TaskState, leaf_hash,
};

use crate::guest::Found;
use crate::guests::{input_of, output_of};
use crate::load::request;

/// Contents that are fetched over the API too, of the newest; all are read in the machine.
const FETCHED: usize = 6;

/// Shared by the clients of one boot.
#[derive(Clone)]
pub(crate) struct Notes(Arc<Mutex<Known>>);

impl Notes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Known::default())))
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.0.lock().expect("no client panicked"))
    }
}

/// Numbers for the last line.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) acknowledged: usize,
    pub(crate) shown: usize,
    pub(crate) stored: usize,
    pub(crate) put: usize,
    pub(crate) events: u64,
    /// Read in the machine after a cut, and compared with their digests.
    pub(crate) contents: u64,
    pub(crate) completed: usize,
    pub(crate) lost: usize,
    /// Never acknowledged, and there all the same, as may be.
    pub(crate) unsaid: usize,
}

#[derive(Default)]
pub(crate) struct Known {
    faults: Vec<String>,
    totals: Totals,
    /// The artifact of each key that was ever submitted.
    artifacts: BTreeMap<String, String>,
    /// Submitted, and not answered.
    open: BTreeSet<String>,
    acknowledged: BTreeMap<String, TaskId>,
    /// Since the last boot that was looked at to its end.
    new: Vec<String>,
    new_stored: Vec<String>,
    new_put: Vec<String>,
    shown: BTreeMap<TaskId, TaskEnd>,
    /// Acknowledged in this boot, less ended in this boot.
    waiting: usize,
    closed: bool,
    /// Contents of events before this one were read in the machine.
    looked_at: u64,
    journal: Option<Journal>,
}

/// The journal as it was seen, event by event.
struct Journal {
    origin: Origin,
    node_key: String,
    ledger: Ledger,
    frontier: Frontier,
    keys: BTreeMap<String, TaskId>,
    tasks: BTreeMap<TaskId, Task>,
}

struct Task {
    key: String,
    input: Option<Digest>,
    started: bool,
    ends: Vec<End>,
}

struct End {
    state: TaskState,
    reason: Option<String>,
    output: Digest,
}

/// What the clients note.
impl Known {
    pub(crate) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    pub(crate) fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn sent(&mut self, key: &str, artifact: &str) {
        self.artifacts.insert(key.to_owned(), artifact.to_owned());
        self.open.insert(key.to_owned());
    }

    pub(crate) fn acknowledged(&mut self, key: &str, id: &str) {
        let Ok(id) = id.parse::<TaskId>() else {
            return self.fault(format!("{key} was acknowledged as {id:?}, which is no id"));
        };
        self.open.remove(key);
        match self.acknowledged.insert(key.to_owned(), id) {
            Some(other) if other != id => {
                self.fault(format!("{key} was acknowledged as {other}, and then as {id}"));
            }
            Some(_) => {}
            None => {
                self.totals.acknowledged += 1;
                self.waiting += 1;
                self.new.push(key.to_owned());
            }
        }
    }

    pub(crate) fn stored(&mut self, key: &str) {
        self.totals.stored += 1;
        self.new_stored.push(key.to_owned());
    }

    pub(crate) fn put(&mut self, digest: &str) {
        self.totals.put += 1;
        self.new_put.push(digest.to_owned());
    }

    pub(crate) fn ended(&mut self, id: &str, end: TaskEnd) {
        self.waiting = self.waiting.saturating_sub(1);
        match id.parse() {
            Ok(id) => {
                self.totals.shown += 1;
                self.shown.insert(id, end);
            }
            Err(_) => self.fault(format!("the end of {id:?} was shown, which is no id")),
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A new boot: what its clients count begins anew.
    pub(crate) fn begin(&mut self) {
        (self.closed, self.waiting) = (false, 0);
    }

    /// The key of a task whose input is a file of the store.
    pub(crate) fn acknowledged_large(&self) -> Option<String> {
        self.acknowledged.keys().find(|key| key.starts_with("large")).cloned()
    }

    /// The event from which contents have not been looked at.
    pub(crate) fn looked_at(&self) -> u64 {
        self.looked_at
    }
}

/// What lies on the disk before the node starts.
pub(crate) fn compare_found(notes: &Notes, found: &Found) {
    notes.with(|known| {
        let promised = !known.acknowledged.is_empty() || known.journal.is_some();
        if !promised && found.verify != Some(0) {
            // A first start was cut off: there is no journal, or an empty one.
            return;
        }
        match found.verify {
            Some(0) => {}
            Some(code) => {
                known.fault(format!("vyr verify --journal ends with {code}: {}", found.said));
            }
            None => known.fault("the journal is gone".into()),
        }
        known.looked_at = found.events;
        known.totals.contents += found.contents;
        known.faults.extend(found.faults.iter().cloned());
    });
}

/// Compares everything with what the node says once it runs and has nothing left to do.
pub(crate) async fn compare(notes: &Notes, client: &mut Client) -> Result<(), ApiError> {
    quiet(client).await?;
    if !read_journal(notes, client).await? {
        return Ok(());
    }
    notes.with(|known| {
        known.compare_tasks();
        known.compare_shown();
    });
    compare_contents(notes, client).await?;
    compare_keys(notes, client).await
}

/// Waits until every task has ended.
async fn quiet(client: &mut Client) -> Result<(), ApiError> {
    loop {
        let status = client.operator.status(StatusRequest {}).await?.into_inner();
        if status.tasks_queued + status.tasks_running == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Takes in the events that are new. Those that were seen before have to be there as they were: the
/// root of a new checkpoint is that of all hashes as they were seen. `false`: it is another journal,
/// or a shorter one, and cannot be looked at further.
async fn read_journal(notes: &Notes, client: &mut Client) -> Result<bool, ApiError> {
    let status = client.operator.status(StatusRequest {}).await?.into_inner();
    let checkpoint = client.operator.get_checkpoint(GetCheckpointRequest {}).await?.into_inner();
    let checkpoint = SignedCheckpoint::from_parts(&checkpoint.text, &checkpoint.signature);
    let checkpoint = checkpoint.expect("a checkpoint");
    let size = checkpoint.checkpoint().size;
    let from = notes.with(|known| {
        let origin: Origin = status.origin.parse().expect("an origin");
        let journal = known.journal.get_or_insert_with(|| Journal {
            origin,
            node_key: status.node_key.clone(),
            ledger: Ledger::new(origin, 0),
            frontier: Frontier::new(),
            keys: BTreeMap::new(),
            tasks: BTreeMap::new(),
        });
        let seen = journal.frontier.size();
        let another = journal.origin != origin || journal.node_key != status.node_key;
        if another {
            known.fault(format!("the journal is another: {origin}, {}", status.node_key));
        }
        if size < seen {
            known.fault(format!("the journal has {size} events, and {seen} were seen before"));
        }
        (!another && size >= seen).then_some(seen)
    });
    let Some(from) = from else {
        // What is lost is told by name all the same.
        for key in notes.with(|known| known.new.clone()) {
            let id = notes.with(|known| known.acknowledged[&key]);
            let request = GetTaskRequest { task_id: id.to_string() };
            if client.operator.get_task(request).await.is_err() {
                notes.with(|known| known.fault(format!("{key}, acknowledged as {id}, is gone")));
            }
        }
        return Ok(false);
    };
    let request = ListEventsRequest { from, limit: size - from, follow: false };
    let mut events = Vec::new();
    if size > from {
        let mut stream = client.operator.list_events(request).await?.into_inner();
        while let Some(event) = stream.message().await? {
            events.push(event);
        }
    }
    notes.with(|known| {
        let journal = known.journal.as_mut().expect("it was made above");
        let mut faults = Vec::new();
        for event in events {
            if let Err(why) = journal.take(&event.leaf) {
                faults.push(format!("event {}: {why}", event.seq));
            }
        }
        let checkpoint_says = (checkpoint.checkpoint().size, checkpoint.checkpoint().root);
        let seen = (journal.frontier.size(), journal.frontier.root());
        if checkpoint_says != seen {
            faults.push(format!("the checkpoint says {checkpoint_says:?}, the events {seen:?}"));
        }
        let keys = NodeKeys::parse(journal.node_key.as_bytes()).expect("a key");
        if let Err(e) = checkpoint.verify(&keys, Timestamp::now()) {
            faults.push(format!("the checkpoint is not the node's: {e}"));
        }
        known.totals.events = size;
        known.faults.extend(faults);
    });
    Ok(true)
}

impl Journal {
    fn take(&mut self, leaf: &[u8]) -> Result<(), String> {
        let event = Event::from_leaf(leaf).map_err(|e| e.to_string())?;
        self.ledger.evolve(&event).map_err(|e| e.why.to_string())?;
        self.frontier.append(leaf_hash(leaf), |_, _| {});
        match event.body {
            Body::Accepted(accepted) => {
                let id = TaskId::new(self.origin, event.seq);
                let input = accepted.input.map(|input| input.digest);
                let task =
                    Task { key: accepted.key.clone(), input, started: false, ends: Vec::new() };
                self.tasks.insert(id, task);
                if let Some(other) = self.keys.insert(accepted.key.clone(), id) {
                    return Err(format!("{} made two tasks, the other is {other}", accepted.key));
                }
            }
            Body::Started(started) => {
                let task = self.tasks.get_mut(&TaskId::new(self.origin, started.task));
                task.ok_or("a start of no task")?.started = true;
            }
            Body::Ended(ended) => {
                let of = ended.predicate;
                let task = self.tasks.get_mut(&of.task_id).ok_or("an end of no task")?;
                let end = End { state: of.state, reason: of.reason, output: of.output.digest };
                task.ends.push(end);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Known {
    /// Each acknowledged task is there under its id; each task that is there has ended once, and
    /// with what its input makes of it.
    fn compare_tasks(&mut self) {
        let Some(journal) = &self.journal else { return };
        let mut faults = Vec::new();
        for (key, id) in &self.acknowledged {
            match journal.tasks.get(id) {
                Some(task) if task.key == *key => {}
                Some(task) => faults.push(format!("{key}, {id}, is the task of {}", task.key)),
                None => faults.push(format!("{key}, acknowledged as {id}, is gone")),
            }
        }
        (self.totals.completed, self.totals.lost, self.totals.unsaid) = (0, 0, 0);
        for (id, task) in &journal.tasks {
            let Task { key, input: accepted, started, ends } = task;
            if !self.artifacts.contains_key(key) {
                faults.push(format!("{key}, {id}, was never submitted"));
                continue;
            }
            self.totals.unsaid += usize::from(!self.acknowledged.contains_key(key));
            let input = input_of(key);
            if *accepted != Some(Digest::of(&input)) {
                faults.push(format!("{key}, {id}, has the input {accepted:?}"));
            }
            match &ends[..] {
                [End { state: TaskState::Completed, output, .. }] => {
                    self.totals.completed += 1;
                    if *output != Digest::of(&output_of(&input)) {
                        faults.push(format!("{key}, {id}, has the output {output}"));
                    }
                }
                [End { state: TaskState::Failed, reason: Some(reason), .. }]
                    if reason == "lost" && *started =>
                {
                    self.totals.lost += 1;
                }
                [End { state, reason, .. }] => {
                    faults.push(format!("{key}, {id}, ended as {state:?} ({reason:?})"));
                }
                ends => faults.push(format!("{key}, {id}, has {} ends", ends.len())),
            }
        }
        self.faults.extend(faults);
    }

    /// What was shown as an end is the end.
    fn compare_shown(&mut self) {
        let Some(journal) = &self.journal else { return };
        for (id, shown) in std::mem::take(&mut self.shown) {
            let same =
                journal.tasks.get(&id).and_then(|task| task.ends.first()).is_some_and(|end| {
                    let completed = end.state == TaskState::Completed;
                    let output = !completed || end.output.to_string() == shown.output_digest;
                    (shown.state() == Shown::Completed) == completed && output
                });
            if !same {
                self.faults.push(format!("the end of {id} was shown, and is another: {shown:?}"));
            }
        }
    }
}

/// The newest inputs, outputs and stored bytes, and the artifacts, as a client gets them.
async fn compare_contents(notes: &Notes, client: &mut Client) -> Result<(), ApiError> {
    let (new, stored, put) = notes.with(|known| {
        let newest = |keys: &[String]| keys.iter().rev().take(FETCHED).cloned().collect::<Vec<_>>();
        let lists = (newest(&known.new), newest(&known.new_stored), known.new_put.clone());
        known.new.clear();
        known.new_stored.clear();
        known.new_put.clear();
        lists
    });
    for key in new.iter().chain(&stored) {
        let input = input_of(key);
        let digest = Digest::of(&input).to_string();
        let chunks = client.operator.read_blob(ReadBlobRequest { digest }).await;
        compare_bytes(notes, &format!("the input of {key}"), &input, chunks).await;
    }
    for key in new {
        let completed = notes.with(|known| {
            let id = known.acknowledged.get(&key).copied()?;
            let task = known.journal.as_ref()?.tasks.get(&id)?;
            (task.ends.first()?.state == TaskState::Completed).then_some(id)
        });
        if let Some(id) = completed {
            let request = GetTaskRequest { task_id: id.to_string() };
            let chunks = client.operator.get_output(request).await;
            let output = output_of(&input_of(&key));
            compare_bytes(notes, &format!("the output of {key}, {id}"), &output, chunks).await;
        }
    }
    for (n, digest) in put.iter().enumerate() {
        let key = format!("small-{digest}-{n}");
        notes.with(|known| known.sent(&key, digest));
        match client.submit_request(request(digest, &key)).await {
            Ok(id) => notes.with(|known| known.acknowledged(&key, &id)),
            Err(e) => notes.with(|known| known.fault(format!("the artifact {digest}: {e}"))),
        }
    }
    Ok(())
}

async fn compare_bytes(
    notes: &Notes,
    what: &str,
    expected: &[u8],
    chunks: Result<tonic::Response<tonic::Streaming<vyr_api::operator::Chunk>>, tonic::Status>,
) {
    let read = async {
        let mut chunks = chunks?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok::<_, tonic::Status>(bytes)
    };
    match read.await {
        Ok(bytes) if bytes == expected => {}
        Ok(bytes) => notes.with(|known| {
            known.fault(format!("{what} has {} bytes that are not those", bytes.len()));
        }),
        Err(e) => notes.with(|known| known.fault(format!("{what} cannot be read: {e}"))),
    }
}

/// What was submitted and not answered is submitted again: if it was accepted, it is that task. So
/// is what was acknowledged, of which a few are tried.
async fn compare_keys(notes: &Notes, client: &mut Client) -> Result<(), ApiError> {
    let again = notes.with(|known| {
        let few = known.acknowledged.keys().rev().step_by(29).take(FETCHED);
        known.open.iter().chain(few).cloned().collect::<Vec<_>>()
    });
    for key in again {
        let artifact = notes.with(|known| known.artifacts[&key].clone());
        let is = notes.with(|known| known.journal.as_ref()?.keys.get(&key).copied());
        match client.submit_request(request(&artifact, &key)).await {
            Ok(id) => notes.with(|known| {
                if is.is_some_and(|is| is.to_string() != id) {
                    known.fault(format!("{key} is {is:?}, and submitted again {id}"));
                }
                known.acknowledged(&key, &id);
            }),
            // Its artifact or its input was under way as well.
            Err(e) if e.category == "not_found" && is.is_none() => {
                notes.with(|known| known.open.remove(&key));
            }
            Err(e) => notes.with(|known| known.fault(format!("{key} submitted again: {e}"))),
        }
    }
    Ok(())
}
