//! One task, from a job to its outcome.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::Sleep;
use vyr_base::{Digest, format_bytes};
use wasmtime::{CallHook, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::control::{CancelHandle, Control, Stop, Stopped};
use crate::engine::{Engine, Entry, Inner, Loaded, Program};
use crate::guidance::{is_short, turn};
use crate::limits::{Limits, Meter};
use crate::outcome::{Outcome, Reason, State, Usage};
use crate::state::{BoundState, Files};
use crate::stdio::{GuestInput, GuestOutput, OutputRules, Sink, Spill};

/// The last bytes of a task's log that are kept.
const LOG_TAIL_BYTES: usize = 64 << 10;

/// Where standard input comes from.
#[derive(Debug)]
pub enum Input {
    /// These bytes; empty for none.
    Bytes(Bytes),
    /// A file, or a pipe that is read as it fills.
    Descriptor(OwnedFd),
}

/// What becomes of standard output.
#[derive(Debug)]
pub enum Output {
    /// Counted and, if asked, hashed; then gone.
    Discard,
    /// Kept in `Outcome::output`. The output limit bounds it.
    Keep,
    /// Kept in `Outcome::output` up to so many bytes. With more, `Outcome::output` stays empty and
    /// all of it is written to the descriptor that is asked for then.
    Spill(usize, Spill),
    /// Written to a file or a pipe as it comes.
    Descriptor(OwnedFd),
}

/// One run of a program.
#[derive(Debug)]
pub struct Job {
    /// What runs.
    pub program: Arc<Program>,
    /// `argv`, the name first.
    pub args: Vec<String>,
    /// The environment: all of it.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub input: Input,
    /// Standard output.
    pub output: Output,
    /// Whether `Outcome::output_digest` is wanted.
    pub hash_output: bool,
    /// Standard error goes here as it comes, besides the tail that is kept.
    pub log: Option<OwnedFd>,
    /// The limits that apply.
    pub limits: Limits,
    /// Fixed clock and seed.
    pub deterministic: bool,
    /// The states it sees at `/state/<name>` and through `wasi:keyvalue`. The job holds them, then
    /// the task; none is held once the outcome is there.
    pub states: Vec<BoundState>,
    /// Ends it early.
    pub cancel: CancelHandle,
    /// Higher: it may run longer before it is asked to yield to others.
    pub priority: i32,
}

impl Job {
    /// A job with no arguments, no input, no states, output kept, default limits.
    pub fn new(program: Arc<Program>) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            input: Input::Bytes(Bytes::new()),
            output: Output::Keep,
            hash_output: false,
            log: None,
            limits: Limits::default(),
            deterministic: false,
            states: Vec::new(),
            cancel: CancelHandle::new(),
            priority: 0,
        }
    }
}

/// What a Wasmtime store holds of a task.
pub(crate) struct TaskState {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) files: Files,
    meter: Meter,
    /// How deep the guest is in calls of the host.
    pub(crate) host_calls: u32,
}

#[cfg(test)]
impl TaskState {
    /// A task with nothing but `files`, whose calls are made by a test.
    pub(crate) fn of_files(files: Files) -> Self {
        Self { wasi: WasiCtxBuilder::new().build_p1(), files, meter: Meter::new(0), host_calls: 0 }
    }
}

impl WasiView for TaskState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiView::ctx(&mut self.wasi)
    }
}

impl Engine {
    /// Runs `job` to its end, whatever that is. Needs a tokio runtime with time and I/O.
    ///
    /// Dropping the future ends the guest at its next safe point and frees its slot.
    pub async fn run(&self, job: Job) -> Outcome {
        let _running = match self.enter() {
            Ok(running) => running,
            Err(e) => return Outcome::not_run(Reason::Internal, e.to_string()),
        };
        match job.program.on(self) {
            Ok(loaded) => run_on(self, &loaded, job).await,
            Err(e) => Outcome::not_run(Reason::Invalid, e.to_string()),
        }
    }
}

