//! Putting artifacts, listing them, finding their signatures, opening stores.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use vyr_base::{Category, Digest, Problem};
use vyr_store::{
    BlobError, CommitError, OpenError, PutError, RemoveError, SUBJECT_HINT, Step, Store,
};

use crate::common::{
    Artifact, INDEX, MANIFEST, SIGNATURE, WASM_CONFIG, blob_path, chain, check, collect_all,
    descriptor, place, staging, tree,
};

fn steps_of(store: &Store, act: impl FnOnce(&Store)) -> Vec<Step> {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&steps);
    let probe = move |step| log.lock().expect("no panic").push(step);
    act(&store.clone().with_probe(Arc::new(probe)));
    let steps = steps.lock().expect("no panic");
    steps.clone()
}

#[test]
fn a_put_is_durable_in_the_right_order() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    let steps = steps_of(&place.store, |store| {
        artifact.put(store).expect("put");
    });
    use Step::*;
    let expected = [
        StagingMade,
        BlobStaged,
        BlobStaged,
        BlobStaged,
        BlobSynced,
        BlobSynced,
        BlobSynced,
        IndexStaged,
        BlobRenamed,
        BlobRenamed,
        BlobRenamed,
        BlobsSynced,
        IndexRenamed,
        IndexSynced,
        StagingRemoved,
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_second_put_changes_nothing_and_syncs_nothing() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put_signed(&place.store, "signature").expect("put");
    let before = tree(place.store.root());
    let steps = steps_of(&place.store, |store| {
        artifact.put_signed(store, "signature").expect("put again");
    });
    assert!(
        steps.iter().all(|step| {
            matches!(step, Step::StagingMade | Step::BlobLinked | Step::StagingRemoved)
        }),
        "{steps:?}"
    );
    assert_eq!(tree(place.store.root()), before);
}

#[test]
fn new_annotations_are_added_and_the_entry_says_what_it_is() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put(&place.store).expect("put");
    let name = BTreeMap::from([("vyr.name".to_owned(), "hello".to_owned())]);
    let put = place.store.begin_put(&artifact.manifest, MANIFEST, name).expect("begun");
    put.commit().expect("its blobs are there");
    let entries = place.store.entries().expect("an index");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].annotations["vyr.name"], "hello");
    assert_eq!(entries[0].artifact_type.as_deref(), Some(WASM_CONFIG));
    assert_eq!(entries[0].size, artifact.manifest.len() as u64);
}

#[test]
fn only_what_the_manifest_names_is_taken() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    let mut put =
        place.store.begin_put(&artifact.manifest, MANIFEST, BTreeMap::new()).expect("begun");
    let layer = Digest::of(b"layer");
    let refused = put.blob(&Digest::of(b"x"), 1, &mut &b"x"[..]).expect_err("not named");
    assert!(matches!(refused, PutError::Unnamed { .. }));
    let refused = put.blob(&layer, 6, &mut &b"layer!"[..]).expect_err("another size");
    assert!(matches!(refused, PutError::Size { offered: 6, stated: 5, .. }));
    let refused = put.blob(&layer, 5, &mut &b"layer!"[..]).expect_err("too long");
    assert!(matches!(refused, PutError::Blob(BlobError::TooLong { .. })));
    let refused = put.blob(&layer, 5, &mut &b"laye"[..]).expect_err("too short");
    assert!(matches!(refused, PutError::Blob(BlobError::TooShort { .. })));
    let refused = put.blob(&layer, 5, &mut &b"lawyr"[..]).expect_err("other bytes");
    assert_eq!(refused.category(), Category::Usage);
    assert!(chain(&refused).contains(&layer.to_string()));
    put.blob(&layer, 5, &mut &b"layer"[..]).expect("after all that");
    let refused = put.commit().expect_err("the config is missing");
    assert!(matches!(refused, PutError::Commit(CommitError::Missing { .. })), "{refused:?}");
    assert_eq!(staging(&place.store), 0);
    assert!(place.store.entries().expect("an index").is_empty());
    assert!(!place.store.contains(&layer).expect("no error"));
}

#[test]
fn a_truncated_blob_is_replaced_by_a_put() {
    let place = place();
    let artifact = Artifact::new(&[b"layer"]);
    artifact.put(&place.store).expect("put");
    fs::write(blob_path(&place.store, &Digest::of(b"layer")), b"lay").expect("a file");
    artifact.put(&place.store).expect("put again");
    check(&place.store).expect("mended");
}

#[test]
fn an_index_is_put_with_its_children() {
    let place = place();
    let child = Artifact::new(&[b"layer"]);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor(MANIFEST, &child.manifest)],
    });
    let index = index.to_string().into_bytes();
    let mut put = place.store.begin_put(&index, INDEX, BTreeMap::new()).expect("begun");
    let layer = Digest::of(b"layer");
    assert!(put.blob(&layer, 5, &mut &b"layer"[..]).is_err(), "not named yet");
    for blob in [&child.manifest].into_iter().chain(&child.blobs) {
        put.blob(&Digest::of(blob), blob.len() as u64, &mut blob.as_slice()).expect("named");
    }
    put.commit().expect("complete");
    assert_eq!(check(&place.store).expect("sound").len(), 4);
    assert_eq!(place.store.entries().expect("an index").len(), 1, "the child is no entry");
    place.store.gc(&collect_all()).expect("sound");
    assert_eq!(check(&place.store).expect("gc follows indexes").len(), 4);
}

