//! The journal on disk: one SQLite file, one transaction and one sync a batch of events.
//!
//! ```text
//! events(seq, leaf, hash, content, log)   the log; content: a small input or output
//! tiles(level, place, hash)               hashes of complete subtrees, for proofs
//! head(size, frontier, sealed)            one row, changed with every batch
//! tasks, states, bindings                 views: what `rebuild` makes anew from the events
//! checkpoints(size, text, signature)      signed roots
//! ```
//!
//! Invariants:
//! 1. A batch is there whole or not at all, and when `append` returns it is on the disk.
//! 2. Several processes may append; one that is behind is told so (`AppendError::Behind`) and
//!    nothing of its batch is taken.
//! 3. Views follow from events alone: `rebuild` gives the same digest.
//!
//! Rows are in the order of events, so that a batch touches few pages; nothing is indexed by a
//! random value, because each such row would cost a page of the disk.
//!
//! Deliberately elsewhere: what may happen (`vyr-journal`), when to commit (`vyr-node`).

mod error;
mod journal;
mod reader;
mod schema;
mod view;

pub use error::{AppendError, JournalError};
pub use journal::{Entry, Journal};
pub use reader::{Reader, Stored, TaskRow};
