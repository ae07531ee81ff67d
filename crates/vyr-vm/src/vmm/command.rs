//! QEMU's command line: a machine with nothing in it that a guest does not need.

use std::os::fd::RawFd;
use std::process::Command;

use super::counter::rate_khz;
use super::{Accelerator, Link, Spec};

/// The program.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// Below a machine's directory.
pub(super) const RUN: &str = "run";
pub(super) const CHANNEL: &str = "run/channel";
pub(super) const CONSOLE_SOCKET: &str = "run/console";
pub(super) const SCRATCH: &str = "scratch.img";

/// What the kernel is told. A panic, which the end of its first process is too, ends the machine.
const APPEND: &str = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t";

/// Of translated instructions. By itself QEMU keeps up to 1 GiB of them, which its cap on memory leaves no
/// room for.
const TRANSLATED_MIB: u32 = 64;

/// What an emulated guest is told besides. It cannot find out the rate of its time stamp counter, which
/// is the host's, and with another rate its time would run fast or slow. Told that it may rely on it, it
/// does not compare it with its timer's ticks, of which a busy host loses some.
fn append_tcg(counter_khz: Option<u64>) -> String {
    match counter_khz {
        Some(khz) => format!("tsc_early_khz={khz} tsc=reliable no_timer_check"),
        // It needs some rate to boot; its time comes from the ticks alone.
        None => "tsc_early_khz=1000000 tsc=unstable no_timer_check".into(),
    }
}

/// The numbers of what the VMM inherits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited {
    pub(super) root: RawFd,
    pub(super) scratch: Option<RawFd>,
    /// Sockets that are bound; the VMM listens.
    pub(super) channel: RawFd,
    pub(super) console: RawFd,
}

/// The command without user and standard streams. It waits for QMP on its standard input, before it
/// makes its machine: so it can be put into its cgroup before it takes memory. A TAP is its standard
/// output.
pub(super) fn command(spec: &Spec, accelerator: &Accelerator, fds: Inherited) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir("/");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args([
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ])
        .args(["-preconfig", "-S"])
        .arg("-kernel")
        .arg(&spec.platform.kernel)
        .arg("-initrd")
        .arg(&spec.platform.initramfs)
        .args(["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"])
        .args(["-chardev", &format!("socket,id=console,fd={},server=on,wait=off", fds.console)])
        .args(["-chardev", &format!("socket,id=vyr,fd={},server=on,wait=off", fds.channel)])
        .args(["-add-fd", &format!("fd={},set={ROOT_SET}", fds.root)])
        .args(["-blockdev", &blockdev("root", ROOT_SET, true)]);
    if let Some(scratch) = fds.scratch {
        command
            .args(["-add-fd", &format!("fd={scratch},set={SCRATCH_SET}")])
            .args(["-blockdev", &blockdev("scratch", SCRATCH_SET, false)]);
    }
    match spec.card {
        None => {}
        Some((Link::Tap(_), _)) => drop(command.args(["-netdev", "tap,id=net,fd=1,vhost=off"])),
        // A hub with nobody else at it.
        Some((Link::Nowhere, _)) => drop(command.args(["-netdev", "hubport,id=net,hubid=0"])),
    }
    let own = Own { mac: spec.card.as_ref().map(|(_, mac)| *mac), counter_khz: rate_khz() };
    command.args(seen(spec, accelerator, &own));
    if spec.snapshot.is_some() {
        command.args(["-incoming", "defer"]);
    }
    if let Some(mark) = &spec.mark {
        command.args(["-name", mark]);
    }
    command.env_clear();
    command
}

/// What two machines of one kind may see differently.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Of the card.
    mac: Option<[u8; 6]>,
    /// Measured, so that it differs a little each time.
    counter_khz: Option<u64>,
}

/// Everything that the guest sees of its machine.
pub(super) fn seen(spec: &Spec, accelerator: &Accelerator, own: &Own) -> Vec<String> {
    let (how, cpu, append) = match accelerator {
        Accelerator::Kvm => ("kvm".to_owned(), "host", APPEND.to_owned()),
        Accelerator::Tcg(_) => {
            let append = format!("{APPEND} {}", append_tcg(own.counter_khz));
            (format!("tcg,tb-size={TRANSLATED_MIB}"), "max", append)
        }
    };
    let mut all = vec!["-no-reboot".to_owned()];
    let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
    add("-machine", "microvm,rtc=on".into());
    add("-accel", how);
    add("-cpu", cpu.into());
    add("-m", format!("{}M", spec.memory_bytes >> 20));
    add("-smp", spec.vcpus.to_string());
    add("-append", append);
    add("-serial", "chardev:console".into());
    add("-device", "virtio-serial-device".into());
    add("-device", "virtserialport,chardev=vyr,name=vyr".into());
    add("-device", "virtio-blk-device,drive=root,serial=root".into());
    if spec.scratch_bytes.is_some() {
        // A full disk of the host is told to the guest, which goes on. Else the machine would be
        // stopped until somebody said that there is room.
        add("-device", "virtio-blk-device,drive=scratch,serial=scratch,werror=report".into());
    }
    if spec.card.is_some() {
        let mac = own.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        let mac = mac.map(|mac| format!(",mac={mac}")).unwrap_or_default();
        add("-device", format!("virtio-net-device,netdev=net{mac}"));
    }
    all
}

/// Numbers of QEMU's own, one a descriptor.
const ROOT_SET: u32 = 1;
const SCRATCH_SET: u32 = 2;

fn blockdev(name: &str, set: u32, read_only: bool) -> String {
    serde_json::json!({
        "driver": "raw",
        "node-name": name,
        "read-only": read_only,
        "file": {
            "driver": "file",
            "filename": format!("/dev/fdset/{set}"),
            "read-only": read_only,
            // Locks are for those who share a disk; a root disk is shared, and read only.
            "locking": "off",
            "discard": "unmap",
        },
    })
    .to_string()
}
