//! What a receipt states: the shape of an in-toto Statement v1.
//!
//! Fields stand in the order of their JSON names, so that plain serialisation is already canonical
//! (RFC 8785); a test holds every type of this file and of `event` to that.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use crate::ids::{Origin, TaskId};

/// `_type` of every statement (in-toto attestation framework, Statement v1).
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// `predicateType` of a task's statement. A name, not an address: nothing is fetched.
pub const TASK_PREDICATE: &str = "urn:vyr:task:v0";

/// A statement: of a task, unless it says of what else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement<P = Predicate> {
    /// Always [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What is stated.
    pub predicate: P,
    /// [`TASK_PREDICATE`], or what else it is of.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// Of what it is stated: exactly one.
    pub subject: Vec<Subject>,
}

/// What can be stated, and about which one thing.
pub trait About {
    /// The `predicateType`.
    const TYPE: &'static str;
    /// The name of the subject.
    const SUBJECT: &'static str;

    /// The digest of the subject.
    fn subject(&self) -> Digest;
}

/// The thing a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its digest.
    pub digest: SubjectDigest,
    /// `output` of a task, `plan` of a change.
    pub name: String,
}

/// A digest as in-toto writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectDigest {
    /// 64 hex digits.
    pub sha256: String,
}

/// What is stated of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// What ran.
    pub artifact: ArtifactRef,
    /// Whether clock and seed were fixed. If not, the task saw real time and randomness.
    pub deterministic: bool,
    /// The guest's own exit code, if it got as far as to give one.
    pub exit_code: Option<i32>,
    /// What it read.
    pub input: Counted,
    /// The limits that applied, after the node's ceilings.
    pub limits: Limits,
    /// The figure behind the reason, for a person. At most 400 characters.
    pub message: Option<String>,
    /// Where it ran.
    pub node: NodeInfo,
    /// What it wrote.
    pub output: Counted,
    /// Why it failed: `exit`, `trap`, `memory`, `deadline`, `lost`, ..; `None` unless it did.
    pub reason: Option<String>,
    /// Who vouched for the artifact.
    pub signer: SignerRef,
    /// How it ended.
    pub state: TaskState,
    /// Who submitted it.
    pub submitter: String,
    /// Its name.
    pub task_id: TaskId,
    /// When what happened.
    pub timings: Timings,
    /// What it used.
    pub usage: Usage,
}

/// An artifact by digest and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRef {
    /// Of its manifest.
    pub digest: Digest,
    /// As its manifest says.
    pub name: String,
}

/// Who vouched for an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerRef {
    /// Whether it was the development key of a private directory.
    pub dev: bool,
    /// The key's fingerprint, `SHA256:..`.
    pub key_id: String,
    /// The name on the list of signers.
    pub principal: String,
}

/// Bytes by digest and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// How many.
    pub bytes: u64,
    /// `false`: digest and number are of what was read before the guest ended.
    pub complete: bool,
    /// Their digest.
    pub digest: Digest,
}

/// The limits of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Wall time from the start of execution, in milliseconds.
    pub deadline_ms: u64,
    /// Linear memory of all the task's memories together, in bytes.
    pub memory_bytes: u64,
    /// Bytes written to standard output.
    pub output_bytes_max: u64,
}

/// Where a task ran, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeInfo {
    /// The engine and its version.
    pub engine: String,
    /// The guidance tier its worker ran under.
    pub guidance: String,
    /// The journal this is an event of.
    pub origin: Origin,
    /// The version of the program.
    pub version: String,
}

/// The terminal states of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It ran to its end and said 0.
    Completed,
    /// It ended in another way; the reason says which.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// When what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// When its submission was accepted.
    pub accepted: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// When it began to run, if it did.
    pub started: Option<Timestamp>,
}

/// What a task used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processor time of the guest and its host calls, in microseconds.
    pub cpu_us: u64,
    /// Bytes the guest wrote to standard error.
    pub log_bytes: u64,
    /// The most linear memory held at once, in bytes.
    pub memory_peak_bytes: u64,
    /// Wall time from instantiation to the end, in microseconds.
    pub run_us: u64,
}

impl About for Predicate {
    const TYPE: &'static str = TASK_PREDICATE;
    const SUBJECT: &'static str = "output";

    fn subject(&self) -> Digest {
        self.output.digest
    }
}

impl<P: About> Statement<P> {
    /// A statement of `predicate` about its subject.
    pub fn of(predicate: P) -> Self {
        let digest = SubjectDigest { sha256: predicate.subject().hex() };
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject { digest, name: P::SUBJECT.to_owned() }],
            predicate,
            predicate_type: P::TYPE.to_owned(),
        }
    }
}
