//! What is left of a node that was stopped and whose data directory was removed: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use crate::place::{Place, block, children, is_there, not_run, run, submission, vyr};

/// Where programs leave things behind, and how deep to look. Others use these places too.
const SHARED: [(&str, usize); 5] =
    [("/run", 3), ("/tmp", 1), ("/dev/shm", 1), ("/var/tmp", 1), ("/sys/fs/cgroup", 5)];

/// The users that guests and the compiler run as.
const UIDS: [u32; 2] = [60801, 60802];

/// What lies below a directory.
fn below(directory: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, depth - 1, found);
        }
        found.insert(path);
    }
}

/// What is ours of the shared places: by its name, or by its owner.
fn ours() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (place, depth) in SHARED {
        below(Path::new(place), depth, &mut found);
    }
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let uid = fs::symlink_metadata(path).map(|found| found.uid());
        name.contains("vyr") || uid.is_ok_and(|uid| UIDS.contains(&uid))
    });
    found
}

/// Everything of a node that can be seen: its own places, then processes, mounts and sockets.
fn left(own: &Path, data: &Path, pids: &[Pid]) -> Vec<String> {
    let mut files = BTreeSet::new();
    below(own, usize::MAX, &mut files);
    let mut left: Vec<String> = files
        .into_iter()
        .filter(|path| !path.is_dir() || fs::read_dir(path).is_ok_and(|mut of| of.next().is_some()))
        .map(|path| path.display().to_string())
        .collect();
    left.extend(data.exists().then(|| data.display().to_string()));
    left.extend(pids.iter().filter(|pid| is_there(**pid)).map(|pid| format!("process {pid}")));
    let data = data.to_str().expect("UTF-8");
    for table in ["/proc/self/mounts", "/proc/net/unix"] {
        let text = fs::read_to_string(table).expect("a table of the kernel");
        left.extend(text.lines().filter(|line| line.contains(data)).map(str::to_owned));
    }
    left
}

#[test]
fn a_node_that_is_removed_leaves_nothing() {
    let place = Place::new();
    let hello = place.put_hello();
    // Its temporary files, and all that a user's programs have of their own, in one place.
    let own = place.path("own");
    let names = [
        "TMPDIR",
        "HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ];
    let directories = names.map(|name| own.join(name));
    for directory in &directories {
        fs::create_dir_all(directory).expect("a directory");
    }
    let environment: Vec<(&str, &str)> = names
        .into_iter()
        .zip(directories.iter().map(|path| path.to_str().expect("UTF-8")))
        .collect();
    let before = ours();
    let pids = block(async {
        let mut daemon = place.start_with(&environment);
        daemon.wait_ready().await;
        run(&mut daemon.client().await, submission(&hello, &[7; 100_000][..60_000], "")).await;
        let mut pids = children(daemon.pid());
        pids.push(daemon.pid());
        assert_eq!(pids.len(), 4, "api, tasks, guide and up");
        // The judge sees what it looks for.
        let seen = left(&own, place.data(), &pids);
        for what in ["process ", "control.sock", "data"] {
            assert!(seen.iter().any(|line| line.contains(what)), "{what} is not in {seen:?}");
        }
        assert!(daemon.stop().success());
        pids
    });
    let sockets = place.data().join("run");
    assert_eq!(fs::read_dir(&sockets).expect("its directory").count(), 0, "sockets are left");
    fs::remove_dir_all(place.data()).expect("the data directory");
    assert_eq!(left(&own, place.data(), &pids), Vec::<String>::new());
    let more: Vec<PathBuf> = ours().difference(&before).cloned().collect();
    assert_eq!(more, Vec::<PathBuf>::new());
    // And again what the judge sees: a file in one of the node's own places.
    fs::write(directories[0].join("left"), "").expect("a file");
    assert_eq!(left(&own, place.data(), &pids).len(), 2, "the file and its directory");
}

#[test]
fn systemd_accepts_the_unit() {
    const TEST: &str = "uninstall::systemd_accepts_the_unit";
    accepted(TEST, include_str!("../../../../contrib/vyr.service"));
    accepted(TEST, include_str!("../../../../contrib/vyr-network.service"));
    accepted(TEST, include_str!("../../../../contrib/vyr-client-watch.service"));
}

fn accepted(test: &str, unit: &str) {
    let place = Place::new();
    let binary = PathBuf::from(vyr());
    // The program has to be there; where it is installed, nobody knows here.
    let unit = unit.replace("/usr/local/bin/vyr", binary.to_str().expect("UTF-8"));
    let verify = |text: &str| {
        let file = place.path("vyr.service");
        fs::write(&file, text).expect("a file");
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output()
    };
    let Ok(output) = verify(&unit) else {
        return not_run(test, "systemd-analyze is not installed");
    };
    // It looks at the units of the machine as well, and only warns of a key that it does not know.
    let faults = |of: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(of);
        text.lines().filter(|line| line.contains("vyr.service")).map(str::to_owned).collect()
    };
    assert_eq!(faults(&output.stderr), Vec::<String>::new());
    assert!(output.status.success());
    let wrong = verify(&unit.replace("UMask=", "UMasc=")).expect("it is there");
    assert_eq!(faults(&wrong.stderr).len(), 1);
}
