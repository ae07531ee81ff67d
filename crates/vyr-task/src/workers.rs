//! Worker threads: each takes the next jobs when it has nothing else to do.
//!
//! A job gets its first turn where it is taken, and most end in it. A guest that yields, or waited
//! and may go on, stands in a second queue, and goes on where there is a thread for it: nobody waits
//! for a thread while another is idle. New jobs come first, because most are short, but not so many
//! of them in a row that the others never get on. The engine's slots bound the jobs that have been
//! taken; the queue bounds the rest.
//!
//! Threads take several jobs at a time when many wait, because a lock and a wake-up cost as much
//! as a small guest; `settled` is called when a thread has nothing left to take, and now and then
//! before, so that outcomes can be passed on together.
//!
//! Jobs come from `submit`, or from a [`Source`] that the threads read themselves (`serve`). Then
//! there is one thread more than run jobs, and always one that reads: when it has read some, it
//! passes the reading on to an idle thread and runs them itself, because to wake another for that
//! costs as much as a small guest, too. If there is none, it hands the jobs over and reads on.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_task::Runnable;

use crate::engine::Engine;
use crate::guidance::{Backlog, Guided};
use crate::outcome::Outcome;
use crate::run::Job;

/// Jobs a thread takes at a time, at most.
const BATCH_MAX: usize = 16;

/// New jobs that may be taken in a row while a guest waits for its next turn.
const FRESH_MAX: usize = 64;

/// An outcome waits no longer than this, and one job, for those that follow on its thread.
const SETTLE_AFTER: Duration = Duration::from_micros(200);

/// What is done with an outcome, on the worker's thread; short work only.
pub type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// Something to do for a worker.
pub enum Work {
    /// Run it.
    Run(Box<Job>),
    /// It cannot be run: only the outcome is to be passed on.
    Known(Outcome),
}

/// Where jobs come from. One thread at a time reads it, and runs nothing meanwhile.
pub trait Source: Send {
    /// Waits for the next work and adds it to `into`, a few at a time; `false`: there will be none
    /// any more. It may add nothing.
    fn next(&mut self, into: &mut VecDeque<(Work, OnDone)>) -> io::Result<bool>;
}

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
    slots: usize,
    settled: Box<dyn Fn() + Send + Sync>,
    backlog: Backlog,
}

struct State {
    jobs: VecDeque<(Work, OnDone)>,
    /// Guests that had a turn, and may have another.
    again: VecDeque<Runnable>,
    /// Jobs that were taken since one of those was.
    fresh: usize,
    free_slots: usize,
    closed: bool,
    idle: Vec<Idle>,
    /// On its way to the thread that is to read it.
    source: Option<(usize, Box<dyn Source>)>,
    /// Why the source ended, if it broke.
    broken: Option<io::Error>,
}

/// A thread that waits for work.
struct Idle {
    worker: usize,
    waker: Waker,
    /// Nothing of a guest waits on its runtime, so it may block.
    may_read: bool,
}

