//! Bytes whose digest is not known beforehand.

use std::fs;
use std::io::Write;
use std::time::{Duration, SystemTime};

use vyr_base::Digest;
use vyr_store::{GcOptions, SMALL_BYTES, StageError};

use crate::common::{blob_path, collect_all, place, staging};

#[test]
fn small_bytes_stay_in_memory_and_large_ones_do_not() {
    let place = place();
    let mut staged = place.store.stage();
    staged.write_all(&[1; SMALL_BYTES]).expect("room");
    assert_eq!(staged.small().map(<[u8]>::len), Some(SMALL_BYTES));
    assert_eq!(staging(&place.store), 0, "no file yet");
    staged.write_all(&[2]).expect("room");
    assert_eq!(staged.small(), None);
    assert_eq!(staging(&place.store), 1);
    assert_eq!(staged.len(), SMALL_BYTES as u64 + 1);
    let (digest, size) = staged.commit().expect("room");
    let mut expected = vec![1; SMALL_BYTES];
    expected.push(2);
    assert_eq!((digest, size), (Digest::of(&expected), SMALL_BYTES as u64 + 1));
    assert_eq!(place.store.read_blob(&digest, size).expect("there"), expected);
    assert_eq!(staging(&place.store), 0);
    assert!(place.store.entries().expect("an index").is_empty(), "no entry");
}

#[test]
fn an_output_waits_for_gc() {
    let place = place();
    let gc = fs::File::create(place.store.root().join("gc.lock")).expect("a lock");
    gc.lock().expect("free");
    let store = place.store.clone().with_lock_wait(Duration::ZERO);
    let mut staged = store.stage();
    staged.write_all(b"output").expect("room");
    assert!(matches!(staged.commit(), Err(StageError::Lock(_))));
    assert_eq!(staging(&store), 0);
    assert!(!store.contains(&Digest::of(b"output")).expect("no error"));
}

#[test]
fn what_is_dropped_leaves_nothing() {
    let place = place();
    let mut staged = place.store.stage();
    staged.write_all(&[1; 200_000]).expect("room");
    drop(staged);
    assert_eq!(staging(&place.store), 0);
    assert_eq!(fs::read_dir(place.store.root().join("blobs/sha256")).expect("there").count(), 0);
}

#[test]
fn nothing_at_all_is_an_output_too() {
    let place = place();
    let (digest, size) = place.store.stage().commit().expect("room");
    assert_eq!((digest, size), (Digest::of(b""), 0));
    assert_eq!(place.store.read_blob(&digest, 0).expect("there"), b"");
}

#[test]
fn gc_leaves_an_output_that_is_being_written() {
    let place = place();
    let mut staged = place.store.stage();
    staged.write_all(&[1; 200_000]).expect("room");
    let report = place.store.gc(&collect_all()).expect("sound");
    assert_eq!(report.staging_removed, 0, "its writer lives");
    let (digest, size) = staged.commit().expect("still there");
    assert_eq!(place.store.read_blob(&digest, size).expect("there").len(), 200_000);
}

#[test]
fn an_output_is_as_young_as_its_last_commit() {
    let place = place();
    let commit = || {
        let mut staged = place.store.stage();
        staged.write_all(b"output").expect("room");
        staged.commit().expect("room").0
    };
    let digest = commit();
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    let file = fs::File::options().write(true).open(blob_path(&place.store, &digest));
    file.expect("there").set_modified(yesterday).expect("an older file");
    let hour = Duration::from_secs(3600);
    let options = GcOptions { older_than: hour, now: SystemTime::now(), ..collect_all() };
    let dry = place.store.gc(&GcOptions { dry_run: true, ..options }).expect("sound");
    assert_eq!(dry.removed, [(digest, 6)], "a day old");
    commit();
    let report = place.store.gc(&options).expect("sound");
    assert_eq!((report.removed.len(), report.kept), (0, 1), "new again");
}
