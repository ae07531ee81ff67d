//! Import: reading an archive that may be hostile.
//!
//! Nothing is unpacked by its path. The only names accepted are `oci-layout`, `index.json`,
//! `blobs/sha256/<64 hex>` and the directories they lie in; links, devices, sparse files and long
//! names are refused. Blobs go to a staging directory, each checked against the digest in its
//! name while it is written. Then the index is followed, and the archive must hold exactly what
//! it reaches: nothing less, nothing more.
//!
//! The result is an open transaction: the caller reads its manifests and signatures, decides
//! whether to trust them, and commits or drops it. Until then the store is as it was.
//!
//! Deliberately elsewhere: judging signatures (`vyr-artifact`), decompression (the caller's
//! business, because a bomb is only a bomb when it is unpacked).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read};

use tar::{Archive, EntryType};
use vyr_base::{Category, Digest, Problem};

use crate::archive::forget_short_name;
use crate::fault;
use crate::graph::{WalkError, walk};
use crate::layout::Store;
use crate::oci::{
    Entry, Index, LAYOUT_VERSION, LayoutMarker, MAX_MANIFEST_BYTES, ManifestError, Merge,
    SUBJECT_HINT,
};
use crate::read::ReadError;
use crate::transaction::{BlobError, CommitError, Transaction};

/// Largest `index.json` of an archive: thousands of artifacts, and a bound on what one archive
/// can add to the store's own index.
const MAX_ARCHIVE_INDEX_BYTES: u64 = 1 << 20;

/// Largest `oci-layout` of an archive: ours has 30 bytes.
const MAX_ARCHIVE_MARKER_BYTES: u64 = 4096;

/// Largest extended header: GNU tar's have some hundred bytes.
const MAX_PAX_BYTES: u64 = 16 << 10;

/// What the first bytes of compressed files are.
const COMPRESSED: [(&str, &[u8]); 5] = [
    ("gzip", &[0x1f, 0x8b]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z']),
    ("bzip2", b"BZh"),
    ("zip", b"PK\x03\x04"),
];

/// What an archive may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// All its files together.
    pub total_bytes: u64,
    /// One blob.
    pub blob_bytes: u64,
    /// Files, directories and extended headers.
    pub entries: u64,
}

impl Default for ImportLimits {
    /// Room for a site's images and artifacts: 16 GiB in all, 4 GiB a blob, 65,536 entries.
    fn default() -> Self {
        Self { total_bytes: 16 << 30, blob_bytes: 4 << 30, entries: 1 << 16 }
    }
}

