//! Guests that compute, and a task that was queued after them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use morpheus::{Guidance, GuidanceError, Options};
use vyr_task::{CancelHandle, Engine, EngineConfig, Job, Outcome, State, Workers};

use crate::support::{guest, load};

const NEVER: Duration = Duration::from_secs(3600);
const TICK: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest that computes without end on the only thread, then one that ends at once: the guidance
/// of the thread, where to cancel the first, and where both report.
fn beside_a_hog(
    connect: impl FnOnce(Options) -> Result<Guidance, GuidanceError>,
) -> (Engine, Workers, CancelHandle, Receiver<(&'static str, Outcome)>) {
    // Neither a tick nor a slice makes anybody yield for a while; a tick ends who is cancelled.
    let engine = Engine::new(EngineConfig { tick: TICK, ..EngineConfig::new(2) });
    let engine = engine.expect("engine");
    engine.guide(2, connect).expect("guidance");
    let workers = Workers::start(&engine, 1, 4, || ()).expect("threads");
    let (done, outcomes) = channel();
    let hog = Job::new(load(&engine, &guest("(loop $l (br $l))")));
    let cancel = hog.cancel.clone();
    let short = Job::new(load(&engine, &guest("")));
    for (name, job) in [("hog", hog), ("short", short)] {
        let done = done.clone();
        workers.submit(job, move |outcome| drop(done.send((name, outcome))));
        // Until the first one has computed for longer than it may alone.
        std::thread::sleep(Duration::from_millis(50));
    }
    (engine, workers, cancel, outcomes)
}

#[test]
fn a_guest_that_computes_yields_to_a_task_that_was_just_queued() {
    let (engine, _workers, cancel, outcomes) =
        beside_a_hog(|options| Guidance::timer(options, NEVER));
    let (name, outcome) = outcomes.recv_timeout(PATIENCE).expect("the short one ends");
    assert_eq!((name, outcome.state), ("short", State::Completed), "{outcome:?}");
    let report = engine.guidance().expect("guided").report();
    assert!(report.workers.iter().any(|worker| worker.own_hints > 0), "{report:?}");
    assert!(report.workers.iter().all(|worker| worker.timer_hints == 0), "{report:?}");
    cancel.cancel();
    let (name, outcome) = outcomes.recv_timeout(PATIENCE).expect("the hog ends");
    assert_eq!((name, outcome.state), ("hog", State::Cancelled), "{outcome:?}");
}

#[test]
fn without_guidance_it_waits_until_the_other_one_ends() {
    let (_engine, _workers, cancel, outcomes) = beside_a_hog(Guidance::off);
    assert!(outcomes.recv_timeout(Duration::from_millis(100)).is_err(), "who made it yield?");
    cancel.cancel();
    let first = outcomes.recv_timeout(PATIENCE).expect("one ends");
    let second = outcomes.recv_timeout(PATIENCE).expect("the other one ends");
    assert_ne!(first.0, second.0);
}

#[test]
fn a_guest_goes_on_where_a_thread_is_free() {
    let engine =
        Engine::new(EngineConfig { tick: Duration::from_millis(1), ..EngineConfig::new(3) });
    let engine = engine.expect("engine");
    let workers = Workers::start(&engine, 2, 4, || ()).expect("threads");
    let (done, outcomes) = channel();
    let hog = Job::new(load(&engine, &guest("(loop $l (br $l))")));
    let cancel = hog.cancel.clone();
    let of_hog = done.clone();
    workers.submit(hog, move |outcome| drop(of_hog.send(("hog", outcome))));
    // Short ones whose ends hold up the threads on which they ran: first the free one, then that of
    // the hog, which yields to it at a tick.
    let short = load(&engine, &guest(""));
    let [first, second] = [(), ()].map(|()| {
        let (release, held) = channel::<()>();
        let done = done.clone();
        workers.submit(Job::new(std::sync::Arc::clone(&short)), move |outcome| {
            drop(done.send(("short", outcome)));
            let _ = held.recv_timeout(2 * PATIENCE);
        });
        let (name, _) = outcomes.recv_timeout(PATIENCE).expect("it ends, and holds a thread up");
        assert_eq!(name, "short");
        release
    });
    cancel.cancel();
    let stands = outcomes.recv_timeout(Duration::from_millis(50));
    assert!(stands.is_err(), "there was a third thread");
    // Not the thread on which it was.
    drop(first);
    let (name, outcome) = outcomes.recv_timeout(PATIENCE).expect("the hog ends");
    assert_eq!((name, outcome.state), ("hog", State::Cancelled), "{outcome:?}");
    drop(second);
}
