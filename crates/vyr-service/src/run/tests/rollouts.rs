//! Rollouts from end to end, in a world that does what it is told.

use super::super::defects::{self, Defect};
use super::super::*;
use super::world::{Nature, World};
use super::{plan, plan_of, slot, spec};

const WEB: [&str; 3] = ["web/http/0", "web/http/1", "web/http/2"];

fn web(release: u8) -> Vec<(&'static str, u8)> {
    WEB.iter().map(|name| (*name, release)).collect()
}

fn reports(world: &World) -> Vec<(u64, Option<Reason>)> {
    let said = world.done.iter().filter_map(|order| match order {
        Order::Report { epoch, failed, .. } => {
            Some((*epoch, failed.as_ref().map(|fault| fault.reason)))
        }
        _ => None,
    });
    said.collect()
}

#[test]
fn a_first_plan_comes_to_serve_and_is_left_alone() {
    let mut world = World::new().with(plan(1, &web(1)));
    world.expects(&web(1));
    assert_eq!(world.run.outcome(), Outcome::Succeeded);
    assert_eq!(reports(&world), [(1, None)]);
    for name in WEB {
        let why = world.run.why(&slot(name)).expect("it is known");
        assert_eq!(why.because, None, "{name}");
        assert_eq!(why.desired, Some(super::runs(1)));
    }
    let done = world.done.len();
    world.tell(What::Plan(plan(2, &web(1))));
    world.settle(u64::MAX);
    // The ingress is told, because its ways may be others; there is nothing else to be done.
    assert!(matches!(world.done[done..], [Order::Publish { .. }]), "{:?}", &world.done[done..]);
    assert_eq!(world.run.plan().map(|plan| plan.epoch), Some(2));
}

#[test]
fn a_rollout_never_has_fewer_that_serve_than_before() {
    let world = World::new().with(plan(1, &web(1))).with(plan(2, &web(2)));
    world.expects(&web(2));
    assert_eq!(world.least, 3);
    assert_eq!(reports(&world), [(1, None), (2, None)]);
    let machines = world.machines.values().filter(|phase| **phase == Phase::Running).count();
    assert_eq!(machines, 3, "what was replaced is gone");
}

#[test]
fn the_seeded_defects_are_found() {
    for (defect, said) in [
        (Defect::DrainBeforeReady, "nothing serves in its place"),
        (Defect::SurgeTwice, "one instance too many"),
        (Defect::StopBeforeLeft, "while clients are sent to it"),
    ] {
        let mut world = World::new().with(plan(1, &web(1)));
        defects::with(Some(defect), || {
            world.tell(What::Plan(plan(2, &web(2))));
            world.settle(u64::MAX);
        });
        let broken = world.broken.unwrap_or_default();
        assert!(broken.contains(said), "{defect:?}: {broken}");
    }
}

#[test]
fn every_kind_of_bad_release_ends_by_itself_and_the_old_one_serves() {
    for (nature, reason) in [
        (Nature::NoImage(Reason::ImagePullFailed), Reason::ImagePullFailed),
        (Nature::NoImage(Reason::ImageTooLarge), Reason::ImageTooLarge),
        (Nature::NoMachine, Reason::VmmStartFailed),
        (Nature::Ends(1), Reason::Exited),
        (Nature::Ends(0), Reason::Exited),
        (Nature::Sick, Reason::HealthcheckFailed),
        (Nature::Silent, Reason::RolloutTimeout),
    ] {
        let world = World::new().is(2, nature).with(plan(1, &web(1))).with(plan(2, &web(2)));
        world.expects(&web(1));
        assert_eq!(world.least, 3, "{nature:?}");
        assert_eq!(reports(&world), [(1, None), (2, Some(reason))], "{nature:?}");
        assert!(
            matches!(world.run.outcome(), Outcome::Failed(of) if of[&slot(WEB[0]).service].reason == reason)
        );
        let why = world.run.why(&slot(WEB[0])).expect("it is known");
        assert!(
            matches!(&why.because, Some(Because::RolledBack { fault }) if fault.reason == reason)
        );
        assert_eq!(why.desired, Some(super::runs(2)));
    }
}

