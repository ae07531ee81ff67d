//! Many processes and threads on one store at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vyr_base::Digest;
use vyr_store::Store;

use crate::common::{Artifact, MANIFEST, check, collect_all, place, staging};

const DIRECTORY: &str = "VYR_STORE_TEST_SHARED";
const NUMBER: &str = "VYR_STORE_TEST_NUMBER";

const PROCESSES: usize = 50;

fn common_artifact() -> Artifact {
    Artifact::new(&[&[1; 50_000], b"common layer"])
}

fn own_artifact(number: usize) -> Artifact {
    Artifact::new(&[b"common layer", format!("layer of {number}").as_bytes()])
}

#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let number = std::env::var(NUMBER).expect("a number").parse().expect("a number");
    let store = Store::open(Path::new(&directory)).expect("the store opens");
    common_artifact().put(&store).expect("the common artifact");
    own_artifact(number).put_signed(&store, "signature").expect("its own artifact");
}

#[test]
fn fifty_processes_make_one_store_and_put_into_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("store");
    let start = |number: usize| -> Child {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "concurrent::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, &root)
            .env(NUMBER, number.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("a child")
    };
    let children: Vec<Child> = (0..PROCESSES).map(start).collect();
    for mut child in children {
        assert!(child.wait().expect("an end").success());
    }
    let store = Store::open(&root).expect("the store opens");
    assert_eq!(store.entries().expect("an index").len(), 1 + 2 * PROCESSES);
    check(&store).expect("sound");
    assert_eq!(staging(&store), 0);
}

#[test]
fn fifty_threads_put_the_same_artifact() {
    let place = place();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| common_artifact().put(&place.store).expect("put"));
        }
    });
    assert_eq!(place.store.entries().expect("an index").len(), 1);
    check(&place.store).expect("sound");
    assert_eq!(staging(&place.store), 0);
}

#[test]
fn what_an_open_put_counts_on_survives_gc() {
    let place = place();
    let store = &place.store;
    let (first, second) = (own_artifact(1), own_artifact(2));
    first.put(store).expect("put");
    let mut put = store.begin_put(&second.manifest, MANIFEST, BTreeMap::new()).expect("begun");
    for blob in &second.blobs {
        // The common layer is in the store: its reader is not asked.
        put.blob(&Digest::of(blob), blob.len() as u64, &mut blob.as_slice()).expect("taken");
    }
    store.remove(&first.digest()).expect("it is there");
    let report = store.gc(&collect_all()).expect("sound");
    assert_eq!(report.removed.len(), 4, "manifest, config and both layers of the first");
    assert_eq!(report.staging_removed, 0, "the put is alive");
    put.commit().expect("the layer is put back");
    assert_eq!(check(store).expect("sound").len(), 4);
    assert_eq!(staging(store), 0);
}

#[test]
fn gc_beside_puts_and_outputs_loses_nothing() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 12;
    let place = place();
    let store = &place.store;
    let (writing, sweeping) = (AtomicBool::new(true), AtomicBool::new(false));
    thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut removed = 0;
            while writing.load(Ordering::SeqCst) {
                // As if a day had passed, so that only locks protect what is being written.
                removed += store.gc(&collect_all()).expect("gc gets its turn").removed.len();
                sweeping.store(true, Ordering::SeqCst);
            }
            removed
        });
        let writer = |writer: usize| {
            move || {
                for round in 0..ROUNDS {
                    let artifact = own_artifact(writer * ROUNDS + round);
                    artifact.put(store).expect("put");
                    for blob in artifact.blobs.iter().chain([&artifact.manifest]) {
                        let found = store.read_blob(&Digest::of(blob), 1 << 20);
                        assert_eq!(&found.expect("not collected"), blob);
                    }
                    // Now and then the common layer belongs to nobody.
                    if round % 3 != 0 {
                        store.remove(&artifact.digest()).expect("it is there");
                    }
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
        let outcomes: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // One last round of gc for what was removed last.
        sweeping.store(false, Ordering::SeqCst);
        while !sweeping.load(Ordering::SeqCst) && !sweeper.is_finished() {
            thread::yield_now();
        }
        writing.store(false, Ordering::SeqCst);
        assert!(outcomes.iter().all(Result::is_ok), "no writer fails");
        assert!(sweeper.join().expect("gc never fails") > 0, "gc had something to do");
    });
    store.gc(&collect_all()).expect("sound");
    let kept = WRITERS * ROUNDS.div_ceil(3);
    assert_eq!(store.entries().expect("an index").len(), kept);
    check(store).expect("sound");
    assert_eq!(staging(store), 0);
}
