//! Invariants of a server's end whose key rotates: there are two links, alike but for key and port.
//!
//! Vyr's firewall does not filter WireGuard's own packets, so a port is open exactly while a link
//! listens at it: that a second link is there only beside a first one is what is proved of ports.

use std::collections::{BTreeMap, BTreeSet};

use super::{Proof, Violation, end};
use crate::intent::{Key, Name, Subject};
use crate::plan::{Link, LinkKind, Machine, Rule};

/// Second ends with their first, if they have one.
fn seconds<'a>(
    proof: &'a Proof<'_>,
) -> impl Iterator<Item = (&'a Machine, &'a Link, Option<&'a Link>)> {
    let links = proof.plan.machines.iter().flat_map(|machine| {
        machine.links.iter().map(move |link| (machine, link, machine.first_of(link)))
    });
    links.filter(|(_, link, _)| link.second_of.is_some())
}

pub(super) fn one_holder(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (machine, link, _) in seconds(proof) {
        for peer in link.peers.iter().filter(|peer| !peer.allowed_ips.is_empty()) {
            let what = format!(
                "{} has addresses on {} of {}, before it was seen there",
                peer.id, link.name, machine.name
            );
            let subject = Subject::Client { id: peer.id.to_string() };
            found.push(Violation::new(subject, what));
        }
        for route in &link.routes {
            let what = format!(
                "{} of {} has the route {route}, before anybody moved there",
                link.name, machine.name
            );
            found.push(Violation::new(end(machine, link), what));
        }
    }
    found
}

/// The keys of a link's peers, by whose they are.
fn known(link: &Link) -> BTreeMap<&Name, BTreeSet<Key>> {
    let mut all: BTreeMap<&Name, BTreeSet<Key>> = BTreeMap::new();
    for peer in &link.peers {
        all.entry(&peer.id).or_default().insert(peer.public_key);
    }
    all
}

/// The rules of a link, without their names.
fn rules<'a>(machine: &'a Machine, link: &Link) -> Vec<&'a Rule> {
    let mut all: Vec<&Rule> = machine.rules.iter().filter(|rule| rule.from == link.name).collect();
    all.sort_by(|a, b| said(a).cmp(&said(b)));
    all
}

fn said(rule: &Rule) -> impl Ord + PartialEq {
    (rule.toward, rule.source.clone(), rule.destination.clone(), rule.services.clone())
}

pub(super) fn alike(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (machine, link, first) in seconds(proof) {
        let subject = || end(machine, link);
        let Some(first) = first.filter(|first| {
            first.interface == link.interface
                && first.kind == LinkKind::Clients
                && link.kind == LinkKind::Clients
        }) else {
            let what =
                format!("{} of {} follows no link of its interface", link.name, machine.name);
            found.push(Violation::new(subject(), what));
            continue;
        };
        let host = |link: &Link| {
            let at = link.endpoint.as_deref()?;
            Some(at.rsplit_once(':')?.0.to_owned())
        };
        let listens = |link: &Link| {
            let port = link.endpoint.as_deref().and_then(|at| at.rsplit_once(':')?.1.parse().ok());
            port == Some(link.listen_port)
        };
        let own = |link: &Link| -> Vec<_> { rules(machine, link).into_iter().map(said).collect() };
        let differs = [
            ("addresses", first.addresses != link.addresses),
            ("MTU", first.mtu != link.mtu),
            ("tunnels", first.tunnels != link.tunnels),
            ("peers", known(first) != known(link)),
            ("rules", own(first) != own(link)),
            ("host", host(first) != host(link)),
        ];
        for (what, _) in differs.iter().filter(|(_, differs)| *differs) {
            let what =
                format!("{} and {} of {} have other {what}", first.name, link.name, machine.name);
            found.push(Violation::new(subject(), what));
        }
        if !listens(link) {
            let what = format!(
                "{} of {} listens at {} and is looked for elsewhere",
                link.name, machine.name, link.listen_port
            );
            found.push(Violation::new(subject(), what));
        }
    }
    found
}

pub(super) fn retired(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let links = || plan.machines.iter().flat_map(|of| of.links.iter().map(move |link| (of, link)));
    let retired: BTreeMap<Key, String> = links()
        .flat_map(|(machine, link)| {
            let name = format!("{}@{}", link.interface, machine.name);
            link.retired_keys.iter().map(move |key| (*key, name.clone()))
        })
        .collect();
    let mut found = Vec::new();
    for (machine, link) in links() {
        for key in [Some(link.public_key), link.staged_key].into_iter().flatten() {
            if let Some(of) = retired.get(&key) {
                let what = format!("{} of {} has a key that {of} retired", link.name, machine.name);
                let violation = Violation::new(end(machine, link), what);
                found.push(violation.hint("make a new pair on the machine: vyr server key"));
            }
        }
    }
    found
}