#[test]
fn what_cannot_become_better_is_tried_once() {
    for (nature, tries) in [
        (Nature::NoImage(Reason::ImageTooLarge), 1),
        (Nature::NoImage(Reason::ImagePullFailed), ROLLOUT_FAILURES_MAX as usize),
    ] {
        let mut world = World::new().is(2, nature).with(plan(1, &web(1)));
        world.done.clear();
        let world = world.with(plan(2, &web(2)));
        let fetches = world.done.iter().filter(|order| matches!(order, Order::Fetch(_))).count();
        assert_eq!(fetches, tries, "{nature:?}");
    }
}

#[test]
fn a_release_that_fails_in_its_second_slot_is_taken_back_in_its_first() {
    let mut world = World::new().with(plan(1, &web(1)));
    world.least = usize::MAX;
    world.tell(What::Plan(plan(2, &web(2))));
    // Until the first slot serves the second release.
    while !world.reached().contains(&(WEB[0].to_owned(), super::runs(2))) {
        for order in world.run.orders() {
            world.carry_out(&order, true);
        }
        world.guests();
    }
    world.natures.insert(super::runs(2), Nature::NoMachine);
    let mut world = world.settled();
    world.expects(&web(1));
    assert_eq!(world.least, 3);
    assert_eq!(reports(&world).last(), Some(&(2, Some(Reason::VmmStartFailed))));
    // Tried again it may succeed.
    world.natures.clear();
    let world = world.with(plan(3, &web(2)));
    world.expects(&web(2));
    assert_eq!(reports(&world).last(), Some(&(3, None)));
}

#[test]
fn a_first_release_that_fails_is_off_and_says_why() {
    let world = World::new().is(1, Nature::Ends(3)).with(plan(1, &web(1)));
    world.expects(&[]);
    assert!(world.machines.values().all(|phase| *phase != Phase::Running));
    let why = world.run.why(&slot(WEB[1])).expect("it is known");
    let text = why.because.expect("they differ").to_string();
    assert_eq!(text, "the rollout failed: exited: exit code 3");
    let kept = world.run.of_slot(&slot(WEB[0]));
    assert!(!kept.is_empty() && kept.len() <= ENDED_KEPT, "logs of the last ones are kept");
    assert!(world.run.in_use().contains(&super::runs(1)));
}

#[test]
fn who_ended_last_is_kept_also_if_others_began_after_it() {
    let mut world = World::new().is(2, Nature::Ends(3)).with(plan(1, &web(1)[..1]));
    let first = *world.ingress.first().expect("it serves");
    world = world.with(plan(2, &web(2)[..1]));
    world.expects(&web(1)[..1]);
    let ended = |world: &World| {
        let lives = world.run.of_slot(&slot(WEB[0]));
        lives.iter().filter(|one| one.state.is_terminal()).map(|one| one.id).collect::<Vec<_>>()
    };
    let before = ended(&world);
    assert_eq!(before.len(), ENDED_KEPT, "they came after it, and ended");
    world.now += 1000;
    world.machines.remove(&first);
    world.tell(What::Gone(first));
    let world = world.settled();
    assert!(ended(&world).contains(&first), "its log is the newest: {:?}", ended(&world));
}

#[test]
fn fewer_slots_are_drained_and_more_are_made() {
    let world = World::new().with(plan(1, &web(1))).with(plan(2, &web(1)[..1]));
    world.expects(&web(1)[..1]);
    assert_eq!(world.least, 1);
    assert!(world.run.why(&slot(WEB[2])).is_none(), "it is forgotten");
    let world = world.with(plan(3, &web(1)));
    world.expects(&web(1));
    assert_eq!(world.least, 1, "the one that served was left alone");
    let world = world.with(plan(4, &[]));
    world.expects(&[]);
    assert!(world.machines.is_empty() && world.run.instances().is_empty());
    assert!(world.run.services().is_empty());
}

#[test]
fn slots_that_a_failed_plan_had_left_out_are_still_there() {
    let world = World::new().is(2, Nature::Sick).with(plan(1, &web(1)));
    let world = world.with(plan(2, &web(2)[..1]));
    world.expects(&web(1));
    assert_eq!(world.least, 3);
}

#[test]
fn another_secret_is_a_rollout() {
    let mut rotated = spec(1);
    rotated.runs.secrets = Some(Digest::of(b"another"));
    let world = World::new().with(plan(1, &web(1)));
    let ids = world.ingress.clone();
    let world = world.with(plan_of(2, WEB.map(|name| (name, rotated.clone()))));
    assert!(world.ingress.is_disjoint(&ids) && world.ingress.len() == 3);
    assert_eq!(world.least, 3);
}

