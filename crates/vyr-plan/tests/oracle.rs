//! The packet algebra against binary decision diagrams over the bits of a packet.
//!
//! 280 variables: 128 bits of source, 128 of destination, 24 of protocol and port. A diagram is
//! canonical, so two regions are equal when their diagrams are; it shares no code with intervals
//! and blocks. Everything is seeded; a failure names its seed.

mod common;
#[path = "common/random.rs"]
mod random;

use biodivine_lib_bdd::{Bdd, BddVariable, BddVariableSet};
use ipnet::IpNet;
use random::Random;
use vyr_plan::plan::{LinkKind, Machine, Plan, Toward};
use vyr_plan::{Block, Reach, Region, Set};

const SETS: u64 = 300;
const REGIONS: u64 = 300;
const PLANS: u64 = 6;

const ADDRESS_BITS: usize = 128;
const SERVICE_BITS: usize = 24;
const V4: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// The variables of packets.
struct Bits {
    all: BddVariableSet,
    variables: Vec<BddVariable>,
    /// Packets that stay in their family and do not carry the other one's ICMP.
    real: Bdd,
}

/// A part of a packet: its first variable, and how many there are.
type Part = (usize, usize);
const SOURCE: Part = (0, ADDRESS_BITS);
const DESTINATION: Part = (ADDRESS_BITS, ADDRESS_BITS);
const SERVICE: Part = (2 * ADDRESS_BITS, SERVICE_BITS);

impl Bits {
    fn new() -> Self {
        let count = u16::try_from(2 * ADDRESS_BITS + SERVICE_BITS).expect("few");
        let all = BddVariableSet::new_anonymous(count);
        let variables = all.variables();
        let mut bits = Self { real: all.mk_true(), variables, all };
        let v4 = bits.interval(SOURCE, V4);
        let [icmp, icmpv6] = [1, 58].map(|protocol: u128| {
            bits.interval(SERVICE, (protocol << 16, protocol << 16 | 0xffff))
        });
        let foreign = v4.and(&icmpv6).or(&v4.not().and(&icmp));
        bits.real = v4.iff(&bits.interval(DESTINATION, V4)).and_not(&foreign);
        bits
    }

    /// The variable of a bit, counted from the lowest.
    fn bit(&self, (first, count): Part, bit: usize) -> Bdd {
        self.all.mk_var(self.variables[first + count - 1 - bit])
    }

    /// Points of a part that are not below, or not above, a bound.
    fn bounded(&self, part: Part, bound: u128, from_below: bool) -> Bdd {
        let mut found = self.all.mk_true();
        for bit in 0..part.1 {
            let one = self.bit(part, bit);
            let set = bound >> bit & 1 == 1;
            found = match (from_below, set) {
                (true, true) => one.and(&found),
                (true, false) => one.or(&found),
                (false, true) => one.not().or(&found),
                (false, false) => one.not().and(&found),
            };
        }
        found
    }

    fn interval(&self, part: Part, (first, last): (u128, u128)) -> Bdd {
        self.bounded(part, first, true).and(&self.bounded(part, last, false))
    }

    fn set(&self, part: Part, set: &Set) -> Bdd {
        let none = self.all.mk_false();
        set.intervals().iter().fold(none, |all, one| all.or(&self.interval(part, *one)))
    }

    /// Prefixes by their leading bits.
    fn prefixes<'a>(&self, part: Part, prefixes: impl IntoIterator<Item = &'a IpNet>) -> Bdd {
        let v4 = self.interval(part, V4);
        let mut all = self.all.mk_false();
        for prefix in prefixes {
            let (bits, length) = match prefix {
                IpNet::V4(v4) => (V4.0 | u128::from(v4.network().to_bits()), 96 + v4.prefix_len()),
                IpNet::V6(v6) => (v6.network().to_bits(), v6.prefix_len()),
            };
            let mut one = self.all.mk_true();
            for bit in (128 - usize::from(length)..128).rev() {
                let variable = self.bit(part, bit);
                let set = bits >> bit & 1 == 1;
                one = one.and(&if set { variable } else { variable.not() });
            }
            // IPv4 lies inside `::/0` on the line, and is none of it.
            let one = if matches!(prefix, IpNet::V6(_)) { one.and_not(&v4) } else { one };
            all = all.or(&one);
        }
        all
    }

    fn block(&self, block: &Block) -> Bdd {
        let source = self.set(SOURCE, &block.source);
        let destination = self.set(DESTINATION, &block.destination);
        source.and(&destination).and(&self.set(SERVICE, &block.service))
    }

    fn region(&self, region: &Region) -> Bdd {
        region.0.iter().fold(self.all.mk_false(), |all, block| all.or(&self.block(block)))
    }
}

