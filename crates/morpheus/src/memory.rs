//! The memory of control blocks: one array a process, of its own or shared with an agent.

#![expect(unsafe_code, reason = "maps memory that another process and the kernel write to")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::block::Block;

/// Control blocks that this process sees, and perhaps another one, and the kernel.
#[derive(Debug)]
pub struct Blocks {
    first: NonNull<Block>,
    count: usize,
    bytes: usize,
}

// SAFETY: a block is made of atomics only, and the mapping belongs to this value.
unsafe impl Send for Blocks {}
// SAFETY: the same.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Makes `count` blocks in memory that can be given to another process by the descriptor.
    pub fn create(count: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("morpheus-blocks", flags)?;
        let bytes = bytes_of(count)?;
        ftruncate(&file, bytes as u64)?;
        // Who has it cannot make it smaller, which would end whoever looks into it.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map_bytes(&file, count, bytes)?, file))
    }

    /// Maps `count` blocks of a memory file or of an array of the kernel's.
    pub fn map(file: impl AsFd, count: usize) -> io::Result<Self> {
        let bytes = bytes_of(count)?;
        // An array of the kernel's has no size here; its mmap refuses what is beyond its end.
        let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        if size > 0 && size < (count * size_of::<Block>()) as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too few control blocks"));
        }
        Self::map_bytes(file, count, bytes)
    }

    fn map_bytes(file: impl AsFd, count: usize, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is there. What
        // others do to its bytes is what atomics are for.
        let first = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let first = NonNull::new(first.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { first, count, bytes })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The block of that number.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<&Block> {
        // SAFETY: within the mapping, which lives as long as `self`, begins at a page, and holds
        // bytes that are valid for atomics, whatever they are.
        (n < self.count).then(|| unsafe { self.first.add(n).as_ref() })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        (0..self.count).filter_map(|n| self.get(n))
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: our mapping; every reference into it borrowed `self`, and a worker that points
        // here holds what owns `self`.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}

fn bytes_of(count: usize) -> io::Result<usize> {
    if count == 0 || count > crate::wire::WORKERS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{count} workers; there may be 1 to {}", crate::wire::WORKERS_MAX),
        ));
    }
    Ok((count * size_of::<Block>()).next_multiple_of(page_size()))
}

/// Bytes of a page. The C library has it since the process began; other ways open a file, which a
/// confined process cannot.
pub(crate) fn page_size() -> usize {
    // SAFETY: a question with a number, answered with a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A counter of `/proc/pressure/cpu`: microseconds in which something waited for a processor, and
/// the share of the last ten seconds in 1/10,000.
pub(crate) fn pressure(file: &File) -> io::Result<(u64, u32)> {
    use std::os::unix::fs::FileExt;
    let mut text = [0; 256];
    let read = file.read_at(&mut text, 0)?;
    parse_pressure(&text[..read]).ok_or_else(|| io::Error::other("/proc/pressure/cpu: no figures"))
}

fn parse_pressure(text: &[u8]) -> Option<(u64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let field = |name| line.split(' ').find_map(|word| word.strip_prefix(name));
    let (whole, part) = field("avg10=")?.split_once('.')?;
    let share = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)?;
    Some((field("total=")?.parse().ok()?, share.min(10_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_are_one_memory() {
        let (here, file) = Blocks::create(3).expect("memory");
        let there = Blocks::map(&file, 3).expect("a mapping");
        assert!(here.get(2).expect("a block").hint(crate::Source::Timer, crate::Reason::Timer, 7));
        assert!(there.get(2).expect("a block").is_outstanding());
        assert!(!there.get(1).expect("a block").is_outstanding());
        assert!(there.get(3).is_none());
    }

    #[test]
    fn a_memory_that_is_too_small_is_refused() {
        let (_, file) = Blocks::create(1).expect("memory");
        assert!(Blocks::map(&file, 1_000).is_err());
        assert!(Blocks::map(&file, 0).is_err());
        assert!(Blocks::map(&file, 1 << 20).is_err());
        assert!(ftruncate(&file, 0).is_err(), "it can be made smaller under our feet");
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = b"some avg10=12.34 avg60=0.00 avg300=0.00 total=987\nfull avg10=0.00\n";
        assert_eq!(parse_pressure(text), Some((987, 1_234)));
        assert_eq!(parse_pressure(b"some avg10=x"), None);
        assert_eq!(parse_pressure(b"\xff"), None);
    }
}
