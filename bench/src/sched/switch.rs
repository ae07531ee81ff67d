//! What a context switch costs more: the programs' own time, and a pipe through which two threads of
//! one processor pass a byte, with ten thousand switches a second.
//!
//! Threads that are no workers pay for the programs alone; workers have a timer each as well, which
//! the kernel stops and starts as they come and go.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use morpheus::{Guidance, Options};

use super::Scale;
use super::place::{
    Agent, Looks, Runs, count_nothing, counting, guides_ns, pin, processors, turns_per_us, work,
};
use crate::sample::{Sample, middle};

const PROGRAMS: &str = "programs";
const PIPE: &str = "pipe, 10,000 switches a second";

/// There and back are two switches: a turn of 200 us makes ten thousand a second.
const TURN_US: u64 = 200;

/// What passing the byte takes of it, roughly: the rest is work.
const PASS_US: u64 = 8;

struct Pair {
    there: PipeWriter,
    back: PipeReader,
}

impl Pair {
    fn turn(&mut self, turns: u64) -> Result<()> {
        work(turns);
        self.there.write_all(&[1])?;
        self.back.read_exact(&mut [0])?;
        Ok(())
    }
}

fn echo(mut from: PipeReader, mut to: PipeWriter) -> Result<()> {
    let mut byte = [0];
    while from.read(&mut byte)? == 1 {
        to.write_all(&byte)?;
    }
    Ok(())
}

/// What is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arm {
    Nothing,
    NoWorkers,
    Workers,
    WithoutTicks,
}

impl Arm {
    const ALL: [Self; 4] = [Self::Nothing, Self::NoWorkers, Self::Workers, Self::WithoutTicks];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing attached",
            Self::NoWorkers => "observe, no workers",
            Self::Workers => "observe, workers",
            Self::WithoutTicks => "observe, workers without ticks",
        }
    }

    fn agent(self) -> Result<Option<Agent>, String> {
        match self {
            Self::Nothing => Ok(None),
            Self::NoWorkers | Self::Workers => Agent::observe(Looks::ALL).map(Some),
            Self::WithoutTicks => Agent::observe(Looks::WAKEUPS).map(Some),
        }
    }
}

/// What a slice of time showed.
#[derive(Debug, Clone, Copy)]
struct Passed {
    turn_us: f64,
    switches_per_s: f64,
    agent_percent: f64,
}

/// Passes the byte; both threads are workers of `agent`, if there is one.
fn pass(agent: Option<&Agent>, turns: u64, time: Duration) -> Result<Passed> {
    let cpu = processors()[0];
    let options = Options { workers: 2, ..Options::default() };
    let guidance = agent.map(|agent| Guidance::connect(&agent.socket, options)).transpose()?;
    let ((from, there), (back, to)) = (pipe()?, pipe()?);
    std::thread::scope(|scope| {
        let guidance = &guidance;
        let register = move || guidance.as_ref().map(Guidance::register).transpose();
        let other = scope.spawn(move || -> Result<()> {
            pin(&[cpu])?;
            let _worker = register()?;
            echo(from, to)
        });
        let one = scope.spawn(move || -> Result<Passed> {
            pin(&[cpu])?;
            let _worker = register()?;
            let mut pair = Pair { there, back };
            for _ in 0..10 {
                pair.turn(turns)?;
            }
            let mut each = Vec::new();
            let guides = guides_ns();
            let start = Instant::now();
            while start.elapsed() < time {
                let began = Instant::now();
                pair.turn(turns)?;
                each.push(began.elapsed().as_secs_f64() * 1e6);
                // As a worker does at the end of a piece; without a hint it is a look.
                let _ = morpheus::checkpoint();
            }
            let took = start.elapsed();
            let guides = guides_ns().saturating_sub(guides) as f64 / took.as_nanos() as f64;
            let switches_per_s = 2.0 * each.len() as f64 / took.as_secs_f64();
            // The mean has what ticks take; the longest twentieth is what others took.
            each.sort_by(f64::total_cmp);
            each.truncate(each.len() - each.len() / 20);
            let turn_us = each.iter().sum::<f64>() / each.len().max(1) as f64;
            Ok(Passed { turn_us, switches_per_s, agent_percent: guides * 100.0 })
        });
        let measured = one.join().map_err(|_| anyhow!("a thread panicked"))?;
        other.join().map_err(|_| anyhow!("a thread panicked"))??;
        measured
    })
}

/// The programs while the pipe is passed through.
fn programs(turns: u64, time: Duration) -> Result<Vec<Sample>, String> {
    let _counting = counting()?;
    let agent = Agent::observe(Looks::ALL)?;
    let run = |agent: Option<&Agent>| pass(agent, turns, time).map_err(|e| format!("{e:#}"));
    run(Some(&agent))?;
    let counts = agent.end();
    let (passed, nothing) = count_nothing(|| run(None))?;
    passed?;
    let sample = |of: &Runs| {
        let each = of.ns as f64 / of.runs as f64;
        Sample::new(PROGRAMS, &of.program).with("run_ns", each).with("runs", of.runs as f64)
    };
    Ok(counts.iter().chain(&nothing).filter(|of| of.runs > 0).map(sample).collect())
}

pub(super) fn round(scale: Scale, number: usize) -> Result<Vec<Sample>> {
    let turns = turns_per_us() * (TURN_US - PASS_US);
    let time = scale.time(200, 80);
    let mut samples = match programs(turns, time) {
        Ok(samples) => samples,
        Err(reason) => vec![Sample::not_run(PROGRAMS, "on_switch", reason)],
    };
    let mut slices: Vec<(Arm, Passed)> = Vec::new();
    for slice in 0..scale.of(4, 2) {
        // There and back again: what drifts drifts for all.
        for arm in crate::rounds::alternate(&Arm::ALL, number + slice) {
            let Ok(agent) = arm.agent() else { continue };
            let workers = agent.as_ref().filter(|_| arm != Arm::NoWorkers);
            slices.push((arm, pass(workers, turns, time)?));
        }
    }
    let of = |arm: Arm, figure: fn(&Passed) -> f64| {
        let found = slices.iter().filter(|(of, _)| *of == arm).map(|(_, passed)| figure(passed));
        middle(&found.collect::<Vec<_>>())
    };
    let alone = of(Arm::Nothing, |passed| passed.turn_us);
    for arm in Arm::ALL {
        if !slices.iter().any(|(of, _)| *of == arm) {
            let reason = arm.agent().err().unwrap_or_else(|| "no slice of it".into());
            samples.push(Sample::not_run(PIPE, arm.name(), reason));
            continue;
        }
        let turn = of(arm, |passed| passed.turn_us);
        let sample = Sample::new(PIPE, arm.name())
            .with("turn_us", turn)
            .with("switches_per_s", of(arm, |passed| passed.switches_per_s));
        samples.push(match arm {
            Arm::Nothing => sample,
            _ => sample
                .with("slower_by_percent", (turn / alone - 1.0) * 100.0)
                .with("agent_cpu_percent", of(arm, |passed| passed.agent_percent)),
        });
    }
    Ok(samples)
}
