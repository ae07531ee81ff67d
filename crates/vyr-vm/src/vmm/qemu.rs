//! The driver of QEMU's `microvm`.
//!
//! ```text
//!  spawn (-preconfig, own user, sandbox) -> QMP -> cgroup -> make the machine
//!     -> [snapshot comes in] -> console -> record on disk -> cont
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;
use vyr_base::Digest;

use super::command::{self, CHANNEL, CONSOLE_SOCKET, Inherited, Own, PROGRAM, RUN, SCRATCH};
use super::digests::Digests;
use super::guard::Guard;
use super::held::Held;
use super::machine::QemuMachine;
use super::process::{SPAWNING, started};
use super::qmp::Qmp;
use super::record::{self, Running, Shape, Stored};
use super::{
    Accelerator, Capabilities, Cgroups, Link, Spec, Vmm, VmmError, check::check, console, disk,
    probe,
};

/// What a VMM may have beside its guest's memory: measured 75 MiB above it with emulation
/// (research on services, section 2), of which the kernel's file is 55; what it has translated; and room for
/// its threads. Placement counts as much.
pub const OVERHEAD_BYTES: u64 = 160 << 20;

/// A snapshot of a small guest is read in a fraction of a second; a busy machine gets more.
const RESTORE: Duration = Duration::from_secs(120);

/// The driver.
#[derive(Debug)]
pub struct Qemu {
    version: String,
    accelerator: OnceLock<Accelerator>,
    probe: Option<probe::Probe>,
    cgroups: OnceLock<Result<Cgroups, String>>,
    digests: Arc<Digests>,
}

impl Qemu {
    /// With emulation, whatever the host has: for tests, and for hosts whose owner knows.
    ///
    /// # Errors
    /// QEMU is not installed.
    pub fn emulated(why: &str) -> Result<Self, VmmError> {
        Ok(Self::with(&version()?, Accelerator::Tcg(why.to_owned())))
    }

    /// With KVM where a guest really boots with it: the first use starts this platform, in a directory
    /// of that name and as that user, to see. Else with emulation, and the reason.
    ///
    /// # Errors
    /// QEMU is not installed.
    pub fn new(
        platform: super::Platform,
        directory: PathBuf,
        user: Option<(u32, u32)>,
    ) -> Result<Self, VmmError> {
        let probe = Some(probe::Probe { platform, directory, user });
        Ok(Self { probe, ..Self::of(version()?, OnceLock::new()) })
    }

    /// With cgroups that were found before; without this they are looked for, which takes root.
    pub fn capped_by(mut self, cgroups: Result<Cgroups, String>) -> Self {
        self.cgroups = OnceLock::from(cgroups);
        self
    }

