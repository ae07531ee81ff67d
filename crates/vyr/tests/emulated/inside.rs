//! The first steps of process 1: the kernel's file systems, modules, the port.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, mount};
use rustix::system::finit_module;

/// Where modules are in the initramfs.
pub(crate) const MODULES: &str = "/modules";

/// MODULE_INIT_COMPRESSED_FILE of linux/module.h: the kernel unpacks it itself.
const COMPRESSED: i32 = 4;

/// Devices appear, and a node starts, within a small part of this.
const HANG: Duration = Duration::from_secs(240);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Mounts what every program expects, loads the modules, opens the port.
pub(crate) fn begin() -> anyhow::Result<File> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
    ] {
        fs::create_dir_all(at)?;
        mount(kind, at, kind, MountFlags::empty(), None).with_context(|| format!("mount {at}"))?;
    }
    load_modules()?;
    until("the port", || {
        let name = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().next()?.file_name();
        OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(name)).ok()
    })
}

fn load_modules() -> anyhow::Result<()> {
    let mut modules: Vec<PathBuf> =
        fs::read_dir(MODULES)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    // Their names begin with their place in the order.
    modules.sort();
    for module in modules {
        let flags = if module.extension().is_some_and(|end| end != "ko") { COMPRESSED } else { 0 };
        finit_module(File::open(&module)?, c"", flags)
            .with_context(|| format!("load {}", module.display()))?;
    }
    Ok(())
}

/// Looks again and again, for what tells nobody when it is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Some(seen) => return Ok(seen),
            None if start.elapsed() > HANG => bail!("{what} does not appear"),
            None => thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Mounts the first disk, once it is there.
pub(crate) fn mount_disk(at: &str, flags: MountFlags) -> anyhow::Result<()> {
    until("the disk", || Path::new("/dev/vda").exists().then_some(()))?;
    fs::create_dir_all(at)?;
    mount("/dev/vda", at, "ext4", flags, None).context("mount the disk")
}
