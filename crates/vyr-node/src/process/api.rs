//! The process `api`: sockets, journal, store and keys; no capability, no guest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Waiting, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::sync::watch;
use vyr_base::Problem;
use vyr_task::{CompileFailure, Compiler, MachineCode};

use super::Doors;
use super::changes;
use super::compile::{self, CompileLimits, Verdict};
use super::confine::{ApiPaths, confine_api};
use super::images::ImagesDoor;
use super::ingress::IngressDoor;
use super::net::NetDoor;
use super::up::{ToApi, ToUp};
use super::wire::{Receiver, Sender};
use crate::api::{About, Access, Listeners, Tls, serve};
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::machines::MachinesDoor;
use crate::node::{Host, Metrics, Node, NodeConfig, NodeError, Retention};
use crate::otlp::Otlp;
use crate::services::{self, Services};

/// How long the supervisor may take to start a process.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// What calls get to end once all tasks have.
const CALLS_GRACE: Duration = Duration::from_secs(1);

/// The life of the process, from inside.
pub(super) fn run() -> u8 {
    let socket = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(fd) => UnixStream::from(fd),
        Err(e) => {
            eprintln!("vyr api: no socket on stdin: {e}");
            return 7;
        }
    };
    let Ok(clone) = socket.try_clone() else { return 7 };
    let supervisor = Supervisor {
        sender: Arc::new(Mutex::new(Sender::new(clone))),
        compiles: Arc::default(),
        ids: Arc::new(AtomicU64::new(0)),
    };
    match live(&supervisor, socket) {
        Ok(()) => 0,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            supervisor.tell(&ToUp::Failed(format!("{error}{hint}")), &[]);
            error.category().exit_code()
        }
    }
}

