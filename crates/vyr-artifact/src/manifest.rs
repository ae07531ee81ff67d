//! The artifact: an OCI image manifest around one Wasm binary and its declarations.
//!
//! ```text
//! manifest  config  application/vnd.wasm.config.v0+json   {"architecture":"wasm","os":...}
//!           layer   application/wasm                       exactly one
//!           annotations  org.opencontainers.image.title    the name
//!                        vyr.args  vyr.env  vyr.states     canonical JSON
//! ```
//!
//! Invariants:
//! 1. An artifact's digest is that of its manifest's exact bytes.
//! 2. Building is deterministic: no time, no host, canonical JSON. What is built parses back to
//!    the same spec.
//! 3. An annotation `vyr.*` we do not know is an error: a node must not run an artifact while
//!    ignoring a declaration it was signed with.
//!
//! Not here: whether the config agrees (`config`), who signed it (`trust`), the rules of each
//! declaration (`spec`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use vyr_base::canonical::{self, CanonicalError};
use vyr_base::{Category, Digest, Problem};

use crate::config::config_bytes;
use crate::json::StrictJsonError;
use crate::oci::{
    CONFIG_BYTES_MAX, Descriptor, IMAGE_MANIFEST_TYPE, MANIFEST_BYTES_MAX, ReadError,
    WASM_BYTES_MAX, WASM_CONFIG_TYPE, WASM_LAYER_TYPE, WireDescriptor, WireManifest, clip, read,
    told,
};
use crate::spec::{Spec, SpecError};
use crate::wasm::{SniffError, WasmKind};

const TITLE: &str = "org.opencontainers.image.title";
/// Every annotation with this prefix is ours, known or an error.
const OURS: &str = "vyr.";
const ARGS: &str = "vyr.args";
const ENV: &str = "vyr.env";
const STATES: &str = "vyr.states";

/// Hex digits of the digest that stand in for a name the manifest does not give.
const SHORT_DIGITS: usize = 12;

/// A freshly built artifact: the two small blobs that go with the Wasm binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest; its digest names the artifact.
    pub manifest: Manifest,
    /// The config blob the manifest names.
    pub config: Vec<u8>,
}

/// A manifest that was read and found to be a Wasm artifact's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    digest: Digest,
    spec: Spec,
    config: Descriptor,
    wasm: Descriptor,
}

