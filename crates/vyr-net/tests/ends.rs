//! The rotation of a server's key, in every order in which things can happen: handshakes of a device
//! with its old file and with its new one, and with its own next key meanwhile; looks, deaths between
//! any two steps, plans that are applied, confirmed, taken back, and starts of the machine. All states
//! that can be reached are visited; a planted defect must be seen on the way.

use std::collections::{BTreeSet, VecDeque};

use ipnet::IpNet;
use vyr_base::{Source, canonical};
use vyr_net::{
    Live, LiveLink, LivePeer, Move, Moves, Op, Rotation, Stage, State, ops, rotations, wanted,
};
use vyr_plan::intent::{Key, ServerStep, edit_server};
use vyr_plan::{Files, Lock, Plan, allocate, compile, prove};

const SITE: &str = include_str!("../../../examples/office/site.toml");
const CLIENTS: &str = include_str!("../../../examples/office/clients.toml");
const LINKS: [&str; 2] = ["vyr-north", "vyr-north-2"];

/// Ben's laptop: its key, and the one that it is to use next.
const OWN: &str = "I5MfFHVWKpSTJcr2i4yAVvMJOh/7YzCWkMxsgcm+SQU=";
const NEXT: &str = "V5WSZ31kjM7KV6zrM1LDJAQOPwEC1HrNzfU4T7nuVFs=";

/// Plans: without a second end, with it, and after it.
const PLAIN: usize = 0;
const STAGED: usize = 1;
const AFTER: usize = 2;

/// A plan as this host has it: what it wants, and the takeovers of one device that it allows.
struct Wants {
    state: State,
    rotations: Vec<Rotation>,
}

impl Wants {
    fn of(plan: &Plan) -> Self {
        let somewhere = |_: &str| Some(([192, 0, 2, 9], 51871).into());
        let mut state = wanted(plan, "nas", &somewhere).expect("it wants something");
        // What is filtered is no matter of keys, and a large one.
        state.firewall = None;
        // A few peers are as good as many.
        let keep = [OWN, NEXT].map(|text| text.parse::<Key>().expect("a key"));
        for link in &mut state.links {
            let other = link.peers.iter().find(|peer| !keep.contains(&peer.public_key));
            let other = other.map(|peer| peer.public_key);
            let kept = |key: &Key| keep.contains(key) || Some(*key) == other;
            link.peers.retain(|peer| kept(&peer.public_key));
        }
        let mut rotations = rotations(plan, "nas");
        rotations.retain(|one| one.id.as_str() == "ben-laptop");
        Self { state, rotations }
    }
}

/// The three plans; in the middle of `keys` the device's own key rotates as well.
struct Case {
    keys: Vec<Key>,
    plans: [Wants; 3],
    addresses: Vec<IpNet>,
}

fn case(both: bool) -> Case {
    let next = format!("public_key = \"{NEXT}\"");
    let line = |line: &str| match line.contains(&next) && !both {
        true => line.replace("\"staged\"", "\"retired\""),
        false => line.to_owned(),
    };
    let clients: Vec<String> = CLIENTS.lines().map(line).collect();
    let files = |site: &str| Files {
        clients: Some(Source::new("clients.toml", clients.join("\n"))),
        ..Files::new(Source::new("site.toml", site))
    };
    let step = |site: &str, step: ServerStep| {
        let server = "nas".parse().expect("a name");
        edit_server(&files(site), &server, None, &step).expect("a step").text
    };
    let mut lock = Lock::default();
    let mut plan = |site: &str| {
        let intent = files(site).read().expect("it is read");
        lock = allocate(&intent, &lock, None).expect("there is room");
        let plan = compile(&intent, &lock).expect("it compiles");
        assert_eq!(prove(&plan, None), []);
        Wants::of(&plan)
    };
    let staged = step(SITE, ServerStep::Stage { key: Key::from_bytes([77; 32]), port: None });
    let after = step(&staged, ServerStep::Retire);
    let plans = [plan(SITE), plan(&staged), plan(&after)];
    let keys: &[&str] = if both { &[OWN, NEXT] } else { &[OWN] };
    let addresses = plans[STAGED].rotations[0].addresses.clone();
    Case { keys: keys.iter().map(|text| text.parse().expect("a key")).collect(), plans, addresses }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// The way back stays where it was.
    NoWay,
    /// What a device gets on one end it keeps on the other.
    Both,
    /// The set comes first, and what is written down after it.
    WrittenLate,
    /// A plan that is applied forgets who has moved.
    Forgotten,
    /// Who was once on the second end is kept there.
    Sticky,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A handshake on one of the two links, with one of the keys.
    Shake(usize, usize),
    Look,
    /// Killed after so many of the steps, or of what is written down before them.
    LookAndDie(usize),
    Apply(usize),
    Confirm,
    Rollback,
    Boot,
}

