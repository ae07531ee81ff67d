//! Placement: which slot goes to which node, and why.
//!
//! Invariants, each a property in `choose`, with a placement beside it that breaks it:
//! 1. The result depends on what the nodes and slots are, not on the order in which they are given.
//! 2. No node gets more memory than it has. Memory is hard: limit and overhead of each instance.
//! 3. Only active nodes get a slot.
//! 4. A slot stays where it was while that node can hold it.
//!
//! Deliberately elsewhere: what a node has (`site.toml`, read by `vyr-plan`), volumes.

mod choose;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vyr_base::form::{Name, TextError};
use vyr_base::format_bytes;

pub use choose::place;

/// Bytes that an instance may cost a node beyond its own memory: the VMM, its queues, its page tables, and
/// what an emulated guest's instructions were translated to. Its VMM is capped there.
pub const OVERHEAD_BYTES: u64 = 160 << 20;
/// How often one processor is given away while there is another node. Processors are shared by
/// weight, so this is how thin a share may get when everybody wants it at once; it refuses nothing.
pub const CPU_OVERCOMMIT: u64 = 4;

/// A place for one instance: `web/http/0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotName {
    /// The service.
    pub service: Name,
    /// One of its processes.
    pub process: Name,
    /// From 0 to one less than its scale.
    pub ordinal: u8,
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.process, self.ordinal)
    }
}

impl FromStr for SlotName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let fault = || TextError::mend("it is no slot", "write SERVICE/PROCESS/NUMBER: web/http/0");
        let mut parts = text.split('/');
        let (Some(service), Some(process), Some(ordinal), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fault());
        };
        let number: u8 = ordinal.parse().map_err(|_| fault())?;
        match number.to_string() == ordinal {
            true => {
                Ok(Self { service: service.parse()?, process: process.parse()?, ordinal: number })
            }
            false => Err(fault()),
        }
    }
}

impl Serialize for SlotName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a node takes instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Active,
    /// Those it has are to go elsewhere.
    Draining,
    /// It runs no services.
    Disabled,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        })
    }
}

/// What a node has for instances. Of two with one name the smaller one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRoom {
    /// Its name.
    pub node: Name,
    /// Whether it takes any.
    pub state: NodeState,
    /// Bytes of memory for instances, overhead included.
    pub memory_bytes: u64,
    /// Thousandths of its processors.
    pub cpu_milli: u64,
}

/// A slot that wants a node. Of two with one name the larger one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotDemand {
    /// Its name.
    pub slot: SlotName,
    /// Bytes of the guest's memory, without overhead.
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Where the plan before this one has it.
    pub previous: Option<Name>,
}

/// Why a slot is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Choice {
    /// It was there, and still fits.
    Kept,
    /// No other node can hold it.
    Only,
    /// The other nodes have given each of their processors away four times already.
    Processors,
    /// The node has the fewest instances of the service.
    Spread,
    /// As many instances of the service as another one, and the larger part of its processors free.
    Cpu,
    /// All equal: the smallest name.
    Name,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "it was there, and still fits",
            Self::Only => "no other node can hold it",
            Self::Processors => "the others have given their processors away four times already",
            Self::Spread => "it has the fewest instances of this service",
            Self::Cpu => "of those with the fewest instances of this service it has most of its processors free",
            Self::Name => "it is equal to others, and its name is the first",
        })
    }
}

/// Why a node does not get a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum NoRoom {
    /// It is not active.
    NodeNotActive {
        /// What it is.
        state: NodeState,
    },
    /// Its memory is given away.
    NoCapacityMemory {
        /// Bytes that the instance takes, overhead included.
        wanted_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
}

impl NoRoom {
    /// As interfaces write it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NodeNotActive { .. } => "node_not_active",
            Self::NoCapacityMemory { .. } => "no_capacity_memory",
        }
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeNotActive { state } => write!(f, "it is {state}"),
            Self::NoCapacityMemory { wanted_bytes, free_bytes } => write!(
                f,
                "it has {} of memory free, and {} are wanted",
                format_bytes(*free_bytes),
                format_bytes(*wanted_bytes)
            ),
        }
    }
}

/// Why a slot has no node at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unplaced {
    /// The site has no active node.
    NoNodesActive,
    /// No active node has enough memory.
    NoCapacityMemory,
}

impl Unplaced {
    /// As interfaces write it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoNodesActive => "no_nodes_active",
            Self::NoCapacityMemory => "no_capacity_memory",
        }
    }
}

/// Where a slot goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: Name,
    /// Why this one.
    pub why: Choice,
    /// Why not the others, as far as they could not; by name.
    pub others: BTreeMap<Name, NoRoom>,
}

/// A slot without a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, in one word.
    pub why: Unplaced,
    /// Why each node cannot.
    pub nodes: BTreeMap<Name, NoRoom>,
}

/// Where everything goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Slots with their nodes.
    pub placed: BTreeMap<SlotName, Placed>,
    /// Slots without one.
    pub refused: BTreeMap<SlotName, Refused>,
}

/// What one instance takes of a node's memory, in bytes.
pub fn taken_bytes(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_add(OVERHEAD_BYTES)
}
