//! The one shape of a failed system call: what was tried, on which path, and the cause.

use std::io;
use std::path::PathBuf;

use vyr_base::{Category, Problem};

/// A file of the store could not be made, read, written, synced, renamed or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FsError {
    /// What was tried, as a verb: `write`, `sync`, `rename`.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl Problem for FsError {
    fn category(&self) -> Category {
        category(&self.source)
    }

    fn hint(&self) -> Option<String> {
        let path = self.path.display();
        Some(match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
                "free space on the filesystem that holds {path} and try again; nothing was written"
            ),
            io::ErrorKind::PermissionDenied => format!("let this user read and write {path}"),
            io::ErrorKind::ReadOnlyFilesystem => format!("remount {path} writable"),
            _ => return None,
        })
    }
}

/// What kind of failure an I/O error is to the caller of a command.
pub(crate) fn category(error: &io::Error) -> Category {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Category::Transient,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Category::Auth,
        _ => match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => Category::Transient,
            _ => Category::Internal,
        },
    }
}

/// Says where a system call failed; the path is only built when it did.
pub(crate) trait Context<T> {
    fn at(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, FsError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T, FsError> {
        self.map_err(|source| FsError { action, path: path(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_full_disk_is_worth_another_try_and_says_where() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let fault = Err::<(), _>(errno).at("write", || "/store/staging/x".into());
            let fault = fault.expect_err("an errno");
            assert_eq!(fault.category(), Category::Transient);
            let hint = fault.hint().expect("a hint");
            assert!(hint.contains("/store/staging/x") && hint.contains("nothing was written"));
        }
    }

    #[test]
    fn other_causes_have_their_own_category() {
        let category = |errno: Errno| category(&errno.into());
        assert_eq!(category(Errno::ACCESS), Category::Auth);
        assert_eq!(category(Errno::MFILE), Category::Transient);
        assert_eq!(category(Errno::IO), Category::Internal);
    }
}