/// Why bytes are not the manifest of an artifact we run, or cannot become one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More than [`MANIFEST_BYTES_MAX`].
    #[error("manifest has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not JSON, or a key is there twice.
    #[error("manifest is not strict JSON")]
    Json(#[source] StrictJsonError),
    /// JSON of another shape.
    #[error("manifest does not have the shape of an OCI image manifest")]
    Shape(#[source] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("manifest has schemaVersion {found}, expected 2")]
    SchemaVersion {
        /// What it says.
        found: u64,
    },
    /// `mediaType` is missing or another one.
    #[error(
        "manifest has media type {}, expected {IMAGE_MANIFEST_TYPE}",
        told(.found.as_deref())
    )]
    MediaType {
        /// What it says, cut to 80 characters.
        found: Option<String>,
    },
    /// A container image: the artifact calls run Wasm only.
    #[error("artifact is a container image, and tasks run wasm only")]
    ContainerImage,
    /// An image index: a list of manifests, of which one would have to be chosen.
    #[error("artifact is an image index, a list of manifests")]
    ImageIndex,
    /// The config is of an unknown kind.
    #[error("manifest has a config of type {found:?}, expected {WASM_CONFIG_TYPE}")]
    ConfigType {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// Not exactly one layer.
    #[error("manifest has {found} layers, expected exactly one")]
    LayerCount {
        /// How many there are.
        found: usize,
    },
    /// The layer is not Wasm.
    #[error("manifest has a layer of type {found:?}, expected {WASM_LAYER_TYPE}")]
    LayerType {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// The config's size is out of bounds.
    #[error("config has {size} bytes, expected 2 to {CONFIG_BYTES_MAX}")]
    ConfigSize {
        /// What the manifest says, in bytes.
        size: u64,
    },
    /// The Wasm binary's size is out of bounds.
    #[error("wasm binary has {size} bytes, expected 8 to {WASM_BYTES_MAX}")]
    WasmSize {
        /// What the manifest says, in bytes.
        size: u64,
    },
    /// A declaration this version does not know.
    #[error("annotation {key:?} is unknown to this version of vyr")]
    UnknownAnnotation {
        /// Its key, cut to 80 characters.
        key: String,
    },
    /// A declaration that is not the canonical JSON it should be.
    #[error("annotation {key} is not the canonical JSON expected there")]
    Annotation {
        /// Its key.
        key: &'static str,
        /// Why.
        source: CanonicalError,
    },
    /// The declarations break a rule.
    #[error("artifact declares what is not allowed")]
    Spec(#[source] SpecError),
    /// What should become an artifact is not a Wasm binary.
    #[error("cannot build an artifact from this file")]
    Wasm(#[source] SniffError),
}

impl Artifact {
    /// Builds the artifact of `wasm` with the declarations of `spec`.
    ///
    /// The same arguments give the same bytes: there is no time and no author in it.
    pub fn build(spec: &Spec, wasm: &[u8]) -> Result<Self, ManifestError> {
        spec.check().map_err(ManifestError::Spec)?;
        let kind = WasmKind::sniff(wasm).map_err(ManifestError::Wasm)?;
        let layer = Descriptor::of(wasm);
        let config = config_bytes(kind, layer.digest);
        let wire = WireManifest {
            schema_version: 2,
            media_type: IMAGE_MANIFEST_TYPE.to_owned(),
            artifact_type: None,
            config: WireDescriptor::new(WASM_CONFIG_TYPE, Descriptor::of(&config)),
            layers: vec![WireDescriptor::new(WASM_LAYER_TYPE, layer)],
            subject: None,
            annotations: annotations(spec),
        };
        // Reading it back holds the builder to the reader's bounds (JSON escapes can double a
        // declaration), so nothing is signed that a node then refuses.
        let manifest = Manifest::parse(&canonical_bytes(&wire))?;
        Ok(Self { manifest, config })
    }
}

impl Manifest {
    /// Reads a manifest, ours or another tool's; it need not be canonical, its digest is that
    /// of exactly these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire = read(bytes)?;
        if wire.config.media_type != WASM_CONFIG_TYPE {
            return Err(ManifestError::ConfigType { found: clip(&wire.config.media_type) });
        }
        let [layer] = &wire.layers[..] else {
            return Err(ManifestError::LayerCount { found: wire.layers.len() });
        };
        if layer.media_type != WASM_LAYER_TYPE {
            return Err(ManifestError::LayerType { found: clip(&layer.media_type) });
        }
        let (config, wasm) = (wire.config.blob(), layer.blob());
        if !(2..=CONFIG_BYTES_MAX).contains(&config.size) {
            return Err(ManifestError::ConfigSize { size: config.size });
        }
        if !(WasmKind::HEAD_BYTES as u64..=WASM_BYTES_MAX).contains(&wasm.size) {
            return Err(ManifestError::WasmSize { size: wasm.size });
        }
        let digest = Digest::of(bytes);
        let spec = declarations(&wire.annotations, digest)?;
        Ok(Self { bytes: bytes.to_vec(), digest, spec, config, wasm })
    }

    /// The artifact's digest: SHA-256 of [`Manifest::bytes`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The exact bytes that were read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Digest and size of the manifest itself: what a referrer points at.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { digest: self.digest, size: self.bytes.len() as u64 }
    }

    /// Its name; the first 12 hex digits of the digest if the manifest gives none.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Arguments after the program's name.
    pub fn args(&self) -> &[String] {
        &self.spec.args
    }

    /// The whole environment.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.spec.env
    }

    /// States to bind before the task may run.
    pub fn states(&self) -> &[String] {
        &self.spec.states
    }

    /// The declarations together.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The Wasm binary.
    pub fn wasm(&self) -> &Descriptor {
        &self.wasm
    }

    /// The config blob; [`crate::check_config`] reads it and tells the [`WasmKind`].
    pub fn config(&self) -> &Descriptor {
        &self.config
    }
}

/// Declarations as annotations; an empty one is left out.
fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(TITLE.to_owned(), spec.name.clone())]);
    let mut put = |key: &str, value: Vec<u8>| {
        let value = String::from_utf8(value).expect("canonical JSON is UTF-8");
        annotations.insert(key.to_owned(), value);
    };
    if !spec.args.is_empty() {
        put(ARGS, canonical_bytes(&spec.args));
    }
    if !spec.env.is_empty() {
        put(ENV, canonical_bytes(&spec.env));
    }
    if !spec.states.is_empty() {
        put(STATES, canonical_bytes(&spec.states));
    }
    annotations
}

/// Canonical bytes of a document made here.
pub(crate) fn canonical_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    canonical::to_vec(value).expect("strings and sizes below 2^53 have a canonical form")
}

fn declarations(
    annotations: &BTreeMap<String, String>,
    digest: Digest,
) -> Result<Spec, ManifestError> {
    let known = [ARGS, ENV, STATES];
    if let Some(key) =
        annotations.keys().find(|key| key.starts_with(OURS) && !known.contains(&key.as_str()))
    {
        return Err(ManifestError::UnknownAnnotation { key: clip(key) });
    }
    let spec = Spec {
        name: annotations
            .get(TITLE)
            .cloned()
            .unwrap_or_else(|| digest.hex()[..SHORT_DIGITS].to_owned()),
        args: declaration(annotations, ARGS)?,
        env: declaration(annotations, ENV)?,
        states: declaration(annotations, STATES)?,
    };
    spec.check().map_err(ManifestError::Spec)?;
    Ok(spec)
}

