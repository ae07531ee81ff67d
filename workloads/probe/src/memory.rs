//! `residue`: does linear memory hold a byte that an earlier task wrote?
//!
//! One task fills all the memory it can reach with a pattern, the next one in the same pool slot
//! scans all of its memory for it. The pattern exists in a scanning task only as hexadecimal
//! text: it is decoded nibble by nibble while comparing, never stored, so every match is a
//! byte sequence left by someone else, wherever in the memory it is.

use std::io;

/// A byte pattern as hexadecimal text, at least four bytes so that chance does not find it.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "read by guests only"))]
pub(crate) struct Pattern<'a>(&'a [u8]);

impl<'a> Pattern<'a> {
    pub(crate) fn new(hex: &'a str) -> Option<Self> {
        let whole = hex.len() >= 8 && hex.len().is_multiple_of(2);
        let zero = hex.bytes().all(|digit| digit == b'0');
        (whole && !zero && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then_some(Self(hex.as_bytes()))
    }
}

pub(crate) struct Found {
    /// Places in the whole memory where the pattern begins.
    pub(crate) matches: usize,
    /// Bytes of the freshly grown pages that are not zero; WebAssembly says there are none.
    pub(crate) grown_nonzero: usize,
    pub(crate) scanned_bytes: usize,
}

#[cfg(not(target_family = "wasm"))]
mod guest {
    use super::*;

    fn unsupported<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only a guest has a linear memory"))
    }

    pub(crate) fn scan(_: Pattern<'_>, _: usize) -> io::Result<Found> {
        unsupported()
    }

    pub(crate) fn fill(_: Pattern<'_>, _: usize) -> io::Result<usize> {
        unsupported()
    }
}

#[cfg(target_family = "wasm")]
mod guest {
    #![expect(unsafe_code, reason = "reads and writes linear memory by address")]

    use core::arch::wasm32::{memory_grow, memory_size};
    use std::hint::black_box;
    use std::ops::Range;
    use std::ptr;

    use super::*;

    const PAGE_BYTES: usize = 64 * 1024;

    /// The stack that `fill` writes: most of the 1 MiB rustc gives a guest, at the bottom of
    /// the memory, where the pages of the initial image are.
    const STACK_BYTES: usize = 768 * 1024;

    impl Pattern<'_> {
        fn bytes(self) -> usize {
            self.0.len() / 2
        }

        fn byte(self, index: usize) -> u8 {
            let nibble = |digit: u8| match digit {
                b'0'..=b'9' => digit - b'0',
                other => (other | 0x20) - b'a' + 10,
            };
            nibble(self.0[2 * index]) << 4 | nibble(self.0[2 * index + 1])
        }
    }

    /// Pages that no allocator knows of, by address.
    fn grow(pages: usize) -> io::Result<Range<usize>> {
        let before = memory_grow::<0>(pages);
        if before == usize::MAX {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "memory.grow was denied"));
        }
        Ok(before * PAGE_BYTES..(before + pages) * PAGE_BYTES)
    }

    fn read(address: usize) -> u8 {
        // SAFETY: callers stay below the size of the memory, all of which a guest may read.
        // Volatile, because the bytes belong to no object the compiler knows.
        unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u8>(address)) }
    }

    pub(crate) fn scan(pattern: Pattern<'_>, pages: usize) -> io::Result<Found> {
        let grown = grow(pages)?;
        let end = memory_size::<0>() * PAGE_BYTES;
        let first = pattern.byte(0);
        let mut found = Found { matches: 0, grown_nonzero: 0, scanned_bytes: end - 1 };
        // Address 0 is null in Rust, so the scan starts behind it.
        for address in 1..end {
            let byte = read(address);
            if byte == first
                && address + pattern.bytes() <= end
                && (1..pattern.bytes()).all(|index| read(address + index) == pattern.byte(index))
            {
                found.matches += 1;
            }
            found.grown_nonzero += usize::from(byte != 0 && grown.contains(&address));
        }
        Ok(found)
    }

    /// Fills the grown pages and most of the stack; returns how many bytes.
    pub(crate) fn fill(pattern: Pattern<'_>, pages: usize) -> io::Result<usize> {
        let grown = grow(pages)?;
        // SAFETY: `grow` just made these bytes; no allocation or other reference covers them.
        let fresh = unsafe {
            std::slice::from_raw_parts_mut(
                ptr::with_exposed_provenance_mut::<u8>(grown.start),
                grown.len(),
            )
        };
        write(pattern, fresh);
        black_box(fresh);
        Ok(grown.len() + fill_stack(pattern))
    }

    #[inline(never)]
    fn fill_stack(pattern: Pattern<'_>) -> usize {
        let mut frame = [0; STACK_BYTES];
        write(pattern, &mut frame);
        black_box(&mut frame).len()
    }

    fn write(pattern: Pattern<'_>, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = pattern.byte(index % pattern.bytes());
        }
    }
}

pub(crate) use guest::{fill, scan};
