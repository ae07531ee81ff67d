//! The process `images`, against Debian's registry behind a relay that can stand still. Without the
//! usual harness, because the process is this binary started again.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;
use vyr_base::{Category, Digest, Problem};
use vyr_node::process::{Fetch, FetchProgress, ImageReason, ImagesDoor, Role, serve};
use vyr_space::SmallDisk;

/// Nothing here takes a tenth of it; what does hangs.
const HANG: Duration = Duration::from_secs(120);

/// Bytes of an image's one layer, which do not compress.
const LAYER_BYTES: usize = 6 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    let trials = vec![
        trial("an_image_becomes_a_disk_that_needs_no_registry", becomes_a_disk),
        trial("a_killed_process_goes_on_where_it_was", killed),
        trial("a_full_disk_is_told_and_survived", full_disk),
        trial("a_registry_that_lies_is_told_with_its_reason", lies),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, body: fn(&str)) -> Trial {
    let full = format!("images::{name}");
    Trial::test(name, move || -> Result<(), Failed> {
        body(&full);
        Ok(())
    })
}

/// Says that `test` was not run, and why.
fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let log = OpenOptions::new().append(true).create(true).open(log);
        log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

fn can(test: &str) -> bool {
    let is_there = |program: &&str| {
        let mut asked = Command::new(program);
        asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok()
    };
    let programs = ["umoci", "skopeo", "docker-registry", "tar2sqfs"];
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    missing.iter().for_each(|program| not_run(test, &format!("{program} is not installed")));
    missing.is_empty()
}

/// A directory, a registry with one image in it, and a relay before it.
struct Place {
    directory: tempfile::TempDir,
    registry: Child,
    digest: Digest,
    relay: Relay,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("room");
        let at = directory.path();
        // Its own user has to reach what is in it.
        fs::set_permissions(at, fs::Permissions::from_mode(0o711)).expect("ours");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(at).output();
            let output = output.expect("it is installed");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
        };
        let rootless: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["--rootless"] };
        run("umoci", &["init", "--layout", "layout"]);
        run("umoci", &["new", "--image", "layout:one"]);
        run("umoci", &[&["unpack", "--image", "layout:one"], rootless, &["bundle"]].concat());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(LAYER_BYTES);
        while bytes.len() < LAYER_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        fs::write(at.join("bundle/rootfs/app"), bytes).expect("a file");
        run("umoci", &["repack", "--image", "layout:one", "bundle"]);
        run("umoci", &["config", "--image", "layout:one", "--config.entrypoint", "/app"]);
        let index = fs::read(at.join("layout/index.json")).expect("an index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
        let digest = digest.parse().expect("a digest");
        let (registry, address) = start_registry(at);
        let target = format!("docker://{address}/team/app:1");
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(at.join("policy.json"), policy).expect("a file");
        let copy = ["--policy", "policy.json", "copy", "--dest-tls-verify=false"];
        run("skopeo", &[&copy[..], &["oci:layout:one", &target]].concat());
        let relay = Relay::start(address);
        Self { directory, registry, digest, relay }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn images(&self) -> PathBuf {
        self.data().join("images")
    }

    fn fetch(&self) -> Fetch {
        let reference = format!("{}/team/app@{}", self.relay.address, self.digest);
        Fetch {
            reference: reference.parse().expect("a reference"),
            digest: self.digest,
            plain_http: true,
            credentials: None,
            ask: false,
        }
    }
}

fn start_registry(at: &Path) -> (Child, String) {
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/registry\nhttp:\n  \
         addr: 127.0.0.1:0\n",
        at.display()
    );
    fs::write(at.join("registry.yml"), config).expect("a file");
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(at.join("registry.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let (found, address) = channel();
    thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                let _ = found.send(rest[..end.unwrap_or(rest.len())].to_owned());
            }
        }
    });
    (child, address.recv_timeout(HANG).expect("the registry listens"))
}

/// Passes bytes on, until so many have gone to clients; counts them.
struct Relay {
    address: String,
    inside: Arc<Inside>,
}

#[derive(Default)]
struct Inside {
    sent: AtomicU64,
    /// Connections so far.
    begun: AtomicU64,
    /// Connections that began before this one of them count no more.
    counted_from: AtomicU64,
    /// So many may go.
    allowed: Mutex<u64>,
    changed: Condvar,
    /// Each byte of a large answer is another.
    lying: Mutex<bool>,
}

