//! Raw TCP: every byte, both ways, to its end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use serde_json::json;

use crate::place::{
    Ingress, backend, bytes, connect, echo, listener, raw, read_all, says, wait_for,
};

/// Sends `bytes` and reads them back at the same time; whether they are the same.
fn round_trip(address: SocketAddr, sent: &[u8]) -> bool {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(sent).expect("it takes them");
            writer.shutdown(Shutdown::Write).expect("it takes the end");
        });
        read_all(&mut stream).expect("an orderly end") == sent
    })
}

#[test]
fn bytes_of_any_length_come_back_as_they_were() {
    let (ingress, address) = raw(&[echo()]);
    for length in [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 300_000, 5_000_000] {
        assert!(round_trip(address, &bytes(length, 7)), "{length} bytes");
    }
    ingress.until("/listeners/0/counts/open", 0);
    let status = ingress.status();
    let counts = &status["listeners"][0]["counts"];
    assert_eq!(counts["ended"]["done"], 7);
    assert_eq!(counts["bytes_up"], counts["bytes_down"]);
    assert_eq!(counts["bytes_up"], 16 * 1024 * 3 + 1 + 300_000 + 5_000_000);
    assert_eq!(status["routes"][0]["counts"]["total"], 7);
}

/// Whether each half ends for itself through a carrier to a backend, which `carry` makes.
fn halves_end_alone(carry: impl Fn(SocketAddr) -> SocketAddr) -> bool {
    // The backend ends first, and goes on listening.
    let (ended, told) = channel();
    let address = carry(backend(move |mut stream| {
        let _ = stream.write_all(b"first");
        let _ = stream.shutdown(Shutdown::Write);
        let _ = ended.send(read_all(&mut stream).unwrap_or_default());
    }));
    let mut stream = connect(address);
    let late = bytes(400_000, 3);
    let first = read_all(&mut stream).is_ok_and(|answer| answer == b"first");
    let said = stream.write_all(&late).and_then(|()| stream.shutdown(Shutdown::Write));
    let first = first && said.is_ok() && told.recv().expect("it was told") == late;

    // The client ends first, and goes on listening.
    let address = carry(backend(|mut stream| {
        let asked = read_all(&mut stream).unwrap_or_default();
        let _ = stream.write_all(&bytes(700_000, asked.len() as u64));
    }));
    let mut stream = connect(address);
    stream.write_all(b"what?").expect("room");
    stream.shutdown(Shutdown::Write).expect("open");
    first && read_all(&mut stream).is_ok_and(|answer| answer == bytes(700_000, 5))
}

#[test]
fn each_half_ends_for_itself() {
    let mut running = Vec::new();
    let kept = std::sync::Mutex::new(&mut running);
    assert!(halves_end_alone(|backend| {
        let (ingress, address) = raw(&[backend]);
        kept.lock().expect("no panic").push(ingress);
        address
    }));
}

/// A carrier that ends both halves with the first.
fn hasty(backend: SocketAddr) -> SocketAddr {
    crate::place::backend(move |client| {
        let to = TcpStream::connect(backend).expect("it listens");
        let carry = |mut from: TcpStream, mut to: TcpStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        };
        let up = (client.try_clone().expect("one"), to.try_clone().expect("one"));
        std::thread::spawn(move || carry(up.0, up.1));
        carry(to, client);
    })
}

#[test]
fn seeded_defect_a_carrier_that_ends_both_halves_at_once_is_found() {
    assert!(!halves_end_alone(hasty));
}

#[test]
fn a_slow_reader_holds_its_writer_back_and_loses_nothing() {
    const ALL: usize = 64 << 20;
    let (progress, written) = channel();
    let address = backend(move |mut stream| {
        let block = bytes(1 << 20, 9);
        for part in 0..ALL >> 20 {
            stream.write_all(&block).expect("somebody reads");
            progress.send(part).expect("somebody listens");
        }
    });
    let (ingress, address) = raw(&[address]);
    let mut stream = connect(address);
    // Until nothing moves any more: buffers of the kernel and one pipe are full.
    let mut last = u64::MAX;
    let mut same = 0;
    wait_for("it stands still", || {
        let now = ingress.status()["listeners"][0]["counts"]["bytes_down"].as_u64().expect("one");
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same > 2000
    });
    assert!(last < ALL as u64, "nobody was held back");
    let block = bytes(1 << 20, 9);
    let mut come = vec![0; 1 << 20];
    for part in 0..ALL >> 20 {
        stream.read_exact(&mut come).expect("it goes on");
        assert!(come == block, "part {part}");
    }
    assert_eq!(read_all(&mut stream).expect("an orderly end"), b"");
    assert_eq!(written.iter().take(ALL >> 20).last(), Some((ALL >> 20) - 1));
    // Another reader that is slow holds nobody else back.
    let _slow = connect(address);
    assert_eq!(connect(address).read(&mut [0; 1]).expect("bytes"), 1);
}