#[test]
fn two_services_roll_out_one_after_the_other() {
    let both = |n: u8| plan(n.into(), &[("api/http/0", n), ("db/main/0", n), ("web/http/0", n)]);
    let world = World::new().with(both(1)).with(both(2));
    assert_eq!(world.run.outcome(), Outcome::Succeeded);
    assert_eq!(world.reached().len(), 3);
    assert_eq!(world.least, 3);
}

#[test]
fn a_bad_service_does_not_hold_back_a_good_one() {
    let mut world = World::new().with(plan(1, &[("api/http/0", 1), ("web/http/0", 3)]));
    world.natures.insert(super::runs(2), Nature::Silent);
    let world = world.with(plan(2, &[("api/http/0", 2), ("web/http/0", 4)]));
    world.expects(&[("api/http/0", 1), ("web/http/0", 4)]);
    let Outcome::Failed(faults) = world.run.outcome() else { panic!("one of them is bad") };
    assert_eq!(faults.keys().collect::<Vec<_>>(), [&slot("api/http/0").service]);
}

#[test]
fn the_next_plan_takes_over_in_the_middle() {
    for rounds in 0..12 {
        for target in [1, 3] {
            let mut world = World::new().with(plan(1, &web(1)));
            world.least = usize::MAX;
            world.tell(What::Plan(plan(2, &web(2))));
            for _ in 0..rounds {
                for order in world.run.orders() {
                    world.carry_out(&order, true);
                }
                world.guests();
            }
            world.tell(What::Plan(plan(3, &web(target))));
            let world = world.settled();
            world.expects(&web(target));
            assert_eq!(world.least, 3, "after {rounds} rounds to {target}");
            assert_eq!(reports(&world).last(), Some(&(3, None)));
        }
    }
}

#[test]
fn the_way_back_is_a_plan_like_any_other() {
    let world = World::new().with(plan(1, &web(1))).with(plan(2, &web(2))).with(plan(3, &web(1)));
    world.expects(&web(1));
    assert_eq!(world.least, 3);
    // An older plan is none.
    let mut world = world;
    assert!(!world.tell(What::Plan(plan(2, &web(2)))));
    world.settled().expects(&web(1));
}

#[test]
fn connections_may_end_and_processes_may_be_deaf() {
    let mut world = World::new().with(plan(1, &web(1)));
    (world.busy, world.deaf) = (true, true);
    let began = world.now;
    let world = world.with(plan(2, &web(2)));
    world.expects(&web(2));
    // Three times: the grace of connections, the grace of the process and its slack.
    assert_eq!(world.now - began, 3 * (10_000 + 10_000 + STOP_SLACK_MS));
    assert!(world.done.iter().any(|order| matches!(order, Order::Kill(_))));
}

#[test]
fn long_drains_do_not_make_a_good_rollout_late() {
    let slow = |release| {
        let mut slow = spec(release);
        slow.drain_ms = ROLLOUT_MS * 2;
        WEB.map(|name| (name, slow.clone()))
    };
    let mut world = World::new().with(plan_of(1, slow(1)));
    world.busy = true;
    let mut world = {
        world.tell(What::Plan(plan_of(2, slow(2))));
        world
    };
    world.settle(world.now + 8 * ROLLOUT_MS);
    world.sound();
    world.expects(&web(2));
    assert_eq!(world.run.outcome(), Outcome::Succeeded);
}

#[test]
fn a_node_that_was_away_does_not_blame_a_rollout() {
    let mut world = World::new().is(2, Nature::Silent).with(plan(1, &web(1)));
    world.least = usize::MAX;
    world.tell(What::Plan(plan(2, &web(2))));
    for _ in 0..4 {
        for order in world.run.orders() {
            world.carry_out(&order, true);
        }
        world.guests();
    }
    world.now += 24 * 3_600_000;
    world.tell(What::NodeStarted);
    let machines = world.machines.clone();
    world.tell(What::Found(machines));
    assert_eq!(world.run.outcome(), Outcome::Rolling, "a day without a node is nobody's fault");
    world.natures.clear();
    let world = world.settled();
    world.expects(&web(2));
    assert_eq!(world.least, 3);
}
