//! Memory of tasks that live: the growth of a process while many of them wait for input.
//!
//! Each measurement is a process of its own: slots that were used before would stay resident and
//! make the tasks look cheap.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use vyr_task::{Input, Job, Output, SealedCode, State, compile};

use crate::arms::{Arm, Pair, SLOTS, runtime};
use crate::environment::{field, kib};
use crate::guests::Guest;
use crate::reference::pipe_stdin;

/// Tasks that wait at once.
pub const LIVE_TASKS: usize = 200;
const _: () = assert!(LIVE_TASKS < SLOTS as usize);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Its share: pages that several processes map count in parts.
    pub pss_bytes: u64,
    /// All that it maps and that is in memory.
    pub rss_bytes: u64,
}

impl Resident {
    /// Of the process `pid`, or of this one: `self`.
    pub fn of(pid: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self { pss_bytes: kib(field(&text, "Pss")?)?, rss_bytes: kib(field(&text, "Rss")?)? })
    }
}

/// One process that held many tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemorySample {
    /// The guest that waited, `transform-p1`.
    pub case: String,
    /// Which side.
    pub arm: Arm,
    /// How many waited.
    pub tasks: usize,
    /// Engine made, guest loaded, one task run.
    pub before: Resident,
    /// All tasks waiting for input.
    pub during: Resident,
}

impl MemorySample {
    /// Growth for each task, in bytes.
    pub fn bytes_per_task(&self) -> f64 {
        self.during.pss_bytes.saturating_sub(self.before.pss_bytes) as f64 / self.tasks as f64
    }
}

/// Starts the tasks in this process and looks; call it in a process that did nothing else.
pub(crate) fn hold(guest: &Guest, arm: Arm) -> Result<MemorySample> {
    let pair = Pair::new()?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let local = tokio::task::LocalSet::new();
        local.run_until(hold_on(&pair, guest, arm)).await
    })
}

async fn hold_on(pair: &Pair, guest: &Guest, arm: Arm) -> Result<MemorySample> {
    let sealed = SealedCode::seal(&compile(&guest.wasm)?)?;
    let program = Arc::new(pair.engine().load(sealed)?);
    let bare = Arc::new(pair.bare().load(&guest.wasm, guest.kind)?);
    let _ticking = pair.bare().tick()?;
    let start = async |stdin: OwnedFd| -> Result<tokio::task::JoinHandle<Result<()>>> {
        Ok(match arm {
            Arm::Bare => {
                let stdin = pipe_stdin(pipe::Receiver::from_owned_fd(stdin)?);
                let bare = Arc::clone(&bare);
                tokio::task::spawn_local(async move { bare.run_on(stdin).await })
            }
            Arm::Engine | Arm::Workers => {
                let engine = pair.engine().clone();
                let job = Job {
                    input: Input::Descriptor(stdin),
                    output: Output::Discard,
                    ..Job::new(Arc::clone(&program))
                };
                tokio::task::spawn_local(async move {
                    let outcome = engine.run(job).await;
                    ensure!(outcome.state == State::Completed, "failed: {:?}", outcome.message);
                    Ok(())
                })
            }
        })
    };
    // One task to its end: what is made on first use is not a task's.
    let (stdin, end) = new_pipe()?;
    let first = start(stdin).await?;
    drop(end);
    first.await??;
    let before = settled().await?;
    let mut waiting = Vec::with_capacity(LIVE_TASKS);
    for _ in 0..LIVE_TASKS {
        let (stdin, end) = new_pipe()?;
        waiting.push((start(stdin).await?, end));
    }
    let during = settled().await?;
    for (task, end) in waiting {
        ensure!(!task.is_finished(), "a task did not wait for its input");
        drop(end);
        task.await??;
    }
    Ok(MemorySample { case: guest.case(), arm, tasks: LIVE_TASKS, before, during })
}

fn new_pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// This process's memory once it has stopped changing: the tasks have come to wait.
async fn settled() -> Result<Resident> {
    const LOOKS: usize = 200;
    const SAME: usize = 5;
    let mut last = Resident::default();
    let mut same = 0;
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = Resident::of("self").context("cannot read /proc/self/smaps_rollup")?;
        same = if now.rss_bytes == last.rss_bytes { same + 1 } else { 0 };
        last = now;
        if same == SAME {
            break;
        }
    }
    Ok(last)
}
