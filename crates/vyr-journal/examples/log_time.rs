//! How long the log takes: `cargo run --release -p vyr-journal --example log_time`.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::time::Instant;

use vyr_journal::{
    Auditor, Body, EVENT_VERSION, Entry, Event, Frontier, Head, NodeCreated, NodeKeys, NodeStarted,
    Origin, leaf_hash,
};

const APPENDS: u32 = 1 << 20;
const EVENTS: u32 = 100_000;
/// About what an event of a task has.
const LEAF_BYTES: usize = 400;

fn main() {
    let leaf = vec![b'x'; LEAF_BYTES];
    let hash = leaf_hash(&leaf);
    let mut frontier = Frontier::new();
    let start = Instant::now();
    for _ in 0..APPENDS {
        frontier.append(hash, |_, _| ());
    }
    println!("append of a hash: {:?} ({frontier:?})", start.elapsed() / APPENDS);

    let mut frontier = Frontier::new();
    let start = Instant::now();
    for _ in 0..APPENDS {
        frontier.append(leaf_hash(&leaf), |_, _| ());
    }
    println!("hash of {LEAF_BYTES} bytes and append: {:?}", start.elapsed() / APPENDS);

    let origin = Origin::new([7; 16]);
    let created =
        Body::Created(NodeCreated { key_id: "SHA256:y".to_owned(), origin, predecessor: None });
    let started = |number: u32| {
        Body::NodeStarted(NodeStarted { owner: format!("o{number}"), version: "1".to_owned() })
    };
    let bodies = std::iter::once(created).chain((1..EVENTS).map(started));
    let leaves: Vec<_> = (0..)
        .zip(bodies)
        .map(|(seq, body)| Event { body, seq, time: jiff::Timestamp::UNIX_EPOCH, v: EVENT_VERSION })
        .map(|event| event.to_leaf())
        .collect();
    let (mut frontier, mut tiles) = (Frontier::new(), Vec::new());
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    for hash in &hashes {
        frontier.append(*hash, |tile, hash| tiles.push((tile, hash)));
    }
    let keys = NodeKeys::default();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let start = Instant::now();
    let mut auditor = Auditor::new(origin, Head::of(&frontier), &keys, now, |_| Ok(()));
    for ((seq, leaf), hash) in (0..).zip(&leaves).zip(hashes) {
        auditor.entry(Entry { seq, leaf: Some(leaf), hash });
    }
    let sound = auditor.finish(tiles).expect("an honest journal");
    println!("audit of an event: {:?} ({} events)", start.elapsed() / EVENTS, sound.size);
}
