//! A pull: an image's blobs into the images' directory, the manifest last.
//!
//! Where the asked digest is there, all it names was there before it: what `show` and `build` find
//! is whole. A connection that breaks off is taken up again where it broke; what arrived is hashed
//! with the rest.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use vyr_base::{Category, Digest, Problem};
use vyr_service::{Reference, ReferenceError};

use super::blobs::{BlobError, Images, Partial, open_plain};
use super::config::{Config, ConfigError};
use super::fault::{FsError, Reason};
use super::layout::{Layout, LayoutError};
use super::limits::Limits;
use super::manifest::{Compression, Descriptor, Manifest, ManifestError, Selected, select};
use super::registry::{Registry, RegistryError};
use super::scan::{Budget, scan};
use super::unpack::unpack;

/// How often a blob is asked for before a broken connection is a failure.
const TRIES: usize = 4;

/// Bytes taken from a source at once.
const COPY_BYTES: usize = 256 << 10;

/// An image was not pulled; what arrived of it is kept, and is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The reference names no digest.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout does not have it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Its manifest is not taken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its config is not taken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A blob is not what its digest says, or cannot be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It took too long.
    #[error("{}: the image did not arrive in time", Reason::ImagePullTimeout)]
    Timeout,
}

impl PullError {
    /// The reason an instance is refused with, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Manifest(e) => e.reason(),
            Self::Registry(e) => e.reason(),
            Self::Timeout | Self::Blob(BlobError::Busy { .. }) => Some(Reason::ImagePullTimeout),
            Self::Blob(BlobError::Digest { .. } | BlobError::Size { .. }) => {
                Some(Reason::ImageLayerInvalid)
            }
            _ => None,
        }
    }

    fn inner(&self) -> Option<&dyn Problem> {
        match self {
            Self::Reference(e) => Some(e),
            Self::Registry(e) => Some(e),
            Self::Layout(e) => Some(e),
            Self::Manifest(e) => Some(e),
            Self::Config(e) => Some(e),
            Self::Blob(e) => Some(e),
            Self::Timeout => None,
        }
    }
}

impl From<FsError> for PullError {
    fn from(fault: FsError) -> Self {
        Self::Blob(fault.into())
    }
}

impl Problem for PullError {
    fn category(&self) -> Category {
        self.inner().map_or(Category::Transient, Problem::category)
    }

    fn hint(&self) -> Option<String> {
        match self.inner() {
            Some(inner) => inner.hint(),
            None => Some("run it again: what arrived is kept and checked".into()),
        }
    }
}

/// Told how far a pull is.
pub trait Progress {
    /// All blobs together, in bytes, once it is known.
    fn total(&self, bytes: u64);
    /// So many more are here.
    fn advance(&self, bytes: u64);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn total(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Where an image comes from.
pub enum Source<'a> {
    /// A registry, and what in it.
    Registry(&'a Registry, &'a Reference),
    /// A layout's directory, and which image if it has several.
    Layout(&'a Path, Option<Digest>),
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The digest that was asked for: an image's or an index's.
    pub digest: Digest,
    /// The image's manifest for linux/amd64; the same, unless it is an index's.
    pub manifest_digest: Digest,
    /// How many layers.
    pub layers: usize,
    /// Bytes of all blobs together.
    pub bytes: u64,
    /// Bytes of them that were not here before.
    pub fetched_bytes: u64,
}

/// One of the two, with what reading from it needs.
enum Origin<'a> {
    Registry(&'a Registry, &'a str),
    Layout(Layout),
}

impl Images {
    /// Pulls an image. Who is killed in the middle leaves partial files, which the next pull goes on
    /// with. An image that nobody builds does nothing; its blobs may be removed at any time.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn pull(
        &self,
        source: &Source<'_>,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Pulled, PullError> {
        let (from, digest, deadline) = match source {
            Source::Registry(registry, reference) => {
                let from = Origin::Registry(registry, &reference.repository);
                (from, reference.digest()?, registry.deadline())
            }
            Source::Layout(path, digest) => {
                let layout = Layout::open(path)?;
                let digest = match digest {
                    Some(digest) => *digest,
                    None => layout.only()?,
                };
                (Origin::Layout(layout), digest, Instant::now() + limits.total_time)
            }
        };
        let top = from.document(&digest)?;
        let (manifest_digest, below) = match select(&top, limits)? {
            Selected::Image(manifest) => (digest, Some(manifest)),
            Selected::Of(descriptor) => (descriptor.digest, None),
        };
        let (manifest, document) = match below {
            Some(manifest) => (manifest, None),
            None => {
                let document = from.document(&manifest_digest)?;
                match select(&document, limits)? {
                    Selected::Image(manifest) => (manifest, Some(document)),
                    Selected::Of(_) => {
                        let what = "an index inside an index".into();
                        return Err(ManifestError::NotAnImage { what }.into());
                    }
                }
            }
        };
        progress.total(manifest.compressed_bytes());
        let mut fetched = self.fetch(&from, &manifest.config, deadline, progress)?;
        // A config that cannot be used is known before its layers are paid for.
        let config = Config::parse(&self.document(&manifest.config.digest)?)?;
        check_count(&config, &manifest)?;
        fetched += self.fetch_layers(&from, &manifest, limits, deadline, progress)?;
        if let Some(document) = document {
            self.keep_document(&document, deadline)?;
        }
        self.keep_document(&top, deadline)?;
        let (layers, bytes) = (manifest.layers.len(), manifest.compressed_bytes());
        Ok(Pulled { digest, manifest_digest, layers, bytes, fetched_bytes: fetched })
    }

