//! Placement: what is chosen and why, and that nothing is given away twice.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vyr_base::form::Name;
use vyr_service::place::{
    CPU_OVERCOMMIT, Choice, NoRoom, NodeRoom, NodeState, OVERHEAD_BYTES, Placement, SlotDemand,
    SlotName, Unplaced, place,
};

const MIB: u64 = 1 << 20;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn node(text: &str, state: NodeState, memory_mib: u64, cpu_milli: u64) -> NodeRoom {
    NodeRoom { node: name(text), state, memory_bytes: memory_mib * MIB, cpu_milli }
}

/// MiB that an instance takes beside its own.
const BESIDE: u64 = OVERHEAD_BYTES / MIB;

fn active(text: &str, memory_mib: u64, cpu_milli: u64) -> NodeRoom {
    node(text, NodeState::Active, memory_mib, cpu_milli)
}

fn slot(text: &str) -> SlotName {
    text.parse().expect("a slot")
}

fn demand(text: &str, memory_mib: u64, cpu_milli: u32, previous: Option<&str>) -> SlotDemand {
    let previous = previous.map(name);
    SlotDemand { slot: slot(text), memory_bytes: memory_mib * MIB, cpu_milli, previous }
}

/// Node and reason of each slot that has one, in words.
fn told(placement: &Placement) -> Vec<(String, String, Choice)> {
    let one = placement.placed.iter();
    one.map(|(slot, placed)| (slot.to_string(), placed.node.to_string(), placed.why.clone()))
        .collect()
}

fn expect(placement: &Placement, expected: &[(&str, &str, Choice)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(slot, node, why)| ((*slot).to_owned(), (*node).to_owned(), why.clone()))
        .collect();
    assert_eq!(told(placement), expected);
    assert!(placement.refused.is_empty(), "{:?}", placement.refused);
}

#[test]
fn one_service_is_spread_and_ties_go_to_the_smallest_name() {
    let nodes = [active("b", 4096, 4000), active("a", 4096, 4000), active("c", 4096, 4000)];
    let slots: Vec<_> =
        (0..4).map(|at| demand(&format!("web/http/{at}"), 256, 1000, None)).collect();
    expect(
        &place(&nodes, &slots),
        &[
            ("web/http/0", "a", Choice::Name),
            ("web/http/1", "b", Choice::Name),
            ("web/http/2", "c", Choice::Spread),
            ("web/http/3", "a", Choice::Name),
        ],
    );
}

#[test]
fn processors_decide_between_nodes_with_as_many_instances() {
    let nodes = [active("a", 4096, 2000), active("b", 4096, 8000)];
    let slots = [demand("db/valkey/0", 256, 1000, None), demand("web/http/0", 256, 1000, None)];
    expect(
        &place(&nodes, &slots),
        &[("db/valkey/0", "b", Choice::Cpu), ("web/http/0", "b", Choice::Cpu)],
    );
}

#[test]
fn processors_are_soft() {
    let most = u32::try_from(1000 * CPU_OVERCOMMIT).expect("small");
    let nodes = [active("a", 4096, 1000), active("b", 4096, 1000)];
    // `a` has given all away four times: `b` is better, though it has an instance of the service.
    let slots = [
        demand("db/valkey/0", 256, most, Some("a")),
        demand("web/http/0", 256, 1000, Some("b")),
        demand("web/http/1", 256, 1000, None),
    ];
    expect(
        &place(&nodes, &slots),
        &[
            ("db/valkey/0", "a", Choice::Kept),
            ("web/http/0", "b", Choice::Kept),
            ("web/http/1", "b", Choice::Processors),
        ],
    );
    // They refuse nothing.
    let slots = [demand("db/valkey/0", 256, most, None), demand("web/http/0", 256, most, None)];
    let one = [active("a", 4096, 0)];
    let placement = place(&one, &slots);
    assert_eq!(placement.placed.len(), 2);
}

#[test]
fn what_has_a_place_keeps_it() {
    let nodes = [active("a", 1024, 4000), active("b", 4096, 4000)];
    // A larger newcomer with a smaller name does not push it out.
    let slots = [demand("web/http/0", 512, 1000, Some("a")), demand("app/x/0", 900, 1000, None)];
    expect(
        &place(&nodes, &slots),
        &[("app/x/0", "b", Choice::Only), ("web/http/0", "a", Choice::Kept)],
    );
}

