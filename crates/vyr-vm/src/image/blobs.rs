//! The images' directory: blobs whole or absent, and what is still arriving.
//!
//! ```text
//! ROOT/blobs/sha256/<hex>    as in an OCI layout; appears by one rename, after a sync
//!      partial/<hex>         what arrived so far; never read as a blob, hashed again when resumed
//!      names/<hex>           see `names`
//!      plain/<hex>           see `plain`
//!      disks/                see `disk`
//! ```
//!
//! Of several processes that want one blob, one takes it in, under a lock on its partial file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use vyr_base::{Category, Digest, Hasher, Problem};

use super::fault::{FsError, Reason};
use super::limits::DOCUMENT_BYTES_MAX;
use super::manifest::Descriptor;
use super::merge::LayerBytes;

/// What is below the images' directory.
pub(crate) const DIRECTORIES: [&str; 5] = ["blobs/sha256", "partial", "names", "plain", "disks"];

/// The longest pause between two tries of a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A blob cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is not here.
    #[error("{digest} is not among the images' blobs")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// It is not what its name says.
    #[error("blob {digest} is damaged: its bytes are {found}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// What came has another digest.
    #[error("what came for {expected} is {found}")]
    Digest {
        /// What was wanted.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// What came has another size.
    #[error("what came for {digest} is {} than the {size} bytes its manifest says", if *.more { "more" } else { "less" })]
    Size {
        /// Which.
        digest: Digest,
        /// What the manifest says.
        size: u64,
        /// Whether more came.
        more: bool,
    },
    /// Another process takes it in, and did not end.
    #[error(
        "{}: another process has been taking in {digest} all the time",
        Reason::ImagePullTimeout
    )]
    Busy {
        /// Which.
        digest: Digest,
    },
}

impl Problem for BlobError {
    fn category(&self) -> Category {
        match self {
            Self::Fs(fault) => fault.category(),
            Self::Missing { .. } => Category::NotFound,
            Self::Busy { .. } => Category::Transient,
            Self::Damaged { .. } => Category::Internal,
            Self::Digest { .. } | Self::Size { .. } => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Fs(fault) => fault.hint(),
            Self::Missing { .. } => Some("vyr image pull REGISTRY/REPOSITORY@sha256:..".into()),
            Self::Damaged { digest, .. } => {
                Some(format!("remove the blob {} and pull the image again", digest.hex()))
            }
            Self::Digest { .. } | Self::Size { .. } => {
                Some("do not trust where it came from; nothing of it was kept".into())
            }
            Self::Busy { .. } => Some("wait for the other pull, or end it".into()),
        }
    }
}

/// The images of one data directory.
#[derive(Debug, Clone)]
pub struct Images {
    root: PathBuf,
}

impl Images {
    /// Opens `root`, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(root: &Path) -> Result<Self, FsError> {
        make_directories(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Gives what root has made here to the user whose directories these are: it must be able to go
    /// on with it.
    pub(crate) fn hand_over(&self, file: &File, path: &Path) -> Result<(), FsError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let directory = self.disks();
        let of = fs::metadata(&directory).map_err(FsError::on("look at", &directory))?;
        if of.uid() == 0 {
            return Ok(());
        }
        fchown(file, Some(of.uid()), None).map_err(FsError::on("hand over", path))
    }

