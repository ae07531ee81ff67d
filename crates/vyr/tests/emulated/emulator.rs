//! The emulator's command line, the console, and what is said when there can be no machine.
//!
//! A machine's clock goes at a rate of its own, because that of its counter is told and not measured.
//! Whoever prints a time takes it outside.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::kernel;

/// Of a console, when something is wrong.
const CONSOLE_LINES: usize = 60;

/// To the kernel, and after `--` to process 1. An emulated time stamp counter is not calibrated in
/// finite time, so its rate is told; a panic ends the machine.
const APPEND: [&str; 8] = [
    "console=ttyS0",
    "quiet",
    "loglevel=4",
    "panic=-1",
    "tsc_early_khz=1000000",
    "no_timer_check",
    "mitigations=off",
    "--",
];

/// One processor, this much memory, a console that is a file, and a port that connects to a socket.
/// `word` is the only argument of process 1. Disks and networks are the caller's to add.
pub(crate) fn command(
    memory_mib: u32,
    initramfs: &Path,
    word: &str,
    console: &Path,
    port: &Path,
) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "microvm,accel=tcg,rtc=on", "-cpu", "max"])
        .args(["-m", &memory_mib.to_string(), "-smp", "1"])
        .arg("-kernel")
        .arg(kernel::image())
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{} {word}", APPEND.join(" "))])
        .args(["-chardev", &format!("file,id=console,path={}", console.display())])
        .args(["-serial", "chardev:console"])
        .args(["-chardev", &format!("socket,id=port,path={}", port.display())])
        .args(["-device", "virtio-serial-device"])
        .args(["-device", "virtserialport,chardev=port,name=vyr"])
        .args(["-device", "virtio-rng-device"])
        .stdin(Stdio::null());
    command
}

/// The end of what a machine said on its console.
pub(crate) fn end_of(console: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

/// Sees to it that there can be a machine with these programs; says so if not.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    match kernel::prepare(programs) {
        Ok(()) => true,
        Err(reason) => {
            not_run(test, &reason);
            false
        }
    }
}

/// Says that `test` was not run, and why: to a reader, and to `cargo xtask ci`, which compares it
/// with `xtask/not-run.txt`.
pub(crate) fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}
