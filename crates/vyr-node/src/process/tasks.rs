//! The `tasks` process: both ends of it.
//!
//! Inside (`serve`): make the engine, confine, then take orders until the socket closes. Outside
//! (`TasksProcess`): start it early, so that it gets ready while artifacts are checked; hand it
//! code and descriptors; wait for its report, no longer than the deadline and a grace.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use morpheus::Guidance;
use vyr_task::{
    Access, BoundState, CancelHandle, Engine, EngineConfig, EphemeralState, Input, Job, Limits,
    OnDone, Outcome, Output, Program, Reason, SealedCode, Source, Spill, Work, Workers,
};

use super::confine::{ProcessLimits, confine};
use super::wire::{
    InputFrom, Order, OutputTo, Receiver, Report, RunOrder, Sender, encode, send_one, write_all,
};
use super::{Role, this_binary};
use crate::guidance::GuidanceReport;

/// Time over a task's deadline in which `tasks` must report: ten times what a cancellation may
/// take. After it the process is killed and the task is lost.
const GRACE: Duration = Duration::from_secs(1);

/// Inputs, outputs and logs up to this size travel inside messages.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;

/// Why the process could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TasksError {
    /// It could not be started.
    #[error("cannot start the process that runs tasks")]
    Start(#[source] io::Error),
    /// The socket to it broke.
    #[error("the process that runs tasks does not answer")]
    Talk(#[source] io::Error),
}

/// A task for the process.
#[derive(Debug)]
pub struct RunSpec {
    /// `argv`, the name first.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The limits that apply.
    pub limits: Limits,
    /// Fixed clock and seed.
    pub deterministic: bool,
}

/// The process, from outside. Dropping it kills it.
#[derive(Debug)]
pub struct TasksProcess {
    child: Child,
    socket: UnixStream,
}

impl TasksProcess {
    /// Starts it, for `slots` tasks at once on `workers` threads.
    pub fn start(slots: u32, workers: u32) -> Result<Self, TasksError> {
        let (ours, theirs) = UnixStream::pair().map_err(TasksError::Start)?;
        let child = command(slots, workers, theirs, None).spawn().map_err(TasksError::Start)?;
        Ok(Self { child, socket: ours })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Another handle on the socket to it.
    pub(crate) fn socket(&self) -> Result<UnixStream, TasksError> {
        self.socket.try_clone().map_err(TasksError::Talk)
    }

    /// Runs one task and waits for its end. `input`, `output` and `log` are handed over.
    pub fn run(
        &mut self,
        code: &SealedCode,
        spec: RunSpec,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        log: BorrowedFd<'_>,
    ) -> Result<Running, TasksError> {
        let RunSpec { args, env, limits, deterministic } = spec;
        let deadline = Duration::from_millis(limits.deadline_ms);
        let mut orders = Sender::new(self.socket()?);
        let load = Order::Load { program: 0, kind: code.kind(), args, env };
        let run = Order::Run(RunOrder {
            task: 0,
            program: 0,
            limits,
            deterministic,
            priority: 0,
            input: InputFrom::Descriptor,
            output: OutputTo::Descriptors,
            states: Vec::new(),
        });
        orders
            .send(&load, &[code.as_fd()])
            .and_then(|()| orders.send(&run, &[input, output, log]))
            .map_err(TasksError::Talk)?;
        Ok(Running { socket: self.socket()?, deadline })
    }

    /// Ends it now. It has nothing to save: what it wrote is in pipes, and the rest dies with it.
    /// Taking its address space apart takes the kernel milliseconds, which nobody waits for here.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

/// The command that starts the process, with its end of the socket on stdin, and on stdout that of
/// a socket to `guide` if there is one.
pub(crate) fn command(
    slots: u32,
    workers: u32,
    socket: UnixStream,
    guide: Option<OwnedFd>,
) -> Command {
    let mut command = Command::new(this_binary());
    command
        .arg(Role::Tasks.argument())
        .args([slots.to_string(), workers.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(guide.map_or_else(Stdio::null, Stdio::from));
    command
}

impl Drop for TasksProcess {
    fn drop(&mut self) {
        self.kill();
        // If it is not gone yet, it is this process's zombie until one of the two ends.
        let _ = self.child.try_wait();
    }
}

/// A task that runs in the process.
#[derive(Debug)]
pub struct Running {
    socket: UnixStream,
    deadline: Duration,
}

impl Running {
    /// Something another thread can end the task with.
    pub fn canceller(&self) -> Result<impl Fn() + Send + 'static, TasksError> {
        let socket = self.socket.try_clone().map_err(TasksError::Talk)?;
        Ok(move || {
            let _ = send_one(&socket, &Order::Cancel { task: 0 }, &[]);
        })
    }

    /// Waits for the outcome. A process that died or does not answer in time is a lost task; the
    /// caller kills it.
    pub fn wait(self) -> Result<Outcome, TasksError> {
        let patience = self.deadline.saturating_add(GRACE);
        // The kernel takes no more than this; it is 68 years.
        let patience = patience.min(Duration::from_secs(i32::MAX.unsigned_abs().into()));
        let mut reports = Receiver::new(self.socket);
        reports.set_timeout(Some(patience)).map_err(TasksError::Talk)?;
        let lost = |why: &str| Ok(Outcome::not_run(Reason::Lost, why.to_owned()));
        match reports.next::<Report>() {
            Ok(Some((Report::Done { outcome, .. }, _))) => Ok(*outcome),
            Ok(Some((Report::Spilled { .. } | Report::Guidance(_), _))) => {
                Err(TasksError::Talk(io::Error::other("a report of something else")))
            }
            Ok(None) => lost("the process that ran it died"),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    lost("the process that ran it did not end it in time and was killed")
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                    lost("the process that ran it died")
                }
                _ => Err(TasksError::Talk(e)),
            },
        }
    }
}

/// The life of the process, from inside.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |what: String| {
        eprintln!("vyr tasks: {what}");
        7
    };
    let number = |n: usize| arguments.get(n).and_then(|text| text.parse::<u32>().ok());
    let (Some(slots), Some(threads)) = (number(0), number(1)) else {
        return fail("bad arguments".into());
    };
    // Before confinement, because it opens /proc files; nothing from outside is involved.
    let engine = match Engine::new(EngineConfig::new(slots)) {
        Ok(engine) => engine,
        Err(e) => return fail(e.to_string()),
    };
    let guide = match guide_socket() {
        Ok(guide) => guide,
        Err(e) => return fail(format!("no connection to guide: {e}")),
    };
    if let Err(e) = confine(Role::Tasks, ProcessLimits::default()) {
        return fail(e.to_string());
    }
    let socket = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(fd) => UnixStream::from(fd),
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    let guidance = Guiding::start(&engine, threads, guide);
    match take_orders(&engine, threads, socket, guidance) {
        Ok(()) => 0,
        Err(e) => fail(format!("socket: {e}")),
    }
}

