//! The OCI documents the store reads: descriptors, `index.json`, manifests, the layout marker.
//!
//! Pure. Reading is lenient towards unknown fields, as the image specification asks, and strict
//! towards what could be read in two ways: a document that is a manifest and an index at once, or
//! that says another media type than its descriptor, is refused (CVE-2021-41190).
//!
//! Not here: which documents are followed and how deep (`graph`), what an artifact means
//! (`vyr-artifact`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vyr_base::{Digest, object};

/// Largest manifest: what registries accept at least (OCI distribution specification 1.1).
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Most blobs one manifest may name; images of ours have tens, container engines stop at 127
/// layers, and an index of every platform has dozens.
pub const MAX_LINKS: usize = 1024;

/// The annotation under which an index entry remembers its manifest's subject, or `none`.
///
/// A hint that saves reading manifests; whoever acts on it reads the manifest first.
pub const SUBJECT_HINT: &str = "vyr.subject";

/// The hint of a manifest that has no subject.
pub(crate) const NO_SUBJECT: &str = "none";

/// The annotation by which other tools choose an entry of an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What `oci-layout` holds in every layout we write.
pub(crate) const LAYOUT_VERSION: &str = "1.0.0";

/// Largest integer of canonical JSON, and so the largest size a descriptor may state.
const MAX_SIZE: u64 = (1 << 53) - 1;

const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An OCI descriptor: one line of an index, naming one blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// What kind of document the blob is.
    pub media_type: String,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The artifact's own type, if its manifest has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free words, of which [`SUBJECT_HINT`] and [`REF_NAME`] mean something here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Kept for other tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Value>,
}

/// `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(deserialize_with = "object::list")]
    pub(crate) manifests: Vec<Entry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayoutMarker {
    pub(crate) image_layout_version: String,
}

/// What the store needs of an image manifest or an image index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "object::optional")]
    config: Option<Entry>,
    #[serde(default, deserialize_with = "object::optional_list")]
    layers: Option<Vec<Entry>>,
    #[serde(default, deserialize_with = "object::optional_list")]
    manifests: Option<Vec<Entry>>,
    #[serde(default, deserialize_with = "object::optional")]
    pub(crate) subject: Option<Entry>,
}

/// Why a blob is not a manifest this store can hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The media type is neither an image manifest nor an image index.
    #[error("media type {media_type:?} is not an image manifest or an image index")]
    MediaType {
        /// What was declared.
        media_type: String,
    },
    /// Too large to be read.
    #[error("manifest has {size} bytes, more than {MAX_MANIFEST_BYTES}")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// Not JSON, or fields of another shape.
    #[error("document is not JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    /// A schema this store does not know.
    #[error("document has schema version {0}, not 2")]
    Version(u32),
    /// The document and its descriptor disagree.
    #[error("manifest says it is {found:?}, its descriptor says {declared:?}")]
    Disagrees {
        /// What the descriptor says.
        declared: String,
        /// What the document says.
        found: String,
    },
    /// It names layers and manifests, so two readers may see two things.
    #[error("document is an image manifest and an image index at once")]
    Ambiguous,
    /// It has no config (image manifest) or no list of manifests (index).
    #[error("manifest lacks {0}")]
    Lacks(&'static str),
    /// More descriptors than [`MAX_LINKS`].
    #[error("manifest names {0} blobs, more than {MAX_LINKS}")]
    Links(usize),
    /// A descriptor states a size no file has.
    #[error("descriptor of {digest} states {size} bytes")]
    Size {
        /// The blob it names.
        digest: Digest,
        /// The size it states.
        size: u64,
    },
}

fn check_sizes<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> Result<(), ManifestError> {
    match entries.find(|entry| entry.size > MAX_SIZE) {
        Some(&Entry { digest, size, .. }) => Err(ManifestError::Size { digest, size }),
        None => Ok(()),
    }
}

/// Whether a blob of this media type is followed.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    is_index(media_type) || [IMAGE_MANIFEST, DOCKER_MANIFEST].contains(&media_type)
}

fn is_index(media_type: &str) -> bool {
    [IMAGE_INDEX, DOCKER_LIST].contains(&media_type)
}

