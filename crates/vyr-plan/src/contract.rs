//! Contract tests: what the team demands of every plan, over whole ranges.

use serde::Serialize;
use vyr_base::Diagnostic;

use crate::intent::{ContractAt, Expect, Intent};
use crate::plan::Plan;
use crate::reach::{Passage, Reach, addresses};
use crate::space::{Block, Packet, Region, Set};

/// How a contract came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The contract's name.
    pub name: String,
    /// The file it is in.
    pub file: String,
    /// Its line there.
    pub line: usize,
    /// What it demands.
    pub expect: Expect,
    /// Why it does not hold; none: it does.
    pub broken: Option<Broken>,
}

/// Why a contract does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// In words.
    pub why: String,
    /// A packet that is treated otherwise than demanded.
    pub packet: Option<Packet>,
    /// The rule that decides about it; none: no rule accepts it, so it is dropped.
    pub rule: Option<String>,
}

impl Outcome {
    /// As a fault of the file the contract is in; none: it holds.
    pub fn diagnostic(&self, intent: &Intent) -> Option<Diagnostic> {
        let broken = self.broken.as_ref()?;
        let named = |at: &&ContractAt| at.contract.name.as_str() == self.name;
        let at = intent.contracts.iter().find(named);
        let place = at.map(|at| intent.files.contracts[at.file].place(at.contract.name.span()));
        let why = match &broken.packet {
            Some(packet) => format!("{}\n  packet: {packet}", broken.why),
            None => broken.why.clone(),
        };
        let what = format!("{} does not hold: it expects {}", self.name, self.expect);
        let fault = Diagnostic::error("contract", what).why(why);
        let hint = match &broken.rule {
            Some(rule) => format!("vyr explain {rule}, or change the contract on purpose"),
            None => "change what the site declares, or the contract on purpose".into(),
        };
        Some(Diagnostic { place, ..fault.hint(hint) })
    }
}

/// Runs all contracts of `intent` on `plan`; `applied` is what runs now.
pub fn run(intent: &Intent, plan: &Plan, applied: Option<&Plan>) -> Vec<Outcome> {
    let reach = Reach::of(plan);
    let before = applied.map(Reach::of);
    let run = Run { plan, reach: &reach, applied, before: before.as_ref() };
    intent.contracts.iter().map(|contract| run.one(intent, contract)).collect()
}

struct Run<'a> {
    plan: &'a Plan,
    reach: &'a Reach<'a>,
    applied: Option<&'a Plan>,
    before: Option<&'a Reach<'a>>,
}

impl Run<'_> {
    fn one(&self, intent: &Intent, at: &ContractAt) -> Outcome {
        let contract = &at.contract;
        let source = &intent.files.contracts[at.file];
        let block = |plan: &Plan| Block {
            source: all(contract.from.iter().map(|place| addresses(plan, place))),
            destination: all(contract.to.iter().map(|place| addresses(plan, place))),
            service: all(contract.port.iter().map(|service| service.set())),
        };
        let wanted = block(self.plan);
        let broken = match contract.expect {
            Expect::Reach if wanted.by_family().is_empty() => {
                Some(Broken { why: why_empty(&wanted).into(), packet: None, rule: None })
            }
            Expect::Reach => self.reach.reached_region().missing(&wanted).packet().map(|packet| {
                Broken { why: self.why_not(&packet), packet: Some(packet), rule: None }
            }),
            Expect::NoReach => {
                through(&self.reach.permitted, &wanted).map(|(packet, passage)| Broken {
                    why: format!("{} on {} accepts it", passage.rule.id, passage.machine.name),
                    packet: Some(packet),
                    rule: Some(passage.rule.id.clone()),
                })
            }
            Expect::Equal => self.changed(&wanted, self.applied.map(block)),
        };
        let line = source.place(contract.name.span()).line;
        let name = contract.name.to_string();
        Outcome { name, file: source.name().into(), line, expect: contract.expect, broken }
    }

    /// Permitted by a server and yet not reached, or dropped.
    fn why_not(&self, packet: &Packet) -> String {
        match through(&self.reach.permitted, &packet.block()) {
            Some((_, passage)) => format!(
                "{} accepts it, and the client's own tunnel does not carry it",
                passage.rule.id
            ),
            None => "no rule accepts it".into(),
        }
    }

    fn changed(&self, now: &Block, then: Option<Block>) -> Option<Broken> {
        let (Some(before), Some(then)) = (self.before, then) else { return None };
        // A client that joins or leaves is a change of who is there, not of what they may do.
        let both = Block { source: now.source.intersect(&then.source), ..now.clone() };
        let (new, old) = (self.reach.permitted_region(), before.permitted_region());
        let (new, old) = (new.within(&both), old.within(&both));
        let of = |region: Region, reach: &Reach<'_>, word: &str| {
            let packet = region.packet()?;
            let (_, passage) = through(&reach.permitted, &packet.block())?;
            let rule = Some(passage.rule.id.clone());
            Some(Broken { why: format!("{} {word}", passage.rule.id), packet: Some(packet), rule })
        };
        of(new.subtract(&old), self.reach, "now accepts it")
            .or_else(|| of(old.subtract(&new), before, "accepted it, and no rule does any more"))
    }
}

/// Why no packet is in a block.
fn why_empty(block: &Block) -> &'static str {
    let any = Block { service: Set::any_service(), ..block.clone() };
    match (block.source.is_empty(), block.destination.is_empty()) {
        (true, _) => "nobody is in `from`: there is no device with an active key",
        (_, true) => "nobody is in `to`: there is no device with an active key",
        _ if any.by_family().is_empty() => {
            "no address in `from` is of the same family as one in `to`"
        }
        _ => "`port` is the ICMP of another family: 1 is IPv4's, 58 is IPv6's",
    }
}

fn all(sets: impl Iterator<Item = Set>) -> Set {
    sets.fold(Set::empty(), |all, one| all.union(&one))
}

/// A packet of `block` that is let through, and where.
fn through<'p, 'a>(
    passages: &'p [Passage<'a>],
    block: &Block,
) -> Option<(Packet, &'p Passage<'a>)> {
    passages
        .iter()
        .find_map(|passage| passage.block.intersect(block).packet().map(|packet| (packet, passage)))
}
