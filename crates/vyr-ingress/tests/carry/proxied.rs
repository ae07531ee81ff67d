//! PROXY v2, received by a program that is not ours: HAProxy.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::place::{Ingress, backend, connect, listener, read_all, wait_for};

struct HaProxy(Child);

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy that answers each request with its client's address, as the PROXY header says it;
/// `None`: it is not installed.
fn haproxy(directory: &std::path::Path) -> Option<(HaProxy, SocketAddr)> {
    let (taken, address) = listener();
    drop(taken);
    let file = directory.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n timeout client 60s\n timeout connect 60s\n timeout server 60s\n\
         frontend f\n bind [::1]:{} accept-proxy\n http-request return status 200 content-type \
         text/plain lf-string \"<%[src]|%[src_port]|%[dst]|%[dst_port]>\"\n",
        address.port()
    );
    std::fs::write(&file, text).expect("room");
    let started = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        started => {
            let mut haproxy = HaProxy(started.expect("it starts"));
            wait_for("HAProxy listens", || {
                assert!(haproxy.0.try_wait().expect("a child").is_none(), "HAProxy has ended");
                // Not by listening there, which would keep it from doing so.
                TcpStream::connect(address).is_ok()
            });
            Some((haproxy, address))
        }
    }
}

fn not_run(test: &str) {
    println!("not run: haproxy is not installed");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let file = std::fs::File::options().append(true).create(true).open(log);
        let line = format!("proxied::{test}: haproxy is not installed\n");
        file.expect("the log").write_all(line.as_bytes()).expect("room in the log");
    }
}

fn start(listeners: &[(TcpListener, SocketAddr)], backend: SocketAddr, proxy: bool) -> Ingress {
    let described: Vec<_> = listeners
        .iter()
        .enumerate()
        .map(|(number, (_, address))| {
            json!({"name": format!("l{number}"), "address": address.ip().to_string(),
                   "port": address.port(), "mode": "tcp_raw", "route": "r"})
        })
        .collect();
    let sockets = listeners.iter().map(|(one, _)| one.try_clone().expect("a descriptor"));
    Ingress::start(
        json!(described),
        json!([{"name": "r", "backend_expects_proxy_protocol": proxy,
                "backends": [{"address": backend.to_string()}]}]),
        sockets.collect(),
    )
}

/// A request through `address`; the answer, and the client's own address.
fn request(address: SocketAddr) -> (String, SocketAddr) {
    let mut stream = connect(address);
    let me = stream.local_addr().expect("connected");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("room");
    let answer = read_all(&mut stream).unwrap_or_default();
    (String::from_utf8(answer).expect("text"), me)
}

#[test]
fn haproxy_learns_the_clients_address_over_ipv6_and_ipv4() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some((_haproxy, at)) = haproxy(directory.path()) else {
        return not_run("haproxy_learns_the_clients_address_over_ipv6_and_ipv4");
    };
    let four = TcpListener::bind("127.0.0.1:0").expect("a port");
    let four_address = four.local_addr().expect("bound");
    let listeners = [listener(), (four, four_address)];
    let _ingress = start(&listeners, at, true);
    for (_, address) in &listeners {
        let (answer, me) = request(*address);
        let said = format!("<{}|{}|{}|{}>", me.ip(), me.port(), address.ip(), address.port());
        assert!(answer.contains(&said), "{said} is not in {answer}");
    }
}

/// Without the header the receiver refuses: the test above would see a header that is missing.
#[test]
fn seeded_defect_a_missing_header_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some((_haproxy, at)) = haproxy(directory.path()) else {
        return not_run("seeded_defect_a_missing_header_is_found");
    };
    let listeners = [listener()];
    let _ingress = start(&listeners, at, false);
    assert!(!request(listeners[0].1).0.contains('<'));
}

#[test]
fn the_header_comes_first_and_once() {
    let (told, heard) = std::sync::mpsc::channel();
    let address = backend(move |mut stream| {
        told.send(read_all(&mut stream).expect("an orderly end")).expect("somebody listens");
    });
    let listeners = [listener()];
    let _ingress = start(&listeners, address, true);
    let mut stream = connect(listeners[0].1);
    let me = stream.local_addr().expect("connected");
    stream.write_all(b"word").expect("room");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    let mut said = vyr_ingress::proxy_header(me, listeners[0].1);
    said.extend_from_slice(b"word");
    assert_eq!(heard.recv().expect("it was told"), said);
}
