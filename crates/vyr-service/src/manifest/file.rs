//! The form of `services/NAME.toml`. The doc comments are what an editor shows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vyr_base::form::{At, Name};
use vyr_base::hostname::Hostname;

use super::text::{
    Cpu, GuestPath, ImageRef, Line, SecretName, Size, UrlPath, User, Variable, Word,
};

/// A service: one image, the processes it runs as, and how it is reached. The file's name is the
/// service's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// The form of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: At<u8>,
    /// What it is, for people.
    #[serde(default)]
    pub description: Option<Line>,
    /// What runs.
    pub image: ImageTable,
    /// What every process has, unless it says otherwise itself.
    #[serde(default)]
    pub env: EnvTable,
    /// What runs, by name: each with instances of its own.
    pub processes: BTreeMap<At<Name>, ProcessTable>,
    /// How it is reached from outside.
    #[serde(default)]
    pub routes: Vec<At<RouteTable>>,
    /// What it may not start without: names of secrets, or that there are none.
    pub secrets: At<SecretsTable>,
}

/// What runs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageTable {
    /// An OCI image. `vyr lock` pins a tag to a digest.
    #[serde(rename = "ref")]
    pub reference: At<ImageRef>,
    /// When a node asks the registry.
    #[serde(default)]
    pub pull_policy: PullPolicy,
}

/// When a node asks the registry. An image is always named by its digest.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When it does not have the image.
    #[default]
    IfNotPresent,
    /// Before each start: one that the registry does not give any more starts nowhere.
    Always,
}

/// What every process has, unless it says otherwise itself.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvTable {
    /// Environment variables; a process adds its own. Secrets never go here.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "vyr-variable" }))]
    pub vars: BTreeMap<At<Variable>, Word>,
    /// Where it starts; absent: as the image says.
    #[serde(default)]
    pub workdir: Option<GuestPath>,
    /// Whom it runs as; absent: as the image says.
    #[serde(default)]
    pub user: Option<User>,
    /// A command that must succeed before the process starts, in each instance.
    #[serde(default)]
    pub prestart: Option<At<Vec<Word>>>,
    /// Seconds that `prestart` may take.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    pub prestart_timeout_seconds: Option<u16>,
}

/// What runs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessTable {
    /// Program and arguments; absent: as the image says.
    #[serde(default)]
    pub command: Option<At<Vec<Word>>>,
    /// Where it starts; absent: as `env` says.
    #[serde(default)]
    pub workdir: Option<GuestPath>,
    /// Whom it runs as; absent: as `env` says.
    #[serde(default)]
    pub user: Option<User>,
    /// Environment variables beside those of `env`. Secrets never go here.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "vyr-variable" }))]
    pub vars: BTreeMap<At<Variable>, Word>,
    /// In place of the one of `env`; an empty list: none.
    #[serde(default)]
    pub prestart: Option<At<Vec<Word>>>,
    /// What happens when it ends.
    #[serde(default)]
    pub restart: RestartTable,
    /// What one instance may use.
    pub resources: ResourcesTable,
    /// How many instances there are.
    #[serde(default)]
    pub scale: ScaleTable,
    /// Where it listens, by a name that routes use.
    #[serde(default)]
    pub ports: Vec<At<PortTable>>,
    /// When it is ready; absent: as soon as it runs.
    #[serde(default)]
    pub health: Option<At<HealthTable>>,
    /// Seconds from the stop signal until it is killed; as long, at most, connections drain.
    #[serde(default)]
    #[schemars(range(min = 0, max = 600))]
    pub grace_seconds: Option<u16>,
    /// The signal that asks it to stop; absent: as the image says.
    #[serde(default)]
    pub stop_signal: Option<StopSignal>,
}

/// What happens when a process ends.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartTable {
    /// After which ends there is another instance.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// How often in a row; then it stays off, and `vyr ps` says so.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub max_retries: Option<u8>,
    /// Seconds before the first of them; each further one waits twice as long.
    #[serde(default)]
    #[schemars(range(min = 1, max = 300))]
    pub backoff_seconds: Option<u16>,
}

