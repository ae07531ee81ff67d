//! WireGuard in the kernel.

use crate::backend::{Backend, Keys, Observation, Probe};
use crate::device::Devices;
use crate::diff::Op;
use crate::error::NetError;
use crate::firewall::Nft;
use crate::host::{self, Links, NoDevices, ability};
use crate::netlink::route::Route;
use crate::netlink::wireguard::Wireguard;

/// A host whose kernel has WireGuard: links are made and removed here.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    nft: Nft,
}

impl Kernel {
    /// With this nft.
    pub fn new(nft: Nft) -> Self {
        Self { nft }
    }
}

/// Links of the kind `wireguard`.
struct Made;

impl Links for Made {
    fn add(&self, route: &mut Route, link: &str) -> Result<(), NetError> {
        route.add_link(link, "wireguard")
    }

    fn del(&self, route: &mut Route, link: &str) -> Result<(), NetError> {
        let found = route.link(link)?;
        match found.and_then(|found| found.kind) {
            Some(kind) if kind == "wireguard" => route.del_link(link),
            _ => Err(NetError::Refused {
                op: format!("{link}: remove it"),
                why: "it is no WireGuard link: whoever made it removes it",
            }),
        }
    }

    fn refuses(&self, _op: &Op) -> Option<&'static str> {
        None
    }
}

impl Backend for Kernel {
    fn probe(&self) -> Probe {
        Probe {
            backend: "kernel",
            wireguard: ability(Wireguard::open(), |_| "in the kernel".into()),
            firewall: ability(self.nft.version(), |version| version),
            connections: host::connections(),
        }
    }

    fn read(&mut self) -> Result<Observation, NetError> {
        match Wireguard::open() {
            Ok(mut devices) => host::read(&mut devices, &self.nft),
            // Without it there are no such links, and the rest can still be read.
            Err(NetError::Unavailable { .. }) => host::read(&mut NoDevices, &self.nft),
            Err(e) => Err(e),
        }
    }

    fn read_peers(&mut self) -> Result<Observation, NetError> {
        match Wireguard::open() {
            Ok(mut devices) => host::read_peers(&mut devices),
            Err(NetError::Unavailable { .. }) => host::read_peers(&mut NoDevices),
            Err(e) => Err(e),
        }
    }

    fn apply(&mut self, ops: &[Op], keys: &dyn Keys) -> Result<(), NetError> {
        let mut open = || Ok(Box::new(Wireguard::open()?) as Box<dyn Devices>);
        // Without WireGuard no link can be made; a host is not changed only to learn that.
        if ops.iter().any(|op| op.link().is_some()) {
            open()?;
        }
        host::apply(&Made, &mut open, &self.nft, ops, keys)
    }
}
