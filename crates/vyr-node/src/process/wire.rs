//! Messages between this process and `tasks`: a length, JSON, and descriptors beside it.
//!
//! The stream is a socket pair between two processes of one binary, so there is no version in it;
//! lengths are bounded all the same, because `tasks` is where a guest may have broken out.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vyr_task::{Kind, Limits, Outcome};

/// Arguments and environment take 128 KiB at most (`vyr-artifact`); JSON may escape each byte
/// into six.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// Code, input, output, log.
const DESCRIPTORS_MAX: usize = 4;

/// To `tasks`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Keep the code beside this message as `program`.
    Load { program: u64, kind: Kind },
    /// Run it; beside this message: input, output, log.
    Run { task: u64, spec: RunOrder },
    /// End `task` if it still runs.
    Cancel { task: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunOrder {
    pub(super) program: u64,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) limits: Limits,
    pub(super) deterministic: bool,
}

/// From `tasks`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// `task` ended.
    Done { task: u64, outcome: Outcome },
}

/// Sends one message. Writes to one socket must not interleave; the caller holds a lock.
pub(super) fn send<T: Serialize>(
    mut socket: &UnixStream,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("message is too long"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let head = length.to_le_bytes();
    let sent = sendmsg(socket, &[IoSlice::new(&head)], &mut beside, SendFlags::NOSIGNAL)?;
    socket.write_all(&head[sent..])?;
    socket.write_all(&body)
}

/// Receives one message; `None` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(
    mut socket: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let parts = &mut [IoSliceMut::new(&mut head)];
        match recvmsg(socket, parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received.bytes,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[got..])?;
    let length = u32::from_le_bytes(head);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("message is too long"));
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (here, there) = UnixStream::pair().expect("socket pair");
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"x").expect("write");
        send(&here, &Order::Cancel { task: 7 }, &[file.as_fd()]).expect("send");
        drop(here);
        let (order, mut fds) = receive::<Order>(&there).expect("receive").expect("a message");
        assert!(matches!(order, Order::Cancel { task: 7 }));
        let got = std::fs::File::from(fds.pop().expect("a descriptor"));
        assert_eq!(got.metadata().expect("open").len(), 1);
        assert!(receive::<Order>(&there).expect("end").is_none());
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let (here, there) = UnixStream::pair().expect("socket pair");
        (&here).write_all(&u32::MAX.to_le_bytes()).expect("write");
        assert!(receive::<Report>(&there).is_err());
        let (here, there) = UnixStream::pair().expect("socket pair");
        (&here).write_all(&[5, 0, 0, 0, b'{']).expect("write");
        drop(here);
        assert!(receive::<Report>(&there).is_err(), "a torn message");
    }
}
