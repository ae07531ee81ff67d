//! Image indexes and manifests: bounded, strict about what would change what runs.

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Digest, Problem};

use super::fault::{Reason, shown};
use super::limits::{DOCUMENT_BYTES_MAX, Limits};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// How many images an index may name.
const INDEX_ENTRIES_MAX: usize = 1024;

/// A manifest or an index is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is no JSON of the right shape.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// The first form, which has no digests of its own bytes.
    #[error("the image has a schema 1 manifest, which does not say which bytes it means")]
    SchemaOne,
    /// Something that is no image.
    #[error("{what} is no container image")]
    NotAnImage {
        /// Its media type, cut to 120 characters.
        what: String,
    },
    /// No image for this machine.
    #[error("the index has no image for linux/amd64, only {found}")]
    Platform {
        /// What it has.
        found: String,
    },
    /// A layer that lies somewhere else.
    #[error(
        "{}: layer {layer} is a foreign layer, which lies at addresses of its own",
        Reason::ImageLayerInvalid
    )]
    Foreign {
        /// Which, from 0.
        layer: usize,
    },
    /// A layer that somebody has the key of.
    #[error("{}: layer {layer} is encrypted", Reason::ImageLayerInvalid)]
    Encrypted {
        /// Which, from 0.
        layer: usize,
    },
    /// Another kind of layer.
    #[error("{}: layer {layer} has the media type {media_type:?}", Reason::ImageLayerInvalid)]
    LayerKind {
        /// Which, from 0.
        layer: usize,
        /// Its media type, cut to 120 characters.
        media_type: String,
    },
    /// Larger than [`Limits`] allow.
    #[error("{}: the image has more than {limit} {what}", Reason::ImageTooLarge)]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

impl ManifestError {
    /// The reason an instance is refused with, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::TooLarge { .. } => Some(Reason::ImageTooLarge),
            Self::Foreign { .. } | Self::Encrypted { .. } | Self::LayerKind { .. } => {
                Some(Reason::ImageLayerInvalid)
            }
            _ => None,
        }
    }
}

impl Problem for ManifestError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Json(_) => return None,
            Self::SchemaOne => "push it again with a current tool: skopeo copy --format oci ..",
            Self::NotAnImage { .. } => {
                "name a container image; a Helm chart or an artifact is none"
            }
            Self::Platform { .. } => "build the image for linux/amd64 too",
            Self::Foreign { .. } => "put the layer into the registry: skopeo copy does",
            Self::Encrypted { .. } => {
                "push it decrypted; what must stay secret is a secret of the service"
            }
            Self::LayerKind { .. } => "build it with tar layers: plain, gzip or zstd",
            Self::TooLarge { .. } => "make a smaller image, or keep data on a volume",
        };
        Some(hint.into())
    }
}

/// A blob as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Of its exact bytes.
    pub digest: Digest,
    /// How many, in bytes.
    pub size: u64,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip, one member or several.
    Gzip,
    /// zstd, one frame or several.
    Zstd,
}

/// An image's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The config's blob.
    pub config: Descriptor,
    /// The layers' blobs, the lowest first.
    pub layers: Vec<(Descriptor, Compression)>,
}

impl Manifest {
    /// Bytes of all its blobs together.
    pub fn compressed_bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|(layer, _)| layer.size);
        layers.fold(self.config.size, u64::saturating_add)
    }
}

/// What a digest turned out to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// The image.
    Image(Manifest),
    /// One of an index: the manifest for this machine.
    Of(Descriptor),
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Blob>,
    layers: Option<Vec<Blob>>,
    manifests: Option<Vec<Blob>>,
}