    /// Where a blob is, once it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn partial_path(&self, name: &str) -> PathBuf {
        self.root.join("partial").join(name)
    }

    pub(crate) fn plain(&self) -> PathBuf {
        self.root.join("plain")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    pub(crate) fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// Whether a blob is here whole.
    pub fn has(&self, blob: &Descriptor) -> bool {
        fs::symlink_metadata(self.blob_path(&blob.digest))
            .is_ok_and(|meta| meta.is_file() && meta.len() == blob.size)
    }

    /// A manifest, an index or a config, checked against its digest.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let bytes = read_document(&self.blob_path(digest), digest)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(BlobError::Damaged { digest: *digest, found }),
        }
    }

    /// Keeps a document whose digest is known to be right.
    pub(crate) fn keep_document(&self, bytes: &[u8], deadline: Instant) -> Result<(), BlobError> {
        let blob = Descriptor { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let Some(mut partial) = self.receive(&blob, deadline)? else { return Ok(()) };
        partial.restart()?;
        partial.write(bytes)?;
        partial.finish()
    }

    /// Begins to take in a blob, or goes on; none if it is here.
    pub(crate) fn receive(
        &self,
        blob: &Descriptor,
        deadline: Instant,
    ) -> Result<Option<Partial>, BlobError> {
        let path = self.partial_path(&blob.digest.hex());
        let mut pause = Duration::from_millis(1);
        loop {
            if self.has(blob) {
                return Ok(None);
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(FsError::on("open", &path))?;
            self.hand_over(&file, &path)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // Whoever had the lock may have moved the file to its place in the meantime.
                let same = |meta: fs::Metadata, named: fs::Metadata| meta.ino() == named.ino();
                let named = fs::symlink_metadata(&path);
                if file.metadata().is_ok_and(|meta| named.is_ok_and(|named| same(meta, named))) {
                    let to = self.blob_path(&blob.digest);
                    let mut partial =
                        Partial { file, path, to, blob: *blob, hasher: Hasher::new() };
                    partial.resume()?;
                    return Ok(Some(partial));
                }
                continue;
            }
            if Instant::now() >= deadline {
                return Err(BlobError::Busy { digest: blob.digest });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Makes what is missing of the directories.
pub(crate) fn make_directories(root: &Path) -> Result<(), FsError> {
    for directory in DIRECTORIES {
        let path = root.join(directory);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(FsError::on("make", &path))?;
    }
    Ok(())
}

/// A document's bytes, unchecked.
pub(crate) fn read_document(path: &Path, digest: &Digest) -> Result<Vec<u8>, BlobError> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => {
            return Err(BlobError::Missing { digest: *digest });
        }
        Err(e) => return Err(e.into()),
    };
    let mut bytes = Vec::new();
    let read = file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(FsError::on("read", path))?;
    match bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        true => Err(BlobError::Size { digest: *digest, size: DOCUMENT_BYTES_MAX, more: true }),
        false => Ok(bytes),
    }
}

/// A plain file, not what a link leads to.
pub(crate) fn open_plain(path: &Path) -> Result<File, FsError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let open = || {
        let file =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a plain file")),
        }
    };
    open().map_err(FsError::on("open", path))
}

/// Makes a directory's names durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(FsError::on("sync", path))
}

/// A blob that arrives.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    to: PathBuf,
    blob: Descriptor,
    hasher: Hasher,
}

impl Partial {
    /// How many bytes are here.
    pub(crate) fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    pub(crate) fn restart(&mut self) -> Result<(), FsError> {
        self.hasher = Hasher::new();
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(FsError::on("empty", &self.path))
    }

    /// Hashes what an earlier process left.
    fn resume(&mut self) -> Result<(), FsError> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = self.file.read(&mut buffer).map_err(FsError::on("read", &self.path))?;
            if read == 0 {
                break;
            }
            self.hasher.update(&buffer[..read]);
            if self.hasher.bytes() > self.blob.size {
                return self.restart();
            }
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        if self.hasher.bytes() + bytes.len() as u64 > self.blob.size {
            self.forget();
            let Descriptor { digest, size } = self.blob;
            return Err(BlobError::Size { digest, size, more: true });
        }
        self.file.write_all(bytes).map_err(FsError::on("write", &self.path))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Checks it and puts it in its place.
    pub(crate) fn finish(self) -> Result<(), BlobError> {
        let Descriptor { digest, size } = self.blob;
        if self.bytes() != size {
            // Kept: the rest may come another time.
            return Err(BlobError::Size { digest, size, more: false });
        }
        let found = self.hasher.clone().finish();
        if found != digest {
            self.forget();
            return Err(BlobError::Digest { expected: digest, found });
        }
        self.file.sync_all().map_err(FsError::on("sync", &self.path))?;
        fs::rename(&self.path, &self.to).map_err(FsError::on("rename", &self.path))?;
        Ok(sync_directory(self.to.parent().unwrap_or(&self.to))?)
    }

    /// What is wrong is not kept.
    fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A layer's blob in its place.
pub(crate) struct LayerFile(pub(crate) PathBuf);

impl LayerBytes for LayerFile {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(open_plain(&self.0).map_err(|fault| fault.source)?))
    }
}