/// A point where things happen: near edges of what others have.
fn point(random: &mut Random, bits: usize) -> u128 {
    let high = u128::from(random.next()) << 64 | u128::from(random.next());
    let mut edges = vec![0, V4.0, V4.1, 0xfd00 << 112, 0xfd00 << 112 | 1 << 64];
    // 1 and 58 are ICMP: some points of those are no packet.
    edges.extend([1, 6, 17, 58].map(|protocol: u128| protocol << 16));
    let edge = edges[random.below(edges.len())];
    let near = u128::from(random.next() % 40);
    let value = match random.below(4) {
        0 => high,
        1 => edge.saturating_sub(near),
        2 => edge | (high & 0xff) << random.below(24),
        _ => edge.saturating_add(near),
    };
    let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    value & mask
}

fn some_set(random: &mut Random, bits: usize) -> Set {
    let count = random.below(4);
    let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    Set::of((0..count).map(|_| {
        let first = point(random, bits);
        let length = match random.below(4) {
            0 => 0,
            1 => u128::from(random.next() % 300),
            2 => u128::from(random.next()),
            _ => point(random, bits),
        };
        (first, first.saturating_add(length).min(mask))
    }))
}

fn some_block(random: &mut Random) -> Block {
    Block {
        source: some_set(random, ADDRESS_BITS),
        destination: some_set(random, ADDRESS_BITS),
        service: some_set(random, SERVICE_BITS),
    }
}

fn some_region(random: &mut Random) -> Region {
    Region((0..random.below(4)).map(|_| some_block(random)).collect())
}

#[test]
fn sets_agree() {
    let bits = Bits::new();
    for seed in 0..SETS {
        let random = &mut Random(seed);
        let (a, b) = (some_set(random, ADDRESS_BITS), some_set(random, ADDRESS_BITS));
        let (x, y) = (bits.set(SOURCE, &a), bits.set(SOURCE, &b));
        assert_eq!(bits.set(SOURCE, &a.union(&b)), x.or(&y), "seed {seed}: {a:?} or {b:?}");
        assert_eq!(bits.set(SOURCE, &a.intersect(&b)), x.and(&y), "seed {seed}: {a:?} and {b:?}");
        assert_eq!(
            bits.set(SOURCE, &a.subtract(&b)),
            x.and_not(&y),
            "seed {seed}: {a:?} less {b:?}"
        );
        assert_eq!(a.meets(&b), !x.and(&y).is_false(), "seed {seed}: {a:?} meets {b:?}");
        assert_eq!(a.within(&b), x.and_not(&y).is_false(), "seed {seed}: {a:?} in {b:?}");
        assert_eq!(a == b, x == y, "seed {seed}");
        assert_eq!(a.is_empty(), x.is_false(), "seed {seed}");
        let prefixes = a.to_prefixes();
        assert_eq!(bits.prefixes(SOURCE, &prefixes), x, "seed {seed}: {a:?} is {prefixes:?}");
        // The fewest: no two of them are one.
        let halves = prefixes
            .windows(2)
            .filter(|pair| pair[0].supernet() == pair[1].supernet() && pair[0].prefix_len() > 0);
        assert_eq!(halves.count(), 0, "seed {seed}: {prefixes:?}");
    }
}

#[test]
fn regions_agree() {
    let bits = Bits::new();
    let real = &bits.real;
    let mut empty = 0;
    for seed in 0..REGIONS {
        let random = &mut Random(seed);
        let (a, b, block) = (some_region(random), some_region(random), some_block(random));
        let (x, y, z) = (bits.region(&a), bits.region(&b), bits.block(&block));
        let (left, missing, within) = (a.subtract(&b), b.missing(&block), a.within(&block));
        assert_eq!(bits.region(&left), x.and_not(&y).and(real), "seed {seed}: {a:?} less {b:?}");
        assert_eq!(bits.region(&missing), z.and_not(&y).and(real), "seed {seed}: missing");
        assert_eq!(bits.region(&within), x.and(&z).and(real), "seed {seed}: within");
        for (region, diagram) in [(&left, x.and_not(&y)), (&missing, z.and_not(&y)), (&a, x)] {
            let packet = region.packet();
            assert_eq!(packet.is_none(), diagram.and(real).is_false(), "seed {seed}: {region:?}");
            empty += usize::from(packet.is_none());
            if let Some(packet) = packet {
                let one = bits.block(&packet.block());
                assert!(one.and_not(&diagram).is_false(), "seed {seed}: {packet} is not in it");
            }
        }
    }
    assert!(empty > 50 && empty < 800, "{empty} regions were empty");
}

/// What a rule lets through a machine, said in bits.
fn permitted(bits: &Bits, machine: &Machine, at: usize) -> Bdd {
    let rule = &machine.rules[at];
    let Some(link) = machine.links.iter().find(|link| link.name == rule.from) else {
        return bits.all.mk_false();
    };
    let heard = bits.prefixes(SOURCE, link.peers.iter().flat_map(|peer| &peer.allowed_ips));
    let source = bits.prefixes(SOURCE, machine.set(&rule.source));
    let to = bits.prefixes(DESTINATION, machine.set(&rule.destination));
    let routed = bits.prefixes(DESTINATION, machine.links.iter().flat_map(|link| &link.routes));
    let to = if rule.toward == Toward::Elsewhere { to.and_not(&routed) } else { to };
    let mut services = bits.all.mk_false();
    for service in &rule.services {
        services = services.or(&bits.set(SERVICE, &service.set()));
    }
    source.and(&heard).and(&to).and(&services).and(&bits.real)
}

