//! The `ingress` of a node: the same that `vyr ingress` is, started by the node and told by it.
//!
//! ```text
//! up --starts once--> ingress   own user, no right; listeners and connections; outlives the node
//!  \--starts--------> listen    binds what a new configuration needs, as descriptors; gone at once
//! api --DATA/run/ingress.sock: configuration, descriptors--> ingress
//! ```
//!
//! It begins without listeners, so it never has the right to make one. When the node ends it goes on
//! with the last configuration; the next node finds it by its control socket and goes on from what it
//! says. It is in a process group of its own: what a terminal tells the node does not concern it.
//!
//! `listen` is a process because the right to take ports below 1024 belongs neither to `api`, which
//! knows them, nor to the ingress, which strangers speak to. It has that right, a user of its own, and
//! nothing else, and reads one message.

mod door;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use vyr_base::{Category, Problem};
use vyr_ingress::{Config, Prepared, listen_at};

use super::confine::{confine_ingress, confine_listen};
use super::wire::{Receiver, Sender};
use super::{Role, this_binary};
pub use door::{BackendStatus, IngressDoor, IngressDoorError, IngressStatus};

/// How long the addresses may take to come.
const ORDER_PATIENCE: Duration = Duration::from_secs(10);

/// The user whose connections reach instances.
pub fn ingress_uid() -> u32 {
    let own = rustix::process::getuid();
    match Role::Ingress.uid() {
        Some(uid) if own.is_root() => uid,
        _ => own.as_raw(),
    }
}

/// Where its control socket is.
pub(super) fn control(data: &Path) -> PathBuf {
    data.join("run/ingress.sock")
}

/// Starts it. It does not end with who started it.
pub(super) fn start(data: &Path) -> io::Result<Child> {
    Command::new(this_binary())
        .arg(Role::Ingress.argument())
        .arg(control(data))
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

/// The life of the ingress, from inside. Its argument: the control socket.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let [control] = arguments else { return 2 };
    match live(control) {
        Ok(()) => 0,
        Err(error) => {
            let mut said = error.to_string();
            let mut next = error.source();
            while let Some(cause) = next {
                said = format!("{said}: {cause}");
                next = cause.source();
            }
            eprintln!("vyr ingress: {said}");
            7
        }
    }
}

fn live(control: &str) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(run) = Path::new(control).parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run)?;
    }
    // Nobody comes in yet.
    let nothing = serde_json::json!({
        "version": 1, "control": control, "listeners": [], "routes": [],
    });
    let config = Config::parse("of the beginning", nothing.to_string().as_bytes())?;
    let prepared = Prepared::new(config, Vec::new())?;
    let (stop, tell) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
    }
    confine_ingress()?;
    Ok(prepared.serve(&stop.into())?)
}

/// To `listen`: all addresses.
#[derive(Serialize, Deserialize)]
pub(super) struct Wanted(pub(super) Vec<SocketAddr>);

/// From it, for each in turn; beside it the listener, if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Made {
    Listener,
    Refused { category: Category, message: String, hint: Option<String> },
}

/// Starts `listen`, with one end of a socket as its standard input.
pub(super) fn start_listen() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(this_binary())
        .arg(Role::Listen.argument())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// The life of `listen`, from inside.
pub(super) fn serve_listen() -> u8 {
    let fail = |what: String| {
        eprintln!("vyr listen: {what}");
        7
    };
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).map(UnixStream::from);
    let both = socket.map_err(io::Error::from).and_then(|s| Ok((s.try_clone()?, s)));
    let (reader, writer) = match both {
        Ok(both) => both,
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    let mut receiver = Receiver::new(reader);
    if let Err(e) = receiver.set_timeout(Some(ORDER_PATIENCE)) {
        return fail(e.to_string());
    }
    if let Err(e) = confine_listen() {
        return fail(e.to_string());
    }
    let wanted = match receiver.next::<Wanted>() {
        Ok(Some((Wanted(wanted), _))) => wanted,
        Ok(None) => return 0,
        Err(e) => return fail(e.to_string()),
    };
    let mut sender = Sender::new(writer);
    for address in wanted {
        let sent = match listen_at(address) {
            Ok(listener) => sender.send(&Made::Listener, &[listener.as_fd()]),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
                let message = format!("{error}{}", cause.unwrap_or_default());
                let (category, hint) = (error.category(), error.hint());
                sender.send(&Made::Refused { category, message, hint }, &[])
            }
        };
        if let Err(e) = sent.and_then(|()| sender.flush()) {
            return fail(e.to_string());
        }
    }
    0
}
