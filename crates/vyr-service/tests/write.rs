//! A manifest becomes a file again, and the file means the manifest.

mod common;

use common::{any_manifest, written};
use proptest::prelude::*;
use vyr_base::{Category, Problem, Source};
use vyr_service::Manifest;
use vyr_service::manifest::{self, WriteError};

const WEB: &str = include_str!("../../../examples/shop/services/web.toml");
const DB: &str = include_str!("../../../examples/shop/services/db.toml");

fn read(name: &str, text: &str) -> Manifest {
    let read = manifest::read(name, &Source::new(format!("services/{name}.toml"), text));
    read.unwrap_or_else(|faults| panic!("{}\n{text}", faults[0])).manifest
}

/// What a person would have written, without its comments.
const WEB_WRITTEN: &str = r#"version = 1
description = "the shop's front"

[image]
ref = "registry.example.org/shop/web:2.4"

[env]
workdir = "/srv/shop"
user = "shop"

[env.vars]
CATALOGUE = "/srv/shop/catalogue"

[processes.http]
command = ["/srv/shop/bin/front", "--listen", "[::]:8443"]
prestart = ["/srv/shop/bin/front", "check"]
resources = { memory = "256Mi", cpu = 0.5 }
scale = { min = 2 }
ports = [{ name = "tls", internal = 8443 }]
health = { type = "http", port = 8080, path = "/healthz", interval_seconds = 5 }

[processes.http.vars]
RUST_LOG = "info"

[processes.worker]
command = ["/srv/shop/bin/worker"]
resources = { memory = "512Mi" }
restart = { policy = "on-failure", max_retries = 5 }
grace_seconds = 60
stop_signal = "SIGINT"

[processes.worker.vars]
RUST_LOG = "warn"

[[routes]]
hostname = "shop.example.org"
port = 443
process = "http"
to = "tls"

[[routes]]
hostname = "www.shop.example.org"
port = 443
process = "http"
to = "tls"
default = true
ipv4 = true

[secrets]
required = ["DATABASE_PASSWORD", "TLS_KEY"]
"#;

#[test]
fn the_examples_are_written_as_a_person_would() {
    assert_eq!(manifest::write(&read("web", WEB)).expect("a file"), WEB_WRITTEN);
    let db = manifest::write(&read("db", DB)).expect("a file");
    assert_eq!(read("db", &db), read("db", DB));
    assert!(db.contains("pull_policy = \"always\"") && db.contains("none = true"), "{db}");
    assert!(!db.contains("[env"), "one process shares nothing: {db}");
}

/// A plan of somebody else's can hold what `env` cannot say of two processes.
#[test]
fn what_no_file_says_is_refused() {
    let both = WEB.replace("[processes.worker]", "[processes.worker]\nprestart = [\"/bin/true\"]");
    let mut manifest = read("web", &both);
    assert!(manifest::write(&manifest).is_ok());
    let worker = manifest.processes.values_mut().next_back().expect("worker");
    worker.prestart.as_mut().expect("it has one").timeout_seconds = 7;
    assert_eq!(manifest.faults(), [], "a plan may hold it");
    let error = manifest::write(&manifest).expect_err("two times");
    assert!(matches!(&error, WriteError::NoFile(name) if name.as_str() == "web"), "{error}");
    assert_eq!(error.category(), Category::Conflict);
}

/// A file of a size that is read does not become one that is not: what `env` said once is not said
/// for each process.
#[test]
fn what_is_shared_is_said_once() {
    let value = "x".repeat(8000);
    let vars: String = (0..30).map(|at| format!("V{at} = \"{value}\"\n")).collect();
    let process = |at| match at {
        // It does not have to be the same in all of them.
        0 => "[processes.p0]\nprestart = []\nvars.V0 = \"other\"\nresources.memory = \"128Mi\"\n"
            .to_owned(),
        _ => format!("[processes.p{at}]\nresources.memory = \"128Mi\"\n"),
    };
    let processes: String = (0..15).map(process).collect();
    let text = format!(
        "version = 1\nimage.ref = \"r.example/app:1\"\nsecrets.none = true\n\
         {processes}[env]\nprestart = [\"/bin/{value}\"]\nuser = \"app\"\n[env.vars]\n{vars}"
    );
    let manifest = read("web", &text);
    let written = manifest::write(&manifest).expect("a file");
    assert_eq!(read("web", &written), manifest);
    assert!(written.len() < text.len() + 2000, "{} bytes of {}", written.len(), text.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a file can say is written, and is read as the same.
    #[test]
    fn what_is_written_is_read_as_what_it_was(
        manifest in any_manifest(), alike in any::<bool>(), seed in any::<u64>()
    ) {
        let mut manifest = manifest;
        if alike {
            let first = manifest.processes.values().next().expect("one").clone();
            for of in manifest.processes.values_mut().skip(1) {
                of.vars.clone_from(&first.vars);
                of.user.clone_from(&first.user);
                of.prestart.clone_from(&first.prestart);
            }
        }
        let name = manifest.service.as_str();
        let text = manifest::write(&manifest).expect("a file");
        prop_assert_eq!(&read(name, &text), &manifest, "{}", text);
        // However it was declared: its text has one form.
        let declared = read(name, &written(&manifest, seed));
        prop_assert_eq!(manifest::write(&declared).expect("a file"), text);
    }

    /// What is in no release is another's, and the release stays what it was.
    #[test]
    fn a_release_with_the_rest_of_another_is_the_same_release(
        manifest in any_manifest(), other in any_manifest(), shared in any::<bool>()
    ) {
        let mut other = other;
        if shared {
            other.processes.extend(manifest.processes.clone().into_iter().map(|(name, mut of)| {
                of.scale = of.scale.wrapping_add(1) % 100;
                (name, of)
            }));
        }
        let whole = manifest.with_rest_of(&other);
        prop_assert_eq!(whole.release_digest(), manifest.release_digest());
        prop_assert_eq!((&whole.description, &whole.routes), (&other.description, &other.routes));
        for (name, of) in &whole.processes {
            let expected = other.processes.get(name).unwrap_or(&manifest.processes[name]);
            prop_assert_eq!(of.scale, expected.scale);
        }
        prop_assert_eq!(manifest.with_rest_of(&manifest), manifest);
    }
}
