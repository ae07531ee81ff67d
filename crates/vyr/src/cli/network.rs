//! The commands that change this host's network.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vyr_base::{Digest, parse_duration_ms};

use super::site::{Kind, SiteArgs};

/// Where the data plane of WireGuard runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// In the kernel
    Kernel,
    /// In a process for each link, reached over its UAPI socket
    Userspace,
}

/// Which host this is, and what changes it.
#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// The name of this host in the plan [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,

    /// Where WireGuard runs [default: the kernel, if it has it]
    #[arg(long, value_name = "WHERE")]
    pub(crate) backend: Option<BackendName>,

    /// The directory of UAPI sockets [default: /var/run/wireguard]
    #[arg(long, value_name = "DIR")]
    pub(crate) sockets: Option<PathBuf>,
}

/// Make this host as a plan says, with a way back
///
/// The plan must be approved and follow the one that is confirmed here. Before the first step the
/// way back is on the disk and a process of its own watches it: if this command dies, or if nobody
/// runs `vyr confirm` in time, the host becomes what it was. Needs root.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The plan, from the site's plans/
    #[arg(value_name = "sha256:..")]
    pub(crate) plan: Digest,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// Take it back after this time unless it is confirmed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration_ms)]
    pub(crate) confirm_within: u64,

    /// Confirm it at once, if all steps were taken and all probes answered
    #[arg(long, conflicts_with = "confirm_within")]
    pub(crate) no_confirm: bool,

    /// An address that must answer a new TCP connection afterwards; may be given several times
    #[arg(long = "probe", value_name = "HOST:PORT")]
    pub(crate) probes: Vec<String>,

    /// Print the steps and take none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Keep the change that waits
#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Only if it is this plan that waits
    #[arg(value_name = "sha256:..")]
    pub(crate) plan: Option<Digest>,

    /// A site whose plans/applied.network is to name the plan
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Take the change back that waits
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: Kind,

    /// Only if it is this plan that waits
    #[arg(long, value_name = "sha256:..")]
    pub(crate) plan: Option<Digest>,
}

/// Compare this host with its plan. Changes nothing
///
/// Exit code 0: it is as the plan says; 1: it is not, and each difference is named.
#[derive(Debug, Args)]
pub(crate) struct DriftArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: Kind,

    #[command(flatten)]
    pub(crate) host: HostArgs,
}

/// A server's own keys.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Print the public key of a link of this host, making the private one if there is none
    Key {
        /// The link, as the plan names it
        link: String,

        /// The key that takes over, beside the one in use: with the plan that names it
        #[arg(long)]
        next: bool,
    },
}
