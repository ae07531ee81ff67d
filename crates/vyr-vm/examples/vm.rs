//! One machine by hand, for experiments:
//!
//! ```sh
//! cargo xtask guest
//! cargo run -p vyr-vm --example vm -- target/guest root.squashfs 128 -- /bin/sh -c 'uname -a; id'
//! ```
//!
//! Platform, root disk and MiB of memory; then what runs, as root, with its writable layer in memory
//! and no card. Its output and exit code become this program's.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use vyr_vm::channel::fresh;
use vyr_vm::channel::words::{LogSource, Phase, Process, Start};
use vyr_vm::vmm::{Machine, Platform, Qemu, Spec, Vmm};

const BOOT: Duration = Duration::from_secs(120);
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [platform, root, memory, dashes, argv @ ..] = &arguments[..] else {
        bail!("usage: vm PLATFORM ROOT.squashfs MIB -- ARGV");
    };
    if dashes != "--" || argv.is_empty() {
        bail!("usage: vm PLATFORM ROOT.squashfs MIB -- ARGV");
    }
    let platform = Platform::open(Path::new(platform))?;
    let root = std::path::absolute(root)?;
    let directory = tempfile::tempdir()?;
    let driver = Qemu::new(platform.clone(), directory.path().join("probe"), None)?;
    let can = driver.capabilities();
    eprintln!("{}, {:?}", can.vmm, can.accelerator);
    let spec = Spec {
        platform,
        root: std::fs::File::open(root)?,
        memory_bytes: memory.parse::<u64>().context("MIB is a number")? << 20,
        vcpus: 1,
        scratch_bytes: None,
        card: None,
        user: None,
        cgroup: None,
        snapshot: None,
        mark: None,
    };
    driver.prepare(&spec, directory.path())?;
    let machine = driver.start(spec, directory.path())?;
    let code = run(&machine, argv);
    machine.kill()?;
    code
}

fn run(machine: &impl Machine, argv: &[String]) -> anyhow::Result<ExitCode> {
    let channel = machine.channel(true, BOOT)?;
    let (entropy, time_ns) = fresh()?;
    channel.start(Start {
        entropy,
        time_ns,
        hostname: "experiment".into(),
        network: None,
        resolv_conf: String::new(),
        hosts: String::new(),
        secrets: None,
        scratch: false,
        prestart: None,
        process: Process::root(argv.iter().cloned()),
        health: None,
    })?;
    loop {
        let records = channel.read_log(FOR_EVER)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let line = [&record.line[..], if record.cut { b"" } else { b"\n" }].concat();
            match record.source {
                LogSource::Stdout => std::io::stdout().write_all(&line)?,
                LogSource::Stderr => std::io::stderr().write_all(&line)?,
                LogSource::Dropped => eprintln!("({:?} lines were dropped)", record.dropped()),
            }
        }
    }
    let ended = channel.wait_phase(BOOT, |phase| match phase {
        Phase::Ended(end) => Some(Ok(*end)),
        Phase::Failed(failure) => Some(Err(failure.clone())),
        _ => None,
    })?;
    match ended {
        Ok(end) => {
            eprintln!("{end:?}");
            Ok(ExitCode::from(end.code.unwrap_or(1)))
        }
        Err(failure) => bail!("{}: {}", failure.stage, failure.why),
    }
}
