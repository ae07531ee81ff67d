//! An agent with the two capabilities that it needs, and no other right.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use morpheus::{Guidance, Options};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::{answers, hog, missing, not_run, object, pin};

/// Nobody's number, on any Linux.
const NOBODY: &str = "65534";

/// A directory with the agent and the object in it, which anybody may use.
fn installed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).expect("ours");
    let agent = Path::new(env!("CARGO_BIN_EXE_morpheus-agent"));
    std::fs::copy(agent, directory.path().join("morpheus-agent")).expect("a copy");
    let built = object().expect("it was built");
    std::fs::copy(built, directory.path().join(morpheus_bpf::OBJECT)).expect("a copy");
    directory
}

/// An agent of another user, with those capabilities alone.
fn start(directory: &Path, capabilities: &[&str], arguments: &[&str]) -> (Child, PathBuf) {
    let socket = directory.join("agent.sock");
    let list: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let child = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .args([format!("--inh-caps=-all{list}"), format!("--ambient-caps=-all{list}")])
        .arg(directory.join("morpheus-agent"))
        .args(arguments)
        .arg(&socket)
        .env_remove("VYR_BPF_OBJECT")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    (child, socket)
}

fn first_line(agent: &mut Child) -> String {
    let mut line = String::new();
    let stdout = agent.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it says something");
    line
}

/// Ends it as a service manager would; it must end well.
fn end(mut agent: Child) {
    let pid = i32::try_from(agent.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::TERM).expect("ours");
    let status = agent.wait().expect("ours");
    assert!(status.success(), "{status}");
}

fn can_be_tried() -> bool {
    if let Some(missing) = missing() {
        not_run(&missing);
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        not_run("needs root");
        return false;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        not_run("setpriv is not installed");
        return false;
    }
    true
}

#[test]
fn two_capabilities_are_enough() {
    if !can_be_tried() {
        return;
    }
    let directory = installed();
    let (mut agent, socket) = start(directory.path(), &["bpf", "perfmon"], &[]);
    let said = first_line(&mut agent);
    assert!(said.contains("tier observe"), "{said}");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| hog(0, &stop));
        pin(0);
        let options = Options { workers: 1, ..Options::default() };
        let guidance = Guidance::connect(&socket, options).expect("it answers");
        let _worker = guidance.register().expect("a block");
        assert_eq!(answers(5), 5);
        assert!(guidance.report().workers[0].kernel_hints >= 5);
        stop.store(true, Relaxed);
    });
    end(agent);
    assert!(!socket.exists(), "it leaves its socket");
}

#[test]
fn a_capability_that_is_missing_is_named() {
    if !can_be_tried() {
        return;
    }
    let directory = installed();
    for (has, lacks) in [("bpf", "CAP_PERFMON"), ("perfmon", "CAP_BPF")] {
        let (mut agent, socket) = start(directory.path(), &[has], &[]);
        assert_eq!(agent.wait().expect("ours").code(), Some(1), "with {has} alone");
        let mut said = String::new();
        agent.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(said.contains(&format!("{lacks} is missing")), "{said}");
        assert!(!socket.exists());
        // Where it may be less, it is, and says why.
        if !Path::new("/proc/pressure/cpu").exists() {
            continue;
        }
        let (mut agent, _) = start(directory.path(), &[has], &["--psi"]);
        let said = first_line(&mut agent);
        assert!(said.contains("tier psi") && said.contains(lacks), "{said}");
        end(agent);
    }
}

#[test]
fn what_cannot_be_understood_is_refused() {
    for arguments in [&[][..], &["--psi"], &["a", "b"], &["--psi", "a", "b"]] {
        let agent = Command::new(env!("CARGO_BIN_EXE_morpheus-agent"))
            .args(arguments)
            .output()
            .expect("it starts");
        assert_eq!(agent.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&agent.stderr).starts_with("usage: "), "{arguments:?}");
    }
}