impl Relay {
    fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let inside = Arc::new(Inside::default());
        *inside.allowed.lock().expect("unpoisoned") = u64::MAX;
        let shared = Arc::clone(&inside);
        thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming().flatten()) {
                shared.begun.store(number + 1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(&to) else { continue };
                let (mut from, mut up) =
                    (client.try_clone().expect("open"), server.try_clone().expect("open"));
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut up);
                    let _ = up.shutdown(Shutdown::Write);
                });
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.down(number, server, client));
            }
        });
        Self { address, inside }
    }

    fn sent(&self) -> u64 {
        self.inside.sent.load(Ordering::SeqCst)
    }

    /// Counts anew, connections from now on alone.
    fn forget(&self) {
        self.inside.counted_from.store(self.inside.begun.load(Ordering::SeqCst), Ordering::SeqCst);
        self.inside.sent.store(0, Ordering::SeqCst);
    }

    fn allow(&self, bytes: u64) {
        *self.inside.allowed.lock().expect("unpoisoned") = bytes;
        self.inside.changed.notify_all();
    }
}

impl Inside {
    fn down(&self, number: u64, mut server: TcpStream, mut client: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) = server.read(&mut buffer) {
            let allowed = self.allowed.lock().expect("unpoisoned");
            let waited = self
                .changed
                .wait_while(allowed, |allowed| self.sent.load(Ordering::SeqCst) >= *allowed);
            drop(waited);
            if read == buffer.len() && *self.lying.lock().expect("unpoisoned") {
                buffer[read / 2] ^= 1;
            }
            if read == 0 || client.write_all(&buffer[..read]).is_err() {
                break;
            }
            if number >= self.counted_from.load(Ordering::SeqCst) {
                self.sent.fetch_add(read as u64, Ordering::SeqCst);
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    }
}

fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !seen() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a process holds while it waits for a registry: nothing that is anybody else's.
fn holds_nothing_else(pid: u32, place: &Place) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!((status(pid, "NoNewPrivs"), status(pid, "Seccomp")), ("1".into(), "2".into()));
    if rustix::process::geteuid().is_root() {
        assert_eq!(status(pid, "Uid"), ["60806"; 4].join(" "));
        assert_eq!(status(pid, "Gid"), ["60806"; 4].join(" "));
        assert_eq!(status(pid, "Groups"), "");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    for limit in ["Max address space", "Max file size", "Max core file size"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).expect("a limit");
        assert!(!line.contains("unlimited"), "{line}");
    }
    let images = place.images().canonicalize().expect("it is there");
    let mut below = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten() {
        let Ok(to) = fs::read_link(entry.path()) else { continue };
        let number: i32 = entry.file_name().to_str().and_then(|n| n.parse().ok()).expect("one");
        let text = to.to_string_lossy();
        let nowhere = ["socket:", "pipe:", "anon_inode:", "/dev/null"];
        below += usize::from(to.starts_with(&images));
        let fine = to.starts_with(&images) || nowhere.iter().any(|start| text.starts_with(start));
        assert!(fine || number == 2, "{number} -> {text}");
    }
    // The judge sees what it looks for.
    assert!(below > 0, "it takes in a layer");
}

fn becomes_a_disk(test: &str) {
    if !can(test) {
        return;
    }
    let mut place = Place::new();
    // As a command of root leaves them: another user's, and closed.
    vyr_vm::image::Images::open(&place.images()).expect("room");
    place.relay.allow(LAYER_BYTES as u64 / 2);
    let (door, pid) = ImagesDoor::alone(&place.data());
    let fetch = place.fetch();
    let (told, seen) = channel();
    let fetched = thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut progress = |far| told.send(far).expect("somebody reads");
            door.fetch(&fetch, &mut progress)
        });
        until("half of it", || place.relay.sent() >= LAYER_BYTES as u64 / 2);
        holds_nothing_else(pid.load(Ordering::SeqCst), &place);
        place.relay.allow(u64::MAX);
        running.join().expect("no panic").expect("a disk")
    });
    drop(told);
    let seen: Vec<FetchProgress> = seen.iter().collect();
    assert_eq!(seen.last(), Some(&FetchProgress::Building));
    let pulling =
        |far: &&FetchProgress| matches!(far, FetchProgress::Pulling { bytes, .. } if *bytes > 0);
    assert!(seen.iter().any(|far| pulling(&far)), "{seen:?}");
    assert_eq!(fetched.config.entrypoint, ["/app"]);
    let disk = fs::read(&fetched.disk).expect("a disk");
    assert_eq!((&disk[..4], Digest::of(&disk)), (&b"hsqs"[..], fetched.disk_digest));
    // Everybody may read it, and nobody write.
    let of = fs::metadata(&fetched.disk).expect("a disk");
    assert_eq!(of.mode() & 0o777, 0o444);
    if rustix::process::geteuid().is_root() {
        assert_eq!(of.uid(), 60806);
        let disks = fs::metadata(place.images().join("disks")).expect("ours");
        assert_eq!(disks.mode() & 0o777, 0o755);
        assert_eq!(
            fs::metadata(place.images()).expect("ours").uid(),
            0,
            "nobody replaces what is in it"
        );
    }
    let asked = Fetch { ask: true, ..place.fetch() };
    door.fetch(&asked, &mut |_| panic!("there is nothing to do")).expect("it is given still");
    // The registry is gone: what is there is there, and what is not is told.
    let _ = place.registry.kill();
    let _ = place.registry.wait();
    place.relay.allow(0);
    let again = door.fetch(&fetch, &mut |_| panic!("there is nothing to do")).expect("it is there");
    assert_eq!(again.disk, fetched.disk);
    let refused = door.fetch(&asked, &mut |_| ()).expect_err("nobody says that it is given still");
    assert_eq!(refused.reason, ImageReason::ImagePullFailed, "{refused}");
    let other = Fetch { digest: Digest::of(b"another"), ..place.fetch() };
    let refused = door.fetch(&other, &mut |_| ()).expect_err("nobody has it");
    assert_eq!(refused.reason, ImageReason::ImagePullFailed, "{refused}");
    assert_eq!(refused.category(), Category::Transient, "{refused}");
}

