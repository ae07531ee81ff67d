//! The control socket: status, and another configuration.
//!
//! ```text
//! asker: {"version":1,"ask":"status"}\n  <end>
//! asker: {"version":1,"ask":"apply"}\n  the exact configuration  <end>   descriptors of new listeners
//! asker: {"version":1,"ask":"cut"}\n  a list of addresses  <end>
//! answer: one JSON object and a newline: "status", "applied", "cut", or "refused" with the reason
//! ```
//!
//! One request a connection, one connection at a time, each bounded in bytes, descriptors and time.
//! Only root and the user who started the ingress are answered: the socket file says so, and the
//! kernel is asked again who is there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::Deserialize;
use serde_json::{Value, json};
use vyr_base::{Category, Problem};

use crate::config::{CONFIG_BYTES_MAX, Config, LISTENERS_MAX};
use crate::listen;
use crate::serve::ServeError;

/// The version of requests and answers.
pub(crate) const VERSION: u64 = 1;
/// The first line of a request.
const HEAD_BYTES_MAX: usize = 256;
/// The longest answer: a status of every listener and route.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long one request may take to come, and an answer to go.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// How long nobody is answered after descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an asker waits: longer than a change may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// What is asked.
pub(crate) enum Request {
    Status,
    Apply { config: Vec<u8>, descriptors: Vec<OwnedFd> },
    Cut { hosts: BTreeSet<IpAddr> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u64,
    ask: String,
}

/// The serving end.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    owner: u32,
    /// Held as long as the process lives: who has it is the ingress of this socket.
    _lock: File,
}

impl Control {
    pub(crate) fn new(path: &Path) -> Result<Self, ServeError> {
        let shown = || path.display().to_string();
        let failed = |source: io::Error| ServeError::Control { path: shown(), source };
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = File::options()
            .mode(0o600)
            .create(true)
            .truncate(false)
            .write(true)
            .open(PathBuf::from(lock));
        let lock = lock.map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(ServeError::Running(shown()));
        }
        // Of one that is gone: nobody else has the lock.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let owner = rustix::process::geteuid().as_raw();
        Ok(Self { listener, owner, _lock: lock })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one asker, if there still is one.
    pub(crate) fn answer(&self, answer: impl FnOnce(Request) -> Value) {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // Who asked has left.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // No descriptor: who asks goes on asking, and the wait would end at once.
            Err(_) => return std::thread::sleep(PAUSE),
        };
        let said = match self.request(&stream) {
            Ok(request) => answer(request),
            Err(error) => refusal(&error),
        };
        let mut line = said.to_string();
        line.push('\n');
        // Who left before the answer can ask again.
        let _ = stream.write_all(line.as_bytes());
    }

    fn request(&self, stream: &UnixStream) -> Result<Request, RequestError> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(REQUEST_TIME_MAX))?;
        let asker = sockopt::socket_peercred(stream).map_err(io::Error::from)?.uid.as_raw();
        if asker != 0 && asker != self.owner {
            return Err(RequestError::NotYours);
        }
        let (bytes, descriptors) = receive(stream)?;
        let end = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
        let (head, rest) = bytes.split_at(end.ok_or(RequestError::Unknown)?);
        let head: Head = vyr_base::object::from_slice(head).map_err(|_| RequestError::Unknown)?;
        let config = rest[1..].to_vec();
        match (head.version, head.ask.as_str()) {
            (VERSION, "status") if config.is_empty() && descriptors.is_empty() => {
                Ok(Request::Status)
            }
            (VERSION, "cut") if descriptors.is_empty() => {
                let hosts: BTreeSet<IpAddr> =
                    serde_json::from_slice(&config).map_err(|_| RequestError::Hosts)?;
                Ok(Request::Cut { hosts })
            }
            (VERSION, "apply") => Ok(Request::Apply { config, descriptors }),
            _ => Err(RequestError::Unknown),
        }
    }
}

