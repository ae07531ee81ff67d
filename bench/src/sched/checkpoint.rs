//! What a checkpoint costs: a loop of them beside the same loop without, and by itself.
//!
//! Beside a loop that does a little, a processor checks at the same time as it does that, and the
//! difference is next to nothing. What is judged is therefore a loop of checks and nothing else,
//! the loop included: no program can pay more for each of many.

use std::hint::black_box;

use anyhow::Result;
use morpheus::{Guidance, Options, checkpoint};

use super::Scale;
use super::place::{Agent, Looks, instructions, now_ns, pin, processors};
use crate::sample::{Sample, middle};

/// Checks in a slice: a millisecond or less, so that most slices are undisturbed.
const CHECKS: u32 = 1_000_000;

const CASE: &str = "checkpoint";

#[inline(never)]
fn checks() -> u64 {
    let mut said = 0;
    for _ in 0..CHECKS {
        if black_box(checkpoint()) {
            said += 1;
        }
    }
    said
}

/// Checks and the loop around them, nothing else.
#[inline(never)]
fn only_checks() -> u64 {
    let mut said = 0;
    for _ in 0..CHECKS {
        said += u64::from(checkpoint());
    }
    said
}

#[inline(never)]
fn nothing() -> u64 {
    let mut said = 0;
    for _ in 0..CHECKS {
        if black_box(false) {
            said += 1;
        }
    }
    said
}

/// Nanoseconds a turn.
fn timed(run: fn() -> u64) -> f64 {
    let start = now_ns();
    black_box(run());
    (now_ns() - start) as f64 / f64::from(CHECKS)
}

fn slices(arm: &str, scale: Scale) -> Sample {
    let count = scale.of(60, 15);
    let (mut with, mut without, mut only) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        with.push(timed(checks));
        without.push(timed(nothing));
        only.push(timed(only_checks));
    }
    let (with, without) = (middle(&with), middle(&without));
    Sample::new(CASE, arm)
        .with("check_ns", middle(&only))
        .with("beside_loop_ns", with - without)
        .with("loop_ns", with)
        .with("empty_loop_ns", without)
}

fn counted() -> Sample {
    let of = |run: fn() -> u64| {
        instructions(|| {
            black_box(run());
        })
    };
    match of(checks).and_then(|with| Ok((with, of(nothing)?))) {
        Ok((with, without)) => {
            let each = (with as f64 - without as f64) / f64::from(CHECKS);
            Sample::new(CASE, "instructions").with("check_instructions", each)
        }
        Err(reason) => Sample::not_run(CASE, "instructions", reason),
    }
}

pub(super) fn round(scale: Scale, _number: usize) -> Result<Vec<Sample>> {
    let all = processors();
    let mut samples = Vec::new();
    let agent = Agent::observe(Looks::ALL);
    let psi = match &agent {
        Ok(_) => None,
        Err(_) => Agent::psi().ok(),
    };
    let attached = if agent.is_ok() { "attached, observe" } else { "attached, psi" };
    let socket = agent.as_ref().ok().or(psi.as_ref()).map(|agent| &agent.socket);
    let guidance = match socket {
        Some(socket) => Guidance::connect(socket, Options::default()),
        None => Guidance::psi(Options::default()),
    };
    pin(&all[..1])?;
    let measured = (|| -> Result<()> {
        samples.push(slices("no control block", scale));
        let guidance = guidance?;
        let _worker = guidance.register()?;
        samples.push(slices(attached, scale));
        samples.push(counted());
        Ok(())
    })();
    pin(&all)?;
    measured?;
    if let Err(reason) = agent {
        samples.push(Sample::not_run(CASE, "attached, observe", reason));
    }
    Ok(samples)
}
