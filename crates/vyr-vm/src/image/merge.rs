//! Many layers to one tar stream, in two passes over each: names first, then bytes.
//!
//! Two, because a name in a layer means nothing without the layers below it (a parent may be a
//! symlink there), and a file means nothing without those above it. Between the passes only names
//! are kept.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::thread;

use vyr_base::{Category, Digest, Problem};

use super::archive::{Archive, ArchiveFault};
use super::emit::{self, Live};
use super::fault::Reason;
use super::limits::Limits;
use super::manifest::Compression;
use super::scan::{Budget, Scan, ScanFault, scan};
use super::tree::{Origin, Tree, TreeFault};
use super::unpack::unpack;

/// Layers that are read at once in the first pass.
const READERS_MAX: usize = 4;

/// Largest /etc/passwd or /etc/group that is read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 1 << 20;

/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Where a layer's bytes can be read from, twice.
pub trait LayerBytes: Sync {
    /// The bytes from the beginning, as the registry has them.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;
}

impl LayerBytes for Vec<u8> {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.as_slice()))
    }
}

/// One layer to merge.
pub struct Layer {
    /// How it is compressed.
    pub compression: Compression,
    /// The digest of its tar archive, from the image's config.
    pub diff_id: Option<Digest>,
    /// Its bytes.
    pub bytes: Box<dyn LayerBytes>,
}

/// Why layers do not make an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A layer is damaged, hostile or of a kind that is not taken.
    #[error("{}: layer {layer} is not taken", Reason::ImageLayerInvalid)]
    Invalid {
        /// Which, from 0.
        layer: usize,
        /// Why.
        #[source]
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is larger than allowed.
    #[error("{}: the image has more than {limit} {what}", Reason::ImageTooLarge)]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A layer's tar archive is not the one the config names.
    #[error(
        "{}: layer {layer} unpacks to {found}, its config says {expected}",
        Reason::ImageLayerInvalid
    )]
    DiffId {
        /// Which, from 0.
        layer: usize,
        /// What the config says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A layer's bytes cannot be read.
    #[error("cannot read layer {layer}")]
    Read {
        /// Which, from 0.
        layer: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The stream cannot be written.
    #[error("cannot pass the image's stream on")]
    Write(#[source] io::Error),
}

impl LayerError {
    /// The reason an instance is refused with, if the image is at fault.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Invalid { .. } | Self::DiffId { .. } => Some(Reason::ImageLayerInvalid),
            Self::TooLarge { .. } => Some(Reason::ImageTooLarge),
            Self::Read { .. } | Self::Write(_) => None,
        }
    }
}

impl Problem for LayerError {
    fn category(&self) -> Category {
        match self {
            Self::Invalid { .. } | Self::DiffId { .. } | Self::TooLarge { .. } => Category::Usage,
            Self::Read { .. } | Self::Write(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { .. } => {
                Some("build the image again with a tool that follows the OCI specification".into())
            }
            Self::DiffId { .. } => Some(
                "its blob was damaged here or made wrong: remove it and pull the image again"
                    .into(),
            ),
            Self::TooLarge { .. } => {
                Some("make a smaller image: fewer files, or data on a volume".into())
            }
            Self::Read { .. } | Self::Write(_) => None,
        }
    }
}

/// What was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of all layers' tar archives.
    pub unpacked_bytes: u64,
    /// Extended attributes left out: squashfs cannot hold their class, or they are overlayfs's.
    pub xattrs_dropped: u64,
    /// The image's /etc/passwd, if it has one of at most 1 MiB.
    pub passwd: Option<Vec<u8>>,
    /// The same of /etc/group.
    pub group: Option<Vec<u8>>,
}

/// Layers whose names are merged and whose bytes are not read yet.
pub struct Merge<'a> {
    layers: &'a [Layer],
    tree: Tree,
    entries: u64,
    unpacked_bytes: u64,
    xattrs_dropped: u64,
}

impl<'a> Merge<'a> {
    /// Reads all `layers`, the lowest first, and merges their names.
    ///
    /// # Errors
    /// See [`LayerError`]; what can be wrong with an image is found here.
    pub fn new(layers: &'a [Layer], limits: &Limits) -> Result<Self, LayerError> {
        Self::with(layers, layers.iter().map(|_| None).collect(), limits)
    }

    /// The same, where the names of some layers are known.
    pub(crate) fn with(
        layers: &'a [Layer],
        known: Vec<Option<Scan>>,
        limits: &Limits,
    ) -> Result<Self, LayerError> {
        if layers.len() > limits.layers {
            return Err(LayerError::TooLarge { what: "layers", limit: limits.layers as u64 });
        }
        let scans = scan_all(layers, known, limits)?;
        let entries = scans.iter().map(|scan| scan.records.len() as u64).sum();
        let unpacked_bytes = scans.iter().map(|scan| scan.bytes).sum();
        let xattrs_dropped = scans.iter().map(|scan| scan.xattrs_dropped).sum();
        let mut tree = Tree::new();
        for (layer, scan) in scans.into_iter().enumerate() {
            tree.apply(layer, scan.records).map_err(|why| match why {
                TreeFault::Limit { what, limit } => LayerError::TooLarge { what, limit },
                TreeFault::Entry { .. } => invalid(layer, why),
            })?;
        }
        Ok(Self { layers, tree, entries, unpacked_bytes, xattrs_dropped })
    }