/// What a thread does next.
enum Turn {
    /// The work that it took.
    Run,
    /// A guest's next turn.
    Again(Runnable),
    Read(Box<dyn Source>),
    End,
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
        let shared = Arc::new(Shared::new(engine, threads, queue, settled));
        let threads = (0..threads).map(|n| spawn(n, engine, &shared)).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Runs what `source` gives, `threads` jobs at a time on as many processors, until it ends and
    /// all jobs have; on threads of its own and this one.
    pub fn serve(
        engine: &Engine,
        threads: usize,
        source: impl Source + 'static,
        settled: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<()> {
        let shared = Arc::new(Shared::new(engine, threads, usize::MAX, settled));
        shared.lock().source = Some((0, Box::new(source)));
        let others = (1..=threads.max(1)).map(|n| spawn(n, engine, &shared));
        let others = others.collect::<io::Result<Vec<_>>>()?;
        runtime()?.block_on(work(0, engine.clone(), Arc::clone(&shared)));
        for thread in others {
            let _ = thread.join();
        }
        let broken = shared.lock().broken.take();
        broken.map_or(Ok(()), Err)
    }

    /// Queues a job, waiting while the queue is full. `on_done` is called exactly once.
    pub fn submit(&self, job: Job, on_done: impl FnOnce(Outcome) + Send + 'static) {
        let mut state = self.shared.lock();
        while state.jobs.len() >= self.shared.capacity {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.jobs.push_back((Work::Run(Box::new(job)), Box::new(on_done)));
        let (idle, is_busy) = state.call();
        self.shared.backlog.say(is_busy);
        drop(state);
        wake(idle);
        self.shared.backlog.press();
    }
}

impl State {
    /// Whether a thread would find something to do.
    fn has_work(&self) -> bool {
        !self.again.is_empty() || (!self.jobs.is_empty() && self.free_slots > 0)
    }

    /// Whom to wake for what was queued, the newest because it is the warmest; and whether it has to
    /// wait, because there is nobody.
    fn call(&mut self) -> (Option<Idle>, bool) {
        let idle = self.idle.pop();
        let is_busy = idle.is_none();
        (idle, is_busy)
    }
}

/// What guests wait for is on the runtime of the thread of their first turn. It looks at `work` once
/// in so many turns of other tasks, 61 unless it is told otherwise.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build()
}

fn spawn(n: usize, engine: &Engine, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let (engine, shared, runtime) = (engine.clone(), Arc::clone(shared), runtime()?);
    std::thread::Builder::new()
        .name(format!("vyr-worker-{n}"))
        .spawn(move || runtime.block_on(work(n, engine, shared)))
}

fn wake(idle: impl IntoIterator<Item = Idle>) {
    idle.into_iter().for_each(|idle| idle.waker.wake());
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        wake(idle);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(
        engine: &Engine,
        threads: usize,
        queue: usize,
        settled: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                again: VecDeque::new(),
                fresh: 0,
                free_slots: engine.slots() as usize,
                closed: false,
                idle: Vec::new(),
                source: None,
                broken: None,
            }),
            room: Condvar::new(),
            capacity: queue.max(1),
            threads: threads.max(1),
            slots: engine.slots() as usize,
            settled: Box::new(settled),
            backlog: Backlog::new(engine),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the source if it is meant for this thread, else jobs and their slots, or a guest.
    ///
    /// If there is none of these, `waker` is woken when there is; without one it is only a look.
    fn poll_take(
        &self,
        worker: usize,
        may_read: bool,
        waker: Option<&Waker>,
        batch: &mut Vec<(Work, OnDone)>,
    ) -> Poll<Turn> {
        let mut state = self.lock();
        if let Some((_, source)) = state.source.take_if(|(reader, _)| *reader == worker) {
            return Poll::Ready(Turn::Read(source));
        }
        let fair = (state.jobs.len() / (2 * self.threads)).clamp(1, BATCH_MAX);
        let take = fair.min(state.jobs.len()).min(state.free_slots);
        let turn = if (take == 0 || state.fresh >= FRESH_MAX)
            && let Some(next) = state.again.pop_front()
        {
            state.fresh = 0;
            Turn::Again(next)
        } else if take == 0 {
            if state.closed && state.jobs.is_empty() && state.free_slots == self.slots {
                return Poll::Ready(Turn::End);
            }
            // One entry a worker, and the newest waker of it.
            if let Some(waker) = waker {
                state.idle.retain(|other| other.worker != worker);
                state.idle.push(Idle { worker, waker: waker.clone(), may_read });
            }
            return Poll::Pending;
        } else {
            batch.extend(state.jobs.drain(..take));
            state.free_slots -= take;
            state.fresh += take;
            Turn::Run
        };
        // What was queued while this thread was on its way woke nobody else.
        let (next, is_busy) = if state.has_work() { state.call() } else { (None, false) };
        self.backlog.say(is_busy);
        let press = is_busy && !state.jobs.is_empty();
        drop(state);
        self.room.notify_all();
        wake(next);
        if press {
            self.backlog.press_others();
        }
        Poll::Ready(turn)
    }

    /// Reads until there is somebody else to do so, or no more to read.
    fn read(&self, mut source: Box<dyn Source>) {
        let mut read = VecDeque::new();
        loop {
            let more = source.next(&mut read);
            let mut state = self.lock();
            state.jobs.append(&mut read);
            if !matches!(more, Ok(true)) {
                state.closed = true;
                state.broken = more.err();
                let idle = std::mem::take(&mut state.idle);
                drop(state);
                return wake(idle);
            }
            if state.jobs.is_empty() {
                continue;
            }
            // The newest is the warmest.
            let next = state.idle.iter().rposition(|idle| idle.may_read);
            if let Some(next) = next {
                let next = state.idle.swap_remove(next);
                state.source = Some((next.worker, source));
                drop(state);
                return next.waker.wake();
            }
            let (idle, is_busy) = state.call();
            self.backlog.say(is_busy);
            drop(state);
            wake(idle);
            self.backlog.press();
        }
    }

