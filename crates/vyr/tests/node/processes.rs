//! What each process holds, as the kernel tells it: DESIGN 4.8, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use vyr_api::control::TaskState;

use crate::place::{Daemon, Place, block, children, ended, run, status_of, submission, until};

/// Where a process's descriptors lead.
fn open_files(pid: Pid) -> BTreeMap<i32, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // One may be closed between the two looks.
        if let (Some(number), Ok(to)) = (number, fs::read_link(entry.path())) {
            found.insert(number, to);
        }
    }
    found
}

fn inode_of_socket(to: &Path) -> Option<u64> {
    to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Sockets that listen: of TCP (`/proc/net/tcp`, state 0A) and Unix ones (flag 0x10000).
fn listening() -> Vec<u64> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        for line in fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) == Some(&"0A") {
                found.extend(fields.get(9).and_then(|inode| inode.parse::<u64>().ok()));
            }
        }
    }
    for line in fs::read_to_string("/proc/net/unix").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.get(3) == Some(&"00010000") {
            found.extend(fields.get(6).and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    found
}

/// What a process may do, from `/proc/PID/status`.
#[track_caller]
fn has_nothing(pid: Pid, name: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_of(pid, set), "0000000000000000", "{set} of {name}");
    }
    assert_eq!(status_of(pid, "NoNewPrivs"), "1", "{name}");
    assert_eq!(status_of(pid, "Seccomp"), "2", "{name}");
}

/// The four user ids and the groups are those of a role nobody else has.
#[track_caller]
fn is_nobody_else(pid: Pid, uid: u32, name: &str) {
    let four = format!("{uid}\t{uid}\t{uid}\t{uid}");
    assert_eq!(status_of(pid, "Uid"), four, "{name}");
    assert_eq!(status_of(pid, "Gid"), four, "{name}");
    assert_eq!(status_of(pid, "Groups"), "", "{name}");
}

/// Of all descriptors of a process of guests: one socket, no listener, nothing of the disk but
/// the log on stderr.
#[track_caller]
fn holds_only(pid: Pid, sockets: usize, place: &Place, name: &str) {
    let (files, listening) = (open_files(pid), listening());
    let held: Vec<u64> = {
        let mut inodes: Vec<u64> = files.values().filter_map(|to| inode_of_socket(to)).collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    };
    assert_eq!(held.len(), sockets, "sockets of {name}: {files:?}");
    assert!(held.iter().all(|inode| !listening.contains(inode)), "{name} listens: {files:?}");
    for (number, to) in &files {
        assert!(!to.starts_with(place.data()), "{name} holds {number} -> {}", to.display());
        let text = to.to_string_lossy();
        let nowhere = ["socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null"];
        // Opened before it is confined and of no use to a guest: whether there is swap, and which of
        // its own pages were written.
        let of_kernel = ["/proc/swaps".to_owned(), format!("/proc/{pid}/pagemap")];
        let own = match name {
            "tasks" => of_kernel.iter().any(|file| *file == text),
            "guide" => text == "/proc/pressure/cpu",
            _ => false,
        };
        let fine = own || nowhere.iter().any(|start| text.starts_with(start));
        assert!(fine || *number == 2, "{name} holds {number} -> {text}");
    }
}

/// `guide` has two capabilities if it has programs in the kernel, none if not.
async fn guides_and_nothing_else(guide: Pid, place: &Place, daemon: &Daemon) {
    let said = until("what guides the threads", async || {
        let said = daemon.status().await.settings["guidance"].clone();
        (!said.contains("being asked")).then_some(said)
    })
    .await;
    // CAP_PERFMON and CAP_BPF: bits 38 and 39.
    let held = if said.starts_with("observe") { "000000c000000000" } else { "0000000000000000" };
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(status_of(guide, set), held, "{set} of guide: {said}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status_of(guide, set), "0000000000000000", "{set} of guide");
    }
    assert_eq!(status_of(guide, "NoNewPrivs"), "1", "guide");
    assert_eq!(status_of(guide, "Seccomp"), "2", "guide");
    holds_only(guide, 1, place, "guide");
}

#[test]
fn each_process_holds_what_it_needs_and_nothing_else() {
    let place = Place::new();
    let endless = place.put_text("endless", crate::guests::ENDLESS, &[]);
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        run(&mut client, submission(&hello, b"", "")).await;
        // Looked at while a stranger's code runs.
        let task = client.submit_request(submission(&endless, b"", "")).await.expect("accepted");
        until("a running task", async || (daemon.status().await.tasks_running == 1).then_some(()))
            .await;
        let up = daemon.process("up", None).await;
        let api = daemon.process("api", None).await;
        let tasks = daemon.process("tasks", None).await;
        assert_eq!(up, daemon.pid());
        let guide = daemon.process("guide", None).await;
        assert_eq!(children(up).len(), 3, "api, tasks and guide");

        has_nothing(tasks, "tasks");
        // To `api` and to `guide`.
        holds_only(tasks, 2, &place, "tasks");
        has_nothing(api, "api");
        guides_and_nothing_else(guide, &place, &daemon).await;
        let (of_up, of_api) = (open_files(up), open_files(api));
        let listening = listening();
        let listens = |files: &BTreeMap<i32, PathBuf>| {
            let inodes = files.values().filter_map(|to| inode_of_socket(to));
            inodes.filter(|inode| listening.contains(inode)).count()
        };
        assert_eq!(listens(&of_api), 2, "control and operator: {of_api:?}");
        // The judge sees what it looks for.
        assert!(of_api.values().any(|to| to.ends_with("node/journal.db")), "{of_api:?}");
        assert_eq!(listens(&of_up), 0, "up listens: {of_up:?}");
        let of_data: Vec<_> = of_up.values().filter(|to| to.starts_with(place.data())).collect();
        assert_eq!(of_data, [&place.data().canonicalize().expect("data").join("node/up.lock")]);

        if rustix::process::geteuid().is_root() {
            is_nobody_else(guide, 60803, "guide");
            is_nobody_else(tasks, 60801, "tasks");
            // A directory in which, for this user, nothing can be looked up.
            let root = fs::read_link(format!("/proc/{tasks}/root")).expect("a root");
            assert_eq!(root, PathBuf::from(format!("/proc/{tasks}/fdinfo")));
            assert_eq!(status_of(api, "Uid").split('\t').next(), Some("0"));
        }
        let request = vyr_api::control::CancelTaskRequest { task_id: task.clone() };
        client.control.cancel_task(request).await.expect("cancelled");
        assert_eq!(ended(&mut client, &task).await.state(), TaskState::Cancelled);
    });
}