/// What of it clients send.
fn reached(bits: &Bits, plan: &Plan, machine: &Machine, at: usize, all: &Bdd) -> Bdd {
    let rule = &machine.rules[at];
    let Some(link) = machine.links.iter().find(|link| link.name == rule.from) else {
        return all.clone();
    };
    if link.kind == LinkKind::Mesh {
        return all.clone();
    }
    let mut found = bits.all.mk_false();
    for tunnel in &link.tunnels {
        let clients = plan.clients.iter().filter(|client| {
            client.public_key.is_some()
                && client.interface == link.interface
                && client.profile == tunnel.profile
        });
        let addresses = clients
            .flat_map(|client| &client.addresses)
            .filter(|of| of.server == machine.name)
            .flat_map(|of| &of.addresses);
        let from = bits.prefixes(SOURCE, addresses);
        let to = bits.prefixes(DESTINATION, &tunnel.allowed_ips);
        found = found.or(&all.and(&from).and(&to));
    }
    found
}

/// A prefix that is near those of the worked site.
fn some_prefix(random: &mut Random) -> IpNet {
    let texts = [
        "10.20.0.0/24",
        "10.20.0.0/25",
        "10.21.0.64/26",
        "10.30.0.0/16",
        "0.0.0.0/0",
        "::/0",
        "192.168.10.0/24",
        "192.168.10.5/32",
        "fd3a:91c2:77e0::/48",
        "fd3a:91c2:77e0:20::/64",
        "fd3a:91c2:77e0:ffff::/64",
        "2000::/3",
        "128.0.0.0/1",
        "::/1",
        "10.99.0.17/32",
    ];
    texts[random.below(texts.len())].parse().expect("a prefix")
}

/// The worked plan with a few things turned round.
fn spoilt(random: &mut Random) -> Plan {
    let (_, mut plan) = common::plan(&common::office(), None);
    for _ in 0..random.below(6) {
        let count = plan.machines.len();
        let machine = &mut plan.machines[random.below(count)];
        let prefix = some_prefix(random);
        let (links, sets, rules) = (machine.links.len(), machine.sets.len(), machine.rules.len());
        match random.below(6) {
            0 => machine.sets[random.below(sets)].prefixes.push(prefix),
            1 => machine.sets[random.below(sets)].prefixes = vec![prefix],
            2 => machine.links[random.below(links)].routes.push(prefix),
            3 => {
                let link = &mut machine.links[random.below(links)];
                if let Some(tunnel) = link.tunnels.first_mut() {
                    tunnel.allowed_ips.push(prefix);
                }
            }
            4 => {
                let link = &mut machine.links[random.below(links)];
                if let Some(peer) = link.peers.first_mut() {
                    peer.allowed_ips = vec![prefix];
                }
            }
            _ => {
                let rule = &mut machine.rules[random.below(rules)];
                rule.toward = Toward::Elsewhere;
            }
        }
    }
    plan
}

#[test]
fn plans_agree() {
    let bits = Bits::new();
    let (_, office) = common::plan(&common::office(), None);
    let before = Reach::of(&office).permitted_region();
    let before_bits = bits.region(&before);
    for seed in 0..PLANS {
        let plan = spoilt(&mut Random(seed));
        let reach = Reach::of(&plan);
        let (mut all, mut sent) = (bits.all.mk_false(), bits.all.mk_false());
        for machine in &plan.machines {
            for at in 0..machine.rules.len() {
                let rule = permitted(&bits, machine, at);
                let own = reach.permitted.iter().filter(|passage| {
                    passage.machine.name == machine.name && passage.rule == &machine.rules[at]
                });
                let own = Region(own.map(|passage| passage.block.clone()).collect());
                assert_eq!(bits.region(&own), rule, "seed {seed}: {}", machine.rules[at].id);
                all = all.or(&rule);
                sent = sent.or(&reached(&bits, &plan, machine, at, &rule));
            }
        }
        let now = reach.permitted_region();
        assert_eq!(bits.region(&now), all, "seed {seed}: permitted");
        assert_eq!(bits.region(&reach.reached_region()), sent, "seed {seed}: reached");
        assert!(sent.and_not(&all).is_false(), "seed {seed}: reached and not permitted");
        // What an `equal` contract asks.
        let more = now.subtract(&before).packet().is_none();
        assert_eq!(more, all.and_not(&before_bits).is_false(), "seed {seed}: new packets");
        let fewer = before.subtract(&now).packet().is_none();
        assert_eq!(fewer, before_bits.and_not(&all).is_false(), "seed {seed}: lost packets");
    }
}