/// After which ends there is another instance.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// After every one.
    #[default]
    Always,
    /// After every one but exit code 0.
    OnFailure,
    /// After none.
    Never,
}

/// What one instance may use.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourcesTable {
    /// Memory of the guest, its kernel included: 128Mi or more. A hard limit.
    pub memory: At<Size>,
    /// Processors. A share, not a limit, where they are wanted by several.
    #[serde(default)]
    pub cpu: Option<Cpu>,
    /// Room for what the instance writes, gone with it: 1Gi or more.
    #[serde(default)]
    pub disk: Option<At<Size>>,
}

/// How many instances there are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleTable {
    /// So many.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub min: Option<At<u8>>,
    /// The same as `min`: nothing changes the number but you.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub max: Option<At<u8>>,
}

/// Where a process listens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortTable {
    /// What routes call it.
    pub name: Name,
    /// The port inside of the instance.
    #[schemars(range(min = 1, max = 65535))]
    pub internal: u16,
    /// What is spoken.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken to a port.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
}

/// When an instance is ready.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthTable {
    /// How it is asked.
    #[serde(rename = "type")]
    pub kind: At<HealthKind>,
    /// The port inside of the instance.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What is asked for by HTTP; absent: `/`.
    #[serde(default)]
    pub path: Option<UrlPath>,
    /// Seconds from one check to the next.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: Option<u16>,
    /// Seconds until a check has failed.
    #[serde(default)]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: Option<u16>,
    /// Seconds after the start in which a failed check does not count.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_seconds: Option<u16>,
    /// Checks in a row that must pass before it is ready.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10))]
    pub success: Option<u8>,
    /// Checks in a row that must fail before it is ready no more.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub failure: Option<u8>,
}

/// How an instance is asked whether it is ready, from inside of it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HealthKind {
    /// It takes a connection.
    Tcp,
    /// It answers a GET with 200 to 399.
    Http,
}

/// A way from outside to a port of a process.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// The name that TLS clients ask for; its bytes are passed on as they are. Absent: all that
    /// comes to `port` is.
    #[serde(default)]
    pub hostname: Option<At<Hostname>>,
    /// The port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: At<u16>,
    /// Which process.
    pub process: At<Name>,
    /// Which of its ports.
    pub to: At<Name>,
    /// Whether each connection begins with a PROXY v2 header that says who the client is.
    #[serde(default)]
    pub proxy_protocol: Option<At<bool>>,
    /// That the process waits for such a header, and takes it from nobody else.
    #[serde(default)]
    pub backend_expects_proxy_protocol: Option<At<bool>>,
    /// Whether it also takes clients that ask for no name, or for one that nobody has.
    #[serde(default)]
    pub default: Option<At<bool>>,
    /// Whether it gets an IPv4 address of the node, too. IPv6 it always has.
    #[serde(default)]
    pub ipv4: bool,
}

/// What a service may not start without.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsTable {
    /// The names that `/run/secrets/platform.env` must have.
    #[serde(default)]
    pub required: Option<At<Vec<At<SecretName>>>>,
    /// That it needs none.
    #[serde(default)]
    pub none: Option<At<bool>>,
}

/// The signal that asks a process to stop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// 15.
    SigTerm,
    /// 2.
    SigInt,
    /// 3.
    SigQuit,
    /// 1.
    SigHup,
    /// 10.
    SigUsr1,
    /// 12.
    SigUsr2,
    /// 28.
    SigWinch,
    /// 9: it is not asked.
    SigKill,
}

impl StopSignal {
    /// Its number on Linux.
    pub const fn number(self) -> u8 {
        match self {
            Self::SigHup => 1,
            Self::SigInt => 2,
            Self::SigQuit => 3,
            Self::SigKill => 9,
            Self::SigUsr1 => 10,
            Self::SigUsr2 => 12,
            Self::SigTerm => 15,
            Self::SigWinch => 28,
        }
    }
}
