//! A guest that lies: the host's end of the channel against bytes made here.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use vyr_base::{Category, Problem};
use vyr_vm::channel::words::{
    Decoder, End, ExecState, Frame, GuestMessage, HOST_FRAME_MAX, HostMessage, LOG_STREAM,
    LogRecord, LogSource, Nonce, Part, Phase, State, VERSION, WINDOW, WORDS_MAX, data_payload,
    decode_host, encode, exec_stream, frame,
};
use vyr_vm::channel::{Channel, ChannelError};

const HANG: Duration = Duration::from_secs(120);

/// A socket, and a guest behind it that does this once it was greeted.
fn guest(
    live: impl FnOnce(&mut UnixStream, Nonce) + Send + 'static,
) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("room");
    let path = directory.path().join("channel");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a host");
        let mut decoder = Decoder::new(HOST_FRAME_MAX);
        let mut bytes = [0; 4096];
        let nonce = loop {
            let count = stream.read(&mut bytes).expect("a greeting");
            assert!(count > 0, "the host went before it said hello");
            decoder.feed(&bytes[..count]);
            if let Some(Frame::Control(payload)) = decoder.next().expect("the host speaks well") {
                match decode_host(&payload).expect("the host speaks well") {
                    HostMessage::Hello { version: VERSION, nonce } => break nonce,
                    other => panic!("{other:?}"),
                }
            }
        };
        live(&mut stream, nonce);
    });
    (directory, path)
}

fn welcome(nonce: Nonce, version: u16) -> Vec<u8> {
    let state = State { phase: Phase::Running, execs: Vec::new(), kernel: "6".into() };
    let message = GuestMessage::Welcome { version, nonce, state };
    [&nonce.0[..], &frame(&encode(&message))].concat()
}

/// What the host says to a guest that greets well and then sends this.
fn after(bytes: Vec<u8>) -> ChannelError {
    let (_directory, path) = guest(move |stream, nonce| {
        // The host may be gone in the midst of it.
        let _ = stream.write_all(&welcome(nonce, VERSION));
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0]);
    });
    let channel = match Channel::connect(&path, None, true, HANG) {
        Ok(channel) => channel,
        Err(error) => return error,
    };
    channel.wait_phase(HANG, |_| None::<()>).expect_err("it never comes")
}

fn data(stream: u16, offset: u64, bytes: &[u8]) -> Vec<u8> {
    frame(&Frame::Data(stream, data_payload(offset, false, bytes)))
}

#[test]
fn a_guest_of_another_version_is_told_apart() {
    let (_directory, path) = guest(|stream, nonce| {
        let _ = stream.write_all(&welcome(nonce, VERSION + 1));
        let _ = stream.read(&mut [0]);
    });
    let error = Channel::connect(&path, None, true, HANG).expect_err("another version");
    assert_eq!(
        error.to_string(),
        "the guest speaks version 2 of the channel, and this host version 1"
    );
    assert_eq!(error.category(), Category::Conflict);
    assert!(error.hint().is_some());
}

#[test]
fn a_socket_of_another_process_is_not_spoken_to() {
    let directory = tempfile::tempdir().expect("room");
    let socket = directory.path().join("channel");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let this = std::process::id();
    let error = Channel::connect(&socket, Some(this + 1), true, HANG).expect_err("a stranger");
    assert_eq!(error.category(), Category::Auth, "{error}");
    // The twin.
    let (_directory, path) = guest(|stream, nonce| {
        stream.write_all(&welcome(nonce, VERSION)).expect("the host reads");
    });
    Channel::connect(&path, Some(this), true, HANG).expect("our own");
}

#[test]
fn a_guest_that_breaks_a_bound_is_cut_off_with_the_reason() {
    let window = vec![0; WINDOW];
    let pieces = |more: usize| -> Vec<u8> {
        let chunks = window.chunks(16 << 10).enumerate();
        let mut all: Vec<u8> = chunks
            .flat_map(|(n, piece)| data(LOG_STREAM, (n * (16 << 10)) as u64, piece))
            .collect();
        all.extend(data(LOG_STREAM, WINDOW as u64, &window[..more]));
        all
    };
    for (bytes, why) in [
        (pieces(1), "the guest broke the channel: stream 0 carries more than its window"),
        (data(999, 0, b"x"), "the guest broke the channel: there is no stream 999"),
        (vec![9], "the guest broke the channel: 9 is no kind of frame"),
        (
            vec![1, 0, 0, 0xff, 0, 0, 0],
            "the guest broke the channel: a frame of 4278190080 bytes, and at most 20480 are taken",
        ),
        (
            frame(&Frame::Control(vec![77])),
            "the guest broke the channel: 1 bytes that are no message of this version",
        ),
        (
            frame(&encode(&GuestMessage::Ack(LOG_STREAM, 1))),
            "the guest broke the channel: there is no stream 0",
        ),
        (
            welcome(Nonce([1; 16]), VERSION)[16..].to_vec(),
            "the guest broke the channel: it answers what was not asked",
        ),
    ] {
        let error = after(bytes);
        assert_eq!(error.to_string(), why);
        assert_eq!(error.category(), Category::Failure, "{why}");
    }
    // The twin: a whole window is no violation, and the guest going away is told as that.
    let (_directory, path) = guest({
        let bytes = pieces(0);
        move |stream, nonce| {
            stream.write_all(&welcome(nonce, VERSION)).expect("the host reads");
            stream.write_all(&bytes).expect("the host reads");
        }
    });
    let channel = Channel::connect(&path, None, true, HANG).expect("well done");
    let error = channel.wait_phase(HANG, |_| None::<()>).expect_err("it is gone");
    assert!(matches!(error, ChannelError::Closed), "{error}");
}