#[test]
fn what_does_not_fit_any_more_moves() {
    let nodes = [node("a", NodeState::Draining, 4096, 4000), active("b", 4096, 4000)];
    let slots = [demand("web/http/0", 512, 1000, Some("a"))];
    let placement = place(&nodes, &slots);
    expect(&placement, &[("web/http/0", "b", Choice::Only)]);
    let others = &placement.placed[&slot("web/http/0")].others;
    let why = &others[&name("a")];
    assert_eq!((why.reason(), why.to_string().as_str()), ("node_not_active", "it is draining"));

    let nodes = [active("a", 512, 4000), active("b", 4096, 4000)];
    expect(&place(&nodes, &slots), &[("web/http/0", "b", Choice::Only)]);
    // Its node is not there any more.
    expect(&place(&nodes[1..], &slots), &[("web/http/0", "b", Choice::Only)]);
}

#[test]
fn the_largest_goes_first() {
    let nodes = [active("a", 256 + BESIDE, 4000), active("b", 1024 + BESIDE, 4000)];
    let slots = [demand("app/x/0", 256, 1000, None), demand("web/http/0", 1024, 1000, None)];
    expect(
        &place(&nodes, &slots),
        &[("app/x/0", "a", Choice::Only), ("web/http/0", "b", Choice::Only)],
    );
}

#[test]
fn memory_is_counted_with_its_overhead() {
    let with = |bytes: u64| {
        let nodes = [NodeRoom { memory_bytes: 256 * MIB + bytes, ..active("a", 0, 1000) }];
        place(&nodes, &[demand("web/http/0", 256, 1000, None)])
    };
    assert_eq!(with(OVERHEAD_BYTES).placed.len(), 1);
    let refused = &with(OVERHEAD_BYTES - 1).refused[&slot("web/http/0")];
    assert_eq!(
        (refused.why, refused.why.reason()),
        (Unplaced::NoCapacityMemory, "no_capacity_memory")
    );
    let why = &refused.nodes[&name("a")];
    let wanted_bytes = 256 * MIB + OVERHEAD_BYTES;
    assert_eq!(*why, NoRoom::NoCapacityMemory { wanted_bytes, free_bytes: wanted_bytes - 1 });
    assert!(why.to_string().contains("416 MiB are wanted"), "{why}");
}

#[test]
fn each_refusal_has_a_reason_a_node() {
    let nodes =
        [node("a", NodeState::Draining, 9999, 1000), node("b", NodeState::Disabled, 9999, 1000)];
    let slots = [demand("web/http/0", 256, 1000, None)];
    let refused = &place(&nodes, &slots).refused[&slot("web/http/0")];
    assert_eq!((refused.why.reason(), refused.nodes.len()), ("no_nodes_active", 2));
    let none = place(&[], &slots);
    assert_eq!(none.refused[&slot("web/http/0")].why, Unplaced::NoNodesActive);
    let full = place(&[active("c", 128, 1000), nodes[0].clone()], &slots);
    let refused = &full.refused[&slot("web/http/0")];
    let reasons: Vec<&str> = refused.nodes.values().map(NoRoom::reason).collect();
    assert_eq!(
        (refused.why.reason(), reasons),
        ("no_capacity_memory", vec!["node_not_active", "no_capacity_memory"])
    );
}

#[test]
fn numbers_that_nobody_has_overflow_nothing() {
    let nodes = [NodeRoom { memory_bytes: u64::MAX, cpu_milli: u64::MAX, ..active("a", 0, 0) }];
    let large =
        SlotDemand { memory_bytes: u64::MAX, cpu_milli: u32::MAX, ..demand("a/b/0", 0, 0, None) };
    let slots = [large, demand("web/http/0", 256, 1000, None)];
    let placement = place(&nodes, &slots);
    assert_eq!(placement.placed.len() + placement.refused.len(), 2);
}

#[test]
fn of_two_with_one_name_the_more_careful_one_counts() {
    let (small, large) = (active("a", 400, 1000), active("a", 4096, 1000));
    let (light, heavy) = (demand("x/p/0", 128, 10, None), demand("x/p/0", 512, 10, None));
    for nodes in [[small.clone(), large.clone()], [large.clone(), small]] {
        assert_eq!(place(&nodes, std::slice::from_ref(&heavy)).refused.len(), 1);
    }
    let tight = [active("a", 512, 1000)];
    for slots in [[light.clone(), heavy.clone()], [heavy, light]] {
        let placement = place(&tight, &slots);
        assert_eq!((placement.refused.len(), placement.placed.len()), (1, 0));
    }
}

