//! The artifact's config blob: which WASI world the Wasm binary is for.
//!
//! `architecture` and `os` are the format's (CNCF Wasm OCI artifact); we write no `created` and
//! no `author`, so that the same binary gives the same bytes. We also write no `component`
//! object (imports and exports of a component): it would repeat what the signed binary says, and
//! nothing of ours reads it.
//!
//! Invariant: a config that is accepted is the one its manifest names, describes exactly the
//! manifest's layer, and says the kind the binary has ([`check_head`]).

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Digest, Problem, object};

use crate::json::{StrictJsonError, strict_json};
use crate::manifest::{Manifest, canonical_bytes};
use crate::oci::{CONFIG_BYTES_MAX, Descriptor, clip};
use crate::wasm::{SniffError, WasmKind};

const ARCHITECTURE: &str = "wasm";

/// A config as it is written; fields we neither write nor need are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConfig {
    architecture: String,
    os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_digests: Option<Vec<Digest>>,
}

/// Why a config blob, or a Wasm binary, is not the one its manifest describes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Other bytes than the manifest names.
    #[error("config is {found}, the manifest names {expected}")]
    Digest {
        /// The digest in the manifest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Not JSON, or a key is there twice.
    #[error("config is not strict JSON")]
    Json(#[source] StrictJsonError),
    /// JSON of another shape.
    #[error("config does not have the shape of a wasm config")]
    Shape(#[source] serde_json::Error),
    /// `architecture` is not `wasm`.
    #[error("config has architecture {found:?}, expected \"wasm\"")]
    Architecture {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// `os` is neither `wasip1` nor `wasip2`.
    #[error("config has os {found:?}, expected \"wasip1\" or \"wasip2\"")]
    Os {
        /// What it says, cut to 80 characters.
        found: String,
    },
    /// `layerDigests` names other layers than the manifest.
    #[error("config lists layers {found:?}, the manifest has {expected}")]
    Layers {
        /// The manifest's one layer.
        expected: Digest,
        /// What the config lists.
        found: Vec<Digest>,
    },
    /// The binary does not begin like Wasm.
    #[error("layer is not a wasm binary")]
    Sniff(#[source] SniffError),
    /// The binary is of the other kind.
    #[error("layer is a {found}, and the config says {}", .expected.os())]
    Kind {
        /// What the config says.
        expected: WasmKind,
        /// What the binary is.
        found: WasmKind,
    },
}

/// The config of an artifact with this one layer.
pub(crate) fn config_bytes(kind: WasmKind, layer: Digest) -> Vec<u8> {
    canonical_bytes(&WireConfig {
        architecture: ARCHITECTURE.to_owned(),
        os: kind.os().to_owned(),
        layer_digests: Some(vec![layer]),
    })
}

/// Checks that `config` is the blob `manifest` names and agrees with it; tells the kind.
pub fn check_config(manifest: &Manifest, config: &[u8]) -> Result<WasmKind, ConfigError> {
    let found = Descriptor::of(config);
    // The manifest's size is bounded already, so equal sizes bound this one.
    debug_assert!(manifest.config().size <= CONFIG_BYTES_MAX);
    if found != *manifest.config() {
        return Err(ConfigError::Digest {
            expected: manifest.config().digest,
            found: found.digest,
        });
    }
    let value = strict_json(config).map_err(ConfigError::Json)?;
    let wire: WireConfig = object::one(value).map_err(ConfigError::Shape)?;
    if wire.architecture != ARCHITECTURE {
        return Err(ConfigError::Architecture { found: clip(&wire.architecture) });
    }
    let expected = manifest.wasm().digest;
    match wire.layer_digests {
        Some(found) if found != [expected] => return Err(ConfigError::Layers { expected, found }),
        _ => {}
    }
    WasmKind::from_os(&wire.os).ok_or_else(|| ConfigError::Os { found: clip(&wire.os) })
}

/// Checks that the Wasm binary beginning with `head` is of the kind its config says.
pub fn check_head(kind: WasmKind, head: &[u8]) -> Result<(), ConfigError> {
    let found = WasmKind::sniff(head).map_err(ConfigError::Sniff)?;
    if found == kind { Ok(()) } else { Err(ConfigError::Kind { expected: kind, found }) }
}

impl Problem for ConfigError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Digest { .. } => Some("send the blob the manifest names, unchanged".to_owned()),
            Self::Sniff(source) => source.hint(),
            _ => Some("build it from the wasm file: vyr artifact build FILE.wasm".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{COMPONENT, MODULE, manifest_with_config};
    use serde_json::json;

    fn check(config: &str) -> Result<WasmKind, ConfigError> {
        check_config(&manifest_with_config(config.as_bytes()), config.as_bytes())
    }

    #[test]
    fn configs_of_others_are_read() {
        let layer = Digest::of(MODULE);
        let config = json!({
            "created": "2024-09-25T12:00:00Z", "author": "someone", "architecture": "wasm",
            "os": "wasip2", "layerDigests": [layer],
            "component": {"exports": ["wasi:cli/run@0.2.0"], "imports": []},
        });
        assert_eq!(check(&config.to_string()).expect("agrees"), WasmKind::Component);
        let brief = r#"{ "os": "wasip1", "architecture": "wasm" }"#;
        assert_eq!(check(brief).expect("layerDigests is optional"), WasmKind::Module);
    }

    #[test]
    fn a_config_that_disagrees_is_refused() {
        use ConfigError as E;
        let other = Digest::of(COMPONENT);
        let layer = Digest::of(MODULE);
        let layers = |list: serde_json::Value| {
            check(
                &json!({"architecture": "wasm", "os": "wasip1", "layerDigests": list}).to_string(),
            )
        };
        assert!(layers(json!([layer])).is_ok());
        for list in [json!([]), json!([other]), json!([layer, layer])] {
            assert!(matches!(layers(list.clone()), Err(E::Layers { .. })), "{list}");
        }
        let amd64 = r#"{"architecture":"amd64","os":"wasip1"}"#;
        assert!(matches!(check(amd64), Err(E::Architecture { .. })));
        let linux = r#"{"architecture":"wasm","os":"linux"}"#;
        assert!(matches!(check(linux), Err(E::Os { .. })));
        let twice = r#"{"architecture":"wasm","os":"wasip1","os":"wasip2"}"#;
        assert!(matches!(check(twice), Err(E::Json(_))));
        assert!(matches!(check("{}"), Err(E::Shape(_))));
    }

    #[test]
    fn other_bytes_are_refused_even_if_they_say_the_same() {
        let named = r#"{"architecture":"wasm","os":"wasip1"}"#;
        let sent = r#"{"architecture":"wasm","os":"wasip1" }"#;
        let manifest = manifest_with_config(named.as_bytes());
        assert!(matches!(
            check_config(&manifest, sent.as_bytes()),
            Err(ConfigError::Digest { .. })
        ));
    }

    #[test]
    fn the_binary_must_be_of_the_kind_said() {
        assert!(check_head(WasmKind::Module, MODULE).is_ok());
        assert!(check_head(WasmKind::Component, COMPONENT).is_ok());
        let error = check_head(WasmKind::Component, MODULE).expect_err("a module");
        assert_eq!(error.to_string(), "layer is a module, and the config says wasip2");
        assert!(matches!(check_head(WasmKind::Module, b"?"), Err(ConfigError::Sniff(_))));
    }
}
