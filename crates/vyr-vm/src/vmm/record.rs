//! What is on disk of a machine and of a snapshot: enough to find one again, and to refuse a wrong one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Accelerator, Spec, VmmError};

/// The version of both records.
const VERSION: u32 = 1;

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

/// Of a snapshot: everything in which a machine that is restored has to be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    pub(super) version: u32,
    pub(super) vmm: String,
    pub(super) accelerator: String,
    pub(super) platform: String,
    pub(super) root: String,
    pub(super) memory_bytes: u64,
    pub(super) vcpus: u8,
    pub(super) scratch_bytes: Option<u64>,
    pub(super) card: bool,
}

impl Running {
    pub(super) fn new(pid: u32, started: u64, cgroup: Option<String>) -> Result<Self, VmmError> {
        let boot_id = boot_id()?;
        Ok(Self { version: VERSION, boot_id, pid, started, cgroup, root: None })
    }
}

impl Shape {
    /// All but the root disk's digest, for which the whole of it has to be read.
    fn of(spec: &Spec, vmm: &str, accelerator: &Accelerator) -> Self {
        Self {
            version: VERSION,
            vmm: vmm.to_owned(),
            accelerator: accelerator.word().to_owned(),
            platform: spec.platform.digest.to_string(),
            root: String::new(),
            memory_bytes: spec.memory_bytes,
            vcpus: spec.vcpus,
            scratch_bytes: spec.scratch_bytes,
            card: spec.tap.is_some(),
        }
    }

    /// Of a machine that is to be started; a snapshot that it starts from has to be of the same.
    pub(super) fn to_start(
        spec: &Spec,
        vmm: &str,
        accelerator: &Accelerator,
    ) -> Result<Self, VmmError> {
        let mut shape = Self::of(spec, vmm, accelerator);
        if let Some(snapshot) = &spec.snapshot {
            let of: Self = read(&snapshot.with_extension("json"))?;
            shape.add_root(&spec.root)?;
            if let Some(field) = shape.difference(&of) {
                return Err(VmmError::Snapshot(format!("its {field} differs")));
            }
        }
        Ok(shape)
    }

    /// Reads the root disk, and leaves the descriptor where it was.
    pub(super) fn add_root(&mut self, disk: &File) -> Result<(), VmmError> {
        let (mut hasher, mut at) = (vyr_base::Hasher::new(), 0);
        let mut bytes = vec![0; 256 << 10];
        loop {
            let count = disk.read_at(&mut bytes, at);
            match count.map_err(VmmError::file("read", "the root disk"))? {
                0 => break,
                count => {
                    hasher.update(&bytes[..count]);
                    at += count as u64;
                }
            }
        }
        self.root = hasher.finish().to_string();
        Ok(())
    }

    /// In which field the other one differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let fields = [
            (self.version == other.version, "version"),
            (self.vmm == other.vmm, "VMM"),
            (self.accelerator == other.accelerator, "accelerator"),
            (self.platform == other.platform, "platform"),
            (self.root == other.root, "root disk"),
            (self.memory_bytes == other.memory_bytes, "memory"),
            (self.vcpus == other.vcpus, "processors"),
            (self.scratch_bytes == other.scratch_bytes, "scratch disk"),
            (self.card == other.card, "network card"),
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
