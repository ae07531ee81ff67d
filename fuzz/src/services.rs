//! Targets of the services plan: its document, and what a lock says of services.

use std::collections::{BTreeMap, BTreeSet};

use vyr_base::{Digest, Source};
use vyr_plan::plan::kind_of;
use vyr_plan::services::{
    SERVICES_BYTES_MAX, ServicesPlan, Update, allocate_services, compile_services, diff_services,
    prove_services, stale, unpinned,
};
use vyr_plan::{Files, Intent, Kind, Lock, Plan, PlanError};

use crate::checks::problem;
use crate::service::MANIFEST;

/// A site with one service on two nodes.
const SITE: &str = r#"version = 1
name = "small"
prefix = "fd3a:91c2:77e0::/48"
operators = { threshold = 1, from = ["10.9.0.0/24"] }
[nodes.alpha]
memory = "1Gi"
cpu = 1
ipv4_public = ["198.51.100.7", "198.51.100.8"]
[nodes.beta]
memory = "384Mi"
cpu = 2
ipv4_public = ["203.0.113.9"]
"#;

/// The site's intent.
pub fn small() -> Intent {
    let services = vec![Source::new("services/web.toml", MANIFEST)];
    let secrets = BTreeMap::from([("web".to_owned(), Digest::of(b"sealed"))]);
    let files = Files { services, secrets, ..Files::new(Source::new("site.toml", SITE)) };
    files.read().expect("the small site")
}

/// Its plan, with an answer for every tag.
pub fn plan(intent: &Intent) -> (Lock, ServicesPlan) {
    let mut lock = Lock::default();
    for (reference, _) in unpinned(intent, &Lock::default(), Update::None) {
        lock.pin(reference, Digest::of(b"an image"));
    }
    let lock = allocate_services(intent, &lock, None).expect("there is room");
    let plan = compile_services(intent, &lock, None, None).expect("it fits");
    (lock, plan)
}

/// What a lock that was read says of services is mended to one that is not stale but for its tags.
pub fn locked(lock: &Lock) {
    let intent = small();
    let _ = stale(&intent, lock, None);
    let Ok(mended) = allocate_services(&intent, lock, None) else { return };
    assert_eq!(allocate_services(&intent, &mended, None).ok().as_ref(), Some(&mended));
    let tags = unpinned(&intent, &mended, Update::None).len();
    assert_eq!(stale(&intent, &mended, None).len(), tags, "a mended lock is stale");
    let mut addresses = BTreeSet::new();
    let mut owners = BTreeSet::new();
    for (node, address, service) in mended.allotments() {
        assert!(addresses.insert((node, address)), "two owners of {address}");
        assert!(owners.insert((node, service)), "two addresses of {service}");
    }
}

/// A plan that is read is written as it was; one in which everything holds is what a plain reader
/// sees in it, too.
pub fn services_plan(input: &[u8]) {
    let plan = match ServicesPlan::parse(input) {
        Ok(plan) => plan,
        Err(error) => return problem(&error),
    };
    assert!(input.len() <= SERVICES_BYTES_MAX);
    assert_eq!(plan.to_bytes().expect("it was read").as_slice(), input);
    assert_eq!(kind_of(input), Some(Kind::Services));
    assert!(matches!(Plan::parse(input), Err(PlanError::Kind { found: Kind::Services, .. })));
    assert!(diff_services(Some(&plan), Some(&plan)).is_empty(), "a plan differs from itself");
    let _ = diff_services(None, Some(&plan));
    let intent = small();
    let violations = prove_services(&plan, Some(&plan));
    for violation in &violations {
        let told = violation.diagnostic(&intent).to_string();
        assert!(told.lines().all(|line| !line.contains(char::is_control)), "{told:?}");
    }
    if !violations.is_empty() {
        return;
    }
    let value: serde_json::Value = serde_json::from_slice(input).expect("it was read");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut free: BTreeMap<String, u64> = BTreeMap::new();
    for node in list(&value["nodes"]) {
        let name = node["name"].as_str().expect("a name").to_owned();
        assert!(free.insert(name, node["memory_bytes"].as_u64().expect("bytes")).is_none());
    }
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for service in list(&value["services"]) {
        let manifest = &service["manifest"];
        let name = manifest["service"].as_str().expect("a name");
        for (process, of) in manifest["processes"].as_object().expect("a table") {
            for ordinal in 0..of["scale"].as_u64().expect("a number") {
                let bytes = of["resources"]["memory_bytes"].as_u64().expect("bytes");
                sizes.insert(format!("{name}/{process}/{ordinal}"), bytes + (64 << 20));
            }
        }
    }
    for placed in list(&value["placements"]) {
        let slot = placed["slot"].as_str().expect("a slot");
        let size = sizes.remove(slot).expect("a slot that is wanted, once");
        let free = free.get_mut(placed["node"].as_str().expect("a node")).expect("it is there");
        *free = free.checked_sub(size).expect("memory is given away once");
    }
    assert!(sizes.is_empty(), "every slot is placed");
}
