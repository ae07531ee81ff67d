//! Targets of `vyr-service`: manifests as files and as documents, and files of other tools.

use std::collections::BTreeSet;

use toml::Value;
use vyr_base::{Category, Problem as _, Source};
use vyr_service::refuse::{LOOK_BYTES, look};
use vyr_service::{Manifest, Release, SlotName, manifest};

use crate::checks::{problem, refusal};
use crate::plan::faults;
use crate::sections::parts;

/// A manifest that has a bit of everything.
pub const MANIFEST: &str = r#"version = 1
description = "front"
image = { ref = "r.example/app:1", pull_policy = "always" }
secrets = { required = ["KEY"] }
[env]
vars = { LANG = "C" }
user = "app"
prestart = ["/bin/check"]
[processes.http]
command = ["/bin/app", "-v"]
scale = { min = 2 }
resources = { memory = "256Mi", cpu = 0.5, disk = "2Gi" }
restart = { policy = "on-failure", max_retries = 1 }
ports = [{ name = "tls", internal = 8443 }, { name = "raw", internal = 9000 }]
health = { type = "http", port = 8080, path = "/up", interval_seconds = 5 }
stop_signal = "SIGINT"
[[routes]]
hostname = "a.example"
port = 443
process = "http"
to = "tls"
default = true
[[routes]]
port = 9000
process = "http"
to = "raw"
proxy_protocol = true
backend_expects_proxy_protocol = true
ipv4 = true
"#;

/// What holds for every manifest that was taken, from wherever.
fn taken(manifest: &Manifest) {
    let bytes = manifest.to_bytes();
    assert_eq!(Manifest::parse(&bytes).expect("its own bytes"), *manifest);
    assert_eq!(manifest.faults(), [], "one that was taken breaks a rule");
    assert!((1..=32).contains(&manifest.processes.len()));
    for process in manifest.processes.values() {
        assert!(process.resources.memory_bytes >= 128 << 20 && process.scale <= 100);
        assert!(process.resources.disk_bytes >= 1 << 30);
        assert!((10..=64_000).contains(&process.resources.cpu_milli));
    }
    let mut ways = BTreeSet::new();
    for route in &manifest.routes {
        let process = &manifest.processes[&route.process];
        assert!(process.ports.contains_key(&route.to) && route.port > 0);
        assert!(ways.insert((route.port, &route.hostname)), "one way leads to two places");
        assert!(!route.default || route.hostname.is_some());
    }
    let release = Release::of(manifest, vyr_base::Digest::of(b""));
    assert_eq!(Release::parse(&release.to_bytes()).expect("its own bytes"), release);
}

/// A file that is taken says what its TOML says; one that is not says where.
pub fn service_toml(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let read = match manifest::read("web", &Source::new("web.toml", text)) {
        Ok(read) => read,
        Err(found) => {
            assert!(found.iter().any(vyr_base::Diagnostic::is_error));
            let errors: Vec<_> = found.into_iter().filter(vyr_base::Diagnostic::is_error).collect();
            return faults(&errors, &[("web.toml", text)]);
        }
    };
    taken(&read.manifest);
    assert!(read.warnings.iter().all(|warning| !warning.is_error()));
    // A text of several lines may say anything; without one, no other tool has such a file.
    if !text.contains("\"\"\"") && !text.contains("'''") {
        assert_eq!(look("web.toml", input), None);
    }
    let plain: toml::Table = text.parse().expect("what is no TOML is refused");
    let known = ["version", "description", "image", "env", "processes", "routes", "secrets"];
    assert!(plain.keys().all(|key| known.contains(&key.as_str())));
    let manifest = &read.manifest;
    let image = plain["image"]["ref"].as_str().expect("a text");
    let reference = manifest.image.reference.to_string();
    // Beside a digest, a tag is a remark.
    assert!(image == reference || image.contains('@') && image.len() > reference.len());
    let processes = plain["processes"].as_table().expect("a table");
    assert!(
        processes
            .keys()
            .map(String::as_str)
            .eq(manifest.processes.keys().map(|name| name.as_str()))
    );
    for (name, process) in processes {
        let of = &manifest.processes[&name.parse().expect("a name")];
        let min =
            process.get("scale").and_then(|scale| scale.get("min")).and_then(Value::as_integer);
        assert_eq!(min.unwrap_or(1), i64::from(of.scale));
        let vars = |table: Option<&Value>| -> BTreeSet<String> {
            let table = table.and_then(|table| table.get("vars")).and_then(Value::as_table);
            table.into_iter().flat_map(|vars| vars.keys().cloned()).collect()
        };
        let all: BTreeSet<String> = &vars(Some(process)) | &vars(plain.get("env"));
        assert!(of.vars.keys().map(|name| name.as_str()).eq(all.iter().map(String::as_str)));
        let cpu = process["resources"].get("cpu");
        let cpu = cpu.map_or(1.0, |cpu| {
            cpu.as_float().unwrap_or_else(|| cpu.as_integer().map_or(0.0, |n| n as f64))
        });
        assert!((cpu * 1000.0 - f64::from(of.resources.cpu_milli)).abs() < 0.001);
    }
    let routes = plain.get("routes").and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(routes, manifest.routes.len());
    let secrets = plain["secrets"].get("none").and_then(Value::as_bool);
    assert_eq!(secrets == Some(true), manifest.secrets.is_empty());
}

/// Documents are their own spelling or nothing.
pub fn service_json(input: &[u8]) {
    match Manifest::parse(input) {
        Ok(manifest) => {
            assert_eq!(manifest.to_bytes(), input, "a second spelling was taken");
            taken(&manifest);
        }
        Err(error) => problem(&error),
    }
    match Release::parse(input) {
        Ok(release) => assert_eq!(release.to_bytes(), input, "a second spelling was taken"),
        Err(error) => problem(&error),
    }
    if let Ok(text) = str::from_utf8(input)
        && let Ok(slot) = text.parse::<SlotName>()
    {
        assert_eq!(slot.to_string(), text, "a second spelling was taken");
    }
}

/// A name and a file: whatever is refused says why, in a line, and what to do instead.
pub fn refused_files(input: &[u8]) {
    let [name, first] = parts::<2>(input);
    let Ok(name) = str::from_utf8(name) else { return };
    let Some(found) = look(name, first) else { return };
    refusal(&found);
    assert_eq!(found.category(), Category::Usage);
    assert!(!found.why.is_empty() && found.hint().is_some_and(|hint| !hint.is_empty()));
    let shown = found.to_string();
    assert!(!shown.contains(char::is_control) && shown.chars().count() < 400, "{shown}");
    // What stands further back than is looked at changes nothing.
    if first.len() >= LOOK_BYTES {
        let longer = [first, b"\nservices:\n  a:\n    image: b\n"].concat();
        assert_eq!(look(name, &longer), Some(found));
    }
}
