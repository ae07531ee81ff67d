//! A collector that takes everything and keeps nothing: OTLP over HTTP, as much of it as one client
//! needs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;

/// The longest body that is taken: far above a batch of spans.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// One that listens, on a thread that ends with the process.
#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        thread::Builder::new().name("collector".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // A client that leaves is no error.
                thread::spawn(move || answer(&stream, &counted));
            }
        })?;
        Ok(Self { address, bytes })
    }

    /// What tells a node to export to it.
    pub(super) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".into()),
        ]
    }

    /// Bytes of bodies so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn answer(stream: &TcpStream, counted: &AtomicU64) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.by_ref().take(16 << 10).read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<u64>().map_err(io::Error::other)?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        if length > BODY_BYTES_MAX {
            return Err(io::Error::other("a body that is too long"));
        }
        let taken = io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        counted.fetch_add(taken, Ordering::Relaxed);
        writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_taken_one_after_the_other() {
        let collector = Collector::start().expect("listens");
        let mut stream = TcpStream::connect(collector.address).expect("connects");
        for _ in 0..2 {
            stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").expect("sends");
            let mut answer = String::new();
            let mut reader = BufReader::new(&stream);
            while !answer.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut answer).expect("answers") > 0);
            }
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert_eq!(collector.bytes(), 6);
    }
}
