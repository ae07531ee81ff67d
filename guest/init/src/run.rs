//! How this program becomes the workload: it starts itself again, alone in a process of one thread,
//! gives up what the workload may not have, and lets the workload's program take its place.
//!
//! ```text
//!  init run UID GID GROUPS TTY WORKDIR -- ARGV        the environment is the workload's already
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{chdir, chroot, ioctl_tiocsctty, setsid, umask};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use vyr_channel::Process;

use crate::{memory, root};

/// The first argument.
pub(crate) const WORD: &str = "run";

/// As shells say it: found and not runnable, and not found.
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command that becomes `process`; its three streams are the caller's to set.
pub(crate) fn command(process: &Process, terminal: bool) -> Command {
    let groups: Vec<String> = process.groups.iter().map(u32::to_string).collect();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(WORD)
        .args([process.uid.to_string(), process.gid.to_string(), groups.join(",")])
        .arg(if terminal { "tty" } else { "pipes" })
        .arg(&process.workdir)
        .arg("--")
        .args(&process.argv)
        .env_clear()
        .env("PATH", PATH)
        .envs(process.env.iter().map(|(name, value)| (name, value)));
    command
}

/// Becomes the workload; returns only when that fails.
pub(crate) fn become_workload(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let Some((setting, argv)) = arguments.split_at_checked(6) else {
        return refused("too few arguments", NOT_RUNNABLE);
    };
    if let Err(what) = become_user(setting) {
        return refused(&what, NOT_RUNNABLE);
    }
    let Some((program, rest)) = argv.split_first() else {
        return refused("no program", NOT_RUNNABLE);
    };
    let error = Command::new(program).args(rest).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    refused(&format!("{}: {error}", program.display()), code)
}

fn refused(why: &str, code: u8) -> ExitCode {
    eprintln!("vyr-init: cannot run: {why}");
    ExitCode::from(code)
}

fn become_user(setting: &[OsString]) -> Result<(), String> {
    let text = |n: usize| setting.get(n).map(OsString::as_os_str).and_then(OsStr::to_str);
    let number = |n: usize| {
        let number = text(n).and_then(|text| text.parse::<u32>().ok());
        // -1 means "leave it" to the kernel.
        number.filter(|number| *number != u32::MAX).ok_or_else(|| "no such user".to_owned())
    };
    let (uid, gid) = (rustix::fs::Uid::from_raw(number(0)?), rustix::fs::Gid::from_raw(number(1)?));
    let groups = text(2).unwrap_or_default().split(',').filter(|group| !group.is_empty());
    let groups: Vec<_> = groups
        .map(|group| group.parse().map(rustix::fs::Gid::from_raw))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("a group: {e}"))?;
    let wrong = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    fs::write(format!("{}/cgroup.procs", memory::WORKLOAD), "0").map_err(wrong("its cgroup"))?;
    fs::write("/proc/self/oom_score_adj", "0").map_err(wrong("oom_score_adj"))?;
    let wrong = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
    setsid().map_err(wrong("a session"))?;
    if text(3) == Some("tty") {
        ioctl_tiocsctty(io::stdin()).map_err(wrong("the terminal"))?;
    }
    chroot(root::ROOT).map_err(wrong("its root"))?;
    chdir("/").map_err(wrong("its root"))?;
    let workdir = text(4).unwrap_or("/");
    if let Err(e) = fs::create_dir_all(workdir) {
        return Err(format!("{workdir}: {e}"));
    }
    chdir(workdir).map_err(wrong("its directory"))?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    set_thread_groups(&groups).map_err(wrong("its groups"))?;
    set_thread_gid(gid).map_err(wrong("its group"))?;
    set_thread_uid(uid).map_err(wrong("its user"))
}
