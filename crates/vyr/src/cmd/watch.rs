//! `vyr traces` and `vyr metrics`: what happens, as it happens.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, TableStyle};
use serde::Serialize;
use tokio::io::AsyncReadExt;
use vyr_api::Client;
use vyr_api::control::{
    MetricFilter, Metrics, Span, StreamMetricsRequest, StreamTracesRequest, TraceFilter, metric,
};
use vyr_base::format_bytes;
use vyr_node::Result;

use super::link::{Hands, Link, LinkError, Place, refused};
use super::task::{Body, millis, some, time};
use crate::cli::{MetricsArgs, TracesArgs};
use crate::output;

/// A table is drawn no more often, so that a busy node is readable and a slow terminal keeps up.
const REDRAW: Duration = Duration::from_millis(100);

/// Ends by Ctrl-C, as an end and not as a failure.
pub(super) struct Interrupt(tokio::net::UnixStream);

impl Interrupt {
    pub(super) fn new() -> io::Result<Self> {
        let (told, tell) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, tell)?;
        told.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(told).map(Self)
    }

    pub(super) async fn wait(&mut self) {
        // A broken pair is an end, too.
        let _ = self.0.read_u8().await;
    }
}

/// A table that is drawn again in its place.
#[derive(Default)]
pub(super) struct Live {
    lines: usize,
}

impl Live {
    pub(super) fn draw(&mut self, table: &Table, most: usize) {
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        let kept = lines.len().min(most);
        let mut text = String::new();
        if self.lines > 0 {
            // To the first line of what was drawn, and clear from there on.
            text += &format!("\x1b[{}A\x1b[J", self.lines);
        }
        for line in &lines[..kept] {
            text += line;
            text.push('\n');
        }
        self.lines = kept;
        let mut out = io::stdout().lock();
        // Nobody looking is not our failure.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Rows that fit on the terminal, and one for the cursor.
pub(super) fn rows() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map_or(24, |size| usize::from(size.ws_row)).max(4) - 1
}

#[derive(Serialize)]
struct SpanLine {
    span: String,
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    start: Option<String>,
    end: Option<String>,
    dropped: u64,
    #[serde(flatten)]
    task: Body,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<&Span> for SpanLine {
    fn from(span: &Span) -> Self {
        let mut task = Body::accepted(span.task_id.clone(), &span.artifact_digest, "");
        if span.name == "execute" {
            task.state = "running";
        }
        task.take(span);
        Self {
            span: span.name.clone(),
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_span_id: some(&hex(&span.parent_span_id)),
            start: time(span.start_unix_nano),
            end: time(span.end_unix_nano),
            dropped: span.dropped,
            task,
        }
    }
}

/// The newest tasks, in the order of their acceptance.
#[derive(Default)]
struct Tasks {
    tasks: BTreeMap<u64, Body>,
    dropped: u64,
}

impl Tasks {
    fn take(&mut self, span: &Span, most: usize) {
        self.dropped += span.dropped;
        // The last part of an id is the number of its event.
        let seq = span.task_id.rsplit('-').next().and_then(|seq| seq.parse().ok()).unwrap_or(0);
        let body = self
            .tasks
            .entry(seq)
            .or_insert_with(|| Body::accepted(span.task_id.clone(), &span.artifact_digest, ""));
        body.take(span);
        while self.tasks.len() > most {
            self.tasks.pop_first();
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(TableStyle::new())
            .set_header(["TASK", "STATE", "WHY", "RUN", "CPU", "MEMORY", "ARTIFACT"]);
        for task in self.tasks.values() {
            let usage = |of: fn(&super::task::Usage) -> String| {
                task.usage.as_ref().map_or_else(|| "-".into(), of)
            };
            let artifact = task.artifact_digest.as_deref().unwrap_or("?");
            table.add_row([
                task.task_id.clone(),
                task.state.to_owned(),
                task.reason.clone().unwrap_or_else(|| "-".into()),
                usage(|usage| millis(usage.run_us)),
                usage(|usage| millis(usage.cpu_us)),
                usage(|usage| format_bytes(usage.memory_peak_bytes)),
                artifact.chars().take(19).collect(),
            ]);
        }
        table
    }
}

pub(crate) fn traces(place: &Place, args: TracesArgs, json: bool) -> Result<ExitCode> {
    let (link, here) = match Link::found(place)? {
        Some(link) => (link, false),
        None => (Link::here(&place.open()?, Hands::None)?, true),
    };
    let live = output::is_live() && !json;
    let filter = TraceFilter {
        task_ids: args.tasks,
        artifact_digest: args.artifact.map(|digest| digest.to_string()).unwrap_or_default(),
        terminal_only: args.terminal,
        ..TraceFilter::default()
    };
    if here && filter.task_ids.is_empty() {
        output::say("no node is running: this is what has happened until now");
    }
    link.with(async |mut client: Client| {
        let mut interrupt = Interrupt::new().map_err(LinkError::SetUp)?;
        let request = StreamTracesRequest { filter: Some(filter) };
        let mut spans = client.control.stream_traces(request).await.map_err(refused)?.into_inner();
        // Nothing will happen in a node of this process: the stream ends behind the past.
        link.stop();
        let (mut tasks, mut screen, mut stale) = (Tasks::default(), Live::default(), false);
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                span = spans.message() => match span.map_err(refused)? {
                    Some(span) if live => {
                        tasks.take(&span, rows() - 1);
                        stale = true;
                    }
                    Some(span) => output::json_line(SpanLine::from(&span))?,
                    None => break,
                },
                _ = redraw.tick(), if live && stale => {
                    screen.draw(&tasks.table(), rows());
                    stale = false;
                }
                () = interrupt.wait() => break,
            }
        }
        if live {
            screen.draw(&tasks.table(), rows());
            if tasks.dropped > 0 {
                output::say(format!("{} spans came too fast to be shown", tasks.dropped));
            }
        }
        Ok(())
    })?;
    link.end();
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct MetricsLine<'a> {
    time: Option<String>,
    delta: bool,
    metrics: BTreeMap<&'a str, MetricValue<'a>>,
}

#[derive(Serialize)]
struct MetricValue<'a> {
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gauge: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    histogram: Option<Histogram<'a>>,
}

