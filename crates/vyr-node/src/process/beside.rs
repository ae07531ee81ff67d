//! Words over a socket pair, with a descriptor beside an answer.
//!
//! `vyr_net::words` are bytes in one direction and the other, over whatever carries bytes. Between
//! two processes of one node a descriptor can go along: it is sent with the first byte that is written
//! after it was put there, and taken by who has read the answer.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The place of the descriptor that goes with the next answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside(Arc<Mutex<Option<OwnedFd>>>);

impl Beside {
    pub(super) fn put(&self, descriptor: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(descriptor);
    }

    pub(super) fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) socket: UnixStream,
    pub(super) beside: Beside,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(descriptor) = self.beside.take() else { return self.socket.write(bytes) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        loop {
            let parts = &[IoSlice::new(bytes)];
            match sendmsg(&self.socket, parts, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading end. Of several descriptors that nobody took, the last one is kept.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) socket: UnixStream,
    pub(super) beside: Beside,
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let read = loop {
            let parts = &mut [IoSliceMut::new(bytes)];
            match recvmsg(&self.socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                rights.for_each(|descriptor| self.beside.put(descriptor));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_arrives_with_the_answer_it_was_put_beside() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let mut writer = Writer { socket: here, beside: Beside::default() };
        let mut reader = Reader { socket: there, beside: Beside::default() };
        let mut bytes = [0; 3];
        for round in 0..3_u8 {
            if round == 1 {
                let mut file = tempfile::tempfile().expect("room");
                file.write_all(b"beside").expect("room");
                writer.beside.put(file.into());
            }
            writer.write_all(&[round, 7, 7]).expect("it is read");
            reader.read_exact(&mut bytes).expect("it was written");
            assert_eq!(bytes, [round, 7, 7]);
            let came = reader.beside.take();
            assert_eq!(came.is_some(), round == 1);
            if let Some(came) = came {
                let of = std::fs::File::from(came).metadata().expect("a file");
                assert_eq!(of.len(), 6);
            }
        }
    }
}
