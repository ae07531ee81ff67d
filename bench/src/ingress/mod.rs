//! `vyr bench ingress`: connections carried, beside HAProxy with as many threads and `splice-auto`.
//!
//! ```text
//! client threads --loopback--> vyr ingress | haproxy --loopback--> backend threads
//!  (this process)                (a process each)                   (this process)
//!
//! stream       a few connections through the raw listener, many bytes from the backend
//! connections  a client hello through the TLS listener, one byte back, closed; again and again
//! ```
//!
//! Both proxies run all the time with the same listeners and the same backend, and take turns within
//! a round; one that has no turn waits. Without HAProxy its arm is not measured, and says so.

mod arms;
mod load;
mod plot;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

pub use self::report::Report;

use self::arms::Proxy;
use self::load::Backend;
use crate::environment::Environment;
use crate::rounds::{ROUNDS_MIN, alternate, rounds_beside};
use crate::sample::{Rounds, Sample};

/// Rounds of a quick look.
const QUICK_ROUNDS: usize = 3;

/// Bytes of one turn of the streams, over all of them, and connections of one turn.
const STREAM_BYTES: u64 = 2 << 30;
const QUICK_STREAM_BYTES: u64 = 128 << 20;
const CONNECTIONS: usize = 6_000;
const QUICK_CONNECTIONS: usize = 300;

/// Streams at once, and clients that connect at once.
const STREAMS: u64 = 4;
const CLIENTS: usize = 8;

const STREAM: &str = "stream";
const CONNECT: &str = "connections";
const VYR: &str = "vyr ingress";
const HAPROXY: &str = "haproxy";

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rounds of each measurement; fewer than 20 decide nothing
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N")]
    pub rounds: usize,

    /// A quick look: 3 small rounds, no verdicts
    #[arg(long)]
    pub quick: bool,

    /// Threads of each proxy
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,

    /// Where the report goes
    #[arg(long, default_value = "bench-results", value_name = "DIR")]
    pub out: PathBuf,

    /// The `vyr` to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub vyr: Option<PathBuf>,
}

/// Measures, and writes the report.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let wanted = if options.quick { QUICK_ROUNDS } else { options.rounds };
    let vyr = match &options.vyr {
        Some(vyr) => vyr.clone(),
        None => std::env::current_exe().context("cannot find this program")?,
    };
    let environment = Environment::of_this_machine("not used");
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let backend = Backend::start()?;
    let ours = Proxy::vyr(&vyr, directory.path(), backend.address(), options.threads)?;
    let theirs = Proxy::haproxy(directory.path(), backend.address(), options.threads);
    let mut arms = vec![(VYR, &ours)];
    arms.extend(theirs.as_ref().ok().map(|proxy| (HAPROXY, proxy)));
    let measured: Vec<u32> = arms.iter().map(|(_, proxy)| proxy.pid()).collect();
    let (bytes, connections) = match options.quick {
        true => (QUICK_STREAM_BYTES, QUICK_CONNECTIONS),
        false => (STREAM_BYTES, CONNECTIONS),
    };
    let found = rounds_beside(wanted, &measured, |number| {
        progress(&format!("ingress: round {} of {wanted}", number + 1));
        let mut samples = Vec::new();
        for (arm, proxy) in alternate(&arms, number) {
            samples.push(stream(arm, proxy, bytes)?);
            samples.push(connect(arm, proxy, connections)?);
        }
        if let Err(reason) = &theirs {
            for case in [STREAM, CONNECT] {
                samples.push(Sample::not_run(case, HAPROXY, reason.clone()));
            }
        }
        Ok(samples)
    })?;
    let report = Report::new(environment, options, wanted, Rounds(found));
    report.write(&options.out)?;
    Ok(report)
}

fn stream(arm: &str, proxy: &Proxy, bytes: u64) -> Result<Sample> {
    let before = proxy.cpu_ns();
    let seconds = load::stream(proxy.raw, STREAMS, bytes / STREAMS)?;
    let cpu_ns = proxy.cpu_ns().saturating_sub(before) as f64;
    let gib = bytes as f64 / f64::from(1 << 30);
    let sample = Sample::new(STREAM, arm).with("mib_per_s", gib * 1024.0 / seconds);
    Ok(sample.with("cpu_ms_per_gib", cpu_ns / 1e6 / gib))
}

fn connect(arm: &str, proxy: &Proxy, connections: usize) -> Result<Sample> {
    let before = proxy.cpu_ns();
    let seconds = load::connections(proxy.tls, CLIENTS, connections)?;
    let cpu_ns = proxy.cpu_ns().saturating_sub(before) as f64;
    let many = connections as f64;
    let sample = Sample::new(CONNECT, arm).with("per_s", many / seconds);
    Ok(sample.with("cpu_us_each", cpu_ns / 1e3 / many))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_measured_and_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let reason = "haproxy is not installed".to_owned();
        let samples = vec![
            Sample::new(STREAM, VYR).with("mib_per_s", 1.0).with("cpu_ms_per_gib", 1.0),
            Sample::not_run(STREAM, HAPROXY, reason),
        ];
        assert!(samples.iter().all(Sample::is_whole));
        let disturbance = crate::environment::Disturbance::default();
        let round = crate::rounds::Round { number: 0, counts: true, disturbance, data: samples };
        let options = Options {
            rounds: 20,
            quick: false,
            threads: 1,
            out: directory.path().to_owned(),
            vyr: None,
        };
        let environment = Environment::of_this_machine("not used");
        let report = Report::new(environment, &options, 20, Rounds(vec![round]));
        report.write(directory.path()).expect("it is written");
        let text = std::fs::read_to_string(directory.path().join("ingress.md")).expect("written");
        assert!(text.contains("not measured: haproxy is not installed"), "{text}");
        assert!(report.is_good(), "what was not measured is not missed");
        assert!(directory.path().join("ingress.svg").exists());
        let json = std::fs::read(directory.path().join("ingress.json")).expect("written");
        assert_eq!(serde_json::from_slice::<Report>(&json).expect("its own form"), report);
    }
}
