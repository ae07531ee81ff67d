//! The node's configuration: strict TOML in, every value in force out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use vyr_base::{Category, Problem, parse_bytes, parse_duration_ms};
use vyr_task::{Ceilings, Limits};

use crate::api::{Access, Role};
use crate::checkpoint_out::CheckpointOut;
use crate::guidance::Wanted;
use crate::machines::MachinesSettings;
use crate::node::Budget;
use crate::report::{FileError, Result};

/// Tasks at once, as far as memory allows: enough for a worker never to wait for its next one.
const SLOTS: u32 = 256;

/// Tasks that may wait: a second or so of a busy node's work.
const QUEUE: usize = 20_000;

/// Tasks whose events, inputs and outputs are kept.
const KEPT: u64 = 200_000;

/// Tasks that wait on input rather than compute; their shares may be so many times the machine's.
const CPU_OVERCOMMIT: u64 = 128;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, an unknown key, a value of another kind.
    #[error("{path} is not a configuration")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{key} {why}")]
    Value {
        /// Which.
        key: &'static str,
        /// Why not.
        why: String,
    },
}

impl Problem for ConfigError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Toml { .. } => Some("the keys are in docs/config.md".into()),
            Self::Value { .. } => None,
        }
    }
}

/// A number of bytes, as a number or such as "64Mi".
fn bytes<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    number(from, |text| parse_bytes(text).map_err(|e| e.to_string()))
}

/// Milliseconds, as a number or such as "10s".
fn millis<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    number(from, |text| parse_duration_ms(text).map_err(|e| e.to_string()))
}

