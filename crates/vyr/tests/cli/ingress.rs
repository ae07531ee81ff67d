//! `vyr ingress` as its user sees it: checked, started, changed, told to end.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::{HANG, Place, ends_within, is_root, text_of, wait_for};

const INGRESS_UID: u32 = 60804;

/// A backend that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        while let Ok((mut from, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut to = from.try_clone().expect("a descriptor");
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// A port that nobody has now.
fn port() -> u16 {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}

/// A configuration that listens at these ports.
fn document(place: &Place, ports: &[u16], backend: SocketAddr) -> Value {
    let listener = |port: &u16| {
        json!({"name": format!("p{port}"), "address": "::1", "port": port, "mode": "tcp_raw",
               "route": "r"})
    };
    json!({
        "version": 1, "control": place.path("control").as_str(), "threads": 2,
        "listeners": ports.iter().map(listener).collect::<Vec<_>>(),
        "routes": [{"name": "r", "backends": [{"address": backend.to_string()}]}],
    })
}

fn works(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)) else { return false };
    stream.set_read_timeout(Some(HANG)).expect("a time");
    let (sent, mut back) = (b"there and back", Vec::new());
    let talked = stream.write_all(sent).and_then(|()| stream.shutdown(Shutdown::Write));
    talked.and_then(|()| stream.read_to_end(&mut back)).is_ok() && back == sent
}

fn pid_of(status: &Value) -> Pid {
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    Pid::from_raw(pid.expect("a number")).expect("a process")
}

#[test]
fn a_configuration_is_checked_as_a_whole() {
    let place = Place::new();
    let mut good = document(&place, &[8443], "[::1]:1".parse().expect("an address"));
    let file = place.file("good.json", good.to_string());
    let checked = place.bare(&["ingress", "check", &file]).run().ok();
    assert!(checked.text().starts_with("good: 1 listeners, 1 routes, 1 ready backends; sha256:"));
    let checked = place.bare(&["ingress", "check", &file, "--json"]).run().ok().json();
    assert_eq!((&checked["version"], &checked["backends_ready"]), (&json!(1), &json!(1)));

    good["listeners"][0]["mode"] = json!("https");
    good["routes"][0]["hostnames"] = json!(["*.example"]);
    good["timeouts"] = json!({"idle": 3});
    let file = place.file("bad.json", good.to_string());
    let faults = ["no mode", "never ended here", "exact, without wildcards", "unknown field"];
    place.bare(&["ingress", "check", &file]).run().refuses(2, &faults);
    let error = place.bare(&["ingress", "check", &file, "--json"]).run().exits(2).json();
    assert_eq!(error["error"]["category"], "usage");
    // Started with it, nothing is begun.
    place.bare(&["ingress", "--config", &file]).run().refuses(2, &faults);
    assert!(!place.path("control").exists());
    place.bare(&["ingress", "check", "none.json"]).run().refuses(4, &["none.json"]);
    place.bare(&["ingress"]).run().exits(2);
}

#[test]
fn it_is_started_changed_and_told_to_end() {
    let place = Place::new();
    let (first, second, backend) = (port(), port(), echo());
    let file = place.file("one.json", document(&place, &[first], backend).to_string());
    place.bare(&["ingress", "status", &file]).run().refuses(6, &["no ingress answers"]);
    let running = place.bare(&["ingress", "--config", &file]).start();
    wait_for("it carries", || works(first));
    let status = place.bare(&["ingress", "status", &file, "--json"]).run().ok().json();
    assert_eq!(pid_of(&status), running.pid());

    let other = place.file("two.json", document(&place, &[first, second], backend).to_string());
    place.bare(&["ingress", "--config", &other]).run().refuses(5, &["is running", "apply"]);
    let applied = place.bare(&["ingress", "apply", &other]).run().ok();
    assert!(applied.text().contains(&format!("listens [::1]:{second}")), "{applied:?}");
    assert!(applied.stderr.contains("undo: "), "{applied:?}");
    assert!(works(first) && works(second));
    let status = place.bare(&["ingress", "status", &other, "--json"]).run().ok().json();
    assert_eq!(status["generation"], 1);
    let digest = text_of(&status["config"]).to_owned();
    let checked = place.bare(&["ingress", "check", &other]).run().ok();
    assert!(checked.text().contains(&digest));

    kill_process(running.pid(), Signal::HUP).expect("it runs");
    assert!(works(second), "a hangup ended it");
    kill_process(running.pid(), Signal::TERM).expect("it runs");
    let ended = running.wait().ok();
    assert!(ended.stderr.contains("stopped"), "{ended:?}");
    assert!(!works(first));
}

/// What `/proc` says of a process.
fn field(pid: Pid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn it_has_no_right_left_and_outlives_who_started_it() {
    let place = Place::new();
    let (port, backend) = (port(), echo());
    let file = place.file("one.json", document(&place, &[port], backend).to_string());
    let start =
        format!("'{}' ingress --config '{file}' </dev/null >/dev/null 2>&1 &", crate::common::VYR);
    place.program("sh", &["-c", &start]).run().ok();
    wait_for("it carries", || works(port));
    let status = place.bare(&["ingress", "status", &file, "--json"]).run().ok().json();
    let pid = pid_of(&status);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(pid, "NoNewPrivs"), "1");
    assert_eq!(field(pid, "Seccomp"), "2");
    if is_root("ingress::it_has_no_right_left_and_outlives_who_started_it") {
        let ids = format!("{INGRESS_UID}\t{INGRESS_UID}\t{INGRESS_UID}\t{INGRESS_UID}");
        assert_eq!(field(pid, "Uid"), ids);
        assert_eq!(field(pid, "Gid"), ids);
        assert_eq!(field(pid, "Groups"), "");
    }
    // The twin: this test's own process has what the ingress gave up.
    assert_ne!(field(rustix::process::getpid(), "Seccomp"), "2");
    kill_process(pid, Signal::TERM).expect("it runs");
    assert!(ends_within(pid, HANG));
}

#[test]
fn after_a_kill_it_starts_again_with_what_was_applied() {
    let place = Place::new();
    let (port, backend) = (port(), echo());
    let file = place.file("one.json", document(&place, &[], backend).to_string());
    let running = place.bare(&["ingress", "--config", &file]).start();
    wait_for("it answers", || place.bare(&["ingress", "status", &file]).run().code() == Some(0));
    // The file is replaced, then applied: what was acknowledged is what a start reads.
    let file = place.file("one.json", document(&place, &[port], backend).to_string());
    place.bare(&["ingress", "apply", &file]).run().ok();
    let mut open = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("it listens");
    open.write_all(b"x").expect("room");
    open.read_exact(&mut [0]).expect("an echo");
    running.kill();
    running.wait();
    assert!(open.read(&mut [0]).map_or(true, |came| came == 0), "it is carried on by nobody");
    place.bare(&["ingress", "status", &file]).run().exits(6);
    let running = place.bare(&["ingress", "--config", &file]).start();
    wait_for("it carries", || works(port));
    kill_process(running.pid(), Signal::TERM).expect("it runs");
    running.wait().ok();
}
