//! Damaged stores: what is wrong is named, and nothing is made worse.

use std::fs;
use std::os::unix::fs::symlink;

use vyr_base::{Category, Digest, Problem};
use vyr_store::{ExportError, IndexError, ReadError, Store};

use crate::common::{Artifact, blob_path, chain, check, collect_all, place, tree};

#[test]
fn one_flipped_bit_anywhere_is_refused_by_digest() {
    let place = place();
    let layer: Vec<u8> = (0..=255).cycle().take(3000).collect();
    Artifact::new(&[&layer]).put(&place.store).expect("put");
    let digest = Digest::of(&layer);
    for at in [0, 1, 1500, 2998, 2999] {
        let mut flipped = layer.clone();
        flipped[at] ^= 0x10;
        fs::write(blob_path(&place.store, &digest), &flipped).expect("a file");
        let refused = place.store.read_blob(&digest, 1 << 20).expect_err("damaged");
        assert!(matches!(refused, ReadError::Corrupt { .. }), "byte {at}");
        assert!(refused.to_string().contains(&digest.to_string()), "{refused}");
        let hint = refused.hint().expect("a hint");
        assert!(hint.contains(&digest.hex()), "{hint}");

        let mut archive = Vec::new();
        let exported = place.store.export(&[artifact_of(&layer)], &mut archive);
        let refused = exported.expect_err("damaged");
        assert!(matches!(refused, ExportError::Read(ReadError::Corrupt { .. })), "{refused:?}");
    }
}

fn artifact_of(layer: &[u8]) -> Digest {
    Artifact::new(&[layer]).digest()
}

#[test]
fn every_truncation_is_refused() {
    let place = place();
    let layer = b"a layer of some bytes";
    Artifact::new(&[layer]).put(&place.store).expect("put");
    let digest = Digest::of(layer);
    for length in 0..layer.len() {
        fs::write(blob_path(&place.store, &digest), &layer[..length]).expect("a file");
        let refused = place.store.read_blob(&digest, 1 << 20).expect_err("truncated");
        assert!(refused.to_string().contains(&digest.to_string()), "{refused}");
        let mut blob = place.store.open_blob(&digest).expect("it is there");
        assert!(std::io::copy(&mut blob, &mut std::io::sink()).is_err(), "{length}");
    }
}

#[test]
fn a_damaged_index_stops_everything_and_loses_nothing() {
    let place = place();
    let store = &place.store;
    Artifact::new(&[b"layer"]).put(store).expect("put");
    let path = store.root().join("index.json");
    let good = fs::read(&path).expect("an index");
    let long = vec![b' '; 16 << 20 | 1];
    for bad in [
        &b""[..],
        &good[..good.len() - 1],
        b"[]",
        b"null",
        br#"{"schemaVersion":1,"manifests":[]}"#,
        br#"{"schemaVersion":2}"#,
        br#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:0","size":1}]}"#,
        br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#,
        &long,
    ] {
        fs::write(&path, bad).expect("a file");
        let before = tree(store.root());
        let refused = Store::open(store.root()).expect_err("damaged");
        assert!(chain(&refused).contains("index.json"), "{}", chain(&refused));
        assert_eq!(refused.category(), Category::Internal);
        assert!(store.gc(&collect_all()).is_err());
        assert!(store.entries().is_err());
        assert!(Artifact::new(&[b"more"]).put(store).is_err());
        assert_eq!(tree(store.root()), before, "nothing was touched");
    }
    fs::remove_file(&path).expect("a file");
    let refused = store.gc(&collect_all()).expect_err("no index");
    assert!(chain(&refused).contains("index.json is gone"), "{}", chain(&refused));
    assert!(matches!(store.entries(), Err(IndexError::Missing { .. })));
    assert!(Store::open(store.root()).is_err(), "an empty index would lose everything");
    fs::write(&path, &good).expect("a file");
    check(store).expect("nothing was lost");
}

#[test]
fn links_lead_nowhere() {
    let place = place();
    let store = &place.store;
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put(store).expect("put");
    let outside = place.directory.path().join("outside");
    fs::write(&outside, b"layer").expect("a file");
    let path = blob_path(store, &Digest::of(b"layer"));
    fs::remove_file(&path).expect("a file");
    symlink(&outside, &path).expect("a link");

    let refused = store.read_blob(&Digest::of(b"layer"), 100).expect_err("a link");
    assert!(matches!(refused, ReadError::NotRegular { .. }));
    assert!(store.export(&[artifact.digest()], std::io::sink()).is_err());
    assert!(artifact.put(store).is_err(), "a put does not hide it");
    let report = store.gc(&collect_all()).expect("a layer is not followed");
    assert_eq!((report.removed.len(), report.ignored), (0, 1), "nor does gc");
    assert_eq!(fs::read(&outside).expect("untouched"), b"layer");

    // The directories themselves may not be links either.
    let moved = place.directory.path().join("moved");
    fs::rename(store.root().join("blobs"), &moved).expect("moved");
    symlink(&moved, store.root().join("blobs")).expect("a link");
    assert!(Store::open(store.root()).is_err());
}
