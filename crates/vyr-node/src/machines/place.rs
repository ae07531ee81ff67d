//! Where machines run: their directory, their users, what they boot, and who caps them.

use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vyr_vm::vmm::{Cgroups, Platform, Qemu};

/// Below the directory of machines: where it is tried whether KVM works.
pub(crate) const PROBE: &str = ".probe";

/// Names a directory with the platform of guests.
pub(crate) const PLATFORM: &str = "VYR_GUEST";

/// What the node's configuration says of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachinesSettings {
    /// The first and the last user id of VMMs, where the node runs as root.
    pub users: (u32, u32),
    /// Whether machines start from snapshots of their kind, which are made for that.
    pub snapshots: bool,
}

/// In the rest of the range in which the node's own processes have theirs (60578 to 61183), which
/// neither Debian nor systemd gives to anybody; from 61184 on systemd has its dynamic users.
impl Default for MachinesSettings {
    fn default() -> Self {
        Self { users: (61_000, 61_183), snapshots: false }
    }
}

/// What the process `machines` knows before it gives everything else up.
#[derive(Debug)]
pub(crate) struct Place {
    /// Relative to the working directory, which is that of machines: so no directory above it has to
    /// be open to anybody.
    pub(crate) directory: PathBuf,
    /// Of VMMs; `None`: they have this process's own.
    pub(crate) users: Option<RangeInclusive<u32>>,
    /// The group that may use KVM; without one a VMM's group has its user's number.
    pub(crate) kvm_group: Option<u32>,
    /// The directory of kernel and initramfs, or why there is none.
    pub(crate) platform: Result<PathBuf, String>,
    /// Or why memory cannot be capped.
    pub(crate) cgroups: Result<Cgroups, String>,
    /// Whether snapshots are made, and used.
    pub(crate) snapshots: bool,
}

/// The directory that `cargo xtask guest` made: the one that `VYR_GUEST` names, `guest` beside this
/// binary, or `/usr/lib/vyr/guest`.
///
/// # Errors
/// Where it was looked for.
pub fn find_platform() -> Result<PathBuf, String> {
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent).map(|path| path.join("guest"));
    let named = std::env::var_os(PLATFORM).map(PathBuf::from);
    first_platform(named, beside, Path::new("/usr/lib/vyr/guest"))
}

fn first_platform(
    named: Option<PathBuf>,
    beside: Option<PathBuf>,
    system: &Path,
) -> Result<PathBuf, String> {
    let has = |path: &PathBuf| path.join("guest.json").is_file();
    if let Some(path) = named {
        // Another one than was named would be a surprise.
        return match has(&path) {
            true => Ok(path),
            false => Err(format!("{PLATFORM} names {}, where no guest.json is", path.display())),
        };
    }
    let places: Vec<PathBuf> = beside.into_iter().chain([system.to_owned()]).collect();
    places.iter().find(|path| has(path)).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        format!("no kernel and initramfs of guests in {}", places.join(" or "))
    })
}

/// What machines could run here, for people: the kernel of guests, the VMM, KVM. Nothing is started but
/// the VMM to tell its version; a node that runs knows more.
///
/// # Errors
/// Why none can run.
pub fn examine() -> Result<String, String> {
    let path = find_platform()?;
    let platform = Platform::open(&path).map_err(|e| e.to_string())?;
    let vmm = Qemu::emulated("nothing is run").map_err(|e| e.to_string())?;
    let kvm = match Path::new("/dev/kvm").exists() {
        true => "tried when the first machine starts",
        false => "no /dev/kvm, so guests are emulated",
    };
    Ok(format!(
        "guests boot Linux {} of {}; {}; KVM: {kvm}",
        platform.release,
        path.display(),
        vmm.version()
    ))
}

/// The group that `/dev/kvm` is open to, if it is open to a group and not to everybody.
pub(crate) fn kvm_group() -> Option<u32> {
    let metadata = std::fs::metadata("/dev/kvm").ok()?;
    let (group, all) = (metadata.mode() & 0o060 == 0o060, metadata.mode() & 0o006 == 0o006);
    (group && !all && metadata.gid() != 0).then(|| metadata.gid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_used_and_nothing_else() {
        let base = tempfile::tempdir().expect("room");
        let [named, beside, system] = ["named", "beside", "system"].map(|it| base.path().join(it));
        let find =
            |name: Option<&PathBuf>| first_platform(name.cloned(), Some(beside.clone()), &system);
        for path in [&named, &beside, &system] {
            std::fs::create_dir(path).expect("room");
        }
        assert!(find(None).expect_err("nothing").contains("system"));
        std::fs::write(system.join("guest.json"), "{}").expect("room");
        assert_eq!(find(None).as_ref(), Ok(&system));
        std::fs::write(beside.join("guest.json"), "{}").expect("room");
        assert_eq!(find(None).as_ref(), Ok(&beside));
        assert!(find(Some(&named)).expect_err("nothing there").contains("named"));
        std::fs::write(named.join("guest.json"), "{}").expect("room");
        assert_eq!(find(Some(&named)).as_ref(), Ok(&named));
    }
}
