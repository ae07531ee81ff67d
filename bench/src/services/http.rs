//! One request on a connection of its own, as a client without patience makes it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Every answer is this one.
pub(super) const BODY: &str = "served\n";

/// Bytes of an answer, its head included.
const ANSWER_MAX: u64 = 64 << 10;

/// Who waits for a server connects again after this: a packet that came before the server's card was
/// there would be sent again only after a second.
const CONNECT: Duration = Duration::from_millis(50);
/// An answer that has begun comes.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks once; why there was no good answer, in a word.
pub(super) fn get(at: SocketAddr, connect: Duration, answer: Duration) -> Result<(), String> {
    let words = |what: &'static str| move |e: std::io::Error| format!("{what}: {}", e.kind());
    let end = Instant::now() + answer;
    let mut stream = TcpStream::connect_timeout(&at, connect).map_err(words("connect"))?;
    stream.set_write_timeout(Some(answer)).map_err(words("write"))?;
    let request = format!("GET / HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(words("write"))?;
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no whole answer in time".into());
        }
        stream.set_read_timeout(Some(left)).map_err(words("read"))?;
        match stream.read(&mut bytes).map_err(words("read"))? {
            0 => break,
            count => text.extend_from_slice(&bytes[..count]),
        }
        if text.len() as u64 > ANSWER_MAX {
            return Err("a long answer".into());
        }
    }
    let good = text.starts_with(b"HTTP/1.") && text.get(9..12) == Some(b"200");
    match good && text.ends_with(BODY.as_bytes()) {
        true => Ok(()),
        false if text.is_empty() => Err("closed without an answer".into()),
        false => Err("another answer".into()),
    }
}

/// Asks until there is an answer; when it was there.
pub(super) fn until_answered(at: SocketAddr, patience: Duration) -> Result<Instant> {
    let end = Instant::now() + patience;
    loop {
        let why = match get(at, CONNECT, ANSWER) {
            Ok(()) => return Ok(Instant::now()),
            Err(why) => why,
        };
        if Instant::now() > end {
            bail!("{at} does not answer: {why}");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, TcpListener};

    /// A server that gives these answers in turn.
    fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
        let at = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        at
    }

    #[test]
    fn only_the_whole_good_answer_is_one() {
        let at = server(&[
            "HTTP/1.0 200 OK\r\n\r\nserved\n",
            "HTTP/1.0 503 no\r\n\r\nserved\n",
            "HTTP/1.0 200 OK\r\n\r\nserv",
            "",
        ]);
        let ask = || get(at, ANSWER, ANSWER);
        assert_eq!(ask(), Ok(()));
        assert_eq!(ask(), Err("another answer".into()));
        assert_eq!(ask(), Err("another answer".into()));
        assert_eq!(ask(), Err("closed without an answer".into()));
    }

    #[test]
    fn who_waits_asks_again_until_there_is_one() {
        let at = server(&["", "HTTP/1.0 404 no\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nserved\n"]);
        assert!(until_answered(at, ANSWER).is_ok());
        let nobody = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
        let at = nobody.local_addr().expect("an address");
        drop(nobody);
        let error = until_answered(at, Duration::ZERO).expect_err("nobody is there");
        assert!(error.to_string().contains("connect"), "{error}");
    }
}
