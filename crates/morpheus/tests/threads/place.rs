//! An agent on a thread of the test, whose only hints are those that the test gives by hand.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use morpheus::agent::{Agent, Hinter, Memory, Registration};
use morpheus::{Blocks, Guidance, Options, Reason, Source, Tier, WorkerReport};

/// Longer than anything takes here.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Says that a test is not run, and why.
pub(crate) fn not_run(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    println!("{name}: not run: {reason}");
    let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") else { return };
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).expect("a log");
    std::io::Write::write_all(&mut log, format!("{name}: {reason}\n").as_bytes()).expect("a line");
}

/// Waits for something, as long as anything may take.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All hints that were acknowledged.
pub(crate) fn acknowledged(report: &WorkerReport) -> u64 {
    report.acknowledged.iter().map(|(_, count)| count).sum()
}

/// Hints when the test says so; refuses the block of that number.
struct ByHand {
    seen: Sender<Blocks>,
    refused: Option<usize>,
}

impl Hinter for ByHand {
    fn tier(&self) -> Tier {
        Tier::Observe
    }

    fn why(&self) -> String {
        "a test hints".into()
    }

    fn admit(&mut self, _: usize, workers: usize, _: bool) -> std::io::Result<Memory> {
        let (blocks, file) = Blocks::create(workers)?;
        self.seen.send(Blocks::map(&file, workers)?).map_err(std::io::Error::other)?;
        Ok(Memory { blocks, file, bell: None })
    }

    fn dismiss(&mut self, _: usize) {}

    fn register(&mut self, worker: Registration<'_>) -> std::io::Result<()> {
        if Some(worker.block) == self.refused {
            return Err(std::io::Error::other("not that block"));
        }
        Ok(())
    }

    fn unregister(&mut self, _: usize, _: usize, _: BorrowedFd<'_>) {}
}

/// A process with its agent, and the blocks as the agent sees them.
pub(crate) struct Place {
    pub(crate) guidance: Guidance,
    pub(crate) blocks: Arc<Blocks>,
    agent: Serving,
}

/// The thread of the agent.
struct Serving {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Place {
    pub(crate) fn new(workers: usize) -> Self {
        Self::with(Options { workers, ..Options::default() }, None)
    }

    pub(crate) fn with(options: Options, refused: Option<usize>) -> Self {
        let (seen, blocks) = channel();
        let (stop, stopped) = UnixStream::pair().expect("a pair");
        let mut agent = Agent::new(ByHand { seen, refused });
        let socket = agent.connect().expect("a connection");
        let thread = Some(std::thread::spawn(move || {
            agent.run(stopped.as_fd()).expect("it serves");
        }));
        let guidance = Guidance::over(socket, options).expect("the agent answers");
        let blocks = Arc::new(blocks.recv().expect("the blocks"));
        Self { guidance, blocks, agent: Serving { stop: Some(stop), thread } }
    }

    /// Hints the worker with that block.
    pub(crate) fn hint(&self, block: usize, reason: Reason) -> bool {
        self.blocks.get(block).expect("a block").hint(Source::Kernel, reason, 1)
    }

    pub(crate) fn report(&self, block: usize) -> WorkerReport {
        self.guidance.report().workers.swap_remove(block)
    }

    /// Ends the agent.
    pub(crate) fn end(&mut self) {
        drop(self.agent.stop.take());
        if let Some(thread) = self.agent.thread.take() {
            thread.join().expect("it ends well");
        }
    }
}
