//! Hints from user space: a timer, or a timer that runs while the machine is under pressure.
//!
//! It is what is left without BPF, and what takes over when an agent dies. Its hints are counted by
//! themselves, so that nobody takes them for the kernel's.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::block::{Block, Reason, Source};
use crate::clock::now_ns;
use crate::memory::pressure;

/// Between two looks at workers that run.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Between two looks under pressure: what the tier psi knows is coarse.
const PSI_TICK: Duration = Duration::from_millis(4);

/// Between two looks at workers of which none runs: the longest that one that begins waits for the
/// timer, and next to nothing of a processor.
pub(crate) const NAP: Duration = Duration::from_millis(10);

/// Between two looks at the pressure.
pub(crate) const REST: Duration = Duration::from_millis(500);

/// Pressure, in 1/10,000, from which there is something to share.
const PRESSED: u32 = 100;

/// Hints every worker that is over its slice; whether there was one.
pub(crate) fn hint_all<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    source: Source,
    reason: Reason,
) -> bool {
    let now = now_ns();
    let mut any = false;
    for block in blocks {
        any |= block.is_over_slice(now) && block.hint(source, reason, now);
    }
    any
}

/// Looks at the pressure of the machine.
#[derive(Debug)]
pub(crate) struct Pressure {
    file: File,
    waited_us: u64,
    looked_ns: u64,
    pressed: bool,
}

impl Pressure {
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::open("/proc/pressure/cpu")?;
        let (waited_us, _) = pressure(&file)?;
        Ok(Self { file, waited_us, looked_ns: now_ns(), pressed: false })
    }

    /// Reads it, if it is time, and publishes it in the blocks.
    pub(crate) fn look<'a>(&mut self, blocks: impl Iterator<Item = &'a Block>) {
        let now = now_ns();
        if Duration::from_nanos(now.saturating_sub(self.looked_ns)) < REST {
            return;
        }
        self.looked_ns = now;
        let Ok((waited_us, share)) = pressure(&self.file) else { return };
        // The kernel adds up every two seconds: without news, what was last seen holds.
        self.pressed = share >= PRESSED || waited_us > self.waited_us + 1_000;
        self.waited_us = waited_us;
        for block in blocks {
            block.hints.pressure.store(share, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Until the next look.
    pub(crate) fn tick(&self) -> Duration {
        if self.pressed { PSI_TICK } else { REST }
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }
}
