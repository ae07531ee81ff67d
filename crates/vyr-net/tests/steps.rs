//! The laws of steps, for any two hosts: small pools make things move between links and peers.
//!
//! Each law is a function that says what is wrong; its twin breaks the steps and must hear of it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;
use vyr_net::{
    AllowedIps, Backend, Keys, Link, LinkKind, NetError, NoKeys, Op, Peer, Recorder, Ruleset,
    STATE_VERSION, State, StateError, ops, undo, union,
};
use vyr_plan::intent::Key;
use zeroize::Zeroizing;

fn key(n: u8) -> Key {
    Key::from_bytes([n + 1; 32])
}

fn prefix(n: u8) -> IpNet {
    let text = match n % 2 {
        0 => format!("10.{n}.0.0/16"),
        _ => format!("fd00:{n}::/32"),
    };
    text.parse().expect("a prefix")
}

/// A table with one accepted port.
fn table(port: u16) -> Ruleset {
    let table = r#"{"table":{"family":"inet","name":"vyr"}}"#;
    let text = format!(
        r#"{{"nftables":[{{"add":{table}}},
        {{"add":{{"chain":{{"family":"inet","table":"vyr","name":"input","type":"filter","hook":"input","prio":0,"policy":"accept"}}}}}},
        {{"add":{{"rule":{{"family":"inet","table":"vyr","chain":"input","expr":[
            {{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{port}}}}},{{"accept":null}}]}}}}}}]}}"#
    );
    Ruleset::from_transaction(&text).expect("a table")
}

#[derive(Debug, Clone)]
struct Raw {
    mtu: u32,
    up: bool,
    port: u16,
    fwmark: u32,
    key: Option<u8>,
    addresses: BTreeSet<u8>,
    /// The peers' own things, by key.
    peers: BTreeMap<u8, (Option<u16>, Option<u16>, bool)>,
    /// Whose each prefix is, if anybody's.
    owners: Vec<Option<u8>>,
}

const PREFIXES: u8 = 6;
const PEERS: u8 = 4;

fn raw() -> impl Strategy<Value = Raw> {
    (
        prop_oneof![Just(1280), Just(1420)],
        any::<bool>(),
        0u16..3,
        0u32..2,
        proptest::option::of(100u8..103),
        proptest::collection::btree_set(0..PREFIXES, 0..4),
        proptest::collection::btree_map(
            0..PEERS,
            (proptest::option::of(1u16..3), proptest::option::of(1u16..3), any::<bool>()),
            0..4,
        ),
        proptest::collection::vec(proptest::option::of(0..PEERS), usize::from(PREFIXES)),
    )
        .prop_map(|(mtu, up, port, fwmark, key, addresses, peers, owners)| Raw {
            mtu,
            up,
            port,
            fwmark,
            key,
            addresses,
            peers,
            owners,
        })
}

fn link(name: &str, raw: &Raw, routes: Vec<IpNet>) -> Link {
    let peers = raw.peers.iter().map(|(id, (endpoint, keepalive_s, has_preshared))| Peer {
        public_key: key(*id),
        allowed_ips: (0..PREFIXES)
            .filter(|n| raw.owners[usize::from(*n)] == Some(*id))
            .map(prefix)
            .collect(),
        endpoint: endpoint.map(|port| ([192, 0, 2, 1], port).into()),
        keepalive_s: *keepalive_s,
        has_preshared: *has_preshared,
    });
    Link {
        name: name.into(),
        kind: LinkKind::Wireguard,
        mtu: raw.mtu,
        up: raw.up,
        listen_port: raw.port,
        fwmark: raw.fwmark,
        public_key: raw.key.map(key),
        addresses: raw.addresses.iter().map(|n| prefix(*n)).collect(),
        routes,
        peers: peers.collect(),
    }
}

fn state() -> impl Strategy<Value = State> {
    let links = proptest::collection::btree_map(0usize..3, raw(), 0..4);
    let routes = proptest::collection::vec(proptest::option::of(0usize..3), usize::from(PREFIXES));
    let firewall = proptest::option::of(1u16..3);
    (links, routes, firewall).prop_map(|(raws, routes, firewall)| {
        let mut state =
            State { version: STATE_VERSION, links: Vec::new(), firewall: firewall.map(table) };
        let mut taken = BTreeSet::new();
        for (at, mut raw) in raws {
            if !taken.insert(raw.port) {
                raw.port = 0;
            }
            let mine = |n: &u8| raw.up && routes[usize::from(*n)] == Some(at);
            let routes = (0..PREFIXES).filter(mine).map(prefix).collect();
            state.links.push(link(&format!("vyr-{at}"), &raw, routes));
        }
        state.normalise();
        state.check().expect("the pools make good states");
        state
    })
}

