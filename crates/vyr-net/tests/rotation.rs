//! The rotation of a key, in every order in which things can happen: handshakes, looks, crashes,
//! plans that are applied, confirmed, taken back, and starts of the machine. All states that can be
//! reached are visited; a planted defect must be seen on the way.

use std::collections::{BTreeSet, VecDeque};

use vyr_base::{Source, canonical};
use vyr_net::{
    Live, LiveLink, LivePeer, Move, Moves, Op, Rotation, Stage, State, ops, rotations, wanted,
};
use vyr_plan::intent::Key;
use vyr_plan::{Files, Lock, Plan, allocate, compile, prove};

/// Whose key takes over, where.
struct Case {
    machine: &'static str,
    link: &'static str,
    old: Key,
    new: Key,
    /// The plans: with the staged key, after it, without it.
    plans: [Wants; 3],
}

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

fn compiled(site: &str, clients: &str) -> Plan {
    let files = Files {
        clients: Some(Source::new("clients.toml", clients)),
        ..Files::new(Source::new("site.toml", site))
    };
    let intent = files.read().expect("it is read");
    let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
    let plan = compile(&intent, &lock).expect("it compiles");
    assert_eq!(prove(&plan, None), []);
    plan
}

const SITE: &str = include_str!("../../../examples/office/site.toml");
const CLIENTS: &str = include_str!("../../../examples/office/clients.toml");

/// Ben's laptop, with its two keys in these states.
fn client() -> Case {
    let old = "I5MfFHVWKpSTJcr2i4yAVvMJOh/7YzCWkMxsgcm+SQU=";
    let new = "V5WSZ31kjM7KV6zrM1LDJAQOPwEC1HrNzfU4T7nuVFs=";
    let plan = |of_old: &str, of_new: &str| {
        let line = |line: &str| {
            let state =
                [(old, of_old), (new, of_new)].into_iter().find(|(key, _)| line.contains(key));
            match (state, line.split_once("state = ")) {
                (Some((_, state)), Some((before, _))) => format!("{before}state = \"{state}\" }},"),
                _ => line.to_owned(),
            }
        };
        let clients: Vec<String> = CLIENTS.lines().map(line).collect();
        Wants::of(&compiled(SITE, &clients.join("\n")), "nas")
    };
    let plans = [plan("active", "staged"), plan("retired", "active"), plan("active", "retired")];
    Case { machine: "nas", link: "vyr-north", old: key(old), new: key(new), plans }
}

/// A node of the mesh, as another one sees it.
fn node() -> Case {
    let old = "kzefrzjSsRHnR68DMDqf2eEY39hPBdLFwb9ciddps2g=";
    let new = Key::from_bytes([9; 32]);
    let plan = |active: &str, staged: Option<&str>| {
        let before = format!("public_key = \"{old}\"");
        assert!(SITE.contains(&before));
        let mut after = format!("public_key = \"{active}\"");
        if let Some(staged) = staged {
            after += &format!("\nstaged_key = \"{staged}\"");
        }
        let clients = CLIENTS.replace("\"staged\"", "\"retired\"");
        Wants::of(&compiled(&SITE.replace(&before, &after), &clients), "router-north")
    };
    let text = new.to_string();
    let plans = [plan(old, Some(&text)), plan(&text, None), plan(old, None)];
    Case { machine: "router-north", link: "vyr-mesh", old: key(old), new, plans }
}

/// A plan as this host has it: what it wants, and the takeovers that it allows.
struct Wants {
    state: State,
    rotations: Vec<Rotation>,
}

