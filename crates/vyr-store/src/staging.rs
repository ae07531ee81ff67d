//! Temporary files: named so that they never collide, locked so that gc leaves them alone while
//! their writer lives, removed when dropped.
//!
//! A crash leaves them behind; their locks are gone with the process, and gc removes them once
//! they are old.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fstat, fsync, linkat, mkdirat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;
use vyr_base::Digest;

use crate::fault::{Context, FsError};
use crate::layout::{Store, names, open_regular};
use crate::step::Step;

/// How many names are tried before giving up; one more than one is only needed when gc with a
/// clock far ahead took a name between its creation and its lock.
const ATTEMPTS: u32 = 100;

/// A name no other live writer uses: process, time and a counter. Creation is exclusive, so a
/// collision costs another try and nothing else.
fn fresh_name(prefix: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{prefix}-{:x}-{:x}-{counter:x}", process::id(), since.as_nanos())
}

/// Locks what was just created, and says whether it still has its name: gc may have removed it in
/// between.
fn claim(store: &Store, file: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        locked => locked?,
    }
    let ours = fstat(file)?;
    match statat(store.staging_dir(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn create<T>(
    store: &Store,
    prefix: &str,
    make: impl Fn(&str) -> Result<T, Errno>,
) -> Result<(String, T), FsError>
where
    T: AsFd,
{
    let mut name = fresh_name(prefix);
    for _ in 0..ATTEMPTS {
        let path = || staging_path(store, &name);
        match make(&name) {
            Ok(made) if claim(store, made.as_fd(), &name).at("lock", path)? => {
                return Ok((name, made));
            }
            Ok(_) | Err(Errno::EXIST | Errno::NOENT) => name = fresh_name(prefix),
            Err(errno) => return Err(errno).at("create", path),
        }
    }
    Err(Errno::EXIST).at("create", || staging_path(store, &name))
}

fn staging_path(store: &Store, name: &str) -> PathBuf {
    store.path("staging").join(name)
}

const NEW_FILE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// One temporary file that becomes a file of the store, or goes away.
#[derive(Debug)]
pub(crate) struct StagingFile {
    store: Store,
    name: String,
    file: File,
    /// Whether the name is still ours to remove.
    live: bool,
}

impl StagingFile {
    pub(crate) fn create(store: &Store, prefix: &str) -> Result<Self, FsError> {
        let make = |name: &str| openat(store.staging_dir(), name, NEW_FILE, PRIVATE);
        let (name, file) = create(store, prefix, make)?;
        Ok(Self { store: store.clone(), name, file: file.into(), live: true })
    }

    pub(crate) fn path(&self) -> PathBuf {
        staging_path(&self.store, &self.name)
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.file.write_all(bytes).at("write", || staging_path(&self.store, &self.name))
    }

    /// Makes the content durable; that is `step`.
    pub(crate) fn sync(&self, step: Step) -> Result<(), FsError> {
        fsync(&self.file).at("sync", || self.path())?;
        self.store.step(step);
        Ok(())
    }

    /// Gives the file its final name, replacing what had it.
    pub(crate) fn rename(mut self, to: BorrowedFd<'_>, name: &str) -> Result<(), FsError> {
        renameat(self.store.staging_dir(), &self.name, to, name).at("rename", || self.path())?;
        self.live = false;
        Ok(())
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if self.live {
            // Nobody can be told; gc removes what stays.
            let _ = unlinkat(self.store.staging_dir(), &self.name, AtFlags::empty());
        }
    }
}

/// The directory of one put or import: blobs under their digests, one lock for all.
#[derive(Debug)]
pub(crate) struct StagingDir {
    store: Store,
    name: String,
    dir: OwnedFd,
}

impl StagingDir {
    pub(crate) fn create(store: &Store, prefix: &str) -> Result<Self, FsError> {
        let make = |name: &str| {
            mkdirat(store.staging_dir(), name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            openat(store.staging_dir(), name, flags, Mode::empty())
        };
        let (name, dir) = create(store, prefix, make)?;
        Ok(Self { store: store.clone(), name, dir })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        staging_path(&self.store, &self.name).join(digest.hex())
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(crate) fn create_blob(&self, digest: &Digest) -> Result<File, FsError> {
        let file = openat(&self.dir, digest.hex(), NEW_FILE, PRIVATE);
        file.map(File::from).at("create", || self.path(digest))
    }

    /// Links the store's own blob into this directory, so that gc cannot take it; `false` when
    /// the file system cannot, or the blob went away or has another size.
    pub(crate) fn link_blob(&self, digest: &Digest, size: u64) -> Result<bool, FsError> {
        let name = digest.hex();
        let linked = linkat(self.store.blobs_dir(), &name, &self.dir, &name, AtFlags::empty());
        if linked.is_err() {
            return Ok(false);
        }
        match open_regular(self.dir(), &name) {
            Ok(Some((_, found))) if found == size => Ok(true),
            refused => {
                self.remove_blob(digest);
                refused.at("open", || self.store.blob_path(digest)).map(|_| false)
            }
        }
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) {
        let _ = unlinkat(&self.dir, digest.hex(), AtFlags::empty());
    }

    pub(crate) fn sync_blob(&self, digest: &Digest) -> Result<(), FsError> {
        let file = openat(
            &self.dir,
            digest.hex(),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        file.and_then(fsync).at("sync", || self.path(digest))?;
        self.store.step(Step::BlobSynced);
        Ok(())
    }

    /// Gives a blob its final name. A link of the blob that already has the name stays behind and
    /// goes with this directory.
    pub(crate) fn rename_blob(&self, digest: &Digest) -> Result<(), FsError> {
        let name = digest.hex();
        renameat(&self.dir, &name, self.store.blobs_dir(), &name).at("rename", || self.path(digest))
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        let path = || staging_path(&self.store, &self.name);
        for name in names(self.dir.as_fd(), path).unwrap_or_default() {
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
        let _ = unlinkat(self.store.staging_dir(), &self.name, AtFlags::REMOVEDIR);
        self.store.step(Step::StagingRemoved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_file_that_still_has_its_name_is_claimed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a new store");
        let path = staging_path(&store, "x");
        let ours = File::create(&path).expect("a file");
        assert!(claim(&store, ours.as_fd(), "x").expect("no error"));
        // gc held it a moment ago: it is gone, or another writer has the name now.
        fs::remove_file(&path).expect("a file");
        assert!(!claim(&store, ours.as_fd(), "x").expect("no error"));
        let other = File::create(&path).expect("another file");
        assert!(!claim(&store, ours.as_fd(), "x").expect("no error"));
        // gc holds it right now.
        let gc = File::open(&path).expect("the other file");
        gc.lock().expect("free");
        assert!(!claim(&store, other.as_fd(), "x").expect("no error"));
    }

    #[test]
    fn names_never_repeat() {
        let names: std::collections::BTreeSet<String> =
            (0..1000).map(|_| fresh_name("put")).collect();
        assert_eq!(names.len(), 1000);
    }
}
