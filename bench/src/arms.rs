//! The arms of a comparison: the same task, back to back, on each side.
//!
//! `bare` and `engine` have the same shape: N threads, each with a runtime of its own, each
//! running one task after the other; that is what ratios are taken from. `workers` is the
//! engine's own front, a queue that a feeder fills; the feeder needs processor time too, so with
//! as many workers as processors it is published beside the ratio and not judged by it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vyr_task::{
    Engine, EngineConfig, Input, Job, Outcome, PagemapScan, Program, SealedCode, State, Workers,
    compile,
};

use crate::guests::Guest;
use crate::reference::{Bare, BareJob, BareProgram};
use crate::stats::Histogram;

/// Tasks at once that both pools are made for.
pub const SLOTS: u32 = 256;

/// Bytes of output kept by the reference: the engine's default limit.
const OUTPUT_BYTES_MAX: usize = 1 << 30;

/// Jobs the feeder keeps ahead of the workers: some milliseconds of the shortest tasks.
const QUEUE: usize = 256;

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// Wasmtime by itself (`reference`).
    Bare,
    /// `Engine::run` in the same loop.
    Engine,
    /// The engine behind its queue.
    Workers,
}

impl Arm {
    /// All of them, in the order of even rounds.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Engine, Self::Workers];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Engine => "engine",
            Self::Workers => "workers",
        }
    }
}

/// Both engines, set up alike.
#[derive(Debug)]
pub struct Pair {
    engine: Engine,
    bare: Bare,
}

impl Pair {
    /// Reserves both pools.
    pub fn new() -> Result<Self> {
        let engine = Engine::new(EngineConfig::new(SLOTS))?;
        let bare = Bare::new(SLOTS, engine.pagemap_scan() == PagemapScan::Used)?;
        Ok(Self { engine, bare })
    }

    /// Whether the fast reset is in use, for the report.
    pub fn pagemap_scan(&self) -> &'static str {
        self.engine.pagemap_scan().explain()
    }

    /// The reference.
    pub fn bare(&self) -> &Bare {
        &self.bare
    }

    /// The engine under test.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// One guest with its input, ready on both sides.
#[derive(Debug)]
pub struct Case {
    /// `hello-p1`.
    pub name: String,
    program: Arc<Program>,
    bare: BareProgram,
    input: Bytes,
    /// What a run must write, in bytes; both sides agreed on it, hash and all, at the start.
    output_bytes: usize,
}

/// What one arm did in its time.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Tasks that ended within the time.
    pub tasks: u64,
    /// The time, in seconds.
    pub seconds: f64,
    /// How long each took; empty for `Workers`, whose tasks also wait in the queue.
    pub times: Histogram,
}

impl Rate {
    /// Tasks a second.
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.tasks as f64 / self.seconds } else { 0.0 }
    }

    /// Adds a later stretch of the same.
    pub fn add(&mut self, later: &Self) {
        self.tasks += later.tasks;
        self.seconds += later.seconds;
        self.times.add(&later.times);
    }
}

impl Case {
    /// Compiles and links `guest` for both sides, runs it once on each, and demands that both
    /// give the same output.
    pub fn new(pair: &Pair, guest: &Guest, input: Bytes) -> Result<Self> {
        let code = compile(&guest.wasm)?;
        let program = Arc::new(pair.engine.load(SealedCode::seal(&code)?)?);
        let bare = pair.bare.load(&guest.wasm, guest.kind)?;
        let name = guest.case();
        let mut case = Self { name, program, bare, input, output_bytes: 0 };
        let runtime = runtime()?;
        let outcome = runtime.block_on(pair.engine.run(case.job()));
        let hashed = BareJob { hash: true, ..case.bare_job() };
        let _ticking = pair.bare.tick()?;
        let end = runtime.block_on(case.bare.run(&hashed))?;
        ensure!(outcome.state == State::Completed, "{} failed: {:?}", case.name, outcome.message);
        ensure!(
            outcome.output == end.output && outcome.output_digest == end.digest,
            "{}: the two sides differ in their output",
            case.name
        );
        case.output_bytes = end.output.len();
        Ok(case)
    }

