//! Sessions in the journal.
//!
//! ```text
//! session.begun, on the disk -> machines -> guest: the program -> .. -> session.ended -> its client is told
//! ```
//!
//! Invariants:
//! 1. No program of a session runs before the journal says whose it is; what cannot be written down does
//!    not begin.
//! 2. A session that began ends in the journal whatever becomes of it: with its program, its client or its
//!    instance; one that this process did not see end, when the node is started again.
//! 3. What a program is told and says is not in it: neither arguments and variables, nor data.

use std::sync::Weak;
use std::time::Instant;

use vyr_journal::{Body, SessionBegun, SessionEnd, SessionEnded};
use vyr_journal_sql::Reader;

use super::engine::clip;
use crate::data_dir::DataDir;
use crate::node::{Node, NodeError, append};

/// A session that is in the journal and has not ended there. Dropped, it ends: nobody wants it any more.
#[derive(Debug)]
pub struct Session {
    data: DataDir,
    node: Weak<Node>,
    /// `None`: its end was told.
    name: Option<String>,
    began: Instant,
}

impl Session {
    /// Writes down that it begins; on the disk when this returns. Blocks.
    pub(super) fn begin(
        data: &DataDir,
        node: &Weak<Node>,
        begun: SessionBegun,
    ) -> Result<Self, NodeError> {
        let name = begun.session.clone();
        tell(data, node, |_| Ok(vec![Body::SessionBegun(Box::new(begun))]))?;
        let (data, node) = (data.clone(), Weak::clone(node));
        Ok(Self { data, node, name: Some(name), began: Instant::now() })
    }

    /// Writes down how it ended. Blocks.
    pub fn end(mut self, end: SessionEnd) {
        self.write(end);
    }

    fn write(&mut self, end: SessionEnd) {
        let Some(session) = self.name.take() else { return };
        let end = match end {
            SessionEnd::Failed(why) => SessionEnd::Failed(clip(&why)),
            other => other,
        };
        let duration_ms = Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0));
        let ended = SessionEnded { duration_ms, end, session: session.clone() };
        let told = tell(&self.data, &self.node, |_| Ok(vec![Body::SessionEnded(Box::new(ended))]));
        if let Err(e) = told {
            eprintln!(
                "vyr api: the end of session {session} cannot be written down ({e}); the next start \
                 of the node does it"
            );
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.write(SessionEnd::Failed(CLIENT_GONE.into()));
    }
}

/// Why a session ended that nobody wanted any more.
pub const CLIENT_GONE: &str = "its client is gone";

/// Ends the sessions that an earlier life of the node left: none of them outlived it.
pub(super) fn end_left(data: &DataDir, node: &Weak<Node>) -> Result<(), NodeError> {
    if Reader::open(&data.journal())?.open_sessions()?.is_empty() {
        return Ok(());
    }
    tell(data, node, |reader| {
        let ended = |session| {
            let end = SessionEnd::Failed("the node ended, and nobody saw how it did".into());
            Body::SessionEnded(Box::new(SessionEnded { duration_ms: None, end, session }))
        };
        Ok(reader.open_sessions()?.into_iter().map(ended).collect())
    })
}

fn tell(
    data: &DataDir,
    node: &Weak<Node>,
    choose: impl FnOnce(&Reader) -> Result<Vec<Body>, NodeError>,
) -> Result<(), NodeError> {
    append(data, |reader, _| choose(reader))?;
    if let Some(node) = node.upgrade() {
        node.look();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(session: &str) -> SessionBegun {
        SessionBegun {
            by: "uid:0".into(),
            instance: "i".into(),
            program: "/bin/sh".into(),
            service: "web".into(),
            session: session.into(),
            slot: "web/http/0".into(),
            terminal: false,
            uid: 0,
            user: None,
        }
    }

    fn begin(data: &DataDir, session: &str) -> Session {
        Session::begin(data, &Weak::new(), begun(session)).expect("written down")
    }

    /// Each end, in the order of the journal.
    fn ends(data: &DataDir) -> Vec<(String, SessionEnd)> {
        let reader = Reader::open(&data.journal()).expect("a journal");
        let (size, _) = reader.size().expect("readable");
        let bodies = (0..size).map(|seq| reader.event_at(seq).expect("an event").body);
        let ended = bodies.filter_map(|body| match body {
            Body::SessionEnded(ended) => Some((ended.session, ended.end)),
            _ => None,
        });
        ended.collect()
    }

    #[test]
    fn a_session_ends_once_whoever_sees_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(directory.path()).expect("it is ours");
        let left = begin(&data, "left");
        begin(&data, "ended").end(SessionEnd::Code(7));
        begin(&data, "said").end(SessionEnd::Failed("two\nlines".into()));
        drop(begin(&data, "dropped"));
        let failed = |why: &str| SessionEnd::Failed(why.into());
        let seen = [
            ("ended".to_owned(), SessionEnd::Code(7)),
            ("said".to_owned(), failed("two\u{fffd}lines")),
            ("dropped".to_owned(), failed(CLIENT_GONE)),
        ];
        assert_eq!(ends(&data), seen);
        // Its process was killed.
        std::mem::forget(left);
        for _ in 0..2 {
            end_left(&data, &Weak::new()).expect("written down");
            let (last, before) =
                ends(&data).split_last().map(|(a, b)| (a.clone(), b.to_vec())).expect("some");
            assert_eq!(before, seen);
            assert_eq!(last.0, "left");
            assert!(matches!(last.1, SessionEnd::Failed(_)));
        }
    }

    #[test]
    fn what_cannot_be_written_down_does_not_begin() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(directory.path()).expect("it is ours");
        drop(begin(&data, "first"));
        std::fs::write(
            data.journal(),
            b"no journal at all, and long enough to be looked at as one",
        )
        .expect("spoiled");
        assert!(Session::begin(&data, &Weak::new(), begun("second")).is_err());
    }
}