    /// Writes the tar stream.
    ///
    /// # Errors
    /// See [`LayerError`]. What was written to `out` until then is nothing.
    pub fn write(self, out: &mut (impl Write + ?Sized)) -> Result<Merged, LayerError> {
        let Self { layers, tree, entries, unpacked_bytes, xattrs_dropped } = self;
        let files = emit::frame(&tree, out).map_err(LayerError::Write)?;
        let passwd = tree.find_file(&[b"etc", b"passwd"]);
        let group = tree.find_file(&[b"etc", b"group"]);
        let mut accounts = BTreeMap::new();
        let mut files = files.into_iter().peekable();
        for (number, layer) in layers.iter().enumerate() {
            let mut of_layer = Vec::new();
            while let Some(file) = files.next_if(|(origin, _)| origin.layer == number) {
                of_layer.push(file);
            }
            let wanted = [passwd, group];
            copy_files(&tree, layer, number, of_layer, wanted, &mut accounts, out)?;
        }
        emit::end(out).and_then(|()| out.flush()).map_err(LayerError::Write)?;
        let take =
            |origin: Option<Origin>| origin.and_then(|origin| accounts.get(&origin).cloned());
        let (passwd, group) = (take(passwd), take(group));
        Ok(Merged { entries, unpacked_bytes, xattrs_dropped, passwd, group })
    }
}

fn invalid(layer: usize, why: impl std::error::Error + Send + Sync + 'static) -> LayerError {
    LayerError::Invalid { layer, why: Box::new(why) }
}

/// The first pass, some layers at a time. The lowest faulty layer is the one that is named.
fn scan_all(
    layers: &[Layer],
    mut known: Vec<Option<Scan>>,
    limits: &Limits,
) -> Result<Vec<Scan>, LayerError> {
    let budget = Budget::new(limits);
    let readers = thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
    let mut scans = Vec::with_capacity(layers.len());
    for (chunk, (some, known)) in layers.chunks(readers).zip(known.chunks_mut(readers)).enumerate()
    {
        let results: Vec<Result<Scan, LayerError>> = thread::scope(|scope| {
            let budget = &budget;
            let started: Vec<_> = some
                .iter()
                .zip(known)
                .enumerate()
                .map(|(at, (layer, known))| {
                    let (number, known) = (chunk * readers + at, known.take());
                    scope.spawn(move || scan_one(number, layer, known, budget))
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            started.into_iter().map(join).collect()
        });
        for result in results {
            scans.push(result?);
        }
    }
    Ok(scans)
}

fn scan_one(
    number: usize,
    layer: &Layer,
    known: Option<Scan>,
    budget: &Budget,
) -> Result<Scan, LayerError> {
    let open = || layer.bytes.open().map_err(|source| LayerError::Read { layer: number, source });
    let found = match known {
        Some(scan) => budget.spend(scan.spent).map(|()| scan),
        None => scan(unpack(layer.compression, open()?), budget),
    };
    let found = match found {
        Ok(scan) => scan,
        Err(ScanFault::Limit { what, limit }) => return Err(LayerError::TooLarge { what, limit }),
        Err(why) => return Err(invalid(number, why)),
    };
    match layer.diff_id {
        Some(expected) if expected != found.diff_id => {
            Err(LayerError::DiffId { layer: number, expected, found: found.diff_id })
        }
        _ => Ok(found),
    }
}

/// The second pass over one layer: what lives goes on.
fn copy_files(
    tree: &Tree,
    layer: &Layer,
    number: usize,
    files: Vec<(Origin, Live)>,
    wanted: [Option<Origin>; 2],
    accounts: &mut BTreeMap<Origin, Vec<u8>>,
    out: &mut (impl Write + ?Sized),
) -> Result<(), LayerError> {
    if files.is_empty() {
        return Ok(());
    }
    let packed = layer.bytes.open().map_err(|source| LayerError::Read { layer: number, source })?;
    let mut archive = Archive::new(unpack(layer.compression, packed));
    let changed = || invalid(number, ArchiveFault::Invalid("it changed while it was read"));
    let mut buffer = vec![0; COPY_BYTES];
    let mut next = 0;
    for (origin, live) in files {
        let entry = loop {
            let entry = archive.next().map_err(|why| invalid(number, why))?.ok_or_else(changed)?;
            next += 1;
            if next == origin.record + 1 {
                break entry;
            }
        };
        if entry.size != live.size {
            return Err(changed());
        }
        emit::file(tree, &live, out).map_err(LayerError::Write)?;
        let mut kept = wanted.contains(&Some(origin)).then(Vec::new);
        let mut left = live.size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = archive.read(&mut buffer[..want]).map_err(|why| invalid(number, why))?;
            if read == 0 {
                return Err(changed());
            }
            left -= read as u64;
            out.write_all(&buffer[..read]).map_err(LayerError::Write)?;
            if let Some(kept) = &mut kept
                && live.size <= ACCOUNTS_BYTES_MAX
            {
                kept.extend_from_slice(&buffer[..read]);
            }
        }
        emit::end_of_file(tree, &live, out).map_err(LayerError::Write)?;
        if let Some(kept) = kept.filter(|_| live.size <= ACCOUNTS_BYTES_MAX) {
            accounts.insert(origin, kept);
        }
    }
    Ok(())
}
