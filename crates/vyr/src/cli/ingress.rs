//! The commands of the ingress.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Carry connections to ready backends: TLS by server name, raw TCP by port
///
/// Runs in the foreground until SIGTERM or Ctrl-C, then accepts nothing more and ends with its last
/// connection, or after the configuration's drain time. It does not end with the process that started
/// it. Started by root, it gives root up once it listens. The configuration is described in
/// docs/ingress.md.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct IngressArgs {
    /// Its configuration
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<IngressCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IngressCommand {
    /// Say whether a configuration is good, with every fault of it
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Have the ingress that runs use a configuration, without dropping a connection
    ///
    /// Listeners that it has not yet are made by this command, with the rights of its user, and handed
    /// over. To undo it, apply the file of before.
    Apply {
        /// The configuration; it names the control socket
        file: PathBuf,
    },
    /// End every connection to hosts that are gone, and would never say so
    ///
    /// Of use when a machine was switched off: a connection to it would last until it had been idle for too
    /// long. What a backend had said to its end still reaches its client. Take the backends out of the
    /// configuration first, or new connections try them.
    Cut {
        /// The configuration, which names the control socket
        file: PathBuf,
        /// Addresses of hosts, without ports
        #[arg(required = true)]
        hosts: Vec<IpAddr>,
    },
    /// Show the listeners, routes and counters of the ingress that runs
    Status {
        /// Its configuration, which names the control socket
        file: PathBuf,
    },
}
