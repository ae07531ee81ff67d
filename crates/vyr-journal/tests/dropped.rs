//! A journal whose first events were dropped is read from the first that is left, in the middle of
//! tasks that had begun.

use std::sync::Arc;

use jiff::Timestamp;
use vyr_base::Digest;
use vyr_journal::{
    Accepted, ArtifactRef, Body, EVENT_VERSION, Ending, Event, Ledger, Limits, NodeInfo, Origin,
    Sealed, SignerRef, TaskId, TaskState,
};

fn origin() -> Origin {
    Origin::new([3; 16])
}

fn accepted() -> Body {
    Body::Accepted(Arc::new(Accepted {
        artifact: ArtifactRef { digest: Digest::of(b"a"), name: "a".into() },
        deterministic: false,
        input: None,
        key: String::new(),
        limits: Limits { cpu_ms: 1, deadline_ms: 1, memory_bytes: 1, output_bytes_max: 1 },
        priority: 0,
        signer: SignerRef { dev: true, key_id: "SHA256:s".into(), principal: "dev".into() },
        states: Vec::new(),
        submitter: "uid:0".into(),
        traceparent: String::new(),
    }))
}

fn event(seq: u64, body: Body) -> Event {
    Event { body, seq, time: Timestamp::UNIX_EPOCH, v: EVENT_VERSION }
}

/// Two tasks that overlap: events 1 to 6, the last of which ends the second, and 7, which seals what
/// is before 5.
fn overlapping() -> Vec<Event> {
    let mut ledger = Ledger::new(origin(), 1);
    let mut events = Vec::new();
    let mut add = |ledger: &mut Ledger, body: Body| {
        let event = event(ledger.next_seq(), body);
        ledger.evolve(&event).expect("possible");
        events.push(event);
    };
    let (first, second) = (TaskId::new(origin(), 1), TaskId::new(origin(), 2));
    let node = NodeInfo {
        engine: "e".into(),
        guidance: "off".into(),
        origin: origin(),
        version: "0".into(),
    };
    add(&mut ledger, accepted());
    add(&mut ledger, accepted());
    for task in [first, second] {
        let started = ledger.start(task, "owner").expect("may start");
        add(&mut ledger, started);
    }
    for task in [first, second] {
        let ending = Ending::unseen(TaskState::Completed, None, None);
        let ended = ledger.end(task, ending, &node, Timestamp::UNIX_EPOCH).expect("may end");
        ended.into_iter().for_each(|body| add(&mut ledger, body));
    }
    let digest = Digest::of(b"");
    add(&mut ledger, Body::Sealed(Sealed { before: 5, root: digest, views: digest }));
    events
}

#[test]
fn what_began_in_a_dropped_range_may_end_behind_it_once() {
    let events = overlapping();
    for from in 2..=6 {
        let mut ledger = Ledger::after_dropped(origin(), from);
        let left = events.iter().filter(|event| event.seq >= from);
        for event in left.filter(|event| event.seq < 7) {
            ledger.evolve(event).unwrap_or_else(|e| panic!("from {from}: {e}"));
        }
        let again = event(7, events[5].body.clone());
        assert!(ledger.evolve(&again).is_err(), "from {from}: it ended twice");
    }
    // Who read from the first event on knows better.
    let mut ledger = Ledger::new(origin(), 5);
    assert!(ledger.evolve(&events[4]).is_err());
}

#[test]
fn nothing_of_a_dropped_range_lives_on_behind_the_event_that_sealed_it() {
    let events = overlapping();
    let end = |seq| event(seq, events[4].body.clone());
    // The first task's end was dropped as well, or was never there.
    let mut ledger = Ledger::after_dropped(origin(), 6);
    ledger.clone().evolve(&end(6)).expect("not sealed yet");
    for event in &events[5..] {
        ledger.evolve(event).expect("possible");
    }
    assert!(ledger.evolve(&end(8)).is_ok(), "5 was sealed, 6 was dropped: nobody says so");
    let mut ledger = Ledger::after_dropped(origin(), 5);
    for event in &events[4..] {
        ledger.evolve(event).expect("possible");
    }
    assert!(ledger.evolve(&end(8)).is_err());
}
