//! From a hint to the yield: a native worker that checks every 5 us, a guest, and a timer.
//!
//! The native worker counts only while it is on a processor. It notes its processor time at each
//! check: what passed of it since the check before the hint is the most that it was late by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use morpheus::Guidance;
use vyr_task::{
    CancelHandle, Engine, EngineConfig, Job, Kind, Program, SealedCode, State, Workers, compile,
};

use super::Scale;
use super::place::{
    Agent, LONG, Looks, cpu_ns, guides_ns, now_ns, pin, processors, turns_per_us, work,
};
use super::wire::Bare;
use crate::guests::Guest;
use crate::sample::Sample;
use crate::stats::{Histogram, Random};

const NATIVE: &str = "native";
const WASM: &str = "wasm";

/// Between two checks of the native worker.
const CHECK_US: u64 = 5;

/// What both guests of a measurement may take: more than it lasts.
const LIMIT_MS: u64 = 3_600_000;

/// Between two tasks that want the guest's processor, at least and at most.
const WANT_US: (u64, u64) = (1_500, 4_500);

/// A hog and a sleeper on the processor of the worker: somebody waits, and somebody wakes up.
fn native(agent: &Agent, time: Duration) -> Result<Sample> {
    let cpu = processors()[0];
    let turns = turns_per_us() * CHECK_US;
    let done = AtomicBool::new(false);
    let guides = guides_ns();
    let (on_cpu, wall) = std::thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            pin(&[cpu])?;
            while !done.load(Relaxed) {
                work(turns);
            }
            Ok(())
        });
        scope.spawn(|| -> Result<()> {
            pin(&[cpu])?;
            while !done.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let worker = scope.spawn(|| -> Result<(Histogram, Histogram)> {
            pin(&[cpu])?;
            let bare = Bare::connect(&agent.socket)?;
            let block = bare.register()?;
            let (mut on_cpu, mut wall) = (Histogram::default(), Histogram::default());
            let end = Instant::now() + time;
            block.turn(now_ns());
            let mut before = cpu_ns();
            while Instant::now() < end {
                work(turns);
                if let Some(hint) = block.acknowledge() {
                    let late = now_ns().saturating_sub(hint.at_ns);
                    on_cpu.record(late.min(cpu_ns().saturating_sub(before)));
                    wall.record(late);
                    block.turn(now_ns());
                    morpheus::yield_now();
                }
                before = cpu_ns();
            }
            Ok((on_cpu, wall))
        });
        let times = worker.join().map_err(|_| anyhow!("the worker panicked"));
        done.store(true, Relaxed);
        times?
    })?;
    let guides = guides_ns().saturating_sub(guides);
    let sample = Sample::new(NATIVE, "observe").with_times(&on_cpu);
    Ok(sample
        .with("wall_p50_ns", wall.quantile_ns(0.5) as f64)
        .with("wall_p99_ns", wall.quantile_ns(0.99) as f64)
        .with("agent_cpu_share", guides as f64 / time.as_nanos() as f64))
}

/// Who makes the guest look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wasm {
    Observe,
    Timer,
}

impl Wasm {
    fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Timer => "timer 1 ms",
        }
    }
}

fn program(engine: &Engine, guest: &Guest) -> Result<Arc<Program>> {
    Ok(Arc::new(engine.load(SealedCode::seal(&compile(&guest.wasm)?)?)?))
}

/// A guest that spins on the only worker, and tasks that do next to nothing, at random moments: how
/// long each waits for the guest to yield. Other than for the native worker, that is wall time.
fn wasm(arm: Wasm, agent: Option<&Agent>, time: Duration, seed: usize) -> Result<Sample> {
    let all = processors();
    let mut config = EngineConfig::new(16);
    if arm == Wasm::Timer {
        config.tick = Duration::from_millis(1);
    }
    let engine = Engine::new(config)?;
    let probe = program(&engine, &Guest::probe(Kind::Module))?;
    let nop = Guest::all(None)?.into_iter().find(|g| g.name == "nop" && g.kind == Kind::Module);
    let nop = program(&engine, &nop.context("no guest `nop`")?)?;
    if let Some(agent) = agent {
        engine.guide(1, |options| Guidance::connect(&agent.socket, options))?;
    }
    pin(&all[..1])?;
    let workers = Workers::start(&engine, 1, 1_024, || ());
    pin(&all)?;
    let workers = workers?;

    let (end_spin, spin_ended) = mpsc::channel();
    let cancel = CancelHandle::new();
    let mut spin = Job { args: vec!["probe".into(), "spin".into()], ..Job::new(probe) };
    spin.cancel = cancel.clone();
    spin.limits.cpu_ms = LIMIT_MS;
    spin.limits.deadline_ms = LIMIT_MS;
    workers.submit(spin, move |outcome| {
        let _ = end_spin.send(outcome.state);
    });
    let (say, heard) = mpsc::channel();
    let mut random = Random::new();
    for _ in 0..seed {
        random.next();
    }
    let guides = guides_ns();
    let start = Instant::now();
    let mut wanted = 0_usize;
    while start.elapsed() < time {
        let (least, most) = WANT_US;
        std::thread::sleep(Duration::from_micros(least + random.next() % (most - least)));
        let (say, asked) = (say.clone(), Instant::now());
        wanted += 1;
        workers.submit(Job::new(Arc::clone(&nop)), move |outcome| {
            let took = asked.elapsed().saturating_sub(Duration::from_micros(outcome.usage.run_us));
            let _ = say.send((outcome.state, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)));
        });
    }
    let mut times = Histogram::default();
    for _ in 0..wanted {
        let (state, ns) = heard.recv_timeout(LONG).context("a task did not end")?;
        ensure!(state == State::Completed, "a task ended as {state:?}");
        times.record(ns);
    }
    let took = start.elapsed();
    let guides = guides_ns().saturating_sub(guides);
    cancel.cancel();
    let state = spin_ended.recv_timeout(LONG).context("the guest did not end")?;
    ensure!(state == State::Cancelled, "the guest ended as {state:?}");
    let mut sample = Sample::new(WASM, arm.name())
        .with_times(&times)
        .with("agent_cpu_share", guides as f64 / took.as_nanos() as f64);
    if let Some(report) = engine.guidance().map(Guidance::report) {
        let worker = report.workers.first().context("no control block")?;
        sample = sample.with("hints", worker.kernel_hints as f64);
        for (name, share) in [("hint_p50_ns", 0.5), ("hint_p99_ns", 0.99)] {
            if let Some(ns) = worker.latencies.quantile_ns(share) {
                sample = sample.with(name, ns as f64);
            }
        }
    }
    drop(workers);
    Ok(sample)
}

pub(super) fn round(scale: Scale, number: usize) -> Result<Vec<Sample>> {
    let time = scale.time(1_500, 500);
    let guided =
        |run: &dyn Fn(&Agent) -> Result<Sample>, case: &str| match Agent::observe(Looks::ALL) {
            Ok(agent) => run(&agent),
            Err(reason) => Ok(Sample::not_run(case, "observe", reason)),
        };
    let mut samples = vec![guided(&|agent| native(agent, time), NATIVE)?];
    for arm in crate::rounds::alternate(&[Wasm::Observe, Wasm::Timer], number) {
        samples.push(match arm {
            Wasm::Observe => guided(&|agent| wasm(arm, Some(agent), time, number), WASM)?,
            Wasm::Timer => wasm(arm, None, time, number)?,
        });
    }
    Ok(samples)
}
