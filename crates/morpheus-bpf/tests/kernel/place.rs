//! An agent with the real programs in this kernel, on a thread of the test.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use morpheus::agent::Agent;
use morpheus::{Guidance, Options, Reason, WorkerReport, checkpoint};
use morpheus_bpf::{Missing, Observe, ObserveOptions, ProgramStats};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

/// Says that a test is not run, and why.
pub(crate) fn not_run(reason: &str) {
    let name = format!("kernel::{}", std::thread::current().name().unwrap_or("?"));
    println!("{name}: not run: {reason}");
    let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("a log");
    std::io::Write::write_all(&mut log, format!("{name}: {reason}\n").as_bytes()).expect("a line");
}

/// The object, built from this checkout's source; an error says why it cannot be.
pub(crate) fn object() -> Result<&'static Path, String> {
    static OBJECT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = OBJECT.get_or_init(|| {
        let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(morpheus_bpf::OBJECT);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/bpf.sh");
        let output = Command::new(script).arg(&object).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(object),
            Some(3) => Err(said.trim().trim_start_matches("not built: ").into()),
            code => panic!("scripts/bpf.sh ended with {code:?}: {said}"),
        }
    });
    built.as_deref().map_err(Clone::clone)
}

/// Why there can be no programs here, if there cannot.
pub(crate) fn missing() -> Option<String> {
    if let Err(e) = object() {
        return Some(e);
    }
    let missing = morpheus_bpf::probe().observe;
    let missing = missing.iter().filter(|missing| !matches!(missing, Missing::Object(_)));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// An agent.
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    stop: Option<UnixStream>,
    agent: Option<JoinHandle<Vec<ProgramStats>>>,
    _directory: tempfile::TempDir,
}

impl Place {
    /// Starts one; `None`, and said so, if this machine cannot have it.
    pub(crate) fn new(options: ObserveOptions) -> Option<Self> {
        if let Some(missing) = missing() {
            not_run(&missing);
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("agent.sock");
        let (stop, stopped) = UnixStream::pair().expect("a pair");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = socket.clone();
        let agent = std::thread::spawn(move || {
            let observe = Observe::load(object().expect("built"), options).expect("loaded");
            let mut agent = Agent::new(observe);
            agent.listen(&path).expect("a socket");
            ready.send(()).expect("somebody waits");
            agent.run(stopped.as_fd()).expect("served");
            agent.hinter().stats().expect("counts")
        });
        is_ready.recv_timeout(Duration::from_secs(30)).expect("the agent starts");
        let (stop, agent) = (Some(stop), Some(agent));
        Some(Self { socket, stop, agent, _directory: directory })
    }

    pub(crate) fn guidance(&self, options: Options) -> Guidance {
        Guidance::connect(&self.socket, options).expect("the agent answers")
    }

    /// Ends the agent; how often each program ran, if that was counted.
    pub(crate) fn end(&mut self) -> Vec<ProgramStats> {
        drop(self.stop.take());
        self.agent.take().expect("it runs").join().expect("it ends well")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(agent) = self.agent.take() {
            let _ = agent.join();
        }
    }
}

/// Waits for something, for at most twenty seconds.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets this thread run on that processor only.
pub(crate) fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("a processor");
}

/// Runs, and does not sleep, until something is so, for at most twenty seconds.
pub(crate) fn turns(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        for _ in 0..100 {
            std::hint::spin_loop();
        }
    }
}

/// Computes until it was asked to yield so often, or for too long; how often it was.
pub(crate) fn answers(times: usize) -> usize {
    let end = Instant::now() + LONG;
    let mut answered = 0;
    while answered < times && Instant::now() < end {
        for _ in 0..100 {
            std::hint::spin_loop();
        }
        if checkpoint() {
            answered += 1;
            morpheus::yield_now();
        }
    }
    answered
}

/// Computes on a processor until told to stop.
pub(crate) fn hog(cpu: usize, stop: &AtomicBool) {
    pin(cpu);
    while !stop.load(Relaxed) {
        std::hint::spin_loop();
    }
}

/// How many hints of that reason were acknowledged.
pub(crate) fn acknowledged_for(report: &WorkerReport, reason: Reason) -> u64 {
    let of = report.acknowledged.iter().filter(|(found, _)| *found == Some(reason));
    of.map(|(_, count)| count).sum()
}
