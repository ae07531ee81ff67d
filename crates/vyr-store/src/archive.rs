//! Export: artifacts and their referrers as a tarball of an OCI image layout.
//!
//! The bytes depend on the artifacts alone: entries are sorted, times and owners are zero. Every
//! blob is checked while it is copied. `skopeo inspect --raw oci-archive:FILE` reads an archive of
//! one unsigned artifact; with signatures there are several manifests, and skopeo wants a name:
//! `oci-archive:FILE:NAME`, where the name is the artifact's own, or the first twelve digits of
//! its digest (`--raw` because a Wasm artifact is no container image; `--config --raw` shows its
//! config).
//!
//! Not here: replacing a file with the archive as a whole (the caller's writer), import.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};
use vyr_base::canonical::{self, CanonicalError};
use vyr_base::{Category, Digest, Problem};

use crate::fault;
use crate::graph::{WalkError, walk};
use crate::index::{IndexError, ListError};
use crate::layout::Store;
use crate::oci::{Entry, Index, LayoutMarker, MAX_MANIFEST_BYTES, REF_NAME, SUBJECT_HINT};
use crate::read::ReadError;

/// How many hex digits of its digest name an artifact that has no name.
const SHORT_NAME_DIGITS: usize = 12;

/// An archive was not written, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// No artifact was named.
    #[error("no artifact to export")]
    Nothing,
    /// The index has no such entry.
    #[error("artifact {digest} is not in this store")]
    Missing {
        /// Which artifact.
        digest: Digest,
    },
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Referrers could not be found.
    #[error(transparent)]
    List(#[from] ListError),
    /// What the artifact names could not be followed.
    #[error(transparent)]
    Walk(#[from] WalkError<ReadError>),
    /// A blob is missing or damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The archive's index has no canonical form.
    #[error("index of the archive cannot be written as canonical JSON")]
    Encode(#[from] CanonicalError),
    /// The writer failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl Problem for ExportError {
    fn category(&self) -> Category {
        match self {
            Self::Nothing | Self::Encode(_) => Category::Usage,
            Self::Missing { .. } => Category::NotFound,
            Self::Index(source) => source.category(),
            Self::List(source) => source.category(),
            Self::Walk(source) => source.category(),
            Self::Read(source) => source.category(),
            Self::Write(source) => fault::category(source),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("name at least one digest".into()),
            Self::Missing { .. } => Some("list what is there: vyr artifact ls".into()),
            Self::Index(source) => source.hint(),
            Self::List(source) => source.hint(),
            Self::Walk(source) => source.hint(),
            Self::Read(source) => source.hint(),
            Self::Encode(_) => None,
            Self::Write(_) => Some("do not use what was written of the archive".into()),
        }
    }
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The entries of its index, in digest order: what was asked for, and its referrers.
    pub manifests: Vec<Entry>,
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl Store {
    /// Writes `artifacts`, their referrers and all their blobs to `writer` as one archive.
    ///
    /// After an error the writer has an incomplete archive: write to a temporary file and rename
    /// it on success.
    pub fn export(
        &self,
        artifacts: &[Digest],
        writer: impl Write,
    ) -> Result<Exported, ExportError> {
        let manifests = self.selection(artifacts)?;
        let mut nodes =
            walk(&manifests, &mut |entry| self.read_blob(&entry.digest, MAX_MANIFEST_BYTES))?;
        nodes.sort_unstable_by_key(|node| node.digest);
        let exported = Exported {
            blobs: nodes.len() as u64,
            bytes: nodes.iter().map(|node| node.size).sum(),
            manifests,
        };
        let index = Index { manifests: exported.manifests.clone(), ..Index::empty() };
        let index = canonical::to_vec(&index)?;

        let mut archive = Builder::new(writer);
        append(&mut archive, "oci-layout", &LayoutMarker::bytes())?;
        append(&mut archive, "index.json", &index)?;
        for directory in ["blobs/", "blobs/sha256/"] {
            let header = header(directory, EntryType::Directory, 0)?;
            archive.append(&header, io::empty()).map_err(ExportError::Write)?;
        }
        for node in &nodes {
            let digest = node.digest;
            let blob = self.open_blob(&digest)?;
            if blob.len() != node.size {
                return Err(ReadError::Corrupt { digest, path: self.blob_path(&digest) }.into());
            }
            let name = format!("blobs/sha256/{}", digest.hex());
            let header = header(&name, EntryType::Regular, node.size)?;
            archive.append(&header, blob).map_err(copy_error)?;
        }
        let mut writer = archive.into_inner().map_err(ExportError::Write)?;
        writer.flush().map_err(ExportError::Write)?;
        Ok(exported)
    }

    /// The entries of `artifacts` and of everything that refers to them, as an archive lists them.
    fn selection(&self, artifacts: &[Digest]) -> Result<Vec<Entry>, ExportError> {
        let index = self.read_index()?;
        let mut chosen: Vec<Entry> = Vec::new();
        for digest in artifacts {
            let entry = index.manifests.iter().find(|entry| entry.digest == *digest);
            let entry = entry.ok_or(ExportError::Missing { digest: *digest })?;
            if !chosen.iter().any(|known| known.digest == *digest) {
                let mut entry = entry.clone();
                let short = || digest.hex()[..SHORT_NAME_DIGITS].to_owned();
                entry.annotations.entry(REF_NAME.to_owned()).or_insert_with(short);
                chosen.push(entry);
            }
        }
        if chosen.is_empty() {
            return Err(ExportError::Nothing);
        }
        // Grows while it is walked: a signature may be signed in turn.
        let mut next = 0;
        while let Some(subject) = chosen.get(next).map(|entry| entry.digest) {
            for referrer in self.referrers_in(&index, &subject)? {
                if !chosen.iter().any(|known| known.digest == referrer.digest) {
                    chosen.push(referrer);
                }
            }
            next += 1;
        }
        for entry in &mut chosen {
            entry.annotations.remove(SUBJECT_HINT);
        }
        chosen.sort_unstable_by_key(|entry| entry.digest);
        Ok(chosen)
    }
}

/// Drops the name an export gives to what has none, so that an import adds no names.
pub(crate) fn forget_short_name(entry: &mut Entry) {
    let short = &entry.digest.hex()[..SHORT_NAME_DIGITS];
    if entry.annotations.get(REF_NAME).is_some_and(|name| name == short) {
        entry.annotations.remove(REF_NAME);
    }
}

fn append(
    archive: &mut Builder<impl Write>,
    name: &str,
    content: &[u8],
) -> Result<(), ExportError> {
    let header = header(name, EntryType::Regular, content.len() as u64)?;
    archive.append(&header, content).map_err(ExportError::Write)
}

/// A header that says nothing about when, where and by whom it was made.
fn header(name: &str, kind: EntryType, size: u64) -> Result<Header, ExportError> {
    let mut header = Header::new_ustar();
    header.set_path(name).map_err(ExportError::Write)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Tells the blob's error from the writer's.
fn copy_error(error: io::Error) -> ExportError {
    match error.downcast::<ReadError>() {
        Ok(read) => read.into(),
        Err(write) => ExportError::Write(write),
    }
}
