//! The writer's end: batches in, one sync each.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use vyr_base::Digest;
use vyr_journal::{
    Body, EVENT_VERSION, Event, Frontier, KEYS_MAX, KeyPrint, Ledger, NodeCreated, Origin,
    SignedCheckpoint, Task, leaf_hash,
};

use crate::error::{AppendError, JournalError};
use crate::reader::Reader;
use crate::schema;
use crate::view::{self, number};

/// Rows of a sealed range that lose their bytes in one transaction: a few milliseconds.
const DROP_ROWS: u64 = 2_000;

/// An event with the small contents that belong to it. Its leaf is made once, when the entry is:
/// the journal hashes and stores it, and whoever tells of the event sends it.
#[derive(Debug, Clone)]
pub struct Entry {
    event: Event,
    leaf: Vec<u8>,
    content: Option<Vec<u8>>,
    log: Option<Vec<u8>>,
}

impl Entry {
    /// `content`: the task's inline input (with `task.accepted`) or small output (with
    /// `task.ended`). `log`: the last of the task's log (with `task.ended`).
    pub fn new(event: Event, content: Option<Vec<u8>>, log: Option<Vec<u8>>) -> Self {
        let leaf = event.to_leaf();
        Self { event, leaf, content, log }
    }

    /// What happened.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What happened, and its leaf.
    pub fn into_event(self) -> (Event, Vec<u8>) {
        (self.event, self.leaf)
    }

    /// What happened, the content, the log.
    pub fn into_parts(self) -> (Event, Option<Vec<u8>>, Option<Vec<u8>>) {
        (self.event, self.content, self.log)
    }
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self::new(event, None, None)
    }
}

/// The journal, for appending. One a process; several processes may have one.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    origin: Origin,
    frontier: Frontier,
    /// The first event that keeps its bytes, and the first whose bytes are still to be dropped.
    sealed: u64,
    dropped: u64,
    locked: bool,
}

impl Journal {
    /// Opens the journal at `path`. If there is none it begins one, with the event that
    /// `genesis` gives.
    pub fn open(
        path: &Path,
        genesis: impl FnOnce() -> (NodeCreated, jiff::Timestamp),
    ) -> Result<Self, JournalError> {
        let (connection, _) = schema::open(path)?;
        let mut journal = Self {
            connection,
            path: path.to_owned(),
            origin: Origin::new([0; 16]),
            frontier: Frontier::new(),
            sealed: 0,
            dropped: 0,
            locked: false,
        };
        let begin = journal.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let there: bool =
            begin.query_row("SELECT EXISTS (SELECT 1 FROM head)", [], |row| row.get(0))?;
        if !there {
            // Dropping begins at 1: the first event names the journal and stays readable.
            begin.execute(
                "INSERT INTO head (id, size, frontier, sealed, dropped) VALUES (0, 0, ?1, 0, 1)",
                [Frontier::new().to_bytes()],
            )?;
            let (created, time) = genesis();
            let event = Event { body: Body::Created(created), seq: 0, time, v: EVENT_VERSION };
            write(&begin, &mut journal.frontier, &[event.into()])?;
        }
        begin.commit()?;
        journal.read_head()?;
        journal.origin = journal.reader()?.origin()?;
        Ok(journal)
    }