impl Wants {
    fn of(plan: &Plan, machine: &str) -> Self {
        let somewhere = |_: &str| Some(([192, 0, 2, 9], 51871).into());
        let mut state = wanted(plan, machine, &somewhere).expect("it wants something");
        // What is filtered is no matter of keys, and a large one.
        state.firewall = None;
        Self { state, rotations: rotations(plan, machine) }
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// The set comes first, and what is written down after it.
    WrittenLate,
    /// A plan that is applied forgets what has moved.
    Forgotten,
    /// Addresses of another device are moved as well.
    Greedy,
    /// A key that was tried and put away again takes over.
    Tried,
    /// The key that takes over is removed and made again.
    MadeAgain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Old,
    New,
    Look,
    /// Killed between what is written down and the set.
    LookAndDie,
    Apply(usize),
    Confirm,
    Rollback,
    Boot,
}

/// Plans: with the staged key; after it; without it.
const STAGED: usize = 0;
const AFTER: usize = 1;
const WITHOUT: usize = 2;

const EVENTS: [Event; 10] = [
    Event::Old,
    Event::New,
    Event::Look,
    Event::LookAndDie,
    Event::Apply(STAGED),
    Event::Apply(AFTER),
    Event::Apply(WITHOUT),
    Event::Confirm,
    Event::Rollback,
    Event::Boot,
];

#[derive(Debug, Clone)]
struct World {
    host: State,
    /// When each shook hands: 0: never.
    shook: [u64; 2],
    moves: Moves,
    confirmed: usize,
    waiting: Option<(usize, State)>,
}

struct Rules<'a> {
    case: &'a Case,
    defect: Defect,
}

