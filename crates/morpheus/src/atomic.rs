//! The atomic integers of the control block: the processor's. The model test puts loom's here.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
