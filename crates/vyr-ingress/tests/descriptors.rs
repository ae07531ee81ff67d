//! What happens when this whole process has no descriptor left: a test alone in its process.

#[expect(dead_code, reason = "the other tests use all of it")]
#[path = "carry/place.rs"]
mod place;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use place::{DEADLINE, connect, echo, raw, wait_for};

/// The states of the threads that carry, held open.
fn carriers() -> Vec<File> {
    let threads = fs::read_dir("/proc/self/task").expect("/proc").flatten();
    let states = threads.filter_map(|thread| File::open(thread.path().join("status")).ok());
    states.filter(|state| text(state).starts_with("Name:\tcarry\n")).collect()
}

fn text(state: &File) -> String {
    let mut bytes = [0; 4096];
    let length = state.read_at(&mut bytes, 0).expect("it lives");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// How often those threads have waited.
fn waits(states: &[File]) -> u64 {
    let of_one = |state: &File| -> Option<u64> {
        let text = text(state);
        text.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    states.iter().filter_map(of_one).sum()
}

fn allow(current: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum })
        .expect("below the most");
}

#[test]
fn when_descriptors_run_out_clients_wait_and_nobody_is_dropped() {
    let (ingress, address) = raw(&[echo()]);
    let mut open = connect(address);
    let mut echoed = |word: &[u8]| {
        let mut back = vec![0; word.len()];
        open.write_all(word).is_ok() && open.read_exact(&mut back).is_ok() && back == word
    };
    assert!(echoed(b"before"));
    assert_eq!(ingress.status()["accept_pauses"], 0);
    let waiting = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a descriptor");
    // A thread gives itself its name.
    wait_for("both carriers", || carriers().len() == 2);
    let states = carriers();
    let enough = getrlimit(Resource::Nofile).current.expect("a limit");
    allow(3);
    let before = waits(&states);
    // The kernel takes it in; the ingress cannot.
    rustix::net::connect(&waiting, &address).expect("room in the queue");
    // Woken by it, and by the ends of some pauses.
    wait_for("pauses", || waits(&states) >= before + 4);
    assert!(echoed(b"meanwhile"), "who was connected is carried on");
    allow(enough);
    let mut waiting = TcpStream::from(waiting);
    waiting.set_read_timeout(Some(DEADLINE)).expect("a time");
    waiting.write_all(b"late").expect("room");
    let mut back = [0; 4];
    waiting.read_exact(&mut back).expect("who waited is carried");
    assert_eq!(&back, b"late");
    assert!(ingress.status()["accept_pauses"].as_u64() > Some(0));
    assert!(echoed(b"after"));
}