#[derive(Debug, Clone)]
struct World {
    host: State,
    /// When which key shook hands on which link: 0: never.
    shook: [[u64; 2]; 2],
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

    fn wants(&self, world: &World) -> State {
        let wants = self.in_force(world);
        world.moves.over(wants.state.clone(), &wants.rotations)
    }

    fn live(&self, world: &World) -> Live {
        let links = LINKS.iter().zip(world.shook).map(|(name, shook)| {
            let mut peers: Vec<LivePeer> = self
                .case
                .keys
                .iter()
                .zip(shook)
                .map(|(public_key, at)| LivePeer {
                    public_key: *public_key,
                    endpoint: None,
                    handshake_unix_s: (at != 0).then_some(at),
                    rx_bytes: 0,
                    tx_bytes: 0,
                })
                .collect();
            peers.sort_by_key(|peer| peer.public_key);
            LiveLink { name: (*name).into(), peers }
        });
        Live { links: links.collect() }
    }

    /// Takes steps, and looks at the host after each of them.
    fn set(&self, world: &mut World, steps: &[Op]) -> Result<(), String> {
        for step in steps {
            match (self.defect, step) {
                (Defect::NoWay, Op::AddRoute { route, .. })
                    if self.case.addresses.contains(route) =>
                {
                    continue;
                }
                (Defect::Both, Op::PeerSet(set))
                    if matches!(set.allowed_ips, Some(vyr_net::AllowedIps::Replace(_))) =>
                {
                    continue;
                }
                _ => (),
            }
            world.host.take(step).map_err(|e| format!("{step}: {e}"))?;
        }
        for (at, link) in LINKS.iter().enumerate() {
            for (of, key) in self.case.keys.iter().enumerate() {
                let link = world.host.link(link);
                if link.and_then(|link| link.peer(key)).is_none() {
                    world.shook[at][of] = 0;
                }
            }
        }
        Ok(())
    }

