//! What a data directory's journal and store say of tasks, in the words of `operator`, without a
//! node: nothing is started, recovered or run. Only a receipt that no stored checkpoint covers
//! writes something, the checkpoint.

use std::path::PathBuf;

use jiff::Timestamp;
use vyr_api::operator;
use vyr_base::Digest;
use vyr_journal::{
    Body, Checkpoint, Frontier, NodeCreated, Origin, Receipt, SignedCheckpoint, Statement, TaskId,
    inclusion_proof,
};
use vyr_journal_sql::{Journal, JournalError, Reader};
use vyr_store::{Store, VerifiedBlob};

use super::convert;
use crate::data_dir::DataDir;
use crate::keys;
use crate::node::{Caller, NodeError, TaskView, change_end, deploy_end, view};
use crate::report::Result;

/// The records of a data directory, for its owner.
#[derive(Debug)]
pub struct Records {
    data: DataDir,
    path: PathBuf,
    reader: Reader,
    origin: Origin,
    store: Store,
}

/// The bytes of an output.
#[derive(Debug)]
pub enum Output {
    /// A small one.
    Content(Vec<u8>),
    /// One of the store, compared with its digest while it is read.
    Blob(VerifiedBlob),
}

impl Records {
    /// Opens the journal of `data`; `None` if no node and no task was ever there.
    pub fn open(data: &DataDir) -> Result<Option<Self>> {
        let path = data.journal();
        if !path.exists() {
            return Ok(None);
        }
        let reader = Reader::open(&path)?;
        let origin = reader.origin()?;
        Ok(Some(Self { data: data.clone(), path, reader, origin, store: data.store()? }))
    }

    /// The journal, to be read.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The journal's name.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    fn view(&self, task: TaskId) -> Result<TaskView> {
        let owner = Caller { name: String::new(), operator: true };
        Ok(view(&self.reader, self.origin, task, &owner)?)
    }

    /// One task.
    pub fn task(&self, task: TaskId) -> Result<operator::Task> {
        Ok(convert::task(task, &self.view(task)?, None))
    }

    /// Tasks, newest first.
    pub fn tasks(&self, before: u64, limit: u64, alive: bool) -> Result<Vec<operator::Task>> {
        let rows = self.reader.tasks(before, limit, alive)?;
        rows.into_iter().map(|row| self.task(TaskId::new(self.origin, row.accepted))).collect()
    }

    /// The event in which a task ended, and what it states.
    fn ended(&self, task: TaskId) -> Result<(u64, Vec<u8>, Statement)> {
        let ended = self.view(task)?.ended;
        match ended.map(|event| (event.seq, event.to_leaf(), event.body)) {
            Some((seq, leaf, Body::Ended(statement))) => Ok((seq, leaf, *statement)),
            _ => Err(NodeError::Conflict(format!("task {task} has not ended")).into()),
        }
    }

    /// The output of a task that ended.
    pub fn output(&self, task: TaskId) -> Result<Output> {
        let (seq, _, statement) = self.ended(task)?;
        let output = statement.predicate.output;
        if output.bytes == 0 {
            return Ok(Output::Content(Vec::new()));
        }
        match self.reader.content_at(seq)? {
            Some(content) if Digest::of(&content) == output.digest => Ok(Output::Content(content)),
            Some(_) => Err(changed(seq).into()),
            None => Ok(Output::Blob(self.store.open_blob(&output.digest)?)),
        }
    }

    /// The last of the log of a task that ended.
    pub fn log(&self, task: TaskId) -> Result<Vec<u8>> {
        let (seq, ..) = self.ended(task)?;
        Ok(self.reader.log_at(seq)?.unwrap_or_default())
    }

    /// The receipt of a task that ended.
    pub fn receipt(&self, task: TaskId) -> Result<Receipt> {
        let (seq, leaf, _) = self.ended(task)?;
        self.receipt_at(seq, &leaf)
    }

    /// The receipt of a change of the network that has ended; none is named: of the last.
    pub fn change_receipt(&self, change: Option<&str>) -> Result<Receipt> {
        let event = change_end(&self.reader, change)?;
        self.receipt_at(event.seq, &event.to_leaf())
    }

    /// The receipt of a deploy that has ended; none is named: of the last.
    pub fn deploy_receipt(&self, deploy: Option<&str>) -> Result<Receipt> {
        let event = deploy_end(&self.reader, deploy)?;
        self.receipt_at(event.seq, &event.to_leaf())
    }

    fn receipt_at(&self, seq: u64, leaf: &[u8]) -> Result<Receipt> {
        let signed = match self.reader.checkpoint(seq + 1)? {
            Some(signed) => signed,
            None => self.checkpoint()?,
        };
        let proof = inclusion_proof(seq, signed.checkpoint().size, &self.reader)?;
        Ok(Receipt::new(leaf, proof, signed)?)
    }

    /// A signed checkpoint over all events there are; kept in the journal too.
    pub fn checkpoint(&self) -> Result<SignedCheckpoint> {
        let (size, _) = self.reader.size()?;
        if let Some(signed) = self.reader.checkpoint(size)? {
            return Ok(signed);
        }
        let damaged = |why: String| JournalError::Damaged { at: "the head".into(), why };
        let frontier = Frontier::from_bytes(&self.reader.frontier()?);
        let frontier = frontier.map_err(|e| damaged(e.to_string()))?;
        let (size, root) = (frontier.size(), frontier.root());
        let key = keys::node_key(&self.data)?;
        let signed = Checkpoint { origin: self.origin, size, root }.sign(&key)?;
        self.writer()?.keep_checkpoint(&signed)?;
        Ok(signed)
    }

    /// Makes the views anew from the events; their digests before and after.
    pub fn rebuild(&self) -> Result<(Digest, Digest)> {
        Ok(self.writer()?.rebuild()?)
    }

    fn writer(&self) -> Result<Journal> {
        // It is there already, so this begins none.
        let created = NodeCreated { key_id: String::new(), origin: self.origin, predecessor: None };
        Ok(Journal::open(&self.path, || (created, Timestamp::now()))?)
    }
}

/// A small output whose bytes are not what its task stated.
#[derive(Debug, thiserror::Error)]
#[error("the output of event {seq} was changed on disk")]
struct Changed {
    seq: u64,
}

impl vyr_base::Problem for Changed {
    fn category(&self) -> vyr_base::Category {
        vyr_base::Category::Auth
    }

    fn hint(&self) -> Option<String> {
        Some("see what is wrong: vyr verify --journal".into())
    }
}

fn changed(seq: u64) -> Changed {
    Changed { seq }
}
