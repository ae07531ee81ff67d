//! Worker threads: each takes the next job when it has nothing else to do.
//!
//! A job is first polled where it is taken, and most end in that one poll; only a guest that waits
//! or yields is put on the thread's run queue, and the thread takes further jobs meanwhile. The
//! engine's slots bound the jobs that have been taken; the queue bounds the rest.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc};

use crate::engine::Engine;
use crate::outcome::Outcome;
use crate::run::Job;

/// What is done with an outcome, on the worker's thread; short work only.
pub type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// Threads that run jobs on one engine. Dropping them waits for the jobs already taken.
#[derive(Debug)]
pub struct Workers {
    queue: Option<mpsc::Sender<(Job, OnDone)>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `threads` threads and a queue for `queue` jobs.
    pub fn start(engine: &Engine, threads: usize, queue: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(queue);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let slots = Arc::new(Semaphore::new(engine.slots() as usize));
        let threads = (0..threads)
            .map(|n| {
                let (engine, receiver) = (engine.clone(), Arc::clone(&receiver));
                let slots = Arc::clone(&slots);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                std::thread::Builder::new()
                    .name(format!("vyr-worker-{n}"))
                    .spawn(move || runtime.block_on(work(engine, receiver, slots)))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue: Some(sender), threads })
    }

    /// Queues a job, waiting while the queue is full. `on_done` is called exactly once.
    ///
    /// # Panics
    /// Inside an asynchronous runtime: it blocks the thread.
    pub fn submit(&self, job: Job, on_done: impl FnOnce(Outcome) + Send + 'static) {
        if let Some(queue) = &self.queue {
            // The receivers live as long as the threads, and those as long as the queue.
            let _ = queue.blocking_send((job, Box::new(on_done)));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

type Queue = Arc<tokio::sync::Mutex<mpsc::Receiver<(Job, OnDone)>>>;

async fn work(engine: Engine, queue: Queue, slots: Arc<Semaphore>) {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let Some((job, on_done)) = queue.lock().await.recv().await else { break };
        let engine = engine.clone();
        let mut run: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let outcome = engine.run(job).await;
            drop(slot);
            on_done(outcome);
        });
        let first = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
        if first.is_pending() {
            let mut waiting = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.retain(|task: &tokio::task::JoinHandle<()>| !task.is_finished());
            waiting.push(tokio::spawn(run));
        }
        // Give the tasks on this thread's run queue their turn between two jobs.
        tokio::task::yield_now().await;
    }
    let rest =
        std::mem::take(&mut *waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for task in rest {
        let _ = task.await;
    }
}
