//! Where these tests can run: what guests are made of, one snapshot of a guest that knows nothing; and a
//! door to a process `machines` of this test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vyr_node::machines::{Event, MachineId, MachinesDoor, MachinesSettings, Order};
use vyr_node::process::machines_alone;
use vyr_vm::channel::words::{Process, Start};
use vyr_vm::vmm::{Accelerator, MEMORY_MIN, Machine, Platform, Qemu, Spec, Vmm};

pub(crate) use vyr_space::not_run;
use vyr_space::{Guests, once};

/// An emulated guest on a busy machine; nothing here is about time.
pub(crate) const HANG: Duration = Duration::from_secs(300);

/// Below the directory of machines: the snapshot of these tests, which is named in their orders.
pub(crate) const GIVEN: &str = ".given";

/// Of a scratch disk.
pub(crate) const SCRATCH: u64 = 64 << 20;

/// What all tests start from.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) guests: Guests,
    snapshot: PathBuf,
}

/// Where the platform is made; the process that starts machines reads it in its environment.
pub(crate) fn platform() -> PathBuf {
    Guests::at(Path::new(env!("CARGO_TARGET_TMPDIR"))).platform
}

/// Machines are large and processors few: one test at a time.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The base, or why there is none on this machine.
pub(crate) fn base(test: &str) -> Option<Base> {
    static BASE: OnceLock<Result<Base, String>> = OnceLock::new();
    match BASE.get_or_init(make) {
        Ok(base) => Some(base.clone()),
        Err(why) => {
            not_run(test, why);
            None
        }
    }
}

fn make() -> Result<Base, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let base = target.join("machines");
    let made = Base { guests: Guests::make(target)?, snapshot: base.join("blank.snapshot") };
    once(&base, || boot_blank(&made, &base).map_err(|e| format!("no guest boots: {e}")))?;
    Ok(made)
}

fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

/// The one cold boot, emulated.
fn boot_blank(made: &Base, base: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let directory = base.join("blank");
    let spec = Spec {
        platform: Platform::open(&made.guests.platform)?,
        root: fs::File::open(&made.guests.root)?,
        memory_bytes: MEMORY_MIN,
        vcpus: 1,
        scratch_bytes: Some(SCRATCH),
        card: None,
        user: None,
        cgroup: None,
        snapshot: None,
        mark: None,
    };
    let driver = Qemu::emulated("a snapshot for tests")?;
    driver.prepare(&spec, &directory)?;
    let machine = driver.start(spec, &directory)?;
    let channel = machine.channel(true, HANG)?;
    machine.snapshot(channel, &made.snapshot)?;
    Ok(())
}

/// A data directory with a door to it, and what came out of that.
pub(crate) struct House {
    pub(crate) base: Base,
    pub(crate) door: MachinesDoor,
    /// After the door: it ends once that is closed.
    process: Running,
    events: Receiver<Event>,
    snapshot: Option<PathBuf>,
    pub(crate) settings: MachinesSettings,
    /// Its machines go on.
    left: bool,
    directory: Rc<tempfile::TempDir>,
}

