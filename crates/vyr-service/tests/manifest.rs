//! Manifests: what is read, what is refused with which words, and that one meaning is one document.

mod common;

use common::{any_manifest, written};
use proptest::prelude::*;
use vyr_base::{Diagnostic, Source};
use vyr_service::Manifest;
use vyr_service::manifest::{self, MANIFEST_BYTES_MAX, ManifestError, Read};

const WEB: &str = include_str!("../../../examples/shop/services/web.toml");
const DB: &str = include_str!("../../../examples/shop/services/db.toml");
const WEB_GOLDEN: &str = include_str!("golden/web.json");
const DB_GOLDEN: &str = include_str!("golden/db.json");

fn read(name: &str, text: &str) -> Result<Read, Vec<Diagnostic>> {
    manifest::read(name, &Source::new(format!("services/{name}.toml"), text))
}

fn good(name: &str, text: &str) -> Manifest {
    read(name, text).unwrap_or_else(|faults| panic!("{}", faults[0])).manifest
}

#[test]
fn the_examples_mean_what_they_meant() {
    for (name, text, golden) in [("web", WEB, WEB_GOLDEN), ("db", DB, DB_GOLDEN)] {
        let manifest = good(name, text);
        let bytes = manifest.to_bytes();
        assert_eq!(str::from_utf8(&bytes).expect("UTF-8"), golden.trim_end());
        assert_eq!(Manifest::parse(&bytes).expect("its own bytes"), manifest);
        assert!(read(name, text).expect("good").warnings.is_empty());
    }
}

#[test]
fn a_slot_is_one_of_a_process() {
    let slots: Vec<String> = good("web", WEB).slots().map(|(slot, _)| slot.to_string()).collect();
    assert_eq!(slots, ["web/http/0", "web/http/1", "web/worker/0"]);
}

#[test]
fn who_asks_every_second_waits_no_longer() {
    let health = "health = { type = \"tcp\", port = 80, interval_seconds = 1 }\n[[routes]]";
    let manifest = good("web", &SMALL.replace("[[routes]]", health));
    let process = manifest.processes.values().next().expect("one");
    assert_eq!(process.health.as_ref().map(|health| health.timeout_seconds), Some(1));
}

#[test]
fn the_name_is_in_the_bytes() {
    assert_ne!(good("web", DB).digest(), good("db", DB).digest());
    let faults = read("My Shop", DB).expect_err("no name");
    assert_eq!((faults[0].id, faults.len()), ("service-name", 1));
}

/// The smallest manifest there is.
const SMALL: &str = r#"version = 1
image = { ref = "r.example/app:1" }
secrets = { none = true }
[processes.http]
resources = { memory = "128Mi" }
ports = [{ name = "web", internal = 80 }]
[[routes]]
hostname = "a.example"
port = 443
process = "http"
to = "web"
"#;

/// Kinds of faults with their lines.
type Told = &'static [(&'static str, usize)];

