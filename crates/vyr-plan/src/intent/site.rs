//! The form of `site.toml` and `clients.toml`. The doc comments are what an editor shows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use vyr_base::form::{At, Name};
use vyr_service::manifest::Size;
use vyr_service::place::NodeState;

use super::text::{Address, Host, Key, Owner, Prefix, Recipient, Service};
use crate::plan::Kind;

/// A team's network, as it should be. Addresses, routes, AllowedIPs and firewall rules are derived
/// from it and never written here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteFile {
    /// The form of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: At<u8>,
    /// The site's name. It goes into every plan.
    pub name: At<Name>,
    /// The site's own IPv6 prefix, a /48 in fd00::/8 drawn once (`vyr init`).
    pub prefix: At<Prefix>,
    /// Who may change the network: keys are in `operators.allowed_signers`.
    pub operators: At<Operators>,
    /// Who can open a recovery bundle.
    #[serde(default)]
    pub recovery: Option<Recovery>,
    /// The machines that clients connect to, by name.
    #[serde(default)]
    pub servers: BTreeMap<At<Name>, Server>,
    /// What clients connect to, by name: one trust domain each.
    #[serde(default)]
    pub interfaces: BTreeMap<At<Name>, Interface>,
    /// What a client may reach, by name.
    #[serde(default)]
    pub profiles: BTreeMap<At<Name>, Profile>,
    /// Which profiles an interface takes. An interface without a line takes none.
    #[serde(default)]
    pub constraints: BTreeMap<At<Name>, At<Vec<At<Name>>>>,
    /// How the nodes are connected.
    #[serde(default)]
    pub mesh: Option<At<Mesh>>,
    /// The machines of the mesh, by name. A node and a server of one name are one machine.
    #[serde(default)]
    pub nodes: BTreeMap<At<Name>, Node>,
}

/// Who may change the network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// How many operators sign a plan.
    #[schemars(range(min = 1, max = 64))]
    pub threshold: At<u8>,
    /// How many sign a services plan; absent: as many.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub threshold_services: Option<At<u8>>,
    /// Where operators work from. From each of these addresses the management addresses of all
    /// servers stay reachable.
    pub from: Vec<At<Prefix>>,
    /// Devices that operators work from as well: clients, by id.
    #[serde(default)]
    pub clients: Vec<At<Name>>,
}

impl Operators {
    /// How many operators sign a plan of this kind.
    pub fn threshold_of(&self, kind: Kind) -> u8 {
        let own = self.threshold_services.as_ref().filter(|_| kind == Kind::Services);
        **own.unwrap_or(&self.threshold)
    }
}

/// Who can open a recovery bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// age recipients or ssh-ed25519 public keys.
    pub recipients: Vec<At<Recipient>>,
}

/// A machine that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Addresses at which operators reach it, by SSH.
    pub management: At<Vec<At<Address>>>,
    /// The port of SSH there.
    #[serde(default = "default_management_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub management_port: u16,
    /// What it does. An interface names the role of the servers that carry it.
    pub roles: Vec<At<Name>>,
    /// Bytes of the largest packet its uplink carries.
    #[serde(default = "default_uplink_mtu")]
    #[schemars(range(min = 1360, max = 9216))]
    pub uplink_mtu: At<u16>,
}

fn default_management_port() -> u16 {
    22
}

fn default_uplink_mtu() -> At<u16> {
    At::nowhere(1500)
}

/// What clients connect to: one WireGuard interface on each server of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The role whose servers carry it.
    pub role: At<Name>,
    /// The local networks behind it.
    #[serde(default)]
    pub lan: Vec<At<Prefix>>,
    /// Name servers for its clients, in `lan` or public.
    #[serde(default)]
    pub dns: Vec<At<Address>>,
    /// Whether clients may reach the internet through it.
    pub internet: At<bool>,
    /// Whether clients get IPv6 addresses.
    pub ipv6: At<bool>,
    /// Whether it is an experiment: it reaches nothing in production, and nothing reaches it.
    #[serde(default)]
    pub experimental: bool,
    /// Its end on each server of the role, by server.
    pub at: BTreeMap<At<Name>, End>,
}

