//! Programs beside which something else happens, and WireGuard in user space.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::environment::cpu_us;
use crate::process::family;
use crate::space::{self, Namespace};

/// A program beside which something else happens. It is ended with this value.
pub(super) struct Job {
    child: Child,
    lines: Box<dyn BufRead + Send>,
    said: String,
}

/// Which of its outputs is listened to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ear {
    Out,
    Err,
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) said: String,
    /// Processor time of it and of its children, microseconds.
    pub(super) cpu_us: u64,
}

impl Job {
    /// Starts a command that `Namespace::timed` made: so nothing here waits for ever.
    pub(super) fn start(space: &Namespace, mut command: Command, ear: Ear) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match ear {
            Ear::Out => command.stdout(Stdio::piped()),
            Ear::Err => command.stderr(Stdio::piped()),
        };
        let mut child = space.spawn(&mut command)?;
        let lines: Box<dyn BufRead + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), _) => Box::new(BufReader::new(out)),
            (None, Some(err)) => Box::new(BufReader::new(err)),
            (None, None) => bail!("it is not piped"),
        };
        Ok(Self { child, lines, said: String::new() })
    }

    /// Reads on until a line has `text` in it; that line.
    pub(super) fn until(&mut self, text: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            ensure!(self.lines.read_line(&mut line)? > 0, "it ended without {text:?}");
            self.said += &line;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<Finished> {
        self.lines.read_to_string(&mut self.said)?;
        let pid = Pid::from_child(&self.child);
        // Its processor time is told until somebody has waited for it.
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let cpu_us = cpu_us(&self.child.id().to_string());
        self.child.wait()?;
        Ok(Finished { said: std::mem::take(&mut self.said), cpu_us })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // `timeout` passes it on.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// A data plane. It ends when nobody holds its stdin any more.
#[derive(Debug)]
pub(super) struct Plane(Child);

impl Plane {
    /// Starts `wireguard-go`, and waits until it listens.
    pub(super) fn start(space: &Namespace, link: &str) -> Result<Self> {
        let script = format!(
            "LOG_LEVEL=verbose wireguard-go -f {link} 2>&1 & plane=$!; read _; kill $plane; wait"
        );
        let mut command = space.program("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut plane = Self(space.spawn(command.stderr(Stdio::null()))?);
        let stdout = plane.0.stdout.take().context("it is piped")?;
        let mut lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
        ensure!(lines.any(|line| line.contains("UAPI listener")), "wireguard-go does not come up");
        // Who does not read what it says stops it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(plane)
    }

    /// The process to which it belongs.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Processor time so far, microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        family(self.id()).iter().map(|pid| cpu_us(&pid.to_string())).sum()
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(self) {
        for pid in family(self.id()) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What is not there of what measurements with these programs need, and all need.
pub(super) fn missing(programs: &[&str]) -> Vec<String> {
    space::missing(&[&["nft", "wg", "wireguard-go", "ping", "timeout"], programs].concat())
}
