//! An OCI layout on disk as a source of images.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vyr_base::{Category, Digest, Problem};

use super::blobs::{BlobError, read_document};

/// A directory is no layout, or does not say which image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// It is something else.
    #[error("{} is {what}, and not an OCI layout", path.display())]
    NotALayout {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Its index cannot be read.
    #[error("cannot read the index of the layout {}", path.display())]
    Index {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has several images, or none.
    #[error("the layout {} has {count} images", path.display())]
    Which {
        /// Where.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first.
        digest: Option<Digest>,
    },
}

impl Problem for LayoutError {
    fn category(&self) -> Category {
        match self {
            Self::NotALayout { what, .. } if *what == "not there" => Category::NotFound,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotALayout { instead, .. } => Some((*instead).into()),
            Self::Index { .. } => None,
            Self::Which { path, digest, .. } => digest.map(|digest| {
                format!("name one: vyr image pull --layout {} {digest}", path.display())
            }),
        }
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
}

/// The directory of an OCI layout.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn open(root: &Path) -> Result<Self, LayoutError> {
        let other =
            |what, instead| Err(LayoutError::NotALayout { path: root.into(), what, instead });
        let has = |name: &str| fs::symlink_metadata(root.join(name)).is_ok_and(|m| m.is_file());
        let make = "make one: skopeo copy docker-archive:FILE oci:DIR";
        let build = "build the image where you build, then: skopeo copy .. oci:DIR";
        match fs::metadata(root) {
            Err(_) => other("not there", "check the path"),
            Ok(meta) if !meta.is_dir() => other("a file", make),
            Ok(_) if has("oci-layout") && has("index.json") => Ok(Self { root: root.into() }),
            Ok(_) if has("manifest.json") => other("an unpacked docker archive", make),
            Ok(_) if has("Dockerfile") || has("Containerfile") => other("a build context", build),
            Ok(_) => other("some directory", make),
        }
    }

    /// The only image it has.
    pub(crate) fn only(&self) -> Result<Digest, LayoutError> {
        let path = || self.root.clone();
        let fault = |source| LayoutError::Index { path: path(), source };
        let bytes = read_document(&self.root.join("index.json"), &Digest::of(b""))
            .map_err(|e| fault(e.into()))?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| fault(e.into()))?;
        match &index.manifests[..] {
            [one] => Ok(one.digest),
            several => {
                let digest = several.first().map(|entry| entry.digest);
                Err(LayoutError::Which { path: path(), count: several.len(), digest })
            }
        }
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// A manifest, an index or a config, checked against its digest.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        let bytes = read_document(&self.blob_path(digest), digest)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(BlobError::Digest { expected: *digest, found }),
        }
    }
}
