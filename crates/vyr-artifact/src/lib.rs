//! Is this artifact allowed to run, and who says so?
//!
//! ```text
//! wasm bytes + Spec --Artifact::build--> Manifest (its digest is the artifact's name)
//!                                           |
//!                              signed_bytes(digest) --sign / ssh-agent / ssh-keygen--> SSHSIG
//!                                           |                                            |
//!                                           +-------- Referrer::build (OCI referrer) ----+
//!
//! TrustPolicy (allowed_signers, revoked keys) + signature + `now` --verify--> Signer | TrustError
//! ```
//!
//! Invariants, each held by a test:
//! 1. The same spec and the same wasm give the same bytes, on any machine, at any time.
//! 2. A document with two readings (duplicate keys, a second spelling of a signature or key) is
//!    refused, and no byte of a signed message can change unnoticed. (An ECDSA
//!    signature has a second valid form, which OpenSSH makes and accepts as well.)
//! 3. Whatever this crate accepts under an `allowed_signers` file, `ssh-keygen -Y verify` accepts
//!    under the same file; where we are stricter, the fault says so.
//! 4. No parser panics, whatever the bytes, and each has a named bound on its input.
//!
//! Pure: no clock, file, socket, environment or randomness (`clippy.toml` beside this crate bans
//! them). `now` is an argument. One consequence: [`sign`] refuses P-521 file keys, because the
//! library signs P-521 with a random nonce; an ssh-agent or `ssh-keygen` signs with those.
//!
//! Deliberately elsewhere: where bytes live (`vyr-store`), talking to an ssh-agent and reading
//! key files (`vyr-node`), whether a module compiles (`vyr-task`).

mod config;
mod faults;
mod json;
mod keys;
mod manifest;
mod oci;
mod options;
mod pattern;
mod referrer;
mod revoked;
mod signature;
mod signers;
mod spec;
mod trust;
mod wasm;

#[cfg(test)]
mod testing;

pub use config::{ConfigError, check_config, check_head};
pub use faults::{Fault, FaultKind, TrustFile, TrustFileError};
pub use json::{StrictJsonError, strict_json};
pub use keys::KeyId;
pub use manifest::{Artifact, Manifest, ManifestError};
pub use oci::{
    CONFIG_BYTES_MAX, Descriptor, IMAGE_MANIFEST_TYPE, MANIFEST_BYTES_MAX, SIGNATURE_ARTIFACT_TYPE,
    SIGNATURE_LAYER_TYPE, WASM_BYTES_MAX, WASM_CONFIG_TYPE, WASM_LAYER_TYPE,
};
pub use referrer::{Referrer, ReferrerError};
pub use revoked::RevokedKeys;
pub use signature::{
    Namespace, ParseSignatureError, SIGNATURE_BYTES_MAX, SignError, Signature, UnknownNamespace,
    from_agent, sign, signature_request, signed_bytes,
};
pub use signers::{AllowedSigner, AllowedSigners, RenderError, render_line};
pub use spec::{
    ARGS_MAX, DECLARATION_BYTES_MAX, ENV_MAX, NAME_CHARS_MAX, STATE_CHARS_MAX, STATE_NAME_RULE,
    STATES_MAX, Spec, SpecError, SpecFault, is_state_name,
};
pub use trust::{Signer, TrustError, TrustPolicy};
pub use wasm::{SniffError, WasmKind};
