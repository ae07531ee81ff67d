//! What `vyr lock` decides for services: which tags are still to be asked for, who gets which public
//! address, which plan comes next.
//!
//! A registry is asked elsewhere (`vyr lock` itself): the answers come in by [`Lock::pin`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vyr_base::{Category, Diagnostic, Digest, Problem};
use vyr_service::Reference;
use vyr_service::manifest::Manifest;

use super::compile::placement;
use super::plan::ServicesPlan;
use crate::intent::{Intent, Name, Subject};
use crate::lock::{Applied, Lock, next};

/// Which tags are asked for again although they are pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<'a> {
    /// None.
    None,
    /// Those of one service.
    Service(&'a Name),
    /// All.
    All,
}

/// Why an address is not given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The lock gives it to nobody.
    #[error("{0} is allotted to no service")]
    Nobodys(Ipv4Addr),
    /// A manifest asks for it.
    #[error("{service} asks for an IPv4 address on {node}, and {address} is it")]
    Wanted {
        /// The address.
        address: Ipv4Addr,
        /// Whose it is.
        service: Name,
        /// Of which node it is.
        node: Name,
    },
}

impl Problem for ReleaseError {
    fn category(&self) -> Category {
        match self {
            Self::Nobodys(_) => Category::NotFound,
            Self::Wanted { .. } => Category::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Nobodys(_) => None,
            Self::Wanted { service, .. } => {
                Some(format!("take `ipv4` from its routes first: services/{service}.toml"))
            }
        }
    }
}

/// The tags that `vyr lock` has to ask a registry for, each with the services that name it.
pub fn unpinned<'a>(
    intent: &'a Intent,
    lock: &Lock,
    update: Update<'_>,
) -> Vec<(&'a Reference, Vec<&'a Name>)> {
    let mut all: BTreeMap<String, (&Reference, Vec<&Name>)> = BTreeMap::new();
    for manifest in tagged(intent) {
        let reference = &manifest.image.reference.0;
        let of = all.entry(reference.to_string()).or_insert((reference, Vec::new()));
        of.1.push(&manifest.service);
    }
    let again = |services: &[&Name]| match update {
        Update::None => false,
        Update::All => true,
        Update::Service(name) => services.contains(&name),
    };
    let wanted = |(reference, services): &(&Reference, Vec<&Name>)| {
        again(services) || lock.services.pin(reference).is_none()
    };
    all.into_values().filter(wanted).collect()
}

/// The manifests whose image is named by a tag.
fn tagged(intent: &Intent) -> impl Iterator<Item = &Manifest> {
    let manifests = intent.services.iter().map(|of| of.manifest());
    manifests.filter(|manifest| manifest.image.reference.0.digest().is_err())
}

impl Lock {
    /// Says what a tag is from now on.
    pub fn pin(&mut self, reference: &Reference, digest: Digest) {
        self.services.images.insert(reference.to_string(), BTreeSet::from([digest]));
    }

    /// Every IPv4 address that is allotted: node, address, service.
    pub fn allotments(&self) -> impl Iterator<Item = (&Name, Ipv4Addr, &Name)> {
        self.services.allotments()
    }

    /// Ends the allotment of an address: its line is taken away, and the next one who asks may get it.
    ///
    /// # Errors
    /// Nobody has it, or its owner still asks for it.
    pub fn release(
        &mut self,
        intent: &Intent,
        applied: Option<&Applied<ServicesPlan>>,
        address: Ipv4Addr,
    ) -> Result<Vec<(Name, Name)>, ReleaseError> {
        let of = self.services.allotments().filter(|(_, at, _)| *at == address);
        let of: Vec<(Name, Name)> =
            of.map(|(node, _, service)| (node.clone(), service.clone())).collect();
        if of.is_empty() {
            return Err(ReleaseError::Nobodys(address));
        }
        let wanted = wanted(intent, applied);
        for (node, service) in &of {
            if wanted.contains(&(node.clone(), service.clone())) {
                let (service, node) = (service.clone(), node.clone());
                return Err(ReleaseError::Wanted { address, service, node });
            }
        }
        of.iter().for_each(|(node, service)| self.services.take(node, address, service));
        Ok(of)
    }
}

