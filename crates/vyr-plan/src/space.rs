//! Exact algebra of packets: which of them a plan lets pass, over the whole address space.
//!
//! A packet is a point in three dimensions: source address, destination address, service
//! (protocol and destination port). A [`Block`] is a product of three [`Set`]s, a [`Region`] a
//! union of blocks. Intersection and difference of blocks are blocks again, so every question is
//! decided exactly and its answer comes with a packet.
//!
//! IPv4 and IPv6 share one line of 2^128 points: IPv4 lies in `::ffff:0:0/96`, addresses that never
//! appear on a wire. A product has points that are no packet: from one family to the other, and with
//! the other family's ICMP, which a kernel calls invalid and drops. Regions are without them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The first point of IPv4's stretch of the line.
const V4_FIRST: u128 = 0xffff_0000_0000;
/// Its last.
const V4_LAST: u128 = 0xffff_ffff_ffff;
/// The last service: protocol 255, port 65535.
const SERVICE_LAST: u128 = 0xff_ffff;
/// ICMP of IPv4.
const ICMP: u8 = 1;
/// ICMP of IPv6.
const ICMPV6: u8 = 58;

/// A set of points on one line, as inclusive intervals: sorted, disjoint, never adjacent. Cheap to
/// clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(Arc<[(u128, u128)]>);

impl Set {
    /// No point.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// All of some intervals, in any order.
    pub fn of(intervals: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut sorted: Vec<(u128, u128)> = intervals.into_iter().collect();
        sorted.retain(|(first, last)| first <= last);
        sorted.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(before) if first <= before.1 || first == before.1 + 1 => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// Every address of both families.
    pub fn everywhere() -> Self {
        Self::of([(0, u128::MAX)])
    }

    /// The addresses of some prefixes.
    pub fn prefixes<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        Self::of(prefixes.into_iter().flat_map(interval))
    }

    /// One address.
    pub fn address(address: IpAddr) -> Self {
        let point = point(address);
        Self::of([(point, point)])
    }

    /// Every protocol and port.
    pub fn any_service() -> Self {
        Self::of([(0, SERVICE_LAST)])
    }

    /// Ports of one protocol.
    pub fn service(protocol: u8, ports: (u16, u16)) -> Self {
        let base = u128::from(protocol) << 16;
        Self::of([(base | u128::from(ports.0), base | u128::from(ports.1))])
    }

    /// The intervals.
    pub fn intervals(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Whether there is no point in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its smallest point.
    pub fn first(&self) -> Option<u128> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Whether `point` is in it.
    pub fn contains(&self, point: u128) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= point);
        after > 0 && point <= self.0[after - 1].1
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(other.0.iter()).copied())
    }

    /// What is in both. Costs the smaller one's intervals times a search, or one pass over both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (small, large) =
            if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        let mut common = Vec::new();
        let mut start = 0;
        for &(first, last) in small.0.iter() {
            start += large.0[start..].partition_point(|interval| interval.1 < first);
            for interval in large.0[start..].iter().take_while(|interval| interval.0 <= last) {
                common.push((first.max(interval.0), last.min(interval.1)));
            }
        }
        Self(common.into())
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut start = 0;
        for &(first, last) in self.0.iter() {
            let mut from = first;
            let mut used_up = false;
            start += other.0[start..].partition_point(|interval| interval.1 < first);
            for hole in other.0[start..].iter().take_while(|hole| hole.0 <= last) {
                if hole.0 > from {
                    left.push((from, hole.0 - 1));
                }
                match hole.1.checked_add(1) {
                    Some(after) => from = from.max(after),
                    None => used_up = true,
                }
            }
            if !used_up && from <= last {
                left.push((from, last));
            }
        }
        Self(left.into())
    }

    /// Whether both have a point in common.
    pub fn meets(&self, other: &Self) -> bool {
        let (small, large) =
            if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        small.0.iter().any(|(first, last)| {
            let at = large.0.partition_point(|interval| interval.1 < *first);
            large.0.get(at).is_some_and(|interval| interval.0 <= *last)
        })
    }

    /// Whether all of this is in the other.
    pub fn within(&self, other: &Self) -> bool {
        self.subtract(other).is_empty()
    }

    /// As the fewest prefixes, IPv4 first.
    pub fn to_prefixes(&self) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        for &(first, last) in self.0.iter() {
            // An interval over the edge of IPv4's stretch has a part on each side of it.
            for (low, high, v4) in [
                (0, V4_FIRST - 1, false),
                (V4_FIRST, V4_LAST, true),
                (V4_LAST + 1, u128::MAX, false),
            ] {
                if first <= high && low <= last {
                    cover(first.max(low), last.min(high), v4, &mut prefixes);
                }
            }
        }
        prefixes.sort_unstable();
        prefixes
    }
}