    fn free_slot(&self) {
        let mut state = self.lock();
        state.free_slots += 1;
        let ended = state.closed && state.free_slots == self.slots;
        let idle = match () {
            // All look whether that was the last.
            () if ended => std::mem::take(&mut state.idle),
            () if !state.jobs.is_empty() => state.call().0.into_iter().collect(),
            () => Vec::new(),
        };
        drop(state);
        wake(idle);
    }

    /// A guest yielded, or what it waited for has come.
    fn again(&self, guest: Runnable) {
        let mut state = self.lock();
        state.again.push_back(guest);
        // The thread whose guest yielded looks for more at once.
        if LOOKS_NEXT.get() && state.again.len() == 1 && state.jobs.is_empty() {
            return;
        }
        let (idle, is_busy) = state.call();
        self.backlog.say(is_busy);
        drop(state);
        wake(idle);
    }
}

thread_local! {
    /// A guest has its turn on this thread, which looks at the queue after it.
    static LOOKS_NEXT: Cell<bool> = const { Cell::new(false) };
}

fn turn(guest: Runnable, looks_next: bool) {
    LOOKS_NEXT.set(looks_next);
    guest.run();
    LOOKS_NEXT.set(false);
}

/// Counts the guests that had their first turn on a thread, and have not ended.
struct Resident(Arc<AtomicUsize>);

impl Resident {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A job as a guest that gets its turns from the queue.
fn guest(
    job: Job,
    on_done: OnDone,
    engine: &Engine,
    shared: &Arc<Shared>,
    resident: Resident,
) -> Runnable {
    let (engine, of_run) = (engine.clone(), Arc::clone(shared));
    let run = async move {
        let outcome = engine.run(job).await;
        drop(resident);
        of_run.free_slot();
        on_done(outcome);
    };
    // What it waits for is on the runtime of this thread, wherever its turns are: only this thread
    // counts it, and lets that runtime have its turn.
    let home = tokio::runtime::Handle::current();
    let at_home = async move {
        let mut run = pin!(run);
        poll_fn(|cx| {
            let _home = home.enter();
            run.as_mut().poll(cx)
        })
        .await;
    };
    let of_turns = Arc::clone(shared);
    let (guest, ends) = async_task::spawn(at_home, move |guest| of_turns.again(guest));
    ends.detach();
    guest
}

async fn work(worker: usize, engine: Engine, shared: Arc<Shared>) {
    let residents = Arc::new(AtomicUsize::new(0));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut last_settled = Instant::now();
    let mut guided = Guided::new(&engine);
    loop {
        guided.look();
        let may_read = residents.load(Relaxed) == 0;
        // While there is more to do, outcomes wait for those that follow.
        let next = match shared.poll_take(worker, may_read, None, &mut batch) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                (shared.settled)();
                let take = |cx: &mut Context<'_>| {
                    shared.poll_take(worker, may_read, Some(cx.waker()), &mut batch)
                };
                guided.idle(true);
                let next = poll_fn(take).await;
                guided.idle(false);
                last_settled = Instant::now();
                next
            }
        };
        match next {
            Turn::Run => {}
            Turn::Again(guest) => {
                // It may take its time, and outcomes do not wait for that.
                (shared.settled)();
                last_settled = Instant::now();
                turn(guest, true);
            }
            Turn::Read(source) => {
                (shared.settled)();
                guided.idle(true);
                shared.read(source);
                guided.idle(false);
                last_settled = Instant::now();
                continue;
            }
            Turn::End => break,
        }
        let mut left = batch.len();
        for (work, on_done) in batch.drain(..) {
            left -= 1;
            match work {
                Work::Run(job) => {
                    let resident = Resident::new(&residents);
                    turn(guest(*job, on_done, &engine, &shared, resident), left == 0);
                }
                Work::Known(outcome) => {
                    shared.free_slot();
                    on_done(outcome);
                    continue;
                }
            }
            if last_settled.elapsed() > SETTLE_AFTER {
                (shared.settled)();
                last_settled = Instant::now();
            }
        }
        // What guests wait for gets its turn between two of theirs.
        if residents.load(Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }
    (shared.settled)();
}
