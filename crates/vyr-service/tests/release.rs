//! Releases: what is in their name, and what is not.

use vyr_base::{Digest, Source};
use vyr_service::{Manifest, Release, manifest};

const WEB: &str = include_str!("../../../examples/shop/services/web.toml");

fn web() -> Manifest {
    manifest::read("web", &Source::new("services/web.toml", WEB)).expect("good").manifest
}

fn changed(before: &str, after: &str) -> Manifest {
    assert!(WEB.contains(before), "{before}");
    let text = WEB.replacen(before, after, 1);
    let read = manifest::read("web", &Source::new("services/web.toml", text));
    read.unwrap_or_else(|faults| panic!("{}", faults[0])).manifest
}

#[test]
fn a_release_has_the_name_it_had() {
    let release = Release::of(&web(), Digest::of(b"image"));
    let golden = include_str!("golden/release.json").trim_end();
    assert_eq!(str::from_utf8(&release.to_bytes()).expect("UTF-8"), golden);
    assert_eq!(Release::parse(golden.as_bytes()).expect("its own bytes"), release);
    let id = release.id();
    assert_eq!(id.digest(), Digest::of(golden.as_bytes()));
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(id.digest().hex().starts_with(&id.short()) && id.short().len() == 12);
    assert!(id.is_named(&id.short()) && id.is_named(&id.to_string()));
    assert!(!id.is_named("") && !id.is_named(&id.short()[..3]) && !id.is_named("zzzz"));
}

#[test]
fn other_bytes_are_no_release() {
    let bytes = Release::of(&web(), Digest::of(b"image")).to_bytes();
    let text = String::from_utf8(bytes).expect("UTF-8");
    for other in [
        text.replace(':', ": "),
        text.replace("web", "Web"),
        text.replace("\"service\"", "\"x\":1,\"service\""),
        text.replace("sha256:", "sha512:"),
        String::new(),
        " ".repeat(5000),
    ] {
        assert!(Release::parse(other.as_bytes()).is_err(), "{other:.80}");
    }
}

/// What an instance is made of makes another release, one change at a time.
#[test]
fn what_an_instance_is_made_of_is_in_its_release() {
    let release = |manifest: &Manifest| Release::of(manifest, Digest::of(b"image")).id();
    let before = release(&web());
    assert_ne!(Release::of(&web(), Digest::of(b"other")).id(), before);
    for (from, to) in [
        ("shop/web:2.4", "shop/web:2.5"),
        ("workdir = \"/srv/shop\"", "workdir = \"/srv\""),
        ("user = \"shop\"", "user = \"root\""),
        ("\"info\"", "\"debug\""),
        ("--listen", "--bind"),
        ("\"check\"", "\"migrate\""),
        ("256Mi", "257Mi"),
        ("cpu = 0.5", "cpu = 0.501"),
        ("internal = 8443", "internal = 8444"),
        ("/healthz", "/health"),
        ("interval_seconds = 5", "interval_seconds = 6"),
        ("max_retries = 5", "max_retries = 6"),
        ("\"on-failure\"", "\"always\""),
        ("SIGINT", "SIGTERM"),
        ("grace_seconds = 60", "grace_seconds = 61"),
        ("\"TLS_KEY\"", "\"TLS_KEYS\""),
        ("[processes.worker]", "[processes.workers]"),
        ("ref =", "pull_policy = \"always\"\nref ="),
    ] {
        let manifest = changed(from, to);
        assert_ne!(release(&manifest), before, "{to}");
        assert_ne!(manifest.digest(), web().digest(), "{to}");
    }
}

/// What only says how many there are and who reaches them starts none anew.
#[test]
fn what_moves_no_instance_is_not_in_its_release() {
    let release = |manifest: &Manifest| Release::of(manifest, Digest::of(b"image")).id();
    for (from, to) in [
        ("the shop's front", "the front of the shop"),
        ("min = 2", "min = 3"),
        ("\"shop.example.org\"", "\"store.example.org\""),
        ("port = 443", "port = 8443"),
        ("default = true", "default = false"),
        ("ipv4 = true", "ipv4 = false"),
    ] {
        let manifest = changed(from, to);
        assert_eq!(release(&manifest), release(&web()), "{to}");
        assert_ne!(manifest.digest(), web().digest(), "{to}");
    }
}
