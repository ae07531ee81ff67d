//! What the machine boots: a kernel as Debian ships it, and an initramfs made here.
//!
//! The kernel is that of the package `linux-image-..-cloud-amd64`, downloaded once by apt-get into
//! the build directory and unpacked, not installed. The initramfs (cpio, form `newc`, as the kernel's
//! documentation describes it) holds this program as `/init`, `vyr`, the shared libraries that `ldd`
//! names, the modules of the disk, and a trust file. Nothing else runs in the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guest;

/// Newest first: the 6.12 of Debian 12's updates, then the release's own.
const PACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// In the order of loading. What a kernel has built in is no file of its package.
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

/// Below the build directory.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-kernel")
}

/// The kernel, once it is there.
pub(crate) fn kernel() -> PathBuf {
    cache().join("vmlinuz")
}

/// Whether `name` can be run.
fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// Sees to it that there is all a machine needs; or says why there is none.
pub(crate) fn prepare() -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the kernel is one for x86-64".into());
    }
    for program in ["qemu-system-x86_64", "mkfs.ext4", "ldd"] {
        if !has_program(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    if kernel().is_file() {
        return Ok(());
    }
    for program in ["apt-get", "dpkg-deb"] {
        if !has_program(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let above = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let work = tempfile::tempdir_in(above).expect("a directory");
    let mut said = Vec::new();
    for package in PACKAGES {
        match download(package, work.path()) {
            Ok(unpacked) => {
                // Whole or not at all: a run that is interrupted leaves no half of a kernel.
                fs::rename(unpacked, cache()).expect("the cache can be made");
                return Ok(());
            }
            Err(why) => said.push(format!("{package}: {why}")),
        }
    }
    Err(format!("the kernel cannot be downloaded ({})", said.join("; ")))
}

/// Downloads what a package of a newest kernel stands for; gives `vmlinuz` and the modules.
fn download(package: &str, work: &Path) -> Result<PathBuf, String> {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(work).env("LC_ALL", "C").output();
        let output = output.map_err(|e| format!("{program}: {e}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program}: {}", stderr.lines().next_back().unwrap_or_default()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let depends = run("apt-cache", &["depends", "--important", package])?;
    let image = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|of| of.contains("image")))
        .ok_or("it names no kernel")?;
    println!("downloading {image}");
    run("apt-get", &["download", image])?;
    let deb = entries(work, ".deb").pop().ok_or("no package came")?;
    let tree = work.join("tree");
    run("dpkg-deb", &["-x", path(&deb), path(&tree)])?;
    let unpacked = work.join("kernel");
    fs::create_dir_all(unpacked.join("modules")).expect("a directory");
    let vmlinuz = entries(&tree.join("boot"), "").into_iter();
    let vmlinuz = vmlinuz.filter(|path| name(path).starts_with("vmlinuz")).max();
    fs::copy(vmlinuz.ok_or("it holds no kernel")?, unpacked.join("vmlinuz")).expect("a copy");
    let mut found = Vec::new();
    // Debian 13 has its modules below `usr`.
    for modules in ["lib/modules", "usr/lib/modules"] {
        walk(&tree.join(modules), &mut found);
    }
    for (place, module) in MODULES.iter().enumerate() {
        let is_it = |path: &&PathBuf| {
            let name = name(path);
            name.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == *module)
        };
        if let Some(file) = found.iter().find(is_it) {
            let end = name(file).split_once(".ko").map_or("", |(_, end)| end).to_owned();
            let to = unpacked.join(format!("modules/{place}-{module}.ko{end}"));
            fs::copy(file, to).expect("a copy");
        }
    }
    Ok(unpacked)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files in a directory whose names end so.
fn entries(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| name(path).ends_with(end)).collect()
}

/// All files below a directory; links are not followed.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Writes the initramfs; `trust` becomes the node's `allowed_signers`.
pub(crate) fn initramfs(to: &Path, trust: &str) {
    let this = std::env::current_exe().expect("this program");
    let vyr = Path::new(env!("CARGO_BIN_EXE_vyr"));
    let mut archive = Cpio::default();
    // The console, for what process 1 says before there is a /dev.
    archive.entry("dev", 0o040_755, (0, 0), b"");
    archive.entry("dev/console", 0o020_600, (5, 1), b"");
    archive.file("init", &stripped(&this, to));
    archive.file(guest::VYR, &stripped(vyr, to));
    archive.file(guest::TRUST, trust.as_bytes());
    let mut libraries: Vec<PathBuf> =
        [this.as_path(), vyr].iter().flat_map(|program| libraries(program)).collect();
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        archive.file(path(&library), &fs::read(&library).expect("a library"));
    }
    archive.directories(&format!("{}/x", guest::MODULES));
    for module in entries(&cache().join("modules"), "") {
        let to = format!("{}/{}", guest::MODULES, name(&module));
        archive.file(&to, &fs::read(&module).expect("a module"));
    }
    fs::write(to, archive.end()).expect("an initramfs");
}

/// A program without its symbols, which are half of it; as it is where `strip` is missing.
fn stripped(program: &Path, beside: &Path) -> Vec<u8> {
    let to = beside.with_extension("stripped");
    let strip = Command::new("strip").arg("-o").args([&to, program]).status();
    let file = if strip.is_ok_and(|status| status.success()) { to.as_path() } else { program };
    let bytes = fs::read(file).expect("a program");
    let _ = fs::remove_file(to);
    bytes
}

/// The absolute paths in what `ldd` prints.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// An archive of the form `newc`, owned by root.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    names: Vec<String>,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let number = u32::try_from(self.names.len() + 1).expect("few");
        let size = u32::try_from(data.len()).expect("less than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("short");
        self.bytes.extend(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device, special device, name size, checksum
        let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        self.names.push(name.to_owned());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The directories above `path`, once each.
    fn directories(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if !self.names.iter().any(|name| *name == path[..at]) {
                self.entry(&path[..at], 0o040_755, (0, 0), b"");
            }
        }
    }

    fn file(&mut self, path: &str, data: &[u8]) {
        self.directories(path);
        self.entry(path.trim_start_matches('/'), 0o100_755, (0, 0), data);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}
