//! Whatever happens, in whatever order: the rules hold, and a world that behaves comes to rest.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::defects::{self, Defect};
use super::super::*;
use super::rules;
use super::world::World;
use super::{RestartPolicy, plan_of, slot, spec};

const SLOTS: [&str; 5] = ["api/http/0", "web/http/0", "web/http/1", "web/http/2", "web/jobs/0"];

/// Something that somebody does.
#[derive(Debug, Clone)]
enum Action {
    /// Carries the `n`th order out, or fails to.
    Order(usize, bool),
    /// All orders.
    Orders,
    /// Guests go on.
    Guests,
    /// A check of the `n`th machine.
    Check(usize, bool),
    /// The `n`th machine is gone.
    Lost(usize),
    /// The process of the `n`th machine ends.
    Ended(usize, u8),
    /// Time until the next deadline, or so many milliseconds.
    Time(Option<u64>),
    /// A plan: how many slots of each process, and which release.
    Plan(u8, u8, u8),
    /// The node begins again, after so long.
    Restart(u64),
    /// The ingress does.
    Ingress,
    Halt(usize),
    Resume(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Action::Order(n, ok)),
        4 => Just(Action::Orders),
        4 => Just(Action::Guests),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, ok)| Action::Check(n, ok)),
        1 => any::<usize>().prop_map(Action::Lost),
        1 => (any::<usize>(), 0..3_u8).prop_map(|(n, code)| Action::Ended(n, code)),
        3 => Just(Action::Time(None)),
        1 => (0..700_000_u64).prop_map(|ms| Action::Time(Some(ms))),
        2 => (0..4_u8, 0..2_u8, 1..4_u8).prop_map(|(web, api, n)| Action::Plan(web, api, n)),
        1 => (0..10_000_000_u64).prop_map(Action::Restart),
        1 => Just(Action::Ingress),
        1 => (0..SLOTS.len()).prop_map(Action::Halt),
        1 => (0..SLOTS.len()).prop_map(Action::Resume),
    ]
}

fn wanted(epoch: u64, web: u8, api: u8, release: u8) -> Wanted {
    let mut slots = Vec::new();
    for (n, name) in SLOTS.iter().enumerate() {
        let mut spec = spec(release);
        let there = match n {
            0 => api > 0,
            1..=3 => n <= usize::from(web),
            _ => {
                spec.gate.health = None;
                spec.restart.policy = RestartPolicy::OnFailure;
                web > 1
            }
        };
        if there {
            slots.push((*name, spec));
        }
    }
    plan_of(epoch, slots)
}

fn nth<T: Clone>(of: impl ExactSizeIterator<Item = T>, n: usize) -> Option<T> {
    let mut of = of;
    let count = of.len();
    (count > 0).then(|| of.nth(n % count)).flatten()
}

fn act(world: &mut World, action: &Action, epoch: &mut u64) {
    match action {
        Action::Order(n, lucky) => {
            if let Some(order) = nth(world.run.orders().into_iter(), *n) {
                world.carry_out(&order, *lucky);
            }
        }
        Action::Orders => {
            for order in world.run.orders() {
                world.carry_out(&order, true);
            }
        }
        Action::Guests => world.guests(),
        Action::Check(n, passed) => {
            if let Some(id) = nth(world.machines.clone().into_keys(), *n) {
                world.tell(What::Health { id, passed: *passed, said: String::new() });
            }
        }
        Action::Lost(n) => {
            if let Some(id) = nth(world.machines.clone().into_keys(), *n) {
                world.machines.remove(&id);
                world.tell(What::Gone(id));
            }
        }
        Action::Ended(n, code) => {
            if let Some(id) = nth(world.machines.clone().into_keys(), *n) {
                world.end(id, End { code: Some(*code), signal: None, oom_killed: false });
            }
        }
        Action::Time(ms) => {
            world.now = match ms {
                Some(ms) => world.now + ms,
                None => world.run.wake_ms().unwrap_or(world.now + 1),
            };
            world.tell(What::Tick);
        }
        Action::Plan(web, api, release) => {
            *epoch += 1;
            world.tell(What::Plan(wanted(*epoch, *web, *api, *release)));
        }
        Action::Restart(ms) => {
            world.now += ms;
            // Also what is on the disk is all there is.
            world.run = Run::parse(&world.run.to_bytes()).expect("its own bytes");
            world.tell(What::NodeStarted);
            let machines = world.machines.clone();
            world.tell(What::Found(machines));
        }
        Action::Ingress => {
            world.ingress.clear();
            world.tell(What::Unpublished);
        }
        Action::Halt(n) => {
            world.tell(What::Halt(slot(SLOTS[*n])));
        }
        Action::Resume(n) => {
            world.tell(What::Resume(slot(SLOTS[*n])));
        }
    }
}

