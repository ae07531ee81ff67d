//! What the host has of a machine: a process without rights, a cap, a card, a probe.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vyr_vm::channel::words::{Check, ExecSpec, Network, Part, Phase, Route};
use vyr_vm::vmm::{
    Accelerator, Capabilities, Cgroups, Exit, Link, Machine, Platform, Qemu, Spec, Vmm, open_tap,
};

use crate::place::{Guest, HANG, Place, driver, not_run, place, shell, start, turn};

/// Nobody's number.
const USER: (u32, u32) = (64_321, 64_322);

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The place, where another user can read it.
fn readable(place: &Place, to: &Path) -> Place {
    let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(to, open(0o755)).expect("ours");
    let from = place.root.parent().expect("a directory").join("platform");
    for name in ["vmlinux", "initramfs", "guest.json"] {
        fs::copy(from.join(name), to.join(name)).expect("room");
        fs::set_permissions(to.join(name), open(0o644)).expect("ours");
    }
    let root = to.join("root.squashfs");
    fs::copy(&place.root, &root).expect("room");
    let platform = Platform::open(to).expect("the same");
    Place { platform, root, ..place.clone() }
}

/// Lines of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_vmm_has_no_rights_and_a_cap() {
    let _turn = turn();
    let name = "host::a_vmm_has_no_rights_and_a_cap";
    let Some(place) = place(name) else { return };
    if !is_root() {
        return not_run(name, "needs root");
    }
    if let Err(why) = Cgroups::find() {
        return not_run(name, &format!("no cgroup can be made: {why}"));
    }
    let directory = tempfile::tempdir().expect("room");
    let place = readable(&place, directory.path());
    let cgroup = Some(format!("test-{}", std::process::id()));
    let guest = place.guest(Spec { user: Some(USER), cgroup, ..place.spec() });
    guest.run("echo up; while ! test -e /go; do sleep 0.1; done; dd if=/dev/zero of=/dev/shm/x bs=1M count=70");
    guest.line("up");
    let pid = guest.machine.pid();
    assert_eq!(status(pid, "Uid"), ["64321"; 4].join(" "));
    assert_eq!(status(pid, "Gid"), ["64322"; 4].join(" "));
    assert_eq!(status(pid, "Groups"), "");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".into(), "1".into()));
    // Nothing of its machine is its own, or open to it by name.
    for path in [guest.path.clone(), guest.path.join("run"), guest.path.join("scratch.img")] {
        let metadata = fs::metadata(&path).expect("a file");
        assert_eq!((metadata.uid(), metadata.mode() & 0o077), (0, 0), "{}", path.display());
    }
    // Its memory is counted from the first page on; the guest's alone is more than what a group
    // entered later would show.
    let record = fs::read_to_string(guest.path.join("machine.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let group = PathBuf::from(record["cgroup"].as_str().expect("a group"));
    let (usage, limit) = if group.join("memory.max").exists() {
        ("memory.current", "memory.max")
    } else {
        ("memory.usage_in_bytes", "memory.limit_in_bytes")
    };
    let read = |file: &str| -> u64 {
        fs::read_to_string(group.join(file)).expect("a file").trim().parse().expect("a number")
    };
    let used = read(usage);
    println!("a VMM of 128 MiB has {} MiB once its guest is restored (TCG)", used >> 20);
    assert!(used > 40 << 20, "{used} bytes");
    // The host runs out within the cap: the VMM is killed, and that is what is said.
    if limit == "memory.limit_in_bytes" {
        let both = group.join("memory.memsw.limit_in_bytes");
        fs::write(group.join(limit), (used + (8 << 20)).to_string()).expect("a lower cap");
        if both.exists() {
            fs::write(both, (used + (8 << 20)).to_string()).expect("a lower cap");
        }
    } else {
        fs::write(group.join(limit), (used + (8 << 20)).to_string()).expect("a lower cap");
    }
    let go = ExecSpec { process: shell("touch /go"), terminal: None };
    let _session = guest.channel.exec(go, HANG);
    assert_eq!(guest.machine.wait(HANG).expect("it ends"), Exit::OutOfMemory);
    assert!(!group.exists(), "the group is gone with it");
}

/// A namespace that ends with the test.
struct Namespace {
    keeper: Child,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("unshare is not installed ({e})"))?;
        // It echoes once it is in its namespace.
        keeper.stdin.as_mut().expect("a pipe").write_all(b"x").map_err(|e| e.to_string())?;
        let mut byte = [0];
        let echoed = keeper.stdout.as_mut().expect("a pipe").read_exact(&mut byte);
        echoed.map_err(|_| "may not make network namespaces".to_owned())?;
        Ok(Self { keeper })
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.keeper.id()).into()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("nsenter")
            .args([&format!("--net={}", self.path().display()), program])
            .args(arguments)
            .output()
            .expect("nsenter runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What is answered to a request from inside of it, by a thread that ends there.
    fn get(&self, at: SocketAddr) -> String {
        let namespace = fs::File::open(self.path()).expect("it is there");
        let asking = thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("root may");
            let mut stream = TcpStream::connect_timeout(&at, HANG).expect("it listens");
            stream.set_read_timeout(Some(HANG)).expect("a socket");
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            answer
        });
        asking.join().expect("no panic")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_guest_is_reached_at_the_addresses_it_was_given() {
    let _turn = turn();
    let name = "host::a_guest_is_reached_at_the_addresses_it_was_given";
    let Some(place) = place(name) else { return };
    if !is_root() {
        return not_run(name, "needs root");
    }
    if !Path::new("/dev/net/tun").exists() {
        return not_run(name, "there is no /dev/net/tun");
    }
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => return not_run(name, &why),
    };
    // A card is part of a machine's kind: this kind is booted once, timed, and stored.
    let directory = tempfile::tempdir().expect("room");
    // Nobody is at its other end: what is restored from it cannot tell.
    let begun = Instant::now();
    let card = Some((Link::Nowhere, [2, 0, 0, 0, 0, 7]));
    let spec = Spec { card, snapshot: None, ..place.spec() };
    let blank = directory.path().join("blank");
    let driver = driver();
    driver.prepare(&spec, &blank).expect("prepared");
    let machine = driver.start(spec, &blank).expect("started");
    let channel = machine.channel(true, HANG).expect("it boots");
    println!("from the VMM's start to the guest's first word: {:?} (TCG)", begun.elapsed());
    let snapshot = directory.path().join("with-card");
    machine.snapshot(channel, &snapshot).expect("stored");

    let tap = open_tap("vyr-t1", Some(&namespace.path())).expect("a TAP");
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["link", "set", "vyr-t1", "up"],
        &["-6", "addr", "add", "fd00:7::1/64", "dev", "vyr-t1", "nodad"],
        &["addr", "add", "10.77.0.1/24", "dev", "vyr-t1"],
    ] {
        let (done, said) = namespace.run("ip", arguments);
        assert!(done, "{arguments:?}: {said}");
    }
    let begun = Instant::now();
    let mac = [2, 0, 0, 0, 0, 8];
    let card = Some((Link::Tap(tap), mac));
    let spec = Spec { card, snapshot: Some(snapshot.clone()), ..place.spec() };
    let guest = place.guest(spec);
    let mut start = start("httpd -f -p 80 -h /www & ip addr show eth0; echo told; sleep 100000");
    let ipv6: Ipv6Addr = "fd00:7::2".parse().expect("an address");
    let network = Network {
        mac: [2, 0, 0, 0, 0, 9],
        mtu: 1420,
        ipv6: Route { address: ipv6, prefix: 64, gateway: "fd00:7::1".parse().expect("one") },
        ipv4: Some(Route {
            address: Ipv4Addr::new(10, 77, 0, 2),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 77, 0, 1),
        }),
    };
    start.network = Some(network.clone());
    start.health = Some(Check {
        at: "[::1]:80".parse().expect("an address"),
        path: Some("/".into()),
        interval_ms: 50,
        timeout_ms: 60_000,
    });
    guest.start(start);
    let told = lines(&guest, "told").join("\n");
    for part in ["02:00:00:00:00:09", "mtu 1420", "fd00:7::2/64", "inet 10.77.0.2/24"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let seen = guest.channel.wait_health(HANG, |passed| passed).expect("it becomes healthy");
    assert_eq!(seen, "HTTP 200");
    println!("from the VMM's start to a healthy answer, restored: {:?} (TCG)", begun.elapsed());
    for at in ["[fd00:7::2]:80", "10.77.0.2:80"] {
        let said = namespace.get(at.parse().expect("an address"));
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("served\n"), "{at}: {said}");
    }

    // Who was told no IPv4 address has none, on a card of the same kind, and no route to anywhere.
    let tap = open_tap("vyr-t2", Some(&namespace.path())).expect("a TAP");
    let card = Some((Link::Tap(tap), mac));
    let spec = Spec { card, snapshot: Some(snapshot), ..place.spec() };
    let guest = place.guest(spec);
    let script = "ip -6 addr; ip -4 addr show eth0; ip -4 route; echo told; sleep 100000";
    let mut without = crate::place::start(script);
    without.network = Some(Network { ipv4: None, ..network });
    guest.start(without);
    let told = lines(&guest, "told").join("\n");
    assert!(told.contains("fd00:7::2/64"), "{told}");
    assert!(!told.contains("inet ") && !told.contains("default"), "{told}");
}

