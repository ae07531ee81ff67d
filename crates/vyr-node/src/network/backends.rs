//! Which WireGuard a host has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vyr_net::words::{BackendWish, WireGuardIn};
use vyr_net::{Ability, Backend, Kernel, Nft, Userspace};

use super::NetworkError;

/// Where the data plane of WireGuard runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// In the kernel.
    Kernel,
    /// In a process for each link.
    Userspace,
}

/// A backend, and where its sockets lie: what the timer needs to choose the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendChoice {
    /// Which.
    pub kind: BackendKind,
    /// The directory of UAPI sockets, if it is not the usual one.
    pub sockets: Option<PathBuf>,
}

impl BackendChoice {
    /// What was asked for; if nothing was, the kernel's if it has one.
    pub fn choose(kind: Option<BackendKind>, sockets: Option<PathBuf>) -> Self {
        let kind = kind.unwrap_or_else(|| match Kernel::default().probe().wireguard {
            Ability::Ready(_) => BackendKind::Kernel,
            Ability::Missing(_) => BackendKind::Userspace,
        });
        Self { kind, sockets }
    }

    pub(super) fn open(&self) -> Box<dyn Backend> {
        match (self.kind, &self.sockets) {
            (BackendKind::Kernel, _) => Box::new(Kernel::default()),
            (BackendKind::Userspace, None) => Box::new(Userspace::default()),
            (BackendKind::Userspace, Some(directory)) => {
                Box::new(Userspace::new(directory, Nft::default()))
            }
        }
    }
}

impl From<BackendWish> for BackendChoice {
    fn from(wish: BackendWish) -> Self {
        let kind = wish.kind.map(|kind| match kind {
            WireGuardIn::Kernel => BackendKind::Kernel,
            WireGuardIn::Userspace => BackendKind::Userspace,
        });
        BackendChoice::choose(kind, wish.sockets)
    }
}

/// Fails unless it can do everything.
pub(super) fn able(backend: &dyn Backend, links: bool) -> Result<(), NetworkError> {
    let probe = backend.probe();
    let wireguard = links.then_some(&probe.wireguard);
    for (what, ability) in [("WireGuard", wireguard), ("nftables", Some(&probe.firewall))] {
        if let Some(Ability::Missing(why)) = ability {
            return Err(NetworkError::Unable(format!("{what} ({}): {why}", probe.backend)));
        }
    }
    Ok(())
}
