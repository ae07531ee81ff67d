//! Independent judges: of digests, of a store on disk, of a whole data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use vyr_base::Digest;

use crate::common::{Place, guest};

const SIGNATURE: &str = "application/vnd.vyr.signature.v1";

/// The digest of bytes, as the command writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// Where a blob of a data directory's store lies.
pub(crate) fn blob(data: &Utf8Path, digest: &str) -> Utf8PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    data.join("store/blobs/sha256").join(hex)
}

/// A blob of the store that is a JSON document.
pub(crate) fn document(data: &Utf8Path, digest: &str) -> Value {
    let bytes = fs::read(blob(data, digest)).expect("a blob");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The entries of the store's index.
pub(crate) fn entries(data: &Utf8Path) -> Vec<Value> {
    let Ok(bytes) = fs::read(data.join("store/index.json")) else { return Vec::new() };
    let index: Value = serde_json::from_slice(&bytes).expect("an index is JSON");
    index["manifests"].as_array().expect("a list of manifests").clone()
}

/// The digests of the index's entries that are artifacts (`true`) or signatures (`false`).
pub(crate) fn indexed(data: &Utf8Path, artifacts: bool) -> Vec<String> {
    let is_signature = |entry: &Value| entry["artifactType"] == json!(SIGNATURE);
    let entries = entries(data).into_iter().filter(|entry| is_signature(entry) != artifacts);
    entries.map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// Every file below `root` with the digest of its content, but for locks, which are empty.
pub(crate) fn tree(root: &Utf8Path) -> BTreeMap<Utf8PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = directory.read_dir_utf8() else { continue };
        for entry in entries {
            let path = entry.expect("an entry").into_path();
            if path.is_dir() && !path.is_symlink() {
                directories.push(path);
            } else if path.extension() != Some("lock") {
                let content = fs::read(&path).expect("a file");
                found.insert(path, digest(&content));
            }
        }
    }
    found
}

/// What is wrong with the store at `root`: every artifact of the index must be there with all it
/// names, byte for byte, and nothing may be left in staging. Follows the documents by itself, so
/// that it does not share the product's mistakes.
pub(crate) fn store_faults(root: &Utf8Path) -> Vec<String> {
    let mut faults = Vec::new();
    let Ok(index) = fs::read(root.join("index.json")) else {
        if root.join("oci-layout").exists() {
            faults.push("a layout without an index".to_owned());
        }
        return faults;
    };
    let Ok(index) = serde_json::from_slice::<Value>(&index) else {
        return vec!["the index is not JSON".to_owned()];
    };
    let mut seen = BTreeSet::new();
    let mut wanted: Vec<Value> = index["manifests"].as_array().cloned().unwrap_or_default();
    while let Some(descriptor) = wanted.pop() {
        let name = descriptor["digest"].as_str().unwrap_or_default().to_owned();
        if !seen.insert(name.clone()) {
            continue;
        }
        let path = root.join("blobs/sha256").join(name.trim_start_matches("sha256:"));
        let Ok(bytes) = fs::read(&path) else {
            faults.push(format!("{name} is missing"));
            continue;
        };
        if digest(&bytes) != name || descriptor["size"] != json!(bytes.len()) {
            faults.push(format!("{name} has other bytes than its descriptor says"));
            continue;
        }
        let kind = descriptor["mediaType"].as_str().unwrap_or_default();
        if kind.ends_with(".manifest.v1+json") {
            let Ok(manifest) = serde_json::from_slice::<Value>(&bytes) else {
                faults.push(format!("{name} is not JSON"));
                continue;
            };
            wanted.extend(manifest["layers"].as_array().into_iter().flatten().cloned());
            wanted.push(manifest["config"].clone());
        }
    }
    for name in ["blobs/sha256", "staging"] {
        for entry in root.join(name).read_dir_utf8().into_iter().flatten() {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if name == "staging" {
                faults.push(format!("{} is left in staging", entry.file_name()));
            } else if digest(&fs::read(path).expect("a blob"))
                != format!("sha256:{}", entry.file_name())
            {
                faults.push(format!("blob {} has another digest", entry.file_name()));
            }
        }
    }
    faults
}

