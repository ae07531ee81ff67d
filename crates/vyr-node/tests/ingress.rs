//! The ingress of a node: it outlives who started it, and the next one finds it. Without the usual
//! harness, because its processes are this binary started again.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use vyr_base::{Category, Problem};
use vyr_node::process::{IngressDoor, IngressDoorError, IngressStatus, Role, serve};

/// Nothing here takes a tenth of it; what does hangs.
const HANG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| Role::from_argument(first)) {
        return ExitCode::from(serve(role, &arguments[1..]));
    }
    // A node that starts an ingress, says so, and waits to be killed.
    if let [word, data, document] = arguments.as_slice()
        && word == "a-node"
    {
        IngressDoor::alone(Path::new(data)).apply(document.as_bytes()).expect("it serves");
        println!("serves");
        let _ = std::io::stdin().read(&mut [0]);
        return ExitCode::SUCCESS;
    }
    let trials = vec![
        trial("it_outlives_its_node_and_is_taken_over", outlives),
        trial("connections_of_one_backend_are_counted_until_the_last", counted),
        trial("a_listener_that_cannot_be_had_changes_nothing", nothing_changes),
        trial("it_holds_nothing_but_connections", holds_nothing),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        body();
        Ok(())
    })
}

/// A data directory, and the end of its ingress.
struct Place {
    directory: tempfile::TempDir,
    door: IngressDoor,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("room");
        let door = IngressDoor::alone(directory.path());
        Self { directory, door }
    }

    fn document(&self, port: u16, backends: &[(SocketAddr, bool)]) -> Vec<u8> {
        document(self.door.control(), port, backends)
    }

    fn status(&self) -> IngressStatus {
        self.door.status().expect("it can be asked").expect("it is there")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.door.status() {
            let _ = kill_process(pid(status.pid), Signal::KILL);
        }
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid")).expect("a pid")
}