/// The socket to `guide` on stdout, if there is one.
fn guide_socket() -> io::Result<Option<OwnedFd>> {
    let out = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&out)?.st_mode);
    if kind != rustix::fs::FileType::Socket {
        return Ok(None);
    }
    // Now, because a confined process sets up no sockets.
    morpheus::set_patience(&out)?;
    Ok(Some(out))
}

/// The guidance as it comes about: `guide` loads its programs while tasks already run.
#[derive(Clone)]
struct Guiding {
    engine: Engine,
    /// Why there is none, so far.
    why: Arc<Mutex<String>>,
}

impl Guiding {
    fn start(engine: &Engine, threads: u32, guide: Option<OwnedFd>) -> Self {
        let why = if guide.is_some() { "guide is being asked" } else { "it is switched off" };
        let guiding = Self { engine: engine.clone(), why: Arc::new(Mutex::new(why.into())) };
        if let Some(guide) = guide {
            let of_thread = guiding.clone();
            let connect = move || {
                // One thread more than run guests: one always reads.
                let threads = threads as usize + 1;
                let over = |options| Guidance::over(guide, options);
                if let Err(e) = of_thread.engine.guide(threads, over) {
                    *lock(&of_thread.why) = e.to_string();
                }
            };
            if let Err(e) = std::thread::Builder::new().name("vyr-guiding".into()).spawn(connect) {
                *lock(&guiding.why) = e.to_string();
            }
        }
        guiding
    }

