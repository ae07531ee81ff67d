//! A machine's directory, and in it the root directory of its VMM:
//!
//! ```text
//!  DIRECTORY/firecracker.json, console.pipe, console.log, vmm.log       ours
//!  DIRECTORY/jail/PROGRAM/ID/root/                                      the VMM's
//!      kernel initramfs root.img    links: one file system, read by the VMM's user
//!      state memory                 links, to a snapshot
//!      scratch.img                  its own
//!      api vsock                    sockets that it makes
//! ```
//!
//! The jailer wants the middle part so; without it the place is the same, and nothing holds the VMM
//! there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, linkat, mknodat};
use rustix::net::sockopt::socket_peercred;

use super::super::{Spec, VmmError, console};

/// Below the root directory.
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRAMFS: &str = "initramfs";
pub(super) const ROOT_DISK: &str = "root.img";
pub(super) const SCRATCH: &str = "scratch.img";
pub(super) const STATE: &str = "state";
pub(super) const MEMORY: &str = "memory";
/// What is stored goes elsewhere than what was restored: that is a link to all machines' snapshot.
pub(super) const NEW_STATE: &str = "state.new";
pub(super) const NEW_MEMORY: &str = "memory.new";
pub(super) const API: &str = "api";
pub(super) const VSOCK: &str = "vsock";

/// Below the machine's directory.
const JAIL: &str = "jail";
const CONSOLE_PIPE: &str = "console.pipe";

/// The id of a machine without a mark.
const UNMARKED: &str = "vyr";

/// Beside a snapshot's state.
pub(super) fn memory_of(snapshot: &Path) -> PathBuf {
    snapshot.with_extension("memory")
}

#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    id: String,
    root: PathBuf,
}

impl Place {
    pub(super) fn of(directory: &Path, program: &Path, spec: &Spec) -> Self {
        let id = spec.mark.clone().unwrap_or_else(|| UNMARKED.to_owned());
        let name = program.file_name().unwrap_or(program.as_os_str());
        let root = directory.join(JAIL).join(name).join(&id).join("root");
        Self { directory: directory.to_owned(), id, root }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the jailer makes its part in.
    pub(super) fn base(&self) -> PathBuf {
        self.directory.join(JAIL)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn into_root(self) -> PathBuf {
        self.root
    }

    /// Makes it anew, with everything in it but the scratch disk.
    pub(super) fn make(&self, spec: &Spec) -> Result<(), VmmError> {
        let make = |path: &Path| {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
            made.map_err(VmmError::file("make", path))
        };
        make(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))
            .map_err(VmmError::file("close", &self.directory))?;
        match fs::remove_dir_all(self.base()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(VmmError::file("remove", self.base())(e));
            }
            _ => make(&self.root)?,
        }
        let link = |from: &Path, to: &str| {
            let linked = File::open(from).and_then(|file| self.link(&file, to));
            linked.map_err(VmmError::file("link", from))
        };
        link(&spec.platform.kernel, KERNEL)?;
        link(&spec.platform.initramfs, INITRAMFS)?;
        let linked = self.link(&spec.root, ROOT_DISK);
        linked.map_err(VmmError::file("link", "the root disk"))?;
        if let Some(snapshot) = &spec.snapshot {
            link(snapshot, STATE)?;
            link(&memory_of(snapshot), MEMORY)?;
        }
        let pipe = self.directory.join(CONSOLE_PIPE);
        let _ = fs::remove_file(&pipe);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|e| VmmError::file("make", &pipe)(e.into()))
    }

    /// The file that is open, whatever is at its name by now.
    fn link(&self, file: &File, to: &str) -> io::Result<()> {
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(linkat(CWD, from, CWD, self.root.join(to), AtFlags::SYMLINK_FOLLOW)?)
    }

    /// A file that is the VMM's own.
    pub(super) fn give(&self, path: &Path, user: Option<(u32, u32)>) -> Result<(), VmmError> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(VmmError::file("close", path))?;
        let Some((uid, gid)) = user else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(VmmError::file("give away", path))
    }

    /// What the guest says, for the VMM: it never waits for a reader, nor ends when none is left.
    pub(super) fn open_console(&self) -> Result<File, VmmError> {
        let pipe = self.directory.join(CONSOLE_PIPE);
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&pipe);
        opened.map_err(VmmError::file("open", pipe))
    }

    /// Keeps the last of it, until the VMM ends.
    pub(super) fn follow_console(&self) -> Result<(), VmmError> {
        follow_console(&self.directory)
    }
}

/// As [`Place::follow_console`], for a machine that is adopted.
pub(super) fn follow_console(directory: &Path) -> Result<(), VmmError> {
    let pipe = directory.join(CONSOLE_PIPE);
    let open = || -> io::Result<File> {
        // Opened like this it does not wait for a VMM that has ended; read, it waits.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&pipe)?;
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
        console::keep(file.try_clone()?, &directory.join(console::FILE))?;
        Ok(file)
    };
    open().map(drop).map_err(VmmError::file("follow", &pipe))
}

/// Connects to a socket of this VMM. The names are the VMM's to change; who listens is the kernel's
/// to say.
pub(super) fn connect(root: &Path, name: &str, pid: u32) -> io::Result<UnixStream> {
    // Names of sockets are short, and this one may be deep.
    let flags = (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let root = OpenOptions::new().read(true).custom_flags(flags).open(root)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))?;
    let peer = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
    if u32::try_from(peer).ok() == Some(pid) {
        Ok(stream)
    } else {
        Err(io::Error::other("somebody else than the VMM listens there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn who_listens_is_asked_of_the_kernel_however_deep_the_name() {
        let directory = tempfile::tempdir().expect("room");
        // Longer than the name of a socket may be.
        let root = directory.path().join("d".repeat(100)).join("root");
        fs::create_dir_all(&root).expect("room");
        let short = File::open(&root).expect("a directory");
        let short = format!("/proc/self/fd/{}/api", short.as_raw_fd());
        let _listener = UnixListener::bind(short).expect("a socket");
        let us = std::process::id();
        assert!(connect(&root, API, us).is_ok());
        let stranger = connect(&root, API, us + 1).expect_err("another process");
        assert!(stranger.to_string().contains("somebody else"), "{stranger}");
        let none = connect(&root, VSOCK, us).expect_err("nobody");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