/// A carrier that takes all there is, and sends it then.
fn greedy(backend: SocketAddr) -> SocketAddr {
    crate::place::backend(move |mut client| {
        let all = read_all(&mut connect(backend)).unwrap_or_default();
        let _ = client.write_all(&all);
    })
}

#[test]
fn seeded_defect_a_carrier_without_back_pressure_is_found() {
    let (progress, written) = channel();
    let address = backend(move |mut stream| {
        let _ = stream.write_all(&bytes(64 << 20, 9));
        let _ = progress.send(());
    });
    let _reads_nothing = connect(greedy(address));
    // Through the ingress this would wait until somebody reads.
    written.recv_timeout(crate::place::DEADLINE).expect("all was taken");
}

/// Whether a client whose backend broke off in the middle sees that it did.
fn sees_the_break(address: SocketAddr) -> bool {
    let mut stream = connect(address);
    stream.write_all(b"go").expect("room");
    read_all(&mut stream).is_err()
}

/// A backend that sends half an answer and breaks off: a reset, since it has not read its client's
/// bytes.
fn breaks_off() -> SocketAddr {
    backend(|mut stream| {
        stream.write_all(b"half an ans").expect("room");
        let mut one = [0; 1];
        stream.read_exact(&mut one).expect("its client's first byte");
    })
}

#[test]
fn a_backend_that_breaks_off_is_no_orderly_end() {
    let (ingress, address) = raw(&[breaks_off()]);
    assert!(sees_the_break(address));
    ingress.until("/routes/0/counts/ended/broken", 1);
    ingress.until("/routes/0/counts/open", 0);
}