#[test]
fn machines_is_there_for_what_is_left_and_has_three_rights() {
    let place = Place::new();
    // A machine of an earlier life, whose end nobody has heard of.
    let left = place.data().join("machines/old");
    fs::create_dir_all(&left).expect("room");
    let record = r#"{"version":1,"id":"old","uid":null,"mark":"vyr-0","ran":true,"ended":null}"#;
    fs::write(left.join("instance.json"), record).expect("room");
    if rustix::process::geteuid().is_root() {
        for path in [left.clone(), left.join("instance.json")] {
            std::os::unix::fs::chown(path, Some(60805), Some(60805)).expect("root may");
        }
    }
    block(async {
        let daemon = place.ready().await;
        let machines = daemon.process("machines", None).await;
        let ended = until("the end on disk", async || {
            let record = fs::read_to_string(left.join("instance.json")).ok()?;
            record.contains("\"ended\":{").then_some(record)
        });
        assert!(ended.await.contains("Unknown"), "nobody saw how");
        if rustix::process::geteuid().is_root() {
            is_nobody_else(machines, 60805, "machines");
            // CAP_KILL, CAP_SETGID and CAP_SETUID.
            for set in ["CapPrm", "CapEff", "CapBnd"] {
                assert_eq!(status_of(machines, set), "00000000000000e0", "{set} of machines");
            }
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(status_of(machines, set), "0000000000000000", "{set} of machines");
            }
        } else {
            has_nothing(machines, "machines");
        }
        assert_eq!(status_of(machines, "NoNewPrivs"), "1");
        assert_eq!(status_of(machines, "Seccomp"), "2");
        let listening = listening();
        // Nobody but root looks into a process that may hold secrets.
        if rustix::process::geteuid().is_root() {
            for to in open_files(machines).values() {
                assert!(inode_of_socket(to).is_none_or(|inode| !listening.contains(&inode)));
                let own = place.data().canonicalize().expect("data").join("machines");
                assert!(!to.starts_with(place.data()) || to.starts_with(own), "{}", to.display());
            }
        }
        // It is started again when it is killed, and it ends with the node.
        crate::place::kill(machines);
        let next = daemon.process("machines", Some(machines)).await;
        daemon.kill();
        assert!(crate::place::ends(next, crate::place::HANG), "it outlives the node");
    });
}

#[test]
fn the_compiler_holds_one_module_and_nothing_else() {
    // Functions enough to compile for longer than it takes to look at the process.
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 3)) (local.get 0))".to_owned();
    let body = (0..40).fold(body, |inner, n| format!("(i32.xor (i32.const {n}) {inner})"));
    let functions: String =
        (0..6000).map(|_| format!("(func (param i32) (result i32) {body})")).collect();
    let text = format!("(module {functions} (func (export \"_start\")))");
    let place = Place::new();
    let large = place.put_text("large", &text, &[]);
    block(async {
        let daemon = place.ready().await;
        let mut client = daemon.client().await;
        let (api, tasks) = (daemon.process("api", None).await, daemon.process("tasks", None).await);
        let guide = daemon.process("guide", None).await;
        let task = client.submit_request(submission(&large, b"", "")).await.expect("accepted");
        let compile = until("a compiler that has confined itself", async || {
            let started = children(daemon.pid());
            let other = started.into_iter().find(|pid| ![api, tasks, guide].contains(pid))?;
            (status_of(other, "Seccomp") == "2").then_some(other)
        })
        .await;
        // It stands still while it is looked at.
        rustix::process::kill_process(compile, rustix::process::Signal::STOP).expect("it runs");
        has_nothing(compile, "compile");
        holds_only(compile, 0, &place, "compile");
        if rustix::process::geteuid().is_root() {
            is_nobody_else(compile, 60802, "compile");
        }
        let limits = fs::read_to_string(format!("/proc/{compile}/limits")).expect("limits");
        for limit in ["Max cpu time", "Max file size", "Max address space"] {
            let line = limits.lines().find(|line| line.starts_with(limit)).expect("a limit");
            assert!(!line.contains("unlimited"), "{line}");
        }
        rustix::process::kill_process(compile, rustix::process::Signal::CONT).expect("it stands");
        assert_eq!(ended(&mut client, &task).await.state(), TaskState::Completed);
    });
}