impl Rules<'_> {
    fn in_force(&self, world: &World) -> &Wants {
        let waiting = world.waiting.as_ref().map(|(plan, _)| *plan);
        &self.case.plans[waiting.unwrap_or(world.confirmed)]
    }

    /// The takeovers as they are carried out.
    fn rotations(&self, wants: &Wants) -> Vec<Rotation> {
        let mut rotations = wants.rotations.clone();
        if self.defect == Defect::Greedy {
            let link = wants.state.link(self.case.link).expect("it is there");
            let mut others = link.peers.iter().filter(|peer| peer.public_key != self.case.old);
            let other = others.find(|peer| !peer.allowed_ips.is_empty());
            let other = other.expect("there are others").allowed_ips.clone();
            rotations.iter_mut().for_each(|one| one.addresses.extend(&other));
        }
        rotations
    }

    fn wants(&self, world: &World) -> State {
        let wants = self.in_force(world);
        world.moves.over(wants.state.clone(), &wants.rotations)
    }

    fn live(&self, world: &World) -> Live {
        let mut peers: Vec<LivePeer> = [self.case.old, self.case.new]
            .into_iter()
            .zip(world.shook)
            .map(|(public_key, at)| LivePeer {
                public_key,
                endpoint: None,
                handshake_unix_s: (at != 0).then_some(at),
                rx_bytes: 0,
                tx_bytes: 0,
            })
            .collect();
        if self.defect == Defect::Tried {
            peers[0].handshake_unix_s = None;
        }
        peers.sort_by_key(|peer| peer.public_key);
        Live { links: vec![LiveLink { name: self.case.link.into(), peers }] }
    }

    fn set(&self, world: &mut World, steps: &[Op]) -> Result<(), String> {
        for step in steps {
            world.host.take(step).map_err(|e| format!("{step}: {e}"))?;
        }
        let link = world.host.link(self.case.link);
        for (at, own) in [self.case.old, self.case.new].iter().enumerate() {
            if link.and_then(|link| link.peer(own)).is_none() {
                world.shook[at] = 0;
            }
        }
        Ok(())
    }

    fn become_(&self, world: &mut World, goal: &State) -> Result<(), String> {
        let mut steps = ops(&world.host, goal);
        if self.defect == Defect::MadeAgain
            && let Some(peer) = goal.link(self.case.link).and_then(|link| link.peer(&self.case.new))
            && world
                .host
                .link(self.case.link)
                .is_some_and(|link| link.peer(&self.case.new).is_some())
        {
            steps.push(Op::PeerRemove { link: self.case.link.into(), peer: self.case.new });
            steps.extend(
                ops(&State { links: Vec::new(), ..goal.clone() }, goal)
                    .into_iter()
                    .filter(|step| matches!(step, Op::PeerSet(set) if set.peer == peer.public_key)),
            );
        }
        // A key that is in use before and after is not touched.
        let keeps = |state: &State| {
            let peer = state.link(self.case.link).and_then(|link| link.peer(&self.case.new));
            peer.is_some_and(|peer| !peer.allowed_ips.is_empty())
        };
        let touches = |step: &Op| match step {
            Op::PeerSet(set) => set.peer == self.case.new,
            Op::PeerRemove { peer, .. } => *peer == self.case.new,
            _ => false,
        };
        if keeps(&world.host) && keeps(goal) && steps.iter().any(touches) {
            return Err("the key in use is touched".into());
        }
        self.set(world, &steps)
    }

    /// What an event does, and what is wrong with it; none: it cannot happen now.
    fn happens(&self, world: &World, event: Event) -> Option<Result<World, String>> {
        let mut next = world.clone();
        let link = world.host.link(self.case.link);
        let has = |own: &Key| link.is_some_and(|link| link.peer(own).is_some());
        let later = world.shook.iter().max().copied().unwrap_or(0) + 1;
        let done = match event {
            Event::Old => {
                has(&self.case.old).then_some(())?;
                next.shook[0] = later;
                Ok(())
            }
            Event::New => {
                has(&self.case.new).then_some(())?;
                next.shook[1] = later;
                Ok(())
            }
            Event::Look | Event::LookAndDie => {
                let rotations = self.rotations(self.in_force(world));
                let known = world.waiting.iter().map(|(plan, _)| *plan).chain([world.confirmed]);
                let known = known.flat_map(|plan| &self.case.plans[plan].rotations);
                let moves = world.moves.allowed(known).and_seen(&rotations, &self.live(world));
                let steps = moves.steps(&rotations, &world.host);
                let (dies, late) = (event == Event::LookAndDie, self.defect == Defect::WrittenLate);
                let more = moves.iter().count() > world.moves.iter().count();
                if more && world.shook[0] > world.shook[1] {
                    return Some(Err("a key that was put away took over".into()));
                }
                if !dies || !late {
                    next.moves = moves;
                }
                if !dies || late { self.set(&mut next, &steps) } else { Ok(()) }
            }
            Event::Apply(plan) => {
                world.waiting.is_none().then_some(())?;
                next.waiting = Some((plan, world.host.clone()));
                if self.defect == Defect::Forgotten {
                    next.moves = Moves::default();
                }
                let goal = self.wants(&next);
                self.become_(&mut next, &goal)
            }
            Event::Confirm => {
                let (plan, _) = world.waiting.clone()?;
                let steps = world.moves.steps(&self.case.plans[plan].rotations, &world.host);
                let set = self.set(&mut next, &steps);
                (next.confirmed, next.waiting) = (plan, None);
                next.moves = world.moves.allowed(&self.case.plans[plan].rotations);
                set
            }
            Event::Rollback => {
                let (_, before) = world.waiting.clone()?;
                next.waiting = None;
                let rotations = &self.case.plans[world.confirmed].rotations;
                next.moves = world.moves.allowed(rotations);
                let goal = next.moves.over(before, rotations);
                self.become_(&mut next, &goal)
            }
            Event::Boot => {
                next.waiting = None;
                next.host = State::default();
                next.shook = [0, 0];
                let goal = self.wants(&next);
                self.become_(&mut next, &goal)
            }
        };
        Some(done.and_then(|()| self.judge(event, &next).map(|()| next)))
    }

    /// What must hold after every event.
    fn judge(&self, event: Event, world: &World) -> Result<(), String> {
        world.host.check().map_err(|e| e.to_string())?;
        let wants = self.in_force(world);
        let plain = wants.state.link(self.case.link).expect("it is there");
        let link = world.host.link(self.case.link).ok_or("the link is gone")?;
        let own: BTreeSet<_> = [self.case.old, self.case.new].into();
        // Its addresses: whole, at one key, which the plan names.
        let mut goal: Vec<_> =
            plain.peers.iter().filter(|peer| own.contains(&peer.public_key)).collect();
        goal.sort_by_key(|peer| peer.allowed_ips.is_empty());
        let goal = goal.first().expect("the device is in every plan");
        let holders: Vec<_> = link
            .peers
            .iter()
            .filter(|peer| own.contains(&peer.public_key) && !peer.allowed_ips.is_empty())
            .collect();
        match holders.as_slice() {
            [one] if one.allowed_ips == goal.allowed_ips => {
                if plain.peer(&one.public_key).is_none() {
                    return Err("a key that the plan does not name has the addresses".into());
                }
            }
            _ => return Err(format!("{} keys have the addresses", holders.len())),
        }
        // Everybody else is as the plan says.
        for peer in plain.peers.iter().filter(|peer| !own.contains(&peer.public_key)) {
            if link.peer(&peer.public_key) != Some(peer) {
                return Err(format!("{} was changed", peer.public_key));
            }
        }
        // The host differs from what is wanted of it by what is left of moves, and by nothing else.
        let left = ops(&world.host, &self.wants(world));
        let known = world.moves.steps(&wants.rotations, &world.host);
        let is_left = left.len() == known.len();
        if !is_left || (event == Event::Look && !left.is_empty()) {
            return Err(format!("{} steps are left, {} are known", left.len(), known.len()));
        }
        // After a look, who used the new key last has the addresses with it.
        let is_used = world.shook[1] > world.shook[0];
        if event == Event::Look && is_used && !wants.rotations.is_empty() {
            let stage = wants.rotations[0].stage(&world.host, &self.live(world));
            if stage != Stage::Moved {
                return Err(format!("it was seen, and is {stage:?}"));
            }
        }
        Ok(())
    }
}

