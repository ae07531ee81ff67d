//! A block as it is before anybody has it, and its size. Apart from `block.rs`, because loom's
//! atomics, which the model test puts there, are larger and cannot be made in a constant.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::block::{Block, Hints, Runtime};

// The lines of `bpf/morpheus.h`; `tests/abi.rs` compares the rest.
const _: () = assert!(size_of::<Hints>() == 128 && align_of::<Hints>() == 128);
const _: () = assert!(size_of::<Runtime>() == 128 && align_of::<Runtime>() == 128);
const _: () = assert!(size_of::<Block>() == 256);

impl Block {
    /// A block that nobody has.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            hints: Hints {
                preempt_seq: AtomicU32::new(0),
                reserved_word: AtomicU32::new(0),
                reserved_near: [const { AtomicU64::new(0) }; 2],
                own: AtomicU64::new(0),
                reserved_half: AtomicU32::new(0),
                reason: AtomicU32::new(0),
                hint_ns: AtomicU64::new(0),
                budget_remaining_ns: AtomicU64::new(0),
                pressure: AtomicU32::new(0),
                generation: AtomicU32::new(0),
                kernel: AtomicU64::new(0),
                psi: AtomicU64::new(0),
                timer: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                looks: AtomicU64::new(0),
                critical_looks: AtomicU64::new(0),
                deadline_ns: AtomicU64::new(0),
            },
            runtime: Runtime {
                ack_seq: AtomicU32::new(0),
                critical_depth: AtomicU32::new(0),
                state: AtomicU32::new(0),
                escapable: AtomicU32::new(0),
                backlog: AtomicU32::new(0),
                yield_reason: AtomicU32::new(0),
                slice_ns: AtomicU64::new(0),
                turn_ns: AtomicU64::new(0),
                yields: AtomicU64::new(0),
            },
        }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::new()
    }
}
