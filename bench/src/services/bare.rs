//! The same machine without Vyr: QEMU's command line as a person types it, and the driver's own
//! machines on the same wire.
//!
//! ```text
//! namespace: TAP `bare0` with fe80::1, a route to the guest --- eth0 of the guest
//! ```
//!
//! The first process of a guest waits for its orders on a socket: they are given with the same words as
//! a node's, without a check, because whoever typed this looks for an answer themselves.
//!
//! The wire, and by hand the scratch disk, are there before the clock starts.

use std::fs::{self, File};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use vyr_vm::channel::words::{Network, Phase, Process, Route, Start};
use vyr_vm::channel::{Channel, ChannelError, fresh};
use vyr_vm::vmm::{
    Accelerator, Capabilities, Link, Machine, Platform, Qemu, QemuMachine, Spec, Vmm, make_scratch,
    open_tap, rate_khz,
};

use super::http::until_answered;
use super::place::{ARGV, MEMORY_BYTES, PATIENCE, PORT, Place, SCRATCH_BYTES, VCPUS};
use crate::space::Namespace;

const TAP: &str = "bare0";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd2a, 0x91c2, 0x77e0, 0, 0, 0, 0, 2);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MTU: u32 = 1500;

/// How soon a socket is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A guest that boots says its first word in a tenth of this, also on a busy machine; and how many that
/// do not one round bears.
const FIRST_WORD: Duration = Duration::from_secs(45);
const HUNG_MAX: u32 = 2;

/// Options that make a machine what it is: both arms have the same.
const OPTIONS: [&str; 8] =
    ["-machine", "-accel", "-cpu", "-m", "-smp", "-kernel", "-initrd", "-append"];

/// See the module.
#[derive(Debug)]
pub(super) struct Bare {
    space: Namespace,
    directory: TempDir,
    platform: PathBuf,
    root: PathBuf,
    driver: Qemu,
}

/// Milliseconds since its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Boot {
    /// The workload runs, says the guest.
    pub(super) running_ms: f64,
    /// And answers.
    pub(super) answer_ms: f64,
}