/// An archive was refused; the store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is compressed.
    #[error("archive is compressed with {0}")]
    Compressed(&'static str),
    /// It is no tar archive.
    #[error("not a tar archive")]
    NotTar(#[source] io::Error),
    /// It ends too early.
    #[error("archive ends too early")]
    Truncated(#[source] io::Error),
    /// It could not be read.
    #[error("cannot read the archive")]
    Source(#[source] io::Error),
    /// A name that no layout has.
    #[error("archive holds {name:?}, which has no place in an image layout")]
    Name {
        /// The name, cut to 120 characters.
        name: String,
    },
    /// Something that is neither a file nor a directory.
    #[error("archive holds {name:?} as {kind}, not as a plain file")]
    Kind {
        /// The name, cut to 120 characters.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The same file twice.
    #[error("archive holds {name:?} twice")]
    Duplicate {
        /// Which.
        name: String,
    },
    /// An extended header that changes what an entry is.
    #[error("archive has an extended header with {key:?}")]
    Extended {
        /// Its key, cut to 120 characters.
        key: String,
    },
    /// More than [`ImportLimits`] or this crate's own bounds allow.
    #[error("archive has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// It lacks `oci-layout` or `index.json`.
    #[error("archive has no {0}")]
    Lacks(&'static str),
    /// Its `oci-layout` is not one.
    #[error("oci-layout of the archive is damaged")]
    Marker(#[source] serde_json::Error),
    /// Its layout has another version.
    #[error("archive has image layout version {found:?}, not {LAYOUT_VERSION:?}")]
    Version {
        /// The version it has.
        found: String,
    },
    /// Its index is not one.
    #[error("index.json of the archive is damaged")]
    Index(#[source] ManifestError),
    /// Its index names nothing.
    #[error("archive holds no artifact")]
    Empty,
    /// An entry of its index is no manifest.
    #[error("manifest {digest} of the archive cannot be imported")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Its index cannot be followed.
    #[error(transparent)]
    Walk(#[from] WalkError<ReadError>),
    /// Something it names is not in it.
    #[error("archive names blob {digest} ({size} bytes) and does not hold it")]
    Missing {
        /// Which blob.
        digest: Digest,
        /// The size it should have.
        size: u64,
    },
    /// Something in it is named by nothing.
    #[error("archive holds blob {digest}, which nothing in it names")]
    Unreferenced {
        /// Which blob.
        digest: Digest,
    },
    /// A blob was not taken.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A staged manifest could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Problem for ImportError {
    fn category(&self) -> Category {
        match self {
            Self::Source(source) => fault::category(source),
            // The archive is at fault when it offers wrong bytes, the disk when it is full.
            Self::Blob(BlobError::Source { .. }) => Category::Usage,
            Self::Blob(source) => source.category(),
            Self::Walk(WalkError::Read { source: ReadError::Missing { .. }, .. }) => {
                Category::Usage
            }
            Self::Walk(source) => source.category(),
            Self::Read(source) => source.category(),
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Compressed("zip") => "an OCI archive is a tar file".into(),
            Self::Compressed(tool) => format!("decompress it first: {tool} -d FILE"),
            Self::NotTar(_) | Self::Lacks(_) => {
                "make one: vyr artifact export, or skopeo copy SOURCE oci-archive:FILE".into()
            }
            Self::Name { .. } => {
                "if it is from docker save: skopeo copy docker-archive:FILE oci-archive:OTHER"
                    .into()
            }
            Self::Truncated(_) | Self::Missing { .. } => "copy the archive again".into(),
            Self::Limit { .. } => "split it, or raise the limit if you trust its source".into(),
            Self::Source(_) => return None,
            Self::Walk(source) => return source.hint(),
            Self::Blob(BlobError::Fs(source)) => return source.hint(),
            Self::Read(source) => return source.hint(),
            _ => "ask whoever made the archive for another one".into(),
        })
    }
}

/// An archive that was read and found whole, and is not yet in the store.
///
/// Dropping it leaves the store as it was.
#[derive(Debug)]
pub struct Import {
    transaction: Transaction,
    manifests: Vec<Entry>,
}

/// What an import added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The entries of the archive's index, whether the store had them before or not.
    pub manifests: Vec<Entry>,
}

impl Store {
    /// Reads an archive into staging and checks that it is whole.
    ///
    /// Nothing in the store changes before [`Import::commit`]. The caller verifies signatures in
    /// between.
    pub fn import(&self, reader: impl Read, limits: &ImportLimits) -> Result<Import, ImportError> {
        let mut reading = Reading {
            transaction: Transaction::new(self, "import"),
            limits: *limits,
            marker: None,
            index: None,
        };
        reading.archive(reader)?;
        reading.finish()
    }
}

impl Import {
    /// The entries of the archive's index: artifacts and their signatures.
    pub fn manifests(&self) -> &[Entry] {
        &self.manifests
    }

    /// The archive's entries whose manifests name `subject`, of one artifact type or of all.
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Vec<Entry> {
        let subject = subject.to_string();
        let refers = |entry: &&Entry| {
            // Written by `finish` from the manifest itself, not taken from the archive.
            entry.annotations.get(SUBJECT_HINT) == Some(&subject)
                && (artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type)
        };
        self.manifests.iter().filter(refers).cloned().collect()
    }

    /// The whole of a blob of the archive of at most `max` bytes, checked again.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ReadError> {
        self.transaction.read_held(digest, max)
    }

    /// Makes all of it part of the store, durably. An entry the store has already stays as it is.
    pub fn commit(self) -> Result<Imported, CommitError> {
        let Self { transaction, manifests } = self;
        transaction.commit(&manifests, Merge::Keep)?;
        Ok(Imported { manifests })
    }
}

/// An archive that is being read.
struct Reading {
    transaction: Transaction,
    limits: ImportLimits,
    marker: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
}

/// What a name in an archive stands for.
enum Place {
    Directory,
    Marker,
    Index,
    Blob(Digest),
}

impl Reading {
    fn archive(&mut self, mut reader: impl Read) -> Result<(), ImportError> {
        let mut head = Vec::with_capacity(512);
        reader.by_ref().take(512).read_to_end(&mut head).map_err(ImportError::Source)?;
        let magic = COMPRESSED.iter().find(|(_, magic)| head.starts_with(magic));
        if let Some((tool, _)) = magic {
            return Err(ImportError::Compressed(tool));
        }
        if (1..512).contains(&head.len()) {
            let short = io::Error::other("it is shorter than one block");
            return Err(ImportError::NotTar(short));
        }
        let ended = Cell::new(false);
        let reader = Watched { reader: Cursor::new(head).chain(reader), ended: &ended };
        let tar_error = |error| tar_error(error, ended.get());
        let mut archive = Archive::new(reader);
        // Raw: this crate, and not the tar crate, decides what extended headers may say, and how
        // much of them is read into memory.
        let entries = archive.entries().map_err(tar_error)?.raw(true);
        let (mut count, mut total) = (0u64, 0u64);
        for entry in entries {
            let mut entry = entry.map_err(tar_error)?;
            let limits = self.limits;
            count += 1;
            if count > limits.entries {
                return Err(ImportError::Limit { what: "entries", limit: limits.entries });
            }
            total = total.saturating_add(entry.size());
            if total > limits.total_bytes {
                return Err(ImportError::Limit { what: "bytes", limit: limits.total_bytes });
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (kind, size) = (entry.header().entry_type(), entry.size());
            self.entry(&name, kind, size, &mut entry)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        name: &str,
        kind: EntryType,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ImportError> {
        match kind {
            EntryType::Regular | EntryType::Directory => {}
            EntryType::XHeader => return check_extended(&read_whole(size, content, EXTENDED)?),
            other => return Err(ImportError::Kind { name: cut(name), kind: describe(other) }),
        }
        let place = place(name).ok_or_else(|| ImportError::Name { name: cut(name) })?;
        match (place, kind) {
            (Place::Directory, EntryType::Directory) if size == 0 => Ok(()),
            (Place::Marker, EntryType::Regular) => {
                fill(&mut self.marker, name, &read_whole(size, content, MARKER)?)
            }
            (Place::Index, EntryType::Regular) => {
                fill(&mut self.index, name, &read_whole(size, content, INDEX)?)
            }
            (Place::Blob(digest), EntryType::Regular) => self.blob(name, &digest, size, content),
            _ => Err(ImportError::Kind { name: cut(name), kind: describe(kind) }),
        }
    }

    fn blob(
        &mut self,
        name: &str,
        digest: &Digest,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ImportError> {
        if self.transaction.holds(digest) {
            return Err(ImportError::Duplicate { name: cut(name) });
        }
        let limit = self.limits.blob_bytes;
        if size > limit {
            return Err(ImportError::Limit { what: "bytes in one blob", limit });
        }
        Ok(self.transaction.stage(digest, size, content)?)
    }

    fn finish(self) -> Result<Import, ImportError> {
        let Self { transaction, marker, index, .. } = self;
        let marker = marker.ok_or(ImportError::Lacks("oci-layout"))?;
        let marker = LayoutMarker::parse(&marker).map_err(ImportError::Marker)?;
        if marker.image_layout_version != LAYOUT_VERSION {
            return Err(ImportError::Version { found: cut(&marker.image_layout_version) });
        }
        let index = index.ok_or(ImportError::Lacks("index.json"))?;
        let index = Index::parse(&index).map_err(ImportError::Index)?;
        if index.manifests.is_empty() {
            return Err(ImportError::Empty);
        }
        let read = |digest: &Digest| transaction.read_held(digest, MAX_MANIFEST_BYTES);
        let nodes = walk(&index.manifests, &mut |entry| read(&entry.digest))?;
        let named: BTreeSet<Digest> = nodes.iter().map(|node| node.digest).collect();
        for node in nodes {
            if transaction.held_size(&node.digest) != Some(node.size) {
                return Err(ImportError::Missing { digest: node.digest, size: node.size });
            }
        }
        if let Some(digest) = transaction.held().find(|digest| !named.contains(digest)) {
            return Err(ImportError::Unreferenced { digest });
        }
        let mut manifests: Vec<Entry> = Vec::new();
        for stated in index.manifests {
            let digest = stated.digest;
            if manifests.iter().any(|known| known.digest == digest) {
                continue;
            }
            let bytes = read(&digest)?;
            let (mut entry, _) = Entry::describe(&bytes, &stated.media_type, stated.annotations)
                .map_err(|source| ImportError::Manifest { digest, source })?;
            entry.platform = stated.platform;
            forget_short_name(&mut entry);
            manifests.push(entry);
        }
        Ok(Import { transaction, manifests })
    }
}

/// What a name stands for; `./` in front, as `tar -C DIR .` writes it, means the same.
fn place(name: &str) -> Option<Place> {
    match name.strip_prefix("./").unwrap_or(name) {
        "" | "." | "blobs" | "blobs/" | "blobs/sha256" | "blobs/sha256/" => Some(Place::Directory),
        "oci-layout" => Some(Place::Marker),
        "index.json" => Some(Place::Index),
        name => {
            let hex = name.strip_prefix("blobs/sha256/")?;
            Digest::from_hex(hex).ok().map(Place::Blob)
        }
    }
}

fn fill(slot: &mut Option<Vec<u8>>, name: &str, content: &[u8]) -> Result<(), ImportError> {
    match slot.replace(content.to_vec()) {
        Some(_) => Err(ImportError::Duplicate { name: cut(name) }),
        None => Ok(()),
    }
}

const MARKER: (&str, u64) = ("bytes in oci-layout", MAX_ARCHIVE_MARKER_BYTES);
const INDEX: (&str, u64) = ("bytes in index.json", MAX_ARCHIVE_INDEX_BYTES);
const EXTENDED: (&str, u64) = ("bytes in an extended header", MAX_PAX_BYTES);

/// Reads an entry of at most `limit` bytes into memory.
fn read_whole(
    size: u64,
    content: &mut dyn Read,
    (what, limit): (&'static str, u64),
) -> Result<Vec<u8>, ImportError> {
    if size > limit {
        return Err(ImportError::Limit { what, limit });
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(ImportError::Source)?;
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    Err(ImportError::Truncated(io::ErrorKind::UnexpectedEof.into()))
}

/// Accepts extended headers that only speak of times, owners and attributes, which are not used
/// here. One that renames an entry or changes its size would make two readers see two archives.
fn check_extended(bytes: &[u8]) -> Result<(), ImportError> {
    const HARMLESS: [&str; 9] =
        ["atime", "ctime", "mtime", "comment", "uid", "gid", "uname", "gname", "charset"];
    const HARMLESS_FAMILIES: [&str; 2] = ["SCHILY.", "LIBARCHIVE."];
    for record in tar::PaxExtensions::new(bytes) {
        let record = record.map_err(ImportError::NotTar)?;
        let key = String::from_utf8_lossy(record.key_bytes());
        let family = HARMLESS_FAMILIES.iter().any(|family| key.starts_with(family));
        // SCHILY.realsize is the size of a sparse file.
        if !(HARMLESS.contains(&key.as_ref()) || family && key != "SCHILY.realsize") {
            return Err(ImportError::Extended { key: cut(&key) });
        }
    }
    Ok(())
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Regular => "a file",
        EntryType::Directory => "a directory",
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::GNULongName | EntryType::GNULongLink => "a long name",
        EntryType::XGlobalHeader => "a global header",
        _ => "an unknown kind of entry",
    }
}

/// A text of the archive, short enough for a message.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Notices whether the archive has come to its end.
struct Watched<'a, R> {
    reader: R,
    ended: &'a Cell<bool>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.ended.set(self.ended.get() || count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

/// The tar crate's own complaints have no kind of their own; others come from the reader.
fn tar_error(error: io::Error, ended: bool) -> ImportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::Truncated(error),
        io::ErrorKind::Other if ended => ImportError::Truncated(error),
        io::ErrorKind::Other => ImportError::NotTar(error),
        _ => ImportError::Source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_a_layout_are_known() {
        let hex = Digest::of(b"x").hex();
        let good = ["oci-layout", "./index.json", "blobs/", "./", ".", "blobs/sha256"];
        for name in good {
            assert!(place(name).is_some(), "{name}");
        }
        assert!(matches!(place(&format!("blobs/sha256/{hex}")), Some(Place::Blob(_))));
        let upper = hex.to_uppercase();
        for name in [
            "../index.json",
            "/index.json",
            "././index.json",
            "blobs/../index.json",
            "blobs//sha256/",
            "index.json/",
            "manifest.json",
            "blobs/sha512/",
            &format!("blobs/sha256/{hex}/"),
            &format!("blobs/sha256/{}", &hex[1..]),
            &format!("blobs/sha256/{upper}"),
            &format!("blobs/sha256/{hex}\0"),
            &format!("/blobs/sha256/{hex}"),
            "..",
        ] {
            assert!(place(name).is_none(), "{name}");
        }
    }

    #[test]
    fn extended_headers_that_change_an_entry_are_refused() {
        let record = |text: &str| {
            // The length counts itself: two digits for all of these.
            format!("{} {text}\n", text.len() + 4).into_bytes()
        };
        check_extended(&record("mtime=123.5")).expect("harmless");
        check_extended(&record("SCHILY.xattr.a=b")).expect("harmless");
        for text in ["path=../../x", "size=12345", "GNU.sparse.major=1", "SCHILY.realsize=9"] {
            let refused = check_extended(&record(text)).expect_err(text);
            assert!(matches!(refused, ImportError::Extended { .. }), "{text}: {refused:?}");
        }
        assert!(matches!(check_extended(b"garbage\n"), Err(ImportError::NotTar(_))));
    }
}
