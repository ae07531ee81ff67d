//! The workload's file tree: the image below, a writable layer above, the kernel's file systems in it.
//!
//! The image's own links are followed while its tree is filled, so a hostile image can spoil its
//! guest, and nothing else: the boundary is the machine.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};

use crate::boot::disk;

/// What the workload sees as `/`.
pub(crate) const ROOT: &str = "/newroot";

const IMAGE: &str = "/image";
const LAYER: &str = "/layer";

/// Mounts the image, read-only. It is the same for every instance, so a snapshot has it.
pub(crate) fn mount_image() -> Result<(), String> {
    let device = disk("root")?;
    make(IMAGE)?;
    mount(device, IMAGE, "squashfs", MountFlags::RDONLY, None)
        .map_err(|e| format!("mount the image: {e}"))
}

/// The overlay, on the scratch disk or in memory.
pub(crate) fn mount_overlay(scratch: bool) -> Result<(), String> {
    make(LAYER)?;
    if scratch {
        // A restored guest may remember the first blocks of another instance's disk.
        fs::write("/proc/sys/vm/drop_caches", "1").map_err(|e| format!("drop caches: {e}"))?;
        mount(disk("scratch")?, LAYER, "ext4", MountFlags::NOATIME, None)
            .map_err(|e| format!("mount the scratch disk: {e}"))?;
    } else {
        mount("tmpfs", LAYER, "tmpfs", MountFlags::empty(), None)
            .map_err(|e| format!("mount the layer in memory: {e}"))?;
    }
    for path in [&format!("{LAYER}/upper"), &format!("{LAYER}/work"), ROOT] {
        make(path)?;
    }
    let options = c"lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work";
    mount("overlay", ROOT, "overlay", MountFlags::empty(), options)
        .map_err(|e| format!("mount the overlay: {e}"))?;
    for (kind, at) in [("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run"), ("tmpfs", "tmp")] {
        // An image that has a /tmp keeps it: there may be something in it.
        if at == "tmp" && Path::new(ROOT).join(at).exists() {
            continue;
        }
        let at = format!("{ROOT}/{at}");
        make(&at)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mode = if at.ends_with("tmp") { c"mode=1777" } else { c"mode=0755" };
        let data = if kind == "tmpfs" { Some(mode) } else { None };
        mount(kind, &*at, kind, flags, data).map_err(|e| format!("mount {at}: {e}"))?;
    }
    let dev = format!("{ROOT}/dev");
    make(&dev)?;
    mount_bind_recursive("/dev", &*dev).map_err(|e| format!("mount {dev}: {e}"))?;
    let cgroups = format!("{ROOT}/sys/fs/cgroup");
    mount_bind_recursive("/sys/fs/cgroup", &*cgroups)
        .map_err(|e| format!("mount {cgroups}: {e}"))?;
    mount_change(ROOT, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| format!("close off the mounts: {e}"))
}

/// A small file below the workload's root; a link of the image there is replaced.
pub(crate) fn write_file(path: &str, text: &str) -> io::Result<()> {
    let path = Path::new(ROOT).join(path);
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => fs::write(&path, text),
    }
}

fn make(path: &str) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("make {path}: {e}"))
}
