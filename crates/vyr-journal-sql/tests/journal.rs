//! The journal on a real disk.

use std::ops::Range;
use std::path::Path;

use jiff::Timestamp;
use vyr_base::Digest;
use vyr_journal::{
    Accepted, ArtifactRef, Body, EVENT_VERSION, Ending, Event, Ledger, Limits, NodeCreated,
    NodeInfo, Origin, SessionBegun, SessionEnd, SessionEnded, SignerRef, Submitted, TaskId,
    TaskState, inclusion_proof, leaf_hash, verify_inclusion,
};
use vyr_journal_sql::{AppendError, Entry, Journal};

fn origin() -> Origin {
    Origin::new([9; 16])
}

fn open(path: &Path) -> Journal {
    let created = NodeCreated { key_id: "SHA256:k".into(), origin: origin(), predecessor: None };
    Journal::open(path, || (created, Timestamp::UNIX_EPOCH)).expect("journal")
}

fn accepted(key: u64) -> Accepted {
    Accepted {
        artifact: ArtifactRef { digest: Digest::of(b"a"), name: "a".into() },
        deterministic: false,
        input: None,
        key: key.to_string(),
        limits: Limits { cpu_ms: 1, deadline_ms: 1, memory_bytes: 1, output_bytes_max: 1 },
        priority: 0,
        signer: SignerRef { dev: true, key_id: "SHA256:s".into(), principal: "dev".into() },
        states: Vec::new(),
        submitter: "uid:0".into(),
        traceparent: String::new(),
    }
}

fn node() -> NodeInfo {
    NodeInfo { engine: "e".into(), guidance: "off".into(), origin: origin(), version: "0".into() }
}

/// Numbers bodies from the ledger's place, takes them in, and gives the batch.
fn batch(ledger: &mut Ledger, bodies: Vec<Body>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for body in bodies {
        let seq = ledger.next_seq();
        let event = Event { body, seq, time: Timestamp::UNIX_EPOCH, v: EVENT_VERSION };
        ledger.evolve(&event).expect("possible");
        entries.push(Entry::from(event));
    }
    entries
}

fn submit(ledger: &mut Ledger, key: u64) -> (TaskId, Vec<Entry>) {
    let id = TaskId::new(ledger.origin(), ledger.next_seq());
    let Ok(Submitted::New(bodies)) = ledger.submit(accepted(key), false) else { panic!("refused") };
    (id, batch(ledger, bodies))
}

/// `n` tasks, of which all but the last `alive` have ended.
fn fill(journal: &mut Journal, ledger: &mut Ledger, n: u64, alive: u64) -> Vec<TaskId> {
    fill_keys(journal, ledger, 0..n, alive)
}

fn fill_keys(
    journal: &mut Journal,
    ledger: &mut Ledger,
    keys: Range<u64>,
    alive: u64,
) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for key in keys.clone() {
        let (id, mut entries) = submit(ledger, key);
        let started = ledger.start(id, "owner").expect("may start");
        entries.extend(batch(ledger, vec![started]));
        if key < keys.end - alive {
            let ending = Ending::unseen(TaskState::Completed, None, None);
            let ended = ledger.end(id, ending, &node(), Timestamp::UNIX_EPOCH).expect("may end");
            entries.extend(batch(ledger, ended));
        }
        journal.append(&entries).expect("append");
        ids.push(id);
    }
    ids
}

#[test]
fn what_was_appended_is_there_after_a_reopening_and_can_be_proved() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let mut journal = open(&path);
    let mut ledger = journal.ledger().expect("ledger");
    let ids = fill(&mut journal, &mut ledger, 300, 2);
    let (size, root) = (journal.size(), journal.root());
    drop(journal);

    let journal = open(&path);
    assert_eq!((journal.size(), journal.root()), (size, root));
    let again = journal.ledger().expect("ledger");
    assert_eq!(again.tasks(), ledger.tasks());
    assert_eq!(again.tasks().len(), 2);
    let reader = journal.reader().expect("reader");
    for seq in [0, 1, 255, 256, 700, size - 1] {
        let leaf = reader.leaf_at(seq).expect("read").expect("there");
        let proof = inclusion_proof(seq, size, &reader).expect("proof");
        assert!(verify_inclusion(leaf_hash(&leaf), seq, size, &proof, root), "{seq}");
        assert!(!verify_inclusion(leaf_hash(b"other"), seq, size, &proof, root), "{seq}");
    }
    assert_eq!(
        reader.task(ids[0].seq()).expect("row").expect("there").state,
        Some(TaskState::Completed)
    );
    assert_eq!(reader.tasks(u64::MAX, 10, true).expect("rows").len(), 2);
}

