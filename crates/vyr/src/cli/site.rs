//! The commands of a site: intent, plans, operators.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vyr_base::parse_duration_ms;
use vyr_plan::intent::Name;

use super::image::RegistryAccess;

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
    /// Images, instances, ingress
    Services,
}

impl Kind {
    /// As `--json` has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Services => "services",
        }
    }
}

/// The plan of what a host is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum HostKind {
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

/// Allocate what the intent needs: addresses, digests of images, the next epochs. Writes vyr.lock
///
/// The only command that asks a registry what a tag means; what the lock pins already is not asked
/// for again. Exit code 6: a registry could not be asked, and nothing was written.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) site: SiteArgs,

    /// Ask again what the tags mean now: that of a service, or all
    #[arg(long, value_name = "SERVICE", num_args = 0..=1)]
    pub(crate) update: Option<Option<Name>>,

    /// Take an IPv4 address back that its service does not ask for any more
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) release: Option<Ipv4Addr>,

    #[command(flatten)]
    pub(crate) access: RegistryAccess,
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

/// Compare two plans by what they mean: what changes, and who gains or loses reach to what
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// network (the default) or services; then two of: sha256:.. of plans/, a file, `applied`,
    /// `intent`, `empty` [default: applied intent]
    #[arg(value_name = "KIND|PLAN", num_args = 0..=3)]
    words: Vec<String>,

    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

impl DiffArgs {
    /// Which kind, and which two plans; none: there are more words than that.
    pub(crate) fn read(&self) -> Option<(Kind, [&str; 2])> {
        let (kind, plans) = match self.words.split_first() {
            Some((word, rest)) if word == "network" => (Kind::Network, rest),
            Some((word, rest)) if word == "services" => (Kind::Services, rest),
            _ => (Kind::Network, self.words.as_slice()),
        };
        let word = |at: usize, default| plans.get(at).map_or(default, String::as_str);
        (plans.len() <= 2).then(|| (kind, [word(0, "applied"), word(1, "intent")]))
    }
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
    /// An address, prefix, rule, key, name, slot or invariant; or where packets come from
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
