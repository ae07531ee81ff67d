//! Guests in the task engine: large and small inputs of `transform`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use morpheus::Guidance;
use vyr_task::{
    Engine, EngineConfig, Input, Job, Kind, MachineCode, Output, Program, SealedCode, State,
    Workers, compile,
};

use super::{Arm, PIECES_MS, Plan, SHORT_US, Seen, Times, arrive};
use crate::events::Events;
use crate::guests::Guest;
use crate::sched::place::{Agent, LONG, Looks};
use crate::stats::median;

/// Tasks at once, at most: what waits when hogs give way to nobody.
const SLOTS: u32 = 256;

/// No clock makes guests look up.
const NEVER: Duration = Duration::from_secs(3_600);

/// Events from which the time of one is learned.
const LEARN: usize = 5_000;

/// Machine code, and inputs of the right sizes for this machine.
#[derive(Debug)]
pub(in crate::sched) struct Prepared {
    code: MachineCode,
    short: Bytes,
    pieces: Vec<(u64, Bytes)>,
}

fn load(engine: &Engine, code: &MachineCode) -> Result<Arc<Program>> {
    Ok(Arc::new(engine.load(SealedCode::seal(code)?)?))
}

fn job(program: &Arc<Program>, input: &Bytes) -> Job {
    Job {
        args: vec!["transform".into()],
        input: Input::Bytes(input.clone()),
        output: Output::Discard,
        ..Job::new(Arc::clone(program))
    }
}

impl Prepared {
    pub(in crate::sched) fn new() -> Result<Self> {
        let guests = Guest::all(None)?;
        let guest = guests.iter().find(|g| g.name == "transform" && g.kind == Kind::Module);
        let code = compile(&guest.context("no guest `transform`")?.wasm)?;
        let events = Events::new(None)?;
        let engine = Engine::new(EngineConfig::new(SLOTS))?;
        let program = load(&engine, &code)?;
        let runtime = crate::arms::runtime()?;
        let us = |lines: usize, runs: usize| -> Result<f64> {
            let input = Bytes::from(events.first(lines));
            let mut times = Vec::new();
            for _ in 0..runs {
                let start = Instant::now();
                let outcome = runtime.block_on(engine.run(job(&program, &input)));
                times.push(start.elapsed().as_secs_f64() * 1e6);
                ensure!(outcome.state == State::Completed, "transform: {:?}", outcome.message);
            }
            median(&times).context("no time")
        };
        let fixed = us(1, 20)?;
        let each = ((us(LEARN, 9)? - fixed) / LEARN as f64).max(0.001);
        let input = |us: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some thousands of events"
            )]
            let lines = ((us - fixed) / each).max(1.0) as usize;
            Bytes::from(events.first(lines))
        };
        let pieces = PIECES_MS.map(|ms| (ms, input(ms as f64 * 1e3))).into();
        Ok(Self { short: input(SHORT_US as f64), pieces, code })
    }
}

/// A hog: one piece after the other, each at the end of the queue.
#[derive(Debug)]
struct Hog {
    program: Arc<Program>,
    input: Bytes,
    done: AtomicBool,
    running: AtomicUsize,
    /// When each of its pieces ended, by hog.
    ends: Mutex<Vec<Vec<Instant>>>,
    broken: AtomicBool,
}

fn submit(hog: &Arc<Hog>, number: usize, workers: &Arc<Workers>) {
    let (of_end, again): (_, Weak<Workers>) = (Arc::clone(hog), Arc::downgrade(workers));
    workers.submit(job(&hog.program, &hog.input), move |outcome| {
        of_end.broken.fetch_or(outcome.state != State::Completed, Relaxed);
        let mut ends = of_end.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends[number].push(Instant::now());
        drop(ends);
        if !of_end.done.load(SeqCst)
            && let Some(workers) = again.upgrade()
        {
            submit(&of_end, number, &workers);
            return;
        }
        of_end.running.fetch_sub(1, SeqCst);
    });
}

/// Pieces a second: between the first end and the last, of each hog by itself, so that a piece
/// that is cut off by the end of the measurement does not matter.
fn rate(ends: &[Vec<Instant>]) -> f64 {
    let of_one = |ends: &Vec<Instant>| match (ends.first(), ends.last()) {
        (Some(first), Some(last)) if last > first => {
            (ends.len() - 1) as f64 / (*last - *first).as_secs_f64()
        }
        _ => 0.0,
    };
    ends.iter().map(of_one).sum()
}

/// An error is the reason why there is no such guidance here.
pub(super) fn run(plan: &Plan, prepared: &Prepared) -> Result<Result<Seen>, String> {
    let agent = match plan.arm {
        Arm::Observe => Some(Agent::observe(Looks::ALL)?),
        _ => None,
    };
    Ok(guided(plan, prepared, agent.as_ref()))
}

fn guided(plan: &Plan, prepared: &Prepared, agent: Option<&Agent>) -> Result<Seen> {
    let mut config = EngineConfig::new(SLOTS);
    match plan.arm {
        Arm::Off => config.tick = NEVER,
        Arm::Timer(ms) => config.tick = Duration::from_millis(ms),
        // With guidance, the product's own tick stays.
        _ => {}
    }
    let engine = Engine::new(config)?;
    match (plan.arm, agent) {
        (Arm::Psi, _) => engine.guide(plan.workers, Guidance::psi)?,
        (_, Some(agent)) => {
            engine.guide(plan.workers, |options| Guidance::connect(&agent.socket, options))?;
        }
        (_, None) => {}
    }
    let program = load(&engine, &prepared.code)?;
    let piece = prepared.pieces.iter().find(|(ms, _)| *ms == plan.piece_ms);
    let (_, input) = piece.context("no input for such pieces")?;
    let hog = Arc::new(Hog {
        program: Arc::clone(&program),
        input: input.clone(),
        done: AtomicBool::new(false),
        running: AtomicUsize::new(plan.workers),
        ends: Mutex::new(vec![Vec::new(); plan.workers]),
        broken: AtomicBool::new(false),
    });
    let workers = Arc::new(Workers::start(&engine, plan.workers, usize::MAX, || ())?);
    for number in 0..plan.workers {
        submit(&hog, number, &workers);
    }
    std::thread::sleep(Duration::from_millis(20));
    let times = Arc::new(Times::default());
    let arrived = arrive(plan, |arrival| {
        let times = Arc::clone(&times);
        workers.submit(job(&program, &prepared.short), move |_| times.ended(arrival));
    });
    let seen = times.wait(arrived.count);
    let ends = hog.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let report = engine.guidance().map(Guidance::report);
    hog.done.store(true, SeqCst);
    // A worker that held the last reference would wait for itself.
    let patience = Instant::now() + LONG;
    while hog.running.load(SeqCst) > 0 || Arc::strong_count(&workers) > 1 {
        ensure!(Instant::now() < patience, "hogs do not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(workers);
    ensure!(!hog.broken.load(Relaxed), "a hog failed");
    let hog_ms_per_s = rate(&ends) * plan.piece_ms as f64;
    let (guides_share, late) = (arrived.guides_share, arrived.late);
    let (times, handed) = seen?;
    Ok(Seen { times, handed, hog_ms_per_s, guides_share, late, report })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_between_first_and_last_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rates = rate(&[vec![at(10), at(20), at(30)], vec![at(0), at(50)], vec![at(7)]]);
        assert!((rates - 120.0).abs() < 1e-6, "{rates}");
    }
}
