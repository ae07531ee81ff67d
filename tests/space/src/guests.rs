//! What guests of tests are made of: the platform, and a root disk of busybox.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the run to a process that a test starts.
pub const RUN: &str = "VYR_TEST_RUN";

/// What making them takes.
const PROGRAMS: [&str; 6] =
    ["qemu-system-x86_64", "mksquashfs", "mke2fs", "apt-get", "dpkg-deb", "zstd"];

/// The programs of the root disk: busybox, under these names.
const NAMES: [&str; 32] = [
    "sh", "cat", "cut", "date", "dd", "echo", "env", "grep", "head", "hostname", "httpd", "id",
    "ip", "kill", "ls", "mount", "nc", "od", "ping", "ps", "seq", "sleep", "stat", "stty", "tail",
    "touch", "true", "tty", "uname", "wc", "yes", "busybox",
];

/// Made once in a run of tests, for all of them. Every user can read it, as VMMs with users of their own
/// have to.
#[derive(Debug, Clone)]
pub struct Guests {
    /// The directory of kernel and first process.
    pub platform: PathBuf,
    /// A squashfs: busybox as everything, `www/index.html`.
    pub root: PathBuf,
}

impl Guests {
    /// Where they are below the target directory's place for tests, made or not.
    pub fn at(target: &Path) -> Self {
        let base = target.join("guests");
        Self { platform: base.join("platform"), root: base.join("root.squashfs") }
    }

    /// Makes them unless this run has.
    ///
    /// # Errors
    /// Why they cannot be made on this machine.
    pub fn make(target: &Path) -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("the guest is one for x86-64".into());
        }
        for program in PROGRAMS {
            if !has_program(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.is_file());
        let busybox = busybox.ok_or("busybox is not installed")?;
        let base = target.join("guests");
        let guests = Self::at(target);
        once(&base, || {
            make_platform(&guests.platform)?;
            make_root(&base.join("tree"), busybox, &guests.root)?;
            let open = |path: &Path, mode| {
                let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
                set.map_err(|e| format!("{}: {e}", path.display()))
            };
            open(&base, 0o755)?;
            open(&guests.platform, 0o755)?;
            ["vmlinux", "initramfs", "guest.json"]
                .iter()
                .try_for_each(|name| open(&guests.platform.join(name), 0o644))
        })?;
        Ok(guests)
    }
}

/// Has `make` make what is in a directory, once in a run of tests: the runner may give each test a process
/// of its own, and whoever comes meanwhile waits.
///
/// # Errors
/// Those of `make`; the directory cannot be had.
pub fn once(directory: &Path, make: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", directory.display());
    fs::create_dir_all(directory).map_err(wrong)?;
    let lock = File::create(directory.join("lock")).map_err(wrong)?;
    lock.lock().map_err(wrong)?;
    let stamp = directory.join("run");
    if fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == run()) {
        return Ok(());
    }
    let _ = fs::remove_file(&stamp);
    make()?;
    fs::write(stamp, run()).map_err(wrong)
}

/// This run of tests, which may be several processes.
pub fn run() -> String {
    let named = ["NEXTEST_RUN_ID", RUN].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| std::process::id().to_string())
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path).chain(more).any(|directory| directory.join(name).is_file())
}

fn make_platform(to: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut guest = Command::new(cargo);
    guest.args(["xtask", "guest", "--out"]).arg(to).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test of its package would have it build others anew.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
            guest.env_remove(name);
        }
    }
    let made = guest.output().map_err(|e| format!("the platform cannot be made: {e}"))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(format!("the platform cannot be made: {}", said.lines().next_back().unwrap_or_default()))
}

/// By the same program that real images are made with.
fn make_root(tree: &Path, busybox: &Path, disk: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(tree);
    let fill = || {
        for directory in ["bin", "etc", "www", "proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir_all(tree.join(directory))?;
        }
        for name in NAMES {
            match name {
                "busybox" => drop(fs::copy(busybox, tree.join("bin/busybox"))?),
                _ => symlink("busybox", tree.join("bin").join(name))?,
            }
        }
        fs::write(tree.join("www/index.html"), "served\n")
    };
    fill().map_err(|e: std::io::Error| format!("{}: {e}", tree.display()))?;
    let _ = fs::remove_file(disk);
    let made = Command::new("mksquashfs")
        .arg(tree)
        .arg(disk)
        .args(["-comp", "zstd", "-all-root", "-quiet", "-no-progress", "-all-time", "0"])
        .args(["-mkfs-time", "0"])
        .output()
        .map_err(|e| format!("mksquashfs: {e}"))?;
    if made.status.success() { Ok(()) } else { Err("mksquashfs failed".into()) }
}
