//! Giving bytes back: every byte is hashed on its way out.
//!
//! A [`VerifiedBlob`] withholds the last bytes of a blob until the digest of all of them is known
//! to be right, so a reader that takes exactly `len()` bytes and never asks for the end is
//! protected as well. A file is opened without following links, and must be a regular one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use vyr_base::{Category, Digest, Hasher, Problem};

use crate::fault;
use crate::layout::{NotRegular, Store, open_regular};

/// A blob could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store does not have it.
    #[error("blob {digest} is not in this store")]
    Missing {
        /// Which blob.
        digest: Digest,
    },
    /// The file under this name has other content.
    #[error("blob {digest} is damaged: {} has other content", path.display())]
    Corrupt {
        /// Which blob.
        digest: Digest,
        /// The damaged file.
        path: PathBuf,
    },
    /// A link, a directory, a pipe or a device lies where the blob should.
    #[error("blob {digest} is not a regular file: {}", path.display())]
    NotRegular {
        /// Which blob.
        digest: Digest,
        /// What lies there.
        path: PathBuf,
    },
    /// It is longer than the caller allows.
    #[error("blob {digest} has {size} bytes, more than the {max} that are read here")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The caller's limit.
        max: u64,
    },
    /// A system call failed.
    #[error("cannot read blob {digest}")]
    Io {
        /// Which blob.
        digest: Digest,
        /// Why not.
        source: io::Error,
    },
}

impl Problem for ReadError {
    fn category(&self) -> Category {
        match self {
            Self::Missing { .. } => Category::NotFound,
            Self::Corrupt { .. } | Self::NotRegular { .. } => Category::Internal,
            Self::TooLarge { .. } => Category::Usage,
            Self::Io { source, .. } => fault::category(source),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("put or import the artifact that names it".into()),
            Self::Corrupt { path, .. } | Self::NotRegular { path, .. } => {
                let path = path.display();
                Some(format!("remove {path}, then put or import its artifact again"))
            }
            _ => None,
        }
    }
}

/// A blob that is hashed while it is read; a wrong one ends in an error, not in an end of file.
///
/// The error's kind is `InvalidData`, and it wraps a [`ReadError`] that names the digest. What
/// was read before that error must not be used.
#[derive(Debug)]
pub struct VerifiedBlob {
    file: File,
    digest: Digest,
    path: PathBuf,
    len: u64,
    /// `None` once the content is known to be right.
    hasher: Option<Hasher>,
}

impl VerifiedBlob {
    /// Opens `name` in `directory` as the blob `digest`.
    pub(crate) fn open(
        directory: BorrowedFd<'_>,
        digest: &Digest,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<Self, ReadError> {
        let digest = *digest;
        match open_regular(directory, &digest.hex()) {
            Ok(Some((file, len))) => {
                Ok(Self { file, digest, path: path(), len, hasher: Some(Hasher::new()) })
            }
            Ok(None) => Err(ReadError::Missing { digest }),
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<NotRegular>()) => {
                Err(ReadError::NotRegular { digest, path: path() })
            }
            Err(source) => Err(ReadError::Io { digest, source }),
        }
    }

    /// Its size in bytes, as the file has it now; reading checks it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn corrupt(&self) -> ReadError {
        ReadError::Corrupt { digest: self.digest, path: self.path.clone() }
    }

    /// All of it, if it has at most `max` bytes.
    pub(crate) fn read_all(mut self, max: u64) -> Result<Vec<u8>, ReadError> {
        let Self { digest, len: size, .. } = self;
        let capacity = usize::try_from(size).ok().filter(|_| size <= max);
        let capacity = capacity.ok_or(ReadError::TooLarge { digest, size, max })?;
        let mut bytes = Vec::with_capacity(capacity);
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(read_error(digest, error)),
        }
    }
}

/// The [`ReadError`] inside an error of [`VerifiedBlob`].
pub(crate) fn read_error(digest: Digest, error: io::Error) -> ReadError {
    error.downcast().unwrap_or_else(|source| ReadError::Io { digest, source })
}

impl Read for VerifiedBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let digest = self.digest;
        let count = match self.file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(source) => {
                let kind = source.kind();
                return Err(io::Error::new(kind, ReadError::Io { digest, source }));
            }
            Ok(count) => count,
        };
        let Some(mut hasher) = self.hasher.take() else {
            // Checked, and yet there is more: the file grew meanwhile.
            return if count == 0 { Ok(0) } else { Err(invalid(self.corrupt())) };
        };
        hasher.update(&buffer[..count]);
        if count > 0 && hasher.bytes() < self.len {
            self.hasher = Some(hasher);
            return Ok(count);
        }
        if hasher.bytes() == self.len && hasher.clone().finish() == digest {
            return Ok(count);
        }
        // Left unfinished, so that asking again gives the same answer.
        self.hasher = Some(hasher);
        Err(invalid(self.corrupt()))
    }
}

