//! The `net` process: it alone of a node's processes may change the host's network.
//!
//! ```text
//! vyr apply --operator.sock--> api --socket pair, the words of vyr_net::words--> net --> kernel, nft
//!                               |                                                 |
//!                               +-- journal <-- DATA/network/ended <--------------+-- confirm timer
//! ```
//!
//! It is started when it is first asked, keeps one capability, and can read its programs and write
//! `DATA/network`, where the private keys of the links lie; no other key of the node. When it dies in
//! the middle of a change the confirm timer, which outlives it, takes that back.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver as Waiting;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vyr_base::Category;
use vyr_net::words::{Answer, Request, WordsError};

use super::confine::confine_net;
use super::{Role, this_binary};
use crate::network::{Network, Remote, perform, serve_words};
use crate::node::NodeError;

/// How long the supervisor may take to start it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Starts it, with one end of a socket as its standard input.
pub(super) fn start(data: &std::path::Path) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(this_binary())
        .arg(Role::Net.argument())
        .arg(data)
        .env_clear()
        // Where `nft` is.
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// The life of the process, from inside. Its argument: the data directory.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |what: String| {
        eprintln!("vyr net: {what}");
        7
    };
    let [data] = arguments else { return 2 };
    let data = PathBuf::from(data);
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).map(UnixStream::from);
    let (reader, writer) =
        match socket.map_err(io::Error::from).and_then(|s| Ok((s.try_clone()?, s))) {
            Ok(both) => both,
            Err(e) => return fail(format!("no socket on stdin: {e}")),
        };
    // Its directories are made by who may write beside them.
    let network = match Network::open(&data) {
        Ok(network) => network,
        Err(e) => return fail(e.to_string()),
    };
    if let Err(e) = confine_net(&data.join("network")) {
        return fail(e.to_string());
    }
    let answer = |request| Ok(perform(&network, request)?);
    // Nobody would hear how a change ended: the timer hears that this process does.
    let gone = || std::process::exit(i32::from(Category::Transient.exit_code()));
    match serve_words(reader, writer, answer, gone) {
        Ok(()) => 0,
        Err(e) => fail(e.to_string()),
    }
}

/// The way to it, from `api`. One question at a time, as there is one change at a time.
pub struct NetDoor {
    start: Box<dyn Fn() + Send + Sync>,
    inside: Mutex<Inside>,
}

struct Inside {
    started: Waiting<io::Result<OwnedFd>>,
    open: Option<Remote<UnixStream, UnixStream>>,
}

impl std::fmt::Debug for NetDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetDoor").finish_non_exhaustive()
    }
}

impl NetDoor {
    /// `start` asks the supervisor for the process, which then is `started`, or not.
    pub(super) fn new(
        start: impl Fn() + Send + Sync + 'static,
        started: Waiting<io::Result<OwnedFd>>,
    ) -> Self {
        Self { start: Box::new(start), inside: Mutex::new(Inside { started, open: None }) }
    }

    /// Asks, and waits for the answer; blocks. An error of the host is an answer too.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, NodeError> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has been asked nothing for long has ended, which shows only when it is asked.
        let kept = inside.open.take();
        let mut remote = match kept.filter(|remote| !remote.reader().is_at_end()) {
            Some(remote) => remote,
            None => {
                (self.start)();
                let started = inside.started.recv_timeout(START_PATIENCE);
                let started = started.map_err(|_| unable("it was not started in time"))?;
                let socket = UnixStream::from(started.map_err(|e| unable(&e.to_string()))?);
                let reader = socket.try_clone().map_err(|e| unable(&e.to_string()))?;
                Remote::open(reader, socket).map_err(|e| unable(&e.to_string()))?
            }
        };
        match remote.exchange(request) {
            Ok(answer) => {
                inside.open = Some(remote);
                Ok(answer)
            }
            Err(WordsError::Cut | WordsError::Silence | WordsError::Io(_)) => {
                Err(NodeError::NoNet(
                    "it ended before it answered; a change that had begun is taken back".into(),
                ))
            }
            Err(other) => Err(NodeError::Invalid(other.to_string())),
        }
    }
}

fn unable(why: &str) -> NodeError {
    NodeError::NoNet(why.to_owned())
}

/// A socket whose other end may have been closed.
trait AtEnd {
    fn is_at_end(&self) -> bool;
}

impl AtEnd for UnixStream {
    /// Between two questions nothing is to be read, but for the end.
    fn is_at_end(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let read = recv(self, &mut [0_u8; 1][..], flags);
        !matches!(read, Err(rustix::io::Errno::WOULDBLOCK))
    }
}
