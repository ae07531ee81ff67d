//! `index.json`: reading, replacing, listing, finding referrers, removing entries.
//!
//! Reading takes no lock: the file is only ever replaced as a whole. Whoever changes it holds
//! `index.lock` from before it is read until the new one is durable.
//!
//! Not here: adding entries (`transaction`), removing blobs (`gc`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use vyr_base::canonical::{self, CanonicalError};
use vyr_base::{Category, Digest, Problem};

use crate::fault::FsError;
use crate::layout::{Store, read_small};
use crate::lock::{Hold, Lock, LockError};
use crate::oci::{
    Entry, Index, MAX_MANIFEST_BYTES, Manifest, ManifestError, NO_SUBJECT, SUBJECT_HINT,
    is_manifest,
};
use crate::read::ReadError;
use crate::staging::StagingFile;
use crate::step::Step;

/// Largest `index.json`: some forty thousand artifacts. It is read by every command and written
/// by every put, so a larger one would no longer be quick.
pub const MAX_INDEX_BYTES: u64 = 16 << 20;

/// The index could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The store is marked as one and has no index.
    #[error("{} is gone", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is not an OCI image index.
    #[error("{} is damaged", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// One more entry would make it too large.
    #[error("index would have {bytes} bytes, more than {MAX_INDEX_BYTES}")]
    Full {
        /// The size it would have.
        bytes: u64,
    },
    /// An entry has no canonical form.
    #[error("index cannot be written as canonical JSON")]
    Encode(#[source] CanonicalError),
    /// A system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for IndexError {
    fn category(&self) -> Category {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } => Category::Internal,
            Self::Full { .. } => Category::Conflict,
            Self::Encode(_) => Category::Usage,
            Self::Fs(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path } | Self::Corrupt { path, .. } => Some(format!(
                "restore {} from a copy, or move the whole store away and put its artifacts again",
                path.display()
            )),
            Self::Full { .. } => Some("remove artifacts that are no longer needed".into()),
            Self::Encode(_) => None,
            Self::Fs(source) => source.hint(),
        }
    }
}

/// Entries or referrers could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A manifest that should confirm a referrer could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A manifest that should confirm a referrer is none.
    #[error("cannot use manifest {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
}

impl Problem for ListError {
    fn category(&self) -> Category {
        match self {
            Self::Index(source) => source.category(),
            Self::Read(source) => source.category(),
            Self::Manifest { .. } => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Index(source) => source.hint(),
            Self::Read(source) => source.hint(),
            Self::Manifest { .. } => None,
        }
    }
}

/// An artifact could not be removed from the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The index has no such entry.
    #[error("artifact {digest} is not in this store")]
    Missing {
        /// Which artifact.
        digest: Digest,
    },
    /// The index could not be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Somebody else is changing the index, and takes too long.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Problem for RemoveError {
    fn category(&self) -> Category {
        match self {
            Self::Missing { .. } => Category::NotFound,
            Self::Index(source) => source.category(),
            Self::Lock(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("list what is there: vyr artifact ls".into()),
            Self::Index(source) => source.hint(),
            Self::Lock(source) => source.hint(),
        }
    }
}

/// What an entry's annotation says about its manifest's subject.
enum Hint {
    Unknown,
    None,
    Some(Digest),
}

fn hint(entry: &Entry) -> Hint {
    match entry.annotations.get(SUBJECT_HINT).map(String::as_str) {
        Some(NO_SUBJECT) => Hint::None,
        // A text we did not write says nothing.
        Some(text) => text.parse().map_or(Hint::Unknown, Hint::Some),
        None => Hint::Unknown,
    }
}