#[test]
fn a_node_without_processors_is_the_last_choice() {
    let nodes = [active("a", 4096, 0), active("b", 4096, 1000)];
    for cpu in [0, 10] {
        let placement = place(&nodes, &[demand("x/p/0", 128, cpu, None)]);
        assert_eq!(placement.placed[&slot("x/p/0")].node, name("b"), "{cpu}");
    }
}

#[test]
fn a_slot_has_one_spelling() {
    for good in ["web/http/0", "a/b/255"] {
        assert_eq!(slot(good).to_string(), good);
    }
    for bad in [
        "",
        "web/http",
        "web/http/00",
        "web/http/256",
        "web/http/-1",
        "Web/http/0",
        "a/b/0/1",
        "a//0",
    ] {
        assert!(bad.parse::<SlotName>().is_err(), "{bad}");
    }
    let json = serde_json::to_string(&slot("web/http/0")).expect("a text");
    assert_eq!(json, "\"web/http/0\"");
    assert_eq!(serde_json::from_str::<SlotName>(&json).expect("a slot"), slot("web/http/0"));
}

/// What must hold for a placement of these slots on these nodes; the first thing that does not.
fn broken(nodes: &[NodeRoom], slots: &[SlotDemand], placement: &Placement) -> Option<&'static str> {
    let at = |name: &Name| nodes.iter().find(|node| node.node == *name);
    let used = |name: &Name| -> u64 {
        let on = slots.iter().filter(|slot| {
            placement.placed.get(&slot.slot).is_some_and(|placed| placed.node == *name)
        });
        on.map(|slot| slot.memory_bytes + OVERHEAD_BYTES).sum()
    };
    for slot in slots {
        let placed = placement.placed.get(&slot.slot);
        if placed.is_some() == placement.refused.contains_key(&slot.slot) {
            return Some("a slot is placed or refused");
        }
        let fits = |node: &NodeRoom, free: u64| {
            node.state == NodeState::Active && slot.memory_bytes + OVERHEAD_BYTES <= free
        };
        match placed {
            Some(placed) => {
                let Some(node) = at(&placed.node) else { return Some("a node that is there") };
                if node.state != NodeState::Active {
                    return Some("an active node");
                }
                if used(&node.node) > node.memory_bytes {
                    return Some("memory");
                }
                // Whoever keeps is first: it moves only from where it does not fit among those who
                // were there before it in the order of names.
                if let Some(before) = slot.previous.as_ref().and_then(at)
                    && placed.node != before.node
                {
                    let kept: u64 = slots
                        .iter()
                        .filter(|other| other.slot < slot.slot)
                        .filter(|other| {
                            placement.placed.get(&other.slot).is_some_and(|placed| {
                                placed.node == before.node && placed.why == Choice::Kept
                            })
                        })
                        .map(|other| other.memory_bytes + OVERHEAD_BYTES)
                        .sum();
                    if fits(before, before.memory_bytes - kept) {
                        return Some("it stays");
                    }
                }
            }
            None => {
                if nodes.iter().any(|node| fits(node, node.memory_bytes - used(&node.node))) {
                    return Some("it is refused where it fits");
                }
                let refused = &placement.refused[&slot.slot];
                if refused.nodes.len() != nodes.len() {
                    return Some("a reason a node");
                }
            }
        }
    }
    None
}

fn nodes() -> impl Strategy<Value = Vec<NodeRoom>> {
    let state = prop_oneof![
        4 => Just(NodeState::Active),
        1 => Just(NodeState::Draining),
        1 => Just(NodeState::Disabled),
    ];
    let one = (state, 0u64..2048, 0u64..8000);
    prop::collection::btree_map("[a-d]", one, 0..5).prop_map(|all| {
        let one = |(text, (state, memory, cpu)): (String, _)| node(&text, state, memory, cpu);
        all.into_iter().map(one).collect()
    })
}

fn slots() -> impl Strategy<Value = Vec<SlotDemand>> {
    let one = (128u64..800, 10u32..4000, prop::option::of("[a-e]"));
    prop::collection::btree_map(("[xy]", "[pq]", 0u8..4), one, 0..14).prop_map(|all| {
        let one = |((service, process, ordinal), (memory, cpu, previous)): (
            _,
            (u64, u32, Option<String>),
        )| {
            let text = format!("{service}/{process}/{ordinal}");
            demand(&text, memory, cpu, previous.as_deref())
        };
        all.into_iter().map(one).collect()
    })
}

