//! Users of VMMs, and VMMs that nobody remembers.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A killed process is gone within this, or the kernel is stuck.
const KILLED: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// The lowest user of the range that nobody has: no machine, and no process at all.
pub(crate) fn free(range: &RangeInclusive<u32>, taken: &BTreeSet<u32>) -> Option<u32> {
    let busy: BTreeSet<u32> = processes().filter_map(owner).collect();
    range.clone().find(|uid| !taken.contains(uid) && !busy.contains(uid))
}

/// Ends every process with this mark on its command line, and waits until it is gone. The mark is
/// random, so that nobody else has it by chance.
pub(crate) fn kill_marked(mark: &str) {
    for pid in processes() {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        // Held before it is looked at: the number cannot change hands in between.
        let Ok(held) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()) {
            continue;
        }
        if pidfd_send_signal(&held, Signal::KILL).is_ok() {
            let _ = poll(&mut [PollFd::new(&held, PollFlags::IN)], Some(&KILLED));
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn owner(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_user_who_is_taken_or_has_a_process_is_passed_over() {
        let own = rustix::process::geteuid().as_raw();
        let range = own..=own + 3;
        assert_eq!(free(&range, &BTreeSet::from([own + 1])), Some(own + 2));
        assert_eq!(free(&(own..=own), &BTreeSet::new()), None);
    }

    #[test]
    fn a_mark_is_found_and_nothing_like_it() {
        let start = |word: &str| {
            // It waits for its standard input, whatever its name.
            let mut command = Command::new("sh");
            command.args(["-c", "read line", word]).stdin(Stdio::piped());
            command.spawn().expect("sh starts")
        };
        let mark = format!("vyr-test-{}", std::process::id());
        let (mut marked, mut other) = (start(&mark), start(&format!("{mark}-more")));
        kill_marked(&mark);
        assert!(!marked.wait().expect("ours").success());
        assert!(other.try_wait().expect("ours").is_none(), "it runs");
        other.kill().expect("ours");
        other.wait().expect("ours");
    }
}
