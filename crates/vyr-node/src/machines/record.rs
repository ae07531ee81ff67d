//! What is on disk of a machine beside what its driver writes: who it is, and how it ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use vyr_base::Digest;
use vyr_vm::channel::words::Check;

use super::{Began, Ending, MachineId};
use crate::data_dir::replace;

const VERSION: u32 = 1;
const NAME: &str = "instance.json";

/// Bytes of a record.
const BYTES_MAX: u64 = 16 << 10;

/// A guest on a busy host, and its words on their way, may take so much longer.
const SILENCE_SLACK_MS: u64 = 10_000;

/// Nothing of what a machine was told: names and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: MachineId,
    /// The VMM's user, if it has one of its own.
    pub(crate) uid: Option<u32>,
    /// Stands on the VMM's command line, and names its cgroup: no other machine has it.
    pub(crate) mark: String,
    /// For so long a guest that is well never says nothing of its check; none: it has no check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) silence_ms: Option<u64>,
    /// Of which kind it is, if snapshots are made: theirs stays as long as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<Digest>,
    /// Whether its VMM came to run.
    pub(crate) ran: bool,
    /// How, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) began: Option<Began>,
    pub(crate) ended: Option<Ending>,
}

impl Record {
    /// Of a machine that is about to be started.
    ///
    /// # Errors
    /// The host's generator gives nothing.
    pub(crate) fn new(id: MachineId, uid: Option<u32>, check: Option<&Check>) -> io::Result<Self> {
        let silence = |check: &Check| {
            check.interval_ms.saturating_add(check.timeout_ms).saturating_add(SILENCE_SLACK_MS)
        };
        Ok(Self {
            version: VERSION,
            id,
            uid,
            mark: mark()?,
            silence_ms: check.map(silence),
            kind: None,
            ran: false,
            began: None,
            ended: None,
        })
    }

    /// Writes it, whole and durably.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        replace(&directory.join(NAME), &text)
    }

    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(directory.join(NAME))?.take(BYTES_MAX).read_to_end(&mut text)?;
        let record: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let name = directory.file_name().unwrap_or_default();
        if record.version != VERSION || name != record.id.as_str() {
            return Err(io::Error::other(
                "it is the record of another machine, or of another version",
            ));
        }
        Ok(record)
    }
}

/// What no other VMM has on its command line.
///
/// # Errors
/// The host's generator gives nothing.
pub(crate) fn mark() -> io::Result<String> {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("vyr-{digits}"))
}

/// The records below a directory, and what could not be read. A directory without a record was begun
/// and never ordered: it is removed.
pub(crate) fn all(below: &Path) -> io::Result<(Vec<Record>, Vec<String>)> {
    let (mut records, mut faults) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(below)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if MachineId::new(name).is_err() || !path.is_dir() {
            continue;
        }
        match Record::read(&path) {
            Ok(record) => records.push(record),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if let Err(e) = fs::remove_dir_all(&path) {
                    faults.push(format!("{}: {e}", path.display()));
                }
            }
            Err(e) => faults.push(format!("{}: {e}", path.display())),
        }
    }
    records.sort_by(|a, b| a.id.cmp(&b.id));
    Ok((records, faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::FailedAt;

    #[test]
    fn a_record_is_read_back_and_another_is_refused() {
        let below = tempfile::tempdir().expect("room");
        let directory = below.path().join("one");
        fs::create_dir(&directory).expect("room");
        fs::create_dir(below.path().join("half")).expect("room");
        let id = MachineId::new("one").expect("a name");
        let mut record = Record::new(id, Some(61_000), None).expect("randomness");
        record.write(&directory).expect("room");
        record.ended = Some(Ending::Failed { at: FailedAt::Boot, why: "why".into() });
        record.write(&directory).expect("room");
        assert_eq!(all(below.path()).expect("a directory"), (vec![record.clone()], vec![]));
        assert!(!below.path().join("half").exists(), "what was never ordered is gone");

        fs::rename(&directory, below.path().join("two")).expect("room");
        let (records, faults) = all(below.path()).expect("a directory");
        assert!(records.is_empty() && faults.len() == 1, "{faults:?}");
        fs::write(below.path().join("two/instance.json"), "{}").expect("room");
        assert_eq!(all(below.path()).expect("a directory").1.len(), 1);
        assert!(below.path().join("two").exists(), "what cannot be read is left to its owner");
    }
}
