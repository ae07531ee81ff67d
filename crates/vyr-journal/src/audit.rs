//! Verification of a whole journal, as a stream, with every fault named.
//!
//! ```text
//! head, checkpoints --expect--> Auditor <--entry-- rows, in the order they are read
//!                                  |
//!              tiles --finish--> Sound | AuditError { faults }
//! ```
//!
//! A row is compared with three things, from the nearest to the farthest: its bytes with its
//! stored hash (a flipped bit), its own number with its place (removal, addition, reordering), and
//! the tree of all of them with the stored head, tiles and signed checkpoints (everything that is
//! consistent in itself, and not what was signed). A range that was rewritten is narrowed down by
//! the last checkpoint that matches and the first that does not.
//!
//! Invariants:
//! 1. No single change of a leaf, a hash, the order or the number of events passes, up to what the
//!    stored head covers; nor any change at all, up to what a checkpoint kept elsewhere covers.
//! 2. Memory is one hash for each 256 events, and the checkpoints that are still to come.
//!
//! What is not said: after the first break in the order the tree cannot be computed, so roots,
//! tiles and the meaning of later events are not judged. Their bytes still are.
//!
//! Not here: reading the table (`vyr-journal-sql`), what may follow what (`ledger`, through
//! the `allowed` function).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::checkpoint::SignedCheckpoint;
use crate::event::{Body, EVENT_VERSION, Event};
use crate::ids::Origin;
use crate::merkle::{Frontier, Hash, TILE_LEVELS, Tile, leaf_hash};
use crate::node_keys::NodeKeys;

mod fault;
mod order;
mod tree;

pub use fault::{AuditError, Fault, Kept};
use order::{Order, Placed, Run};
use tree::Tree;

/// Most faults that are told; more are counted.
pub const FAULTS_MAX: usize = 1000;

/// Most places where rows without bytes end and rows with bytes begin that are remembered.
const EDGES_MAX: usize = 1024;

/// A row of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its place: the row's key.
    pub seq: u64,
    /// Its bytes; `None` when they were sealed.
    pub leaf: Option<&'a [u8]>,
    /// Its stored hash.
    pub hash: Hash,
}

/// The stored head of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many events there are.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// What [`Frontier::to_bytes`] gave.
    pub frontier: Vec<u8>,
}

impl Head {
    /// Of a frontier, as it is to be stored.
    pub fn of(frontier: &Frontier) -> Self {
        Self { size: frontier.size(), root: frontier.root(), frontier: frontier.to_bytes() }
    }
}

/// A journal that is as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sound {
    /// How many events there are.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// How many events from the first on are under a good checkpoint.
    pub proven: u64,
    /// How many checkpoints are good.
    pub checkpoints: u64,
}

/// An audit in progress.
///
/// `allowed` is called with each event that can be read, in order, and says why it may not follow
/// those before it; it is no longer called after a break, where everything would look wrong.
pub struct Auditor<'a, F> {
    origin: Origin,
    keys: &'a NodeKeys,
    head: Head,
    now: Timestamp,
    allowed: F,
    order: Order,
    tree: Tree,
    /// A number came twice.
    again: bool,
    /// The order is broken: the tree stands still.
    broken: bool,
    /// A leaf cannot be trusted: meaning is no longer judged.
    unclear: bool,
    /// The time of the last event that could be read.
    time: Option<Timestamp>,
    expected: BTreeMap<u64, Vec<(SignedCheckpoint, Kept)>>,
    damaged: u64,
    good: u64,
    proven: u64,
    /// Sizes of believed checkpoints that do not match.
    bad: BTreeSet<(u64, Kept)>,
    /// Root at the head's size: does it match?
    head_matches: Option<bool>,
    strays: Vec<Stray>,
    sealed: Vec<(u64, u64)>,
    edges: BTreeMap<u64, Hash>,
    /// Event, what it sealed, the root it states.
    seals: Vec<(u64, u64, Hash)>,
    found: Found,
}

