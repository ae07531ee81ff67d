//! The `net` process: it alone of a node's processes may change the host's network.
//!
//! ```text
//! vyr apply --operator.sock--> api --socket pair, the words of vyr_net::words--> net --> kernel, nft
//!                               |                                                 |
//!                               +-- journal <-- DATA/network/ended <--------------+-- confirm timer
//! ```
//!
//! Instances of services get their links here too: a TAP whose descriptor goes beside the answer, and
//! is a machine's card from then on. Their rules are in a table of their own.
//!
//! It is started when it is first asked, keeps one capability, and can read its programs and write
//! `DATA/network`, where the private keys of the links lie; no other key of the node. When it dies in
//! the middle of a change the confirm timer, which outlives it, takes that back.

use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver as Waiting, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vyr_base::Category;
use vyr_net::words::{Answer, InstanceAddress, Request, WordsError};
use vyr_net::{GATEWAY, InstanceLink, Nft};
use vyr_vm::vmm::open_tap;

use super::beside::{Beside, Reader, Writer};
use super::confine::{LINK_SETTINGS, confine_net};
use super::{Role, this_binary};
use crate::Report;
use crate::network::{Network, Remote, RemoteError, perform, serve_words};
use crate::node::NodeError;

/// How long the supervisor may take to start it.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Starts it, with one end of a socket as its standard input.
pub(super) fn start(data: &Path) -> io::Result<(Child, UnixStream)> {
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
    // Held, so that what is allowed below them stays what it is.
    let _settings: Vec<_> = LINK_SETTINGS.iter().filter_map(|path| File::open(path).ok()).collect();
    if let Err(e) = confine_net(&data.join("network")) {
        return fail(e.to_string());
    }
    let beside = Beside::default();
    let writer = Writer { socket: writer, beside: beside.clone() };
    let nft = Nft::default();
    let answer = |request| match request {
        Request::Attach(InstanceAddress { instance, guest }) => {
            let (answer, tap) = attach(&nft, &instance, guest)?;
            beside.put(tap);
            Ok(answer)
        }
        Request::Detach { instance } => {
            Ok(Answer::Detached { was_there: vyr_net::detach(&instance)? })
        }
        Request::Isolate { instances, ingress_uid } => {
            Ok(Answer::Isolated { rules: vyr_net::isolate(&nft, &instances, ingress_uid)? })
        }
        request => Ok(perform(&network, request)?),
    };
    // Nobody would hear how a change ended: the timer hears that this process does.
    let gone = || std::process::exit(i32::from(Category::Transient.exit_code()));
    match serve_words(reader, writer, answer, gone) {
        Ok(()) => 0,
        Err(e) => fail(e.to_string()),
    }
}

/// A TAP, set up. If anything fails it is closed, and gone.
fn attach(nft: &Nft, instance: &str, guest: Ipv6Addr) -> Result<(Answer, OwnedFd), Report> {
    let link = InstanceLink::of(instance)?;
    vyr_net::ready(nft, &link, &guest)?;
    let tap = open_tap(&link.interface, None)?;
    let mtu = vyr_net::attach(&link, guest)?;
    let InstanceLink { interface, mac } = link;
    Ok((Answer::Attached { interface, mac, gateway: GATEWAY, mtu }, tap))
}

/// The link of an instance.
#[derive(Debug)]
pub struct Attached {
    /// The TAP, for the machine. The link is there as long as somebody holds it.
    pub tap: OwnedFd,
    /// Its name.
    pub interface: String,
    /// The card that the guest is to have.
    pub mac: [u8; 6],
    /// Whom the guest sends to.
    pub gateway: Ipv6Addr,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

/// The way to it, from `api`. One question at a time, as there is one change at a time.
pub struct NetDoor {
    start: Box<dyn Fn() + Send + Sync>,
    inside: Mutex<Inside>,
}

struct Inside {
    started: Waiting<io::Result<OwnedFd>>,
    open: Option<Remote<Reader, UnixStream>>,
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

    /// The same without a supervisor: the process is a child of this one, in the network of the thread
    /// that asks, and ends with that thread.
    pub fn alone(data: &Path) -> Self {
        let (tell, started) = sync_channel(1);
        let data = data.to_owned();
        let last: Mutex<Option<Child>> = Mutex::new(None);
        let start_it = move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut child) = last.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            let socket = start(&data).map(|(child, socket)| {
                *last = Some(child);
                OwnedFd::from(socket)
            });
            // Who asked waits for it.
            let _ = tell.send(socket);
        };
        Self::new(start_it, started)
    }

    /// Asks, and waits for the answer; blocks. An error of the host is an answer too.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, NodeError> {
        self.ask_beside(request).map(|(answer, _)| answer)
    }

    /// Gives an instance its link; blocks. The table must have it: [`Self::isolate`] first.
    ///
    /// # Errors
    /// This host cannot, and why; there are no rules for it; the kernel refuses. Nothing is left then.
    pub fn attach(&self, instance: &str, guest: Ipv6Addr) -> Result<Attached, NodeError> {
        let request = Request::Attach(InstanceAddress { instance: instance.into(), guest });
        match self.ask_beside(&request)? {
            (Answer::Attached { interface, mac, gateway, mtu }, Some(tap)) => {
                Ok(Attached { tap, interface, mac, gateway, mtu })
            }
            (other, _) => Err(refused(other)),
        }
    }

    /// Removes an instance's link if it is still there; blocks. Whether it was.
    ///
    /// # Errors
    /// This host cannot, and why; the kernel refuses.
    pub fn detach(&self, instance: &str) -> Result<bool, NodeError> {
        match self.ask(&Request::Detach { instance: instance.into() })? {
            Answer::Detached { was_there } => Ok(was_there),
            other => Err(refused(other)),
        }
    }

    /// Lets these instances, all of the node, be reached by the ingress's user, and nothing else pass
    /// to or from any; blocks.
    ///
    /// # Errors
    /// This host cannot, and why; nft refuses.
    pub fn isolate(
        &self,
        instances: Vec<InstanceAddress>,
        ingress_uid: u32,
    ) -> Result<(), NodeError> {
        match self.ask(&Request::Isolate { instances, ingress_uid })? {
            Answer::Isolated { .. } => Ok(()),
            other => Err(refused(other)),
        }
    }

    fn ask_beside(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>), NodeError> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has been asked nothing for long has ended, which shows only when it is asked.
        let kept = inside.open.take();
        let mut remote = match kept.filter(|remote| !remote.reader().socket.is_at_end()) {
            Some(remote) => remote,
            None => {
                (self.start)();
                let started = inside.started.recv_timeout(START_PATIENCE);
                let started = started.map_err(|_| unable("it was not started in time"))?;
                let socket = UnixStream::from(started.map_err(|e| unable(&e.to_string()))?);
                let reader = socket.try_clone().map_err(|e| unable(&e.to_string()))?;
                let reader = Reader { socket: reader, beside: Beside::default() };
                Remote::open(reader, socket).map_err(|e| unable(&e.to_string()))?
            }
        };
        match remote.exchange(request) {
            Ok(answer) => {
                let beside = remote.reader().beside.take();
                inside.open = Some(remote);
                Ok((answer, beside))
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

/// An answer that is none to what was asked: mostly a refusal, whole.
fn refused(answer: Answer) -> NodeError {
    match answer {
        Answer::Refused(refusal) => NodeError::Other(RemoteError::from(refusal).into()),
        _ => NodeError::NoNet("it gave an answer to something else".into()),
    }
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
