//! May the fast slot reset be used? Only while swap cannot touch the process.
//!
//! Wasmtime's `pagemap_scan` asks the kernel which pages of a slot a task dirtied and clears
//! those. Its mask demands that a page be present (open report wasmtime#14357), so a dirty page
//! that was swapped out is skipped and the next task in the slot could read it. Without swap the
//! case cannot arise; with swap we use the default reset.
//!
//! The kernel wakes pollers of `/proc/swaps` when swap is turned on or off, so looking again
//! costs one `poll`. `Ticker` looks at every tick while tasks run, and `Engine` looks before the
//! first task after a quiet time; what is left is swap that is turned on *and* used within one
//! tick.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whether the fast reset is used, and if not, why: a line for `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagemapScan {
    /// The kernel has it and there is no swap.
    Used,
    /// There is swap, or `/proc/swaps` cannot be read: the default reset is used.
    SwapPresent,
    /// The kernel has no `PAGEMAP_SCAN` (Linux before 6.7), or hides `/proc/self/pagemap`.
    NotInKernel,
}

impl PagemapScan {
    /// One sentence for a person.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Used => "used: the kernel has PAGEMAP_SCAN and no swap is on",
            Self::SwapPresent => {
                "not used: swap is on, and a swapped-out page could escape the fast reset"
            }
            Self::NotInKernel => "not used: the kernel has no PAGEMAP_SCAN (Linux 6.7 has)",
        }
    }
}

/// A list of swap areas in the form of `/proc/swaps`, kept open so that a confined process can
/// look again.
#[derive(Debug)]
pub struct SwapWatch {
    /// `None`: it could not be opened, which counts as swap being on.
    file: Option<File>,
    last: Mutex<Option<bool>>,
}

impl SwapWatch {
    /// Watches `path`, in the product `/proc/swaps`.
    pub fn new(path: &Path) -> Self {
        Self { file: File::open(path).ok(), last: Mutex::new(None) }
    }

    /// Watches this machine's swap.
    pub fn of_this_machine() -> Self {
        Self::new(Path::new("/proc/swaps"))
    }

    /// Whether any swap area is on now. What cannot be read counts as on.
    pub fn is_on(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match *last {
            Some(known) if !changed(file) => known,
            _ => {
                let now = read_is_on(file).unwrap_or(true);
                *last = Some(now);
                now
            }
        }
    }
}

/// `/proc/swaps` reports priority data when it changed since this descriptor last read it; an
/// ordinary file (in a test) reports readable at once and is read every time.
fn changed(file: &File) -> bool {
    let mut polled = [PollFd::new(file, PollFlags::PRI)];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut polled, Some(&no_wait)) {
        Ok(0) => !is_proc(file),
        Ok(_) | Err(_) => true,
    }
}

fn is_proc(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// A header line, then one line an area.
fn read_is_on(file: &File) -> io::Result<bool> {
    let mut start = [0u8; 4096];
    let length = file.read_at(&mut start, 0)?;
    let text = String::from_utf8_lossy(&start[..length]);
    Ok(text.lines().skip(1).any(|line| !line.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    #[test]
    fn swap_turned_on_later_is_seen() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("swaps");
        std::fs::write(&path, HEADER).expect("write");
        let watch = SwapWatch::new(&path);
        assert!(!watch.is_on());
        std::fs::write(&path, format!("{HEADER}/swapfile file 1048572 0 -2\n")).expect("write");
        assert!(watch.is_on());
    }

    #[test]
    fn what_cannot_be_read_counts_as_on() {
        assert!(SwapWatch::new(Path::new("/nonexistent/swaps")).is_on());
    }

    #[test]
    fn this_machine_agrees_with_its_own_list() {
        let text = std::fs::read_to_string("/proc/swaps").expect("Linux");
        let watch = SwapWatch::of_this_machine();
        assert_eq!(watch.is_on(), text.lines().count() > 1);
        assert_eq!(watch.is_on(), text.lines().count() > 1, "and again, from memory");
    }
}
