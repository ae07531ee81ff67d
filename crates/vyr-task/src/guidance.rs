//! Guidance of the threads that run guests: the kernel hints, a guest yields at its next epoch
//! check, in favour of what waits.
//!
//! Wasmtime's epoch is private to its engine, so a hint rings a bell: a thread of the guidance
//! advances the epoch, every running guest looks up, and the one whose worker was hinted yields.
//! The others go on at once. Hints never change what a guest computes, only when.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

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

thread_local! {
    /// What the guest that runs on this thread had before this turn, in nanoseconds: for others.
    static HAD: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    /// The same for this thread, and when the turn began.
    static TURN: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
}

/// A guest that had so much of a processor before gets a turn on this thread.
pub(crate) fn turn(priority: i32, cpu_left_ns: u64, had_ns: u64) {
    morpheus::turn(slice_ns(priority, cpu_left_ns));
    HAD.with_borrow(|had| had.as_ref().map(|had| had.store(had_ns, Relaxed)));
    TURN.set(Some((had_ns, Instant::now())));
}

/// Whether the guest on this thread may be one of the short ones still.
pub(crate) fn is_short() -> bool {
    TURN.get().is_some_and(|(had_ns, began)| {
        let age_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        had_ns.saturating_add(age_ns) < SHORT_NS
    })
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
            let had =
                self.worker.as_ref().and_then(|w| self.engine.inner().had(w.number()).cloned());
            HAD.set(had);
        }
    }

    /// Says whether this thread waits for work.
    pub(crate) fn idle(&self, idle: bool) {
        if let Some(worker) = &self.worker {
            worker.set_idle(idle);
        }
    }
}

/// What a guest may have in all before it is asked to give way to a task that was just queued: most
/// tasks end in it, and to stop one of those for another gains nothing.
const SHORT_NS: u64 = 200_000;

/// What it may have in one turn: enough that many of those do not keep it from getting on.
const TURN_NS: u64 = 5_000;

/// Says whether tasks wait for a worker, when that changes.
#[derive(Debug)]
pub(crate) struct Backlog {
    engine: Engine,
}

impl Backlog {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }

    /// Something was just queued, and whoever may take it was woken: a guest that has computed for a
    /// while yields to it at once. Not before they were woken, or it would find nobody to yield to.
    pub(crate) fn press(&self) {
        if !self.engine.inner().waits() {
            return;
        }
        let Some(guidance) = self.engine.guidance() else { return };
        // The one that has had most: a short task that is asked would wait behind a long one.
        let rank = |worker: usize, age_ns: u64| {
            let had = self.engine.inner().had(worker);
            let had_ns = had.map_or(0, |had| had.load(Relaxed));
            let all_ns = had_ns.saturating_add(age_ns);
            (age_ns >= TURN_NS && all_ns >= SHORT_NS).then_some(all_ns)
        };
        // An epoch makes all guests look up: not one for nothing.
        if guidance.something_waits(rank) {
            self.engine.inner().look_up();
        }
    }

    /// The same by a worker that has just taken something else.
    pub(crate) fn press_others(&self) {
        // As if its next guest had its turn already.
        morpheus::turn(0);
        self.press();
    }

    pub(crate) fn say(&self, waits: bool) {
        if self.engine.inner().waits() != waits
            && let Some(guidance) = self.engine.guidance()
        {
            self.engine.inner().set_waits(waits);
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
        self.set_guidance(guidance, threads);
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