#[derive(Serialize)]
struct Histogram<'a> {
    bounds: &'a [u64],
    counts: &'a [u64],
    sum: u64,
}

impl<'a> From<&'a Metrics> for MetricsLine<'a> {
    fn from(message: &'a Metrics) -> Self {
        let metrics = message.metrics.iter().map(|metric| {
            let mut value =
                MetricValue { unit: &metric.unit, counter: None, gauge: None, histogram: None };
            match &metric.value {
                Some(metric::Value::Counter(n)) => value.counter = Some(*n),
                Some(metric::Value::Gauge(n)) => value.gauge = Some(*n),
                Some(metric::Value::Histogram(of)) => {
                    let (bounds, counts, sum) = (&of.bounds[..], &of.counts[..], of.sum);
                    value.histogram = Some(Histogram { bounds, counts, sum });
                }
                None => {}
            }
            (metric.name.as_str(), value)
        });
        let time = time(message.time_unix_nano);
        MetricsLine { time, delta: message.delta, metrics: metrics.collect() }
    }
}

/// Value, and for a histogram its count and mean.
fn describe(value: &metric::Value) -> String {
    match value {
        metric::Value::Counter(n) => n.to_string(),
        metric::Value::Gauge(n) => n.to_string(),
        metric::Value::Histogram(of) => {
            let count: u64 = of.counts.iter().sum();
            match of.sum.checked_div(count) {
                Some(mean) => format!("{count}, mean {mean}"),
                None => "0".into(),
            }
        }
    }
}

pub(crate) fn metrics(place: &Place, args: MetricsArgs, json: bool) -> Result<ExitCode> {
    let link = place.node("watching metrics")?;
    let live = output::is_live() && !json;
    let interval_ms = u32::try_from(args.interval.max(1)).unwrap_or(u32::MAX);
    let filter = MetricFilter { name_prefix: args.prefix, interval_ms };
    link.with(async |mut client: Client| {
        let mut interrupt = Interrupt::new().map_err(LinkError::SetUp)?;
        let request = StreamMetricsRequest { filter: Some(filter) };
        let streamed = client.control.stream_metrics(request).await.map_err(refused)?;
        let mut messages = streamed.into_inner();
        let (mut now, mut screen) = (BTreeMap::new(), Live::default());
        loop {
            let message = tokio::select! {
                message = messages.message() => message.map_err(refused)?,
                () = interrupt.wait() => break,
            };
            let Some(message) = message else { break };
            if !live {
                output::json_line(MetricsLine::from(&message))?;
                continue;
            }
            for metric in message.metrics {
                if let Some(value) = metric.value {
                    now.insert(metric.name, (metric.unit, describe(&value)));
                }
            }
            let mut table = Table::new();
            table.load_style(TableStyle::new()).set_header(["METRIC", "VALUE", "UNIT"]);
            for (name, (unit, value)) in &now {
                table.add_row([name.clone(), value.clone(), unit.clone()]);
            }
            screen.draw(&table, rows());
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
