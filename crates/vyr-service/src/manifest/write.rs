//! A manifest becomes a file again, one that a person may go on with: what is a default is left out,
//! what several processes share stands in `env`.
//!
//! Invariant: what is written was read again, and means what it was written from. What no file can
//! say is refused.
//!
//! Deliberately elsewhere: the comments, the order and the layout of a file that it came from once.
//! The normalised form does not have them.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use vyr_base::form::Name;
use vyr_base::{Category, Problem, Source};

use super::{
    GuestPath, Health, Manifest, Port, Process, Protocol, PullPolicy, Resources, Restart,
    RestartPolicy, Route, User, Variable, Word, normal, read,
};

/// Columns after which a list has a line for each of its texts.
const LIST_COLUMNS: usize = 80;

/// Why a manifest was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A plan can hold what nobody could have declared: other times for each `prestart`.
    #[error("no file says what this manifest of {0} says")]
    NoFile(Name),
}

impl Problem for WriteError {
    fn category(&self) -> Category {
        Category::Conflict
    }

    fn hint(&self) -> Option<String> {
        let Self::NoFile(service) = self;
        Some(format!("take services/{service}.toml from git as it was"))
    }
}

/// The text of `services/NAME.toml` that means `manifest`.
///
/// # Errors
/// No text does.
pub fn write(manifest: &Manifest) -> Result<String, WriteError> {
    let name = manifest.service.as_str();
    let source = Source::new(format!("services/{name}.toml"), text(manifest));
    match read(name, &source) {
        Ok(read) if read.manifest == *manifest => Ok(source.text().to_owned()),
        _ => Err(WriteError::NoFile(manifest.service.clone())),
    }
}

/// A text in quotes, as TOML reads it.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

/// The word that a file has for a choice: JSON's quotes are TOML's.
fn word(choice: impl Serialize) -> String {
    serde_json::to_string(&choice).unwrap_or_else(|error| unreachable!("only words: {error}"))
}

fn list(items: &[String]) -> String {
    let line = format!("[{}]", items.join(", "));
    match line.chars().count() {
        ..=LIST_COLUMNS => line,
        _ => format!("[\n    {},\n]", items.join(",\n    ")),
    }
}

fn words(words: &[Word]) -> String {
    list(&words.iter().map(|word| quoted(word.as_str())).collect::<Vec<_>>())
}

/// A size, in the largest unit that loses nothing.
fn size(bytes: u64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    let (unit, shift) = unit.unwrap_or(("", 0));
    format!("\"{}{unit}\"", bytes >> shift)
}

fn cpu(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Pairs of one table.
#[derive(Default)]
struct Pairs(Vec<String>);

impl Pairs {
    fn add(&mut self, key: &str, value: impl Display) {
        self.0.push(format!("{key} = {value}"));
    }

    /// Left out where it says what a file without it says.
    fn unless<T: PartialEq + Display>(&mut self, key: &str, value: T, default: T) {
        if value != default {
            self.add(key, value);
        }
    }

    fn text(&mut self, key: &str, value: Option<&impl Display>) {
        if let Some(value) = value {
            self.add(key, quoted(&value.to_string()));
        }
    }

    fn flag(&mut self, key: &str, is_set: bool) {
        self.unless(key, is_set, false);
    }

    /// A table in a pair of another one; nothing where it is empty.
    fn inline(&mut self, key: &str, inner: &Self) {
        if !inner.0.is_empty() {
            self.add(key, format!("{{ {} }}", inner.0.join(", ")));
        }
    }

    /// A table with a head of its own; nothing where it is empty.
    fn table(self, head: &str) -> Option<String> {
        (!self.0.is_empty()).then(|| format!("{head}\n{}\n", self.0.join("\n")))
    }
}

/// What stands in `env`, for all processes that do not say something else.
struct Shared<'a> {
    workdir: Option<&'a GuestPath>,
    user: Option<&'a User>,
    prestart: Option<&'a Vec<Word>>,
    vars: BTreeMap<&'a Variable, &'a Word>,
}

/// What most of several say; none: no two of them say the same.
fn common<'a, T: PartialEq>(all: &[&'a T]) -> Option<&'a T> {
    let count = |one: &T| all.iter().filter(|other| **other == one).count();
    let found = all.iter().rev().copied().max_by_key(|one| count(one))?;
    (count(found) > 1).then_some(found)
}

impl<'a> Shared<'a> {
    /// A process can say something else than `env`, and that it has no `prestart`; it cannot say that
    /// it has none of the rest, so that is shared only where each has one.
    fn of(manifest: &'a Manifest) -> Self {
        let all: Vec<&Process> = manifest.processes.values().collect();
        let workdirs: Option<Vec<_>> = all.iter().map(|of| of.workdir.as_ref()).collect();
        let users: Option<Vec<_>> = all.iter().map(|of| of.user.as_ref()).collect();
        let prestarts = all.iter().filter_map(|of| of.prestart.as_ref());
        let prestarts: Vec<_> = prestarts.map(|of| &of.command).collect();
        let names = all.first().into_iter().flat_map(|of| of.vars.keys());
        let vars = names.filter_map(|name| {
            let values: Option<Vec<_>> = all.iter().map(|of| of.vars.get(name)).collect();
            Some((name, common(&values?)?))
        });
        Self {
            workdir: workdirs.and_then(|of| common(&of)),
            user: users.and_then(|of| common(&of)),
            prestart: common(&prestarts),
            vars: vars.collect(),
        }
    }
}

