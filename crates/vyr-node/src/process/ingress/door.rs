//! The way to the ingress, from `api`: the one that runs, or a new one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver as Waiting, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use vyr_base::{Category, Digest, Problem};
use vyr_ingress::{Config, ConfigError, ControlError, hand_over, missing};

use super::{Made, Wanted};
use crate::process::wire::{Receiver, send_one};

/// How long the supervisor may take to start a process, and a new ingress to answer.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Connections at one time, two descriptors each.
const CONNECTIONS_MAX: u64 = 16_384;

/// Descriptors of an ingress besides those: pipes, listeners, threads.
const DESCRIPTORS_BESIDES: u64 = 2048;

/// Between two looks whether a new ingress answers.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why the ingress does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngressDoorError {
    /// It is not told this at all.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It refuses, or does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It could not be started.
    #[error("the process {name} was not started: {why}")]
    Start {
        /// Which of the two.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// Nobody gives a listener.
    #[error("{message}")]
    Listen {
        /// Which, and why.
        message: String,
        /// What kind of refusal.
        category: Category,
        /// How to mend it.
        hint: Option<String>,
    },
    /// What it says of itself cannot be read.
    #[error("the status of the ingress cannot be read")]
    Status(#[source] serde_json::Error),
}

impl Problem for IngressDoorError {
    fn category(&self) -> Category {
        match self {
            Self::Config(e) => e.category(),
            Self::Control(e) => e.category(),
            Self::Start { .. } => Category::Transient,
            Self::Listen { category, .. } => *category,
            Self::Status(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(e) => e.hint(),
            Self::Control(ControlError::Silent { .. }) => {
                Some("it is started again when it is told something".into())
            }
            Self::Control(e) => e.hint(),
            Self::Listen { hint, .. } => hint.clone(),
            Self::Start { .. } | Self::Status(_) => None,
        }
    }
}

/// What an ingress says of itself: the part that a node goes by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IngressStatus {
    /// Its process.
    pub pid: u32,
    /// The digest of the configuration that it uses.
    pub config: Digest,
    /// Backends that it knows, and those that still have connections.
    pub backends: Vec<BackendStatus>,
}

/// One backend of one route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BackendStatus {
    /// The route's name.
    pub route: String,
    /// Its address.
    pub address: SocketAddr,
    /// Whether new connections go there.
    pub ready: bool,
    /// Connections that are open.
    pub open: u64,
}

/// What a supervisor says when it has started something.
pub(crate) type Started<T> = Waiting<io::Result<T>>;

/// The way to the ingress.
pub struct IngressDoor {
    control: PathBuf,
    start: Box<dyn Fn() + Send + Sync>,
    listen: Box<dyn Fn() + Send + Sync>,
    inside: Mutex<(Started<u32>, Started<OwnedFd>)>,
}

impl std::fmt::Debug for IngressDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngressDoor").field("control", &self.control).finish_non_exhaustive()
    }
}

impl IngressDoor {
    /// `start` asks the supervisor for an ingress and `listen` for what makes its listeners; the
    /// answers come by the channels of the same order.
    pub(crate) fn new(
        data: &Path,
        start: impl Fn() + Send + Sync + 'static,
        listen: impl Fn() + Send + Sync + 'static,
        started: (Started<u32>, Started<OwnedFd>),
    ) -> Self {
        let (start, listen) = (Box::new(start), Box::new(listen));
        Self { control: super::control(data), start, listen, inside: Mutex::new(started) }
    }

    /// The same without a supervisor: both are children of this process. The ingress goes on when
    /// this process ends.
    pub fn alone(data: &Path) -> Self {
        let children: Arc<Mutex<Vec<Child>>> = Arc::default();
        let keep = move |children: &Mutex<Vec<Child>>, child| {
            let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
            children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            children.push(child);
        };
        let (tell_start, started) = sync_channel(1);
        let (tell_listen, listening) = sync_channel(1);
        let (data_of_start, of_start) = (data.to_owned(), Arc::clone(&children));
        let start = move || {
            let pid = super::start(&data_of_start).map(|child| {
                let pid = child.id();
                keep(&of_start, child);
                pid
            });
            // Who asked waits for it.
            let _ = tell_start.send(pid);
        };
        let listen = move || {
            let socket = super::start_listen().map(|(child, socket)| {
                keep(&children, child);
                OwnedFd::from(socket)
            });
            let _ = tell_listen.send(socket);
        };
        Self::new(data, start, listen, (started, listening))
    }