proptest! {
    #[test]
    fn placements_hold(nodes in nodes(), slots in slots()) {
        let placement = place(&nodes, &slots);
        prop_assert_eq!(broken(&nodes, &slots, &placement), None, "{:#?}", placement);
    }

    #[test]
    fn order_changes_nothing(nodes in nodes(), slots in slots(), turn in any::<prop::sample::Index>()) {
        let mut other_nodes = nodes.clone();
        let mut other_slots = slots.clone();
        other_nodes.reverse();
        if !slots.is_empty() {
            other_slots.rotate_left(turn.index(slots.len()));
        }
        prop_assert_eq!(place(&other_nodes, &other_slots), place(&nodes, &slots));
    }

    /// A second plan of the same moves nothing.
    #[test]
    fn what_is_placed_stays(nodes in nodes(), slots in slots()) {
        let first = place(&nodes, &slots);
        let again: Vec<SlotDemand> = slots
            .iter()
            .map(|slot| SlotDemand {
                previous: first.placed.get(&slot.slot).map(|placed| placed.node.clone()),
                ..slot.clone()
            })
            .collect();
        let second = place(&nodes, &again);
        let where_it_is = |placement: &Placement| -> BTreeMap<SlotName, Name> {
            let one = placement.placed.iter();
            one.map(|(slot, placed)| (slot.clone(), placed.node.clone())).collect()
        };
        prop_assert_eq!(where_it_is(&second), where_it_is(&first));
    }

    /// Defects in a placement are found by what `placements_hold` asks.
    #[test]
    fn a_wrong_placement_is_found(nodes in nodes(), slots in slots()) {
        let good = place(&nodes, &slots);
        // Each slot to one node, whatever it has.
        if let Some(node) = nodes.first() {
            let mut all = good.clone();
            let total: u64 = slots.iter().map(|slot| slot.memory_bytes + OVERHEAD_BYTES).sum();
            all.placed.values_mut().for_each(|placed| placed.node = node.node.clone());
            if good.refused.is_empty() && total > node.memory_bytes {
                prop_assert!(broken(&nodes, &slots, &all).is_some());
            }
        }
        // One is forgotten.
        if let Some(slot) = good.placed.keys().next().cloned() {
            let mut less = good.clone();
            less.placed.remove(&slot);
            prop_assert!(broken(&nodes, &slots, &less).is_some());
        }
        // One that fits is refused.
        if let Some((slot, placed)) = good.placed.iter().next() {
            let mut worse = good.clone();
            let refused = vyr_service::place::Refused {
                why: Unplaced::NoCapacityMemory,
                nodes: placed.others.clone(),
            };
            worse.placed.remove(slot);
            worse.refused.insert(slot.clone(), refused);
            prop_assert!(broken(&nodes, &slots, &worse).is_some());
        }
    }
}

/// Defects that chance would not make: each is one of the rules left out.
#[test]
fn a_rule_that_is_left_out_is_found() {
    let nodes = [active("a", 400 + 2 * BESIDE, 1000), node("b", NodeState::Draining, 4096, 1000)];
    let slots = [demand("x/p/0", 200, 10, None), demand("x/p/1", 200, 10, Some("a"))];
    let good = place(&nodes, &slots);
    assert_eq!(broken(&nodes, &slots, &good), None);
    let to = |slot: &str, node: &str| {
        let mut wrong = good.clone();
        wrong.placed.get_mut(&self::slot(slot)).expect("placed").node = name(node);
        broken(&nodes, &slots, &wrong)
    };
    assert_eq!(to("x/p/0", "b"), Some("an active node"));
    assert_eq!(to("x/p/0", "c"), Some("a node that is there"));
    // Without the overhead both would fit.
    let tight = [active("a", 400 + 2 * BESIDE - 1, 1000)];
    assert_eq!(broken(&tight, &slots, &good), Some("memory"));
    let two = [active("a", 400 + 2 * BESIDE, 1000), active("c", 400 + 2 * BESIDE, 1000)];
    let mut moved = place(&two, &slots);
    moved.placed.get_mut(&slot("x/p/1")).expect("placed").node = name("c");
    moved.placed.get_mut(&slot("x/p/1")).expect("placed").why = Choice::Spread;
    assert_eq!(broken(&two, &slots, &moved), Some("it stays"));
}
