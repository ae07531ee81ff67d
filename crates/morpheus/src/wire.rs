//! What a process and an agent say to each other: packets on a Unix socket, descriptors beside them.
//!
//! ```text
//! process -> agent                    agent -> process
//! Hello {abi, workers, bell}          Welcome {tier, bell, why}   + blocks [+ bell]
//! Register {block}   + its pidfd      Registered {generation}
//! Quiet              + its pidfd      Registered {0}
//! Unregister {block}                  Unregistered
//!                                     Refused {why}, to any of them
//! ```
//!
//! A packet is three little-endian numbers of 32 bits and, at most, [`TEXT_MAX`] bytes of text.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Blocks of one process, at most (`MORPHEUS_WORKERS_MAX`).
pub const WORKERS_MAX: usize = 1_024;

/// Processes of one agent, at most (`MORPHEUS_PROCESSES_MAX`).
pub const PROCESSES_MAX: usize = 64;

/// Bytes of text in a packet, at most.
pub const TEXT_MAX: usize = 500;

const HEAD: usize = 12;

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A process introduces itself.
    Hello {
        /// The [`ABI`](crate::ABI) it was built with.
        abi: u32,
        /// How many control blocks it wants.
        workers: u32,
        /// Whether it wants a bell.
        bell: bool,
    },
    /// A thread of it, whose pidfd is beside this, is the worker of that block.
    Register {
        /// The number of the block.
        block: u32,
    },
    /// The thread whose pidfd is beside this serves the guidance itself: that it wakes up is no
    /// reason for a hint.
    Quiet,
    /// That block has no worker any more.
    Unregister {
        /// The number of the block.
        block: u32,
    },
    /// The answer to a `Hello`; beside it the blocks, then the bell if there is one.
    Welcome {
        /// A number of [`Tier`](crate::Tier).
        tier: u32,
        /// 0: no bell; 1: a ring buffer of the kernel's; 2: an event descriptor.
        bell: u32,
        /// Why there is no higher tier.
        why: String,
    },
    /// The thread is the worker of its block.
    Registered {
        /// The generation of the block.
        generation: u32,
    },
    /// It is not any more.
    Unregistered,
    /// What was asked is not done.
    Refused {
        /// Why.
        why: String,
    },
}

impl Packet {
    fn parts(&self) -> ([u32; 3], &str) {
        match self {
            Self::Hello { abi, workers, bell } => {
                ([1, *abi, workers.wrapping_mul(2) | u32::from(*bell)], "")
            }
            Self::Register { block } => ([2, *block, 0], ""),
            Self::Unregister { block } => ([3, *block, 0], ""),
            Self::Welcome { tier, bell, why } => ([4, *tier, *bell], why),
            Self::Registered { generation } => ([5, *generation, 0], ""),
            Self::Unregistered => ([6, 0, 0], ""),
            Self::Refused { why } => ([7, 0, 0], why),
            Self::Quiet => ([8, 0, 0], ""),
        }
    }

    /// The bytes of a packet; text that is too long is cut.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (numbers, text) = self.parts();
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let end = text.floor_char_boundary(TEXT_MAX);
        bytes.extend(&text.as_bytes()[..end]);
        bytes
    }

    /// Reads a packet.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let (head, text) =
            bytes.split_at_checked(HEAD).ok_or_else(|| bad("a packet that is too short"))?;
        let mut numbers = head
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes(four.try_into().unwrap_or_default()));
        let mut number = || numbers.next().unwrap_or_default();
        let (kind, a, b) = (number(), number(), number());
        if text.len() > TEXT_MAX {
            return Err(bad("a packet that is too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| bad("text that is not UTF-8"))?;
        if !matches!(kind, 4 | 7) && !text.is_empty() {
            return Err(bad("text where none belongs"));
        }
        Ok(match kind {
            1 => Self::Hello { abi: a, workers: b / 2, bell: b % 2 == 1 },
            2 => Self::Register { block: a },
            3 => Self::Unregister { block: a },
            4 => Self::Welcome { tier: a, bell: b, why: text.into() },
            5 => Self::Registered { generation: a },
            6 => Self::Unregistered,
            7 => Self::Refused { why: text.into() },
            8 => Self::Quiet,
            _ => return Err(bad("a packet of an unknown kind")),
        })
    }
}

/// A packet as it came.
#[derive(Debug)]
pub struct Received {
    /// What it says.
    pub packet: Packet,
    /// The descriptors beside it.
    pub files: Vec<OwnedFd>,
    /// The process that sent it, as the kernel says, if the socket asks for that.
    pub sender: Option<u32>,
}

/// Sends a packet with descriptors beside it.
pub fn send(socket: impl AsFd, packet: &Packet, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = packet.to_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many descriptors beside a packet"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    if sent != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Receives a packet; `None` if the other end is gone.
pub fn receive(socket: impl AsFd) -> io::Result<Option<Received>> {
    let mut bytes = [0; HEAD + TEXT_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8), ScmCredentials(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let (mut files, mut sender) = (Vec::new(), None);
    for message in beside.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(rights) => files.extend(rights),
            RecvAncillaryMessage::ScmCredentials(who) => {
                sender = u32::try_from(who.pid.as_raw_nonzero().get()).ok();
            }
            _ => {}
        }
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    let packet = Packet::from_bytes(&bytes[..message.bytes])?;
    Ok(Some(Received { packet, files, sender }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_survive_the_wire() {
        for packet in [
            Packet::Hello { abi: 1, workers: 1_024, bell: true },
            Packet::Hello { abi: 1, workers: 4, bell: false },
            Packet::Register { block: 3 },
            Packet::Unregister { block: 3 },
            Packet::Quiet,
            Packet::Welcome { tier: 2, bell: 1, why: "no sched_ext".into() },
            Packet::Registered { generation: 9 },
            Packet::Unregistered,
            Packet::Refused { why: "full".into() },
        ] {
            assert_eq!(Packet::from_bytes(&packet.to_bytes()).expect("a packet"), packet);
        }
        let long = Packet::Refused { why: "é".repeat(TEXT_MAX) };
        assert!(long.to_bytes().len() <= HEAD + TEXT_MAX);
        assert!(Packet::from_bytes(&long.to_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(packet) = Packet::from_bytes(&bytes) {
                prop_assert!(Packet::from_bytes(&packet.to_bytes()).is_ok());
            }
        }
    }
}
