//! The cap on a VMM's memory: a cgroup, of version 1 or 2, whichever has the memory controller.
//!
//! On a host with both, the controller is on version 1 while version 2 is mounted too and empty.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;

use super::{Spec, VmmError};

/// Where the starter of machines itself is; no machine has this name.
const HOME: &str = "host.starter";

/// The memory controller of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    root: PathBuf,
    version: u8,
}

impl Cgroups {
    /// Finds it, or says why there is none that can be used.
    ///
    /// # Errors
    /// A reason in words.
    pub fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
        let found = Self::among(&mounts, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        });
        let found = found.ok_or("no cgroup file system has the memory controller")?;
        let group = found.root.join("vyr");
        fs::create_dir_all(&group).map_err(|e| format!("{}: {e}", group.display()))?;
        if found.version == 2 {
            for above in [&found.root, &group] {
                fs::write(above.join("cgroup.subtree_control"), "+memory")
                    .map_err(|e| format!("{}: {e}", above.display()))?;
            }
        }
        Ok(Self { root: group, ..found })
    }

    /// Lets a user that is not root make groups here, and moves this process to where that user can
    /// start machines from. For root, before it becomes that user.
    ///
    /// # Errors
    /// A reason in words.
    pub fn delegate(&self, user: (u32, u32)) -> Result<(), String> {
        let home = self.root.join(HOME);
        let fail = |path: &Path| {
            let path = path.display().to_string();
            move |e: io::Error| format!("{path}: {e}")
        };
        fs::create_dir_all(&home).map_err(fail(&home))?;
        // Of version 2, a process may be moved by whoever may write here, below which it comes from
        // and goes; of version 1, a thread by itself.
        let mut given = vec![self.root.clone(), home.clone()];
        for group in [&self.root, &home] {
            given.extend(["cgroup.procs", "tasks"].map(|file| group.join(file)));
        }
        for path in given.iter().filter(|path| path.exists()) {
            chown(path, Some(user.0), Some(user.1)).map_err(fail(path))?;
        }
        let procs = home.join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string()).map_err(fail(&procs))
    }

    /// The directory in which groups are made.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn among(mounts: &str, controllers: impl Fn(&Path) -> String) -> Option<Self> {
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(at) = before.split(' ').nth(4) else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1).unwrap_or_default());
            let root = PathBuf::from(at);
            match kind {
                Some("cgroup") if options.split(',').any(|option| option == "memory") => {
                    return Some(Self { root, version: 1 });
                }
                Some("cgroup2")
                    if controllers(&root).split_whitespace().any(|it| it == "memory") =>
                {
                    return Some(Self { root, version: 2 });
                }
                _ => {}
            }
        }
        None
    }

    /// Makes the group of a machine, or takes the one that is left of it.
    pub(super) fn make(&self, name: &str, bytes: u64) -> Result<Group, VmmError> {
        let home = self.root.join(HOME);
        let by_thread = self.version == 1 && !rustix::process::geteuid().is_root();
        let home = by_thread.then_some(home);
        let group = Group { path: self.root.join(name), version: self.version, home };
        let wrong = |what: &str, source| VmmError::Cgroup { what: what.to_owned(), source };
        fs::create_dir_all(&group.path).map_err(|e| wrong("make the cgroup", e))?;
        let bytes = bytes.to_string();
        let limits: &[(&str, &str)] = match self.version {
            1 => &[("memory.limit_in_bytes", &bytes), ("memory.memsw.limit_in_bytes", &bytes)],
            _ => &[("memory.max", &bytes), ("memory.swap.max", "0")],
        };
        for (file, value) in limits {
            match fs::write(group.path.join(file), value) {
                // Kernels without accounting of swap have no such file; then swap is not counted,
                // and on version 1 this is the only way to forbid it.
                Err(e) if e.kind() == io::ErrorKind::NotFound && file.contains("sw") => {
                    if self.version == 1 {
                        fs::write(group.path.join("memory.swappiness"), "0")
                            .map_err(|e| wrong("forbid swap", e))?;
                    }
                }
                Err(e) => return Err(wrong(file, e)),
                Ok(()) => {}
            }
        }
        Ok(group)
    }
}

