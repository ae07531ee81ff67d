//! Another configuration while connections are open.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use vyr_base::{Category, Problem};

use crate::place::{Ingress, connect, echo, listener, parse, raw, read_all, says, wait_for};

/// Connections at one time across a change.
const MANY: usize = 1_000;

fn raw_listener(name: &str, port: u16, route: &str) -> Value {
    json!({"name": name, "address": "::1", "port": port, "mode": "tcp_raw", "route": route})
}

fn route(name: &str, backends: &[SocketAddr]) -> Value {
    let backends: Vec<Value> =
        backends.iter().map(|address| json!({"address": address.to_string()})).collect();
    json!({"name": name, "backends": backends})
}

fn exchange(stream: &mut TcpStream, word: &[u8]) -> bool {
    let mut back = vec![0; word.len()];
    stream.write_all(word).is_ok() && stream.read_exact(&mut back).is_ok() && back == word
}

#[test]
fn a_thousand_connections_live_through_changes_and_no_new_one_is_refused() {
    let (ingress, address) = raw(&[echo()]);
    let mut open: Vec<TcpStream> = (0..MANY).map(|_| connect(address)).collect();
    for stream in &mut open {
        assert!(exchange(stream, b"before"));
    }
    ingress.until("/connections/open", MANY as u64);
    let second = echo();
    let (changing, tried) = (AtomicBool::new(true), AtomicU64::new(0));
    let failed = std::thread::scope(|scope| {
        let newcomers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = 0;
                    while changing.load(Relaxed) {
                        failed += usize::from(!exchange(&mut connect(address), b"new"));
                        tried.fetch_add(1, Relaxed);
                    }
                    failed
                })
            })
            .collect();
        for round in 0..20u64 {
            // Another name, other backends, and a listener that comes and goes beside it.
            let name = if round % 2 == 0 { "other" } else { "r" };
            let mut document = ingress.document.clone();
            document["routes"] = json!([route(name, &[second])]);
            document["listeners"][0]["route"] = json!(name);
            let applied = ingress.apply(&document).expect("it is good");
            assert_eq!(applied["generation"], round + 1);
            wait_for("newcomers", || tried.load(Relaxed) > round * 10);
        }
        changing.store(false, Relaxed);
        newcomers.into_iter().map(|one| one.join().expect("no panic")).sum::<usize>()
    });
    assert_eq!(failed, 0, "newcomers of {} were refused", tried.load(Relaxed));
    for stream in &mut open {
        assert!(exchange(stream, b"after"), "a connection was dropped");
        stream.shutdown(Shutdown::Write).expect("open");
        assert_eq!(read_all(stream).expect("an orderly end"), b"");
    }
    ingress.until("/connections/open", 0);
    let status = ingress.status();
    assert_eq!(status["listeners"][0]["counts"]["ended"]["broken"], 0);
    assert_eq!(status["listeners"][0]["counts"]["total"], MANY as u64 + tried.load(Relaxed));
}

/// What a restart with the other configuration does to those who are connected.
#[test]
fn seeded_defect_a_restart_in_place_of_a_change_is_found() {
    let (mut ingress, address) = raw(&[echo()]);
    let mut open = connect(address);
    assert!(exchange(&mut open, b"before"));
    ingress.stop().expect("an orderly stop");
    assert!(!exchange(&mut open, b"after"));
}

#[test]
fn listeners_come_and_go_and_the_others_do_not_notice() {
    let (ingress, first) = raw(&[says(b"one")]);
    let mut staying = connect(first);
    let (taken, second) = listener();
    drop(taken);
    let mut document = ingress.document.clone();
    document["listeners"] =
        json!([raw_listener("raw", first.port(), "r"), raw_listener("b", second.port(), "r")]);
    // Made by the asker, and handed over.
    let applied = ingress.apply(&document).expect("it is good");
    assert_eq!(applied["listeners_added"], json!([second.to_string()]));
    assert_eq!(read_all(&mut connect(second)).expect("an answer"), b"one");
    assert_eq!(read_all(&mut staying).expect("an answer"), b"one");

    document["listeners"] = json!([raw_listener("b", second.port(), "r")]);
    let applied = ingress.apply(&document).expect("it is good");
    assert_eq!(applied["listeners_removed"], json!([first.to_string()]));
    wait_for("the port is free", || TcpStream::connect(first).is_err());
    assert_eq!(read_all(&mut connect(second)).expect("an answer"), b"one");
    // What has the same name counts on.
    assert_eq!(ingress.status()["routes"][0]["counts"]["total"], 3);
    assert_eq!(ingress.status()["listeners"][0]["counts"]["total"], 2);
}

#[test]
fn what_cannot_be_applied_is_refused_and_changes_nothing() {
    let (ingress, address) = raw(&[says(b"one")]);
    let before = ingress.status();
    let mut other = ingress.document.clone();
    other["threads"] = json!(1);
    let error = ingress.apply(&other).expect_err("threads stay");
    assert_eq!(error.category(), Category::Conflict);
    assert!(error.hint().is_some_and(|hint| hint.contains("start it again")));
    let mut many = ingress.document.clone();
    many["connections_max"] = json!(500_000);
    if rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum < Some(1_000_000) {
        let error = ingress.apply(&many).expect_err("too many descriptors");
        assert!(error.to_string().contains("descriptors"), "{error}");
        assert_eq!(error.category(), Category::Usage);
    }
    // A faulty text that nobody checked before it was sent.
    let good = parse(&ingress.document);
    let error = vyr_ingress::apply(&good, b"{\"version\":1}").expect_err("a faulty one");
    assert_eq!(error.category(), Category::Usage);
    let causes = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(causes.contains("control is missing") && causes.contains("routes is missing"));
    // A listener without a descriptor.
    let mut absent = ingress.document.clone();
    absent["listeners"] = json!([raw_listener("raw", 1, "r")]);
    let bytes = serde_json::to_vec(&absent).expect("JSON");
    let error = vyr_ingress::apply(&good, &bytes).expect_err("nobody made it");
    assert_eq!(error.category(), Category::Conflict);
    let mut after = ingress.status();
    after["listeners"] = before["listeners"].clone();
    assert_eq!(after, before);
    assert_eq!(read_all(&mut connect(address)).expect("an answer"), b"one");
}

