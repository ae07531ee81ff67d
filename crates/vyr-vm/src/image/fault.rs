//! Failed system calls, and the reasons an instance is refused with.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vyr_base::{Category, Problem};

/// Why an image cannot be used, as an instance's reason names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More bytes, layers or entries than [`Limits`](super::Limits) allow.
    ImageTooLarge,
    /// It did not arrive in time.
    ImagePullTimeout,
    /// A layer is damaged, hostile or of a kind that is not taken.
    ImageLayerInvalid,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ImageTooLarge => "image_too_large",
            Self::ImagePullTimeout => "image_pull_timeout",
            Self::ImageLayerInvalid => "image_layer_invalid",
        })
    }
}

/// A file below the images' directory could not be made, read, written, synced or renamed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FsError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl FsError {
    /// For `map_err`.
    pub(crate) fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

impl Problem for FsError {
    fn category(&self) -> Category {
        match self.source.kind() {
            io::ErrorKind::NotFound => Category::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Category::Auth,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Category::Transient,
            _ => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let path = self.path.display();
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some(format!("free space on the filesystem that holds {path} and run it again"))
            }
            io::ErrorKind::PermissionDenied => Some(format!("let this user use {path}")),
            io::ErrorKind::NotFound => Some("check the path".into()),
            _ => None,
        }
    }
}

/// A stranger's name for a message: readable, and cut to 120 characters.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(120).map(clean).collect()
}
