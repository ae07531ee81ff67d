//! Taking bytes whose digest is not known yet: outputs and inputs of tasks.
//!
//! They are hashed while they are written. Up to [`SMALL_BYTES`] they stay in memory, because
//! most outputs are small and the journal takes those itself ([`Staged::small`]).
//!
//! A committed output has no index entry. Its file is as young as the commit, also when the store
//! had the same bytes before, so gc's minimum age protects it until an event names it.

use std::io::{self, Write};

use vyr_base::{Category, Digest, Hasher, Problem};

use crate::fault::FsError;
use crate::layout::Store;
use crate::lock::{Hold, Lock, LockError};
use crate::staging::StagingFile;
use crate::step::Step;
use crate::transaction::MAX_BLOB_BYTES;

/// Up to this size no file is made before the commit: the journal's own limit for contents.
pub const SMALL_BYTES: usize = 64 << 10;

/// Staged bytes were not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// An earlier write failed, so the bytes are not all there.
    #[error("staged bytes are incomplete: an earlier write failed")]
    Incomplete,
    /// More bytes than any blob may have.
    #[error("staged bytes are more than {MAX_BLOB_BYTES}")]
    TooLarge,
    /// gc holds the store, and takes too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for StageError {
    fn category(&self) -> Category {
        match self {
            Self::Incomplete => Category::Internal,
            Self::TooLarge => Category::Usage,
            Self::Lock(source) => source.category(),
            Self::Fs(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Incomplete | Self::TooLarge => None,
            Self::Lock(source) => source.hint(),
            Self::Fs(source) => source.hint(),
        }
    }
}

/// Bytes on their way into the store. Dropping them removes them.
///
/// After a write has failed nothing can be committed; the write's error wraps an [`FsError`].
#[derive(Debug)]
pub struct Staged {
    store: Store,
    hasher: Hasher,
    /// All bytes while there is no file; nothing afterwards.
    buffer: Vec<u8>,
    file: Option<StagingFile>,
    failed: bool,
}

impl Store {
    /// Begins to take bytes. Nothing is written yet.
    pub fn stage(&self) -> Staged {
        let hasher = Hasher::new();
        Staged { store: self.clone(), hasher, buffer: Vec::new(), file: None, failed: false }
    }
}

impl Staged {
    /// How many bytes were taken.
    pub fn len(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes, if they are at most [`SMALL_BYTES`]: a caller that keeps them elsewhere takes
    /// them from here and drops the rest.
    pub fn small(&self) -> Option<&[u8]> {
        (self.file.is_none() && !self.failed).then_some(&self.buffer)
    }

    /// Makes the bytes a blob of the store, durably; says its digest and size.
    pub fn commit(mut self) -> Result<(Digest, u64), StageError> {
        if self.failed {
            return Err(StageError::Incomplete);
        }
        self.spill()?;
        let Self { store, hasher, file, .. } = self;
        let (size, digest) = (hasher.bytes(), hasher.finish());
        let file = file.ok_or(StageError::Incomplete)?;
        file.sync(Step::OutputSynced)?;
        // Without the lock gc could see an old blob of this name, and remove the new one.
        let _no_gc = store.lock(Lock::Gc, Hold::Shared)?;
        file.rename(store.blobs_dir(), &digest.hex())?;
        store.step(Step::OutputRenamed);
        store.sync_blobs(Step::OutputDurable)?;
        Ok((digest, size))
    }

    /// Moves what is in memory to a file, if there is none yet.
    fn spill(&mut self) -> Result<(), FsError> {
        if self.file.is_none() {
            let mut file = StagingFile::create(&self.store, "output")?;
            file.write_all(&self.buffer)?;
            self.file = Some(file);
            self.buffer = Vec::new();
            self.store.step(Step::OutputSpilled);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        if self.file.is_none() && self.buffer.len() + bytes.len() <= SMALL_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.spill()?;
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other(StageError::Incomplete));
        }
        if self.len() + bytes.len() as u64 > MAX_BLOB_BYTES {
            self.failed = true;
            return Err(io::Error::other(StageError::TooLarge));
        }
        match self.take(bytes) {
            Ok(()) => {
                self.hasher.update(bytes);
                Ok(bytes.len())
            }
            Err(fault) => {
                self.failed = true;
                Err(io::Error::new(fault.source.kind(), fault))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
