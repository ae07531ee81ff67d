//! The readers' end: events, contents, hashes, without ever stopping the writer.

use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use vyr_base::Digest;
use vyr_journal::{Body, Event, Hash, HashSource, Origin, SignedCheckpoint, TaskState, Tile};

use crate::error::JournalError;
use crate::schema;
use crate::view::{self, DEPLOY_ENDED, NETWORK_ENDED, number};

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub seq: u64,
    /// Its bytes; `None` once they were dropped.
    pub leaf: Option<Vec<u8>>,
    /// Its leaf hash.
    pub hash: Hash,
}

/// What the views say of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRow {
    /// The event that accepted it.
    pub accepted: u64,
    /// The event of its start.
    pub started: Option<u64>,
    /// The event of its end.
    pub ended: Option<u64>,
    /// How it ended.
    pub state: Option<TaskState>,
}

/// The journal, for reading: each call sees what was committed when it began.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the journal at `path`, which must be there.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { connection: schema::open_to_read(path)? })
    }

    /// The journal's name.
    pub fn origin(&self) -> Result<Origin, JournalError> {
        match self.event_at(0)?.body {
            Body::Created(created) => Ok(created.origin),
            _ => Err(JournalError::damaged("event 0", "it does not create the journal")),
        }
    }

    /// How many events there are, and the first that keeps its bytes.
    pub fn size(&self) -> Result<(u64, u64), JournalError> {
        let mut statement = self.connection.prepare_cached("SELECT size, sealed FROM head")?;
        Ok(statement.query_row([], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
        })?)
    }

    /// One event; an error if it is not there or sealed.
    pub fn event_at(&self, seq: u64) -> Result<Event, JournalError> {
        let damaged = |why: &str| JournalError::damaged(format!("event {seq}"), why);
        let leaf = self.leaf_at(seq)?.ok_or_else(|| damaged("it is missing"))?;
        Event::from_leaf(&leaf).map_err(|e| damaged(&e.to_string()))
    }

    /// One event's bytes; `None` if it is not there or sealed.
    pub fn leaf_at(&self, seq: u64) -> Result<Option<Vec<u8>>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT leaf FROM events WHERE seq = ?1")?;
        Ok(statement.query_row([number(seq)], |row| row.get(0)).optional()?.flatten())
    }

    /// The content stored with an event.
    pub fn content_at(&self, seq: u64) -> Result<Option<Vec<u8>>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT content FROM events WHERE seq = ?1")?;
        Ok(statement.query_row([number(seq)], |row| row.get(0)).optional()?.flatten())
    }

    /// The log stored with an event.
    pub fn log_at(&self, seq: u64) -> Result<Option<Vec<u8>>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT log FROM events WHERE seq = ?1")?;
        Ok(statement.query_row([number(seq)], |row| row.get(0)).optional()?.flatten())
    }

    /// Rows of the log from `from` on, at most `limit`.
    pub fn rows(&self, from: u64, limit: u64) -> Result<Vec<Stored>, JournalError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, leaf, hash FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = statement.query([number(from), number(limit)])?;
        let mut stored = Vec::new();
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(0)?.cast_unsigned();
            let hash = hash(seq, row.get(2)?)?;
            stored.push(Stored { seq, leaf: row.get(1)?, hash });
        }
        Ok(stored)
    }

    /// The event that is about this change of the network.
    pub fn change(&self, id: &str) -> Result<Option<u64>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT seq FROM changes WHERE id = ?1")?;
        let seq: Option<i64> = statement.query_row([id], |row| row.get(0)).optional()?;
        Ok(seq.map(i64::cast_unsigned))
    }

    /// The event in which the last change of the network ended.
    pub fn last_change(&self) -> Result<Option<u64>, JournalError> {
        self.last_of(NETWORK_ENDED)
    }

    /// The event in which the last deploy ended.
    pub fn last_deploy(&self) -> Result<Option<u64>, JournalError> {
        self.last_of(DEPLOY_ENDED)
    }

    /// The names of sessions that began and did not end, oldest first.
    pub fn open_sessions(&self) -> Result<Vec<String>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT id FROM sessions ORDER BY seq")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.map(|id| Ok(id?)).collect()
    }

    fn last_of(&self, ended: i64) -> Result<Option<u64>, JournalError> {
        let mut statement =
            self.connection.prepare_cached("SELECT max(seq) FROM changes WHERE ended = ?1")?;
        let seq: Option<i64> = statement.query_row([ended], |row| row.get(0))?;
        Ok(seq.map(i64::cast_unsigned))
    }

    /// What the views say of the task that event `seq` accepted.
    pub fn task(&self, seq: u64) -> Result<Option<TaskRow>, JournalError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, started, ended, state FROM tasks WHERE seq = ?1")?;
        Ok(statement.query_row([number(seq)], task_row).optional()?)
    }

    /// Tasks accepted before event `before`, newest first.
    pub fn tasks(
        &self,
        before: u64,
        limit: u64,
        alive: bool,
    ) -> Result<Vec<TaskRow>, JournalError> {
        let query = if alive {
            "SELECT seq, started, ended, state FROM tasks
             WHERE seq < ?1 AND ended IS NULL ORDER BY seq DESC LIMIT ?2"
        } else {
            "SELECT seq, started, ended, state FROM tasks
             WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2"
        };
        let mut statement = self.connection.prepare_cached(query)?;
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![before, number(limit)], task_row)?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The newest content with this digest, by reading all there are: the slow way, for contents
    /// that nobody remembers.
    pub fn find_content(&self, digest: &Digest) -> Result<Option<Vec<u8>>, JournalError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT content FROM events WHERE content IS NOT NULL ORDER BY seq DESC",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let content: Vec<u8> = row.get(0)?;
            if Digest::of(&content) == *digest {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// The newest checkpoint of at least `size` events.
    pub fn checkpoint(&self, size: u64) -> Result<Option<SignedCheckpoint>, JournalError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT text, signature FROM checkpoints WHERE size >= ?1 ORDER BY size DESC LIMIT 1",
        )?;
        let found: Option<(String, String)> =
            statement.query_row([number(size)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let damaged = |e| JournalError::damaged("a checkpoint", e);
        found
            .map(|(text, signature)| {
                SignedCheckpoint::from_parts(&text, &signature).map_err(damaged)
            })
            .transpose()
    }

    /// All checkpoints as they are stored: size, text, signature.
    pub fn checkpoints(&self) -> Result<Vec<(u64, String, String)>, JournalError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT size, text, signature FROM checkpoints ORDER BY size")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?, row.get(2)?))
        })?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The stored frontier.
    pub fn frontier(&self) -> Result<Vec<u8>, JournalError> {
        let mut statement = self.connection.prepare_cached("SELECT frontier FROM head")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Every hash of a subtree that is stored.
    pub fn tiles(&self) -> Result<Vec<(Tile, Hash)>, JournalError> {
        let mut statement = self.connection.prepare("SELECT level, place, hash FROM tiles")?;
        let mut rows = statement.query([])?;
        let mut tiles = Vec::new();
        while let Some(row) = rows.next()? {
            let (level, index) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned());
            let at = || format!("tile {level}/{index}");
            let tile = u8::try_from(level).map(|level| Tile { level, index });
            let tile = tile.map_err(|e| JournalError::damaged(at(), e))?;
            tiles.push((tile, hash(index, row.get(2)?)?));
        }
        Ok(tiles)
    }

    /// From here on every call sees what was committed when the first of them began.
    pub fn stand_still(&self) -> Result<(), JournalError> {
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    /// The digest of the views of tasks from event `from` on.
    pub fn view_digest(&self, from: u64) -> Result<Digest, JournalError> {
        view::digest(&self.connection, from)
    }
}

