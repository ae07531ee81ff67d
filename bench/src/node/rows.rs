//! The rows of a task in a journal, written without making them: what both commits of a task cost
//! when nothing but the disk and SQLite is paid for.
//!
//! The tables are made by the journal itself. Leaves are those of a task that a node ran, with
//! other sequence numbers; hashes are constant. So rows, bytes and commits are the node's, and
//! canonical JSON, hashing, the ledger and the tree are not paid for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prost::Message;
use rusqlite::{Connection, params};
use vyr_api::control::Span;
use vyr_journal::{NodeCreated, Origin};
use vyr_journal_sql::Journal;

/// As `vyr-journal-sql` sets it.
const CHECKPOINT_PAGES: i64 = 4096;

/// A leaf in a tree completes a tile each so many.
const TILE: u64 = 256;

/// Stands for the hash of a leaf or a tile.
const HASH: [u8; 32] = [0x5a; 32];

/// Digits of a sequence number; a journal of a benchmark has fewer than ten million events.
const DIGITS: usize = 7;

/// A leaf whose sequence number can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    bytes: Vec<u8>,
    digits: usize,
}

impl Template {
    /// From a leaf.
    pub fn new(leaf: &[u8]) -> Result<Self> {
        const KEY: &[u8] = b"\"seq\":";
        let key = leaf.windows(KEY.len()).rposition(|window| window == KEY);
        let start = key.context("a leaf without a sequence number")? + KEY.len();
        let end = leaf[start..].iter().position(|byte| !byte.is_ascii_digit());
        let end = start + end.context("a leaf that ends too early")?;
        let bytes = [&leaf[..start], &[b'0'; DIGITS], &leaf[end..]].concat();
        Ok(Self { bytes, digits: start })
    }

    fn numbered(&mut self, mut seq: u64) -> &[u8] {
        for digit in self.bytes[self.digits..self.digits + DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(seq % 10).unwrap_or(0);
            seq /= 10;
        }
        &self.bytes
    }
}

/// What a task leaves in a journal, and what a subscriber is told at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The leaf of its acceptance.
    pub accepted: Template,
    /// Of its start.
    pub started: Template,
    /// Of its end.
    pub ended: Template,
    /// The small input that goes with its acceptance.
    pub input: Vec<u8>,
    /// The small output that goes with its end.
    pub output: Vec<u8>,
    /// Its terminal span.
    pub span: Span,
}

impl Task {
    /// Writes the parts into `directory`, for another process.
    pub fn save(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let save = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes);
        save("accepted", &self.accepted.bytes)?;
        save("started", &self.started.bytes)?;
        save("ended", &self.ended.bytes)?;
        save("input", &self.input)?;
        save("output", &self.output)?;
        save("span", &self.span.encode_to_vec())?;
        Ok(())
    }

    /// Reads what `save` wrote.
    pub fn load(directory: &Path) -> Result<Self> {
        let load = |name: &str| {
            fs::read(directory.join(name)).with_context(|| format!("cannot read the part {name}"))
        };
        Ok(Self {
            accepted: Template::new(&load("accepted")?)?,
            started: Template::new(&load("started")?)?,
            ended: Template::new(&load("ended")?)?,
            input: load("input")?,
            output: load("output")?,
            span: Span::decode(load("span")?.as_slice())?,
        })
    }
}

/// A journal that is written without being made.
#[derive(Debug)]
pub struct Rows {
    connection: Connection,
    size: u64,
}

