//! From the kernel's hint to the worker's eyes, beside a line of cache that goes there and back.
//!
//! ```text
//! processor A: the worker spins on its control block; a sleeper, last in line, sleeps
//! processor B: the waker wakes the sleeper -> the program at wake-ups hints the worker, on B
//! ```
//!
//! Of hints on the other processor only those count whose time lies within the waker's call: then
//! the program ran there. For hints on its own processor the sleeper sleeps on a timer instead.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use morpheus::{Block, Reason, Source};
use rustix::event::{EventfdFlags, eventfd};

use super::Scale;
use super::place::{Agent, Line, Looks, be_last, clock_ns, now_ns, pin, processors};
use super::wire::Bare;
use crate::sample::{Sample, middle};
use crate::stats::Histogram;

/// Between two hints the worker sleeps, so that the sleeper can go to sleep.
const REST: Duration = Duration::from_micros(30);

/// A hint that did not come until then will not.
const PATIENCE_NS: u64 = 1_000_000;

/// Trips of the line between two looks at the clock.
const TRIPS: u64 = 200;

const OTHER: &str = "other processor";
const SAME: &str = "same processor";

/// What waker and worker tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the hint that the worker waits for.
    wanted: Line,
    /// The number of the newest call that has returned, and when it began and ended.
    called: Line,
    began: Line,
    ended: Line,
    done: AtomicBool,
}

/// Waits for one hint; when it was given and when it was seen.
fn see(block: &Block) -> Option<(u64, u64)> {
    let patience = now_ns() + PATIENCE_NS;
    let mut turns = 0_u32;
    while !block.is_outstanding() {
        std::hint::spin_loop();
        turns = turns.wrapping_add(1);
        // Seldom, so that the clock is no part of what is measured.
        if turns.is_multiple_of(4_096) && now_ns() > patience {
            return None;
        }
    }
    let seen = now_ns();
    let hint = block.acknowledge()?;
    (hint.reason == Some(Reason::Wakeup)).then_some((hint.at_ns, seen))
}

/// The worker; its times.
fn work(
    agent: &Agent,
    cpu: usize,
    count: u64,
    shared: &Shared,
    by_call: bool,
) -> Result<Histogram> {
    pin(&[cpu])?;
    let bare = Bare::connect(&agent.socket)?;
    let block = bare.register()?;
    let mut times = Histogram::default();
    // Some hints are not ours; they cost patience.
    for number in 1..=3 * count {
        if times.total() >= count {
            break;
        }
        // As if it had done the same for ever: each wake-up is a reason.
        block.turn(1);
        shared.wanted.0.store(number, Release);
        let seen = see(block);
        if by_call {
            let patience = now_ns() + PATIENCE_NS;
            while shared.called.0.load(Acquire) < number && now_ns() < patience {
                std::hint::spin_loop();
            }
        }
        if let Some((at, seen)) = seen {
            let (began, ended) = (shared.began.0.load(Relaxed), shared.ended.0.load(Relaxed));
            if !by_call || (began..=ended).contains(&at) {
                times.record(seen.saturating_sub(at));
            }
        }
        std::thread::sleep(REST);
    }
    Ok(times)
}

/// One case: hints on processor `from` for a worker on `to`.
fn hints(agent: &Agent, from: usize, to: usize, count: u64) -> Result<Histogram> {
    let by_call = from != to;
    let shared = Shared::default();
    let event = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an event")?;
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| -> Result<()> {
            pin(&[to])?;
            be_last()?;
            while !shared.done.load(Acquire) {
                if by_call {
                    rustix::io::read(&event, &mut [0; 8])?;
                } else {
                    std::thread::sleep(REST);
                }
            }
            Ok(())
        });
        let waker = scope.spawn(|| -> Result<()> {
            if !by_call {
                return Ok(());
            }
            pin(&[from])?;
            let mut last = 0;
            while !shared.done.load(Acquire) {
                let wanted = shared.wanted.0.load(Acquire);
                if wanted == last {
                    std::hint::spin_loop();
                    continue;
                }
                last = wanted;
                // The worker is on its way to its loop.
                let until = now_ns() + 5_000;
                while now_ns() < until {
                    std::hint::spin_loop();
                }
                let began = now_ns();
                rustix::io::write(&event, &1_u64.to_ne_bytes())?;
                shared.began.0.store(began, Relaxed);
                shared.ended.0.store(now_ns(), Relaxed);
                shared.called.0.store(wanted, Release);
            }
            Ok(())
        });
        let worker = scope.spawn(|| work(agent, to, count, &shared, by_call));
        let times = worker.join().map_err(|_| anyhow!("the worker panicked"));
        shared.done.store(true, Release);
        rustix::io::write(&event, &1_u64.to_ne_bytes())?;
        for thread in [sleeper, waker] {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        times?
    })
}