    fn holders(&self, host: &State) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, link) in LINKS.iter().enumerate() {
            for (of, key) in self.case.keys.iter().enumerate() {
                let peer = host.link(link).and_then(|link| link.peer(key));
                let has = |peer: &vyr_net::Peer| {
                    peer.allowed_ips.iter().any(|ip| self.case.addresses.contains(ip))
                };
                if peer.is_some_and(has) {
                    found.push((at, of));
                }
            }
        }
        found
    }

    /// Where the device was last heard; none: nowhere.
    fn last(&self, world: &World) -> Option<(usize, usize)> {
        let all = (0..2).flat_map(|at| (0..self.case.keys.len()).map(move |of| (at, of)));
        all.filter(|(at, of)| world.shook[*at][*of] != 0)
            .max_by_key(|(at, of)| world.shook[*at][*of])
    }

    fn looks(&self, world: &World, next: &mut World, dies: Option<usize>) -> Result<(), String> {
        let rotations = &self.in_force(world).rotations;
        let known = world.waiting.iter().map(|(plan, _)| *plan).chain([world.confirmed]);
        let known = known.flat_map(|plan| &self.case.plans[plan].rotations);
        let mut moves = world.moves.and_seen(rotations, &self.live(world)).allowed(known);
        if self.defect == Defect::Sticky {
            moves = moves.iter().chain(world.moves.iter()).cloned().collect();
        }
        let mut steps = moves.steps(rotations, &world.host);
        steps.truncate(dies.unwrap_or(usize::MAX));
        if self.defect != Defect::WrittenLate || dies.is_none() {
            next.moves = moves;
        }
        self.set(next, &steps)
    }

    /// What an event does, and what is wrong with it; none: it cannot happen now.
    fn happens(&self, world: &World, event: Event) -> Option<Result<World, String>> {
        let mut next = world.clone();
        let done = match event {
            Event::Shake(at, of) => {
                let key = self.case.keys.get(of)?;
                world.host.link(LINKS[at])?.peer(key)?;
                let later = world.shook.iter().flatten().max().copied().unwrap_or(0) + 1;
                next.shook[at][of] = later;
                Ok(())
            }
            Event::Look => self.looks(world, &mut next, None),
            Event::LookAndDie(steps) => self.looks(world, &mut next, Some(steps)),
            Event::Apply(plan) => {
                world.waiting.is_none().then_some(())?;
                next.waiting = Some((plan, world.host.clone()));
                if self.defect == Defect::Forgotten {
                    next.moves = Moves::default();
                }
                let goal = self.wants(&next);
                self.set(&mut next, &ops(&world.host, &goal))
            }
            Event::Confirm => {
                let (plan, _) = world.waiting.clone()?;
                let rotations = &self.case.plans[plan].rotations;
                let set = self.set(&mut next, &world.moves.steps(rotations, &world.host));
                (next.confirmed, next.waiting) = (plan, None);
                next.moves = world.moves.allowed(rotations);
                set
            }
            Event::Rollback => {
                let (_, before) = world.waiting.clone()?;
                next.waiting = None;
                let rotations = &self.case.plans[world.confirmed].rotations;
                next.moves = world.moves.allowed(rotations);
                let goal = next.moves.over(before, rotations);
                self.set(&mut next, &ops(&world.host, &goal))
            }
            Event::Boot => {
                next.waiting = None;
                next.host = State::default();
                next.shook = [[0; 2]; 2];
                let goal = self.wants(&next);
                self.set(&mut next, &ops(&State::default(), &goal))
            }
        };
        Some(done.and_then(|()| self.judge(world, event, &next).map(|()| next)))
    }

    /// What must hold after every event.
    fn judge(&self, before: &World, event: Event, world: &World) -> Result<(), String> {
        world.host.check().map_err(|e| e.to_string())?;
        let wants = self.in_force(world);
        let holders = self.holders(&world.host);
        if holders.len() > 1 {
            return Err(format!("it is at {holders:?}"));
        }
        // A way of its own leads into the second link of the plan only while it is there.
        let second = wants.rotations.iter().find_map(|one| one.to.clone());
        for link in &world.host.links {
            let has = link.routes.iter().any(|route| self.case.addresses.contains(route));
            let is = holders.iter().any(|(at, _)| LINKS[*at] == link.name);
            if has && second.as_ref() != Some(&link.name) {
                return Err(format!("a way of its own leads into {}", link.name));
            }
            if is && !has && second.as_ref() == Some(&link.name) {
                return Err(format!("it is on {} without a way back", link.name));
            }
        }
        // Everybody else is as the plan says.
        for link in &wants.state.links {
            for peer in link.peers.iter().filter(|of| !self.case.keys.contains(&of.public_key)) {
                let found = world.host.link(&link.name).and_then(|of| of.peer(&peer.public_key));
                if found != Some(peer) {
                    return Err(format!("{} was changed", peer.public_key));
                }
            }
        }
        // The host differs from what is wanted of it by what is left of moves, and by nothing else.
        let mut rest = world.host.clone();
        for step in world.moves.steps(&wants.rotations, &world.host) {
            rest.take(&step).map_err(|e| format!("{step}: {e}"))?;
        }
        if let Some(step) = ops(&rest, &self.wants(world)).first() {
            return Err(format!("no move does this: {step}"));
        }
        let is_moved = |world: &World| world.moves.iter().any(|of| of.to.is_some());
        let on_second = |at: Option<&(usize, usize)>| at.is_some_and(|(at, _)| *at == 1);
        let was = self.holders(&before.host);
        let is_new = on_second(holders.first()) && !on_second(was.first());
        if second.is_some() && is_new && !is_moved(world) {
            return Err("it was set before it was written down".into());
        }
        // No plan puts back who has moved, as long as there is where to.
        let is_plan = matches!(event, Event::Apply(_) | Event::Confirm | Event::Rollback);
        if is_plan
            && second.is_some()
            && is_moved(before)
            && on_second(was.first())
            && was != holders
        {
            return Err(format!("it was at {was:?}, and the plan put it at {holders:?}"));
        }
        if event != Event::Look {
            return Ok(());
        }
        if rest != world.host {
            return Err("a look left something".into());
        }
        // Who has a second end is where it was last heard, if its own key did not go back.
        if let (Some((at, _)), Some(_)) = (self.last(world), second) {
            let Some((found, _)) = holders.first() else { return Err("it is nowhere".into()) };
            if *found != at {
                return Err(format!("it was heard on {}, and is on {}", LINKS[at], LINKS[*found]));
            }
        }
        // Its own key never goes back while its plan is in force.
        let own = |world: &World| world.moves.iter().any(|of| of.to.is_none());
        if own(before) && !own(world) {
            return Err("its own key went back".into());
        }
        let moved = wants.rotations.iter().all(|one| {
            let stage = one.stage(&world.host, &self.live(world));
            world.moves.has(one) == (stage == Stage::Moved)
        });
        if moved { Ok(()) } else { Err("it is not where it is said to be".into()) }
    }
}