type Wrong = String;

fn carried_out(from: &State, steps: &[Op]) -> Result<State, Wrong> {
    let mut now = from.clone();
    for step in steps {
        now.take(step).map_err(|e| format!("{step}: {e}"))?;
    }
    Ok(now)
}

fn arrives(a: &State, b: &State, steps: &[Op]) -> Result<(), Wrong> {
    let now = carried_out(a, steps)?.without_learnt(b);
    if now == *b { Ok(()) } else { Err(format!("{now:?} is not {b:?}")) }
}

/// Peers of links that are before and after.
fn stay<'a>(a: &'a State, b: &'a State) -> impl Iterator<Item = (&'a Link, &'a Link)> {
    a.links.iter().filter_map(|link| Some((link, b.link(&link.name)?)))
}

fn nobody_is_made_again(a: &State, b: &State, steps: &[Op]) -> Result<(), Wrong> {
    for (before, after) in stay(a, b) {
        let stays = |key: &Key| before.peer(key).is_some() && after.peer(key).is_some();
        let wrong = |step: &&Op| match step {
            Op::AddLink { link } | Op::DelLink { link } => *link == before.name,
            Op::PeerRemove { link, peer } => *link == before.name && stays(peer),
            Op::PeerSet(set) => set.link == before.name && set.new && stays(&set.peer),
            _ => false,
        };
        if let Some(step) = steps.iter().find(wrong) {
            return Err(step.to_string());
        }
    }
    Ok(())
}

fn owned(link: &Link) -> BTreeSet<IpNet> {
    link.peers.iter().flat_map(|peer| peer.allowed_ips.clone()).collect()
}

fn no_address_is_without_owner(a: &State, b: &State, steps: &[Op]) -> Result<(), Wrong> {
    for (before, after) in stay(a, b) {
        let always: BTreeSet<IpNet> = &owned(before) & &owned(after);
        let mut now = a.clone();
        for step in steps {
            now.take(step).map_err(|e| e.to_string())?;
            let has = now.link(&before.name).map(owned).unwrap_or_default();
            if let Some(lost) = always.difference(&has).next() {
                return Err(format!("{lost} has nobody after: {step}"));
            }
        }
    }
    Ok(())
}

/// WireGuard's steps of one link are in a row, so that they are one set.
fn one_set(_: &State, _: &State, steps: &[Op]) -> Result<(), Wrong> {
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    let mut now = None;
    for step in steps {
        let is_peer = matches!(step, Op::PeerSet(_) | Op::PeerRemove { .. });
        let link = step.link().filter(|_| is_peer);
        if link != now {
            ended.extend(now);
            now = link;
        }
        if link.is_some_and(|link| ended.contains(link)) {
            return Err(step.to_string());
        }
    }
    Ok(())
}

fn additions_come_first(_: &State, _: &State, steps: &[Op]) -> Result<(), Wrong> {
    let is_deletion = |step: &&Op| {
        matches!(step, Op::DelLink { .. } | Op::DelAddress { .. } | Op::DelRoute { .. })
    };
    let is_addition = |step: &&Op| {
        matches!(
            step,
            Op::AddLink { .. } | Op::AddAddress { .. } | Op::AddRoute { .. } | Op::MoveRoute { .. }
        )
    };
    let mut rest = steps.iter().skip_while(|step| !is_deletion(step));
    rest.find(is_addition).map_or(Ok(()), |step| Err(step.to_string()))
}

/// While links change, the firewall is both.
fn both_firewalls(a: &State, b: &State, steps: &[Op]) -> Result<(), Wrong> {
    let between = match (&a.firewall, &b.firewall) {
        (Some(old), Some(new)) if old != new => Some(union(old, new)),
        (old, new) => old.clone().or_else(|| new.clone()),
    };
    let mut now = a.firewall.clone();
    for step in steps {
        match step {
            Op::Firewall { to } => now.clone_from(to),
            Op::Cut { .. } | Op::Forget { .. } => (),
            step if now != between => return Err(format!("the firewall was not both: {step}")),
            _ => (),
        }
    }
    Ok(())
}

