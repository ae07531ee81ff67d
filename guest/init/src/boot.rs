//! From the kernel's first call to the open channel: file systems, modules, the root disk.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount};
use rustix::system::finit_module;

use crate::{memory, root};

/// Modules by their place in the order of loading.
const MODULES: &str = "/modules";

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h: the kernel unpacks it itself.
const COMPRESSED: i32 = 4;

/// A device that is there appears within a small part of this, also when it is emulated.
const HANG: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The name of the channel's port, as the host gives it.
const PORT: &str = "vyr";

const MOUNTS: [(&str, &str, MountFlags); 6] = [
    ("proc", "/proc", MountFlags::empty()),
    ("sysfs", "/sys", MountFlags::empty()),
    ("devtmpfs", "/dev", MountFlags::empty()),
    ("devpts", "/dev/pts", MountFlags::empty()),
    ("tmpfs", "/dev/shm", MountFlags::NOSUID),
    ("cgroup2", "/sys/fs/cgroup", MountFlags::NOSUID),
];

/// Everything before the host's first word. Gives the port of the channel.
pub(crate) fn boot() -> Result<File, String> {
    for (kind, at, flags) in MOUNTS {
        fs::create_dir_all(at).map_err(|e| format!("make {at}: {e}"))?;
        mount(kind, at, kind, flags, None).map_err(|e| format!("mount {at}: {e}"))?;
    }
    memory::protect_init();
    load_modules()?;
    root::mount_image()?;
    let path = until("the port of the channel", port_path)?;
    let mut options = OpenOptions::new();
    let options =
        options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    // The node appears a moment after the port.
    until("the device of the channel", || options.open(&path).ok())
}

fn load_modules() -> Result<(), String> {
    let entries = fs::read_dir(MODULES).map_err(|e| format!("read {MODULES}: {e}"))?;
    let mut modules: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        let flags = if module.extension().is_some_and(|end| end != "ko") { COMPRESSED } else { 0 };
        let file = File::open(&module).map_err(|e| format!("open {}: {e}", module.display()))?;
        finit_module(file, c"", flags).map_err(|e| format!("load {}: {e}", module.display()))?;
    }
    Ok(())
}

fn port_path() -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let ours = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    };
    let entry = entries.flatten().find(ours)?;
    Some(Path::new("/dev").join(entry.file_name()))
}

/// The block device to which the host gave this serial number.
pub(crate) fn disk(serial: &str) -> Result<PathBuf, String> {
    until(&format!("the disk {serial}"), || {
        let entries = fs::read_dir("/sys/block").ok()?;
        let ours = |entry: &fs::DirEntry| {
            fs::read_to_string(entry.path().join("serial")).is_ok_and(|it| it.trim() == serial)
        };
        let path = Path::new("/dev").join(entries.flatten().find(ours)?.file_name());
        path.exists().then_some(path)
    })
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match look() {
            Some(seen) => return Ok(seen),
            None if start.elapsed() > HANG => return Err(format!("{what} does not appear")),
            None => thread::sleep(LOOK_AGAIN),
        }
    }
}
