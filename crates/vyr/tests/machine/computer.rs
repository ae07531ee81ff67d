//! A machine from outside: switched on, told what to do, and its plug pulled.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::agent::{Answer, Order, PATH, PLAIN, UP, WITH_DISK};
use crate::emulated::archive::Archive;
use crate::emulated::{emulator, kernel};

/// From switching on to the first word; a boot takes a tenth of it on two busy processors.
const BOOT: Duration = Duration::from_secs(300);
/// One order; the longest takes a small part of it.
const HANG: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An initramfs is in it twice for a moment.
const MEMORY_MIB: u32 = 768;

/// In the order of loading: devices, then what carries and judges packets.
const MODULES: [&str; 38] = [
    "crc16",
    "mbcache",
    "jbd2",
    "crc32c_generic",
    "ext4",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "rng_core",
    "virtio_rng",
    "failover",
    "net_failover",
    "virtio_net",
    "veth",
    "poly1305_x86_64",
    "libchacha",
    "chacha_x86_64",
    "libchacha20poly1305",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "libcurve25519_generic",
    "curve25519_x86_64",
    "wireguard",
    "nfnetlink",
    "libcrc32c",
    "nf_tables",
    "nf_defrag_ipv6",
    "nf_defrag_ipv4",
    "nf_conntrack",
    "nft_ct",
    "nf_nat",
    "nft_masq",
    "nft_chain_nat",
    "nf_reject_ipv4",
    "nf_reject_ipv6",
    "nft_reject",
    "nft_reject_inet",
    "nf_conntrack_netlink",
];

/// The host's programs that machines have.
pub(crate) const PROGRAMS: [&str; 11] =
    ["sh", "cat", "sleep", "rm", "mkdir", "ip", "nft", "wg", "ping", "unshare", "chmod"];

/// Writes an initramfs with those, and with programs of ours by their names.
pub(crate) fn initramfs(to: &Path, ours: &[(&str, &Path)]) {
    let mut archive = Archive::new(&MODULES);
    for name in PROGRAMS {
        let program = kernel::program(name).expect("it was looked for");
        archive.program(&format!("{PATH}/{name}"), &program);
    }
    for (name, program) in ours {
        archive.program(&format!("{PATH}/{name}"), program);
    }
    archive.write(to);
}

/// What a machine has besides a processor.
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a str,
    pub(crate) initramfs: &'a Path,
    /// An image of a file system, which is only read.
    pub(crate) disk: Option<&'a Path>,
    /// Each interface: the last byte of its hardware address, its own end of a cable, the far end.
    pub(crate) cables: &'a [(u8, PathBuf, PathBuf)],
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// None: it ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) said: String,
}

/// Runs until it is dropped: it is killed then, and nothing of it is left.
pub(crate) struct Computer {
    name: String,
    emulator: Child,
    console: PathBuf,
    port: Mutex<BufReader<UnixStream>>,
    /// From switching on to its first word.
    pub(crate) booted: Duration,
}