/// What was accepted of who goes does not pass on, once the firewall is the new one; nobody else's
/// connections are touched.
fn who_goes_is_forgotten(a: &State, b: &State, steps: &[Op]) -> Result<(), Wrong> {
    let mut gone = BTreeSet::new();
    for link in &a.links {
        for peer in &link.peers {
            let stays = b.link(&link.name).and_then(|link| link.peer(&peer.public_key)).is_some();
            gone.extend(peer.allowed_ips.iter().filter(|_| !stays));
        }
    }
    let told = steps.iter().enumerate().filter_map(|(at, step)| match step {
        Op::Forget { addresses } => Some((at, addresses.iter().collect::<BTreeSet<&IpNet>>())),
        _ => None,
    });
    match told.collect::<Vec<_>>().as_slice() {
        [] if gone.is_empty() => Ok(()),
        [(at, addresses)] if *at + 1 == steps.len() && *addresses == gone => Ok(()),
        told => Err(format!("{told:?} of {gone:?}")),
    }
}

type Law = fn(&State, &State, &[Op]) -> Result<(), Wrong>;

const LAWS: [(&str, Law); 7] = [
    ("arrives", arrives),
    ("nobody is made again", nobody_is_made_again),
    ("no address is without owner", no_address_is_without_owner),
    ("one set", one_set),
    ("additions come first", additions_come_first),
    ("both firewalls", both_firewalls),
    ("who goes is forgotten", who_goes_is_forgotten),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn steps_keep_the_laws(a in state(), b in state()) {
        let steps = ops(&a, &b);
        for (name, law) in LAWS {
            law(&a, &b, &steps).map_err(|wrong| {
                TestCaseError::fail(format!("{name}: {wrong}\n{steps:#?}"))
            })?;
        }
        prop_assert_eq!(ops(&b, &b), []);
        prop_assert_eq!(steps.is_empty(), a.clone().without_learnt(&b) == b);
    }

    #[test]
    fn undo_returns(a in state(), b in state()) {
        let steps = ops(&a, &b);
        let there = carried_out(&a, &steps).expect("a law");
        let back = undo(&steps, &a).expect("they can be taken");
        prop_assert_eq!(arrives(&there, &a, &back), Ok(()));

        // And of each step alone.
        let mut now = a;
        for step in &steps {
            let mut after = now.clone();
            after.take(step).expect("a law");
            let back = step.undo(&now).expect("it can be taken");
            prop_assert_eq!(arrives(&after, &now, &back), Ok(()), "{}", step);
            now = after;
        }
    }

    #[test]
    fn from_wherever_it_stops_both_ways_keep_the_laws(a in state(), b in state(), at in 0usize..40) {
        let steps = ops(&a, &b);
        let stopped = carried_out(&a, &steps[..at.min(steps.len())]).expect("a law");
        for goal in [&a, &b] {
            let seen = stopped.clone().without_learnt(goal);
            let rest = ops(&seen, goal);
            for (name, law) in LAWS {
                law(&seen, goal, &rest).map_err(|wrong| {
                    TestCaseError::fail(format!("{name}: {wrong}\n{rest:#?}"))
                })?;
            }
            // What is both already is not made larger.
            let rules = |state: &State| state.firewall.as_ref().map_or(0, Ruleset::rules);
            let mut now = seen;
            for step in &rest {
                now.take(step).expect("a law");
                prop_assert!(rules(&now) <= rules(&a) + rules(&b));
            }
        }
    }

    #[test]
    fn steps_are_lines_and_documents(a in state(), b in state()) {
        for step in ops(&a, &b) {
            prop_assert!(!step.to_string().contains('\n'));
            let text = serde_json::to_string(&step).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Op>(&text).expect("the same"), step);
        }
        let text = serde_json::to_string(&a).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<State>(&text).expect("the same"), a.clone());
        prop_assert_eq!(a == b, a.digest().expect("integers") == b.digest().expect("integers"));
    }
}

