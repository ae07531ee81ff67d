//! Where these tests can run, and what all of them start from: a platform, a root disk, and one
//! snapshot of a guest that knows nothing yet. It is booted once; most tests restore it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use vyr_space::{Guests, once};
pub(crate) use vyr_space::{RUN, not_run, run};
use vyr_vm::channel::words::{Phase, Process, Start};
use vyr_vm::channel::{Channel, fresh};
use vyr_vm::vmm::{MEMORY_MIN, Machine, Platform, Qemu, QemuMachine, Spec, Vmm};

/// An emulated guest on a busy machine; nothing here is about time.
pub(crate) const HANG: Duration = Duration::from_secs(240);

/// Of a scratch disk.
pub(crate) const SCRATCH: u64 = 64 << 20;

/// What every machine of these tests is made of.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) platform: Platform,
    pub(crate) root: PathBuf,
    pub(crate) snapshot: PathBuf,
}

/// The place, or why there is none on this machine.
pub(crate) fn place(test: &str) -> Option<Place> {
    static PLACE: OnceLock<Result<Place, String>> = OnceLock::new();
    match PLACE.get_or_init(make) {
        Ok(place) => Some(place.clone()),
        Err(why) => {
            not_run(test, why);
            None
        }
    }
}

fn make() -> Result<Place, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Guests { platform, root } = Guests::make(target)?;
    let base = target.join("machine");
    let platform = Platform::open(&platform).map_err(|e| e.to_string())?;
    let place = Place { platform, root, snapshot: base.join("blank.snapshot") };
    once(&base, || boot_blank(&place, &base).map_err(|e| format!("no guest boots: {e}")))?;
    Ok(place)
}

/// The one cold boot; it is itself what the tests of the boot look at.
fn boot_blank(place: &Place, base: &Path) -> anyhow::Result<()> {
    let directory = base.join("blank");
    let spec = Spec { snapshot: None, ..place.spec() };
    let driver = driver();
    driver.prepare(&spec, &directory)?;
    let machine = driver.start(spec, &directory)?;
    let channel = machine.channel(true, HANG)?;
    machine.snapshot(channel, &place.snapshot)?;
    Ok(())
}

/// Emulation: what these tests are about is the same with and without KVM.
pub(crate) fn driver() -> Qemu {
    Qemu::emulated("these tests are about what guests do").expect("QEMU is installed")
}

impl Place {
    /// The smallest machine, restored, with a scratch disk.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            platform: self.platform.clone(),
            root: fs::File::open(&self.root).expect("it was made"),
            memory_bytes: MEMORY_MIN,
            vcpus: 1,
            scratch_bytes: Some(SCRATCH),
            card: None,
            user: None,
            cgroup: None,
            snapshot: Some(self.snapshot.clone()),
            mark: None,
        }
    }

    /// A restored machine and its channel.
    pub(crate) fn restored(&self) -> Guest {
        self.guest(self.spec())
    }

    /// A machine of this specification and its channel.
    pub(crate) fn guest(&self, spec: Spec) -> Guest {
        self.guest_in(spec, tempfile::tempdir().expect("room"))
    }

    /// The same in a directory of somebody else's making.
    pub(crate) fn guest_in(&self, spec: Spec, directory: tempfile::TempDir) -> Guest {
        // A VMM of another user goes through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(directory.path(), open).expect("ours");
        let path = directory.path().join("machine");
        let driver = driver();
        driver.prepare(&spec, &path).expect("prepared");
        let machine = driver.start(spec, &path).expect("started");
        let first = machine.channel(false, HANG);
        let channel = match first {
            Ok(channel) => channel,
            Err(e) => panic!("{e}: {}", said(&machine)),
        };
        Guest { channel, machine, path, _directory: directory }
    }
}

fn said(machine: &QemuMachine) -> String {
    let console = machine.console().unwrap_or_default();
    String::from_utf8_lossy(&console[console.len().saturating_sub(4000)..]).into_owned()
}

/// A running guest. It ends with the test.
pub(crate) struct Guest {
    pub(crate) channel: Channel,
    pub(crate) machine: QemuMachine,
    pub(crate) path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Guest {
    /// Starts a script of `sh` and waits until it runs, or ended already.
    pub(crate) fn run(&self, script: &str) {
        self.start(start(script));
    }

    pub(crate) fn start(&self, start: Start) {
        self.channel.start(start).expect("the first start");
        let came = self.channel.wait_phase(HANG, |phase| match phase {
            Phase::Running | Phase::Stopping | Phase::Ended(_) => Some(Ok(())),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            _ => None,
        });
        match came {
            Ok(Ok(())) => {}
            other => panic!("it does not run: {other:?}; {}", said(&self.machine)),
        }
    }

    /// How the workload ended.
    pub(crate) fn end(&self) -> vyr_vm::channel::words::End {
        let end = |phase: &Phase| match phase {
            Phase::Ended(end) => Some(*end),
            _ => None,
        };
        self.channel.wait_phase(HANG, end).expect("it ends")
    }

    /// All lines of the log to its end, as text.
    pub(crate) fn log(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let records = self.channel.read_log(HANG).expect("a log");
            if records.is_empty() {
                return lines;
            }
            lines.extend(
                records.iter().map(|record| String::from_utf8_lossy(&record.line).into_owned()),
            );
        }
    }

    /// Waits for a line of the log that begins so.
    pub(crate) fn line(&self, begin: &str) -> String {
        loop {
            for record in self.channel.read_log(HANG).expect("a log") {
                let line = String::from_utf8_lossy(&record.line).into_owned();
                if line.starts_with(begin) {
                    return line;
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.machine.kill();
    }
}

/// What a guest is told: a script, and the fewest of everything else.
pub(crate) fn start(script: &str) -> Start {
    let (entropy, time_ns) = fresh().expect("randomness");
    Start {
        entropy,
        time_ns,
        hostname: "guest".into(),
        network: None,
        resolv_conf: String::new(),
        hosts: "127.0.0.1 localhost\n::1 localhost\n".into(),
        secrets: None,
        scratch: true,
        prestart: None,
        process: shell(script),
        health: None,
    }
}

pub(crate) fn shell(script: &str) -> Process {
    Process::root(["/bin/sh", "-c", script])
}

/// Machines are large and processors few: one test at a time.
pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
