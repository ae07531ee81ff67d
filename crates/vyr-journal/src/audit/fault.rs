//! What an audit finds.

use std::fmt;

use vyr_artifact::TrustError;
use vyr_base::{Category, Problem};

use crate::checkpoint::CheckpointFileError;
use crate::ids::Origin;
use crate::merkle::{FrontierError, Tile};

/// Where a checkpoint was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// In the journal itself, where whoever rewrites the journal can remove it.
    Journal,
    /// Elsewhere (`--since`).
    Elsewhere,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "the journal's checkpoint",
            Self::Elsewhere => "the checkpoint kept elsewhere",
        })
    }
}

/// One thing that is not as it was written. Ranges include both ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A leaf does not have its stored hash: its bytes were changed.
    #[error("event {seq} was changed: its bytes do not have the stored hash")]
    FlippedLeaf {
        /// Which event.
        seq: u64,
    },
    /// A leaf does not have its stored hash, and the tree has the leaf's.
    #[error("stored hash of event {seq} was changed; its bytes are those of the tree")]
    ChangedHash {
        /// Which event.
        seq: u64,
    },
    /// No entry has these numbers.
    #[error("{} missing", events(*first, *last))]
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Entries whose numbers are there already, or are behind the end of the log.
    #[error("{} added", in_place(*place, *seq, *count))]
    Extra {
        /// The first one's row.
        place: u64,
        /// The first one's number.
        seq: u64,
        /// How many.
        count: u64,
    },
    /// Entries that were moved.
    #[error("{} out of order", in_place(*place, *seq, *count))]
    OutOfOrder {
        /// The first one's row.
        place: u64,
        /// The first one's number.
        seq: u64,
        /// How many.
        count: u64,
    },
    /// A leaf has its stored hash and is no event that vyr writes.
    #[error("event {seq} is not one that vyr writes: {why}")]
    NotAnEvent {
        /// Which.
        seq: u64,
        /// Why not.
        why: String,
    },
    /// An event that may not follow those before it.
    #[error("event {seq} may not follow those before it: {why}")]
    NotAllowed {
        /// Which.
        seq: u64,
        /// Why not.
        why: String,
    },
    /// Leaves without bytes that no event sealed.
    #[error("bytes of {} gone, and nothing sealed them", events(*first, *last))]
    NotSealed {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// An event that sealed a range states another root than the tree has.
    #[error("event {seq} sealed the events before {before} with another root than theirs")]
    SealedRoot {
        /// Which event.
        seq: u64,
        /// What it sealed.
        before: u64,
    },
    /// A stored hash of a subtree is not that of its leaves.
    #[error("stored hash of {} differs from theirs", tile_events(*tile))]
    BadTile {
        /// Which.
        tile: Tile,
    },
    /// A stored hash of a subtree is not there.
    #[error("stored hash of {} is missing", tile_events(*tile))]
    MissingTile {
        /// Which.
        tile: Tile,
    },
    /// A stored hash of a subtree that the log does not have.
    #[error("stored hash of {} is of no such subtree", tile_events(*tile))]
    ExtraTile {
        /// Which.
        tile: Tile,
    },
    /// The stored head has another root than the events.
    #[error("stored root of {size} events is not theirs; unproven are those from {first} on")]
    HeadRoot {
        /// The first event that no good checkpoint covers.
        first: u64,
        /// The head's size.
        size: u64,
    },
    /// A good checkpoint covers more events than the stored head.
    #[error("stored head has {size} events, a good checkpoint {proven}")]
    HeadBehind {
        /// The head's size.
        size: u64,
        /// That of the checkpoint.
        proven: u64,
    },
    /// The stored frontier cannot be read.
    #[error("stored frontier is damaged")]
    Frontier(#[source] FrontierError),
    /// The stored frontier is not of the stored head.
    #[error("stored frontier is not that of the stored root")]
    FrontierRoot,
    /// The log has fewer events than were signed.
    #[error("log was cut off: {kept} has {size} events, the journal {found}")]
    Truncated {
        /// The checkpoint's size.
        size: u64,
        /// How many events there are.
        found: u64,
        /// Where the checkpoint was.
        kept: Kept,
    },
    /// The events are consistent, and not those that were signed.
    #[error("{} rewritten: {kept} has another root", events(*first, *last))]
    Rewritten {
        /// The first event that no good checkpoint covers.
        first: u64,
        /// The last event that the first checkpoint which does not match covers.
        last: u64,
        /// Where that checkpoint was.
        kept: Kept,
    },
    /// A signed checkpoint contradicts a larger or equal one that matches.
    #[error("node signed another log: {kept} of {size} events has a root that this log never had")]
    Forked {
        /// The checkpoint's size.
        size: u64,
        /// Where it was.
        kept: Kept,
    },
    /// A checkpoint in the journal cannot be read.
    #[error("checkpoint {number} of the journal is damaged")]
    CheckpointDamaged {
        /// Which, in the order they were read, from 0.
        number: u64,
        /// Why.
        source: CheckpointFileError,
    },
    /// A checkpoint's signature is not believed.
    #[error("{kept} of {size} events is not believed")]
    CheckpointUntrusted {
        /// The checkpoint's size.
        size: u64,
        /// Where it was.
        kept: Kept,
        /// Why.
        source: TrustError,
    },
    /// A checkpoint is of another journal.
    #[error("{kept} of {size} events is of {found}, another journal")]
    CheckpointOrigin {
        /// The checkpoint's size.
        size: u64,
        /// Where it was.
        kept: Kept,
        /// Of which.
        found: Origin,
    },
    /// A checkpoint was given after its events had passed. A bug of the caller, told rather than
    /// passed over.
    #[error("{kept} of {size} events came too late to be compared")]
    CheckpointLate {
        /// The checkpoint's size.
        size: u64,
        /// Where it was.
        kept: Kept,
    },
    /// The first event is of another journal.
    #[error("first event is of {found}, another journal")]
    EventOrigin {
        /// Of which.
        found: Origin,
    },
}

impl Fault {
    /// Whether an event is not what or where it was, rather than something said about events.
    fn is_of_an_event(&self) -> bool {
        matches!(
            self,
            Self::FlippedLeaf { .. }
                | Self::Missing { .. }
                | Self::Extra { .. }
                | Self::OutOfOrder { .. }
                | Self::NotAnEvent { .. }
                | Self::NotSealed { .. }
        )
    }

    /// The event or size it is about: faults are told in this order.
    pub fn at(&self) -> u64 {
        match self {
            Self::FlippedLeaf { seq }
            | Self::ChangedHash { seq }
            | Self::NotAnEvent { seq, .. }
            | Self::NotAllowed { seq, .. }
            | Self::SealedRoot { seq, .. } => *seq,
            Self::Missing { first, .. }
            | Self::NotSealed { first, .. }
            | Self::HeadRoot { first, .. }
            | Self::Rewritten { first, .. } => *first,
            Self::Extra { place, .. } | Self::OutOfOrder { place, .. } => *place,
            Self::BadTile { tile } | Self::MissingTile { tile } | Self::ExtraTile { tile } => {
                tile.leaves().map_or(u64::MAX, |leaves| leaves.start)
            }
            Self::HeadBehind { size, .. }
            | Self::Truncated { size, .. }
            | Self::Forked { size, .. }
            | Self::CheckpointUntrusted { size, .. }
            | Self::CheckpointOrigin { size, .. }
            | Self::CheckpointLate { size, .. } => *size,
            Self::EventOrigin { .. } => 0,
            Self::Frontier(_) | Self::FrontierRoot | Self::CheckpointDamaged { .. } => u64::MAX,
        }
    }
}

fn events(first: u64, last: u64) -> String {
    if first == last {
        format!("event {first} is")
    } else {
        format!("events {first} to {last} are")
    }
}

fn in_place(place: u64, seq: u64, count: u64) -> String {
    if count == 1 {
        format!("event {seq} in place {place} is")
    } else {
        format!("{count} events, from event {seq} in place {place} on, are")
    }
}

fn tile_events(tile: Tile) -> String {
    match tile.leaves() {
        Some(leaves) => format!("events {} to {}", leaves.start, leaves.end - 1),
        None => format!("tile {} of level {}", tile.index, tile.level),
    }
}

/// A journal is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("journal was changed: {} found{}", faults_text(.faults.len()), more_text(*.more))]
pub struct AuditError {
    /// What was found, by event; at least one.
    pub faults: Vec<Fault>,
    /// How many more there are that nobody would read.
    pub more: u64,
    /// How many events from the first on are under a good checkpoint and have nothing wrong, and
    /// so are as they were.
    pub proven: u64,
}

impl AuditError {
    /// `covered`: how many events a good checkpoint covers.
    pub(super) fn new(mut faults: Vec<Fault>, more: u64, covered: u64) -> Self {
        faults.sort_by_key(Fault::at);
        // A good checkpoint proves the hashes; beside them bytes may be wrong or elsewhere.
        let wrong = faults.iter().filter(|fault| fault.is_of_an_event()).map(Fault::at).min();
        let proven = if more == 0 { covered.min(wrong.unwrap_or(covered)) } else { 0 };
        Self { faults, more, proven }
    }
}

fn faults_text(count: usize) -> String {
    if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") }
}

fn more_text(more: u64) -> String {
    if more == 0 { String::new() } else { format!(", and {more} more") }
}

impl Problem for AuditError {
    fn category(&self) -> Category {
        Category::Auth
    }

    fn hint(&self) -> Option<String> {
        Some(match self.proven {
            0 => "restore the journal from a copy that verifies".to_owned(),
            proven => format!("events before {proven} are proven; restore the rest from a copy"),
        })
    }
}
