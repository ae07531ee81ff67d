//! Manifests, layouts and signatures that no tool of ours makes, all signed by a trusted key: what
//! a signer is trusted with is to say what may run, not to break us.

use std::fs;

use serde_json::{Value, json};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::archive::{other, pack, unpack, works_for_import};
use crate::common::{Ended, Place, guest, text_of};
use crate::judge::{digest, faults, tree};
use crate::random::Random;
use crate::trust::{copy, draft, key, runs, sign, trust};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What goes into an archive: a manifest, as JSON and then as bytes, and the blobs beside it.
struct Forged {
    manifest: Value,
    config: Vec<u8>,
    wasm: Vec<u8>,
    /// Overrides the bytes of `manifest`.
    bytes: Option<Vec<u8>>,
}

impl Forged {
    fn new() -> Self {
        let wasm = fs::read(guest("hello.wasip1")).expect("a guest");
        let config =
            json!({"architecture": "wasm", "layerDigests": [digest(&wasm)], "os": "wasip1"});
        let config = config.to_string().into_bytes();
        let mut forged = Self { manifest: Value::Null, config, wasm, bytes: None };
        forged.manifest = json!({
            "annotations": {"org.opencontainers.image.title": "hello"},
            "config": {},
            "layers": [{}],
            "mediaType": MANIFEST,
            "schemaVersion": 2,
        });
        forged.link();
        forged
    }

    /// Lets the manifest name the config and the Wasm as they are now.
    fn link(&mut self) {
        let config_type = "application/vnd.wasm.config.v0+json";
        self.manifest["config"] = descriptor(config_type, &self.config);
        self.manifest["layers"][0] = descriptor("application/wasm", &self.wasm);
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.clone().unwrap_or_else(|| self.manifest.to_string().into_bytes())
    }

    /// The archive, with a signature by `key`.
    fn archive(&self, key: &PrivateKey) -> Vec<u8> {
        let manifest = self.bytes();
        let covered = format!("{}\n", digest(&manifest));
        let signed = key.sign("vyr-artifact", HashAlg::Sha512, covered.as_bytes());
        let signature = signed.expect("a signature").to_pem(LineEnding::LF).expect("armor");
        let referrer = json!({
            "artifactType": "application/vnd.vyr.signature.v1",
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor("application/vnd.vyr.sshsig.v1", signature.as_bytes())],
            "mediaType": MANIFEST,
            "schemaVersion": 2,
            "subject": descriptor(MANIFEST, &manifest),
        });
        let referrer = referrer.to_string().into_bytes();
        let index = json!({
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor(MANIFEST, &manifest), descriptor(MANIFEST, &referrer)],
            "schemaVersion": 2,
        });
        let blobs: [&[u8]; 6] =
            [&self.config, &self.wasm, b"{}", signature.as_bytes(), &referrer, &manifest];
        let mut members = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
        ];
        members.extend(
            blobs
                .iter()
                .map(|blob| (digest(blob).replace("sha256:", "blobs/sha256/"), blob.to_vec())),
        );
        pack(&members)
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"digest": digest(bytes), "mediaType": media_type, "size": bytes.len()})
}

