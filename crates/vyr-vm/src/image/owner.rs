//! Whose the images are: with a node, a user's of its own.
//!
//! The process that pulls has no rights, and others read what it makes: each machine as a user of
//! its own, and who starts them. So the directory itself stays root's, and nobody can replace what is
//! in it; the four below it are that user's, and disks are there to be read.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

use super::blobs::{DIRECTORIES, Images, make_directories};
use super::fault::FsError;

/// How they may be used by others: blobs and what arrives by nobody but root's group, by which root
/// lists them where it has no right to pass over owners.
const MODES: [u32; 5] = [0o750, 0o750, 0o750, 0o750, 0o755];

impl Images {
    /// Makes the directories below `root`, and gives them and what lies in them to the user `uid`. Root
    /// does this, before a process becomes that user; of rights it needs the one to give files away.
    ///
    /// # Errors
    /// What the system says; a directory that is a link.
    pub fn prepare(root: &Path, uid: u32) -> Result<(), FsError> {
        make_directories(root)?;
        for path in [root.to_owned(), root.join("blobs")] {
            let passable = Permissions::from_mode(0o711);
            fs::set_permissions(&path, passable).map_err(FsError::on("protect", &path))?;
        }
        for (name, mode) in DIRECTORIES.into_iter().zip(MODES) {
            let path = root.join(name);
            let entries = fs::read_dir(&path).map_err(FsError::on("list", &path))?;
            for entry in entries.flatten() {
                give(&entry.path(), uid)?;
            }
            let directory = open(&path, OFlags::NOFOLLOW | OFlags::DIRECTORY)?;
            let of = directory.metadata().map_err(FsError::on("look at", &path))?;
            if of.uid() == uid {
                continue;
            }
            directory
                .set_permissions(Permissions::from_mode(mode))
                .and_then(|()| fchown(&directory, Some(uid), None))
                .map_err(FsError::on("hand over", &path))?;
        }
        Ok(())
    }
}

/// One file that root or another user made. What is no plain file, or has another name elsewhere,
/// is left alone: it was not made here.
fn give(path: &Path, uid: u32) -> Result<(), FsError> {
    let of = fs::symlink_metadata(path).map_err(FsError::on("look at", path))?;
    if !of.is_file() || of.uid() == uid {
        return Ok(());
    }
    let file = open(path, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let of = file.metadata().map_err(FsError::on("look at", path))?;
    if !of.is_file() || of.nlink() != 1 {
        return Ok(());
    }
    let is = |end: &str| path.extension().is_some_and(|extension| extension == end);
    let given = match (is("squashfs"), is("json")) {
        (true, _) => file.set_permissions(Permissions::from_mode(0o444)),
        (_, true) => file.set_permissions(Permissions::from_mode(0o644)),
        _ => Ok(()),
    };
    given.and_then(|()| fchown(&file, Some(uid), None)).map_err(FsError::on("hand over", path))
}

fn open(path: &Path, flags: OFlags) -> Result<File, FsError> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = flags.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    file.map_err(FsError::on("open", path))
}
