//! Targets of `vyr-store` on what lies on disk: the marker, the index, manifests, blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use vyr_artifact::Manifest;
use vyr_base::Digest;
use vyr_store::{Entry, GcOptions, GcReport, PutError, Store};

use crate::checks::problem;
use crate::sections::{linked, parts};
use crate::stores::{IMAGE_INDEX, IMAGE_MANIFEST, Scratch, Tree, stocked, with_store};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The bytes as `oci-layout`: a store is opened only by the marker it should have.
pub fn oci_layout(input: &[u8]) {
    with_store("oci_layout", stocked, |scratch, before| {
        scratch.lay("oci-layout", input);
        let value = serde_json::from_slice::<Value>(input).ok();
        let version = value.as_ref().map(|value| &value["imageLayoutVersion"]);
        match Store::open(scratch.root()) {
            Ok(store) => {
                // A field the store has no use for may hold a text that is no Unicode.
                assert!(version.is_none_or(|version| version == "1.0.0"), "{version:?}");
                assert_eq!(store.entries().expect("an index").len(), 2);
            }
            Err(error) => {
                problem(&error);
                let ours = version.is_some_and(|version| version == "1.0.0");
                assert!(!ours || odd(input), "{error}");
            }
        }
        assert_eq!(fs::read(scratch.root().join("oci-layout")).ok().as_deref(), Some(input));
        restore(scratch, before, "oci-layout");
        assert!(scratch.tree() == *before, "opening changed the store");
    });
}

/// A marker that may be refused although a plain reader finds the version: too long, or a key is
/// there twice.
fn odd(input: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(input).expect("it was read before");
    input.len() > 4096 || crate::checks::keys(&value) != crate::checks::colons(input)
}

fn restore(scratch: &Scratch, before: &Tree, name: &str) {
    let path = scratch.root().join(name);
    scratch.lay(name, &before[&path]);
}

/// Parts: blobs, then `index.json`. Nothing is shown, removed or collected that should not be.
pub fn oci_index(input: &[u8]) {
    with_store("oci_index", stocked, |scratch, before| {
        let documents = linked(input);
        let (index, blobs) = documents.split_last().expect("at least one part");
        for blob in blobs {
            scratch.lay_blob(&Digest::of(blob), blob);
        }
        scratch.lay("index.json", index);
        let laid = scratch.tree();
        match Store::open(scratch.root()) {
            Ok(store) => {
                objects(index);
                opened(scratch, &store, &laid);
            }
            Err(error) => {
                problem(&error);
                assert!(scratch.tree() == laid, "a store that cannot be opened was changed");
            }
        }
        for path in scratch.tree().into_keys().filter(|path| !before.contains_key(path)) {
            fs::remove_file(path).expect("a file of this target");
        }
        for (path, content) in before {
            fs::write(path, content).expect("room for a file");
        }
    });
}

fn opened(scratch: &Scratch, store: &Store, laid: &Tree) {
    let entries = store.entries().expect("it was read before");
    for entry in entries.iter().take(20) {
        match store.referrers(&entry.digest, None) {
            Ok(referrers) => {
                for referrer in referrers {
                    assert_eq!(scratch.subject(&referrer.digest), Some(entry.digest));
                    assert!(entries.iter().any(|known| known.digest == referrer.digest));
                }
            }
            Err(error) => problem(&error),
        }
        match store.export(&[entry.digest], io::sink()) {
            Ok(exported) => assert!(exported.manifests.iter().any(|e| e.digest == entry.digest)),
            Err(error) => problem(&error),
        }
    }
    let planned = collect(scratch, store, &entries, true);
    assert!(scratch.tree() == *laid, "reading changed the store");
    let done = collect(scratch, store, &entries, false);
    assert_eq!(planned.is_some(), done.is_some());
    match planned.zip(done) {
        Some((planned, done)) => assert_eq!(planned, done, "a dry run said something else"),
        None => assert!(scratch.tree() == *laid, "gc stopped and removed something"),
    }
    if let Some(first) = entries.first() {
        remove(scratch, store, &entries, &first.digest);
    }
}

/// gc of everything that may go; `None` when it stops.
pub(crate) fn collect(
    scratch: &Scratch,
    store: &Store,
    entries: &[Entry],
    dry_run: bool,
) -> Option<GcReport> {
    let reached = scratch.reached(entries);
    let before = scratch.tree();
    let now = SystemTime::now() + DAY;
    let options = GcOptions {
        dry_run,
        older_than: Duration::ZERO,
        now,
        extra_blobs: &[],
        extra_manifests: &[],
    };
    match store.gc(&options) {
        Ok(report) => {
            for (digest, size) in &report.removed {
                assert!(!reached.contains_key(digest), "gc takes {digest}, which is reached");
                assert_eq!(before[&scratch.blob_path(digest)].len() as u64, *size);
                assert_eq!(scratch.blob_path(digest).exists(), dry_run);
            }
            let sum: u64 = report.removed.iter().map(|(_, size)| size).sum();
            assert_eq!(report.bytes, sum);
            Some(report)
        }
        Err(error) => {
            problem(&error);
            None
        }
    }
}

