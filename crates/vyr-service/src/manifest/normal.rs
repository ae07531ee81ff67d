//! A file becomes the normalised form: defaults written out, `env` copied into each process, lists
//! that have no order sorted.

use std::collections::BTreeMap;

use vyr_base::form::{At, Name};

use super::file::{HealthKind, HealthTable, ManifestFile, ProcessTable, RouteTable};
use super::{
    Health, Image, MANIFEST_VERSION, Manifest, Port, Prestart, Process, Resources, Restart, Route,
    Word,
};

/// Defaults, with their reasons. `cpu`: one processor is what a program expects that asks nobody.
pub(super) const CPU_MILLI: u32 = 1000;
/// Room for logs, caches and a package or two; the file is sparse, so what is not written costs
/// nothing.
pub(super) const DISK_BYTES: u64 = 4 << 30;
/// Three starts that fail are no accident.
pub(super) const MAX_RETRIES: u8 = 3;
/// Long enough for a port to be free again, short enough for an outage.
pub(super) const BACKOFF_SECONDS: u16 = 2;
/// What container platforms give a process to end, so that images are made for it.
pub(super) const GRACE_SECONDS: u16 = 10;
/// Long enough for a migration of a small database.
pub(super) const PRESTART_TIMEOUT_SECONDS: u16 = 30;
/// Checks: each ten seconds, two seconds long, none that counts in the first ten, one good one makes
/// ready, three bad ones make not ready.
pub(super) const HEALTH: (u16, u16, u16, u8, u8) = (10, 2, 10, 1, 3);

/// The manifest that `file` declares for `service`, and for each of its routes the place that it has
/// in the file.
pub(super) fn normalise(service: &Name, file: &ManifestFile) -> (Manifest, Vec<usize>) {
    let processes = file.processes.iter();
    let processes = processes.map(|(name, table)| ((**name).clone(), process(file, table)));
    let mut routes: Vec<(Route, usize)> =
        file.routes.iter().enumerate().map(|(at, table)| (route(table), at)).collect();
    // The key of a route: two with the same one are a fault, in whichever order.
    routes.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    let (routes, places) = routes.into_iter().unzip();
    let secrets = file.secrets.required.iter().flat_map(|names| names.iter());
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        service: service.clone(),
        description: file.description.clone(),
        image: Image {
            reference: (*file.image.reference).clone(),
            pull_policy: file.image.pull_policy,
        },
        processes: processes.collect(),
        routes,
        secrets: secrets.map(|name| (**name).clone()).collect(),
    };
    (manifest, places)
}

/// By what routes are sorted: all that they say, port and hostname first.
pub(super) fn order(route: &Route) -> impl Ord + '_ {
    let Route { hostname, port, process, to, proxy_protocol, default, ipv4 } = route;
    (*port, hostname, process, to, *proxy_protocol, *default, *ipv4)
}

fn process(file: &ManifestFile, table: &ProcessTable) -> Process {
    let vars = file.env.vars.iter().chain(&table.vars);
    let vars: BTreeMap<_, _> =
        vars.map(|(name, value)| ((**name).clone(), value.clone())).collect();
    let words = |list: &At<Vec<Word>>| (**list).clone();
    let prestart = table.prestart.as_ref().or(file.env.prestart.as_ref()).map(words);
    let timeout_seconds = file.env.prestart_timeout_seconds.unwrap_or(PRESTART_TIMEOUT_SECONDS);
    let port = |port: &At<super::PortTable>| {
        (port.name.clone(), Port { internal: port.internal, protocol: port.protocol })
    };
    Process {
        // An empty list says no more than none.
        command: table.command.as_ref().map(words).filter(|words| !words.is_empty()),
        workdir: table.workdir.clone().or_else(|| file.env.workdir.clone()),
        user: table.user.clone().or_else(|| file.env.user.clone()),
        vars,
        prestart: prestart
            .filter(|words| !words.is_empty())
            .map(|command| Prestart { command, timeout_seconds }),
        restart: Restart {
            policy: table.restart.policy,
            max_retries: table.restart.max_retries.unwrap_or(MAX_RETRIES),
            backoff_seconds: table.restart.backoff_seconds.unwrap_or(BACKOFF_SECONDS),
        },
        resources: Resources {
            memory_bytes: table.resources.memory.0,
            cpu_milli: table.resources.cpu.map_or(CPU_MILLI, |cpu| cpu.0),
            disk_bytes: table.resources.disk.as_ref().map_or(DISK_BYTES, |disk| disk.0),
        },
        scale: table.scale.min.as_ref().map_or(1, |min| **min),
        ports: table.ports.iter().map(port).collect(),
        health: table.health.as_ref().map(|table| health(table)),
        grace_seconds: table.grace_seconds.unwrap_or(GRACE_SECONDS),
        stop_signal: table.stop_signal,
    }
}

fn health(table: &HealthTable) -> Health {
    let (interval, timeout, grace, success, failure) = HEALTH;
    let path = || table.path.clone().or_else(|| "/".parse().ok());
    let interval_seconds = table.interval_seconds.unwrap_or(interval);
    Health {
        kind: *table.kind,
        port: table.port,
        path: if *table.kind == HealthKind::Http { path() } else { None },
        interval_seconds,
        // Who asks every second did not mean to wait for two.
        timeout_seconds: table.timeout_seconds.unwrap_or(timeout.min(interval_seconds)),
        grace_seconds: table.grace_seconds.unwrap_or(grace),
        success: table.success.unwrap_or(success),
        failure: table.failure.unwrap_or(failure),
    }
}

fn route(table: &RouteTable) -> Route {
    let said = |flag: &Option<At<bool>>| flag.as_ref().is_some_and(|flag| **flag);
    Route {
        hostname: table.hostname.as_ref().map(|name| (**name).clone()),
        port: *table.port,
        process: (*table.process).clone(),
        to: (*table.to).clone(),
        proxy_protocol: said(&table.proxy_protocol),
        default: said(&table.default),
        ipv4: table.ipv4,
    }
}
