//! `vyr up`: the supervisor. It starts the other processes and nothing else: it sees no byte from
//! outside, holds no socket but the pairs to its children, and reads no key.
//!
//! ```text
//! up --+-- api      sockets, journal, store, keys; no capability, no path but its own
//!      +-- guide    programs in the kernel that hint to the threads of tasks, and two capabilities
//!      +-- tasks    guests; asked for by api, which gets the other end of its socket
//!      +-- compile  one module; asked for by api, with the module as a descriptor
//!      +-- net      the network; asked for by api, which gets the other end of its socket
//!      +-- images   registries, root disks; asked for by api, likewise
//!      +-- machines VMMs, which outlive it and this process; asked for in the same way
//!      +-- listen   listeners for the ingress, for a moment; asked for by api, likewise
//!      .-- ingress  clients to instances; asked for by api; does not end with the others
//!      +-- keep     the owner's command, if there is one, with a checkpoint as a descriptor
//! ```
//!
//! One thread, so that the parent-death signal of every child means this process.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use vyr_base::{Category, Problem};

use super::compile::{self, CompileLimits};
use super::keeper::Keeper;
use super::wire::{Receiver, Sender};
use super::{Role, images, ingress, machines, net, tasks, this_binary};
use crate::checkpoint_out::CheckpointOut;
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::guidance::Wanted;
use crate::report::{FileError, Result};
use crate::sockets::Sockets;

/// From the supervisor to `api`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToApi {
    /// The settings (JSON); beside it the listening sockets: control, operator, perhaps TCP.
    Begin(String),
    /// `tasks` runs; beside this message: our end of its socket.
    Tasks { pid: u32, restarts: u32, guide: u32 },
    /// It could not be started.
    NoTasks(String),
    /// `guide` has ended; `tasks` goes on without.
    NoGuide,
    /// `net` runs; beside this message: our end of its socket.
    Net { pid: u32 },
    /// It could not be started, or has ended.
    NoNet(Option<String>),
    /// `images` runs; beside this message: our end of its socket.
    Images { pid: u32 },
    /// It could not be started, or has ended.
    NoImages(Option<String>),
    /// `machines` runs; beside this message: our end of its socket.
    Machines { pid: u32 },
    /// It could not be started, or has ended.
    NoMachines(Option<String>),
    /// An ingress was started.
    Ingress { pid: u32 },
    /// It could not be, or has ended.
    NoIngress(Option<String>),
    /// `listen` runs; beside this message: our end of its socket.
    Listen,
    /// It could not be started.
    NoListen(String),
    /// A compilation ended: its exit code or signal.
    CompileEnded { id: u64, code: Option<i32>, signal: Option<i32> },
    /// So many checkpoints more did not get out.
    Unkept(u64),
    /// Finish what runs, then end.
    Drain,
}

/// From `api` to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToUp {
    /// It serves.
    Ready,
    /// It cannot, and why.
    Failed(String),
    /// Start `tasks` anew.
    StartTasks,
    /// End it.
    StopTasks,
    /// Compile; beside this message: Wasm, a memory file for the code, a pipe for the verdict.
    Compile { id: u64 },
    /// End that compilation.
    KillCompile { id: u64 },
    /// Start `net`, which has ended or was never there.
    StartNet,
    /// Start `images`, which has ended or was never there.
    StartImages,
    /// Start `machines`, which has ended or was never there.
    StartMachines,
    /// Start an ingress: none answers.
    StartIngress,
    /// Start `listen`.
    StartListen,
    /// Give the checkpoint beside this message to the command that keeps them.
    KeepCheckpoint,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// One is there.
    #[error("a node is already running on {0}")]
    Running(String),
    /// A process could not be started.
    #[error("cannot start the node's processes")]
    Start(#[source] io::Error),
    /// The process that serves says it cannot.
    #[error("the node cannot serve: {0}")]
    Api(String),
    /// It ends again and again.
    #[error("the process that serves ended {0} times in a row")]
    Crashing(usize),
}

impl Problem for UpError {
    fn category(&self) -> Category {
        match self {
            Self::Running(_) => Category::Conflict,
            Self::Start(_) | Self::Crashing(_) => Category::Internal,
            Self::Api(_) => Category::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Running(_) => Some("vyr status shows it".into()),
            Self::Api(_) | Self::Crashing(_) => Some("vyr doctor says what is missing".into()),
            Self::Start(_) => None,
        }
    }
}

