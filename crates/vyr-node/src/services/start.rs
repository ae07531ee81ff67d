//! What a guest is told as it starts: the manifest over what the image says.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

use vyr_service::manifest::{Health, Manifest, Process as Wanted};
use vyr_service::run::Reason;
use vyr_vm::channel::words::{Check, Network, Prestart, Process, Start};
use vyr_vm::image::{Config, User};

use crate::process::Fetched;

/// Memory is given away once: what is counted for a VMM is what it may take (ADR-0022).
const _: () = assert!(vyr_service::place::OVERHEAD_BYTES == vyr_vm::vmm::OVERHEAD_BYTES);

/// An instance that cannot be started as it is declared.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct StartFault {
    pub(super) reason: Reason,
    pub(super) why: String,
}

/// Everything that differs from one instance to the next.
pub(super) struct Own {
    pub(super) hostname: String,
    pub(super) network: Option<Network>,
    /// The text of `/run/secrets/platform.env`.
    pub(super) secrets: Option<Vec<u8>>,
}

/// What the guest of a process is told. `image` is what it runs.
pub(super) fn start(
    manifest: &Manifest,
    process: &Wanted,
    image: &Fetched,
    own: Own,
) -> Result<Start, StartFault> {
    let workload = workload(process, image)?;
    let prestart = process.prestart.as_ref().map(|of| Prestart {
        process: Process {
            argv: of.command.iter().map(ToString::to_string).collect(),
            ..workload.clone()
        },
        timeout_ms: u64::from(of.timeout_seconds) * 1000,
    });
    let hosts = own.network.as_ref().map(|network| hosts(network.ipv6.address, &own.hostname));
    Ok(Start {
        // Both are filled in as the guest is told.
        entropy: [0; 32],
        time_ns: 0,
        hosts: hosts.unwrap_or_default(),
        // An instance opens no connection to anywhere, and so asks nobody for names.
        resolv_conf: String::new(),
        // A file without a secret is still a file: programs that read it find it.
        secrets: (!manifest.secrets.is_empty()).then_some(own.secrets).flatten(),
        scratch: true,
        prestart,
        process: workload,
        health: process.health.as_ref().map(|health| check(health, own.network.as_ref())),
        hostname: own.hostname,
        network: own.network,
    })
}

pub(super) fn workload(process: &Wanted, image: &Fetched) -> Result<Process, StartFault> {
    let Config { entrypoint, cmd, env, working_dir, .. } = &image.config;
    let argv: Vec<String> = match &process.command {
        Some(command) => command.iter().map(ToString::to_string).collect(),
        None => entrypoint.iter().chain(cmd).cloned().collect(),
    };
    if argv.is_empty() {
        return Err(StartFault {
            reason: Reason::EntrypointFailed,
            why: "neither the image nor the manifest says what runs".into(),
        });
    }
    let User { uid, gid, groups, home } = user(process, image)?;
    // The manifest's last: who writes a variable there means it.
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables.insert("PATH".into(), PATH.into());
    variables.extend(home.map(|home| ("HOME".to_owned(), home)));
    variables.extend(env.iter().cloned());
    let own = process.vars.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    variables.extend(own);
    let workdir = process.workdir.as_ref().map_or_else(|| working_dir.clone(), ToString::to_string);
    Ok(Process { argv, env: variables.into_iter().collect(), uid, gid, groups, workdir })
}

/// Where programs are, unless the image says otherwise; as other runtimes have it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn user(process: &Wanted, image: &Fetched) -> Result<User, StartFault> {
    let Some(spelled) = &process.user else { return Ok(image.user.clone()) };
    image
        .accounts
        .resolve(spelled.as_str())
        .map_err(|e| StartFault { reason: Reason::EntrypointFailed, why: e.to_string() })
}

/// Asked where clients come in, if they do: what listens on the loopback only serves nobody.
fn check(health: &Health, network: Option<&Network>) -> Check {
    let address = network.map_or(Ipv6Addr::LOCALHOST, |network| network.ipv6.address);
    Check {
        at: SocketAddr::from((address, health.port)),
        path: health.path.as_ref().map(ToString::to_string),
        interval_ms: u64::from(health.interval_seconds) * 1000,
        timeout_ms: u64::from(health.timeout_seconds) * 1000,
    }
}

fn hosts(address: Ipv6Addr, hostname: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost\n{address} {hostname}\n")
}
