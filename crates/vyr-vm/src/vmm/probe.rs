//! Whether KVM works here: a guest is really booted with it.
//!
//! A device node says little. On some hosts (nested, with the first processor's help emulated) KVM
//! opens, starts a guest, and runs its kernel at a thousandth of the speed. So the platform's own
//! kernel has to come to its first word within a time in which a processor does it many times over:
//! with working KVM a fraction of a second.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use super::qemu::Qemu;
use super::{Accelerator, MEMORY_MIN, Machine, Platform, Spec, Vmm};

/// Emulation on a slow host takes about this long for the same boot: slower than that is no gain.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Looks.
pub(super) fn probe(version: &str, platform: &Platform, root: &Path) -> Accelerator {
    if let Err(e) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Accelerator::Tcg(format!("/dev/kvm: {e}"));
    }
    match boots(version, platform, root) {
        Ok(()) => Accelerator::Kvm,
        Err(why) => Accelerator::Tcg(format!("no guest boots with KVM: {why}")),
    }
}

fn boots(version: &str, platform: &Platform, root: &Path) -> Result<(), String> {
    let directory = std::env::temp_dir().join(format!("vyr-probe-{}", std::process::id()));
    let driver = Qemu::with(version, Accelerator::Kvm);
    let spec = Spec {
        platform: platform.clone(),
        root: root.to_owned(),
        memory_bytes: MEMORY_MIN,
        vcpus: 1,
        scratch_bytes: None,
        tap: None,
        user: None,
        cgroup: None,
        snapshot: None,
    };
    let tried = driver
        .prepare(&spec, &directory)
        .and_then(|()| driver.start(spec, &directory))
        .map_err(|e| e.to_string())
        .and_then(|machine| {
            let word = machine.channel(true, FIRST_WORD);
            let killed = machine.kill();
            word.map_err(|e| format!("{e} ({} s)", FIRST_WORD.as_secs()))?;
            killed.map(drop).map_err(|e| e.to_string())
        });
    // What is left of it is small and has a name of its own.
    let _ = std::fs::remove_dir_all(&directory);
    tried
}
