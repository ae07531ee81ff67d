//! Events that do not come from tasks, put into a journal whoever else writes to it.

use std::error::Error as _;

use jiff::Timestamp;
use vyr_journal::{Body, EVENT_VERSION, Event, Origin};
use vyr_journal_sql::{Entry, Reader};

use super::error::NodeError;
use super::handle::open_journal;
use crate::data_dir::DataDir;

/// Appends what `choose` gives, in one commit; how many events that were.
///
/// `choose` sees the journal as it is while nobody else can write to it. Any number of processes
/// may do this at once; a node that runs on the journal is to be told to [look](super::Node::look).
pub(crate) fn append(
    data: &DataDir,
    choose: impl FnOnce(&Reader, Origin) -> Result<Vec<Body>, NodeError>,
) -> Result<usize, NodeError> {
    let (mut journal, _) = open_journal(data)?;
    let behind = journal.lock()?;
    // Under the lock it is of all that is there.
    let mut ledger = journal.ledger()?;
    if behind {
        journal.catch_up(&mut ledger)?;
    }
    let chosen = choose(&journal.reader()?, journal.origin())?;
    let mut entries: Vec<Entry> = Vec::new();
    for body in chosen {
        let (seq, time, v) = (ledger.next_seq(), micros(Timestamp::now()), EVENT_VERSION);
        let event = Event { body, seq, time, v };
        ledger.evolve(&event).map_err(|e| NodeError::Invalid(e.to_string()))?;
        entries.push(event.into());
    }
    if entries.is_empty() {
        journal.unlock();
        return Ok(0);
    }
    journal.append(&entries).map_err(|e| {
        // What SQLite said is beneath: that is what somebody can mend.
        let (mut why, mut next) = (e.to_string(), e.source());
        while let Some(cause) = next {
            why = format!("{why}: {cause}");
            next = cause.source();
        }
        NodeError::Unwritable { why, hint: None }
    })?;
    Ok(entries.len())
}

/// The time as an event may have it.
pub(crate) fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
