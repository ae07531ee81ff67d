//! What the processes hold, as the kernel tells it; and where secrets are not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use vyr_node::machines::wire::LogLine;
use vyr_node::machines::{Event, MachineId, MachinesError, MachinesSettings};

use crate::place::{GIVEN, House, not_run};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("hold::machines_has_three_rights_and_a_vmm_none", three_rights),
        trial("hold::two_machines_never_have_one_user", one_user),
        trial("hold::a_secret_is_nowhere_on_disk", a_secret_is_nowhere),
    ]
}

/// A line of `/proc/PID/status`.
pub(crate) fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the descriptors of a process lead.
fn open_files(pid: u32) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// Inodes of sockets of the network.
fn internet() -> Vec<String> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"] {
        for line in fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default().lines() {
            found.extend(line.split_whitespace().map(|field| format!("socket:[{field}]")));
        }
    }
    found
}

fn pid_of(house: &House, id: &MachineId) -> u32 {
    let known = house.door.list().expect("a list").into_iter().find(|known| known.id == *id);
    known.and_then(|known| known.pid).expect("it runs")
}

fn three_rights(test: &str) {
    if !is_root() {
        return not_run(test, "needs root");
    }
    let Some(house) = House::new(test) else { return };
    let id = house.start("held", "sleep 100000");
    house.runs(&id);
    let (machines, vmm) = (house.pid(), pid_of(&house, &id));
    assert_eq!(status(machines, "Uid"), ["60805"; 4].join(" "));
    assert_eq!(status(machines, "Gid"), ["60805"; 4].join(" "));
    // CAP_KILL, CAP_SETGID, CAP_SETUID: bits 5, 6 and 7.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(machines, set), "00000000000000e0", "{set}");
    }
    let uid: u32 =
        status(vmm, "Uid").split(' ').next().and_then(|n| n.parse().ok()).expect("a uid");
    let (first, last) = MachinesSettings::default().users;
    assert!((first..=last).contains(&uid), "{uid}");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(status(vmm, set), "0000000000000000", "{set} of the VMM");
    }
    for pid in [machines, vmm] {
        assert_eq!(status(pid, "Groups"), "");
        assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".into(), "1".into()));
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000000", "{set}");
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core =
            limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        let (files, internet) = (open_files(pid), internet());
        for (number, to) in &files {
            let text = to.to_string_lossy();
            assert!(!internet.contains(&text.clone().into_owned()), "{number} -> {text}");
            let own = to.starts_with(house.machines()) || *to == house.base.guests.root;
            let nowhere = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/kvm", "/memfd:"];
            let fine = own || nowhere.iter().any(|start| text.starts_with(start));
            assert!(fine || number == "2", "{pid} holds {number} -> {text}");
        }
        // The judge sees what it looks for.
        assert!(files.values().any(|to| to.starts_with(house.machines())), "{files:?}");
    }
    // The VMM's user owns nothing there.
    for path in below(&house.machines()) {
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).expect("a file"));
        assert!(owner == 60805 || path.to_string_lossy().contains(GIVEN), "{}", path.display());
    }
}

/// Everything below a directory.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory").flatten() {
        if entry.path().is_dir() {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

fn one_user(test: &str) {
    if !is_root() {
        return not_run(test, "needs root");
    }
    let last = MachinesSettings::default().users.1 - 1;
    let settings = MachinesSettings { users: (last, last), ..MachinesSettings::default() };
    let Some(house) = House::with(test, settings) else { return };
    let one = house.start("one", "sleep 100000");
    house.runs(&one);
    let refused = house.door.start(house.order("two", "sleep 100000"), None);
    assert_eq!(refused, Err(MachinesError::Users { first: last, last }));
    assert!(!house.machines().join("two").exists(), "nothing is left of it");
    // Of one that has ended it is free again.
    house.door.kill(&one).expect("there is one");
    house.ended(&one);
    let two = house.start("two", "sleep 100000");
    house.runs(&two);
    // A process of somebody else is one too, whoever started it.
    house.door.kill(&two).expect("there is one");
    house.ended(&two);
    let mut other =
        std::os::unix::process::CommandExt::uid(&mut std::process::Command::new("sleep"), last)
            .arg("100000")
            .spawn()
            .expect("root may");
    let refused = house.door.start(house.order("three", "true"), None);
    assert_eq!(refused, Err(MachinesError::Users { first: last, last }));
    other.kill().expect("ours");
    other.wait().expect("ours");
}

/// Built at run time, so that no file of the build holds it.
pub(crate) fn marker(what: &str) -> String {
    ["marker", "9c41", what, "of", "this", "test"].join("-")
}

pub(crate) fn holders(house: &House, what: &str) -> Vec<String> {
    let files = below(&house.machines()).into_iter().filter(|path| path.is_file());
    let holds = files.filter(|path| {
        let bytes = fs::read(path).expect("a file");
        bytes.windows(what.len()).any(|window| window == what.as_bytes())
    });
    holds.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

fn a_secret_is_nowhere(test: &str) {
    let Some(house) = House::new(test) else { return };
    let (secret, said) = (marker("secret"), marker("said"));
    let script = format!("echo {said}; wc -c < /run/secrets/platform.env; sleep 100000");
    let mut order = house.order("quiet", &script);
    let text = format!("# VYR_SECRETS_V1\nTOKEN={secret}\n");
    let size = text.len();
    order.start.secrets = Some(text.into_bytes());
    order.start.process.env.push(("HIDDEN".into(), secret.clone()));
    let id = order.id.clone();
    house.door.start(order, None).expect("it is taken");
    house.runs(&id);
    let log = UnixStream::from(house.door.logs(&id, 0, true).expect("a log"));
    let next = || LogLine::read(&log).expect("a line").expect("it goes on").record.line;
    assert_eq!(next(), said.as_bytes());
    assert_eq!(next(), size.to_string().as_bytes(), "the guest has it");
    assert_eq!(holders(&house, &secret), Vec::<String>::new());
    // The twin: what is written is found.
    assert_eq!(holders(&house, &said), ["log"]);
    let console = house.door.console(&id).expect("a console");
    assert!(!String::from_utf8_lossy(&console).contains(&secret));
    // Nor after the death of all that held it.
    let killed = rustix::process::Pid::from_raw(house.pid().cast_signed()).expect("a number");
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("ours");
    house.event("adopted machine", |event| matches!(event, Event::Adopted { .. }).then_some(()));
    house.door.kill(&id).expect("there is one");
    house.ended(&id);
    assert_eq!(holders(&house, &secret), Vec::<String>::new());
}