fn remove(scratch: &Scratch, store: &Store, entries: &[Entry], digest: &Digest) {
    let before = scratch.tree();
    let gone = match store.remove(digest) {
        Ok(gone) => gone,
        Err(error) => {
            problem(&error);
            assert!(scratch.tree() == before, "a refused removal changed the store");
            return;
        }
    };
    let gone: BTreeSet<Digest> = gone.iter().map(|entry| entry.digest).collect();
    let left = store.entries().expect("an index");
    let kept = entries.iter().filter(|entry| !gone.contains(&entry.digest));
    assert!(gone.contains(digest) && kept.eq(&left), "other entries went or changed");
    for digest in &gone {
        let referrers = store.referrers(digest, None).unwrap_or_default();
        assert!(referrers.is_empty(), "{referrers:?} refers to {digest}, which is gone");
    }
}

/// Parts: blobs, then a manifest. It is put with all it names, or the store is as it was.
pub fn oci_manifest(input: &[u8]) {
    for media_type in [IMAGE_MANIFEST, IMAGE_INDEX] {
        with_store("oci_manifest", stocked, |scratch, before| {
            let documents = linked(input);
            let (manifest, blobs) = documents.split_last().expect("at least one part");
            let ours = Manifest::parse(manifest).ok().filter(|_| media_type == IMAGE_MANIFEST);
            if let Some(digest) = put_parts(&scratch.store, manifest, blobs, media_type, ours) {
                assert_eq!(digest, Digest::of(manifest));
                let entries = scratch.store.entries().expect("an index");
                assert!(entries.iter().any(|entry| entry.digest == digest));
                scratch.assert_sound();
                objects(manifest);
                if let Some(subject) = scratch.subject(&digest) {
                    let referrers = scratch.store.referrers(&subject, None).expect("just put");
                    assert!(referrers.iter().any(|entry| entry.digest == digest));
                }
            } else {
                assert!(scratch.tree() == *before, "a refused put changed the store");
            }
        });
    }
}

/// A manifest or an index that was taken is text, and every descriptor in it a JSON object.
fn objects(manifest: &[u8]) {
    assert!(str::from_utf8(manifest).is_ok(), "a document that is no text was taken");
    // A field the store has no use for may hold a text that is no Unicode (`"\ud800"`).
    let Ok(value) = serde_json::from_slice::<Value>(manifest) else { return };
    assert!(value.is_object(), "a manifest is no object");
    let lists = ["layers", "manifests"].into_iter().flat_map(|list| value[list].as_array());
    let single = ["config", "subject"].into_iter().map(|name| &value[name]);
    for link in lists.flatten().chain(single.filter(|link| !link.is_null())) {
        assert!(link.is_object(), "{link} is no descriptor");
    }
}

/// Puts a manifest with the blobs it takes; both crates must see the same links in it.
fn put_parts(
    store: &Store,
    manifest: &[u8],
    blobs: &[Vec<u8>],
    media_type: &str,
    ours: Option<Manifest>,
) -> Option<Digest> {
    let mut put = match store.begin_put(manifest, media_type, BTreeMap::new()) {
        Ok(put) => put,
        Err(error) => {
            problem(&error);
            return None;
        }
    };
    // A blob that is named twice, with two sizes, is seen by both and refused by the commit.
    let ours = ours.filter(|manifest| manifest.config().digest != manifest.wasm().digest);
    for link in ours.iter().flat_map(|manifest| [manifest.config(), manifest.wasm()]) {
        let taken = put.blob(&link.digest, link.size, &mut io::empty());
        let unseen = matches!(taken, Err(PutError::Unnamed { .. } | PutError::Size { .. }));
        assert!(!unseen, "two crates see two manifests: {taken:?}");
    }
    for blob in blobs {
        let (digest, size) = (Digest::of(blob), blob.len() as u64);
        if let Err(error) = put.blob(&digest, size, &mut &blob[..]) {
            problem(&error);
        }
    }
    match put.commit() {
        Ok(digest) => Some(digest),
        Err(error) => {
            problem(&error);
            None
        }
    }
}

/// Parts: the bytes a name stands for, the bytes that lie under it. Only the same are given out.
pub fn blob_read(input: &[u8]) {
    let [named, laid] = parts(input);
    with_store("blob_read", stocked, |scratch, _| {
        let digest = Digest::of(named);
        if scratch.blob_path(&digest).exists() {
            return;
        }
        scratch.lay_blob(&digest, laid);
        let size = laid.len() as u64;
        let mut limits = vec![0, size / 2, size, size.saturating_add(1), u64::MAX];
        limits.dedup();
        for max in limits {
            match scratch.store.read_blob(&digest, max) {
                Ok(bytes) => {
                    assert!(size <= max, "{size} bytes were read into {max}");
                    assert!(bytes == laid && named == laid, "a damaged blob was given out");
                }
                Err(error) => {
                    assert!(size > max || named != laid, "a sound blob was refused: {error}");
                    problem(&error);
                }
            }
        }
        for chunk in [1, 7, 4096] {
            withheld(scratch, &digest, chunk, named == laid, laid);
        }
        fs::remove_file(scratch.blob_path(&digest)).expect("a file of this target");
    });
}

/// A reader in small steps never sees the last byte of a damaged blob.
fn withheld(scratch: &Scratch, digest: &Digest, chunk: usize, sound: bool, laid: &[u8]) {
    let mut blob = scratch.store.open_blob(digest).expect("a regular file");
    let mut seen = Vec::new();
    let mut buffer = vec![0; chunk];
    let ended = loop {
        match blob.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
            Err(_) => break false,
        }
    };
    assert_eq!(ended, sound);
    assert!(laid.starts_with(&seen));
    assert!(sound || laid.is_empty() || seen.len() < laid.len(), "all of a damaged blob was seen");
    assert!(ended || blob.read(&mut buffer).is_err(), "an error went away");
}
