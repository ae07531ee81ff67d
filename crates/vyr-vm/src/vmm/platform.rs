//! What every guest boots: the kernel and the initramfs that `cargo xtask guest` made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vyr_base::{Category, Digest, Problem};

/// The version of `guest.json`.
const VERSION: u32 = 1;

/// Bytes of `guest.json`, and of the largest file it names.
const DESCRIPTION_MAX: u64 = 64 << 10;

/// Why there is no platform.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// A file is not there or cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `guest.json` is none of ours.
    #[error("{path} does not describe a platform: {why}")]
    Description {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file is another one than is described.
    #[error("{path} has digest {found}, and guest.json names {expected}")]
    Digest {
        /// Which.
        path: PathBuf,
        /// Its own.
        found: Digest,
        /// The described one.
        expected: String,
    },
}

impl Problem for PlatformError {
    fn category(&self) -> Category {
        match self {
            Self::Read { .. } => Category::NotFound,
            Self::Description { .. } => Category::Usage,
            Self::Digest { .. } => Category::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        Some("make it: cargo xtask guest".into())
    }
}

/// Kernel and initramfs, whose bytes are those that `guest.json` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// The digest of `guest.json`, which names every other byte.
    pub digest: Digest,
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
}

#[derive(Deserialize)]
struct Description {
    version: u32,
    kernel: Kernel,
    files: Files,
}

#[derive(Deserialize)]
struct Kernel {
    release: String,
}

#[derive(Deserialize)]
struct Files {
    vmlinux: String,
    initramfs: String,
}

impl Platform {
    /// Reads and checks a directory.
    ///
    /// # Errors
    /// A file is missing, or not the one that is described.
    pub fn open(directory: &Path) -> Result<Self, PlatformError> {
        // A VMM works elsewhere.
        let directory = &std::path::absolute(directory)
            .map_err(|source| PlatformError::Read { path: directory.to_owned(), source })?;
        let path = directory.join("guest.json");
        let bad = |why: String| PlatformError::Description { path: path.clone(), why };
        let read = |path: &Path| {
            fs::read(path).map_err(|source| PlatformError::Read { path: path.to_owned(), source })
        };
        let size = fs::metadata(&path)
            .map_err(|source| PlatformError::Read { path: path.clone(), source })?
            .len();
        if size > DESCRIPTION_MAX {
            return Err(bad(format!("it has {size} bytes")));
        }
        let text = read(&path)?;
        let description: Description =
            serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if description.version != VERSION {
            return Err(bad(format!("its version is {}", description.version)));
        }
        let check = |name: &str, expected: &str| {
            let path = directory.join(name);
            let found = Digest::of(&read(&path)?);
            if found.to_string() == expected {
                return Ok(path);
            }
            Err(PlatformError::Digest { path, found, expected: expected.to_owned() })
        };
        Ok(Self {
            kernel: check("vmlinux", &description.files.vmlinux)?,
            initramfs: check("initramfs", &description.files.initramfs)?,
            digest: Digest::of(&text),
            release: description.kernel.release,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(directory: &Path, kernel: &[u8], version: u32) {
        let text = format!(
            r#"{{"version":{version},"kernel":{{"release":"6"}},"files":{{"vmlinux":"{}","initramfs":"{}"}}}}"#,
            Digest::of(kernel),
            Digest::of(b"i")
        );
        fs::write(directory.join("guest.json"), text).expect("room");
    }

    #[test]
    fn only_the_described_bytes_are_a_platform() {
        let directory = tempfile::tempdir().expect("room");
        let directory = directory.path();
        assert!(matches!(Platform::open(directory), Err(PlatformError::Read { .. })));
        fs::write(directory.join("vmlinux"), "k").expect("room");
        fs::write(directory.join("initramfs"), "i").expect("room");
        describe(directory, b"k", 1);
        assert_eq!(Platform::open(directory).expect("a platform").release, "6");
        describe(directory, b"k", 2);
        assert!(matches!(Platform::open(directory), Err(PlatformError::Description { .. })));
        describe(directory, b"another", 1);
        assert!(matches!(Platform::open(directory), Err(PlatformError::Digest { .. })));
    }
}
