//! What a table of ours lets begin, read from the table itself.
//!
//! The rules say it of packets that begin a connection. What has begun passes by its state, without
//! asking them again: so who puts a narrower table in the place of a wider one has to know which
//! connections the new one would not have let begin.
//!
//! Only the form that a plan is rendered to is understood. Of any other table, one that somebody has
//! changed or two in one, nothing is concluded.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::Value;
use vyr_plan::{Block, Region, Set};

use super::Ruleset;

/// Chains with the rules of a link, by where its packets go.
const CHAINS: [&str; 2] = ["local.", "forward."];
/// ICMP of both families.
const ICMP: [u8; 2] = [1, 58];

/// Prefixes by the name of a set of nftables.
type Sets<'a> = BTreeMap<&'a str, Set>;

impl Ruleset {
    /// The packets that may begin a connection, by the link from which they come; none: it is not a
    /// table that a plan is rendered to. Whom WireGuard lets speak on a link is not looked at here.
    pub(crate) fn lets_begin(&self) -> Option<BTreeMap<String, Region>> {
        let of = |kind: &'static str| self.objects().iter().filter_map(move |one| one.get(kind));
        let sets: Option<Sets<'_>> = of("set")
            .map(|set| Some((set["name"].as_str()?, elements(set.get("elem"))?)))
            .collect();
        let sets = sets?;
        let mut links: BTreeMap<String, Region> = BTreeMap::new();
        let mut dropped: BTreeMap<&str, Set> = BTreeMap::new();
        for rule in of("rule") {
            let chain = rule["chain"].as_str()?;
            let Some(link) = CHAINS.iter().find_map(|start| chain.strip_prefix(start)) else {
                // Of both in one: which of the two a rule belongs to says its chain alone.
                match chain {
                    "input" | "forward" | "postrouting" | "to-links" | "errors" => continue,
                    _ => return None,
                }
            };
            let region = links.entry(link.to_owned()).or_default();
            match read(rule["expr"].as_array()?, &sets)? {
                Said::Accepts(block) => {
                    let before = dropped.get(chain).cloned().unwrap_or_else(Set::empty);
                    let destination = block.destination.subtract(&before);
                    region.0.extend(Block { destination, ..block }.by_family());
                }
                Said::Drops(Some(to)) => {
                    let all = dropped.entry(chain).or_insert_with(Set::empty);
                    *all = all.union(&to);
                }
                Said::Drops(None) | Said::State => (),
            }
        }
        Some(links)
    }
}

/// What one rule says.
enum Said {
    /// These may begin.
    Accepts(Block),
    /// What goes to these addresses may not; none: what is left, or what goes from link to link.
    Drops(Option<Set>),
    /// It is about what has begun.
    State,
}

fn read(statements: &[Value], sets: &Sets<'_>) -> Option<Said> {
    let mut found = Block {
        source: Set::everywhere(),
        destination: Set::everywhere(),
        service: Set::any_service(),
    };
    let (mut by_address, mut by_link) = (false, false);
    for statement in statements {
        let (kind, value) = statement.as_object()?.iter().next()?;
        match kind.as_str() {
            "counter" => (),
            "vmap" => return Some(Said::State),
            "accept" if by_link => return None,
            "accept" => return Some(Said::Accepts(found)),
            "drop" => return Some(Said::Drops(by_address.then_some(found.destination))),
            "match" if value["op"] == "==" => match reads(value)? {
                What::Source(name) => found.source = sets.get(name)?.clone(),
                What::Destination(name) => {
                    by_address = true;
                    found.destination = sets.get(name)?.clone();
                }
                What::Service(service) => found.service = service,
                What::Link => by_link = true,
            },
            _ => return None,
        }
    }
    None
}

/// What a match looks at.
enum What<'a> {
    Source(&'a str),
    Destination(&'a str),
    Service(Set),
    Link,
}

fn reads(value: &Value) -> Option<What<'_>> {
    let (left, right) = (&value["left"], &value["right"]);
    if let Some(key) = left["meta"]["key"].as_str() {
        return match key {
            "oifname" => Some(What::Link),
            "l4proto" => protocols(right).map(What::Service),
            _ => None,
        };
    }
    let (protocol, field) =
        (left["payload"]["protocol"].as_str()?, left["payload"]["field"].as_str()?);
    let set = || right.as_str().and_then(|name| name.strip_prefix('@'));
    match (protocol, field) {
        ("ip" | "ip6", "saddr") => set().map(What::Source),
        ("ip" | "ip6", "daddr") => set().map(What::Destination),
        ("tcp", "dport") => ports(6, right).map(What::Service),
        ("udp", "dport") => ports(17, right).map(What::Service),
        _ => None,
    }
}

fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_u64()?).ok()
}

fn ports(protocol: u8, right: &Value) -> Option<Set> {
    let ends = match right["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => (number(first)?, number(last)?),
        Some(_) => return None,
        None => (number(right)?, number(right)?),
    };
    Some(Set::service(protocol, ends))
}

