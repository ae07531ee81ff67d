//! A clock that jumps, also backwards: no decision of the ledger hangs on it.

use jiff::Timestamp;
use vyr_base::Digest;
use vyr_journal::{
    Accepted, ArtifactRef, Body, Cancelled, EVENT_VERSION, Ending, Event, Ledger, Limits, NodeInfo,
    Origin, Refusal, SignerRef, StateAccess, StateBinding, StateCreated, StateId, Submitted,
    TaskId, TaskState,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn origin() -> Origin {
    Origin::new([5; 16])
}

fn node() -> NodeInfo {
    NodeInfo { engine: "e".into(), guidance: "off".into(), origin: origin(), version: "0".into() }
}

fn accepted(key: u64, states: Vec<StateBinding>) -> Accepted {
    Accepted {
        artifact: ArtifactRef { digest: Digest::of(b"a"), name: "a".into() },
        deterministic: false,
        input: None,
        key: key.to_string(),
        limits: Limits { cpu_ms: 1, deadline_ms: 1, memory_bytes: 1, output_bytes_max: 1 },
        priority: 0,
        signer: SignerRef { dev: true, key_id: "SHA256:s".into(), principal: "dev".into() },
        states,
        submitter: "uid:0".into(),
        traceparent: String::new(),
    }
}

/// What happened, without when.
fn without_times(body: &Body) -> String {
    match body {
        Body::Ended(statement) => {
            let predicate = &statement.predicate;
            let ended = (predicate.task_id, predicate.state, predicate.reason.as_deref());
            format!("{ended:?} started: {}", predicate.timings.started.is_some())
        }
        other => format!("{other:?}"),
    }
}

/// Chooses what to ask for by `seed`, and takes in what is decided at the times of `clock`.
fn live(seed: u64, mut clock: impl FnMut() -> Timestamp) -> Vec<Event> {
    let (mut random, mut ledger) = (Random(seed), Ledger::new(origin(), 0));
    let (mut events, mut refusals) = (Vec::new(), 0);
    let created =
        vyr_journal::NodeCreated { key_id: "SHA256:k".into(), origin: origin(), predecessor: None };
    let mut decided = vec![Body::Created(created)];
    for turn in 0..400 {
        for body in std::mem::take(&mut decided) {
            let seq = ledger.next_seq();
            let event = Event { body, seq, time: clock(), v: EVENT_VERSION };
            assert_eq!(Event::from_leaf(&event.to_leaf()).expect("a leaf"), event);
            ledger.evolve(&event).expect("what is decided can be taken in");
            events.push(event);
        }
        let pick = |from: Vec<u64>, random: &mut Random| {
            let count = from.len() as u64;
            (count > 0).then(|| from[usize::try_from(random.below(count)).expect("small")])
        };
        let task = pick(ledger.tasks().keys().copied().collect(), &mut random);
        let state = pick(ledger.states().keys().copied().collect(), &mut random);
        let task = task.map(|seq| TaskId::new(origin(), seq));
        let state = state.map(|seq| StateId::new(origin(), seq));
        let owner = format!("owner{}", random.below(3));
        let asked: Result<Vec<Body>, Refusal> = match (random.below(9), task, state) {
            (0, ..) => Ok(vec![ledger.create_state(StateCreated {
                bytes_max: 1,
                name: "s".into(),
                owner,
                submitter: "uid:0".into(),
            })]),
            (1 | 2, ..) => {
                let access = StateAccess::ReadWrite;
                let binding = StateBinding { access, name: "s".into(), state: None };
                let states = if random.below(2) == 0 { vec![binding] } else { Vec::new() };
                match ledger.submit(accepted(random.below(200), states), false) {
                    Ok(Submitted::New(bodies)) => Ok(bodies),
                    Ok(Submitted::Same(_)) => Ok(Vec::new()),
                    Err(refusal) => Err(refusal),
                }
            }
            (3, Some(task), Some(state)) => {
                ledger.bind(task, state, StateAccess::ReadOnly, "uid:0", false)
            }
            (4 | 5, Some(task), _) => ledger.start(task, &owner).map(|body| vec![body]),
            (6, Some(task), _) => {
                let ending = Ending::unseen(TaskState::Completed, None, None);
                ledger.end(task, ending, &node(), clock())
            }
            (7, Some(task), _) => match ledger.cancel(task, &node(), clock()) {
                Ok(Cancelled::Now(bodies)) => Ok(bodies),
                Ok(Cancelled::Signal) => Ok(Vec::new()),
                Err(refusal) => Err(refusal),
            },
            (8, ..) if turn % 7 == 0 => {
                Ok(ledger.recover(|other| other != owner, &node(), clock()))
            }
            (_, _, Some(state)) => Ok(ledger.expire_state(state).into_iter().collect()),
            _ => Ok(Vec::new()),
        };
        match asked {
            Ok(bodies) => decided = bodies,
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals > 0, "nothing was refused, so nothing was asked that may not be");
    events
}

#[test]
fn a_clock_that_jumps_changes_times_and_nothing_else() {
    for seed in 0..40 {
        let mut second = 1_800_000_000;
        let steady = live(seed, || {
            second += 1;
            Timestamp::from_second(second).expect("in range")
        });
        let mut jumps = Random(!seed);
        let jumping = live(seed, || {
            // From 1970 to 2106.
            let second = i64::try_from(jumps.below(1 << 32)).expect("small");
            Timestamp::from_second(second).expect("in range")
        });
        let (one, other): (Vec<String>, Vec<String>) = (
            steady.iter().map(|event| without_times(&event.body)).collect(),
            jumping.iter().map(|event| without_times(&event.body)).collect(),
        );
        assert_eq!(one, other, "seed {seed}");
        assert!(jumping.windows(2).any(|two| two[1].time < two[0].time));
        // A statement says the times of the events it is about, whatever they are.
        for event in &jumping {
            let Body::Ended(statement) = &event.body else { continue };
            let predicate = &statement.predicate;
            let at = usize::try_from(predicate.task_id.seq()).expect("small");
            assert_eq!(predicate.timings.accepted, jumping[at].time);
        }
    }
}
