//! Which packets are tried: the borders of everything that the plan speaks of, and a sprinkle of
//! the rest.

use vyr_plan::plan::{Machine, Toward};
use vyr_plan::{Block, Packet, Plan, Set, address, internet, point};

use crate::packet::is_whole;
use crate::place::OUTSIDE;

/// Numbers that look random and are the same each time (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("it is small");
        usize::try_from(self.next() % end).expect("it is smaller")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// A service of a block that a few bytes can have.
    fn service_in(&mut self, block: &Block) -> (u8, u16) {
        let ipv6 = block.source.first().is_some_and(|first| address(first).is_ipv6());
        let tries = (0..100).map(|_| service(self.point(&block.service)));
        // Most services are of protocols that nobody uses; every second packet has one in use.
        let used = [(6, 22), (6, 445), (17, 53), (if ipv6 { 58 } else { 1 }, 0)];
        let inside = |(protocol, port): &(u8, u16)| {
            block.service.contains(u128::from(*protocol) << 16 | u128::from(*port))
        };
        let tries: Vec<_> = tries.collect();
        let used = used.into_iter().filter(inside);
        let found = tries.into_iter().filter(|of| is_whole(of.0, ipv6));
        let choice: Vec<_> = used.chain(found.take(3)).collect();
        if choice.is_empty() { (6, 0) } else { self.pick(&choice) }
    }

    /// A point of a set that has one.
    fn point(&mut self, set: &Set) -> u128 {
        let (first, last) = self.pick(set.intervals());
        match (last - first).checked_add(1) {
            Some(points) => first + self.wide() % points,
            None => self.wide(),
        }
    }
}

/// A packet, and the machine's interface at which it arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Of the site's sides.
    pub(crate) side: usize,
    pub(crate) packet: Packet,
}

/// Whether a kernel takes this address from a wire and gives it to a hook we look at: not for
/// itself alone, not for many.
fn travels(point: u128) -> bool {
    match address(point) {
        std::net::IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first != 0 && first != 127 && first < 224 && !v4.is_link_local()
        }
        std::net::IpAddr::V6(v6) => {
            let (first, mapped) = (v6.segments()[0], v6.to_ipv4_mapped().is_some());
            !mapped && first & 0xff00 != 0xff00 && first & 0xffc0 != 0xfe80 && v6.to_bits() > 1
        }
    }
}

/// First and last point of each interval, and their neighbours outside.
pub(crate) fn borders(set: &Set) -> Vec<u128> {
    let around = |(first, last): &(u128, u128)| {
        [first.checked_sub(1), Some(*first), Some(*last), last.checked_add(1)]
    };
    let mut points: Vec<u128> = set.intervals().iter().flat_map(around).flatten().collect();
    points.retain(|point| travels(*point));
    points.sort_unstable();
    points.dedup();
    points
}

/// The machine's own addresses, inside links and outside.
pub(crate) fn own(machine: &Machine) -> impl Iterator<Item = u128> {
    let inside = machine.links.iter().flat_map(|link| &link.addresses).map(|net| net.addr());
    let outside = OUTSIDE.map(|text| text.parse().expect("an address"));
    inside.chain(machine.management.iter().copied()).chain(outside).map(point)
}

/// What a machine delivers to itself, or sends on to what is no link.
pub(crate) fn deliverable(machine: &Machine, toward: Toward) -> Set {
    let local = Set::of(own(machine).map(|point| (point, point)));
    let routed = Set::prefixes(machine.links.iter().flat_map(|link| &link.routes));
    match toward {
        Toward::Local => local,
        Toward::Elsewhere => Set::everywhere().subtract(&local.union(&routed)),
    }
}

/// What samples are made of.
struct Stuff {
    sources: Vec<u128>,
    destinations: Vec<u128>,
    services: Vec<(u8, u16)>,
}

fn stuff(plan: &Plan, machine: &Machine, heard: &Set, dice: &mut Dice) -> Stuff {
    let mut sets: Vec<Set> = machine.sets.iter().map(|set| Set::prefixes(&set.prefixes)).collect();
    sets.extend(machine.links.iter().map(|link| Set::prefixes(&link.routes)));
    sets.extend(plan.interfaces.iter().map(|interface| Set::prefixes(&interface.lan)));
    sets.extend(own(machine).map(|point| Set::of([(point, point)])));
    let mut destinations: Vec<u128> = sets.iter().flat_map(borders).collect();
    for set in sets.iter().filter(|set| !set.is_empty()) {
        destinations.extend([dice.point(set), dice.point(set)]);
    }
    destinations.retain(|point| travels(*point));
    destinations.sort_unstable();
    destinations.dedup();

    // Twice, so that half of them are somebody's.
    let mut sources = borders(heard);
    sources.extend(heard.intervals().iter().flat_map(|(first, last)| [*first, *last, *first]));

    let mut services = vec![(1, 0), (58, 0), (6, 22), (6, 445), (17, 53), (6, 0), (17, 65_535)];
    services.extend([2, 4, 41, 47, 50, 103, 255].map(|protocol| (protocol, 0)));
    let rules = machine.rules.iter().flat_map(|rule| &rule.services);
    for (first, last) in rules.flat_map(|rule| rule.set().intervals().to_vec()) {
        services.extend([first.saturating_sub(1), first, last, last + 1].map(service));
    }
    services.sort_unstable();
    services.dedup();
    Stuff { sources, destinations, services }
}

