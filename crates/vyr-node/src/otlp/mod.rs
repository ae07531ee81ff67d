//! Export to an OpenTelemetry collector: spans and metrics of a node, over OTLP.
//!
//! ```text
//!  core --try_send--> intake --> queue (bounded) --> batches --attempts, pauses--> collector
//!                                  metrics, each interval --attempts, pauses-->       "
//!  \_ its thread    \_ all of this on one thread `vyr-otlp` with a runtime of its own
//! ```
//!
//! Invariants:
//! 1. No task waits for a collector. The core never waits for this thread, and this thread holds
//!    nothing of the node's but its counters.
//! 2. What waits is bounded (`OTEL_BSP_MAX_QUEUE_SIZE`, with what is under way). A span that was
//!    delivered to nobody is in `vyr.otlp.dropped`; one that a collector took is in
//!    `vyr.otlp.sent`; there is no third.
//! 3. An attempt ends in `OTEL_EXPORTER_OTLP_TIMEOUT`, a batch in `OTEL_BSP_EXPORT_TIMEOUT`, all
//!    of it in two seconds once the node stops.
//! 4. No value of a header, and no text of an answer, is printed or kept.
//!
//! A batch whose answer was lost is sent again, so a collector may see a span twice, with the same
//! id. Spans of a trace that its caller does not sample are not exported, as `parentbased_always_on`
//! has it. Compression is not supported, and asking for it changes nothing.

mod error;
mod link;
mod map;
mod queue;
mod settings;

use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use error::OtlpError;

use crate::node::{Delivered, Metrics, Node, SpanFilter};
use link::{Export, Fault, Link};
use map::Origins;
use queue::Queue;
use settings::Settings;

/// Attempts for one batch.
const ATTEMPTS_MAX: u32 = 5;

/// The first pause between attempts; each next is twice as long. Half of it is left to chance, so
/// that many nodes do not come back in step.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, also of those that a collector asks for.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What is left of spans, and then of metrics, has this long each when the node stops.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Spans moved at once from the node to the queue.
const INTAKE: usize = 256;

/// A running exporter. Dropping it stops it as `stop` does.
#[derive(Debug)]
pub struct Otlp {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What an exporter says of itself; outlives it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Shared>);

/// What is said of an exporter whose last export failed begins so.
pub const FAILING: &str = "failing: ";

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Metrics { otlp_sent, otlp_dropped, .. } = &*self.0.metrics;
        match self.0.fault() {
            Some(why) => write!(f, "{FAILING}{why}")?,
            None => write!(f, "exporting")?,
        }
        let (sent, dropped) =
            (otlp_sent.load(Ordering::Relaxed), otlp_dropped.load(Ordering::Relaxed));
        write!(f, "; {sent} spans sent, {dropped} dropped")
    }
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    stop: Notify,
    /// Why the last export failed; `None` if it did not.
    fault: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

impl Otlp {
    /// Starts to export what `node` does, if the environment names a collector.
    ///
    /// Holds no handle of the node: that one ends when its other handles do, and this with it.
    /// Blocks until the node has taken note, so that every span from now on is exported.
    pub fn start(node: Arc<Node>) -> Result<Option<Self>, OtlpError> {
        let get = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
        Self::start_with(node, get)
    }

    /// As [`Otlp::start`], with `get` in the environment's place.
    pub fn start_with(
        node: Arc<Node>,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        let Some(settings) = Settings::read(get)? else { return Ok(None) };
        let metrics = Arc::clone(node.metrics());
        let queue = Queue::new(settings.queue_max, settings.batch_max, Arc::clone(&metrics));
        let (stop, fault) = (Notify::new(), Mutex::default());
        let shared = Arc::new(Shared { queue, stop, fault, metrics });
        let (ready, started) = sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("vyr-otlp".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(e) => return drop(ready.send(Err(OtlpError::Thread(e)))),
                };
                runtime.block_on(async {
                    match Exporter::new(node, settings, of_thread).await {
                        Ok((exporter, spans)) => {
                            let _ = ready.send(Ok(()));
                            exporter.run(spans).await;
                        }
                        Err(e) => drop(ready.send(Err(e))),
                    }
                });
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
            })
            .map_err(OtlpError::Thread)?;
        match started.recv() {
            Ok(Ok(())) => Ok(Some(Self { shared, thread: Some(thread) })),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(OtlpError::Stopping),
        }
    }

    /// Why the last export failed, in words that hold no secret; `None` if it did not.
    pub fn fault(&self) -> Option<String> {
        self.shared.fault()
    }

    /// How it does, for as long as somebody wants to know.
    pub fn health(&self) -> Health {
        Health(Arc::clone(&self.shared))
    }

    /// Spans that wait or are under way.
    pub fn held(&self) -> usize {
        self.shared.queue.held()
    }

    /// Sends what is left, for at most two seconds, and ends. To be called once the node has
    /// stopped: its last spans are then among what is left. Blocks.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread runs.
struct Exporter {
    shared: Arc<Shared>,
    settings: Settings,
    origins: Arc<Origins>,
    since: Timestamp,
    traces: Option<Link>,
    metrics: Option<Link>,
}

