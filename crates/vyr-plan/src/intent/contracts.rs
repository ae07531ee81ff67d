//! The form of `contracts/*.toml`: what must be reachable, what must not, what must not change.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use vyr_base::form::{At, Name, Text, TextError};
use vyr_base::text_as_string;

use super::text::{Address, Prefix, Service};

/// Contracts of a site. They are run on every compile.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContractsFile {
    /// The form of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: At<u8>,
    /// The contracts.
    pub contracts: Vec<At<Contract>>,
}

/// One contract, about all of the packets from `from` to `to`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// What a report calls it.
    pub name: At<Name>,
    /// Sources.
    pub from: At<Vec<At<Place>>>,
    /// Destinations.
    pub to: At<Vec<At<Place>>>,
    /// Protocols and destination ports; absent: every one.
    #[serde(default = "any_port")]
    pub port: At<Vec<At<Service>>>,
    /// What must hold for every one of these packets.
    pub expect: Expect,
}

fn any_port() -> At<Vec<At<Service>>> {
    At::nowhere(vec![At::nowhere(Service::Any)])
}

/// What a contract demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Every packet gets there.
    Reach,
    /// No packet gets there.
    NoReach,
    /// The same packets get there as with the plan that is applied now.
    Equal,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reach => "reach",
            Self::NoReach => "no-reach",
            Self::Equal => "equal",
        })
    }
}

/// A set of addresses by what they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A device's own addresses.
    Client(Name),
    /// Those of all clients of an interface.
    Interface(Name),
    /// Those of all clients with a profile, on every interface.
    Profile(Name),
    /// The local networks behind an interface.
    Lan(Name),
    /// A server's management addresses.
    Server(Name),
    /// A node's address in the mesh.
    Node(Name),
    /// All of the mesh.
    Mesh,
    /// Where operators work from.
    Operators,
    /// What is neither private nor special.
    Internet,
    /// These addresses.
    Prefix(Prefix),
}

impl Text for Place {
    const FORMAT: &'static str = "vyr-place";
    const WHAT: &'static str = "client:ID, interface:NAME, profile:NAME, lan:INTERFACE, \
                                server:NAME, node:NAME, mesh, operators, internet, an address or \
                                a prefix";
    const EXAMPLE: &'static str = "192.0.2.1";
}

impl FromStr for Place {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "mesh" => return Ok(Self::Mesh),
            "operators" => return Ok(Self::Operators),
            "internet" => return Ok(Self::Internet),
            _ => (),
        }
        let named: Option<fn(Name) -> Self> = match text.split_once(':').map(|(kind, _)| kind) {
            Some("client") => Some(Self::Client),
            Some("interface") => Some(Self::Interface),
            Some("profile") => Some(Self::Profile),
            Some("lan") => Some(Self::Lan),
            Some("server") => Some(Self::Server),
            Some("node") => Some(Self::Node),
            _ => None,
        };
        if let (Some(make), Some((_, name))) = (named, text.split_once(':')) {
            return Ok(make(name.parse()?));
        }
        if let Ok(address) = text.parse::<Address>() {
            return Ok(Self::Prefix(Prefix(address.0.into())));
        }
        match text.parse::<Prefix>() {
            Ok(prefix) => Ok(Self::Prefix(prefix)),
            Err(fault) if text.contains('/') => Err(fault),
            Err(_) => {
                let hint = Some(format!("write {}", Self::WHAT));
                Err(TextError { why: "it is no place".into(), hint })
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(name) => write!(f, "client:{name}"),
            Self::Interface(name) => write!(f, "interface:{name}"),
            Self::Profile(name) => write!(f, "profile:{name}"),
            Self::Lan(name) => write!(f, "lan:{name}"),
            Self::Server(name) => write!(f, "server:{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Mesh => f.write_str("mesh"),
            Self::Operators => f.write_str("operators"),
            Self::Internet => f.write_str("internet"),
            Self::Prefix(prefix) => f.write_str(&crate::space::short(&prefix.0)),
        }
    }
}

text_as_string!(Place);