/// An `api` that ends this many times in a row is not started again.
const CRASHES_MAX: usize = 10;

/// An `api` that lived this long did not crash at once.
const STEADY: Duration = Duration::from_secs(10);

/// Between a crash and the next start, for each crash before it.
const PAUSE: Duration = Duration::from_millis(100);

/// Time limits are looked at this often when nothing happens.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What children get after they were told to end.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Runs a node until it is told to stop. `narrate` is called when it serves.
pub fn up(data: &DataDir, settings: &Settings, narrate: impl Fn(&str)) -> Result<()> {
    let lock = fs::File::create(data.directory("node")?.join("up.lock"))
        .map_err(FileError::on("make", &data.path().join("node/up.lock")))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(UpError::Running(data.path().display().to_string()).into());
    }
    let signals = Signals::new().map_err(UpError::Start)?;
    let mut supervisor = Supervisor {
        settings,
        signals,
        api: None,
        tasks: None,
        guide: None,
        net: None,
        images: None,
        machines: None,
        ingress: None,
        listen: None,
        task_starts: 0,
        compiles: HashMap::new(),
        keeper: match &settings.checkpoint_out {
            Some(CheckpointOut::Command(words)) => Some(Keeper::new(words)),
            _ => None,
        },
        crashes: VecDeque::new(),
        draining: None,
    };
    let ended = supervisor.run(&narrate);
    supervisor.end_all();
    let sockets = Sockets { directory: settings.run.clone() };
    for path in [sockets.control(), sockets.operator()] {
        let _ = fs::remove_file(path);
    }
    ended
}

/// Signals as a descriptor to wait on, and flags.
struct Signals {
    woken: UnixStream,
    stop: Arc<AtomicBool>,
    now: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (stop, now) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGTERM, SIGINT] {
            // The second one does not wait: the first has set `stop` by then.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&now))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self { woken, stop, now })
    }

    fn drain(&self) {
        let mut buffer = [0; 64];
        while matches!(io::Read::read(&mut &self.woken, &mut buffer), Ok(n) if n > 0) {}
    }
}

struct Api {
    child: Child,
    sender: Sender,
    receiver: Receiver,
    socket: UnixStream,
    since: Instant,
}

struct Supervisor<'a> {
    settings: &'a Settings,
    signals: Signals,
    api: Option<Api>,
    tasks: Option<Child>,
    guide: Option<Child>,
    net: Option<Child>,
    images: Option<Child>,
    machines: Option<Child>,
    /// The one that this node has started; not one that it has found.
    ingress: Option<Child>,
    listen: Option<Child>,
    task_starts: u32,
    compiles: HashMap<u64, Child>,
    keeper: Option<Keeper>,
    crashes: VecDeque<Instant>,
    draining: Option<Instant>,
}

