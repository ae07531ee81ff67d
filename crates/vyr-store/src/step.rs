//! Durable steps, announced to a probe so that a test can end the process after any of them.
//!
//! A step is announced right after it happened. Production stores have no probe; the cost is one
//! test of an `Option`.

use std::fmt;
use std::sync::Arc;

/// What a probe is: called with each step, in the thread that took it.
pub type ProbeFn = Arc<dyn Fn(Step) + Send + Sync>;

/// One change on disk after which a crash must leave a sound store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The directories of a new store exist.
    DirectoriesMade,
    /// The marker of a new store is written and synced under a temporary name.
    LayoutStaged,
    /// The marker has its name: the store exists.
    LayoutRenamed,
    /// The marker's name is durable.
    LayoutSynced,
    /// A put or an import has its staging directory.
    StagingMade,
    /// A blob already in the store is linked into the staging directory.
    BlobLinked,
    /// A blob was written into the staging directory and has its digest.
    BlobStaged,
    /// A staged blob is durable.
    BlobSynced,
    /// A staged blob has its final name.
    BlobRenamed,
    /// The final names are durable.
    BlobsSynced,
    /// The new index is written and synced under a temporary name.
    IndexStaged,
    /// The new index has its name.
    IndexRenamed,
    /// The new index's name is durable.
    IndexSynced,
    /// A staging directory is gone.
    StagingRemoved,
    /// An output outgrew its buffer and has a staging file.
    OutputSpilled,
    /// An output is written and synced under a temporary name.
    OutputSynced,
    /// An output has its final name.
    OutputRenamed,
    /// An output's name is durable.
    OutputDurable,
    /// gc removed a blob.
    BlobRemoved,
    /// gc's removals are durable.
    RemovalsSynced,
    /// gc removed something stale from the staging directory.
    StaleRemoved,
}

impl Step {
    /// Every step: the crash tests prove that they met each.
    pub const ALL: [Self; 21] = [
        Self::DirectoriesMade,
        Self::LayoutStaged,
        Self::LayoutRenamed,
        Self::LayoutSynced,
        Self::StagingMade,
        Self::BlobLinked,
        Self::BlobStaged,
        Self::BlobSynced,
        Self::BlobRenamed,
        Self::BlobsSynced,
        Self::IndexStaged,
        Self::IndexRenamed,
        Self::IndexSynced,
        Self::StagingRemoved,
        Self::OutputSpilled,
        Self::OutputSynced,
        Self::OutputRenamed,
        Self::OutputDurable,
        Self::BlobRemoved,
        Self::RemovalsSynced,
        Self::StaleRemoved,
    ];
}

/// The probe a store carries, usually none.
#[derive(Clone, Default)]
pub(crate) struct Probe(pub(crate) Option<ProbeFn>);

impl Probe {
    pub(crate) fn at(&self, step: Step) {
        if let Some(probe) = &self.0 {
            probe(step);
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Probe(set)" } else { "Probe(none)" })
    }
}