impl Set {
    /// For people: `internet` where all of it is there, and the fewest prefixes of the rest.
    pub fn words(&self) -> Vec<String> {
        let v4 = Self::of([(V4_FIRST, V4_LAST)]);
        let internet = crate::address::internet();
        let families = [internet.intersect(&v4), internet.subtract(&v4)];
        let has = families.each_ref().map(|family| family.within(self));
        let (name, named) = match has {
            [true, true] => ("internet", internet),
            [true, false] => ("internet (IPv4)", families[0].clone()),
            [false, true] => ("internet (IPv6)", families[1].clone()),
            [false, false] => ("", Self::empty()),
        };
        let rest = self.subtract(&named).to_prefixes();
        let names = Some(name.to_owned()).filter(|name| !name.is_empty());
        names.into_iter().chain(rest.iter().map(short)).collect()
    }
}

/// In words, shortened: a message names three.
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words();
        match words.as_slice() {
            [] => f.write_str("nothing"),
            [first, second, third, rest @ ..] if rest.len() > 1 => {
                write!(f, "{first}, {second}, {third} and {} more", rest.len())
            }
            all => f.write_str(&all.join(", ")),
        }
    }
}

/// A prefix as people write it: a whole address without its length.
pub(crate) fn short(prefix: &IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

/// Where an address lies on the line.
pub fn point(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => V4_FIRST | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address at a point.
pub fn address(point: u128) -> IpAddr {
    match u32::try_from(point & 0xffff_ffff) {
        Ok(low) if (V4_FIRST..=V4_LAST).contains(&point) => Ipv4Addr::from_bits(low).into(),
        _ => Ipv6Addr::from_bits(point).into(),
    }
}

/// A prefix on the line: `::/0` is two pieces, around IPv4's stretch.
fn interval(prefix: &IpNet) -> impl Iterator<Item = (u128, u128)> {
    let (first, last) = (point(prefix.network()), point(prefix.broadcast()));
    let over = matches!(prefix, IpNet::V6(_)) && first <= V4_FIRST && V4_LAST <= last;
    let pieces = match over {
        false => [Some((first, last)), None],
        true => [
            V4_FIRST.checked_sub(1).filter(|end| first <= *end).map(|end| (first, end)),
            Some((V4_LAST + 1, last)).filter(|(from, to)| from <= to),
        ],
    };
    pieces.into_iter().flatten()
}

fn cover(mut first: u128, last: u128, v4: bool, prefixes: &mut Vec<IpNet>) {
    loop {
        let aligned = if first == 0 { 128 } else { first.trailing_zeros() };
        let room = match (last - first).checked_add(1) {
            Some(points) => 127 - points.leading_zeros(),
            None => 128,
        };
        let bits = u8::try_from(aligned.min(room)).unwrap_or(128);
        let found = match (v4, address(first)) {
            (true, IpAddr::V4(v4)) => Ipv4Net::new(v4, 32 - bits.min(32)).map(IpNet::V4),
            _ => Ipv6Net::new(Ipv6Addr::from_bits(first), 128 - bits).map(IpNet::V6),
        };
        prefixes.extend(found);
        let step = 1_u128.checked_shl(u32::from(bits)).unwrap_or(0);
        match first.checked_add(step) {
            Some(next) if step != 0 && next <= last => first = next,
            _ => return,
        }
    }
}

/// A product of three sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// Source addresses.
    pub source: Set,
    /// Destination addresses.
    pub destination: Set,
    /// Protocols and destination ports.
    pub service: Set,
}

impl Block {
    /// Whether no packet is in it.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty() || self.destination.is_empty() || self.service.is_empty()
    }

    /// The packets in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self {
            source: self.source.intersect(&other.source),
            destination: self.destination.intersect(&other.destination),
            service: self.service.intersect(&other.service),
        }
    }

    /// Whether a packet is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.service.meets(&other.service)
            && self.destination.meets(&other.destination)
            && self.source.meets(&other.source)
    }

    /// The packets of this that are not in the other, as at most three disjoint blocks.
    pub fn subtract(&self, other: &Self) -> Vec<Self> {
        if !self.meets(other) {
            return vec![self.clone()];
        }
        let source = self.source.intersect(&other.source);
        let destination = self.destination.intersect(&other.destination);
        let pieces = [
            Self { source: self.source.subtract(&other.source), ..self.clone() },
            Self {
                source: source.clone(),
                destination: self.destination.subtract(&other.destination),
                service: self.service.clone(),
            },
            Self { source, destination, service: self.service.subtract(&other.service) },
        ];
        pieces.into_iter().filter(|block| !block.is_empty()).collect()
    }

    /// All packets there are, of IPv4 and of IPv6.
    pub fn families() -> [Self; 2] {
        let v4 = Set::of([(V4_FIRST, V4_LAST)]);
        let v6 = Set::everywhere().subtract(&v4);
        [(v4, ICMPV6), (v6, ICMP)].map(|(addresses, foreign)| Self {
            source: addresses.clone(),
            destination: addresses,
            service: Set::any_service().subtract(&Set::service(foreign, (0, u16::MAX))),
        })
    }

    /// A packet in it, if it has one: the smallest addresses, and a service that people know.
    pub fn packet(&self) -> Option<Packet> {
        let mut families = Self::families().into_iter().map(|family| self.intersect(&family));
        let block = families.find(|block| !block.is_empty())?;
        let known =
            [(6, 443, 443), (6, 1, u16::MAX), (17, 1, u16::MAX), (ICMP, 0, 0), (ICMPV6, 0, 0)];
        let known = known.iter().find_map(|(protocol, first, last)| {
            block.service.intersect(&Set::service(*protocol, (*first, *last))).first()
        });
        let service = known.or(block.service.first())?;
        Some(Packet {
            from: address(block.source.first()?),
            to: address(block.destination.first()?),
            protocol: u8::try_from(service >> 16).unwrap_or(u8::MAX),
            port: u16::try_from(service & 0xffff).unwrap_or(u16::MAX),
        })
    }

    /// The packets in it, a block for each family that has some.
    pub fn by_family(&self) -> Vec<Self> {
        let families = Self::families().into_iter().map(|family| self.intersect(&family));
        families.filter(|block| !block.is_empty()).collect()
    }
}

