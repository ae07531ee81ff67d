//! TLS passed through: real clients, real servers with their own certificates, one port.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};
use serde_json::{Value, json};

use crate::place::{Ingress, backend, bytes, connect, listener, read_all, says};

/// Certificates of two hosts, each signed by its own key; `None` where openssl is missing.
struct Certificates {
    /// Name, certificate, key.
    hosts: Vec<(&'static str, CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

const NAMES: [&str; 2] = ["app.example.org", "shop.example.org"];

fn certificates() -> Option<&'static Certificates> {
    static MADE: OnceLock<Option<Certificates>> = OnceLock::new();
    MADE.get_or_init(|| {
        let hosts: Option<Vec<_>> = NAMES.into_iter().map(certificate).collect();
        hosts.map(|hosts| Certificates { hosts })
    })
    .as_ref()
}

fn certificate(
    name: &'static str,
) -> Option<(&'static str, CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let directory = tempfile::tempdir().expect("a directory");
    let (key, cert) = (directory.path().join("key"), directory.path().join("cert"));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let made = Command::new("openssl")
        .args(words.split(' '))
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        made => {
            assert!(made.expect("it starts").success(), "openssl makes no certificate");
            let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
            Some((name, cert, PrivateKeyDer::from_pem_file(key).expect("a key")))
        }
    }
}

/// Says that a test is not run, and why, where `cargo xtask ci` looks for it.
fn not_run(test: &str, reason: &str) {
    println!("not run: {reason}");
    if let Some(log) = std::env::var_os("VYR_NOT_RUN_LOG") {
        let file = std::fs::File::options().append(true).create(true).open(log);
        // One write, so that lines of tests at once do not mix.
        let line = format!("tls::{test}: {reason}\n");
        file.expect("the log").write_all(line.as_bytes()).expect("room in the log");
    }
}

/// A TLS server of this host that says its name and sends back what it gets.
fn server(host: usize) -> SocketAddr {
    let certificates = certificates().expect("they were asked for");
    let (name, cert, key) = &certificates.hosts[host];
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key.clone_key())
        .expect("a certificate and its key");
    let config = Arc::new(config);
    backend(move |mut socket| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).expect("a server");
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).expect("what was announced");
        stream.write_all(name.as_bytes()).expect("somebody reads");
        stream.write_all(&body).expect("somebody reads");
        tls.send_close_notify();
        let _ = tls.complete_io(&mut socket);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    })
}

fn client(host: usize) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let certificates = certificates().expect("they were asked for");
    let (name, cert, _) = &certificates.hosts[host];
    roots.add(cert.clone()).expect("a certificate");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(*name).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// Talks to `host` behind `address`, which must show that host's certificate.
fn talk(address: SocketAddr, host: usize, body: &[u8]) {
    let (mut tls, mut socket) = (client(host), connect(address));
    let mut stream = Stream::new(&mut tls, &mut socket);
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    stream.write_all(&length).expect("a handshake with the right host");
    stream.write_all(body).expect("somebody reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end that was announced");
    assert!(answer == [NAMES[host].as_bytes(), body].concat(), "another answer");
}

fn tls_listener(port: u16, routes: &[&str]) -> Value {
    json!({"name": "tls", "address": "::1", "port": port, "mode": "tls_passthrough",
           "routes": routes})
}

fn route(name: &str, hostname: &str, backend: SocketAddr) -> Value {
    json!({"name": name, "hostnames": [hostname], "backends": [{"address": backend.to_string()}]})
}

/// One port, two hosts.
fn two_hosts() -> (Ingress, SocketAddr) {
    let (taken, address) = listener();
    let ingress = Ingress::start(
        json!([tls_listener(address.port(), &["app", "shop"])]),
        json!([route("app", NAMES[0], server(0)), route("shop", NAMES[1], server(1))]),
        vec![taken],
    );
    (ingress, address)
}

#[test]
fn two_hosts_share_a_port_and_keep_their_certificates() {
    if certificates().is_none() {
        return not_run(
            "two_hosts_share_a_port_and_keep_their_certificates",
            "openssl is not installed",
        );
    }
    let (ingress, address) = two_hosts();
    for length in [0, 10, 100_000, 3_000_000] {
        talk(address, 0, &bytes(length, 1));
        talk(address, 1, &bytes(length, 2));
    }
    ingress.until("/routes/0/counts/ended/done", 4);
    ingress.until("/routes/1/counts/ended/done", 4);
}

