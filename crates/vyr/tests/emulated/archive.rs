//! The initramfs: cpio, form `newc`, as the kernel's documentation describes it. It holds programs,
//! the shared libraries that `ldd` names, modules in the order of loading, and files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::inside::MODULES;
use super::kernel;

/// An archive that is being written.
pub(crate) struct Archive {
    cpio: Cpio,
    libraries: BTreeSet<PathBuf>,
    work: tempfile::TempDir,
}

impl Archive {
    /// With this program as process 1, and the modules of these names.
    pub(crate) fn new(modules: &[&str]) -> Self {
        let work = tempfile::tempdir().expect("a directory");
        let mut archive = Self { cpio: Cpio::default(), libraries: BTreeSet::new(), work };
        // The console, for what process 1 says before there is a /dev.
        archive.cpio.entry("dev", 0o040_755, (0, 0), b"");
        archive.cpio.entry("dev/console", 0o020_600, (5, 1), b"");
        archive.program("init", &std::env::current_exe().expect("this program"));
        archive.cpio.directories(&format!("{MODULES}/x"));
        for (place, module) in kernel::modules(modules).iter().enumerate() {
            let to = format!("{MODULES}/{place:02}-{}", kernel::name(module));
            archive.file(&to, &fs::read(module).expect("a module"));
        }
        archive
    }

    /// A program, without its symbols, which can be half of it; as it is where `strip` is missing.
    pub(crate) fn program(&mut self, to: &str, program: &Path) {
        let stripped = self.work.path().join("stripped");
        let strip = Command::new("strip").arg("-o").args([&stripped, program]).status();
        let is_stripped = strip.is_ok_and(|status| status.success());
        let file = if is_stripped { stripped.as_path() } else { program };
        self.file(to, &fs::read(file).expect("a program"));
        let output = Command::new("ldd").arg(program).output().expect("ldd runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        self.libraries.extend(paths.map(PathBuf::from));
    }

    /// A file that root may run.
    pub(crate) fn file(&mut self, path: &str, data: &[u8]) {
        self.cpio.file(path, data);
    }

    /// Writes it.
    pub(crate) fn write(mut self, to: &Path) {
        for library in &self.libraries {
            self.cpio.file(kernel::path(library), &fs::read(library).expect("a library"));
        }
        fs::write(to, self.cpio.end()).expect("an initramfs");
    }
}

/// An archive of the form `newc`, owned by root.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
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
        self.names.insert(name.to_owned());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The directories above `path`, once each.
    fn directories(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if !self.names.contains(&path[..at]) {
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
