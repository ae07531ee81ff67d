//! Network namespaces, and WireGuard in user space inside.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. It is there as long as its keeper, which ends when nobody holds the other
/// end of its stdin any more.
#[derive(Debug)]
pub(super) struct Namespace {
    keeper: Child,
    file: File,
}

impl Namespace {
    pub(super) fn make() -> Result<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start unshare")?;
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        ensure!(line == "here\n", "may not make network namespaces");
        let file = File::open(format!("/proc/{}/ns/net", keeper.id()))?;
        Ok(Self { keeper, file })
    }

    /// The process whose namespace it is.
    pub(super) fn id(&self) -> u32 {
        self.keeper.id()
    }

    /// Starts a program inside.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<Child> {
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
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(self.spawn(command.stdin(Stdio::null()))?.wait_with_output()?)
    }

    /// Runs a program inside; what it printed. What it reads is given to it.
    pub(super) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Commands of `ip`, a line each.
    pub(super) fn ip(&self, commands: &str) -> Result<()> {
        self.run("ip", &["-batch", "-"], commands).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
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
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut plane = Self(space.spawn(command.stderr(Stdio::null()))?);
        let stdout = plane.0.stdout.take().context("it is piped")?;
        let mut lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
        ensure!(lines.any(|line| line.contains("UAPI listener")), "wireguard-go does not come up");
        // Who does not read what it says stops it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(plane)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What is not there of what these measurements need.
pub(super) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    for (program, question) in [
        ("nft", "--version"),
        ("ip", "-V"),
        ("unshare", "--version"),
        ("wg", "--version"),
        ("wireguard-go", "--version"),
        ("ping", "-V"),
    ] {
        let mut asked = Command::new(program);
        asked.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().is_err() {
            missing.push(format!("{program} is not installed"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".into());
    } else if Namespace::make().is_err() {
        missing.push("may not make network namespaces".into());
    }
    missing
}
