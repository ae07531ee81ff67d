//! The store's directory: making it, opening it, and where each thing lies in it.
//!
//! A store is made under `index.lock` and marked last: a directory with `oci-layout` is whole.
//! Directories are held as descriptors and everything below is opened relative to them, without
//! following links, so that no name can lead out of the store.
//!
//! Opening refuses what it does not understand: a directory with other things in it, another
//! layout version, an index it cannot read. It never repairs: an index that is gone next to blobs
//! that are there would otherwise become an empty index, and the next gc would remove everything.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Dir, Mode, OFlags, fsync, mkdirat, openat};
use rustix::io::Errno;
use vyr_base::{Category, Digest, Problem};

use crate::fault::{Context, FsError};
use crate::index::IndexError;
use crate::lock::{Hold, LOCK_WAIT, Lock, LockError};
use crate::oci::{Index, LAYOUT_VERSION, LayoutMarker};
use crate::staging::StagingFile;
use crate::step::{Probe, ProbeFn, Step};

/// What a directory may hold and still become or be a store. A directory that is the root of an
/// ext4 file system has `lost+found`.
const OURS: [&str; 8] = [
    "blobs",
    "gc.lock",
    "gc.turn.lock",
    "index.json",
    "index.lock",
    "lost+found",
    "oci-layout",
    "staging",
];

/// Largest marker that is read: ours has 30 bytes.
const MAX_MARKER_BYTES: u64 = 4096;

/// A store could not be opened or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory belongs to something else.
    #[error("{} is not a store: it holds {name:?} and no oci-layout", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first thing in it that no store has.
        name: String,
    },
    /// Blobs without a marker: half of a store.
    #[error("{} holds blobs but no oci-layout", path.display())]
    Unmarked {
        /// The directory.
        path: PathBuf,
    },
    /// A layout this program does not know.
    #[error("{} has image layout version {found:?}, not {LAYOUT_VERSION:?}", path.display())]
    Version {
        /// The directory.
        path: PathBuf,
        /// The version it says it has.
        found: String,
    },
    /// `oci-layout` is not the document it should be.
    #[error("{} is not a layout marker", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// What is wrong, if it is JSON that is wrong.
        source: serde_json::Error,
    },
    /// `index.json` cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Somebody else is making this store, and takes too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for OpenError {
    fn category(&self) -> Category {
        match self {
            Self::Foreign { .. } | Self::Unmarked { .. } | Self::Version { .. } => {
                Category::Conflict
            }
            Self::Marker { .. } => Category::Internal,
            Self::Index(source) => source.category(),
            Self::Lock(source) => source.category(),
            Self::Fs(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => Some("name an empty or a new directory".into()),
            Self::Unmarked { path } => Some(format!(
                "if it was a store, write {:?} to {}",
                String::from_utf8_lossy(&LayoutMarker::bytes()),
                path.join("oci-layout").display()
            )),
            Self::Version { .. } => Some("open it with the program that made it".into()),
            Self::Marker { path, .. } => {
                Some(format!("restore {} from a copy of this store", path.display()))
            }
            Self::Index(source) => source.hint(),
            Self::Lock(source) => source.hint(),
            Self::Fs(source) => source.hint(),
        }
    }
}

/// An open store. Clones share the directory; so do other processes.
#[derive(Clone)]
pub struct Store {
    place: Arc<Place>,
    probe: Probe,
    lock_wait: Duration,
}

/// Where the store is: a path for messages, descriptors for work.
struct Place {
    root: PathBuf,
    root_dir: OwnedFd,
    blobs: OwnedFd,
    staging: OwnedFd,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.place.root).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `root`, and makes it if there is none.
    ///
    /// Any number of processes may do so at once. Nothing is held but open directories.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        Self::open_with_probe(root, None)
    }

    /// [`Store::open`], telling `probe` each durable step.
    #[doc(hidden)]
    pub fn open_with_probe(root: &Path, probe: Option<ProbeFn>) -> Result<Self, OpenError> {
        let root_dir = open_root(root)?;
        let probe = Probe(probe);
        let marked = marker(root_dir.as_fd(), root)?;
        if !marked {
            refuse_foreign(root_dir.as_fd(), root)?;
        }
        let [blobs, staging] = directories(root_dir.as_fd(), root)?;
        let place = Arc::new(Place { root: root.to_owned(), root_dir, blobs, staging });
        let store = Self { place, probe, lock_wait: LOCK_WAIT };
        if !marked {
            store.initialise()?;
        }
        store.read_index()?;
        Ok(store)
    }

    /// The same store, telling `probe` each durable step.
    #[doc(hidden)]
    #[must_use]
    pub fn with_probe(mut self, probe: ProbeFn) -> Self {
        self.probe = Probe(Some(probe));
        self
    }

    /// The same store, waiting `wait` for locks instead of [`LOCK_WAIT`].
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// The directory this store was opened at.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    fn initialise(&self) -> Result<(), OpenError> {
        let _alone = self.lock(Lock::Index, Hold::Exclusive)?;
        if marker(self.root_dir(), self.root())? {
            return Ok(());
        }
        let blobs = names(self.blobs_dir(), || self.path("blobs/sha256"))?;
        if !blobs.is_empty() {
            return Err(OpenError::Unmarked { path: self.root().to_owned() });
        }
        fsync(self.staging_dir()).at("sync", || self.path("staging"))?;
        self.sync_blobs(Step::DirectoriesMade)?;
        // It is there if somebody died here before.
        let index = open_regular(self.root_dir(), "index.json");
        if index.at("open", || self.path("index.json"))?.is_none() {
            let index = self.stage_index(&Index::empty())?;
            self.publish_index(index)?;
        }
        let mut marker = StagingFile::create(self, "layout")?;
        marker.write_all(&LayoutMarker::bytes())?;
        marker.sync(Step::LayoutStaged)?;
        marker.rename(self.root_dir(), "oci-layout")?;
        self.step(Step::LayoutRenamed);
        // The store's own name, in the directory above it.
        let above = openat(self.root_dir(), "..", DIRECTORY, Mode::empty());
        above.and_then(fsync).at("sync the directory above", || self.root().to_owned())?;
        Ok(self.sync_root(Step::LayoutSynced)?)
    }

    pub(crate) fn root_dir(&self) -> BorrowedFd<'_> {
        self.place.root_dir.as_fd()
    }

    pub(crate) fn blobs_dir(&self) -> BorrowedFd<'_> {
        self.place.blobs.as_fd()
    }

    pub(crate) fn staging_dir(&self) -> BorrowedFd<'_> {
        self.place.staging.as_fd()
    }

    pub(crate) fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// A path below the root, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.root.join(name)
    }

    /// Where `digest` lies, for messages.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn step(&self, step: Step) {
        self.probe.at(step);
    }

    /// Makes the names in the root durable; that is `step`.
    pub(crate) fn sync_root(&self, step: Step) -> Result<(), FsError> {
        fsync(self.root_dir()).at("sync", || self.root().to_owned())?;
        self.step(step);
        Ok(())
    }

    /// Makes the names of blobs durable; that is `step`.
    pub(crate) fn sync_blobs(&self, step: Step) -> Result<(), FsError> {
        fsync(self.blobs_dir()).at("sync", || self.path("blobs/sha256"))?;
        self.step(step);
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_root(root: &Path) -> Result<OwnedFd, FsError> {
    let path = || root.to_owned();
    match openat(CWD, root, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
            made.at("make the directory", path)?;
            openat(CWD, root, DIRECTORY, Mode::empty()).at("open the directory", path)
        }
        opened => opened.at("open the directory", path),
    }
}