fn text(manifest: &Manifest) -> String {
    let Manifest { version, service: _, description, image, processes, routes, secrets } = manifest;
    let shared = Shared::of(manifest);
    let mut head = Pairs::default();
    head.add("version", version);
    head.text("description", description.as_ref());
    let mut from = Pairs::default();
    from.text("ref", Some(&image.reference));
    from.unless("pull_policy", word(image.pull_policy), word(PullPolicy::default()));
    let mut env = Pairs::default();
    env.text("workdir", shared.workdir);
    env.text("user", shared.user);
    if let Some(command) = shared.prestart {
        env.add("prestart", words(command));
    }
    // A file has one such time for all processes.
    if let Some(prestart) = processes.values().find_map(|of| of.prestart.as_ref()) {
        let default = normal::PRESTART_TIMEOUT_SECONDS;
        env.unless("prestart_timeout_seconds", prestart.timeout_seconds, default);
    }
    let mut tables = vec![
        Some(format!("{}\n", head.0.join("\n"))),
        from.table("[image]"),
        env.table("[env]"),
        vars(shared.vars.iter().map(|(name, value)| (*name, *value))).table("[env.vars]"),
    ];
    for (name, of) in processes {
        tables.push(process(of, &shared).table(&format!("[processes.{name}]")));
        let own = of.vars.iter().filter(|(name, value)| shared.vars.get(name) != Some(value));
        tables.push(vars(own).table(&format!("[processes.{name}.vars]")));
    }
    tables.extend(routes.iter().map(|of| route(of).table("[[routes]]")));
    let mut said = Pairs::default();
    match secrets.is_empty() {
        true => said.add("none", true),
        false => {
            let names: Vec<String> = secrets.iter().map(|name| quoted(name.as_str())).collect();
            said.add("required", list(&names));
        }
    }
    tables.push(said.table("[secrets]"));
    tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn vars<'a>(all: impl Iterator<Item = (&'a Variable, &'a Word)>) -> Pairs {
    Pairs(all.map(|(name, value)| format!("{name} = {}", quoted(value.as_str()))).collect())
}

fn process(of: &Process, shared: &Shared<'_>) -> Pairs {
    let mut pairs = Pairs::default();
    if let Some(command) = &of.command {
        pairs.add("command", words(command));
    }
    pairs.text("workdir", of.workdir.as_ref().filter(|own| shared.workdir != Some(*own)));
    pairs.text("user", of.user.as_ref().filter(|own| shared.user != Some(*own)));
    let prestart = of.prestart.as_ref().map(|prestart| &prestart.command);
    if prestart != shared.prestart {
        pairs.add("prestart", words(prestart.map(Vec::as_slice).unwrap_or_default()));
    }
    let Resources { memory_bytes, cpu_milli, disk_bytes } = of.resources;
    let mut resources = Pairs::default();
    resources.add("memory", size(memory_bytes));
    resources.unless("cpu", cpu(cpu_milli), cpu(normal::CPU_MILLI));
    resources.unless("disk", size(disk_bytes), size(normal::DISK_BYTES));
    pairs.inline("resources", &resources);
    let mut scale = Pairs::default();
    scale.unless("min", of.scale, 1);
    pairs.inline("scale", &scale);
    let ports: Vec<String> = of.ports.iter().map(|(name, of)| port(name, of)).collect();
    if !ports.is_empty() {
        pairs.add("ports", list(&ports));
    }
    if let Some(check) = &of.health {
        pairs.inline("health", &health(check));
    }
    let Restart { policy, max_retries, backoff_seconds } = of.restart;
    let mut restart = Pairs::default();
    restart.unless("policy", word(policy), word(RestartPolicy::default()));
    restart.unless("max_retries", max_retries, normal::MAX_RETRIES);
    restart.unless("backoff_seconds", backoff_seconds, normal::BACKOFF_SECONDS);
    pairs.inline("restart", &restart);
    pairs.unless("grace_seconds", of.grace_seconds, normal::GRACE_SECONDS);
    if let Some(signal) = of.stop_signal {
        pairs.add("stop_signal", word(signal));
    }
    pairs
}

fn port(name: &Name, of: &Port) -> String {
    let mut pairs = Pairs::default();
    pairs.text("name", Some(name));
    pairs.add("internal", of.internal);
    pairs.unless("protocol", word(of.protocol), word(Protocol::default()));
    format!("{{ {} }}", pairs.0.join(", "))
}

fn health(of: &Health) -> Pairs {
    let (interval, timeout, grace, success, failure) = normal::HEALTH;
    let mut pairs = Pairs::default();
    pairs.add("type", word(of.kind));
    pairs.add("port", of.port);
    pairs.text("path", of.path.as_ref().filter(|path| path.as_str() != "/"));
    pairs.unless("interval_seconds", of.interval_seconds, interval);
    pairs.unless("timeout_seconds", of.timeout_seconds, timeout.min(of.interval_seconds));
    pairs.unless("grace_seconds", of.grace_seconds, grace);
    pairs.unless("success", of.success, success);
    pairs.unless("failure", of.failure, failure);
    pairs
}

fn route(of: &Route) -> Pairs {
    let Route { hostname, port, process, to, proxy_protocol, default, ipv4 } = of;
    let mut pairs = Pairs::default();
    pairs.text("hostname", hostname.as_ref());
    pairs.add("port", port);
    pairs.text("process", Some(process));
    pairs.text("to", Some(to));
    pairs.flag("default", *default);
    pairs.flag("ipv4", *ipv4);
    pairs.flag("proxy_protocol", *proxy_protocol);
    pairs.flag("backend_expects_proxy_protocol", *proxy_protocol);
    pairs
}
