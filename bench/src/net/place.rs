//! Network namespaces, programs inside that always end, and WireGuard in user space.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::environment::cpu_us;
use crate::process::family;

/// Nothing that is run to its end takes a tenth of it; what does hangs.
const HANG: Duration = Duration::from_secs(120);

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
#[derive(Debug)]
pub(super) struct Namespace {
    keeper: Child,
    file: File,
    is_apart: bool,
}

impl Namespace {
    pub(super) fn make() -> Result<Self> {
        Self::kept(&["--net"], "", false)
    }

    /// One with a directory of its own for the sockets of data planes: two machines may have links
    /// of one name.
    pub(super) fn apart() -> Result<Self> {
        let mount = "mkdir -p /var/run/wireguard && \
                     mount -t tmpfs -o mode=0700 none /var/run/wireguard || exit; ";
        Self::kept(&["--net", "--mount"], mount, true)
    }

    fn kept(options: &[&str], first: &str, is_apart: bool) -> Result<Self> {
        let script = format!("{first}echo here; exec cat");
        let mut keeper = Command::new("unshare")
            .args(options)
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start unshare")?;
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let file = File::open(format!("/proc/{}/ns/net", keeper.id()));
        match (line.as_str(), file) {
            ("here\n", Ok(file)) => Ok(Self { keeper, file, is_apart }),
            _ => {
                let _ = keeper.kill();
                let _ = keeper.wait();
                bail!("may not make namespaces ({})", options.join(" "))
            }
        }
    }

    /// The process whose namespace it is.
    pub(super) fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// A program as it is started inside. One that is apart begins in the root directory.
    pub(super) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        if !self.is_apart {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.id())).arg("--").arg(program);
        command
    }

    /// The same, and it ends after so many seconds, whoever else does.
    pub(super) fn timed(&self, seconds: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.program("timeout");
        command.args(["-k", "1", &seconds.to_string()]).arg(program);
        command
    }

    /// Starts a program inside.
    fn spawn(&self, command: &mut Command) -> Result<Child> {
        // A thread's namespace is its own, and ends with it.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<Child> {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), network)?;
                command.spawn().with_context(|| format!("cannot start {command:?}"))
            });
            inside.join().unwrap_or_else(|_| bail!("a thread panicked"))
        })
    }

    /// Runs a program inside to its end.
    pub(super) fn output(&self, command: &mut Command) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(self.spawn(command)?)
    }

    /// Runs a program inside; what it printed. What it reads is given to it.
    pub(super) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.program(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = ended(child)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Commands of `ip`, a line each.
    pub(super) fn ip(&self, commands: &str) -> Result<()> {
        self.run("ip", &["-batch", "-"], commands).map(drop)
    }

    /// Whether one packet to `address` is answered.
    pub(super) fn answers(&self, address: &str) -> bool {
        self.run("ping", &["-c", "1", "-W", "1", address], "").is_ok()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// What a program printed. One that hangs is ended.
fn ended(child: Child) -> Result<Output> {
    let pid = Pid::from_child(&child);
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output();
        drop(done);
        Ok(output?)
    })
}

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

/// What a program says of its version: the first line of it.
pub(super) fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next().unwrap_or(program).to_owned())
}

/// What is not there of what measurements with these programs need, and all need.
pub(super) fn missing(programs: &[&str]) -> Vec<String> {
    let all = ["nft", "ip", "unshare", "wg", "wireguard-go", "ping", "timeout"];
    let mut missing = Vec::new();
    for program in all.iter().chain(programs) {
        let mut asked = Command::new(program);
        let question = if ["ip", "ping"].contains(program) { "-V" } else { "--version" };
        asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().is_err() {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        missing.push("the kernel has no /dev/net/tun".into());
    } else if let Err(error) = Namespace::make() {
        missing.push(format!("{error:#}"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_name() {
        let found = missing(&["no-such-program-of-ours"]);
        assert!(found.contains(&"no-such-program-of-ours is not installed".into()), "{found:?}");
        assert_eq!(version("no-such-program-of-ours"), None);
    }
}
