//! The choice itself: what fits stays, then the largest first, each where it is best.

use std::collections::BTreeMap;

use vyr_base::form::Name;

use super::{
    CPU_OVERCOMMIT, Choice, NoRoom, NodeRoom, NodeState, Placed, Placement, Refused, SlotDemand,
    Unplaced, taken_bytes,
};

/// A node while it fills.
struct Node {
    name: Name,
    state: NodeState,
    free_bytes: u64,
    cpu_milli: u64,
    /// Thousandths of its processors that were given away.
    given_milli: u64,
    /// Its instances of each service.
    instances: BTreeMap<Name, u32>,
}

/// How good a node is for a slot: less is better, and what stands first decides first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score<'n> {
    overcommitted: bool,
    instances: u32,
    load: Load,
    name: &'n Name,
}

/// The part of its processors that a node will have given away. Of nodes without any all are equal,
/// and last.
#[derive(Clone, Copy)]
struct Load {
    given: u64,
    of: u64,
}

impl Load {
    fn key(self, other: Self) -> (u128, u128) {
        (
            u128::from(self.given) * u128::from(other.of),
            u128::from(other.given) * u128::from(self.of),
        )
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let empty = (self.of == 0).cmp(&(other.of == 0));
        let (a, b) = self.key(*other);
        empty.then(a.cmp(&b))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

impl Node {
    /// Why it cannot hold the slot, if it cannot.
    fn refuses(&self, slot: &SlotDemand) -> Option<NoRoom> {
        let wanted_bytes = taken_bytes(slot.memory_bytes);
        match self.state {
            NodeState::Active if wanted_bytes <= self.free_bytes => None,
            NodeState::Active => {
                Some(NoRoom::NoCapacityMemory { wanted_bytes, free_bytes: self.free_bytes })
            }
            state => Some(NoRoom::NodeNotActive { state }),
        }
    }

    fn score(&self, slot: &SlotDemand) -> Score<'_> {
        let load = Load { given: self.given_milli + u64::from(slot.cpu_milli), of: self.cpu_milli };
        Score {
            overcommitted: load.given > self.cpu_milli.saturating_mul(CPU_OVERCOMMIT),
            instances: self.instances.get(&slot.slot.service).copied().unwrap_or(0),
            load,
            name: &self.name,
        }
    }

    fn take(&mut self, slot: &SlotDemand) {
        self.free_bytes = self.free_bytes.saturating_sub(taken_bytes(slot.memory_bytes));
        self.given_milli = self.given_milli.saturating_add(slot.cpu_milli.into());
        *self.instances.entry(slot.slot.service.clone()).or_default() += 1;
    }
}

/// Which slot goes to which node, and why; and which goes nowhere, with a reason a node.
pub fn place(nodes: &[NodeRoom], slots: &[SlotDemand]) -> Placement {
    let mut sorted: Vec<&NodeRoom> = nodes.iter().collect();
    sorted.sort();
    sorted.dedup_by_key(|node| &node.node);
    let node = |room: &NodeRoom| Node {
        name: room.node.clone(),
        state: room.state,
        free_bytes: room.memory_bytes,
        cpu_milli: room.cpu_milli,
        given_milli: 0,
        instances: BTreeMap::new(),
    };
    let mut nodes: Vec<Node> = sorted.into_iter().map(node).collect();

    let mut demands: Vec<&SlotDemand> = slots.iter().collect();
    demands.sort_by(|a, b| a.slot.cmp(&b.slot).then_with(|| b.cmp(a)));
    demands.dedup_by_key(|demand| &demand.slot);

    let mut placement = Placement::default();
    let mut moving = Vec::new();
    // Whoever has a place keeps it before anybody new comes: a new slot moves no old one.
    for slot in demands {
        let previous = nodes.iter_mut().find(|node| Some(&node.name) == slot.previous.as_ref());
        match previous.filter(|node| node.refuses(slot).is_none()) {
            Some(node) => {
                node.take(slot);
                let placed =
                    Placed { node: node.name.clone(), why: Choice::Kept, others: BTreeMap::new() };
                placement.placed.insert(slot.slot.clone(), placed);
            }
            None => moving.push(slot),
        }
    }
    // The largest first: small ones fill what is left, the other way round they would be in the way.
    moving.sort_by(|a, b| b.memory_bytes.cmp(&a.memory_bytes).then_with(|| a.slot.cmp(&b.slot)));
    for slot in moving {
        let refusals: BTreeMap<Name, NoRoom> = nodes
            .iter()
            .filter_map(|node| Some((node.name.clone(), node.refuses(slot)?)))
            .collect();
        match best(&nodes, slot) {
            Some((at, why)) => {
                nodes[at].take(slot);
                let placed = Placed { node: nodes[at].name.clone(), why, others: refusals };
                placement.placed.insert(slot.slot.clone(), placed);
            }
            None => {
                let active = nodes.iter().any(|node| node.state == NodeState::Active);
                let why = match active {
                    true => Unplaced::NoCapacityMemory,
                    false => Unplaced::NoNodesActive,
                };
                let refused = Refused { why, nodes: refusals };
                placement.refused.insert(slot.slot.clone(), refused);
            }
        }
    }
    placement
}

/// The best node for a slot, and what made it better than the second best one.
fn best(nodes: &[Node], slot: &SlotDemand) -> Option<(usize, Choice)> {
    let able = nodes.iter().enumerate().filter(|(_, node)| node.refuses(slot).is_none());
    let mut scores: Vec<(Score<'_>, usize)> =
        able.map(|(at, node)| (node.score(slot), at)).collect();
    scores.sort();
    let mut scores = scores.into_iter();
    let (first, at) = scores.next()?;
    let why = match scores.next() {
        None => Choice::Only,
        Some((second, _)) if first.overcommitted != second.overcommitted => Choice::Processors,
        Some((second, _)) if first.instances != second.instances => Choice::Spread,
        Some((second, _)) if first.load != second.load => Choice::Cpu,
        Some(_) => Choice::Name,
    };
    Some((at, why))
}