fn document(control: &Path, port: u16, backends: &[(SocketAddr, bool)]) -> Vec<u8> {
    let backend =
        |(address, ready): &(SocketAddr, bool)| json!({"address": address, "ready": ready});
    let backends: Vec<Value> = backends.iter().map(backend).collect();
    let document = json!({
        "version": 1, "control": control, "connections_max": 100,
        "listeners": [
            {"name": "app", "address": "::1", "port": port, "mode": "tcp_raw", "route": "app"}],
        "routes": [{"name": "app", "backends": backends}],
    });
    document.to_string().into_bytes()
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Says again what it hears, after its letter.
fn backend(letter: u8) -> SocketAddr {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    if stream.write_all(&[letter, byte[0]]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn client(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(HANG)).expect("a socket");
    stream
}

/// Who answers.
#[track_caller]
fn says(mut stream: &TcpStream, byte: u8) -> u8 {
    let mut heard = [0; 2];
    stream.write_all(&[byte]).expect("it takes it");
    stream.read_exact(&mut heard).expect("it answers");
    assert_eq!(heard[1], byte);
    heard[0]
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !seen() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

fn outlives() {
    let place = Place::new();
    let (port, a, b) = (free_port(), backend(b'a'), backend(b'b'));
    let first = place.document(port, &[(a, true)]);
    // A node of its own, in a process group of its own: it is killed, as a whole.
    let mut node = std::process::Command::new(std::env::current_exe().expect("this"));
    std::os::unix::process::CommandExt::process_group(&mut node, 0);
    let mut node = node
        .arg("a-node")
        .arg(place.directory.path())
        .arg(String::from_utf8(first.clone()).expect("JSON"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("this binary");
    let mut said = [0; 7];
    node.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("it serves");
    let open = client(port);
    assert_eq!(says(&open, 1), b'a');
    let group = pid(node.id());
    rustix::process::kill_process_group(group, Signal::KILL).expect("it runs");
    node.wait().expect("it is gone");
    // The connection goes on, and others come.
    assert_eq!(says(&open, 2), b'a');
    assert_eq!(says(&client(port), 3), b'a');
    let before = place.status();
    assert_eq!(before.config, vyr_base::Digest::of(&first));
    // The next node tells it something else; it is the same one, with the same listener.
    let second = place.document(port, &[(b, true)]);
    place.door.apply(&second).expect("it takes it");
    let after = place.status();
    assert_eq!((after.pid, after.config), (before.pid, vyr_base::Digest::of(&second)));
    assert_eq!(says(&client(port), 4), b'b');
    assert_eq!(says(&open, 5), b'a', "what was open stays where it was");
    // When it is killed itself another one takes its place.
    kill_process(pid(after.pid), Signal::KILL).expect("it runs");
    until("its end", || place.door.status().expect("it can be asked").is_none());
    place.door.apply(&second).expect("another one");
    assert_ne!(place.status().pid, after.pid);
    assert_eq!(says(&client(port), 6), b'b');
}

fn counted() {
    let place = Place::new();
    let (port, a, b) = (free_port(), backend(b'a'), backend(b'b'));
    place.door.apply(&place.document(port, &[(a, true)])).expect("it serves");
    let (one, two) = (client(port), client(port));
    says(&one, 1);
    says(&two, 1);
    let open = |address: SocketAddr| {
        let found = place.status().backends;
        found.iter().find(|of| of.address == address).map(|of| (of.ready, of.open))
    };
    assert_eq!(open(a), Some((true, 2)));
    // Drained: no longer ready, then no longer there; its connections still count.
    place.door.apply(&place.document(port, &[(a, false), (b, true)])).expect("it takes it");
    assert_eq!((open(a), open(b)), (Some((false, 2)), Some((true, 0))));
    place.door.apply(&place.document(port, &[(b, true)])).expect("it takes it");
    assert_eq!(open(a), Some((false, 2)));
    drop(one);
    until("the end of one", || open(a) == Some((false, 1)));
    assert_eq!(says(&two, 2), b'a');
    drop(two);
    until("the end of all", || open(a).is_none());
    // It comes back: its count is its own again.
    place.door.apply(&place.document(port, &[(a, true)])).expect("it takes it");
    assert_eq!(open(a), Some((true, 0)));
}

fn nothing_changes() {
    let place = Place::new();
    let (port, a) = (free_port(), backend(b'a'));
    let good = place.document(port, &[(a, true)]);
    place.door.apply(&good).expect("it serves");
    let open = client(port);
    let taken = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let taken = taken.local_addr().map(|at| (taken, at)).expect("an address");
    let refused = place.door.apply(&place.document(taken.1.port(), &[(a, true)]));
    let refused = refused.expect_err("somebody has it");
    assert!(matches!(refused, IngressDoorError::Listen { .. }), "{refused}");
    assert_eq!(refused.category(), Category::Conflict, "{refused}");
    place.door.apply(b"{}").expect_err("no configuration");
    assert_eq!(place.status().config, vyr_base::Digest::of(&good));
    assert_eq!((says(&open, 1), says(&client(port), 2)), (b'a', b'a'));
}

fn holds_nothing() {
    let place = Place::new();
    // Under root also a port that nobody else may take.
    let root = rustix::process::geteuid().is_root();
    let (port, a) = (if root { 843 } else { free_port() }, backend(b'a'));
    place.door.apply(&place.document(port, &[(a, true)])).expect("it serves");
    assert_eq!(says(&client(port), 1), b'a');
    let of = place.status().pid;
    let text = fs::read_to_string(format!("/proc/{of}/status")).expect("it runs");
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!((line("NoNewPrivs"), line("Seccomp")), ("1".into(), "2".into()));
    if root {
        assert_eq!((line("Uid"), line("Gid")), (["60804"; 4].join(" "), ["60804"; 4].join(" ")));
        assert_eq!(line("Groups"), "");
    }
    for entry in fs::read_dir(format!("/proc/{of}/fd")).expect("it runs").flatten() {
        let Ok(to) = fs::read_link(entry.path()) else { continue };
        let text = to.to_string_lossy();
        // The lock says that it is the ingress.
        let nowhere = ["socket:", "pipe:", "anon_inode:", "/dev/null"];
        let fine = nowhere.iter().any(|start| text.starts_with(start))
            || text.ends_with("run/ingress.sock.lock")
            || entry.file_name() == "2";
        assert!(fine, "{entry:?} -> {text}");
    }
}
