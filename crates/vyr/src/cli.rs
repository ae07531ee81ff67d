//! What can be typed: the tree of commands, from which help, completions and manual pages come.

mod client;
mod image;
mod ingress;
mod network;
mod node;
mod secret;
mod services;
mod site;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vyr_base::{Digest, parse_bytes, parse_duration_ms};

pub(crate) use client::{
    ClientAddArgs, ClientCommand, ClientExportArgs, ClientLsArgs, ClientMoveArgs, ClientRevokeArgs,
    ClientRotateArgs, Format, Revoked,
};
pub(crate) use image::{
    ImageBuildArgs, ImageCommand, ImagePullArgs, ImageResolveArgs, RegistryAccess,
};
pub(crate) use ingress::{IngressArgs, IngressCommand};
pub(crate) use network::{
    ApplyArgs, BackendName, BundleArgs, BundleCommand, ConfirmArgs, DriftArgs, HostArgs,
    NetworkCommand, NodeArgs, RebuildArgs, RemoteArgs, RollbackArgs, SeenArgs, ServerCommand,
    ServerLsArgs, ServerRotateArgs,
};
pub(crate) use node::{
    Access, CheckpointArgs, EventsArgs, EventsCommand, MetricsArgs, NodeCommand, SchedCommand,
    StateCommand, SubmitArgs, TaskCommand, TracesArgs, VerifyArgs,
};
pub(crate) use secret::{SecretArgs, SecretCommand, SecretInput};
pub(crate) use services::{
    DeployArgs, DeployOptions, ExecArgs, LogsArgs, PsArgs, ReleaseCommand, ReleaseLsArgs,
    ReleaseReceiptArgs, ReleaseRollbackArgs, ReleaseShowArgs, Scale, ScaleArgs, ServiceCommand,
    SlotArgs,
};
pub(crate) use site::{
    CheckArgs, DiffArgs, ExplainArgs, GraphArgs, HistoryArgs, InitArgs, Kind, LockArgs, PlanArgs,
    PlanCommand, SignArgs,
};

/// Run signed, digest-addressed Wasm tasks on machines you own. 0.x alpha: anything may change.
#[derive(Debug, Parser)]
#[command(name = "vyr", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where keys, trust, artifacts and compiled code lie
    ///
    /// Default: /var/lib/vyr for root, else $XDG_STATE_HOME/vyr (~/.local/state/vyr).
    #[arg(long, global = true, env = "VYR_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Print one JSON object on stdout and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    /// Run a node in the foreground: tasks, journal, sockets
    ///
    /// Supervises the processes api, tasks and compile. Ends on SIGTERM or Ctrl-C, after the tasks
    /// that run have ended or their time is over; a second signal ends it at once.
    Up {
        /// The configuration [default: /etc/vyr/vyr.toml for root, else DATA/vyr.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Give each new signed checkpoint to a file too, or to a command: `| PROGRAM WORDS..`
        ///
        /// Kept elsewhere, it shows later that nothing before it was changed: `vyr verify --journal
        /// --since FILE`. A command is started without a shell for each, at most one a second, and
        /// reads it on its stdin; it has 10 s. Failures are counted and said in the log.
        #[arg(long, value_name = "FILE|CMD")]
        checkpoint_out: Option<OsString>,
    },
    /// Say whether a node is running, and what it is doing
    ///
    /// Exit code 0: it is ready; 6: there is none.
    Status,
    /// Make, list and trust signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Build, sign, store and move artifacts
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// Take in container images by digest, and make root disks of them
    #[command(subcommand)]
    Image(ImageCommand),
    /// Submit tasks, and see what became of them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Make, bind and list what tasks keep between them
    #[command(subcommand)]
    State(StateCommand),
    Traces(TracesArgs),
    Metrics(MetricsArgs),
    Events(EventsArgs),
    Verify(VerifyArgs),
    Checkpoint(CheckpointArgs),
    /// The node of this data directory
    #[command(subcommand)]
    Node(NodeCommand),
    Init(InitArgs),
    Lock(LockArgs),
    Check(CheckArgs),
    Plan(PlanArgs),
    Diff(DiffArgs),
    History(HistoryArgs),
    Explain(ExplainArgs),
    Graph(GraphArgs),
    Apply(ApplyArgs),
    Confirm(ConfirmArgs),
    Rollback(RollbackArgs),
    Drift(DriftArgs),
    #[command(subcommand)]
    Network(NetworkCommand),
    Bundle(BundleArgs),
    Rebuild(RebuildArgs),
    /// This host's own keys
    #[command(subcommand)]
    Server(ServerCommand),
    Ingress(IngressArgs),
    /// People's devices
    #[command(subcommand)]
    Client(ClientCommand),
    Deploy(DeployArgs),
    Scale(ScaleArgs),
    Ps(PsArgs),
    Logs(LogsArgs),
    Exec(ExecArgs),
    /// Empty a slot whatever the plan says, and let the plan have it again
    #[command(subcommand)]
    Service(ServiceCommand),
    /// What services were made of, what became of their deploys, and the way back
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// What services are told and nobody else: age files in the site
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show how the kernel guides the threads that run guests
    #[command(subcommand)]
    Sched(SchedCommand),
    /// Say what this machine offers, what it does not, and why
    Doctor,
    /// Measure this build beside its references
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Answer for this host's network on stdin and stdout (the other end of `--node`)
    #[command(name = "__network-agent", hide = true)]
    NetworkAgent,
    /// Write the generated documentation and completions (for `cargo xtask generate`)
    #[command(name = "__generate", hide = true)]
    Generate {
        /// An empty directory
        directory: PathBuf,
    },
}

