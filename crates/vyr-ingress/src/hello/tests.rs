use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName as TlsName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// The first flight of a real client.
fn hello_of(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = TlsName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut flight = Vec::new();
    client.write_tls(&mut flight).expect("memory");
    flight
}

/// The same message in records of at most `size` bytes.
fn in_records(flight: &[u8], size: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in flight[RECORD_HEAD_BYTES..].chunks(size) {
        let length = u16::try_from(piece.len()).expect("short");
        records.extend_from_slice(&[HANDSHAKE, 3, 1]);
        records.extend_from_slice(&length.to_be_bytes());
        records.extend_from_slice(piece);
    }
    records
}

fn whole(bytes: &[u8]) -> Result<Option<ServerName>, HelloError> {
    Sniffer::default().push(bytes)
}

/// Pushes `bytes` in pieces; the verdict, and how much was pushed before it.
fn cut(
    bytes: &[u8],
    sizes: impl IntoIterator<Item = usize>,
) -> Result<Option<ServerName>, HelloError> {
    let mut sniffer = Sniffer::default();
    let mut rest = bytes;
    for size in sizes {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        rest = after;
        match sniffer.push(piece) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    if rest.is_empty() { Ok(None) } else { sniffer.push(rest) }
}

fn host(name: &str) -> Result<Option<ServerName>, HelloError> {
    Ok(Some(ServerName::Host(Hostname::parse(name).expect("a name"))))
}

/// A hello with these extensions and nothing of interest besides.
fn hello_with(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend_from_slice(extensions);
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    let mut flight = vec![HANDSHAKE, 3, 1, 0, 0, CLIENT_HELLO, 0, length[0], length[1]];
    flight.extend_from_slice(&body);
    let record = u16::try_from(flight.len() - RECORD_HEAD_BYTES).expect("short").to_be_bytes();
    flight[3..5].copy_from_slice(&record);
    flight
}

fn name_extension(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend_from_slice(&u16::try_from(name.len()).expect("short").to_be_bytes());
        list.extend_from_slice(name);
    }
    let length = |bytes: usize| u16::try_from(bytes).expect("short").to_be_bytes();
    let mut extension = vec![0, 0];
    extension.extend_from_slice(&length(list.len() + 2));
    extension.extend_from_slice(&length(list.len()));
    extension.extend_from_slice(&list);
    extension
}

#[test]
fn the_name_of_a_real_client_is_read() {
    let flight = hello_of("app.example.org");
    assert_eq!(whole(&flight), host("app.example.org"));
    let mut sniffer = Sniffer::default();
    assert!(matches!(sniffer.push(&flight), Ok(Some(_))));
    assert_eq!(sniffer.into_bytes(), flight);
    assert_eq!(whole(&hello_of("192.0.2.1")), Ok(Some(ServerName::Absent)));
}

#[test]
fn a_byte_at_a_time_says_the_same_and_not_sooner() {
    let flight = hello_of("app.example.org");
    for records in [flight.clone(), in_records(&flight, 1), in_records(&flight, 100)] {
        let mut sniffer = Sniffer::default();
        for byte in &records[..records.len() - 1] {
            assert_eq!(sniffer.push(std::slice::from_ref(byte)), Ok(None));
        }
        assert_eq!(sniffer.push(&records[records.len() - 1..]), host("app.example.org"));
        assert_eq!(sniffer.into_bytes(), records);
    }
}

#[test]
fn what_follows_the_hello_is_kept() {
    let mut flight = hello_of("app.example.org");
    flight.extend_from_slice(b"early data, or whatever");
    let mut sniffer = Sniffer::default();
    assert_eq!(sniffer.push(&flight), host("app.example.org"));
    assert_eq!(sniffer.into_bytes(), flight);
}

