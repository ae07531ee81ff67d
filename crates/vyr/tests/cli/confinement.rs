//! The processes that see a stranger's bytes, as the kernel describes them (`/proc`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{HANG, Place, Running, ends_within, guest, is_root, readable_within};
use crate::guests;
use crate::judge::{faults, works};

const TASKS_UID: u32 = 60801;
const COMPILE_UID: u32 = 60802;

/// The processes whose parent is `parent` and whose first argument is `role`.
pub(crate) fn child_of(parent: Pid, role: &str) -> Option<Pid> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Pid::from_raw).find(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let parent_is = status(*pid, "PPid").parse() == Ok(parent.as_raw_nonzero().get());
        parent_is && arguments.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    })
}

/// A field of `/proc/PID/status`; empty when the process is gone.
fn status(pid: Pid, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// What a confined process may not have and `pid` has.
fn liberties(pid: Pid, uid: u32, data: &Utf8Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |field: &str, wanted: &str| {
        let has = status(pid, field);
        if has.split_whitespace().next() != Some(wanted) {
            found.push(format!("{field} is {has:?}, not {wanted:?}"));
        }
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        expect(set, "0000000000000000");
    }
    expect("NoNewPrivs", "1");
    expect("Seccomp", "2");
    if rustix::process::geteuid().is_root() {
        let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
        for field in ["Uid", "Gid"] {
            let has = status(pid, field);
            if has != ids {
                found.push(format!("{field} is {has:?}"));
            }
        }
        if !status(pid, "Groups").is_empty() {
            found.push("it has groups".to_owned());
        }
        let root = fs::read_link(format!("/proc/{pid}/root")).expect("its root directory");
        if root.as_os_str() == "/" {
            found.push("its root is everybody's".to_owned());
        }
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    if core.is_none_or(|line| line.split_whitespace().nth(4) != Some("0")) {
        found.push("it may leave a core file".to_owned());
    }
    let mut sockets = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors") {
        let Ok(target) = fs::read_link(entry.expect("a descriptor").path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target.starts_with(data.as_str()) {
            found.push(format!("it holds {target}"));
        } else if target.starts_with("socket:") {
            sockets.insert(target);
        } else if target.starts_with('/') && !is_harmless(&target) {
            found.push(format!("it holds {target}"));
        }
    }
    if sockets.len() > 1 {
        found.push(format!("it holds {} sockets", sockets.len()));
    }
    found
}

/// Memory files, the null device, and what the engine asks the kernel about its own memory and
/// about swap.
fn is_harmless(target: &str) -> bool {
    target.starts_with("/memfd:")
        || ["/dev/null", "/proc/swaps"].contains(&target)
        || target.ends_with("/pagemap")
}

/// A guest that surely runs, and the process it runs in.
fn running_guest(place: &Place) -> (Running, std::process::ChildStdout, Pid) {
    let file = place.file("spin.wasm", guests::ready_and_spin());
    let (running, stdout) = place.vyr(&["run", &file]).start_and_read();
    assert!(readable_within(&stdout, HANG), "the guest does not start");
    let guest = child_of(running.pid(), "__tasks").expect("the guest's process");
    (running, stdout, guest)
}

#[test]
fn a_guests_process_is_confined() {
    let place = Place::new();
    let (running, _stdout, guest) = running_guest(&place);
    assert_eq!(liberties(guest, TASKS_UID, &place.data()), [""; 0]);
    // The twins: its parent is free, and so is whoever holds a file of the data directory.
    let free = liberties(running.pid(), TASKS_UID, &place.data());
    assert!(free.iter().any(|liberty| liberty.starts_with("Seccomp")), "{free:?}");
    assert!(free.iter().any(|liberty| liberty.starts_with("NoNewPrivs")), "{free:?}");
    if rustix::process::geteuid().is_root() {
        for word in ["CapEff", "Uid", "its root"] {
            assert!(free.iter().any(|liberty| liberty.starts_with(word)), "{word}: {free:?}");
        }
    }
    let held = File::open(place.data().join("keys/dev")).expect("a key");
    let own = liberties(rustix::process::getpid(), TASKS_UID, &place.data());
    assert!(own.iter().any(|liberty| liberty.ends_with("keys/dev")), "{own:?}");
    drop(held);
}

#[test]
fn the_compilers_process_is_confined() {
    let place = Place::new();
    let file = place.file("bomb.wasm", guests::compile_bomb(5000));
    let running = place.vyr(&["run", &file]).start();
    // It confines itself first of all; what is looked for is the confined one.
    let began = Instant::now();
    let compiler = loop {
        let compiler = child_of(running.pid(), "__compile");
        if let Some(compiler) = compiler.filter(|pid| status(*pid, "Seccomp") == "2") {
            break compiler;
        }
        assert!(!running.ends_within(Duration::from_millis(5)), "it compiled too fast to be seen");
        assert!(began.elapsed() < HANG, "there is no compiler");
    };
    assert_eq!(liberties(compiler, COMPILE_UID, &place.data()), [""; 0]);
    let limits = fs::read_to_string(format!("/proc/{compiler}/limits")).expect("its limits");
    for (limit, wanted) in [
        ("Max address space", "4294967296"),
        ("Max cpu time", "60"),
        ("Max file size", "1073741824"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).expect("a limit");
        assert!(line.split_whitespace().any(|word| word == wanted), "{line}");
    }
    // It does not outlive whoever started it, and what it was at is not in the cache.
    running.kill();
    assert!(ends_within(compiler, HANG), "the compiler goes on");
    drop(running);
    assert_eq!(faults(&place.data()), [""; 0]);
    works(&place);
}

#[test]
fn a_guest_whose_process_dies_is_lost() {
    let place = Place::new();
    let (running, _stdout, guest) = running_guest(&place);
    kill_process(guest, Signal::KILL).expect("a running guest");
    let ended = running.wait().exits(1);
    assert!(ended.stderr.contains("vyr: failed (lost)"), "{}", ended.stderr);
    assert_eq!(faults(&place.data()), [""; 0]);
    works(&place);
}

#[test]
fn a_guest_does_not_outlive_its_command() {
    let place = Place::new();
    let (running, _stdout, guest) = running_guest(&place);
    running.kill();
    assert!(ends_within(guest, HANG), "the guest goes on");
    drop(running);
    assert_eq!(faults(&place.data()), [""; 0]);
    works(&place);
}

/// A user without a name: no passwd entry, no home, no capability.
#[test]
fn anybody_may_use_a_directory_of_their_own() {
    if !is_root("confinement::anybody_may_use_a_directory_of_their_own") {
        return;
    }
    const NOBODY: u32 = 65534;
    let place = Place::new();
    // The product and the guests where that user can reach them.
    let program = place.path("vyr");
    fs::copy(crate::common::VYR, &program).expect("the product");
    let hello = place.path("hello.wasm");
    fs::copy(guest("hello.wasip1"), &hello).expect("a guest");
    let spin = place.file("spin.wasm", guests::ready_and_spin());
    let home = place.path("home");
    fs::create_dir(&home).expect("a directory");
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(place.path(""), open).expect("chmod");

    let call = |arguments: &[&str]| {
        let who = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", program.as_str()];
        let call = place.program("setpriv", &[&who[..], arguments].concat());
        call.env("XDG_STATE_HOME", home.as_str()).without("HOME")
    };
    let ended = call(&["run", hello.as_str()]).run().ok();
    assert_eq!(ended.text(), "hello from vyr\n");
    assert!(home.join("vyr/keys/dev").exists(), "the directory is XDG_STATE_HOME's");
    assert_eq!(crate::judge::mode_faults(&home.join("vyr")), [""; 0]);
    let (running, stdout) = call(&["run", &spin]).start_and_read();
    assert!(readable_within(&stdout, HANG), "the guest does not start");
    let guest = child_of(running.pid(), "__tasks").expect("the guest's process");
    let found = liberties(guest, NOBODY, &home);
    // Without root there is no other user and no other root directory to go to.
    let found: Vec<_> =
        found.into_iter().filter(|liberty| !liberty.starts_with("its root")).collect();
    assert_eq!(found, [""; 0]);
    // A directory of root's is not theirs.
    let root = place.data();
    place.vyr(&["run", hello.as_str()]).run().ok();
    let refused = call(&["--data-dir", root.as_str(), "run", hello.as_str()]).run();
    assert_eq!(refused.code(), Some(3), "{refused:?}");
}