/// Everything until the end of the request.
fn receive(stream: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), RequestError> {
    let until = Instant::now() + REQUEST_TIME_MAX;
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 64 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RequestError::Late);
        }
        stream.set_read_timeout(Some(left))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut piece)];
        let came = match recvmsg(stream, parts, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => return Err(RequestError::Late),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        bytes.extend_from_slice(&piece[..came]);
        if bytes.len() > HEAD_BYTES_MAX + CONFIG_BYTES_MAX || descriptors.len() > LISTENERS_MAX {
            return Err(RequestError::TooLong);
        }
        if came == 0 {
            return Ok((bytes, descriptors));
        }
    }
}

/// Why a request is not even looked at.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("this is no request that version {VERSION} of the control socket knows")]
    Unknown,
    #[error("what is to be cut is no list of addresses")]
    Hosts,
    #[error("the request is too long")]
    TooLong,
    #[error("the request did not come within {} s", REQUEST_TIME_MAX.as_secs())]
    Late,
    #[error("only root and the user who started the ingress are answered")]
    NotYours,
    #[error("the request cannot be read")]
    Read(#[from] io::Error),
}

impl Problem for RequestError {
    fn category(&self) -> Category {
        match self {
            Self::Unknown | Self::Hosts | Self::TooLong => Category::Usage,
            Self::Late | Self::Read(_) => Category::Transient,
            Self::NotYours => Category::Auth,
        }
    }
}

/// The answer that says why not.
pub(crate) fn refusal(problem: &dyn Problem) -> Value {
    let mut causes = Vec::new();
    let mut next = problem.source();
    while let Some(cause) = next {
        causes.extend(cause.to_string().lines().map(str::to_owned));
        next = cause.source();
    }
    let refused = json!({
        "category": problem.category(), "message": problem.to_string(), "causes": causes,
        "hint": problem.hint(),
    });
    json!({ "version": VERSION, "refused": refused })
}

/// Why an ingress that runs did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nobody answers at its socket.
    #[error("no ingress answers at {path}")]
    Silent {
        /// The socket.
        path: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It was asked, and said no.
    #[error("the ingress refuses: {message}")]
    Refused {
        /// What it says.
        message: String,
        /// What lies beneath.
        source: Beneath,
        /// What kind of refusal.
        category: Category,
        /// What to do.
        hint: Option<String>,
    },
    /// Somebody else listens at its socket.
    #[error("whoever answers at {path} belongs to uid {owner}, and is not asked")]
    Stranger {
        /// The socket.
        path: String,
        /// Whose it is.
        owner: u32,
    },
    /// It was asked, and its answer is none.
    #[error("the answer of the ingress at {0} cannot be read")]
    Garbled(String),
    /// A new listener cannot be made for it.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
}

/// Reasons, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Beneath(Vec<String>);

