//! What people try: each refusal says why and what to do instead, and no manifest is refused.

mod common;

use common::{any_manifest, written};
use proptest::prelude::*;
use vyr_base::{Category, Problem, Source};
use vyr_service::manifest;
use vyr_service::refuse::{KEYS, Kind, LOOK_BYTES, look};

const WEB: &str = include_str!("../../../examples/shop/services/web.toml");
const DB: &str = include_str!("../../../examples/shop/services/db.toml");

/// Ids of what is told about a manifest.
fn told(text: &str) -> Vec<(&'static str, Option<String>)> {
    let faults = manifest::read("web", &Source::new("services/web.toml", text)).expect_err(text);
    faults.into_iter().map(|fault| (fault.id, fault.hint)).collect()
}

#[test]
fn each_key_of_another_tool_is_refused_with_what_to_do_instead() {
    let mut all = 0;
    for row in KEYS {
        assert!(!row.why.is_empty() && !row.instead.is_empty(), "{}", row.id);
        for key in row.keys {
            all += 1;
            for spelt in [key.to_string(), key.to_uppercase(), key.replace('_', "-")] {
                // At the top, in a process, in a route: wherever somebody looks for it.
                for (before, after) in [
                    ("version = 1", format!("version = 1\n{spelt} = 1")),
                    ("[processes.valkey]", format!("[processes.valkey]\n{spelt} = 1")),
                    ("port = 6379\nprocess", format!("{spelt} = 1\nport = 6379\nprocess")),
                ] {
                    let text = DB.replacen(before, &after, 1);
                    assert_ne!(text, DB, "{before}");
                    assert_eq!(told(&text), [(row.id, Some(row.instead.to_owned()))], "{text}");
                }
            }
        }
    }
    assert!(all >= 120, "{all}");
}

#[test]
fn what_is_refused_for_good_is_a_non_goal() {
    let goals = include_str!("../../../docs/NONGOALS.md");
    for id in KEYS.iter().filter_map(|row| row.non_goal) {
        assert!(goals.contains(&format!("| {id} | ")), "{id}");
    }
}

#[test]
fn no_key_is_refused_that_there_is() {
    let schema = vyr_base::form::schema::<manifest::ManifestFile>();
    let mut stack = vec![&schema];
    let mut known = 0;
    while let Some(value) = stack.pop() {
        let names = value["properties"].as_object().into_iter().flat_map(|of| of.keys());
        for name in names {
            known += 1;
            // A port has a name, and a service does not: only what is nowhere is refused.
            let refused = vyr_service::refuse::key(name).is_some_and(|told| told.id.is_some());
            assert!(!refused, "{name} is there");
        }
        stack.extend(value.as_object().into_iter().flat_map(|of| of.values()));
    }
    assert!(known > 40, "{known}");
}

fn refused(text: &str, id: &str) {
    assert!(told(text).iter().any(|(found, hint)| *found == id && hint.is_some()), "{id}");
}

#[test]
fn builds_are_refused() {
    refused(&DB.replace("[image]", "[build]\ndockerfile = \"Dockerfile\"\n[image]"), "build");
    refused(&DB.replace("registry.example.org/shop/valkey:8.1", "./Dockerfile"), "bad-text");
}

#[test]
fn privileges_are_refused() {
    refused(&DB.replace("version = 1", "version = 1\nprivileged = true"), "privileged");
    refused(
        &DB.replace("[processes.valkey]", "[processes.valkey]\ncap_add = [\"SYS_ADMIN\"]"),
        "privileged",
    );
}

#[test]
fn host_hardware_is_refused() {
    refused(
        &DB.replace("[processes.valkey]", "[processes.valkey]\ndevices = [\"/dev/dri\"]"),
        "host-access",
    );
}

#[test]
fn kernels_of_users_are_refused() {
    refused(&DB.replace("[image]", "[image]\nkernel = \"vmlinuz\""), "kernel");
}

#[test]
fn machines_in_machines_are_refused() {
    refused(&DB.replace("[processes.valkey]", "[processes.valkey]\nnested = true"), "nested");
}

#[test]
fn sidecars_are_refused() {
    refused(&DB.replace("version = 1", "version = 1\nsidecars = [\"envoy\"]"), "sidecar");
}

#[test]
fn several_regions_are_refused() {
    refused(&DB.replace("version = 1", "version = 1\nregions = [\"fra\", \"ams\"]"), "region");
}

