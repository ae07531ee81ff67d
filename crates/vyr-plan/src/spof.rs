//! What remains a single point of failure, and why: the part of a plan that one loss takes away.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::intent::Subject;
use crate::plan::{LinkKind, Plan};
use crate::space::Set;

/// One thing whose loss is felt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SinglePoint {
    /// What it is about.
    pub subject: Subject,
    /// What is there once only.
    pub what: String,
    /// What is lost with it.
    pub lost: String,
    /// How to have it twice.
    pub hint: String,
}

/// Everything in a plan that is there once only. Empty does not mean that nothing fails: what two
/// things share outside of the plan (a provider, a power line) is not in it.
pub fn single_points(plan: &Plan) -> Vec<SinglePoint> {
    let mut found = BTreeSet::new();
    let mut add = |subject: Subject, what: String, lost: String, hint: &str| {
        found.insert(SinglePoint { subject, what, lost, hint: hint.into() });
    };
    for interface in plan.interfaces.iter().filter(|interface| !interface.experimental) {
        let subject = || Subject::Interface { name: interface.name.to_string() };
        let ends: Vec<_> = plan
            .machines
            .iter()
            .filter_map(|machine| Some((machine, machine.link(interface.name.as_str())?)))
            .collect();
        if let [(machine, _)] = ends.as_slice() {
            add(
                subject(),
                format!("{} has one server, {}", interface.name, machine.name),
                "its clients reach nothing while that is away".into(),
                "give a second server its role, with prefixes of its own",
            );
        }
        let hosts: BTreeSet<&str> = ends
            .iter()
            .filter_map(|(_, link)| link.endpoint.as_deref()?.rsplit_once(':'))
            .map(|(host, _)| host)
            .collect();
        if ends.len() > 1 && hosts.len() == 1 {
            add(
                subject(),
                format!("all servers of {} are found at one address", interface.name),
                "the second way is gone with the first".into(),
                "give each server an endpoint of its own",
            );
        }
        if interface.dns.len() == 1 {
            add(
                subject(),
                format!("clients of {} ask one name server, {}", interface.name, interface.dns[0]),
                "names are not found while that is away".into(),
                "add a second address to `dns`",
            );
        }
    }
    let trust = &plan.trust;
    let keys: BTreeSet<&str> = trust.operators.iter().map(|of| of.public_key.as_str()).collect();
    if usize::from(trust.threshold) == keys.len() {
        add(
            Subject::Operators,
            format!("all {} operators must sign", keys.len()),
            "with one lost key no plan can be approved any more".into(),
            "add a key to operators.allowed_signers, or lower `threshold`",
        );
    }
    if trust.threshold == 1 && keys.len() > 1 {
        add(
            Subject::Operators,
            "one operator's key is enough".into(),
            "whoever takes one key takes the network".into(),
            "raise `threshold` to 2",
        );
    }
    let links = Set::prefixes(plan.link_prefixes(LinkKind::Clients).map(|(_, _, net)| net));
    let from = Set::prefixes(&trust.from);
    if !from.is_empty() && from.within(&links) {
        add(
            Subject::Operators,
            "operators work from inside the network only".into(),
            "when it is broken, nobody reaches a server to mend it".into(),
            "add an address outside of all VPN prefixes to `operators.from`",
        );
    }
    if plan.recovery.len() < 2 {
        add(
            Subject::Site,
            format!("{} keys open a recovery bundle", plan.recovery.len()),
            "without them a lost router is built anew by hand".into(),
            "name two recipients in [recovery], kept in two places",
        );
    }
    for machine in plan.machines.iter().filter(|machine| machine.management.len() == 1) {
        add(
            Subject::Server { name: machine.name.to_string() },
            format!("{} has one management address", machine.name),
            "it is out of operators' reach when that fails".into(),
            "add its address of the other family, or on another network",
        );
    }
    let mesh: Vec<_> =
        plan.machines.iter().filter_map(|machine| Some((machine, machine.link("mesh")?))).collect();
    let findable: Vec<_> = mesh.iter().filter(|(_, link)| link.endpoint.is_some()).collect();
    if let ([(machine, _)], true) = (findable.as_slice(), mesh.len() > 2) {
        add(
            Subject::Node { name: machine.name.to_string() },
            format!("one node, {}, can be found by the others", machine.name),
            "without it no two nodes find each other".into(),
            "give a second node an endpoint",
        );
    }
    let hidden: Vec<_> = mesh.iter().filter(|(_, link)| link.endpoint.is_none()).collect();
    if hidden.len() > 1 {
        let names: Vec<String> =
            hidden.iter().map(|(machine, _)| machine.name.to_string()).collect();
        add(
            Subject::Node { name: names[0].clone() },
            format!("{} cannot be found by each other", names.join(" and ")),
            "they are in one mesh and have no way to each other".into(),
            "give all of them but one an endpoint",
        );
    }
    let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for machine in &plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Clients) {
            // Two ends of one interface are one thing that it carries.
            if link.second_of.is_some() {
                continue;
            }
            roles.entry(machine.name.to_string()).or_default().push(link.interface.to_string());
        }
    }
    for (machine, interfaces) in roles.iter().filter(|(_, interfaces)| interfaces.len() > 1) {
        add(
            Subject::Server { name: machine.clone() },
            format!("{machine} carries {}", interfaces.join(" and ")),
            "they fail together".into(),
            "put one of them on another server, if that matters",
        );
    }
    found.into_iter().collect()
}
