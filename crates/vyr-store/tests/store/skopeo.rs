//! The real skopeo reads what we export, and we import what it writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vyr_base::Digest;
use vyr_store::{ImportLimits, Store};

use crate::common::{Artifact, check, export, import, not_run, place};

/// Whether the tests can run; says why not.
fn skopeo_is_here() -> bool {
    let here = Command::new("skopeo").arg("--version").output().is_ok();
    if !here {
        not_run("skopeo is not installed");
    }
    here
}

/// Runs skopeo in `directory`; its output, if it succeeds.
fn skopeo(directory: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let policy = directory.join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a file");
    let output = Command::new("skopeo")
        .arg("--policy")
        .arg(&policy)
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("skopeo runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(complaint) }
}

#[test]
fn skopeo_reads_an_unsigned_archive_without_a_name() {
    if !skopeo_is_here() {
        return;
    }
    let place = place();
    let artifact = Artifact::new(&[b"\0asm\x01\0\0\0"]);
    artifact.put(&place.store).expect("put");
    let archive = place.directory.path().join("one.tar");
    fs::write(&archive, export(&place.store, &[artifact.digest()])).expect("a file");
    let skopeo = |arguments: &[&str]| skopeo(place.directory.path(), arguments);
    let manifest = skopeo(&["inspect", "--raw", "oci-archive:one.tar"]).expect("readable");
    assert_eq!(manifest, artifact.manifest);
    let config = skopeo(&["inspect", "--config", "--raw", "oci-archive:one.tar"]);
    assert_eq!(config.expect("readable"), artifact.blobs[0]);
}

#[test]
fn skopeo_reads_a_signed_archive_by_the_short_digest() {
    if !skopeo_is_here() {
        return;
    }
    let place = place();
    let artifact = Artifact::new(&[b"\0asm\x01\0\0\0"]);
    artifact.put_signed(&place.store, "signature").expect("put");
    let archive = place.directory.path().join("signed.tar");
    fs::write(&archive, export(&place.store, &[artifact.digest()])).expect("a file");
    let skopeo = |arguments: &[&str]| skopeo(place.directory.path(), arguments);
    let name = format!("oci-archive:signed.tar:{}", &artifact.digest().hex()[..12]);
    let manifest = skopeo(&["inspect", "--raw", &name]).expect("readable");
    assert_eq!(manifest, artifact.manifest);
    let refused = skopeo(&["inspect", "--raw", "oci-archive:signed.tar"]);
    assert!(refused.expect_err("two manifests").contains("choose an image"));

    // Into a directory of skopeo's own, which is then a store of ours.
    skopeo(&["copy", &name, "oci:theirs:named"]).expect("a copy");
    let theirs = Store::open(&place.directory.path().join("theirs")).expect("a layout");
    assert_eq!(check(&theirs).expect("sound").len(), 3);
    assert_eq!(theirs.entries().expect("an index")[0].digest, artifact.digest());
}

#[test]
fn we_import_what_skopeo_writes() {
    if !skopeo_is_here() {
        return;
    }
    let place = place();
    let artifact = Artifact::new(&[b"\0asm\x01\0\0\0"]);
    artifact.put(&place.store).expect("put");
    let directory = place.directory.path();
    // skopeo reads a live store as the layout directory it is.
    skopeo(directory, &["copy", "oci:store", "oci-archive:theirs.tar:hello"]).expect("a copy");
    let archive = fs::read(directory.join("theirs.tar")).expect("the archive");
    let other = Store::open(&directory.join("other")).expect("a new store");
    let entries = import(&other, &archive);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].digest, artifact.digest(), "not one byte was changed");
    assert_eq!(entries[0].annotations["org.opencontainers.image.ref.name"], "hello");
    assert_eq!(check(&other).expect("sound").len(), 3);
}

#[test]
fn an_ordinary_container_image_makes_the_round_trip() {
    if !skopeo_is_here() {
        return;
    }
    let place = place();
    let directory = place.directory.path();
    // The smallest image there is: a layer that is an empty tar archive.
    let layer = vec![0; 1024];
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        "config": {"Labels": {"purpose": "round trip"}},
    });
    let config = config.to_string().into_bytes();
    let descriptor = crate::common::descriptor;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": crate::common::MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let image =
        Artifact { manifest: manifest.to_string().into_bytes(), blobs: vec![config, layer] };
    image.put(&place.store).expect("put");
    fs::write(directory.join("image.tar"), export(&place.store, &[image.digest()]))
        .expect("a file");
    let seen = skopeo(directory, &["inspect", "oci-archive:image.tar"]).expect("an image");
    let seen: Value = serde_json::from_slice(&seen).expect("JSON");
    assert_eq!(seen["Digest"], json!(image.digest()));
    assert_eq!(seen["Labels"]["purpose"], "round trip");
    skopeo(directory, &["copy", "oci-archive:image.tar", "oci-archive:back.tar:image"])
        .expect("a copy");
    let back = fs::read(directory.join("back.tar")).expect("the archive");
    let other = Store::open(&directory.join("other")).expect("a new store");
    let opened = other.import(back.as_slice(), &ImportLimits::default()).expect("sound");
    assert!(opened.manifests()[0].artifact_type.is_none(), "an image is no artifact");
    opened.commit().expect("room");
    // skopeo compresses layers on its way, so the digests differ; the layout is whole.
    assert_eq!(check(&other).expect("sound").len(), 3);
}