async fn run_on(engine: &Engine, loaded: &Loaded, job: Job) -> Outcome {
    let control = Arc::new(Control::new(job.limits, job.cancel.clone()));
    let streams = match Streams::new(&control, job.input, job.output, job.log, job.hash_output) {
        Ok(streams) => streams,
        Err(e) => return Outcome::not_run(Reason::Internal, format!("cannot set up stdio: {e}")),
    };
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdin(streams.input.clone())
        .stdout(streams.output.clone())
        .stderr(streams.log.clone())
        .args(&job.args)
        .envs(&job.env);
    if job.deterministic {
        deterministic(&mut wasi);
    }
    let has_states = !job.states.is_empty();
    let state = TaskState {
        wasi: wasi.build_p1(),
        files: Files::new(job.states, Arc::clone(&control)),
        meter: Meter::new(job.limits.memory_bytes),
        host_calls: 0,
    };
    let mut store = Store::new(&loaded.pool.wasmtime, state);
    store.limiter(|state| &mut state.meter);
    store.set_epoch_deadline(1);
    let (at_epoch, inner) = (Arc::clone(&control), Arc::clone(engine.inner()));
    let mut ticks = inner.ticks();
    store.epoch_deadline_callback(move |store| {
        let ticked = std::mem::replace(&mut ticks, inner.ticks()) != ticks;
        let host_calls = store.data().host_calls;
        let mut asked = hinted(host_calls);
        if asked && morpheus::yield_to_threads() {
            // Another thread had this processor, and may have brought a task; the epoch that told of
            // it is over for this guest. Is there none, it need not give way to tasks.
            asked = hinted(host_calls) || (inner.waits() && !is_short());
        }
        if !asked && !ticked {
            // Another worker was hinted.
            return Ok(UpdateDeadline::Continue(1));
        }
        at_epoch.check_at_epoch().map_err(wasmtime::Error::new)?;
        // Yielding lets others on this thread run and lets a canceller's drop take effect.
        Ok(UpdateDeadline::Yield(1))
    });
    // What the host does for a guest is not interrupted.
    store.call_hook(|mut store, hook| {
        let calls = &mut store.data_mut().host_calls;
        match hook {
            CallHook::CallingHost => *calls += 1,
            CallHook::ReturningFromHost => *calls = calls.saturating_sub(1),
            _ => return Ok(()),
        }
        morpheus::in_host_call(*calls > 0);
        Ok(())
    });

    let ended = {
        let guest = async {
            let result = call(&mut store, loaded, has_states).await;
            // What the guest wrote before it ended is output, however it ended.
            let drained = match streams.output.drain().await {
                Ok(()) => streams.log.drain().await,
                Err(e) => Err(e),
            };
            (result, drained)
        };
        let priority = job.priority;
        Guarded {
            guest: pin!(guest),
            control: &control,
            priority,
            engine: engine.inner(),
            began: false,
            in_host: false,
            timer: None,
        }
        .await
    };
    let ended = ended.map(|(result, drained)| {
        result.and_then(|()| drained.map_err(|e| wasmtime::format_err!("cannot write output: {e}")))
    });
    let verdict = Verdict::new(ended, &control, &store.data().meter);
    let memory_peak_bytes = store.data().meter.peak_bytes();
    drop(store);
    streams.finish(
        verdict,
        Usage {
            cpu_us: control.cpu_us(),
            run_us: u64::try_from(control.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes,
            ..Usage::default()
        },
    )
}

/// Whether this thread is asked to yield, at an epoch check of a guest in so many host calls.
fn hinted(host_calls: u32) -> bool {
    // The check is a host call itself, and the safe point; a call around it is to be finished.
    if host_calls > 1 {
        return false;
    }
    let before = morpheus::in_host_call(false);
    let hinted = morpheus::checkpoint();
    morpheus::in_host_call(before);
    hinted
}

async fn call(
    store: &mut Store<TaskState>,
    loaded: &Loaded,
    has_states: bool,
) -> wasmtime::Result<()> {
    match &loaded.entry {
        Entry::Module(module) => {
            let pre = if has_states { module.with_states(&loaded.pool)? } else { &module.pre };
            let instance = pre.instantiate_async(&mut *store).await?;
            let start = instance
                .get_module_export(&mut *store, &module.start)
                .and_then(wasmtime::Extern::into_func)
                .ok_or_else(|| wasmtime::format_err!("_start is not a function"))?;
            start.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await
        }
        Entry::Component(pre) => {
            let command = pre.instantiate_async(&mut *store).await?;
            match command.wasi_cli_run().call_run(&mut *store).await? {
                Ok(()) => Ok(()),
                Err(()) => Err(wasmtime::Error::new(I32Exit(1))),
            }
        }
    }
}

/// Fixed clock and seed: both clocks begin at a fixed time and step a microsecond a reading, and
/// all randomness repeats the digest of one sentence. Same input, same output.
fn deterministic(wasi: &mut WasiCtxBuilder) {
    use std::sync::atomic::{AtomicU64, Ordering};
    use wasmtime_wasi::random::Deterministic;
    use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

    /// 2000-01-01T00:00:00Z, in seconds of Unix time: plainly not now.
    const START_S: u64 = 946_684_800;

    #[derive(Default)]
    struct Stepping(AtomicU64);
    impl Stepping {
        fn step(&self) -> u64 {
            self.0.fetch_add(1_000, Ordering::Relaxed)
        }
    }
    impl HostWallClock for Stepping {
        fn resolution(&self) -> Duration {
            Duration::from_micros(1)
        }
        fn now(&self) -> Duration {
            Duration::from_secs(START_S) + Duration::from_nanos(self.step())
        }
    }
    impl HostMonotonicClock for Stepping {
        fn resolution(&self) -> u64 {
            1_000
        }
        fn now(&self) -> u64 {
            self.step()
        }
    }
    let seed = Digest::of(b"vyr deterministic seed 1");
    let seed = seed.as_bytes();
    let number = u128::from_le_bytes(std::array::from_fn(|i| seed[i]));
    wasi.wall_clock(Stepping::default())
        .monotonic_clock(Stepping::default())
        .secure_random(Deterministic::new(seed.to_vec()))
        .insecure_random(Deterministic::new(seed.to_vec()))
        .insecure_random_seed(number);
}

struct Streams {
    input: GuestInput,
    output: GuestOutput,
    log: GuestOutput,
}

impl Streams {
    fn new(
        control: &Arc<Control>,
        input: Input,
        output: Output,
        log: Option<OwnedFd>,
        hash: bool,
    ) -> std::io::Result<Self> {
        let input = match input {
            Input::Bytes(bytes) => GuestInput::memory(bytes, control),
            Input::Descriptor(fd) => GuestInput::descriptor(fd, control)?,
        };
        let sink = match output {
            Output::Discard => Sink::Discard,
            Output::Keep => Sink::Keep,
            Output::Spill(bytes, open) => Sink::Spill(bytes, open),
            Output::Descriptor(fd) => Sink::Descriptor(fd),
        };
        let bytes_max = Some(control.limits.output_bytes_max);
        let output =
            GuestOutput::new(OutputRules { sink, bytes_max, hash, tail_bytes: 0 }, control)?;
        let sink = log.map_or(Sink::Discard, Sink::Descriptor);
        let rules = OutputRules { sink, bytes_max: None, hash: false, tail_bytes: LOG_TAIL_BYTES };
        let log = GuestOutput::new(rules, control)?;
        Ok(Self { input, output, log })
    }

    fn finish(self, verdict: Verdict, usage: Usage) -> Outcome {
        let output = self.output.finish();
        let log = self.log.finish();
        Outcome {
            state: verdict.state,
            reason: verdict.reason,
            exit_code: verdict.exit_code,
            message: verdict.message,
            usage: Usage {
                input_bytes: self.input.bytes_read(),
                output_bytes: output.bytes,
                log_bytes: log.bytes,
                ..usage
            },
            output_digest: output.digest,
            output: output.kept,
            log: log.tail,
        }
    }
}

/// A guest's future under its control: metered while it runs, ended while it waits.
struct Guarded<'a, F> {
    guest: Pin<&'a mut F>,
    control: &'a Control,
    priority: i32,
    engine: &'a Inner,
    /// It had a turn.
    began: bool,
    /// It waits in the middle of a host call.
    in_host: bool,
    /// Made only when the guest first waits; most never do.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // The epoch of a hint that came between two turns is over.
        if !this.in_host && morpheus::checkpoint() && this.began && this.engine.waits() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.began = true;
        let start = Instant::now();
        turn(this.priority, this.control.cpu_left_ns(), this.control.cpu_us() * 1_000);
        morpheus::in_host_call(this.in_host);
        let polled = this.guest.as_mut().poll(cx);
        this.in_host = morpheus::in_host_call(false);
        this.control.slice_ends(start);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Ok(output));
        }
        // The order matters: a cancellation after this line wakes us, one before it is seen by
        // the check.
        this.control.cancel().wake_on_cancel(cx.waker());
        if this.control.stopped().is_some() || this.control.check().is_err() {
            return Poll::Ready(Err(Stopped));
        }
        let deadline = this.control.deadline;
        let timer =
            this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(this.control.stop(Stop::Limit(Reason::Deadline)))),
            Poll::Pending => Poll::Pending,
        }
    }
}

