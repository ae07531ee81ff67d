//! Two plans compared by what they mean: who gains or loses reach to what, who is new, who is gone.
//!
//! Reach is compared per source. Thousands of clients have a handful of different reaches: a source
//! is known by the passages it has (a bit each), and each pair of such patterns is compared once.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vyr_base::Digest;

use crate::intent::{Key, Operator, Service};
use crate::plan::{LinkKind, Plan, TrustRoot};
use crate::reach::Reach;
use crate::space::{Block, Region, Set, point};

/// What changes from one plan to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The plan before; none: the empty plan.
    pub before: Option<Digest>,
    /// The plan after.
    pub after: Option<Digest>,
    /// What changes for people and machines, sorted.
    pub changes: Vec<Change>,
    /// Who gains or loses reach to what.
    pub reach: Vec<ReachChange>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// What kind of thing: `client`, `link`, `operators`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub what: String,
}

/// Sources with one and the same change of what they reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReachChange {
    /// Clients by id, nodes as `node:NAME`.
    pub sources: Vec<String>,
    /// What they reach now and did not.
    pub gains: Vec<Flow>,
    /// What they do not reach any more.
    pub losses: Vec<Flow>,
}

/// Destinations and services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flow {
    /// `internet`, and the fewest prefixes of the rest.
    pub to: Vec<String>,
    /// Protocols and ports: `any`, `tcp/443`.
    pub services: Vec<String>,
}

impl Diff {
    /// Whether nothing changes but epoch and parent.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.reach.is_empty()
    }
}

/// What changes from `before` (none: the empty plan) to `after` (none: everything goes).
pub fn diff(before: Option<&Plan>, after: Option<&Plan>) -> Diff {
    let digest = |plan: Option<&Plan>| plan.and_then(|plan| plan.digest().ok());
    Diff {
        before: digest(before),
        after: digest(after),
        changes: changes(&things(before), &things(after)),
        reach: reach(before, after),
    }
}

/// What changes from some things to others, sorted.
pub(crate) fn changes(old: &Things, new: &Things) -> Vec<Change> {
    let mut changes = BTreeSet::new();
    for (key, text) in old {
        match new.get(key) {
            None => add(&mut changes, key, "is gone".into()),
            Some(now) if now != text => {
                for (label, was) in text {
                    match now.get(label) {
                        Some(is) if is == was => (),
                        Some(is) => add(&mut changes, key, format!("{label}: {was} -> {is}")),
                        None => add(&mut changes, key, format!("{label}: no longer {was}")),
                    }
                }
                for (label, is) in now.iter().filter(|(label, _)| !text.contains_key(*label)) {
                    add(&mut changes, key, format!("{label}: now {is}"));
                }
            }
            Some(_) => (),
        }
    }
    for (key, text) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
        let told: Vec<String> = text.iter().map(|(label, is)| format!("{label} {is}")).collect();
        add(&mut changes, key, format!("is new: {}", told.join(", ")));
    }
    changes.into_iter().collect()
}

