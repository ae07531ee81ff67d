//! A process that says to the agent what it likes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use morpheus::wire::{Packet, receive, send};
use morpheus::{ABI, Block, Blocks, State};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A connection.
pub(crate) struct Client(OwnedFd);

impl Client {
    pub(crate) fn new(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
        let patience = Some(Duration::from_secs(10));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience).expect("a timeout");
        connect(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("an agent");
        Self(socket)
    }

    /// The answer; an error if the agent ended the connection, or is silent.
    pub(crate) fn ask(&self, packet: &Packet, files: &[BorrowedFd<'_>]) -> io::Result<Packet> {
        send(&self.0, packet, files)?;
        self.hear().map(|(packet, _)| packet)
    }

    pub(crate) fn say(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub(crate) fn hear(&self) -> io::Result<(Packet, Vec<OwnedFd>)> {
        let received = receive(&self.0)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((received.packet, received.files))
    }

    /// Why the agent refuses.
    pub(crate) fn refused(&self, packet: &Packet, files: &[BorrowedFd<'_>]) -> String {
        match self.ask(packet, files).expect("an answer") {
            Packet::Refused { why } => why,
            other => panic!("{packet:?} is answered with {other:?}"),
        }
    }

    /// Introduces itself.
    pub(crate) fn hello(&self, workers: u32) -> io::Result<Blocks> {
        send(&self.0, &Packet::Hello { abi: ABI, workers, bell: false }, &[])?;
        let (packet, files) = self.hear()?;
        assert!(matches!(packet, Packet::Welcome { tier: 3, bell: 0, .. }), "{packet:?}");
        Blocks::map(&files[0], workers as usize)
    }

    /// Registers this thread; the generation of its block.
    pub(crate) fn register(&self, block: u32) -> Result<u32, String> {
        let thread = this_thread();
        match self.ask(&Packet::Register { block }, &[thread.as_fd()]).expect("an answer") {
            Packet::Registered { generation } => Ok(generation),
            Packet::Refused { why } => Err(why),
            other => panic!("an answer to a registration: {other:?}"),
        }
    }
}

/// A pidfd of this thread.
pub(crate) fn this_thread() -> OwnedFd {
    thread(rustix::thread::gettid())
}

/// A pidfd of a thread, not of its process.
pub(crate) fn thread(tid: Pid) -> OwnedFd {
    // PIDFD_THREAD is O_EXCL.
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
    pidfd_open(tid, flags).expect("a pidfd")
}

/// Says what a worker says that runs since ever: every look finds it over its slice.
pub(crate) fn run_since_ever(block: &Block) {
    block.turn(1);
    block.runtime.state.store(State::Running as u32, Relaxed);
}

/// What the kernel wanted to say to it so far.
pub(crate) fn attempts(block: &Block) -> u64 {
    block.hints.kernel.load(Relaxed) + block.hints.dropped.load(Relaxed)
}
