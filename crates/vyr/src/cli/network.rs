//! The commands that change hosts' networks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vyr_base::{Digest, parse_duration_ms};
use vyr_plan::intent::{Key, Name};

use super::site::{HostKind, SiteArgs};

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
    /// The name of this host in the plan [default: as it was confirmed, else its host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,

    /// Where WireGuard runs [default: as it was confirmed, else the kernel, if it has it]
    #[arg(long, value_name = "WHERE")]
    pub(crate) backend: Option<BackendName>,

    /// The directory of UAPI sockets [default: /var/run/wireguard]
    #[arg(long, value_name = "DIR")]
    pub(crate) sockets: Option<PathBuf>,
}

/// Which hosts, if not this one.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Another host: a machine of the plan (root at its management address) or an address; may be
    /// given several times
    ///
    /// It is asked over OpenSSH with your own configuration and agent. Only host keys in the
    /// site's file known_hosts are believed.
    #[arg(long = "node", value_name = "NAME|ssh://[USER@]HOST[:PORT]")]
    pub(crate) nodes: Vec<String>,

    /// Every machine of the plan that has a management address
    #[arg(long, conflicts_with = "nodes")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// What is started on another host.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// The program on the other host
    #[arg(long, value_name = "PATH", default_value = "vyr")]
    pub(crate) remote_vyr: String,

    /// The data directory on the other host [default: what it takes itself]
    #[arg(long, value_name = "DIR")]
    pub(crate) remote_data_dir: Option<String>,
}

/// Make a host as a plan says, with a way back
///
/// The plan must be approved and follow the one that is confirmed there. Before the first step the
/// way back is on the disk and a process of its own watches it: if this command dies, or if nobody
/// runs `vyr confirm` in time, the host becomes what it was. Needs root there. Of several hosts the
/// first is changed and read back alone, then the others; the first failure ends it.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The plan, from the site's plans/
    #[arg(value_name = "sha256:..")]
    pub(crate) plan: Digest,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) host: HostArgs,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// Which of several hosts is the first [default: the first that is named]
    #[arg(long, value_name = "NODE")]
    pub(crate) canary: Option<String>,

    /// How many hosts after the first are changed at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) parallel: u8,

    /// Take it back after this time unless it is confirmed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration_ms)]
    pub(crate) confirm_within: u64,

    /// Confirm it at once, if all steps were taken and all probes answered
    #[arg(long, conflicts_with = "confirm_within")]
    pub(crate) no_confirm: bool,

    /// An address that must answer a new TCP connection from the host afterwards; may be given
    /// several times
    #[arg(long = "probe", value_name = "HOST:PORT")]
    pub(crate) probes: Vec<String>,

    /// Print the steps and take none
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Keep the change that waits
///
/// The site's plans/applied.network names the plan when all hosts that were asked are confirmed.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Only if it is this plan that waits
    #[arg(value_name = "sha256:..")]
    pub(crate) plan: Option<Digest>,

    /// A site whose plans/applied.network is to name the plan
    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Take the change of the network back that waits
///
/// Services go back with `vyr release rollback SERVICE`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: HostKind,

    /// Only if it is this plan that waits
    #[arg(long, value_name = "sha256:..")]
    pub(crate) plan: Option<Digest>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Compare a host with its plan. Changes nothing
///
/// Exit code 0: it is as the plan says; 1: it is not, and each difference is named. This is about the
/// network; `vyr ps --why` says it of services.
#[derive(Debug, Args)]
pub(crate) struct DriftArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: HostKind,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) host: HostArgs,

    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// A server's own keys.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    Rotate(ServerRotateArgs),
    Ls(ServerLsArgs),
    /// Print the public key of a link of a host, making the private one if there is none
    Key {
        /// The link, as the plan names it
        link: String,

        /// Another host: a machine of the plan, or an address
        #[arg(long, value_name = "NAME|ssh://[USER@]HOST[:PORT]")]
        node: Option<String>,

        #[command(flatten)]
        site: SiteArgs,

        #[command(flatten)]
        remote: RemoteArgs,
        /// The key that takes over, beside the one in use: with the plan that names it
        #[arg(long)]
        next: bool,
    },
}

/// Give a server another key for an interface, without a gap
///
/// The new key is on a second link, at a port of its own: devices with old files go on, new files
/// name the new one, and each device is moved when it uses it (vyr client move, on the server).
/// Without a step: says how far it is, and what comes next. What is written is site.toml; the plan
/// that follows is locked, signed and applied as ever. A step that was taken already says so.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("step").args(["stage", "retire", "revoke", "abort"])))]
pub(crate) struct ServerRotateArgs {
    /// The server
    pub(crate) server: Name,

    /// What clients connect to [default: the only one that the server carries]
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<Name>,

    /// Give it a second key, beside the one in use
    #[arg(long)]
    pub(crate) stage: bool,

