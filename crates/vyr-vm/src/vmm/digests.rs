//! Digests of whole files, each read once as long as it stays what it was.
//!
//! A file is known by its place, its size and its times, which nobody sets: any write moves the time of
//! its last change. A file that was changed a moment before it was read could be changed again within
//! the same tick of that clock, so it is read again the next time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use vyr_base::{Digest, Hasher};

/// Files that are remembered; the one that was not asked for the longest goes.
const KNOWN_MAX: usize = 256;

/// Far more than a tick of any file system's clock.
const TICK: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<VecDeque<(Identity, Digest)>>,
}

/// What no change of a file leaves as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let of = file.metadata()?;
        Ok(Self {
            device: of.dev(),
            inode: of.ino(),
            bytes: of.len(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        })
    }

    /// Whether its last change lies so far back that a later one shows.
    fn is_settled(&self) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        let ns = u64::try_from(self.changed.1).unwrap_or(0);
        let changed =
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(ns);
        changed.elapsed().is_ok_and(|since| since >= TICK)
    }
}

impl Digests {
    /// Of all bytes of a file. Its descriptor stays where it is.
    ///
    /// # Errors
    /// It cannot be read, or changes while it is.
    pub(super) fn of(&self, file: &File) -> io::Result<Digest> {
        let identity = Identity::of(file)?;
        if let Some(known) = self.known(&identity) {
            return Ok(known);
        }
        let settled = identity.is_settled();
        let digest = anew(file)?;
        if Identity::of(file)? != identity {
            return Err(io::Error::other("it changes while it is read"));
        }
        if settled {
            self.remember(identity, digest);
        }
        Ok(digest)
    }

    fn remember(&self, identity: Identity, digest: Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(KNOWN_MAX - 1);
        known.push_front((identity, digest));
    }

    fn known(&self, identity: &Identity) -> Option<Digest> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(of, _)| of == identity)?;
        let found = known.remove(at)?;
        known.push_front(found);
        Some(found.1)
    }
}

/// The same, read whatever is known: for a file that is linked and unlinked, which changes its times, too.
///
/// # Errors
/// It cannot be read.
pub(super) fn anew(file: &File) -> io::Result<Digest> {
    let (mut hasher, mut at) = (Hasher::new(), 0);
    let mut bytes = vec![0; 256 << 10];
    loop {
        match file.read_at(&mut bytes, at) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                hasher.update(&bytes[..count]);
                at += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_file_is_read_once_and_again_when_it_changed() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("disk");
        fs::write(&path, "one").expect("room");
        let file = File::open(&path).expect("it was written");
        let digests = Digests::default();
        assert_eq!(digests.of(&file).expect("it is read"), Digest::of(b"one"));
        assert!(digests.known.lock().expect("whole").is_empty(), "it was changed just now");
        // What is remembered is what is told.
        let identity = Identity::of(&file).expect("a file");
        digests.remember(identity, Digest::of(b"remembered"));
        assert_eq!(digests.of(&file).expect("known"), Digest::of(b"remembered"));
        // The same size, the same place, the same time of the last write: still another file.
        let modified = file.metadata().and_then(|of| of.modified()).expect("a time");
        let mut other = File::options().write(true).open(&path).expect("ours");
        loop {
            other.write_all(b"two").expect("room");
            other.set_modified(modified).expect("ours");
            if Identity::of(&file).expect("a file").changed != identity.changed {
                break;
            }
            io::Seek::rewind(&mut other).expect("a file");
        }
        io::Seek::rewind(&mut other).expect("a file");
        assert_eq!(digests.of(&file).expect("it is read"), Digest::of(b"two"));
    }

    #[test]
    fn so_many_are_remembered_and_the_ones_that_are_asked_for() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("disk");
        fs::write(&path, "old").expect("room");
        let file = File::open(&path).expect("it was written");
        let old = Identity::of(&file).expect("a file");
        let digests = Digests::default();
        let remember = |identity| digests.remember(identity, Digest::of(b"old"));
        remember(old);
        for inode in 0..KNOWN_MAX as u64 {
            assert!(digests.known(&old).is_some(), "who is asked for stays");
            remember(Identity { device: u64::MAX, inode, ..old });
        }
        assert_eq!(digests.known.lock().expect("whole").len(), KNOWN_MAX);
        assert!(digests.known(&Identity { device: u64::MAX, inode: 0, ..old }).is_none());
    }
}
