//! What no manifest may say, judged on the normalised form.

use std::collections::BTreeMap;
use std::fmt;

use vyr_base::form::Name;
use vyr_base::format_bytes;

use super::{
    CPU_MILLI_MAX, DISK_BYTES_MIN, HealthKind, MANIFEST_BYTES_MAX, MANIFEST_VERSION,
    MEMORY_BYTES_MIN, Manifest, Process, Route, Word, normal,
};

/// Processes, ports of one, routes, secrets of a service.
const PROCESSES_MAX: usize = 32;
const PORTS_MAX: usize = 64;
const ROUTES_MAX: usize = 256;
const SECRETS_MAX: usize = 256;
/// Arguments of a command, variables of a process, and bytes of both: they go to the guest in one
/// message of 1 MiB, beside its secrets.
const WORDS_MAX: usize = 256;
const VARS_MAX: usize = 512;
const WORD_BYTES_ALL_MAX: usize = 256 << 10;

/// What a fault is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// All of the service.
    Service,
    /// A process.
    Process(Name),
    /// A process's `command`.
    Command(Name),
    /// A process's `prestart`, or that of `env`.
    Prestart(Name),
    /// A process's `resources.memory`.
    Memory(Name),
    /// A process's `resources.disk`.
    Disk(Name),
    /// A process's `health`.
    Health(Name),
    /// A route, by its place in [`Manifest::routes`].
    Route(usize),
    /// The secrets.
    Secrets,
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its stable name.
    pub id: &'static str,
    /// What it is about.
    pub spot: Spot,
    /// What is wrong.
    pub what: String,
    /// Why it is.
    pub why: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Faults as they are found.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(
        &mut self,
        id: &'static str,
        spot: Spot,
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (what, why, hint) = (what.into(), why.into(), hint.into());
        self.0.push(Fault { id, spot, what, why, hint });
    }

    /// A number that must be in a range.
    fn range(&mut self, spot: Spot, what: &str, number: u64, range: (u64, u64)) {
        let (min, max) = range;
        if !(min..=max).contains(&number) {
            let why = format!("it must be {min} to {max}");
            self.add(
                "out-of-range",
                spot,
                format!("{what} is {number}"),
                why,
                "write one of these",
            );
        }
    }
}

/// Every rule that `manifest` breaks, in the order of its parts.
pub(super) fn faults(manifest: &Manifest) -> Vec<Fault> {
    let mut found = Faults::default();
    let version = (MANIFEST_VERSION.into(), MANIFEST_VERSION.into());
    found.range(Spot::Service, "`version`", manifest.version.into(), version);
    let count = manifest.processes.len() as u64;
    found.range(Spot::Service, "the number of processes", count, (1, PROCESSES_MAX as u64));
    for (name, process) in &manifest.processes {
        process_faults(name, process, &mut found);
    }
    routes(manifest, &mut found);
    let secrets = manifest.secrets.len() as u64;
    found.range(Spot::Secrets, "the number of secrets", secrets, (0, SECRETS_MAX as u64));
    // What `env` says is in each process, so a small file can become a large document.
    let bytes = if found.0.is_empty() { manifest.to_bytes().len() } else { 0 };
    if bytes > MANIFEST_BYTES_MAX {
        found.add(
            "too-large",
            Spot::Service,
            format!("with all that is said for each process the manifest has {bytes} bytes"),
            format!("a plan holds at most {MANIFEST_BYTES_MAX} of one"),
            "put what is long into a file of the image",
        );
    }
    found.0
}

