//! Garbage collection: removing blobs nothing reaches, and what crashed writers left in staging.
//!
//! gc marks everything the index reaches, and what the caller names, then removes unmarked blobs
//! of a minimum age. It holds `gc.lock` alone meanwhile: no commit comes between mark and sweep.
//! A crash at any point leaves a whole store: only unreachable blobs are gone.
//!
//! When a manifest that must be followed is missing or damaged, gc removes nothing: what that
//! manifest names cannot be known. A missing layer stops nothing.
//!
//! Deliberately elsewhere: the clock, and knowing which digests running tasks and the journal
//! still need (`vyr-node` passes both).

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, openat, statat, unlinkat,
};
use rustix::io::Errno;
use vyr_base::{Category, Digest, Problem};

use crate::fault::{Context, FsError};
use crate::graph::{WalkError, walk};
use crate::index::IndexError;
use crate::layout::{Store, names};
use crate::lock::{Hold, Lock, LockError};
use crate::oci::{Entry, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::read::ReadError;
use crate::step::Step;

/// How old something in staging must be before it counts as left behind. Its writer's lock says
/// so too; this covers file systems whose locks do not reach other machines.
pub const STAGING_GRACE: Duration = Duration::from_secs(3600);

/// What to collect.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions<'a> {
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
    /// Younger blobs stay: they may be outputs no event names yet.
    pub older_than: Duration,
    /// The time ages are measured from.
    pub now: SystemTime,
    /// Blobs that stay although the index does not reach them: inputs and outputs.
    pub extra_blobs: &'a [Digest],
    /// Manifests that stay, with everything they name: artifacts of tasks still to run. One that
    /// is not in the store is passed over.
    pub extra_manifests: &'a [Digest],
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Blobs removed (or, in a dry run, to be removed), with their sizes, in digest order.
    pub removed: Vec<(Digest, u64)>,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Blobs that stay.
    pub kept: u64,
    /// Temporary files and directories removed (or to be removed).
    pub staging_removed: u64,
    /// Things among the blobs that are none; they were left alone.
    pub ignored: u64,
}

/// gc stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// A manifest of the index cannot be followed.
    #[error("nothing was removed: the store holds a manifest that cannot be followed")]
    Walk(#[from] WalkError<ReadError>),
    /// A manifest the caller named cannot be read.
    #[error("nothing was removed: manifest {digest} cannot be followed")]
    Read {
        /// Which.
        digest: Digest,
        /// Why not.
        source: ReadError,
    },
    /// A manifest the caller named is none.
    #[error("nothing was removed: manifest {digest} cannot be followed")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Commits are under way, and take too long.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A system call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl Problem for GcError {
    fn category(&self) -> Category {
        match self {
            Self::Walk(WalkError::Read { .. }) | Self::Read { .. } => Category::Internal,
            Self::Walk(_) | Self::Manifest { .. } => Category::Conflict,
            Self::Index(source) => source.category(),
            Self::Lock(source) => source.category(),
            Self::Fs(source) => source.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Walk(source) => match source {
                WalkError::Read { source: ReadError::Missing { digest }, .. } => {
                    Some(format!("put {digest} again, or remove the artifact that needs it"))
                }
                WalkError::Read { source, .. } => source.hint(),
                WalkError::Manifest { digest, .. }
                | WalkError::Depth { digest }
                | WalkError::Sizes { digest, .. } => {
                    Some(format!("remove the artifact that needs {digest}"))
                }
            },
            Self::Read { source, .. } => source.hint(),
            Self::Manifest { .. } => None,
            Self::Index(source) => source.hint(),
            Self::Lock(source) => source.hint(),
            Self::Fs(source) => source.hint(),
        }
    }
}

impl Store {
    /// Removes what nothing needs.
    pub fn gc(&self, options: &GcOptions<'_>) -> Result<GcReport, GcError> {
        let hold = if options.dry_run { Hold::Shared } else { Hold::Exclusive };
        let _alone = self.lock(Lock::Gc, hold)?;
        let marked = self.mark(options)?;
        let mut report = GcReport::default();
        self.sweep_blobs(options, &marked, &mut report)?;
        self.sweep_staging(options, &mut report)?;
        Ok(report)
    }