/// Where a service is placed that asks for an IPv4 address there: node and service.
fn wanted(intent: &Intent, applied: Option<&Applied<ServicesPlan>>) -> BTreeSet<(Name, Name)> {
    let placement = placement(intent, applied.map(|applied| &applied.plan));
    let asks = |service: &Name, process: &Name| {
        intent.services.iter().any(|of| {
            let routes = of.manifest().routes.iter();
            of.manifest().service == *service
                && routes.filter(|route| route.ipv4).any(|route| route.process == *process)
        })
    };
    let placed = placement.placed.iter();
    placed
        .filter(|(slot, _)| asks(&slot.service, &slot.process))
        .map(|(slot, of)| (of.node.clone(), slot.service.clone()))
        .collect()
}

/// Whether a site has services, or had: what has none has no line of them.
fn has_services(intent: &Intent, applied: Option<&Applied<ServicesPlan>>) -> bool {
    !intent.services.is_empty() || applied.is_some()
}

/// Whether the applied plan has this address of this owner.
fn was_applied(
    applied: Option<&Applied<ServicesPlan>>,
    node: &Name,
    address: Ipv4Addr,
    owner: &Name,
) -> bool {
    let node = applied.and_then(|applied| applied.plan.node(node.as_str()));
    let of = node.and_then(|node| node.ipv4.iter().find(|of| of.address == address));
    of.is_some_and(|of| of.service.as_ref() == Some(owner))
}

/// The lock of `intent`'s services over `applied`, from the old one; nothing else in it changes. The
/// same arguments give the same lock. Tags that nobody pinned stay unpinned.
///
/// # Errors
/// A node has no address left for a service.
pub fn allocate_services(
    intent: &Intent,
    old: &Lock,
    applied: Option<&Applied<ServicesPlan>>,
) -> Result<Lock, Vec<Diagnostic>> {
    let mut lock = old.clone();
    let tags: BTreeSet<String> =
        tagged(intent).map(|manifest| manifest.image.reference.to_string()).collect();
    lock.services.images.retain(|reference, _| tags.contains(reference));
    mend(&mut lock, intent, applied);
    let mut faults = Vec::new();
    for (node, service) in wanted(intent, applied) {
        if lock.services.addresses(&node, &service).next().is_some() {
            continue;
        }
        match free(&lock, intent, &node, &service) {
            Some(address) => lock.services.give(node, address, service),
            None => {
                let what = format!("{node} has no public IPv4 address left for {service}");
                let fault = Diagnostic::error("lock-full", what)
                    .why("each belongs to one service, until `vyr lock --release ADDRESS`")
                    .hint(format!(
                        "add one to `ipv4_public` of {node}, or take `ipv4` from a route"
                    ));
                let (service, text) = (service.to_string(), "ipv4".to_owned());
                let place = intent.place(&Subject::InService { service, text });
                faults.push(Diagnostic { place, ..fault });
            }
        }
    }
    lock.services.next = match has_services(intent, applied) {
        true => BTreeSet::from([next(applied)]),
        false => BTreeSet::new(),
    };
    if faults.is_empty() { Ok(lock) } else { Err(faults) }
}

/// One owner for each address and one address for each owner on a node: what was applied stays, else
/// the smallest. Addresses that a node does not have any more are nobody's.
fn mend(lock: &mut Lock, intent: &Intent, applied: Option<&Applied<ServicesPlan>>) {
    let all: Vec<(Name, Ipv4Addr, Name)> = lock
        .services
        .allotments()
        .map(|(node, address, owner)| (node.clone(), address, owner.clone()))
        .collect();
    let mut keepers: Vec<&(Name, Ipv4Addr, Name)> = all.iter().collect();
    keepers.sort_by_key(|(node, address, owner)| !was_applied(applied, node, *address, owner));
    let (mut addresses, mut owners) = (BTreeSet::new(), BTreeSet::new());
    for (node, address, owner) in keepers {
        let there = intent.public_ipv4(node).contains(address);
        let first = there && !addresses.contains(&(node, address));
        if first && owners.insert((node, owner)) {
            addresses.insert((node, address));
        } else {
            lock.services.take(node, *address, owner);
        }
    }
}