    /// The journal's name.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// How many events it has.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all of them.
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The first event that keeps its bytes.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// A second connection, for reading.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::open(&self.path)
    }

    /// Keeps other processes from appending until the next `append` or `unlock`; waits for those
    /// that are at it. Returns whether they appended something this journal has not seen, which
    /// the caller then takes in with `catch_up`.
    pub fn lock(&mut self) -> Result<bool, JournalError> {
        if !self.locked {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.locked = true;
        }
        let size: i64 = self
            .connection
            .prepare_cached("SELECT size FROM head")?
            .query_row([], |row| row.get(0))?;
        Ok(number(self.frontier.size()) != size)
    }

    /// Lets others append again; nothing was.
    pub fn unlock(&mut self) {
        if self.locked {
            // It fails only when SQLite has rolled back by itself.
            let _ = self.connection.prepare_cached("ROLLBACK").and_then(|mut all| all.execute([]));
            self.locked = false;
        }
    }

    /// Appends a batch. When it returns, the batch is on the disk, or nothing of it is, and the
    /// lock is free.
    ///
    /// # Panics
    /// If an event's `seq` is not its place: the caller numbers them from `size`.
    pub fn append(&mut self, batch: &[Entry]) -> Result<(), AppendError> {
        let appended = self.append_locked(batch);
        if appended.is_err() {
            self.unlock();
        }
        appended
    }

    fn append_locked(&mut self, batch: &[Entry]) -> Result<(), AppendError> {
        if self.lock()? {
            let size = self.connection.query_row("SELECT size FROM head", [], |row| {
                row.get::<_, i64>(0).map(i64::cast_unsigned)
            })?;
            return Err(AppendError::Behind { size });
        }
        let mut frontier = self.frontier.clone();
        write(&self.connection, &mut frontier, batch)?;
        let sealed = batch.iter().rev().find_map(|entry| match &entry.event.body {
            Body::Sealed(sealed) => Some(sealed.before),
            _ => None,
        });
        if let Some(before) = sealed {
            self.connection.execute("UPDATE head SET sealed = ?1", [number(before)])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.locked = false;
        self.frontier = frontier;
        self.sealed = sealed.unwrap_or(self.sealed);
        Ok(())
    }

    /// What is alive, from the views, at one moment: other processes may append meanwhile. It may be
    /// ahead of this journal, which the next `lock` says.
    pub fn ledger(&self) -> Result<Ledger, JournalError> {
        let reader = self.reader()?;
        let _one_look = match self.locked {
            true => None,
            false => Some(self.connection.unchecked_transaction()?),
        };
        let size: i64 = self.connection.query_row("SELECT size FROM head", [], |row| row.get(0))?;
        let mut ledger = Ledger::new(self.origin, size.cast_unsigned());
        for seq in self.column("SELECT seq FROM states ORDER BY seq", [])? {
            let event = reader.event_at(seq)?;
            if let Body::StateCreated(created) = event.body {
                ledger.restore_state(seq, created, event.time);
            }
        }
        for seq in self.column("SELECT seq FROM tasks WHERE ended IS NULL ORDER BY seq", [])? {
            let event = reader.event_at(seq)?;
            let Body::Accepted(accepted) = event.body else { continue };
            let mut task = Task { accepted, accepted_at: event.time, running: None };
            let bound = "SELECT seq FROM bindings WHERE task = ?1 ORDER BY seq";
            for bound in self.column(bound, [number(seq)])? {
                if let Body::Bound(bound) = reader.event_at(bound)?.body {
                    ledger.restore_binding(&mut task, &bound);
                }
            }
            let started: Option<i64> = self.connection.query_row(
                "SELECT started FROM tasks WHERE seq = ?1",
                [number(seq)],
                |row| row.get(0),
            )?;
            if let Some(started) = started {
                let event = reader.event_at(started.cast_unsigned())?;
                if let Body::Started(started) = event.body {
                    task.running = Some((started.owner, event.time));
                }
            }
            ledger.restore_task(seq, task);
        }
        Ok(ledger)
    }

    /// Adds the keys of recent submissions to `ledger`.
    pub fn restore_keys(&self, ledger: &mut Ledger) -> Result<(), JournalError> {
        let mut statement = self.connection.prepare(
            "SELECT seq, key, request FROM
             (SELECT seq, key, request FROM tasks WHERE key IS NOT NULL ORDER BY seq DESC LIMIT ?1)
             ORDER BY seq",
        )?;
        let most = i64::try_from(KEYS_MAX).unwrap_or(i64::MAX);
        let mut rows = statement.query([most])?;
        while let Some(row) = rows.next()? {
            let value = |n| row.get::<_, i64>(n).map(i64::cast_unsigned);
            let print = KeyPrint { key: value(1)?, request: value(2)? };
            ledger.restore_key(print, value(0)?);
        }
        Ok(())
    }

    /// Reads what other processes appended, and takes it into `ledger`.
    pub fn catch_up(&mut self, ledger: &mut Ledger) -> Result<(), JournalError> {
        self.read_head()?;
        let reader = self.reader()?;
        while ledger.next_seq() < self.size() {
            let event = reader.event_at(ledger.next_seq())?;
            let at = format!("event {}", event.seq);
            ledger.evolve(&event).map_err(|e| JournalError::damaged(at, e.why))?;
        }
        Ok(())
    }

    /// Keeps a signed checkpoint.
    pub fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), JournalError> {
        let size = number(checkpoint.checkpoint().size);
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO checkpoints (size, text, signature) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![size, checkpoint.checkpoint().to_string(), checkpoint.signature()])?;
        Ok(())
    }

    /// Where a seal may be set so that at least `keep` of the newest tasks stay, none of the tasks
    /// before it is alive, and no state: the event, or `None` when there is nothing to gain.
    pub fn seal_point(&self, keep: u64, ledger: &Ledger) -> Result<Option<u64>, JournalError> {
        let oldest_kept: Option<i64> = self
            .connection
            .query_row(
                "SELECT seq FROM tasks ORDER BY seq DESC LIMIT 1 OFFSET ?1",
                [number(keep)],
                |row| row.get(0),
            )
            .optional()?;
        let Some(oldest) = oldest_kept else { return Ok(None) };
        let alive = ledger.tasks().keys().chain(ledger.states().keys()).min().copied();
        let before = alive.map_or(oldest.cast_unsigned(), |seq| seq.min(oldest.cast_unsigned()));
        Ok((before > self.sealed).then_some(before))
    }

    /// The digest of the views of tasks from event `from` on.
    pub fn view_digest(&self, from: u64) -> Result<Digest, JournalError> {
        view::digest(&self.connection, from)
    }

    /// Drops bytes of the sealed range, some; `true`: there is more to drop.
    ///
    /// The rows are taken out and put back with their hashes alone. Making them shorter where they
    /// are would leave each page to the four or so rows that filled it, and the file would grow by
    /// most of a page a task for ever.
    pub fn drop_sealed(&mut self) -> Result<bool, JournalError> {
        if self.dropped >= self.sealed {
            return Ok(false);
        }
        let to = self.sealed.min(self.dropped + DROP_ROWS);
        let transaction = self.connection.transaction()?;
        let range = [number(self.dropped), number(to)];
        let hashes: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached("SELECT seq, hash FROM events WHERE seq >= ?1 AND seq < ?2")?
            .query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        transaction
            .prepare_cached("DELETE FROM events WHERE seq >= ?1 AND seq < ?2")?
            .execute(range)?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO events (seq, hash) VALUES (?1, ?2)")?;
            for (seq, hash) in hashes {
                insert.execute(params![seq, hash])?;
            }
        }
        transaction.execute("UPDATE head SET dropped = ?1", [number(to)])?;
        transaction.commit()?;
        self.dropped = to;
        Ok(to < self.sealed)
    }

    /// Makes all views anew from the events; returns their digest before and after.
    pub fn rebuild(&mut self) -> Result<(Digest, Digest), JournalError> {
        let sealed = self.sealed;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = view::digest(&transaction, 0)?;
        view::rebuild(&transaction, sealed)?;
        let after = view::digest(&transaction, 0)?;
        transaction.commit()?;
        Ok((before, after))
    }

    fn read_head(&mut self) -> Result<(), JournalError> {
        let head = self.connection.query_row(
            "SELECT size, frontier, sealed, dropped FROM head",
            [],
            |row| {
                let number = |n| row.get::<_, i64>(n).map(i64::cast_unsigned);
                Ok((number(0)?, row.get::<_, Vec<u8>>(1)?, number(2)?, number(3)?))
            },
        )?;
        let (size, frontier, sealed, dropped) = head;
        self.frontier =
            Frontier::from_bytes(&frontier).map_err(|e| JournalError::damaged("the head", e))?;
        (self.sealed, self.dropped) = (sealed, dropped);
        match self.frontier.size() == size {
            true => Ok(()),
            false => Err(JournalError::damaged("the head", "size and frontier disagree")),
        }
    }

    fn column<P: rusqlite::Params>(
        &self,
        query: &str,
        parameters: P,
    ) -> Result<Vec<u64>, JournalError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map(parameters, |row| row.get::<_, i64>(0))?;
        rows.map(|seq| Ok(seq?.cast_unsigned())).collect()
    }
}

/// Writes a batch into an open transaction.
fn write(
    transaction: &Connection,
    frontier: &mut Frontier,
    batch: &[Entry],
) -> rusqlite::Result<()> {
    let mut event_row = transaction.prepare_cached(
        "INSERT INTO events (seq, leaf, hash, content, log) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for Entry { event, leaf, content, log } in batch {
        assert_eq!(event.seq, frontier.size(), "events are numbered by their place");
        let hash = leaf_hash(leaf);
        event_row.execute(params![number(event.seq), leaf, hash.as_bytes(), content, log])?;
        let mut tile_fault = Ok(());
        frontier.append(hash, |tile, hash| {
            let row = transaction
                .prepare_cached("INSERT INTO tiles (level, place, hash) VALUES (?1, ?2, ?3)")
                .and_then(|mut row| {
                    row.execute(params![tile.level, number(tile.index), hash.as_bytes()])
                });
            if let Err(e) = row {
                tile_fault = Err(e);
            }
        });
        tile_fault?;
        view::apply(transaction, event)?;
    }
    transaction
        .prepare_cached("UPDATE head SET size = ?1, frontier = ?2")?
        .execute(params![number(frontier.size()), frontier.to_bytes()])?;
    Ok(())
}