    fn mark(&self, options: &GcOptions<'_>) -> Result<BTreeSet<Digest>, GcError> {
        let mut roots = self.read_index()?.manifests;
        for digest in options.extra_manifests {
            roots.extend(self.sniff(digest)?);
        }
        let nodes = walk(&roots, &mut |entry| self.read_blob(&entry.digest, MAX_MANIFEST_BYTES))?;
        let mut marked: BTreeSet<Digest> = nodes.into_iter().map(|node| node.digest).collect();
        marked.extend(options.extra_blobs);
        Ok(marked)
    }

    /// The entry a manifest would have, if it is in the store.
    fn sniff(&self, digest: &Digest) -> Result<Option<Entry>, GcError> {
        let digest = *digest;
        let bytes = match self.read_blob(&digest, MAX_MANIFEST_BYTES) {
            Err(ReadError::Missing { .. }) => return Ok(None),
            read => read.map_err(|source| GcError::Read { digest, source })?,
        };
        let (_, media_type) =
            Manifest::sniff(&bytes).map_err(|source| GcError::Manifest { digest, source })?;
        Ok(Some(Entry::bare(&media_type, digest, bytes.len() as u64)))
    }

    fn sweep_blobs(
        &self,
        options: &GcOptions<'_>,
        marked: &BTreeSet<Digest>,
        report: &mut GcReport,
    ) -> Result<(), GcError> {
        let mut names = names(self.blobs_dir(), || self.path("blobs/sha256"))?;
        names.sort_unstable();
        for name in names {
            let path = || self.path("blobs/sha256").join(&name);
            let stat = match statat(self.blobs_dir(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.at("examine", path)?,
            };
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let Some(digest) = Digest::from_hex(&name).ok().filter(|_| regular) else {
                report.ignored += 1;
                continue;
            };
            if marked.contains(&digest) || age(options.now, &stat) < options.older_than {
                report.kept += 1;
                continue;
            }
            if !options.dry_run {
                unlinkat(self.blobs_dir(), &name, AtFlags::empty()).at("remove", path)?;
                self.step(Step::BlobRemoved);
            }
            let size = stat.st_size.unsigned_abs();
            report.removed.push((digest, size));
            report.bytes += size;
        }
        if !options.dry_run && !report.removed.is_empty() {
            self.sync_blobs(Step::RemovalsSynced)?;
        }
        Ok(())
    }

    fn sweep_staging(&self, options: &GcOptions<'_>, report: &mut GcReport) -> Result<(), GcError> {
        for name in names(self.staging_dir(), || self.path("staging"))? {
            if self.sweep_one(options, &name).at("remove", || self.path("staging").join(&name))? {
                report.staging_removed += 1;
                if !options.dry_run {
                    self.step(Step::StaleRemoved);
                }
            }
        }
        Ok(())
    }

    /// Removes one thing from staging if it is old and nobody holds it; says whether.
    fn sweep_one(&self, options: &GcOptions<'_>, name: &str) -> Result<bool, Errno> {
        let staging = self.staging_dir();
        let stat = match statat(staging, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        if age(options.now, &stat) < STAGING_GRACE {
            return Ok(false);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            // Not ours, and nothing that could be locked.
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let held = match openat(staging, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
            opened => opened?,
        };
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(false),
            locked => locked?,
        }
        if options.dry_run {
            return Ok(true);
        }
        let removed = if kind == FileType::Directory {
            for inner in names(held.as_fd(), || name.into()).unwrap_or_default() {
                unlinkat(&held, inner, AtFlags::empty())?;
            }
            unlinkat(staging, name, AtFlags::REMOVEDIR)
        } else {
            unlinkat(staging, name, AtFlags::empty())
        };
        match removed {
            // Its writer dropped it just before the lock.
            Err(Errno::NOENT) => Ok(false),
            removed => removed.map(|()| true),
        }
    }
}

/// How old a file is; one from the future is new.
fn age(now: SystemTime, stat: &Stat) -> Duration {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let written = UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
    written.and_then(|written| now.duration_since(written).ok()).unwrap_or_default()
}
