//! A place to try the command in, the command itself, and what it left behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// The program under test.
pub(crate) const VYR: &str = env!("CARGO_BIN_EXE_vyr");

/// No command here takes a tenth of it; one that does hangs. Not a figure of speed.
pub(crate) const HANG: Duration = Duration::from_secs(150);

/// The repository's root.
pub(crate) fn root() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize_utf8().expect("the root")
}

/// A committed guest, such as `hello.wasip1`.
pub(crate) fn guest(name: &str) -> String {
    root().join("workloads/bin").join(format!("{name}.wasm")).into_string()
}

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub(crate) fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = fs::OpenOptions::new().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

/// Whether this is root; says so if not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        not_run(test, "needs root");
    }
    root
}

/// Whether `program` is installed; says so if not.
pub(crate) fn has(test: &str, program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join(program).is_file());
    if !found {
        not_run(test, &format!("{program} is not installed"));
    }
    found
}

/// A temporary directory; `data` in it is the data directory of every command started here.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        let path = Utf8Path::from_path(self.directory.path()).expect("a UTF-8 path");
        if name.is_empty() { path.to_owned() } else { path.join(name) }
    }

    /// The data directory; the first command makes it.
    pub(crate) fn data(&self) -> Utf8PathBuf {
        self.path("data")
    }

    /// Writes a file in it and names it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path.into_string()
    }

    /// `vyr --data-dir DATA ARGUMENTS`.
    pub(crate) fn vyr(&self, arguments: &[&str]) -> Call {
        self.vyr_on(&self.data(), arguments)
    }

    /// The same on another data directory.
    pub(crate) fn vyr_on(&self, data: &Utf8Path, arguments: &[&str]) -> Call {
        let mut command = fresh(VYR);
        // In front, because whatever stands behind `--` belongs to the guest.
        command.arg("--data-dir").arg(data).args(arguments).current_dir(self.path(""));
        Call { command, input: Vec::new() }
    }

    /// `vyr ARGUMENTS`, without a data directory.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Call {
        let mut command = fresh(VYR);
        command.args(arguments).current_dir(self.path(""));
        Call { command, input: Vec::new() }
    }

    /// Another program, in the same environment.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> Call {
        let mut command = fresh(name);
        command.args(arguments).current_dir(self.path(""));
        Call { command, input: Vec::new() }
    }
}

/// A command that inherits nothing that could matter.
fn fresh(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["VYR_DATA_DIR", "XDG_STATE_HOME", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A command to be run.
pub(crate) struct Call {
    command: Command,
    input: Vec<u8>,
}

impl Call {
    /// What it reads on stdin; otherwise it reads nothing.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }

    /// Starts it; the input is given and stdin closed.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        let input = std::mem::take(&mut self.input);
        let mut running = self.start_open();
        let mut stdin = running.child.stdin.take().expect("it is piped");
        if input.is_empty() {
            drop(stdin);
        } else {
            // Whoever does not read its input is judged by how it ends, not by this.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        running
    }

    /// Starts it; its stdin stays open until the end, and nothing comes.
    #[track_caller]
    pub(crate) fn start_open(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{said}: {e}"));
        let stdout = child.stdout.take().map(read_all::<ChildStdout>);
        let stderr = child.stderr.take().map(read_all::<ChildStderr>);
        Running { child, said, stdout, stderr }
    }

    /// Starts it and leaves its stdout to the caller.
    #[track_caller]
    pub(crate) fn start_and_read(mut self) -> (Running, ChildStdout) {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{said}: {e}"));
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().map(read_all::<ChildStderr>);
        (Running { child, said, stdout: None, stderr }, stdout)
    }
}

fn read_all<R: Read + Send + 'static>(mut reader: R) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A command that is killed may leave its pipe in any state.
        let _ = reader.read_to_end(&mut bytes);
        bytes
    })
}

/// A command that runs. A test that fails does not leave it behind.
pub(crate) struct Running {
    child: Child,
    said: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn kill(&self) {
        // It may have ended by itself.
        let _ = kill_process(self.pid(), Signal::KILL);
    }

    /// Whether it ends within `deadline`.
    pub(crate) fn ends_within(&self, deadline: Duration) -> bool {
        ends_within(self.pid(), deadline)
    }

    /// Waits for its end; kills what hangs.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let hangs = !self.ends_within(HANG);
        if hangs {
            self.kill();
        }
        let status = self.child.wait().expect("a child of ours");
        let read = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map(|thread| thread.join().expect("a reader")).unwrap_or_default()
        };
        let stdout = read(self.stdout.take());
        let stderr = String::from_utf8_lossy(&read(self.stderr.take())).into_owned();
        let ended = Ended { said: std::mem::take(&mut self.said), status, stdout, stderr };
        assert!(!hangs, "hangs: {ended:?}");
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + HANG;
    while !so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Waits until `pid` has ended, or `deadline` has passed.
pub(crate) fn ends_within(pid: Pid, deadline: Duration) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        // It is gone and waited for.
        return true;
    };
    let deadline = Timespec::try_from(deadline).expect("a short time");
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    loop {
        match poll(&mut ends, Some(&deadline)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// Waits until `reader` has something to read, or its other end is gone.
pub(crate) fn readable_within(reader: &impl AsFd, deadline: Duration) -> bool {
    let deadline = Timespec::try_from(deadline).expect("a short time");
    poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&deadline)).expect("poll") > 0
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) said: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// It exited with `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "{}\nstdout: {}\nstderr: {}",
            self.said,
            String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]),
            self.stderr
        );
        self
    }

    /// It did what it was asked to.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// It exited with `code`, printed no data, and its error names all of `words`.
    #[track_caller]
    pub(crate) fn refuses(self, code: i32, words: &[&str]) -> Self {
        let ended = self.exits(code);
        assert_eq!(ended.text(), "", "{}: data of a refused command", ended.said);
        for word in words {
            assert!(ended.stderr.contains(word), "{}: no {word:?} in {}", ended.said, ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }

    /// Its stdout as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// The first line of its stdout.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The one JSON object that is all of its stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = self.text();
        assert!(text.ends_with('\n') && text.lines().count() == 1, "not one line: {text:?}");
        let value: Value = serde_json::from_str(text).expect("one JSON value");
        assert_eq!(value["version"], 1, "{value}");
        value
    }
}

/// A value of a JSON object, as text.
#[track_caller]
pub(crate) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

/// Whether `path` exists.
pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}
