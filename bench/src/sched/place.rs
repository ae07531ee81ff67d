//! Where the measurements run: processors, clocks, an agent on a thread of its own, and what it costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use morpheus::agent::{Agent as Server, Psi};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};

/// Longer than anything takes here.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Names of threads that guide and do nothing else: what they use is the guidance's.
pub(super) const AGENT: &str = "sched-agent";
const GUIDES: [&str; 3] = [AGENT, "morpheus", "vyr-ticker"];

/// A number on cache lines of its own: two, because lines are fetched in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct Line(pub(super) AtomicU64);

fn ns_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of hints.
pub(super) fn now_ns() -> u64 {
    ns_of(ClockId::Monotonic)
}

/// Processor time of this thread in nanoseconds.
pub(super) fn cpu_ns() -> u64 {
    ns_of(ClockId::ThreadCPUTime)
}

/// What one reading of the clock takes, in nanoseconds.
pub(super) fn clock_ns() -> f64 {
    const READS: u32 = 1_000;
    let runs: Vec<f64> = (0..25)
        .map(|_| {
            let start = now_ns();
            for _ in 0..READS {
                std::hint::black_box(now_ns());
            }
            (now_ns() - start) as f64 / f64::from(READS)
        })
        .collect();
    crate::stats::median(&runs).unwrap_or(0.0)
}

/// The processors this process may run on.
pub(super) fn processors() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Lets this thread, and threads that it starts, run on these processors only.
pub(super) fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set).context("cannot choose a processor")
}

/// So that this thread, when it wakes up, takes nobody's processor away.
pub(super) fn be_last() -> Result<()> {
    // On Linux this is the thread's, not the process's.
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19)
        .context("cannot lower a thread's priority")
}

/// Turns of `work` in a microsecond, of this machine now.
pub(super) fn turns_per_us() -> u64 {
    const TURNS: u64 = 200_000;
    // The quickest: what slows a run down is not its own.
    let quickest = (0..20)
        .map(|_| {
            let start = Instant::now();
            work(TURNS);
            start.elapsed().as_nanos().max(1)
        })
        .min();
    let ns = u64::try_from(quickest.unwrap_or(1)).unwrap_or(u64::MAX);
    (TURNS * 1_000 / ns).max(1)
}

/// Computes for so many turns.
///
/// In registers alone: a loop through memory has two speeds on processors that rename memory.
#[inline(never)]
pub(super) fn work(turns: u64) {
    let mut mixed = std::hint::black_box(turns | 1);
    for _ in 0..turns {
        mixed = (mixed ^ (mixed >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    std::hint::black_box(mixed);
}

/// Processor time of the threads of this process that guide, in nanoseconds.
pub(super) fn guides_ns() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let is_guide = |path: &Path| {
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        GUIDES.contains(&name.trim())
    };
    tasks
        .flatten()
        .map(|task| task.path())
        .filter(|path| is_guide(path))
        .map(|path| first_number(&path.join("schedstat")))
        .sum()
}

fn first_number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What an agent of ours looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) ticks: bool,
    pub(super) wakeups: bool,
}

impl Looks {
    pub(super) const ALL: Self = Self { ticks: true, wakeups: true };
    /// Without the timer of each worker.
    pub(super) const WAKEUPS: Self = Self { ticks: false, wakeups: true };
}

/// How often a program of the kernel's side ran, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    pub(super) program: String,
    pub(super) runs: u64,
    pub(super) ns: u64,
}

/// An agent on a thread of this process.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) socket: PathBuf,
    stop: Option<std::os::unix::net::UnixStream>,
    thread: Option<std::thread::JoinHandle<Vec<Runs>>>,
    _directory: tempfile::TempDir,
}

impl Agent {
    /// The kernel's programs; an error says why there are none.
    pub(super) fn observe(looks: Looks) -> Result<Self, String> {
        Self::start(move || kernel::observe(looks), kernel::counts)
    }

    /// Pressure files.
    pub(super) fn psi() -> Result<Self, String> {
        let server = || Server::psi(Psi::new("asked for".into())).map_err(|e| e.to_string());
        Self::start(server, |_| Vec::new())
    }

    /// Nothing: it never hints. When it ends, the timers of its processes take over.
    pub(super) fn nothing() -> Result<Self, String> {
        Self::start(|| Ok(Server::new(Psi::new("asked for".into()))), |_| Vec::new())
    }

