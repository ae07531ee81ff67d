//! A full disk, for real: a small tmpfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use vyr_base::{Category, Digest, Problem};
use vyr_store::{ImportLimits, StageError, Store};

use crate::common::{Artifact, MANIFEST, chain, check, collect_all, export, place, staging, tree};

const SIZE_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// A mounted tmpfs; unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, said aloud, when this process may not mount.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE_BYTES}"), "vyr-store-test"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            crate::common::not_run("needs root to mount a small tmpfs");
        }
        mounted.then_some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes all space but `pages`.
    fn fill_but(&self, pages: usize) {
        let reserve = self.path().join("reserve");
        fs::write(&reserve, vec![1; pages * PAGE_BYTES]).expect("room for the reserve");
        let mut filler = File::create(self.filler()).expect("a file");
        while filler.write_all(&[1; PAGE_BYTES]).is_ok() {}
        fs::remove_file(&reserve).expect("the reserve");
    }

    fn clear(&self) {
        fs::remove_file(self.filler()).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.directory.path()).status();
    }
}

fn store(disk: &SmallDisk) -> Store {
    Store::open(&disk.path().join("store")).expect("room for an empty store")
}

fn assert_full(error: &dyn Problem, store: &Store) {
    assert_eq!(error.category(), Category::Transient, "{}", chain(&error));
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("nothing was written"), "{hint}");
    assert!(hint.contains(&store.root().display().to_string()), "{hint}");
}

#[test]
fn a_put_that_does_not_fit_is_not_there_at_all() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = store(&disk);
    let small = Artifact::new(&[b"small"]);
    small.put(&store).expect("fits");
    let before = tree(store.root());
    let large = Artifact::new(&[b"small", &vec![7; 2 * SIZE_BYTES]]);
    assert_full(&large.put(&store).expect_err("too large"), &store);
    assert_eq!(tree(store.root()), before);
    assert_eq!(staging(&store), 0);
    Artifact::new(&[b"another"]).put(&store).expect("there is room for small ones");
    check(&store).expect("sound");
}

#[test]
fn a_disk_that_fills_up_at_any_moment_of_a_put_changes_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = store(&disk);
    Artifact::new(&[b"small"]).put(&store).expect("fits");
    let artifact = Artifact::new(&[b"small", &[7; 3 * PAGE_BYTES]]);
    let (mut failures, mut done) = (0, false);
    for pages in 0..16 {
        let before = tree(store.root());
        disk.fill_but(pages);
        let outcome = artifact.put(&store);
        disk.clear();
        check(&store).expect("sound");
        assert_eq!(staging(&store), 0, "{pages} pages");
        match outcome {
            Ok(_) => {
                done = true;
                break;
            }
            Err(error) => {
                failures += 1;
                assert_full(&error, &store);
                assert_eq!(tree(store.root()), before, "{pages} pages");
            }
        }
    }
    assert!(done && failures >= 5, "blobs, manifest and index each met the end of the disk");
    assert_eq!(store.entries().expect("an index").len(), 2);
}

#[test]
fn a_disk_that_fills_up_before_the_commit_changes_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = store(&disk);
    let before = tree(store.root());
    let artifact = Artifact::new(&[b"layer"]);
    let mut put = store.begin_put(&artifact.manifest, MANIFEST, BTreeMap::new()).expect("begun");
    for blob in &artifact.blobs {
        put.blob(&Digest::of(blob), blob.len() as u64, &mut blob.as_slice()).expect("fits");
    }
    // One page: the manifest's. The new index finds none.
    disk.fill_but(1);
    assert_full(&put.commit().expect_err("full"), &store);
    disk.clear();
    assert_eq!(tree(store.root()), before);
    assert_eq!(staging(&store), 0);
}

#[test]
fn an_output_that_does_not_fit_is_not_there_at_all() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = store(&disk);
    let mut staged = store.stage();
    let error = staged.write_all(&vec![7; 2 * SIZE_BYTES]).expect_err("too large");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let fault = error.downcast::<vyr_store::FsError>().expect("it says where");
    assert_full(&fault, &store);
    assert!(staged.write_all(b"more").is_err());
    assert!(matches!(staged.commit(), Err(StageError::Incomplete)));
    assert_eq!(staging(&store), 0);
    assert!(store.gc(&collect_all()).expect("sound").removed.is_empty(), "no blob either");
}

#[test]
fn an_archive_that_does_not_fit_changes_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let source = place();
    let large = Artifact::new(&[b"small", &vec![7; 2 * SIZE_BYTES]]);
    large.put(&source.store).expect("put");
    let archive = export(&source.store, &[large.digest()]);
    let store = store(&disk);
    let before = tree(store.root());
    let refused = store.import(archive.as_slice(), &ImportLimits::default()).expect_err("full");
    assert_full(&refused, &store);
    assert_eq!(tree(store.root()), before);
    assert_eq!(staging(&store), 0);
}

#[test]
fn a_store_is_not_half_made_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let root = disk.path().join("store");
    for pages in 0..16 {
        disk.fill_but(pages);
        let opened = Store::open(&root);
        disk.clear();
        if let Err(error) = opened {
            assert_eq!(error.category(), Category::Transient, "{}", chain(&error));
        } else {
            break;
        }
    }
    Artifact::new(&[b"layer"]).put(&store(&disk)).expect("put");
    check(&store(&disk)).expect("sound");
}
