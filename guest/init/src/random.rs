//! Fresh randomness: two guests restored from one snapshot must not share a single byte of it.
//!
//! The kernel's generator keeps its key in memory, and so in the snapshot. Bytes that are only mixed
//! into its pool reach that key a minute later; these two calls do it now. They have no safe form in
//! any crate of the tree, so the unsafe code of the guest is here.
#![expect(unsafe_code, reason = "two ioctls of /dev/random without a safe form")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{self, NoArg, Setter, opcode};

/// `struct rand_pool_info` of linux/random.h with 32 bytes.
#[repr(C)]
struct Pool {
    entropy_bits: i32,
    bytes: i32,
    seed: [u8; 32],
}

const RNDADDENTROPY: ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 3);
const RNDRESEEDCRNG: ioctl::Opcode = opcode::none(b'R', 7);

/// Credits the seed and takes a new key from it, before it returns.
pub(crate) fn seed(seed: [u8; 32]) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/random")?;
    add(&device, Pool { entropy_bits: 256, bytes: 32, seed })?;
    // SAFETY: RNDRESEEDCRNG takes no argument and touches no memory of this process.
    unsafe { ioctl::ioctl(device.as_fd(), NoArg::<RNDRESEEDCRNG>::new()) }?;
    Ok(())
}

fn add(device: impl AsFd, pool: Pool) -> io::Result<()> {
    // SAFETY: RNDADDENTROPY reads two ints and then as many bytes as the second says: 32, which
    // `Pool` holds in one piece by its C layout.
    unsafe { ioctl::ioctl(device, Setter::<RNDADDENTROPY, Pool>::new(pool)) }?;
    Ok(())
}
