//! Guidance of the threads that run guests: the kernel hints, a guest yields at its next epoch
//! check, in favour of what waits.
//!
//! Wasmtime's epoch is private to its engine, so a hint rings a bell: a thread of the guidance
//! advances the epoch, every running guest looks up, and the one whose worker was hinted yields.
//! The others go on at once. Hints never change what a guest computes, only when.

use std::sync::Arc;

use morpheus::{SLICE_DEFAULT_NS, SLICE_MIN_NS, Worker};

use crate::engine::Engine;

/// Each step of priority doubles the slice or halves it, up to this many.
const PRIORITY_STEPS: i32 = 3;

/// How long a guest may run before it is asked to yield to others, in nanoseconds: more with a
/// higher priority, and no more than is left of its processor time.
pub(crate) fn slice_ns(priority: i32, cpu_left_ns: u64) -> u64 {
    let steps = priority.clamp(-PRIORITY_STEPS, PRIORITY_STEPS);
    let slice = match u32::try_from(steps) {
        Ok(more) => SLICE_DEFAULT_NS << more,
        Err(_) => SLICE_DEFAULT_NS >> steps.unsigned_abs(),
    };
    // Zero would ask for the default.
    slice.min(cpu_left_ns).max(SLICE_MIN_NS)
}

/// The registration of a worker's thread, once its engine is guided.
pub(crate) struct Guided {
    engine: Engine,
    worker: Option<Worker>,
    tried: bool,
}

impl Guided {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone(), worker: None, tried: false }
    }

    /// Registers this thread, when there is guidance by now.
    pub(crate) fn look(&mut self) {
        if self.tried {
            return;
        }
        if let Some(guidance) = self.engine.guidance() {
            self.tried = true;
            // A thread without a block runs unguided; the report shows how many have one.
            self.worker = guidance.register().ok();
        }
    }

    /// Says whether this thread waits for work.
    pub(crate) fn idle(&self, idle: bool) {
        if let Some(worker) = &self.worker {
            worker.set_idle(idle);
        }
    }
}

/// What a guest may have for itself before it yields to a task that was just queued: enough that
/// many of those do not keep it from getting on.
const TURN_NS: u64 = 20_000;

/// Says whether tasks wait for a worker, when that changes.
#[derive(Debug)]
pub(crate) struct Backlog {
    engine: Engine,
    said: std::sync::atomic::AtomicBool,
}

impl Backlog {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone(), said: false.into() }
    }

    /// Something was just queued, and whoever may take it was woken: a guest that has computed for a
    /// while yields to it at once. Not before they were woken, or it would find nobody to yield to.
    pub(crate) fn press(&self) {
        if self.said.load(std::sync::atomic::Ordering::Relaxed)
            && let Some(guidance) = self.engine.guidance()
            && guidance.something_waits(TURN_NS)
        {
            self.engine.inner().look_up();
        }
    }

    pub(crate) fn say(&self, waits: bool) {
        use std::sync::atomic::Ordering::Relaxed;
        if self.said.load(Relaxed) != waits
            && let Some(guidance) = self.engine.guidance()
        {
            self.said.store(waits, Relaxed);
            guidance.set_backlog(waits);
        }
    }
}

impl Engine {
    /// Lets the kernel, or what stands in for it, say when guests should yield. `connect` makes the
    /// guidance, once, for `threads` threads.
    pub fn guide(
        &self,
        threads: usize,
        connect: impl FnOnce(morpheus::Options) -> Result<morpheus::Guidance, morpheus::GuidanceError>,
    ) -> Result<(), morpheus::GuidanceError> {
        let inner = Arc::downgrade(self.inner());
        let on_hint = move || {
            if let Some(inner) = inner.upgrade() {
                inner.look_up();
            }
        };
        let options = morpheus::Options {
            workers: threads,
            on_hint: Some(Box::new(on_hint)),
            ..Default::default()
        };
        let guidance = connect(options)?;
        self.set_guidance(guidance);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_follows_priority_and_what_is_left() {
        let long = u64::MAX;
        assert_eq!(slice_ns(0, long), SLICE_DEFAULT_NS);
        assert_eq!(slice_ns(2, long), 4 * SLICE_DEFAULT_NS);
        assert_eq!(slice_ns(-1, long), SLICE_DEFAULT_NS / 2);
        assert_eq!(slice_ns(i32::MAX, long), 8 * SLICE_DEFAULT_NS);
        assert_eq!(slice_ns(i32::MIN, long), SLICE_DEFAULT_NS / 8);
        assert_eq!(slice_ns(0, 50_000), 50_000);
        assert_eq!(slice_ns(0, 0), SLICE_MIN_NS);
    }
}
