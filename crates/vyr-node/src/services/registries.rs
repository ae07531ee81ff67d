//! What a node says to registries of who it is: the credentials in `DATA/keys/registries.json`.
//!
//! The file has the form that `skopeo login --authfile` writes, and is read for each image that is
//! fetched: who replaces it needs no restart. It goes to the process `images` for one registry at a time.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use vyr_service::run::{Fault, Reason};
use vyr_vm::image::Credentials;

use crate::data_dir::DataDir;

/// Below the directory of keys.
const FILE: &str = "registries.json";

/// What this registry (`host:port`) is told; nothing, if nothing is said of it.
pub(super) fn credentials(data: &DataDir, registry: &str) -> Result<Option<Credentials>, Fault> {
    let fault = |why: String| Fault::new(Reason::ImagePullFailed, why);
    let path = data.path().join("keys").join(FILE);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fault(format!("cannot read {}: {e}", path.display()))),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        return Err(fault(format!("others may read {path}: chmod 600 {path}")));
    }
    Credentials::read(&path, registry).map_err(|e| fault(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_one_registry_and_nobody_else_reads_them() {
        let directory = tempfile::tempdir().expect("room");
        let data = DataDir::open(directory.path()).expect("a directory");
        let asked = |registry| credentials(&data, registry);
        assert!(asked("registry.example.org").expect("no file is no fault").is_none());

        let path = data.keys().expect("a directory").join(FILE);
        // "ana:secret"
        let text = r#"{"auths": {"registry.example.org": {"auth": "YW5hOnNlY3JldA=="}}}"#;
        fs::write(&path, text).expect("room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        let found = asked("registry.example.org").expect("a file").expect("credentials");
        assert_eq!(found.encoded(), "YW5hOnNlY3JldA==");
        assert!(asked("other.example.org").expect("a file").is_none());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        let fault = asked("registry.example.org").expect_err("others read it");
        assert!(fault.said.contains("chmod 600"), "{}", fault.said);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&path, "YW5hOnNlY3JldA==").expect("room");
        let fault = asked("registry.example.org").expect_err("no such form");
        assert!(fault.said.contains("no file of registry credentials"), "{}", fault.said);
        assert!(!fault.said.contains("YW5h"), "a secret is in no message: {}", fault.said);
    }
}
