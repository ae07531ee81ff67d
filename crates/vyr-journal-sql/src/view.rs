//! The views: what events say about tasks, states, changes and sessions now, in few bytes each.

use rusqlite::{Connection, params};
use vyr_base::{Digest, Hasher};
use vyr_journal::{Body, Event, TaskState, key_print};

use crate::error::JournalError;
use crate::schema::VIEWS;

/// Codes of `tasks.state`.
pub(crate) const ACCEPTED: i64 = 1;
pub(crate) const RUNNING: i64 = 2;

/// Codes of `changes.ended`: of which kind of change the event is the end.
pub(crate) const NOT_ENDED: i64 = 0;
pub(crate) const NETWORK_ENDED: i64 = 1;
pub(crate) const DEPLOY_ENDED: i64 = 2;

pub(crate) fn code(state: TaskState) -> i64 {
    match state {
        TaskState::Completed => 3,
        TaskState::Failed => 4,
        TaskState::Cancelled => 5,
    }
}

/// SQLite's integers are signed; sequence numbers stay far below the sign.
pub(crate) fn number(n: u64) -> i64 {
    n.cast_signed()
}

/// Applies one event.
pub(crate) fn apply(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let seq = number(event.seq);
    match &event.body {
        Body::Accepted(accepted) => {
            let print = key_print(accepted);
            connection
                .prepare_cached(
                    "INSERT INTO tasks (seq, state, key, request) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    seq,
                    ACCEPTED,
                    print.map(|print| number(print.key)),
                    print.map(|print| number(print.request)),
                ])?;
        }
        Body::Bound(bound) => {
            connection
                .prepare_cached("INSERT INTO bindings (task, seq) VALUES (?1, ?2)")?
                .execute(params![number(bound.task), seq])?;
        }
        Body::Started(started) => {
            connection
                .prepare_cached("UPDATE tasks SET state = ?2, started = ?3 WHERE seq = ?1")?
                .execute(params![number(started.task), RUNNING, seq])?;
        }
        Body::Ended(statement) => {
            let task = number(statement.predicate.task_id.seq());
            connection
                .prepare_cached("UPDATE tasks SET state = ?2, ended = ?3 WHERE seq = ?1")?
                .execute(params![task, code(statement.predicate.state), seq])?;
            connection
                .prepare_cached("DELETE FROM bindings WHERE task = ?1")?
                .execute(params![task])?;
        }
        Body::StateCreated(_) => {
            connection
                .prepare_cached("INSERT INTO states (seq) VALUES (?1)")?
                .execute(params![seq])?;
        }
        Body::StateEnded(ended) => {
            connection
                .prepare_cached("DELETE FROM states WHERE seq = ?1")?
                .execute(params![number(ended.state.seq())])?;
        }
        Body::Sealed(sealed) => {
            // Its tasks have all ended: that is when a range may be sealed.
            for view in [
                "DELETE FROM tasks WHERE seq < ?1",
                "DELETE FROM changes WHERE seq < ?1",
                "DELETE FROM sessions WHERE seq < ?1",
            ] {
                connection.prepare_cached(view)?.execute(params![number(sealed.before)])?;
            }
        }
        Body::NetworkEnded(_) | Body::NetworkMoved(_) | Body::NetworkRefused(_) => {
            let ended = matches!(event.body, Body::NetworkEnded(_));
            change(connection, event, if ended { NETWORK_ENDED } else { NOT_ENDED })?;
        }
        Body::DeployEnded(_) => change(connection, event, DEPLOY_ENDED)?,
        Body::SessionBegun(begun) => {
            connection
                .prepare_cached("INSERT INTO sessions (id, seq) VALUES (?1, ?2)")?
                .execute(params![begun.session, seq])?;
        }
        Body::SessionEnded(ended) => {
            connection
                .prepare_cached("DELETE FROM sessions WHERE id = ?1")?
                .execute(params![ended.session])?;
        }
        Body::Created(_)
        | Body::NodeStarted(_)
        | Body::DeployBegun(_)
        | Body::DeployRefused(_)
        | Body::InstanceStarted(_)
        | Body::InstanceReady(_)
        | Body::InstanceEnded(_)
        | Body::SlotHalted(_)
        | Body::SlotResumed(_) => {}
    }
    Ok(())
}

fn change(connection: &Connection, event: &Event, ended: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO changes (id, seq, ended) VALUES (?1, ?2, ?3)")?
        .execute(params![event.body.change(), number(event.seq), ended])?;
    Ok(())
}

/// The digest of all views, row by row, of tasks from event `from` on.
pub(crate) fn digest(connection: &Connection, from: u64) -> Result<Digest, JournalError> {
    let mut hasher = Hasher::new();
    let queries = [
        "SELECT 1, seq, state, coalesce(started, -1), coalesce(ended, -1), coalesce(key, 0),
         coalesce(request, 0)
         FROM tasks WHERE seq >= ?1 ORDER BY seq",
        "SELECT 2, seq, 0, 0, 0, 0, 0 FROM states WHERE seq >= ?1 ORDER BY seq",
        "SELECT 3, task, seq, 0, 0, 0, 0 FROM bindings WHERE task >= ?1 ORDER BY task, seq",
        "SELECT 4, seq, ended, 0, 0, 0, 0 FROM changes WHERE seq >= ?1 ORDER BY seq",
        "SELECT 5, seq, 0, 0, 0, 0, 0 FROM sessions WHERE seq >= ?1 ORDER BY seq",
    ];
    for query in queries {
        let mut statement = connection.prepare(query)?;
        let mut rows = statement.query([number(from)])?;
        while let Some(row) = rows.next()? {
            for column in 0..7 {
                let value: i64 = row.get(column)?;
                hasher.update(&value.to_le_bytes());
            }
        }
    }
    Ok(hasher.finish())
}

/// Drops all views and makes them anew from the events that still have their leaves.
pub(crate) fn rebuild(connection: &Connection, from: u64) -> Result<(), JournalError> {
    connection.execute_batch(VIEWS)?;
    let mut statement =
        connection.prepare("SELECT seq, leaf FROM events WHERE seq >= ?1 ORDER BY seq")?;
    let mut rows = statement.query([number(from)])?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let leaf: Option<Vec<u8>> = row.get(1)?;
        let damaged = |why: String| JournalError::damaged(format!("event {seq}"), why);
        let leaf = leaf.ok_or_else(|| damaged("its leaf is missing".into()))?;
        let event = Event::from_leaf(&leaf).map_err(|e| damaged(e.to_string()))?;
        apply(connection, &event)?;
    }
    Ok(())
}
