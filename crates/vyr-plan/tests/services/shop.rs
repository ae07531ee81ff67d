//! A site with two services on two nodes, as texts.

use std::collections::BTreeMap;

use vyr_base::{Digest, Source};
use vyr_plan::services::{
    ServicesPlan, Update, allocate_services, compile_services, prove_services, stale, unpinned,
};
use vyr_plan::{Applied, Files, Intent, Lock};

pub(crate) const SITE: &str = r#"version = 1
name = "shop"
prefix = "fd5e:40b1:9c22::/48"
operators = { threshold = 2, threshold_services = 1, from = ["192.0.2.0/24"] }
[nodes.alpha]
memory = "2304Mi"
cpu = 2
ipv4_public = ["198.51.100.7", "198.51.100.8"]
[nodes.beta]
memory = "512Mi"
cpu = 1
ipv4_public = ["203.0.113.9"]
[nodes.gamma]
memory = "8Gi"
cpu = 8
services = "draining"
"#;

pub(crate) const WEB: &str = r#"version = 1
image.ref = "registry.example/shop/web:2.4"
[processes.http]
scale.min = 2
resources = { memory = "256Mi", cpu = 0.5 }
ports = [{ name = "tls", internal = 8443 }]
[processes.worker]
resources = { memory = "512Mi" }
[[routes]]
hostname = "shop.example"
port = 443
process = "http"
to = "tls"
[[routes]]
hostname = "www.shop.example"
port = 443
process = "http"
to = "tls"
default = true
ipv4 = true
[secrets]
required = ["TLS_KEY"]
"#;

pub(crate) const DB: &str = r#"version = 1
image.ref = "registry.example/shop/db@sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
[processes.db]
resources = { memory = "512Mi" }
ports = [{ name = "db", internal = 5432 }]
[[routes]]
port = 5432
process = "db"
to = "db"
proxy_protocol = true
backend_expects_proxy_protocol = true
[secrets]
none = true
"#;

/// Three operators; the site's `threshold_services` is one.
pub(crate) const SIGNERS: &str =
    include_str!("../../../../examples/office/operators.allowed_signers");

/// The site's texts by name.
pub(crate) fn texts() -> BTreeMap<String, String> {
    let all = [("site.toml", SITE), ("services/db.toml", DB), ("services/web.toml", WEB)];
    all.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// The files of texts; a service whose text requires secrets has some.
pub(crate) fn files(texts: &BTreeMap<String, String>) -> Files {
    let source = |name: &str| Source::new(name, texts[name].clone());
    let services: Vec<Source> = texts
        .keys()
        .filter(|name| name.starts_with("services/"))
        .map(|name| source(name))
        .collect();
    let secrets = services.iter().filter(|source| source.text().contains("required"));
    let secrets = secrets.map(|source| {
        let stem = source.name().trim_start_matches("services/").trim_end_matches(".toml");
        (stem.to_owned(), Digest::of(stem.as_bytes()))
    });
    let secrets = secrets.collect();
    let signers = Some(Source::new("operators.allowed_signers", SIGNERS));
    Files { services, secrets, signers, ..Files::new(source("site.toml")) }
}

pub(crate) fn read(texts: &BTreeMap<String, String>) -> Intent {
    files(texts).read().unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", faults.join("\n"))
    })
}

/// The worked site with one text replaced by another, wherever it stands once.
pub(crate) fn with(changes: &[(&str, &str)]) -> Intent {
    let mut texts = texts();
    for (from, to) in changes {
        let count: usize = texts.values().map(|text| text.matches(from).count()).sum();
        assert_eq!(count, 1, "{from:?} stands in {count} places");
        texts.values_mut().for_each(|text| *text = text.replace(from, to));
    }
    read(&texts)
}

pub(crate) fn shop() -> Intent {
    with(&[])
}

/// What a registry said about a tag.
pub(crate) fn answer(reference: &str) -> Digest {
    Digest::of(reference.as_bytes())
}

/// The lock of a site whose tags were all asked for.
pub(crate) fn lock(intent: &Intent, old: &Lock, applied: Option<&Applied<ServicesPlan>>) -> Lock {
    let mut lock = old.clone();
    for (reference, _) in unpinned(intent, old, Update::None) {
        lock.pin(reference, answer(&reference.to_string()));
    }
    let lock = allocate_services(intent, &lock, applied).expect("there is room");
    assert_eq!(stale(intent, &lock, applied), [], "a new lock is not stale");
    lock
}

/// The plan of an intent that compiles and holds.
pub(crate) fn plan(intent: &Intent, applied: Option<&Applied<ServicesPlan>>) -> ServicesPlan {
    let lock = lock(intent, &Lock::default(), applied);
    let plan = compile_services(intent, &lock, applied, None).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    let violations = prove_services(&plan, applied.map(|applied| &applied.plan));
    assert_eq!(violations, [], "the worked site holds");
    plan
}

pub(crate) fn applied(plan: ServicesPlan) -> Applied<ServicesPlan> {
    Applied { digest: plan.digest().expect("it has one"), plan }
}
