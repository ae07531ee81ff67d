//! Safe points for futures on tokio.
//!
//! A future that computes for long awaits [`checkpoint`] now and then. If its worker thread was
//! hinted, the hint is acknowledged first and the future then goes to the back of tokio's own queue;
//! where it runs on is tokio's business, also on another worker. Without a hint the checkpoint takes
//! a unit of tokio's cooperative budget, as a resource of tokio's own would.
//!
//! Worker threads register themselves at their first checkpoint, so threads that run blocking code
//! never do. A runtime of one thread runs on a thread that is not its own: register that one.

use std::cell::{Cell, RefCell};

use tokio::runtime::Builder;

use crate::block::Yield;
use crate::guidance::{Guidance, Registrar};
use crate::worker::{Worker, is_registered};

thread_local! {
    static REGISTRAR: RefCell<Option<Registrar>> = const { RefCell::new(None) };
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    static TRIED: Cell<bool> = const { Cell::new(false) };
}

/// Lets the workers of a runtime that is being built be guided, and idle ones be left alone.
///
/// It takes the builder's hooks for threads that start, park, unpark and stop.
pub fn guide<'a>(builder: &'a mut Builder, guidance: &Guidance) -> &'a mut Builder {
    let registrar = guidance.registrar();
    builder
        .on_thread_start(move || {
            REGISTRAR.set(Some(registrar.clone()));
        })
        .on_thread_park(|| with_worker(|worker| worker.set_idle(true)))
        .on_thread_unpark(|| with_worker(|worker| worker.set_idle(false)))
        .on_thread_stop(|| drop(WORKER.take()))
}

fn with_worker(run: impl FnOnce(&Worker)) {
    WORKER.with_borrow(|worker| worker.as_ref().map(run));
}

/// Registers this thread, if there is somebody to register with; it is tried once.
#[cold]
fn register() {
    if TRIED.replace(true) {
        return;
    }
    let Some(registrar) = REGISTRAR.take() else { return };
    // Without a free block the thread stays unguided; the report says who was refused, and why.
    if let Ok(worker) = registrar.register() {
        WORKER.set(Some(worker));
    }
}

/// A safe point: yields to tokio if this worker was hinted, or used up its cooperative budget.
pub async fn checkpoint() {
    if crate::checkpoint() {
        // First the thread that waits for this processor: it may bring what tokio then runs.
        crate::yield_to_threads();
        return tokio::task::yield_now().await;
    }
    if !is_registered() {
        register();
    }
    if tokio::task::coop::has_budget_remaining() {
        tokio::task::coop::consume_budget().await;
    } else {
        crate::worker::note_yield(Yield::Budget);
        tokio::task::coop::consume_budget().await;
    }
}
