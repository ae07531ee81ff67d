//! A disk that is small, for real.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of so many MiB, over a directory; none where this process may not mount.
    pub fn mount(at: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m,mode=0711");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "vyr-test"])
            .arg(at)
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    /// Gives it another size.
    pub fn resize(&self, mib: u32) {
        let how = format!("remount,size={mib}m");
        let status = Command::new("mount").args(["-o", &how]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "it cannot be made {mib} MiB");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