/// A union of blocks, which may overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Region(pub Vec<Block>);

impl Region {
    /// What of `block` is not in this region.
    pub fn missing(&self, block: &Block) -> Self {
        let mut left = block.by_family();
        for own in &self.0 {
            left = left.iter().flat_map(|piece| piece.subtract(own)).collect();
            if left.is_empty() {
                break;
            }
        }
        Self(left)
    }

    /// What of this region is not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|block| other.missing(block).0).collect())
    }

    /// What of this region is in `block`.
    #[must_use]
    pub fn within(&self, block: &Block) -> Self {
        let common = self.0.iter().map(|own| own.intersect(block));
        Self(common.flat_map(|piece| piece.by_family()).collect())
    }

    /// A packet of it, if there is one.
    pub fn packet(&self) -> Option<Packet> {
        self.0.iter().find_map(Block::packet)
    }
}

/// One packet: what a proof shows to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Packet {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 where the protocol has none.
    pub port: u16,
}

impl Packet {
    /// All packets like it: one.
    pub fn block(&self) -> Block {
        Block {
            source: Set::address(self.from),
            destination: Set::address(self.to),
            service: Set::service(self.protocol, (self.port, self.port)),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ", self.from, self.to)?;
        match (self.protocol, self.port) {
            (6, port) => write!(f, "tcp port {port}"),
            (17, port) => write!(f, "udp port {port}"),
            (ICMP, _) => f.write_str("icmp"),
            (ICMPV6, _) => f.write_str("icmpv6"),
            (protocol, _) => write!(f, "protocol {protocol}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = Set> {
        prop::collection::vec((0u128..64, 0u128..12), 0..6)
            .prop_map(|pairs| Set::of(pairs.into_iter().map(|(first, n)| (first, first + n))))
    }

    fn block() -> impl Strategy<Value = Block> {
        (set(), set(), set()).prop_map(|(source, destination, service)| Block {
            source,
            destination,
            service,
        })
    }

    fn has(block: &Block, at: (u128, u128, u128)) -> bool {
        block.source.contains(at.0)
            && block.destination.contains(at.1)
            && block.service.contains(at.2)
    }

    proptest! {
        #[test]
        fn sets_are_sets(a in set(), b in set()) {
            for point in 0..80 {
                let (x, y) = (a.contains(point), b.contains(point));
                prop_assert_eq!(a.union(&b).contains(point), x || y);
                prop_assert_eq!(a.intersect(&b).contains(point), x && y);
                prop_assert_eq!(a.subtract(&b).contains(point), x && !y);
            }
            prop_assert_eq!(a.meets(&b), !a.intersect(&b).is_empty());
            prop_assert_eq!(Set::of(a.subtract(&b).intervals().iter().copied()), a.subtract(&b));
            prop_assert_eq!(Set::of(a.intersect(&b).intervals().iter().copied()), a.intersect(&b));
        }

        #[test]
        fn blocks_are_products(a in block(), b in block(), at in (0u128..80, 0u128..80, 0u128..80)) {
            let pieces = a.subtract(&b);
            let inside = pieces.iter().filter(|piece| has(piece, at)).count();
            prop_assert_eq!(inside, usize::from(has(&a, at) && !has(&b, at)));
            prop_assert_eq!(has(&a.intersect(&b), at), has(&a, at) && has(&b, at));
        }

        #[test]
        fn prefixes_cover_exactly(first in any::<u128>(), n in 0u128..100_000, v4 in any::<bool>()) {
            let first = if v4 { V4_FIRST | (first & 0xff_ffff) } else { first };
            let set = Set::of([(first, first.saturating_add(n))]);
            prop_assert_eq!(Set::prefixes(&set.to_prefixes()), set);
        }
    }

    #[test]
    fn everything_of_ipv6_is_not_ipv4() {
        let all = |text: &str| Set::prefixes(&[text.parse().expect("a prefix")]);
        let (v4, v6) = (all("0.0.0.0/0"), all("::/0"));
        assert!(!v4.meets(&v6));
        assert_eq!(v4.union(&v6), Set::everywhere());
        assert_eq!(v4.to_prefixes(), ["0.0.0.0/0".parse().expect("a prefix")]);
        assert_eq!(Set::everywhere().subtract(&v6), v4);
        assert_eq!(Set::prefixes(&v6.to_prefixes()), v6);
    }

    #[test]
    fn no_packet_changes_its_family() {
        let net = |text: &str| Set::prefixes(&[text.parse().expect("a prefix")]);
        let block = Block {
            source: net("10.0.0.0/8"),
            destination: net("fd00::/8"),
            service: Set::any_service(),
        };
        assert_eq!(block.packet(), None);
        assert_eq!(Region::default().missing(&block).packet(), None);
    }

    #[test]
    fn no_packet_carries_the_other_familys_icmp() {
        let net = |text: &str| Set::prefixes(&[text.parse().expect("a prefix")]);
        for (prefix, own, foreign) in [("10.0.0.0/8", ICMP, ICMPV6), ("fd00::/8", ICMPV6, ICMP)] {
            let of =
                |service: Set| Block { source: net(prefix), destination: net(prefix), service };
            let all = |protocol: u8| Set::service(protocol, (0, u16::MAX));
            assert_eq!(of(all(foreign)).packet(), None);
            assert_eq!(of(all(foreign)).by_family(), []);
            assert_eq!(Region::default().missing(&of(all(foreign))), Region::default());
            let both = of(all(own).union(&all(foreign)));
            assert_eq!(both.packet().map(|packet| packet.protocol), Some(own));
            assert_eq!(both.by_family(), [of(all(own))]);
            // So a region of every packet there is lacks none.
            let any = of(Set::any_service());
            assert_eq!(Region(Block::families().to_vec()).missing(&any), Region::default());
        }
    }
}