fn process_faults(name: &Name, process: &Process, found: &mut Faults) {
    let here = || Spot::Process(name.clone());
    let resources = process.resources;
    if resources.memory_bytes < MEMORY_BYTES_MIN {
        found.add(
            "memory-floor",
            Spot::Memory(name.clone()),
            format!("`memory` of {name} is {}", format_bytes(resources.memory_bytes)),
            "a guest with its kernel does not start in less than 128 MiB",
            "write memory = \"128Mi\", of which the process gets 88",
        );
    }
    if resources.disk_bytes < DISK_BYTES_MIN {
        found.add(
            "disk-floor",
            Spot::Disk(name.clone()),
            format!("`disk` of {name} is {}", format_bytes(resources.disk_bytes)),
            "a file system with a journal wants 1 GiB; what is not written takes no room",
            "write disk = \"1Gi\"",
        );
    }
    found.range(
        here(),
        "`cpu`, in thousandths,",
        resources.cpu_milli.into(),
        (10, CPU_MILLI_MAX.into()),
    );
    found.range(here(), "`scale`", process.scale.into(), (0, 100));
    found.range(here(), "`grace_seconds`", process.grace_seconds.into(), (0, 600));
    found.range(here(), "`max_retries`", process.restart.max_retries.into(), (0, 100));
    found.range(here(), "`backoff_seconds`", process.restart.backoff_seconds.into(), (1, 300));
    found.range(here(), "the number of ports", process.ports.len() as u64, (0, PORTS_MAX as u64));
    found.range(here(), "the number of variables", process.vars.len() as u64, (0, VARS_MAX as u64));
    let mut internal: BTreeMap<u16, &Name> = BTreeMap::new();
    for (port, at) in &process.ports {
        found.range(here(), "`internal`", at.internal.into(), (1, u16::MAX.into()));
        if let Some(other) = internal.insert(at.internal, port) {
            found.add(
                "port-twice",
                here(),
                format!("ports {other} and {port} of {name} are both {}", at.internal),
                "one port has one name",
                format!("take {port} out and let its routes go `to = \"{other}\"`"),
            );
        }
    }
    if let Some(command) = &process.command {
        words(command, Spot::Command(name.clone()), "`command`", found);
    }
    if let Some(prestart) = &process.prestart {
        words(&prestart.command, Spot::Prestart(name.clone()), "`prestart`", found);
        let timeout = prestart.timeout_seconds.into();
        found.range(Spot::Prestart(name.clone()), "`prestart_timeout_seconds`", timeout, (1, 3600));
    }
    let bytes = |words: &[Word]| words.iter().map(|word| word.as_str().len()).sum::<usize>();
    let vars = process.vars.iter().map(|(name, value)| name.as_str().len() + value.as_str().len());
    let all = vars.sum::<usize>()
        + process.command.as_deref().map_or(0, bytes)
        + process.prestart.as_ref().map_or(0, |prestart| bytes(&prestart.command));
    if all > WORD_BYTES_ALL_MAX {
        found.add(
            "too-large",
            here(),
            format!("commands and variables of {name} have {all} bytes"),
            format!("a guest is told at most {WORD_BYTES_ALL_MAX} of them"),
            "put what is long into a file of the image",
        );
    }
    health(name, process, found);
}

fn words(words: &[Word], spot: Spot, what: &str, found: &mut Faults) {
    found.range(
        spot.clone(),
        &format!("the length of {what}"),
        words.len() as u64,
        (1, WORDS_MAX as u64),
    );
    if words.first().is_some_and(|program| program.as_str().is_empty()) {
        found.add(
            "no-program",
            spot,
            format!("{what} names no program"),
            "its first text is the program's path or name",
            "write [\"/bin/app\", \"--option\"]",
        );
    }
}

fn health(name: &Name, process: &Process, found: &mut Faults) {
    let Some(health) = &process.health else { return };
    let here = || Spot::Health(name.clone());
    found.range(here(), "`port`", health.port.into(), (1, u16::MAX.into()));
    found.range(here(), "`interval_seconds`", health.interval_seconds.into(), (1, 3600));
    found.range(here(), "`grace_seconds`", health.grace_seconds.into(), (0, 3600));
    found.range(here(), "`success`", health.success.into(), (1, 10));
    found.range(here(), "`failure`", health.failure.into(), (1, 100));
    if !(1..=health.interval_seconds).contains(&health.timeout_seconds) {
        found.add(
            "health-overlap",
            here(),
            format!("a check of {name} may take {} s", health.timeout_seconds),
            format!("the next one comes after {} s", health.interval_seconds),
            "make timeout_seconds the smaller one",
        );
    }
    if health.path.is_some() != (health.kind == HealthKind::Http) {
        found.add(
            "health-path",
            here(),
            format!("the check of {name} by TCP has a path, or the one by HTTP has none"),
            "only HTTP asks for a path",
            "write type = \"http\", or take `path` out",
        );
    }
}

