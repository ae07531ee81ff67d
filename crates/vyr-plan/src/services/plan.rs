//! The services plan: which releases there are, which slot is on which node, and how clients reach
//! them, complete, in one canonical JSON document named by its digest.
//!
//! Invariants:
//! 1. The same intent, lock, parent and network give the same bytes, in any order and on any machine.
//! 2. There is no secret in it, only the digest of the encrypted file: another secret is another plan.
//! 3. A reader takes only the bytes that a writer makes (RFC 8785, closed schema, sorted lists).
//!
//! A node needs nothing else but the images and its own key for the secrets: the manifests are whole
//! in it. Addresses of instances are not: an instance gets one inside its node's prefix as it is made.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use vyr_base::hostname::Hostname;
use vyr_base::{Digest, canonical};
use vyr_service::manifest::Manifest;
use vyr_service::place::{NodeState, SlotName};
use vyr_service::release::ReleaseId;

use crate::intent::Name;
use crate::plan::{Document, Kind, PlanError, TrustRoot, read_as};

/// The form of this document.
pub const SERVICES_VERSION: u8 = 1;
/// Bytes of a services plan: a thousand services with manifests of eight thousand bytes each.
pub const SERVICES_BYTES_MAX: usize = 16 << 20;

/// Nodes, services and slots of a plan: what is proved is proved in seconds, whoever wrote it.
pub const NODES_MAX: usize = 1000;
/// See [`NODES_MAX`].
pub const SERVICES_MAX: usize = 1000;
/// See [`NODES_MAX`].
pub const SLOTS_MAX: usize = 10_000;

/// What the services of a site become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicesPlan {
    /// The form of this document: [`SERVICES_VERSION`].
    pub version: u8,
    /// Which plan: [`Kind::Services`].
    pub kind: Kind,
    /// The site's name.
    pub site: Name,
    /// One more than the parent's; a node refuses to go back.
    pub epoch: u64,
    /// The services plan this one replaces; null: none.
    pub parent: Option<Digest>,
    /// The network plan that must be in force; null: the site has none.
    pub network: Option<Digest>,
    /// Who signs the services plan after this one. `from` is empty: the network plan has it.
    pub trust: TrustRoot,
    /// The site's own prefix.
    pub prefix: IpNet,
    /// The nodes that run services.
    pub nodes: Vec<ServiceNode>,
    /// The services.
    pub services: Vec<ServiceEntry>,
    /// Which slot is where.
    pub placements: Vec<Placed>,
}

/// A node that runs services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceNode {
    /// Its name.
    pub name: Name,
    /// Whether it takes slots.
    pub state: NodeState,
    /// Bytes that its instances and what they cost beside their own may have together.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// The /64 that its instances' addresses come from.
    pub prefix: Ipv6Net,
    /// Its public IPv4 addresses, and to whom each is allotted.
    pub ipv4: Vec<PublicAddress>,
    /// How clients reach what is placed here.
    pub ingress: Vec<Listener>,
}

/// A public IPv4 address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The service that has it; null: nobody.
    pub service: Option<Name>,
}

/// What a listener makes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reads the name that a TLS client asks for, and carries the bytes on as they are.
    TlsPassthrough,
    /// Carries the bytes on.
    TcpRaw,
}

/// One port of one address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `::` is every IPv6 address and no IPv4 one.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// What it makes of a connection.
    pub mode: Mode,
    /// Where to; of a raw one exactly one.
    pub routes: Vec<IngressRoute>,
}

/// A way to a port of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressRoute {
    /// The name that a TLS client asks for; null: raw, or by address alone.
    pub hostname: Option<Hostname>,
    /// The service.
    pub service: Name,
    /// Its process.
    pub process: Name,
    /// The port of the instances of this process on the same node.
    pub internal: u16,
    /// Whether it takes TLS clients that name no host, or an unknown one.
    pub default: bool,
    /// Whether each connection begins with a PROXY v2 header.
    pub proxy_protocol: bool,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// Image and manifest together.
    pub release: ReleaseId,
    /// The image's digest: of its manifest or index in the registry.
    pub image: Digest,
    /// What it is, its name among it, with every default filled in.
    pub manifest: Manifest,
    /// The digest of its encrypted secrets; null: it has none.
    pub secrets: Option<Digest>,
}