/// A carrier that makes an end of whatever ends.
fn careless(backend: SocketAddr) -> SocketAddr {
    crate::place::backend(move |mut client| {
        let mut to = TcpStream::connect(backend).expect("it listens");
        let mut up = (client.try_clone().expect("one"), to.try_clone().expect("one"));
        std::thread::spawn(move || std::io::copy(&mut up.0, &mut up.1));
        let _ = std::io::copy(&mut to, &mut client);
        let _ = client.shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

#[test]
fn seeded_defect_a_truncated_answer_that_looks_whole_is_found() {
    assert!(!sees_the_break(careless(breaks_off())));
}

#[test]
fn what_a_backend_said_before_it_broke_off_arrives() {
    let address = backend(|mut stream| {
        // Its answer, before the question was read: then the rest of the question is refused.
        stream.write_all(b"no").expect("room");
    });
    let (_ingress, address) = raw(&[address]);
    let mut stream = connect(address);
    let question = bytes(3_000_000, 1);
    // It may be refused while it is sent.
    let _ = stream.write_all(&question);
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("the answer");
    assert_eq!(&answer, b"no");
}

/// A port that refuses: bound, so that nobody else gets it, and not listening.
fn closed() -> SocketAddr {
    let (socket, address) = bound();
    std::mem::forget(socket);
    address
}

fn bound() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("a socket");
    let any: SocketAddr = "[::1]:0".parse().expect("an address");
    bind(&socket, &any).expect("a port");
    let address = getsockname(&socket).expect("it is bound");
    (socket, SocketAddr::try_from(address).expect("an address"))
}

#[test]
fn the_next_backend_is_tried_and_turns_go_round() {
    let (ingress, address) = raw(&[closed(), says(b"a"), closed(), says(b"b")]);
    let mut heard: Vec<Vec<u8>> = Vec::new();
    for _ in 0..8 {
        heard.push(read_all(&mut connect(address)).expect("an answer"));
    }
    assert_eq!(heard.iter().filter(|word| *word == b"a").count(), 4);
    assert_eq!(heard.iter().filter(|word| *word == b"b").count(), 4);
    assert_eq!(ingress.status()["routes"][0]["counts"]["refused"]["unreachable"], 0);
}

#[test]
fn a_backend_that_does_not_answer_is_given_up_after_its_time() {
    // A queue of one that is full: the kernel drops what comes.
    let (full, full_address) = bound();
    listen(&full, 0).expect("it listens");
    let _first = TcpStream::connect(full_address).expect("room for one");
    let (taken, address) = listener();
    let directory = tempfile::tempdir().expect("a directory");
    let document = json!({
        "version": 1, "control": directory.path().join("c"), "threads": 1,
        "timeouts": {"connect_ms": 100, "drain_ms": 0},
        "listeners": [{"name": "raw", "address": "::1", "port": address.port(),
                       "mode": "tcp_raw", "route": "r"}],
        "routes": [{"name": "r", "backends": [
            {"address": full_address.to_string()}, {"address": says(b"other").to_string()}]}],
    });
    let _ingress = Ingress::with(directory, document, vec![taken]);
    for _ in 0..4 {
        assert_eq!(read_all(&mut connect(address)).expect("an answer"), b"other");
    }
}

#[test]
fn without_a_backend_a_client_is_refused_and_counted() {
    let (taken, address) = listener();
    let ingress = Ingress::start(
        json!([{"name": "raw", "address": "::1", "port": address.port(), "mode": "tcp_raw",
                "route": "r"}]),
        json!([{"name": "r", "backends": [{"address": echo().to_string(), "ready": false}]}]),
        vec![taken],
    );
    assert!(read_all(&mut connect(address)).is_err());
    ingress.until("/routes/0/counts/refused/no_backend", 1);
    let (ingress, address) = raw(&[closed()]);
    assert!(read_all(&mut connect(address)).is_err());
    ingress.until("/listeners/0/counts/refused/unreachable", 1);
}

#[test]
fn limits_hold_and_are_counted() {
    let (taken, address) = listener();
    let ingress = Ingress::start(
        json!([{"name": "raw", "address": "::1", "port": address.port(), "mode": "tcp_raw",
                "route": "r", "connections_max": 5}]),
        json!([{"name": "r", "backends": [{"address": echo().to_string()}]}]),
        vec![taken],
    );
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(address);
        stream.write_all(b"x").expect("room");
        stream.read_exact(&mut [0]).expect("an echo");
        open.push(stream);
    }
    let mut sixth = connect(address);
    assert!(read_all(&mut sixth).is_ok_and(|all| all.is_empty()) || sixth.read(&mut [0]).is_err());
    ingress.until("/listeners/0/counts/refused/limit", 1);
    drop(open.pop());
    ingress.until("/listeners/0/counts/open", 4);
    assert!(round_trip(address, b"room again"));
}

#[test]
fn an_idle_connection_is_ended_by_a_reset() {
    let (taken, address) = listener();
    let directory = tempfile::tempdir().expect("a directory");
    let document = json!({
        "version": 1, "control": directory.path().join("c"), "threads": 1,
        "timeouts": {"idle_ms": 150, "drain_ms": 0},
        "listeners": [{"name": "raw", "address": "::1", "port": address.port(),
                       "mode": "tcp_raw", "route": "r"}],
        "routes": [{"name": "r", "backends": [{"address": echo().to_string()}]}],
    });
    let ingress = Ingress::with(directory, document, vec![taken]);
    let mut stream = connect(address);
    stream.write_all(b"x").expect("room");
    stream.read_exact(&mut [0]).expect("an echo");
    assert!(read_all(&mut stream).is_err(), "an idle end is no orderly one");
    ingress.until("/routes/0/counts/ended/idle", 1);
}

#[test]
fn drain_waits_for_those_that_are_open() {
    let (taken, address) = listener();
    let directory = tempfile::tempdir().expect("a directory");
    let document = json!({
        "version": 1, "control": directory.path().join("c"), "threads": 2,
        "timeouts": {"drain_ms": 60_000},
        "listeners": [{"name": "raw", "address": "::1", "port": address.port(),
                       "mode": "tcp_raw", "route": "r"}],
        "routes": [{"name": "r", "backends": [{"address": echo().to_string()}]}],
    });
    let mut ingress = Ingress::with(directory, document, vec![taken]);
    let mut stream = connect(address);
    stream.write_all(b"x").expect("room");
    stream.read_exact(&mut [0]).expect("an echo");
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| ingress.stop());
        wait_for("nobody listens", || TcpListener::bind(address).is_ok());
        stream.write_all(b"still").expect("it is open");
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_all(&mut stream).expect("an orderly end"), b"still");
        stopped.join().expect("no panic").expect("an orderly stop");
    });
}