/// This end of the socket to `up`.
#[derive(Debug, Clone)]
struct Supervisor {
    sender: Arc<Mutex<Sender>>,
    compiles: Arc<Mutex<HashMap<u64, SyncSender<Verdict>>>>,
    ids: Arc<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervisor {
    /// If the supervisor is gone, so is this process in a moment.
    fn tell(&self, message: &ToUp, beside: &[std::os::fd::BorrowedFd<'_>]) {
        let mut sender = lock(&self.sender);
        let _ = sender.send(message, beside).and_then(|()| sender.flush());
    }
}

/// The host whose `tasks` the supervisor starts.
struct Remote {
    supervisor: Supervisor,
    started: Waiting<io::Result<OwnedFd>>,
}

impl Host for Remote {
    fn start_tasks(&mut self) -> io::Result<UnixStream> {
        self.supervisor.tell(&ToUp::StartTasks, &[]);
        let started = self.started.recv_timeout(START_PATIENCE).map_err(io::Error::other)?;
        started.map(UnixStream::from)
    }

    fn stop_tasks(&mut self) {
        self.supervisor.tell(&ToUp::StopTasks, &[]);
    }

    fn keep_checkpoint(&mut self, checkpoint: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut memory = File::from(memfd_create("vyr-checkpoint", flags)?);
        memory.write_all(checkpoint)?;
        memory.rewind()?;
        // The command reads what was signed, whatever becomes of this process.
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&memory, all)?;
        self.supervisor.tell(&ToUp::KeepCheckpoint, &[memory.as_fd()]);
        Ok(())
    }
}

/// The compiler whose processes the supervisor starts.
struct RemoteCompiler(Supervisor);

impl Compiler for RemoteCompiler {
    fn compile(&self, wasm: File) -> Result<MachineCode, CompileFailure> {
        compile::compile_with(wasm, &CompileLimits::default(), |wasm, code, verdict, patience| {
            let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
            let (ended, end) = sync_channel(1);
            lock(&self.0.compiles).insert(id, ended);
            self.0.tell(&ToUp::Compile { id }, &[wasm.as_fd(), code.as_fd(), verdict.as_fd()]);
            // Ours would keep the verdict from ending.
            drop(verdict);
            let answer = match end.recv_timeout(patience) {
                Ok(answer) => answer,
                Err(_) => {
                    self.0.tell(&ToUp::KillCompile { id }, &[]);
                    let _ = end.recv_timeout(START_PATIENCE);
                    Verdict::Late
                }
            };
            lock(&self.0.compiles).remove(&id);
            Ok(answer)
        })
    }
}

fn live(supervisor: &Supervisor, socket: UnixStream) -> Result<(), NodeError> {
    let broken = |what: &str| NodeError::Invalid(what.to_owned());
    let mut messages = Receiver::new(socket);
    let Ok(Some((ToApi::Begin(settings), beside))) = messages.next::<ToApi>() else {
        return Err(broken("the supervisor did not say what to do"));
    };
    let settings: Settings = serde_json::from_str(&settings)
        .map_err(|e| NodeError::Invalid(format!("settings: {e}")))?;
    let mut beside = beside.into_iter();
    let (Some(control), Some(operator)) = (beside.next(), beside.next()) else {
        return Err(broken("no sockets"));
    };
    let tcp = match (&settings.listen, beside.next()) {
        (Some(listen), Some(socket)) => {
            let tls = Tls {
                certificate: read(&listen.certificate)?,
                key: read(&listen.key)?,
                client_ca: read(&listen.client_ca)?,
            };
            Some((TcpListener::from(socket), tls))
        }
        _ => None,
    };
    let listeners = Listeners {
        control: UnixListener::from(control),
        operator: UnixListener::from(operator),
        tcp,
    };
    let own_uid = rustix::process::getuid().as_raw();
    let access =
        Access::new(&settings.access, own_uid).map_err(|e| NodeError::Invalid(e.to_string()))?;
    let data = DataDir::open(&settings.data).map_err(crate::Report::from)?;
    let checkpoint_directory =
        settings.checkpoint_out.as_ref().and_then(|out| out.file()?.parent().map(PathBuf::from));
    confine_api(&ApiPaths {
        writable: [Some(data.path().to_owned()), checkpoint_directory]
            .into_iter()
            .flatten()
            .collect(),
        readable: certificates(),
    })
    .map_err(|e| NodeError::Invalid(e.to_string()))?;

    let (tasks_sender, tasks_started) = sync_channel(1);
    let (net_sender, net_started) = sync_channel(1);
    let net_pid = Arc::new(AtomicU32::new(0));
    let net_pid_of_reader = Arc::clone(&net_pid);
    let (images_sender, images_started) = sync_channel(1);
    let images_pid = Arc::new(AtomicU32::new(0));
    let images_pid_of_reader = Arc::clone(&images_pid);
    let (machines_sender, machines_started) = sync_channel(1);
    let machines_pid = Arc::new(AtomicU32::new(0));
    let machines_pid_of_reader = Arc::clone(&machines_pid);
    let (ingress_sender, ingress_started) = sync_channel(1);
    let (listen_sender, listen_started) = sync_channel(1);
    let (stop_sender, stop) = watch::channel(false);
    let tasks_pid = Arc::new((AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)));
    let pid_of_reader = Arc::clone(&tasks_pid);
    let of_reader = supervisor.clone();
    let metrics: Arc<OnceLock<Arc<Metrics>>> = Arc::default();
    let metrics_of_reader = Arc::clone(&metrics);
    let (drain_sender, drain) = sync_channel::<()>(1);
    thread::Builder::new()
        .name("vyr-supervised".into())
        .spawn(move || {
            // Not counted yet, because there was no node to count them.
            let mut unkept = 0;
            while let Ok(Some((message, mut beside))) = messages.next::<ToApi>() {
                match message {
                    ToApi::Tasks { pid, restarts, guide } => {
                        pid_of_reader.2.store(guide, Ordering::Relaxed);
                        pid_of_reader.0.store(pid, Ordering::Relaxed);
                        pid_of_reader.1.store(restarts, Ordering::Relaxed);
                        let socket =
                            beside.pop().ok_or_else(|| io::Error::other("no socket beside it"));
                        let _ = tasks_sender.send(socket);
                    }
                    ToApi::Net { pid } => {
                        net_pid_of_reader.store(pid, Ordering::Relaxed);
                        let socket =
                            beside.pop().ok_or_else(|| io::Error::other("no socket beside it"));
                        let _ = net_sender.send(socket);
                    }
                    ToApi::NoNet(why) => {
                        net_pid_of_reader.store(0, Ordering::Relaxed);
                        if let Some(why) = why {
                            let _ = net_sender.send(Err(io::Error::other(why)));
                        }
                    }
                    ToApi::Images { pid } => {
                        images_pid_of_reader.store(pid, Ordering::Relaxed);
                        let socket =
                            beside.pop().ok_or_else(|| io::Error::other("no socket beside it"));
                        let _ = images_sender.send(socket);
                    }
                    ToApi::NoImages(why) => {
                        images_pid_of_reader.store(0, Ordering::Relaxed);
                        if let Some(why) = why {
                            let _ = images_sender.send(Err(io::Error::other(why)));
                        }
                    }
                    ToApi::Machines { pid } => {
                        machines_pid_of_reader.store(pid, Ordering::Relaxed);
                        let socket =
                            beside.pop().ok_or_else(|| io::Error::other("no socket beside it"));
                        let _ = machines_sender.try_send(socket);
                    }
                    ToApi::NoMachines(why) => {
                        machines_pid_of_reader.store(0, Ordering::Relaxed);
                        if let Some(why) = why {
                            let _ = machines_sender.try_send(Err(io::Error::other(why)));
                        }
                    }
                    ToApi::Ingress { pid } => {
                        let _ = ingress_sender.try_send(Ok(pid));
                    }
                    ToApi::NoIngress(why) => {
                        if let Some(why) = why {
                            let _ = ingress_sender.try_send(Err(io::Error::other(why)));
                        }
                    }
                    ToApi::Listen => {
                        let socket =
                            beside.pop().ok_or_else(|| io::Error::other("no socket beside it"));
                        let _ = listen_sender.send(socket);
                    }
                    ToApi::NoListen(why) => {
                        let _ = listen_sender.send(Err(io::Error::other(why)));
                    }
                    ToApi::NoGuide => pid_of_reader.2.store(0, Ordering::Relaxed),
                    ToApi::NoTasks(why) => {
                        let _ = tasks_sender.send(Err(io::Error::other(why)));
                    }
                    ToApi::CompileEnded { id, code, signal } => {
                        if let Some(waiting) = lock(&of_reader.compiles).get(&id) {
                            let _ = waiting.try_send(Verdict::Ended { code, signal });
                        }
                    }
                    ToApi::Drain => {
                        let _ = drain_sender.try_send(());
                    }
                    ToApi::Unkept(more) => {
                        unkept += more;
                        if let Some(metrics) = metrics_of_reader.get() {
                            let unkept = std::mem::take(&mut unkept);
                            metrics.checkpoints_unwritten.fetch_add(unkept, Ordering::Relaxed);
                        }
                    }
                    ToApi::Begin(_) => {}
                }
            }
            // The supervisor is gone: without it nothing can be started or ended.
            std::process::exit(6);
        })
        .map_err(|e| NodeError::Invalid(format!("cannot start a thread: {e}")))?;

