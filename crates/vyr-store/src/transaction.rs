//! One change of the store: blobs gathered in a staging directory, then committed with their
//! index entries, or dropped without a trace. `put` and `import` are built on it.
//!
//! ```text
//! stage, link -> sync blobs -> [index.lock] -> write new index aside -> rename blobs -> sync
//!                                           -> rename index -> sync
//! ```
//!
//! The new index is written before any blob gets its name, so a full disk is met while nothing
//! has changed yet. Blobs are renamed before what names them, the index last: at every moment the
//! store is whole, and holds the artifact entirely or not at all.
//!
//! A blob the store already has is linked into the staging directory. gc may then remove the
//! store's name for it at any time: the commit puts it back.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use vyr_base::{Category, Digest, Hasher, Problem};

use crate::fault::{Context, FsError};
use crate::graph::{WalkError, walk};
use crate::index::IndexError;
use crate::layout::Store;
use crate::lock::{Hold, Lock, LockError};
use crate::oci::{Entry, MAX_MANIFEST_BYTES, Merge};
use crate::read::{ReadError, VerifiedBlob};
use crate::staging::StagingDir;
use crate::step::Step;

/// Largest blob: larger than any layer registries serve, small enough that sums never overflow.
pub const MAX_BLOB_BYTES: u64 = 64 << 30;

/// How much is read at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// The bytes of one blob were not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// More than any blob may have.
    #[error("blob {digest} has {size} bytes, more than {MAX_BLOB_BYTES}")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// The size it is said to have.
        size: u64,
    },
    /// There were more bytes than declared.
    #[error("blob {digest} goes on after its declared {size} bytes")]
    TooLong {
        /// Which blob.
        digest: Digest,
        /// The declared size.
        size: u64,
    },
    /// There were fewer bytes than declared.
    #[error("blob {digest} ends after {found} of its declared {size} bytes")]
    TooShort {
        /// Which blob.
        digest: Digest,
        /// The declared size.
        size: u64,
        /// How many there were.
        found: u64,
    },
    /// The bytes have another digest.
    #[error("bytes offered as blob {expected} are {found}")]
    WrongDigest {
        /// What they should be.
        expected: Digest,
        /// What they are.
        found: Digest,
    },
    /// The reader that offered them failed.
    #[error("cannot read the bytes offered as blob {digest}")]
    Source {
        /// Which blob.
        digest: Digest,
        /// The reader's error.
        source: io::Error,
    },
    /// The store's own blob of this name is no regular file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They could not be written.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for BlobError {
    fn category(&self) -> Category {
        match self {
            Self::Fs(source) => source.category(),
            Self::Read(source) => source.category(),
            Self::Source { .. } => Category::Transient,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Fs(source) => source.hint(),
            Self::Read(source) => source.hint(),
            Self::Source { .. } => Some("send it again".into()),
            Self::TooLarge { .. } => None,
            _ => Some("send the exact bytes the manifest names".into()),
        }
    }
}

