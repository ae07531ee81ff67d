//! Manifests made at random, and written down in one of many ways.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vyr_base::form::Name;
use vyr_service::Manifest;
use vyr_service::manifest::{
    Health, HealthKind, Image, Port, Prestart, Process, Protocol, PullPolicy, Resources, Restart,
    RestartPolicy, Route, SecretName, StopSignal, Variable, Word,
};

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9]{0,6}".prop_map(|text| text.parse().expect("a name"))
}

fn words(size: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Word>> {
    let word = prop_oneof!["[a-z/-]{1,8}", "\\PC{1,6}", Just("a\"b\\c\n\t".to_owned())];
    prop::collection::vec(word.prop_map(|text| text.parse().expect("a word")), size)
}

fn vars() -> impl Strategy<Value = BTreeMap<Variable, Word>> {
    let name = "[A-Z_][A-Z0-9_]{0,6}".prop_map(|text| text.parse().expect("a variable"));
    let value = "\\PC{0,8}".prop_map(|text| text.parse().expect("a word"));
    prop::collection::btree_map(name, value, 0..3)
}

fn health() -> impl Strategy<Value = Health> {
    let numbers = (1u16..9999, 1u16..100, 0u16..99, 1u8..10, 1u8..10);
    (any::<bool>(), "/[a-z]{0,5}", numbers).prop_map(|(http, path, numbers)| {
        let (port, interval_seconds, grace_seconds, success, failure) = numbers;
        let kind = if http { HealthKind::Http } else { HealthKind::Tcp };
        let path = http.then(|| path.parse().expect("a path"));
        let timeout_seconds = interval_seconds.min(2);
        Health {
            kind,
            port,
            path,
            interval_seconds,
            timeout_seconds,
            grace_seconds,
            success,
            failure,
        }
    })
}

fn process() -> impl Strategy<Value = Process> {
    let commands = (prop::option::of(words(1..4)), prop::option::of(words(1..3)), 1u16..99);
    let restart = (0u8..3, 0u8..9, 1u16..20);
    let resources = (128u64..999, 1u32..64_001, 1u64..9);
    let ports = prop::collection::btree_map(1u16..9999, name(), 0..3);
    let rest = (0u8..101, prop::option::of(health()), 0u16..600, 0u8..4, any::<bool>());
    (commands, vars(), restart, resources, ports, rest).prop_map(
        |((command, prestart, timeout_seconds), vars, restart, resources, ports, rest)| {
            let (scale, health, grace_seconds, signal, user) = rest;
            let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
            let signals = [StopSignal::SigTerm, StopSignal::SigUsr1, StopSignal::SigKill];
            // Turned round, so that a port has one name and a name one port.
            let ports: BTreeMap<Name, u16> =
                ports.into_iter().map(|(at, name)| (name, at)).collect();
            let port = |internal| Port { internal, protocol: Protocol::Tcp };
            Process {
                command,
                workdir: user.then(|| "/srv/a b".parse().expect("a path")),
                user: user.then(|| "app:7".parse().expect("a user")),
                vars,
                prestart: prestart.map(|command| Prestart { command, timeout_seconds }),
                restart: Restart {
                    policy: policies[usize::from(restart.0)],
                    max_retries: restart.1,
                    backoff_seconds: restart.2,
                },
                resources: Resources {
                    memory_bytes: resources.0 << 20,
                    cpu_milli: resources.1.max(10),
                    disk_bytes: resources.2 << 30,
                },
                scale,
                ports: ports.into_iter().map(|(name, at)| (name, port(at))).collect(),
                health,
                grace_seconds,
                stop_signal: signals.get(usize::from(signal)).copied(),
            }
        },
    )
}

/// Any manifest that breaks no rule, as far as there are few of everything.
pub(crate) fn any_manifest() -> impl Strategy<Value = Manifest> {
    let description = prop::option::of("[a-z ]{1,9}");
    let processes = prop::collection::btree_map(name(), process(), 1..4);
    let routes = prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..4);
    let secrets = prop::collection::btree_set("[A-Z_][A-Z0-9_]{0,5}", 0..3);
    (name(), description, any::<bool>(), processes, routes, secrets).prop_map(
        |(service, description, always, mut processes, wanted, secrets)| {
            // A file has one such time for all processes.
            let mut prestarts = processes.values_mut().filter_map(|of| of.prestart.as_mut());
            let timeout = prestarts.next().map_or(1, |first| first.timeout_seconds);
            prestarts.for_each(|other| other.timeout_seconds = timeout);
            let targets: Vec<(&Name, &Name)> = processes
                .iter()
                .flat_map(|(name, of)| of.ports.keys().map(move |port| (name, port)))
                .collect();
            let route = |(at, (tls, default, ipv4)): (usize, (bool, bool, bool))| {
                let (process, to) = targets.get(at)?;
                Some(Route {
                    hostname: tls.then(|| format!("h{at}.example").parse().expect("a name")),
                    // Each its own port, so that none is in another's way.
                    port: 1000 + u16::try_from(at).expect("small"),
                    process: (*process).clone(),
                    to: (*to).clone(),
                    proxy_protocol: ipv4,
                    default: tls && default,
                    ipv4,
                })
            };
            let routes = wanted.into_iter().enumerate().filter_map(route).collect();
            let secrets: BTreeSet<SecretName> =
                secrets.iter().map(|name| name.parse().expect("a secret")).collect();
            Manifest {
                version: 1,
                service,
                description: description.map(|text| text.parse().expect("a line")),
                image: Image {
                    reference: "r.example/app:1".parse().expect("an image"),
                    pull_policy: if always { PullPolicy::Always } else { PullPolicy::IfNotPresent },
                },
                processes,
                routes,
                secrets,
            }
        },
    )
}

