//! Where a signature is kept: an OCI referrer of the artifact it signs.
//!
//! ```text
//! manifest  artifactType  application/vnd.vyr.signature.v1
//!           config        application/vnd.oci.empty.v1+json, the blob {}
//!           layer         application/vnd.vyr.sshsig.v1, the armored signature
//!           subject       the artifact's manifest
//! ```
//!
//! Any OCI registry and tool carries it along. It says nothing about trust: anyone can attach
//! any signature to any artifact.
//!
//! Invariant: building is deterministic, so the same signature on the same artifact is one
//! referrer, however often it is put.

use vyr_base::{Category, Digest, Problem};

use crate::json::StrictJsonError;
use crate::manifest::canonical_bytes;
use crate::oci::{
    Descriptor, EMPTY_BLOB, EMPTY_TYPE, IMAGE_MANIFEST_TYPE, MANIFEST_BYTES_MAX, ReadError,
    SIGNATURE_ARTIFACT_TYPE, SIGNATURE_LAYER_TYPE, WireDescriptor, WireManifest, clip, read, told,
};
use crate::signature::{ParseSignatureError, SIGNATURE_BYTES_MAX, Signature};

/// A signature's referrer manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    digest: Digest,
    subject: Descriptor,
    signature: Descriptor,
}

/// Why bytes are not the referrer of a signature, or cannot become one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferrerError {
    /// More than [`MANIFEST_BYTES_MAX`].
    #[error("referrer has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not JSON, or a key is there twice.
    #[error("referrer is not strict JSON")]
    Json(#[source] StrictJsonError),
    /// JSON of another shape.
    #[error("referrer does not have the shape of an OCI image manifest")]
    Shape(#[source] serde_json::Error),
    /// An image manifest, but not of a signature.
    #[error("referrer has artifact type {}, expected {SIGNATURE_ARTIFACT_TYPE}",
        told(.found.as_deref()))]
    ArtifactType {
        /// What it says, cut to 80 characters.
        found: Option<String>,
    },
    /// Another document altogether.
    #[error("referrer is not an OCI image manifest of schemaVersion 2")]
    NotManifest,
    /// The config is not the empty one.
    #[error("referrer has a config that is not the empty one")]
    Config,
    /// Not exactly one layer with a signature of sane size.
    #[error("referrer does not have exactly one layer of type {SIGNATURE_LAYER_TYPE}")]
    Layer,
    /// It refers to nothing, or to something else than a manifest.
    #[error("referrer has no manifest as its subject")]
    Subject,
    /// What should be attached is not a signature.
    #[error("only an SSH signature can be attached")]
    Signature(#[source] ParseSignatureError),
}

impl Referrer {
    /// Builds the referrer of `armored` to the artifact manifest `subject`.
    ///
    /// Returns the referrer manifest's bytes and the layer's. The config blob is
    /// [`Referrer::EMPTY_CONFIG`].
    pub fn build(subject: &Descriptor, armored: &str) -> Result<(Vec<u8>, Vec<u8>), ReferrerError> {
        Signature::parse(armored.as_bytes()).map_err(ReferrerError::Signature)?;
        let layer = armored.as_bytes().to_vec();
        let wire = WireManifest {
            schema_version: 2,
            media_type: IMAGE_MANIFEST_TYPE.to_owned(),
            artifact_type: Some(SIGNATURE_ARTIFACT_TYPE.to_owned()),
            config: WireDescriptor::new(EMPTY_TYPE, Descriptor::of(EMPTY_BLOB)),
            layers: vec![WireDescriptor::new(SIGNATURE_LAYER_TYPE, Descriptor::of(&layer))],
            subject: Some(WireDescriptor::new(IMAGE_MANIFEST_TYPE, *subject)),
            annotations: [].into(),
        };
        Ok((canonical_bytes(&wire), layer))
    }

