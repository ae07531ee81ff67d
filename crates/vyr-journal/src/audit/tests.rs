//! A simulated table, every way to touch it, and what the audit says.

use proptest::prelude::*;
use vyr_base::{Category, Problem as _};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::tests::{at as now, key, keys_of};
use crate::event::tests::{at, one_of_each, origin};
use crate::event::{NodeCreated, NodeStarted, Sealed};

/// Crosses a tile's edge: 256 and some.
const SIZE: u64 = 300;

#[derive(Clone, Debug, PartialEq)]
struct Row {
    seq: u64,
    leaf: Option<Vec<u8>>,
    hash: Hash,
}

/// What a journal's tables hold.
#[derive(Clone)]
struct Table {
    rows: Vec<Row>,
    head: Head,
    tiles: BTreeMap<Tile, Hash>,
    checkpoints: Vec<(String, String)>,
    since: Option<SignedCheckpoint>,
}

fn event(seq: u64, body: Body) -> Event {
    Event { body, seq, time: at(i64::try_from(seq).expect("small")), v: EVENT_VERSION }
}

/// What happened at `seq` in the honest journal.
fn body(seq: u64) -> Body {
    match seq {
        0 => Body::Created(NodeCreated {
            key_id: "SHA256:y".into(),
            origin: origin(),
            predecessor: None,
        }),
        _ => Body::NodeStarted(NodeStarted { owner: format!("o{seq}"), version: "1".into() }),
    }
}

/// Row `place` with an event that says to be number `seq`, consistent in itself.
fn row(place: u64, seq: u64, body: Body) -> Row {
    let leaf = event(seq, body).to_leaf();
    Row { seq: place, hash: leaf_hash(&leaf), leaf: Some(leaf) }
}

fn signed(rows: &[Row], origin: Origin, seed: u8) -> SignedCheckpoint {
    let mut frontier = Frontier::new();
    rows.iter().for_each(|row| _ = frontier.append(row.hash, |_, _| ()));
    let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
    checkpoint.sign(&key(seed)).expect("signs")
}

impl Table {
    fn of(bodies: impl IntoIterator<Item = Body>) -> Self {
        let rows = bodies.into_iter().zip(0..).map(|(body, seq)| row(seq, seq, body)).collect();
        let head = Head::of(&Frontier::new());
        let (tiles, checkpoints) = (BTreeMap::new(), Vec::new());
        let mut table = Self { rows, head, tiles, checkpoints, since: None };
        table.rebuild();
        table
    }

    /// Signed at these sizes.
    fn honest(sizes: &[usize]) -> Self {
        let mut table = Self::of((0..SIZE).map(body));
        table.checkpoints = sizes.iter().map(|size| stored(&table.rows[..*size])).collect();
        table
    }

    /// What somebody does who can compute hashes and cannot sign: all that is not signed fits.
    fn rebuild(&mut self) {
        let (mut frontier, mut tiles) = (Frontier::new(), BTreeMap::new());
        for row in &self.rows {
            frontier.append(row.hash, |tile, hash| _ = tiles.insert(tile, hash));
        }
        (self.head, self.tiles) = (Head::of(&frontier), tiles);
    }

    fn leaf(&mut self, at: usize) -> &mut Vec<u8> {
        self.rows[at].leaf.as_mut().expect("has bytes")
    }

    fn audit(&self) -> Result<Sound, AuditError> {
        self.audit_with(|_| Ok(()))
    }

    fn audit_with(
        &self,
        allowed: impl FnMut(&Event) -> Result<(), String>,
    ) -> Result<Sound, AuditError> {
        let keys = keys_of(&key(1));
        let mut auditor = Auditor::new(origin(), self.head.clone(), &keys, now(), allowed);
        self.checkpoints.iter().for_each(|(text, sig)| auditor.stored_checkpoint(text, sig));
        self.since.iter().for_each(|since| auditor.kept_checkpoint(since.clone()));
        for row in &self.rows {
            let Row { seq, leaf, hash } = row;
            auditor.entry(Entry { seq: *seq, leaf: leaf.as_deref(), hash: *hash });
        }
        auditor.finish(self.tiles.iter().map(|(tile, hash)| (*tile, *hash)))
    }