fn number<'de, D: Deserializer<'de>>(
    from: D,
    parse: impl Fn(&str) -> std::result::Result<u64, String>,
) -> std::result::Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What a task gets that asks for nothing.
    limits: LimitsTable,
    /// The most a task gets.
    ceilings: LimitsTable,
    node: NodeTable,
    retention: RetentionTable,
    machines: MachinesTable,
    images: ImagesTable,
    /// `uid:N`, `gid:N` or `cert:NAME` to `observe`, `submit` or `operate`.
    access: BTreeMap<String, Role>,
    listen: Option<ListenTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ImagesTable {
    plain_http: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsTable {
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,
    #[serde(deserialize_with = "millis")]
    deadline: Option<u64>,
    #[serde(deserialize_with = "millis")]
    cpu: Option<u64>,
    #[serde(deserialize_with = "bytes")]
    output: Option<u64>,
}

impl LimitsTable {
    fn over(&self, other: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory.unwrap_or(other.memory_bytes),
            deadline_ms: self.deadline.unwrap_or(other.deadline_ms),
            cpu_ms: self.cpu.unwrap_or(other.cpu_ms),
            output_bytes_max: self.output.unwrap_or(other.output_bytes_max),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeTable {
    /// Tasks at once.
    slots: Option<u32>,
    /// Threads that run them.
    workers: Option<u32>,
    /// Tasks that may wait.
    queue: Option<usize>,
    /// Sum of the memory caps of tasks that run.
    #[serde(deserialize_with = "bytes")]
    memory: Option<u64>,
    /// How long an unbound state lives.
    #[serde(deserialize_with = "millis")]
    state_idle: Option<u64>,
    /// How long running tasks have when the node is told to stop.
    #[serde(deserialize_with = "millis")]
    drain: Option<u64>,
    /// The file or the command that gets each new signed checkpoint too.
    checkpoint_out: Option<String>,
    /// Who hints to the threads that run guests: `observe`, `psi` or `off`.
    guidance: Wanted,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetentionTable {
    /// The newest so many tasks keep their events, inputs and outputs.
    tasks: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MachinesTable {
    /// The first and the last user id of VMMs.
    users: Option<(u32, u32)>,
    /// Whether machines start from snapshots.
    snapshots: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenTable {
    address: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

/// Everything in force, as the supervisor hands it to the process `api`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// The directory of the sockets.
    pub run: PathBuf,
    /// What a task gets that asks for nothing.
    pub limits: Limits,
    /// The most a task gets.
    pub ceilings: Ceilings,
    /// Tasks at once.
    pub slots: u32,
    /// Threads that run them.
    pub workers: u32,
    /// Who hints to them.
    pub guidance: Wanted,
    /// Sum of memory caps, in bytes.
    pub memory_bytes: u64,
    /// Sum of processor shares, in thousandths.
    pub cpu_millis: u64,
    /// Tasks that may wait.
    pub queue: usize,
    /// Tasks that are kept.
    pub kept: u64,
    /// In milliseconds.
    pub state_idle_ms: u64,
    /// In milliseconds.
    pub drain_ms: u64,
    /// Of microVMs.
    pub machines: MachinesSettings,
    /// Registries (`host:port`) that are asked without TLS.
    pub plain_http: Vec<String>,
    /// Where checkpoints go too.
    pub checkpoint_out: Option<CheckpointOut>,
    /// Who may do what.
    pub access: BTreeMap<String, Role>,
    /// TCP, with certificates.
    pub listen: Option<Listen>,
}

/// Where and with what to listen on TCP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// The server's chain (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Whom clients have to be signed by (PEM).
    pub client_ca: PathBuf,
}

impl Config {
    /// Reads a file; one that is not there is an empty one, unless it was `named`.
    pub fn load(path: &Path, named: bool) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => String::new(),
            Err(e) => return Err(FileError::on("read", path)(e).into()),
        };
        let config = toml::from_str(&text).map_err(|source| {
            let (path, source) = (path.to_owned(), Box::new(source));
            ConfigError::Toml { path, source }
        })?;
        Ok(config)
    }

    /// Every value in force on this machine.
    pub fn settings(self, data: PathBuf, run: PathBuf) -> Result<Settings> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let half = machine_memory_bytes() / 2;
        let memory_bytes = self.node.memory.unwrap_or(half).max(1 << 20);
        let Ceilings(most) = Ceilings::default();
        let mut most = self.ceilings.over(most);
        // A task whose cap no budget fits would wait for ever.
        most.memory_bytes = most.memory_bytes.min(memory_bytes);
        let ceilings = Ceilings(most);
        let slots = self.node.slots.unwrap_or(SLOTS);
        let workers = self.node.workers.unwrap_or(u32::try_from(cores).unwrap_or(1));
        for (key, value, limit) in [("node.slots", slots, 4096), ("node.workers", workers, 1024)] {
            if value == 0 || value > limit {
                let why = format!("is {value}, not from 1 to {limit}");
                return Err(ConfigError::Value { key, why }.into());
            }
        }
        let machines = MachinesSettings {
            users: self.machines.users.unwrap_or(MachinesSettings::default().users),
            snapshots: self.machines.snapshots,
        };
        let (first, last) = machines.users;
        // Below are people's and the system's own, and this node's; above no user at all.
        if first > last || first <= 60_899 || last >= u32::MAX - 1 {
            let why = format!("is [{first}, {last}], no range above 60899");
            return Err(ConfigError::Value { key: "machines.users", why }.into());
        }
        Access::new(&self.access, 0)
            .map_err(|e| ConfigError::Value { key: "access", why: e.to_string() })?;
        Ok(Settings {
            data,
            run,
            limits: ceilings.clamp(self.limits.over(Limits::default())),
            ceilings,
            slots,
            workers,
            guidance: self.node.guidance,
            memory_bytes,
            cpu_millis: cores * 1000 * CPU_OVERCOMMIT,
            queue: self.node.queue.unwrap_or(QUEUE),
            kept: self.retention.tasks.unwrap_or(KEPT),
            state_idle_ms: self.node.state_idle.unwrap_or(300_000),
            drain_ms: self.node.drain.unwrap_or(30_000),
            machines,
            plain_http: self.images.plain_http,
            checkpoint_out: self
                .node
                .checkpoint_out
                .map(|value| CheckpointOut::parse(value.as_ref()))
                .transpose()?,
            access: self.access,
            listen: self.listen.map(|listen| Listen {
                address: listen.address,
                certificate: listen.certificate,
                key: listen.key,
                client_ca: listen.client_ca,
            }),
        })
    }
}

impl Settings {
    /// What tasks that run may have together.
    pub fn budget(&self) -> Budget {
        Budget {
            memory_bytes: self.memory_bytes,
            cpu_millis: self.cpu_millis,
            tasks: self.slots.into(),
        }
    }
}

/// What the kernel says this machine has; 1 GiB if it does not say.
fn machine_memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(1 << 30, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings> {
        let config: Config = toml::from_str(text)
            .map_err(|source| ConfigError::Toml { path: "x".into(), source: Box::new(source) })?;
        config.settings("/d".into(), "/r".into())
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let settings = settings("").expect("valid");
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.slots, SLOTS);
        assert!(settings.ceilings.0.memory_bytes <= settings.memory_bytes);
    }

    #[test]
    fn values_are_read_and_ceilings_hold() {
        let text = "[limits]\nmemory = \"2Gi\"\ndeadline = \"5s\"\n[ceilings]\nmemory = \"32Mi\"\n\
                    [access]\n\"uid:1000\" = \"submit\"\n[node]\nqueue = 7\n";
        let settings = settings(text).expect("valid");
        assert_eq!(settings.limits.memory_bytes, 32 << 20);
        assert_eq!(settings.limits.deadline_ms, 5_000);
        assert_eq!(settings.queue, 7);
        assert!(!settings.machines.snapshots, "nobody wanted any");
        let wanted = self::settings("[machines]\nsnapshots = true\n").expect("valid");
        let users = MachinesSettings::default().users;
        assert_eq!(wanted.machines, MachinesSettings { users, snapshots: true });
    }

    #[test]
    fn the_documented_file_is_one() {
        let page = include_str!("../../../docs/config.md");
        let text = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
        let settings = settings(text.expect("a block")).expect("valid");
        assert_eq!(settings.queue, QUEUE);
        assert_eq!((settings.slots, settings.kept), (SLOTS, KEPT));
        assert_eq!(settings.limits, Limits::default());
        assert!(settings.listen.is_some() && settings.access.len() == 3);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "[limit]\n",
            "[limits]\nmemroy = \"1Mi\"\n",
            "[limits]\nmemory = \"1 potato\"\n",
            "[node]\nslots = 0\n",
            "[node]\nworkers = 100000\n",
            "[node]\ncheckpoint_out = \"|\"\n",
            "[machines]\nusers = [61000, 60999]\n",
            "[machines]\nusers = [1000, 2000]\n",
            "[access]\nana = \"submit\"\n",
            "[access]\n\"uid:1\" = \"everything\"\n",
            "[listen]\naddress = \"localhost\"\n",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }
}
