//! Each transition of an instance and of a slot, one after the other.

use std::collections::BTreeMap;

use super::super::defects::{self, Defect};
use super::super::*;
use super::world::{Nature, World};
use super::{RestartPolicy, plan, plan_of, slot, spec};

const NAME: &str = "web/http/0";

fn only(world: &World) -> Instance {
    let mut found = world.run.of_slot(&slot(NAME)).into_iter().cloned();
    found.next_back().expect("an instance")
}

fn at(world: &World) -> (State, Step) {
    let one = only(world);
    (one.state, one.step)
}

/// A world whose only instance is at a step.
fn world_at(step: Step, spec: SlotSpec) -> (World, InstanceId) {
    let mut world = World::new();
    world.tell(What::Plan(plan_of(1, [(NAME, spec)])));
    let id = only(&world).id;
    let image = only(&world).spec.runs.image;
    let health = What::Health { id, passed: true, said: "200".into() };
    let way = [
        (Step::Image, What::ImageReady(image)),
        (Step::Machine, What::Started(id)),
        (Step::Guest, What::Guest(id, Phase::Running)),
        (Step::Check, health),
        (Step::Serve, What::Published(1)),
        (Step::Serve, What::Plan(plan(2, &[]))),
        // The plan is a set of its own, and who leaves with it another one.
        (Step::Leave, What::Published(3)),
        (Step::Wait, What::Drained(id)),
    ];
    for (here, what) in way {
        if at(&world).1 == step && (step != Step::Serve || matches!(what, What::Plan(_))) {
            return (world, id);
        }
        assert_eq!(at(&world).1, here);
        if matches!(what, What::Drained(_)) && step == Step::Kill {
            break;
        }
        world.tell(what);
    }
    if step == Step::Kill {
        world.now += 60_000;
        world.tell(What::Tick);
        world.now += 60_000;
        world.tell(What::Tick);
    }
    assert_eq!(at(&world).1, step);
    (world, id)
}

const STEPS: [Step; 9] = [
    Step::Image,
    Step::Machine,
    Step::Guest,
    Step::Check,
    Step::Serve,
    Step::Leave,
    Step::Wait,
    Step::Stop,
    Step::Kill,
];

fn end(code: u8) -> End {
    End { code: Some(code), signal: None, oom_killed: false }
}

