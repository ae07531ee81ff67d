//! What can be typed about nodes: tasks, states, events, receipts.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vyr_base::{Digest, parse_bytes, parse_duration_ms};

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    Submit(Box<SubmitArgs>),
    /// List tasks, newest first
    Ls {
        /// Only those that have not ended
        #[arg(long)]
        alive: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Show one task
    Show {
        /// The task
        #[arg(value_name = "ID")]
        task: String,
    },
    /// End a task early
    ///
    /// A task that has ended already answers with its state.
    Cancel {
        /// The task
        #[arg(value_name = "ID")]
        task: String,
    },
    /// Print a task's output
    Output {
        /// The task
        #[arg(value_name = "ID")]
        task: String,
        /// Write it to a file instead of stdout
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the last of a task's log: what it wrote to its standard error
    Logs {
        /// The task
        #[arg(value_name = "ID")]
        task: String,
    },
    /// Wait for tasks to end
    ///
    /// Exit code 0: all completed; 1: one did not, or the time was over.
    Wait {
        /// The tasks
        #[arg(value_name = "ID", required = true)]
        tasks: Vec<String>,
        /// Wait no longer, such as 30s
        #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
        timeout: Option<u64>,
    },
    /// Print a task's receipt: one file that `vyr verify` checks without a node
    Receipt {
        /// The task
        #[arg(value_name = "ID")]
        task: String,
        /// Write it to a file instead of stdout
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Submit a task; prints its id
///
/// A file is built into an artifact, signed and put as `vyr run` does. Where no node is running,
/// the task runs before the command returns. Exit code 0: it was accepted, or with --wait, it
/// completed; 1: it did not.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// A Wasm file, or sha256:.. of an artifact
    #[arg(value_name = "FILE.wasm|sha256:..")]
    pub(crate) program: String,

    /// The guest's standard input: a file, or - for this command's own
    #[arg(long, value_name = "F|-")]
    pub(crate) input: Option<PathBuf>,

    /// Submit one task for each line of a file, or of stdin for -
    ///
    /// A line is the task's input, its line feed included. Prints one line for each, in order.
    #[arg(long, value_name = "F|-", conflicts_with = "input")]
    pub(crate) each_line: Option<PathBuf>,

    /// An idempotency key: the same key again gives the same task
    ///
    /// With --each-line, a line's key is this, a hyphen and its number.
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,

    /// Sign with this private key, or with this public key's half in an ssh-agent
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Linear memory, such as 64Mi [default: the node's]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,

    /// Wall time, such as 10s [default: the node's]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub(crate) deadline: Option<u64>,

    /// Processor time, such as 5s [default: the node's]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub(crate) cpu: Option<u64>,

    /// Bytes of output, such as 1Gi [default: the node's]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) output_max: Option<u64>,

    /// Higher runs first: -100 to 100
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,

    /// Fixed clock and random seed: the same input gives the same output
    #[arg(long)]
    pub(crate) deterministic: bool,

    /// Bind a state to the task; may be repeated
    #[arg(long = "bind", value_name = "STATE_ID:ro|rw", value_parser = binding)]
    pub(crate) bind: Vec<(String, Access)>,

    /// Wait for its end
    #[arg(long)]
    pub(crate) wait: bool,
}

/// What a task may do with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// Read only
    Ro,
    /// Read and write
    Rw,
}

fn binding(text: &str) -> Result<(String, Access), String> {
    let (state, access) = text.rsplit_once(':').unwrap_or((text, ""));
    match Access::from_str(access, false) {
        Ok(access) if !state.is_empty() => Ok((state.to_owned(), access)),
        _ => Err(format!("{text:?} is not STATE_ID:ro or STATE_ID:rw")),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Make an ephemeral state; prints its id
    ///
    /// It lives until the last task bound to it has ended, or for a while if none ever is.
    Create {
        /// What guests see: /state/NAME
        name: String,
        /// What it may hold, such as 64Mi [default: the node's]
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
        size: Option<u64>,
    },
    /// Bind a state to a task that has not begun
    Bind {
        /// The task
        task: String,
        /// The state
        state: String,
        /// What the task may do with it
        access: Access,
    },
    /// List the states that are alive
    Ls,
}

/// Watch tasks as they are accepted, run and end
///
/// Shows what the journal still holds, then what happens, as a table on a terminal and as one JSON
/// object a line elsewhere. With --task it ends with the last of those tasks.
#[derive(Debug, Args)]
pub(crate) struct TracesArgs {
    /// Only this task; may be repeated
    #[arg(long = "task", value_name = "ID")]
    pub(crate) tasks: Vec<String>,

    /// Only tasks of this artifact
    #[arg(long, value_name = "DIGEST")]
    pub(crate) artifact: Option<Digest>,

    /// Only ends
    #[arg(long)]
    pub(crate) terminal: bool,
}

/// Watch a node's metrics
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Only metrics whose name begins with this, such as vyr.tasks
    #[arg(long, value_name = "P", default_value = "")]
    pub(crate) prefix: String,

    /// Between two looks: 100ms to 60s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration_ms)]
    pub(crate) interval: u64,
}

/// Print the journal's events
///
/// One line an event on a terminal; elsewhere the journal's own leaves, one JSON object a line.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EventsArgs {
    /// Begin with this event
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from: u64,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,

    /// Go on with what happens
    #[arg(long)]
    pub(crate) follow: bool,

    #[command(subcommand)]
    pub(crate) command: Option<EventsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Make the views of this data directory's journal anew from its events
    ///
    /// Exit code 0: they were what the events say; 1: they were not, and are now.
    Rebuild,
}

/// Check a receipt, or a whole journal
///
/// A receipt needs no node and no network, and believes only the keys of --trust. A journal is that
/// of the data directory; it is held against the node's own key unless --trust names others, and
/// against a checkpoint that was kept elsewhere with --since. Names everything that does not match.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A receipt, as `vyr task receipt` wrote it, or a plan of plans/ beside its approvals
    #[arg(value_name = "FILE", required_unless_present = "journal", conflicts_with = "journal")]
    pub(crate) file: Option<PathBuf>,

    /// Check the data directory's journal instead
    #[arg(long)]
    pub(crate) journal: bool,

    /// The public keys of nodes: lines of allowed_signers, or .pub files
    ///
    /// For a plan: those of operators, or the plan that it replaces.
    #[arg(long, value_name = "KEYS")]
    pub(crate) trust: Option<PathBuf>,

    /// How many of several operators must have approved a plan
    #[arg(long, value_name = "K", conflicts_with = "journal", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) threshold: Option<u8>,

    /// Accept an artifact that was signed with a development key
    #[arg(long, conflicts_with = "journal")]
    pub(crate) allow_dev: bool,

    /// A checkpoint that was kept elsewhere, as `vyr checkpoint` wrote it
    #[arg(long, value_name = "FILE", requires = "journal")]
    pub(crate) since: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Print the node's public key, as a line for `vyr verify --trust`
    Key {
        /// The age recipient to which secrets of its services are encrypted; made on first use
        ///
        /// A line for secrets/recipients of the site. The private half stays in DATA/keys/secrets.
        #[arg(long)]
        secrets: bool,
    },
}

/// Print a signed checkpoint over all events there are
///
/// Kept elsewhere, it shows later that nothing before it was changed: `vyr verify --journal
/// --since FILE`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Write it to a file instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchedCommand {
    /// The tier, why it is not a higher one, and each worker's hints
    ///
    /// A worker in parentheses is a control block that no thread has. Times are from a hint to its
    /// acknowledgement.
    Status,
    /// The same, again and again
    Top {
        /// Between two looks, such as 500ms
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration_ms)]
        interval: u64,
    },
    /// What guidance costs, how soon it is heard, and what it is good for
    ///
    /// Measures on this machine, without a node: a checkpoint, hints on their way, context switches,
    /// short tasks beside hogs with guidance, timers and neither. Writes a report with raw samples,
    /// tables and a plot. Exit code 1: a target was missed.
    Bench(Box<vyr_bench::sched::Options>),
}
