//! `vyr sched`: what the guidance of the threads that run guests does.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use vyr_api::Client;
use vyr_api::operator::{GetGuidanceRequest, Guidance, GuidedWorker};
use vyr_node::Result;
use vyr_node::guidance::quantile_ns;

use super::bench;
use super::link::{LinkError, Place, refused};
use super::watch::{Interrupt, Live, rows};
use crate::cli::SchedCommand;
use crate::output;

#[derive(Serialize)]
struct Body {
    tier: String,
    why: String,
    workers: Vec<Worker>,
}

#[derive(Serialize)]
struct Worker {
    id: usize,
    registered: bool,
    /// Of all sources.
    hints: u64,
    /// Of all reasons.
    acks: u64,
    /// Preemptions by force. No tier that there is so far forces anything.
    escalations: u64,
    drops: u64,
    kernel_hints: u64,
    psi_hints: u64,
    timer_hints: u64,
    /// Because a task was queued and nobody was free for it.
    own_hints: u64,
    acknowledged: BTreeMap<String, u64>,
    yields: u64,
    deferred: u64,
    /// From hint to acknowledgement, in nanoseconds: the ends of buckets, and how many are in each.
    latencies_ns: Vec<(u64, u64)>,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    /// Of the looks of the kernel at the running worker, how many found it in a critical section.
    critical_share: Option<f64>,
}

impl Worker {
    fn of(number: usize, worker: GuidedWorker) -> Self {
        let latencies: Vec<_> =
            worker.latencies.iter().map(|bucket| (bucket.up_to_ns, bucket.count)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a share of counts")]
        let critical_share = (worker.looks > 0)
            .then(|| worker.critical_looks.min(worker.looks) as f64 / worker.looks as f64);
        Self {
            id: number,
            registered: worker.registered,
            hints: worker.kernel_hints + worker.psi_hints + worker.timer_hints + worker.own_hints,
            acks: worker.acknowledged.values().sum(),
            escalations: 0,
            drops: worker.dropped,
            kernel_hints: worker.kernel_hints,
            psi_hints: worker.psi_hints,
            timer_hints: worker.timer_hints,
            own_hints: worker.own_hints,
            acknowledged: worker.acknowledged.into_iter().collect(),
            yields: worker.yields,
            deferred: worker.deferred,
            p50_ns: quantile_ns(&latencies, 0.5),
            p99_ns: quantile_ns(&latencies, 0.99),
            latencies_ns: latencies,
            critical_share,
        }
    }
}

impl From<Guidance> for Body {
    fn from(guidance: Guidance) -> Self {
        let workers = guidance.workers.into_iter().enumerate();
        Self {
            tier: guidance.tier,
            why: guidance.why,
            workers: workers.map(|(n, worker)| Worker::of(n, worker)).collect(),
        }
    }
}

/// Nanoseconds as a person reads them.
fn time(ns: Option<u64>) -> String {
    match ns {
        None => "-".into(),
        Some(ns) if ns < 10_000 => format!("{ns} ns"),
        Some(ns) if ns < 10_000_000 => format!("{} us", ns / 1_000),
        Some(ns) => format!("{} ms", ns / 1_000_000),
    }
}

fn table(workers: &[Worker]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header([
        "WORKER", "KERNEL", "PSI", "TIMER", "OWN", "DROPPED", "YIELDS", "REASONS", "P50", "P99",
        "CRITICAL",
    ]);
    for worker in workers {
        let reasons: Vec<_> =
            worker.acknowledged.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        let critical = worker.critical_share.map(|share| format!("{:.1} %", share * 100.0));
        let number = match worker.registered {
            true => worker.id.to_string(),
            false => format!("({})", worker.id),
        };
        table.add_row([
            number,
            worker.kernel_hints.to_string(),
            worker.psi_hints.to_string(),
            worker.timer_hints.to_string(),
            worker.own_hints.to_string(),
            worker.drops.to_string(),
            worker.yields.to_string(),
            reasons.join(", "),
            time(worker.p50_ns),
            time(worker.p99_ns),
            critical.unwrap_or_else(|| "-".into()),
        ]);
    }
    table
}

pub(crate) fn run(
    place: impl FnOnce() -> Result<Place>,
    command: SchedCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        SchedCommand::Status => status(&place()?, json),
        SchedCommand::Top { interval } => top(&place()?, interval, json),
        SchedCommand::Bench(options) => bench::sched(&options, json),
    }
}

async fn ask(client: &mut Client) -> Result<Body> {
    let guidance = client.operator.get_guidance(GetGuidanceRequest {}).await.map_err(refused)?;
    Ok(guidance.into_inner().into())
}

fn status(place: &Place, json: bool) -> Result<ExitCode> {
    let link = place.node("what guides its threads")?;
    let body = link.with(async |mut client: Client| ask(&mut client).await)?;
    if json {
        output::json_line(body)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(format!("tier       {}", body.tier));
    output::print(format!("why        {}", body.why));
    if !body.workers.is_empty() {
        output::print(table(&body.workers).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn top(place: &Place, interval_ms: u64, json: bool) -> Result<ExitCode> {
    let link = place.node("what guides its threads")?;
    let live = output::is_live() && !json;
    link.with(async |mut client: Client| {
        let mut interrupt = Interrupt::new().map_err(LinkError::SetUp)?;
        let mut screen = Live::default();
        let mut clock = tokio::time::interval(Duration::from_millis(interval_ms.max(50)));
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = interrupt.wait() => return Ok(()),
            }
            let body = ask(&mut client).await?;
            if live {
                let mut table = table(&body.workers);
                table.add_row([format!("tier {}", body.tier)]);
                screen.draw(&table, rows());
            } else {
                output::json_line(body)?;
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