struct Verdict {
    state: State,
    reason: Option<Reason>,
    exit_code: Option<i32>,
    message: Option<String>,
}

impl Verdict {
    fn new(ended: Result<wasmtime::Result<()>, Stopped>, control: &Control, meter: &Meter) -> Self {
        match (control.stopped(), ended) {
            (Some(Stop::Cancelled), _) => {
                Self { state: State::Cancelled, reason: None, exit_code: None, message: None }
            }
            (Some(Stop::Limit(reason)), _) => Self::failed(reason, limit_message(reason, control)),
            (None, Ok(Ok(()))) => Self::exited(0),
            (None, Ok(Err(error))) => Self::of_error(&error, meter),
            (None, Err(Stopped)) => Self::failed(Reason::Internal, Stopped.to_string()),
        }
    }

    fn exited(code: i32) -> Self {
        let failed = code != 0;
        Self {
            state: if failed { State::Failed } else { State::Completed },
            reason: failed.then_some(Reason::Exit),
            exit_code: Some(code),
            message: failed.then(|| format!("exited with {code}")),
        }
    }

    fn failed(reason: Reason, message: String) -> Self {
        let message = Some(message);
        Self { state: State::Failed, reason: Some(reason), exit_code: None, message }
    }

    fn of_error(error: &wasmtime::Error, meter: &Meter) -> Self {
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            return Self::exited(*code);
        }
        if let Some(wanted) = meter.memory_denied {
            let allowed = format_bytes(meter.limit_bytes());
            return Self::failed(
                Reason::Memory,
                format!("asked for {} of memory, {allowed} allowed", format_bytes(wanted)),
            );
        }
        if let Some(wanted) = meter.table_denied {
            let allowed = crate::settings::TABLE_ELEMENTS_MAX;
            return Self::failed(
                Reason::Table,
                format!("asked for a table of {wanted} elements, {allowed} allowed"),
            );
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Self::failed(
                Reason::Stack,
                format!(
                    "recursed past its stack of {}",
                    format_bytes(crate::settings::WASM_STACK_BYTES as u64)
                ),
            ),
            Some(trap) => Self::failed(Reason::Trap, format!("trapped: {trap}")),
            None => Self::failed(Reason::Internal, one_line(&format!("{error:#}"))),
        }
    }
}

fn limit_message(reason: Reason, control: &Control) -> String {
    let limits = &control.limits;
    match reason {
        Reason::Deadline => format!("ran longer than its deadline of {} ms", limits.deadline_ms),
        Reason::Cpu => format!("used its {} ms of processor time", limits.cpu_ms),
        Reason::Output => {
            format!("wrote more than {} of output", format_bytes(limits.output_bytes_max))
        }
        other => format!("stopped: {other:?}"),
    }
}

/// Errors quote the guest's own names; they must not bring control characters along.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
