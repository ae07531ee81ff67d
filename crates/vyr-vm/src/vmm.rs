//! Machines: what a driver of a VMM can do, whatever VMM it is.
//!
//! ```text
//!  prepare (directory, scratch disk, cgroup) -> start | restore -> Machine -> wait, stop, kill
//!                                                   attach ------^   (after the parent's death)
//! ```
//!
//! Invariants:
//! 1. A VMM has no capability, no right to start programs, and, where the host may give it one, a
//!    user of its own. QEMU's disks, card and sockets are descriptors: that user owns no file, and
//!    need not reach the machine's directory. Firecracker opens names: it has a root directory of its
//!    own with nothing else in it.
//! 2. It outlives its parent, and what is on disk is enough to adopt it: its process is known by
//!    number **and** time of start, so that another process is never taken for it.
//! 3. A snapshot is made only of a guest that knows nothing of an instance, and is used only for a
//!    machine of its shape, root disk included, and only if it is what was stored, byte for byte.
//! 4. The memory of a machine is capped from its first page on.
//!
//! How a workload ended comes from its guest over the [channel](crate::channel), never from here.

mod cgroup;
mod check;
mod command;
mod console;
mod counter;
mod digests;
mod disk;
mod error;
mod firecracker;
mod guard;
mod held;
mod machine;
mod platform;
mod probe;
mod process;
mod qemu;
mod qmp;
mod record;
mod stop;
mod tap;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cgroup::Cgroups;
pub use counter::rate_khz;
pub use disk::{DiskError, make_scratch};
pub use error::VmmError;
pub use firecracker::{Firecracker, FirecrackerMachine};
pub use machine::QemuMachine;
pub use platform::{Platform, PlatformError};
pub use qemu::{OVERHEAD_BYTES, Qemu};
pub use tap::{TapError, open_tap};

use crate::channel::{Channel, ChannelError};

/// The last that the console of a machine in this directory said, bounded; also once it has ended.
///
/// # Errors
/// It cannot be read; there never was one.
pub fn console_of(directory: &Path) -> Result<Vec<u8>, VmmError> {
    let path = directory.join(console::FILE);
    console::read(&path).map_err(VmmError::file("read", path))
}

/// The smallest memory of a guest: with 96 MiB its kernel boots, and little else fits.
pub const MEMORY_MIN: u64 = 128 << 20;

/// How instructions of the guest are carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By emulation, and why.
    Tcg(String),
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg(_) => "tcg",
        }
    }
}

/// What a driver can do here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The VMM and its version.
    pub vmm: String,
    /// How guests run.
    pub accelerator: Accelerator,
    /// Whether a guest can be stored and restored.
    pub snapshots: bool,
    /// Why the memory of a VMM cannot be capped, if it cannot.
    pub no_memory_cap: Option<String>,
    /// Why a VMM has no user of its own, if it has none.
    pub no_own_user: Option<String>,
    /// Why the platform's guests cannot be spoken with, if they cannot.
    pub no_channel: Option<String>,
}

/// What is at the other end of a card. A guest cannot tell one from the other before it sends.
#[derive(Debug)]
pub enum Link {
    /// A TAP, without offloads. Firecracker opens it anew by its name, so for it the device was made to
    /// stay, in this process's network namespace, and belongs to the user.
    Tap(OwnedFd),
    /// Nobody: for a guest that is stored before anybody may hear it. Firecracker has no such card, and
    /// refuses it.
    Nowhere,
}

/// What a machine is made of.
#[derive(Debug)]
pub struct Spec {
    /// Kernel and initramfs.
    pub platform: Platform,
    /// The image's squashfs, open to be read. For Firecracker it is linked by name where the machine
    /// lies: on the same file system, and readable by the user.
    pub root: File,
    /// Of the guest, at least [`MEMORY_MIN`].
    pub memory_bytes: u64,
    /// Virtual processors.
    pub vcpus: u8,
    /// The size of the writable layer's disk; without one it is in memory.
    pub scratch_bytes: Option<u64>,
    /// The card: what is at its other end, and its address.
    pub card: Option<(Link, [u8; 6])>,
    /// User and group of the VMM's process; it takes root, or two capabilities, to give it some. The
    /// user has to be able to read the platform.
    pub user: Option<(u32, u32)>,
    /// The name of its cgroup; `None`: no cap, which only tests and experiments want.
    pub cgroup: Option<String>,
    /// Starts from here instead of booting.
    pub snapshot: Option<PathBuf>,
    /// Stands on the VMM's command line, where whoever lost its number finds it.
    pub mark: Option<String>,
}

/// How a VMM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its process is there.
    Running,
    /// It is not.
    Ended(Exit),
}

/// How a VMM's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself; 0 when the guest switched itself off.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// The host's kernel killed it for want of memory.
    OutOfMemory,
    /// It ended while nobody who could ask was its parent.
    Unknown,
}

/// A VMM's driver.
pub trait Vmm {
    /// A running machine of this driver.
    type Machine: Machine;

    /// What can be done here. The first call may boot a small guest to find out.
    fn capabilities(&self) -> Capabilities;

    /// Makes what a machine needs in `directory`, which is its own and need not exist.
    ///
    /// # Errors
    /// The specification cannot be met; the disk is full.
    fn prepare(&self, spec: &Spec, directory: &Path) -> Result<(), VmmError>;

    /// Starts a machine in a directory that was prepared for it. It runs when this returns, and
    /// nothing of an instance was told to it.
    ///
    /// # Errors
    /// The VMM does not start; the snapshot is of another kind of machine, or damaged.
    fn start(&self, spec: Spec, directory: &Path) -> Result<Self::Machine, VmmError>;

    /// Takes over a machine whose parent is gone.
    ///
    /// # Errors
    /// There is none in this directory, or it has ended.
    fn attach(&self, directory: &Path) -> Result<Self::Machine, VmmError>;
}

/// A running machine.
pub trait Machine {
    /// How it is, now.
    fn status(&self) -> Status;

    /// Waits for the end of the VMM's process.
    ///
    /// # Errors
    /// It did not end in `time`.
    fn wait(&self, time: Duration) -> Result<Exit, VmmError>;

    /// Asks the guest to end its workload with `signal` (what the image wants, 15 as a rule) and to
    /// switch itself off, and kills the VMM if it is still there once the grace, and some time for the
    /// guest, have passed.
    ///
    /// # Errors
    /// The VMM cannot be killed.
    fn stop(&self, channel: &Channel, signal: u8, grace: Duration) -> Result<Exit, VmmError> {
        stop::stop(self, channel, signal, grace)
    }

    /// Ends the VMM's process at once.
    ///
    /// # Errors
    /// It may not be killed.
    fn kill(&self) -> Result<Exit, VmmError>;

    /// The last that the guest's console said, bounded.
    ///
    /// # Errors
    /// It cannot be read.
    fn console(&self) -> Result<Vec<u8>, VmmError>;

    /// Connects to the guest, and makes sure that it is this machine's VMM that listens. `first`:
    /// nobody did before; a restored guest had a host when it was stored.
    ///
    /// # Errors
    /// As [`Channel::connect`].
    fn channel(&self, first: bool, time: Duration) -> Result<Channel, ChannelError>;

    /// Stores the guest into `to` and ends the machine. The channel shows that the guest knows
    /// nothing of an instance, and is closed by this.
    ///
    /// # Errors
    /// The guest was started; this process did not start the machine; the disk is full.
    fn snapshot(&self, channel: Channel, to: &Path) -> Result<(), VmmError>;
}