/// The same hand-over by a thread of this program on processor `from`: what the hint costs that the
/// kernel has no part in. Each is a single one, after a rest, as hints are.
fn by_hand(from: usize, to: usize, count: u64) -> Result<Histogram> {
    let (block, shared) = (Block::new(), Shared::default());
    std::thread::scope(|scope| {
        let giver = scope.spawn(|| -> Result<()> {
            pin(&[from])?;
            let mut last = 0;
            while !shared.done.load(Acquire) {
                let wanted = shared.wanted.0.load(Acquire);
                if wanted == last {
                    std::hint::spin_loop();
                    continue;
                }
                last = wanted;
                // The worker is on its way to its loop.
                let until = now_ns() + 5_000;
                while now_ns() < until {
                    std::hint::spin_loop();
                }
                block.hint(Source::Own, Reason::Wakeup, now_ns());
            }
            Ok(())
        });
        let worker = scope.spawn(|| -> Result<Histogram> {
            pin(&[to])?;
            let mut times = Histogram::default();
            for number in 1..=count {
                shared.wanted.0.store(number, Release);
                if let Some((at, seen)) = see(&block) {
                    times.record(seen.saturating_sub(at));
                }
                std::thread::sleep(REST);
            }
            Ok(times)
        });
        let times = worker.join().map_err(|_| anyhow!("the worker panicked"));
        shared.done.store(true, Release);
        giver.join().map_err(|_| anyhow!("a thread panicked"))??;
        times?
    })
}

/// A line of cache that two processors hand to each other; nanoseconds there and back.
fn round_trip(a: usize, b: usize, batches: usize) -> Result<f64> {
    let line = Line::default();
    let last = 2 * TRIPS * batches as u64;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<()> {
            pin(&[b])?;
            let mut turn = 1;
            while turn < last {
                while line.0.load(Acquire) != turn {
                    std::hint::spin_loop();
                }
                line.0.store(turn + 1, Release);
                turn += 2;
            }
            Ok(())
        });
        let here = scope.spawn(|| -> Result<f64> {
            pin(&[a])?;
            let mut times = Vec::with_capacity(batches);
            let mut turn = 0;
            for _ in 0..batches {
                let start = now_ns();
                for _ in 0..TRIPS {
                    line.0.store(turn + 1, Release);
                    turn += 2;
                    while line.0.load(Acquire) != turn {
                        std::hint::spin_loop();
                    }
                }
                times.push((now_ns() - start) as f64 / TRIPS as f64);
            }
            Ok(middle(&times))
        });
        let ns = here.join().map_err(|_| anyhow!("a thread panicked"))?;
        echo.join().map_err(|_| anyhow!("a thread panicked"))??;
        ns
    })
}

pub(super) fn round(scale: Scale, number: usize) -> Result<Vec<Sample>> {
    let all = processors();
    let count = scale.of(2_000, 300) as u64;
    let Some(&[a, b]) = all.get(..2) else {
        let reason = || "there is one processor only".to_owned();
        return Ok(vec![Sample::not_run(OTHER, "hint", reason())]);
    };
    let clock = clock_ns();
    let agent = Agent::observe(Looks::WAKEUPS);
    let mut samples = Vec::new();
    // Both ways round, because one processor may have other things to do.
    let (a, b) = if number.is_multiple_of(2) { (a, b) } else { (b, a) };
    for (case, from, to) in [(OTHER, b, a), (SAME, a, a)] {
        let hint = match &agent {
            Ok(agent) => {
                let times = hints(agent, from, to, count)?;
                let sample = Sample::new(case, "hint").with_times(&times).with("clock_ns", clock);
                match sample.figure("p50_ns") {
                    Some(p50) => sample.with("p50_less_clock_ns", (p50 - clock).max(0.0)),
                    None => Sample::not_run(case, "hint", "no hint came in time".into()),
                }
            }
            Err(reason) => Sample::not_run(case, "hint", reason.clone()),
        };
        samples.push(hint);
    }
    let by_hand = by_hand(b, a, count)?;
    let sample = Sample::new(OTHER, "hint by hand").with_times(&by_hand).with("clock_ns", clock);
    let p50 = sample.figure("p50_ns").unwrap_or_default();
    samples.push(sample.with("p50_less_clock_ns", (p50 - clock).max(0.0)));
    let trip = round_trip(a, b, scale.of(100, 30))?;
    let line = Sample::new(OTHER, "line there and back").with("round_trip_ns", trip);
    samples.push(line.with("half_ns", trip / 2.0));
    Ok(samples)
}
