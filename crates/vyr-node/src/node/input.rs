//! Large inputs and outputs: threads between the store and a pipe.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use vyr_base::Digest;
use vyr_store::{Store, VerifiedBlob};

use super::core::Command;
use super::inbox::Inbox;
use crate::pump;

/// Bytes moved at a time.
const PIECE: usize = 256 << 10;

/// Feeds a blob of the store to a task through a pipe; returns the end the task reads.
///
/// The blob is compared with its digest while it is fed; when it is another, the task is told to
/// end before it sees the end of its input.
pub(crate) fn feed(
    store: &Store,
    digest: Digest,
    task: u64,
    inbox: &Arc<Inbox>,
) -> io::Result<OwnedFd> {
    let blob = store.open_blob(&digest).map_err(io::Error::other)?;
    let (reading, writing) = pump::pipe()?;
    let inbox = Arc::clone(inbox);
    thread::Builder::new().name("vyr-feed".into()).spawn(move || {
        let mut guest = std::fs::File::from(writing);
        if let Err(why) = copy(blob, &mut guest) {
            inbox.push(Command::InputFailed { task, why });
            // The pipe closes after the command is in the inbox, not before.
        }
        drop(guest);
    })?;
    Ok(reading)
}

/// Copies until either side ends; `Err` when the blob is not what it should be.
fn copy(mut blob: VerifiedBlob, guest: &mut std::fs::File) -> Result<(), String> {
    let mut piece = vec![0u8; PIECE];
    loop {
        let read = blob.read(&mut piece).map_err(|e| format!("cannot read the input: {e}"))?;
        if read == 0 {
            return Ok(());
        }
        match guest.write_all(&piece[..read]) {
            Ok(()) => {}
            // The guest does not want the rest.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(format!("cannot feed the input: {e}")),
        }
    }
}

/// Takes a task's large output from a pipe into the store.
pub(crate) fn take(
    store: &Store,
    output: OwnedFd,
    task: u64,
    inbox: &Arc<Inbox>,
) -> io::Result<()> {
    let staged = store.stage();
    let inbox = Arc::clone(inbox);
    thread::Builder::new().name("vyr-take".into()).spawn(move || {
        let taken = pump::take(output, None, Some(staged))
            .map(|taken| (taken.digest, taken.bytes))
            .map_err(|e| format!("cannot store the output: {e:?}"));
        inbox.push(Command::Taken { task, taken });
    })?;
    Ok(())
}