#[test]
fn each_event_has_its_effect_at_each_step() {
    use State::{Booting, Draining, Failed, Ready, Stopped};
    /// What happens to the instance, by the step it is at: `None`, nothing.
    type Row = (&'static str, fn(InstanceId) -> What, [Option<(State, Step)>; 9]);
    let rows: [Row; 9] = [
        (
            "started",
            What::Started,
            [None, Some((Booting, Step::Guest)), None, None, None, None, None, None, None],
        ),
        (
            "start failed",
            |id| What::StartFailed(id, Fault::new(Reason::VmmStartFailed, "")),
            [
                None,
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
            ],
        ),
        (
            "running",
            |id| What::Guest(id, Phase::Running),
            [
                None,
                Some((Booting, Step::Check)),
                Some((Booting, Step::Check)),
                None,
                None,
                None,
                None,
                None,
                None,
            ],
        ),
        (
            "ended with 0",
            |id| What::Guest(id, Phase::Ended(end(0))),
            [
                None,
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
            ],
        ),
        (
            "ended with 1",
            |id| What::Guest(id, Phase::Ended(end(1))),
            [
                None,
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
            ],
        ),
        (
            "failed in the guest",
            |id| What::Guest(id, Phase::Failed(Fault::new(Reason::PrestartFailed, "1"))),
            [
                None,
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Failed, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
                Some((Stopped, Step::Kill)),
            ],
        ),
        (
            "gone",
            What::Gone,
            [
                None,
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Failed, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
                Some((Stopped, Step::Gone)),
            ],
        ),
        (
            "no connection is left",
            What::Drained,
            [None, None, None, None, None, None, Some((Draining, Step::Stop)), None, None],
        ),
        (
            "passed",
            |id| What::Health { id, passed: true, said: String::new() },
            [None, None, None, Some((Ready, Step::Serve)), None, None, None, None, None],
        ),
    ];
    for (said, what, effects) in rows {
        for (step, effect) in STEPS.into_iter().zip(effects) {
            let (mut world, id) = world_at(step, spec(1));
            let was = at(&world);
            world.tell(what(id));
            world.sound();
            let one = world.run.instances().get(&id);
            let is = one.map_or(was, |one| (one.state, one.step));
            assert_eq!(is, effect.unwrap_or(was), "{said} at {step:?}");
        }
    }
}

#[test]
fn faults_say_why() {
    let oom = End { code: None, signal: Some(9), oom_killed: true };
    let fault = |what: fn(InstanceId) -> What, step| {
        let (mut world, id) = world_at(step, spec(1));
        world.tell(what(id));
        world.run.instances()[&id].fault.clone().expect("it ended").to_string()
    };
    assert_eq!(fault(What::Gone, Step::Serve), "vmm_gone: its machine ended without a word");
    let ended = |id| What::Guest(id, Phase::Ended(end(7)));
    assert_eq!(fault(ended, Step::Serve), "exited: exit code 7");
    assert_eq!(fault(ended, Step::Wait), "scaled_down");
    let (mut world, id) = world_at(Step::Serve, spec(1));
    world.tell(What::Guest(id, Phase::Ended(oom)));
    let first = world.run.instances()[&id].fault.clone().expect("it ended");
    assert_eq!(first.to_string(), "oom_killed: signal 9, killed for want of memory");
}

#[test]
fn without_a_check_it_has_to_run_for_its_grace() {
    let mut spec = spec(1);
    spec.gate.health = None;
    let (mut world, id) = world_at_check(spec.clone());
    assert!(matches!(
        world.run.why(&slot(NAME)).and_then(|why| why.because),
        Some(Because::Settles { .. })
    ));
    world.now = world.run.wake_ms().expect("a time");
    world.tell(What::Tick);
    assert_eq!(world.run.instances()[&id].state, State::Ready);

    let (mut world, id) = world_at_check(spec);
    world.now += 9_999;
    world.tell(What::Guest(id, Phase::Ended(end(1))));
    world.now += 1;
    world.tell(What::Tick);
    assert_eq!(world.run.instances()[&id].state, State::Failed);
}

fn world_at_check(spec: SlotSpec) -> (World, InstanceId) {
    world_at(Step::Check, spec)
}

#[test]
fn checks_count_in_a_row_and_failures_only_after_the_grace() {
    let mut three = spec(1);
    three.gate.health = Some(Thresholds { success: 3, failure: 3 });
    let (mut world, id) = world_at_check(three);
    let check = |world: &mut World, passed| {
        world.now += 1_000;
        world.tell(What::Health { id, passed, said: "said".into() });
        let one = &world.run.instances()[&id];
        (one.state, one.passed, one.failed)
    };
    // In its grace.
    assert_eq!(check(&mut world, true), (State::Booting, 1, 0));
    assert_eq!(check(&mut world, true), (State::Booting, 2, 0));
    for _ in 0..7 {
        assert_eq!(check(&mut world, false), (State::Booting, 0, 0));
    }
    // After it.
    assert_eq!(check(&mut world, false), (State::Booting, 0, 1));
    assert_eq!(check(&mut world, false), (State::Booting, 0, 2));
    assert_eq!(check(&mut world, true), (State::Booting, 1, 0));
    assert_eq!(check(&mut world, true), (State::Booting, 2, 0));
    assert_eq!(check(&mut world, true), (State::Ready, 3, 0));
    assert_eq!(check(&mut world, false).0, State::Ready);
    assert_eq!(check(&mut world, true), (State::Ready, 1, 0));
    assert_eq!(check(&mut world, false), (State::Ready, 0, 1));
    assert_eq!(check(&mut world, false), (State::Ready, 0, 2));
    assert_eq!(check(&mut world, false), (State::Failed, 0, 3));
    let fault = world.run.instances()[&id].fault.clone().expect("it failed");
    assert_eq!(fault.to_string(), "healthcheck_failed: said");
    world.sound();
}

#[test]
fn a_check_that_passes_as_before_needs_no_writing_down() {
    let (mut world, id) = world_at(Step::Serve, spec(1));
    world.settle(world.now);
    world.now += 10_000;
    assert!(!world.tell(What::Health { id, passed: true, said: "200".into() }));
    assert!(!world.tell(What::Tick));
    assert!(world.tell(What::Health { id, passed: false, said: "500".into() }));
}

#[test]
fn a_boot_that_takes_too_long_has_failed() {
    for (step, said) in [
        (Step::Machine, "boot_timeout: its machine did not start"),
        (Step::Guest, "boot_timeout: its process did not begin"),
        (Step::Check, "boot_timeout: no check was made"),
    ] {
        let (mut world, id) = world_at(step, spec(1));
        world.now += BOOT_MS + 10_000;
        world.tell(What::Tick);
        let one = &world.run.instances()[&id];
        assert_eq!(one.fault.clone().expect("it failed").to_string(), said);
        assert_eq!(one.state, State::Failed);
    }
}

#[test]
fn always_is_restarted_with_longer_and_longer_waits() {
    let mut world = World::new().with(plan(1, &[(NAME, 1)]));
    let mut waits = Vec::new();
    for _ in 0..10 {
        let id = only(&world).id;
        world.end(id, end(0));
        let before = world.now;
        world.settle(world.now);
        let because = world.run.why(&slot(NAME)).and_then(|why| why.because);
        assert!(matches!(because, Some(Because::Backoff { .. })), "{because:?}");
        world.settle(world.now + BACKOFF_MAX_MS);
        waits.push((world.now - before) / 1000);
        assert_eq!(at(&world), (State::Ready, Step::Serve));
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(only(&world).restarts, 10);
    // What was ready for long enough begins again.
    world.now += STEADY_MS;
    let id = only(&world).id;
    world.end(id, end(1));
    world.settle(world.now);
    assert_eq!(world.run.slots()[&slot(NAME)].restarts, 1);
    world.sound();
}

#[test]
fn on_failure_is_tried_so_often_and_never_not_at_all() {
    let with = |policy| {
        let mut spec = spec(1);
        spec.restart = Restart { policy, max_retries: 3, backoff_ms: 2_000 };
        World::new().with(plan_of(1, [(NAME, spec)]))
    };
    let mut world = with(RestartPolicy::OnFailure);
    for _ in 0..=3 {
        assert_eq!(at(&world).0, State::Ready);
        let id = only(&world).id;
        world.end(id, end(1));
        world = world.settled();
    }
    assert_eq!(at(&world), (State::Failed, Step::Gone));
    let because = world.run.why(&slot(NAME)).and_then(|why| why.because).expect("it is off");
    let text = because.to_string();
    assert_eq!(
        text,
        "crash_loop_backoff: given up after 3 restarts; the last one: exited: exit code 1"
    );

    let mut world = with(RestartPolicy::OnFailure);
    let id = only(&world).id;
    world.end(id, end(0));
    let world = world.settled();
    assert_eq!(world.run.why(&slot(NAME)).and_then(|why| why.because), Some(Because::Completed));

    for code in [0, 1] {
        let mut world = with(RestartPolicy::Never);
        let id = only(&world).id;
        world.end(id, end(code));
        let world = world.settled();
        assert_eq!(world.run.instances().len(), 1, "there is no other");
        let resumed = {
            let mut world = world;
            world.tell(What::Resume(slot(NAME)));
            world
        };
        assert_eq!(at(&resumed.settled()).0, State::Ready, "unless an operator wants one");
    }
}

#[test]
fn a_process_that_ran_to_its_end_is_no_failed_rollout() {
    let mut job = spec(2);
    job.restart.policy = RestartPolicy::OnFailure;
    let world = World::new().is(2, Nature::Ends(0)).with(plan_of(1, [(NAME, job)]));
    assert_eq!(world.run.outcome(), Outcome::Succeeded);
    assert_eq!(world.run.instances().len(), 1);
}

#[test]
fn what_an_operator_stopped_stays_so_until_he_wants_it() {
    let mut world = World::new().with(plan(1, &[(NAME, 1), ("web/http/1", 1)]));
    world.tell(What::Halt(slot(NAME)));
    let mut world = world.settled();
    world.expects(&[("web/http/1", 1)]);
    let fault = only(&world).fault.expect("it was stopped");
    assert_eq!(fault.reason, Reason::TerminatedByOperator);
    assert!(world.now < super::START + 60_000);
    world.tell(What::NodeStarted);
    let machines = world.machines.clone();
    world.tell(What::Found(machines));
    let world = world.with(plan(2, &[(NAME, 2), ("web/http/1", 2)]));
    world.expects(&[("web/http/1", 2)]);
    assert_eq!(world.run.outcome(), Outcome::Succeeded);
    assert_eq!(world.run.why(&slot(NAME)).and_then(|why| why.because), Some(Because::Halted));
    let mut world = world;
    world.tell(What::Resume(slot(NAME)));
    world.settled().expects(&[(NAME, 2), ("web/http/1", 2)]);
}

#[test]
fn a_slot_nobody_has_cannot_be_stopped() {
    let mut world = World::new().with(plan(1, &[(NAME, 1)]));
    assert!(!world.tell(What::Halt(slot("web/http/7"))));
    assert!(world.run.why(&slot("web/http/7")).is_none());
}

#[test]
fn machines_that_lived_on_serve_on_and_those_that_did_not_are_restarted() {
    let mut world = World::new().with(plan(1, &[(NAME, 1), ("web/http/1", 1)]));
    let ids: Vec<InstanceId> = world.ingress.iter().copied().collect();
    let lost = ids[0];
    world.machines.remove(&lost);
    let stranger = InstanceId::from_bits(7);
    world.machines.insert(stranger, Phase::Running);
    world.tell(What::NodeStarted);
    let machines = world.machines.clone();
    world.tell(What::Found(machines));
    assert_eq!(world.run.instances()[&ids[1]].state, State::Ready);
    assert_eq!(
        world.run.instances()[&lost].fault.as_ref().map(|of| of.reason),
        Some(Reason::VmmGone)
    );
    assert!(world.run.orders().contains(&Order::Kill(stranger)));
    let world = world.settled();
    world.expects(&[(NAME, 1), ("web/http/1", 1)]);
    assert!(world.ingress.contains(&ids[1]), "it never went away");
    assert!(!world.machines.contains_key(&stranger));
}

#[test]
fn an_ingress_that_lost_everything_is_told_again() {
    let mut world = World::new().with(plan(1, &[(NAME, 1)]));
    let ids = world.ingress.clone();
    world.ingress.clear();
    world.tell(What::Unpublished);
    assert_eq!(world.run.why(&slot(NAME)).and_then(|why| why.because), Some(Because::NotPublished));
    assert_eq!(world.settled().ingress, ids);
}

/// Whether the ingress is to be told of a plan over the same instances.
fn other_ways_are_told() -> bool {
    let mut world = World::new().with(plan(1, &[(NAME, 1)]));
    assert!(world.run.is_published());
    let ids = world.ingress.clone();
    world.tell(What::Plan(plan(2, &[(NAME, 1)])));
    assert_eq!(world.run.outcome(), Outcome::Succeeded, "nothing is another");
    let told = world.run.orders().into_iter().any(|order| match order {
        Order::Publish { ready, .. } => ready == ids,
        _ => false,
    });
    assert_eq!(told, !world.run.is_published());
    let world = world.settled();
    assert!(world.run.is_published());
    assert_eq!(world.ingress, ids, "who is ready stays");
    told
}

#[test]
fn other_ways_to_the_same_instances_are_told() {
    assert!(other_ways_are_told());
    assert!(!defects::with(Some(Defect::WaysNotTold), other_ways_are_told));
}

#[test]
fn the_same_events_give_the_same_bytes() {
    let run = || {
        let world = World::new().is(2, Nature::Sick).with(plan(1, &[(NAME, 1)]));
        world.with(plan(2, &[(NAME, 2)])).run.to_bytes()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_state_is_read_back_or_refused() {
    let world = World::new().with(plan(1, &[(NAME, 1)]));
    let bytes = world.run.to_bytes();
    assert_eq!(Run::parse(&bytes).expect("it is its own"), world.run);
    let text = String::from_utf8(bytes).expect("JSON");
    let later = text.replace("\"version\":1", "\"version\":2");
    assert!(matches!(Run::parse(later.as_bytes()), Err(StateError::Version(2))));
    for bad in [
        String::new(),
        text.replace("\"version\":1", "\"version\": 1"),
        text.replace("\"ready\"", "\"happy\""),
        text[..text.len() - 1].to_owned(),
        text.replace("\"now_ms\"", "\"then_ms\""),
    ] {
        assert!(matches!(Run::parse(bad.as_bytes()), Err(StateError::Form(_))), "{bad}");
    }
}

#[test]
fn the_clock_does_not_go_back() {
    let mut world = World::new().with(plan(1, &[(NAME, 1)]));
    let id = only(&world).id;
    let now = world.now;
    world.now = 5;
    world.end(id, end(1));
    assert_eq!(world.run.instances()[&id].since_ms, now);
    let empty: BTreeMap<InstanceId, Phase> = BTreeMap::new();
    world.tell(What::Found(empty));
    world.sound();
}

#[test]
fn a_manifest_says_how_its_slots_are_run() {
    use crate::manifest::read;
    use vyr_base::Source;

    let of = |process: &str| {
        let text = format!(
            "version = 1\nimage = {{ ref = \"r.example/app:1\" }}\nsecrets = {{ none = true }}\n\
             [processes.http]\nresources = {{ memory = \"128Mi\" }}\n{process}"
        );
        let read = read("web", &Source::new("web.toml", text)).expect("it is good");
        let process = read.manifest.processes.values().next().expect("one").clone();
        SlotSpec::of(&process, super::runs(1))
    };
    let mut expected = spec(1);
    expected.gate.health = None;
    assert_eq!(of(""), expected, "by its defaults");
    let said = of("grace_seconds = 7\nprestart = [\"/bin/a\"]\n\
        restart = { policy = \"on-failure\", max_retries = 1, backoff_seconds = 4 }\n\
        health = { type = \"tcp\", port = 1, grace_seconds = 3, success = 2, failure = 5 }\n");
    expected.gate = Gate { health: Some(Thresholds { success: 2, failure: 5 }), grace_ms: 3_000 };
    expected.restart =
        Restart { policy: RestartPolicy::OnFailure, max_retries: 1, backoff_ms: 4_000 };
    (expected.drain_ms, expected.stop_ms) = (7_000, 7_000);
    expected.boot_ms = BOOT_MS + 30_000;
    assert_eq!(said, expected);
}