    /// The faults, each as it prints.
    fn faults(&self) -> Vec<String> {
        let error = self.audit().expect_err("touched");
        assert_eq!(error.category(), Category::Auth);
        assert!(error.hint().is_some() && error.more == 0);
        error.faults.iter().map(ToString::to_string).collect()
    }
}

fn stored(rows: &[Row]) -> (String, String) {
    let signed = signed(rows, origin(), 1);
    (signed.checkpoint().to_string(), signed.signature().to_owned())
}

/// The faults after `edit` of an honest table with two checkpoints.
fn after(edit: impl FnOnce(&mut Table)) -> Vec<String> {
    let mut table = Table::honest(&[100, 200]);
    edit(&mut table);
    table.faults()
}

#[test]
fn an_honest_journal_is_sound() {
    let mut table = Table::honest(&[0, 1, 100, 256, 300]);
    table.since = Some(signed(&table.rows[..150], origin(), 1));
    let sound = table.audit().expect("sound");
    assert_eq!((sound.size, sound.root), (SIZE, table.head.root));
    assert_eq!((sound.proven, sound.checkpoints), (300, 6));
    assert_eq!(Table::of([]).audit().expect("sound").size, 0);
    let of_each = Table::of(one_of_each().into_iter().map(|event| event.body));
    // Its `journal.sealed` states a root of nothing.
    let error = of_each.audit();
    assert!(error.is_ok(), "no bytes are gone, so there is nothing to compare: {error:?}");
}

#[test]
fn a_flipped_bit_is_named() {
    let flipped =
        |seq: u64| format!("event {seq} was changed: its bytes do not have the stored hash");
    for (at, seq) in [(0, 0), (7, 7), (255, 255), (299, 299)] {
        assert_eq!(after(|t| t.leaf(at)[20] ^= 1), [flipped(seq)]);
    }
    let two = after(|t| {
        t.leaf(3).push(b' ');
        t.leaf(290).clear();
    });
    assert_eq!(two, [flipped(3), flipped(290)]);
    let mut touched = Table::honest(&[100, 200]);
    touched.leaf(150)[20] ^= 1;
    assert_eq!(touched.audit().expect_err("flipped").proven, 150, "covered, and not as it was");
    // Also where the number itself is hit.
    let at = event(7, body(7)).to_leaf().windows(7).position(|w| w == b"\"seq\":7").expect("there");
    assert_eq!(after(|t| t.leaf(7)[at + 6] = b'9'), [flipped(7)]);
}

#[test]
fn a_changed_hash_is_told_from_a_changed_leaf() {
    let changed = |seq: u64| {
        format!("stored hash of event {seq} was changed; its bytes are those of the tree")
    };
    assert_eq!(after(|t| t.rows[7].hash = Hash::of(b"x")), [changed(7)]);
    assert_eq!(after(|t| t.rows[299].hash = Hash::of(b"x")), [changed(299)]);
    // One of each, told apart by the tile of the first block; the root can be neither's.
    let both = after(|t| {
        t.rows[7].hash = Hash::of(b"x");
        t.leaf(290)[20] ^= 1;
    });
    assert!(both.contains(&changed(7)) && both[both.len() - 1].starts_with("event 290 was"));
}