#[test]
fn networks_of_ones_own_are_refused() {
    refused(
        &DB.replace("[processes.valkey]", "[processes.valkey]\nnetwork_mode = \"host\""),
        "host-network",
    );
}

#[test]
fn layer_7_is_refused() {
    refused(&DB.replace("to = \"resp\"", "to = \"resp\"\npath_prefix = \"/api\""), "layer-7");
}

#[test]
fn autoscaling_is_refused() {
    refused(
        &DB.replace("[processes.valkey]", "[processes.valkey]\nscale = { min = 1, max = 5 }"),
        "autoscale",
    );
}

#[test]
fn udp_is_refused() {
    refused(&DB.replace("internal = 6379", "internal = 6379, protocol = \"udp\""), "udp");
}

#[test]
fn volumes_are_not_there_yet() {
    refused(&DB.replace("version = 1", "version = 1\nvolumes = [\"data\"]"), "not-yet");
}

#[test]
fn functions_are_refused() {
    refused(&DB.replace("version = 1", "version = 1\ncron = \"* * * * *\""), "schedule");
}

#[test]
fn addresses_of_ipv4_are_asked_for_in_words() {
    let asked = DB.replace("port = 6379\nprocess", "ipv4 = true\nport = 6379\nprocess");
    let with = |text: &str| {
        let read = manifest::read("db", &Source::new("services/db.toml", text)).expect("good");
        read.manifest.routes.iter().any(|route| route.ipv4)
    };
    assert!(with(&asked) && !with(DB));
}

const COMPOSE: &str =
    "# dev\nversion: '3'\nservices:\n  web:\n    image: nginx\n    ports: [\"80:80\"]\n";
const KUBERNETES: &str = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n";
const CHART: &str = "apiVersion: v2\nname: web\nversion: 0.1.0\n";
const TEMPLATE: &str =
    "{{- if .Values.ingress.enabled -}}\napiVersion: v1\nkind: Service\n{{- end }}\n";
const DOCKERFILE: &str =
    "# syntax=docker/dockerfile:1\nARG V=1\nFROM debian:${V} AS build\nRUN make\n";
const NOMAD: &str = "job \"web\" {\n  datacenters = [\"dc1\"]\n  group \"g\" {}\n}\n";
const UNIT: &str = "[Unit]\nDescription=web\n[Service]\nExecStart=/bin/web\n";
const FLY: &str = "app = \"web\"\nprimary_region = \"fra\"\n[http_service]\ninternal_port = 80\n";

