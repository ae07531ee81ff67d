//! A data directory, a node on it, and clients.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use vyr_api::control::{Span, SubmitTaskRequest, TaskEnd, submit_task_request::InputRef};
use vyr_api::operator::{StatusRequest, StatusResponse};
use vyr_api::{ApiError, Client, Endpoint};

/// The program under test: that of this build, unless `VYR_BIN` names another.
pub(crate) fn vyr() -> OsString {
    std::env::var_os("VYR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_vyr").into())
}

/// Nothing here takes a tenth of it; what does hangs. Not a figure of speed.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// Between two looks at something that tells nobody when it changes.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub(crate) fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
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

/// Whether the long variants are wanted.
pub(crate) fn full() -> bool {
    std::env::var_os("VYR_FULL").is_some()
}

/// Runs a test's work to its end.
pub(crate) fn block<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime").block_on(work)
}

/// What `work` gives, or a failed test when it takes too long.
#[track_caller]
pub(crate) fn in_time<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(HANG, work).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: {what} takes too long"),
        }
    }
}

/// Looks again and again until `look` sees something, or a failed test.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    in_time(what, async move {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
}

/// A committed guest, such as `hello.wasip1`.
pub(crate) fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../workloads/bin/{name}.wasm"))
}

/// A temporary directory; `data` in it is the data directory.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    /// With a key whose owner is trusted.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        Self { directory, data }.with_key()
    }

    /// The same with the data directory elsewhere.
    pub(crate) fn with_data(data: PathBuf) -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory"), data }.with_key()
    }

    fn with_key(self) -> Self {
        self.vyr(&["key", "new", "me"]);
        self.vyr(&["key", "trust", "me", "--principal", "me"]);
        self
    }

    /// A path beside the data directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.data.join("run/control.sock")
    }

    pub(crate) fn operator(&self) -> PathBuf {
        self.data.join("run/operator.sock")
    }

    pub(crate) fn config(&self, text: &str) {
        fs::write(self.data.join("vyr.toml"), text).expect("a configuration");
    }

    /// The command `vyr --data-dir DATA ARGUMENTS`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(vyr());
        command.arg("--data-dir").arg(&self.data).args(arguments).stdin(Stdio::null());
        for name in ["VYR_DATA_DIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it; the first line of what it printed.
    #[track_caller]
    pub(crate) fn vyr(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("vyr starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Builds and signs an artifact; it is a draft.
    pub(crate) fn draft(&self, name: &str, wasm: &Path, options: &[&str]) -> String {
        let wasm = wasm.to_str().expect("UTF-8");
        let digest = self.vyr(&[&["artifact", "build", wasm, "--name", name], options].concat());
        let key = self.data.join("keys/me");
        self.vyr(&["artifact", "sign", &digest, "--key", key.to_str().expect("UTF-8")]);
        digest
    }

    /// The same, and puts it into the store.
    pub(crate) fn put(&self, name: &str, wasm: &Path, options: &[&str]) -> String {
        let digest = self.draft(name, wasm, options);
        self.vyr(&["artifact", "put", &digest]);
        digest
    }

    /// The same of a module written as text.
    pub(crate) fn put_text(&self, name: &str, text: &str, options: &[&str]) -> String {
        let path = self.path(&format!("{name}.wasm"));
        fs::write(&path, wat::parse_str(text).expect("valid text")).expect("a file");
        self.put(name, &path, options)
    }

    /// `hello` in the store.
    pub(crate) fn put_hello(&self) -> String {
        self.put("hello", &guest("hello.wasip1"), &[])
    }

    /// Starts a node; it need not be ready yet.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same with more in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = self.path("up.log");
        let stderr = OpenOptions::new().append(true).create(true).open(&log).expect("a log");
        let mut command = self.command(&["up"]);
        command.envs(environment.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        Daemon {
            child: child.expect("vyr starts"),
            log,
            control: self.control(),
            operator: self.operator(),
        }
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn ready(&self) -> Daemon {
        let mut daemon = self.start();
        daemon.wait_ready().await;
        daemon
    }
}

/// A node that runs. A test that fails leaves none of its processes behind.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    control: PathBuf,
    operator: PathBuf,
}

impl Daemon {
    pub(crate) async fn wait_ready(&mut self) {
        let operator = Endpoint::Unix(self.operator.clone());
        let (child, log) = (&mut self.child, &self.log);
        until("a node that is ready", async || {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                panic!("it ended ({status}): {}", fs::read_to_string(log).unwrap_or_default());
            }
            let mut client = Client::connect(&operator).await.ok()?;
            client.operator.status(StatusRequest {}).await.ok()
        })
        .await;
    }

    /// A new connection for the owner's calls too.
    pub(crate) async fn client(&self) -> Client {
        in_time("a connection", Client::connect(&Endpoint::Unix(self.operator.clone())))
            .await
            .expect("the node is there")
    }

    /// A new connection for the seven calls.
    pub(crate) async fn control(&self) -> Client {
        in_time("a connection", Client::connect(&Endpoint::Unix(self.control.clone())))
            .await
            .expect("the node is there")
    }

    /// What it says of itself, once it does.
    pub(crate) async fn status(&self) -> StatusResponse {
        let operator = Endpoint::Unix(self.operator.clone());
        until("the node's status", async || {
            let mut client = Client::connect(&operator).await.ok()?;
            Some(client.operator.status(StatusRequest {}).await.ok()?.into_inner())
        })
        .await
    }

    /// The process of this name, once there is one other than `but`.
    pub(crate) async fn process(&self, name: &str, but: Option<Pid>) -> Pid {
        until("a process of the node", async || {
            let status = self.status().await;
            let found = status.processes.iter().find(|process| process.name == name)?;
            let pid = Pid::from_raw(found.pid.cast_signed())?;
            (Some(pid) != but && is_there(pid)).then_some(pid)
        })
        .await
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells it to end and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        assert!(ends(self.pid(), HANG), "it does not end: {}", self.log());
        self.child.wait().expect("a child of ours")
    }

    /// Kills the supervisor, nothing else.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child of ours");
        // Nothing of it is killed by `drop`: its children have to end by themselves.
        std::mem::forget(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let children = children(self.pid());
        let _ = self.child.kill();
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The processes that `parent` started.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which may hold anything: state, parent.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let of = fields.split_whitespace().nth(1).and_then(|field| field.parse().ok());
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if of == Some(parent.as_raw_nonzero().get()) {
            found.extend(pid.and_then(Pid::from_raw));
        }
    }
    found
}

/// Whether a process runs (a zombie does not).
pub(crate) fn is_there(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

/// Waits until `pid` has ended, or `deadline` has passed.
pub(crate) fn ends(pid: Pid, deadline: Duration) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let until = Instant::now() + deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a short time");
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

pub(crate) fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// A submission of nothing but the artifact, an input and a key.
pub(crate) fn submission(artifact: &str, input: &[u8], key: &str) -> SubmitTaskRequest {
    SubmitTaskRequest {
        artifact_digest: artifact.to_owned(),
        input_ref: Some(InputRef::Inline(input.to_vec().into())),
        idempotency_key: key.to_owned(),
        ..SubmitTaskRequest::default()
    }
}

/// Submits and waits for the end.
pub(crate) async fn run(client: &mut Client, request: SubmitTaskRequest) -> TaskEnd {
    let task = in_time("an answer", client.submit_request(request)).await.expect("accepted");
    ended(client, &task).await
}

/// Waits for a task's end.
pub(crate) async fn ended(client: &mut Client, task: &str) -> TaskEnd {
    let span: Result<Span, ApiError> = in_time("the end of a task", client.wait(task)).await;
    span.expect("a terminal span").end.expect("it is terminal")
}

/// A number that the kernel tells of a process, such as `VmRSS` (kB).
pub(crate) fn status_of(pid: Pid, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
}

/// How many descriptors a process holds.
pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours").count()
}