/// What is half-written in a data directory: its stores, its keys, its compiled code.
pub(crate) fn faults(data: &Utf8Path) -> Vec<String> {
    let mut faults = store_faults(&data.join("store"));
    faults.extend(store_faults(&data.join("drafts")));
    for name in ["keys", "cache", "trust"] {
        for entry in data.join(name).read_dir_utf8().into_iter().flatten() {
            let entry = entry.expect("an entry");
            if entry.file_name().contains("new") {
                faults.push(format!("{name}/{} is half-written", entry.file_name()));
            }
        }
    }
    faults.extend(mode_faults(data));
    faults
}

/// Private files that others can read, and directories they can enter.
pub(crate) fn mode_faults(data: &Utf8Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |path: &Utf8Path, wanted: u32| {
        let mode = fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        if mode != wanted {
            faults.push(format!("{path} has mode {mode:03o}, not {wanted:03o}"));
        }
    };
    for name in ["", "keys", "cache", "store"] {
        let path = data.join(name);
        if path.exists() {
            expect(&path, 0o700);
        }
    }
    for entry in data.join("keys").read_dir_utf8().into_iter().flatten() {
        expect(entry.expect("an entry").path(), 0o600);
    }
    if data.join("cache/node.key").exists() {
        expect(&data.join("cache/node.key"), 0o600);
    }
    faults
}

/// The data directory works: its lists parse, gc runs, a guest runs.
#[track_caller]
pub(crate) fn works(place: &Place) {
    let listed = place.vyr(&["artifact", "ls", "--json"]).run().ok().json();
    for artifact in listed["artifacts"].as_array().expect("a list") {
        // A draft need not be signed yet.
        let is_fine = artifact["refused"].is_null() || artifact["in_store"] == false;
        assert!(is_fine, "{artifact}");
    }
    place.vyr(&["artifact", "gc", "--older-than", "0s", "--json"]).run().ok().json();
    let ran = place.vyr(&["run", &guest("hello.wasip1"), "--quiet"]).run().ok();
    assert_eq!(ran.text(), "hello from vyr\n");
}

/// Twin of every test that calls these judges: each sees what it is there to see.
#[test]
fn the_judges_see_planted_defects() {
    let place = Place::new();
    let data = place.data();
    let json = place.vyr(&["run", &guest("nop.wasip1"), "--json"]).run().ok().json();
    assert_eq!(faults(&data), [""; 0]);
    let artifact = json["artifact_digest"].as_str().expect("a digest");
    let manifest = blob(&data, artifact);
    let sound = fs::read(&manifest).expect("the manifest");
    for defect in [&b""[..], b"{}", &sound[1..]] {
        fs::write(&manifest, defect).expect("a file");
        assert!(!store_faults(&data.join("store")).is_empty());
    }
    fs::remove_file(&manifest).expect("a file");
    assert_eq!(store_faults(&data.join("store")), [format!("{artifact} is missing")]);
    fs::write(&manifest, &sound).expect("a file");
    let before = tree(&data);
    fs::write(data.join("store/staging/left"), "").expect("a file");
    assert_eq!(faults(&data).len(), 1);
    assert_ne!(tree(&data), before);
    fs::remove_file(data.join("store/staging/left")).expect("a file");
    fs::write(data.join("keys/dev.new-1"), "").expect("a file");
    assert_eq!(faults(&data).len(), 2, "half-written, and readable by others");
    fs::remove_file(data.join("keys/dev.new-1")).expect("a file");
    fs::set_permissions(data.join("keys/dev"), fs::Permissions::from_mode(0o640)).expect("chmod");
    assert_eq!(faults(&data).len(), 1);
}