/// A child that ends with the value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bare {
    /// The wire, the image and platform of a node, and how guests run on this machine.
    pub(super) fn new(place: &Place) -> Result<Self> {
        let space = Namespace::make()?;
        let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
        space.run("ip", &["tuntap", "add", "mode", "tap", TAP], "")?;
        // The guest's card is told: a host that asks for it before it is there asks again after a
        // second, which would be the wire's time and not the machine's.
        space.ip(&format!(
            "link set lo up\nlink set {TAP} addrgenmode none\nlink set {TAP} up\n\
             addr add {GATEWAY}/128 dev {TAP} nodad\nroute add {ADDRESS}/128 dev {TAP}\n\
             neigh add {ADDRESS} lladdr {mac} dev {TAP} nud permanent\n"
        ))?;
        let directory = tempfile::tempdir()?;
        let platform = place.platform().to_owned();
        let opened = Platform::open(&platform)?;
        let driver = Qemu::new(opened, directory.path().join("probe"), None)?;
        let bare = Self { space, directory, platform, root: place.root_disk()?, driver };
        // The first answer takes a boot, which is not to be a round's.
        bare.can();
        Ok(bare)
    }

    /// How guests run here, and by what.
    pub(super) fn can(&self) -> Capabilities {
        self.driver.capabilities()
    }

    /// By hand, from QEMU's start. `beside`: the arguments of a VMM of the node's, which has to be the
    /// same machine.
    ///
    /// Emulated guests hang at times, before they say a word: that boot is begun anew, with a clock of
    /// its own, and counted.
    pub(super) fn by_hand(&self, beside: &[String]) -> Result<(Boot, u32)> {
        let mut hung = 0;
        loop {
            match self.by_hand_once(beside) {
                Err(error) if hung < HUNG_MAX && is_hung(&error) => hung += 1,
                other => return other.map(|boot| (boot, hung)),
            }
        }
    }

    fn by_hand_once(&self, beside: &[String]) -> Result<Boot> {
        let directory = self.directory.path().join("by-hand");
        // What an earlier one left.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        make_scratch(&directory.join("scratch.img"), SCRATCH_BYTES)?;
        let mut command = self.typed(&directory)?;
        let begun = Instant::now();
        let vmm = Ending(self.space.spawn(&mut command)?);
        let channel = connected(&directory.join("channel"), vmm.0.id())?;
        let boot = self.serve(&channel, begun)?;
        is_same(&arguments_of(vmm.0.id())?, beside)?;
        Ok(boot)
    }

    /// The command line, with nothing that the machine does not need.
    fn typed(&self, directory: &Path) -> Result<Command> {
        let accelerator = self.can().accelerator;
        let khz = rate_khz().context("this host has no time stamp counter")?;
        let emulated = format!(" {RATE}{khz} tsc=reliable no_timer_check");
        let (how, cpu, append) = match accelerator {
            Accelerator::Kvm => ("kvm", "host", ""),
            Accelerator::Tcg(_) => ("tcg,tb-size=64", "max", emulated.as_str()),
        };
        let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
        let file = |name: &str| directory.join(name).display().to_string();
        let drive = |id: &str, path: String, more: &str| {
            format!("if=none,id={id},format=raw,discard=unmap,file={path}{more}")
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "microvm,rtc=on", "-accel", how])
            .args(["-cpu", cpu, "-m", &format!("{}M", MEMORY_BYTES >> 20)])
            .args(["-smp", &VCPUS.to_string()])
            .arg("-kernel")
            .arg(self.platform.join("vmlinux"))
            .arg("-initrd")
            .arg(self.platform.join("initramfs"))
            .arg("-append")
            .arg(format!("console=ttyS0 quiet loglevel=4 panic=-1 reboot=t{append}"))
            .args(["-serial", &format!("file:{}", file("console"))])
            .args([
                "-chardev",
                &format!("socket,id=vyr,path={},server=on,wait=off", file("channel")),
            ])
            .args(["-device", "virtio-serial-device"])
            .args(["-device", "virtserialport,chardev=vyr,name=vyr"])
            .args(["-drive", &drive("root", self.root.display().to_string(), ",readonly=on")])
            .args(["-device", "virtio-blk-device,drive=root,serial=root"])
            .args(["-drive", &drive("scratch", file("scratch.img"), "")])
            .args(["-device", "virtio-blk-device,drive=scratch,serial=scratch"])
            .args([
                "-netdev",
                &format!("tap,id=net,ifname={TAP},script=no,downscript=no,vhost=off"),
            ])
            .args(["-device", &format!("virtio-net-device,netdev=net,mac={mac}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("vmm.log"))?);
        Ok(command)
    }

    /// Tells a guest what it runs, and waits for its answer.
    fn serve(&self, channel: &Channel, begun: Instant) -> Result<Boot> {
        channel.start(orders()?)?;
        let running = channel.wait_phase(PATIENCE, |phase| match phase {
            Phase::Running => Some(Ok(())),
            Phase::Ended(_) | Phase::Failed(_) => Some(Err(phase.clone())),
            _ => None,
        })?;
        let running_ms = begun.elapsed().as_secs_f64() * 1e3;
        if let Err(phase) = running {
            bail!("the guest does not run: {phase:?}");
        }
        let at = SocketAddr::from((ADDRESS, PORT));
        let answered = self.space.inside(|| until_answered(at, PATIENCE))?;
        Ok(Boot { running_ms, answer_ms: (answered - begun).as_secs_f64() * 1e3 })
    }

    fn spec(&self, snapshot: Option<PathBuf>) -> Result<Spec> {
        Ok(Spec {
            platform: Platform::open(&self.platform)?,
            root: File::open(&self.root)?,
            memory_bytes: MEMORY_BYTES,
            vcpus: VCPUS,
            scratch_bytes: Some(SCRATCH_BYTES),
            card: Some((Link::Tap(open_tap(TAP, Some(&self.space.path()))?), MAC)),
            user: None,
            cgroup: None,
            snapshot,
            mark: None,
        })
    }

    /// By the driver, its disk included: booted, or restored from a snapshot.
    pub(super) fn by_driver(&self, snapshot: Option<PathBuf>) -> Result<Boot> {
        let first = snapshot.is_none();
        // Kernel and initramfs are read to be checked, once in the life of a node.
        let spec = self.spec(snapshot)?;
        let begun = Instant::now();
        let machine = self.start(spec)?;
        let boot = machine.channel(first, PATIENCE).map_err(anyhow::Error::from);
        let boot = boot.and_then(|channel| self.serve(&channel, begun));
        machine.kill()?;
        boot
    }

    /// A snapshot of a machine that knows nothing yet.
    pub(super) fn snapshot(&self) -> Result<PathBuf> {
        let machine = self.start(self.spec(None)?)?;
        let to = self.directory.path().join("snapshot");
        let stored = machine.channel(true, PATIENCE).map_err(anyhow::Error::from);
        let stored = stored.and_then(|channel| Ok(machine.snapshot(channel, &to)?));
        if stored.is_err() {
            machine.kill()?;
        }
        stored.map(|()| to)
    }

    fn start(&self, spec: Spec) -> Result<QemuMachine> {
        let directory = self.directory.path().join("by-driver");
        let _ = fs::remove_dir_all(&directory);
        self.driver.prepare(&spec, &directory)?;
        Ok(self.driver.start(spec, &directory)?)
    }
}

/// The channel of a guest whose VMM has just been started.
fn connected(path: &Path, pid: u32) -> Result<Channel> {
    let end = Instant::now() + PATIENCE;
    loop {
        match Channel::connect(path, Some(pid), true, FIRST_WORD) {
            // QEMU has not come to its sockets.
            Err(ChannelError::Connect { .. }) if Instant::now() < end => {
                std::thread::sleep(LOOK_AGAIN);
            }
            other => return Ok(other?),
        }
    }
}

/// Whether a guest did not come to its first word.
fn is_hung(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ChannelError::TimedOut(_)))
}