/// Whether the directory is marked as a layout we know.
fn marker(root_dir: BorrowedFd<'_>, root: &Path) -> Result<bool, OpenError> {
    let path = || root.join("oci-layout");
    let Some(bytes) = read_small(root_dir, "oci-layout", MAX_MARKER_BYTES, path)? else {
        return Ok(false);
    };
    let marker =
        LayoutMarker::parse(&bytes).map_err(|source| OpenError::Marker { path: path(), source })?;
    if marker.image_layout_version == LAYOUT_VERSION {
        return Ok(true);
    }
    let found = marker.image_layout_version.chars().take(40).collect();
    Err(OpenError::Version { path: root.to_owned(), found })
}

fn refuse_foreign(root_dir: BorrowedFd<'_>, root: &Path) -> Result<(), OpenError> {
    let mut names = names(root_dir, || root.to_owned())?;
    names.retain(|name| !OURS.contains(&name.as_str()));
    match names.into_iter().min() {
        Some(name) => Err(OpenError::Foreign { path: root.to_owned(), name }),
        None => Ok(()),
    }
}

/// Opens `blobs/sha256` and `staging`, made if need be, never through a link.
fn directories(root_dir: BorrowedFd<'_>, root: &Path) -> Result<[OwnedFd; 2], FsError> {
    let open = |parent: BorrowedFd<'_>, name: &str, path: &str| {
        let path = || root.join(path);
        match openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) => fsync(parent).at("sync", || root.to_owned())?,
                    Err(Errno::EXIST) => {}
                    refused => refused.at("make the directory", path)?,
                }
                openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                    .at("open the directory", path)
            }
            opened => opened.at("open the directory", path),
        }
    };
    let blobs = open(root_dir, "blobs", "blobs")?;
    let sha256 = open(blobs.as_fd(), "sha256", "blobs/sha256")?;
    Ok([sha256, open(root_dir, "staging", "staging")?])
}

/// The names in a directory, without `.` and `..`. Names that are not UTF-8 are shown lossily:
/// no file of ours has one.
pub(crate) fn names(
    directory: BorrowedFd<'_>,
    path: impl Fn() -> PathBuf,
) -> Result<Vec<String>, FsError> {
    let entries = Dir::read_from(directory).at("list", &path)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.at("list", &path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens a regular file without following links or waiting for the other end of a pipe; its size
/// comes with it.
pub(crate) fn open_regular(
    directory: BorrowedFd<'_>,
    name: &str,
) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(not_regular()),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Some((file, metadata.len()))) } else { Err(not_regular()) }
}

/// The error of [`open_regular`] for a link, a directory, a pipe or a device.
fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NotRegular)
}

/// What lies there is not a regular file.
#[derive(Debug, thiserror::Error)]
#[error("it is not a regular file")]
pub(crate) struct NotRegular;

/// The whole of a small regular file, or nothing if there is none.
pub(crate) fn read_small(
    directory: BorrowedFd<'_>,
    name: &str,
    max: u64,
    path: impl Fn() -> PathBuf,
) -> Result<Option<Vec<u8>>, FsError> {
    let Some((file, _)) = open_regular(directory, name).at("open", &path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of the limit from a longer one.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).at("read", &path)?;
    if bytes.len() as u64 > max {
        let long = io::Error::other(format!("it is larger than {max} bytes"));
        return Err(long).at("read", path);
    }
    Ok(Some(bytes))
}