impl Computer {
    /// Switches one on and waits until it takes orders.
    pub(crate) fn start(directory: &Path, parts: &Parts<'_>) -> Self {
        let begun = Instant::now();
        let file = |what: &str| directory.join(format!("{}.{what}", parts.name));
        let (console, socket) = (file("console"), file("port"));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let word = if parts.disk.is_some() { WITH_DISK } else { PLAIN };
        let mut command = emulator::command(MEMORY_MIB, parts.initramfs, word, &console, &socket);
        if let Some(disk) = parts.disk {
            let drive = format!("if=none,id=disk,format=raw,readonly=on,file={}", disk.display());
            command.args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]);
        }
        for (at, (mac, own, far)) in parts.cables.iter().enumerate() {
            let (own, far) = (own.display(), far.display());
            let cable = format!(
                "dgram,id=n{at},local.type=unix,local.path={own},remote.type=unix,remote.path={far}"
            );
            let card = format!("virtio-net-device,netdev=n{at},mac=02:00:00:00:00:{mac:02x}");
            command.args(["-netdev", &cable, "-device", &card]);
        }
        let mut emulator = command.spawn().expect("qemu starts");
        let port = accept(&listener, &mut emulator, begun);
        let mut computer = Self {
            name: parts.name.to_owned(),
            emulator,
            console,
            port: Mutex::new(BufReader::new(port)),
            booted: Duration::ZERO,
        };
        let said = computer.line(BOOT);
        assert_eq!(said, UP, "{}", computer.end_of_console());
        computer.booted = begun.elapsed();
        println!("{} boots in {:.1?} (TCG)", parts.name, computer.booted);
        computer
    }

    fn line(&self, within: Duration) -> String {
        let mut port = self.port.lock().expect("nobody panics with it");
        port.get_ref().set_read_timeout(Some(within)).expect("a time");
        let mut line = String::new();
        let read = port.read_line(&mut line);
        drop(port);
        match read {
            Ok(_) => line.trim_end().to_owned(),
            Err(e) => panic!("{} is silent: {e}\n{}", self.name, self.end_of_console()),
        }
    }

    fn end_of_console(&self) -> String {
        emulator::end_of(&self.console)
    }

    /// Runs a program with some input.
    pub(crate) fn run(&self, words: &[&str], input: &[u8]) -> Done {
        let (code, output, said) = self.order(words, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code, output: text(&output), said: text(&said) }
    }

    fn order(&self, words: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, Vec<u8>) {
        let mut port = self.port.lock().expect("nobody panics with it");
        let mut order = || {
            port.get_ref().set_read_timeout(Some(HANG))?;
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            let mut bytes = serde_json::to_vec(&Order { words, input_bytes: input.len() })?;
            bytes.push(b'\n');
            bytes.extend(input);
            port.get_mut().write_all(&bytes)?;
            let mut line = String::new();
            port.read_line(&mut line)?;
            let answer: Answer = serde_json::from_str(&line)?;
            let (mut output, mut said) = (vec![0; answer.output_bytes], vec![0; answer.said_bytes]);
            port.read_exact(&mut output)?;
            port.read_exact(&mut said)?;
            Ok::<_, std::io::Error>((answer.code, output, said))
        };
        let answer = order();
        drop(port);
        answer
            .unwrap_or_else(|e| panic!("{}: {words:?}: {e}\n{}", self.name, self.end_of_console()))
    }

    /// What a shell prints, which must end well.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let done = self.run(&["sh", "-ec", script], b"");
        assert_eq!(done.code, Some(0), "{}: {script}: {}{}", self.name, done.output, done.said);
        done.output
    }

    /// What `vyr` prints, which must end well.
    #[track_caller]
    pub(crate) fn vyr(&self, arguments: &[&str]) -> String {
        let done = self.run(&[&["vyr"], arguments].concat(), b"");
        assert_eq!(done.code, Some(0), "{}: {arguments:?}: {}", self.name, done.said);
        done.output
    }

    /// Writes a file that only its owner reads.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let done = self.run(&["sh", "-ec", "umask 077; cat > \"$0\"", path], content);
        assert_eq!(done.code, Some(0), "{path}: {}", done.said);
    }

    /// The content of a file.
    #[track_caller]
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let (code, output, said) = self.order(&["cat", path], b"");
        assert_eq!(code, Some(0), "{path}: {}", String::from_utf8_lossy(&said));
        output
    }

    /// Gives its interfaces the names `lan0`, `lan1` by their hardware addresses.
    pub(crate) fn name_interfaces(&self) {
        self.shell(
            "for n in /sys/class/net/eth*; do read mac < $n/address; case $mac in
             *0) ip link set ${n##*/} name lan0;; *1) ip link set ${n##*/} name lan1;; esac; done
             ip link set lo up",
        );
    }

    /// What it has of ours, as `wg`, `ip` and `nft` see it, without what counts.
    pub(crate) fn seen(&self) -> String {
        let script = "for l in $(wg show interfaces); do wg show $l allowed-ips; done";
        let peers = self.shell(script);
        let mut peers: Vec<&str> = peers.lines().collect();
        peers.sort_unstable();
        let rest = self.shell(
            "ip -br link show type wireguard; ip route show proto 86; ip -6 route show proto 86
             nft=/usr/libexec/nft; [ -e $nft ] || nft=nft; $nft -s list ruleset",
        );
        format!("{}\n{rest}", peers.join("\n"))
    }
}

/// The connection of a machine's port, if the emulator comes that far.
fn accept(listener: &UnixListener, emulator: &mut Child, begun: Instant) -> UnixStream {
    listener.set_nonblocking(true).expect("a socket of ours");
    loop {
        match listener.accept() {
            Ok((port, _)) => {
                port.set_nonblocking(false).expect("a socket of ours");
                return port;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("no connection: {e}"),
        }
        let ended = emulator.try_wait().expect("ours");
        assert!(ended.is_none(), "qemu ended: {ended:?}");
        assert!(begun.elapsed() < BOOT, "qemu does not connect");
        std::thread::sleep(LOOK_AGAIN);
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// An image with the files of a directory.
pub(crate) fn disk(to: &Path, files: &Path) {
    let image = std::fs::File::create(to).and_then(|file| file.set_len(64 << 20));
    image.expect("an image");
    let mut mkfs = Command::new("mkfs.ext4");
    let made = mkfs.args(["-q", "-F", "-d"]).args([files, to]).status();
    assert!(made.expect("mkfs.ext4 runs").success());
}