/// A slot and its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// `SERVICE/PROCESS/ORDINAL`.
    pub slot: SlotName,
    /// The node.
    pub node: Name,
}

impl ServiceEntry {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.manifest.service
    }
}

impl ServicesPlan {
    /// Its bytes.
    ///
    /// # Errors
    /// None for a plan that was compiled or read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        canonical::to_vec(self).map_err(PlanError::Form)
    }

    /// Its name: the digest of its bytes.
    ///
    /// # Errors
    /// As [`ServicesPlan::to_bytes`].
    pub fn digest(&self) -> Result<Digest, PlanError> {
        Document::digest(self)
    }

    /// Reads a services plan in its one spelling.
    ///
    /// # Errors
    /// Whatever is not what [`ServicesPlan::to_bytes`] writes. That invariants hold is not asked
    /// here ([`super::prove_services`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        if bytes.len() > SERVICES_BYTES_MAX {
            return Err(PlanError::TooLarge(bytes.len()));
        }
        let plan: Self = read_as(bytes, Kind::Services)?;
        for (what, count, most) in [
            ("nodes", plan.nodes.len(), NODES_MAX),
            ("services", plan.services.len(), SERVICES_MAX),
            ("slots", plan.placements.len(), SLOTS_MAX),
        ] {
            if count > most {
                return Err(PlanError::TooMany { what, most });
            }
        }
        if plan.kind != Kind::Services {
            return Err(PlanError::Kind { wanted: Kind::Services, found: plan.kind });
        }
        match plan.version {
            SERVICES_VERSION if !plan.is_in_order() => {
                Err(PlanError::Form(canonical::CanonicalError::NotCanonical))
            }
            SERVICES_VERSION => Ok(plan),
            other => Err(PlanError::Version(other)),
        }
    }

    /// Whether lists are as the compiler makes them: sorted by name, and no name twice.
    fn is_in_order(&self) -> bool {
        fn rising<'a, T, K: PartialOrd + 'a>(items: &'a [T], key: impl Fn(&'a T) -> K) -> bool {
            items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
        }
        let listener = |of: &Listener| rising(&of.routes, |route| route);
        let node = |node: &ServiceNode| {
            rising(&node.ipv4, |of| of.address)
                && rising(&node.ingress, |of| (of.address, of.port, of.mode))
                && node.ingress.iter().all(listener)
        };
        rising(&self.nodes, |node| &node.name)
            && self.nodes.iter().all(node)
            && rising(&self.services, ServiceEntry::name)
            && rising(&self.placements, |of| &of.slot)
            && self.trust.from.is_empty()
    }

    /// A service.
    pub fn service(&self, name: &str) -> Option<&ServiceEntry> {
        let found = self.services.binary_search_by(|of| of.name().as_str().cmp(name));
        found.ok().map(|at| &self.services[at])
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&ServiceNode> {
        let found = self.nodes.binary_search_by(|of| of.name.as_str().cmp(name));
        found.ok().map(|at| &self.nodes[at])
    }

    /// The slots of a node.
    pub fn slots_on<'a>(&'a self, node: &'a Name) -> impl Iterator<Item = &'a SlotName> {
        self.placements.iter().filter(move |of| of.node == *node).map(|of| &of.slot)
    }
}

impl Document for ServicesPlan {
    const KIND: Kind = Kind::Services;

    fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        Self::parse(bytes)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        self.to_bytes()
    }

    fn site(&self) -> &Name {
        &self.site
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn parent(&self) -> Option<Digest> {
        self.parent
    }

    fn trust(&self) -> &TrustRoot {
        &self.trust
    }
}
