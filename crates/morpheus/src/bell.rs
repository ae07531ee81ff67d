//! A bell: how a thread that waits learns that there was a hint, for engines whose safe points
//! cannot look into memory.

#![expect(unsafe_code, reason = "maps the positions of a ring buffer of the kernel's")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::memory::page_size;

/// The end of a bell at which one waits.
#[derive(Debug)]
pub(crate) enum Bell {
    /// A ring buffer of the kernel's, of which only the positions are of interest.
    Ring { file: OwnedFd, consumed: Page, produced: Page },
    /// An event descriptor.
    Event(OwnedFd),
}

/// A page that holds a position at its beginning.
#[derive(Debug)]
pub(crate) struct Page(NonNull<AtomicUsize>);

// SAFETY: an atomic in a mapping that belongs to this value.
unsafe impl Send for Page {}

impl Page {
    fn map(file: &OwnedFd, protection: ProtFlags, offset: u64) -> io::Result<Self> {
        let size = page_size();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe { mmap(null_mut(), size, protection, MapFlags::SHARED, file, offset)? };
        NonNull::new(page.cast()).map(Self).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn position(&self) -> &AtomicUsize {
        // SAFETY: the mapping lives as long as `self`, and a position is at its beginning.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our mapping, to which no reference is left.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), page_size()) };
    }
}

impl Bell {
    pub(crate) fn ring(file: OwnedFd) -> io::Result<Self> {
        let consumed = Page::map(&file, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let produced = Page::map(&file, ProtFlags::READ, page_size() as u64)?;
        Ok(Self::Ring { file, consumed, produced })
    }

    /// Readable when it was rung.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ring { file, .. } | Self::Event(file) => file.as_fd(),
        }
    }

    /// Silences it until it is rung again.
    pub(crate) fn silence(&self) {
        match self {
            Self::Ring { consumed, produced, .. } => {
                let rung = produced.position().load(Ordering::Acquire);
                consumed.position().store(rung, Ordering::Release);
            }
            Self::Event(file) => {
                let _ = rustix::io::read(file, &mut [0; 8]);
            }
        }
    }
}
