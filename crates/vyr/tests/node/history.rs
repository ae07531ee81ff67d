//! What the journal's file says happened, with the auditor as judge.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use vyr_journal::{
    Accepted, Auditor, Body, Entry, Event, Frontier, HashSource, Head, Ledger, NodeKeys, Statement,
    TILE_LEVELS, TaskId, TaskState, Tile,
};
use vyr_journal_sql::Reader;

/// All tasks of a journal.
pub(crate) struct History {
    pub(crate) accepted: BTreeMap<TaskId, Accepted>,
    /// Every end of every task: one each, if all is well.
    pub(crate) ends: BTreeMap<TaskId, Vec<Statement>>,
    /// The largest sum of memory caps between starts and ends.
    pub(crate) reserved_most: u64,
}

impl History {
    /// Reads all of the journal in `data` and audits it: every byte, every hash, every checkpoint
    /// against `node_key`, and that each event may follow those before it.
    #[track_caller]
    pub(crate) fn audited(data: &Path, node_key: &str) -> Self {
        let reader = Reader::open(&data.join("node/journal.db")).expect("a journal");
        let origin = reader.origin().expect("an origin");
        let frontier = Frontier::from_bytes(&reader.frontier().expect("a head")).expect("valid");
        let keys = NodeKeys::parse(node_key.as_bytes()).expect("a key");
        let mut ledger = Ledger::new(origin, 0);
        let mut auditor =
            Auditor::new(origin, Head::of(&frontier), &keys, Timestamp::now(), |event: &Event| {
                ledger.evolve(event).map_err(|e| e.to_string())
            });
        for (_, text, signature) in reader.checkpoints().expect("checkpoints") {
            auditor.stored_checkpoint(&text, &signature);
        }
        let mut history =
            Self { accepted: BTreeMap::new(), ends: BTreeMap::new(), reserved_most: 0 };
        let mut running: BTreeMap<u64, u64> = BTreeMap::new();
        let rows = reader.rows(0, u64::from(u32::MAX)).expect("rows");
        for row in &rows {
            auditor.entry(Entry { seq: row.seq, leaf: row.leaf.as_deref(), hash: row.hash });
            let event = Event::from_leaf(row.leaf.as_deref().expect("nothing is sealed here"));
            match event.expect("an event").body {
                Body::Accepted(accepted) => {
                    let id = TaskId::new(origin, row.seq);
                    history.accepted.insert(id, (*accepted).clone());
                }
                Body::Started(started) => {
                    let id = TaskId::new(origin, started.task);
                    let cap = history.accepted[&id].limits.memory_bytes;
                    running.insert(started.task, cap);
                    history.reserved_most = history.reserved_most.max(running.values().sum());
                }
                Body::Ended(statement) => {
                    running.remove(&statement.predicate.task_id.seq());
                    let ends = history.ends.entry(statement.predicate.task_id).or_default();
                    ends.push(*statement);
                }
                _ => {}
            }
        }
        let size = frontier.size();
        let tiles = (1..=3)
            .map(|n| n * TILE_LEVELS)
            .flat_map(|level| (0..size >> level).map(move |index| Tile { level, index }));
        let tiles = tiles.map(|tile| (tile, reader.tile(tile.level, tile.index).expect("a tile")));
        let sound = auditor.finish(tiles.collect::<Vec<_>>());
        let sound = sound.unwrap_or_else(|faults| panic!("the journal is not sound: {faults:?}"));
        assert_eq!(sound.size, rows.len() as u64);
        history
    }

    /// Every task that was accepted ended, once; and no key made two tasks.
    #[track_caller]
    pub(crate) fn all_ended_once(&self) {
        for (id, accepted) in &self.accepted {
            let ends = self.ends.get(id).map_or(0, Vec::len);
            assert_eq!(ends, 1, "{id} (key {:?}) has so many ends", accepted.key);
        }
        assert_eq!(self.ends.len(), self.accepted.len(), "ends of tasks nobody accepted");
        let mut keys: BTreeMap<(&str, &str), TaskId> = BTreeMap::new();
        for (id, accepted) in self.accepted.iter().filter(|(_, a)| !a.key.is_empty()) {
            let other = keys.insert((&accepted.submitter, &accepted.key), *id);
            assert_eq!(other, None, "{:?} made two tasks, the other is {id}", accepted.key);
        }
    }

    /// How a task ended.
    #[track_caller]
    pub(crate) fn end(&self, id: &str) -> (TaskState, Option<&str>) {
        let id: TaskId = id.parse().expect("an id");
        let ends = self.ends.get(&id).unwrap_or_else(|| panic!("{id} has not ended"));
        (ends[0].predicate.state, ends[0].predicate.reason.as_deref())
    }
}