    fn report(&self) -> GuidanceReport {
        match self.engine.guidance() {
            Some(guidance) => GuidanceReport::of(guidance.report()),
            None => GuidanceReport::off(lock(&self.why).clone()),
        }
    }
}

/// A program as it was loaded, or why it cannot run.
type Loaded = Result<(Arc<Program>, Arc<Arguments>), String>;

struct Arguments {
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// The reports of all workers, gathered while one of them writes.
struct Reports {
    socket: UnixStream,
    gathered: Mutex<Vec<u8>>,
    writing: Mutex<Vec<u8>>,
}

impl Reports {
    fn done(&self, task: u64, mut outcome: Outcome) {
        let output = std::mem::take(&mut outcome.output);
        let log = std::mem::take(&mut outcome.log);
        let done = Report::Done { task, outcome: Box::new(outcome), output, log };
        // All parts are bounded below the largest message.
        let _ = encode(&done, 0, &mut lock(&self.gathered));
    }

    fn guidance(&self, report: GuidanceReport) {
        // Of a thousand workers it may be larger than a message; then nothing is said.
        let _ = encode(&Report::Guidance(Box::new(report)), 0, &mut lock(&self.gathered));
    }

    /// Writes what was gathered. When another thread is writing, it writes this too.
    fn flush(&self) {
        while !lock(&self.gathered).is_empty() {
            let Ok(mut writing) = self.writing.try_lock() else { return };
            std::mem::swap(&mut *writing, &mut lock(&self.gathered));
            // When nobody listens any more, the process is about to be killed.
            let _ = write_all(&self.socket, &writing);
            writing.clear();
        }
    }

    /// Makes a pipe for the output of `task` and gives its reading end away.
    fn spill(&self, task: u64) -> io::Result<OwnedFd> {
        let (reading, writing) = crate::pump::pipe()?;
        let mut alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *alone, &mut lock(&self.gathered));
        write_all(&self.socket, &alone)?;
        alone.clear();
        send_one(&self.socket, &Report::Spilled { task }, &[reading.as_fd()])?;
        Ok(writing)
    }
}

/// Jobs read at a time before they are begun: enough for every worker to take several at once.
const JOBS_AT_ONCE: usize = 64;

/// The orders: what was loaded and made, and the jobs that follow from the rest. It never writes
/// to the socket: the core reads no reports while it waits for its orders to be taken.
struct Orders {
    engine: Engine,
    guiding: Guiding,
    socket: Receiver,
    reports: Arc<Reports>,
    programs: HashMap<u64, Loaded>,
    states: HashMap<u64, EphemeralState>,
    cancels: Arc<Mutex<HashMap<u64, CancelHandle>>>,
}

impl Source for Orders {
    fn next(&mut self, into: &mut VecDeque<(Work, OnDone)>) -> io::Result<bool> {
        let Some((order, descriptors)) = self.socket.next::<Order>()? else { return Ok(false) };
        self.take(order, descriptors, into)?;
        while into.len() < JOBS_AT_ONCE
            && let Some((order, descriptors)) = self.socket.buffered::<Order>()?
        {
            self.take(order, descriptors, into)?;
        }
        Ok(true)
    }
}