/// The group that a specification asks for, with what its VMM needs beside its guest's memory.
pub(super) fn group_of(
    found: &Result<Cgroups, String>,
    spec: &Spec,
    overhead_bytes: u64,
) -> Result<Option<Group>, VmmError> {
    let Some(name) = &spec.cgroup else { return Ok(None) };
    let groups = found.as_ref().map_err(|why| VmmError::Cgroup {
        what: why.clone(),
        source: io::ErrorKind::Unsupported.into(),
    })?;
    groups.make(name, spec.memory_bytes + overhead_bytes).map(Some)
}

/// The group of one machine.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    version: u8,
    /// Of version 1, only root moves another user's process. Who is not starts it from inside, and
    /// goes back to this group.
    home: Option<PathBuf>,
}

impl Group {
    /// One that an earlier process made.
    pub(super) fn at(path: &str) -> Self {
        let path = PathBuf::from(path);
        let version = if path.join("memory.max").exists() { 2 } else { 1 };
        Self { path, version, home: None }
    }

    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Starts a process, in this group already if it cannot be moved later.
    pub(super) fn start(
        &self,
        start: impl FnOnce() -> Result<Child, VmmError>,
    ) -> Result<Child, VmmError> {
        let Some(home) = &self.home else { return start() };
        // The thread alone; a child is where its thread was.
        let go = |to: &Path| {
            fs::write(to.join("tasks"), "0")
                .map_err(|source| VmmError::Cgroup { what: "enter the cgroup".into(), source })
        };
        go(&self.path)?;
        let started = start();
        let back = go(home);
        match (started, back) {
            (Ok(mut child), Err(e)) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
            (started, _) => started,
        }
    }

    /// Everything that the process touches from now on is counted here.
    pub(super) fn enter(&self, pid: u32) -> Result<(), VmmError> {
        if self.home.is_some() {
            return Ok(());
        }
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|source| VmmError::Cgroup { what: "enter the cgroup".into(), source })
    }

    /// Whether the kernel killed in it for want of memory.
    pub(super) fn oom_killed(&self) -> bool {
        let file = if self.version == 1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"))
    }

    /// Once nobody is in it.
    pub(super) fn remove(&self) {
        // A group that is not empty yet is removed by the next machine of this name.
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use vyr_space::not_run;

    use super::*;

    /// What a program of a machine in a test may use.
    const BYTES: u64 = 32 << 20;

    /// A shell that waits for a line, in a group.
    fn waits(group: &Group, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().expect("a shell");
        group.enter(child.id()).expect("root may");
        child
    }

    fn go(child: &mut Child) -> std::process::ExitStatus {
        child.stdin.take().expect("it is piped").write_all(b"\n").expect("it waits");
        child.wait().expect("ours")
    }

    /// Of the version that this kernel has; the other one is tried in an emulated machine.
    #[test]
    fn who_takes_too_much_is_killed_and_a_neighbour_is_not() {
        const NAME: &str =
            "vmm::cgroup::tests::who_takes_too_much_is_killed_and_a_neighbour_is_not";
        if !rustix::process::geteuid().is_root() {
            return not_run(NAME, "needs root");
        }
        let groups = match Cgroups::find() {
            Ok(groups) => groups,
            Err(why) => return not_run(NAME, &why),
        };
        println!("cgroups of version {}", groups.version);
        let [greedy, calm] = ["greedy", "calm"].map(|name| {
            groups.make(&format!("{name}-{}", std::process::id()), BYTES).expect("root may")
        });
        let mut takes = waits(&greedy, "read _; x=0123456789; while :; do x=$x$x; done");
        let mut sleeps = waits(&calm, "read _; exit 7");
        assert_eq!(go(&mut takes).signal(), Some(9));
        assert!(greedy.oom_killed(), "the kernel says why");
        assert!(!calm.oom_killed());
        assert_eq!(go(&mut sleeps).code(), Some(7), "it went on");
        for group in [greedy, calm] {
            group.remove();
            assert!(!group.path.exists());
        }
    }

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V2: &str = "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_controller_is_found_wherever_it_is() {
        let with = |_: &Path| "cpu memory pids".to_owned();
        let without = |_: &Path| "hugetlb".to_owned();
        let found = Cgroups::among(&format!("{V2}{V1}"), without).expect("version 1");
        assert_eq!((found.version, found.root), (1, "/sys/fs/cgroup/memory".into()));
        let found = Cgroups::among(V2, with).expect("version 2");
        assert_eq!((found.version, found.root), (2, "/sys/fs/cgroup/unified".into()));
        assert_eq!(Cgroups::among(V2, without), None);
        assert_eq!(Cgroups::among("", with), None);
    }
}