/// The same for all worlds that behave alike: of times the order alone is of matter.
fn name(world: &World) -> Vec<u8> {
    let mut times: Vec<u64> = world.shook.iter().flatten().copied().collect();
    times.sort_unstable();
    times.dedup();
    let order =
        |at: &u64| if *at == 0 { 0 } else { times.binary_search(at).map_or(0, |at| at + 1) };
    let order: Vec<usize> = world.shook.iter().flatten().map(order).collect();
    let moves: Vec<&Move> = world.moves.iter().collect();
    let all = (&world.host, order, moves, world.confirmed, &world.waiting);
    canonical::to_vec(&all).expect("integers")
}

/// Visits every world that can be reached; how many, or the first thing wrong and how it came.
fn explore(case: &Case, defect: Defect) -> Result<usize, String> {
    let rules = Rules { case, defect };
    let mut events = vec![Event::Look, Event::Confirm, Event::Rollback, Event::Boot];
    events.extend([PLAIN, STAGED, AFTER].map(Event::Apply));
    // A move of one device with addresses of two families has four steps.
    events.extend((0..4).map(Event::LookAndDie));
    events.extend((0..2).flat_map(|at| (0..case.keys.len()).map(move |of| Event::Shake(at, of))));
    let world = World {
        host: case.plans[STAGED].state.clone(),
        shook: [[0; 2]; 2],
        moves: Moves::default(),
        confirmed: STAGED,
        waiting: None,
    };
    let mut seen = BTreeSet::from([name(&world)]);
    let mut left = VecDeque::from([(world, Vec::new())]);
    while let Some((world, way)) = left.pop_front() {
        for event in &events {
            let way = [way.as_slice(), &[*event]].concat();
            let next = match rules.happens(&world, *event) {
                None => continue,
                Some(Ok(next)) => next,
                Some(Err(why)) => return Err(format!("{why} after {way:?}")),
            };
            // Where it would be is far away already: the other plans are the same from here.
            if way.len() < DEPTH_MAX && seen.insert(name(&next)) {
                left.push_back((next, way));
            }
        }
    }
    Ok(seen.len())
}

/// Events in a row. Whatever is found is found sooner; it ends by itself before, with one key.
const DEPTH_MAX: usize = 9;

#[test]
fn in_every_order_a_device_is_on_one_end_with_its_way_back() {
    let case = case(false);
    assert_eq!(case.plans.each_ref().map(|one| one.rotations.len()), [0, 1, 0]);
    let worlds = explore(&case, Defect::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{worlds} worlds");
    assert!(worlds > 50, "{worlds}: it did not look far");
}

#[test]
fn its_own_key_may_rotate_meanwhile() {
    let case = case(true);
    assert_eq!(case.plans.each_ref().map(|one| one.rotations.len()), [1, 2, 1]);
    let rules = Rules { case: &case, defect: Defect::None };
    // Every order of six events of one plan: handshakes, looks and deaths.
    let mut events: Vec<Event> =
        (0..2).flat_map(|at| (0..2).map(move |of| Event::Shake(at, of))).collect();
    events.extend([Event::Look, Event::LookAndDie(0), Event::LookAndDie(2)]);
    let world = World {
        host: case.plans[STAGED].state.clone(),
        shook: [[0; 2]; 2],
        moves: Moves::default(),
        confirmed: STAGED,
        waiting: None,
    };
    let mut seen = BTreeSet::from([name(&world)]);
    let mut left = VecDeque::from([(world, Vec::new())]);
    while let Some((world, way)) = left.pop_front() {
        for event in &events {
            let way = [way.as_slice(), &[*event]].concat();
            let Some(next) = rules.happens(&world, *event) else { continue };
            let next = next.unwrap_or_else(|why| panic!("{why} after {way:?}"));
            if seen.insert(name(&next)) {
                left.push_back((next, way));
            }
        }
    }
    println!("{} worlds", seen.len());
    assert!(seen.len() > 200, "{}: it did not look far", seen.len());
}

#[test]
fn planted_defects_are_seen() {
    for (defect, said) in [
        (Defect::NoWay, "without a way back"),
        (Defect::Both, "it is at"),
        (Defect::WrittenLate, "before it was written down"),
        (Defect::Forgotten, "the plan put it"),
        (Defect::Sticky, "and is on"),
    ] {
        let wrong = explore(&case(false), defect).expect_err(&format!("{defect:?}"));
        println!("{defect:?}: {wrong}");
        assert!(wrong.contains(said), "{defect:?}: {wrong}");
    }
}