#[test]
fn signatures_are_found_and_go_with_their_artifact() {
    let place = place();
    let store = &place.store;
    let (one, other) = (Artifact::new(&[b"one"]), Artifact::new(&[b"other"]));
    one.put_signed(store, "by ana").expect("put");
    Artifact::signature(&one, "by ben").put(store).expect("put");
    other.put_signed(store, "by ana").expect("put");
    let countersignature = Artifact::signature(&Artifact::signature(&one, "by ana"), "by eve");
    countersignature.put(store).expect("put");

    let found = store.referrers(&one.digest(), Some(SIGNATURE)).expect("sound");
    let mut digests: Vec<Digest> = found.iter().map(|entry| entry.digest).collect();
    digests.sort_unstable();
    let mut expected =
        ["by ana", "by ben"].map(|text| Artifact::signature(&one, text).digest()).to_vec();
    expected.sort_unstable();
    assert_eq!(digests, expected);
    assert!(store.referrers(&one.digest(), Some("other/type")).expect("sound").is_empty());
    assert_eq!(store.referrers(&one.digest(), None).expect("sound").len(), 2);

    let gone = store.remove(&one.digest()).expect("it is there");
    assert_eq!(gone.len(), 4, "the artifact, two signatures, one countersignature");
    assert_eq!(store.entries().expect("an index").len(), 2, "the other one and its own");
    let refused = store.remove(&one.digest()).expect_err("gone");
    assert!(matches!(refused, RemoveError::Missing { .. }));
    assert_eq!(refused.category(), Category::NotFound);
}

/// Rewrites the index as another tool might.
fn edit_index(store: &Store, edit: impl Fn(&mut serde_json::Value)) {
    let path = store.root().join("index.json");
    let mut index = serde_json::from_slice(&fs::read(&path).expect("an index")).expect("JSON");
    edit(&mut index);
    fs::write(&path, index.to_string()).expect("a file");
}

#[test]
fn the_hint_is_never_believed_and_not_needed() {
    let place = place();
    let store = &place.store;
    let (one, other) = (Artifact::new(&[b"one"]), Artifact::new(&[b"other"]));
    one.put_signed(store, "signature").expect("put");
    other.put(store).expect("put");

    // An entry that claims to sign the other artifact is not believed.
    edit_index(store, |index| {
        index["manifests"][1]["annotations"][SUBJECT_HINT] = json!(other.digest());
    });
    assert!(store.referrers(&other.digest(), None).expect("sound").is_empty());
    // One without the annotation, or with a text of somebody else, is found by its manifest.
    for hint in [json!(null), json!("somebody else's")] {
        edit_index(store, |index| match &hint {
            serde_json::Value::Null => index["manifests"][1]["annotations"] = json!({}),
            hint => index["manifests"][1]["annotations"][SUBJECT_HINT] = hint.clone(),
        });
        let found = store.referrers(&one.digest(), Some(SIGNATURE)).expect("sound");
        assert_eq!(found.len(), 1, "{hint}");
    }
}

#[test]
fn only_the_owner_may_look_inside() {
    let place = place();
    Artifact::new(&[b"layer"]).put(&place.store).expect("put");
    let mode = |path: &str| {
        let metadata = fs::metadata(place.store.root().join(path)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    for directory in ["", "blobs", "blobs/sha256", "staging"] {
        assert_eq!(mode(directory), 0o700, "{directory:?}");
    }
    let blob = format!("blobs/sha256/{}", Digest::of(b"layer").hex());
    for file in ["index.json", "oci-layout", "index.lock", "gc.lock", &blob] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn a_store_is_opened_again_and_nothing_else_is() {
    let place = place();
    let root = place.store.root();
    Artifact::new(&[b"layer"]).put(&place.store).expect("put");
    let before = tree(root);
    assert_eq!(Store::open(root).expect("a store").entries().expect("an index").len(), 1);
    assert_eq!(tree(root), before);

    let open = |root: &std::path::Path| Store::open(root).expect_err("no store");
    let home = place.directory.path().join("home");
    fs::create_dir(&home).expect("a directory");
    fs::write(home.join("letter.txt"), "dear").expect("a file");
    let refused = open(&home);
    assert!(matches!(&refused, OpenError::Foreign { name, .. } if name == "letter.txt"));
    assert_eq!(refused.category(), Category::Conflict);
    assert_eq!(tree(&home).len(), 1, "nothing was added");

    let marker = root.join("oci-layout");
    fs::write(&marker, r#"{"imageLayoutVersion":"2.0.0"}"#).expect("a file");
    assert!(matches!(open(root), OpenError::Version { found, .. } if found == "2.0.0"));
    fs::write(&marker, "{").expect("a file");
    assert!(matches!(open(root), OpenError::Marker { .. }));
    fs::remove_file(&marker).expect("a file");
    assert!(matches!(open(root), OpenError::Unmarked { .. }));

    let file = place.directory.path().join("file");
    fs::write(&file, "").expect("a file");
    assert!(matches!(open(&file), OpenError::Fs(_)));
}

#[test]
fn another_tools_layout_becomes_a_store() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    fs::create_dir_all(root.join("blobs/sha256")).expect("directories");
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("a file");
    fs::write(root.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).expect("a file");
    fs::write(root.join("note.txt"), "theirs").expect("a file");
    let store = Store::open(root).expect("a layout");
    Artifact::new(&[b"layer"]).put(&store).expect("put");
    check(&store).expect("sound");
}

#[test]
fn a_put_says_who_is_in_its_way() {
    let place = place();
    let file = fs::File::open(place.store.root().join("index.lock")).expect("a lock");
    file.lock().expect("free");
    let store = place.store.clone().with_lock_wait(Duration::ZERO);
    let refused = Artifact::new(&[b"layer"]).put(&store).expect_err("held");
    assert_eq!(refused.category(), Category::Transient);
    assert!(chain(&refused).contains("index.lock"), "{refused}");
    assert_eq!(staging(&store), 0);
    file.unlock().expect("held");
    Artifact::new(&[b"layer"]).put(&store).expect("free again");
}