fn routes(manifest: &Manifest, found: &mut Faults) {
    let routes = &manifest.routes;
    found.range(Spot::Service, "the number of routes", routes.len() as u64, (0, ROUTES_MAX as u64));
    // Each is compared with each, so with too many of them nothing more is said.
    if routes.len() > ROUTES_MAX {
        return;
    }
    if !routes.is_sorted_by(|a, b| normal::order(a) <= normal::order(b)) {
        found.add(
            "order",
            Spot::Service,
            "the routes are not in their order",
            "one manifest has one spelling",
            "make the plan again: vyr plan services",
        );
    }
    for (at, route) in routes.iter().enumerate() {
        let here = Spot::Route(at);
        found.range(here.clone(), "`port`", route.port.into(), (1, u16::MAX.into()));
        target(manifest, route, &here, found);
        if route.hostname.is_none() && route.default {
            found.add(
                "default-of-raw",
                here.clone(),
                format!("the route of port {} is a default and has no hostname", route.port),
                "without a hostname it takes every client anyway",
                "take `default` out, or give it a hostname",
            );
        }
        // Each one after the first that is in its way says so.
        for earlier in &routes[..at] {
            if let Some((id, why, hint)) = clash(earlier, route) {
                let what = format!("{} and {} cannot both be", said(earlier), said(route));
                found.add(id, here.clone(), what, why, hint);
                break;
            }
        }
    }
}

/// Whether a route goes to something that is there.
fn target(manifest: &Manifest, route: &Route, here: &Spot, found: &mut Faults) {
    let list = |names: Vec<&str>| match names.is_empty() {
        true => "there is none".to_owned(),
        false => format!("there is {}", names.join(", ")),
    };
    let Some(process) = manifest.processes.get(&route.process) else {
        let names = manifest.processes.keys().map(Name::as_str).collect();
        let what = format!("{} goes to the process {}", said(route), route.process);
        let hint = "name one of [processes]";
        return found.add("unknown-process", here.clone(), what, list(names), hint);
    };
    if !process.ports.contains_key(&route.to) {
        let names = process.ports.keys().map(Name::as_str).collect();
        let what = format!("{} goes to port {} of {}", said(route), route.to, route.process);
        let hint = format!(
            "write ports = [{{ name = \"{}\", internal = 8080 }}] in [processes.{}]",
            route.to, route.process
        );
        found.add("unknown-port", here.clone(), what, list(names), hint);
    }
}

/// A route, for a message.
fn said(route: &Route) -> String {
    match &route.hostname {
        Some(name) => format!("{name}:{}", route.port),
        None => format!("raw port {}", route.port),
    }
}

/// Why two routes cannot both be, and what to do.
fn clash(a: &Route, b: &Route) -> Option<(&'static str, &'static str, &'static str)> {
    let same_target = (&a.process, &a.to) == (&b.process, &b.to);
    if same_target && a.proxy_protocol != b.proxy_protocol {
        return Some((
            "proxy-protocol-mixed",
            "one port either waits for a PROXY header or does not",
            "give the process a second port for the other kind",
        ));
    }
    if a.port != b.port {
        return None;
    }
    match (&a.hostname, &b.hostname) {
        (Some(a), Some(b)) if a == b => {
            Some(("route-twice", "a name on a port leads to one place", "take one of them out"))
        }
        (None, None) => Some((
            "route-twice",
            "without hostnames, all of a port leads to one place",
            "give one of them another port, or both a hostname",
        )),
        (Some(_), None) | (None, Some(_)) => Some((
            "route-kinds",
            "on one port either names decide, or all goes to one place",
            "give the raw route another port",
        )),
        _ if a.default && b.default => Some((
            "default-twice",
            "who asks for no name is led to one place",
            "keep `default` on one of them",
        )),
        _ => None,
    }
}
