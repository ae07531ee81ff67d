//! Short tasks beside hogs: who gets to run, and when, and what that takes from the hogs.
//!
//! As many hogs as processors always have a piece of work of 1, 10 or 100 ms; short tasks of 100 us
//! arrive at random moments, at a thread of their own as from a socket, and go to the same workers'
//! queue. A time runs from the moment at which a short task was to arrive to its end.
//!
//! Every arm does the same work. What differs is when a hog gives way: never within a piece (`off`),
//! when the guidance says so, at every tick of a timer of some period, or at every chance (`naive`).

mod on_tokio;
mod threads;
mod wasm;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use morpheus::{Guidance, Options, Report, SLICE_MIN_NS, Tier};

pub(super) use self::wasm::Prepared;
use super::Scale;
use super::place::{Agent, LONG, Line, Looks, guides_ns, processors, turns_per_us};
use crate::rounds::alternate;
use crate::sample::Sample;
use crate::stats::{Histogram, Random};

/// Milliseconds of a hog's piece.
pub(super) const PIECES_MS: [u64; 3] = [1, 10, 100];

/// A short task's work.
pub(super) const SHORT_US: u64 = 100;

/// Between two short tasks, on average: a twentieth of a processor.
const BETWEEN_US: f64 = 2_000.0;

/// Between two chances of a hog to give way.
const STEP_US: u64 = 5;

/// Who runs the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Runtime {
    Threads,
    Tokio,
    Wasm,
}

impl Runtime {
    pub(super) const ALL: [Self; 3] = [Self::Threads, Self::Tokio, Self::Wasm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Tokio => "tokio",
            Self::Wasm => "wasm",
        }
    }

    pub(super) fn case(self, piece_ms: u64) -> String {
        format!("{}, pieces of {piece_ms} ms", self.name())
    }

    pub(super) fn has(self, arm: Arm) -> bool {
        match self {
            Self::Threads => arm != Arm::Budget,
            Self::Tokio => true,
            // An engine gives way at epochs only, which a timer or the guidance makes.
            Self::Wasm => !matches!(arm, Arm::Budget | Arm::Naive),
        }
    }
}

/// When a hog gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    /// At the end of a piece.
    Off,
    /// When pressure files and a timer say so.
    Psi,
    /// When the kernel says so.
    Observe,
    /// At each tick of so many milliseconds.
    Timer(u64),
    /// At every chance.
    Naive,
    /// When tokio's own cooperative budget is used up.
    Budget,
}

impl Arm {
    pub(super) const TIMERS: [Self; 3] = [Self::Timer(1), Self::Timer(4), Self::Timer(10)];

    pub(super) const ALL: [Self; 8] = [
        Self::Off,
        Self::Psi,
        Self::Observe,
        Self::Timer(1),
        Self::Timer(4),
        Self::Timer(10),
        Self::Budget,
        Self::Naive,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Psi => "psi",
            Self::Observe => "observe",
            Self::Timer(1) => "timer 1 ms",
            Self::Timer(4) => "timer 4 ms",
            Self::Timer(_) => "timer 10 ms",
            Self::Naive => "naive",
            Self::Budget => "tokio's budget",
        }
    }
}

/// What a cell of the table is measured with.
#[derive(Debug, Clone, Copy)]
struct Plan {
    arm: Arm,
    workers: usize,
    piece_ms: u64,
    turns_per_us: u64,
    time: Duration,
    seed: usize,
}

impl Plan {
    fn step_turns(&self) -> u64 {
        self.turns_per_us * STEP_US
    }

    fn short_turns(&self) -> u64 {
        self.turns_per_us * SHORT_US
    }

