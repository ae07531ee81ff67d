//! Processes: how long they take, and the most memory that one and its children hold.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::{field, kib};
use crate::memory::Resident;

/// Time between two looks at the memory of a process and its children.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A command line that can be run again and again.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Variables set besides those that are inherited.
    environment: Vec<(&'static str, OsString)>,
    /// A file on standard input; nothing when there is none.
    stdin: Option<PathBuf>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// From before it was started until it was waited for, in microseconds.
    pub(crate) wall_us: f64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// The most memory a process and its children held, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// The largest sum of shares (Pss) that was seen; looked at every 10 ms.
    pub pss_bytes: u64,
    /// The sum of the kernel's own peaks (VmHWM): never too low, and shared pages count double.
    pub high_water_bytes: u64,
    /// Processes seen at once.
    pub processes: usize,
    /// Of those, how many would not tell their Pss and are in the sum with their high water.
    pub untold: usize,
}

impl Line {
    pub(crate) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: None,
        }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<T: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    pub(crate) fn stdin(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(match &self.stdin {
            Some(path) => Stdio::from(fs::File::open(path)?),
            None => Stdio::null(),
        });
        Ok(command)
    }

    /// Runs it to its end; what it prints is kept. An exit code that is not 0 is an error that
    /// quotes the first line of its stderr.
    pub(crate) fn run(&self) -> Result<Ended> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output().with_context(|| self.name())?;
        let wall_us = start.elapsed().as_secs_f64() * 1e6;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {}", self.name(), first_line(&stderr));
        Ok(Ended { wall_us, stdout: output.stdout, stderr })
    }

    /// Runs it to its end with its output to nowhere. It may print much: nothing of stdout is
    /// read, and stderr is read at its end.
    pub(crate) fn run_silent(&self) -> Result<Ended> {
        let start = Instant::now();
        let child = self.silent()?;
        let stderr = self.finish(child)?;
        Ok(Ended { wall_us: start.elapsed().as_secs_f64() * 1e6, stdout: Vec::new(), stderr })
    }

    /// The most memory it and its children hold while it runs. Looking costs it time: nothing
    /// is timed here.
    pub(crate) fn peak(&self) -> Result<Peak> {
        let child = self.silent()?;
        let (pid, ended) = (child.id(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| watch(pid, &ended));
            let finished = self.finish(child);
            ended.store(true, Ordering::Relaxed);
            let Ok(peak) = watch.join() else { bail!("a thread panicked") };
            finished.map(|_| peak)
        })
    }

    fn silent(&self) -> Result<Child> {
        let mut command = self.command()?;
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().with_context(|| self.name())
    }

    fn finish(&self, mut child: Child) -> Result<String> {
        let mut stderr = Vec::new();
        if let Some(mut pipe) = child.stderr.take() {
            pipe.read_to_end(&mut stderr)?;
        }
        let status = child.wait()?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        ensure!(status.success(), "{}: {}", self.name(), first_line(&stderr));
        Ok(stderr)
    }

    /// The program's name, without its directory.
    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed and said nothing")
}

fn watch(pid: u32, ended: &AtomicBool) -> Peak {
    let mut peak = Peak::default();
    let mut high_waters: Vec<(u32, u64)> = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let family = family(pid);
        let (mut sum, mut untold) = (0, 0);
        for member in &family {
            let text = fs::read_to_string(format!("/proc/{member}/status")).unwrap_or_default();
            let high = field(&text, "VmHWM").and_then(kib).unwrap_or(0);
            match high_waters.iter_mut().find(|(known, _)| known == member) {
                Some((_, known)) => *known = high.max(*known),
                None => high_waters.push((*member, high)),
            }
            let told = Resident::of(&member.to_string());
            untold += usize::from(told.is_none() && high > 0);
            sum += told.map_or(high, |resident| resident.pss_bytes);
        }
        peak.untold = peak.untold.max(untold);
        peak.processes = peak.processes.max(family.len());
        peak.pss_bytes = peak.pss_bytes.max(sum);
        std::thread::sleep(LOOK_AGAIN);
    }
    peak.high_water_bytes = high_waters.iter().map(|(_, high)| high).sum();
    peak
}

/// `pid` and all that descends from it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        let threads = fs::read_dir(format!("/proc/{}/task", all[next]));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_quotes_its_first_line() {
        let line = Line::new(Path::new("/bin/sh")).args(["-c", "echo; echo no such >&2; exit 3"]);
        let error = line.run().expect_err("exit 3");
        assert_eq!(error.to_string(), "sh: no such");
        assert!(Line::new(Path::new("/nonexistent/x")).run().is_err());
    }

    #[test]
    fn the_memory_of_children_counts() {
        let script = "dd if=/dev/zero of=/dev/null bs=8M count=40 2>/dev/null; true";
        let line = Line::new(Path::new("/bin/sh")).args(["-c", script]);
        let peak = line.peak().expect("runs");
        assert!(peak.processes >= 1, "{peak:?}");
    }

    #[test]
    fn standard_input_comes_from_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("input");
        fs::write(&file, "given").expect("write");
        let ended = Line::new(Path::new("/bin/cat")).stdin(&file).run().expect("runs");
        assert_eq!(ended.stdout, b"given");
    }
}
