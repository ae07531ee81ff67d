//! Putting an artifact: its manifest first, then the blobs it names, then the commit.
//!
//! Nothing is in the store before [`Put::commit`] returns; a put that is dropped leaves nothing
//! behind. Putting the same artifact again is cheap: what is there is not read again, and nothing
//! is synced.
//!
//! An artifact and its signature go in together through [`Put::also`]: either both are in the
//! index or neither is.

use std::collections::BTreeMap;
use std::io::Read;

use vyr_base::{Category, Digest, Problem};

use crate::layout::Store;
use crate::oci::{Entry, MAX_MANIFEST_BYTES, Manifest, ManifestError, Merge, is_manifest};
use crate::read::ReadError;
use crate::transaction::{BlobError, CommitError, Transaction};

/// An artifact was not put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The manifest is not one.
    #[error("manifest {digest} cannot be put")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The blob belongs to no manifest of this put.
    #[error("blob {digest} is not named by manifest {manifest}")]
    Unnamed {
        /// The blob.
        digest: Digest,
        /// The manifest this put began with.
        manifest: Digest,
    },
    /// The blob is offered with another size than its manifest states.
    #[error("blob {digest} is offered with {offered} bytes; its manifest states {stated}")]
    Size {
        /// The blob.
        digest: Digest,
        /// The size it is offered with.
        offered: u64,
        /// The size its manifest states.
        stated: u64,
    },
    /// The bytes of a blob were not taken.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A nested manifest could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Problem for PutError {
    fn category(&self) -> Category {
        match self {
            Self::Manifest { .. } | Self::Unnamed { .. } | Self::Size { .. } => Category::Usage,
            Self::Blob(source) => source.category(),
            Self::Read(source) => source.category(),
            Self::Commit(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest { .. } => None,
            Self::Unnamed { .. } | Self::Size { .. } => {
                Some("send the blobs of this manifest, and only those".into())
            }
            Self::Blob(source) => source.hint(),
            Self::Read(source) => source.hint(),
            Self::Commit(source) => source.hint(),
        }
    }
}

/// An artifact on its way into the store.
#[derive(Debug)]
pub struct Put {
    transaction: Transaction,
    /// What becomes an index entry; the first is the artifact itself.
    manifests: Vec<(Entry, Vec<u8>)>,
    /// What may be given.
    named: BTreeMap<Digest, Entry>,
}

impl Store {
    /// Begins to put the artifact with this manifest. Nothing is written yet.
    ///
    /// `annotations` become those of its index entry; `vyr.subject` is set by the store.
    pub fn begin_put(
        &self,
        manifest: &[u8],
        media_type: &str,
        annotations: BTreeMap<String, String>,
    ) -> Result<Put, PutError> {
        let transaction = Transaction::new(self, "put");
        let mut put = Put { transaction, manifests: Vec::new(), named: BTreeMap::new() };
        put.also(manifest, media_type, annotations)?;
        Ok(put)
    }
}

impl Put {
    /// The artifact's digest: that of the manifest this put began with.
    pub fn digest(&self) -> Digest {
        self.manifests[0].0.digest
    }

    /// Adds another manifest that becomes an entry in the same commit, such as a signature.
    pub fn also(
        &mut self,
        manifest: &[u8],
        media_type: &str,
        annotations: BTreeMap<String, String>,
    ) -> Result<Digest, PutError> {
        let (entry, links) = Entry::describe(manifest, media_type, annotations)
            .map_err(|source| PutError::Manifest { digest: Digest::of(manifest), source })?;
        let digest = entry.digest;
        self.name(&links);
        self.manifests.push((entry, manifest.to_vec()));
        Ok(digest)
    }

    fn name(&mut self, manifest: &Manifest) {
        let links = manifest.leaves().chain(manifest.children());
        self.named.extend(links.map(|link| (link.digest, link.clone())));
    }

    /// Takes one blob: exactly `size` bytes with this digest.
    ///
    /// `reader` is not read when the store has the blob already. After an error the same blob may
    /// be offered again.
    pub fn blob(
        &mut self,
        digest: &Digest,
        size: u64,
        reader: &mut dyn Read,
    ) -> Result<(), PutError> {
        let digest = *digest;
        let Some(link) = self.named.get(&digest) else {
            return Err(PutError::Unnamed { digest, manifest: self.digest() });
        };
        if link.size != size {
            return Err(PutError::Size { digest, offered: size, stated: link.size });
        }
        if self.transaction.holds(&digest) {
            return Ok(());
        }
        let media_type = link.media_type.clone();
        if !self.transaction.link(&digest, size)? {
            self.transaction.stage(&digest, size, reader)?;
        }
        if is_manifest(&media_type) {
            // A child of an index: from now on its blobs are named as well.
            let bytes = self.transaction.read_held(&digest, MAX_MANIFEST_BYTES)?;
            let child = Manifest::parse(&bytes, &media_type)
                .map_err(|source| PutError::Manifest { digest, source })?;
            self.name(&child);
        }
        Ok(())
    }

    /// Makes the artifact part of the store, durably, with everything it names.
    pub fn commit(self) -> Result<Digest, PutError> {
        let digest = self.digest();
        let Self { mut transaction, manifests, .. } = self;
        for (entry, bytes) in &manifests {
            let held = transaction.holds(&entry.digest);
            if !held && !transaction.link(&entry.digest, entry.size)? {
                transaction.stage(&entry.digest, entry.size, &mut bytes.as_slice())?;
            }
        }
        let entries: Vec<Entry> = manifests.into_iter().map(|(entry, _)| entry).collect();
        transaction.commit(&entries, Merge::Update)?;
        Ok(digest)
    }
}