#[test]
fn a_flood_of_messages_is_heard_and_not_kept() {
    let (_directory, path) = guest(|stream, nonce| {
        stream.write_all(&welcome(nonce, VERSION)).expect("the host reads");
        let seen = "x".repeat(4 * WORDS_MAX);
        let health = frame(&encode(&GuestMessage::Health { passed: false, seen }));
        let exec = frame(&encode(&GuestMessage::Exec(ExecState { id: 3, ended: None, stdin: 0 })));
        let stray = data(exec_stream(3, Part::Stdout), 5, b"of no session");
        for _ in 0..20_000 {
            for bytes in [&health, &exec, &stray] {
                stream.write_all(bytes).expect("the host reads");
            }
        }
        let end = End { code: Some(1), signal: None, oom_killed: false };
        stream.write_all(&frame(&encode(&GuestMessage::Phase(Phase::Ended(end))))).expect("room");
        let _ = stream.read(&mut [0]);
    });
    let channel = Channel::connect(&path, None, true, HANG).expect("well done");
    let ended = |phase: &Phase| matches!(phase, Phase::Ended(_)).then_some(());
    channel.wait_phase(HANG, ended).expect("control comes through");
    let (passed, seen) = channel.health().expect("a result");
    assert!(!passed && seen.len() <= WORDS_MAX, "{} bytes", seen.len());
    assert!(channel.sessions().is_empty());
}

#[test]
fn what_an_earlier_host_left_is_skipped() {
    let (_directory, path) = guest(|stream, nonce| {
        // The end of a frame, and one that was cut.
        stream.write_all(&[1, 2, 3, 9, 200, 0, 0]).expect("the host reads");
        stream.write_all(&data(LOG_STREAM, 7, b"half")[..9]).expect("the host reads");
        stream.write_all(&welcome(nonce, VERSION)).expect("the host reads");
        let line = LogRecord {
            source: LogSource::Stdout,
            time_ns: 1,
            line: b"again".to_vec(),
            cut: false,
        };
        stream.write_all(&data(LOG_STREAM, 70, &line.encode())).expect("the host reads");
        let _ = stream.read(&mut [0]);
    });
    let channel = Channel::connect(&path, None, false, HANG).expect("found");
    let records = channel.read_log(HANG).expect("a log");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].line, b"again");
}

#[test]
fn only_whole_lines_are_acknowledged() {
    let (telling, told) = std::sync::mpsc::channel();
    let line = |text: &str| {
        let (source, line) = (LogSource::Stderr, text.as_bytes().to_vec());
        LogRecord { source, time_ns: 1, line, cut: false }.encode()
    };
    let (first, second) = (line("first"), line("second"));
    let whole = first.len() as u64;
    let (_directory, path) = guest(move |stream, nonce| {
        stream.write_all(&welcome(nonce, VERSION)).expect("the host reads");
        let bytes = [&first[..], &second[..7]].concat();
        stream.write_all(&data(LOG_STREAM, 0, &bytes)).expect("the host reads");
        let mut decoder = Decoder::new(HOST_FRAME_MAX);
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).expect("an acknowledgement");
        decoder.feed(&bytes[..count]);
        if let Ok(Some(Frame::Control(payload))) = decoder.next() {
            telling.send(decode_host(&payload).expect("the host speaks well")).expect("room");
        }
        let _ = stream.read(&mut [0]);
    });
    let channel = Channel::connect(&path, None, true, HANG).expect("well done");
    assert_eq!(channel.read_log(HANG).expect("a log").len(), 1);
    // The next host is told the second line from its beginning.
    let acknowledged = told.recv_timeout(HANG).expect("an acknowledgement");
    assert_eq!(acknowledged, HostMessage::Ack(LOG_STREAM, whole));
}