fn declaration<T: Default + Serialize + DeserializeOwned>(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<T, ManifestError> {
    annotations.get(key).map_or_else(
        || Ok(T::default()),
        |text| {
            canonical::parse(text.as_bytes())
                .map_err(|source| ManifestError::Annotation { key, source })
        },
    )
}

impl From<ReadError> for ManifestError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge { bytes } => Self::TooLarge { bytes },
            ReadError::Json(source) => Self::Json(source),
            ReadError::Shape(source) => Self::Shape(source),
            ReadError::SchemaVersion { found } => Self::SchemaVersion { found },
            ReadError::Container => Self::ContainerImage,
            ReadError::Index => Self::ImageIndex,
            ReadError::MediaType { found } => Self::MediaType { found },
        }
    }
}

impl ManifestError {
    /// The word the control API answers with.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ContainerImage
            | Self::ImageIndex
            | Self::ConfigType { .. }
            | Self::LayerType { .. } => "unsupported_artifact",
            _ => "invalid_artifact",
        }
    }
}

impl Problem for ManifestError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::ContainerImage => Some("containers are services: vyr deploy".to_owned()),
            Self::ImageIndex => Some(
                "name one manifest of it by digest; containers are services: vyr deploy".to_owned(),
            ),
            Self::UnknownAnnotation { .. } => {
                Some("upgrade vyr, or build the artifact again without it".to_owned())
            }
            Self::ConfigType { .. } | Self::LayerType { .. } | Self::LayerCount { .. } => {
                Some("build it from the wasm file: vyr artifact build FILE.wasm".to_owned())
            }
            Self::Spec(source) => source.hint(),
            Self::Wasm(source) => source.hint(),
            Self::TooLarge { .. } => Some("pass large values as the task's input".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_config;
    use crate::testing::{COMPONENT, MODULE, spec};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::error::Error as _;

    fn built() -> Artifact {
        let spec = Spec {
            name: "wordcount".into(),
            args: vec!["--top".into(), "3 \"é\"".into()],
            env: [("LANG".to_owned(), "C".to_owned())].into(),
            states: vec!["cache".into()],
        };
        Artifact::build(&spec, MODULE).expect("valid")
    }

    fn edited(edit: impl FnOnce(&mut Value)) -> Result<Manifest, ManifestError> {
        let mut value: Value = serde_json::from_slice(built().manifest.bytes()).expect("JSON");
        edit(&mut value);
        Manifest::parse(value.to_string().as_bytes())
    }

    /// Golden bytes: artifacts are named by this digest forever.
    #[test]
    fn bytes_never_change() {
        let artifact = built();
        let text = String::from_utf8(artifact.manifest.bytes().to_vec()).expect("UTF-8");
        assert_eq!(text, include_str!("../tests/golden/manifest-v0.json").trim_end());
        let config = String::from_utf8(artifact.config).expect("UTF-8");
        assert_eq!(config, include_str!("../tests/golden/config-v0.json").trim_end());
    }

    #[test]
    fn both_kinds_build_and_say_so() {
        for (wasm, kind) in [(MODULE, WasmKind::Module), (COMPONENT, WasmKind::Component)] {
            let Artifact { manifest, config } =
                Artifact::build(&Spec { name: "a".into(), ..Spec::default() }, wasm)
                    .expect("valid");
            assert_eq!(check_config(&manifest, &config).expect("agrees"), kind);
            assert_eq!(*manifest.wasm(), Descriptor::of(wasm));
            assert_eq!(*manifest.config(), Descriptor::of(&config));
            assert_eq!(manifest.digest(), Digest::of(manifest.bytes()));
            assert!(manifest.args().is_empty() && manifest.env().is_empty());
        }
        let text = Artifact::build(&Spec { name: "a".into(), ..Spec::default() }, b"(module)");
        assert!(matches!(text, Err(ManifestError::Wasm(SniffError::Text))));
    }

    #[test]
    fn containers_are_sent_to_deploy() {
        let error = edited(|manifest| {
            manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        })
        .expect_err("a container");
        assert!(matches!(error, ManifestError::ContainerImage));
        assert_eq!(error.code(), "unsupported_artifact");
        assert_eq!(error.hint().as_deref(), Some("containers are services: vyr deploy"));
        let index = json!({"mediaType": "application/vnd.oci.image.index.v1+json"});
        let error = Manifest::parse(index.to_string().as_bytes()).expect_err("an index");
        assert!(matches!(error, ManifestError::ImageIndex));
        assert_eq!(error.code(), "unsupported_artifact");
    }

    #[test]
    fn what_matters_is_strict() {
        use ManifestError as E;
        let layer = |field: &str, value: Value| edited(|m| m["layers"][0][field] = value);
        let config = |field: &str, value: Value| edited(|m| m["config"][field] = value);
        let note = |key: &str, value: &str| edited(|m| m["annotations"][key] = value.into());
        assert!(matches!(layer("mediaType", json!("text/plain")), Err(E::LayerType { .. })));
        assert!(matches!(layer("size", json!(7)), Err(E::WasmSize { size: 7 })));
        assert!(matches!(layer("size", json!(WASM_BYTES_MAX + 1)), Err(E::WasmSize { .. })));
        assert!(matches!(layer("digest", json!("sha512:00")), Err(E::Shape(_))));
        assert!(matches!(config("mediaType", json!("a/b")), Err(E::ConfigType { .. })));
        assert!(matches!(config("size", json!(1)), Err(E::ConfigSize { size: 1 })));
        assert!(matches!(config("size", json!(CONFIG_BYTES_MAX + 1)), Err(E::ConfigSize { .. })));
        assert!(matches!(edited(|m| m["layers"] = json!([])), Err(E::LayerCount { found: 0 })));
        assert!(matches!(note("vyr.net", "true"), Err(E::UnknownAnnotation { .. })));
        assert!(matches!(note("vyr.", ""), Err(E::UnknownAnnotation { .. })));
        for text in ["", "[ ]", "{}", r#"["a",1]"#, r#"["\u0061"]"#] {
            assert!(matches!(note(ARGS, text), Err(E::Annotation { key: ARGS, .. })), "{text}");
        }
        assert!(matches!(note(ENV, r#"{"A":"1","A":"2"}"#), Err(E::Annotation { key: ENV, .. })));
        assert!(matches!(note(STATES, r#"["a","a"]"#), Err(E::Spec(_))));
        assert!(matches!(note(TITLE, "a\u{1b}[2J"), Err(E::Spec(_))));
    }

    #[test]
    fn duplicate_keys_are_refused() {
        let text = String::from_utf8(built().manifest.bytes().to_vec()).expect("UTF-8");
        let twice = text.replace("\"vyr.args\":", "\"vyr.args\":\"[]\",\"vyr.args\":");
        assert_ne!(twice, text);
        let error = Manifest::parse(twice.as_bytes()).expect_err("two readings");
        let json = error.source().expect("why");
        assert!(json.source().expect("why").to_string().contains("duplicate key \"vyr.args\""));
    }

    #[test]
    fn another_spelling_is_another_digest_with_the_same_content() {
        let value: Value = serde_json::from_slice(built().manifest.bytes()).expect("JSON");
        let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
        let other = Manifest::parse(&pretty).expect("spelling is free");
        assert_eq!(other.spec(), built().manifest.spec());
        assert_eq!(other.bytes(), pretty);
        assert_ne!(other.digest(), built().manifest.digest());
    }

    #[test]
    fn a_manifest_without_title_is_called_by_its_digest() {
        let manifest = edited(|m| {
            m.as_object_mut().expect("object").remove("annotations");
        })
        .expect("annotations are optional");
        assert_eq!(manifest.name(), &manifest.digest().hex()[..12]);
    }

    #[test]
    fn escapes_cannot_carry_a_build_past_the_bound() {
        // A control character takes seven bytes: `\\u0001` inside a JSON string.
        let spec = Spec {
            name: "a".into(),
            args: vec!["\u{1}".repeat(MANIFEST_BYTES_MAX / 7)],
            ..Spec::default()
        };
        assert!(matches!(Artifact::build(&spec, MODULE), Err(ManifestError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(spec in spec(), tail in any::<Vec<u8>>()) {
            let wasm = [MODULE, &tail].concat();
            let artifact = Artifact::build(&spec, &wasm).expect("the strategy keeps the rules");
            prop_assert_eq!(artifact.manifest.spec(), &spec);
            prop_assert_eq!(artifact.manifest.wasm(), &Descriptor::of(&wasm));
            prop_assert!(check_config(&artifact.manifest, &artifact.config).is_ok());
            let again = Artifact::build(&spec, &wasm).expect("as before");
            prop_assert_eq!(&artifact, &again);
            prop_assert_eq!(Manifest::parse(artifact.manifest.bytes()).expect("ours"), artifact.manifest);
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(Manifest::parse(&bytes).is_err());
        }

        #[test]
        fn a_mutated_manifest_is_judged_without_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut bytes = built().manifest.bytes().to_vec();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert_eq!(manifest.digest(), Digest::of(&bytes));
                prop_assert!(manifest.spec().check().is_ok());
            }
        }
    }
}