fn played(actions: &[Action]) -> (World, u64) {
    let mut world = World::new();
    let mut epoch = 1;
    world.tell(What::Plan(wanted(1, 3, 1, 1)));
    for action in actions {
        act(&mut world, action, &mut epoch);
        for name in SLOTS {
            let why = world.run.why(&slot(name));
            // What is not as it is wanted is said, in words.
            assert!(why.and_then(|why| why.because).is_none_or(|of| !of.to_string().is_empty()));
        }
    }
    (world, epoch)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_rules_hold_and_a_world_that_behaves_comes_to_rest(
        actions in prop::collection::vec(action(), 0..120),
    ) {
        let (mut world, epoch) = played(&actions);
        prop_assert_eq!(world.broken.clone(), None);
        for name in SLOTS {
            world.tell(What::Resume(slot(name)));
        }
        world.tell(What::Plan(wanted(epoch + 1, 3, 1, 9)));
        world.settle(world.now + 100 * ROLLOUT_MS);
        prop_assert_eq!(world.broken.clone(), None);
        prop_assert_eq!(world.run.outcome(), Outcome::Succeeded);
        prop_assert_eq!(world.run.orders(), Vec::new());
        let all: Vec<(&str, u8)> = SLOTS.iter().map(|name| (*name, 9)).collect();
        world.expects(&all);
        prop_assert_eq!(world.machines.len(), SLOTS.len());
    }

    #[test]
    fn any_event_in_any_state_is_taken(
        actions in prop::collection::vec(action(), 0..40),
        nonsense in prop::collection::vec((any::<u8>(), any::<usize>(), any::<u64>()), 1..60),
    ) {
        let (world, _) = played(&actions);
        let mut run = world.run;
        let mut ids: BTreeSet<InstanceId> = run.instances().keys().copied().collect();
        for (kind, n, number) in nonsense {
            let known = nth(run.instances().clone().into_keys(), n);
            let id = known.unwrap_or(InstanceId::from_bits(number));
            let fault = Fault::new(Reason::GuestSetupFailed, "x".repeat(n % 1000));
            let end = End { code: None, signal: Some(9), oom_killed: true };
            let phases = [
                Phase::Starting,
                Phase::Running,
                Phase::Ended(end),
                Phase::Failed(fault.clone()),
                Phase::Gone,
            ];
            let phase = phases[n % phases.len()].clone();
            let what = match kind % 14 {
                0 => What::Started(id),
                1 => What::StartFailed(id, fault),
                2 => What::Guest(id, phase),
                3 => What::Gone(id),
                4 => What::Forgotten(id),
                5 => What::Published(number),
                6 => What::Published(run.serving.generation),
                7 => What::Drained(id),
                8 => What::Found(BTreeMap::from([(id, phase)])),
                9 => What::NodeStarted,
                10 => What::ImageReady(super::runs(1).image),
                11 => What::Health { id, passed: n.is_multiple_of(2), said: String::new() },
                12 => What::Reported { service: slot(SLOTS[1]).service, epoch: number },
                _ => What::Tick,
            };
            let before = run.clone();
            run.evolve(&Event { at_ms: number, what });
            prop_assert_eq!(rules::forms(&run), Ok(()));
            prop_assert_eq!(rules::lives(&before, &run, &mut ids), Ok(()));
            let again = Run::parse(&run.to_bytes()).ok();
            prop_assert_eq!(again.as_ref(), Some(&run));
            let _ = (run.orders(), run.outcome(), run.in_use());
        }
    }
}

/// The random worlds find what is wrong too, not only the one that was made for it.
#[test]
fn random_worlds_find_a_seeded_defect() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    for defect in [Defect::DrainBeforeReady, Defect::SurgeTwice, Defect::StopBeforeLeft] {
        let mut runner = TestRunner::deterministic();
        let actions = prop::collection::vec(action(), 60..120);
        let found = (0..200).any(|_| {
            let actions = actions.new_tree(&mut runner).expect("actions").current();
            defects::with(Some(defect), || played(&actions)).0.broken.is_some()
        });
        assert!(found, "{defect:?}");
    }
}