/// As a node's, but for the check.
fn orders() -> Result<Start> {
    let (entropy, time_ns) = fresh()?;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut process = Process::root(ARGV);
    process.env = vec![("HOME".into(), "/".into()), ("PATH".into(), path.into())];
    Ok(Start {
        entropy,
        time_ns,
        hostname: "bare".into(),
        network: Some(Network {
            mac: MAC,
            mtu: MTU,
            ipv6: Route { address: ADDRESS, prefix: 128, gateway: GATEWAY },
            ipv4: None,
        }),
        resolv_conf: String::new(),
        hosts: format!("127.0.0.1 localhost\n::1 localhost\n{ADDRESS} bare\n"),
        secrets: None,
        scratch: true,
        prestart: None,
        process,
        health: None,
    })
}

/// The arguments of a process.
pub(super) fn arguments_of(pid: u32) -> Result<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).context("the VMM is gone")?;
    let words = bytes.split(|byte| *byte == 0);
    Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Measured anew by each process, so that it differs a little.
const RATE: &str = "tsc_early_khz=";

/// Refuses two machines that are not the same.
fn is_same(one: &[String], other: &[String]) -> Result<()> {
    let value = |of: &[String], option: &str| {
        let at = of.iter().position(|word| word == option);
        let value = at.and_then(|at| of.get(at + 1))?;
        let rate = |word: &str| word.strip_prefix(RATE).and_then(|khz| khz.parse::<u64>().ok());
        let word = |word| if rate(word).is_some() { RATE } else { word };
        Some(value.split(' ').map(word).collect::<Vec<_>>().join(" "))
    };
    for option in OPTIONS {
        let (one, other) = (value(one, option), value(other, option));
        ensure!(
            one.is_some() && one == other,
            "the machine by hand is another one: {option} is {one:?}, and the node's {other:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_no_reference() {
        let line = |memory: &str| -> Vec<String> {
            let mut words = vec!["qemu".to_owned()];
            for option in OPTIONS {
                words.push(option.to_owned());
                words.push(if option == "-m" { memory.into() } else { "x".into() });
            }
            words
        };
        assert!(is_same(&line("128M"), &line("128M")).is_ok());
        let error = is_same(&line("128M"), &line("256M")).expect_err("more memory");
        assert!(error.to_string().contains("-m is Some(\"128M\")"), "{error}");
        assert!(is_same(&[], &[]).is_err(), "nothing is not the same machine");
    }

    #[test]
    fn a_rate_that_was_measured_twice_is_one() {
        let line = |append: &str| -> Vec<String> {
            OPTIONS.iter().flat_map(|option| [(*option).to_owned(), append.to_owned()]).collect()
        };
        assert!(is_same(&line("a tsc_early_khz=1 b"), &line("a tsc_early_khz=22 b")).is_ok());
        for other in ["a b", "a tsc_early_khz=x b", "a tsc_early_khz=1 c"] {
            assert!(is_same(&line("a tsc_early_khz=1 b"), &line(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn only_silence_is_tried_again() {
        assert!(is_hung(&ChannelError::TimedOut("a word").into()));
        assert!(!is_hung(&ChannelError::Closed.into()));
        assert!(!is_hung(&anyhow::anyhow!("another machine")));
    }

    #[test]
    fn arguments_are_those_of_the_process() {
        let own = arguments_of(std::process::id()).expect("this process");
        assert_eq!(own[0], std::env::args().next().expect("a name"));
    }
}
