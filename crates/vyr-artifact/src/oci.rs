//! The OCI words two documents of ours share: media types, descriptors, the image manifest.
//!
//! Plain serde structs instead of the `oci-spec` crate: its maps fold duplicate annotation keys
//! silently, its digests admit other algorithms than SHA-256, and strictness is what this crate
//! is for. (`oci-spec` still reads what we write, as a test: `tests/oci.rs`.)
//!
//! Invariant: [`read`] returns only what has one reading, says `schemaVersion` 2 and names
//! itself an OCI image manifest. Unknown fields are ignored, as the image specification asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vyr_base::{Digest, object};

use crate::json::{StrictJsonError, strict_json};

/// Media type of every manifest of ours.
pub const IMAGE_MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a Wasm artifact's config.
pub const WASM_CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Media type of a Wasm artifact's one layer.
pub const WASM_LAYER_TYPE: &str = "application/wasm";
/// `artifactType` of a signature's referrer manifest.
pub const SIGNATURE_ARTIFACT_TYPE: &str = "application/vnd.vyr.signature.v1";
/// Media type of the one layer of a signature's referrer: an armored SSHSIG.
pub const SIGNATURE_LAYER_TYPE: &str = "application/vnd.vyr.sshsig.v1";
/// Media type of the config of an artifact that has none.
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The blob behind [`EMPTY_TYPE`].
pub(crate) const EMPTY_BLOB: &[u8] = b"{}";

/// Most bytes a manifest may have. Declarations need at most 128 KiB before JSON escaping;
/// registries refuse manifests above 4 MiB, and nothing of ours comes near either.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Most bytes a config may have: ours have about 150, those of others list imports and exports.
pub const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Most bytes a Wasm binary may have. The largest in common use (interpreters with their
/// standard library) are near 50 MiB.
pub const WASM_BYTES_MAX: u64 = 256 << 20;

/// The media types of images and manifests that are containers.
const CONTAINER_TYPES: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The media types of documents that list manifests.
const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Names a blob: its digest, and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// A descriptor as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireDescriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl WireDescriptor {
    pub(crate) fn new(media_type: &str, blob: Descriptor) -> Self {
        Self { media_type: media_type.to_owned(), digest: blob.digest, size: blob.size }
    }

    pub(crate) fn blob(&self) -> Descriptor {
        Descriptor { digest: self.digest, size: self.size }
    }
}

/// An image manifest as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireManifest {
    pub(crate) schema_version: u64,
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(deserialize_with = "object::one")]
    pub(crate) config: WireDescriptor,
    #[serde(deserialize_with = "object::list")]
    pub(crate) layers: Vec<WireDescriptor>,
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) subject: Option<WireDescriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Why bytes are not an OCI image manifest. Callers turn it into their own error.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge { bytes: usize },
    Json(StrictJsonError),
    Shape(serde_json::Error),
    SchemaVersion { found: u64 },
    Container,
    Index,
    MediaType { found: Option<String> },
}

/// Reads an image manifest; the first fault ends it, since manifests are written by programs.
pub(crate) fn read(bytes: &[u8]) -> Result<WireManifest, ReadError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(ReadError::TooLarge { bytes: bytes.len() });
    }
    let value = strict_json(bytes).map_err(ReadError::Json)?;
    // What it says it is comes first: "not a manifest" helps nobody who passed an index.
    match value.get("mediaType").and_then(|kind| kind.as_str()) {
        Some(IMAGE_MANIFEST_TYPE) => {}
        Some(kind) if is_container(kind) => return Err(ReadError::Container),
        Some(kind) if INDEX_TYPES.contains(&kind) => return Err(ReadError::Index),
        None if value.get("manifests").is_some() => return Err(ReadError::Index),
        found => return Err(ReadError::MediaType { found: found.map(clip) }),
    }
    let wire: WireManifest = serde_json::from_value(value).map_err(ReadError::Shape)?;
    if wire.schema_version != 2 {
        return Err(ReadError::SchemaVersion { found: wire.schema_version });
    }
    if is_container(&wire.config.media_type) { Err(ReadError::Container) } else { Ok(wire) }
}

fn is_container(media_type: &str) -> bool {
    CONTAINER_TYPES.contains(&media_type)
}

/// A media type as a message tells it: quoted, since it is text from outside, or `(none)`.
pub(crate) fn told(media_type: Option<&str>) -> String {
    media_type.map_or_else(|| "(none)".to_owned(), |found| format!("{found:?}"))
}

/// Cuts text from outside to what an error message should hold.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manifest() -> Value {
        let blob = json!({"mediaType": "text/plain", "digest": Digest::of(b"x"), "size": 1});
        json!({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST_TYPE, "config": blob, "layers": [blob]})
    }

    fn read_value(value: &Value) -> Result<WireManifest, ReadError> {
        read(value.to_string().as_bytes())
    }

    #[test]
    fn unknown_fields_are_ignored_and_known_ones_kept() {
        let mut value = manifest();
        value["futureField"] = json!({"a": [1]});
        value["annotations"] = json!({"k": "v"});
        let wire = read_value(&value).expect("valid");
        assert_eq!(wire.annotations["k"], "v");
        assert_eq!(wire.layers[0].blob(), Descriptor::of(b"x"));
    }

    #[test]
    fn containers_and_indexes_are_recognised() {
        for kind in CONTAINER_TYPES {
            let mut by_config = manifest();
            by_config["config"]["mediaType"] = kind.into();
            assert!(matches!(read_value(&by_config), Err(ReadError::Container)), "{kind}");
        }
        let docker = json!({"schemaVersion": 2, "mediaType": CONTAINER_TYPES[2]});
        assert!(matches!(read_value(&docker), Err(ReadError::Container)));
        for kind in INDEX_TYPES {
            let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": []});
            assert!(matches!(read_value(&index), Err(ReadError::Index)), "{kind}");
        }
        let untyped = json!({"schemaVersion": 2, "manifests": []});
        assert!(matches!(read_value(&untyped), Err(ReadError::Index)));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let mut version = manifest();
        version["schemaVersion"] = 1.into();
        assert!(matches!(read_value(&version), Err(ReadError::SchemaVersion { found: 1 })));
        let mut untyped = manifest();
        untyped.as_object_mut().expect("object").remove("mediaType");
        assert!(matches!(read_value(&untyped), Err(ReadError::MediaType { found: None })));
        for (field, value) in [
            ("size", json!(-1)),
            ("size", json!(1.0)),
            ("size", json!("1")),
            ("digest", json!("sha512:00")),
            ("digest", json!(Digest::of(b"x").to_string().to_uppercase())),
            ("mediaType", json!(null)),
        ] {
            let mut broken = manifest();
            broken["layers"][0][field] = value.clone();
            assert!(matches!(read_value(&broken), Err(ReadError::Shape(_))), "{field} {value}");
        }
        let padded = manifest().to_string() + &" ".repeat(MANIFEST_BYTES_MAX);
        assert!(matches!(read(padded.as_bytes()), Err(ReadError::TooLarge { .. })));
        assert!(matches!(read(b"[]"), Err(ReadError::MediaType { found: None })));
    }
}