/// A link with two peers, of which the first gives one prefix to the second and one to nobody.
fn two() -> (State, State) {
    let raw = |owners: &[Option<u8>]| Raw {
        mtu: 1420,
        up: true,
        port: 1,
        fwmark: 0,
        key: Some(100),
        addresses: [0].into(),
        peers: [(0, (None, None, false)), (1, (None, None, false))].into(),
        owners: owners.iter().copied().chain([None; 6]).take(6).collect(),
    };
    let host = |owners: &[Option<u8>], firewall| {
        let links = vec![link("vyr-0", &raw(owners), vec![prefix(0)])];
        let mut state = State { version: STATE_VERSION, links, firewall: Some(table(firewall)) };
        state.normalise();
        state
    };
    (host(&[Some(0), Some(0), Some(0)], 1), host(&[Some(1), None, Some(0)], 2))
}

fn broken(steps: &[Op]) -> BTreeSet<&'static str> {
    let (a, b) = two();
    LAWS.iter().filter(|(_, law)| law(&a, &b, steps).is_err()).map(|(name, _)| *name).collect()
}

#[test]
fn each_law_finds_its_defect() {
    let (a, b) = two();
    let good = ops(&a, &b);
    let text: Vec<String> = good.iter().map(ToString::to_string).collect();
    assert_eq!(good.len(), 4, "{text:#?}");
    assert_eq!(broken(&good), BTreeSet::new());

    assert_eq!(broken(&good[..3]), ["arrives"].into());
    assert_eq!(broken(&good[1..]), ["both firewalls"].into());
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert_eq!(broken(&swapped), ["no address is without owner"].into());

    // The peer as a new one: the way of who writes whole configurations.
    let mut made_again = good.clone();
    let whole = b.links[0].peer(&key(0)).expect("it stays").allowed_ips.clone();
    let Op::PeerSet(set) = &good[2] else { panic!("{}", good[2]) };
    let new =
        vyr_net::PeerSet { new: true, allowed_ips: Some(AllowedIps::Add(whole)), ..set.clone() };
    made_again
        .splice(2..3, [Op::PeerRemove { link: "vyr-0".into(), peer: key(0) }, Op::PeerSet(new)]);
    let wrong = broken(&made_again);
    assert!(wrong.contains("nobody is made again") && !wrong.contains("arrives"), "{wrong:?}");

    let mut apart = good.clone();
    apart.insert(2, Op::SetMtu { link: "vyr-0".into(), mtu: 1420 });
    assert_eq!(broken(&apart), ["one set"].into());
    let late = Op::AddRoute { link: "vyr-0".into(), route: prefix(2) };
    let early = Op::DelRoute { link: "vyr-0".into(), route: prefix(0) };
    let back = Op::AddRoute { link: "vyr-0".into(), route: prefix(0) };
    let end = Op::DelRoute { link: "vyr-0".into(), route: prefix(2) };
    let mut late_addition = good.clone();
    late_addition.splice(1..1, [early, late, back, end]);
    assert_eq!(broken(&late_addition), ["additions come first"].into());
}

#[test]
fn connections_of_who_goes_are_forgotten_last() {
    let (a, _) = two();
    let mut b = a.clone();
    // The first goes, and the second gets one of its addresses.
    let gone = b.links[0].peers.remove(0);
    b.links[0].peers[0].allowed_ips = vec![gone.allowed_ips[0]];
    let good = ops(&a, &b);
    assert_eq!(who_goes_is_forgotten(&a, &b, &good), Ok(()));
    let Some(Op::Forget { addresses }) = good.last() else { panic!("{good:?}") };
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>(), gone.allowed_ips.iter().collect());
    // Its twins: none, too early, somebody else's.
    assert!(who_goes_is_forgotten(&a, &b, &good[..good.len() - 1]).is_err());
    let mut early = good.clone();
    early.rotate_right(1);
    assert!(who_goes_is_forgotten(&a, &b, &early).is_err());
    let mut other = good.clone();
    *other.last_mut().expect("one") = Op::Forget { addresses: vec![prefix(5)] };
    assert!(who_goes_is_forgotten(&a, &b, &other).is_err());
    // A key whose addresses were moved before takes nothing with it.
    let mut moved = a.clone();
    let addresses = std::mem::take(&mut moved.links[0].peers[0].allowed_ips);
    moved.links[0].peers[1].allowed_ips = addresses.clone();
    let mut after = moved.clone();
    after.links[0].peers.remove(0);
    let steps = ops(&moved, &after);
    assert!(matches!(steps.as_slice(), [Op::PeerRemove { .. }]), "{steps:?}");
}

