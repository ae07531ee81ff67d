//! The guest's console, and what the VMM says itself, kept bounded: two files each, of which the older
//! one goes.
//!
//! The VMM offers it on a socket and drops what nobody takes, so a guest that floods it holds up
//! itself, and one whose host is being replaced loses a few lines of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

/// The newer of the two, in a machine's directory.
pub(super) const FILE: &str = "console.log";

/// Bytes of each of the two files.
const BYTES_MAX: u64 = 128 << 10;

/// Follows the console until the VMM ends.
pub(super) fn follow(socket: &Path, to: &Path) -> io::Result<()> {
    keep(UnixStream::connect(socket)?, to).map(drop)
}

/// Keeps the last of what comes, until its end.
pub(super) fn keep(
    mut from: impl Read + Send + 'static,
    to: &Path,
) -> io::Result<thread::JoinHandle<()>> {
    let to = to.to_owned();
    let mut file = open(&to)?;
    thread::Builder::new().name("vmm-console".into()).spawn(move || {
        let mut bytes = vec![0; 4 << 10];
        let mut written = file.metadata().map(|it| it.len()).unwrap_or(0);
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            // A full disk costs the console, not the guest.
            if file.write_all(&bytes[..count]).is_ok() {
                written += count as u64;
            }
            if written > BYTES_MAX
                && fs::rename(&to, older(&to)).is_ok()
                && let Ok(new) = open(&to)
            {
                (file, written) = (new, 0);
            }
        }
    })
}

/// What is left of it, the older part first.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut all = fs::read(older(path)).unwrap_or_default();
    match fs::read(path) {
        Ok(newer) => all.extend(newer),
        // Between the two files there is none for a moment.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(all)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("older")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    #[test]
    fn a_flood_is_kept_in_two_files() {
        let directory = tempfile::tempdir().expect("room");
        let (socket, log) = (directory.path().join("s"), directory.path().join("console"));
        let listener = UnixListener::bind(&socket).expect("a socket");
        follow(&socket, &log).expect("it connects");
        let (mut stream, _) = listener.accept().expect("it comes");
        for _ in 0..100 {
            stream.write_all(&[b'x'; 16 << 10]).expect("it is taken");
        }
        stream.write_all(b"the end").expect("it is taken");
        let end = Instant::now() + Duration::from_secs(60);
        while !read(&log).expect("a file").ends_with(b"the end") {
            assert!(Instant::now() < end, "the last words do not come");
            thread::yield_now();
        }
        let kept = read(&log).expect("a file").len() as u64;
        assert!(kept <= 2 * (BYTES_MAX + (4 << 10)), "{kept} bytes");
    }
}
