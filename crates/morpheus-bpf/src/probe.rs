//! What this machine lets us do, and what stands in the way of more.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use morpheus::Tier;

/// The name of the object file.
pub const OBJECT: &str = "morpheus.bpf.o";

/// Names the object file, wherever it is.
const VARIABLE: &str = "VYR_BPF_OBJECT";

/// Where packages put it.
const INSTALLED: &str = "/usr/lib/vyr";

/// Where the types of the running kernel are.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// There is no object file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {OBJECT} in {}", .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
pub struct NotFound(pub Vec<PathBuf>);

/// The object file: `$VYR_BPF_OBJECT`, beside this program, or in `/usr/lib/vyr`.
pub fn find_object() -> Result<PathBuf, NotFound> {
    let places = if let Some(named) = std::env::var_os(VARIABLE) {
        vec![PathBuf::from(named)]
    } else {
        let beside = std::env::current_exe().ok();
        let beside = beside.as_deref().and_then(Path::parent).map(|dir| dir.join(OBJECT));
        beside.into_iter().chain([Path::new(INSTALLED).join(OBJECT)]).collect()
    };
    places.iter().find(|path| path.is_file()).cloned().ok_or(NotFound(places))
}

/// What is missing for the tier `observe`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The kernel does not describe its types.
    Btf,
    /// A capability.
    Capability(&'static str),
    /// The kernel has no perf events.
    PerfEvents,
    /// The object file.
    Object(NotFound),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Btf => write!(f, "the kernel has no BTF ({BTF})"),
            Self::Capability(name) => write!(f, "{name} is missing"),
            Self::PerfEvents => f.write_str("the kernel has no perf events"),
            Self::Object(e) => e.fmt(f),
        }
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is missing for `observe`; nothing: it can be had.
    pub observe: Vec<Missing>,
    /// Whether there are pressure files.
    pub psi: bool,
    /// Whether the kernel has `sched_ext`, which the tier `enforce` will need.
    pub sched_ext: bool,
}

impl Probe {
    /// The highest tier that can be had.
    #[must_use]
    pub fn tier(&self) -> Tier {
        if self.observe.is_empty() {
            Tier::Observe
        } else if self.psi {
            Tier::Psi
        } else {
            Tier::Off
        }
    }

    /// Why there is no higher one.
    #[must_use]
    pub fn why(&self) -> String {
        if self.observe.is_empty() {
            return if self.sched_ext {
                "enforce is not part of this version".into()
            } else {
                "enforce needs sched_ext, which this kernel does not have".into()
            };
        }
        let missing: Vec<String> = self.observe.iter().map(Missing::to_string).collect();
        let psi = if self.psi { "" } else { "; psi: the kernel has no /proc/pressure/cpu" };
        format!("observe: {}{psi}", missing.join(", "))
    }
}

/// Looks what this thread could load now: capabilities are a thread's own.
#[must_use]
pub fn probe() -> Probe {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mut observe = missing(&status, Path::new(BTF), Path::new("/proc/sys/kernel"));
    if let Err(e) = find_object() {
        observe.push(Missing::Object(e));
    }
    Probe {
        observe,
        psi: Path::new("/proc/pressure/cpu").exists(),
        sched_ext: Path::new("/sys/kernel/sched_ext").exists(),
    }
}

fn missing(status: &str, btf: &Path, sysctl: &Path) -> Vec<Missing> {
    let mut missing = Vec::new();
    if !btf.exists() {
        missing.push(Missing::Btf);
    }
    if !sysctl.join("perf_event_paranoid").exists() {
        missing.push(Missing::PerfEvents);
    }
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    const SYS_ADMIN: u32 = 21;
    for (name, bit) in [("CAP_BPF", 39), ("CAP_PERFMON", 38)] {
        if effective & (1 << bit | 1 << SYS_ADMIN) == 0 {
            missing.push(Missing::Capability(name));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_name() {
        let here = Path::new("/");
        let nothing = Path::new("/there/is/nothing");
        let all = "CapEff:\t000001ffffffffff\n";
        assert_eq!(missing(all, nothing, nothing), [Missing::Btf, Missing::PerfEvents]);
        let bpf_only = "CapEff:\t0000008000000000\n";
        let sysctl = Path::new("/proc/sys/kernel");
        assert_eq!(missing(bpf_only, here, sysctl), [Missing::Capability("CAP_PERFMON")]);
        let both = "CapEff:\t000000c000000000\n";
        assert_eq!(missing(both, here, sysctl), []);
        let none = missing("CapEff:\t0\n", here, sysctl);
        let probe = Probe { observe: none, psi: true, sched_ext: false };
        assert_eq!(probe.tier(), Tier::Psi);
        assert_eq!(probe.why(), "observe: CAP_BPF is missing, CAP_PERFMON is missing");
        let without = Probe { observe: vec![Missing::Btf], psi: false, sched_ext: false };
        assert_eq!(without.tier(), Tier::Off);
        assert!(without.why().contains("no BTF") && without.why().contains("/proc/pressure/cpu"));
    }
}