/// A free address of a node: where the service's name falls, else the next one. So two branches seldom
/// give the same one away.
fn free(lock: &Lock, intent: &Intent, node: &Name, service: &Name) -> Option<Ipv4Addr> {
    let all: Vec<Ipv4Addr> = intent.public_ipv4(node).into_iter().collect();
    let taken: BTreeSet<Ipv4Addr> =
        lock.services.allotments().filter(|(on, _, _)| *on == node).map(|of| of.1).collect();
    let digest = Digest::of(format!("vyr-service-ipv4-v1\n{node}\n{service}\n").as_bytes());
    let start = usize::from_str_radix(&digest.hex()[..8], 16).unwrap_or_default();
    let places = (0..all.len()).map(|step| (start + step) % all.len());
    places.map(|place| all[place]).find(|address| !taken.contains(address))
}

/// Why this lock is not that of `intent`'s services over `applied`.
pub fn stale(
    intent: &Intent,
    lock: &Lock,
    applied: Option<&Applied<ServicesPlan>>,
) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut tell = |subject: Subject, fault: Diagnostic| {
        faults.push(Diagnostic { place: intent.place(&subject), ..fault.hint("run `vyr lock`") });
    };
    for (reference, services) in unpinned(intent, lock, Update::None) {
        let pins = lock.services.images.get(&reference.to_string()).map_or(0, BTreeSet::len);
        let fault = match pins {
            0 => Diagnostic::error("lock-stale", format!("{reference} is pinned to no digest yet"))
                .why("a tag is what somebody says it is; only a digest says what will run"),
            n => Diagnostic::error("lock-double", format!("{reference} is pinned to {n} digests"))
                .why("two branches asked for it and were merged"),
        };
        let service = services.first().map(ToString::to_string).unwrap_or_default();
        tell(Subject::InService { service, text: reference.to_string() }, fault);
    }
    let (mut owners, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (node, address, owner) in lock.services.allotments() {
        let subject = || Subject::Service { name: owner.to_string() };
        if let Some(other) = owners.insert((node, address), owner) {
            let what = format!("{address} of {node} belongs to {other} and {owner}");
            let fault = Diagnostic::error("lock-double", what);
            tell(subject(), fault.why("two branches gave it away and were merged"));
        }
        if let Some(other) = addresses.insert((node, owner), address) {
            let what = format!("{owner} has both {other} and {address} of {node}");
            let fault = Diagnostic::error("lock-double", what);
            tell(subject(), fault.why("two branches gave it an address each and were merged"));
        }
        if !intent.public_ipv4(node).contains(&address) {
            let what = format!("{address} belongs to {owner}, and {node} does not have it");
            tell(subject(), Diagnostic::error("lock-stale", what));
        }
    }
    for (node, service) in wanted(intent, applied) {
        if lock.services.addresses(&node, &service).next().is_none() {
            let what = format!("{service} has no IPv4 address on {node} yet");
            let text = "ipv4".to_owned();
            let subject = Subject::InService { service: service.to_string(), text };
            tell(subject, Diagnostic::error("lock-stale", what));
        }
    }
    let next = next(applied);
    let found = &lock.services.next;
    if has_services(intent, applied) && *found != BTreeSet::from([next.clone()]) {
        let what = match found.len() {
            0 => "the lock does not say which services plan comes next".to_owned(),
            1 => "the lock is for a services plan over another one".to_owned(),
            n => format!("the lock names {n} services plans to come"),
        };
        let over = next.parent.map_or("nothing".into(), |parent| parent.to_string());
        let fault = Diagnostic::error("lock-stale", what);
        tell(Subject::Site, fault.why(format!("what is applied now: {over}")));
    }
    faults
}
