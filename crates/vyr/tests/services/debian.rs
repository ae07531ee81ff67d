//! Images of programs that are not ours: Debian's packages and what they depend on, by
//! `scripts/debian-root.sh`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file tree of packages in `to`, with these programs of busybox and one user besides root. What is
/// said before the last package is an option of the script.
///
/// # Errors
/// The packages cannot be had.
pub(crate) fn root(
    to: &Path,
    packages: &[&str],
    programs: &[&str],
    user: (&str, u32),
) -> Result<PathBuf, String> {
    let (name, rest) = packages.split_last().expect("a package");
    // What was downloaded once is not downloaded again.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("services/debian").join(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/debian-root.sh");
    let made = Command::new(script)
        .arg(to)
        .arg(cache)
        .args(rest)
        .args([name, "busybox-static"])
        .output()
        .map_err(|e| format!("the packages cannot be had: {e}"))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        let said = said.lines().next_back().unwrap_or_default();
        return Err(format!("the packages cannot be had: {said}"));
    }
    for name in programs {
        symlink("busybox", to.join("usr/bin").join(name)).expect("room");
    }
    let (name, id) = user;
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\n{name}:x:{id}:{id}::/:/bin/sh\n");
    fs::write(to.join("etc/passwd"), passwd).expect("room");
    fs::write(to.join("etc/group"), format!("root:x:0:\n{name}:x:{id}:\n")).expect("room");
    Ok(to.to_owned())
}

/// A program of the image.
pub(crate) fn script(root: &Path, name: &str, text: &str) {
    let to = root.join(name);
    fs::write(&to, text).expect("room");
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("ours");
}
