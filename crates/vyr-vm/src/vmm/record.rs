//! What is on disk of a machine and of a snapshot: enough to find one again, and to refuse a wrong one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vyr_base::Digest;

use super::{Accelerator, Spec, VmmError};

/// Of the record of a running machine.
const VERSION: u32 = 1;

/// Of the record of a snapshot. Version 1 was no more than a shape.
const STORED_VERSION: u32 = 2;

/// Bytes of a record.
const BYTES_MAX: u64 = 64 << 10;

/// Of a running machine. Only the host writes where this lies; the VMM cannot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Running {
    pub(super) version: u32,
    /// The host's boot: numbers of another one mean nothing.
    pub(super) boot_id: String,
    pub(super) pid: u32,
    /// See [`super::process::started`].
    pub(super) started: u64,
    pub(super) cgroup: Option<String>,
    /// What the VMM has for its root directory, if its sockets lie there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<PathBuf>,
}

/// Of a snapshot. What is stored is what was written, and fits machines of one shape.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    version: u32,
    shape: Shape,
    /// In the driver's order: the one that gives the snapshot its name is the first.
    files: Vec<StoredFile>,
}

/// One file of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    bytes: u64,
    digest: Digest,
}

/// Everything in which a machine that is restored has to be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    pub(super) vmm: String,
    pub(super) accelerator: String,
    /// The host's boot: after the next one its processor, which the guest sees or keeps time by, may be
    /// another.
    pub(super) boot_id: String,
    pub(super) platform: String,
    pub(super) root: Option<Digest>,
    pub(super) memory_bytes: u64,
    pub(super) vcpus: u8,
    pub(super) scratch_bytes: Option<u64>,
    pub(super) card: bool,
    /// Of everything the guest sees of its machine, so that another version of this program that makes
    /// other machines knows it.
    pub(super) devices: Digest,
}

impl Running {
    pub(super) fn new(pid: u32, started: u64, cgroup: Option<String>) -> Result<Self, VmmError> {
        let boot_id = boot_id()?;
        Ok(Self { version: VERSION, boot_id, pid, started, cgroup, root: None })
    }
}

impl Stored {
    /// Without files.
    pub(super) fn of(shape: Shape) -> Self {
        Self { version: STORED_VERSION, shape, files: Vec::new() }
    }

    /// One more file, as it is now.
    pub(super) fn add(
        &mut self,
        file: &File,
        digest: impl FnOnce(&File) -> io::Result<Digest>,
    ) -> io::Result<()> {
        let (bytes, digest) = (file.metadata()?.len(), digest(file)?);
        self.files.push(StoredFile { bytes, digest });
        Ok(())
    }

    /// The record of a snapshot that is for machines of this shape.
    pub(super) fn fitting(snapshot: &Path, shape: &Shape) -> Result<Self, VmmError> {
        let path = snapshot.with_extension("json");
        let stored: Self = read(&path)?;
        if stored.version != STORED_VERSION {
            let why = format!("its version is {}", stored.version);
            return Err(VmmError::Record { path, why });
        }
        match shape.difference(&stored.shape) {
            Some(field) => Err(VmmError::Snapshot(format!("its {field} differs"))),
            None => Ok(stored),
        }
    }

    /// Whether these are its files, byte for byte as they were stored.
    pub(super) fn check(
        &self,
        files: &[(&File, &Path)],
        digest: impl Fn(&File) -> io::Result<Digest>,
    ) -> Result<(), VmmError> {
        for (number, (file, path)) in files.iter().enumerate() {
            let read = || VmmError::file("read", *path);
            let bytes = file.metadata().map_err(read())?.len();
            // One of another size need not be read.
            let stored = self.files.get(number).filter(|stored| stored.bytes == bytes);
            let whole = match stored {
                Some(stored) => digest(file).map_err(read())? == stored.digest,
                None => false,
            };
            if !whole {
                return Err(VmmError::Damaged(path.to_path_buf()));
            }
        }
        Ok(())
    }
}

impl Shape {
    /// All but the root disk's digest, for which the whole of it may have to be read. `seen`: everything
    /// that the guest sees of its machine, in the driver's words.
    pub(super) fn of(
        spec: &Spec,
        vmm: &str,
        accelerator: &Accelerator,
        seen: &str,
    ) -> Result<Self, VmmError> {
        Ok(Self {
            vmm: vmm.to_owned(),
            accelerator: accelerator.word().to_owned(),
            boot_id: boot_id()?,
            platform: spec.platform.digest.to_string(),
            root: None,
            memory_bytes: spec.memory_bytes,
            vcpus: spec.vcpus,
            scratch_bytes: spec.scratch_bytes,
            card: spec.card.is_some(),
            devices: Digest::of(seen.as_bytes()),
        })
    }

    /// A name for it that no other shape has.
    pub(super) fn name(&self) -> Result<Digest, VmmError> {
        let text = serde_json::to_vec(self).map_err(|e| VmmError::Spec(e.to_string()))?;
        Ok(Digest::of(&text))
    }

    /// In which field the other one differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let fields = [
            (self.vmm == other.vmm, "VMM"),
            (self.accelerator == other.accelerator, "accelerator"),
            (self.boot_id == other.boot_id, "host's boot"),
            (self.platform == other.platform, "platform"),
            (self.root == other.root, "root disk"),
            (self.memory_bytes == other.memory_bytes, "memory"),
            (self.vcpus == other.vcpus, "number of processors"),
            (self.scratch_bytes == other.scratch_bytes, "scratch disk"),
            (self.card == other.card, "network card"),
            (self.devices == other.devices, "set of devices"),
        ];
        fields.into_iter().find(|(same, _)| !same).map(|(_, name)| name)
    }
}

pub(super) fn boot_id() -> Result<String, VmmError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(VmmError::file("read", path))?;
    Ok(text.trim().to_owned())
}

/// Whole, synced, or not there.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), VmmError> {
    let wrong = || VmmError::file("write", path);
    let text = serde_json::to_vec(value)
        .map_err(|e| VmmError::Record { path: path.to_owned(), why: e.to_string() })?;
    let new = path.with_extension("new");
    let mut file = File::create(&new).map_err(wrong())?;
    file.write_all(&text).map_err(wrong())?;
    file.sync_all().map_err(wrong())?;
    fs::rename(&new, path).map_err(wrong())?;
    let above = path.parent().unwrap_or(Path::new("."));
    File::open(above).and_then(|directory| directory.sync_all()).map_err(wrong())
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, VmmError> {
    let bad = |why: String| VmmError::Record { path: path.to_owned(), why };
    let metadata = fs::metadata(path).map_err(VmmError::file("read", path))?;
    if metadata.len() > BYTES_MAX {
        return Err(bad(format!("it has {} bytes", metadata.len())));
    }
    let bytes = fs::read(path).map_err(VmmError::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}