#[test]
fn removal_is_named() {
    assert_eq!(after(|t| drop(t.rows.remove(7))), ["event 7 is missing"]);
    assert_eq!(after(|t| drop(t.rows.drain(7..=260))), ["events 7 to 260 are missing"]);
    assert_eq!(after(|t| t.rows.truncate(250)), ["events 250 to 299 are missing"]);
    let renumbered = after(|t| {
        t.rows.remove(7);
        t.rows.iter_mut().zip(0..).for_each(|(row, place)| row.seq = place);
    });
    assert_eq!(renumbered, ["event 7 is missing"]);
    let first = after(|t| drop(t.rows.remove(0)));
    assert_eq!(first, ["event 0 is missing"]);
}

#[test]
fn addition_is_named() {
    let forged = |place| row(place, place, body(3));
    let added = after(|t| t.rows.insert(250, forged(249)));
    assert_eq!(added, ["event 249 in place 249 is added"]);
    let twice = after(|t| {
        let again = t.rows[5].clone();
        t.rows.insert(250, again);
        t.rows.iter_mut().zip(0..).for_each(|(row, place)| row.seq = place);
    });
    assert_eq!(twice, ["event 5 in place 250 is added"]);
    let appended = after(|t| t.rows.extend([forged(300), forged(301)]));
    assert_eq!(appended, ["2 events, from event 300 in place 300 on, are added"]);
}

#[test]
fn reordering_is_named() {
    let swap = |a: usize, b: usize| {
        after(|t| {
            let (first, second) = (t.rows[a].seq, t.rows[b].seq);
            t.rows.swap(a, b);
            (t.rows[a].seq, t.rows[b].seq) = (first, second);
        })
    };
    assert_eq!(
        swap(7, 200),
        ["event 200 in place 7 is out of order", "event 7 in place 200 is out of order"]
    );
    assert_eq!(swap(7, 8).len(), 1);
    // Read in another order than that of the numbers.
    assert_eq!(after(|t| t.rows.swap(7, 9)).len(), 2);
    // Only the bytes: the hashes stayed.
    let bytes = after(|t| {
        let first = t.rows[7].leaf.clone();
        t.rows[7].leaf = t.rows[200].leaf.clone();
        t.rows[200].leaf = first;
    });
    assert_eq!(
        bytes,
        ["event 200 in place 7 is out of order", "event 7 in place 200 is out of order"]
    );
}

/// All that is not signed was made to fit: only checkpoints can tell, and say where.
#[test]
fn rewriting_is_narrowed_down_by_checkpoints() {
    let rewrite = |at: u64| {
        move |t: &mut Table| {
            t.rows[usize::try_from(at).expect("small")] = row(at, at, body(at + 1));
            t.rebuild();
        }
    };
    assert_eq!(
        after(rewrite(150)),
        ["events 100 to 199 are rewritten: the journal's checkpoint has another root"]
    );
    assert_eq!(
        after(rewrite(42)),
        ["events 0 to 99 are rewritten: the journal's checkpoint has another root"]
    );
    // Behind the last checkpoint nothing signed covers it; a later one kept elsewhere does.
    let mut table = Table::honest(&[100, 200]);
    let since = signed(&table.rows[..280], origin(), 1);
    rewrite(250)(&mut table);
    assert_eq!(table.audit().expect("consistent, and not signed").proven, 200);
    table.since = Some(since.clone());
    assert_eq!(
        table.faults(),
        ["events 200 to 279 are rewritten: the checkpoint kept elsewhere has another root"]
    );
    // Nor does it help to drop the journal's own checkpoints.
    table.checkpoints.clear();
    assert_eq!(
        table.faults(),
        ["events 0 to 279 are rewritten: the checkpoint kept elsewhere has another root"]
    );
    // A node that signs what it rewrote contradicts itself.
    table.checkpoints = vec![stored(&table.rows[..290])];
    assert_eq!(
        table.faults(),
        ["node signed another log: the checkpoint kept elsewhere of 280 events has a root that \
          this log never had"]
    );
}

