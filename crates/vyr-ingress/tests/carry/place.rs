//! An ingress of a test, its backends and its clients, all on loopback and with ports of the kernel's
//! choice.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use serde_json::{Value, json};
use vyr_ingress::{Config, ControlError, Prepared, ServeError};

/// Longer than anything here takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A running ingress; it is stopped and joined when it is dropped.
pub(crate) struct Ingress {
    pub(crate) document: Value,
    directory: tempfile::TempDir,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

/// A listener that nobody accepts from yet.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

impl Ingress {
    /// Starts one for listeners and routes; each listener of `sockets` gets a port.
    pub(crate) fn start(listeners: Value, routes: Value, sockets: Vec<TcpListener>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let document = json!({
            "version": 1, "control": directory.path().join("c"), "threads": 2,
            "connections_max": 3000, "timeouts": {"drain_ms": 0, "hello_ms": 20_000},
            "listeners": listeners, "routes": routes,
        });
        Self::with(directory, document, sockets)
    }

    pub(crate) fn with(
        directory: tempfile::TempDir,
        document: Value,
        sockets: Vec<TcpListener>,
    ) -> Self {
        let config = parse(&document);
        let handed = sockets.into_iter().map(OwnedFd::from).collect();
        let prepared = Prepared::new(config, handed).expect("it can be prepared");
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor"));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || prepared.serve(&until));
        Self { document, directory, stop, thread: Some(thread) }
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.directory.path().join("c")
    }

    pub(crate) fn status(&self) -> Value {
        vyr_ingress::status(&self.control()).expect("it answers")
    }

    /// Applies `document` and returns what it says.
    pub(crate) fn apply(&self, document: &Value) -> Result<Value, ControlError> {
        let bytes = serde_json::to_vec(document).expect("JSON");
        vyr_ingress::apply(&parse(document), &bytes)
    }

    /// Waits until the counter at `pointer` of the status is `value`.
    pub(crate) fn until(&self, pointer: &str, value: u64) {
        let mut last = Value::Null;
        wait_for(&format!("{pointer} is {value}"), || {
            last = self.status();
            last.pointer(pointer).and_then(Value::as_u64) == Some(value)
        });
    }

    pub(crate) fn stop(&mut self) -> Result<(), ServeError> {
        rustix::io::write(&*self.stop, &1u64.to_ne_bytes()).expect("it can be told");
        self.thread.take().expect("it runs").join().expect("it does not panic")
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let ended = self.stop();
            if !std::thread::panicking() {
                ended.expect("it ended in order");
            }
        }
    }
}

pub(crate) fn parse(document: &Value) -> Config {
    let bytes = serde_json::to_vec(document).expect("JSON");
    Config::parse("test", &bytes).expect("a configuration")
}

/// Asks until it is so, and fails after the deadline.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// A raw listener with one route to these backends; the ingress and its address.
pub(crate) fn raw(backends: &[SocketAddr]) -> (Ingress, SocketAddr) {
    let (socket, address) = listener();
    let backends: Vec<Value> =
        backends.iter().map(|address| json!({"address": address.to_string()})).collect();
    let ingress = Ingress::start(
        json!([{"name": "raw", "address": "::1", "port": address.port(), "mode": "tcp_raw",
                "route": "r"}]),
        json!([{"name": "r", "backends": backends}]),
        vec![socket],
    );
    (ingress, address)
}

/// A backend: each connection is served by `serve` in a thread of its own, until the process ends.
pub(crate) fn backend(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let (listener, address) = listener();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A backend that sends back what it gets, and ends when its client does.
pub(crate) fn echo() -> SocketAddr {
    backend(|stream| {
        let mut to = stream.try_clone().expect("a descriptor");
        let mut from = stream;
        let mut buffer = [0; 16 * 1024];
        while let Ok(came) = from.read(&mut buffer) {
            if came == 0 || to.write_all(&buffer[..came]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    })
}

/// A backend that says `word` and ends.
pub(crate) fn says(word: &'static [u8]) -> SocketAddr {
    backend(move |mut stream| {
        let _ = stream.write_all(word);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = io::copy(&mut stream, &mut io::sink());
    })
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    stream.set_write_timeout(Some(DEADLINE)).expect("a time");
    stream
}

/// Everything until the end.
pub(crate) fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

/// Bytes that are nowhere the same, so that one that is lost, moved or doubled is seen.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}