    /// The path that a configuration for it names as `control`.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Connections at one time that it can be told to allow: as the limit of descriptors is here.
    pub fn connections_max(&self) -> u64 {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let may = limit.maximum.unwrap_or(u64::MAX);
        (may.saturating_sub(DESCRIPTORS_BESIDES) / 2).clamp(1, CONNECTIONS_MAX)
    }

    /// What it says of itself; none: there is none.
    ///
    /// # Errors
    /// Somebody else answers there, or something that is no status.
    pub fn status(&self) -> Result<Option<IngressStatus>, IngressDoorError> {
        match vyr_ingress::status(&self.control) {
            Ok(status) => read(status).map(Some),
            Err(e) if is_nobody(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Its process, without a word to it; none: there is none.
    ///
    /// # Errors
    /// Somebody else answers there, or it cannot be seen.
    pub fn pid(&self) -> Result<Option<u32>, IngressDoorError> {
        match vyr_ingress::pid(&self.control) {
            Ok(pid) => Ok(Some(pid)),
            Err(e) if is_nobody(&e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Has it use a configuration, whole or not at all; blocks. If there is none it is started; one
    /// that outlived another node is taken over. Listeners that it needs are made for it.
    ///
    /// # Errors
    /// The configuration is none; a listener cannot be made; it refuses. What it did it goes on doing.
    pub fn apply(&self, document: &[u8]) -> Result<(), IngressDoorError> {
        let config = Config::parse("of this node", document)?;
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = match missing(&config) {
            Ok(wanted) => wanted,
            Err(e) if is_nobody(&e) => {
                self.begin(&inside.0)?;
                missing(&config)?
            }
            Err(e) => return Err(e.into()),
        };
        let listeners = match wanted.is_empty() {
            true => Vec::new(),
            false => self.listeners(&inside.1, wanted)?,
        };
        hand_over(&config, document, &listeners)?;
        Ok(())
    }

    /// Has it end what is connected to a host that is gone, if there is an ingress.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn cut(&self, host: IpAddr) -> Result<(), IngressDoorError> {
        match vyr_ingress::cut(&self.control, &[host]) {
            Err(e) if !is_nobody(&e) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Starts it and waits until it answers.
    fn begin(&self, started: &Started<u32>) -> Result<(), IngressDoorError> {
        let failed = |why: String| IngressDoorError::Start { name: "ingress", why };
        (self.start)();
        let begun = started.recv_timeout(START_PATIENCE);
        let begun = begun.map_err(|_| failed("nothing was heard of it".into()))?;
        begun.map_err(|e| failed(e.to_string()))?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match vyr_ingress::status(&self.control) {
                Ok(_) => return Ok(()),
                Err(e) if is_nobody(&e) && Instant::now() < deadline => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(e) if is_nobody(&e) => return Err(failed("it does not answer".into())),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn listeners(
        &self,
        started: &Started<OwnedFd>,
        wanted: Vec<SocketAddr>,
    ) -> Result<Vec<OwnedFd>, IngressDoorError> {
        let failed = |why: String| IngressDoorError::Start { name: "listen", why };
        (self.listen)();
        let begun = started.recv_timeout(START_PATIENCE);
        let begun = begun.map_err(|_| failed("nothing was heard of it".into()))?;
        let socket = UnixStream::from(begun.map_err(|e| failed(e.to_string()))?);
        let asked = || -> io::Result<Receiver> {
            let receiver = Receiver::new(socket.try_clone()?);
            receiver.set_timeout(Some(START_PATIENCE))?;
            Ok(receiver)
        };
        let mut receiver = asked().map_err(|e| failed(e.to_string()))?;
        let many = wanted.len();
        send_one(&socket, &Wanted(wanted), &[]).map_err(|e| failed(e.to_string()))?;
        let mut listeners = Vec::new();
        for _ in 0..many {
            match receiver.next::<Made>() {
                Ok(Some((Made::Listener, mut beside))) => listeners.extend(beside.pop()),
                Ok(Some((Made::Refused { category, message, hint }, _))) => {
                    return Err(IngressDoorError::Listen { message, category, hint });
                }
                Ok(None) => return Err(failed("it ended before it was done".into())),
                Err(e) => return Err(failed(e.to_string())),
            }
        }
        Ok(listeners)
    }
}

/// Whether there is no ingress at all, or one that just ends, rather than one that does not do what it
/// should.
fn is_nobody(error: &ControlError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let kinds = [NotFound, ConnectionRefused, ConnectionReset, BrokenPipe, UnexpectedEof];
    matches!(error, ControlError::Silent { source, .. } if kinds.contains(&source.kind()))
}

fn read(status: Value) -> Result<IngressStatus, IngressDoorError> {
    serde_json::from_value(status).map_err(IngressDoorError::Status)
}