#[test]
fn a_writer_that_is_behind_is_told_and_takes_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let (mut first, mut second) = (open(&path), open(&path));
    assert_eq!(first.origin(), second.origin());
    let (mut mine, mut theirs) = (first.ledger().expect("l"), second.ledger().expect("l"));
    let (_, entries) = submit(&mut mine, 1);
    first.append(&entries).expect("append");
    let (_, late) = submit(&mut theirs.clone(), 2);
    let refused = second.append(&late);
    assert!(matches!(refused, Err(AppendError::Behind { size: 2 })), "{refused:?}");
    second.catch_up(&mut theirs).expect("catch up");
    assert_eq!(theirs.tasks(), mine.tasks());
    let (_, entries) = submit(&mut theirs, 2);
    second.append(&entries).expect("append");
    assert_eq!(second.size(), 3);
}

/// Between opening a journal and reading who is alive another process may append anything.
#[test]
fn a_ledger_is_of_one_moment_also_when_the_journal_is_behind_it() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let (mut first, mut second) = (open(&path), open(&path));
    let mut mine = first.ledger().expect("ledger");
    fill(&mut first, &mut mine, 3, 2);
    let mut theirs = second.ledger().expect("ledger");
    assert_eq!((theirs.tasks(), theirs.next_seq()), (mine.tasks(), mine.next_seq()));
    let (_, entries) = submit(&mut mine, 77);
    first.append(&entries).expect("append");
    assert!(second.lock().expect("locked"), "it is behind");
    second.catch_up(&mut theirs).expect("nothing happens twice");
    assert_eq!((theirs.tasks(), second.size()), (mine.tasks(), first.size()));
    second.unlock();
}

#[test]
fn views_made_anew_are_the_same_and_a_changed_view_is_noticed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let mut journal = open(&path);
    let mut ledger = journal.ledger().expect("ledger");
    fill(&mut journal, &mut ledger, 20, 3);
    let (before, after) = journal.rebuild().expect("rebuild");
    assert_eq!(before, after);
    let spoil = rusqlite::Connection::open(&path).expect("open");
    spoil.execute("UPDATE tasks SET state = 5 WHERE state = 3 AND seq < 10", []).expect("spoil");
    let (before, after) = journal.rebuild().expect("rebuild");
    assert_ne!(before, after);
}

#[test]
fn a_sealed_range_loses_its_bytes_and_keeps_its_hashes() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let mut journal = open(&path);
    let mut ledger = journal.ledger().expect("ledger");
    fill(&mut journal, &mut ledger, 1_000, 0);
    let before = journal.seal_point(100, &ledger).expect("asked").expect("something to gain");
    let seal = vyr_journal::Sealed {
        before,
        root: vyr_journal::root_at(before, &journal.reader().expect("reader")).expect("root"),
        views: journal.view_digest(before).expect("digest"),
    };
    let entries = batch(&mut ledger, vec![Body::Sealed(seal.clone())]);
    journal.append(&entries).expect("append");
    while journal.drop_sealed().expect("drop") {}
    let reader = journal.reader().expect("reader");
    assert_eq!(reader.leaf_at(before - 1).expect("read"), None);
    assert!(
        reader.leaf_at(0).expect("read").is_some()
            && reader.leaf_at(before).expect("read").is_some()
    );
    let size = journal.size();
    let proof = inclusion_proof(before, size, &reader).expect("proof");
    let leaf = reader.leaf_at(before).expect("read").expect("there");
    assert!(verify_inclusion(leaf_hash(&leaf), before, size, &proof, journal.root()));
    assert_eq!(journal.view_digest(0).expect("digest"), seal.views);
    let (old, new) = journal.rebuild().expect("rebuild");
    assert_eq!(old, new);
    // And nothing more to gain.
    assert_eq!(journal.seal_point(100, &ledger).expect("asked"), None);
}