/// Choices that a number stands for.
struct Choices(u64);

impl Choices {
    /// One of `count`.
    fn of(&mut self, count: u64) -> u64 {
        // Knuth's multiplier for 64 bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % count
    }

    fn yes(&mut self) -> bool {
        self.of(2) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = usize::try_from(self.of(at as u64 + 1)).expect("small");
            items.swap(at, other);
        }
    }
}

/// A text in TOML: basic or, where it can be, literal.
fn quoted(text: &str, choices: &mut Choices) -> String {
    let plain = !text.contains('\'') && !text.contains(char::is_control);
    match plain && choices.yes() {
        true => format!("'{text}'"),
        false => {
            let escaped = |c: char| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
                c => c.to_string(),
            };
            format!("\"{}\"", text.chars().map(escaped).collect::<String>())
        }
    }
}

fn list(words: &[Word], choices: &mut Choices) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_str(), choices)).collect();
    match choices.yes() {
        true => format!("[{}]", words.join(", ")),
        false => format!("[\n  {},\n]", words.join(",\n  ")),
    }
}

/// `key = value` of an inline table, or nothing where it is the default and the choice falls so.
struct Table<'c>(Vec<String>, &'c mut Choices);

impl Table<'_> {
    fn add(&mut self, key: &str, value: impl ToString) {
        self.0.push(format!("{key} = {}", value.to_string()));
    }

    fn unless(&mut self, key: &str, value: impl ToString, is_default: bool) {
        if !is_default || self.1.yes() {
            self.add(key, value);
        }
    }

    fn inline(mut self) -> String {
        let Self(items, choices) = &mut self;
        choices.shuffle(items);
        format!("{{ {} }}", items.join(", "))
    }
}

fn table(choices: &mut Choices) -> Table<'_> {
    Table(Vec::new(), choices)
}

/// The keys of a process, each a line or more.
fn process_lines(of: &Process, common: bool, choices: &mut Choices) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |key: &str, value: String| lines.push(format!("{key} = {value}"));
    if let Some(command) = &of.command {
        add("command", list(command, choices));
    } else if choices.yes() {
        add("command", "[]".into());
    }
    if !common {
        if let Some(workdir) = &of.workdir {
            add("workdir", quoted(workdir.as_str(), choices));
        }
        if let Some(user) = &of.user {
            add("user", quoted(user.as_str(), choices));
        }
        if !of.vars.is_empty() {
            let mut vars = table(choices);
            for (name, value) in &of.vars {
                let value = quoted(value.as_str(), vars.1);
                vars.add(name.as_str(), value);
            }
            add("vars", vars.inline());
        }
    }
    if let Some(prestart) = &of.prestart {
        add("prestart", list(&prestart.command, choices));
    }
    let mut restart = table(choices);
    let policy = match of.restart.policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    };
    restart.unless("policy", format!("{policy:?}"), policy == "always");
    restart.unless("max_retries", of.restart.max_retries, of.restart.max_retries == 3);
    restart.unless("backoff_seconds", of.restart.backoff_seconds, of.restart.backoff_seconds == 2);
    let text = restart.inline();
    add("restart", text);
    let mut resources = table(choices);
    let Resources { memory_bytes, cpu_milli, disk_bytes } = of.resources;
    let memory = match resources.1.of(3) {
        0 => format!("\"{memory_bytes}\""),
        1 => format!("\"{}Ki\"", memory_bytes >> 10),
        _ => format!("\"{}Mi\"", memory_bytes >> 20),
    };
    resources.add("memory", memory);
    let cpu = match cpu_milli % 1000 {
        0 if resources.1.yes() => format!("{}", cpu_milli / 1000),
        part => format!("{}.{part:03}", cpu_milli / 1000),
    };
    resources.unless("cpu", cpu, cpu_milli == 1000);
    resources.unless("disk", format!("\"{}Gi\"", disk_bytes >> 30), disk_bytes == 4 << 30);
    add("resources", resources.inline());
    let mut scale = table(choices);
    scale.unless("min", of.scale, of.scale == 1);
    if scale.1.yes() {
        scale.add("max", of.scale);
    }
    add("scale", scale.inline());
    let mut ports = Vec::new();
    for (name, port) in &of.ports {
        let mut one = table(choices);
        one.add("name", format!("{:?}", name.as_str()));
        one.add("internal", port.internal);
        one.unless("protocol", "\"tcp\"", true);
        ports.push(one.inline());
    }
    choices.shuffle(&mut ports);
    add("ports", format!("[{}]", ports.join(", ")));
    if let Some(health) = &of.health {
        let mut one = table(choices);
        let http = health.kind == HealthKind::Http;
        one.add("type", if http { "\"http\"" } else { "\"tcp\"" });
        one.add("port", health.port);
        if let Some(path) = &health.path {
            one.unless("path", format!("{:?}", path.as_str()), path.as_str() == "/");
        }
        one.unless("interval_seconds", health.interval_seconds, health.interval_seconds == 10);
        one.unless("timeout_seconds", health.timeout_seconds, true);
        one.unless("grace_seconds", health.grace_seconds, health.grace_seconds == 10);
        one.unless("success", health.success, health.success == 1);
        one.unless("failure", health.failure, health.failure == 3);
        add("health", one.inline());
    }
    if of.grace_seconds != 10 || choices.yes() {
        add("grace_seconds", of.grace_seconds.to_string());
    }
    if let Some(signal) = of.stop_signal {
        let word = match signal {
            StopSignal::SigUsr1 => "SIGUSR1",
            StopSignal::SigKill => "SIGKILL",
            _ => "SIGTERM",
        };
        add("stop_signal", format!("{word:?}"));
    }
    lines
}

