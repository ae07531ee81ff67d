//! What a context switch costs more: the programs' own time, and a pipe that two threads pass a byte
//! through ten thousand times a second.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use morpheus::{Guidance, Options};

use super::Scale;
use super::place::{
    Agent, Looks, Runs, count_nothing, counting, guides_ns, pin, processors, turns_per_us, work,
};
use super::sample::{Sample, middle};

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

/// Microseconds a turn, and switches a second; both threads are workers of `agent`, if there is one.
fn pass(agent: Option<&Agent>, turns: u64, time: Duration) -> Result<(f64, f64)> {
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
        let one = scope.spawn(move || -> Result<(f64, f64)> {
            pin(&[cpu])?;
            let _worker = register()?;
            let mut pair = Pair { there, back };
            for _ in 0..10 {
                pair.turn(turns)?;
            }
            let mut each = Vec::new();
            let start = Instant::now();
            while start.elapsed() < time {
                let began = Instant::now();
                pair.turn(turns)?;
                each.push(began.elapsed().as_secs_f64() * 1e6);
                // As a worker does at the end of a piece; without a hint it is a look.
                let _ = morpheus::checkpoint();
            }
            let switches = 2.0 * each.len() as f64 / start.elapsed().as_secs_f64();
            // The mean has what ticks take; the longest twentieth is what others took.
            each.sort_by(f64::total_cmp);
            each.truncate(each.len() - each.len() / 20);
            Ok((each.iter().sum::<f64>() / each.len().max(1) as f64, switches))
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
    let (mut with, mut without, mut switches) = (Vec::new(), Vec::new(), Vec::new());
    let (mut guides, mut attached) = (0, Duration::ZERO);
    // With, without, without, with, ..: what drifts drifts for both.
    for slice in 0..scale.of(8, 4) {
        let attach = slice.div_ceil(2) % 2 == number % 2;
        if !attach {
            let (us, rate) = pass(None, turns, time)?;
            without.push(us);
            switches.push(rate);
            continue;
        }
        let agent = match Agent::observe(Looks::ALL) {
            Ok(agent) => agent,
            Err(reason) => {
                samples.push(Sample::not_run(PIPE, "observe", reason));
                break;
            }
        };
        let (before, start) = (guides_ns(), Instant::now());
        with.push(pass(Some(&agent), turns, time)?.0);
        guides += guides_ns().saturating_sub(before);
        attached += start.elapsed();
    }
    if !without.is_empty() {
        let sample = Sample::new(PIPE, "nothing attached").with("turn_us", middle(&without));
        samples.push(sample.with("switches_per_s", middle(&switches)));
    }
    if !with.is_empty() {
        let (with, without) = (middle(&with), middle(&without));
        let sample = Sample::new(PIPE, "observe")
            .with("turn_us", with)
            .with("slower_by_percent", (with / without - 1.0) * 100.0);
        let agent = guides as f64 / attached.as_nanos().max(1) as f64;
        samples.push(sample.with("agent_cpu_percent", agent * 100.0));
    }
    Ok(samples)
}
