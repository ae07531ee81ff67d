//! Receipts: one file with which anybody can check offline what a task, a change of the network or a
//! deploy did.
//!
//! ```text
//! {"checkpoint": "<origin>\n<size>\n<root>\n",      what the node signed
//!  "event":      {"body":{"event":"task.ended",..   the leaf, whose `seq` is its index
//!  "proof":      ["<base64>", ..],                  from the leaf up to the root
//!  "signature":  "-----BEGIN SSH SIGNATURE-----..   in namespace vyr-checkpoint
//!  "v": 1}
//! ```
//!
//! The file is canonical JSON (RFC 8785) and exactly one line feed; every other spelling is
//! refused, so a receipt has one digest. The checks come in the order in which the first "no"
//! tells most:
//!
//! ```text
//! spelling -> an end -> statement agrees with itself -> keys given -> signature -> origin
//!   -> index below size -> length of the proof -> leaf under the root -> signer of the artifact
//! ```
//!
//! The statement comes before the signature, because a sum that does not add up is news whoever
//! signed it. The signature comes before the proof: with a good signature the fault is in the
//! event or the proof, with a bad one in the checkpoint.
//!
//! Invariants:
//! 1. A changed, added or missing byte makes a receipt that is refused.
//! 2. Keys come from the reader's file only; nothing inside a receipt is believed for being there.
//! 3. A damaged receipt is refused as such (category auth); only what was never one is bad usage.
//!
//! Not here: where receipts lie (`vyr-journal-sql`), the keys (`node_keys`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vyr_artifact::Signer;
use vyr_base::Digest;
use vyr_base::canonical;

use crate::checkpoint::{
    Checkpoint, CheckpointFileError, SignedCheckpoint, from_base64, to_base64,
};
use crate::deploy::{DeployStatement, deploy_fault};
use crate::event::{Body, EVENT_VERSION, Event};
use crate::ids::Origin;
use crate::merkle::{Hash, leaf_hash};
use crate::network::{NetworkStatement, change_fault};
use crate::node_keys::NodeKeys;
use crate::proof::{inclusion_proof_len, verify_inclusion};
use crate::statement::{About, STATEMENT_TYPE, Statement, TaskState};

mod error;

pub use error::{ReceiptError, StatementFault};

/// Most bytes of a receipt; one of ours has about 2,500.
pub const RECEIPT_BYTES_MAX: usize = 256 << 10;

/// The version of the file.
pub const RECEIPT_VERSION: u32 = 1;

/// Pieces of receipts. A file without any of them is not a damaged receipt, but another file: they
/// are far apart, so that no small damage reaches all.
const MARKS: [&[u8]; 6] = [
    b"{\"checkpoint\":\"",
    b"\"task.ended\"",
    b"\"network.ended\"",
    b"\"deploy.ended\"",
    b"-----BEGIN SSH SIGNATURE-----",
    b",\"v\":1}\n",
];

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stated {
    /// How a task ended.
    Task(Box<Statement>),
    /// How a change of the network ended.
    Network(Box<NetworkStatement>),
    /// How a deploy ended.
    Deploy(Box<DeployStatement>),
}

impl Stated {
    fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Ended(statement) => Some(Self::Task(statement.clone())),
            Body::NetworkEnded(statement) => Some(Self::Network(statement.clone())),
            Body::DeployEnded(statement) => Some(Self::Deploy(statement.clone())),
            _ => None,
        }
    }

    /// The body of the event that says so.
    pub fn into_body(self) -> Body {
        match self {
            Self::Task(statement) => Body::Ended(statement),
            Self::Network(statement) => Body::NetworkEnded(statement),
            Self::Deploy(statement) => Body::DeployEnded(statement),
        }
    }

    /// The journal that it is an event of.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Task(statement) => statement.predicate.node.origin,
            Self::Network(statement) => statement.predicate.node.origin,
            Self::Deploy(statement) => statement.predicate.node.origin,
        }
    }

    /// When that ended.
    pub fn ended(&self) -> Timestamp {
        match self {
            Self::Task(statement) => statement.predicate.timings.ended,
            Self::Network(statement) => statement.predicate.change.timings.ended,
            Self::Deploy(statement) => statement.predicate.deploy.timings.ended,
        }
    }

    /// What does not add up in the statement of event `seq`, if anything.
    fn fault(&self, seq: u64) -> Option<StatementFault> {
        match self {
            Self::Task(statement) => task_fault(statement, seq),
            Self::Network(statement) => form_fault(statement).or_else(|| {
                let fault = change_fault(&statement.predicate.change)?;
                Some(StatementFault::Change { fault })
            }),
            Self::Deploy(statement) => form_fault(statement).or_else(|| {
                let fault = deploy_fault(&statement.predicate.deploy)?;
                Some(StatementFault::Change { fault })
            }),
        }
    }
}

