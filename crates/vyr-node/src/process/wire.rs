//! Messages between a node and its `tasks` process: a length, a body, and descriptors beside it.
//!
//! Many small messages go in one write and come in one read, because a system call costs as much as
//! a small guest. The stream is a socket pair between two processes of one binary, so there is no
//! version in it; lengths are bounded all the same, because `tasks` is where a guest may have
//! broken out.
//!
//! ```text
//! length u32 | descriptors u8 | body (postcard) ...
//! ```

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vyr_task::{Kind, Limits, Outcome};
use zeroize::Zeroize;

use crate::guidance::GuidanceReport;

/// Arguments and environment take 128 KiB at most (`vyr-artifact`), inputs, outputs and logs
/// 64 KiB each.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Input, output, log, and one to spare.
const DESCRIPTORS_MAX: usize = 4;

/// Descriptors received before their message; more is an attack.
const DESCRIPTORS_WAITING_MAX: usize = 64;

/// Length and number of descriptors.
const HEAD_BYTES: usize = 5;

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// To `tasks`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Keep the code beside this message as `program`, to be run with these arguments.
    Load { program: u64, kind: Kind, args: Vec<String>, env: Vec<(String, String)> },
    /// Forget it.
    Unload { program: u64 },
    /// Run a task.
    Run(RunOrder),
    /// End `task` if it still runs.
    Cancel { task: u64 },
    /// Hold a state of at most so many bytes.
    MakeState { state: u64, bytes_max: u64 },
    /// Forget it; tasks that use it keep it until they end.
    DropState { state: u64 },
    /// Report what the guidance has done.
    TellGuidance,
}

/// One task. Descriptors beside it: those of input, output and log that are to be descriptors, in
/// this order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunOrder {
    pub(crate) task: u64,
    pub(crate) program: u64,
    pub(crate) limits: Limits,
    pub(crate) deterministic: bool,
    pub(crate) priority: i32,
    pub(crate) input: InputFrom,
    pub(crate) output: OutputTo,
    /// Number, name, and whether it may be written.
    pub(crate) states: Vec<(u64, String, bool)>,
}

/// Where standard input comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum InputFrom {
    Inline(#[serde(with = "bytes_as_is")] Vec<u8>),
    Descriptor,
}

/// Where standard output and the log go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OutputTo {
    /// Into the report, and what is larger into a pipe that `tasks` makes (`Report::Spilled`).
    Report,
    /// Two descriptors.
    Descriptors,
}

/// From `tasks`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The output of `task` is large; it comes through the pipe beside this message.
    Spilled { task: u64 },
    /// What the guidance has done.
    Guidance(Box<GuidanceReport>),
    /// `task` ended.
    Done {
        task: u64,
        outcome: Box<Outcome>,
        #[serde(with = "bytes_as_is")]
        output: Vec<u8>,
        #[serde(with = "bytes_as_is")]
        log: Vec<u8>,
    },
}

/// Bytes as one run of bytes: serde would write each as a number of its own.
mod bytes_as_is {
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Vec<u8>, A::Error> {
                Err(A::Error::custom("a list of numbers where bytes belong"))
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// The sending end. Messages are gathered until `flush`.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: UnixStream,
    gathered: Vec<u8>,
}

impl Sender {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, gathered: Vec::new() }
    }

    /// Adds a message; one with descriptors is sent at once, after those before it.
    pub(crate) fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if !descriptors.is_empty() {
            self.flush()?;
        }
        encode(message, descriptors.len(), &mut self.gathered)?;
        if descriptors.is_empty() {
            return Ok(());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors"));
        }
        let parts = &[IoSlice::new(&self.gathered)];
        let sent = sendmsg(&self.socket, parts, &mut beside, SendFlags::NOSIGNAL)?;
        self.gathered.drain(..sent);
        self.flush()
    }

    /// Sends one message that may hold secrets, and overwrites it here.
    pub(crate) fn send_and_wipe<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.flush()?;
        // Room for the longest: a buffer that grows leaves its content behind.
        self.gathered.reserve(HEAD_BYTES + MESSAGE_BYTES_MAX);
        let sent = self.send(message, descriptors).and_then(|()| self.flush());
        // With all of its room.
        std::mem::take(&mut self.gathered).zeroize();
        sent
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let written = write_all(&self.socket, &self.gathered);
        self.gathered.clear();
        written
    }

    /// Writes what the socket takes now; `false`: there is more.
    pub(crate) fn flush_some(&mut self) -> io::Result<bool> {
        while !self.gathered.is_empty() {
            let now = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.gathered, now) {
                Ok(sent) => drop(self.gathered.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => {
                    self.gathered.clear();
                    return Err(errno.into());
                }
            }
        }
        Ok(true)
    }

    /// The socket, to wait for.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Appends a message's wire form to `to`.
pub(crate) fn encode<T: Serialize>(
    message: &T,
    descriptors: usize,
    to: &mut Vec<u8>,
) -> io::Result<()> {
    let start = to.len();
    to.extend_from_slice(&[0; HEAD_BYTES]);
    let mut whole = postcard::to_extend(message, std::mem::take(to)).map_err(io::Error::other)?;
    let length = whole.len() - start - HEAD_BYTES;
    let head = u32::try_from(length).ok().filter(|_| length <= MESSAGE_BYTES_MAX);
    let Some(head) = head else {
        whole.truncate(start);
        *to = whole;
        return Err(io::Error::other("message is too long"));
    };
    whole[start..start + 4].copy_from_slice(&head.to_le_bytes());
    whole[start + 4] = u8::try_from(descriptors).unwrap_or(u8::MAX);
    *to = whole;
    Ok(())
}

