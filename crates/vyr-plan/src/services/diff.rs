//! Two services plans compared by what they mean.

use std::collections::BTreeMap;

use serde::Serialize;
use vyr_base::{Digest, format_bytes};
use vyr_service::manifest::Process;

use super::plan::{IngressRoute, Listener, Mode, ServicesPlan};
use crate::diff::{Diff, Things, changes, list, operators};
use crate::intent::Name;

/// What changes from `before` (none: the empty plan) to `after` (none: everything goes).
pub fn diff_services(before: Option<&ServicesPlan>, after: Option<&ServicesPlan>) -> Diff {
    let digest = |plan: Option<&ServicesPlan>| {
        let bytes = plan.and_then(|plan| plan.to_bytes().ok());
        bytes.map(|bytes| Digest::of(&bytes))
    };
    Diff {
        before: digest(before),
        after: digest(after),
        changes: changes(&things(before), &things(after)),
        reach: Vec::new(),
    }
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// What a plan consists of, for people: a few labelled texts for each thing.
fn things(plan: Option<&ServicesPlan>) -> Things {
    let mut things = Things::new();
    let Some(plan) = plan else { return things };
    let mut put = |kind, name: &dyn ToString, texts: Vec<(&'static str, String)>| {
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        things.insert((kind, name.to_string()), texts);
    };
    put("operators", &"all", operators(&plan.trust));
    if let Some(network) = &plan.network {
        put("network", &"plan", vec![("needed", short(network))]);
    }
    for node in &plan.nodes {
        let ipv4 = node.ipv4.iter().map(|of| match &of.service {
            Some(service) => format!("{}={service}", of.address),
            None => of.address.to_string(),
        });
        put(
            "node",
            &node.name,
            vec![
                ("state", node.state.to_string()),
                ("memory", format_bytes(node.memory_bytes)),
                ("thousandths of processors", node.cpu_milli.to_string()),
                ("instances", node.prefix.to_string()),
                ("ipv4", list(ipv4)),
            ],
        );
    }
    let mut ways: BTreeMap<String, Vec<&Name>> = BTreeMap::new();
    for node in &plan.nodes {
        for listener in &node.ingress {
            for route in &listener.routes {
                ways.entry(way(listener, route)).or_default().push(&node.name);
            }
        }
    }
    for (way, nodes) in &ways {
        put("way", way, vec![("on", list(nodes))]);
    }
    for entry in &plan.services {
        put(
            "service",
            entry.name(),
            vec![
                ("release", entry.release.short()),
                ("image", format!("{} {}", entry.manifest.image.reference, short(&entry.image))),
                ("secrets", entry.secrets.as_ref().map(short).unwrap_or_default()),
            ],
        );
        for (process, of) in &entry.manifest.processes {
            put("process", &format!("{}/{process}", entry.name()), told(of));
        }
    }
    for of in &plan.placements {
        put("slot", &of.slot, vec![("on", of.node.to_string())]);
    }
    things
}

/// All that is said of a process, so that who reviews a plan sees what changes.
fn told(process: &Process) -> Vec<(&'static str, String)> {
    fn text<T: Serialize>(value: &T) -> String {
        // What is absent or empty is not worth a word.
        match serde_json::to_string(value).unwrap_or_default() {
            text if text == "null" || text == "{}" => String::new(),
            text => text,
        }
    }
    let Process { command, workdir, user, vars, prestart, restart, resources, .. } = process;
    vec![
        ("instances", process.scale.to_string()),
        ("memory", format_bytes(resources.memory_bytes)),
        ("thousandths of processors", resources.cpu_milli.to_string()),
        ("disk", format_bytes(resources.disk_bytes)),
        ("command", text(command)),
        ("workdir", text(workdir)),
        ("user", text(user)),
        ("variables", text(vars)),
        ("prestart", text(prestart)),
        ("restart", text(restart)),
        ("ports", text(&process.ports)),
        ("health", text(&process.health)),
        ("grace", format!("{} s", process.grace_seconds)),
        ("stop signal", text(&process.stop_signal)),
    ]
}

/// A way in, in one word for each of its ends.
pub(super) fn way(listener: &Listener, route: &IngressRoute) -> String {
    let at = match &route.hostname {
        Some(name) if listener.address.is_ipv6() => name.to_string(),
        Some(name) => format!("{name}@{}", listener.address),
        None => match listener.address.is_ipv6() {
            true => format!("[{}]", listener.address),
            false => listener.address.to_string(),
        },
    };
    let mut marks = String::new();
    if listener.mode == Mode::TcpRaw {
        marks += " raw";
    }
    if route.default {
        marks += " default";
    }
    if route.proxy_protocol {
        marks += " proxy";
    }
    let IngressRoute { service, process, internal, .. } = route;
    format!("{at}:{}->{service}/{process}:{internal}{marks}", listener.port)
}
