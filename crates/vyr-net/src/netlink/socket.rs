//! A netlink socket: one question at a time, and the kernel's answers to it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, sendto, socket_with,
};
use zeroize::Zeroizing;

use super::wire::{self, Message, Writer};
use crate::error::NetError;

/// `NLM_F_*` of a request.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;
/// Of an answer: what is listed changed in between.
const INTERRUPTED: u16 = 0x10;
/// Kinds of message that every family has.
const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;

/// The kernel fills at most 32 KiB for a reader who asks for more.
const DATAGRAM_BYTES: usize = 64 << 10;
/// All answers to one question: a routing table of a million routes is 80 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The kernel answers at once, or somebody holds its locks.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a list is asked for again, when it changed meanwhile.
const TRIES: usize = 5;

/// A socket to one family of the kernel.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

enum Answer {
    Whole,
    Changed,
}

impl Socket {
    pub(crate) fn route() -> Result<Self, NetError> {
        Self::open(None)
    }

    pub(crate) fn generic() -> Result<Self, NetError> {
        Self::open(Some(GENERIC))
    }

    pub(crate) fn netfilter() -> Result<Self, NetError> {
        Self::open(Some(NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self, NetError> {
        let wrong = |e| NetError::kernel("open a netlink socket", e);
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let fd = socket_with(family, SocketType::RAW, flags, protocol).map_err(wrong)?;
        for which in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&fd, which, Some(TIMEOUT)).map_err(wrong)?;
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// One that is acknowledged; what else is said is given to `each`.
    pub(crate) fn ask(
        &mut self,
        doing: &str,
        kind: u16,
        flags: u16,
        body: &Writer,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        self.send(doing, kind, REQUEST | ACK | flags, body)?;
        self.answers(doing, each).map(|_| ())
    }

    /// A list, whole: if it changed while it was told, it is told again. `each` is told when one
    /// begins, by no message.
    pub(crate) fn list(
        &mut self,
        doing: &str,
        kind: u16,
        body: &Writer,
        each: &mut dyn FnMut(Option<&Message<'_>>) -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        for _ in 0..TRIES {
            each(None)?;
            self.send(doing, kind, REQUEST | DUMP, body)?;
            if let Answer::Whole = self.answers(doing, &mut |message| each(Some(message)))? {
                return Ok(());
            }
        }
        Err(NetError::Silent { who: format!("the kernel (to {doing})"), within: TIMEOUT })
    }

    fn send(&mut self, doing: &str, kind: u16, flags: u16, body: &Writer) -> Result<(), NetError> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let bytes = body.finish(kind, flags, self.sequence)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent =
            rustix::io::retry_on_intr(|| sendto(&self.fd, &bytes, SendFlags::empty(), &kernel));
        match sent {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(NetError::malformed("the kernel", "it took half of a message")),
            Err(e) => Err(NetError::kernel(doing, e)),
        }
    }

    fn answers(
        &mut self,
        doing: &str,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), NetError>,
    ) -> Result<Answer, NetError> {
        let silent = || NetError::Silent { who: "the kernel".into(), within: TIMEOUT };
        let deadline = Instant::now() + TIMEOUT;
        // It may be told a private key.
        let mut buffer = Zeroizing::new(vec![0; DATAGRAM_BYTES]);
        let mut total = 0;
        let mut answer = Answer::Whole;
        let mut refused = None;
        loop {
            let (read, whole, from) =
                match recvfrom(&self.fd, buffer.as_mut_slice(), RecvFlags::TRUNC) {
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => return Err(silent()),
                    other => other.map_err(|e| NetError::kernel(doing, e))?,
                };
            // Other processes may write to this socket as well.
            let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if from.is_none_or(|from| from.pid() != 0) {
                if Instant::now() > deadline {
                    return Err(silent());
                }
                continue;
            }
            total += whole;
            if whole > read || total > ANSWER_BYTES_MAX {
                return Err(NetError::malformed("the kernel", "an answer is too long"));
            }
            for message in wire::messages(&buffer[..read]) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                if message.flags & INTERRUPTED != 0 {
                    answer = Answer::Changed;
                }
                match message.kind {
                    NOOP => (),
                    OVERRUN => {
                        return Err(NetError::malformed("the kernel", "it lost messages"));
                    }
                    ERROR | DONE => {
                        let code = i32::from_ne_bytes(wire::bytes(message.body, 0)?);
                        return match (code, refused) {
                            (0, None) => Ok(answer),
                            (0, Some(e)) => Err(e),
                            (code, _) => Err(NetError::kernel(doing, errno(code))),
                        };
                    }
                    // The rest is still read: it would be taken for the answer to the next one.
                    _ if refused.is_some() => (),
                    _ => refused = each(&message).err(),
                }
            }
        }
    }
}

/// The kernel's negative numbers.
fn errno(code: i32) -> Errno {
    Errno::from_raw_os_error(
        code.checked_neg().filter(|code| (1..4096).contains(code)).unwrap_or(5),
    )
}
