//! What the machine boots: this program, `vyr`, the modules of the disk, and a trust file. Nothing
//! else runs in it.

use std::path::Path;

use crate::emulated::archive::Archive;
use crate::guest;

/// In the order of loading.
const MODULES: [&str; 8] = [
    "crc16",
    "mbcache",
    "jbd2",
    "crc32c_generic",
    "ext4",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
];

/// Writes the initramfs; `trust` becomes the node's `allowed_signers`.
pub(crate) fn initramfs(to: &Path, trust: &str) {
    let mut archive = Archive::new(&MODULES);
    archive.program(guest::VYR, Path::new(env!("CARGO_BIN_EXE_vyr")));
    archive.file(guest::TRUST, trust.as_bytes());
    archive.write(to);
}