#[test]
fn names_are_read_as_the_specification_says() {
    use ServerName::{Absent, NotAHost};
    let name = |names: &[(u8, &[u8])]| whole(&hello_with(&name_extension(names)));
    assert_eq!(name(&[(0, b"A.Example")]), host("a.example"));
    assert_eq!(name(&[(0, b"a.example"), (9, b"?")]), host("a.example"));
    assert_eq!(name(&[(9, b"?"), (0, b"a.example")]), Ok(Some(NotAHost)));
    assert_eq!(name(&[(0, b"10.0.0.1")]), Ok(Some(Absent)));
    assert_eq!(name(&[(0, b"2001:db8::1")]), Ok(Some(Absent)));
    assert_eq!(name(&[(0, b"a.example.")]), Ok(Some(NotAHost)));
    assert_eq!(name(&[(0, b"*.example")]), Ok(Some(NotAHost)));
    assert_eq!(name(&[(0, b"a\0.example")]), Ok(Some(NotAHost)));
    assert_eq!(whole(&hello_with(&[])), Ok(Some(Absent)));
    for names in [&[(0, &b"a"[..]), (0, b"b")][..], &[(0, b"")], &[]] {
        assert!(matches!(name(names), Err(HelloError::NotTls(_))), "{names:?}");
    }
    let twice = [name_extension(&[(0, b"a")]), name_extension(&[(0, b"a")])].concat();
    assert!(matches!(whole(&hello_with(&twice)), Err(HelloError::NotTls(_))));
}

#[test]
fn what_is_no_hello_is_refused_at_its_first_byte() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x",
        b"\x16\x02",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\0\x05\x02",
    ] {
        assert!(matches!(whole(bytes), Err(HelloError::NotTls(_))), "{bytes:?}");
    }
    let mut more = hello_with(&[]);
    // Its record announces a byte after the message.
    more[4] += 1;
    assert!(matches!(whole(&more), Err(HelloError::NotTls(_))));
}

#[test]
fn a_hello_without_an_end_costs_its_limit_and_no_more() {
    assert_eq!(whole(b"\x16\x03\x01\x40\x00\x01\x00\x40\x00"), Err(HelloError::TooLong));
    // Records of one byte: heads count too.
    let flight =
        hello_with(&[0x55, 0x55, 0x0f, 0xa0].iter().copied().chain([0; 4000]).collect::<Vec<u8>>());
    assert_eq!(whole(&flight), Ok(Some(ServerName::Absent)));
    let records = in_records(&flight, 1);
    assert!(records.len() > HELLO_BYTES_MAX);
    assert_eq!(whole(&records), Err(HelloError::TooLong));
    let mut sniffer = Sniffer::default();
    let mut pushed = 0;
    for byte in &records {
        pushed += 1;
        assert!(sniffer.room() > 0);
        if sniffer.push(std::slice::from_ref(byte)).is_err() {
            break;
        }
    }
    assert_eq!(pushed, HELLO_BYTES_MAX);
}

/// The reader that many proxies began with: it looks at the first segment alone.
fn first_segment_only(bytes: &[u8], cut: usize) -> Option<ServerName> {
    whole(&bytes[..cut.min(bytes.len())]).ok().flatten()
}

#[test]
fn seeded_defect_a_reader_of_one_segment_is_found() {
    let flight = hello_of("app.example.org");
    assert_eq!(cut(&flight, [100]), host("app.example.org"));
    assert_eq!(first_segment_only(&flight, 100), None);
}

proptest! {
    #[test]
    fn the_verdict_is_the_same_however_it_is_cut(
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        at in 0usize..300,
        records in 1usize..200,
        sizes in proptest::collection::vec(1usize..80, 0..40),
    ) {
        let mut flight = in_records(&hello_with(&name_extension(&[(0, b"app.example.org")])), records);
        for (index, byte) in noise.iter().enumerate().take(3) {
            let place = (at + index) % flight.len();
            flight[place] ^= byte & 0x11;
        }
        prop_assert_eq!(cut(&flight, sizes), whole(&flight));
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut tls = b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc".to_vec();
        tls.extend_from_slice(&bytes);
        let _ = whole(&tls);
        let _ = whole(&bytes);
    }
}