/// Files with the bytes that tell them, under names that do not.
fn files() -> Vec<(Kind, Vec<u8>)> {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let text = |kind: Kind, text: &str| (kind, text.as_bytes().to_vec());
    vec![
        text(Kind::Compose, COMPOSE),
        text(Kind::Compose, "{\n\"services\": {\"a\": {\"image\": \"b\"}}\n}"),
        text(Kind::Compose, "services:\n  a:\n    build: .\n"),
        text(Kind::Helm, CHART),
        text(Kind::Helm, TEMPLATE),
        text(Kind::Helm, "replicaCount: 1\nimage:\n  repository: nginx\n"),
        text(Kind::Kubernetes, KUBERNETES),
        text(Kind::Kubernetes, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"),
        text(Kind::Kubernetes, "\u{feff}kind: Pod\r\napiVersion: v1\r\n"),
        text(Kind::Dockerfile, DOCKERFILE),
        text(Kind::Dockerfile, "from scratch\ncopy a /a\n"),
        text(Kind::BuildContext, "[package]\nname = \"a\"\n[dependencies]\n"),
        text(Kind::BuildContext, "{\n\"version\": \"1\",\n\"dependencies\": {}\n}"),
        (Kind::Zip, b"PK\x03\x04\x14\0".to_vec()),
        (Kind::Zip, b"PK\x05\x06".to_vec()),
        (Kind::Tar, tar),
        (Kind::Tar, b"\x1f\x8b\x08\0".to_vec()),
        (Kind::Tar, b"\x28\xb5\x2f\xfd\x04".to_vec()),
        (Kind::Tar, b"\xfd7zXZ\x00\x00".to_vec()),
        (Kind::Tar, b"BZh91AY".to_vec()),
        text(Kind::Procfile, "web: bundle exec puma\nworker: bundle exec sidekiq\n"),
        text(Kind::Nomad, NOMAD),
        text(Kind::Nomad, "{\"Job\": {\"TaskGroups\": []}}"),
        text(Kind::SystemdUnit, UNIT),
        text(Kind::Terraform, "resource \"aws_instance\" \"web\" {\n}\n"),
        text(Kind::FlyApp, FLY),
        (Kind::Wasm, b"\0asm\x01\0\0\0".to_vec()),
        (Kind::Program, b"\x7fELF\x02".to_vec()),
        (Kind::Program, b"#!/bin/sh\n".to_vec()),
    ]
}

#[test]
fn files_of_other_tools_are_known_by_their_content() {
    for (kind, bytes) in files() {
        for name in ["web", "services/web.toml", "x.yaml", "y\u{1b}[2J"] {
            let shown = String::from_utf8_lossy(&bytes);
            let refusal = look(name, &bytes).unwrap_or_else(|| panic!("{kind}: {shown}"));
            assert_eq!(refusal.kind, kind, "{shown}");
            assert_eq!(refusal.category(), Category::Usage);
            assert!(refusal.hint().is_some_and(|hint| !hint.is_empty()));
            let said = refusal.to_string();
            assert!(said.contains(kind.words()) && !said.contains('\u{1b}'), "{said}");
        }
    }
    let told: Vec<Kind> = files().into_iter().map(|(kind, _)| kind).collect();
    assert!(Kind::ALL.iter().all(|kind| told.contains(kind)), "each kind has a file here");
}

#[test]
fn names_tell_what_bytes_do_not() {
    for (name, kind) in [
        (".", Kind::BuildContext),
        ("..", Kind::BuildContext),
        ("shop/", Kind::BuildContext),
        ("shop/Dockerfile", Kind::Dockerfile),
        ("Containerfile.prod", Kind::Dockerfile),
        ("web.dockerfile", Kind::Dockerfile),
        ("docker-compose.yml", Kind::Compose),
        ("compose.yaml", Kind::Compose),
        ("Chart.yaml", Kind::Helm),
        ("charts/values.yaml", Kind::Helm),
        ("Procfile", Kind::Procfile),
        ("package.json", Kind::BuildContext),
        ("go.mod", Kind::BuildContext),
        ("app.zip", Kind::Zip),
        ("app.war", Kind::Zip),
        ("app.tar.gz", Kind::Tar),
        ("app.tgz", Kind::Tar),
        ("web.nomad", Kind::Nomad),
        ("main.tf", Kind::Terraform),
        ("web.service", Kind::SystemdUnit),
        ("web.wasm", Kind::Wasm),
    ] {
        assert_eq!(look(name, b"").map(|refusal| refusal.kind), Some(kind), "{name}");
    }
    // A service may be called anything.
    for name in ["dockerfile.toml", "compose.toml", "services/values.toml", "web.toml", "web"] {
        assert_eq!(look(name, b""), None, "{name}");
    }
}

#[test]
fn a_manifest_in_the_form_of_another_tool_is_told_once() {
    for (kind, bytes) in files() {
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let faults = manifest::read("web", &Source::new("services/web.toml", text.clone()));
        let faults = faults.expect_err("no manifest");
        assert_eq!((faults.len(), faults[0].id), (1, "not-a-manifest"), "{text}");
        assert!(faults[0].what.contains(kind.words()) && faults[0].hint.is_some());
    }
}

#[test]
fn what_is_looked_at_is_bounded() {
    for line in ["# x\n".to_owned(), format!("#{}\n", "x".repeat(100))] {
        let mut far = line.repeat(LOOK_BYTES / line.len() + 1);
        far.push_str(COMPOSE);
        assert_eq!(look("x", far.as_bytes()), None);
    }
    let near = format!("# {}\n{COMPOSE}", "x".repeat(LOOK_BYTES / 2));
    assert!(look("x", near.as_bytes()).is_some());
}

#[test]
fn the_examples_are_manifests() {
    for text in [WEB, DB] {
        assert_eq!(look("services/web.toml", text.as_bytes()), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever stands in its texts, a manifest is none of the others.
    #[test]
    fn no_manifest_is_taken_for_something_else(manifest in any_manifest(), seed in any::<u64>()) {
        let text = written(&manifest, seed);
        prop_assert_eq!(look("services/web.toml", text.as_bytes()), None, "{}", text);
    }

    #[test]
    fn whatever_is_looked_at_is_answered(name in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(refusal) = look(&name, &bytes) {
            prop_assert!(!refusal.why.is_empty() && !refusal.instead.is_empty());
        }
    }
}