/// Nothing of a stranger's reaches the terminal but text.
#[track_caller]
fn assert_plain(what: &str, ended: &Ended) {
    let is_plain = |c: char| c == '\n' || !c.is_control();
    assert!(ended.stderr.chars().all(is_plain), "{what}: {:?}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
    assert!(ended.stderr.starts_with("error: "), "{what}: {}", ended.stderr);
}

/// A place that trusts one key, and that key.
fn place() -> (Place, PrivateKey) {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    works_for_import(&place);
    let text = fs::read_to_string(ana.private).expect("a key");
    (place, PrivateKey::from_openssh(text).expect("a key"))
}

#[test]
fn an_adversarial_manifest_is_refused_though_it_is_signed() {
    type Change = fn(&mut Forged);
    let (place, key) = place();
    let changes: [(&str, Change); 39] = [
        ("no schema version", |f| {
            drop(f.manifest.as_object_mut().map(|m| m.remove("schemaVersion")))
        }),
        ("schema version 1", |f| f.manifest["schemaVersion"] = json!(1)),
        ("schema version -2", |f| f.manifest["schemaVersion"] = json!(-2)),
        ("schema version \"2\"", |f| f.manifest["schemaVersion"] = json!("2")),
        ("no media type", |f| drop(f.manifest.as_object_mut().map(|m| m.remove("mediaType")))),
        ("a strange media type", |f| f.manifest["mediaType"] = json!("text/\u{1b}[2Jplain")),
        ("no layers", |f| f.manifest["layers"] = json!([])),
        ("a layer twice", |f| {
            let layer = f.manifest["layers"][0].clone();
            f.manifest["layers"] = json!([layer, layer]);
        }),
        ("layers that are no list", |f| f.manifest["layers"] = json!({})),
        ("a layer of another type", |f| f.manifest["layers"][0]["mediaType"] = json!("a/b")),
        ("a size that lies", |f| f.manifest["layers"][0]["size"] = json!(1)),
        ("a negative size", |f| f.manifest["layers"][0]["size"] = json!(-1)),
        ("an endless size", |f| f.manifest["layers"][0]["size"] = json!(u64::MAX)),
        ("a broken size", |f| f.manifest["config"]["size"] = json!(1.5)),
        ("another algorithm", |f| f.manifest["layers"][0]["digest"] = json!("md5:00")),
        ("a path for a digest", |f| {
            f.manifest["layers"][0]["digest"] = json!("sha256:../../keys/dev");
        }),
        ("an upper-case digest", |f| {
            let upper = text_of(&f.manifest["config"]["digest"]).to_uppercase();
            f.manifest["config"]["digest"] = json!(upper);
        }),
        ("no config", |f| f.manifest["config"] = Value::Null),
        ("a container's config", |f| {
            let kind = "application/vnd.oci.image.config.v1+json";
            f.manifest["config"]["mediaType"] = json!(kind);
        }),
        ("a config of something else", |f| {
            f.config = br#"{"architecture":"wasm","layerDigests":[],"os":"wasip1"}"#.to_vec();
            f.link();
        }),
        ("a config for the other world", |f| {
            f.config = String::from_utf8_lossy(&f.config).replace("wasip1", "wasip2").into();
            f.link();
        }),
        ("a config that is no JSON", |f| {
            f.config = b"once upon a time".to_vec();
            f.link();
        }),
        ("a config with a stranger's words", |f| {
            f.config = String::from_utf8_lossy(&f.config).replace("wasip1", "\\u001b[31m").into();
            f.link();
        }),
        ("no Wasm", |f| {
            f.wasm = b"#!/bin/sh\nexit 0\n".to_vec();
            f.config = String::from_utf8_lossy(&f.config)
                .replace(
                    &digest(&fs::read(guest("hello.wasip1")).expect("a guest")),
                    &digest(&f.wasm),
                )
                .into();
            f.link();
        }),
        ("an unknown declaration", |f| f.manifest["annotations"]["vyr.root"] = json!("yes")),
        ("a declaration with a stranger's words", |f| {
            f.manifest["annotations"]["vyr.\u{1b}]0;title\u{7}"] = json!("yes");
        }),
        ("arguments that are no JSON", |f| f.manifest["annotations"]["vyr.args"] = json!("a b")),
        ("arguments that are no texts", |f| f.manifest["annotations"]["vyr.args"] = json!("[1]")),
        ("arguments written otherwise", |f| {
            f.manifest["annotations"]["vyr.args"] = json!("[ \"a\" ]");
        }),
        ("an argument with a NUL", |f| {
            f.manifest["annotations"]["vyr.args"] = json!("[\"a\\u0000b\"]");
        }),
        ("too many arguments", |f| {
            let many = vec!["x"; 100_000];
            f.manifest["annotations"]["vyr.args"] = json!(json!(many).to_string());
        }),
        ("a state outside", |f| f.manifest["annotations"]["vyr.states"] = json!("[\"../x\"]")),
        ("a name that moves the cursor", |f| {
            let name = "\u{1b}[2J\u{1b}[1;1Hhello\r";
            f.manifest["annotations"]["org.opencontainers.image.title"] = json!(name);
        }),
        ("a name that is a path", |f| {
            f.manifest["annotations"]["org.opencontainers.image.title"] = json!("../hello");
        }),
        ("a key twice", |f| {
            let text = f.manifest.to_string();
            f.bytes = Some(text.replacen('{', r#"{"schemaVersion":2,"#, 1).into_bytes());
        }),
        ("more behind its end", |f| f.bytes = Some([&f.bytes()[..], b"{}"].concat())),
        ("no JSON", |f| f.bytes = Some(b"\x7fELF and more".to_vec())),
        ("JSON without end", |f| f.bytes = Some(b"[".repeat(100_000))),
        ("a very long manifest", |f| {
            f.manifest["annotations"]["note"] = json!("x".repeat(5 << 20));
        }),
    ];
    let before = tree(&place.path(""));
    for (what, change) in changes {
        let mut forged = Forged::new();
        change(&mut forged);
        let archive = forged.archive(&key);
        let ended = place.vyr(&["artifact", "import", "-"]).input(archive).run();
        assert_eq!(ended.code(), Some(2), "{what}: {ended:?}");
        assert_plain(what, &ended);
        assert_eq!(tree(&place.path("")), before, "{what} changed something");
    }
    // The twin: without a change it is taken in, and runs.
    let forged = Forged::new();
    let archive = forged.archive(&key);
    place.vyr(&["artifact", "import", "-"]).input(archive).run().ok();
    runs(&place, &digest(&forged.bytes()));
    assert_eq!(faults(&place.data()), [""; 0]);
}

/// A store that somebody wrote by hand is judged like any other.
#[test]
fn an_adversarial_manifest_in_the_store_is_refused() {
    let (place, key) = place();
    let forged = Forged::new();
    place.vyr(&["artifact", "import", "-"]).input(forged.archive(&key)).run().ok();
    let artifact = digest(&forged.bytes());
    runs(&place, &artifact);
    let store = place.data().join("store");
    let index = fs::read_to_string(store.join("index.json")).expect("the index");
    let mut container = Forged::new();
    container.manifest["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    for (name, bytes) in unpack(&container.archive(&key)) {
        if name.starts_with("blobs/") {
            fs::write(store.join(name), bytes).expect("a blob");
        }
    }
    let other = digest(&container.bytes());
    let size = container.bytes().len();
    let mut parsed: Value = serde_json::from_str(&index).expect("JSON");
    let entry = json!({"digest": other, "mediaType": MANIFEST, "size": size});
    parsed["manifests"].as_array_mut().expect("a list").push(entry);
    fs::write(store.join("index.json"), parsed.to_string()).expect("the index");
    let ended = place.vyr(&["run", &other]).run().refuses(2, &["container image"]);
    assert_plain("a container", &ended);
    runs(&place, &artifact);
    // It is listed with what is wrong with it, and the others beside it.
    let listed = place.vyr(&["artifact", "ls", "--json"]).run().ok().json();
    let refused: Vec<bool> = listed["artifacts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["refused"].is_string())
        .collect();
    assert_eq!(refused, [false, true], "{listed}");
}

/// Changed anywhere, an archive is taken whole or not at all, and what it brings is trusted.
#[test]
fn random_changes_of_an_archive() {
    let (place, artifact, archive) = crate::archive::exported();
    let sound = fs::read(archive).expect("the archive");
    let there = other(&place);
    works_for_import(&there);
    let before = tree(&there.path(""));
    let mut random = Random::new();
    let mut taken = 0;
    for round in 0..60 {
        let changed = random.change(&sound);
        let ended = there.vyr(&["artifact", "import", "-"]).input(changed).run();
        if ended.code() == Some(0) {
            // The change was in padding, which nobody reads.
            taken += 1;
            assert_eq!(ended.line(), artifact, "round {round}");
            runs(&there, &artifact);
            fs::remove_dir_all(there.data().join("store")).expect("the store");
            fs::remove_dir_all(there.data().join("cache")).expect("the cache");
            works_for_import(&there);
        } else {
            assert!(matches!(ended.code(), Some(2 | 3)), "round {round}: {ended:?}");
            assert_plain("a changed archive", &ended);
        }
        assert_eq!(tree(&there.path("")), before, "round {round} changed something");
    }
    assert!(taken < 30, "most changes must be seen; {taken} were not");
}

/// A signature with a change is refused, unless the change left the same signature.
#[test]
fn random_changes_of_a_signature() {
    let place = Place::new();
    let ana = key(&place, "ana");
    trust(&place, "ana");
    let artifact = draft(&place);
    let unsigned = place.path("unsigned");
    copy(&place.data().join("drafts"), &unsigned);
    sign(&place, &artifact, &ana);
    let sound = place.vyr(&["artifact", "show", &artifact, "--signature"]).run().ok().stdout;
    let essence = |armor: &[u8]| {
        let text = String::from_utf8_lossy(armor).into_owned();
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        lines.flat_map(str::chars).filter(|c| !"=\r \t".contains(*c)).collect::<String>()
    };
    let mut random = Random::new();
    for round in 0..40 {
        copy(&unsigned, &place.data().join("drafts"));
        let changed = random.change(&sound);
        let file = place.file("changed.sig", &changed);
        let arguments = ["artifact", "sign", &artifact, "--detached", &file];
        let attached = place.vyr(&arguments).run();
        assert!(matches!(attached.code(), Some(0 | 2 | 3)), "round {round}: {attached:?}");
        let put = place.vyr(&["artifact", "put", &artifact]).run();
        if put.code() == Some(0) {
            assert_eq!(essence(&changed), essence(&sound), "round {round}: another signature");
            fs::remove_dir_all(place.data().join("store")).expect("the store");
        } else {
            assert_eq!(put.code(), Some(3), "round {round}: {put:?}");
            assert_plain("a changed signature", &put);
        }
    }
}

/// A changed list of signers is refused, or still names nobody but its signer.
#[test]
fn random_changes_of_the_trust_files() {
    let (place, ana) = place();
    let nobody = key(&place, "nobody");
    let artifact = draft(&place);
    sign(&place, &artifact, &nobody);
    let list = fs::read(place.data().join("trust/allowed_signers")).expect("the list");
    let revoked = format!("# gone\n{}\n", ana.public_key().to_openssh().expect("a key"));
    let mut random = Random::new();
    for round in 0..40 {
        let (name, sound) = match round % 2 {
            0 => ("allowed_signers", list.clone()),
            _ => ("revoked_keys", revoked.clone().into_bytes()),
        };
        let path = place.data().join("trust").join(name);
        fs::write(&path, random.change(&sound)).expect("a file");
        let put = place.vyr(&["artifact", "put", &artifact]).run();
        assert!(matches!(put.code(), Some(2 | 3)), "round {round}: {put:?}");
        let listed = place.vyr(&["key", "ls"]).run();
        assert!(matches!(listed.code(), Some(0 | 2)), "round {round}: {listed:?}");
        for ended in [put, listed] {
            assert!(!ended.stderr.contains("panicked"), "round {round}: {}", ended.stderr);
            assert!(!ended.stderr.contains('\u{1b}'), "round {round}: {}", ended.stderr);
        }
        let _ = fs::remove_file(place.data().join("trust/revoked_keys"));
        fs::write(place.data().join("trust/allowed_signers"), &list).expect("a file");
    }
}
