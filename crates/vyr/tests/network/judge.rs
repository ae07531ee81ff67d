//! Two verdicts on each packet: the prover's and a kernel's.

use std::collections::BTreeSet;
use std::fmt;

use vyr_plan::plan::{Machine, Toward};
use vyr_plan::{Packet, Reach, Set, point};

use crate::packet::{self, NUMBERS};
use crate::place::Site;
use crate::sample::Sample;

/// A look at the packets before and after our chains, on both hooks, by their numbers.
const PROBE: &str = "\
add table inet probe
delete table inet probe
table inet probe {
    set input_before { type mark; size 65535; flags dynamic; }
    set input_after { type mark; size 65535; flags dynamic; }
    set forward_before { type mark; size 65535; flags dynamic; }
    set forward_after { type mark; size 65535; flags dynamic; }
    chain input_before {
        type filter hook input priority -10; policy accept;
        meta mark set @th,64,32 add @input_before { meta mark }
    }
    chain input_after {
        type filter hook input priority 10; policy accept;
        add @input_after { meta mark }
    }
    chain forward_before {
        type filter hook forward priority -10; policy accept;
        meta mark set @th,64,32 add @forward_before { meta mark }
    }
    chain forward_after {
        type filter hook forward priority 10; policy accept;
        add @forward_after { meta mark }
    }
}
";

/// How often a packet is sent again that did not arrive: a queue may have been full.
const TRIES: usize = 3;

/// What a kernel did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Never gave it to a hook.
    Nowhere,
    /// On the way to the machine or through it; whether it passed.
    At(Toward, bool),
}

/// Packets on which the two disagree.
pub(crate) struct Disagreement {
    interface: String,
    packet: Packet,
    prover: bool,
    kernel: Seen,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |passes: bool| if passes { "passes" } else { "is dropped" };
        write!(f, "{} at {}: by the prover it ", self.packet, self.interface)?;
        write!(f, "{}, by the kernel it ", word(self.prover))?;
        match self.kernel {
            Seen::Nowhere => f.write_str("never arrives"),
            Seen::At(toward, passes) => write!(f, "{}, {toward:?}", word(passes)),
        }
    }
}

/// A site with numbers that were not used yet.
pub(crate) struct Judge<'a> {
    pub(crate) site: &'a Site,
    next: u32,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        Self { site, next: 0 }
    }

    /// Sends the samples, and says what became of each.
    fn observe(&mut self, samples: &[Sample]) -> Vec<Seen> {
        let machine = &self.site.machine;
        machine.nft(PROBE);
        let first = self.next;
        let number = |at: usize| first + u32::try_from(at).expect("there are fewer");
        self.next = number(samples.len());
        assert!(self.next < NUMBERS, "each packet has its own number");
        let mut seen = vec![Seen::Nowhere; samples.len()];
        for _ in 0..TRIES {
            let missed: Vec<usize> =
                (0..samples.len()).filter(|at| seen[*at] == Seen::Nowhere).collect();
            if missed.is_empty() {
                break;
            }
            for at in missed {
                let Sample { side, packet } = &samples[at];
                self.site.sides[*side].send(packet.to, &packet::bytes(packet, number(at)));
            }
            // A virtual interface hands a packet over before the call that sends it returns.
            let marks = |set: &str| -> BTreeSet<u64> {
                let elements = machine.elements("probe", set).into_iter();
                elements.filter_map(|element| element.as_u64()).collect()
            };
            for (toward, before, after) in [
                (Toward::Local, "input_before", "input_after"),
                (Toward::Elsewhere, "forward_before", "forward_after"),
            ] {
                let (before, after) = (marks(before), marks(after));
                for (at, seen) in seen.iter_mut().enumerate() {
                    let mark = u64::from(packet::mark(number(at)));
                    if before.contains(&mark) {
                        *seen = Seen::At(toward, after.contains(&mark));
                    }
                }
            }
        }
        seen
    }

    /// Where prover and kernel disagree, and how many packets arrived and how many of them passed.
    pub(crate) fn compare(&mut self, law: &Law<'_>, samples: &[Sample]) -> Outcome {
        let mut outcome = Outcome::default();
        // As many as the probe has room for.
        for part in samples.chunks(10_000) {
            let seen = self.observe(part);
            for (sample, kernel) in part.iter().zip(seen) {
                let link = law.machine.links.get(sample.side);
                let prover = match kernel {
                    Seen::Nowhere => law.permits(sample, None),
                    Seen::At(toward, _) => law.permits(sample, Some(toward)),
                };
                let passes = matches!(kernel, Seen::At(_, true));
                outcome.arrived += usize::from(kernel != Seen::Nowhere);
                outcome.passed += usize::from(passes);
                outcome.from_links_passed += usize::from(passes && link.is_some());
                if prover != passes {
                    outcome.disagreements.push(Disagreement {
                        interface: self.site.sides[sample.side].name.clone(),
                        packet: sample.packet,
                        prover,
                        kernel,
                    });
                }
            }
        }
        outcome
    }
}

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) arrived: usize,
    pub(crate) passed: usize,
    pub(crate) from_links_passed: usize,
    pub(crate) disagreements: Vec<Disagreement>,
}

/// What the prover says about a machine.
pub(crate) struct Law<'a> {
    machine: &'a Machine,
    reach: &'a Reach<'a>,
    own: Set,
    routed: Set,
}

impl<'a> Law<'a> {
    pub(crate) fn new(machine: &'a Machine, reach: &'a Reach<'a>) -> Self {
        let own = machine.links.iter().flat_map(|link| &link.addresses);
        let own = own.map(|net| Set::address(net.addr()));
        Self {
            machine,
            reach,
            own: own.fold(Set::empty(), |all, one| all.union(&one)),
            routed: Set::prefixes(machine.links.iter().flat_map(|link| &link.routes)),
        }
    }

    /// Whether it lets a packet begin a connection; without a way: on either.
    fn permits(&self, sample: &Sample, way: Option<Toward>) -> bool {
        let to = point(sample.packet.to);
        let Some(link) = self.machine.links.get(sample.side) else {
            // Not from a link: ours is only what goes to one.
            return match way {
                Some(Toward::Local) => !self.own.contains(to),
                _ => !self.routed.contains(to),
            };
        };
        let block = sample.packet.block();
        self.reach.permitted.iter().any(|passage| {
            passage.machine.name == self.machine.name
                && passage.link.name == link.name
                && way.is_none_or(|way| way == passage.rule.toward)
                && passage.block.meets(&block)
        })
    }
}