impl Exporter {
    async fn new(
        node: Arc<Node>,
        mut settings: Settings,
        shared: Arc<Shared>,
    ) -> Result<(Self, Option<mpsc::Receiver<Delivered>>), OtlpError> {
        let traces = settings.traces.take().map(Link::new).transpose()?;
        let metrics = settings.metrics.take().map(Link::new).transpose()?;
        let spans = match traces {
            Some(_) => {
                let watched = node.subscribe(SpanFilter::default()).await;
                Some(watched.map_err(|_| OtlpError::Stopping)?)
            }
            None => None,
        };
        let origins = Arc::new(Origins::new(node.info(), &settings.resource));
        let up = SignedDuration::try_from(node.uptime()).unwrap_or_default();
        let since = Timestamp::now().checked_sub(up).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok((Self { shared, settings, origins, since, traces, metrics }, spans))
    }

    /// Exports until the node ends or `stop` is called, then what is left.
    async fn run(self, spans: Option<mpsc::Receiver<Delivered>>) {
        let Self { shared, settings, origins, since, traces, metrics } = self;
        let (close_traces, traces_closed) = watch::channel(());
        let (close_metrics, metrics_closed) = watch::channel(());
        let most = settings.export_max;
        let sending = traces.map(|link| {
            let (shared, origins) = (Arc::clone(&shared), Arc::clone(&origins));
            let delay = settings.batch_delay;
            tokio::spawn(send_spans(shared, origins, link, delay, most, traces_closed))
        });
        let measuring = metrics.map(|link| {
            let (shared, interval) = (Arc::clone(&shared), settings.metric_interval);
            tokio::spawn(send_metrics(shared, origins, link, since, interval, most, metrics_closed))
        });
        match spans {
            Some(spans) => take_in(&shared, spans).await,
            None => shared.stop.notified().await,
        }
        for (close, task) in [(close_traces, sending), (close_metrics, measuring)] {
            drop(close);
            if let Some(mut task) = task
                && timeout(FLUSH_MAX, &mut task).await.is_err()
            {
                task.abort();
                let _ = task.await;
            }
            shared.queue.abandon();
        }
    }
}

/// Moves spans from the node to the queue, faster than the node makes them.
async fn take_in(shared: &Shared, mut spans: mpsc::Receiver<Delivered>) {
    let mut some = Vec::with_capacity(INTAKE);
    loop {
        let taken = tokio::select! {
            biased;
            () = shared.stop.notified() => {
                // What the node has given is still there to be read; more is not taken.
                spans.close();
                spans.recv_many(&mut some, usize::MAX).await
            }
            taken = spans.recv_many(&mut some, INTAKE) => taken,
        };
        if taken == 0 {
            return;
        }
        for Delivered { span, dropped } in some.drain(..) {
            shared.queue.dropped(dropped);
            if span.sampled {
                shared.queue.push(span);
            }
        }
    }
}

/// Sends batches as they fill, and what there is each `delay`.
async fn send_spans(
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    mut link: Link,
    delay: Duration,
    most: Duration,
    mut closed: watch::Receiver<()>,
) {
    let mut due = Instant::now() + delay;
    loop {
        let (all, last) = tokio::select! {
            _ = closed.changed() => (true, true),
            () = sleep_until(due) => (true, false),
            () = shared.queue.batch_ready() => (false, false),
        };
        while let Some(batch) = shared.queue.take(all) {
            match deliver(&mut link, &origins.traces(&batch), most).await {
                Ok(rejected) => {
                    shared.queue.sent(rejected);
                    shared.note(None);
                }
                Err(fault) => {
                    shared.queue.lost();
                    shared.note(Some(fault));
                }
            }
        }
        if last {
            return;
        }
        if all {
            due = Instant::now() + delay;
        }
    }
}

/// Sends all metrics each `interval`, and once more at the end.
async fn send_metrics(
    shared: Arc<Shared>,
    origins: Arc<Origins>,
    mut link: Link,
    since: Timestamp,
    interval: Duration,
    most: Duration,
    mut closed: watch::Receiver<()>,
) {
    loop {
        let last = tokio::select! {
            _ = closed.changed() => true,
            () = sleep(interval) => false,
        };
        let guidance = shared.metrics.guidance().workers().to_vec();
        let request = origins.metrics(shared.metrics.read(), &guidance, since, Timestamp::now());
        // What is lost is not missed: the next request counts from the same start.
        let outcome = deliver(&mut link, &request, most).await;
        shared.note(outcome.err());
        if last {
            return;
        }
    }
}

/// Sends one request, again if that may help: at most `ATTEMPTS_MAX` times, and for at most `most`.
async fn deliver<T: Export>(link: &mut Link, request: &T, most: Duration) -> Result<u64, Fault> {
    let attempts = async {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            match link.send(request).await {
                Err(fault) if fault.again => {
                    sleep(fault.after.unwrap_or_else(|| jittered(pause)).min(PAUSE_MAX)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                outcome => return outcome,
            }
        }
        link.send(request).await
    };
    timeout(most, attempts).await.unwrap_or_else(|_| Err(Fault::late()))
}

/// Between a half and the whole of `pause`.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [u8::MAX];
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}

impl Shared {
    fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, fault: Option<Fault>) {
        let why = fault.map(|fault| fault.why);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
