//! New connections at a steady rate, whoever keeps up: each is due at its time, and late if it has to
//! wait for a thread or an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::http::get;
use crate::space::Namespace;
use crate::stats::Histogram;

/// Connections at once.
const CLIENTS: usize = 64;
/// No answer within this is a failure, and so is no connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a client notices that it is over.
const STOP: Duration = Duration::from_millis(20);

/// A rate that is sustained: all are answered, most of them soon, and as many as were due.
const P99_MAX: Duration = Duration::from_secs(1);
const SHARE_MIN: f64 = 0.95;
/// The first rate that is tried, connections a second, and the last.
const RATE_FIRST: f64 = 20.0;
const RATE_LAST: f64 = 5_120.0;
/// Halvings of what lies between a rate that is sustained and one that is not.
const HALVINGS: usize = 3;

/// Clients that come and go.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    begun: Instant,
    clients: Vec<JoinHandle<Counted>>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) answers: u64,
    pub(super) failed: u64,
    /// Of one of those that failed.
    pub(super) why: Option<String>,
    /// From the time at which it was due to its answer.
    pub(super) times: Histogram,
    pub(super) seconds: f64,
}

/// One rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Connections that were due, a second.
    pub offered_per_s: f64,
    /// Answers, a second.
    pub answered_per_s: f64,
    /// Connections without an answer.
    pub failed: u64,
    /// From due to answered, at the 99th percentile.
    pub p99_ms: f64,
    /// Whether it can go on like that.
    pub sustained: bool,
}

impl Load {
    /// Begins, with so many a second.
    pub(super) fn start(space: &Namespace, at: SocketAddr, per_s: f64) -> Result<Self> {
        let (over, due) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        // Threads are in the namespace of the one that starts them.
        let clients = space.inside(|| {
            let client = |_| {
                let (over, due) = (Arc::clone(&over), Arc::clone(&due));
                std::thread::Builder::new()
                    .name("client".into())
                    .stack_size(128 << 10)
                    .spawn(move || client(&over, &due, begun, per_s, at))
                    .context("cannot start a client")
            };
            (0..CLIENTS).map(client).collect::<Result<Vec<_>>>()
        });
        match clients {
            Ok(clients) => Ok(Self { over, begun, clients }),
            Err(error) => {
                // Those that were started end by themselves.
                over.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Ends it; whoever waits for an answer waits for it.
    pub(super) fn end(mut self) -> Result<Counted> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Counted::default();
        for client in std::mem::take(&mut self.clients) {
            let Ok(of) = client.join() else { bail!("a client panicked") };
            all.answers += of.answers;
            all.failed += of.failed;
            all.why = all.why.or(of.why);
            all.times.add(&of.times);
        }
        all.seconds = self.begun.elapsed().as_secs_f64();
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn client(
    over: &AtomicBool,
    next: &AtomicU64,
    begun: Instant,
    per_s: f64,
    at: SocketAddr,
) -> Counted {
    let mut counted = Counted::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = begun + Duration::from_secs_f64(number as f64 / per_s);
        loop {
            if over.load(Ordering::Relaxed) {
                return counted;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(STOP));
        }
        match get(at, PATIENCE, PATIENCE) {
            Ok(()) => {
                counted.answers += 1;
                let ns = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                counted.times.record(ns);
            }
            Err(why) => {
                counted.failed += 1;
                counted.why = Some(why);
            }
        }
    }
}

impl Counted {
    pub(super) fn per_s(&self) -> f64 {
        self.answers as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    fn step(&self, offered_per_s: f64) -> Step {
        let p99 = Duration::from_nanos(self.times.quantile_ns(0.99));
        let enough = self.per_s() >= SHARE_MIN * offered_per_s;
        Step {
            offered_per_s,
            answered_per_s: self.per_s(),
            failed: self.failed,
            p99_ms: p99.as_secs_f64() * 1e3,
            sustained: self.failed == 0 && enough && p99 <= P99_MAX,
        }
    }
}

/// The rates that were tried until what is sustained is known; the largest of them that is, if any.
pub(super) fn search(
    space: &Namespace,
    at: SocketAddr,
    window: Duration,
) -> Result<(Vec<Step>, Option<f64>)> {
    let look = |per_s: f64| {
        let load = Load::start(space, at, per_s)?;
        std::thread::sleep(window);
        Ok(load.end()?.step(per_s))
    };
    climb(look)
}

fn climb(look: impl Fn(f64) -> Result<Step>) -> Result<(Vec<Step>, Option<f64>)> {
    let (mut steps, mut good, mut rate) = (Vec::new(), None, RATE_FIRST);
    let bad = loop {
        let step = look(rate)?;
        steps.push(step);
        if !step.sustained {
            break rate;
        }
        good = Some(rate);
        if rate >= RATE_LAST {
            return Ok((steps, good));
        }
        rate *= 2.0;
    };
    let Some(mut low) = good else { return Ok((steps, None)) };
    let mut high = bad;
    for _ in 0..HALVINGS {
        let step = look((low + high) / 2.0)?;
        steps.push(step);
        match step.sustained {
            true => low = step.offered_per_s,
            false => high = step.offered_per_s,
        }
    }
    Ok((steps, Some(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(answers: u64, failed: u64, ms: u64) -> Counted {
        let mut times = Histogram::default();
        (0..answers).for_each(|_| times.record(ms * 1_000_000));
        Counted { answers, failed, why: None, times, seconds: 1.0 }
    }

    #[test]
    fn what_fails_waits_or_falls_behind_is_not_sustained() {
        assert!(counted(100, 0, 20).step(100.0).sustained);
        assert!(!counted(99, 1, 20).step(100.0).sustained, "one failed");
        assert!(!counted(100, 0, 1_500).step(100.0).sustained, "too late");
        assert!(!counted(90, 0, 20).step(100.0).sustained, "too few");
    }

    #[test]
    fn the_largest_rate_is_found_between_two() {
        let limit = |limit: f64| {
            climb(move |rate| {
                let answers = if rate <= limit { rate } else { limit };
                let kept = |share: f64| share >= SHARE_MIN;
                let sustained = kept(answers / rate);
                Ok(Step {
                    offered_per_s: rate,
                    answered_per_s: answers,
                    failed: 0,
                    p99_ms: 1.0,
                    sustained,
                })
            })
        };
        let (steps, found) = limit(100.0).expect("it ends");
        let found = found.expect("100 a second are sustained");
        assert!((90.0..=106.0).contains(&found), "{found} of {steps:?}");
        let (steps, found) = limit(1.0).expect("it ends");
        assert_eq!((steps.len(), found), (1, None));
        let (steps, found) = limit(1e9).expect("it ends");
        assert_eq!(found, Some(RATE_LAST));
        assert!(steps.len() < 20, "{steps:?}");
    }
}