/// A receipt that was read or made; not yet one that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its body is the end of a task, a change or a deploy.
    event: Event,
    stated: Stated,
    proof: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    checkpoint: String,
    event: Value,
    proof: Vec<String>,
    signature: String,
    v: u32,
}

/// What a believed receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The digest of the receipt's bytes.
    pub receipt: Digest,
    /// What is stated.
    pub stated: Stated,
    /// The event's place in the log.
    pub seq: u64,
    /// When the event was written, by the node's clock.
    pub time: Timestamp,
    /// What the log was when the receipt was made.
    pub checkpoint: Checkpoint,
    /// Who signed that: the node.
    pub signer: Signer,
}

/// Reads a receipt and says what it proves, or exactly what does not match.
///
/// The node's key has to have been valid when the statement says that it ended; see
/// [`NodeKeys`] for what that is worth. `allow_dev` lets an artifact pass that was signed with a
/// development key, which everybody can make.
pub fn verify_receipt(
    bytes: &[u8],
    keys: &NodeKeys,
    allow_dev: bool,
) -> Result<Verified, ReceiptError> {
    Receipt::parse(bytes)?.verify(keys, allow_dev)
}

impl Receipt {
    /// Makes the receipt of the task, or of the change, whose end is `leaf`.
    ///
    /// What would not verify under the key that signed the checkpoint is not made.
    pub fn new(
        leaf: &[u8],
        proof: Vec<Hash>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Self, ReceiptError> {
        let (event, stated) = end(leaf)?;
        let receipt = Self { event, stated, proof, checkpoint };
        receipt.check_statement()?;
        receipt.check_place()?;
        Ok(receipt)
    }

    /// The file: canonical JSON and one line feed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bug =
            |error: &dyn std::error::Error| -> ! { unreachable!("a receipt is JSON: {error}") };
        let file = File {
            checkpoint: self.checkpoint.checkpoint().to_string(),
            event: serde_json::to_value(&self.event).unwrap_or_else(|error| bug(&error)),
            proof: self.proof.iter().map(to_base64).collect(),
            signature: self.checkpoint.signature().to_owned(),
            v: RECEIPT_VERSION,
        };
        let mut bytes = canonical::to_vec(&file).unwrap_or_else(|error| bug(&error));
        bytes.push(b'\n');
        bytes
    }

    /// The digest of the file.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// What is stated, believed or not.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// The event's place in the log.
    pub fn seq(&self) -> u64 {
        self.event.seq
    }

    /// What the log was when it was made.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Reads a file in its one spelling. Nothing is believed yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        read(bytes).map_err(|error| {
            let marked = MARKS.iter().any(|mark| bytes.windows(mark.len()).any(|at| at == *mark));
            if marked { error } else { ReceiptError::NotAReceipt }
        })
    }

    /// Says what it proves, or exactly what does not match; see [`verify_receipt`].
    pub fn verify(&self, keys: &NodeKeys, allow_dev: bool) -> Result<Verified, ReceiptError> {
        self.check_statement()?;
        if keys.is_empty() {
            return Err(ReceiptError::NoKeys);
        }
        let signer = self.checkpoint.verify(keys, self.stated.ended())?;
        self.check_place()?;
        if let Stated::Task(statement) = &self.stated
            && statement.predicate.signer.dev
            && !allow_dev
        {
            return Err(ReceiptError::DevSigned {
                key_id: error::clip(&statement.predicate.signer.key_id),
            });
        }
        Ok(Verified {
            receipt: self.digest(),
            stated: self.stated.clone(),
            seq: self.event.seq,
            time: self.event.time,
            checkpoint: *self.checkpoint.checkpoint(),
            signer,
        })
    }

    /// Whether the statement agrees with itself and with the event it is in.
    fn check_statement(&self) -> Result<(), ReceiptError> {
        let seq = self.event.seq;
        let fault = self.stated.fault(seq);
        fault.map_or(Ok(()), |fault| Err(ReceiptError::Statement { seq, fault }))
    }

    /// Whether the event is where it says, under the checkpoint.
    fn check_place(&self) -> Result<(), ReceiptError> {
        let Checkpoint { origin, size, root } = *self.checkpoint.checkpoint();
        let (seq, stated) = (self.event.seq, self.stated.origin());
        if stated != origin {
            return Err(ReceiptError::Origin { stated, signed: origin });
        }
        let Some(expected) = inclusion_proof_len(seq, size) else {
            return Err(ReceiptError::NotCovered { seq, size });
        };
        let found = self.proof.len();
        if found != expected {
            return Err(ReceiptError::ProofLength { seq, found, expected });
        }
        let leaf = leaf_hash(&self.event.to_leaf());
        if !verify_inclusion(leaf, seq, size, &self.proof, root) {
            return Err(ReceiptError::NotInLog { seq, size, root });
        }
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
    if bytes.len() > RECEIPT_BYTES_MAX {
        return Err(ReceiptError::TooLarge { bytes: bytes.len() });
    }
    let json = bytes.strip_suffix(b"\n").ok_or(ReceiptError::LineEnd)?;
    let file: File = canonical::parse(json).map_err(|error| match version(json) {
        Some(found) if found != u64::from(RECEIPT_VERSION) => ReceiptError::Version { found },
        _ => ReceiptError::Json(error),
    })?;
    if file.v != RECEIPT_VERSION {
        return Err(ReceiptError::Version { found: file.v.into() });
    }
    let leaf = canonical::to_vec(&file.event).map_err(ReceiptError::Event)?;
    let (event, stated) = end(&leaf)?;
    let proof = file.proof.iter().enumerate().map(|(place, text)| {
        from_base64(text).ok_or_else(|| ReceiptError::ProofHash { place, text: error::clip(text) })
    });
    let proof = proof.collect::<Result<_, _>>()?;
    let checkpoint = SignedCheckpoint::from_parts(&file.checkpoint, &file.signature);
    let checkpoint = checkpoint.map_err(|error| match error {
        CheckpointFileError::Text(source) => ReceiptError::Checkpoint(source),
        _ => ReceiptError::SignatureSpelling,
    })?;
    Ok(Receipt { event, stated, proof, checkpoint })
}