    /// The VMM and its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn cgroups(&self) -> &Result<Cgroups, String> {
        self.cgroups.get_or_init(Cgroups::find)
    }

    fn accelerator(&self) -> &Accelerator {
        self.accelerator.get_or_init(|| match &self.probe {
            None => Accelerator::Tcg("it was not asked for".into()),
            Some(probe) => probe.look(&self.version),
        })
    }

    /// With a given accelerator, for the probe.
    pub(super) fn with(version: &str, accelerator: Accelerator) -> Self {
        Self::of(version.to_owned(), OnceLock::from(accelerator))
    }

    fn of(version: String, accelerator: OnceLock<Accelerator>) -> Self {
        let (cgroups, digests) = (OnceLock::new(), Arc::default());
        Self { version, accelerator, probe: None, cgroups, digests }
    }

    /// The name of the kind of machine that this makes: a snapshot of one is for all of that kind, and
    /// for no other. The root disk is read, unless it was before and has not changed.
    ///
    /// # Errors
    /// The root disk cannot be read.
    pub fn kind(&self, spec: &Spec) -> Result<Digest, VmmError> {
        self.shape(spec)?.name()
    }

    /// All but what is on the root disk.
    fn outside(&self, spec: &Spec) -> Result<Shape, VmmError> {
        let seen = command::seen(spec, self.accelerator(), &Own::default()).join("\0");
        let vmm = format!("{}, {}", self.version, program()?);
        Shape::of(spec, &vmm, self.accelerator(), &seen)
    }

    fn shape(&self, spec: &Spec) -> Result<Shape, VmmError> {
        let root = self.digests.of(&spec.root).map_err(VmmError::file("read", "the root disk"))?;
        Ok(Shape { root: Some(root), ..self.outside(spec)? })
    }

    /// A snapshot, if it is one of this kind of machine and as it was stored.
    fn stored(&self, shape: &Shape, path: &Path) -> Result<File, VmmError> {
        let stored = Stored::fitting(path, shape)?;
        let file = File::open(path).map_err(VmmError::file("read", path))?;
        stored.check(&[(&file, path)], |file| self.digests.of(file))?;
        Ok(file)
    }

    fn spawn(
        &self,
        spec: &Spec,
        directory: &Path,
        group: Option<&super::cgroup::Group>,
    ) -> Result<(Child, UnixStream), VmmError> {
        let (ours, theirs) =
            UnixStream::pair().map_err(VmmError::file("make a socket for", directory))?;
        let handed = Handed::of(spec, directory)?;
        let mut command = command::command(spec, self.accelerator(), handed.numbers());
        command.stdin(std::os::fd::OwnedFd::from(theirs)).stderr(Stdio::piped()).process_group(0);
        match &spec.card {
            None | Some((Link::Nowhere, _)) => command.stdout(Stdio::null()),
            Some((Link::Tap(tap), _)) => {
                command.stdout(tap.try_clone().map_err(VmmError::file("hand over", "the TAP"))?)
            }
        };
        if let Some((uid, gid)) = spec.user {
            // The standard library drops the groups too, and the kernel the capabilities.
            command.uid(uid).gid(gid);
        }
        let wrong = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => VmmError::Missing(PROGRAM),
            _ => VmmError::File { what: "start", path: PROGRAM.into(), source },
        };
        // No other child of this process may be started in between: it would inherit them too.
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        handed.keep_over_exec(true).map_err(wrong)?;
        let child = match group {
            None => command.spawn().map_err(wrong),
            Some(group) => group.start(|| command.spawn().map_err(wrong)),
        };
        handed.keep_over_exec(false).map_err(wrong)?;
        Ok((child?, ours))
    }
}

impl Vmm for Qemu {
    type Machine = QemuMachine;

    fn capabilities(&self) -> Capabilities {
        let root = rustix::process::geteuid().is_root();
        Capabilities {
            vmm: self.version.clone(),
            accelerator: self.accelerator().clone(),
            snapshots: true,
            no_memory_cap: self.cgroups().clone().err(),
            no_own_user: (!root).then(|| "needs root".to_owned()),
            no_channel: None,
        }
    }

    fn prepare(&self, spec: &Spec, directory: &Path) -> Result<(), VmmError> {
        check(spec)?;
        let run = directory.join(RUN);
        fs::create_dir_all(directory).map_err(VmmError::file("make", directory))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .map_err(VmmError::file("close", directory))?;
        let _ = fs::remove_dir_all(&run);
        DirBuilder::new().mode(0o700).create(&run).map_err(VmmError::file("make", &run))?;
        if let Some(bytes) = spec.scratch_bytes {
            let scratch = directory.join(SCRATCH);
            disk::make_scratch(&scratch, bytes)?;
            fs::set_permissions(&scratch, fs::Permissions::from_mode(0o600))
                .map_err(VmmError::file("close", &scratch))?;
        }
        Ok(())
    }

    fn start(&self, spec: Spec, directory: &Path) -> Result<QemuMachine, VmmError> {
        check(&spec)?;
        let root = spec.root.try_clone().map_err(VmmError::file("hold", "the root disk"))?;
        let (shape, stored) = match &spec.snapshot {
            None => (self.outside(&spec)?, None),
            Some(path) => {
                let shape = self.shape(&spec)?;
                let stored = self.stored(&shape, path)?;
                (shape, Some(stored))
            }
        };
        let group = super::cgroup::group_of(self.cgroups(), &spec, OVERHEAD_BYTES)?;
        let (child, stream) = self.spawn(&spec, directory, group.as_ref())?;
        let guard = Guard::new(child, directory)?;
        let pid = guard.pid();
        match begin(stored.as_ref(), directory, pid, stream, group.as_ref()) {
            Ok(qmp) => {
                let held = Held::started(directory, RECORD, guard, group)?;
                Ok(QemuMachine::new(held, qmp, (shape, root, Arc::clone(&self.digests))))
            }
            Err(error) => Err(guard.explain(error)),
        }
    }

