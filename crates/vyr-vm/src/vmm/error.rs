//! Why a machine is not what it should be.

use std::io;
use std::path::PathBuf;

use vyr_base::{Category, Problem};

use super::disk::DiskError;
use super::platform::PlatformError;

/// Why something was not done to a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmmError {
    /// The specification.
    #[error("a machine cannot be made like this: {0}")]
    Spec(String),
    /// A program is missing.
    #[error("{0} is not installed")]
    Missing(&'static str),
    /// The kernel and initramfs.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The scratch disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file or directory of the machine.
    #[error("cannot {what} {path}")]
    File {
        /// What was done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The cap on memory.
    #[error("cannot cap the memory of the VMM: {what}")]
    Cgroup {
        /// What was done.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The VMM ended before it ran.
    #[error("the VMM did not start: {said}")]
    Start {
        /// The end of what it said.
        said: String,
    },
    /// No other way to run instructions.
    #[error("{0} emulates nothing, and /dev/kvm cannot be opened here")]
    NoKvm(&'static str),
    /// The VMM's own interface.
    #[error("the VMM does not do {command}: {why}")]
    Interface {
        /// What it was told.
        command: String,
        /// What it said.
        why: String,
    },
    /// The VMM's own interface is closed: as a rule the VMM ended.
    #[error("the VMM broke off at {command}: {why}")]
    Gone {
        /// What it was told.
        command: String,
        /// What was seen.
        why: String,
    },
    /// Nothing to adopt.
    #[error("no machine runs in {0}")]
    NotRunning(PathBuf),
    /// The file that names the machine.
    #[error("{path} is not the record of a machine: {why}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The guest knows who it is.
    #[error("a snapshot is made before a guest knows who it is")]
    NotBlank,
    /// Another process has the VMM's interface.
    #[error("only the process that started a machine can store it")]
    Adopted,
    /// Another kernel, size or VMM.
    #[error("the snapshot is of another machine: {0}")]
    Snapshot(String),
    /// Its bytes are others than were stored.
    #[error("the snapshot {0} is not what was stored")]
    Damaged(PathBuf),
    /// It still runs.
    #[error("the VMM did not end in time")]
    TimedOut,
    /// A signal was not sent.
    #[error("cannot end the VMM")]
    Kill(#[source] io::Error),
}

impl VmmError {
    /// For `map_err` on files.
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl Problem for VmmError {
    fn category(&self) -> Category {
        match self {
            Self::Spec(_) => Category::Usage,
            Self::Missing(_) | Self::NoKvm(_) | Self::NotRunning(_) => Category::NotFound,
            Self::Platform(error) => error.category(),
            Self::Disk(error) => error.category(),
            Self::NotBlank | Self::Adopted | Self::Snapshot(_) => Category::Conflict,
            Self::TimedOut => Category::Transient,
            Self::Start { .. } => Category::Failure,
            Self::File { .. } | Self::Cgroup { .. } | Self::Kill(_) => Category::Internal,
            Self::Interface { .. } | Self::Gone { .. } => Category::Internal,
            Self::Record { .. } | Self::Damaged(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing("qemu-system-x86_64") => {
                Some("install it: apt-get install qemu-system-x86".into())
            }
            Self::Missing(_) => Some("install a release of it, and say where it is".into()),
            Self::NoKvm(_) => Some("use QEMU here".into()),
            Self::File { source, .. } if source.kind() == io::ErrorKind::CrossesDevices => {
                Some("keep the platform, disks and machines on one file system".into())
            }
            Self::Platform(error) => error.hint(),
            Self::Disk(error) => error.hint(),
            Self::Snapshot(_) | Self::Damaged(_) => {
                Some("make it anew from a boot of this machine".into())
            }
            Self::Cgroup { .. } => Some("run as root, with the memory controller mounted".into()),
            _ => None,
        }
    }
}