/// Whether every process has what `env` would give it.
fn common(manifest: &Manifest) -> Option<&Process> {
    let mut all = manifest.processes.values();
    let first = all.next()?;
    let same = |of: &&Process| {
        (&of.workdir, &of.user, &of.vars) == (&first.workdir, &first.user, &first.vars)
    };
    manifest.processes.values().all(|of| same(&of)).then_some(first)
}

/// A file that means `manifest`, one of many: `seed` chooses.
pub(crate) fn written(manifest: &Manifest, seed: u64) -> String {
    let choices = &mut Choices(seed);
    let mut tables: Vec<String> = Vec::new();
    let mut head = vec!["version = 1".to_owned()];
    if let Some(description) = &manifest.description {
        head.push(format!("description = {}", quoted(description.as_str(), choices)));
    }
    let mut image = table(choices);
    image.add("ref", "\"r.example/app:1\"");
    match manifest.image.pull_policy {
        PullPolicy::Always => image.add("pull_policy", "\"always\""),
        PullPolicy::IfNotPresent => image.unless("pull_policy", "\"if_not_present\"", true),
    }
    let Table(mut items, _) = image;
    choices.shuffle(&mut items);
    match choices.yes() {
        true => head.push(format!("image = {{ {} }}", items.join(", "))),
        false => tables.push(format!("[image]\n{}", items.join("\n"))),
    }
    let shared = common(manifest).filter(|_| choices.yes());
    let mut env = Vec::new();
    if let Some(shared) = shared {
        env.extend(
            shared.workdir.iter().map(|dir| format!("workdir = {}", quoted(dir.as_str(), choices))),
        );
        env.extend(
            shared.user.iter().map(|user| format!("user = {}", quoted(user.as_str(), choices))),
        );
        for (name, value) in &shared.vars {
            env.push(format!("vars.{} = {}", name.as_str(), quoted(value.as_str(), choices)));
        }
    }
    let timeout = manifest.processes.values().find_map(|of| of.prestart.as_ref());
    if let Some(prestart) = timeout {
        env.push(format!("prestart_timeout_seconds = {}", prestart.timeout_seconds));
    }
    if !env.is_empty() {
        choices.shuffle(&mut env);
        tables.push(format!("[env]\n{}", env.join("\n")));
    }
    for (name, of) in &manifest.processes {
        let mut lines = process_lines(of, shared.is_some(), choices);
        choices.shuffle(&mut lines);
        tables.push(format!("[processes.{}] # one\n{}", name.as_str(), lines.join("\n")));
    }
    for route in &manifest.routes {
        let mut lines = vec![
            format!("port = {}", route.port),
            format!("process = {:?}", route.process.as_str()),
            format!("to = {:?}", route.to.as_str()),
        ];
        lines.extend(route.hostname.iter().map(|name| format!("hostname = \"{name}\"")));
        for (key, value) in [
            ("proxy_protocol", route.proxy_protocol),
            ("backend_expects_proxy_protocol", route.proxy_protocol),
            ("default", route.default),
            ("ipv4", route.ipv4),
        ] {
            if value || choices.yes() {
                lines.push(format!("{key} = {value}"));
            }
        }
        choices.shuffle(&mut lines);
        tables.push(format!("[[routes]]\n{}", lines.join("\n")));
    }
    let mut names: Vec<String> =
        manifest.secrets.iter().map(|name| format!("{:?}", name.as_str())).collect();
    choices.shuffle(&mut names);
    let secrets = match names.is_empty() {
        true => "none = true".to_owned(),
        false => format!("required = [{}]", names.join(", ")),
    };
    tables.push(format!("[secrets]\n{secrets}"));
    choices.shuffle(&mut head);
    choices.shuffle(&mut tables);
    let space = if choices.yes() { "\n\n# next\n" } else { "\n" };
    format!("{}{space}{}\n", head.join("\n"), tables.join(space))
}
