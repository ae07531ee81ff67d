//! The journal's pure core: what happened, what may happen next, and how anybody can check it.
//!
//! ```text
//! Command --Ledger::decide--> Event(s) --canonical JSON--> leaf --RFC 6962--> root --SSHSIG--> checkpoint
//!                 ^               |                          \________ inclusion proof ________/
//!                 +-- evolve <----+                                      = Receipt
//! ```
//!
//! Invariants:
//! 1. One event is one leaf: its canonical JSON, whose `seq` is its place in the tree.
//! 2. A task that was accepted ends exactly once, and a task that ended never changes.
//! 3. `evolve` over the same events gives the same ledger; nothing else goes into it.
//! 4. A changed, missing, added or moved event is found and named, up to what the last
//!    checkpoint kept elsewhere covers.
//!
//! Deliberately elsewhere: where events lie and when they are durable (`vyr-journal-sql`), who
//! runs the tasks and what time it is (`vyr-node`).

mod audit;
mod checkpoint;
mod deploy;
mod event;
mod ids;
mod keys;
mod leaf;
mod ledger;
mod merkle;
mod network;
mod node_keys;
mod proof;
mod receipt;
mod session;
mod statement;

pub use audit::{AuditError, Auditor, Entry, FAULTS_MAX, Fault, Head, Kept, Sound};
pub use checkpoint::{
    CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointFileError, ParseCheckpointError, SignedCheckpoint,
};
pub use deploy::{
    DEPLOY_PREDICATE, Deploy, DeployBegun, DeployOutcome, DeployPredicate, DeployRefused,
    DeployRelease, DeployStatement, DeployTimings, InstanceStep, SlotWish,
};
pub use event::{
    Accepted, Body, Bound, EVENT_VERSION, Event, InputRef, NodeCreated, NodeStarted, Sealed,
    Started, StateAccess, StateBinding, StateCreated, StateEnded, StateEnding,
};
pub use ids::{Origin, ParseIdError, StateId, TaskId};
pub use keys::{KEYS_MAX, KeyPrint};
pub use ledger::{
    Cancelled, Ending, Impossible, Ledger, Refusal, State, Submitted, Task, key_print,
};
pub use merkle::{
    Frontier, FrontierError, Hash, LEAVES_MAX, TILE_LEVELS, Tile, empty_root, leaf_hash, node_hash,
};
pub use network::{
    NETWORK_PREDICATE, NetworkChange, NetworkFirst, NetworkMoved, NetworkNode, NetworkOutcome,
    NetworkPredicate, NetworkRefused, NetworkStatement, NetworkTimings,
};
pub use node_keys::NodeKeys;
pub use proof::{
    HashSource, ProofError, consistency_proof, inclusion_proof, inclusion_proof_len, root_at,
    verify_consistency, verify_inclusion,
};
pub use receipt::{
    RECEIPT_BYTES_MAX, RECEIPT_VERSION, Receipt, ReceiptError, Stated, StatementFault, Verified,
    verify_receipt,
};
pub use session::{SessionBegun, SessionEnd, SessionEnded};
pub use statement::{
    About, ArtifactRef, Counted, Limits, NodeInfo, Predicate, STATEMENT_TYPE, SignerRef, Statement,
    Subject, SubjectDigest, TASK_PREDICATE, TaskState, Timings, Usage,
};