impl Store {
    /// Every artifact of the store, signatures included, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, IndexError> {
        Ok(self.read_index()?.manifests)
    }

    /// The entries whose manifests name `subject` as theirs, of one artifact type or of all.
    ///
    /// The index's annotations only tell where to look; every entry returned was confirmed by its
    /// manifest, and has the artifact type the manifest states. An entry that is annotated as a
    /// referrer of `subject` and cannot be read is an error. One without any annotation (another
    /// tool's) that cannot be read is passed over: it must not block every other artifact.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Entry>, ListError> {
        let mut found = self.referrers_in(&self.read_index()?, subject)?;
        found.retain(|entry| {
            artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type
        });
        Ok(found)
    }

    pub(crate) fn referrers_in(
        &self,
        index: &Index,
        subject: &Digest,
    ) -> Result<Vec<Entry>, ListError> {
        let mut found = Vec::new();
        for entry in index.manifests.iter().filter(|entry| is_manifest(&entry.media_type)) {
            let hint = hint(entry);
            match hint {
                Hint::None => continue,
                Hint::Some(other) if other != *subject => continue,
                Hint::Some(_) | Hint::Unknown => {}
            }
            match self.read_manifest(entry) {
                Ok(manifest) if manifest.subject.as_ref().is_some_and(|s| s.digest == *subject) => {
                    let artifact_type = manifest.artifact_type().map(str::to_owned);
                    found.push(Entry { artifact_type, ..entry.clone() });
                }
                Err(error) if matches!(hint, Hint::Some(_)) => return Err(error),
                _ => {}
            }
        }
        Ok(found)
    }

    fn read_manifest(&self, entry: &Entry) -> Result<Manifest, ListError> {
        let digest = entry.digest;
        let bytes = self.read_blob(&digest, MAX_MANIFEST_BYTES)?;
        Manifest::parse(&bytes, &entry.media_type)
            .map_err(|source| ListError::Manifest { digest, source })
    }

    /// Takes an artifact and its referrers (its signatures, and theirs) out of the index; says
    /// which entries went. Blobs stay until gc.
    ///
    /// A referrer whose manifest cannot be read goes by its annotation: damage must not keep an
    /// artifact in the store.
    pub fn remove(&self, digest: &Digest) -> Result<Vec<Entry>, RemoveError> {
        let _alone = self.lock(Lock::Index, Hold::Exclusive)?;
        let mut index = self.read_index()?;
        if !index.manifests.iter().any(|entry| entry.digest == *digest) {
            return Err(RemoveError::Missing { digest: *digest });
        }
        let mut going = BTreeSet::from([*digest]);
        loop {
            let refers = |entry: &&Entry| match self.subject_of(entry) {
                Some(subject) => going.contains(&subject) && !going.contains(&entry.digest),
                None => false,
            };
            let more: Vec<Digest> =
                index.manifests.iter().filter(refers).map(|entry| entry.digest).collect();
            if more.is_empty() {
                break;
            }
            going.extend(more);
        }
        let (gone, kept) =
            index.manifests.into_iter().partition(|entry| going.contains(&entry.digest));
        index.manifests = kept;
        let staged = self.stage_index(&index)?;
        self.publish_index(staged)?;
        Ok(gone)
    }

    /// The subject of an entry's manifest, or of its annotation when the manifest is unreadable.
    fn subject_of(&self, entry: &Entry) -> Option<Digest> {
        let hinted = match hint(entry) {
            Hint::None => return None,
            Hint::Some(subject) => Some(subject),
            Hint::Unknown => None,
        };
        match self.read_manifest(entry) {
            Ok(manifest) => manifest.subject.map(|subject| subject.digest),
            Err(_) => hinted,
        }
    }

    pub(crate) fn read_index(&self) -> Result<Index, IndexError> {
        let path = || self.path("index.json");
        let bytes = read_small(self.root_dir(), "index.json", MAX_INDEX_BYTES, path)?
            .ok_or_else(|| IndexError::Missing { path: path() })?;
        Index::parse(&bytes).map_err(|source| IndexError::Corrupt { path: path(), source })
    }

    /// Writes and syncs a new index under a temporary name.
    pub(crate) fn stage_index(&self, index: &Index) -> Result<StagingFile, IndexError> {
        let encoded = canonical::to_vec(index).map_err(IndexError::Encode)?;
        let bytes = encoded.len() as u64;
        if bytes > MAX_INDEX_BYTES {
            return Err(IndexError::Full { bytes });
        }
        let mut staged = StagingFile::create(self, "index")?;
        staged.write_all(&encoded)?;
        staged.sync(Step::IndexStaged)?;
        Ok(staged)
    }

    /// Puts a staged index in the old one's place. The caller holds `index.lock` since before it
    /// read the old one.
    pub(crate) fn publish_index(&self, staged: StagingFile) -> Result<(), IndexError> {
        staged.rename(self.root_dir(), "index.json")?;
        self.step(Step::IndexRenamed);
        Ok(self.sync_root(Step::IndexSynced)?)
    }
}