/// The version of a file that is not of ours.
fn version(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(json).ok()?.get("v")?.as_u64()
}

/// Reads the leaf of an end.
fn end(leaf: &[u8]) -> Result<(Event, Stated), ReceiptError> {
    let event = Event::from_leaf(leaf).map_err(ReceiptError::Event)?;
    if event.v != EVENT_VERSION {
        return Err(ReceiptError::EventVersion { found: event.v });
    }
    match Stated::of(&event.body) {
        Some(stated) => Ok((event, stated)),
        None => Err(ReceiptError::NotAnEnd { seq: event.seq, kind: kind(&event) }),
    }
}

/// What happened, as the leaf calls it.
fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value["body"]["event"].as_str().unwrap_or_default().to_owned()
}

/// What does not add up in the form of a statement, if anything.
fn form_fault<P: About>(statement: &Statement<P>) -> Option<StatementFault> {
    use StatementFault as F;
    let Statement { kind, predicate, predicate_type, subject } = statement;
    if kind != STATEMENT_TYPE {
        return Some(F::Type { found: error::clip(kind) });
    }
    if predicate_type != P::TYPE {
        return Some(F::PredicateType { found: error::clip(predicate_type) });
    }
    let [subject] = &subject[..] else {
        return Some(F::Subjects { count: subject.len() });
    };
    if subject.name != P::SUBJECT {
        return Some(F::SubjectName { found: error::clip(&subject.name), expected: P::SUBJECT });
    }
    let stated = predicate.subject();
    (subject.digest.sha256 != stated.hex()).then(|| F::SubjectDigest {
        subject: error::clip(&subject.digest.sha256),
        name: P::SUBJECT,
        stated,
    })
}

/// What does not add up in the statement of a task in event `seq`, if anything.
fn task_fault(statement: &Statement, seq: u64) -> Option<StatementFault> {
    use StatementFault as F;
    if let Some(fault) = form_fault(statement) {
        return Some(fault);
    }
    let predicate = &statement.predicate;
    let (task, origin) = (predicate.task_id, predicate.node.origin);
    if !task.is_of(origin) {
        return Some(F::TaskOrigin { task, origin });
    }
    if task.seq() >= seq {
        return Some(F::TaskSeq { task, seq });
    }
    let ended_well = predicate.reason.is_none() && matches!(predicate.exit_code, None | Some(0));
    let agrees = match predicate.state {
        TaskState::Completed => ended_well,
        TaskState::Failed => predicate.reason.is_some(),
        TaskState::Cancelled => true,
    };
    (!agrees).then(|| F::Ending {
        state: predicate.state,
        exit_code: predicate.exit_code,
        reason: predicate.reason.as_deref().map(error::clip),
    })
}

#[cfg(test)]
pub(crate) mod tests;