#[test]
fn a_hello_may_come_a_byte_at_a_time() {
    if certificates().is_none() {
        return not_run("a_hello_may_come_a_byte_at_a_time", "openssl is not installed");
    }
    let (_ingress, address) = two_hosts();
    let (mut tls, mut socket) = (client(1), connect(address));
    socket.set_nodelay(true).expect("a TCP socket");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("memory");
    for byte in hello {
        socket.write_all(&[byte]).expect("it is read");
    }
    let mut stream = Stream::new(&mut tls, &mut socket);
    stream.write_all(&3u32.to_be_bytes()).expect("a handshake with the right host");
    stream.write_all(b"yes").expect("somebody reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer, b"shop.example.orgyes");
}

/// The hello of a client that asks for `name`, or for nobody.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut flight = Vec::new();
    client.write_tls(&mut flight).expect("memory");
    flight
}

/// What a client that begins with `bytes` gets.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(address);
    stream.write_all(bytes)?;
    read_all(&mut stream)
}

#[test]
fn who_names_no_host_of_ours_is_refused_unless_there_is_a_default() {
    let (taken, address) = listener();
    let ingress = Ingress::start(
        json!([tls_listener(address.port(), &["app"])]),
        json!([route("app", NAMES[0], says(b"app")), route("rest", "x", says(b"rest"))]),
        vec![taken],
    );
    assert_eq!(answer_to(address, &hello(NAMES[0])).expect("an answer"), b"app");
    // A route is reached only through a listener that names it.
    let refused = |bytes: &[u8], why: &str| {
        assert!(answer_to(address, bytes).is_err(), "{why}");
        ingress.until(&format!("/listeners/0/counts/refused/{why}"), 1);
    };
    refused(&hello("x"), "unknown_name");
    refused(&hello("192.0.2.1"), "no_name");
    refused(b"GET / HTTP/1.1\r\n\r\n", "not_tls");
    refused(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", "hello_too_long");

    let mut document = ingress.document.clone();
    document["listeners"][0]["default_route"] = json!("rest");
    ingress.apply(&document).expect("it is good");
    assert_eq!(answer_to(address, &hello("x")).expect("an answer"), b"rest");
    assert_eq!(answer_to(address, &hello("192.0.2.1")).expect("an answer"), b"rest");
    assert_eq!(answer_to(address, &hello("app.example.org")).expect("an answer"), b"app");
    assert!(answer_to(address, b"GET / HTTP/1.1\r\n\r\n").is_err());
}

#[test]
fn a_hello_has_its_time() {
    let (taken, address) = listener();
    let directory = tempfile::tempdir().expect("a directory");
    let document = json!({
        "version": 1, "control": directory.path().join("c"), "threads": 1,
        "timeouts": {"hello_ms": 100, "drain_ms": 0},
        "listeners": [tls_listener(address.port(), &["app"])],
        "routes": [route("app", NAMES[0], says(b"app"))],
    });
    let ingress = Ingress::with(directory, document, vec![taken]);
    let hello = hello(NAMES[0]);
    assert!(answer_to(address, &hello[..hello.len() - 1]).is_err());
    assert!(answer_to(address, b"").is_err());
    ingress.until("/listeners/0/counts/refused/hello_late", 2);
    let mut early: TcpStream = connect(address);
    early.write_all(&hello[..9]).expect("room");
    early.shutdown(Shutdown::Write).expect("open");
    assert!(read_all(&mut early).is_err());
    ingress.until("/listeners/0/counts/refused/closed_early", 1);
}

#[test]
fn the_backend_gets_the_hello_and_what_follows_exactly() {
    let (told, heard) = std::sync::mpsc::channel();
    let address = backend(move |mut stream| {
        told.send(read_all(&mut stream).expect("an orderly end")).expect("somebody listens");
    });
    let (taken, at) = listener();
    let _ingress = Ingress::start(
        json!([tls_listener(at.port(), &["app"])]),
        json!([route("app", NAMES[0], address)]),
        vec![taken],
    );
    for follows in [0, 1, 20_000, 500_000] {
        let sent = [hello(NAMES[0]), bytes(follows, 5)].concat();
        let mut stream = connect(at);
        stream.write_all(&sent).expect("room");
        stream.shutdown(Shutdown::Write).expect("open");
        assert!(heard.recv().expect("it was told") == sent, "{follows} bytes follow");
    }
}
