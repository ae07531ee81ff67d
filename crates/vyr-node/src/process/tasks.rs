//! The `tasks` process: both ends of it.
//!
//! Inside (`serve`): make the engine, confine, then take orders until the socket closes. Outside
//! (`TasksProcess`): start it early, so that it gets ready while artifacts are checked; hand it
//! code and descriptors; wait for its report, no longer than the deadline and a grace.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vyr_task::{
    CancelHandle, Engine, EngineConfig, Input, Job, Limits, Outcome, Output, Program, Reason,
    SealedCode, Workers,
};

use super::confine::{ProcessLimits, confine};
use super::wire::{Order, Report, RunOrder, receive, send};
use super::{Role, this_binary};

/// Time over a task's deadline in which `tasks` must report: ten times what a cancellation may
/// take. After it the process is killed and the task is lost.
const GRACE: Duration = Duration::from_secs(1);

/// Jobs queued in the process; the caller bounds what it sends.
const QUEUE: usize = 64;

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
        let child = Command::new(this_binary())
            .arg(Role::Tasks.argument())
            .args([slots.to_string(), workers.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(TasksError::Start)?;
        Ok(Self { child, socket: ours })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
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
        let deadline = Duration::from_millis(spec.limits.deadline_ms);
        let load = Order::Load { program: 0, kind: code.kind() };
        send(&self.socket, &load, &[code.as_fd()]).map_err(TasksError::Talk)?;
        let RunSpec { args, env, limits, deterministic } = spec;
        let order = RunOrder { program: 0, args, env, limits, deterministic };
        send(&self.socket, &Order::Run { task: 0, spec: order }, &[input, output, log])
            .map_err(TasksError::Talk)?;
        let socket = self.socket.try_clone().map_err(TasksError::Talk)?;
        Ok(Running { socket, deadline })
    }
}

impl TasksProcess {
    /// Ends it now. It has nothing to save: what it wrote is in pipes, and the rest dies with it.
    /// Taking its address space apart takes the kernel milliseconds, which nobody waits for here.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }
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
            let _ = send(&socket, &Order::Cancel { task: 0 }, &[]);
        })
    }

    /// Waits for the outcome. A process that died or does not answer in time is a lost task; the
    /// caller kills it.
    pub fn wait(self) -> Result<Outcome, TasksError> {
        let patience = self.deadline.saturating_add(GRACE);
        // The kernel takes no more than this; it is 68 years.
        let patience = patience.min(Duration::from_secs(i32::MAX.unsigned_abs().into()));
        self.socket.set_read_timeout(Some(patience)).map_err(TasksError::Talk)?;
        let lost = |why: &str| Ok(Outcome::not_run(Reason::Lost, why.to_owned()));
        match receive::<Report>(&self.socket) {
            Ok(Some((Report::Done { outcome, .. }, _))) => Ok(outcome),
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
    if let Err(e) = confine(Role::Tasks, ProcessLimits::default()) {
        return fail(e.to_string());
    }
    let socket = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(fd) => Arc::new(UnixStream::from(fd)),
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    match take_orders(&engine, threads, &socket) {
        Ok(()) => 0,
        Err(e) => fail(format!("socket: {e}")),
    }
}

fn take_orders(engine: &Engine, threads: u32, socket: &Arc<UnixStream>) -> io::Result<()> {
    let workers = Workers::start(engine, threads as usize, QUEUE)?;
    let mut programs: HashMap<u64, Result<Arc<Program>, String>> = HashMap::new();
    let cancels: Arc<Mutex<HashMap<u64, CancelHandle>>> = Arc::default();
    let reports = Arc::new(Mutex::new(()));
    let report = move |socket: &UnixStream, task: u64, outcome: Outcome| {
        let _whole_messages = reports.lock().unwrap_or_else(PoisonError::into_inner);
        // When nobody listens any more, the process is about to be killed.
        let _ = send(socket, &Report::Done { task, outcome }, &[]);
    };
    while let Some((order, descriptors)) = receive::<Order>(socket)? {
        let mut descriptors = descriptors.into_iter();
        match order {
            Order::Load { program, kind } => {
                let code = descriptors.next().ok_or_else(|| io::Error::other("no code"))?;
                let loaded = SealedCode::receive(code, kind)
                    .map_err(|e| e.to_string())
                    .and_then(|code| engine.load(code).map_err(|e| e.to_string()));
                programs.insert(program, loaded.map(Arc::new));
            }
            Order::Run { task, spec } => {
                let (Some(input), Some(output), log) =
                    (descriptors.next(), descriptors.next(), descriptors.next())
                else {
                    return Err(io::Error::other("no input or output"));
                };
                let program = match programs.get(&spec.program) {
                    Some(Ok(program)) => Arc::clone(program),
                    Some(Err(why)) => {
                        report(socket, task, Outcome::not_run(Reason::Invalid, why.clone()));
                        continue;
                    }
                    None => return Err(io::Error::other("no such program")),
                };
                let cancel = CancelHandle::new();
                lock(&cancels).insert(task, cancel.clone());
                let job = Job {
                    program,
                    args: spec.args,
                    env: spec.env,
                    input: Input::Descriptor(input),
                    output: Output::Descriptor(output),
                    hash_output: false,
                    log,
                    limits: spec.limits,
                    deterministic: spec.deterministic,
                    cancel,
                };
                let (socket, report) = (Arc::clone(socket), report.clone());
                let cancels = Arc::clone(&cancels);
                workers.submit(job, move |outcome| {
                    lock(&cancels).remove(&task);
                    report(&socket, task, outcome);
                });
            }
            Order::Cancel { task } => {
                if let Some(cancel) = lock(&cancels).get(&task) {
                    cancel.cancel();
                }
            }
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
