//! The workload's cgroup: its memory, its death, and whether the kernel killed for want of memory.
//!
//! The limit lies below what the guest has, so that the kernel kills in the workload's cgroup and not
//! elsewhere, and says so in its counters.

use std::fs;
use std::io;

const ROOT: &str = "/sys/fs/cgroup";

/// Where the workload and its sessions live.
pub(crate) const WORKLOAD: &str = "/sys/fs/cgroup/workload";

/// What the first process and the kernel keep for themselves.
const RESERVE_BYTES: u64 = 12 << 20;

/// The first process is the last that the kernel kills.
pub(crate) fn protect_init() {
    // Without it a guest without memory may die instead of telling; nothing else changes.
    if let Err(e) = fs::write("/proc/self/oom_score_adj", "-1000") {
        println!("vyr-init: oom_score_adj: {e}");
    }
}

/// Makes the cgroup, with what is free now as its limit.
pub(crate) fn limit() -> io::Result<()> {
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory +pids")?;
    fs::create_dir_all(WORKLOAD)?;
    let limit = available()?.saturating_sub(RESERVE_BYTES);
    fs::write(format!("{WORKLOAD}/memory.max"), limit.to_string())?;
    // Half of a service is worse than none: all of it ends, as it would with its own machine.
    fs::write(format!("{WORKLOAD}/memory.oom.group"), "1")
}

fn available() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no MemAvailable in /proc/meminfo"))
}

/// Whether the kernel killed a process of the workload for want of memory.
pub(crate) fn oom_killed() -> bool {
    let text = fs::read_to_string(format!("{WORKLOAD}/memory.events")).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

/// Kills everything of the workload, whatever it ignores.
pub(crate) fn kill_all() {
    // There is no such file before `limit`, and nothing to kill either.
    let _ = fs::write(format!("{WORKLOAD}/cgroup.kill"), "1");
}
