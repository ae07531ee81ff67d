//! Why a receipt is not believed: what exactly does not match.

use vyr_artifact::{KeyId, TrustError};
use vyr_base::canonical::CanonicalError;
use vyr_base::{Category, Digest, Problem};

use super::{RECEIPT_BYTES_MAX, RECEIPT_VERSION};
use crate::checkpoint::ParseCheckpointError;
use crate::event::EVENT_VERSION;
use crate::ids::{Origin, TaskId};
use crate::merkle::Hash;
use crate::statement::TaskState;

/// Longest text of a receipt that an error repeats, in characters.
const QUOTED_MAX: usize = 80;

/// A text of the receipt, cut, and without what would move a terminal's cursor.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(QUOTED_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Why a receipt is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Nothing in it looks like a receipt.
    #[error("file is not a receipt")]
    NotAReceipt,
    /// More than [`RECEIPT_BYTES_MAX`].
    #[error("receipt has {bytes} bytes, more than {RECEIPT_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not one line that ends with a line feed.
    #[error("receipt is damaged: it is not one line with its end")]
    LineEnd,
    /// Not the JSON of a receipt in its one spelling.
    #[error("receipt is damaged: it is not in the one spelling of a receipt")]
    Json(#[source] CanonicalError),
    /// A version we do not know.
    #[error("receipt has version {found}, expected {RECEIPT_VERSION}")]
    Version {
        /// What it says.
        found: u64,
    },
    /// The event is not of a known shape.
    #[error("receipt is damaged: its event has no shape that vyr writes")]
    Event(#[source] CanonicalError),
    /// The event is of a version we do not know.
    #[error("event of the receipt has version {found}, expected {EVENT_VERSION}")]
    EventVersion {
        /// What it says.
        found: u32,
    },
    /// The event says something else.
    #[error("event {seq} is {kind}, not the end of a task or of a change of the network")]
    NotAnEnd {
        /// Which event.
        seq: u64,
        /// What it is.
        kind: String,
    },
    /// A hash of the proof cannot be read.
    #[error("receipt is damaged: hash {place} of its proof is {text:?}, not 32 bytes in base64")]
    ProofHash {
        /// Which, from 0.
        place: usize,
        /// What it says, cut to 80 characters.
        text: String,
    },
    /// The checkpoint's text.
    #[error("receipt is damaged: its checkpoint cannot be read")]
    Checkpoint(#[source] ParseCheckpointError),
    /// The signature is none, or written in another way than vyr and ssh-keygen write it.
    #[error("receipt is damaged: its signature cannot be read")]
    SignatureSpelling,
    /// The statement does not agree with itself.
    #[error("statement of event {seq} does not agree with itself: {fault}")]
    Statement {
        /// Which event.
        seq: u64,
        /// In what.
        fault: StatementFault,
    },
    /// The reader named no keys.
    #[error("no key is trusted to sign receipts")]
    NoKeys,
    /// The checkpoint is signed, by a stranger.
    #[error("checkpoint of the receipt is signed by {key_id}, which is not trusted")]
    UntrustedKey {
        /// Whose fingerprint.
        key_id: KeyId,
    },
    /// The key did not sign this checkpoint.
    #[error("checkpoint of the receipt was changed: {key_id} did not sign it")]
    BadSignature {
        /// The key that the signature claims.
        key_id: KeyId,
    },
    /// The signature is not believed for another reason.
    #[error("signature of the receipt's checkpoint is not believed")]
    Signature(#[source] TrustError),
    /// The statement is of another log than the checkpoint.
    #[error("statement is of {stated}, the signed checkpoint of {signed}")]
    Origin {
        /// What the statement says.
        stated: Origin,
        /// What the checkpoint says.
        signed: Origin,
    },
    /// The event came after the checkpoint.
    #[error("event {seq} is not among the {size} events of the signed checkpoint")]
    NotCovered {
        /// Which event.
        seq: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The proof is too short or too long for its place.
    #[error("proof of event {seq} has {found} hashes, expected {expected}")]
    ProofLength {
        /// Which event.
        seq: u64,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The event with this proof does not lead to the signed root.
    #[error("event {seq} or its proof was changed: they do not lead to the signed root {}", .root.hex())]
    NotInLog {
        /// Which event.
        seq: u64,
        /// The checkpoint's size.
        size: u64,
        /// The root that was signed.
        root: Hash,
    },
    /// All is well, but what ran was signed with a development key.
    #[error("artifact is signed with the development key {key_id}")]
    DevSigned {
        /// Which.
        key_id: String,
    },
}

impl From<TrustError> for ReceiptError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::UnknownKey { key_id } => Self::UntrustedKey { key_id },
            TrustError::BadSignature { key_id } => Self::BadSignature { key_id },
            error => Self::Signature(error),
        }
    }
}

impl Problem for ReceiptError {
    fn category(&self) -> Category {
        match self {
            Self::NotAReceipt => Category::Usage,
            _ => Category::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        let again =
            "get the receipt again from the node: vyr task receipt TASK, or vyr network receipt";
        Some(match self {
            Self::NotAReceipt => {
                "pass a file that vyr task receipt or vyr network receipt wrote".to_owned()
            }
            Self::Version { .. } | Self::EventVersion { .. } => {
                "if the node is newer than this vyr, check it with the node's version".to_owned()
            }
            Self::NoKeys => {
                "pass the node's public key, got from its operator: --trust FILE".to_owned()
            }
            Self::UntrustedKey { key_id } => {
                format!("ask the node's operator whether {key_id} is its key before trusting it")
            }
            Self::Signature(source) => return source.hint(),
            Self::Statement { .. } => {
                "whoever wrote this did not run vyr as it is; ask the node's operator".to_owned()
            }
            Self::DevSigned { .. } => {
                "anybody can make such a key; to accept it all the same: --allow-dev".to_owned()
            }
            _ => again.to_owned(),
        })
    }
}

/// What does not add up in a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementFault {
    /// `_type`.
    #[error("its _type is {found:?}")]
    Type {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// `predicateType`.
    #[error("its predicateType is {found:?}")]
    PredicateType {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// Not exactly one subject.
    #[error("it has {count} subjects, expected 1")]
    Subjects {
        /// How many.
        count: usize,
    },
    /// The subject is not what such a statement is about.
    #[error("its subject is {found:?}, expected {expected:?}")]
    SubjectName {
        /// What it says, cut to 80 characters.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The subject's digest is another one than what is stated of it.
    #[error("its subject is {subject}, its {name} {}", .stated.hex())]
    SubjectDigest {
        /// Of the subject, cut to 80 characters.
        subject: String,
        /// Of what.
        name: &'static str,
        /// The other one.
        stated: Digest,
    },
    /// The change of the network, or the deploy, cannot be so.
    #[error("{fault}")]
    Change {
        /// In what.
        fault: &'static str,
    },
    /// The task is of another node.
    #[error("task {task} is not of {origin}")]
    TaskOrigin {
        /// The task.
        task: TaskId,
        /// The node.
        origin: Origin,
    },
    /// The task ended before it was accepted.
    #[error("task {task} cannot end in event {seq}")]
    TaskSeq {
        /// The task, with the number of the event that accepted it.
        task: TaskId,
        /// The event it ended in.
        seq: u64,
    },
    /// State, exit code and reason contradict each other.
    #[error("state {state:?} does not go with exit code {exit_code:?} and reason {reason:?}")]
    Ending {
        /// How it ended.
        state: TaskState,
        /// What the guest said.
        exit_code: Option<i32>,
        /// Why, cut to 80 characters.
        reason: Option<String>,
    },
}