/// What was gathered could not be committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A manifest names a blob that was not given and is not in the store.
    #[error("blob {digest} ({size} bytes) is named and was not given")]
    Missing {
        /// Which blob.
        digest: Digest,
        /// The size its manifest states.
        size: u64,
    },
    /// The manifests cannot be followed.
    #[error(transparent)]
    Walk(#[from] WalkError<ReadError>),
    /// Somebody else holds the store, and takes too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The index could not be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A blob's place could not be examined.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for CommitError {
    fn category(&self) -> Category {
        match self {
            Self::Missing { .. } => Category::Usage,
            Self::Walk(source) => source.category(),
            Self::Lock(source) => source.category(),
            Self::Index(source) => source.category(),
            Self::Read(source) => source.category(),
            Self::Fs(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { digest, .. } => Some(format!("give blob {digest} as well")),
            Self::Walk(source) => source.hint(),
            Self::Lock(source) => source.hint(),
            Self::Index(source) => source.hint(),
            Self::Read(source) => source.hint(),
            Self::Fs(source) => source.hint(),
        }
    }
}

/// Blobs on their way into the store.
#[derive(Debug)]
pub(crate) struct Transaction {
    store: Store,
    prefix: &'static str,
    /// Made with the first blob.
    dir: Option<StagingDir>,
    held: BTreeMap<Digest, Held>,
}

/// A blob in the staging directory.
#[derive(Debug, Clone, Copy)]
struct Held {
    size: u64,
    /// It is a link of a blob that was synced when it came into the store.
    linked: bool,
}

impl Transaction {
    pub(crate) fn new(store: &Store, prefix: &'static str) -> Self {
        Self { store: store.clone(), prefix, dir: None, held: BTreeMap::new() }
    }

    /// The blobs held, in digest order.
    pub(crate) fn held(&self) -> impl Iterator<Item = Digest> {
        self.held.keys().copied()
    }

    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.held.contains_key(digest)
    }

    fn dir(&mut self) -> Result<&StagingDir, FsError> {
        match &mut self.dir {
            Some(dir) => Ok(dir),
            none => {
                let dir = StagingDir::create(&self.store, self.prefix)?;
                self.store.step(Step::StagingMade);
                Ok(none.insert(dir))
            }
        }
    }

    /// The size of a held blob.
    pub(crate) fn held_size(&self, digest: &Digest) -> Option<u64> {
        self.held.get(digest).map(|held| held.size)
    }

    /// Holds the store's own blob, if it has one of this size; says whether it did.
    pub(crate) fn link(&mut self, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        if self.store.size_of(digest)? != Some(size) || !self.dir()?.link_blob(digest, size)? {
            return Ok(false);
        }
        self.store.step(Step::BlobLinked);
        self.held.insert(*digest, Held { size, linked: true });
        Ok(true)
    }

    /// Takes exactly `size` bytes whose digest is `digest` from `reader`.
    pub(crate) fn stage(
        &mut self,
        digest: &Digest,
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<(), BlobError> {
        if size > MAX_BLOB_BYTES {
            return Err(BlobError::TooLarge { digest: *digest, size });
        }
        let dir = self.dir()?;
        let mut file = dir.create_blob(digest)?;
        let mut write = |bytes: &[u8]| file.write_all(bytes).at("write", || dir.path(digest));
        if let Err(error) = copy_checked(digest, size, reader, &mut write) {
            dir.remove_blob(digest);
            return Err(error);
        }
        self.store.step(Step::BlobStaged);
        self.held.insert(*digest, Held { size, linked: false });
        Ok(())
    }

    /// Reads a held blob, checked again.
    pub(crate) fn read_held(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ReadError> {
        match &self.dir {
            Some(dir) if self.holds(digest) => {
                VerifiedBlob::open(dir.dir(), digest, || dir.path(digest))?.read_all(max)
            }
            _ => Err(ReadError::Missing { digest: *digest }),
        }
    }

    /// Makes `added` part of the store, with all they reach. All of it must be held or in the
    /// store. Changing nothing costs no sync.
    pub(crate) fn commit(self, added: &[Entry], merge: Merge) -> Result<(), CommitError> {
        let nodes = walk(added, &mut |entry| match self.holds(&entry.digest) {
            true => self.read_held(&entry.digest, MAX_MANIFEST_BYTES),
            false => self.store.read_blob(&entry.digest, MAX_MANIFEST_BYTES),
        })?;
        let store = &self.store;
        // From here on gc waits: what the store has now, it still has when the index says so.
        let _no_gc = store.lock(Lock::Gc, Hold::Shared)?;
        let mut lacking = Vec::new();
        for node in nodes {
            if store.size_of(&node.digest)? == Some(node.size) {
                continue;
            }
            match (self.held.get(&node.digest), &self.dir) {
                (Some(held), Some(dir)) if held.size == node.size => {
                    if !held.linked {
                        dir.sync_blob(&node.digest)?;
                    }
                    lacking.push((node.digest, dir));
                }
                _ => return Err(CommitError::Missing { digest: node.digest, size: node.size }),
            }
        }

        let _alone = store.lock(Lock::Index, Hold::Exclusive)?;
        let mut index = store.read_index()?;
        let changed = index.merge(added, merge);
        if !changed && lacking.is_empty() {
            return Ok(());
        }
        let staged = if changed { Some(store.stage_index(&index)?) } else { None };
        for (digest, dir) in lacking {
            dir.rename_blob(&digest)?;
            store.step(Step::BlobRenamed);
        }
        // Also for blobs that were there: whoever renamed them may not have come to this line.
        store.sync_blobs(Step::BlobsSynced)?;
        if let Some(staged) = staged {
            store.publish_index(staged)?;
        }
        Ok(())
    }
}

fn copy_checked(
    digest: &Digest,
    size: u64,
    reader: &mut dyn Read,
    write: &mut dyn FnMut(&[u8]) -> Result<(), FsError>,
) -> Result<(), BlobError> {
    let digest = *digest;
    // One byte more than needed, so that the end of a small blob is seen with one more read.
    let chunk = usize::try_from(size).map_or(CHUNK_BYTES, |size| size.saturating_add(1));
    let mut chunk = vec![0; chunk.min(CHUNK_BYTES)];
    let mut hasher = Hasher::new();
    loop {
        let count = match reader.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|source| BlobError::Source { digest, source })?,
        };
        if count == 0 {
            break;
        }
        if count as u64 > size - hasher.bytes() {
            return Err(BlobError::TooLong { digest, size });
        }
        hasher.update(&chunk[..count]);
        write(&chunk[..count])?;
    }
    if hasher.bytes() < size {
        return Err(BlobError::TooShort { digest, size, found: hasher.bytes() });
    }
    let found = hasher.finish();
    if found == digest { Ok(()) } else { Err(BlobError::WrongDigest { expected: digest, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(digest: &Digest, size: u64, mut bytes: &[u8]) -> Result<Vec<u8>, BlobError> {
        let mut written = Vec::new();
        copy_checked(digest, size, &mut bytes, &mut |piece| {
            written.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(written)
    }

    #[test]
    fn only_the_exact_bytes_are_taken() {
        let digest = Digest::of(b"bytes");
        assert_eq!(offer(&digest, 5, b"bytes").expect("exact"), b"bytes");
        let long = offer(&digest, 5, b"bytes!").expect_err("one more");
        assert!(matches!(long, BlobError::TooLong { size: 5, .. }));
        let short = offer(&digest, 6, b"bytes").expect_err("one fewer");
        assert!(matches!(short, BlobError::TooShort { size: 6, found: 5, .. }));
        let wrong = offer(&digest, 5, b"bites").expect_err("another letter");
        assert!(wrong.to_string().contains(&Digest::of(b"bites").to_string()), "{wrong}");
        assert_eq!(offer(&Digest::of(b""), 0, b"").expect("empty"), b"");
        assert!(offer(&Digest::of(b""), 0, b"x").is_err());
    }

    #[test]
    fn an_endless_reader_is_cut_off() {
        let digest = Digest::of(b"bytes");
        let mut endless = io::repeat(0);
        let mut written = 0;
        let refused = copy_checked(&digest, 1 << 20, &mut endless, &mut |piece| {
            written += piece.len();
            Ok(())
        });
        assert!(matches!(refused, Err(BlobError::TooLong { .. })));
        assert!(written <= 1 << 20);
    }
}