/// Two roots for one size, each with a good signature.
#[test]
fn a_node_that_signs_two_logs_is_found_out() {
    let mut table = Table::honest(&[100]);
    let mut other = table.rows[..100].to_vec();
    other[50] = row(50, 50, body(3));
    table.checkpoints.push(stored(&other));
    let error = table.audit().expect_err("forked");
    assert!(matches!(error.faults[..], [Fault::Forked { size: 100, kept: Kept::Journal }]));
}

/// The last event under a checkpoint says when its key had to be valid.
#[test]
fn keys_are_judged_at_the_time_of_the_events() {
    let table = Table::honest(&[100]);
    let line = crate::checkpoint::tests::public_line(&key(1));
    let verdict = |before: &str| {
        let file = format!("n valid-before=\"{before}\" {line}");
        let keys = NodeKeys::parse(file.as_bytes()).expect("valid");
        let late = "2040-01-01T00:00:00Z".parse().expect("a time");
        let mut auditor = Auditor::new(origin(), table.head.clone(), &keys, late, |_| Ok(()));
        table.checkpoints.iter().for_each(|(text, sig)| auditor.stored_checkpoint(text, sig));
        for Row { seq, leaf, hash } in &table.rows {
            auditor.entry(Entry { seq: *seq, leaf: leaf.as_deref(), hash: *hash });
        }
        auditor.finish(table.tiles.clone())
    };
    // The events are of January 2027.
    assert_eq!(verdict("20280101Z").expect("valid then").proven, 100);
    let error = verdict("20260101Z").expect_err("expired then");
    assert!(matches!(error.faults[..], [Fault::CheckpointUntrusted { size: 100, .. }]));
}

#[test]
fn truncation_is_found_by_checkpoints() {
    let mut table = Table::honest(&[100, 200]);
    table.since = Some(signed(&table.rows[..280], origin(), 1));
    table.rows.truncate(150);
    table.rebuild();
    assert_eq!(
        table.faults(),
        [
            "log was cut off: the journal's checkpoint has 200 events, the journal 150",
            "log was cut off: the checkpoint kept elsewhere has 280 events, the journal 150",
        ]
    );
    table.checkpoints.truncate(1);
    table.since = None;
    assert_eq!(table.audit().expect("nothing says otherwise").proven, 100);
}

#[test]
fn what_is_stored_about_the_tree_is_compared() {
    let tile = Tile { level: 8, index: 0 };
    let bad = after(|t| _ = t.tiles.insert(tile, Hash::of(b"x")));
    assert_eq!(bad, ["stored hash of events 0 to 255 differs from theirs"]);
    assert_eq!(after(|t| _ = t.tiles.remove(&tile)), ["stored hash of events 0 to 255 is missing"]);
    for wrong in
        [Tile { level: 8, index: 1 }, Tile { level: 0, index: 0 }, Tile { level: 200, index: 9 }]
    {
        let faults = after(|t| _ = t.tiles.insert(wrong, Hash::of(b"x")));
        assert!(faults[0].contains("no such subtree"), "{faults:?}");
    }
    let head = after(|t| t.head.root = Hash::of(b"x"));
    assert_eq!(
        head,
        [
            "stored root of 300 events is not theirs; unproven are those from 200 on",
            "stored frontier is not that of the stored root",
        ]
    );
    assert_eq!(after(|t| t.head.frontier[0] = 9), ["stored frontier is damaged"]);
    // Consistent rows alone do not hide a rewriting from the tile and the head.
    let lazy = after(|t| t.rows[220] = row(220, 220, body(3)));
    assert_eq!(
        lazy,
        [
            "stored hash of events 0 to 255 differs from theirs",
            "stored root of 300 events is not theirs; unproven are those from 200 on",
        ]
    );
    let behind = after(|t| {
        let short = Table::of((0..150).map(body));
        t.head = short.head;
    });
    assert!(behind.contains(&"stored head has 150 events, a good checkpoint 200".to_owned()));
}

