//! Fuzz targets: one function for each parser of bytes from outside.
//!
//! ```text
//! corpus/<target>/*  --replay-->  target(bytes)  <--libFuzzer (fuzz/libfuzzer, nightly)
//!        |                            ^
//!        +--mutate (seeded, stable)---+        panics when a property does not hold
//! ```
//!
//! A target asserts what must be true of any input, not only that nothing panics: what is
//! accepted is judged again by code that shares nothing with the parser (`base64`, `sshsig`, the
//! models beside each target), what is refused has changed nothing, and what was read is written
//! and read again.
//!
//! An input with several parts is split at lines `%%`; see [`sections`].
//!
//! Deliberately elsewhere: the compiler and the engine behind it (`vyr-task` runs a stranger's
//! module in a confined process; building Wasmtime here would make a replay take minutes).

pub mod archive;
pub mod artifact;
pub mod base;
mod base64;
pub mod bundle;
pub mod channel;
mod checks;
pub mod hello;
pub mod image;
pub mod journal;
pub mod keys;
pub mod mutate;
pub mod network;
pub mod plan;
pub mod secrets;
pub mod sections;
pub mod service;
pub mod services;
pub mod signing;
mod sshsig;
pub mod store;
mod stores;
pub mod words;

pub use stores::scratch_dir;

/// A fuzz target: judges one input, and panics if a property does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("digest", base::digest),
    ("canonical_json", base::canonical_json),
    ("units", base::units),
    ("strict_json", artifact::strict_json),
    ("manifest", artifact::manifest),
    ("wasm_config", artifact::wasm_config),
    ("wasm_head", artifact::wasm_head),
    ("referrer", artifact::referrer),
    ("signature", signing::signature),
    ("allowed_signers", signing::allowed_signers),
    ("revoked_keys", signing::revoked_keys),
    ("trust", signing::trust),
    ("frontier", journal::frontier),
    ("checkpoint", journal::checkpoint),
    ("receipt", journal::receipt),
    ("oci_layout", store::oci_layout),
    ("oci_index", store::oci_index),
    ("oci_manifest", store::oci_manifest),
    ("blob_read", store::blob_read),
    ("import_tar", archive::import_tar),
    ("import_graph", archive::import_graph),
    ("round_trip", archive::round_trip),
    ("site_toml", plan::site_toml),
    ("clients_toml", plan::clients_toml),
    ("contracts_toml", plan::contracts_toml),
    ("vyr_lock", plan::vyr_lock),
    ("plan_json", plan::plan_json),
    ("plan_texts", plan::plan_texts),
    ("network_words", network::network_words),
    ("bundle", bundle::bundle),
    ("guest_frames", channel::guest_frames),
    ("guest_data", channel::guest_data),
    ("guest_messages", channel::guest_messages),
    ("client_hello", hello::client_hello),
    ("image_layers", image::image_layers),
    ("image_documents", image::image_documents),
    ("service_toml", service::service_toml),
    ("service_json", service::service_json),
    ("refused_files", service::refused_files),
    ("services_plan", services::services_plan),
    ("secrets_file", secrets::secrets_file),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
