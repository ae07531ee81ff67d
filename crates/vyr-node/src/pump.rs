//! Bytes between the outside and a guest, hashed on this side.
//!
//! Three threads a run, each of which ends by itself when its pipe does: the input pump, the
//! output drain, the log drain.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use vyr_base::{Digest, Hasher};
use vyr_store::Staged;

/// Bytes moved at a time, and what each pipe is asked to hold: the most an unprivileged process
/// may ask for by default.
const PIECE: usize = 1 << 20;

/// The last bytes of the log that go into the report.
const LOG_TAIL_BYTES: usize = 64 << 10;

/// A pipe with a large buffer; reading end first. Neither end survives an exec by itself.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // Less is fine, only slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&writing, PIECE);
    Ok((reading, writing))
}

/// What was given to the guest.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// `false`: the guest ended before its input did, and the input (a pipe, a terminal) cannot
    /// be read to its end; digest and length are of what was read from it.
    pub(crate) complete: bool,
}

/// Feeds `input` into `guest` until either ends, hashing what it reads. A file is hashed to its
/// end also when the guest ends early; a pipe or terminal is left alone then.
pub(crate) fn feed(mut input: File, guest: OwnedFd, progress: &AtomicU64) -> io::Result<Given> {
    let whole = input.metadata()?.is_file();
    let mut guest = Some(File::from(guest));
    let mut hasher = Hasher::new();
    let mut piece = vec![0u8; PIECE];
    loop {
        if !whole
            && let Some(pipe) = &guest
            && guest_is_gone(&input, pipe)?
        {
            return Ok(given(hasher, false));
        }
        let read = match input.read(&mut piece) {
            Ok(0) => return Ok(given(hasher, true)),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&piece[..read]);
        progress.store(hasher.bytes(), Ordering::Relaxed);
        if let Some(pipe) = &mut guest {
            match pipe.write_all(&piece[..read]) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe && whole => guest = None,
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(given(hasher, false));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

fn given(hasher: Hasher, complete: bool) -> Given {
    let bytes = hasher.bytes();
    Given { digest: hasher.finish(), bytes, complete }
}

/// Waits until there is input or nobody to give it to; `true` for the latter.
fn guest_is_gone(input: &File, pipe: &File) -> io::Result<bool> {
    let mut both = [
        PollFd::new(input, PollFlags::IN),
        // Asks for nothing: a pipe without a reader is always reported.
        PollFd::new(pipe, PollFlags::empty()),
    ];
    loop {
        match poll(&mut both, None) {
            Ok(_) => return Ok(both[1].revents().contains(PollFlags::ERR)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What came out of the guest.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Why output could not be taken.
#[derive(Debug)]
pub(crate) enum TakeError {
    /// The pipe could not be read.
    Read(io::Error),
    /// Whoever reads our output is gone, or the file cannot be written.
    Show(io::Error),
    /// The store cannot keep it.
    Keep(io::Error),
    /// The store cannot commit it.
    Commit(vyr_store::StageError),
}

/// Takes a guest's output until it ends: to `show` as it comes, and into the store.
pub(crate) fn take(
    output: OwnedFd,
    mut show: Option<File>,
    mut keep: Option<Staged>,
) -> Result<Taken, TakeError> {
    let mut output = File::from(output);
    let mut hasher = Hasher::new();
    let mut piece = vec![0u8; PIECE];
    loop {
        let read = match output.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(TakeError::Read(e)),
        };
        let piece = &piece[..read];
        if let Some(show) = &mut show {
            show.write_all(piece).map_err(TakeError::Show)?;
        }
        match &mut keep {
            // The store hashes what it writes.
            Some(keep) => keep.write_all(piece).map_err(TakeError::Keep)?,
            None => hasher.update(piece),
        }
    }
    match keep {
        Some(keep) => {
            let (digest, bytes) = keep.commit().map_err(TakeError::Commit)?;
            Ok(Taken { digest, bytes })
        }
        None => {
            let bytes = hasher.bytes();
            Ok(Taken { digest: hasher.finish(), bytes })
        }
    }
}

/// Takes a guest's log until it ends: to our stderr as it comes, and the last of it for the
/// report. For a terminal, control characters are made visible: a guest must not move the cursor.
pub(crate) fn take_log(log: OwnedFd, show: bool) -> Vec<u8> {
    let terminal = rustix::termios::isatty(io::stderr().as_fd());
    let mut log = File::from(log);
    let mut tail = VecDeque::new();
    let mut piece = vec![0u8; 64 << 10];
    while let Ok(read) = log.read(&mut piece) {
        if read == 0 {
            break;
        }
        let piece = &piece[..read];
        tail.extend(piece);
        let excess = tail.len().saturating_sub(LOG_TAIL_BYTES);
        tail.drain(..excess);
        if show {
            // Nobody may be listening; the tail is kept all the same.
            let _ = if terminal {
                io::stderr().write_all(visible(piece).as_bytes())
            } else {
                io::stderr().write_all(piece)
            };
        }
    }
    tail.into()
}

fn visible(piece: &[u8]) -> String {
    String::from_utf8_lossy(piece)
        .chars()
        .flat_map(|c| match c {
            '\n' | '\t' => vec![c],
            c if c.is_control() => c.escape_default().collect(),
            c => vec![c],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_to_its_end_though_the_guest_left() {
        let mut file = tempfile::tempfile().expect("temporary file");
        let content = vec![7u8; 3 * PIECE + 5];
        file.write_all(&content).expect("write");
        io::Seek::rewind(&mut file).expect("rewind");
        let (reading, writing) = pipe().expect("pipe");
        drop(reading);
        let given = feed(file, writing, &AtomicU64::new(0)).expect("feed");
        assert!(given.complete);
        assert_eq!((given.digest, given.bytes), (Digest::of(&content), content.len() as u64));
    }

    #[test]
    fn an_endless_pipe_is_left_when_the_guest_leaves() {
        let (outside, _never_written) = pipe().expect("pipe");
        let (reading, writing) = pipe().expect("pipe");
        drop(reading);
        let given = feed(outside.into(), writing, &AtomicU64::new(0)).expect("feed");
        assert!(!given.complete);
        assert_eq!(given.bytes, 0);
    }

    #[test]
    fn a_log_cannot_move_the_cursor() {
        assert_eq!(visible(b"a\x1b[2Jb\n\tc\r"), "a\\u{1b}[2Jb\n\tc\\r");
    }
}