fn packet(from: u128, to: u128, service: (u8, u16)) -> Option<Packet> {
    let (from, to) = (address(from), address(to));
    let known = from.is_ipv4() == to.is_ipv4() && is_whole(service.0, to.is_ipv6());
    let known = known && travels(point(from)) && travels(point(to));
    let port = if matches!(service.0, 6 | 17) { service.1 } else { 0 };
    known.then_some(Packet { from, to, protocol: service.0, port })
}

/// A protocol and a port, as one number and back.
fn service(point: u128) -> (u8, u16) {
    let protocol = u8::try_from((point >> 16) & 0xff).expect("it is masked");
    (protocol, u16::try_from(point & 0xffff).expect("it is masked"))
}

/// Packets at each border of a rule's block, and inside.
fn around(
    machine: &Machine,
    toward: Toward,
    block: &Block,
    each: usize,
    dice: &mut Dice,
) -> Vec<Option<Packet>> {
    let mut all = Vec::new();
    // Where the machine itself is decides the way, so all of that is a border too.
    for to in borders(&block.destination).into_iter().chain(own(machine)) {
        all.push(packet(dice.point(&block.source), to, dice.service_in(block)));
    }
    // The other borders are tried where the kernel asks this rule at all.
    let inside = block.destination.intersect(&deliverable(machine, toward));
    if inside.is_empty() {
        return all;
    }
    // The first and the last address of a network may be everybody's, and then the kernel's own.
    let edges = block.destination.intervals().iter().flat_map(|(first, last)| [*first, *last]);
    let further = inside.subtract(&Set::of(edges.map(|edge| (edge, edge))));
    let inside = if further.is_empty() { inside } else { further };
    for from in borders(&block.source) {
        all.push(packet(from, dice.point(&inside), dice.service_in(block)));
    }
    for (first, last) in block.service.intervals() {
        for point in [first.saturating_sub(1), *first, *last, last + 1] {
            all.push(packet(dice.point(&block.source), dice.point(&inside), service(point)));
        }
    }
    for _ in 0..each {
        let to = dice.point(&inside);
        all.push(packet(dice.point(&block.source), to, dice.service_in(block)));
    }
    all
}

/// What is sent to a machine, in an order that favours nobody.
pub(crate) fn samples(plan: &Plan, machine: &Machine, each: usize, seed: u64) -> Vec<Sample> {
    let mut dice = Dice::new(seed);
    let mut all = Vec::new();
    for (side, link) in machine.links.iter().enumerate() {
        let heard = Set::prefixes(link.peers.iter().flat_map(|peer| &peer.allowed_ips));
        let stuff = stuff(plan, machine, &heard, &mut dice);
        let mut add = |packet: Option<Packet>| {
            all.extend(packet.map(|packet| Sample { side, packet }));
        };
        // Every destination from somebody the link knows and from somebody else, several times.
        for to in &stuff.destinations {
            let mut left = each;
            for _ in 0..50 * each {
                let service = dice.pick(&stuff.services);
                let Some(packet) = packet(dice.pick(&stuff.sources), *to, service) else {
                    continue;
                };
                add(Some(packet));
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        // Every rule: each border of it with the rest inside, and its inside.
        for rule in machine.rules.iter().filter(|rule| rule.from == link.name) {
            for block in rule.block(machine).by_family() {
                around(machine, rule.toward, &block, each, &mut dice)
                    .into_iter()
                    .for_each(&mut add);
            }
        }
        // Sources that no rule knows.
        let strangers = Set::everywhere().subtract(&heard);
        for _ in 0..20 * each {
            let from = match dice.below(3) {
                0 => dice.point(&Set::prefixes(&link.routes)),
                1 => dice.point(&internet()),
                _ => dice.point(&strangers),
            };
            if !heard.contains(from) && travels(from) {
                add(packet(from, dice.pick(&stuff.destinations), dice.pick(&stuff.services)));
            }
        }
    }
    all.extend(from_elsewhere(plan, machine, each, &mut dice));
    dice.shuffle(&mut all);
    all
}

/// What does not come from a link: to links, to the machine, and past it.
fn from_elsewhere(plan: &Plan, machine: &Machine, each: usize, dice: &mut Dice) -> Vec<Sample> {
    let mut all = Vec::new();
    let stuff = stuff(plan, machine, &internet(), dice);
    let lans = Set::prefixes(plan.interfaces.iter().flat_map(|interface| &interface.lan));
    for (at, sources) in [lans, internet()].iter().enumerate() {
        let side = machine.links.len() + at;
        for to in &stuff.destinations {
            for _ in 0..10 * each {
                let from = dice.point(sources);
                let own = machine.management.iter().any(|own| point(*own) == from);
                // Nobody speaks from a network's own address or from everybody's.
                let lans = plan.interfaces.iter().flat_map(|interface| &interface.lan);
                let edges = lans.flat_map(|lan| [lan.network(), lan.broadcast()]);
                if own || edges.into_iter().any(|edge| point(edge) == from) {
                    continue;
                }
                if let Some(packet) = packet(from, *to, dice.pick(&stuff.services)) {
                    all.push(Sample { side, packet });
                    break;
                }
            }
        }
    }
    all
}