    fn start<H: morpheus::agent::Hinter + 'static>(
        make: impl FnOnce() -> Result<Server<H>, String> + Send + 'static,
        counts: impl FnOnce(&Server<H>) -> Vec<Runs> + Send + 'static,
    ) -> Result<Self, String> {
        use std::os::fd::AsFd;
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let socket = directory.path().join("agent.sock");
        let (stop, stopped) = std::os::unix::net::UnixStream::pair().map_err(|e| e.to_string())?;
        let (say, said) = std::sync::mpsc::channel();
        let path = socket.clone();
        let serve = move || {
            let made = make().and_then(|mut server| {
                server.listen(&path).map_err(|e| e.to_string())?;
                Ok(server)
            });
            let mut server = match made {
                Ok(server) => server,
                Err(e) => {
                    let _ = say.send(Err(e));
                    return Vec::new();
                }
            };
            let _ = say.send(Ok(()));
            let _ = server.run(stopped.as_fd());
            counts(&server)
        };
        let thread = std::thread::Builder::new().name(AGENT.into()).spawn(serve);
        let thread = thread.map_err(|e| e.to_string())?;
        let ready = said.recv_timeout(LONG).map_err(|_| "the agent does not start".to_owned())?;
        ready?;
        Ok(Self { socket, stop: Some(stop), thread: Some(thread), _directory: directory })
    }

    /// Ends it; how often each program ran, if that was counted.
    pub(super) fn end(mut self) -> Vec<Runs> {
        self.stopped()
    }

    fn stopped(&mut self) -> Vec<Runs> {
        drop(self.stop.take());
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stopped();
    }
}

#[cfg(feature = "bpf")]
pub(super) use kernel::{count_nothing, counting, instructions};

#[cfg(feature = "bpf")]
mod kernel {
    use morpheus::agent::Agent as Server;
    use morpheus_bpf::{
        Instructions, Nothing, Observe, ObserveOptions, ProgramStats, StatsEnabled, find_object,
        probe,
    };

    use super::{Looks, Runs};

    pub(super) fn observe(looks: Looks) -> Result<Server<Observe>, String> {
        let probe = probe();
        if !probe.observe.is_empty() {
            return Err(probe.why());
        }
        let object = find_object().map_err(|e| e.to_string())?;
        let Looks { ticks, wakeups } = looks;
        let options = ObserveOptions { ticks, wakeups, ..Default::default() };
        Observe::load(&object, options).map(Server::new).map_err(|e| e.to_string())
    }

    pub(super) fn counts(server: &Server<Observe>) -> Vec<Runs> {
        server.hinter().stats().map(runs).unwrap_or_default()
    }

    fn runs(stats: Vec<ProgramStats>) -> Vec<Runs> {
        let run = |of: ProgramStats| Runs { program: of.name, runs: of.runs, ns: of.run_ns };
        stats.into_iter().map(run).collect()
    }

    /// While it is held, the kernel counts the runs of programs.
    pub(in crate::sched) fn counting() -> Result<StatsEnabled, String> {
        StatsEnabled::new().map_err(|e| format!("the kernel does not count runs: {e}"))
    }

    /// The runs of a program that does nothing, beside `work`.
    pub(in crate::sched) fn count_nothing<T>(
        work: impl FnOnce() -> T,
    ) -> Result<(T, Vec<Runs>), String> {
        let object = find_object().map_err(|e| e.to_string())?;
        let nothing = Nothing::load(&object).map_err(|e| e.to_string())?;
        let done = work();
        let stats = nothing.stats().map_err(|e| e.to_string())?;
        Ok((done, runs(stats)))
    }

    /// Instructions of this thread in `work`.
    pub(in crate::sched) fn instructions(work: impl FnOnce()) -> Result<u64, String> {
        let refused = |e| format!("no counter of instructions: {e}");
        let mut counter = Instructions::new().map_err(refused)?;
        let before = counter.read().map_err(refused)?;
        work();
        Ok(counter.read().map_err(refused)? - before)
    }
}

#[cfg(not(feature = "bpf"))]
pub(super) use kernel::{count_nothing, counting, instructions};

/// What there is without the kernel's side: the reason.
#[cfg(not(feature = "bpf"))]
mod kernel {
    use morpheus::agent::{Agent as Server, Psi};

    use super::{Looks, Runs};

    const WHY: &str = "built without bpf";

    pub(super) fn observe(_: Looks) -> Result<Server<Psi>, String> {
        Err(WHY.into())
    }

    pub(super) fn counts(_: &Server<Psi>) -> Vec<Runs> {
        Vec::new()
    }

    /// What is not to be had.
    #[derive(Debug)]
    pub(in crate::sched) struct Counting;

    pub(in crate::sched) fn counting() -> Result<Counting, String> {
        Err(WHY.into())
    }

    pub(in crate::sched) fn count_nothing<T>(
        _: impl FnOnce() -> T,
    ) -> Result<(T, Vec<Runs>), String> {
        Err(WHY.into())
    }

    pub(in crate::sched) fn instructions(_: impl FnOnce()) -> Result<u64, String> {
        Err(WHY.into())
    }
}
