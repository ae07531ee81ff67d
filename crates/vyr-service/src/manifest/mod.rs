//! Manifests: what a service is, as a person declares it and as a plan holds it.
//!
//! ```text
//! services/web.toml --ManifestFile--> normalise --> Manifest --faults--> nothing, or every fault
//!         ^                                          |    |
//!         `------------------ write -----------------'    canonical JSON in the services plan
//! ```
//!
//! Invariants:
//! 1. The rules look at the normalised form alone, so a manifest from a plan is judged as one from a
//!    file is: [`Manifest::faults`] has no other way in.
//! 2. In the normalised form every default is written out, and what stands for all processes stands
//!    in each.
//! 3. What [`write`] writes is read as what it was written from.
//!
//! Deliberately elsewhere: what people try and Vyr does not do (`refuse`), hostnames and ports that
//! two services want (`vyr-plan`).

mod file;
mod normal;
mod read;
mod rules;
mod text;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vyr_base::form::Name;
use vyr_base::hostname::Hostname;
use vyr_base::{Category, Digest, Problem, canonical};

use crate::place::SlotName;

pub use file::{
    EnvTable, HealthKind, HealthTable, ImageTable, ManifestFile, PortTable, ProcessTable, Protocol,
    PullPolicy, ResourcesTable, RestartPolicy, RestartTable, RouteTable, ScaleTable, SecretsTable,
    StopSignal,
};
pub use read::{Read, read};
pub use rules::{Fault, Spot};
pub use text::{
    CPU_MILLI_MAX, Cpu, GuestPath, ImageRef, Line, SecretName, Size, UrlPath, User, Variable,
    WORD_BYTES_MAX, Word,
};
pub use write::{WriteError, write};

/// The form of a manifest.
pub const MANIFEST_VERSION: u8 = 1;
/// Bytes of memory that an instance has at least. The guest kernel with its modules and the init
/// take 40 MiB; 96 MiB boots, 64 MiB panics, and 128 MiB leaves 88 to the workload (measured).
pub const MEMORY_BYTES_MIN: u64 = 128 << 20;
/// Bytes of an instance's disk at least: what an ext4 file system with a journal is worth having for.
pub const DISK_BYTES_MIN: u64 = 1 << 30;
/// Bytes of a canonical manifest.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// What a service is: every default written out, everything in its one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this document: [`MANIFEST_VERSION`].
    pub version: u8,
    /// The service's name.
    pub service: Name,
    /// What it is, for people.
    pub description: Option<Line>,
    /// What runs.
    pub image: Image,
    /// What runs, by name.
    pub processes: BTreeMap<Name, Process>,
    /// How it is reached, in the order of port and hostname.
    pub routes: Vec<Route>,
    /// The secrets it may not start without; empty: it was said that there are none.
    pub secrets: BTreeSet<SecretName>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// As it was declared, with a tag or a digest.
    #[serde(rename = "ref")]
    pub reference: ImageRef,
    /// When a node asks the registry.
    pub pull_policy: PullPolicy,
}

/// What one instance of a process is made of, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Program and arguments; null: as the image says.
    pub command: Option<Vec<Word>>,
    /// Where it starts; null: as the image says.
    pub workdir: Option<GuestPath>,
    /// Whom it runs as; null: as the image says.
    pub user: Option<User>,
    /// Environment variables beside the image's.
    pub vars: BTreeMap<Variable, Word>,
    /// What must succeed first.
    pub prestart: Option<Prestart>,
    /// What happens when it ends.
    pub restart: Restart,
    /// What it may use.
    pub resources: Resources,
    /// How many instances there are: 0 to 100.
    pub scale: u8,
    /// Where it listens, by name.
    pub ports: BTreeMap<Name, Port>,
    /// When it is ready; null: as soon as it runs.
    pub health: Option<Health>,
    /// Seconds from the stop signal until it is killed: 0 to 600.
    pub grace_seconds: u16,
    /// The signal that asks it to stop; null: as the image says.
    pub stop_signal: Option<StopSignal>,
}

/// A command that must succeed before the process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prestart {
    /// Program and arguments.
    pub command: Vec<Word>,
    /// Seconds that it may take: 1 to 3600.
    pub timeout_seconds: u16,
}

/// What happens when a process ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// After which ends there is another instance.
    pub policy: RestartPolicy,
    /// How often in a row: 0 to 100.
    pub max_retries: u8,
    /// Seconds before the first of them: 1 to 300.
    pub backoff_seconds: u16,
}