impl Supervisor<'_> {
    fn run(&mut self, narrate: &impl Fn(&str)) -> Result<()> {
        self.start_api()?;
        loop {
            if self.signals.stop.load(Ordering::SeqCst) && self.draining.is_none() {
                self.drain();
            }
            self.wait();
            self.signals.drain();
            self.obey(narrate)?;
            self.reap();
            let ended = self.api.as_mut().and_then(|api| api.child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.stop_tasks();
                self.stop_net();
                self.stop_images();
                self.stop_machines();
                if let Some(until) = self.draining {
                    // Its last words may have come after the look above.
                    self.obey(narrate)?;
                    self.keep_last(until);
                    return Ok(());
                }
                self.crashed(status)?;
            }
            if self.draining.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
        }
    }

    /// Does what `api` has asked for by now.
    fn obey(&mut self, narrate: &impl Fn(&str)) -> Result<()> {
        while let Some((message, mut beside)) = self.next_message() {
            match message {
                ToUp::Ready => {
                    let _ = sd_notify::notify(&[NotifyState::Ready]);
                    narrate("ready");
                }
                ToUp::Failed(why) => return Err(UpError::Api(why).into()),
                ToUp::StartTasks => self.start_tasks(),
                ToUp::StopTasks => self.stop_tasks(),
                ToUp::StartNet => self.start_net(),
                ToUp::StartImages => self.start_images(),
                ToUp::StartMachines => self.start_machines(),
                ToUp::StartIngress => self.start_ingress(),
                ToUp::StartListen => self.start_listen(),
                ToUp::Compile { id } => self.compile(id, beside),
                ToUp::KillCompile { id } => {
                    if let Some(child) = self.compiles.get_mut(&id) {
                        let _ = child.kill();
                    }
                }
                ToUp::KeepCheckpoint => {
                    if let (Some(keeper), Some(checkpoint)) = (&mut self.keeper, beside.pop()) {
                        keeper.take(checkpoint);
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the command take the last checkpoint, the one over all there is.
    fn keep_last(&mut self, until: Instant) {
        while let Some(keeper) = &mut self.keeper
            && !keeper.is_idle()
            && Instant::now() < until
        {
            let mut woken = [PollFd::new(&self.signals.woken, PollFlags::IN)];
            let _ = poll(&mut woken, Some(&LOOK_AGAIN));
            self.signals.drain();
            keeper.look();
        }
    }

    /// Waits for a message, a signal, or the end of the drain.
    fn wait(&self) {
        let Some(api) = &self.api else { return };
        let mut both = [
            PollFd::new(&api.socket, PollFlags::IN),
            PollFd::new(&self.signals.woken, PollFlags::IN),
        ];
        // A child that ended between the last look and now has left a byte in the signal pipe.
        let _ = poll(&mut both, Some(&LOOK_AGAIN));
    }

    /// A message that is there, without waiting for one.
    fn next_message(&mut self) -> Option<(ToUp, Vec<OwnedFd>)> {
        let api = self.api.as_mut()?;
        if let Ok(Some(message)) = api.receiver.buffered() {
            return Some(message);
        }
        let mut readable = [PollFd::new(&api.socket, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut readable, Some(&now)).is_ok_and(|n| n > 0);
        // At its end the process is reaped; what it said last counts all the same.
        if ready { api.receiver.next().ok().flatten() } else { None }
    }

    fn tell(&mut self, message: &ToApi, beside: &[std::os::fd::BorrowedFd<'_>]) {
        if let Some(api) = &mut self.api {
            // If it is gone, its end is noticed next.
            let _ = api.sender.send(message, beside).and_then(|()| api.sender.flush());
        }
    }

    fn start_api(&mut self) -> Result<()> {
        let listeners = bind(self.settings)?;
        let start = || -> io::Result<Api> {
            let (ours, theirs) = UnixStream::pair()?;
            let mut command = Command::new(this_binary());
            command.arg(Role::Api.argument()).env_clear().current_dir("/");
            // What OpenTelemetry is told, and nothing else.
            for (key, value) in std::env::vars_os() {
                if key
                    .to_str()
                    .is_some_and(|key| key.starts_with("OTEL_") || key == "SSL_CERT_FILE")
                {
                    command.env(key, value);
                }
            }
            let child =
                command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn()?;
            Ok(Api {
                child,
                sender: Sender::new(ours.try_clone()?),
                receiver: Receiver::new(ours.try_clone()?),
                socket: ours,
                since: Instant::now(),
            })
        };
        self.api = Some(start().map_err(UpError::Start)?);
        let settings = serde_json::to_string(self.settings)
            .map_err(|e| UpError::Start(io::Error::other(e)))?;
        let beside: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        self.tell(&ToApi::Begin(settings), &beside);
        Ok(())
    }

    fn crashed(&mut self, status: ExitStatus) -> Result<()> {
        let lived = self.api.take().map_or(Duration::ZERO, |api| api.since.elapsed());
        if lived >= STEADY {
            self.crashes.clear();
        }
        self.crashes.push_back(Instant::now());
        if self.crashes.len() >= CRASHES_MAX {
            return Err(UpError::Crashing(self.crashes.len()).into());
        }
        eprintln!("vyr up: the process api ended ({status}); it is started again");
        for (_, mut child) in self.compiles.drain() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let pause = PAUSE * u32::try_from(self.crashes.len() - 1).unwrap_or(0);
        std::thread::sleep(pause);
        self.start_api()
    }

    fn start_tasks(&mut self) {
        self.stop_tasks();
        let started = UnixStream::pair().and_then(|(ours, theirs)| {
            let Settings { slots, workers, .. } = self.settings;
            let guide = self.start_guide();
            let child = tasks::command(*slots, *workers, theirs, guide).spawn()?;
            Ok((child, ours))
        });
        match started {
            Ok((child, ours)) => {
                let (pid, restarts) = (child.id(), self.task_starts);
                self.task_starts += 1;
                self.tasks = Some(child);
                let guide = self.guide.as_ref().map_or(0, Child::id);
                self.tell(&ToApi::Tasks { pid, restarts, guide }, &[ours.as_fd()]);
            }
            Err(e) => self.tell(&ToApi::NoTasks(e.to_string()), &[]),
        }
    }

    /// Starts `guide`, if it is wanted; the end of its socket that is for `tasks`. Without one tasks
    /// run as they would anyway, and `status` says so.
    fn start_guide(&mut self) -> Option<OwnedFd> {
        let wanted = match self.settings.guidance {
            Wanted::Off => return None,
            Wanted::Psi => "psi",
            Wanted::Observe => "observe",
        };
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).ok()?;
        // Before `tasks` can have said anything.
        morpheus::agent::tell_senders(&ours).ok()?;
        let mut command = Command::new(this_binary());
        command.args([Role::Guide.argument(), wanted]).env_clear().current_dir("/");
        if let Some(object) = std::env::var_os(BPF_OBJECT) {
            command.env(BPF_OBJECT, object);
        }
        let child = command.stdin(Stdio::from(ours)).stdout(Stdio::null()).spawn();
        match child {
            Ok(child) => self.guide = Some(child),
            Err(e) => eprintln!("vyr up: cannot start guide: {e}"),
        }
        Some(theirs)
    }

    /// Ends `tasks`, and waits until it is gone: what it ran must not run beside its successor.
    fn stop_tasks(&mut self) {
        if let Some(mut child) = self.tasks.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(mut child) = self.guide.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn start_net(&mut self) {
        self.stop_net();
        match net::start(&self.settings.data) {
            Ok((child, ours)) => {
                let pid = child.id();
                self.net = Some(child);
                self.tell(&ToApi::Net { pid }, &[ours.as_fd()]);
            }
            Err(e) => self.tell(&ToApi::NoNet(Some(e.to_string())), &[]),
        }
    }

    /// Ends `net`. What it was in the middle of is taken back by the confirm timer.
    fn stop_net(&mut self) {
        if let Some(mut child) = self.net.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn start_images(&mut self) {
        self.stop_images();
        match images::start(&self.settings.data) {
            Ok((child, ours)) => {
                let pid = child.id();
                self.images = Some(child);
                self.tell(&ToApi::Images { pid }, &[ours.as_fd()]);
            }
            Err(e) => self.tell(&ToApi::NoImages(Some(e.to_string())), &[]),
        }
    }

    /// Ends `images`. What arrived is kept.
    fn stop_images(&mut self) {
        if let Some(mut child) = self.images.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn start_machines(&mut self) {
        self.stop_machines();
        match machines::start(&self.settings.data, &self.settings.machines) {
            Ok((child, ours)) => {
                let pid = child.id();
                self.machines = Some(child);
                self.tell(&ToApi::Machines { pid }, &[ours.as_fd()]);
            }
            Err(e) => self.tell(&ToApi::NoMachines(Some(e.to_string())), &[]),
        }
    }

    /// Ends `machines`. VMMs go on; the next one takes them over.
    fn stop_machines(&mut self) {
        if let Some(mut child) = self.machines.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts an ingress. None is ended for it: one that runs has the control socket's lock.
    fn start_ingress(&mut self) {
        match ingress::start(&self.settings.data) {
            Ok(child) => {
                let pid = child.id();
                self.ingress = Some(child);
                self.tell(&ToApi::Ingress { pid }, &[]);
            }
            Err(e) => self.tell(&ToApi::NoIngress(Some(e.to_string())), &[]),
        }
    }

    fn start_listen(&mut self) {
        self.stop_listen();
        match ingress::start_listen() {
            Ok((child, ours)) => {
                self.listen = Some(child);
                self.tell(&ToApi::Listen, &[ours.as_fd()]);
            }
            Err(e) => self.tell(&ToApi::NoListen(e.to_string()), &[]),
        }
    }

    fn stop_listen(&mut self) {
        if let Some(mut child) = self.listen.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn compile(&mut self, id: u64, beside: Vec<OwnedFd>) {
        let mut beside = beside.into_iter();
        let (Some(wasm), Some(code), Some(verdict)) = (beside.next(), beside.next(), beside.next())
        else {
            return self.tell(&ToApi::CompileEnded { id, code: None, signal: None }, &[]);
        };
        let child = compile::command(&CompileLimits::default())
            .stdin(Stdio::from(wasm))
            .stdout(Stdio::from(code))
            .stderr(Stdio::from(verdict))
            .spawn();
        match child {
            Ok(child) => {
                self.compiles.insert(id, child);
            }
            Err(_) => self.tell(&ToApi::CompileEnded { id, code: None, signal: None }, &[]),
        }
    }

    /// Takes the exit status of children that ended.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        self.compiles.retain(|id, child| match child.try_wait() {
            Ok(Some(status)) => {
                ended.push((*id, status));
                false
            }
            _ => true,
        });
        for (id, status) in ended {
            let (code, signal) = (status.code(), status.signal());
            self.tell(&ToApi::CompileEnded { id, code, signal }, &[]);
        }
        // `api` hears of it from its socket.
        if self.tasks.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.tasks = None;
        }
        // `tasks` hears of this one, and goes on with a timer.
        if self.guide.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.guide = None;
            self.tell(&ToApi::NoGuide, &[]);
        }
        if self.net.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.net = None;
            self.tell(&ToApi::NoNet(None), &[]);
        }
        if self.images.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.images = None;
            self.tell(&ToApi::NoImages(None), &[]);
        }
        if self.machines.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.machines = None;
            self.tell(&ToApi::NoMachines(None), &[]);
        }
        if self.ingress.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.ingress = None;
            self.tell(&ToApi::NoIngress(None), &[]);
        }
        if self.listen.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            self.listen = None;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.look();
            let unkept = keeper.failures();
            if unkept > 0 {
                self.tell(&ToApi::Unkept(unkept), &[]);
            }
        }
    }

    fn drain(&mut self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        self.signals.now.store(true, Ordering::SeqCst);
        let patience = Duration::from_millis(self.settings.drain_ms) + LAST_GRACE;
        self.draining = Some(Instant::now() + patience);
        self.tell(&ToApi::Drain, &[]);
    }

    fn end_all(&mut self) {
        self.stop_tasks();
        self.stop_net();
        self.stop_images();
        self.stop_machines();
        self.stop_listen();
        self.keeper = None;
        let api = self.api.take().map(|api| api.child);
        for mut child in api.into_iter().chain(self.compiles.drain().map(|(_, child)| child)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Names the object file of the kernel's programs, for `guide`.
const BPF_OBJECT: &str = "VYR_BPF_OBJECT";

/// Makes the sockets: control (root:vyr 0660 for the system's node), operator (0600), TCP.
fn bind(settings: &Settings) -> Result<Vec<OwnedFd>> {
    let sockets = Sockets { directory: settings.run.clone() };
    let system = settings.run == Path::new("/run/vyr");
    let mode = if system { 0o755 } else { 0o700 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(&settings.run)
        .map_err(FileError::on("make", &settings.run))?;
    let group = if system { group_id("vyr") } else { None };
    let mut listeners: Vec<OwnedFd> = Vec::new();
    for (path, shared) in [(sockets.control(), true), (sockets.operator(), false)] {
        // Left over: whoever listened is gone, because we hold the lock.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(FileError::on("listen on", &path))?;
        let mode = match (shared, group) {
            (true, Some(group)) => {
                std::os::unix::fs::chown(&path, None, Some(group))
                    .map_err(FileError::on("give to the group vyr", &path))?;
                0o660
            }
            _ => 0o600,
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(FileError::on("protect", &path))?;
        listeners.push(listener.into());
    }
    if let Some(listen) = &settings.listen {
        let listener = TcpListener::bind(listen.address)
            .map_err(FileError::on("listen on", Path::new(&listen.address.to_string())))?;
        listeners.push(listener.into());
    }
    Ok(listeners)
}

/// The number of a group, from /etc/group.
pub(crate) fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}
