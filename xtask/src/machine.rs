//! Facts about this machine, found without running what depends on them.

use std::path::Path;
use std::process::Command;

use crate::repo::output;

/// The header that comes with what is linked; `xtask/not-run.txt` names it too.
const LIBELF: &str = "/usr/include/libelf.h";

/// Whether a program of that name is on the search path.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Whether libelf can be linked, which loads objects into the kernel.
pub(crate) fn has_libelf() -> bool {
    Path::new(LIBELF).is_file()
}

/// Whether the standard library for that target is installed.
pub(crate) fn has_target(name: &str) -> bool {
    let libdir = output(Command::new("rustc").args(["--print", "target-libdir", "--target", name]));
    libdir.is_ok_and(|dir| Path::new(dir.trim()).is_dir())
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    // `Uid:` real, effective, saved, file system.
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
    })
}