fn add(changes: &mut BTreeSet<Change>, (kind, name): &(&'static str, String), what: String) {
    changes.insert(Change { kind, name: name.clone(), what });
}

pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// Labelled texts of each thing, by kind and name.
pub(crate) type Things = BTreeMap<(&'static str, String), BTreeMap<&'static str, String>>;

/// Who may sign the next plan.
pub(crate) fn operators(trust: &TrustRoot) -> Vec<(&'static str, String)> {
    let of = &trust.operators;
    let key =
        |operator: &Operator| Digest::of(operator.public_key.as_bytes()).hex()[..8].to_owned();
    vec![
        ("threshold", trust.threshold.to_string()),
        ("may sign", list(of.iter().map(|operator| operator.principal.as_str()))),
        ("keys", list(of.iter().map(key))),
        ("work from", list(&trust.from)),
    ]
}

/// What a plan consists of, for people: a few labelled texts for each thing.
fn things(plan: Option<&Plan>) -> Things {
    let mut things = Things::new();
    let Some(plan) = plan else { return things };
    let mut put = |kind, name: &dyn ToString, texts: Vec<(&'static str, String)>| {
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        things.insert((kind, name.to_string()), texts);
    };
    put("operators", &"all", operators(&plan.trust));
    put("recovery", &"recipients", vec![("are", list(&plan.recovery))]);
    for interface in &plan.interfaces {
        put(
            "interface",
            &interface.name,
            vec![
                ("lan", list(&interface.lan)),
                ("dns", list(&interface.dns)),
                ("internet", interface.internet.to_string()),
                ("experimental", interface.experimental.to_string()),
                ("profiles", list(interface.profiles.iter().map(|profile| &profile.name))),
            ],
        );
    }
    for machine in &plan.machines {
        put("machine", &machine.name, vec![("management", list(&machine.management))]);
        for link in &machine.links {
            let own = format!("vyr-{}", link.interface);
            let second = if link.second_of.is_some() { " (second)" } else { "" };
            put(
                "link",
                &format!("{}@{}{second}", link.interface, machine.name),
                vec![
                    // Of another name is what had a second end once.
                    (
                        "on the host",
                        if link.name == own { String::new() } else { link.name.clone() },
                    ),
                    ("key", link.public_key.to_string()),
                    ("retired keys", list(&link.retired_keys)),
                    ("endpoint", link.endpoint.clone().unwrap_or_default()),
                    ("port", link.listen_port.to_string()),
                    ("mtu", link.mtu.to_string()),
                    ("addresses", list(&link.addresses)),
                ],
            );
        }
    }
    for client in &plan.clients {
        let key = |key: Option<Key>| key.map(|key| key.to_string()).unwrap_or_default();
        put(
            "client",
            &client.id,
            vec![
                ("interface", client.interface.to_string()),
                ("profile", client.profile.to_string()),
                ("key", key(client.public_key)),
                ("staged key", key(client.staged_key)),
                (
                    "addresses",
                    list(
                        client
                            .addresses
                            .iter()
                            .flat_map(|of| of.addresses.iter().map(crate::space::short)),
                    ),
                ),
            ],
        );
    }
    for key in &plan.revoked {
        put("revoked key", key, vec![("refused", "for good".into())]);
    }
    things
}

/// Where each source of a plan is on the line, by name.
fn sources(plan: &Plan) -> BTreeMap<String, Vec<u128>> {
    let mut found: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    for client in plan.clients.iter().filter(|client| client.public_key.is_some()) {
        let addresses = client.addresses.iter().flat_map(|of| &of.addresses);
        let points = addresses.map(|net| point(net.addr())).collect();
        found.insert(client.id.to_string(), points);
    }
    for machine in &plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Mesh) {
            let points = link.addresses.iter().map(|net| point(net.addr())).collect();
            found.insert(format!("node:{}", machine.name), points);
        }
    }
    found
}

/// The passages a source has, as a list of their numbers.
type Pattern = Vec<u32>;

struct Side<'a> {
    reach: Option<Reach<'a>>,
    sources: BTreeMap<String, Vec<u128>>,
}

impl<'a> Side<'a> {
    fn of(plan: Option<&'a Plan>) -> Self {
        Self { reach: plan.map(Reach::of), sources: plan.map(sources).unwrap_or_default() }
    }

    fn pattern(&self, name: &str) -> Pattern {
        let points = self.sources.get(name);
        let passages = self.reach.iter().flat_map(|reach| &reach.permitted).zip(0..);
        passages
            .filter(|(passage, _)| {
                points.into_iter().flatten().any(|point| passage.block.source.contains(*point))
            })
            .map(|(_, number)| number)
            .collect()
    }

    /// What a pattern reaches, from wherever.
    fn region(&self, pattern: &Pattern) -> Region {
        let passages = self.reach.iter().flat_map(|reach| &reach.permitted).zip(0..);
        let of = passages.filter(|(_, number)| pattern.binary_search(number).is_ok());
        Region(
            of.map(|(passage, _)| Block { source: Set::everywhere(), ..passage.block.clone() })
                .collect(),
        )
    }
}