#[test]
fn checkpoints_are_judged() {
    let mut table = Table::honest(&[100]);
    table.checkpoints[0].0 = table.checkpoints[0].0.replace("\n100\n", "\n101\n");
    table.checkpoints.push(("nonsense".into(), table.checkpoints[0].1.clone()));
    let faults = table.faults();
    assert_eq!(
        faults,
        [
            "the journal's checkpoint of 101 events is not believed",
            "checkpoint 1 of the journal is damaged"
        ]
    );
    let mut table = Table::honest(&[]);
    table.since = Some(signed(&table.rows[..50], origin(), 2));
    assert_eq!(table.faults(), ["the checkpoint kept elsewhere of 50 events is not believed"]);
    table.since = Some(signed(&table.rows[..50], Origin::new([9; 16]), 1));
    assert!(table.faults()[0].ends_with("another journal"));
    table.rows[0] = row(
        0,
        0,
        Body::Created(NodeCreated {
            key_id: "SHA256:y".into(),
            origin: Origin::new([9; 16]),
            predecessor: None,
        }),
    );
    table.rebuild();
    table.since = None;
    assert!(table.faults()[0].starts_with("first event is of vyr/journal/0909"));

    let keys = keys_of(&key(1));
    let honest = Table::honest(&[]);
    let mut auditor = Auditor::new(origin(), honest.head.clone(), &keys, now(), |_| Ok(()));
    for Row { seq, leaf, hash } in &honest.rows {
        auditor.entry(Entry { seq: *seq, leaf: leaf.as_deref(), hash: *hash });
    }
    auditor.kept_checkpoint(signed(&honest.rows, origin(), 1));
    auditor.kept_checkpoint(signed(&honest.rows[..299], origin(), 1));
    let error = auditor.finish(honest.tiles).expect_err("late");
    assert!(matches!(error.faults[..], [Fault::CheckpointLate { size: 299, .. }]));
    assert_eq!(error.proven, 300);
}

/// A journal whose first 200 events were sealed by event 299.
fn sealed(before: u64, root: Option<Hash>) -> Table {
    let mut table = Table::of((0..SIZE - 1).map(body));
    let mut frontier = Frontier::new();
    table.rows[..200].iter().for_each(|row| _ = frontier.append(row.hash, |_, _| ()));
    let root = root.unwrap_or_else(|| frontier.root());
    let views = Hash::of(b"v");
    table.rows.push(row(299, 299, Body::Sealed(Sealed { before, root, views })));
    table.rebuild();
    table.checkpoints = vec![stored(&table.rows[..100]), stored(&table.rows)];
    table.rows[..200].iter_mut().for_each(|row| row.leaf = None);
    table
}

#[test]
fn what_was_sealed_needs_an_event_that_says_so() {
    assert_eq!(sealed(200, None).audit().expect("sound").proven, 300);
    assert_eq!(
        sealed(150, None).faults(),
        ["bytes of events 150 to 199 are gone, and nothing sealed them"]
    );
    let root = sealed(200, Some(Hash::of(b"x"))).faults();
    assert!(
        root.contains(
            &"event 299 sealed the events before 200 with another root than theirs".into()
        )
    );
    assert!(sealed(301, None).faults().len() >= 2);
    assert_eq!(
        after(|t| t.rows[7].leaf = None),
        ["bytes of event 7 are gone, and nothing sealed them".replace("event 7 are", "event 7 is")]
    );
    let mut touched = sealed(200, None);
    touched.rows[20].hash = Hash::of(b"x");
    assert!(touched.faults().iter().any(|f| f.starts_with("events 0 to 99 are rewritten")));
    let mut gone = sealed(200, None);
    gone.rows.remove(20);
    assert_eq!(gone.faults(), ["event 20 is missing"]);
}

