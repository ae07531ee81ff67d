//! Whether KVM works here: a guest is really booted with it.
//!
//! A device node says little. On some hosts (nested, with the first processor's help emulated) KVM
//! opens, starts a guest, and runs its kernel at a thousandth of the speed. So the platform's own
//! kernel has to come to its first word within a time in which a processor does it many times over:
//! with working KVM a fraction of a second.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::qemu::Qemu;
use super::{Accelerator, MEMORY_MIN, Machine, Platform, Spec, Vmm};

/// Emulation on a slow host takes about this long for the same boot: slower than that is no gain.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// How it is looked at.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) platform: Platform,
    /// Made, and removed.
    pub(super) directory: PathBuf,
    /// As which user: it may be one that reaches the device, or one that does not.
    pub(super) user: Option<(u32, u32)>,
}

impl Probe {
    pub(super) fn look(&self, version: &str) -> Accelerator {
        if !Path::new("/dev/kvm").exists() {
            return Accelerator::Tcg("there is no /dev/kvm".into());
        }
        let tried = self.boots(version);
        // What is left of it is small, and the next probe begins anew.
        let _ = fs::remove_dir_all(&self.directory);
        match tried {
            Ok(()) => Accelerator::Kvm,
            Err(why) => Accelerator::Tcg(format!("no guest boots with KVM: {why}")),
        }
    }

    fn boots(&self, version: &str) -> Result<(), String> {
        let driver = Qemu::with(version, Accelerator::Kvm);
        fs::create_dir_all(&self.directory).map_err(|e| e.to_string())?;
        // A guest's first word comes before its root disk is looked at.
        let empty = self.directory.join("empty");
        let disk = File::create(&empty).and_then(|file| file.set_len(4 << 10));
        let root = disk.and_then(|()| File::open(&empty)).map_err(|e| e.to_string())?;
        let spec = Spec {
            platform: self.platform.clone(),
            root,
            memory_bytes: MEMORY_MIN,
            vcpus: 1,
            scratch_bytes: None,
            card: None,
            user: self.user,
            cgroup: None,
            snapshot: None,
            mark: None,
        };
        driver.prepare(&spec, &self.directory).map_err(|e| e.to_string())?;
        let machine = driver.start(spec, &self.directory).map_err(|e| e.to_string())?;
        let word = machine.channel(true, FIRST_WORD);
        let killed = machine.kill();
        word.map_err(|e| format!("{e} ({} s)", FIRST_WORD.as_secs()))?;
        killed.map(drop).map_err(|e| e.to_string())
    }
}