/// A leaf that does not have its stored hash.
struct Stray {
    seq: u64,
    place: u64,
    stored: Hash,
    hash: Hash,
    /// The number it has itself, if it can be read.
    own: Option<u64>,
}

/// The faults so far.
#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    more: u64,
}

impl Found {
    fn push(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.more += 1;
        }
    }
}

impl<'a, F: FnMut(&Event) -> Result<(), String>> Auditor<'a, F> {
    /// Begins with the journal's own name and head. `now` is the time at which keys have to be
    /// valid as long as no event said another (see [`NodeKeys`]).
    pub fn new(origin: Origin, head: Head, keys: &'a NodeKeys, now: Timestamp, allowed: F) -> Self {
        let mut auditor = Self {
            origin,
            keys,
            head,
            now,
            allowed,
            order: Order::default(),
            tree: Tree::default(),
            again: false,
            broken: false,
            unclear: false,
            time: None,
            expected: BTreeMap::new(),
            damaged: 0,
            good: 0,
            proven: 0,
            bad: BTreeSet::new(),
            head_matches: None,
            strays: Vec::new(),
            sealed: Vec::new(),
            edges: BTreeMap::new(),
            seals: Vec::new(),
            found: Found::default(),
        };
        auditor.compare_at_size();
        auditor
    }

    /// How many events were read in order so far: a checkpoint of this size or more is in time.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// A checkpoint of the journal, as it is stored. It may come any time before the event with
    /// its size as number.
    pub fn stored_checkpoint(&mut self, text: &str, signature: &str) {
        let number = self.damaged;
        match SignedCheckpoint::from_parts(text, signature) {
            Ok(signed) => self.expect(signed, Kept::Journal),
            Err(source) => self.found.push(Fault::CheckpointDamaged { number, source }),
        }
        self.damaged += 1;
    }

    /// A checkpoint that was kept elsewhere.
    pub fn kept_checkpoint(&mut self, signed: SignedCheckpoint) {
        self.expect(signed, Kept::Elsewhere);
    }

    fn expect(&mut self, signed: SignedCheckpoint, kept: Kept) {
        let size = signed.checkpoint().size;
        if size < self.tree.size() {
            self.found.push(Fault::CheckpointLate { size, kept });
        } else {
            self.expected.entry(size).or_default().push((signed, kept));
            if size == self.tree.size() {
                self.compare_at_size();
            }
        }
    }

    /// The next row.
    pub fn entry(&mut self, entry: Entry<'_>) {
        let place = entry.seq;
        let hash = entry.leaf.map(leaf_hash);
        let matches = hash.is_none_or(|hash| hash == entry.hash);
        let event = entry.leaf.map(read_event);
        let own = event.as_ref().and_then(|event| event.as_ref().ok()).map(|event| event.seq);
        // A leaf with another hash than its own says nothing reliable about its number.
        let seq = own.filter(|_| matches).unwrap_or_else(|| self.order.expected(place));
        self.broken |= seq != self.tree.size();
        match self.order.add(place, seq) {
            Placed::InRun => {}
            Placed::Again => {
                self.again = true;
                return self.found.push(Fault::Extra { place, seq, count: 1 });
            }
            Placed::TooMany => return self.found.more += 1,
        }
        if let Some(hash) = hash.filter(|_| !matches) {
            self.unclear = true;
            let stray = Stray { seq, place, stored: entry.hash, hash, own };
            if self.strays.len() < FAULTS_MAX {
                self.strays.push(stray);
            } else {
                self.found.more += 1;
            }
        }
        match event {
            None => self.without_bytes(seq),
            Some(_) if !matches => {}
            Some(Ok(event)) => self.read(&event),
            Some(Err(why)) => {
                self.unclear = true;
                self.found.push(Fault::NotAnEvent { seq, why });
            }
        }
        if !self.broken {
            let bytes_begin = entry.leaf.is_some()
                && self.sealed.last().is_some_and(|(_, end)| *end == seq)
                && self.edges.len() < EDGES_MAX;
            if bytes_begin {
                self.edges.insert(seq, self.tree.root());
            }
            self.tree.append(entry.hash, hash.unwrap_or(entry.hash));
            self.compare_at_size();
        }
    }