impl House {
    /// A new one; `None` where no machine runs.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with(test, MachinesSettings::default())
    }

    /// The same with other settings.
    pub(crate) fn with(test: &str, settings: MachinesSettings) -> Option<Self> {
        let base = base(test)?;
        Some(Self::over(base, settings, Rc::new(tempfile::tempdir().expect("room"))))
    }

    fn over(base: Base, settings: MachinesSettings, directory: Rc<tempfile::TempDir>) -> Self {
        let (door, process, events) = open(directory.path(), settings.clone());
        let mut house =
            Self { base, door, process, events, snapshot: None, settings, left: false, directory };
        // A snapshot is of one accelerator. With KVM a boot is short.
        let can = house.door.capabilities().expect("a process").expect("machines run here");
        let own = house.settings.snapshots;
        if let Accelerator::Tcg(_) = can.accelerator
            && !own
        {
            let to = house.machines().join(GIVEN);
            fs::create_dir_all(&to).expect("room");
            for end in ["snapshot", "json"] {
                let (from, to) =
                    (house.base.snapshot.with_extension(end), to.join("blank").with_extension(end));
                fs::copy(from, &to).expect("room");
                open_up(&to, 0o644);
            }
            open_up(&to, 0o755);
            house.snapshot = Some(to.join("blank.snapshot"));
        }
        house
    }

    /// Ends the process and the door, and opens the next one.
    pub(crate) fn again(mut self) -> Self {
        self.left = true;
        let (base, directory) = (self.base.clone(), Rc::clone(&self.directory));
        let settings = self.settings.clone();
        drop(self);
        Self::over(base, settings, directory)
    }

    /// `DATA/machines`.
    pub(crate) fn machines(&self) -> PathBuf {
        self.directory.path().join("machines")
    }

    /// The process `machines`.
    pub(crate) fn pid(&self) -> u32 {
        (self.process.0)()
    }

    /// The smallest machine with this script.
    pub(crate) fn order(&self, id: &str, script: &str) -> Order {
        Order {
            id: MachineId::new(id).expect("a name"),
            root: self.base.guests.root.clone(),
            memory_bytes: MEMORY_MIN,
            vcpus: 1,
            scratch_bytes: Some(SCRATCH),
            snapshot: self.snapshot.clone(),
            start: start(script),
        }
    }

    /// Starts one.
    pub(crate) fn start(&self, id: &str, script: &str) -> MachineId {
        let order = self.order(id, script);
        let id = order.id.clone();
        self.door.start(order, None).expect("it is taken");
        id
    }

    /// The next event that `wanted` takes; those before it are passed over.
    #[track_caller]
    pub(crate) fn event<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + HANG;
        let mut passed = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            let event = event.unwrap_or_else(|e| panic!("no {what} ({e}); {passed:?}"));
            match wanted(&event) {
                Some(seen) => return seen,
                None => passed.push(event),
            }
        }
    }

    /// Waits until its workload runs.
    #[track_caller]
    pub(crate) fn runs(&self, id: &MachineId) {
        self.event("running workload", |event| match event {
            Event::Phase { id: of, phase } if of == id => {
                (*phase == vyr_vm::channel::words::Phase::Running).then_some(())
            }
            Event::Failed { id: of, at, why } if of == id => panic!("it failed: {at}: {why}"),
            _ => None,
        });
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&self, id: &MachineId) -> Event {
        self.event("end", |event| match event {
            Event::Ended { id: of, .. } | Event::Failed { id: of, .. } if of == id => {
                Some(event.clone())
            }
            _ => None,
        })
    }

    /// What there is to hear now.
    pub(crate) fn heard(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}

/// Leaves no VMM behind.
impl Drop for House {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        for known in self.door.list().unwrap_or_default() {
            let _ = self.door.kill(&known.id);
        }
    }
}

/// Tells the number of the process `machines`.
struct Running(Box<dyn Fn() -> u32 + Send>);

/// It clears up before it ends, and the directory has to be there for that.
impl Drop for Running {
    fn drop(&mut self) {
        let (path, end) = (format!("/proc/{}/stat", (self.0)()), Instant::now() + HANG);
        let runs = || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
        };
        while runs() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn open(data: &Path, settings: MachinesSettings) -> (MachinesDoor, Running, Receiver<Event>) {
    let (sender, events) = channel();
    let on_event = move |event| {
        let _ = sender.send(event);
    };
    let (door, pid) = machines_alone(data, settings, on_event).expect("a thread");
    (door, Running(pid), events)
}

/// What a guest is told: a script, and the fewest of everything else.
pub(crate) fn start(script: &str) -> Start {
    Start {
        entropy: [0; 32],
        time_ns: 0,
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