#[derive(Deserialize)]
struct Blob {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Reads a manifest, or chooses from an index: the first entry for linux/amd64 without a variant,
/// else the one with the smallest variant. Both depend on nothing but the bytes.
///
/// # Errors
/// See [`ManifestError`].
pub fn select(bytes: &[u8], limits: &Limits) -> Result<Selected, ManifestError> {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(e) => return Err(not_of_our_kind(bytes).unwrap_or(ManifestError::Json(e))),
    };
    if document.schema_version == Some(1) {
        return Err(ManifestError::SchemaOne);
    }
    let other = |what: &str| ManifestError::NotAnImage { what: shown(what.as_bytes()) };
    let media_type = document.media_type.as_deref();
    match (media_type, document.manifests, document.config, document.layers) {
        (None | Some(OCI_INDEX | DOCKER_INDEX), Some(entries), None, None) => choose(entries),
        (None | Some(OCI_MANIFEST | DOCKER_MANIFEST), None, Some(config), Some(layers)) => {
            if !CONFIGS.contains(&config.media_type.as_str()) {
                return Err(other(document.artifact_type.as_deref().unwrap_or(&config.media_type)));
            }
            image(&config, &layers, limits).map(Selected::Image)
        }
        _ => Err(other(media_type.unwrap_or("what the digest names"))),
    }
}

/// A schema 1 manifest has another shape; it should be refused by its name all the same.
fn not_of_our_kind(bytes: &[u8]) -> Option<ManifestError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "schemaVersion")]
        schema_version: u64,
    }
    let version: Version = serde_json::from_slice(bytes).ok()?;
    (version.schema_version == 1).then_some(ManifestError::SchemaOne)
}

fn choose(entries: Vec<Blob>) -> Result<Selected, ManifestError> {
    if entries.len() > INDEX_ENTRIES_MAX {
        let limit = INDEX_ENTRIES_MAX as u64;
        return Err(ManifestError::TooLarge { what: "images in its index", limit });
    }
    let is_ours = |platform: &Platform| platform.os == "linux" && platform.architecture == "amd64";
    let ours = entries.iter().filter_map(|entry| {
        let platform = entry.platform.as_ref().filter(|platform| is_ours(platform))?;
        let kind = [OCI_MANIFEST, DOCKER_MANIFEST].contains(&entry.media_type.as_str());
        kind.then_some((platform.variant.clone().unwrap_or_default(), entry))
    });
    // `min_by` gives the first of equals.
    match ours.min_by(|one, other| one.0.cmp(&other.0)) {
        Some((_, entry)) if entry.size <= DOCUMENT_BYTES_MAX => {
            Ok(Selected::Of(Descriptor { digest: entry.digest, size: entry.size }))
        }
        Some(_) => {
            Err(ManifestError::TooLarge { what: "bytes of manifest", limit: DOCUMENT_BYTES_MAX })
        }
        None => {
            let names = entries.iter().take(20).filter_map(|entry| entry.platform.as_ref());
            let names: Vec<String> = names
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            let found = if names.is_empty() { "none at all".into() } else { names.join(", ") };
            Err(ManifestError::Platform { found: shown(found.as_bytes()) })
        }
    }
}

fn image(config: &Blob, layers: &[Blob], limits: &Limits) -> Result<Manifest, ManifestError> {
    let too_large = |what, limit| Err(ManifestError::TooLarge { what, limit });
    if layers.len() > limits.layers {
        return too_large("layers", limits.layers as u64);
    }
    if config.size > DOCUMENT_BYTES_MAX {
        return too_large("bytes of config", DOCUMENT_BYTES_MAX);
    }
    let mut read = Vec::with_capacity(layers.len());
    for (layer, blob) in layers.iter().enumerate() {
        let media_type = blob.media_type.as_str();
        let foreign = media_type.contains(".foreign.") || media_type.contains(".nondistributable.");
        if foreign || blob.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            return Err(ManifestError::Foreign { layer });
        }
        if media_type.ends_with("+encrypted") {
            return Err(ManifestError::Encrypted { layer });
        }
        let compression = match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Compression::Plain,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
            _ => {
                let media_type = shown(media_type.as_bytes());
                return Err(ManifestError::LayerKind { layer, media_type });
            }
        };
        read.push((Descriptor { digest: blob.digest, size: blob.size }, compression));
    }
    let config = Descriptor { digest: config.digest, size: config.size };
    let manifest = Manifest { config, layers: read };
    if manifest.compressed_bytes() > limits.compressed_bytes {
        return too_large("bytes", limits.compressed_bytes);
    }
    Ok(manifest)
}
