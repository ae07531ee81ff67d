//! What a driver is given: a platform whose kernel is the small guest, an empty root disk, and a
//! directory for machines; and how processes of the host are looked at.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vyr_base::Digest;
pub(crate) use vyr_space::not_run;
use vyr_vm::vmm::{MEMORY_MIN, Machine, Platform, Spec, Vmm, console_of};

use crate::guest::{Then, elf};

/// A guest on a busy machine; nothing here is about time.
pub(crate) const HANG: Duration = Duration::from_secs(240);

pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.is_file())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) struct Kit {
    directory: tempfile::TempDir,
    platform: Platform,
    mark: String,
}

impl Kit {
    pub(crate) fn new(words: &str, then: Then) -> Self {
        Self::with_kernel(&elf(words, then))
    }

    pub(crate) fn with_kernel(kernel: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("contract-{}-{number}", std::process::id());
        let directory = tempfile::tempdir().expect("room");
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        };
        // A VMM of another user reads the platform.
        open(directory.path(), 0o711);
        let initramfs = b"not looked at";
        let text = format!(
            r#"{{"version":1,"kernel":{{"release":"0"}},"files":{{"vmlinux":"{}","initramfs":"{}"}}}}"#,
            Digest::of(kernel),
            Digest::of(initramfs)
        );
        let root = vec![0; 1 << 20];
        for (name, bytes) in [
            ("vmlinux", kernel),
            ("initramfs", initramfs),
            ("guest.json", text.as_bytes()),
            ("root.img", &root),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, bytes).expect("room");
            open(&path, 0o644);
        }
        let platform = Platform::open(directory.path()).expect("as described");
        Self { directory, platform, mark }
    }

    /// The smallest machine.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            platform: self.platform.clone(),
            root: File::open(self.path("root.img")).expect("it was made"),
            memory_bytes: MEMORY_MIN,
            vcpus: 1,
            scratch_bytes: None,
            card: None,
            user: None,
            cgroup: None,
            snapshot: None,
            mark: Some(self.mark.clone()),
        }
    }

    /// Below the directory of all of it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A machine's directory.
    pub(crate) fn machine(&self) -> PathBuf {
        self.path("machine")
    }

    pub(crate) fn start<D: Vmm>(&self, driver: &D, spec: Spec) -> D::Machine {
        driver.prepare(&spec, &self.machine()).expect("prepared");
        driver.start(spec, &self.machine()).expect("started")
    }

    /// Waits until the console has this.
    pub(crate) fn hears(&self, words: &str) {
        hears(&self.machine(), words);
    }

    /// Processes with the mark on their command line.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        let ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == self.mark.as_bytes())
        };
        pids.filter(ours).collect()
    }

    /// The one VMM.
    pub(crate) fn process(&self) -> u32 {
        let processes = self.processes();
        assert_eq!(processes.len(), 1, "{processes:?}");
        processes[0]
    }
}

/// Waits until the console of a machine has this.
pub(crate) fn hears(machine: &Path, words: &str) {
    let end = Instant::now() + HANG;
    loop {
        let console = console_of(machine).expect("a console");
        let console = String::from_utf8_lossy(&console);
        if console.contains(words) {
            return;
        }
        assert!(Instant::now() < end, "{words:?} does not come, but {console:?}");
        std::thread::yield_now();
    }
}

/// A machine that ends with the test.
pub(crate) struct Ends<M: Machine>(pub(crate) M);

impl<M: Machine> Drop for Ends<M> {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// A line of `/proc/PID/status`.
pub(crate) fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a process has that a VMM must not have; `user` is its own.
pub(crate) fn rights(pid: u32, (uid, gid): (u32, u32)) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, wanted) in [
        ("Uid", vec![uid.to_string(); 4].join(" ")),
        ("Gid", vec![gid.to_string(); 4].join(" ")),
        ("Groups", String::new()),
        ("CapEff", "0".repeat(16)),
        ("CapPrm", "0".repeat(16)),
        ("CapInh", "0".repeat(16)),
        ("CapAmb", "0".repeat(16)),
    ] {
        let found = status(pid, name);
        if found != wanted {
            wrong.push(format!("{name}: {found}"));
        }
    }
    wrong
}