    fn piece_steps(&self) -> u64 {
        self.piece_ms * 1_000 / STEP_US
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Seen {
    times: Histogram,
    /// The same from when they were handed over.
    handed: Histogram,
    /// Milliseconds of hogs' work in a second.
    hog_ms_per_s: f64,
    /// What the threads that guide used, of one processor.
    guides_share: f64,
    /// As in [`Arrived`].
    late: Histogram,
    report: Option<Report>,
}

/// A short task that arrived.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// When it was to arrive.
    due: Instant,
    /// When the thread that hands it over was on a processor.
    handed: Instant,
}

/// Times of short tasks, as they end: from when they were due, and from when they were handed over.
#[derive(Debug, Default)]
struct Times(Mutex<(Histogram, Histogram)>, AtomicU64);

impl Times {
    fn ended(&self, arrival: Arrival) {
        let mut times = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        times.0.record(ns_since(arrival.due));
        times.1.record(ns_since(arrival.handed));
        drop(times);
        self.1.fetch_add(1, Relaxed);
    }

    /// Waits until so many have ended.
    fn wait(&self, count: u64) -> Result<(Histogram, Histogram)> {
        let end = Instant::now() + LONG;
        while self.1.load(Relaxed) < count {
            ensure!(Instant::now() < end, "short tasks do not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}

fn ns_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What happened while short tasks arrived.
#[derive(Debug)]
struct Arrived {
    count: u64,
    seconds: f64,
    guides_share: f64,
    /// From the moment at which a task was to arrive to that at which it was handed over: until the
    /// thread that hands over is on a processor, which no worker can do anything about but leave one.
    late: Histogram,
}

/// Lets short tasks arrive for the time of the plan.
///
/// They arrive when they are due, however late the last one was: who waits does not hold up those
/// behind it.
fn arrive(plan: &Plan, mut submit: impl FnMut(Arrival)) -> Arrived {
    let mut random = Random::new();
    for _ in 0..plan.seed {
        random.next();
    }
    let guides = guides_ns();
    let start = Instant::now();
    let mut due = start;
    let mut count = 0;
    let mut late = Histogram::default();
    loop {
        let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        due += Duration::from_secs_f64(-(1.0 - uniform).ln() * BETWEEN_US * 1e-6);
        if due - start > plan.time {
            let seconds = start.elapsed().as_secs_f64();
            let guides = guides_ns().saturating_sub(guides) as f64 * 1e-9;
            return Arrived { count, seconds, guides_share: guides / seconds, late };
        }
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let handed = Instant::now();
        late.record(ns_since(due));
        submit(Arrival { due, handed });
        count += 1;
    }
}

/// Steps that hogs did, each on a line of its own.
fn steps_of(hogs: &[Line]) -> u64 {
    hogs.iter().map(|hog| hog.0.load(Relaxed)).sum()
}

/// Lets short tasks arrive while hogs count their steps.
fn beside_steps(
    plan: &Plan,
    hogs: &[Line],
    times: &Times,
    submit: impl FnMut(Arrival),
) -> Result<Seen> {
    // Let the hogs begin.
    std::thread::sleep(Duration::from_millis(20));
    let before = steps_of(hogs);
    let Arrived { count, seconds, guides_share, late } = arrive(plan, submit);
    let hog_ms = (steps_of(hogs) - before) as f64 * STEP_US as f64 / 1e3;
    let (times, handed) = times.wait(count)?;
    Ok(Seen { times, handed, hog_ms_per_s: hog_ms / seconds, guides_share, late, report: None })
}

/// Where the hints of native workers come from, while it lives.
struct Source {
    guidance: Guidance,
    _agent: Option<Agent>,
}

/// The guidance of an arm; `None`: there is none in it. A reason: this machine has none.
fn source(arm: Arm, workers: usize) -> Result<Option<Source>, String> {
    let options = Options { workers, ..Options::default() };
    let failed = |e: morpheus::GuidanceError| e.to_string();
    let (agent, guidance) = match arm {
        Arm::Off | Arm::Naive | Arm::Budget => return Ok(None),
        Arm::Psi => (None, Guidance::psi(options).map_err(failed)?),
        Arm::Observe => {
            let agent = Agent::observe(Looks::ALL)?;
            let guidance = Guidance::connect(&agent.socket, options).map_err(failed)?;
            (Some(agent), guidance)
        }
        Arm::Timer(ms) => {
            let fallback = Some(Duration::from_millis(ms));
            // The shortest slice: every tick finds whoever runs over it.
            let options = Options { slice_ns: SLICE_MIN_NS, fallback, ..options };
            let agent = Agent::nothing()?;
            let guidance = Guidance::connect(&agent.socket, options).map_err(failed)?;
            drop(agent);
            let end = Instant::now() + LONG;
            while guidance.tier() != Tier::Timer && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            (None, guidance)
        }
    };
    Ok(Some(Source { guidance, _agent: agent }))
}

/// One cell.
fn cell(runtime: Runtime, plan: &Plan, prepared: &Prepared) -> Result<Sample> {
    let case = runtime.case(plan.piece_ms);
    let seen = match runtime {
        Runtime::Wasm => wasm::run(plan, prepared),
        Runtime::Threads | Runtime::Tokio => match source(plan.arm, plan.workers) {
            Err(reason) => Err(reason),
            Ok(source) if runtime == Runtime::Threads => Ok(threads::run(plan, source)),
            Ok(source) => Ok(on_tokio::run(plan, source)),
        },
    };
    let seen = match seen {
        Ok(seen) => seen.with_context(|| format!("{case}, {}", plan.arm.name()))?,
        Err(reason) => return Ok(Sample::not_run(&case, plan.arm.name(), reason)),
    };
    let mut sample = Sample::new(&case, plan.arm.name())
        .with_times(&seen.times)
        .with("hog_ms_per_s", seen.hog_ms_per_s)
        .with("guides_cpu_percent", seen.guides_share * 100.0)
        .with("late_p50_us", seen.late.quantile_ns(0.5) as f64 / 1e3)
        .with("late_p99_us", seen.late.quantile_ns(0.99) as f64 / 1e3)
        .with("handed_p50_us", seen.handed.quantile_ns(0.5) as f64 / 1e3)
        .with("handed_p99_us", seen.handed.quantile_ns(0.99) as f64 / 1e3);
    if let Some(report) = &seen.report {
        let sum = |of: fn(&morpheus::WorkerReport) -> u64| {
            report.workers.iter().map(of).sum::<u64>() as f64
        };
        sample = sample
            .with("kernel_hints", sum(|worker| worker.kernel_hints))
            .with("psi_hints", sum(|worker| worker.psi_hints))
            .with("timer_hints", sum(|worker| worker.timer_hints));
    }
    Ok(sample)
}

/// Which cells there are in a round.
#[derive(Debug, Clone)]
pub(super) struct Cells {
    pub(super) pieces_ms: Vec<u64>,
    pub(super) arms: Vec<Arm>,
}

impl Cells {
    pub(super) fn all() -> Self {
        Self { pieces_ms: PIECES_MS.into(), arms: Arm::ALL.into() }
    }
}

pub(super) fn round(
    cells: &Cells,
    scale: Scale,
    number: usize,
    prepared: &Prepared,
) -> Result<Vec<Sample>> {
    let turns_per_us = turns_per_us();
    let workers = processors().len();
    let mut samples = Vec::new();
    for piece_ms in cells.pieces_ms.iter().copied() {
        // So that a hog ends some pieces.
        let time = scale.time(600, 400).max(Duration::from_millis(12 * piece_ms));
        for runtime in Runtime::ALL {
            for arm in alternate(&cells.arms, number).into_iter().filter(|arm| runtime.has(*arm)) {
                let plan = Plan { arm, workers, piece_ms, turns_per_us, time, seed: number };
                samples.push(cell(runtime, &plan, prepared)?);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_as_many_as_they_should_be_and_in_order() {
        let plan = Plan {
            arm: Arm::Off,
            workers: 1,
            piece_ms: 1,
            turns_per_us: 1,
            time: Duration::from_millis(300),
            seed: 3,
        };
        let mut due = Vec::new();
        let count = arrive(&plan, |arrival| due.push(arrival.due)).count;
        assert_eq!(count, due.len() as u64);
        assert!(due.is_sorted());
        // 150 are expected, with a deviation of 12.
        assert!((80..220).contains(&count), "{count}");
        let mut again = 0;
        assert_eq!(arrive(&plan, |_| again += 1).count, count, "the same ones every time");
    }
}
