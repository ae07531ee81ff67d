//! A tunnel under load: what it carries, what that costs, and how long others wait meanwhile.
//!
//! Each arm of each round has wires, data planes and sessions of its own: by a plan that `vyr`
//! applied and a configuration that it exported, or typed by hand with `wg` and `ip`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::place::{Ear, Job};
use super::town::{KEYS, Town};
use super::wires::{Host, MTU, PLACES, PRINTER, Wires};
use super::{BY_HAND, Side, ping};
use crate::rounds::alternate;
use crate::sample::Sample;
use crate::stats::quantile;

pub(super) const THROUGHPUT: &str = "one TCP stream through the tunnel";
pub(super) const FULL: &str = "pings beside a TCP stream at full rate";
pub(super) const HALF: &str = "pings beside a TCP stream at half of it";

/// Seconds of each stream.
const SECONDS: u32 = 2;

/// Pings beside one: they end before it does.
const PINGS: usize = 190;

const BYTES_PER_GB: f64 = 1e9;

/// Who has made the tunnel.
#[derive(Debug, Clone, Copy)]
enum Maker<'a> {
    Vyr(&'a Side),
    Hand,
}

impl Maker<'_> {
    fn arms(sides: &[Side]) -> Vec<Maker<'_>> {
        sides.iter().map(Maker::Vyr).chain([Maker::Hand]).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Vyr(side) => side.name,
            Self::Hand => BY_HAND,
        }
    }

    /// The wires with a tunnel through which a packet went.
    fn make(&self) -> Result<(Wires, Host)> {
        let (wires, router) = match self {
            Self::Vyr(side) => Self::by(&side.program)?,
            Self::Hand => {
                let wires = Wires::new()?;
                let router = wires.host(&PLACES[0])?;
                wires.by_hand(&router, &PLACES[0])?;
                (wires, router)
            }
        };
        wires.forwards()?;
        // Packets of another size would be another work.
        for (space, link) in [(&wires.device, &wires.tunnel), (&router.space, &wires.link)] {
            let told = space.run("ip", &["-o", "link", "show", "dev", link], "")?;
            ensure!(told.contains(&format!(" mtu {MTU} ")), "{}: {told}", self.name());
        }
        Ok((wires, router))
    }

    fn by(vyr: &Path) -> Result<(Wires, Host)> {
        let town = Town::new(vyr, 1)?;
        let plan = town.plan(&[(KEYS[0], "active")])?;
        let conf = town.export(&PLACES[..1])?.pop().context("no configuration")?;
        let router = town.router(&PLACES[0], &plan)?;
        town.wires.raise(&conf)?;
        Ok((town.wires, router))
    }
}

/// What went through.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Flow {
    bytes: f64,
    mbit_s: f64,
    /// Processor time of both ends, microseconds.
    cpu_us: u64,
}

/// One stream from the device to the printer, at most so fast; `beside` is done meanwhile.
fn stream<T>(
    wires: &Wires,
    mbit_s: Option<f64>,
    beside: impl FnOnce() -> Result<T>,
) -> Result<(Flow, T)> {
    let mut command = wires.printer.timed(SECONDS + 20, "iperf3");
    command.args(["-s", "-1", "--forceflush", "-B", PRINTER]);
    let mut server = Job::start(&wires.printer, command, Ear::Out)?;
    server.until("Server listening")?;
    let mut command = wires.device.timed(SECONDS + 20, "iperf3");
    command.args(["-c", PRINTER, "-t", &SECONDS.to_string(), "-i", "0", "-J"]);
    command.args(["--connect-timeout", "5000"]);
    if let Some(mbit_s) = mbit_s {
        command.args(["-b", &format!("{mbit_s:.1}M")]);
    }
    let client = Job::start(&wires.device, command, Ear::Out)?;
    let seen = beside()?;
    let client = client.finish()?;
    let server = server.finish()?;
    let mut flow = flow(&client.said)?;
    flow.cpu_us = client.cpu_us + server.cpu_us;
    Ok((flow, seen))
}

/// What `iperf3 -J` says, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Told {
    error: Option<String>,
    end: Option<End>,
}