fn protocols(right: &Value) -> Option<Set> {
    let whole = |protocol: u8| Set::service(protocol, (0, u16::MAX));
    match right["set"].as_array() {
        None => number(right).map(whole),
        Some(all) => {
            let all: Option<Vec<u8>> = all.iter().map(number).collect();
            (all? == ICMP).then(|| whole(ICMP[0]).union(&whole(ICMP[1])))
        }
    }
}

/// The addresses of a set.
fn elements(all: Option<&Value>) -> Option<Set> {
    let Some(all) = all else { return Some(Set::empty()) };
    let prefixes: Option<Vec<IpNet>> = all.as_array()?.iter().map(element).collect();
    Some(Set::prefixes(&prefixes?))
}

fn element(element: &Value) -> Option<IpNet> {
    match element.as_str() {
        Some(address) => Some(IpNet::from(address.parse::<std::net::IpAddr>().ok()?)),
        None => {
            let prefix = element.get("prefix")?;
            IpNet::new(prefix["addr"].as_str()?.parse().ok()?, number(prefix.get("len")?)?).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_base::Source;
    use vyr_plan::{Files, Lock, Plan, Reach, allocate, compile, render};

    /// The worked site, with services of every form in its mesh.
    fn plan() -> Plan {
        let site = include_str!("../../../../examples/office/site.toml").replace(
            r#"allow = ["icmp", "tcp/22", "tcp/7443"]"#,
            r#"allow = ["icmp", "tcp/22", "tcp/7443", "udp/5000-5100", "protocol/47"]"#,
        );
        let clients = include_str!("../../../../examples/office/clients.toml");
        let files = Files {
            clients: Some(Source::new("clients.toml", clients)),
            ..Files::new(Source::new("site.toml", site))
        };
        let intent = files.read().expect("it is read");
        let lock = allocate(&intent, &Lock::default(), None).expect("there is room");
        compile(&intent, &lock).expect("it compiles")
    }

    /// What a link's peers may begin, by its table.
    fn begun(plan: &Plan, machine: &str, link: &str, table: &Ruleset) -> Region {
        let machine = plan.machine(machine).expect("it is there");
        let link = machine.links.iter().find(|of| of.name == link).expect("it is there");
        let peers = Set::prefixes(link.peers.iter().flat_map(|peer| &peer.allowed_ips));
        let region = table.lets_begin().expect("our own").remove(&link.name).unwrap_or_default();
        let heard = |block: Block| Block { source: block.source.intersect(&peers), ..block };
        Region(region.0.into_iter().map(heard).collect())
    }

    #[test]
    fn a_table_lets_begin_what_the_prover_says() {
        let plan = plan();
        let reach = Reach::of(&plan);
        let mut links = 0;
        for machine in &plan.machines {
            let text = render::firewall(machine).expect("it renders");
            let table = Ruleset::from_transaction(&text).expect("our own");
            for link in &machine.links {
                let is_of = |passage: &&vyr_plan::Passage<'_>| {
                    passage.machine.name == machine.name && passage.link.name == link.name
                };
                let proved = reach.permitted.iter().filter(is_of);
                let proved = Region(proved.map(|passage| passage.block.clone()).collect());
                let read = begun(&plan, machine.name.as_str(), &link.name, &table);
                assert_eq!(proved.subtract(&read).packet(), None, "{}", link.name);
                assert_eq!(read.subtract(&proved).packet(), None, "{}", link.name);
                assert!(read.packet().is_some(), "{} lets nothing begin", link.name);
                links += 1;
            }
        }
        assert!(links > 4, "{links}");
    }

    #[test]
    fn a_rule_less_is_missed_and_another_form_is_not_understood() {
        let plan = plan();
        let machine = plan.machine("router-north").expect("it is there");
        let text = render::firewall(machine).expect("it renders");
        let whole = Ruleset::from_transaction(&text).expect("our own");
        let link = &machine.links[0].name;
        let before = begun(&plan, "router-north", link, &whole);
        for (at, line) in text.lines().enumerate() {
            if !line.contains(r#""accept""#) || !line.contains(r#""saddr""#) {
                continue;
            }
            // The last line of commands has no comma, and none of these is the last.
            let less: Vec<&str> =
                text.lines().enumerate().filter(|(n, _)| *n != at).map(|(_, line)| line).collect();
            let less = Ruleset::from_transaction(&less.join("\n")).expect("our own");
            let after = begun(&plan, "router-north", link, &less);
            assert_eq!(after.subtract(&before).packet(), None, "{line}");
        }
        let fewer = text.replace(r#""dport""#, r#""sport""#);
        assert_ne!(fewer, text);
        for odd in [
            fewer,
            text.replace(r#""field":"saddr""#, r#""field":"ttl""#),
            text.replace(r#""chain":"local."#, r#""chain":"o.local."#),
        ] {
            let odd = Ruleset::from_transaction(&odd).expect("a table");
            assert!(odd.lets_begin().is_none(), "{odd:?}");
        }
        assert!(super::super::union(&whole, &whole).lets_begin().is_none(), "two in one");
    }
}
