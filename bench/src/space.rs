//! Network namespaces for hosts that are measured, and programs inside that always end.
//!
//! `tests/space` has such namespaces too, for tests alone: what goes wrong there panics, and nothing of
//! it may be in what is shipped. Here it is an error, and the part is not measured.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Nothing that is run to its end takes a tenth of it; what does hangs.
const HANG: Duration = Duration::from_secs(120);

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
#[derive(Debug)]
pub(crate) struct Namespace {
    keeper: Child,
    file: File,
    is_apart: bool,
}

impl Namespace {
    pub(crate) fn make() -> Result<Self> {
        Self::kept(&["--net"], "", false)
    }

    /// One with a directory of its own for the sockets of data planes: two machines may have links
    /// of one name.
    pub(crate) fn apart() -> Result<Self> {
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
    pub(crate) fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// A program as it is started inside. One that is apart begins in the root directory.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        if !self.is_apart {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.id())).arg("--").arg(program);
        command
    }

    /// The same, and it ends after so many seconds, whoever else does.
    pub(crate) fn timed(&self, seconds: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.program("timeout");
        command.args(["-k", "1", &seconds.to_string()]).arg(program);
        command
    }

    /// Where the namespace is, for who opens links in it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.id()).into()
    }

    /// Does something inside: sockets made there, and threads and programs started there, stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        // A thread's namespace is its own, and ends with it.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), network)?;
                work()
            });
            inside.join().unwrap_or_else(|_| bail!("a thread panicked"))
        })
    }

    /// Starts a program inside.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.inside(|| command.spawn().with_context(|| format!("cannot start {command:?}")))
    }

    /// Runs a program inside to its end.
    pub(crate) fn output(&self, command: &mut Command) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(self.spawn(command)?)
    }

    /// Runs a program inside; what it printed. What it reads is given to it.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
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
    pub(crate) fn ip(&self, commands: &str) -> Result<()> {
        self.run("ip", &["-batch", "-"], commands).map(drop)
    }

    /// Whether one packet to `address` is answered.
    pub(crate) fn answers(&self, address: &str) -> bool {
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
pub(crate) fn ended(child: Child) -> Result<Output> {
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

/// What a program says of its version: the first line of it.
pub(crate) fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next().unwrap_or(program).to_owned())
}

/// What is not there of what measurements in namespaces with these programs need.
pub(crate) fn missing(programs: &[&str]) -> Vec<String> {
    let mut missing = Vec::new();
    for program in ["ip", "unshare"].iter().chain(programs) {
        let mut asked = Command::new(program);
        let question = if ["ip", "ping"].contains(program) { "-V" } else { "--version" };
        asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().is_err() {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    } else if !Path::new("/dev/net/tun").exists() {
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