/// Run one task and print its output
///
/// A file is built into an artifact, signed, stored and run; a digest names an artifact of the
/// store. The guest reads the input, its output goes to stdout and its log to stderr; it reaches
/// no file and no network. Exit code 0: it completed; 1: it failed.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A Wasm file, or sha256:.. of an artifact
    #[arg(value_name = "FILE.wasm|sha256:..")]
    pub(crate) program: String,

    /// The guest's arguments; they become part of the artifact that is signed
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,

    /// The guest's standard input: a file, or - for this command's own
    #[arg(long, value_name = "F|-")]
    pub(crate) input: Option<PathBuf>,

    /// Write the output to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Do not keep the output in the store
    #[arg(long)]
    pub(crate) no_store: bool,

    /// Sign with this private key, or with this public key's half in an ssh-agent
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Linear memory, such as 64Mi [default: 64Mi]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,

    /// Wall time, such as 10s [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub(crate) deadline: Option<u64>,

    /// Processor time, such as 5s [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub(crate) cpu: Option<u64>,

    /// Bytes of output, such as 1Gi [default: 1Gi]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) output_max: Option<u64>,

    /// Fixed clock and random seed: the same input gives the same output
    #[arg(long)]
    pub(crate) deterministic: bool,

    /// Exit with the guest's own exit code
    #[arg(long)]
    pub(crate) exit_code: bool,

    /// No summary on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an Ed25519 key pair in the data directory
    New {
        /// Its file name
        name: String,
    },
    /// Print the trusted signers, as lines of an allowed_signers file
    Ls,
    /// Trust a key: add it to the list of signers
    ///
    /// From the first trusted key on, the development key is no longer believed.
    Trust {
        /// A public key file (or the name of a key of this data directory)
        key: PathBuf,
        /// Whose it is: a name or an address without spaces
        #[arg(long, value_name = "NAME")]
        principal: Option<String>,
        /// What it may sign; may be repeated
        #[arg(long = "namespace", value_name = "NS", default_value = "vyr-artifact")]
        namespaces: Vec<Namespace>,
    },
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Namespace {
    #[value(name = "vyr-artifact")]
    Artifact,
    #[value(name = "vyr-plan")]
    Plan,
    #[value(name = "vyr-checkpoint")]
    Checkpoint,
    #[value(name = "vyr-bundle")]
    Bundle,
}