    fn attach(&self, directory: &Path) -> Result<QemuMachine, VmmError> {
        QemuMachine::attach(directory)
    }
}

/// The record of a running machine.
pub(super) const RECORD: &str = "machine.json";

/// From the first word to the running guest.
fn begin(
    stored: Option<&File>,
    directory: &Path,
    pid: u32,
    stream: UnixStream,
    group: Option<&super::cgroup::Group>,
) -> Result<Qmp, VmmError> {
    let mut qmp = Qmp::open(stream)?;
    // Before it has a machine, and the machine its memory.
    if let Some(group) = group {
        group.enter(pid)?;
    }
    qmp.ask("x-exit-preconfig", None)?;
    if let Some(file) = stored {
        qmp.hand_over("snapshot", file.as_fd())?;
        qmp.ask("migrate-incoming", Some(json!({"uri": "fd:snapshot"})))?;
        qmp.finish_migration(RESTORE)?;
    }
    let socket = directory.join(CONSOLE_SOCKET);
    console::follow(&socket, &directory.join(console::FILE))
        .map_err(VmmError::file("follow", &socket))?;
    let started = started(pid).map_err(VmmError::file("look at", PROGRAM))?;
    let running = Running::new(pid, started, group.map(super::cgroup::Group::path))?;
    record::write(&directory.join(RECORD), &running)?;
    qmp.ask("cont", None)?;
    Ok(qmp)
}

/// What a VMM inherits: it opens nothing of its machine itself.
struct Handed {
    root: File,
    scratch: Option<File>,
    channel: UnixListener,
    console: UnixListener,
}

impl Handed {
    fn of(spec: &Spec, directory: &Path) -> Result<Self, VmmError> {
        let bind = |name: &str| {
            let path = directory.join(name);
            UnixListener::bind(&path).map_err(VmmError::file("bind", path))
        };
        let scratch = spec.scratch_bytes.map(|_| {
            let path = directory.join(SCRATCH);
            let open = File::options().read(true).write(true).open(&path);
            open.map_err(VmmError::file("open", path))
        });
        Ok(Self {
            root: spec.root.try_clone().map_err(VmmError::file("hold", "the root disk"))?,
            scratch: scratch.transpose()?,
            channel: bind(CHANNEL)?,
            console: bind(CONSOLE_SOCKET)?,
        })
    }

    fn numbers(&self) -> Inherited {
        Inherited {
            root: self.root.as_raw_fd(),
            scratch: self.scratch.as_ref().map(AsRawFd::as_raw_fd),
            channel: self.channel.as_raw_fd(),
            console: self.console.as_raw_fd(),
        }
    }

    fn keep_over_exec(&self, keep: bool) -> io::Result<()> {
        let flags = if keep { FdFlags::empty() } else { FdFlags::CLOEXEC };
        let all: [Option<BorrowedFd<'_>>; 4] = [
            Some(self.root.as_fd()),
            self.scratch.as_ref().map(AsFd::as_fd),
            Some(self.channel.as_fd()),
            Some(self.console.as_fd()),
        ];
        all.into_iter().flatten().try_for_each(|fd| Ok(fcntl_setfd(fd, flags)?))
    }
}

/// Which file the program is now: an upgrade puts another one there while this process lives.
fn program() -> Result<String, VmmError> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&paths).map(|directory| directory.join(PROGRAM));
    let metadata = found.find_map(|path| fs::metadata(path).ok());
    let of = metadata.ok_or(VmmError::Missing(PROGRAM))?;
    Ok(format!("{}:{}:{}:{}", of.dev(), of.ino(), of.ctime(), of.ctime_nsec()))
}

fn version() -> Result<String, VmmError> {
    let output = Command::new(PROGRAM).arg("--version").output();
    let output = output.map_err(|_| VmmError::Missing(PROGRAM))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or(PROGRAM).to_owned())
}
