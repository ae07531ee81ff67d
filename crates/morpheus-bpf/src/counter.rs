//! Instructions, where the processor counts them for us.

#![expect(unsafe_code, reason = "opens a perf event, for which there is no safe call")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;

use perf_event_open_sys as perf;

/// Counts the instructions that this thread executes outside the kernel.
#[derive(Debug)]
pub struct Instructions(File);

impl Instructions {
    /// Begins to count. Machines without a counter, many virtual ones, refuse.
    pub fn new() -> io::Result<Self> {
        let mut attributes = perf::bindings::perf_event_attr {
            type_: perf::bindings::PERF_TYPE_HARDWARE,
            size: u32::try_from(size_of::<perf::bindings::perf_event_attr>()).unwrap_or(0),
            config: perf::bindings::PERF_COUNT_HW_INSTRUCTIONS.into(),
            ..Default::default()
        };
        attributes.set_exclude_kernel(1);
        attributes.set_exclude_hv(1);
        let flags = u64::from(perf::bindings::PERF_FLAG_FD_CLOEXEC);
        // SAFETY: the attributes are a structure of the kernel's with its size in it.
        let fd = unsafe { perf::perf_event_open(&raw mut attributes, 0, -1, -1, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Instructions so far.
    pub fn read(&mut self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}