    /// Reads a referrer manifest, ours or one another tool wrote for us.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReferrerError> {
        let wire = read(bytes)?;
        if wire.artifact_type.as_deref() != Some(SIGNATURE_ARTIFACT_TYPE) {
            let found = wire.artifact_type.as_deref().map(clip);
            return Err(ReferrerError::ArtifactType { found });
        }
        if wire.config.media_type != EMPTY_TYPE || wire.config.blob() != Descriptor::of(EMPTY_BLOB)
        {
            return Err(ReferrerError::Config);
        }
        let signature = match &wire.layers[..] {
            [layer] if layer.media_type == SIGNATURE_LAYER_TYPE => layer.blob(),
            _ => return Err(ReferrerError::Layer),
        };
        if !(1..=SIGNATURE_BYTES_MAX as u64).contains(&signature.size) {
            return Err(ReferrerError::Layer);
        }
        let subject = wire
            .subject
            .filter(|subject| subject.media_type == IMAGE_MANIFEST_TYPE)
            .map(|subject| subject.blob())
            .filter(|subject| (2..=MANIFEST_BYTES_MAX as u64).contains(&subject.size))
            .ok_or(ReferrerError::Subject)?;
        Ok(Self { digest: Digest::of(bytes), subject, signature })
    }

    /// The config blob of every referrer: two bytes.
    pub const EMPTY_CONFIG: &'static [u8] = EMPTY_BLOB;

    /// The referrer manifest's own digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The artifact manifest it belongs to.
    pub fn subject(&self) -> &Descriptor {
        &self.subject
    }

    /// The armored signature.
    pub fn signature(&self) -> &Descriptor {
        &self.signature
    }
}

impl From<ReadError> for ReferrerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge { bytes } => Self::TooLarge { bytes },
            ReadError::Json(source) => Self::Json(source),
            ReadError::Shape(source) => Self::Shape(source),
            ReadError::SchemaVersion { .. }
            | ReadError::Container
            | ReadError::Index
            | ReadError::MediaType { .. } => Self::NotManifest,
        }
    }
}

impl Problem for ReferrerError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Signature(source) => source.hint(),
            _ => Some("sign the artifact again: vyr artifact sign DIGEST".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{Namespace, sign};
    use crate::testing::ed25519;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn subject() -> Descriptor {
        Descriptor::of(b"a manifest")
    }

    fn built() -> (Vec<u8>, Vec<u8>) {
        let armored = sign(&ed25519(1), Namespace::Artifact, b"m").expect("signs");
        Referrer::build(&subject(), &armored).expect("a signature")
    }

    fn edited(edit: impl FnOnce(&mut Value)) -> Result<Referrer, ReferrerError> {
        let mut value: Value = serde_json::from_slice(&built().0).expect("JSON");
        edit(&mut value);
        Referrer::parse(value.to_string().as_bytes())
    }

    /// Golden bytes: stores hold these forever.
    #[test]
    fn bytes_never_change() {
        let text = String::from_utf8(built().0).expect("UTF-8");
        assert_eq!(text, include_str!("../tests/golden/referrer-v1.json").trim_end());
    }

    #[test]
    fn what_is_built_is_read_back() {
        let (manifest, layer) = built();
        let referrer = Referrer::parse(&manifest).expect("ours");
        assert_eq!(*referrer.subject(), subject());
        assert_eq!(*referrer.signature(), Descriptor::of(&layer));
        assert_eq!(referrer.digest(), Digest::of(&manifest));
        assert_eq!(built(), (manifest, layer));
        // The digest the image specification gives for the empty descriptor.
        assert_eq!(
            Digest::of(Referrer::EMPTY_CONFIG).to_string(),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn only_signatures_are_attached() {
        let refused = Referrer::build(&subject(), "hello");
        assert!(matches!(refused, Err(ReferrerError::Signature(_))));
    }

    #[test]
    fn other_manifests_are_refused() {
        use ReferrerError as E;
        let typed = |kind: Value| edited(|r| r["artifactType"] = kind);
        assert!(matches!(typed(json!(null)), Err(E::ArtifactType { found: None })));
        assert!(matches!(typed(json!("a/sbom")), Err(E::ArtifactType { found: Some(_) })));
        assert!(matches!(edited(|r| r["config"]["size"] = 3.into()), Err(E::Config)));
        assert!(matches!(edited(|r| r["layers"] = json!([])), Err(E::Layer)));
        assert!(matches!(edited(|r| r["layers"][0]["size"] = 16385.into()), Err(E::Layer)));
        assert!(matches!(edited(|r| r["layers"][0]["mediaType"] = "a/b".into()), Err(E::Layer)));
        assert!(matches!(edited(|r| r["subject"] = json!(null)), Err(E::Subject)));
        assert!(matches!(edited(|r| r["subject"]["mediaType"] = "a/b".into()), Err(E::Subject)));
        assert!(matches!(edited(|r| r["subject"]["digest"] = "sha256:0".into()), Err(E::Shape(_))));
        assert!(matches!(edited(|r| r["schemaVersion"] = 3.into()), Err(E::NotManifest)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(Referrer::parse(&bytes).is_err());
        }

        #[test]
        fn a_mutated_referrer_is_judged_without_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = built().0;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(referrer) = Referrer::parse(&bytes) {
                prop_assert_eq!(referrer.digest(), Digest::of(&bytes));
            }
        }
    }
}