/// The same for all worlds that behave alike: of times the order alone is of matter.
fn name(world: &World) -> Vec<u8> {
    let [old, new] = world.shook;
    let moves: Vec<&Move> = world.moves.iter().collect();
    let order = (old != 0, new != 0, old < new);
    let all = (&world.host, order, moves, world.confirmed, &world.waiting);
    canonical::to_vec(&all).expect("integers")
}

/// Visits every world that can be reached; how many, or the first thing wrong and how it came.
fn explore(case: &Case, defect: Defect) -> Result<usize, String> {
    assert_eq!(case.plans.each_ref().map(|one| one.rotations.len()), [1, 0, 0], "{}", case.machine);
    let rules = Rules { case, defect };
    let world = World {
        host: case.plans[STAGED].state.clone(),
        shook: [0, 0],
        moves: Moves::default(),
        confirmed: STAGED,
        waiting: None,
    };
    let mut seen = BTreeSet::from([name(&world)]);
    let mut left = VecDeque::from([(world, Vec::new())]);
    while let Some((world, way)) = left.pop_front() {
        for event in EVENTS {
            let way = [way.as_slice(), &[event]].concat();
            let next = match rules.happens(&world, event) {
                None => continue,
                Some(Ok(next)) => next,
                Some(Err(why)) => return Err(format!("{why} after {way:?}")),
            };
            if seen.insert(name(&next)) {
                left.push_back((next, way));
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn in_every_order_the_addresses_have_one_key_that_the_plan_names() {
    for case in [client(), node()] {
        let worlds = explore(&case, Defect::None);
        let worlds = worlds.unwrap_or_else(|wrong| panic!("{}: {wrong}", case.machine));
        println!("{}: {worlds} worlds", case.machine);
        assert!(worlds > 50, "{worlds}: it did not look far");
    }
}

#[test]
fn planted_defects_are_seen() {
    for (defect, said) in [
        (Defect::WrittenLate, "steps are left"),
        (Defect::Forgotten, "steps are left"),
        (Defect::Greedy, "keys have the addresses"),
        (Defect::Tried, "put away"),
        (Defect::MadeAgain, "touched"),
    ] {
        for case in [client(), node()] {
            let wrong = explore(&case, defect).expect_err(&format!("{defect:?}"));
            println!("{defect:?}: {wrong}");
            assert!(wrong.contains(said), "{defect:?}: {wrong}");
        }
    }
}
