//! The tables, and how the file is opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::JournalError;

/// The form of the file, in its `user_version`.
const FORM: i64 = 1;

/// Marks the file as ours ("VYRJ"), in its `application_id`.
const APPLICATION: i64 = 0x5659_524a;

/// How long a commit waits for another process's.
const BUSY: Duration = Duration::from_secs(10);

/// Pages of the write-ahead log after which a commit copies them into the file: 16 MiB, so that a
/// busy node does it every few hundred batches.
const CHECKPOINT_PAGES: i64 = 4096;

const TABLES: &str = "
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, leaf BLOB, hash BLOB NOT NULL, content BLOB, log BLOB
) STRICT;
CREATE TABLE tiles (
    level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, frontier BLOB NOT NULL,
    sealed INTEGER NOT NULL, dropped INTEGER NOT NULL
) STRICT;
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY, text TEXT NOT NULL, signature TEXT NOT NULL
) STRICT;
";

/// Dropped and made anew by `rebuild`.
pub(crate) const VIEWS: &str = "
DROP TABLE IF EXISTS tasks; DROP TABLE IF EXISTS states; DROP TABLE IF EXISTS bindings;
DROP TABLE IF EXISTS changes; DROP TABLE IF EXISTS sessions;
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, started INTEGER, ended INTEGER,
    key INTEGER, request INTEGER
) STRICT;
CREATE INDEX tasks_alive ON tasks (seq) WHERE ended IS NULL;
CREATE TABLE states (seq INTEGER PRIMARY KEY) STRICT;
CREATE TABLE bindings (task INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (task, seq))
STRICT, WITHOUT ROWID;
CREATE TABLE changes (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, ended INTEGER NOT NULL)
STRICT, WITHOUT ROWID;
CREATE TABLE sessions (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// Views that journals of earlier versions do not have, and no event for.
const LATER: &str = "
CREATE TABLE IF NOT EXISTS changes (id TEXT PRIMARY KEY, seq INTEGER NOT NULL,
    ended INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, seq INTEGER NOT NULL)
STRICT, WITHOUT ROWID;
";

/// Opens the file for writing; makes the tables if there are none. `false`: they were there.
pub(crate) fn open(path: &Path) -> Result<(Connection, bool), JournalError> {
    let fail = |source| JournalError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(fail)?;
    let form = version(&transaction)?;
    let new = form == 0;
    if new {
        transaction.execute_batch(TABLES).map_err(fail)?;
        transaction.execute_batch(VIEWS).map_err(fail)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(fail)?;
        transaction.pragma_update(None, "user_version", FORM).map_err(fail)?;
    } else if form != FORM {
        return Err(JournalError::Form { found: form, expected: FORM });
    } else {
        transaction.execute_batch(LATER).map_err(fail)?;
    }
    transaction.commit().map_err(fail)?;
    Ok((connection, new))
}

/// Opens the file for reading.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, JournalError> {
    let fail = |source| JournalError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(32);
    match version(&connection)? {
        FORM => Ok(connection),
        found => Err(JournalError::Form { found, expected: FORM }),
    }
}

fn version(connection: &Connection) -> Result<i64, JournalError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