impl Manifest {
    /// Reads `bytes` as the document its descriptor says it is.
    pub(crate) fn parse(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        let declared = || media_type.to_owned();
        if !is_manifest(media_type) {
            return Err(ManifestError::MediaType { media_type: declared() });
        }
        let manifest = Self::parse_any(bytes)?;
        match &manifest.media_type {
            Some(found) if found != media_type => {
                let found = found.clone();
                return Err(ManifestError::Disagrees { declared: declared(), found });
            }
            _ => {}
        }
        if is_index(media_type) {
            manifest.manifests.as_ref().ok_or(ManifestError::Lacks("manifests"))?;
        } else {
            manifest.config.as_ref().ok_or(ManifestError::Lacks("a config"))?;
        }
        Ok(manifest)
    }

    /// Reads `bytes` whose descriptor is lost; the second value is the media type they have.
    pub(crate) fn sniff(bytes: &[u8]) -> Result<(Self, String), ManifestError> {
        let found = Self::parse_any(bytes)?;
        let fallback = if found.manifests.is_some() { IMAGE_INDEX } else { IMAGE_MANIFEST };
        let media_type = found.media_type.clone().unwrap_or_else(|| fallback.to_owned());
        Ok((Self::parse(bytes, &media_type)?, media_type))
    }

    fn parse_any(bytes: &[u8]) -> Result<Self, ManifestError> {
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { size });
        }
        let manifest: Self = object::from_slice(bytes).map_err(ManifestError::Json)?;
        if manifest.schema_version != 2 {
            return Err(ManifestError::Version(manifest.schema_version));
        }
        if manifest.manifests.is_some() && (manifest.layers.is_some() || manifest.config.is_some())
        {
            return Err(ManifestError::Ambiguous);
        }
        let links = manifest.leaves().count() + manifest.children().len();
        if links > MAX_LINKS {
            return Err(ManifestError::Links(links));
        }
        check_sizes(manifest.leaves().chain(manifest.children()).chain(&manifest.subject))?;
        Ok(manifest)
    }

    /// Config and layers: blobs without links of their own.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Entry> {
        self.config.iter().chain(self.layers.iter().flatten())
    }

    /// The manifests of an index.
    pub(crate) fn children(&self) -> &[Entry] {
        self.manifests.as_deref().unwrap_or_default()
    }

    /// The artifact's type as the referrers API defines it: its own, else its config's. An
    /// ordinary container image has none.
    pub(crate) fn artifact_type(&self) -> Option<&str> {
        let config = || self.config.as_ref().map(|config| config.media_type.as_str());
        self.artifact_type.as_deref().or_else(config).filter(|kind| *kind != IMAGE_CONFIG)
    }
}

impl Entry {
    /// The index entry of a manifest, and the manifest.
    pub(crate) fn describe(
        bytes: &[u8],
        media_type: &str,
        mut annotations: BTreeMap<String, String>,
    ) -> Result<(Self, Manifest), ManifestError> {
        let manifest = Manifest::parse(bytes, media_type)?;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest.to_string());
        let hint = subject.unwrap_or_else(|| NO_SUBJECT.to_owned());
        annotations.insert(SUBJECT_HINT.to_owned(), hint);
        let entry = Self {
            artifact_type: manifest.artifact_type().map(str::to_owned),
            annotations,
            ..Self::bare(media_type, Digest::of(bytes), bytes.len() as u64)
        };
        Ok((entry, manifest))
    }

    /// A descriptor that says no more than it must.
    pub(crate) fn bare(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// What happens to an entry the index already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// New annotations are added to it, and win.
    Update,
    /// It stays as it is: an archive must not rename what is here.
    Keep,
}

impl Index {
    /// Reads an `index.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Self = object::from_slice(bytes).map_err(ManifestError::Json)?;
        if index.schema_version != 2 {
            return Err(ManifestError::Version(index.schema_version));
        }
        check_sizes(index.manifests.iter())?;
        Ok(index)
    }

    /// Adds entries; says whether that changed anything.
    pub(crate) fn merge(&mut self, added: &[Entry], merge: Merge) -> bool {
        let mut changed = false;
        for entry in added {
            let found = self.manifests.iter_mut().find(|old| old.digest == entry.digest);
            match (found, merge) {
                (None, _) => {
                    self.manifests.push(entry.clone());
                    changed = true;
                }
                (Some(old), Merge::Update) => {
                    let before = old.clone();
                    old.artifact_type.clone_from(&entry.artifact_type);
                    old.annotations.extend(entry.annotations.clone());
                    changed |= *old != before;
                }
                (Some(_), Merge::Keep) => {}
            }
        }
        changed
    }

    /// The index of a store that holds nothing.
    pub(crate) fn empty() -> Self {
        let media_type = Some(IMAGE_INDEX.to_owned());
        Self { schema_version: 2, media_type, manifests: Vec::new(), annotations: BTreeMap::new() }
    }
}