    /// With --stage: the public key, as vyr server key printed it on the server [default: asks the
    /// server of --node for it]
    #[arg(long, value_name = "KEY", requires = "stage")]
    pub(crate) public_key: Option<Key>,

    /// With --stage: the UDP port [default: the next one that the server does not listen at]
    #[arg(long, value_name = "PORT", requires = "stage", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// The second key is the only one from now on, if all devices have moved
    #[arg(long)]
    pub(crate) retire: bool,

    /// With --retire: also if some have not; they are named, and cut off until they have a new file
    #[arg(long, requires = "retire")]
    pub(crate) force: bool,

    /// The keys that were retired are refused for good
    #[arg(long)]
    pub(crate) revoke: bool,

    /// Take the second key out again
    #[arg(long)]
    pub(crate) abort: bool,

    #[command(flatten)]
    pub(crate) seen: SeenArgs,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Which server is asked who has moved.
#[derive(Debug, Args)]
pub(crate) struct SeenArgs {
    /// Ask the server elsewhere: a machine of the plan, or an address [default: this host]
    #[arg(long, value_name = "NAME|ssh://[USER@]HOST[:PORT]")]
    pub(crate) node: Option<String>,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,

    #[command(flatten)]
    pub(crate) host: HostArgs,
}

/// List the keys of servers: which is in use, which takes over, which were given up
#[derive(Debug, Args)]
pub(crate) struct ServerLsArgs {
    /// Only this server
    pub(crate) server: Option<Name>,

    /// Ask the server who has moved to the key that takes over, and when each last shook hands
    #[arg(long, requires = "server")]
    pub(crate) live: bool,

    #[command(flatten)]
    pub(crate) seen: SeenArgs,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// This host's network.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make this host as its confirmed plan says: what a start of the machine does
    ///
    /// Nobody approves or confirms again what was confirmed. A change that waited when the machine
    /// went down is void. Needs root; contrib/vyr-network.service runs it.
    Start(HostArgs),
    /// Print the receipt of a change that has ended: one file that `vyr verify` checks without a node
    ///
    /// It says what the host was before and after, by digest, which plan it was, who asked for it and
    /// who approved it, and whether it was kept or taken back.
    Receipt {
        /// The change [default: the last that has ended]
        #[arg(value_name = "ID")]
        change: Option<String>,
        /// Write it to a file instead of stdout
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Write what this host is into one file, to rebuild it elsewhere
///
/// Signed by an operator, and encrypted to the recovery recipients of the site: age recipients or
/// ssh-ed25519 keys. Inside are the confirmed plan and the one that waits, their approvals, the
/// private keys of the links, trust files, the journal's last checkpoint, and artifacts. Needs root.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BundleArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BundleCommand>,

    /// The machine of the plan, if it must be this one [default: which this host is]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,

    /// Sign with this private key, or with this public key's half in an ssh-agent
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) key: Option<PathBuf>,

    /// The file to write (0600); nothing may be there
    #[arg(long, short, value_name = "FILE", required = true)]
    pub(crate) out: Option<PathBuf>,

    /// Plans before the confirmed one to take along, as far as this host kept them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) parents: u8,

    /// Name the artifacts, and leave their bytes out
    #[arg(long)]
    pub(crate) digests_only: bool,

    /// A site whose vyr.lock is taken along
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Check a bundle's bytes, and print what is in clear. Nothing is decrypted
    Show {
        /// The bundle
        file: PathBuf,
        /// Who may sign it: an allowed_signers file
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
}

/// Make this blank host the node that a bundle is of
///
/// Refuses a bundle that nobody in --trust signed for vyr-bundle, that was altered, that is of
/// another machine, or that is older than what is here; and a plan that those in --trust did not
/// approve for vyr-plan. Refuses as long as the old node answers. May be run again, whenever it was
/// interrupted. Prints the digest of the host, read back: it is the one that `vyr drift --json` found
/// on the old one. Needs root.
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// The bundle, as `vyr bundle` wrote it
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,

    /// Who may sign bundles and plans: an allowed_signers file
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: PathBuf,

    /// The key that opens it: an age identity file, or an SSH private key
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: PathBuf,

    /// The lowest epoch that is taken
    #[arg(long, value_name = "EPOCH", default_value_t = 0)]
    pub(crate) at_least: u64,

    /// How many of those in --trust must have approved the plan [default: as many as it says]
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) threshold: u8,

    /// Go on even if the old node answers
    #[arg(long)]
    pub(crate) anyway: bool,

    /// A host elsewhere, over OpenSSH: it needs vyr, an SSH server, and no console
    ///
    /// The bundle is sent there, with the one key that opens it; the key of --identity stays here.
    /// Only host keys in the site's file known_hosts are believed.
    #[arg(long, value_name = "NAME|ssh://[USER@]HOST[:PORT]")]
    pub(crate) node: Option<String>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    #[command(flatten)]
    pub(crate) remote: RemoteArgs,

    #[command(flatten)]
    pub(crate) host: HostArgs,
}