/// Writes all of `bytes`, without a signal when the other side is gone.
pub(crate) fn write_all(mut socket: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    // std's `write` on a socket does not raise SIGPIPE in a Rust program, which ignores it.
    socket.write_all(bytes)
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: UnixStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    descriptors: VecDeque<OwnedFd>,
}

impl Receiver {
    pub(crate) fn new(socket: UnixStream) -> Self {
        let (buffer, descriptors) = (vec![0; READ_BYTES], VecDeque::new());
        Self { socket, buffer, start: 0, end: 0, descriptors }
    }

    /// The next message with its descriptors; `None` when the other side is gone.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if !self.fill(RecvFlags::empty())? {
                return match self.start == self.end {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The next message, if all of it has been read already.
    pub(crate) fn buffered<T: DeserializeOwned>(
        &mut self,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let waiting = &self.buffer[self.start..self.end];
        let Some((head, rest)) = waiting.split_at_checked(HEAD_BYTES) else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("message is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let wanted = usize::from(head[4]);
        if wanted > self.descriptors.len() {
            return Err(io::Error::other("descriptors are missing"));
        }
        let message = postcard::from_bytes(body).map_err(io::Error::other)?;
        self.start += HEAD_BYTES + length;
        Ok(Some((message, self.descriptors.drain(..wanted).collect())))
    }

    /// Overwrites what was read of messages that were taken: they may have held secrets.
    pub(crate) fn wipe(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.buffer[self.end..].zeroize();
    }

    /// Reads once what has come, and does not wait for it; `false` at the end.
    pub(crate) fn fill_now(&mut self) -> io::Result<bool> {
        match self.fill(RecvFlags::DONTWAIT) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            filled => filled,
        }
    }

    /// Reads more; `false` at the end.
    fn fill(&mut self, flags: RecvFlags) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            // One long message: room for the longest.
            self.buffer.resize(HEAD_BYTES + MESSAGE_BYTES_MAX, 0);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let parts = &mut [IoSliceMut::new(&mut self.buffer[self.end..])];
            match recvmsg(&self.socket, parts, &mut beside, flags | RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.descriptors.extend(rights);
            }
        }
        if self.descriptors.len() > DESCRIPTORS_WAITING_MAX {
            return Err(io::Error::other("too many descriptors"));
        }
        self.end += got;
        Ok(got > 0)
    }

    /// Waits at most so long for the next bytes.
    pub(crate) fn set_timeout(&self, patience: Option<std::time::Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(patience)
    }
}

/// Sends one small message of another kind with its descriptors: for sockets with few messages.
pub(crate) fn send_one<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut sender = Sender::new(socket.try_clone()?);
    sender.send(message, descriptors)?;
    sender.flush()
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
        let mut sender = Sender::new(here);
        for task in 0..100 {
            let beside = [file.as_fd()];
            let beside = if task % 7 == 3 { &beside[..] } else { &[] };
            sender.send(&Order::Cancel { task }, beside).expect("send");
        }
        sender.flush().expect("flush");
        drop(sender);
        let mut receiver = Receiver::new(there);
        for expected in 0..100 {
            let (order, mut fds) = receiver.next::<Order>().expect("receive").expect("a message");
            assert!(matches!(order, Order::Cancel { task } if task == expected));
            assert_eq!(fds.len(), usize::from(expected % 7 == 3), "{expected}");
            if let Some(fd) = fds.pop() {
                assert_eq!(std::fs::File::from(fd).metadata().expect("open").len(), 1);
            }
        }
        assert!(receiver.next::<Order>().expect("end").is_none());
    }

    #[test]
    fn a_long_message_arrives_whole_and_a_longer_is_refused() {
        let (here, there) = UnixStream::pair().expect("socket pair");
        let run = |bytes: usize| {
            Order::Run(RunOrder {
                task: 1,
                program: 2,
                limits: Limits::default(),
                deterministic: false,
                priority: 0,
                input: InputFrom::Inline(vec![7; bytes]),
                output: OutputTo::Report,
                states: Vec::new(),
            })
        };
        let mut sender = Sender::new(here);
        assert!(sender.send(&run(MESSAGE_BYTES_MAX), &[]).is_err());
        let writer = std::thread::spawn(move || {
            sender.send(&run(900_000), &[]).and_then(|()| sender.flush())
        });
        let mut receiver = Receiver::new(there);
        let (order, _) = receiver.next::<Order>().expect("receive").expect("a message");
        let Order::Run(RunOrder { input: InputFrom::Inline(bytes), .. }) = order else {
            panic!("another order");
        };
        assert_eq!(bytes, vec![7; 900_000]);
        writer.join().expect("thread").expect("sent");
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let cases: [&[u8]; 4] = [
            &[0xff; 5],
            // Torn: a body of five, of which one is there.
            &[5, 0, 0, 0, 0, 1],
            // A descriptor that is not there.
            &[1, 0, 0, 0, 1, 3],
            // Not a report.
            &[1, 0, 0, 0, 0, 9],
        ];
        for bytes in cases {
            let (here, there) = UnixStream::pair().expect("socket pair");
            (&here).write_all(bytes).expect("write");
            drop(here);
            assert!(Receiver::new(there).next::<Report>().is_err(), "{bytes:?}");
        }
    }
}