impl Problem for ControlError {
    fn category(&self) -> Category {
        match self {
            Self::Silent { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Category::Auth,
                _ => Category::Transient,
            },
            Self::Refused { category, .. } => *category,
            Self::Stranger { .. } => Category::Auth,
            Self::Garbled(_) => Category::Internal,
            Self::Listen(error) => error.category(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Silent { .. } => Some("start it: vyr ingress --config FILE".into()),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Stranger { .. } => Some("remove the socket if nobody knows what it is".into()),
            Self::Garbled(_) => None,
            Self::Listen(error) => error.hint(),
        }
    }
}

/// What the ingress at `path` says of itself: listeners, routes, counters.
///
/// # Errors
/// It does not answer, or refuses.
pub fn status(path: &Path) -> Result<Value, ControlError> {
    ask(path, "status", &[], &[], "status")
}

/// Has the ingress of `config` use it, which is `bytes` read. Listeners that it has not yet are made
/// here, with the rights of the caller, and handed over.
///
/// # Errors
/// A listener cannot be made; it does not answer, or refuses. Nothing has changed then.
pub fn apply(config: &Config, bytes: &[u8]) -> Result<Value, ControlError> {
    let mut made = Vec::new();
    for address in missing(config)? {
        made.push(listen::make(address)?);
    }
    hand_over(config, bytes, &made)
}

/// The addresses of `config` at which its ingress does not listen yet.
///
/// # Errors
/// It does not answer, or refuses.
pub fn missing(config: &Config) -> Result<Vec<SocketAddr>, ControlError> {
    let present = status(&config.control)?;
    let has = |address: SocketAddr| {
        let listeners = present["listeners"].as_array().into_iter().flatten();
        let address = address.to_string();
        listeners.into_iter().any(|listener| listener["address"] == *address)
    };
    let addresses = config.listeners.iter().map(|listener| listener.address);
    Ok(addresses.filter(|address| !has(*address)).collect())
}

/// The same as [`apply`] with listeners that somebody else has made, those that are [`missing`].
///
/// # Errors
/// It does not answer, or refuses. Nothing has changed then.
pub fn hand_over(
    config: &Config,
    bytes: &[u8],
    listeners: &[OwnedFd],
) -> Result<Value, ControlError> {
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    ask(&config.control, "apply", bytes, &descriptors, "applied")
}

/// Has the ingress at `path` end every connection to these hosts, whatever its port: they are gone, and
/// would never say so. What a backend had said to its end still reaches its client. Returns how many
/// connections that were.
///
/// # Errors
/// It does not answer, or refuses.
pub fn cut(path: &Path, hosts: &[IpAddr]) -> Result<u64, ControlError> {
    let body = serde_json::to_vec(hosts).unwrap_or_else(|_| unreachable!("addresses are text"));
    let cut = ask(path, "cut", &body, &[], "cut")?;
    cut["connections"].as_u64().ok_or_else(|| ControlError::Garbled(path.display().to_string()))
}

/// The process of the ingress at `path`. It is not disturbed.
///
/// # Errors
/// Nobody listens there, or somebody else.
pub fn pid(path: &Path) -> Result<u32, ControlError> {
    Ok(reach(path)?.1)
}

/// A way to the ingress at `path`, and its process.
fn reach(path: &Path) -> Result<(UnixStream, u32), ControlError> {
    let shown = || path.display().to_string();
    let silent = |source: io::Error| ControlError::Silent { path: shown(), source };
    let stream = UnixStream::connect(path).map_err(silent)?;
    // Whoever listens there must be ours: what it says is believed, and listeners are given to it.
    let peer = sockopt::socket_peercred(&stream).map_err(|errno| silent(errno.into()))?;
    let (owner, own) = (peer.uid.as_raw(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(ControlError::Stranger { path: shown(), owner });
    }
    Ok((stream, peer.pid.as_raw_nonzero().get().unsigned_abs()))
}

fn ask(
    path: &Path,
    what: &str,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    wanted: &str,
) -> Result<Value, ControlError> {
    let shown = || path.display().to_string();
    let silent = |source: io::Error| ControlError::Silent { path: shown(), source };
    let (mut stream, _) = reach(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).map_err(silent)?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX)).map_err(silent)?;
    let head = format!("{{\"version\":{VERSION},\"ask\":\"{what}\"}}\n");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let parts = &[IoSlice::new(head.as_bytes())];
    let sent = sendmsg(&stream, parts, &mut beside, SendFlags::NOSIGNAL);
    let sent = sent.map_err(|errno| silent(errno.into()))?;
    // One that refuses early closes early; its answer is what counts.
    let _ = stream.write_all(&head.as_bytes()[sent..]).and_then(|()| stream.write_all(bytes));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    (&stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(silent)?;
    if answer.is_empty() {
        // It ended before it could.
        return Err(silent(io::ErrorKind::UnexpectedEof.into()));
    }
    let garbled = || ControlError::Garbled(shown());
    let mut answer = vyr_artifact::strict_json(&answer).map_err(|_| garbled())?;
    if answer["version"] != VERSION {
        return Err(garbled());
    }
    if let Some(refused) = answer.get("refused") {
        let texts = refused["causes"].as_array().into_iter().flatten();
        let category = serde_json::from_value(refused["category"].clone());
        return Err(ControlError::Refused {
            message: refused["message"].as_str().unwrap_or_default().to_owned(),
            source: Beneath(texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()),
            category: category.map_err(|_| garbled())?,
            hint: refused["hint"].as_str().map(str::to_owned),
        });
    }
    answer.get_mut(wanted).map(Value::take).ok_or_else(garbled)
}
