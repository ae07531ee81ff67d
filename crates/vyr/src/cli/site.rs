//! The commands of a site: intent, plans, operators.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vyr_base::parse_duration_ms;

/// Which site.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    /// The directory of the site [default: the nearest parent with a site.toml]
    #[arg(long, value_name = "DIR")]
    pub(crate) site: Option<PathBuf>,
}

/// Which of a site's plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Kind {
    /// WireGuard, addresses, routes, firewall
    #[default]
    Network,
}

/// Begin a site: draw its prefix, write commented files
///
/// Writes site.toml, clients.toml, operators.allowed_signers, contracts/ and schemas for editors.
/// Nothing that is there already is touched.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where [default: here]
    pub(crate) directory: Option<PathBuf>,

    /// The site's name [default: the directory's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Your public key: the first operator
    #[arg(long, value_name = "FILE.pub")]
    pub(crate) operator: Option<PathBuf>,

    /// Only write the schemas of this version again
    #[arg(long)]
    pub(crate) schemas: bool,
}

/// Allocate what the intent needs: addresses, the next epoch. Writes vyr.lock
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Compile the site, prove its invariants, run its contracts. Writes nothing
///
/// Exit code 0: all hold; 1: a contract does not; 2: a file or an invariant; 5: run `vyr lock`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// List what remains a single point of failure, and why
    #[arg(long)]
    pub(crate) spof: bool,

    /// Write the results as JUnit XML too: a file, or - for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// Compile the site and show what would change. Writes nothing but what it is told to
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PlanCommand>,

    #[arg(default_value = "network")]
    pub(crate) kind: Kind,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// Write the plan, canonical JSON: a file, or - for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Write what each machine gets into this new directory; keys are placeholders there
    #[arg(long, value_name = "DIR")]
    pub(crate) render: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    Sign(SignArgs),
}

/// Approve the plan: sign its digest. Writes plans/
///
/// With a key, an agent, or elsewhere: `--request` prints the text to sign, `ssh-keygen -Y sign -n
/// vyr-plan -f KEY TEXT` signs it, `--approval TEXT --signature TEXT.sig` brings both back.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: Kind,

    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// Sign with this private key, or with this public key's half in an ssh-agent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "approval"])]
    pub(crate) key: Option<PathBuf>,

    /// How long the approval counts, such as 24h
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = parse_duration_ms)]
    pub(crate) expires: u64,

    /// Print the text to sign elsewhere
    #[arg(long, conflicts_with = "approval")]
    pub(crate) request: bool,

    /// The text that was signed elsewhere
    #[arg(long, value_name = "TEXT", requires = "signature")]
    pub(crate) approval: Option<PathBuf>,

    /// Its signature
    #[arg(long, value_name = "SIG", requires = "approval")]
    pub(crate) signature: Option<PathBuf>,
}

/// Compare two plans by what they mean: who gains or loses reach to what
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// sha256:.. of plans/, a file, `applied`, `intent` or `empty`
    #[arg(value_name = "A", default_value = "applied")]
    pub(crate) before: String,

    /// The other one
    #[arg(value_name = "B", default_value = "intent")]
    pub(crate) after: String,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// List the plans that led here, and who approved them
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[arg(default_value = "network")]
    pub(crate) kind: Kind,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Say where something comes from, or what happens to packets
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// An address, prefix, rule, key, name or invariant; or where packets come from
    #[arg(value_name = "ID|FROM")]
    pub(crate) id: String,

    /// Where packets go: client:ID, lan:INTERFACE, internet, an address, a prefix..
    #[arg(value_name = "TO")]
    pub(crate) to: Option<String>,

    /// With which protocol and port: any, icmp, tcp/443..
    #[arg(value_name = "SERVICE", requires = "to", default_value = "any")]
    pub(crate) service: String,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Show who is connected to what, and who reaches what
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// Draw it: a file, or - for stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}
