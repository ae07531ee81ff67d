//! Target of `vyr-ingress`: the client hello, with `rustls` as another reader of it.

use rustls::server::Acceptor;
use vyr_ingress::{HELLO_BYTES_MAX, HelloError, ServerName, Sniffer};

/// The input is what a client sends first.
pub fn client_hello(input: &[u8]) {
    let verdict = whole(input);
    in_pieces(input, &verdict);
    let Some(theirs) = accepted(&input[..input.len().min(HELLO_BYTES_MAX)]) else { return };
    // They took a whole hello out of these bytes, so ours must be the same name.
    match (verdict, theirs) {
        (Ok(Some(ServerName::Host(name))), Some(theirs)) => assert_eq!(name.as_str(), theirs),
        (Ok(Some(ServerName::Absent)), None) => {}
        // They know of a dot at the end; for us exact is exact.
        (Ok(Some(ServerName::NotAHost)), Some(theirs)) => assert!(theirs.ends_with('.')),
        (ours, theirs) => panic!("ours: {ours:?}, rustls: {theirs:?}"),
    }
}

fn whole(input: &[u8]) -> Result<Option<ServerName>, HelloError> {
    let mut sniffer = Sniffer::default();
    let verdict = sniffer.push(input);
    assert_eq!(sniffer.into_bytes(), input, "a byte was lost");
    verdict
}

/// The verdict is the same a byte at a time, and comes within the limit.
fn in_pieces(input: &[u8], whole: &Result<Option<ServerName>, HelloError>) {
    let mut sniffer = Sniffer::default();
    for (index, byte) in input.iter().enumerate() {
        assert!(index < HELLO_BYTES_MAX && sniffer.room() > 0, "it wants more than its limit");
        match sniffer.push(std::slice::from_ref(byte)) {
            Ok(None) => {}
            verdict => {
                assert_eq!(verdict, *whole, "cut otherwise it says something else");
                return;
            }
        }
    }
    assert_eq!(*whole, Ok(None), "a byte at a time it has no end");
}

/// The name that `rustls` finds; `None`: it takes no hello out of these bytes.
fn accepted(input: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    let mut rest = input;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return Some(accepted.client_hello().server_name().map(str::to_owned));
            }
            Err(_) => return None,
        }
    }
    None
}

/// What the corpus begins with: hellos as they may come, and what is none.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let app = hello(&[&server("App.example.org")]);
    let records = |size: usize| -> Vec<u8> {
        let record = |piece: &[u8]| [b"\x16\x03\x03", &two(piece.len())[..], piece].concat();
        app[5..].chunks(size).flat_map(record).collect()
    };
    vec![
        ("no-name", hello(&[])),
        ("address", hello(&[&server("10.0.0.1")])),
        ("dot-at-the-end", hello(&[&server("a.example.")])),
        ("two-names", hello(&[&server("a"), &server("b")])),
        ("other-kind-follows", hello(&[b"\0\0\0\x07\0\x05\0\0\x01a\x09"])),
        ("early-data", [&app[..], b"\x17\x03\x03\0\x02??"].concat()),
        ("cut", app[..40].to_vec()),
        ("records-of-one", records(1)),
        ("records-of-twenty", records(20)),
        ("http", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec()),
        ("name", app),
    ]
}

fn two(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("short").to_be_bytes()
}

/// The extension with this name.
fn server(host: &str) -> Vec<u8> {
    let bytes = host.len();
    let lengths = [&two(bytes + 5)[..], &two(bytes + 3), b"\0", &two(bytes)].concat();
    [b"\0\0", &lengths[..], host.as_bytes()].concat()
}

/// A client hello with these extensions behind what rustls wants of any.
fn hello(extensions: &[&[u8]]) -> Vec<u8> {
    let signature_algorithms: &[u8] = b"\0\x0d\0\x04\0\x02\x04\x03";
    let extensions = [signature_algorithms, &extensions.concat()].concat();
    let mut body = b"\x03\x03".to_vec();
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(b"\0\0\x02\x13\x01\x01\0");
    body.extend_from_slice(&two(extensions.len()));
    body.extend_from_slice(&extensions);
    [b"\x16\x03\x01", &two(body.len() + 4)[..], b"\x01\0", &two(body.len())[..], &body].concat()
}
