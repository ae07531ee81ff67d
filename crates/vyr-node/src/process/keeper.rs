//! The owner's command that keeps checkpoints elsewhere, as `up` runs it.
//!
//! ```text
//! api --signed checkpoint in a sealed memory file--> up --starts, file on stdin--> __keep = command
//!     <--how many did not get out---------------------
//! ```
//!
//! Only `up` may start a program, and it does not read the checkpoint: it passes the descriptor on.
//! In between stands this binary once more, which makes the kernel end it with `up`, and then
//! becomes the command.
//!
//! One runs at a time, for [`KEEP_MAX`] at most. The newest that came meanwhile is next and replaces
//! those before it, which it covers. Nobody waits for any of this but a node that ends.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};

use super::{Role, this_binary};
use crate::checkpoint_out::Failing;

/// The time one run may take: enough for a slow network, short beside a node's end.
const KEEP_MAX: Duration = Duration::from_secs(10);

/// The exit code of a command that could not be started, as a shell has it.
const NOT_STARTED: u8 = 127;

/// The command, and what it is doing.
pub(super) struct Keeper {
    words: Vec<String>,
    running: Option<(Child, Instant)>,
    next: Option<OwnedFd>,
    failing: Failing,
    /// Failures that `api` has not been told of.
    failures: u64,
}

impl Keeper {
    pub(super) fn new(words: &[String]) -> Self {
        let (failing, words) = (Failing::default(), words.to_vec());
        Self { words, running: None, next: None, failing, failures: 0 }
    }

    /// Takes a checkpoint; it is given to the command as soon as that is free.
    pub(super) fn take(&mut self, checkpoint: OwnedFd) {
        self.next = Some(checkpoint);
        self.look();
    }

    /// Whether it has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.next.is_none()
    }

    /// How many failed since this was last asked.
    pub(super) fn failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// Ends a run that is over or late, and begins the next.
    pub(super) fn look(&mut self) {
        if let Some((child, since)) = &mut self.running {
            let late = since.elapsed() >= KEEP_MAX;
            if !late && !is_over(child) {
                return;
            }
            let status = end(child);
            self.running = None;
            self.note(match (late, status) {
                (true, _) => Some(format!("it took longer than {} s", KEEP_MAX.as_secs())),
                (false, Ok(status)) => why(status),
                (false, Err(e)) => Some(e.to_string()),
            });
        }
        if let Some(checkpoint) = self.next.take() {
            match start(&self.words, checkpoint) {
                Ok(child) => self.running = Some((child, Instant::now())),
                Err(e) => self.note(Some(e.to_string())),
            }
        }
    }

    fn note(&mut self, failed: Option<String>) {
        self.failures += u64::from(failed.is_some());
        let failed = failed.map(|why| format!("{}: {why}", self.words.join(" ")));
        if let Some(said) = self.failing.note(failed) {
            eprintln!("vyr up: {said}");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _ = end(child);
        }
    }
}

fn start(words: &[String], checkpoint: OwnedFd) -> io::Result<Child> {
    Command::new(this_binary())
        .arg(Role::Keep.argument())
        .arg(std::process::id().to_string())
        .args(words)
        // What it starts ends with it, and a Ctrl-C is for `up`.
        .process_group(0)
        .stdin(Stdio::from(checkpoint))
        .stdout(Stdio::null())
        .spawn()
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().cast_signed())
}

/// Whether it has ended. It stays a zombie, so that its number stays its own.
fn is_over(child: &Child) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    group(child).is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
}

/// Ends it with all that it started.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(pid) = group(child) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.wait()
}

/// Why a run with this end failed, if it did.
fn why(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) if code == i32::from(NOT_STARTED) => Some("it could not be started".into()),
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, signal) => Some(format!("signal {}", signal.unwrap_or(0))),
    }
}

/// The process between `up` and the command: ends with `up`, and becomes the command.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let [up, program, words @ ..] = arguments else { return 7 };
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return 7;
    }
    // It may have died before that was set.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_ref() != Some(up) {
        return 7;
    }
    let error = Command::new(program).args(words).exec();
    eprintln!("vyr up: cannot start {program}: {error}");
    NOT_STARTED
}
