//! The kernel: that of the package `linux-image-..-cloud-amd64`, downloaded once by apt-get into the
//! build directory and unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Newest first: the 6.12 of Debian 12's updates, then the release's own.
const PACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// Below the build directory.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel")
}

/// The kernel, once it is there.
pub(crate) fn image() -> PathBuf {
    let files = entries(&cache().join("boot"), "").into_iter();
    files.filter(|path| name(path).starts_with("vmlinuz")).max().expect("it was prepared")
}

/// Where a program of this name is.
pub(crate) fn program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Not everybody has the directories of an administrator's programs in their path.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&path).chain(more);
    all.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))
}

/// Sees to it that there are a kernel, an emulator and these programs; or says what there is not.
pub(crate) fn prepare(programs: &[&str]) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the kernel is one for x86-64".into());
    }
    let has = |names: &[&str]| match names.iter().find(|name| program(name).is_none()) {
        Some(missing) => Err(format!("{missing} is not installed")),
        None => Ok(()),
    };
    has(&["qemu-system-x86_64", "mkfs.ext4", "ldd"])?;
    has(programs)?;
    if cache().is_dir() {
        return Ok(());
    }
    has(&["apt-get", "dpkg-deb"])?;
    let above = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let work = tempfile::tempdir_in(above).expect("a directory");
    let mut said = Vec::new();
    for package in PACKAGES {
        match download(package, work.path()) {
            Ok(unpacked) => {
                // Whole or not at all: a run that is interrupted leaves no half of a kernel. Another
                // test may have been first.
                let renamed = fs::rename(unpacked, cache());
                assert!(cache().is_dir(), "the cache can be made: {renamed:?}");
                return Ok(());
            }
            Err(why) => said.push(format!("{package}: {why}")),
        }
    }
    Err(format!("the kernel cannot be downloaded ({})", said.join("; ")))
}

/// Downloads what a package of a newest kernel stands for, and unpacks it.
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
    let is_kernel = |path: &PathBuf| name(path).starts_with("vmlinuz");
    match entries(&tree.join("boot"), "").iter().any(is_kernel) {
        true => Ok(tree),
        false => Err("it holds no kernel".into()),
    }
}

/// The files of these modules, in their order. What a kernel has built in is no file of its package.
pub(crate) fn modules(names: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Debian 13 has its modules below `usr`.
    for modules in ["lib/modules", "usr/lib/modules"] {
        walk(&cache().join(modules), &mut found);
    }
    let file = |module: &&str| {
        let is_it = |path: &&PathBuf| {
            name(path).split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == *module)
        };
        found.iter().find(is_it).cloned()
    };
    names.iter().filter_map(file).collect()
}

/// A path as text.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
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
