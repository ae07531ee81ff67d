//! The firewall of a machine: one transaction of libnftables on a table of our own.
//!
//! ```text
//! input     from a link                -> local.LINK    its rules, then drop
//!           to a link's own address    -> to-links      not around the link
//! forward   from a link                -> forward.LINK  its rules, then drop
//!           to a link                  -> to-links      answers, no more
//! postrouting   masquerade sets to INTERNET, out of what is no link
//! ```
//!
//! `table`, `delete table`, `table` in one transaction puts the new table in the old one's place,
//! whether or not there was one, with no packet between them, and touches nobody else's. Everything
//! else is policy accept: packets between other interfaces are not ours, and neither are those that
//! carry WireGuard itself. An accept of ours ends our chains alone; another table may still drop.
//!
//! What the plan calls permitted is the packet that begins a connection. So the state decides
//! first: what belongs to a connection passes, of what is related to one only ICMP's errors do
//! (packet too big among them; helpers that would open ports are not in the plan), and what is
//! invalid or untracked is dropped, because it would leave with an address that nobody translated.

use ipnet::IpNet;
use serde_json::{Value, json};
use vyr_base::canonical;

use super::{RenderError, link_name, word};
use crate::compile::INTERNET;
use crate::intent::Service;
use crate::plan::{Link, Machine, Rule, Toward};

/// Our table, of the family `inet`.
pub const TABLE: &str = "vyr";
/// The file of the transaction: `nft -j -f nftables.json`.
pub const FIREWALL_FILE: &str = "nftables.json";

/// Bytes of a comment in the kernel (`NFTNL_UDATA_COMMENT_MAXLEN`), its zero among them.
const COMMENT_BYTES_MAX: usize = 127;
/// Bytes of a set's name in the kernel (`NFT_SET_MAXNAMELEN` is 256), less our suffix and a zero.
const SET_BYTES_MAX: usize = 250;

/// Addresses of links themselves. No name in a plan begins so.
const OWN: &str = "_own";
/// What is routed into links.
const ROUTED: &str = "_routed";

/// An address family; a set of nftables has one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn has(self, prefix: &IpNet) -> bool {
        matches!((self, prefix), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }

    /// The protocol whose header has the addresses.
    fn protocol(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// The name in nftables of the IPv4 or IPv6 part of a plan's set: the same with a suffix, so no two
/// share one.
pub fn set_name(plan: &str, ipv6: bool) -> Result<String, RenderError> {
    let name = word("a set's name", plan, ".-", SET_BYTES_MAX)?;
    Ok(named(name, if ipv6 { Family::V6 } else { Family::V4 }))
}

fn named(set: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{set}.v4"),
        Family::V6 => format!("{set}.v6"),
    }
}

/// The transaction, one command a line.
pub fn firewall(machine: &Machine) -> Result<String, RenderError> {
    let mut table = Table { machine, commands: Vec::new() };
    table.all()?;
    let mut text = String::from("{\"nftables\":[\n");
    for (at, command) in table.commands.iter().enumerate() {
        let line = canonical::to_vec(command).map_err(RenderError::Form)?;
        text.push_str(if at == 0 { "" } else { ",\n" });
        text.push_str(&String::from_utf8_lossy(&line));
    }
    text.push_str("\n]}\n");
    Ok(text)
}

struct Table<'a> {
    machine: &'a Machine,
    commands: Vec<Value>,
}