    /// All layers, and while one arrives what is in the one before.
    fn fetch_layers(
        &self,
        from: &Origin<'_>,
        manifest: &Manifest,
        limits: &Limits,
        deadline: Instant,
        progress: &dyn Progress,
    ) -> Result<u64, PullError> {
        thread::scope(|scope| {
            let mut fetched = 0;
            let mut reader: Option<thread::ScopedJoinHandle<'_, ()>> = None;
            for (layer, compression) in &manifest.layers {
                fetched += self.fetch(from, layer, deadline, progress)?;
                // One at a time: unpacking a layer takes memory, and one processor.
                if let Some(before) = reader.take() {
                    let _ = before.join();
                }
                let read = move || self.learn_names(&layer.digest, *compression, limits);
                reader = Some(scope.spawn(read));
            }
            Ok(fetched)
        })
    }

    /// What is wrong with a layer, the build says.
    fn learn_names(&self, blob: &Digest, compression: Compression, limits: &Limits) {
        if self.known_names(blob, compression).is_some() {
            return;
        }
        let Ok(file) = open_plain(&self.blob_path(blob)) else { return };
        let unpacked = unpack(compression, Box::new(file));
        let budget = Budget::new(limits);
        if compression == Compression::Plain {
            if let Ok(scan) = scan(unpacked, &budget) {
                self.keep_names(blob, compression, &scan);
            }
            return;
        }
        let mut noted = self.note_plain(blob, unpacked);
        if let Ok(scan) = scan(&mut noted, &budget) {
            self.keep_plain(blob, noted);
            self.keep_names(blob, compression, &scan);
        }
    }

    /// One blob; gives the bytes that had to come.
    fn fetch(
        &self,
        from: &Origin<'_>,
        blob: &Descriptor,
        deadline: Instant,
        progress: &dyn Progress,
    ) -> Result<u64, PullError> {
        let Some(mut partial) = self.receive(blob, deadline)? else {
            progress.advance(blob.size);
            return Ok(0);
        };
        progress.advance(partial.bytes());
        let before = partial.bytes();
        let mut resumed = before > 0;
        let mut tries = 0;
        loop {
            tries += 1;
            match from.copy(blob, &mut partial, deadline, progress) {
                Ok(()) if partial.bytes() == blob.size => {}
                // The other end closed early: that is how a cut connection may look, too.
                Ok(()) if tries < TRIES => continue,
                Ok(()) => {}
                Err(PullError::Registry(e))
                    if matches!(e, RegistryError::Broken { .. }) && tries < TRIES =>
                {
                    continue;
                }
                Err(e) => return Err(e),
            }
            match partial.finish() {
                Ok(()) => return Ok(blob.size.saturating_sub(before)),
                // What an earlier pull left may be what was wrong.
                Err(BlobError::Digest { .. }) if resumed => {
                    resumed = false;
                    match self.receive(blob, deadline)? {
                        Some(fresh) => partial = fresh,
                        None => return Ok(0),
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The image that `digest` names, read from blobs that are here.
    pub(crate) fn manifest(
        &self,
        digest: &Digest,
        limits: &Limits,
    ) -> Result<(Digest, Manifest, Config), PullError> {
        let (manifest_digest, manifest) = match select(&self.document(digest)?, limits)? {
            Selected::Image(manifest) => (*digest, manifest),
            Selected::Of(below) => match select(&self.document(&below.digest)?, limits)? {
                Selected::Image(manifest) => (below.digest, manifest),
                Selected::Of(_) => {
                    let what = "an index inside an index".into();
                    return Err(ManifestError::NotAnImage { what }.into());
                }
            },
        };
        let config = Config::parse(&self.document(&manifest.config.digest)?)?;
        check_count(&config, &manifest)?;
        for (layer, _) in &manifest.layers {
            if !self.has(layer) {
                return Err(BlobError::Missing { digest: layer.digest }.into());
            }
        }
        Ok((manifest_digest, manifest, config))
    }
}

fn check_count(config: &Config, manifest: &Manifest) -> Result<(), ConfigError> {
    match config.diff_ids.len() == manifest.layers.len() {
        true => Ok(()),
        false => {
            Err(ConfigError::Field { field: "rootfs", why: "lists other layers than the manifest" })
        }
    }
}

impl Origin<'_> {
    fn document(&self, digest: &Digest) -> Result<Vec<u8>, PullError> {
        Ok(match self {
            Self::Registry(registry, repository) => registry.document(repository, digest)?,
            Self::Layout(layout) => layout.document(digest)?,
        })
    }

    /// Copies what is missing, or what comes of it.
    fn copy(
        &self,
        blob: &Descriptor,
        partial: &mut Partial,
        deadline: Instant,
        progress: &dyn Progress,
    ) -> Result<(), PullError> {
        match self {
            Self::Registry(registry, repository) => {
                let (start, body) = registry.blob(repository, &blob.digest, partial.bytes())?;
                if start != partial.bytes() {
                    partial.restart()?;
                }
                let fault = |source| PullError::Registry(registry.broken(source));
                copy(body, partial, deadline, progress, fault)
            }
            Self::Layout(layout) => {
                let path: PathBuf = layout.blob_path(&blob.digest);
                let file = open_plain(&path)?;
                partial.restart()?;
                let fault = |source| FsError::on("read", &path)(source).into();
                copy(file, partial, deadline, progress, fault)
            }
        }
    }
}

fn copy(
    mut from: impl Read,
    to: &mut Partial,
    deadline: Instant,
    progress: &dyn Progress,
    fault: impl Fn(std::io::Error) -> PullError,
) -> Result<(), PullError> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer).map_err(&fault)?;
        if read == 0 {
            return Ok(());
        }
        to.write(&buffer[..read])?;
        progress.advance(read as u64);
        if Instant::now() >= deadline {
            return Err(PullError::Timeout);
        }
    }
}
