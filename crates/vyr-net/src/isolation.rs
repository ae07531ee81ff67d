//! Who reaches an instance, and whom it reaches: the table `inet vyr_services`.
//!
//! ```text
//! prerouting  from a TAP   its own address, or neighbours asked for from its card's; else drop
//! input       from a TAP   neighbours, answers, ICMP errors about what was sent; else drop
//! forward     from a TAP, to a TAP                                                     drop
//! output      to a TAP     connections of the ingress, what belongs to them, neighbours; else drop
//! ```
//!
//! The rules are for every link whose name begins so, and two sets say who is behind which: an
//! instance that is in neither can be reached by nobody and reach nobody. The table is replaced in one
//! transaction, with no packet between the old one and the new one; the kernel knows connections by
//! themselves, so those that both allow go on.
//!
//! Invariants, each shown with packets, and the table's absence as the twin:
//! 1. Nobody but the ingress's user opens a connection to a guest.
//! 2. A guest opens no connection: not to the host, not to another guest, not to anywhere.
//! 3. A packet whose source is not the guest's own is dropped before anything looks at it.
//! 4. IPv4 does not pass at all.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::error::NetError;
use crate::firewall::{Nft, Ruleset};
use crate::instance::{InstanceLink, PREFIX, able, any, is_guest_address};
use crate::words::InstanceAddress;

/// The table of instances. That of plans is another.
pub const SERVICES_TABLE: &str = "vyr_services";

/// Who is behind which link, with the addresses of their traffic.
const GUESTS: &str = "guests";
/// The same with the addresses that their cards ask for neighbours from.
const CARDS: &str = "cards";
/// Before connections are looked at.
const RAW: i32 = -300;
/// Before the filters of others, at the priority of most of them.
const FILTER: i32 = -5;
/// Instances of one node.
const INSTANCES_MAX: usize = 4096;

/// What may pass to and from instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    guests: Vec<(InstanceLink, Ipv6Addr)>,
    ingress_uid: u32,
}

fn matches(left: Value, right: impl Into<Value>) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right.into()}})
}

fn meta(key: &str, right: impl Into<Value>) -> Value {
    matches(json!({"meta": {"key": key}}), right)
}

/// Of a connection in this state.
fn state(word: &str) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": word}})
}

/// Asking for a neighbour, and telling of oneself: what Ethernet needs, and no routers.
fn neighbours() -> Value {
    let kind = json!({"payload": {"protocol": "icmpv6", "field": "type"}});
    matches(kind, json!({"set": ["nd-neighbor-solicit", "nd-neighbor-advert"]}))
}

/// The link together with an address of the packet is in a set.
fn known(link: &str, field: &str, set: &str) -> Value {
    let address = json!({"payload": {"protocol": "ip6", "field": field}});
    matches(json!({"concat": [{"meta": {"key": link}}, address]}), format!("@{set}"))
}

fn verdict(word: &str) -> Value {
    json!({ word: null })
}

impl Isolation {
    /// Of all instances of a node; nobody else's packets pass.
    ///
    /// # Errors
    /// An id or an address that is none, or two with the same.
    pub fn new(instances: &[InstanceAddress], ingress_uid: u32) -> Result<Self, NetError> {
        let refused = |op: String, why| Err(NetError::Refused { op, why });
        if instances.len() > INSTANCES_MAX {
            return refused(format!("{} instances", instances.len()), "4096 are the most");
        }
        let mut guests = Vec::new();
        for InstanceAddress { instance, guest } in instances {
            if !is_guest_address(guest) {
                let why = "it is no address that instances can have";
                return refused(format!("{instance} at {guest}"), why);
            }
            guests.push((InstanceLink::of(instance)?, *guest));
        }
        guests.sort_by(|a, b| a.0.interface.cmp(&b.0.interface));
        if let Some(pair) =
            guests.windows(2).find(|pair| pair[0].0.interface == pair[1].0.interface)
        {
            let why = "two instances would have it";
            return refused(format!("the link {}", pair[0].0.interface), why);
        }
        let mut addresses: Vec<Ipv6Addr> = guests.iter().map(|(_, address)| *address).collect();
        addresses.sort_unstable();
        if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
            return refused(format!("the address {}", pair[0]), "two instances would have it");
        }
        Ok(Self { guests, ingress_uid })
    }

    /// The table.
    ///
    /// # Errors
    /// It is no table: a fault of this module.
    pub fn ruleset(&self) -> Result<Ruleset, NetError> {
        let mut all = vec![json!({"table": {"family": "inet", "name": SERVICES_TABLE}})];
        let mut add = |kind: &str, fields: Value| {
            let mut fields = fields;
            fields["family"] = "inet".into();
            fields["table"] = SERVICES_TABLE.into();
            all.push(json!({ kind: fields }));
        };
        let of_cards = |(link, _): &(InstanceLink, _)| element(link, &link.link_local());
        let of_guests = |(link, address): &(InstanceLink, _)| element(link, address);
        let sets: [(&str, Vec<Value>); 2] = [
            (CARDS, self.guests.iter().map(of_cards).collect()),
            (GUESTS, self.guests.iter().map(of_guests).collect()),
        ];
        for (name, elements) in sets {
            let mut set = json!({"name": name, "type": ["ifname", "ipv6_addr"]});
            // What is listed of an empty set has no elements either.
            if !elements.is_empty() {
                set["elem"] = elements.into();
            }
            add("set", set);
        }
        for (hook, priority) in
            [("prerouting", RAW), ("input", FILTER), ("forward", FILTER), ("output", FILTER)]
        {
            let base = json!({
                "name": hook, "type": "filter", "hook": hook, "prio": priority, "policy": "accept",
            });
            add("chain", base);
        }
        for name in ["spoofed", "from-guest", "to-guest"] {
            add("chain", json!({ "name": name }));
        }
        let links = format!("{PREFIX}*");
        let (from, to) = (|| meta("iifname", links.clone()), || meta("oifname", links.clone()));
        let goto = |chain: &str| json!({"goto": {"target": chain}});
        let errors = || [state("related"), meta("l4proto", 58), verdict("accept")];
        let rules: Vec<(&str, &str, Vec<Value>)> = vec![
            ("prerouting", "source", vec![from(), goto("spoofed")]),
            ("spoofed", "own", vec![known("iifname", "saddr", GUESTS), verdict("return")]),
            (
                "spoofed",
                "card",
                vec![known("iifname", "saddr", CARDS), neighbours(), verdict("return")],
            ),
            ("spoofed", "rest", vec![verdict("drop")]),
            ("input", "guest", vec![from(), goto("from-guest")]),
            ("from-guest", "neighbours", vec![neighbours(), verdict("accept")]),
            ("from-guest", "answers", vec![state("established"), verdict("accept")]),
            ("from-guest", "errors", errors().into()),
            ("from-guest", "rest", vec![verdict("drop")]),
            ("forward", "from", vec![from(), verdict("drop")]),
            ("forward", "to", vec![to(), verdict("drop")]),
            ("output", "guest", vec![to(), goto("to-guest")]),
            (
                "to-guest",
                "ingress",
                vec![
                    meta("skuid", self.ingress_uid),
                    meta("l4proto", 6),
                    known("oifname", "daddr", GUESTS),
                    verdict("accept"),
                ],
            ),
            ("to-guest", "neighbours", vec![neighbours(), verdict("accept")]),
            // The kernel's own last words on a connection have no user.
            ("to-guest", "answers", vec![state("established"), verdict("accept")]),
            ("to-guest", "errors", errors().into()),
            ("to-guest", "rest", vec![verdict("drop")]),
        ];
        for (chain, id, expr) in rules {
            let comment = format!("services.{chain}.{id}");
            add("rule", json!({"chain": chain, "comment": comment, "expr": expr}));
        }
        Ruleset::of_table(SERVICES_TABLE, all).map_err(NetError::Ruleset)
    }
}