impl LayoutMarker {
    /// Reads an `oci-layout`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        object::from_slice(bytes)
    }

    /// The bytes of `oci-layout`, the same in every store and archive.
    pub(crate) fn bytes() -> Vec<u8> {
        format!("{{\"imageLayoutVersion\":\"{LAYOUT_VERSION}\"}}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(text: &str) -> Value {
        json!({"mediaType": "x/y", "digest": Digest::of(text.as_bytes()), "size": text.len()})
    }

    fn parse(document: &Value, media_type: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(document.to_string().as_bytes(), media_type)
    }

    #[test]
    fn the_marker_is_what_it_parses_to() {
        let marker: LayoutMarker = serde_json::from_slice(&LayoutMarker::bytes()).expect("JSON");
        assert_eq!(marker.image_layout_version, LAYOUT_VERSION);
    }

    #[test]
    fn a_document_that_can_be_read_in_two_ways_is_refused() {
        let both = json!({"schemaVersion": 2, "config": descriptor("c"), "manifests": []});
        assert!(matches!(parse(&both, IMAGE_MANIFEST), Err(ManifestError::Ambiguous)));
        let index = json!({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []});
        assert!(matches!(parse(&index, IMAGE_MANIFEST), Err(ManifestError::Disagrees { .. })));
        let index = json!({"schemaVersion": 2, "manifests": []});
        assert!(matches!(parse(&index, IMAGE_MANIFEST), Err(ManifestError::Lacks("a config"))));
        let twice = r#"{"schemaVersion":2,"schemaVersion":2}"#;
        let twice = Manifest::parse(twice.as_bytes(), IMAGE_MANIFEST);
        assert!(matches!(twice, Err(ManifestError::Json(_))));
    }

    #[test]
    fn documents_are_bounded() {
        let many = vec![descriptor("layer"); MAX_LINKS];
        let document = json!({"schemaVersion": 2, "config": descriptor("c"), "layers": many});
        assert!(matches!(parse(&document, IMAGE_MANIFEST), Err(ManifestError::Links(1025))));
        let mut huge = descriptor("c");
        huge["size"] = json!(1u64 << 53);
        let document = json!({"schemaVersion": 2, "config": huge});
        assert!(matches!(parse(&document, IMAGE_MANIFEST), Err(ManifestError::Size { .. })));
        let old = json!({"schemaVersion": 1});
        assert!(matches!(parse(&old, IMAGE_MANIFEST), Err(ManifestError::Version(1))));
        assert!(matches!(parse(&old, "text/plain"), Err(ManifestError::MediaType { .. })));
        let long = vec![b' '; 4 << 20 | 1];
        assert!(matches!(Manifest::sniff(&long), Err(ManifestError::TooLarge { .. })));
    }

    #[test]
    fn an_entry_says_type_and_subject() {
        let mut config = descriptor("c");
        config["mediaType"] = json!("application/vnd.wasm.config.v0+json");
        let document = json!({"schemaVersion": 2, "config": config, "subject": descriptor("s")});
        let bytes = document.to_string();
        let lie = BTreeMap::from([(SUBJECT_HINT.to_owned(), "lie".to_owned())]);
        let (entry, _) = Entry::describe(bytes.as_bytes(), IMAGE_MANIFEST, lie).expect("valid");
        assert_eq!(entry.artifact_type.as_deref(), Some("application/vnd.wasm.config.v0+json"));
        assert_eq!(entry.annotations[SUBJECT_HINT], Digest::of(b"s").to_string());
    }

    #[test]
    fn a_lost_media_type_is_found_again() {
        let index = json!({"schemaVersion": 2, "manifests": [descriptor("m")]}).to_string();
        let (found, media_type) = Manifest::sniff(index.as_bytes()).expect("an index");
        assert_eq!((found.children().len(), media_type.as_str()), (1, IMAGE_INDEX));
        assert!(Manifest::sniff(b"output of a task").is_err());
    }
}