impl Orders {
    fn take(
        &mut self,
        order: Order,
        descriptors: Vec<OwnedFd>,
        into: &mut VecDeque<(Work, OnDone)>,
    ) -> io::Result<()> {
        let mut descriptors = descriptors.into_iter();
        match order {
            Order::Load { program, kind, args, env } => {
                let code = descriptors.next().ok_or_else(|| io::Error::other("no code"))?;
                let loaded = SealedCode::receive(code, kind)
                    .map_err(|e| e.to_string())
                    .and_then(|code| self.engine.load(code).map_err(|e| e.to_string()));
                let arguments = Arc::new(Arguments { args, env });
                self.programs.insert(program, loaded.map(|loaded| (Arc::new(loaded), arguments)));
            }
            Order::Unload { program } => {
                self.programs.remove(&program);
            }
            Order::MakeState { state, bytes_max } => {
                self.states.insert(state, EphemeralState::new(bytes_max));
            }
            // Tasks that use it hold it until they have ended.
            Order::DropState { state } => {
                self.states.remove(&state);
            }
            Order::Cancel { task } => {
                if let Some(cancel) = lock(&self.cancels).get(&task) {
                    cancel.cancel();
                }
            }
            Order::TellGuidance => {
                let (guiding, reports) = (self.guiding.clone(), Arc::clone(&self.reports));
                // Not from here, see above; it is a rare question.
                let tell = move || {
                    reports.guidance(guiding.report());
                    reports.flush();
                };
                std::thread::Builder::new().name("vyr-telling".into()).spawn(tell)?;
            }
            Order::Run(run) => into.push_back(self.job(run, descriptors)?),
        }
        Ok(())
    }

    fn job(
        &self,
        run: RunOrder,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> io::Result<(Work, OnDone)> {
        let task = run.task;
        let (program, arguments) = match self.programs.get(&run.program) {
            Some(Ok(program)) => program.clone(),
            Some(Err(why)) => {
                let outcome = Outcome::not_run(Reason::Invalid, why.clone());
                let reports = Arc::clone(&self.reports);
                let done = Box::new(move |outcome| reports.done(task, outcome));
                return Ok((Work::Known(outcome), done));
            }
            None => return Err(io::Error::other("no such program")),
        };
        let mut next = || descriptors.next().ok_or_else(|| io::Error::other("too few"));
        let input = match run.input {
            InputFrom::Inline(bytes) => Input::Bytes(bytes.into()),
            InputFrom::Descriptor => Input::Descriptor(next()?),
        };
        let (output, log) = match run.output {
            OutputTo::Descriptors => (Output::Descriptor(next()?), Some(next()?)),
            OutputTo::Report => {
                let reports = Arc::clone(&self.reports);
                let spill = Spill::new(move || reports.spill(task));
                (Output::Spill(INLINE_BYTES_MAX, spill), None)
            }
        };
        let bind = |(state, name, writable): (u64, String, bool)| {
            let access = if writable { Access::ReadWrite } else { Access::ReadOnly };
            let state = self.states.get(&state)?.clone();
            Some(BoundState { name, state, access })
        };
        let Some(bound) = run.states.into_iter().map(bind).collect() else {
            return Err(io::Error::other("no such state"));
        };
        let cancel = CancelHandle::new();
        lock(&self.cancels).insert(task, cancel.clone());
        let job = Job {
            args: arguments.args.clone(),
            env: arguments.env.clone(),
            input,
            output,
            log,
            limits: run.limits,
            deterministic: run.deterministic,
            priority: run.priority,
            cancel,
            states: bound,
            ..Job::new(program)
        };
        let (reports, cancels) = (Arc::clone(&self.reports), Arc::clone(&self.cancels));
        let done = Box::new(move |outcome| {
            lock(&cancels).remove(&task);
            reports.done(task, outcome);
        });
        Ok((Work::Run(Box::new(job)), done))
    }
}

fn take_orders(
    engine: &Engine,
    threads: u32,
    socket: UnixStream,
    guiding: Guiding,
) -> io::Result<()> {
    let reports = Arc::new(Reports {
        socket: socket.try_clone()?,
        gathered: Mutex::default(),
        writing: Mutex::default(),
    });
    let orders = Orders {
        engine: engine.clone(),
        guiding,
        socket: Receiver::new(socket),
        reports: Arc::clone(&reports),
        programs: HashMap::new(),
        states: HashMap::new(),
        cancels: Arc::default(),
    };
    Workers::serve(engine, threads as usize, orders, move || reports.flush())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