/// One server's end of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How clients find it: a host name or an address.
    pub endpoint: At<Host>,
    /// Its UDP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: At<u16>,
    /// Its WireGuard public key. The private one never leaves the server.
    pub public_key: At<Key>,
    /// The key that takes over, at a port of its own: a second link with the same clients
    /// (`vyr server rotate`).
    #[serde(default)]
    pub staged: Option<At<StagedEnd>>,
    /// Keys that this end had. None of them comes back.
    #[serde(default)]
    pub old_keys: Vec<At<OldKey>>,
    /// Where its clients' addresses come from: at most one prefix of each family, of this server
    /// alone. IPv6 is a /64 of the site's prefix.
    pub vpn: At<Vec<At<Prefix>>>,
}

/// The key that takes over at a server's end, and its port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StagedEnd {
    /// Its WireGuard public key. The private one never leaves the server.
    pub public_key: At<Key>,
    /// Its UDP port: another one than the first's.
    #[schemars(range(min = 1, max = 65535))]
    pub port: At<u16>,
}

/// A key that a server's end had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OldKey {
    /// The public key.
    pub public_key: At<Key>,
    /// `retired`, or `revoked`: refused for good, wherever it turns up.
    pub state: At<State>,
}

/// What a client may reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The local networks of its interface.
    pub lan: bool,
    /// The internet, with all of the client's traffic through the server.
    pub internet: bool,
}

/// How the nodes are connected: each with each, IPv6 only, apart from all clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// The UDP port of every node's mesh interface.
    #[schemars(range(min = 1, max = 65535))]
    pub port: At<u16>,
    /// What nodes may reach on each other.
    pub allow: Vec<At<Service>>,
}

/// A machine of the mesh, one that runs services, or both.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// How other nodes find it; absent behind an address translation.
    #[serde(default)]
    pub endpoint: Option<At<Host>>,
    /// Its WireGuard public key in the mesh; absent only where there is no mesh.
    #[serde(default)]
    pub public_key: Option<At<Key>>,
    /// The key that takes over: other nodes shake hands with it, no more, until it is used.
    #[serde(default)]
    pub staged_key: Option<At<Key>>,
    /// Bytes of the largest packet its uplink carries.
    #[serde(default = "default_uplink_mtu")]
    #[schemars(range(min = 1360, max = 9216))]
    pub uplink_mtu: At<u16>,
    /// Memory that its instances may have together, with 64Mi beside each. Absent: it runs no services.
    #[serde(default)]
    pub memory: Option<At<Size>>,
    /// Its processors. Absent: it runs no services.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub cpu: Option<At<u16>>,
    /// Whether it takes instances.
    #[serde(default)]
    pub services: Activity,
    /// The age recipient for which the secrets of its services are encrypted: `vyr node key --secrets`.
    #[serde(default)]
    pub secrets: Option<At<Recipient>>,
    /// Public IPv4 addresses of its own, for services that ask for one.
    #[serde(default)]
    pub ipv4_public: Vec<At<Address>>,
}

/// Whether a node takes instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It does.
    #[default]
    Active,
    /// Those it has go elsewhere with the next plan.
    Draining,
    /// It runs no services.
    Disabled,
}

impl From<Activity> for NodeState {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Active => Self::Active,
            Activity::Draining => Self::Draining,
            Activity::Disabled => Self::Disabled,
        }
    }
}

/// The devices of people. One client is one line, so that two branches that add one each merge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientsFile {
    /// The form of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: At<u8>,
    /// A line for each key of each device.
    pub clients: Vec<At<Client>>,
}

/// A key of a device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The device. Its addresses come from this name, which never changes.
    pub id: At<Name>,
    /// Who holds it; for people, and in no plan.
    pub owner: At<Owner>,
    /// What it connects to.
    pub interface: At<Name>,
    /// What it may reach.
    pub profile: At<Name>,
    /// Its WireGuard public key. The private one stays where it was made.
    pub public_key: At<Key>,
    /// Where the key is in its life.
    pub state: At<State>,
}

/// Where a client's key is in its life. One device has at most one active and one staged key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In use.
    Active,
    /// Known to the server, without addresses yet: it may shake hands, no more.
    Staged,
    /// Not in use any more; its addresses stay its own.
    Retired,
    /// Given away or lost: refused for good.
    Revoked,
}

impl State {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Staged => "staged",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}
