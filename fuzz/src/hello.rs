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