    fn without_bytes(&mut self, seq: u64) {
        let full = self.sealed.len() == FAULTS_MAX;
        match self.sealed.last_mut() {
            Some((_, end)) if *end == seq => *end = end.saturating_add(1),
            _ if full => self.found.more += 1,
            _ => self.sealed.push((seq, seq.saturating_add(1))),
        }
    }

    fn read(&mut self, event: &Event) {
        self.time = Some(event.time);
        match &event.body {
            Body::Created(created) if event.seq == 0 && created.origin != self.origin => {
                self.found.push(Fault::EventOrigin { found: created.origin });
            }
            Body::Sealed(sealed) => self.seals.push((event.seq, sealed.before, sealed.root)),
            _ => {}
        }
        if !self.broken
            && !self.unclear
            && let Err(why) = (self.allowed)(event)
        {
            self.found.push(Fault::NotAllowed { seq: event.seq, why });
        }
    }

    /// Compares what is stored and signed about the tree of this size.
    fn compare_at_size(&mut self) {
        let size = self.tree.size();
        if size == self.head.size {
            self.head_matches = Some(self.tree.has_root(&self.head.root));
        }
        for (signed, kept) in self.expected.remove(&size).unwrap_or_default() {
            if !self.is_believed(&signed, kept) {
                continue;
            }
            if self.tree.has_root(&signed.checkpoint().root) {
                self.good += 1;
                self.proven = size;
            } else if self.bad.len() < FAULTS_MAX {
                self.bad.insert((size, kept));
            } else {
                self.found.more += 1;
            }
        }
    }

    fn is_believed(&mut self, signed: &SignedCheckpoint, kept: Kept) -> bool {
        let (size, found) = (signed.checkpoint().size, signed.checkpoint().origin);
        if let Err(source) = signed.verify(self.keys, self.time.unwrap_or(self.now)) {
            self.found.push(Fault::CheckpointUntrusted { size, kept, source });
            return false;
        }
        if found != self.origin {
            self.found.push(Fault::CheckpointOrigin { size, kept, found });
            return false;
        }
        true
    }

    /// Ends with the stored tiles, in any order.
    pub fn finish(
        mut self,
        tiles: impl IntoIterator<Item = (Tile, Hash)>,
    ) -> Result<Sound, AuditError> {
        let (in_place, moved) = self.order.judge();
        let found = in_place.last().map_or(0, Run::end);
        self.compare_head();
        self.judge_order(&in_place, &moved, found);
        self.judge_checkpoints(found);
        self.judge_seals();
        // Tiles of events that are not there are told by the events.
        let open = self.broken || self.tree.size() < self.head.size;
        let by_bytes = self.tree.compare_tiles(tiles, open, |fault| self.found.push(fault));
        self.judge_strays(&by_bytes);
        let Found { faults, more } = self.found;
        if faults.is_empty() && more == 0 {
            return Ok(Sound {
                size: self.tree.size(),
                root: self.tree.root(),
                proven: self.proven,
                checkpoints: self.good,
            });
        }
        Err(AuditError::new(faults, more, self.proven))
    }

    fn compare_head(&mut self) {
        let Head { size, root, frontier } = &self.head;
        match Frontier::from_bytes(frontier) {
            Err(source) => self.found.push(Fault::Frontier(source)),
            Ok(stored) if (stored.size(), stored.root()) != (*size, *root) => {
                self.found.push(Fault::FrontierRoot);
            }
            Ok(_) => {}
        }
        if self.head_matches == Some(false) {
            self.found.push(Fault::HeadRoot { first: self.proven.min(*size), size: *size });
        }
        if self.proven > *size {
            self.found.push(Fault::HeadBehind { size: *size, proven: self.proven });
        }
    }

