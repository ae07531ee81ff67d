//! From `Start` to the first process of the workload, step by step.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::time::{ClockId, Timespec, clock_settime};
use vyr_channel::{Failure, LogSource, Phase, Prestart, Process, Stage, Start, shortened};

use crate::guest::{Guest, Inner, Role};
use crate::{health, log, memory, network, random, root, run};

const NS: u64 = 1_000_000_000;

/// Begins, once; the channel is served meanwhile.
pub(crate) fn begin(guest: &Arc<Guest>, spec: Start) {
    let first = guest.with(|inner| {
        let first = !inner.started;
        inner.started = true;
        if first {
            inner.phase = Phase::Preparing;
            // The log does not end between two processes.
            inner.log.open();
        }
        first
    });
    if !first {
        return;
    }
    let guest = Arc::clone(guest);
    thread::spawn(move || {
        let result = prepare(&guest, spec);
        guest.with(|inner| {
            inner.log.close();
            if let Err((stage, why)) = result {
                let why = shortened(&why);
                inner.phase = Phase::Failed(Failure { stage, why });
            }
        });
    });
}

fn prepare(guest: &Arc<Guest>, spec: Start) -> Result<(), (Stage, String)> {
    let at = |stage: Stage| move |e: io::Error| (stage, e.to_string());
    random::seed(spec.entropy).map_err(at(Stage::Seed))?;
    set_clock(spec.time_ns).map_err(at(Stage::Seed))?;
    root::mount_overlay(spec.scratch).map_err(|why| (Stage::Root, why))?;
    names(&spec).map_err(at(Stage::Network))?;
    network::configure(spec.network.as_ref()).map_err(at(Stage::Network))?;
    if let Some(secrets) = &spec.secrets {
        place_secrets(secrets, &spec.process).map_err(at(Stage::Secrets))?;
    }
    memory::limit().map_err(at(Stage::Memory))?;
    if let Some(prestart) = &spec.prestart {
        run_prestart(guest, prestart).map_err(|why| (Stage::Prestart, why))?;
    }
    guest
        .with(|inner| {
            if inner.stopping {
                return Err(io::Error::other("it was stopped before it began"));
            }
            let pipes = spawn(inner, &spec.process, Role::Workload)?;
            inner.phase = Phase::Running;
            Ok(pipes)
        })
        .map(|pipes| follow(guest, pipes))
        .map_err(at(Stage::Workload))?;
    if let Some(check) = spec.health {
        health::watch(guest, check);
    }
    Ok(())
}

fn set_clock(time_ns: u64) -> io::Result<()> {
    let whole = |n: u64| i64::try_from(n).map_err(|_| io::Error::other("no such time"));
    let time = Timespec { tv_sec: whole(time_ns / NS)?, tv_nsec: whole(time_ns % NS)? };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn names(spec: &Start) -> io::Result<()> {
    rustix::system::sethostname(spec.hostname.as_bytes())?;
    root::write_file("etc/hostname", &format!("{}\n", spec.hostname))?;
    for (path, text) in [("etc/resolv.conf", &spec.resolv_conf), ("etc/hosts", &spec.hosts)] {
        if !text.is_empty() {
            root::write_file(path, text)?;
        }
    }
    Ok(())
}

/// Whole, or not there: written beside its place, on memory, and renamed.
fn place_secrets(secrets: &[u8], process: &Process) -> io::Result<()> {
    let directory = format!("{}/run/secrets", root::ROOT);
    fs::create_dir_all(&directory)?;
    let (new, place) = (format!("{directory}/.new"), format!("{directory}/platform.env"));
    fs::write(&new, b"")?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o400))?;
    fs::write(&new, secrets)?;
    chown(&new, Some(process.uid), Some(process.gid))?;
    fs::rename(new, place)
}

/// Both pipes of a process.
type Pipes = (std::process::ChildStdout, std::process::ChildStderr);

fn spawn(inner: &mut Inner, process: &Process, role: Role) -> io::Result<Pipes> {
    let mut command = run::command(process, false);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("a pipe is missing"));
    };
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        inner.children.insert(pid, role);
    }
    inner.log.open();
    inner.log.open();
    Ok((stdout, stderr))
}

fn follow(guest: &Arc<Guest>, (stdout, stderr): Pipes) {
    let reading = Arc::clone(guest);
    thread::spawn(move || log::read_lines(&reading, LogSource::Stdout, stdout));
    let reading = Arc::clone(guest);
    thread::spawn(move || log::read_lines(&reading, LogSource::Stderr, stderr));
}

fn run_prestart(guest: &Arc<Guest>, prestart: &Prestart) -> Result<(), String> {
    let pipes = guest
        .with(|inner| {
            inner.phase = Phase::Prestart;
            spawn(inner, &prestart.process, Role::Prestart)
        })
        .map_err(|e| e.to_string())?;
    follow(guest, pipes);
    let time = Duration::from_millis(prestart.timeout_ms);
    let ended = guest.until_for(time, |inner| inner.prestart.take());
    match ended {
        Some((Some(0), _)) => Ok(()),
        Some((Some(code), _)) => Err(format!("exit code {code}")),
        Some((None, signal)) => Err(format!("signal {}", signal.unwrap_or_default())),
        None => {
            memory::kill_all();
            Err(format!("it took longer than {} ms", prestart.timeout_ms))
        }
    }
}
