//! What one task may use, and the meter Wasmtime asks before it grants more.

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use crate::settings::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// The limits of one task; every one is hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of all the task's memories together, in bytes.
    pub memory_bytes: u64,
    /// Wall time from the start of execution, in milliseconds.
    pub deadline_ms: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Bytes written to standard output.
    pub output_bytes_max: u64,
}

impl Default for Limits {
    /// What a task gets that asks for nothing: enough for a filter or a report over a large
    /// file, little enough that a runaway is over within a minute.
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            deadline_ms: 60_000,
            cpu_ms: 60_000,
            output_bytes_max: 1 << 30,
        }
    }
}

/// The most a task may ask for on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings(pub Limits);

impl Default for Ceilings {
    /// One GiB of memory, because filling more in one `memory.fill` takes longer than the
    /// 100 ms in which a cancellation must work; a day of time; a TiB of output.
    fn default() -> Self {
        Self(Limits {
            memory_bytes: 1 << 30,
            deadline_ms: 86_400_000,
            cpu_ms: 86_400_000,
            output_bytes_max: 1 << 40,
        })
    }
}

impl Ceilings {
    /// The limits that apply when `asked` is asked for: each the smaller of the two.
    pub fn clamp(&self, asked: Limits) -> Limits {
        let Self(most) = self;
        Limits {
            memory_bytes: asked.memory_bytes.min(most.memory_bytes),
            deadline_ms: asked.deadline_ms.min(most.deadline_ms),
            cpu_ms: asked.cpu_ms.min(most.cpu_ms),
            output_bytes_max: asked.output_bytes_max.min(most.output_bytes_max),
        }
    }
}

/// What Wasmtime asks before memory and tables grow; remembers what it refused.
#[derive(Debug)]
pub(crate) struct Meter {
    limit_bytes: u64,
    /// Sum over all memories now. Memories only grow, so this is also the peak.
    held_bytes: u64,
    /// The size a refused growth would have reached, if one was refused.
    pub(crate) memory_denied: Option<u64>,
    /// The element count a refused table growth would have reached.
    pub(crate) table_denied: Option<u64>,
}

impl Meter {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held_bytes: 0, memory_denied: None, table_denied: None }
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.held_bytes
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let wanted = self.held_bytes.saturating_add(more);
        if wanted > self.limit_bytes {
            self.memory_denied = Some(wanted);
            return Ok(false);
        }
        self.held_bytes = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.table_denied = Some(desired as u64);
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 60, None).expect("asks only"));
        assert!(!meter.memory_growing(0, 60, None).expect("asks only"));
        assert_eq!(meter.memory_denied, Some(120));
        assert!(meter.memory_growing(60, 100, None).expect("asks only"));
        assert_eq!(meter.peak_bytes(), 100);
    }

    #[test]
    fn a_ceiling_lowers_and_never_raises() {
        let asked = Limits { memory_bytes: 1, deadline_ms: u64::MAX, ..Limits::default() };
        let applied = Ceilings::default().clamp(asked);
        assert_eq!(applied.memory_bytes, 1);
        assert_eq!(applied.deadline_ms, 86_400_000);
    }
}