/// What is changed in [`SMALL`], and what is told of it, with words of the first fault's hint.
const FAULTS: &[(&str, &str, Told, &str)] = &[
    ("version = 1", "version = 2", &[("out-of-range", 1)], "another vyr"),
    ("128Mi", "127Mi", &[("memory-floor", 5)], "128Mi"),
    ("128Mi", "128MiB", &[("bad-text", 5)], "write 128Mi"),
    ("128Mi", "9999999G", &[("bad-text", 5)], "256Mi"),
    ("\"128Mi\" }", "\"128Mi\", disk = \"1023Mi\" }", &[("disk-floor", 5)], "1Gi"),
    ("\"128Mi\" }", "\"128Mi\", cpu = 64.001 }", &[("bad-text", 5)], "0.01 to 64"),
    ("\"128Mi\" }", "\"128Mi\", cpu = 1e1 }", &[("bad-text", 5)], "0.25"),
    ("\"128Mi\" }", "\"128Mi\", cpu = \"0.5\" }", &[("wrong-type", 5)], "write 0.5"),
    ("memory = \"128Mi\"", "", &[("missing-key", 5)], "memory"),
    ("app:1", "App:1", &[("bad-text", 2)], "REGISTRY"),
    ("\"r.example/app:1\"", "\"nginx\"", &[("bad-text", 2)], "docker.io/library/nginx:TAG"),
    ("\"r.example/app:1\"", "\"team/app:1\"", &[("bad-text", 2)], "docker.io/team/app:1"),
    ("\"r.example/app:1\"", "\"./Dockerfile\"", &[("bad-text", 2)], "buildah"),
    ("{ ref = \"r.example/app:1\" }", "\"nginx\"", &[("wrong-type", 2)], "ref = \"nginx\""),
    ("none = true", "none = false", &[("secrets-unsaid", 3)], "none = true"),
    ("none = true", "required = []", &[("secrets-unsaid", 3)], "none = true"),
    ("none = true", "none = true, required = [\"A\"]", &[("secrets-unsaid", 3)], "required"),
    ("none = true", "required = [\"db-pw\"]", &[("bad-text", 3)], "write DB_PW"),
    ("secrets = { none = true }\n", "", &[("missing-key", 1)], "secrets"),
    ("web\", internal", "web\", port", &[("missing-key", 6), ("unknown-key", 6)], ""),
    ("internal = 80", "internal = 0", &[("out-of-range", 6)], ""),
    ("80 }]", "80, protocol = \"udp\" }]", &[("udp", 6)], "TCP"),
    ("80 }]", "80 }, { name = \"web\", internal = 81 }]", &[("port-twice", 6)], "another name"),
    ("80 }]", "80 }, { name = \"b\", internal = 80 }]", &[("port-twice", 4)], "to = \"b\""),
    ("[[routes]]", "scale = { max = 2 }\n[[routes]]", &[("autoscale", 7)], "min = 1"),
    ("[[routes]]", "scale = { min = 101 }\n[[routes]]", &[("out-of-range", 7)], ""),
    ("[[routes]]", "command = [\"\"]\n[[routes]]", &[("no-program", 7)], "/bin/app"),
    ("[[routes]]", "command = [\"a\\u0000\"]\n[[routes]]", &[("bad-text", 7)], ""),
    ("[[routes]]", "stop_signal = \"SIGTREM\"\n[[routes]]", &[("unknown-word", 7)], "SIGTERM"),
    ("[[routes]]", "workdir = \"/a/../b\"\n[[routes]]", &[("bad-text", 7)], "absolute"),
    ("[[routes]]", "user = \"-x\"\n[[routes]]", &[("bad-text", 7)], "1000:1000"),
    ("[[routes]]", "vars = { A-B = \"\" }\n[[routes]]", &[("bad-text", 7)], "write A_B"),
    (
        "[[routes]]",
        "health = { type = \"tcp\", port = 80, path = \"/\" }\n[[routes]]",
        &[("health-path", 7)],
        "http",
    ),
    (
        "[[routes]]",
        "health = { type = \"http\", port = 80, interval_seconds = 2, timeout_seconds = 3 }\n[[routes]]",
        &[("health-overlap", 7)],
        "timeout_seconds",
    ),
    // What cannot be read is told once: nothing is said about what stands in for it.
    (
        "[[routes]]",
        "health = { type = \"htpp\", port = 80, path = \"/\" }\n[[routes]]",
        &[("unknown-word", 7)],
        "http",
    ),
    ("[[routes]]", "scale = { min = \"2\", max = 2 }\n[[routes]]", &[("wrong-type", 7)], "write 2"),
    ("none = true", "none = 1", &[("wrong-type", 3)], "true or false"),
    ("to = \"web\"", "to = \"web\"\nproxy_protocol = 1", &[("wrong-type", 12)], "true or false"),
    ("a.example", "A.example", &[("bad-text", 8)], "write a.example"),
    ("a.example", "*.example", &[("bad-text", 8)], "name each host"),
    ("a.example", "10.0.0.1", &[("bad-text", 8)], "default route"),
    ("process = \"http\"", "process = \"web\"", &[("unknown-process", 8)], "[processes]"),
    ("to = \"web\"", "to = \"http\"", &[("unknown-port", 8)], "name = \"http\""),
    (
        "to = \"web\"",
        "to = \"web\"\nproxy_protocol = true",
        &[("proxy-protocol", 12)],
        "backend_expects",
    ),
    (
        "to = \"web\"",
        "to = \"web\"\nbackend_expects_proxy_protocol = true",
        &[("proxy-protocol", 12)],
        "proxy_protocol = true",
    ),
    ("hostname = \"a.example\"", "default = true", &[("default-of-raw", 9)], "hostname"),
    ("to = \"web\"", "to = \"web\"\ntls = true", &[("layer-7", 12)], "end TLS"),
    ("[processes.http]", "[processes.HTTP]", &[("bad-text", 4)], "write http"),
    ("version = 1", "version = 1\ndescripton = \"x\"", &[("unknown-key", 2)], "description"),
];