impl Rows {
    /// Makes the journal at `path`, which must not be there.
    pub fn create(path: &Path) -> Result<Self> {
        ensure!(!path.exists(), "{} is there already", path.display());
        let created = || NodeCreated {
            key_id: "SHA256:reference".into(),
            origin: Origin::new([0x5a; 16]),
            predecessor: None,
        };
        let size = Journal::open(path, || (created(), jiff::Timestamp::UNIX_EPOCH))?.size();
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection, size })
    }

    /// Begins a transaction.
    pub fn begin(&mut self) -> Result<()> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// The rows of an acceptance and a start; returns the acceptance's number.
    pub fn accept(&mut self, task: &mut Task) -> Result<u64> {
        let accepted = self.event(&mut task.accepted, Some(&task.input))?;
        self.connection
            .prepare_cached("INSERT INTO tasks (seq, state, key, request) VALUES (?1, 1, ?2, ?3)")?
            .execute(params![number(accepted), None::<i64>, None::<i64>])?;
        let started = self.event(&mut task.started, None)?;
        self.connection
            .prepare_cached("UPDATE tasks SET state = 2, started = ?2 WHERE seq = ?1")?
            .execute(params![number(accepted), number(started)])?;
        Ok(accepted)
    }

    /// The rows of the end of `accepted`.
    pub fn end(&mut self, task: &mut Task, accepted: u64) -> Result<()> {
        let ended = self.event(&mut task.ended, Some(&task.output))?;
        self.connection
            .prepare_cached("UPDATE tasks SET state = 3, ended = ?2 WHERE seq = ?1")?
            .execute(params![number(accepted), number(ended)])?;
        self.connection
            .prepare_cached("DELETE FROM bindings WHERE task = ?1")?
            .execute(params![number(accepted)])?;
        Ok(())
    }

    /// Commits: on the disk when it returns.
    pub fn commit(&mut self) -> Result<()> {
        // As long as a real one: a version, the size, a hash for each subtree.
        let frontier = vec![0x5a_u8; 9 + HASH.len() * self.size.count_ones() as usize];
        self.connection
            .prepare_cached("UPDATE head SET size = ?1, frontier = ?2")?
            .execute(params![number(self.size), frontier])?;
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn event(&mut self, leaf: &mut Template, content: Option<&[u8]>) -> Result<u64> {
        let seq = self.size;
        self.connection
            .prepare_cached(
                "INSERT INTO events (seq, leaf, hash, content, log) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![number(seq), leaf.numbered(seq), HASH, content, None::<Vec<u8>>])?;
        self.size += 1;
        let (mut place, mut level) = (self.size, 0);
        while place.is_multiple_of(TILE) {
            (place, level) = (place / TILE, level + 8);
            self.connection
                .prepare_cached("INSERT INTO tiles (level, place, hash) VALUES (?1, ?2, ?3)")?
                .execute(params![level, number(place - 1), HASH])?;
        }
        Ok(seq)
    }
}

fn number(n: u64) -> i64 {
    n.cast_signed()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn task() -> Task {
        let leaf =
            |kind: &str| Template::new(format!("{{\"{kind}\":1,\"seq\":42,\"v\":1}}").as_bytes());
        Task {
            accepted: leaf("a").expect("a leaf"),
            started: leaf("s").expect("a leaf"),
            ended: leaf("e").expect("a leaf"),
            input: Vec::new(),
            output: b"hello\n".to_vec(),
            span: Span { task_id: "t-00000000-42".into(), ..Span::default() },
        }
    }

    #[test]
    fn a_template_takes_any_number() {
        let mut leaf = Template::new(b"{\"seq\":7,\"v\":1}").expect("a leaf");
        assert_eq!(leaf.numbered(1_234_567), b"{\"seq\":1234567,\"v\":1}");
        assert_eq!(leaf.numbered(89), b"{\"seq\":0000089,\"v\":1}");
        assert!(Template::new(b"{}").is_err());
    }

    #[test]
    fn parts_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().expect("temporary directory");
        task().save(dir.path()).expect("writes");
        assert_eq!(Task::load(dir.path()).expect("reads"), task());
    }

    #[test]
    fn rows_are_as_many_as_those_of_a_journal() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("journal.db");
        let (mut rows, mut task) = (Rows::create(&path).expect("creates"), task());
        for _ in 0..100 {
            rows.begin().expect("begins");
            let accepted = rows.accept(&mut task).expect("rows");
            rows.commit().expect("commits");
            rows.begin().expect("begins");
            rows.end(&mut task, accepted).expect("rows");
            rows.commit().expect("commits");
        }
        let count = |query: &str| -> i64 {
            rows.connection.query_row(query, [], |row| row.get(0)).expect("counts")
        };
        // One of the journal's own.
        assert_eq!(count("SELECT count(*) FROM events"), 301);
        assert_eq!(count("SELECT count(*) FROM tasks WHERE state = 3 AND ended > started"), 100);
        assert_eq!(count("SELECT count(*) FROM tiles"), 1);
        assert!(Rows::create(&path).is_err());
    }
}