/// What one instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Bytes of the guest's memory: [`MEMORY_BYTES_MIN`] or more.
    pub memory_bytes: u64,
    /// Thousandths of a processor: 10 to [`CPU_MILLI_MAX`].
    pub cpu_milli: u32,
    /// Bytes that it may write: [`DISK_BYTES_MIN`] or more.
    pub disk_bytes: u64,
}

/// Where a process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port inside of the instance.
    pub internal: u16,
    /// What is spoken.
    pub protocol: Protocol,
}

/// When an instance is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How it is asked.
    #[serde(rename = "type")]
    pub kind: HealthKind,
    /// The port inside of the instance.
    pub port: u16,
    /// What is asked for by HTTP; null for TCP.
    pub path: Option<UrlPath>,
    /// Seconds from one check to the next: 1 to 3600.
    pub interval_seconds: u16,
    /// Seconds until a check has failed: 1 to `interval_seconds`.
    pub timeout_seconds: u16,
    /// Seconds after the start in which a failed check does not count: 0 to 3600.
    pub grace_seconds: u16,
    /// Checks in a row that must pass: 1 to 10.
    pub success: u8,
    /// Checks in a row that must fail: 1 to 100.
    pub failure: u8,
}

/// A way from outside to a port of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The name that TLS clients ask for; null: raw TCP.
    pub hostname: Option<Hostname>,
    /// The port that clients connect to.
    pub port: u16,
    /// Which process.
    pub process: Name,
    /// Which of its ports.
    pub to: Name,
    /// Whether each connection begins with a PROXY v2 header.
    pub proxy_protocol: bool,
    /// Whether it takes clients that ask for no name, or for one that nobody has.
    pub default: bool,
    /// Whether it gets an IPv4 address of the node.
    pub ipv4: bool,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// There are too many of them.
    #[error("a manifest of {0} bytes is longer than {MANIFEST_BYTES_MAX}")]
    TooLarge(usize),
    /// They are not what a writer makes.
    #[error("it is no manifest in canonical form")]
    Form(#[source] canonical::CanonicalError),
    /// It says what no manifest may say.
    #[error("it breaks a rule of manifests: {0}")]
    Rule(Fault),
}

impl Problem for ManifestError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Rule(fault) => Some(fault.hint.clone()),
            _ => Some("make the plan again: vyr plan services".into()),
        }
    }
}

impl Manifest {
    /// Its one spelling: canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).unwrap_or_else(|error| unreachable!("only small integers: {error}"))
    }

    /// The digest of [`Manifest::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The digest of what its instances are made of: of the manifest without `description`, `routes`
    /// and every `scale`. What changes those starts no instance anew.
    pub fn release_digest(&self) -> Digest {
        let mut released = Self { description: None, routes: Vec::new(), ..self.clone() };
        for process in released.processes.values_mut() {
            process.scale = 0;
        }
        released.digest()
    }

    /// The same release with what is in no release as `other` has it: `description`, `routes`, and the
    /// `scale` of the processes that both have.
    pub fn with_rest_of(&self, other: &Self) -> Self {
        let (description, routes) = (other.description.clone(), other.routes.clone());
        let mut whole = Self { description, routes, ..self.clone() };
        for (name, process) in &mut whole.processes {
            process.scale = other.processes.get(name).map_or(process.scale, |of| of.scale);
        }
        whole
    }

    /// Reads what [`Manifest::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// Says why not; each rule that a manifest from a file is held to holds here.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self = canonical::parse(bytes).map_err(ManifestError::Form)?;
        match manifest.faults().into_iter().next() {
            None => Ok(manifest),
            Some(fault) => Err(ManifestError::Rule(fault)),
        }
    }

    /// Its slots, in the order of their names, each with its process.
    pub fn slots(&self) -> impl Iterator<Item = (SlotName, &Process)> {
        let service = &self.service;
        self.processes.iter().flat_map(move |(process, of)| {
            (0..of.scale).map(move |ordinal| {
                let (service, process) = (service.clone(), process.clone());
                (SlotName { service, process, ordinal }, of)
            })
        })
    }

    /// Every rule that it breaks; one that was read breaks none.
    pub fn faults(&self) -> Vec<Fault> {
        rules::faults(self)
    }
}