fn element(link: &InstanceLink, address: &Ipv6Addr) -> Value {
    json!({"concat": [link.interface, address.to_string()]})
}

/// Makes the table be that of these instances, and reads it back. Without instances, and without
/// links of any, there is no table. Gives how many rules there are.
///
/// # Errors
/// This host cannot; nft refuses, or what it lists is something else.
pub fn isolate(
    nft: &Nft,
    instances: &[InstanceAddress],
    ingress_uid: u32,
) -> Result<usize, NetError> {
    able()?;
    let wanted = Isolation::new(instances, ingress_uid)?.ruleset()?;
    if instances.is_empty() && !any()? {
        return nft.apply_table(SERVICES_TABLE, None).map(|()| 0);
    }
    if nft.read_table(SERVICES_TABLE)?.as_ref() != Some(&wanted) {
        nft.apply_table(SERVICES_TABLE, Some(&wanted))?;
    }
    Ok(wanted.rules())
}

/// Refuses an instance that the table does not have.
///
/// # Errors
/// There is no table, it is not whole, or it has other instances.
pub(crate) fn is_isolated(
    nft: &Nft,
    link: &InstanceLink,
    guest: &Ipv6Addr,
) -> Result<(), NetError> {
    let whole = Isolation { guests: Vec::new(), ingress_uid: 0 }.ruleset()?;
    let found = nft.read_table(SERVICES_TABLE)?;
    let has = |set: &str, address: &Ipv6Addr| {
        let elements = found.as_ref().and_then(|found| found.elements(set));
        elements.is_some_and(|elements| elements.contains(&element(link, address)))
    };
    let rules = |it: &Ruleset| (it.chains(), it.rules());
    let is_whole = found.as_ref().is_some_and(|found| rules(found) == rules(&whole));
    match is_whole && has(GUESTS, guest) && has(CARDS, &link.link_local()) {
        true => Ok(()),
        false => Err(NetError::Refused {
            op: format!("set up {} for {guest}", link.interface),
            why: "no rules keep it apart from others yet",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instance: &str, guest: &str) -> InstanceAddress {
        InstanceAddress { instance: instance.into(), guest: guest.parse().expect(guest) }
    }

    #[test]
    fn the_same_instances_in_any_order_are_the_same_table() {
        let (a, b) = (at("a", "fd00::1"), at("b", "fd00::2"));
        let one = Isolation::new(&[a.clone(), b.clone()], 7).expect("two").ruleset();
        let other = Isolation::new(&[b, a], 7).expect("two").ruleset();
        let (one, other) = (one.expect("a table"), other.expect("a table"));
        assert_eq!(one.transaction(), other.transaction());
        let third = Isolation::new(&[at("a", "fd00::1")], 7).expect("one").ruleset();
        assert_ne!(one, third.expect("a table"));
    }

    #[test]
    fn what_two_would_share_is_refused() {
        for wrong in [
            vec![at("a", "fd00::1"), at("b", "fd00::1")],
            vec![at("a", "fd00::1"), at("a", "fd00::2")],
            vec![at("a", "fe80::1")],
            vec![at("", "fd00::1")],
        ] {
            assert!(Isolation::new(&wrong, 7).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_rule_has_an_id_of_its_own() {
        let table = Isolation::new(&[at("a", "fd00::1")], 7).expect("one").ruleset();
        let objects: Vec<Value> = table.expect("a table").into();
        let ids = objects.iter().filter_map(|object| object["rule"]["comment"].as_str());
        let mut ids: Vec<&str> = ids.collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), all), (17, 17));
    }
}