fn killed(test: &str) {
    if !can(test) {
        return;
    }
    let place = Place::new();
    let half = LAYER_BYTES as u64 / 2;
    place.relay.allow(half);
    let (door, pid) = ImagesDoor::alone(&place.data());
    let fetch = place.fetch();
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            // As a service manager may start a node: root passes over no owner. The second process
            // finds what the first one made its own.
            for right in
                [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH, CapabilitySet::FOWNER]
            {
                if rustix::process::geteuid().is_root() {
                    remove_capability_from_bounding_set(right).expect("this thread's own");
                }
            }
            door.fetch(&fetch, &mut |_| ())
        });
        let arrived = || {
            let partial =
                fs::read_dir(place.images().join("partial")).into_iter().flatten().flatten();
            partial.filter_map(|file| file.metadata().ok()).map(|of| of.len()).sum::<u64>()
        };
        until("half of it", || arrived() > half / 2);
        let first = pid.load(Ordering::SeqCst);
        let at = Pid::from_raw(i32::try_from(first).expect("a pid")).expect("a pid");
        let before = arrived();
        kill_process(at, Signal::KILL).expect("it runs");
        // Its connection too: else it would get the rest of the layer, read by nobody.
        until("its end", || {
            let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
        });
        place.relay.forget();
        place.relay.allow(u64::MAX);
        let fetched = running.join().expect("no panic").expect("the next one goes on");
        assert_ne!(pid.load(Ordering::SeqCst), first, "another process");
        assert!(fetched.disk.exists());
        // What had arrived did not come again.
        let all = LAYER_BYTES as u64 + (1 << 20);
        let again = place.relay.sent();
        assert!(again < all - before, "{again} bytes after {before}");
    });
    let left = fs::read_dir(place.images().join("partial")).expect("ours").count();
    assert_eq!(left, 0, "nothing is left over");
}

fn full_disk(test: &str) {
    if !can(test) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return not_run(test, "needs root");
    }
    let place = Place::new();
    fs::create_dir_all(place.images()).expect("room");
    let Some(disk) = SmallDisk::mount(&place.images(), 3) else {
        return not_run(test, "may not mount");
    };
    let (door, _) = ImagesDoor::alone(&place.data());
    // No room for the layer; then none for the disk beside it.
    for (megabytes, reason) in
        [(3, ImageReason::ImagePullFailed), (9, ImageReason::RootfsBuildFailed)]
    {
        disk.resize(megabytes);
        let refused = door.fetch(&place.fetch(), &mut |_| ()).expect_err("no room");
        assert_eq!(refused.reason, reason, "{refused}");
        let hint = refused.hint().unwrap_or_default();
        assert!(hint.contains("free space") || hint.contains("disk is full"), "{refused}: {hint}");
        assert!(door.cached(&place.digest).expect("it can be looked at").is_none());
    }
    disk.resize(64);
    let fetched = door.fetch(&place.fetch(), &mut |_| ()).expect("there is room");
    assert!(fetched.disk.exists());
}

fn lies(test: &str) {
    if !can(test) {
        return;
    }
    let place = Place::new();
    let (door, _) = ImagesDoor::alone(&place.data());
    *place.relay.inside.lying.lock().expect("unpoisoned") = true;
    let refused = door.fetch(&place.fetch(), &mut |_| ()).expect_err("other bytes");
    assert_eq!(refused.reason, ImageReason::ImageLayerInvalid, "{refused}");
    assert!(refused.to_string().starts_with("image_layer_invalid: "), "{refused}");
    *place.relay.inside.lying.lock().expect("unpoisoned") = false;
    door.fetch(&place.fetch(), &mut |_| ()).expect("the same from who does not lie");
}