    let host = Remote { supervisor: supervisor.clone(), started: tasks_started };
    let config = NodeConfig {
        budget: settings.budget(),
        queue_max: settings.queue,
        retention: Retention { tasks: settings.kept },
        state_idle: Duration::from_millis(settings.state_idle_ms),
        checkpoint_out: settings.checkpoint_out.clone(),
        adopt: true,
    };
    let compiler = Arc::new(RemoteCompiler(supervisor.clone()));
    let node = Arc::new(Node::start(&data, config, Box::new(host), compiler)?);
    let _ = metrics.set(Arc::clone(node.metrics()));
    let otlp = Otlp::start(Arc::clone(&node)).map_err(crate::Report::from)?;
    let processes = move || {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let guide = tasks_pid.2.load(Ordering::Relaxed);
        let guide = (guide != 0).then(|| ("guide".to_owned(), guide, 0));
        let mut processes = vec![
            ("up".to_owned(), parent.unsigned_abs(), 0),
            ("api".to_owned(), std::process::id(), 0),
            (
                "tasks".to_owned(),
                tasks_pid.0.load(Ordering::Relaxed),
                tasks_pid.1.load(Ordering::Relaxed),
            ),
        ];
        processes.extend(guide);
        let net = net_pid.load(Ordering::Relaxed);
        processes.extend((net != 0).then(|| ("net".to_owned(), net, 0)));
        let images = images_pid.load(Ordering::Relaxed);
        processes.extend((images != 0).then(|| ("images".to_owned(), images, 0)));
        let machines = machines_pid.load(Ordering::Relaxed);
        processes.extend((machines != 0).then(|| ("machines".to_owned(), machines, 0)));
        processes
    };
    let of_net = supervisor.clone();
    let net = NetDoor::new(move || of_net.tell(&ToUp::StartNet, &[]), net_started);
    let net = Arc::new(net);
    let of_images = supervisor.clone();
    let start_images = move || of_images.tell(&ToUp::StartImages, &[]);
    let images = ImagesDoor::new(data.path(), start_images, images_started);
    let of_machines = supervisor.clone();
    let start_machines = move || of_machines.tell(&ToUp::StartMachines, &[]);
    let (machine_events, inbox) = services::inbox();
    let events = machine_events.clone();
    let on_event = move |event| events.take(event);
    let machines = MachinesDoor::new(data.path(), start_machines, machines_started, on_event)
        .map_err(|e| NodeError::Invalid(format!("cannot start a thread: {e}")))?;
    let (of_ingress, of_listen) = (supervisor.clone(), supervisor.clone());
    let ingress = IngressDoor::new(
        data.path(),
        move || of_ingress.tell(&ToUp::StartIngress, &[]),
        move || of_listen.tell(&ToUp::StartListen, &[]),
        (ingress_started, listen_started),
    );
    let plain_http = settings.plain_http.clone();
    let doors = Doors { net: Arc::clone(&net), images, ingress, machines, plain_http };
    let services = Services::start(&data, &node, Arc::new(doors), (machine_events, inbox))
        .map_err(|e| NodeError::Other(e.into()))?;
    changes::keep(&node)?;
    let about = About {
        processes: Arc::new(processes),
        telemetry: otlp.as_ref().map(Otlp::health),
        limits: settings.limits,
        ceilings: settings.ceilings,
        network: Some(Arc::clone(&net)),
        services: Some(Arc::new(services)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| NodeError::Invalid(format!("cannot make a runtime: {e}")))?;
    let draining = Arc::clone(&node);
    let patience = Duration::from_millis(settings.drain_ms);
    thread::Builder::new()
        .name("vyr-drain".into())
        .spawn(move || {
            if drain.recv().is_ok() {
                draining.stop(patience);
                let _ = stop_sender.send(true);
            }
        })
        .map_err(|e| NodeError::Invalid(format!("cannot start a thread: {e}")))?;
    let ready = supervisor.clone();
    let served = runtime.block_on(async {
        let mut stopped = stop.clone();
        let serving = serve(Arc::clone(&node), access, listeners, about, stop);
        ready.tell(&ToUp::Ready, &[]);
        tokio::select! {
            served = serving => served,
            () = async {
                let _ = stopped.wait_for(|stop| *stop).await;
                tokio::time::sleep(CALLS_GRACE).await;
            } => Ok(()),
        }
    });
    runtime.shutdown_background();
    if let Some(otlp) = otlp {
        otlp.stop();
    }
    served.map_err(|e| NodeError::Invalid(format!("{e}")))
}

/// Files that the environment names for the collector's certificates.
fn certificates() -> Vec<PathBuf> {
    const NAMES: [&str; 4] = [
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        "SSL_CERT_FILE",
    ];
    NAMES.into_iter().filter_map(std::env::var_os).map(PathBuf::from).collect()
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, NodeError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
    read.map_err(|e| NodeError::Other(crate::FileError::on("read", path)(e).into()))?;
    Ok(bytes)
}