/// Lines of a guest's log up to one.
fn lines(guest: &Guest, last: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    while told.last().is_none_or(|line| line != last) {
        let records = guest.channel.read_log(HANG).expect("a log");
        told.extend(records.iter().map(|it| String::from_utf8_lossy(&it.line).into_owned()));
    }
    told
}

#[test]
fn whether_kvm_works_is_looked_at_and_said() {
    let _turn = turn();
    let Some(place) = place("host::whether_kvm_works_is_looked_at_and_said") else { return };
    let directory = tempfile::tempdir().expect("room");
    let to = directory.path().join("probe");
    let driver = Qemu::new(place.platform.clone(), to, None).expect("QEMU");
    let Capabilities { vmm, accelerator, snapshots, .. } = driver.capabilities();
    println!("{vmm}: {accelerator:?}");
    assert!(vmm.contains("QEMU") && snapshots);
    match accelerator {
        Accelerator::Kvm => assert!(Path::new("/dev/kvm").exists()),
        Accelerator::Tcg(why) => assert!(why.contains("kvm") || why.contains("KVM"), "{why}"),
    }
}

#[test]
fn a_user_needs_no_rights_and_a_restore_is_timed() {
    let _turn = turn();
    let Some(place) = place("host::a_user_needs_no_rights_and_a_restore_is_timed") else { return };
    let directory = tempfile::tempdir().expect("room");
    let path = directory.path().join("machine");
    let driver = driver();
    let begun = Instant::now();
    driver.prepare(&place.spec(), &path).expect("prepared");
    let machine = driver.start(place.spec(), &path).expect("started");
    let channel = machine.channel(false, HANG).expect("a channel");
    channel.start(start("echo up; sleep 100000")).expect("the first start");
    let running = |phase: &Phase| (*phase == Phase::Running).then_some(());
    channel.wait_phase(HANG, running).expect("it runs");
    println!("from nothing to the running workload, restored: {:?} (TCG)", begun.elapsed());
    let spec = ExecSpec { process: shell("echo yes"), terminal: None };
    let exec = channel.exec(spec, HANG).expect("a session");
    assert_eq!(exec.read_all(Part::Stdout, 100, HANG).expect("output"), b"yes\n");
    assert_eq!(machine.stop(&channel, 15, HANG).expect("it stops"), Exit::Code(0));
}