#[test]
fn meaning_is_asked_in_order_and_until_a_break() {
    let table = Table::honest(&[]);
    let mut asked = Vec::new();
    let error = table.audit_with(|event| {
        asked.push(event.seq);
        if event.seq == 42 { Err("it ended twice".into()) } else { Ok(()) }
    });
    let error = error.expect_err("refused");
    assert!(
        matches!(&error.faults[..], [Fault::NotAllowed { seq: 42, why }] if why == "it ended twice")
    );
    assert_eq!(asked, (0..SIZE).collect::<Vec<_>>());
    let mut touched = table.clone();
    touched.leaf(7)[20] ^= 1;
    let mut count = 0;
    touched
        .audit_with(|_| {
            count += 1;
            Ok(())
        })
        .expect_err("flipped");
    assert_eq!(count, 7);
    let mut newer = table.clone();
    let leaf = Event { v: EVENT_VERSION + 1, ..event(7, body(7)) }.to_leaf();
    newer.rows[7] = Row { seq: 7, hash: leaf_hash(&leaf), leaf: Some(leaf) };
    newer.rebuild();
    assert!(newer.faults()[0].ends_with("it has version 2, expected 1"));
    // Consistent in all its hashes, and no event.
    let mut nonsense = table;
    nonsense.rows[7].leaf = Some(b"{}".to_vec());
    nonsense.rows[7].hash = leaf_hash(b"{}");
    nonsense.rebuild();
    assert!(nonsense.faults()[0].starts_with("event 7 is not one that vyr writes"));
}

#[test]
fn faults_are_bounded_and_counted() {
    let mut table = Table::of((0..1500).map(body));
    for at in 0..1500 {
        table.leaf(at).push(b' ');
    }
    let error = table.audit().expect_err("touched");
    assert_eq!((error.faults.len(), error.more), (FAULTS_MAX, 500));
    assert_eq!(error.to_string(), "journal was changed: 1000 faults found, and 500 more");
}

/// Seeded defects: an audit that leaves one comparison out passes what only that one finds.
#[test]
fn every_comparison_is_needed() {
    let bytes = |t: &Table| t.rows.iter().all(|r| r.leaf.as_deref().map(leaf_hash) == Some(r.hash));
    let order = |t: &Table| {
        let own = |row: &Row| read_event(row.leaf.as_deref().expect("has bytes")).map(|e| e.seq);
        t.rows.iter().all(|row| own(row) == Ok(row.seq))
    };
    let tree = |t: &Table| {
        let mut other = t.clone();
        other.rebuild();
        other.head == t.head
    };
    let signed = |t: &Table| t.checkpoints == [stored(&t.rows[..100])];
    let checks: [&dyn Fn(&Table) -> bool; 4] = [&bytes, &order, &tree, &signed];
    let owner_at = |t: &mut Table| t.leaf(250).windows(4).position(|w| w == b"o250");
    let touched: [&dyn Fn(&mut Table); 4] = [
        &|t| {
            let at = owner_at(t).expect("its owner");
            t.leaf(250)[at] = b'p';
        },
        &|t| {
            t.rows[250] = row(250, 251, body(250));
            t.rebuild();
        },
        &|t| t.rows[250] = row(250, 250, body(3)),
        &|t| {
            t.rows[50] = row(50, 50, body(3));
            t.rebuild();
        },
    ];
    let honest = Table::honest(&[100]);
    assert!(checks.iter().all(|check| check(&honest)) && honest.audit().is_ok());
    for (number, touch) in touched.iter().enumerate() {
        let mut table = honest.clone();
        touch(&mut table);
        assert!(table.audit().is_err(), "{number}");
        let found: Vec<_> = checks.iter().map(|check| !check(&table)).collect();
        assert_eq!(found, [0, 1, 2, 3].map(|check| check == number), "{number}");
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Leaf { at: prop::sample::Index, place: prop::sample::Index, mask: u8 },
    Hash { at: prop::sample::Index, bit: usize },
    Key { at: prop::sample::Index, seq: u64 },
    Swap { a: prop::sample::Index, b: prop::sample::Index },
    Remove { at: prop::sample::Index },
    Insert { at: prop::sample::Index, seq: u64, consistent: bool },
    Double { at: prop::sample::Index, to: prop::sample::Index },
    Replace { at: prop::sample::Index, seq: u64 },
    Truncate { at: prop::sample::Index },
    Seal { at: prop::sample::Index },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), at(), 1..=255u8).prop_map(|(at, place, mask)| Leaf { at, place, mask }),
        (at(), 0..256usize).prop_map(|(at, bit)| Hash { at, bit }),
        (at(), 0..400u64).prop_map(|(at, seq)| Key { at, seq }),
        (at(), at()).prop_map(|(a, b)| Swap { a, b }),
        at().prop_map(|at| Remove { at }),
        (at(), 0..400u64, any::<bool>()).prop_map(|(at, seq, consistent)| Insert {
            at,
            seq,
            consistent
        }),
        (at(), at()).prop_map(|(at, to)| Double { at, to }),
        (at(), 0..400u64).prop_map(|(at, seq)| Replace { at, seq }),
        at().prop_map(|at| Truncate { at }),
        at().prop_map(|at| Seal { at }),
    ]
}