/// A second route for [`SMALL`], and what is told of the two.
const CLASHES: &[(&str, &str)] = &[
    ("hostname = \"a.example\"\nport = 443", "route-twice"),
    ("port = 443", "route-kinds"),
    ("hostname = \"b.example\"\nport = 443\ndefault = true", ""),
    ("hostname = \"a.example\"\nport = 8443", ""),
    ("port = 80", ""),
    (
        "hostname = \"b.example\"\nport = 444\nproxy_protocol = true\nbackend_expects_proxy_protocol = true",
        "proxy-protocol-mixed",
    ),
];

#[test]
fn each_fault_is_told_where_it_is() {
    good("web", SMALL);
    for (before, after, told, hint) in FAULTS {
        assert_eq!(SMALL.matches(before).count(), 1, "{before}");
        let text = SMALL.replace(before, after);
        let faults = read("web", &text).expect_err(after);
        let found: Vec<(&str, usize)> = faults
            .iter()
            .map(|fault| (fault.id, fault.place.as_ref().map_or(0, |place| place.line)))
            .collect();
        assert_eq!(&found, told, "{after}");
        let first = faults[0].hint.as_deref().unwrap_or_default();
        assert!(first.contains(hint), "{after}: {first}");
        assert!(faults.iter().all(|fault| fault.why.is_some() || fault.hint.is_some()), "{after}");
    }
}

#[test]
fn routes_that_cannot_both_be_are_told() {
    for (route, told) in CLASHES {
        let text = format!("{SMALL}[[routes]]\nprocess = \"http\"\nto = \"web\"\n{route}\n");
        let found = read("web", &text).err().unwrap_or_default();
        let found: Vec<&str> = found.iter().map(|fault| fault.id).collect();
        let told: Vec<&str> = [*told].into_iter().filter(|told| !told.is_empty()).collect();
        assert_eq!(found, told, "{route}");
    }
    let two = "[[routes]]\nprocess = \"http\"\nto = \"web\"\nport = 443\ndefault = true\n";
    let two = |name: &str| format!("{two}hostname = \"{name}.example\"\n");
    let text = format!("{SMALL}{}{}", two("b"), two("c"));
    let faults = read("web", &text).expect_err("two defaults");
    assert_eq!(faults[0].id, "default-twice");
}

#[test]
fn one_fault_hides_no_other() {
    let text = SMALL
        .replace("128Mi", "64Mi")
        .replace("r.example/app:1", "app")
        .replace("none = true", "none = 1")
        .replace("a.example", "A.example")
        .replace("[processes.http]", "privileged = true\n[processes.http]\nreplicas = 2");
    let faults = read("web", &text).expect_err("five faults");
    let ids: Vec<&str> = faults.iter().map(|fault| fault.id).collect();
    let all = ["bad-text", "wrong-type", "privileged", "unknown-key", "memory-floor", "bad-text"];
    assert_eq!(ids, all);
}

#[test]
fn a_variable_that_looks_like_a_secret_is_a_warning() {
    for (name, told) in [
        ("DB_PASSWORD", true),
        ("GITHUB_TOKEN", true),
        ("client_secret", true),
        ("TLS_PRIVATE_KEY", true),
        ("PASSWORD_FILE", false),
        ("SECRETS_DIR", false),
        ("KEYBOARD", false),
        ("RUST_LOG", false),
    ] {
        let text = SMALL.replace("[[routes]]", &format!("vars = {{ {name} = \"x\" }}\n[[routes]]"));
        let warnings = read("web", &text).expect("it is taken").warnings;
        let found: Vec<&str> = warnings.iter().map(|warning| warning.id).collect();
        let expected: Vec<&str> = if told { vec!["secret-in-env"] } else { vec![] };
        assert_eq!(found, expected, "{name}");
        assert!(warnings.iter().all(|warning| !warning.is_error()));
        // The value is in no message but the line of the file that is shown.
        assert!(warnings.iter().all(|warning| !warning.what.contains("\"x\"")));
    }
}