    fn judge_order(&mut self, in_place: &[Run], moved: &[Run], found: u64) {
        let before = self.found.faults.len();
        let limit = self.head.size.max(self.proven);
        for gap in self.order.missing(limit.max(found)) {
            self.found.push(Fault::Missing { first: gap.start, last: gap.end - 1 });
        }
        for run in in_place {
            if let Some(Run { place, seq, count }) = run.split(limit).1 {
                self.found.push(Fault::Extra { place, seq, count });
            }
        }
        for run in moved {
            let (inside, behind) = run.split(limit);
            if let Some(Run { place, seq, count }) = inside {
                self.found.push(Fault::OutOfOrder { place, seq, count });
            }
            if let Some(Run { place, seq, count }) = behind {
                self.found.push(Fault::Extra { place, seq, count });
            }
        }
        // Keys that are not the numbers, where no removal and no addition shifted them.
        if !self.again && self.found.faults.len() == before {
            for Run { place, seq, count } in in_place.iter().filter(|run| run.place != run.seq) {
                let (place, seq, count) = (*place, *seq, *count);
                self.found.push(Fault::OutOfOrder { place, seq, count });
            }
        }
    }

    fn judge_checkpoints(&mut self, found: u64) {
        for (size, waiting) in std::mem::take(&mut self.expected) {
            for (signed, kept) in waiting {
                // One within the events that are there was not reached for a break in the order,
                // which is told already.
                if self.is_believed(&signed, kept) && size > found {
                    self.found.push(Fault::Truncated { size, found, kept });
                }
            }
        }
        let mut rewritten = false;
        for (size, kept) in std::mem::take(&mut self.bad) {
            if size <= self.proven {
                self.found.push(Fault::Forked { size, kept });
            } else if !rewritten {
                // Those after the first that does not match cannot match either.
                rewritten = true;
                let (first, last) = (self.proven, size - 1);
                self.found.push(Fault::Rewritten { first, last, kept });
            }
        }
    }

    fn judge_seals(&mut self) {
        let mut sealed_to = 0;
        for (seq, before, root) in std::mem::take(&mut self.seals) {
            if before > seq || self.edges.get(&before).is_some_and(|edge| *edge != root) {
                self.found.push(Fault::SealedRoot { seq, before });
            } else {
                sealed_to = sealed_to.max(before);
            }
        }
        for (start, end) in std::mem::take(&mut self.sealed) {
            if end > sealed_to {
                self.found.push(Fault::NotSealed { first: start.max(sealed_to), last: end - 1 });
            }
        }
    }

    /// Says of each leaf that does not have its stored hash which of the two was changed, or
    /// whether it is another event's.
    fn judge_strays(&mut self, by_bytes: &BTreeSet<u64>) {
        let strays = std::mem::take(&mut self.strays);
        let home: BTreeMap<u64, Hash> = strays.iter().map(|s| (s.place, s.stored)).collect();
        let leaves_win = self.tree.only_leaves_have(&self.head.root);
        for Stray { seq, place, hash, own, .. } in strays {
            let other = own.filter(|own| *own != place && home.get(own) == Some(&hash));
            let block = seq >> TILE_LEVELS;
            self.found.push(match other {
                Some(seq) => Fault::OutOfOrder { place, seq, count: 1 },
                None if leaves_win || by_bytes.contains(&block) => Fault::ChangedHash { seq },
                None => Fault::FlippedLeaf { seq },
            });
        }
    }
}

/// Reads a leaf, or says why it is no event of ours.
fn read_event(leaf: &[u8]) -> Result<Event, String> {
    let event = Event::from_leaf(leaf).map_err(|error| error.to_string())?;
    if event.v != EVENT_VERSION {
        return Err(format!("it has version {}, expected {EVENT_VERSION}", event.v));
    }
    Ok(event)
}

#[cfg(test)]
mod tests;
