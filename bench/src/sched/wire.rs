//! A worker whose control block we read ourselves: what hints say is not in the reports.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result, bail};
use morpheus::wire::{Packet, receive, send};
use morpheus::{ABI, Block, Blocks, State};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{PidfdFlags, pidfd_open};

/// The flag of `pidfd_open` for a thread, which is `O_EXCL`.
const PIDFD_THREAD: u32 = 0o200;

/// One control block and the connection that holds it.
#[derive(Debug)]
pub(super) struct Bare {
    socket: OwnedFd,
    blocks: Blocks,
}

impl Bare {
    pub(super) fn connect(agent: &Path) -> Result<Self> {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(agent)?)?;
        morpheus::set_patience(&socket)?;
        send(&socket, &Packet::Hello { abi: ABI, workers: 1, bell: false }, &[])?;
        let answer = receive(&socket)?.context("the agent is gone")?;
        let (Packet::Welcome { .. }, Some(file)) = (&answer.packet, answer.files.first()) else {
            bail!("the agent answers {:?}", answer.packet);
        };
        let blocks = Blocks::map(file, 1)?;
        Ok(Self { socket, blocks })
    }

    /// Makes this thread the worker.
    pub(super) fn register(&self) -> Result<&Block> {
        let thread = rustix::thread::gettid();
        let thread = pidfd_open(thread, PidfdFlags::from_bits_retain(PIDFD_THREAD))?;
        send(&self.socket, &Packet::Register { block: 0 }, &[thread.as_fd()])?;
        match receive(&self.socket)?.map(|answer| answer.packet) {
            Some(Packet::Registered { .. }) => {}
            other => bail!("the agent answers {other:?}"),
        }
        let block = self.blocks.get(0).context("no control block")?;
        block.runtime.state.store(State::Running as u32, Relaxed);
        Ok(block)
    }
}