#[test]
fn only_its_own_bytes_are_a_manifest() {
    let manifest = good("web", SMALL);
    let text = String::from_utf8(manifest.to_bytes()).expect("UTF-8");
    let form = |text: &str| matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::Form(_)));
    assert!(form(&text.replace(':', ": ")));
    assert!(form(&text.replace("\"version\":1", "\"version\":1,\"x\":1")));
    assert!(form(&text.replace("\"scale\":1,", "")));
    assert!(form(&text.replace("a.example", "A.example")));
    assert!(form(""));
    // What no file says is refused in a document, too.
    for (before, after) in [
        ("134217728", "134217727"),
        ("\"scale\":1", "\"scale\":101"),
        ("\"version\":1", "\"version\":2"),
        ("\"cpu_milli\":1000", "\"cpu_milli\":64001"),
        ("\"internal\":80", "\"internal\":0"),
        ("\"grace_seconds\":10", "\"grace_seconds\":601"),
        ("\"to\":\"web\"", "\"to\":\"other\""),
    ] {
        assert!(text.contains(before), "{before}");
        let changed = text.replace(before, after);
        let refused = Manifest::parse(changed.as_bytes());
        assert!(matches!(refused, Err(ManifestError::Rule(_))), "{after}: {refused:?}");
    }
    let long = vec![b' '; MANIFEST_BYTES_MAX + 1];
    assert!(matches!(Manifest::parse(&long), Err(ManifestError::TooLarge(_))));
}

#[test]
fn a_document_in_another_order_is_refused() {
    let mut manifest = good("web", WEB);
    assert_eq!(manifest.faults(), []);
    manifest.routes.reverse();
    let ids: Vec<&str> = manifest.faults().iter().map(|fault| fault.id).collect();
    assert_eq!(ids, ["order"]);
    assert!(matches!(Manifest::parse(&manifest.to_bytes()), Err(ManifestError::Rule(_))));
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let long = format!("{SMALL}{}", "# long\n".repeat(200_000));
    assert_eq!(read("web", &long).expect_err("too long")[0].id, "too-large");
    // What every process gets, times many processes.
    let value = "\\t".repeat(8000);
    let vars: String = (0..30).map(|at| format!("vars.V{at} = \"{value}\"\n")).collect();
    let process = |at| format!("[processes.p{at}]\nresources = {{ memory = \"128Mi\" }}\n");
    let processes: String = (0..31).map(process).collect();
    assert!(read("web", &format!("{SMALL}[env]\n{vars}")).is_ok());
    let faults = read("web", &format!("{SMALL}{processes}[env]\n{vars}")).expect_err("copies");
    assert_eq!((faults.len(), faults[0].id), (1, "too-large"));
    let route = "[[routes]]\nport = 1\nprocess = \"http\"\nto = \"web\"\n".repeat(257);
    let faults = read("web", &format!("{SMALL}{route}")).expect_err("many routes");
    assert_eq!((faults.len(), faults[0].id), (1, "out-of-range"));
    let many: String = (0..400).map(|at| format!("x{at} = 1\n")).collect();
    let faults = read("web", &format!("{many}{SMALL}")).expect_err("many faults");
    assert_eq!((faults.len(), faults[200].id), (201, "too-many"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Order, layout, comments and written defaults change nothing; what is read is what was meant.
    #[test]
    fn one_meaning_is_one_document(manifest in any_manifest(), a in any::<u64>(), b in any::<u64>()) {
        let name = manifest.service.as_str();
        for seed in [a, b] {
            let text = written(&manifest, seed);
            let found = match read(name, &text) {
                Ok(read) => read.manifest,
                Err(faults) => panic!("{}\n{text}", faults[0]),
            };
            prop_assert_eq!(&found, &manifest, "{}", text);
            prop_assert_eq!(found.digest(), manifest.digest());
        }
        prop_assert_eq!(Manifest::parse(&manifest.to_bytes()).expect("its own bytes"), manifest);
    }
}
