//! The driver of Firecracker, for guests that need no channel.
//!
//! ```text
//!  prepare: a root directory with what the VMM opens, by name, and nothing else
//!  spawn (jailer: own user, own root) -> API socket -> cgroup -> configuration, or a snapshot
//!     -> console -> record on disk -> InstanceStart | Resumed
//! ```
//!
//! What it has not, and a node therefore does not offer it: the platform's guests listen at a port of
//! virtio-serial and know their disks by serial number, and Firecracker has neither; its vsock
//! carries the same stream once a guest listens there. And its jailer wants root, which the
//! process `machines` is not.
//!
//! Its exit code says that it ended by itself, and nothing of how its guest did: after a crash of the guest
//! it is 0 or not, as its threads happen to meet.
//!
//! Like QEMU it is not trusted more than its guest: it can rename what is in its root directory, so
//! nothing of ours is opened there while it lives but sockets, and who listens at them is asked of the
//! kernel. Its console is a descriptor that it was given.

mod api;
mod card;
mod config;
mod machine;
mod place;
mod vsock;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::cgroup::{Group, group_of};
use super::guard::Guard;
use super::held::Held;
use super::process::{Handle, SPAWNING, started};
use super::record::{self, Running, Shape, Stored};
use super::{
    Accelerator, Capabilities, Cgroups, Link, Spec, Vmm, VmmError, check::check, digests, disk,
};

use api::Api;
pub use machine::FirecrackerMachine;
use place::{API, MEMORY, Place, SCRATCH, STATE, memory_of};

/// What a VMM needs beside its guest's memory: Firecracker promises 5 MiB for a small guest
/// (its SPECIFICATION.md); the rest is for tables of large ones, and page cache of its files.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// Firecracker's own bound.
const VCPUS_MAX: u8 = 32;

/// Of an id of Firecracker's.
const MARK_MAX: usize = 64;

/// The record of a running machine; another name than QEMU's, whose driver cannot adopt it.
const RECORD: &str = "firecracker.json";

/// The jailer copies the VMM first, on a busy disk.
const LISTENING: Duration = Duration::from_secs(60);

/// How often a starting VMM's socket is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The driver.
#[derive(Debug)]
pub struct Firecracker {
    program: PathBuf,
    jailer: Option<PathBuf>,
    version: String,
    cgroups: OnceLock<Result<Cgroups, String>>,
}