#[derive(Debug, Deserialize)]
struct End {
    sum_received: Option<Sum>,
}

#[derive(Debug, Deserialize)]
struct Sum {
    bytes: f64,
    bits_per_second: f64,
}

fn flow(said: &str) -> Result<Flow> {
    let told: Told = serde_json::from_str(said).context("iperf3 says no JSON")?;
    if let Some(error) = told.error {
        bail!("iperf3: {error}");
    }
    let sum = told.end.and_then(|end| end.sum_received).context("iperf3 tells no sum")?;
    ensure!(sum.bytes > 0.0 && sum.bits_per_second > 0.0, "nothing went through");
    Ok(Flow { bytes: sum.bytes, mbit_s: sum.bits_per_second / 1e6, cpu_us: 0 })
}

/// A round: one stream through each tunnel.
pub(super) fn throughput(sides: &[Side], number: usize) -> Result<Vec<Sample>> {
    let measure = |maker: Maker<'_>| {
        let (wires, router) = maker.make()?;
        let before = [wires.plane.cpu_us(), router.plane.cpu_us()];
        let (flow, ()) = stream(&wires, None, || Ok(()))?;
        let device = wires.plane.cpu_us().saturating_sub(before[0]);
        let routing = router.plane.cpu_us().saturating_sub(before[1]);
        let by_gb = |us: u64| us as f64 / 1e6 / (flow.bytes / BYTES_PER_GB);
        Ok(Sample::new(THROUGHPUT, maker.name())
            .with("mbit_s", flow.mbit_s)
            .with("cpu_s_per_gb", by_gb(device + routing + flow.cpu_us))
            .with("device_cpu_s_per_gb", by_gb(device))
            .with("router_cpu_s_per_gb", by_gb(routing))
            .with("iperf3_cpu_s_per_gb", by_gb(flow.cpu_us)))
    };
    alternate(&Maker::arms(sides), number).into_iter().map(measure).collect()
}

/// A round: packets beside a stream at full rate, then beside one at half of what the first arm
/// carried, which is the same load for all.
pub(super) fn latency(sides: &[Side], number: usize) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut half = None;
    for maker in alternate(&Maker::arms(sides), number) {
        let (wires, _router) = maker.make()?;
        let pings = || {
            let said = ping::start(&wires.device, PRINTER, PINGS)?.finish()?.said;
            let ms: Vec<f64> = ping::answers(&said).iter().map(|answer| answer.ms).collect();
            ensure!(!ms.is_empty(), "no answer beside the stream");
            Ok(ms)
        };
        let sample = |case: &str, flow: Flow, ms: &[f64]| {
            let of = |share| quantile(ms, share).unwrap_or(0.0);
            Sample::new(case, maker.name())
                .with("p50_ms", of(0.5))
                .with("p99_ms", of(0.99))
                .with("lost", (PINGS - ms.len().min(PINGS)) as f64)
                .with("mbit_s", flow.mbit_s)
        };
        let (flow, ms) = stream(&wires, None, pings)?;
        samples.push(sample(FULL, flow, &ms));
        let limit = *half.get_or_insert(flow.mbit_s / 2.0);
        let (flow, ms) = stream(&wires, Some(limit), pings)?;
        samples.push(sample(HALF, flow, &ms));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_arrived_is_a_flow() {
        let good =
            r#"{"start":{},"end":{"sum_received":{"bytes":250000000,"bits_per_second":1e9}}}"#;
        let found = flow(good).expect("a flow");
        assert_eq!((found.bytes, found.mbit_s), (250e6, 1e3));
        for (said, why) in [
            ("", "no JSON"),
            ("[]", "no JSON"),
            (r#"{"error":"unable to connect"}"#, "unable to connect"),
            (r#"{"end":{}}"#, "no sum"),
            (r#"{"end":{"sum_received":{"bytes":0,"bits_per_second":0}}}"#, "nothing"),
        ] {
            let error = flow(said).expect_err(said);
            assert!(format!("{error:#}").contains(why), "{said}: {error:#}");
        }
    }
}
