//! What can be typed about services.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use vyr_base::parse_duration_ms;
use vyr_plan::intent::Name;
use vyr_service::place::SlotName;

use super::image::RegistryAccess;
use super::site::SiteArgs;

/// Bring the site's services to this node: lock, plan, sign, and carry the plan out
///
/// Waits until every instance is ready. A release that does not become ready stops by itself: what
/// served before goes on serving, and the exit code is 1. Undo: vyr release rollback SERVICE.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The directory of a site [default: the nearest parent with a site.toml]
    pub(crate) path: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) how: DeployOptions,
}

/// How a deploy is done, by whatever command.
#[derive(Debug, Args)]
pub(crate) struct DeployOptions {
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

/// Whether a command that changes files of a site goes on with a deploy.
#[derive(Debug, Args)]
pub(crate) struct EditOnly {
    /// Only change the site's files: look at them, have them signed, deploy later
    #[arg(long, conflicts_with_all = ["key", "update", "node", "no_wait"])]
    pub(crate) edit_only: bool,
}

/// Run more or fewer instances of a process: write it into services/, and deploy
///
/// Changes `scale` in the manifest and nothing else in it, then does what `vyr deploy` does. If the
/// node does not take the plan, or there is none, the file is put back. No instance that stays is
/// replaced. Undo: the same with the number before.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many instances of which process, 0 to 100, such as web/http=3
    #[arg(required = true, value_name = "SERVICE/PROCESS=N")]
    pub(crate) scales: Vec<Scale>,

    #[command(flatten)]
    pub(crate) edit_only: EditOnly,

    #[command(flatten)]
    pub(crate) how: DeployOptions,
}

/// A process, and how many instances it is to have.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    pub(crate) service: Name,
    pub(crate) process: Name,
    pub(crate) count: u8,
}

/// As manifests have it.
const SCALE_MAX: u8 = 100;

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write SERVICE/PROCESS=N, such as web/http=3".to_owned();
        let (process, count) = text.split_once('=').ok_or_else(form)?;
        let (service, process) = process.split_once('/').ok_or_else(form)?;
        let name = |text: &str| text.parse::<Name>().map_err(|e| format!("{text:?}: {}", e.why));
        let count = count.parse().ok().filter(|count| *count <= SCALE_MAX);
        let count = count.ok_or_else(|| format!("a process has 0 to {SCALE_MAX} instances"))?;
        Ok(Self { service: name(service)?, process: name(process)?, count })
    }
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
pub(crate) enum ServiceCommand {
    /// Empty a slot, whatever the plan says, until it is resumed
    ///
    /// Its instance leaves the ingress, drains and ends, and no other takes its place: not after a start
    /// of the node, not with another plan. Returns once that is written down; vyr ps --why says how far
    /// it is. Undo: vyr service resume SLOT.
    Halt(SlotArgs),
    /// Let the plan have a slot again
    ///
    /// Of a slot that was not halted, what was given up after its last restart is tried again at once.
    /// Undo: vyr service halt SLOT.
    Resume(SlotArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SlotArgs {
    /// The slot, such as web/http/0: vyr ps lists them
    #[arg(value_name = "SERVICE/PROCESS/NUMBER", value_parser = slot)]
    pub(crate) slot: SlotName,
}

fn slot(text: &str) -> Result<SlotName, String> {
    text.parse().map_err(|_| "write SERVICE/PROCESS/NUMBER, such as web/http/0".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// List the releases that the site's plans had, newest first
    Ls(ReleaseLsArgs),
    /// Show what a release is made of
    Show(ReleaseShowArgs),
    /// Show the receipt of a deploy: what was brought here, by whom, and how it ended
    Receipt(ReleaseReceiptArgs),
    Rollback(ReleaseRollbackArgs),
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

/// Bring a former release of a service back: write it into services/ and vyr.lock, and deploy
///
/// The manifest is written from the plan that had it, without the comments of the present one, which git
/// has; description, routes and scale stay as they are today. The image is the one it was, whatever its
/// tag means now. If the node does not take the plan, or there is none, the files are put back. Undo:
/// the same command again.
#[derive(Debug, Args)]
pub(crate) struct ReleaseRollbackArgs {
    /// The service
    pub(crate) service: Name,

    /// The release's digest, or the first hex digits of it [default: the one before]
    pub(crate) release: Option<String>,

    #[command(flatten)]
    pub(crate) edit_only: EditOnly,

    #[command(flatten)]
    pub(crate) how: DeployOptions,
}