/// Sends `request` as it is and returns the answer.
fn ask(ingress: &Ingress, request: &[u8]) -> Value {
    let mut stream = UnixStream::connect(ingress.control()).expect("it listens");
    // What is refused early is not read to its end.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    serde_json::from_str(&answer).expect("JSON")
}

#[test]
fn strange_requests_are_refused_and_the_next_is_answered() {
    let (ingress, _) = raw(&[echo()]);
    for request in [
        &b""[..],
        b"\n",
        b"{}\n",
        b"[1,\"status\"]\n",
        b"{\"version\":2,\"ask\":\"status\"}\n",
        b"{\"version\":1,\"ask\":\"stop\"}\n",
        b"{\"version\":1,\"ask\":\"status\"}\nmore",
        b"{\"version\":1,\"ask\":\"status\",\"ask\":\"apply\"}\n",
        &[b' '; 4096],
        &vec![b'\n'; 5 << 20],
    ] {
        let answer = ask(&ingress, request);
        assert_eq!(answer["refused"]["category"], "usage", "{answer}");
        assert_eq!(answer["version"], 1);
    }
    assert_eq!(ask(&ingress, b"{\"version\":1,\"ask\":\"status\"}\n")["status"]["generation"], 0);
}

#[test]
fn one_control_socket_has_one_ingress() {
    let (ingress, _) = raw(&[echo()]);
    let error = vyr_ingress::Prepared::new(parse(&ingress.document), Vec::new());
    assert_eq!(error.expect_err("it is taken").category(), Category::Conflict);
    assert_eq!(ingress.status()["generation"], 0);
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(ingress.control()).expect("it is there").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_handed_over_must_be_a_listener_of_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mine, address) = listener();
    let (stranger, _) = listener();
    let document = json!({
        "version": 1, "control": directory.path().join("c"),
        "listeners": [raw_listener("raw", address.port(), "r")], "routes": [route("r", &[])],
    });
    let prepared = |handed| vyr_ingress::Prepared::new(parse(&document), handed);
    let connected = connect(address);
    for other in [stranger.into(), connected.into()] {
        let mine = mine.try_clone().expect("a descriptor");
        let error = prepared(vec![mine.into(), other]).expect_err("a stranger");
        assert_eq!(error.category(), Category::Usage, "{error}");
    }
    prepared(vec![mine.into()]).expect("it is the one");
}

/// What a client of a host that is gone gets to know, and a client of another host does not.
#[test]
fn connections_to_a_host_that_is_gone_are_cut_and_no_others() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (ingress, address) = raw(&[gone.local_addr().expect("bound"), echo()]);
    // In turn: the first, the second, the first.
    let connected = |says: &[u8]| {
        let client = connect(address);
        let (mut backend, _) = gone.accept().expect("it connects");
        backend.write_all(says).expect("open");
        (client, backend)
    };
    let (mut silent, _silent) = connected(b"half");
    let mut other = connect(address);
    assert!(exchange(&mut other, b"before"));
    silent.read_exact(&mut [0; 4]).expect("it came");
    let (mut ended, backend) = connected(b"whole");
    drop(backend);
    assert_eq!(read_all(&mut ended).expect("an orderly end"), b"whole");

    let cut = |hosts: &[&str]| {
        let hosts: Vec<_> = hosts.iter().map(|host| host.parse().expect("an address")).collect();
        vyr_ingress::cut(&ingress.control(), &hosts).expect("it answers")
    };
    assert_eq!(cut(&["127.0.0.2", "fd00::1"]), 0, "nobody is connected there");
    assert_eq!(cut(&[]), 0);
    // The second one ended in order, and its client could go on writing.
    assert_eq!(cut(&["127.0.0.1"]), 2);
    let end = read_all(&mut silent).expect_err("half an answer is none");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert!(exchange(&mut other, b"after"), "it is connected to another host");
    ingress.until("/connections/open", 1);
    let status = ingress.status();
    assert_eq!(status["listeners"][0]["counts"]["ended"]["broken"], 1);
    assert_eq!(status["listeners"][0]["counts"]["ended"]["done"], 1);
}

#[test]
fn what_is_no_list_of_hosts_cuts_nothing() {
    let (ingress, address) = raw(&[echo()]);
    let mut client = connect(address);
    assert!(exchange(&mut client, b"before"));
    for body in ["", "[", "{}", "[1]", "[\"::1\"] x", "[\"localhost\"]", "[\"[::1]:80\"]"] {
        let request = format!("{{\"version\":1,\"ask\":\"cut\"}}\n{body}");
        let answer = ask(&ingress, request.as_bytes());
        assert_eq!(answer["refused"]["category"], "usage", "{body}: {answer}");
    }
    assert!(exchange(&mut client, b"after"));
}
