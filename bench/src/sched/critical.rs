//! Critical sections under pressure: hints wait for their ends, and nobody yields inside.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use morpheus::{Guidance, Options, checkpoint, critical, yield_now};

use super::Scale;
use super::place::{Agent, Looks, guides_ns, pin, processors, turns_per_us, work};
use crate::sample::Sample;

/// A section and what is around it, together.
const CYCLE_US: u64 = 500;

/// Between two checks, inside as well as outside.
const CHECK_US: u64 = 5;

/// Shares of the time that hogs spend in sections, in percent.
const SHARES: [u64; 3] = [0, 50, 90];

fn case(share: u64) -> String {
    format!("{share} % in critical sections")
}

/// One hog beside two others of its processor that do not ask, and a sleeper.
fn hog(agent: &Agent, share: u64, time: Duration) -> Result<Sample> {
    let cpu = processors()[0];
    let guidance = Guidance::connect(&agent.socket, Options { workers: 1, ..Options::default() })?;
    let step = turns_per_us() * CHECK_US;
    let steps = CYCLE_US / CHECK_US;
    let inside = steps * share / 100;
    let done = AtomicBool::new(false);
    let guides = guides_ns();
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let others = [Duration::ZERO, Duration::from_millis(1)].map(|rest| {
            let done = &done;
            scope.spawn(move || -> Result<()> {
                pin(&[cpu])?;
                while !done.load(Relaxed) {
                    if rest.is_zero() {
                        work(step);
                    } else {
                        std::thread::sleep(rest);
                    }
                }
                Ok(())
            })
        });
        let worker = scope.spawn(|| -> Result<(u64, u64, u64)> {
            pin(&[cpu])?;
            let worker = guidance.register()?;
            let (mut said_inside, mut yields, mut cycles) = (0, 0, 0);
            let end = Instant::now() + time;
            while Instant::now() < end {
                if inside > 0 {
                    critical(|| {
                        for _ in 0..inside {
                            work(step);
                            said_inside += u64::from(checkpoint());
                        }
                    });
                }
                for _ in inside..steps {
                    work(step);
                    if checkpoint() {
                        yields += 1;
                        yield_now();
                        worker.turn();
                    }
                }
                cycles += 1;
            }
            Ok((said_inside, yields, cycles))
        });
        let counts = worker.join().map_err(|_| anyhow!("the hog panicked"));
        done.store(true, Relaxed);
        for other in others {
            other.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        counts?
    });
    let (said_inside, yields, cycles) = counts?;
    let took = start.elapsed();
    let guides = guides_ns().saturating_sub(guides);
    let report = guidance.report();
    let mut sample = Sample::new(&case(share), "observe")
        .with("yields_inside", said_inside as f64)
        .with("yields", yields as f64)
        .with("cycles", cycles as f64)
        .with("agent_cpu_share", guides as f64 / took.as_nanos() as f64);
    if let Some(worker) = report.workers.first() {
        sample = sample
            .with("deferred", worker.deferred as f64)
            .with("hints", worker.kernel_hints as f64)
            .with("looks", worker.looks.0 as f64)
            .with("looks_inside", worker.looks.1 as f64);
        sample.times_ns = worker.latencies.buckets().collect();
        for (name, share) in [("p50_ns", 0.5), ("p99_ns", 0.99)] {
            if let Some(ns) = worker.latencies.quantile_ns(share) {
                sample = sample.with(name, ns as f64);
            }
        }
    }
    Ok(sample)
}

pub(super) fn round(scale: Scale, number: usize) -> Result<Vec<Sample>> {
    let time = scale.time(500, 200);
    let agent = match Agent::observe(Looks::ALL) {
        Ok(agent) => agent,
        Err(reason) => {
            let not_run = |share| Sample::not_run(&case(share), "observe", reason.clone());
            return Ok(SHARES.map(not_run).into());
        }
    };
    let shares = crate::rounds::alternate(&SHARES, number);
    shares.into_iter().map(|share| hog(&agent, share, time)).collect()
}
