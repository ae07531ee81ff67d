//! WireGuard in a process of its own.

use std::path::{Path, PathBuf};

use crate::backend::{Ability, Backend, Keys, Observation, Probe};
use crate::device::Devices;
use crate::diff::Op;
use crate::error::NetError;
use crate::firewall::Nft;
use crate::host::{self, Links, ability};
use crate::netlink::route::Route;
use crate::uapi::Sockets;

/// Where data planes put their sockets.
const DIRECTORY: &str = "/var/run/wireguard";

/// A host whose WireGuard is a process for each link, with a socket `LINK.sock` in one directory.
/// Links come and go with their processes: this makes and removes none, and says so before it
/// changes anything. Addresses, routes, MTU and the firewall are the kernel's, as ever.
///
/// **What is not safe to change while packets flow depends on the data plane:**
///
/// | data plane | what was measured |
/// | --- | --- |
/// | wireguard-go | steps of ours lose nothing; peers that are not named are left alone |
/// | gotatun 0.10 | a set that changes nothing loses seconds; it refuses another private key; a moved allowed IP is shown at both peers. Replace the whole interface |
/// | boringtun 0.7 | changing a peer that exists ends the process. Never for a link that is in use |
///
/// A data plane tells its private key to who may open its socket; keep the directory closed (0700).
#[derive(Debug, Clone)]
pub struct Userspace {
    directory: PathBuf,
    nft: Nft,
}

impl Default for Userspace {
    fn default() -> Self {
        Self::new(DIRECTORY, Nft::default())
    }
}

impl Userspace {
    /// Sockets in another directory, and this nft.
    pub fn new(directory: impl AsRef<Path>, nft: Nft) -> Self {
        Self { directory: directory.as_ref().into(), nft }
    }
}

/// Links of other processes.
struct Others;

impl Links for Others {
    fn add(&self, _route: &mut Route, link: &str) -> Result<(), NetError> {
        Err(NetError::Refused { op: format!("{link}: make it"), why: STARTS })
    }

    fn del(&self, _route: &mut Route, link: &str) -> Result<(), NetError> {
        Err(NetError::Refused { op: format!("{link}: remove it"), why: STARTS })
    }

    fn refuses(&self, op: &Op) -> Option<&'static str> {
        matches!(op, Op::AddLink { .. } | Op::DelLink { .. }).then_some(STARTS)
    }
}

const STARTS: &str = "a link in userspace is there while its process is: start or end wireguard-go";

impl Backend for Userspace {
    fn probe(&self) -> Probe {
        let wireguard = match std::fs::read_dir(&self.directory) {
            Ok(_) => Ability::Ready(format!("by sockets in {}", self.directory.display())),
            Err(e) => {
                let directory = self.directory.display();
                Ability::Missing(format!("{directory}, where data planes have sockets: {e}"))
            }
        };
        let firewall = ability(self.nft.version(), |version| version);
        Probe { backend: "userspace", wireguard, firewall, connections: host::connections() }
    }

    fn read(&mut self) -> Result<Observation, NetError> {
        host::read(&mut Sockets::new(&self.directory), &self.nft)
    }

    fn read_peers(&mut self) -> Result<Observation, NetError> {
        host::read_peers(&mut Sockets::new(&self.directory))
    }

    fn apply(&mut self, ops: &[Op], keys: &dyn Keys) -> Result<(), NetError> {
        let mut open = || Ok(Box::new(Sockets::new(&self.directory)) as Box<dyn Devices>);
        host::apply(&Others, &mut open, &self.nft, ops, keys)
    }
}
