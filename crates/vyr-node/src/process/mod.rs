//! The processes that see a stranger's bytes, and how this one talks to them.
//!
//! Both are this same binary, started again with a hidden first argument (`Role`); they confine
//! themselves before they read anything from outside. `compile` reads Wasm on its stdin, writes
//! machine code to a memory file on its stdout and ends. `tasks` holds a socket on its stdin and
//! gets code, input and output as descriptors over it (`wire`). With a daemon `up` starts them, and
//! `api`, which serves.

mod api;
mod beside;
mod changes;
mod compile;
pub mod confine;
pub(crate) mod guide;
mod images;
mod ingress;
mod keeper;
mod machines;
pub(crate) mod net;
mod tasks;
mod up;
pub(crate) mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use crate::machines::MachinesDoor;

pub use compile::{CompileLimits, CompilerProcess};
pub use images::{Fetch, FetchProgress, Fetched, ImageError, ImageReason, ImagesDoor};
pub use ingress::{BackendStatus, IngressDoor, IngressDoorError, IngressStatus, ingress_uid};
pub use machines::machines_alone;
pub use net::{Attached, NetDoor};
pub use tasks::{RunSpec, TasksError, TasksProcess};
pub(crate) use up::group_id;
pub use up::{UpError, up};

/// The ways from `api` to the processes that services need. Each is started when it is first asked.
#[derive(Debug)]
pub struct Doors {
    /// Networks of instances, and what may pass there.
    pub net: Arc<NetDoor>,
    /// Root disks.
    pub images: ImagesDoor,
    /// Clients to instances.
    pub ingress: IngressDoor,
    /// VMMs and their guests.
    pub machines: MachinesDoor,
    /// Registries (`host:port`) that are asked without TLS.
    pub plain_http: Vec<String>,
}

/// What a process started by us is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs guests.
    Tasks,
    /// Compiles one module or component.
    Compile,
    /// Serves: sockets, journal, store, keys.
    Api,
    /// Owns the kernel's programs that hint to the threads of `tasks`.
    Guide,
    /// Changes the network, and nothing else.
    Net,
    /// Pulls images and makes root disks of them.
    Images,
    /// Starts VMMs and hears their guests.
    Machines,
    /// Carries clients to instances.
    Ingress,
    /// Makes listeners for it.
    Listen,
    /// Takes a change of the network back when it is time.
    ConfirmTimer,
    /// Becomes the owner's command that keeps checkpoints; sees no stranger's byte.
    Keep,
}

impl Role {
    /// The hidden first argument that selects the role.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Tasks => "__tasks",
            Self::Compile => "__compile",
            Self::Api => "__api",
            Self::Guide => "__guide",
            Self::Net => "__net",
            Self::Images => "__images",
            Self::Machines => "__machines",
            Self::Ingress => "__ingress",
            Self::Listen => "__listen",
            Self::ConfirmTimer => "__confirm-timer",
            Self::Keep => "__keep",
        }
    }

    /// The role that `argument` selects.
    pub fn from_argument(argument: &str) -> Option<Self> {
        let all = [
            Self::Tasks,
            Self::Compile,
            Self::Api,
            Self::Guide,
            Self::Net,
            Self::Images,
            Self::Machines,
            Self::Ingress,
            Self::Listen,
            Self::ConfirmTimer,
            Self::Keep,
        ];
        all.into_iter().find(|role| role.argument() == argument)
    }

    /// The user id the role takes on when it is started by root. They lie in 60578..=61183, which
    /// neither Debian nor systemd gives to anybody; no passwd entry is needed.
    ///
    /// `api` and `net` keep the node's own user, whose files they keep; they give up capabilities and
    /// paths.
    pub const fn uid(self) -> Option<u32> {
        match self {
            Self::Tasks => Some(60801),
            Self::Compile => Some(60802),
            Self::Guide => Some(60803),
            Self::Ingress => Some(60804),
            Self::Images => Some(60806),
            Self::Machines => Some(60805),
            Self::Listen => Some(60807),
            Self::Api | Self::Net | Self::ConfirmTimer | Self::Keep => None,
        }
    }
}

/// Lives the life of `role` and returns the process's exit code. The first thing `main` calls,
/// before it parses anything or starts a thread.
pub fn serve(role: Role, arguments: &[String]) -> u8 {
    match role {
        Role::Tasks => tasks::serve(arguments),
        Role::Compile => compile::serve(arguments),
        Role::Api => api::run(),
        Role::Guide => guide::serve(arguments),
        Role::Net => net::serve(arguments),
        Role::Images => images::serve(arguments),
        Role::Machines => machines::serve(arguments),
        Role::Ingress => ingress::serve(arguments),
        Role::Listen => ingress::serve_listen(),
        Role::ConfirmTimer => crate::network::serve(arguments),
        Role::Keep => keeper::serve(arguments),
    }
}

/// This binary as it runs now, also after the file was replaced by an upgrade.
pub(crate) fn this_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