#[test]
fn one_peer_of_many_is_one_step() {
    let (_, mut a) = two();
    let peers = (0..50).map(|n| Peer {
        public_key: key(n),
        allowed_ips: vec![format!("10.0.0.{n}/32").parse().expect("a prefix")],
        endpoint: None,
        keepalive_s: None,
        has_preshared: false,
    });
    a.links[0].peers = peers.collect();
    let mut b = a.clone();
    b.links[0].peers[7].keepalive_s = Some(25);
    let steps = ops(&a, &b);
    let [Op::PeerSet(set)] = &steps[..] else { panic!("{steps:?}") };
    assert!(!set.new && set.allowed_ips.is_none() && set.keepalive_s == Some(25));
    assert_eq!(steps[0].to_string(), format!("vyr-0: change peer {}, keepalive 25 s", key(7)));
}

#[test]
fn ports_change_hands() {
    let (a, _) = two();
    let mut a = a;
    let mut other = a.links[0].clone();
    (other.name, other.listen_port, other.routes) = ("vyr-1".into(), 2, Vec::new());
    a.links.push(other);
    let mut b = a.clone();
    (b.links[0].listen_port, b.links[1].listen_port) = (2, 1);
    let steps = ops(&a, &b);
    assert_eq!(arrives(&a, &b, &steps), Ok(()));
    // Its twin: without giving them up first, the host refuses.
    let hasty: Vec<Op> = steps
        .into_iter()
        .filter(|step| !matches!(step, Op::SetListenPort { port: 0, .. }))
        .collect();
    assert!(arrives(&a, &b, &hasty).is_err_and(|wrong| wrong.contains("taken")));
}

struct OneKey([u8; 32]);

impl Keys for OneKey {
    fn private_key(&self, _link: &str) -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(self.0))
    }
}

#[test]
fn the_recorder_is_a_host_and_fails_as_one() {
    let (a, b) = two();
    let steps = ops(&a, &b);
    let mut host = Recorder::new(a.clone());
    host.apply(&steps, &NoKeys).expect("no key is set");
    let seen = host.read().expect("it is in memory");
    assert_eq!(seen.state_for(&b), b);
    assert_eq!(host.done(), steps);

    let mut host = Recorder::new(a.clone()).failing_after(2);
    assert!(host.apply(&steps, &NoKeys).is_err());
    assert_eq!(host.done(), &steps[..2]);
    // From wherever it stopped, the way on and the way back are found by looking.
    for goal in [&a, &b] {
        let mut host = host.clone();
        let seen = host.read().expect("it is in memory").state_for(goal);
        host.apply(&ops(&seen, goal), &NoKeys).expect("it goes on");
        assert_eq!(host.read().expect("it is in memory").state_for(goal), *goal);
    }
}

#[test]
fn a_key_that_is_missing_or_another_is_told() {
    let (a, _) = two();
    let mut b = a.clone();
    b.links[0].public_key = Some(key(50));
    let steps = ops(&a, &b);
    let mut host = Recorder::new(a);
    assert!(matches!(host.apply(&steps, &NoKeys), Err(NetError::NoKey { .. })));
    let other = host.apply(&steps, &OneKey([7; 32]));
    assert!(matches!(other, Err(NetError::WrongKey { .. })), "{other:?}");
    assert!(host.done().is_empty());
}

#[test]
fn what_no_host_could_be_is_found() {
    let (good, _) = two();
    assert_eq!(good.check(), Ok(()));
    type Change = fn(&mut State);
    let changes: [(Change, &str); 9] = [
        (|s| s.version = 9, "version"),
        (|s| s.links[0].name = "eth0".into(), "cannot be called"),
        (|s| s.links.push(s.links[0].clone()), "twice"),
        (|s| s.links[0].up = false, "down"),
        (|s| s.links[0].mtu = 1279, "MTU"),
        (|s| s.links[0].public_key = Some(key(0)), "itself"),
        (|s| s.links[0].peers.swap(0, 1), "order"),
        (|s| s.links[0].peers[1].allowed_ips = vec![prefix(0)], "would go to both"),
        (
            |s| {
                let mut other = s.links[0].clone();
                other.name = "vyr-1".into();
                s.links.push(other);
            },
            "listen",
        ),
    ];
    for (change, word) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let wrong: Result<(), StateError> = bad.check();
        assert!(wrong.as_ref().is_err_and(|e| e.to_string().contains(word)), "{word}: {wrong:?}");
    }
}