fn mutate(rows: &mut Vec<Row>, mutation: &Mutation) {
    let size = rows.len();
    match mutation {
        Mutation::Leaf { at, place, mask } => {
            let leaf = rows[at.index(size)].leaf.as_mut().expect("has bytes");
            let place = place.index(leaf.len());
            leaf[place] ^= mask;
        }
        Mutation::Hash { at, bit } => {
            let row = &mut rows[at.index(size)];
            let mut raw = *row.hash.as_bytes();
            raw[bit / 8] ^= 1 << (bit % 8);
            row.hash = Hash::from_bytes(raw);
        }
        Mutation::Key { at, seq } => rows[at.index(size)].seq = *seq,
        Mutation::Swap { a, b } => rows.swap(a.index(size), b.index(size)),
        Mutation::Remove { at } => drop(rows.remove(at.index(size))),
        Mutation::Insert { at, seq, consistent } => {
            let mut new = row(*seq, *seq, body(3));
            if !consistent {
                new.hash = Hash::of(b"x");
            }
            rows.insert(at.index(size + 1), new);
        }
        Mutation::Double { at, to } => {
            let new = rows[at.index(size)].clone();
            rows.insert(to.index(size + 1), new);
        }
        Mutation::Replace { at, seq } => {
            let at = at.index(size);
            rows[at] = row(rows[at].seq, *seq, body(3));
        }
        Mutation::Truncate { at } => rows.truncate(at.index(size)),
        Mutation::Seal { at } => rows[at.index(size)].leaf = None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Invariant 1. The head, the tiles and a checkpoint are as they were.
    #[test]
    fn no_single_change_passes(mutation in mutation()) {
        let honest = Table::honest(&[200]);
        let mut table = honest.clone();
        mutate(&mut table.rows, &mutation);
        if table.rows == honest.rows {
            prop_assert!(table.audit().is_ok());
        } else {
            let error = table.audit().expect_err("touched");
            prop_assert!(!error.faults.is_empty());
            prop_assert!(error.faults.iter().all(|fault| !fault.to_string().is_empty()));
        }
    }

    /// The second half of invariant 1: everything is made to fit, only a signature is not.
    #[test]
    fn no_change_passes_a_checkpoint_kept_elsewhere(
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut table = Table::honest(&[]);
        let honest = table.rows.clone();
        let since = signed(&table.rows, origin(), 1);
        mutations.iter().for_each(|mutation| {
            if !table.rows.is_empty() && table.rows.iter().all(|row| row.leaf.is_some()) {
                mutate(&mut table.rows, mutation);
            }
        });
        table.rebuild();
        table.since = Some(since);
        prop_assert_eq!(table.audit().is_ok(), table.rows == honest);
    }
}