fn invalid(error: ReadError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Store {
    /// Opens a blob for reading; its bytes are checked while they are read.
    pub fn open_blob(&self, digest: &Digest) -> Result<VerifiedBlob, ReadError> {
        VerifiedBlob::open(self.blobs_dir(), digest, || self.blob_path(digest))
    }

    /// The whole of a blob of at most `max` bytes, checked.
    pub fn read_blob(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ReadError> {
        self.open_blob(digest)?.read_all(max)
    }

    /// Whether the store has a blob of this name. Its content is checked when it is read.
    pub fn contains(&self, digest: &Digest) -> Result<bool, ReadError> {
        Ok(self.size_of(digest)?.is_some())
    }

    /// The size of a blob, if the store has it.
    pub(crate) fn size_of(&self, digest: &Digest) -> Result<Option<u64>, ReadError> {
        let stat = match statat(self.blobs_dir(), digest.hex(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(ReadError::Io { digest: *digest, source: errno.into() }),
            Ok(stat) => stat,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadError::NotRegular { digest: *digest, path: self.blob_path(digest) });
        }
        // A regular file's size is never negative.
        Ok(Some(stat.st_size.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn store_with(name: &Digest, content: &[u8]) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path()).expect("a new store");
        fs::write(store.blob_path(name), content).expect("a file");
        (directory, store)
    }

    #[test]
    fn the_last_bytes_are_withheld_from_a_reader_that_never_asks_for_the_end() {
        let digest = Digest::of(b"good content");
        let (_directory, store) = store_with(&digest, b"evil content");
        let mut blob = store.open_blob(&digest).expect("it is there");
        assert_eq!(blob.len(), 12);
        let mut first = [0; 6];
        blob.read_exact(&mut first).expect("not all yet");
        let refused = blob.read_exact(&mut first).expect_err("the last six");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains(&digest.to_string()), "{refused}");
        let refused = blob.read(&mut first).expect_err("still wrong");
        assert!(matches!(read_error(digest, refused), ReadError::Corrupt { .. }));
    }

    #[test]
    fn shorter_longer_and_emptied_files_are_refused() {
        let digest = Digest::of(b"content");
        for content in ["", "conten", "content!"] {
            let (_directory, store) = store_with(&digest, content.as_bytes());
            let refused = store.read_blob(&digest, 100).expect_err(content);
            assert!(matches!(refused, ReadError::Corrupt { .. }), "{content}: {refused}");
        }
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_refused() {
        let digest = Digest::of(b"content");
        let (_directory, store) = store_with(&digest, b"content");
        let mut blob = store.open_blob(&digest).expect("it is there");
        fs::write(store.blob_path(&digest), b"content and more").expect("a file");
        assert!(io::copy(&mut blob, &mut Vec::new()).is_err());
    }

    #[test]
    fn the_limit_is_exact_and_the_empty_blob_is_a_blob() {
        let digest = Digest::of(b"content");
        let (_directory, store) = store_with(&digest, b"content");
        assert_eq!(store.read_blob(&digest, 7).expect("fits"), b"content");
        let refused = store.read_blob(&digest, 6).expect_err("one too many");
        assert!(matches!(refused, ReadError::TooLarge { size: 7, max: 6, .. }));
        let (_directory, store) = store_with(&Digest::of(b""), b"");
        assert_eq!(store.read_blob(&Digest::of(b""), 0).expect("empty"), b"");
        let missing = store.read_blob(&digest, 7).expect_err("another store");
        assert!(matches!(missing, ReadError::Missing { .. }));
        assert!(!store.contains(&digest).expect("no error"));
    }

    #[test]
    fn links_directories_and_pipes_are_not_blobs() {
        let digest = Digest::of(b"secret");
        let directory = tempfile::tempdir().expect("temporary directory");
        let outside = directory.path().join("outside");
        fs::write(&outside, b"secret").expect("a file");
        let store = Store::open(&directory.path().join("store")).expect("a new store");
        let path = store.blob_path(&digest);
        let refuse = |what: &str| {
            let refused = store.read_blob(&digest, 100).expect_err(what);
            assert!(matches!(refused, ReadError::NotRegular { .. }), "{what}: {refused:?}");
            assert!(store.contains(&digest).is_err(), "{what}");
        };
        symlink(&outside, &path).expect("a link");
        refuse("link");
        fs::remove_file(&path).expect("the link");
        fs::create_dir(&path).expect("a directory");
        refuse("directory");
        fs::remove_dir(&path).expect("the directory");
        let pipe = (FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, pipe.0, pipe.1, 0).expect("a pipe");
        refuse("pipe");
    }
}