fn reach(before: Option<&Plan>, after: Option<&Plan>) -> Vec<ReachChange> {
    let (old, new) = (Side::of(before), Side::of(after));
    let names: BTreeSet<&String> = old.sources.keys().chain(new.sources.keys()).collect();
    let mut alike: BTreeMap<(Pattern, Pattern), Vec<String>> = BTreeMap::new();
    for name in names {
        alike.entry((old.pattern(name), new.pattern(name))).or_default().push(name.clone());
    }
    let mut changes: BTreeMap<(Vec<Flow>, Vec<Flow>), Vec<String>> = BTreeMap::new();
    for ((was, is), sources) in alike {
        let (was, is) = (old.region(&was), new.region(&is));
        let change = (flows(&is.subtract(&was)), flows(&was.subtract(&is)));
        if change != (Vec::new(), Vec::new()) {
            changes.entry(change).or_default().extend(sources);
        }
    }
    let mut changes: Vec<ReachChange> = changes
        .into_iter()
        .map(|((gains, losses), mut sources)| {
            sources.sort();
            ReachChange { sources, gains, losses }
        })
        .collect();
    changes.sort_by(|a, b| a.sources.cmp(&b.sources));
    changes
}

/// Destinations by services, in one spelling: cut where any two blocks differ.
pub(crate) fn flows(region: &Region) -> Vec<Flow> {
    let mut by_service: BTreeMap<Set, Set> = BTreeMap::new();
    let mut rest: Vec<(Set, Set)> = Vec::new();
    for block in &region.0 {
        let mut pieces = vec![(block.destination.clone(), named(block))];
        let mut kept = Vec::new();
        // Destinations that are there already get the services of both.
        for (destination, service) in rest.drain(..) {
            let mut left = destination.clone();
            let mut others = Vec::new();
            for (new, with) in pieces.drain(..) {
                let both = left.intersect(&new);
                if !both.is_empty() {
                    kept.push((both.clone(), service.union(&with)));
                    left = left.subtract(&both);
                }
                others.push((new.subtract(&both), with));
            }
            kept.push((left, service));
            pieces = others;
        }
        kept.extend(pieces);
        rest = kept.into_iter().filter(|(destination, _)| !destination.is_empty()).collect();
    }
    for (destination, service) in rest {
        let of = by_service.entry(service).or_insert_with(Set::empty);
        *of = of.union(&destination);
    }
    let mut flows: Vec<Flow> = by_service
        .into_iter()
        .map(|(service, destination)| Flow {
            to: destination.words(),
            services: services(&service),
        })
        .collect();
    flows.sort();
    flows
}

/// The services of a block as a site's files have them: there ICMP is one service, of which each
/// family has a protocol.
pub(crate) fn named(block: &Block) -> Set {
    let icmp = Service::Icmp.set();
    let families = Block::families().into_iter();
    let own = families.filter(|family| {
        block.source.meets(&family.source) && block.destination.meets(&family.destination)
    });
    let own = own.fold(Set::empty(), |all, family| all.union(&icmp.intersect(&family.service)));
    match own.within(&block.service) {
        true => block.service.union(&icmp),
        false => block.service.clone(),
    }
}

/// Services in the words of a site's files.
pub(crate) fn services(set: &Set) -> Vec<String> {
    if Set::any_service().within(set) {
        return vec!["any".into()];
    }
    let mut words = Vec::new();
    let mut rest = set.clone();
    if Service::Icmp.set().within(set) {
        words.push("icmp".into());
        rest = rest.subtract(&Service::Icmp.set());
    }
    for &(first, last) in rest.intervals() {
        for protocol in first >> 16..=last >> 16 {
            let low = if protocol == first >> 16 { first & 0xffff } else { 0 };
            let high = if protocol == last >> 16 { last & 0xffff } else { 0xffff };
            let (Ok(protocol), Ok(first), Ok(last)) =
                (u8::try_from(protocol), u16::try_from(low), u16::try_from(high))
            else {
                continue;
            };
            words.push(Service::Ports { protocol, first, last }.to_string());
        }
        // All protocols but a few would be a list of hundreds.
        if words.len() > 16 {
            words.truncate(16);
            words.push("...".into());
            break;
        }
    }
    words
}

/// Ids of clients, for a message.
pub fn name_some(names: &[String]) -> String {
    match names {
        [first, second, third, rest @ ..] if rest.len() > 1 => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}