/// A statement: whether one side is (`==`) or is not (`!=`) the other.
fn is(left: Value, op: &str, right: impl Into<Value>) -> Value {
    json!({"match": {"left": left, "op": op, "right": right.into()}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn address(family: Family, field: &str, set: &str) -> Value {
    let left = json!({"payload": {"field": field, "protocol": family.protocol()}});
    is(left, "==", format!("@{}", named(set, family)))
}

fn verdict(word: &str) -> Value {
    json!({ word: null })
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

fn element(prefix: &IpNet) -> Value {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => json!(prefix.addr().to_string()),
        false => {
            json!({"prefix": {"addr": prefix.addr().to_string(), "len": prefix.prefix_len()}})
        }
    }
}

/// What decides before any rule: the state of the packet's connection.
fn by_state() -> Value {
    json!({"vmap": {
        "data": {"set": [
            ["established", {"accept": null}],
            ["related", {"goto": {"target": "errors"}}],
            ["invalid", {"drop": null}],
            ["untracked", {"drop": null}],
        ]},
        "key": {"ct": {"key": "state"}},
    }})
}

/// ICMP of both families. Which of the two belongs to a packet is the kernel's to say: it calls
/// the other one invalid.
fn icmp() -> Value {
    is(meta("l4proto"), "==", json!({"set": ["icmp", "ipv6-icmp"]}))
}

/// What a packet must be for one of some services; an empty one: nothing.
fn services(services: &[Service]) -> Vec<Vec<Value>> {
    if services.contains(&Service::Any) {
        return vec![Vec::new()];
    }
    let one = |service: &Service| match *service {
        Service::Any => Vec::new(),
        Service::Icmp => vec![icmp()],
        Service::Ports { protocol: protocol @ (6 | 17), first, last }
            if (first, last) != (0, u16::MAX) =>
        {
            let name = if protocol == 6 { "tcp" } else { "udp" };
            let ports = match first == last {
                true => json!(first),
                false => json!({"range": [first, last]}),
            };
            vec![is(json!({"payload": {"field": "dport", "protocol": name}}), "==", ports)]
        }
        Service::Ports { protocol, .. } => vec![is(meta("l4proto"), "==", protocol)],
    };
    services.iter().map(one).collect()
}

impl Table<'_> {
    fn all(&mut self) -> Result<(), RenderError> {
        let table = json!({"table": {"family": "inet", "name": TABLE}});
        let idiom = [
            json!({"metainfo": {"json_schema_version": 1}}),
            json!({ "add": table }),
            json!({ "delete": table }),
            json!({ "add": table }),
        ];
        self.commands.extend(idiom);
        // A machine without links has nothing of ours to guard.
        if self.machine.links.is_empty() {
            return Ok(());
        }
        self.sets()?;
        self.chains()?;
        self.ways_in()?;
        for link in &self.machine.links {
            self.rules(link)?;
        }
        self.masquerade()
    }

    /// Whether a set has addresses of a family; nftables has no use for an empty one.
    fn has(&self, set: &str, family: Family) -> bool {
        self.machine.set(set).iter().any(|prefix| family.has(prefix))
    }

    fn links(&self) -> Value {
        let names: Vec<&str> = self.machine.links.iter().map(|link| link.name.as_str()).collect();
        json!({ "set": names })
    }

    fn set(&mut self, name: &str, prefixes: &[IpNet]) {
        for family in Family::BOTH {
            let elements: Vec<Value> =
                prefixes.iter().filter(|prefix| family.has(prefix)).map(element).collect();
            if elements.is_empty() {
                continue;
            }
            let kind = if family == Family::V4 { "ipv4_addr" } else { "ipv6_addr" };
            self.commands.push(json!({"add": {"set": {
                "elem": elements, "family": "inet", "flags": ["interval"],
                "name": named(name, family), "table": TABLE, "type": kind,
            }}}));
        }
    }

    fn sets(&mut self) -> Result<(), RenderError> {
        let own = self.own();
        self.set(OWN, &own);
        let routed = self.routed();
        self.set(ROUTED, &routed);
        for set in &self.machine.sets {
            set_name(&set.name, false)?;
            self.set(&set.name, &set.prefixes);
        }
        Ok(())
    }

    fn own(&self) -> Vec<IpNet> {
        let links = self.machine.links.iter();
        links.flat_map(|link| link.addresses.iter().map(|own| IpNet::from(own.addr()))).collect()
    }

    fn routed(&self) -> Vec<IpNet> {
        self.machine.links.iter().flat_map(|link| link.routes.iter().copied()).collect()
    }

    fn chain(&mut self, name: &str) {
        self.commands
            .push(json!({"add": {"chain": {"family": "inet", "name": name, "table": TABLE}}}));
    }

    fn chains(&mut self) -> Result<(), RenderError> {
        // 0 and 100 are nftables' own `filter` and `srcnat`.
        for (name, kind, priority) in
            [("input", "filter", 0), ("forward", "filter", 0), ("postrouting", "nat", 100)]
        {
            self.commands.push(json!({"add": {"chain": {
                "family": "inet", "hook": name, "name": name, "policy": "accept",
                "prio": priority, "table": TABLE, "type": kind,
            }}}));
        }
        self.chain("errors");
        self.chain("to-links");
        for link in &self.machine.links {
            let name = link_name(&link.name)?;
            self.chain(&format!("local.{name}"));
            self.chain(&format!("forward.{name}"));
        }
        Ok(())
    }

    fn rule(&mut self, chain: &str, statements: Vec<Value>, comment: &str) {
        let mut rule =
            json!({"chain": chain, "expr": statements, "family": "inet", "table": TABLE});
        if !comment.is_empty() {
            rule["comment"] = comment.into();
        }
        self.commands.push(json!({"add": { "rule": rule }}));
    }

    /// Drops, and counts what it drops.
    fn drop(&mut self, chain: &str, mut statements: Vec<Value>, comment: &str) {
        statements.extend([verdict("counter"), verdict("drop")]);
        self.rule(chain, statements, comment);
    }

    fn ways_in(&mut self) -> Result<(), RenderError> {
        for link in &self.machine.links {
            let name = link_name(&link.name)?;
            let from = || is(meta("iifname"), "==", name);
            self.rule("input", vec![from(), jump(&format!("local.{name}"))], "");
            self.rule("forward", vec![from(), jump(&format!("forward.{name}"))], "");
        }
        // Linux answers at any interface for any of its addresses. A link's own are for who comes
        // through the link, and for the machine itself.
        let own = self.own();
        for family in Family::BOTH {
            if own.iter().any(|prefix| family.has(prefix)) {
                let elsewhere = is(meta("iifname"), "!=", "lo");
                let to = vec![elsewhere, address(family, "daddr", OWN), jump("to-links")];
                self.rule("input", to, "");
            }
        }
        let to = is(meta("oifname"), "==", self.links());
        self.rule("forward", vec![to, jump("to-links")], "");

        self.rule("errors", vec![icmp(), verdict("accept")], "");
        self.drop("errors", Vec::new(), "related, but no error");
        self.rule("to-links", vec![by_state()], "");
        self.drop("to-links", Vec::new(), "new, toward a link");
        Ok(())
    }

    fn rules(&mut self, link: &Link) -> Result<(), RenderError> {
        let (local, forward) = (format!("local.{}", link.name), format!("forward.{}", link.name));
        // Nothing goes from link to link, not even an answer: nothing there begins.
        let to = is(meta("oifname"), "==", self.links());
        self.drop(&forward, vec![to], "from link to link");
        // A link that is down has lost its routes; its packets would leave by the default one.
        let routed = self.routed();
        for family in Family::BOTH {
            if routed.iter().any(|prefix| family.has(prefix)) {
                let to = vec![address(family, "daddr", ROUTED)];
                self.drop(&forward, to, "routed into a link");
            }
        }
        for chain in [&local, &forward] {
            self.rule(chain, vec![by_state()], "");
        }
        for rule in self.machine.rules.iter().filter(|rule| rule.from == link.name) {
            let chain = if rule.toward == Toward::Local { &local } else { &forward };
            self.accept(chain, rule)?;
        }
        for chain in [&local, &forward] {
            self.drop(chain, Vec::new(), "accepted by no rule");
        }
        Ok(())
    }

    fn accept(&mut self, chain: &str, rule: &Rule) -> Result<(), RenderError> {
        let id = word("a rule's id", &rule.id, ".-@/", COMMENT_BYTES_MAX)?;
        for set in [&rule.source, &rule.destination] {
            set_name(set, false)?;
        }
        for family in Family::BOTH {
            if !self.has(&rule.source, family) || !self.has(&rule.destination, family) {
                continue;
            }
            for service in services(&rule.services) {
                let mut statements = vec![
                    address(family, "saddr", &rule.source),
                    address(family, "daddr", &rule.destination),
                ];
                statements.extend(service);
                statements.extend([verdict("counter"), verdict("accept")]);
                self.rule(chain, statements, id);
            }
        }
        Ok(())
    }

    fn masquerade(&mut self) -> Result<(), RenderError> {
        for set in &self.machine.masquerade {
            set_name(set, false)?;
            for family in Family::BOTH {
                if self.has(set, family) && self.has(INTERNET, family) {
                    let statements = vec![
                        is(meta("oifname"), "!=", self.links()),
                        address(family, "saddr", set),
                        address(family, "daddr", INTERNET),
                        verdict("masquerade"),
                    ];
                    self.rule("postrouting", statements, "");
                }
            }
        }
        Ok(())
    }
}
