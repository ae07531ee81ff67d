//! Worker threads: each takes the next jobs when it has nothing else to do.
//!
//! A job is first polled where it is taken, and most end in that one poll; only a guest that waits
//! or yields is put on the thread's run queue, and the thread takes further jobs meanwhile. The
//! engine's slots bound the jobs that have been taken; the queue bounds the rest.
//!
//! Threads take several jobs at a time when many wait, because a lock and a wake-up cost as much
//! as a small guest; `settled` is called when a thread has none left of those it took, so that
//! outcomes can be passed on together.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::outcome::Outcome;
use crate::run::Job;

/// Jobs a thread takes at a time, at most.
const BATCH_MAX: usize = 16;

/// An outcome waits no longer than this for the rest of its thread's batch.
const SETTLE_AFTER: Duration = Duration::from_micros(200);

/// What is done with an outcome, on the worker's thread; short work only.
pub type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// Threads that run jobs on one engine. Dropping them waits for the jobs already queued.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    room: Condvar,
    capacity: usize,
    threads: usize,
    settled: Box<dyn Fn() + Send + Sync>,
}

struct State {
    jobs: VecDeque<(Job, OnDone)>,
    free_slots: usize,
    closed: bool,
    idle: Vec<(usize, Waker)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `threads` threads and a queue for `queue` jobs.
    pub fn start(
        engine: &Engine,
        threads: usize,
        queue: usize,
        settled: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                free_slots: engine.slots() as usize,
                closed: false,
                idle: Vec::new(),
            }),
            room: Condvar::new(),
            capacity: queue.max(1),
            threads: threads.max(1),
            settled: Box::new(settled),
        });
        let threads = (0..threads)
            .map(|n| {
                let (engine, shared) = (engine.clone(), Arc::clone(&shared));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                std::thread::Builder::new()
                    .name(format!("vyr-worker-{n}"))
                    .spawn(move || runtime.block_on(work(n, engine, shared)))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Queues a job, waiting while the queue is full. `on_done` is called exactly once.
    pub fn submit(&self, job: Job, on_done: impl FnOnce(Outcome) + Send + 'static) {
        let mut state = self.shared.lock();
        while state.jobs.len() >= self.shared.capacity {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.jobs.push_back((job, Box::new(on_done)));
        let idle = state.idle.pop();
        drop(state);
        if let Some((_, waker)) = idle {
            waker.wake();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.into_iter().for_each(|(_, waker)| waker.wake());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes jobs and their slots; ready with none when the queue is closed and empty.
    fn poll_take(
        &self,
        worker: usize,
        cx: &Context<'_>,
        batch: &mut Vec<(Job, OnDone)>,
    ) -> Poll<()> {
        let mut state = self.lock();
        let fair = (state.jobs.len() / (2 * self.threads)).clamp(1, BATCH_MAX);
        let take = fair.min(state.jobs.len()).min(state.free_slots);
        if take == 0 {
            if state.closed && state.jobs.is_empty() {
                return Poll::Ready(());
            }
            // One entry a worker, and the newest waker of it.
            state.idle.retain(|(other, _)| *other != worker);
            state.idle.push((worker, cx.waker().clone()));
            return Poll::Pending;
        }
        batch.extend(state.jobs.drain(..take));
        state.free_slots -= take;
        // A job that was queued while this thread was on its way woke nobody else.
        let next = if state.jobs.is_empty() { None } else { state.idle.pop() };
        drop(state);
        self.room.notify_all();
        if let Some((_, waker)) = next {
            waker.wake();
        }
        Poll::Ready(())
    }

    fn free_slot(&self) {
        let mut state = self.lock();
        state.free_slots += 1;
        let waiting = !state.jobs.is_empty() || state.closed;
        let idle = if waiting { state.idle.pop() } else { None };
        drop(state);
        if let Some((_, waker)) = idle {
            waker.wake();
        }
    }
}

async fn work(worker: usize, engine: Engine, shared: Arc<Shared>) {
    let mut waiting: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut last_settled = Instant::now();
    loop {
        poll_fn(|cx| shared.poll_take(worker, cx, &mut batch)).await;
        if batch.is_empty() {
            break;
        }
        for (job, on_done) in batch.drain(..) {
            let (engine, of_run) = (engine.clone(), Arc::clone(&shared));
            let mut run: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                let outcome = engine.run(job).await;
                of_run.free_slot();
                on_done(outcome);
            });
            let first = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
            if first.is_pending() {
                let shared = Arc::clone(&shared);
                waiting.retain(|task| !task.is_finished());
                waiting.push(tokio::spawn(async move {
                    run.await;
                    (shared.settled)();
                }));
            }
            if last_settled.elapsed() > SETTLE_AFTER {
                (shared.settled)();
                last_settled = Instant::now();
            }
        }
        (shared.settled)();
        last_settled = Instant::now();
        // Give the tasks on this thread's run queue their turn between two batches.
        tokio::task::yield_now().await;
    }
    for task in waiting {
        let _ = task.await;
    }
}
