//! The scratch disk: a sparse file with an empty ext4, made by `mke2fs`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;

use vyr_base::{Category, Problem};

use super::process::SPAWNING;

/// The smallest size that ext4 with a journal makes sense on.
const BYTES_MIN: u64 = 16 << 20;

/// Why there is no scratch disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Too small, or no multiple of a sector.
    #[error("a scratch disk of {0} bytes cannot be made")]
    Size(u64),
    /// `mke2fs` is missing.
    #[error("mke2fs is not installed")]
    Missing,
    /// `mke2fs` failed.
    #[error("mke2fs failed on {path}: {said}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// The file.
    #[error("cannot make {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Problem for DiskError {
    fn category(&self) -> Category {
        match self {
            Self::Size(_) => Category::Usage,
            Self::Missing => Category::NotFound,
            Self::Failed { .. } => Category::Internal,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Category::Transient
            }
            Self::File { .. } => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing => Some("install it: apt-get install e2fsprogs".into()),
            Self::Size(_) => Some("at least 16 MiB, in whole MiB".into()),
            _ => None,
        }
    }
}

/// Makes an empty disk of `bytes` at `path`, whole or not at all. The file is sparse.
///
/// # Errors
/// The size, the program, or no room.
pub fn make_scratch(path: &Path, bytes: u64) -> Result<(), DiskError> {
    if bytes < BYTES_MIN || !bytes.is_multiple_of(1 << 20) {
        return Err(DiskError::Size(bytes));
    }
    let new = path.with_extension("new");
    let wrong = |source| DiskError::File { path: path.to_owned(), source };
    let file = File::create(&new).map_err(wrong)?;
    file.set_len(bytes).map_err(wrong)?;
    // A scratch disk lives as long as its instance: its journal protects nothing.
    let mut command = Command::new("mke2fs");
    command
        .args(["-q", "-t", "ext4", "-F", "-m", "0", "-O", "^has_journal"])
        .args(["-E", "lazy_itable_init=1,root_owner=0:0"])
        .arg(&new)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C");
    let started = {
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        command.spawn()
    };
    let output = match started {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(DiskError::Missing),
        other => other.and_then(std::process::Child::wait_with_output).map_err(wrong)?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
        let _ = fs::remove_file(&new);
        return Err(DiskError::Failed { path: path.to_owned(), said });
    }
    file.sync_all().map_err(wrong)?;
    fs::rename(&new, path).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn not_run(why: &str) {
        println!("not run: {why}");
        let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
        let name = "vmm::disk::tests::a_disk_is_sparse_and_an_odd_size_refused";
        let mut log = File::options().create(true).append(true).open(log).expect("the log");
        writeln!(log, "{name}: {why}").expect("room in the log");
    }

    #[test]
    fn a_disk_is_sparse_and_an_odd_size_refused() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("scratch");
        for odd in [0, BYTES_MIN - 1, BYTES_MIN + 1] {
            assert!(matches!(make_scratch(&path, odd), Err(DiskError::Size(_))), "{odd}");
        }
        match make_scratch(&path, 1 << 30) {
            Err(DiskError::Missing) => return not_run("mke2fs is not installed"),
            other => other.expect("a disk"),
        }
        let file = File::open(&path).expect("a file");
        let metadata = file.metadata().expect("a file");
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 64 << 20, "{} blocks", metadata.blocks());
        let mut magic = [0; 2];
        file.read_exact_at(&mut magic, 1024 + 56).expect("a superblock");
        assert_eq!(magic, [0x53, 0xef]);
    }
}