    /// Bytes of input a task.
    pub fn input_bytes(&self) -> usize {
        self.input.len()
    }

    /// A job as the product submits it: limits on, output kept and hashed.
    fn job(&self) -> Job {
        Job {
            args: vec!["guest".into()],
            input: Input::Bytes(self.input.clone()),
            hash_output: true,
            ..Job::new(Arc::clone(&self.program))
        }
    }

    fn bare_job(&self) -> BareJob {
        BareJob {
            args: vec!["guest".into()],
            input: self.input.clone(),
            hash: false,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }

    fn is_right(&self, outcome: &Outcome) -> bool {
        outcome.state == State::Completed
            && outcome.output.len() == self.output_bytes
            && outcome.output_digest.is_some()
    }

    /// Runs `arm` on `threads` threads for `time`, after a tenth of it to warm up.
    pub fn rate(&self, pair: &Pair, arm: Arm, threads: usize, time: Duration) -> Result<Rate> {
        match arm {
            Arm::Bare => {
                let _ticking = pair.bare.tick()?;
                in_threads(threads, time, async || {
                    let end = self.bare.run(&self.bare_job()).await?;
                    ensure!(end.output.len() == self.output_bytes, "wrong output");
                    Ok(())
                })
            }
            Arm::Engine => in_threads(threads, time, async || {
                let outcome = pair.engine.run(self.job()).await;
                ensure!(self.is_right(&outcome), "wrong outcome: {:?}", outcome.message);
                Ok(())
            }),
            Arm::Workers => self.workers(pair, threads, time),
        }
        .with_context(|| format!("{}, {}, {threads} threads", self.name, arm.name()))
    }

    fn workers(&self, pair: &Pair, threads: usize, time: Duration) -> Result<Rate> {
        let done = Arc::new(AtomicU64::new(0));
        let wrong = Arc::new(AtomicBool::new(false));
        let workers = Workers::start(&pair.engine, threads, QUEUE, || ())?;
        let output_bytes = self.output_bytes;
        let feed_until = |end: Instant| {
            while Instant::now() < end {
                let (done, wrong) = (Arc::clone(&done), Arc::clone(&wrong));
                workers.submit(self.job(), move |outcome| {
                    let right =
                        outcome.state == State::Completed && outcome.output.len() == output_bytes;
                    wrong.fetch_or(!right, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            (done.load(Ordering::Relaxed), Instant::now())
        };
        let (before, start) = feed_until(Instant::now() + time / 10);
        let (after, end) = feed_until(start + time);
        drop(workers);
        ensure!(!wrong.load(Ordering::Relaxed), "wrong outcome");
        let seconds = (end - start).as_secs_f64();
        Ok(Rate { tasks: after - before, seconds, times: Histogram::default() })
    }
}

/// Runs `task` back to back on `threads` threads.
fn in_threads(
    threads: usize,
    time: Duration,
    task: impl AsyncFn() -> Result<()> + Sync,
) -> Result<Rate> {
    let barrier = Barrier::new(threads);
    let total = Mutex::new(Rate::default());
    let share = threads as f64;
    std::thread::scope(|scope| {
        let (barrier, total, task) = (&barrier, &total, &task);
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || -> Result<()> {
                    let runtime = runtime();
                    barrier.wait();
                    let rate = runtime?.block_on(back_to_back(time, task))?;
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    // Threads work at the same time: their tasks add up, their times do not.
                    total.add(&Rate { seconds: rate.seconds / share, ..rate });
                    Ok(())
                })
            })
            .collect();
        for thread in running {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(())
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn back_to_back(time: Duration, task: &impl AsyncFn() -> Result<()>) -> Result<Rate> {
    let warm = Instant::now() + time / 10;
    while Instant::now() < warm {
        task().await?;
    }
    let mut rate = Rate::default();
    let start = Instant::now();
    let mut last = start;
    while last - start < time {
        task().await?;
        let now = Instant::now();
        rate.times.record(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
        rate.tasks += 1;
        last = now;
    }
    rate.seconds = (last - start).as_secs_f64();
    Ok(rate)
}

/// The runtime of one thread of either side.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
