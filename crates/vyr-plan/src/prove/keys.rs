//! Invariants of keys, ports, MTUs and operators.

use std::collections::{BTreeMap, BTreeSet};

use super::{Proof, Violation, end, peer_of};
use crate::compile::OVERHEAD;
use crate::intent::{Key, Name, Subject};
use crate::plan::{LinkKind, TrustRoot};

/// IPv6 needs it (RFC 8200).
const MTU_MIN: u16 = 1280;

pub(super) fn unique(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let mut owners: BTreeMap<Key, String> = BTreeMap::new();
    let mut found = Vec::new();
    let mut shared: BTreeSet<Key> = BTreeSet::new();
    let mut own = |key: Key, name: String, subject: Subject| {
        let taken = owners.entry(key).or_insert_with(|| name.clone());
        if *taken != name {
            shared.insert(key);
            let what = format!("{name} and {taken} have one public key, {key}");
            found.push(
                Violation::new(subject, what).hint("make a new pair for one of them: wg genkey"),
            );
        }
    };
    for machine in &plan.machines {
        for link in &machine.links {
            let name = match link.kind {
                LinkKind::Mesh => format!("node {}", machine.name),
                LinkKind::Clients if link.second_of.is_some() => {
                    format!("{}@{} (staged)", link.interface, machine.name)
                }
                LinkKind::Clients => format!("{}@{}", link.interface, machine.name),
            };
            if let Some(key) = link.staged_key {
                own(key, format!("{name} (staged)"), end(machine, link));
            }
            own(link.public_key, name, end(machine, link));
            for peer in link.peers.iter().filter(|_| link.kind == LinkKind::Mesh) {
                let subject = Subject::Node { name: peer.id.to_string() };
                let other = plan.machine(peer.id.as_str()).and_then(|of| of.link("mesh"));
                let staged = other.is_some_and(|other| other.staged_key == Some(peer.public_key));
                let word = if staged { " (staged)" } else { "" };
                own(peer.public_key, format!("node {}{word}", peer.id), subject);
            }
        }
    }
    for client in &plan.clients {
        let subject = || Subject::Client { id: client.id.to_string() };
        for (key, word) in [(client.public_key, ""), (client.staged_key, " (staged)")] {
            if let Some(key) = key {
                own(key, format!("client {}{word}", client.id), subject());
            }
        }
    }
    for machine in &plan.machines {
        for link in machine.links.iter().filter(|link| link.kind == LinkKind::Clients) {
            // A key that two have is told already.
            let mut seen: BTreeSet<Key> = BTreeSet::new();
            for peer in link
                .peers
                .iter()
                .filter(|peer| !shared.contains(&peer.public_key) && !seen.insert(peer.public_key))
            {
                let what = format!(
                    "{} has the key {} twice on {}",
                    machine.name, peer.public_key, link.name
                );
                found.push(Violation::new(Subject::Client { id: peer.id.to_string() }, what));
            }
        }
    }
    found
}

pub(super) fn mtu(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut mesh: BTreeMap<u16, String> = BTreeMap::new();
    for machine in &proof.plan.machines {
        for link in &machine.links {
            let name = machine.name.to_string();
            let subject = match link.kind {
                LinkKind::Mesh => Subject::Node { name },
                LinkKind::Clients => Subject::Server { name },
            };
            if link.mtu < MTU_MIN || link.mtu > machine.uplink_mtu.saturating_sub(OVERHEAD) {
                let what = format!(
                    "{} of {} has an MTU of {}, its uplink {}",
                    link.name, machine.name, link.mtu, machine.uplink_mtu
                );
                let room = machine.uplink_mtu.saturating_sub(OVERHEAD);
                let hint = format!(
                    "it must be {MTU_MIN} to {room}: `uplink_mtu` of a server and of its node are one"
                );
                found.push(Violation::new(subject, what).hint(hint));
            }
            if link.kind == LinkKind::Mesh {
                mesh.insert(link.mtu, machine.name.to_string());
            }
        }
    }
    if let (true, Some((mtu, name)), Some((other, by))) =
        (mesh.len() > 1, mesh.first_key_value(), mesh.last_key_value())
    {
        let what = format!("{name} has an MTU of {mtu} in the mesh, {by} one of {other}");
        found.push(Violation::new(Subject::Node { name: by.clone() }, what));
    }
    found
}

pub(super) fn revoked(proof: &Proof<'_>) -> Vec<Violation> {
    let plan = proof.plan;
    let revoked: BTreeSet<Key> = plan.revoked.iter().copied().collect();
    let mut found = Vec::new();
    let mut returned: BTreeMap<(Subject, &Name, Key), Vec<&str>> = BTreeMap::new();
    for machine in &plan.machines {
        for link in &machine.links {
            for peer in link.peers.iter().filter(|peer| revoked.contains(&peer.public_key)) {
                let of = (peer_of(link, &peer.id), &peer.id, peer.public_key);
                returned.entry(of).or_default().push(machine.name.as_str());
            }
            if revoked.contains(&link.public_key) {
                let what = format!("{} of {} has a revoked key", link.name, machine.name);
                let violation = Violation::new(end(machine, link), what);
                found.push(violation.hint("make a new pair on the machine: wg genkey"));
            }
        }
    }
    for ((subject, id, key), machines) in returned {
        let machines = machines.join(" and ");
        let what = format!("the revoked key {key} of {id} is a peer of {machines}");
        let violation = Violation::new(subject, what);
        found.push(violation.hint("make a new pair on the device: wg genkey"));
    }
    let before = proof.parent.into_iter().flat_map(|parent| &parent.revoked);
    for key in before.filter(|key| !revoked.contains(key)) {
        let what = format!("the key {key} was revoked and is not any more");
        found.push(Violation::new(Subject::Site, what).hint("take vyr.lock from git as it was"));
    }
    found
}

pub(super) fn ports(proof: &Proof<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for machine in &proof.plan.machines {
        let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
        for link in &machine.links {
            if let Some(other) = ports.insert(link.listen_port, &link.name) {
                let what = format!(
                    "{} and {other} of {} share port {}",
                    link.name, machine.name, link.listen_port
                );
                let violation = Violation::new(end(machine, link), what);
                found.push(violation.hint("give one of them another port"));
            }
        }
    }
    found
}

pub(super) fn threshold(proof: &Proof<'_>) -> Vec<Violation> {
    too_few_keys(&proof.plan.trust).into_iter().collect()
}

/// Whether more operators must sign than there are keys.
pub(crate) fn too_few_keys(trust: &TrustRoot) -> Option<Violation> {
    let keys: BTreeSet<&str> = trust.operators.iter().map(|of| of.public_key.as_str()).collect();
    // A site without keys is one that nobody has begun to operate: `vyr check` says so.
    if keys.is_empty() || usize::from(trust.threshold) <= keys.len() {
        return None;
    }
    let what = format!("{} operators must sign, and {} keys may", trust.threshold, keys.len());
    let violation = Violation::new(Subject::Operators, what);
    Some(violation.hint("add keys to operators.allowed_signers, or lower `threshold`"))
}