impl Firecracker {
    /// With these two programs, of one release. Without the jailer, and without root, a VMM is confined
    /// by its own filter of system calls only, and no machine has a user.
    ///
    /// # Errors
    /// There is no such program, or no KVM that this process may use.
    pub fn new(program: &Path, jailer: Option<&Path>) -> Result<Self, VmmError> {
        let kvm = fs::File::options().read(true).write(true).open("/dev/kvm");
        kvm.map_err(|_| VmmError::NoKvm("Firecracker"))?;
        // Both are started from elsewhere.
        let whole = |path: &Path, name| fs::canonicalize(path).map_err(|_| VmmError::Missing(name));
        let program = whole(program, "firecracker")?;
        let jailer = jailer.map(|jailer| whole(jailer, "jailer")).transpose()?;
        let output = Command::new(&program).arg("--version").output();
        let output = output.map_err(|_| VmmError::Missing("firecracker"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or("Firecracker").to_owned();
        Ok(Self { program, jailer, version, cgroups: OnceLock::new() })
    }

    /// With cgroups that were found before; without this they are looked for, which takes root.
    pub fn capped_by(mut self, cgroups: Result<Cgroups, String>) -> Self {
        self.cgroups = OnceLock::from(cgroups);
        self
    }

    fn cgroups(&self) -> &Result<Cgroups, String> {
        self.cgroups.get_or_init(Cgroups::find)
    }

    fn no_own_user(&self) -> Option<&'static str> {
        match &self.jailer {
            _ if !rustix::process::geteuid().is_root() => Some("needs root"),
            None => Some("the jailer is not installed"),
            Some(_) => None,
        }
    }

    fn check(&self, spec: &Spec) -> Result<(), VmmError> {
        check(spec)?;
        if spec.vcpus > VCPUS_MAX {
            return Err(VmmError::Spec(format!("Firecracker has up to {VCPUS_MAX} processors")));
        }
        if spec.mark.as_ref().is_some_and(|mark| mark.len() > MARK_MAX) {
            return Err(VmmError::Spec(format!("its mark is longer than {MARK_MAX}")));
        }
        if matches!(spec.card, Some((Link::Nowhere, _))) {
            return Err(no_card_to_nowhere());
        }
        match (spec.user, self.no_own_user()) {
            (Some(_), Some(why)) => {
                Err(VmmError::Spec(format!("its VMM cannot have a user of its own: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Of a machine that is to be started; a snapshot that it starts from is of the same, and what was
    /// stored. The links are looked at, which are what the VMM opens: until it runs they are ours.
    fn shape(&self, spec: &Spec, place: &Place) -> Result<Shape, VmmError> {
        let seen = config::seen(spec);
        let mut shape = Shape::of(spec, &self.version, &Accelerator::Kvm, &seen)?;
        let Some(snapshot) = &spec.snapshot else { return Ok(shape) };
        let root = digests::anew(&spec.root).map_err(VmmError::file("read", "the root disk"))?;
        shape.root = Some(root);
        let stored = Stored::fitting(snapshot, &shape)?;
        let open = |name: &str| {
            let path = place.root().join(name);
            fs::File::open(&path).map_err(VmmError::file("read", path))
        };
        let (state, memory) = (open(STATE)?, open(MEMORY)?);
        let files: [(&fs::File, &Path); 2] = [(&state, snapshot), (&memory, &memory_of(snapshot))];
        stored.check(&files, digests::anew)?;
        Ok(shape)
    }

    fn place(&self, spec: &Spec, directory: &Path) -> Place {
        Place::of(directory, &self.program, spec)
    }

    fn spawn(&self, spec: &Spec, place: &Place, group: Option<&Group>) -> Result<Child, VmmError> {
        let program = self.jailer.as_ref().filter(|_| spec.user.is_some());
        let program = program.unwrap_or(&self.program);
        let mut command = Command::new(program);
        command.args(["--id", place.id()]);
        match spec.user {
            // Its process becomes the VMM; it would close descriptors other than the first three.
            Some((uid, gid)) => command
                .arg("--exec-file")
                .arg(&self.program)
                .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
                .arg("--chroot-base-dir")
                .arg(place.base())
                .arg("--"),
            None => command.current_dir(place.root()),
        };
        // Its own log would be among what the guest says.
        command.args(["--api-sock", API, "--level", "Off"]).env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(place.open_console()?).stderr(Stdio::piped());
        let wrong = VmmError::file("start", program);
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        match group {
            None => command.spawn().map_err(wrong),
            Some(group) => group.start(|| command.spawn().map_err(wrong)),
        }
    }
}

impl Vmm for Firecracker {
    type Machine = FirecrackerMachine;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            vmm: self.version.clone(),
            // Whether it is fast enough for Linux is not looked at.
            accelerator: Accelerator::Kvm,
            snapshots: true,
            no_memory_cap: self.cgroups().clone().err(),
            no_own_user: self.no_own_user().map(str::to_owned),
            no_channel: Some("the platform's guests do not listen at a vsock".to_owned()),
        }
    }

    fn prepare(&self, spec: &Spec, directory: &Path) -> Result<(), VmmError> {
        self.check(spec)?;
        let place = self.place(spec, directory);
        place.make(spec)?;
        if let Some(bytes) = spec.scratch_bytes {
            let scratch = place.root().join(SCRATCH);
            disk::make_scratch(&scratch, bytes)?;
            place.give(&scratch, spec.user)?;
        }
        Ok(())
    }

    fn start(&self, mut spec: Spec, directory: &Path) -> Result<FirecrackerMachine, VmmError> {
        self.check(&spec)?;
        let place = self.place(&spec, directory);
        let shape = self.shape(&spec, &place)?;
        // Nobody else may have the device open when the VMM opens it.
        let card = match spec.card.take() {
            None => None,
            Some((Link::Tap(tap), mac)) => Some(card::Card::of(tap, mac, spec.user)?),
            Some((Link::Nowhere, _)) => return Err(no_card_to_nowhere()),
        };
        let group = group_of(self.cgroups(), &spec, OVERHEAD_BYTES)?;
        let child = self.spawn(&spec, &place, group.as_ref())?;
        let guard = Guard::new(child, directory)?;
        match begin(&spec, card.as_ref(), &place, guard.pid(), group.as_ref()) {
            Ok(api) => {
                let held = Held::started(directory, RECORD, guard, group)?;
                Ok(FirecrackerMachine::new(held, place.into_root(), api, (shape, spec.root)))
            }
            Err(error) => Err(guard.explain(error)),
        }
    }

    fn attach(&self, directory: &Path) -> Result<FirecrackerMachine, VmmError> {
        FirecrackerMachine::attach(directory)
    }
}

fn no_card_to_nowhere() -> VmmError {
    VmmError::Spec("Firecracker's card is a TAP: it has none with nobody behind it".into())
}

/// From the first word to the running guest.
fn begin(
    spec: &Spec,
    card: Option<&card::Card>,
    place: &Place,
    pid: u32,
    group: Option<&Group>,
) -> Result<Api, VmmError> {
    let mut api = listening(place.root(), pid)?;
    // Before the guest's memory is made.
    if let Some(group) = group {
        group.enter(pid)?;
    }
    let asked = match spec.snapshot {
        None => config::boot(spec, card),
        Some(_) => config::restore(card),
    };
    for (path, body) in asked {
        api.ask("PUT", &path, &body)?;
    }
    place.follow_console()?;
    let started = started(pid).map_err(VmmError::file("look at", place.root()))?;
    let mut running = Running::new(pid, started, group.map(Group::path))?;
    running.root = Some(place.root().to_owned());
    record::write(&place.directory().join(RECORD), &running)?;
    match spec.snapshot {
        None => api.ask("PUT", "/actions", &config::start())?,
        Some(_) => api.ask("PATCH", "/vm", &config::resume())?,
    };
    Ok(api)
}

/// Waits for the VMM to listen. It says itself why, if it ends before.
fn listening(root: &Path, pid: u32) -> Result<Api, VmmError> {
    let process = Handle::of_child(pid).map_err(VmmError::file("hold", root))?;
    let end = Instant::now() + LISTENING;
    let why = loop {
        match place::connect(root, API, pid) {
            Ok(stream) => return Api::over(stream).map_err(VmmError::file("use", root.join(API))),
            Err(e) if Instant::now() > end => break e,
            // Not yet there, not yet listening, or in a directory that is not yet its own.
            Err(e) if retry(&e) => {}
            Err(e) => break e,
        }
        // As long as it does not end.
        if process.ended(LOOK_AGAIN).map_err(VmmError::file("wait for", root))? {
            break io::Error::other("it ended");
        }
    };
    Err(VmmError::Gone { command: "listen".into(), why: why.to_string() })
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
