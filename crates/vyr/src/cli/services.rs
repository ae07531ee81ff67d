//! What can be typed about services.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vyr_base::parse_duration_ms;
use vyr_plan::intent::Name;

use super::image::RegistryAccess;
use super::site::SiteArgs;

/// Bring the site's services to this node: lock, plan, sign, and carry the plan out
///
/// Waits until every instance is ready. A release that does not become ready stops by itself: what
/// served before goes on serving, and the exit code is 1. Undo: put the files of services/ back as they
/// were, and deploy again.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The directory of a site [default: the nearest parent with a site.toml]
    pub(crate) path: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// Approve the plan with this private key, or with this public key's half in an ssh-agent
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// How long that approval counts, such as 1h
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = parse_duration_ms)]
    pub(crate) expires: u64,

    /// Ask registries again what tags mean now: that of a service, or all
    #[arg(long, value_name = "SERVICE", num_args = 0..=1)]
    pub(crate) update: Option<Option<Name>>,

    /// The name of this node in the site [default: as last time, or the only one]
    #[arg(long = "as", value_name = "NODE")]
    pub(crate) node: Option<String>,

    /// Do not wait until it is in force
    #[arg(long)]
    pub(crate) no_wait: bool,

    #[command(flatten)]
    pub(crate) access: RegistryAccess,
}

/// List instances, and say why a slot is not as it should be
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only of this service, SERVICE/PROCESS or slot
    pub(crate) of: Option<String>,

    /// Say for each slot what is wanted, what runs, and the one thing it waits for
    #[arg(long)]
    pub(crate) why: bool,

    /// List what has ended too
    #[arg(long, short)]
    pub(crate) all: bool,
}

/// Print what an instance wrote
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// An instance, or a slot, SERVICE/PROCESS or service: its newest
    pub(crate) target: String,

    /// Go on with what it writes from now on
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// Begin with this line
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) from: u64,

    /// Print the time of each line
    #[arg(long, short)]
    pub(crate) timestamps: bool,
}

/// Run a program beside an instance's own
///
/// Its exit code becomes this command's. 128 and a signal's number: that signal ended it.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// An instance, or a slot, SERVICE/PROCESS or service: its newest
    pub(crate) target: String,

    /// Pass standard input on
    #[arg(long, short)]
    pub(crate) interactive: bool,

    /// Give it a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,

    /// Run as this user of the image
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Start in this directory
    #[arg(long, short, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// Set a variable; nothing secret: who may list processes in the instance sees it
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// List the releases that the site's plans had, newest first
    Ls(ReleaseLsArgs),
    /// Show what a release is made of
    Show(ReleaseShowArgs),
    /// Show the receipt of a deploy: what was brought here, by whom, and how it ended
    Receipt(ReleaseReceiptArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseLsArgs {
    /// Only of this service
    pub(crate) service: Option<Name>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseShowArgs {
    /// Its digest, or the first hex digits of it
    pub(crate) release: String,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseReceiptArgs {
    /// The deploy [default: the last]
    pub(crate) deploy: Option<String>,

    /// Where it is written [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