fn begun(session: &str) -> Body {
    Body::SessionBegun(Box::new(SessionBegun {
        by: "uid:0".into(),
        instance: "i".into(),
        program: "/bin/sh".into(),
        service: "web".into(),
        session: session.into(),
        slot: "web/http/0".into(),
        terminal: false,
        uid: 0,
        user: None,
    }))
}

fn ended(session: &str) -> Body {
    let (end, session) = (SessionEnd::Code(0), session.into());
    Body::SessionEnded(Box::new(SessionEnded { duration_ms: Some(1), end, session }))
}

#[test]
fn sessions_that_did_not_end_are_known_also_when_views_are_made_anew() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    // As a journal of before there were sessions.
    drop(open(&path));
    let before = rusqlite::Connection::open(&path).expect("open");
    before.execute("DROP TABLE sessions", []).expect("dropped");
    drop(before);
    let mut journal = open(&path);
    let mut ledger = journal.ledger().expect("ledger");
    let reader = journal.reader().expect("reader");
    assert!(reader.open_sessions().expect("asked").is_empty());
    let bodies = vec![begun("c"), begun("b"), begun("a"), ended("b"), ended("never began")];
    journal.append(&batch(&mut ledger, bodies)).expect("append");
    assert_eq!(reader.open_sessions().expect("asked"), ["c", "a"], "oldest first");
    let (before, after) = journal.rebuild().expect("rebuild");
    assert_eq!(before, after);
    let spoil = rusqlite::Connection::open(&path).expect("open");
    spoil.execute("DELETE FROM sessions WHERE id = 'a'", []).expect("spoil");
    let (before, after) = journal.rebuild().expect("rebuild");
    assert_ne!(before, after);
    assert_eq!(reader.open_sessions().expect("asked"), ["c", "a"]);
}

/// Bytes of the file that hold something.
fn used_bytes(path: &Path) -> u64 {
    let connection = rusqlite::Connection::open(path).expect("opens");
    let ask = |name: &str| -> u64 {
        let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).expect("one");
        value.unsigned_abs()
    };
    (ask("page_count") - ask("freelist_count")) * ask("page_size")
}

#[test]
fn a_dropped_event_costs_no_more_than_twice_its_hash() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    let mut journal = open(&path);
    let mut ledger = journal.ledger().expect("ledger");
    // Sealed in several pieces, as a node does it.
    for round in 0..4 {
        fill_keys(&mut journal, &mut ledger, round * 500..(round + 1) * 500, 0);
        let before = journal.seal_point(10, &ledger).expect("asked").expect("something to gain");
        let root = vyr_journal::root_at(before, &journal.reader().expect("reader"));
        let views = journal.view_digest(before).expect("digest");
        let seal = vyr_journal::Sealed { before, root: root.expect("root"), views };
        journal.append(&batch(&mut ledger, vec![Body::Sealed(seal)])).expect("append");
        while journal.drop_sealed().expect("drop") {}
    }
    let used = used_bytes(&path);
    // What is kept, and the tables themselves.
    let kept = 64 << 10;
    let most = journal.size() * 2 * 40 + kept;
    println!("{used} bytes are used for {} events", journal.size());
    assert!(used <= most, "{used} bytes for {} events, not {most}", journal.size());
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal.db");
    std::fs::write(&path, b"not a database at all, but long enough to be looked at as one....")
        .expect("write");
    let created = || {
        (
            NodeCreated { key_id: String::new(), origin: origin(), predecessor: None },
            Timestamp::UNIX_EPOCH,
        )
    };
    assert!(Journal::open(&path, created).is_err());
}
