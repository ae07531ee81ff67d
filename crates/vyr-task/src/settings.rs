//! The Wasmtime settings: what a guest may be written in, and how its code is made.
//!
//! Two groups. What changes machine code is the same in the compiling process and in the running
//! one, else Wasmtime refuses the code; `compatibility` names that group, the Wasmtime version
//! and this processor's features in one word, and the cache keys files by it. What only concerns
//! running (pools, stacks) is added by `pooling_settings`.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, Engine, OptLevel, PoolingAllocationConfig};

/// The two binary forms of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A core module that speaks WASI preview 1 (`_start`).
    Module,
    /// A component that exports `wasi:cli/run` (WASI 0.2).
    Component,
}

/// Stack a guest may use before it traps: Wasmtime's default, deep enough for ordinary
/// recursion and small enough that a thousand fibers stay cheap.
pub(crate) const WASM_STACK_BYTES: usize = 512 << 10;

/// A fiber's whole stack: the guest's part and what host calls need above it.
pub(crate) const FIBER_STACK_BYTES: usize = 2 << 20;

/// Bytes of a used slot that are cleared in place rather than given back to the kernel.
/// Measured: four times the rate of the default reset on small guests.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;

/// Core instances a component may hold. The adapted Rust and C components seen need at most
/// five; a component that wants more is refused when it is loaded.
pub(crate) const CORE_INSTANCES_MAX: u32 = 16;

/// Tables and memories a module or component may hold.
pub(crate) const TABLES_MAX: u32 = 8;
pub(crate) const MEMORIES_MAX: u32 = 4;

/// Elements of one table: 1 MiB of pointers. The largest table seen in a real guest (a
/// JavaScript engine) has 8,000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 128 << 10;

/// What a pool slot may hold at most: the whole of a 32-bit memory.
pub(crate) const MEMORY_SLOT_BYTES: usize = 4 << 30;

/// The settings that shape machine code: the same for compiling and running.
///
/// Off, and why: threads (shared memory would outlive a task's own thread), memory64 (no pool
/// slot holds it), GC and its reference types (feature not built), component-model async (not
/// in WASI 0.2). Relaxed SIMD is kept and made deterministic, so that a receipt's output digest
/// does not depend on the processor.
pub fn engine_settings() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .wasm_component_model(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_init_cow(true);
    config
}

/// Adds what only concerns running: a pool of `slots` tasks at once.
///
/// `pagemap_scan` asks the kernel which pages a task touched, so that only those are cleared;
/// see `swap` for when that is safe.
pub fn pooling_settings(slots: u32, pagemap_scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // A component of several core instances still has one memory and a table or two; four times
    // the slots leaves room for a mix, and address space is all that an unused one costs.
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(slots.saturating_mul(2).max(MEMORIES_MAX))
        .total_tables(slots.saturating_mul(4).max(TABLES_MAX))
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_SLOT_BYTES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_ELEMENTS_MAX * size_of::<usize>())
        .async_stack_keep_resident(FIBER_STACK_BYTES)
        .pagemap_scan(if pagemap_scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// One word for everything that decides whether machine code made by one process can run in
/// another: Wasmtime's version, the settings above, this processor. 16 hex digits.
pub fn compatibility() -> Result<String, String> {
    let engine = Engine::new(&engine_settings()).map_err(|e| format!("{e:#}"))?;
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}