fn task_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<TaskRow> {
    let number = |n| row.get::<_, Option<i64>>(n).map(|n| n.map(i64::cast_unsigned));
    let states = [TaskState::Completed, TaskState::Failed, TaskState::Cancelled];
    let code: i64 = row.get(3)?;
    Ok(TaskRow {
        accepted: number(0)?.unwrap_or_default(),
        started: number(1)?,
        ended: number(2)?,
        state: states.into_iter().find(|state| view::code(*state) == code),
    })
}

fn hash(seq: u64, bytes: Vec<u8>) -> Result<Hash, JournalError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| {
        JournalError::damaged(format!("event {seq}"), "its hash has another length")
    })?;
    Ok(Hash::from_bytes(bytes))
}

impl HashSource for Reader {
    type Error = JournalError;

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Hash>, JournalError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, hash FROM events WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
        )?;
        let mut rows = statement.query([number(range.start), number(range.end)])?;
        let mut hashes = Vec::new();
        while let Some(row) = rows.next()? {
            hashes.push(hash(row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)?);
        }
        Ok(hashes)
    }

    fn tile(&self, level: u8, index: u64) -> Result<Hash, JournalError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT hash FROM tiles WHERE level = ?1 AND place = ?2")?;
        let found: Option<Vec<u8>> =
            statement.query_row(params![level, number(index)], |row| row.get(0)).optional()?;
        let at = format!("tile {level}/{index}");
        match found {
            Some(bytes) => hash(index, bytes),
            None => Err(JournalError::damaged(at, "it is missing")),
        }
    }
}
