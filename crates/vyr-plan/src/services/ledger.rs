//! The lines of `vyr.lock` that services have.
//!
//! ```text
//! image registry.example/shop/web:1.4 sha256:...   what a tag meant when it was asked for
//! plan services 7 sha256:...                       epoch and parent of the plan to compile
//! service-ipv4 alpha 198.51.100.7 web              a public address of a node, and whose it is
//! ```
//!
//! A pin lives as long as a manifest names its tag. An IPv4 address is kept also by a service that
//! does not ask for one any more, until `vyr lock --release ADDRESS`: names out in the world may
//! still point at it. Lines merge like the rest of the lock; two digests of one tag or two owners of
//! one address are found by [`super::stale`] and mended by [`super::allocate_services`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vyr_base::Digest;
use vyr_service::Reference;

use crate::intent::Name;
use crate::lock::Next;

/// What was allocated for services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    /// What a tag is, by the reference as it is written; more than one after a merge.
    pub(super) images: BTreeMap<String, BTreeSet<Digest>>,
    /// Who has a public address, by node; more than one after a merge.
    pub(super) public: BTreeMap<Name, BTreeMap<Ipv4Addr, BTreeSet<Name>>>,
    /// More than one after a merge.
    pub(crate) next: BTreeSet<Next>,
}

impl Ledger {
    /// Takes a line in, if it is one of services.
    pub(crate) fn line(&mut self, words: &[&str]) -> Option<()> {
        match *words {
            ["image", text, digest] => {
                let reference: Reference = text.parse().ok()?;
                let one_spelling = reference.to_string() == text && reference.digest().is_err();
                let digest = digest.parse().ok().filter(|_| one_spelling)?;
                self.images.entry(text.to_owned()).or_default().insert(digest);
            }
            ["service-ipv4", node, address, service] => {
                let found: Ipv4Addr = address.parse().ok()?;
                self.give(node.parse().ok()?, found, service.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// Its lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (reference, digests) in &self.images {
            lines.extend(digests.iter().map(|digest| format!("image {reference} {digest}")));
        }
        for (node, addresses) in &self.public {
            for (address, owners) in addresses {
                let line = |owner: &Name| format!("service-ipv4 {node} {address} {owner}");
                lines.extend(owners.iter().map(line));
            }
        }
        lines
    }

    pub(super) fn give(&mut self, node: Name, address: Ipv4Addr, service: Name) {
        self.public.entry(node).or_default().entry(address).or_default().insert(service);
    }

    pub(super) fn take(&mut self, node: &Name, address: Ipv4Addr, service: &Name) {
        if let Some(addresses) = self.public.get_mut(node)
            && let Some(owners) = addresses.get_mut(&address)
        {
            owners.remove(service);
            if owners.is_empty() {
                addresses.remove(&address);
            }
            if addresses.is_empty() {
                self.public.remove(node);
            }
        }
    }

    /// What a tag is, if the lock says one thing.
    pub(super) fn pin(&self, reference: &Reference) -> Option<Digest> {
        let found = self.images.get(&reference.to_string())?;
        found.first().copied().filter(|_| found.len() == 1)
    }

    /// Every allotment: node, address, owner.
    pub(super) fn allotments(&self) -> impl Iterator<Item = (&Name, Ipv4Addr, &Name)> {
        self.public.iter().flat_map(|(node, addresses)| {
            let of = addresses.iter();
            of.flat_map(move |(address, owners)| {
                owners.iter().map(move |owner| (node, *address, owner))
            })
        })
    }

    /// The addresses that a service has on a node.
    pub(super) fn addresses(&self, node: &Name, service: &Name) -> impl Iterator<Item = Ipv4Addr> {
        let of = self.public.get(node).into_iter().flatten();
        of.filter(|(_, owners)| owners.contains(service)).map(|(address, _)| *address)
    }
}
