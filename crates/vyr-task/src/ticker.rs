//! The clock that makes running guests look up: one thread, one epoch a tick.
//!
//! It runs while tasks run and for a while after, then parks, so that an idle node wakes
//! nobody. At each tick it also looks whether swap was turned on (`swap`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Time between two epochs: a running guest sees a cancellation, a deadline or an exhausted
/// processor budget within two of them. Ten wake-ups fit in the 100 ms that are promised.
pub const TICK: Duration = Duration::from_millis(10);

/// Quiet ticks before the ticker parks: a second, so that a stream of single tasks does not
/// pay a wake-up each.
const QUIET_TICKS: u32 = 100;

/// What the ticker does at each tick.
pub(crate) trait OnTick: Send + Sync + 'static {
    /// On the ticker's thread, each time it starts to tick.
    fn begin(&self) {}

    fn tick(&self);
}

#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    /// Starts the thread, which ticks so often; it ends when the ticker is dropped or `target` is
    /// gone.
    pub(crate) fn start<T: OnTick>(target: Weak<T>, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { parked: AtomicBool::new(true), ..Shared::default() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("vyr-ticker".into())
            .spawn(move || beat(&of_thread, &target, tick))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A task starts; the guard is dropped when it ends. Returns whether the ticker had been
    /// parked, that is, whether nobody looked around for a while.
    pub(crate) fn enter(&self) -> (Running, bool) {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        let was_parked = self.shared.parked.load(Ordering::SeqCst);
        if was_parked {
            self.unpark();
        }
        (Running(Arc::clone(&self.shared)), was_parked)
    }

    fn unpark(&self) {
        self.thread.as_ref().map(JoinHandle::thread).map(Thread::unpark);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Held while a task runs.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn beat<T: OnTick>(shared: &Shared, target: &Weak<T>, tick: Duration) {
    let mut quiet = QUIET_TICKS;
    while !shared.ended.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            quiet = 0;
        } else {
            quiet += 1;
        }
        if quiet > QUIET_TICKS {
            // Say that we park, then look once more: a task that started in between either sees
            // the flag and unparks us, or is seen here.
            shared.parked.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.ended.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            quiet = 0;
            if let Some(target) = target.upgrade() {
                target.begin();
            }
            continue;
        }
        std::thread::park_timeout(tick);
        let Some(target) = target.upgrade() else { return };
        target.tick();
    }
}
