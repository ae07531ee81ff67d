//! Where a figure was taken: the machine, and how much of it others had while it was taken.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::process::family;

/// A round in which the hypervisor gave away more than this share of the machine's time says
/// little about the programs in it, and is run again.
pub const STEAL_MAX: f64 = 0.05;

/// A round in which other processes used more than this share of the machine is run again too,
/// as long as there are rounds left for that: two programs do not always suffer alike.
pub const OTHERS_MAX: f64 = 0.10;

/// The machine and the versions. Nothing of it names a person, a host or a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Vyr's version.
    pub vyr: String,
    /// The version of Wasmtime that both sides are built with.
    pub wasmtime: String,
    /// The processor's name, as it gives it.
    pub cpu_model: String,
    /// Processors this process may run on.
    pub cpus: usize,
    /// Physical memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Whether the fast slot reset is used, on both sides alike, and if not, why.
    pub pagemap_scan: String,
    /// One-minute load when the run began.
    pub load: f64,
}

/// The Wasmtime that the workspace pins; the crate has no constant to read it from.
const WASMTIME: &str = "48.0.8";

impl Environment {
    /// This machine, now.
    pub fn of_this_machine(pagemap_scan: &str) -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            vyr: env!("CARGO_PKG_VERSION").into(),
            wasmtime: WASMTIME.into(),
            cpu_model: field(&cpu_info, "model name").unwrap_or("unknown").into(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: field(&memory, "MemTotal").and_then(kib).unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".into(), |text| text.trim().into()),
            pagemap_scan: pagemap_scan.into(),
            load: load(),
        }
    }
}

/// The value behind `name` and a colon.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `12 kB` in bytes.
pub(crate) fn kib(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// What others took of the machine during one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// Share of all processors' time that the hypervisor gave to other machines.
    pub steal: f64,
    /// Share that other processes of this machine used.
    pub others: f64,
    /// One-minute load at the end of the round.
    pub load: f64,
}

/// The counters of `/proc/stat`, of this process and of those measured, at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    stat: Stat,
    own_us: u64,
    measured: Vec<u32>,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self::beside(&[])
    }

    /// Now; what the processes `measured` and their children use is not others' either. They must
    /// live until `until_now`.
    pub fn beside(measured: &[u32]) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let theirs = measured.iter().flat_map(|pid| family(*pid));
        Self {
            stat: Stat::parse(&text).unwrap_or_default(),
            own_us: cpu_us("self") + theirs.map(|pid| cpu_us(&pid.to_string())).sum::<u64>(),
            measured: measured.to_vec(),
        }
    }

    /// What happened to the machine since.
    pub fn until_now(&self) -> Disturbance {
        let now = Self::beside(&self.measured);
        Disturbance { load: load(), ..between(self, &now) }
    }
}

fn between(start: &Moment, end: &Moment) -> Disturbance {
    let ticks = |of: fn(&Stat) -> u64| of(&end.stat).saturating_sub(of(&start.stat)) as f64;
    let all = ticks(|stat| stat.all).max(1.0);
    let own = end.own_us.saturating_sub(start.own_us) as f64 / US_PER_TICK;
    Disturbance {
        steal: ticks(|stat| stat.steal) / all,
        others: ((ticks(|stat| stat.busy) - own) / all).max(0.0),
        load: 0.0,
    }
}

/// `/proc/stat` counts hundredths of a second (`USER_HZ`) on every Linux.
const US_PER_TICK: f64 = 10_000.0;

/// The first line of `/proc/stat`, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stat {
    all: u64,
    busy: u64,
    steal: u64,
}

impl Stat {
    /// `cpu user nice system idle iowait irq softirq steal ..`; what follows is part of `user`.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map_while(|n| n.parse().ok()).collect();
        let &[user, nice, system, idle, waiting, irq, soft_irq, steal] = ticks.as_slice() else {
            return None;
        };
        let busy = user + nice + system + irq + soft_irq;
        Some(Self { all: busy + idle + waiting + steal, busy, steal })
    }
}

/// Processor time of a process and of the children it has waited for, in microseconds.
pub(crate) fn cpu_us(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold spaces; the fields after it do not.
    let Some((_, fields)) = text.rsplit_once(')') else { return 0 };
    // utime, stime, cutime and cstime are fields 14 to 17; the first here is field 3.
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks * 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_and_others_are_shares_of_all_time() {
        let stat = |text| Stat::parse(text).expect("a line of /proc/stat");
        let moment = |text, own_us| Moment { stat: stat(text), own_us, measured: Vec::new() };
        let start = moment("cpu  100 0 0 100 0 0 0 0 0 0\n", 0);
        let end = moment("cpu  160 0 20 110 0 0 0 10 0 0\n", 500_000);
        let seen = between(&start, &end);
        assert!((seen.steal - 0.1).abs() < 1e-9, "{seen:?}");
        assert!((seen.others - 0.3).abs() < 1e-9, "{seen:?}");
    }

    #[test]
    fn this_machine_has_a_name_and_time_passes() {
        let here = Environment::of_this_machine("not asked");
        assert!(here.cpus > 0 && here.memory_bytes > 0, "{here:?}");
        assert!(Moment::now().stat.all > 0);
        assert_eq!(Stat::parse("intr 1 2 3"), None);
    }
}