impl From<Namespace> for vyr_artifact::Namespace {
    fn from(namespace: Namespace) -> Self {
        match namespace {
            Namespace::Artifact => Self::Artifact,
            Namespace::Plan => Self::Plan,
            Namespace::Checkpoint => Self::Checkpoint,
            Namespace::Bundle => Self::Bundle,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Build a draft from a Wasm file; prints its digest
    Build {
        /// The Wasm file
        file: PathBuf,
        /// The artifact's name
        #[arg(long)]
        name: String,
        /// An argument of the guest; may be repeated
        #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
        args: Vec<String>,
        /// A variable of the guest's environment; may be repeated
        #[arg(long = "env", value_name = "KEY=VALUE", value_parser = key_value)]
        env: Vec<(String, String)>,
        /// A state the guest needs; may be repeated
        #[arg(long = "state", value_name = "NAME")]
        states: Vec<String>,
    },
    /// Sign a draft or a stored artifact
    Sign {
        /// The artifact
        digest: Digest,
        /// A private key, or a public key whose private half an ssh-agent holds
        #[arg(long, value_name = "FILE", required_unless_present = "detached")]
        key: Option<PathBuf>,
        /// A signature made elsewhere with ssh-keygen -Y sign -n vyr-artifact
        #[arg(long, value_name = "FILE.sig", conflicts_with = "key")]
        detached: Option<PathBuf>,
    },
    /// Admit a signed draft to the store
    Put {
        /// The draft
        digest: Digest,
    },
    /// List artifacts and who vouches for them
    Ls,
    /// Show an artifact's manifest, or its signature
    Show {
        /// The artifact
        digest: Digest,
        /// Print its SSH signature instead
        #[arg(long)]
        signature: bool,
        /// Print the exact bytes a signature covers instead
        #[arg(long)]
        signed_bytes: bool,
    },
    /// Write artifacts and their signatures as an OCI layout archive
    Export {
        /// The artifacts
        #[arg(required = true)]
        digests: Vec<Digest>,
        /// The tar file to write, or - for stdout
        #[arg(long, short, value_name = "FILE|-")]
        output: PathBuf,
    },
    /// Take in the artifacts of an archive, if every one is trusted
    Import {
        /// The tar file to read, or - for stdin
        #[arg(value_name = "FILE|-")]
        archive: PathBuf,
    },
    /// Remove what nothing refers to
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// Keep what is younger, such as outputs just made
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration_ms)]
        older_than: u64,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The task engine beside bare Wasmtime
    ///
    /// Interleaves both in one process and as whole processes, writes a report with raw samples,
    /// tables and a plot. Exit code 1: a target was missed, or this build is slower than BASE.
    Task(Box<vyr_bench::task::Options>),
    /// A node beside a reference that pays for transport and disk alone
    ///
    /// Starts a node and the reference on new directories of the same disk, loads both with the
    /// same client in turns, writes a report with raw samples, tables and a plot. Exit code 1: a
    /// target was missed.
    Node(Box<vyr_bench::node::Options>),
    /// The plan compiler, from 10 to 10,000 clients
    ///
    /// Compiles sites that are the same ones every time, a process a sample, and writes a report
    /// with raw samples, tables and a plot. Exit code 1: a target was missed, or this build is
    /// slower than BASE.
    Plan(Box<vyr_bench::plan::Options>),
    /// Tunnels, changes of a server with 1,000 peers, recovery, and who notices
    ///
    /// Makes servers and clients in network namespaces of this machine, with wireguard-go, beside
    /// what is typed by hand with `wg`, `ip` and `nft`. Measures what a tunnel carries and costs,
    /// how long packets wait beside a load, and what people lose when a plan, a key or a router
    /// changes. Writes a report and a plot, and appends the raw samples to a file. Needs root, and
    /// iperf3 for loads. Exit code 1: a target was missed, or this build is slower than BASE.
    Net(Box<vyr_bench::net::Options>),
    /// An ingress beside HAProxy with as many threads
    ///
    /// Starts both with the same listeners and the same backend on loopback, loads them in turns with
    /// streams and with new connections, writes a report with raw samples, tables and a plot. Exit
    /// code 1: a target was missed.
    Ingress(Box<vyr_bench::ingress::Options>),

    /// A deploy beside a bare boot, snapshot starts, memory of idle instances, rollouts under load
    ///
    /// Makes a registry, a site and a node in a network namespace of this machine, and the same machine
    /// by hand in another one. Measures how long a deploy of a pulled image takes to its first answer,
    /// what a start from a snapshot saves, what the node has for each idle instance, and who is refused
    /// while the next release takes the place of the one before. Writes a report and a plot, and appends
    /// the raw samples to a file. Needs root, QEMU, docker-registry, umoci, skopeo, busybox and the
    /// platform of guests. Exit code 1: a target was missed.
    Services(Box<vyr_bench::services::Options>),
    /// An image to a root disk, beside mksquashfs by hand
    ///
    /// Makes an image, builds its disk and a squashfs of the same stream in turns, writes a report with
    /// raw samples and tables. Needs tar2sqfs, mksquashfs and gzip. Exit code 1: a target was missed.
    Image(Box<vyr_bench::image::Options>),
}
