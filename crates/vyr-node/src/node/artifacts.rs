//! Artifacts that this process has checked, so that a submission does not read them anew.
//!
//! An artifact is checked whole before its first use in a process, and again whenever a trust file
//! has changed since: a revocation counts from the next submission on.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vyr_artifact::Manifest;
use vyr_base::Digest;
use vyr_store::Store;

use crate::artifact::{self, Admitted};
use crate::data_dir::DataDir;
use crate::report::Result;
use crate::trust::{Trust, TrustedSigner};

/// Checked artifacts that are remembered; the table is emptied when there are more.
const KNOWN_MAX: usize = 1024;

/// How long a look at the trust files counts.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An artifact that may run.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) manifest: Manifest,
    pub(crate) signer: TrustedSigner,
}

/// What tells one state of the trust files from another.
type Stamp = [Option<(u64, u64, i64, i64)>; 3];

#[derive(Debug)]
struct Table {
    stamp: Stamp,
    looked: Instant,
    known: HashMap<Digest, Arc<Known>>,
}

/// The artifacts of a data directory.
#[derive(Debug)]
pub(crate) struct Artifacts {
    data: DataDir,
    store: Store,
    table: Mutex<Table>,
}

impl Artifacts {
    pub(crate) fn new(data: DataDir, store: Store) -> Self {
        let (stamp, looked) = (stamp(&data), Instant::now());
        Self { data, store, table: Mutex::new(Table { stamp, looked, known: HashMap::new() }) }
    }

    /// One that was checked before under the present trust files; never blocks for long.
    pub(crate) fn known(&self, artifact: &Digest) -> Option<Arc<Known>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.looked.elapsed() > LOOK_AGAIN {
            table.looked = Instant::now();
            let now = stamp(&self.data);
            if now != table.stamp {
                table.stamp = now;
                table.known.clear();
            }
        }
        table.known.get(artifact).cloned()
    }

    /// Checks one. Reads all of it, so it belongs on a thread that may wait.
    pub(crate) fn check(&self, artifact: &Digest) -> Result<Arc<Known>> {
        let before = stamp(&self.data);
        let trust = Trust::load(&self.data)?;
        let Admitted { manifest, signer } = artifact::admit(&self.store, &trust, artifact)?;
        let known = Arc::new(Known { manifest, signer });
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.known.len() >= KNOWN_MAX {
            table.known.clear();
        }
        // What was checked under files that have changed since is not remembered.
        if before == table.stamp {
            table.known.insert(*artifact, Arc::clone(&known));
        }
        Ok(known)
    }
}

fn stamp(data: &DataDir) -> Stamp {
    let of = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    };
    let dev = data.path().join("keys/dev.pub");
    [of(&data.allowed_signers()), of(&data.revoked_keys()), of(&dev)]
}
