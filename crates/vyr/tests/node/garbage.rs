//! Bytes that are no calls, on every socket.

use std::io::ErrorKind;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use vyr_api::control::TaskState;

use crate::place::{Place, block, full, in_time, run, submission};
use crate::random::{Random, seed};

/// How an HTTP/2 connection begins (RFC 9113, 3.4), with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A frame: length, type, flags, stream, payload (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field without indexing (RFC 7541, 6.2.2); strings below 127 bytes.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The head of a call.
fn head(path: &str, more: &[u8]) -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "x"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        more.to_vec(),
    ]
    .concat()
}

/// A gRPC message: not compressed, length, bytes.
fn message(length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Says all of it, and that this is all; the node closes the connection.
async fn say(socket: &Path, bytes: &[u8]) {
    let connection = UnixStream::connect(socket).await.expect("the node listens");
    let (mut from, mut to) = connection.into_split();
    // What the node says meanwhile is read, or it could not go on.
    let answer = tokio::spawn(async move {
        // A reset is an end as well.
        let _ = from.read_to_end(&mut Vec::new()).await;
    });
    // It may close before it has read all.
    if let Err(e) = in_time("a node that reads", to.write_all(bytes)).await {
        assert!(matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{e}");
    }
    drop(to);
    in_time("the end of a connection", answer).await.expect("a reader");
}

/// Says all of it, and waits until `word` is in the answer.
async fn is_answered(socket: &Path, bytes: &[u8], word: &str) {
    let mut connection = UnixStream::connect(socket).await.expect("the node listens");
    connection.write_all(bytes).await.expect("the node reads");
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(word) {
        let read = in_time("an answer", connection.read_buf(&mut answer)).await;
        assert_ne!(read.expect("an answer"), 0, "{word:?} is not in {answer:?}");
    }
}

#[test]
fn what_is_no_call_ends_its_connection_and_nothing_else() {
    const SUBMIT: &str = "/vyr.control.v0.Control/SubmitTask";
    const CANCEL: &str = "/vyr.control.v0.Control/CancelTask";
    let call = |path: &str, body: &[u8]| {
        let head = frame(HEADERS, END_HEADERS, 1, &head(path, b""));
        [PREFACE.to_vec(), head, frame(DATA, END_STREAM, 1, body)].concat()
    };
    let huge_field: Vec<u8> =
        (0..4000).flat_map(|n| field(&format!("x-{n}"), &"y".repeat(100))).collect();
    let mut huge_head = frame(HEADERS, 0, 1, &head(SUBMIT, b""));
    for piece in huge_field.chunks(16_000) {
        huge_head.extend(frame(9, 0, 1, piece));
    }
    huge_head.extend(frame(9, END_HEADERS, 1, b""));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/1.1 with a body without end", {
            let head = b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
            [head, vec![b'x'; 1 << 20]].concat()
        }),
        ("HTTP/1.1 with a head without end", [b"GET /".to_vec(), vec![b'a'; 4 << 20]].concat()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 600]].concat()),
        ("zeros", vec![0; 1 << 20]),
        ("half a preface", PREFACE[..20].to_vec()),
        ("a frame larger than may be", {
            let mut large = PREFACE.to_vec();
            large.extend([0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]);
            large.extend(vec![0; 1 << 20]);
            large
        }),
        ("a head that is no header block", {
            [PREFACE.to_vec(), frame(HEADERS, END_HEADERS, 1, &[0xff; 4000])].concat()
        }),
        ("a head of 400 kB", [PREFACE.to_vec(), huge_head].concat()),
        ("a head that never ends", {
            let mut endless = [PREFACE.to_vec(), frame(HEADERS, 0, 1, &head(SUBMIT, b""))].concat();
            (0..20_000).for_each(|_| endless.extend(frame(9, 0, 1, &field("a", "b"))));
            endless
        }),
        ("frames of no known kind", {
            let unknown = (0..10_000).flat_map(|_| frame(0x77, 0, 1, b"?"));
            PREFACE.iter().copied().chain(unknown).collect()
        }),
        ("a stream reset as often as it is opened", {
            let resets = (0..20_000_u32).flat_map(|n| {
                let stream = 2 * n + 1;
                let open = frame(HEADERS, END_HEADERS, stream, &head(SUBMIT, b""));
                [open, frame(3, 0, stream, &[0, 0, 0, 8])].concat()
            });
            PREFACE.iter().copied().chain(resets).collect()
        }),
        ("pings and settings without end", {
            let some = [frame(6, 0, 0, &[7; 8]), frame(4, 0, 0, b"")].concat();
            PREFACE.iter().copied().chain((0..20_000).flat_map(|_| some.clone())).collect()
        }),
        ("a message that is no protobuf", call(CANCEL, &message(8, &[0xff; 8]))),
        ("a message of four gigabytes", call(SUBMIT, &message(u32::MAX, &[10; 4000]))),
        ("a message that breaks off", call(SUBMIT, &message(4000, &[10; 40]))),
        ("a compressed message", call(CANCEL, &[1, 0, 0, 0, 1, 7])),
        (
            "a call that there is not",
            call("/vyr.control.v0.Control/apply_policy", &message(0, b"")),
        ),
        ("a service that there is not", call("/../etc/passwd", &message(0, b""))),
    ];
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let before = daemon.process("api", None).await;
        let mut client = daemon.control().await;
        for socket in [place.control(), place.operator()] {
            for (what, bytes) in &cases {
                say(&socket, bytes).await;
                // A connection of before, and a new one.
                let end = run(&mut client, submission(&hello, b"", "")).await;
                assert_eq!(end.state(), TaskState::Completed, "after {what}");
                daemon.status().await;
            }
        }
        let api = daemon.process("api", None).await;
        assert_eq!(api, before, "it was started again: {}", daemon.log());
        // The judge: the same way of saying a call is understood when it is one.
        let request = [&[10, 71], hello.as_bytes()].concat();
        let good = call(SUBMIT, &message(73, &request));
        is_answered(&place.control(), &good, "t-").await;
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    });
}

#[test]
fn random_changes_of_good_calls_end_their_connection_and_nothing_else() {
    let rounds = if full() { 5_000 } else { 300 };
    let mut random = Random::seeded(seed());
    let place = Place::new();
    let hello = place.put_hello();
    block(async {
        let daemon = place.ready().await;
        let before = daemon.process("api", None).await;
        let request = [&[10, u8::try_from(hello.len()).expect("short")], hello.as_bytes()].concat();
        let length = u32::try_from(request.len()).expect("short");
        let good = [
            PREFACE.to_vec(),
            frame(HEADERS, END_HEADERS, 1, &head("/vyr.control.v0.Control/SubmitTask", b"")),
            frame(DATA, END_STREAM, 1, &message(length, &request)),
        ]
        .concat();
        // The judge: unchanged it is a call.
        is_answered(&place.control(), &good, "t-").await;
        let sockets = [place.control(), place.operator()];
        for round in 0..rounds {
            let mut bad = good.clone();
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(bad.len() as u64)).expect("small");
                match random.below(4) {
                    0 => bad[at] ^= 1 << random.below(8),
                    1 => bad[at] = random.next().to_le_bytes()[0],
                    2 => bad.truncate(at.max(1)),
                    _ => bad.splice(at..at, good.iter().copied().take(at)).for_each(drop),
                }
            }
            say(&sockets[round % 2], &bad).await;
        }
        let end = run(&mut daemon.client().await, submission(&hello, b"", "")).await;
        assert_eq!(end.state(), TaskState::Completed);
        assert_eq!(daemon.process("api", None).await, before, "{}", daemon.log());
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    });
}
