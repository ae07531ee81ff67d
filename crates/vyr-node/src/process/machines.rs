//! The `machines` process: it alone of a node's processes starts VMMs and hears guests.
//!
//! ```text
//!  api --socket pair, machines::wire--> machines --own user, descriptors--> VMM, one a machine
//!                                          +-- DATA/machines, its own
//! ```
//!
//! It is started when the first machine is wanted, and again when it ended; VMMs outlive it. Under
//! root it becomes a user of its own and keeps three capabilities: to start a VMM as another user
//! (CAP_SETUID and CAP_SETGID, which a filter allows for the users of VMMs alone) and to end it
//! (CAP_KILL). Files change hands nowhere, because VMMs inherit descriptors: so no CAP_CHOWN, and no
//! right to pass over permissions.
//!
//! The memory of VMMs is capped in cgroups below `vyr`. Root makes that group and hands it over
//! before this process gives up being root; on version 1, where only root moves a process of another
//! user, the thread that starts a VMM goes into its group and comes back.

use std::fs::{self, DirBuilder};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::getuid;
use vyr_vm::vmm::Cgroups;

use super::confine::{Machines, confine_machines};
use super::{Role, this_binary};
use crate::machines::{
    Event, MachinesDoor, MachinesSettings, Place, find_platform, kvm_group, serve as keep,
};

/// Whether machines may start from snapshots, as an argument.
const SNAPSHOTS: &str = "snapshots";
const BOOTS: &str = "boots";

/// Starts it, with one end of a socket as its standard input.
pub(super) fn start(data: &Path, settings: &MachinesSettings) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (first, last) = settings.users;
    let start_from = if settings.snapshots { SNAPSHOTS } else { BOOTS };
    let child = Command::new(this_binary())
        .arg(Role::Machines.argument())
        .arg(data)
        .args([first.to_string(), last.to_string(), start_from.to_owned()])
        .env_clear()
        // Where QEMU is, and the platform of guests.
        .envs(["PATH", "VYR_GUEST"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

/// The process without a node around it: it ends with the door. The second value tells its number.
///
/// # Errors
/// No thread can be started.
pub fn machines_alone(
    data: &Path,
    settings: MachinesSettings,
    on_event: impl Fn(Event) + Send + 'static,
) -> io::Result<(MachinesDoor, Box<dyn Fn() -> u32 + Send>)> {
    let (sender, started) = sync_channel(1);
    let running: Arc<Mutex<Option<Child>>> = Arc::default();
    let (of_start, path) = (Arc::clone(&running), data.to_owned());
    let begin = move || {
        let mut running = of_start.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let child = start(&path, &settings).map(|(child, socket)| {
            *running = Some(child);
            socket.into()
        });
        let _ = sender.try_send(child);
    };
    let door = MachinesDoor::new(data, begin, started, on_event)?;
    let pid = move || {
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map_or(0, Child::id)
    };
    Ok((door, Box::new(pid)))
}

/// The life of the process, from inside. Its arguments: the data directory, the first and last user of
/// VMMs, and whether machines may start from snapshots.
pub(super) fn serve(arguments: &[String]) -> u8 {
    let fail = |what: String| {
        eprintln!("vyr machines: {what}");
        7
    };
    let [data, first, last, start_from] = arguments else { return 2 };
    let (Ok(first), Ok(last)) = (first.parse(), last.parse()) else { return 2 };
    let snapshots = match start_from.as_str() {
        SNAPSHOTS => true,
        BOOTS => false,
        _ => return 2,
    };
    let socket = match rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) {
        Ok(socket) => UnixStream::from(socket),
        Err(e) => return fail(format!("no socket on stdin: {e}")),
    };
    let place = match prepare(Path::new(data), first..=last) {
        Ok(place) => Place { snapshots, ..place },
        Err(e) => return fail(format!("cannot use {data}/machines: {e}")),
    };
    let confined = confine_machines(&Machines {
        users: place.users.clone(),
        kvm_group: place.kvm_group,
        writable: place.cgroups.iter().map(|groups| groups.path().to_owned()).collect(),
        readable: place.platform.iter().cloned().collect(),
    });
    if let Err(e) = confined {
        return fail(e.to_string());
    }
    match keep(socket, place) {
        Ok(()) => 0,
        Err(e) => fail(e.to_string()),
    }
}

/// What takes root, or the paths above.
fn prepare(data: &Path, users: RangeInclusive<u32>) -> io::Result<Place> {
    let directory = data.join("machines");
    match DirBuilder::new().mode(0o755).create(&directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // `api` reads the names; whoever may not pass the data directory reads nothing.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let root = getuid().is_root();
    let uid = Role::Machines.uid().filter(|_| root);
    if let Some(uid) = uid {
        chown(&directory, Some(uid), Some(uid))?;
    }
    let cgroups = Cgroups::find().and_then(|groups| match uid {
        Some(uid) => groups.delegate((uid, uid)).map(|()| groups),
        None => Err("it takes root".into()),
    });
    std::env::set_current_dir(&directory)?;
    // What is made from here on is nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(Place {
        directory: PathBuf::from("."),
        users: root.then_some(users),
        kvm_group: if root { kvm_group() } else { None },
        platform: find_platform()
            .and_then(|path| fs::canonicalize(path).map_err(|e| e.to_string())),
        cgroups,
        snapshots: false,
    })
}
