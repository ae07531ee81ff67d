//! gc: what goes, what stays, and when it refuses.

use std::fs;
use std::io::Write;
use std::time::{Duration, SystemTime};

use vyr_base::{Digest, Problem};
use vyr_store::{GcError, GcOptions, Store};

use crate::common::{Artifact, blob_path, chain, check, collect_all, place, staging, tree};

fn output(store: &Store, content: &[u8]) -> Digest {
    let mut staged = store.stage();
    staged.write_all(content).expect("room");
    staged.commit().expect("room").0
}

#[test]
fn a_dry_run_says_what_would_go_and_removes_nothing() {
    let place = place();
    let store = &place.store;
    Artifact::new(&[b"kept"]).put_signed(store, "signature").expect("put");
    let orphan = output(store, b"orphan");
    fs::write(store.root().join("staging/output-left"), b"half").expect("a file");
    let before = tree(store.root());
    let dry = store.gc(&GcOptions { dry_run: true, ..collect_all() }).expect("sound");
    assert_eq!(tree(store.root()), before);
    assert_eq!(dry.removed, [(orphan, 6)]);
    assert_eq!((dry.bytes, dry.kept, dry.staging_removed, dry.ignored), (6, 6, 1, 0));
    let wet = store.gc(&collect_all()).expect("sound");
    assert_eq!(wet, dry, "a dry run tells the truth");
    assert!(!store.contains(&orphan).expect("no error"));
    assert_eq!(staging(store), 0);
    check(store).expect("sound");
    assert!(store.gc(&collect_all()).expect("sound").removed.is_empty());
}

#[test]
fn what_the_caller_names_and_what_is_young_stays() {
    let place = place();
    let store = &place.store;
    let running = Artifact::new(&[b"running"]);
    running.put_signed(store, "signature").expect("put");
    store.remove(&running.digest()).expect("it is there");
    let kept = output(store, b"an output of a task");
    let gone = output(store, b"another output");
    let missing = Digest::of(b"not in the store");
    let options = GcOptions {
        extra_blobs: &[kept, missing],
        extra_manifests: &[running.digest(), missing],
        ..collect_all()
    };
    let young =
        GcOptions { older_than: Duration::from_secs(3600), now: SystemTime::now(), ..options };
    assert!(store.gc(&young).expect("sound").removed.is_empty(), "all of it is young");
    let past =
        GcOptions { now: SystemTime::UNIX_EPOCH, older_than: Duration::from_secs(1), ..options };
    assert!(store.gc(&past).expect("sound").removed.is_empty(), "the clock is wrong");

    let report = store.gc(&options).expect("sound");
    let mut signature = vec![Artifact::signature(&running, "signature").digest()];
    signature.extend([&b"{}"[..], b"signature"].map(Digest::of));
    signature.push(gone);
    signature.sort_unstable();
    let removed: Vec<Digest> = report.removed.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(removed, signature, "the removed artifact's signature and the other output");
    for blob in running.blobs.iter().chain([&running.manifest]) {
        assert!(store.contains(&Digest::of(blob)).expect("no error"));
    }
}

#[test]
fn gc_refuses_when_it_cannot_know_what_is_needed() {
    let place = place();
    let store = &place.store;
    let (one, other) = (Artifact::new(&[b"one"]), Artifact::new(&[b"other"]));
    one.put(store).expect("put");
    other.put(store).expect("put");
    output(store, b"orphan");
    let path = blob_path(store, &one.digest());
    let good = fs::read(&path).expect("a manifest");
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    for bad in [Some(&flipped[..]), Some(&good[1..]), Some(b"{}"), Some(b""), None] {
        match bad {
            Some(bad) => fs::write(&path, bad).expect("a file"),
            None => fs::remove_file(&path).expect("a file"),
        }
        let before = tree(store.root());
        for dry_run in [false, true] {
            let refused = store.gc(&GcOptions { dry_run, ..collect_all() }).expect_err("damaged");
            let text = chain(&refused);
            assert!(text.contains(&one.digest().to_string()), "{text}");
            assert!(text.contains("nothing was removed"), "{text}");
            assert!(refused.hint().is_some());
        }
        assert_eq!(tree(store.root()), before, "nothing was removed");
    }
    // The way out: give up the damaged artifact.
    store.remove(&one.digest()).expect("damage does not keep it");
    assert_eq!(store.gc(&collect_all()).expect("sound").removed.len(), 3);
    check(store).expect("the other one is whole");
}

#[test]
fn a_damaged_manifest_the_caller_names_stops_gc_too() {
    let place = place();
    let store = &place.store;
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put(store).expect("put");
    store.remove(&artifact.digest()).expect("it is there");
    let name = [artifact.digest()];
    let options = GcOptions { extra_manifests: &name, ..collect_all() };
    fs::write(blob_path(store, &artifact.digest()), b"damaged").expect("a file");
    assert!(matches!(store.gc(&options), Err(GcError::Read { .. })));
    let output = output(store, b"no manifest");
    let options = GcOptions { extra_manifests: &[output], ..collect_all() };
    assert!(matches!(store.gc(&options), Err(GcError::Manifest { .. })));
    assert!(store.contains(&Digest::of(b"layer")).expect("no error"));
}

#[test]
fn a_missing_layer_stops_nothing_and_strangers_are_left_alone() {
    let place = place();
    let store = &place.store;
    Artifact::new(&[b"layer"]).put(store).expect("put");
    fs::remove_file(blob_path(store, &Digest::of(b"layer"))).expect("a file");
    let blobs = store.root().join("blobs/sha256");
    fs::write(blobs.join("README"), "not a blob").expect("a file");
    fs::create_dir(blobs.join(Digest::of(b"directory").hex())).expect("a directory");
    let report = store.gc(&collect_all()).expect("sound");
    assert_eq!((report.removed.len(), report.kept, report.ignored), (0, 2, 2));
    assert!(blobs.join("README").exists());
}

#[test]
fn fresh_and_held_staging_stays() {
    let place = place();
    let store = &place.store;
    fs::write(store.root().join("staging/output-left"), b"half").expect("a file");
    let now = GcOptions { now: SystemTime::now(), ..collect_all() };
    assert_eq!(store.gc(&now).expect("sound").staging_removed, 0, "not an hour old");
    let held = fs::File::open(store.root().join("staging/output-left")).expect("a file");
    held.lock_shared().expect("free");
    assert_eq!(store.gc(&collect_all()).expect("sound").staging_removed, 0, "its writer lives");
    drop(held);
    assert_eq!(store.gc(&collect_all()).expect("sound").staging_removed, 1);
}
