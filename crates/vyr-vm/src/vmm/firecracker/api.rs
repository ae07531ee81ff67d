//! Firecracker's own interface: HTTP/1.1 over a UNIX socket, one question after the other.
//!
//! An answer is bounded in bytes and in time, and nothing of it is believed but whether it is one.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::VmmError;

/// Bytes of an answer, head and body.
const ANSWER_MAX: usize = 64 << 10;

/// Lines of an answer's head; Firecracker sends four.
const HEADERS_MAX: usize = 32;

/// Bytes of a reason that are told.
const WHY_MAX: usize = 500;

/// Loading and storing a guest is one question, on a busy disk too.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Api {
    stream: UnixStream,
}

impl Api {
    pub(super) fn over(stream: UnixStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream })
    }

    /// One question; it is done once this returns.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<(), VmmError> {
        let command = || format!("{method} {path}");
        let gone = |e: io::Error| VmmError::Gone { command: command(), why: e.to_string() };
        let body = body.to_string();
        let question = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(question.as_bytes()).map_err(gone)?;
        let (code, body) = self.answer().map_err(gone)?;
        if (200..=299).contains(&code) {
            return Ok(());
        }
        let why = fault(&body).unwrap_or_else(|| format!("it answers with {code}"));
        let why = why.chars().filter(|c| !c.is_control()).take(WHY_MAX).collect();
        Err(VmmError::Interface { command: command(), why })
    }

    /// The code and the body.
    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let end = Instant::now() + TIMEOUT;
        let (mut held, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            if let Some((code, head, body)) = head(&held)? {
                let whole = head.saturating_add(body);
                if whole > ANSWER_MAX {
                    return Err(io::Error::other("its answer is too long"));
                }
                if held.len() > whole {
                    return Err(io::Error::other("it answers what was not asked"));
                }
                if held.len() == whole {
                    return Ok((code, held.split_off(head)));
                }
            }
            if held.len() > ANSWER_MAX {
                return Err(io::Error::other("its answer is too long"));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::other("it ended")),
                Ok(count) => held.extend(&bytes[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Of a head that is there as a whole: the code, its length, and that of the body.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let wrong = |why: &str| io::Error::other(format!("its answer is no HTTP: {why}"));
    let parsed = response.parse(bytes).map_err(|e| wrong(&e.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let code = response.code.ok_or_else(|| wrong("no code"))?;
    let mut body = 0;
    for header in response.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            let size = text.and_then(|text| text.trim().parse().ok());
            body = size.ok_or_else(|| wrong("no length"))?;
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(wrong("an encoding that nobody asked for"));
        }
    }
    Ok(Some((code, length, body)))
}

fn fault(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("fault_message")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of bytes that the other end sends, in these pieces, and then ends.
    fn answered(pieces: &'static [&'static str]) -> Result<(), String> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let other = std::thread::spawn(move || {
            for piece in pieces {
                (&theirs).write_all(piece.as_bytes()).expect("room");
            }
            // The question is still there: an end with bytes unread would be a reset.
            theirs.shutdown(std::net::Shutdown::Write).expect("a socket");
            let _ = (&theirs).read_to_end(&mut Vec::new());
        });
        let mut api = Api::over(ours).expect("a socket");
        let result = api.ask("PUT", "/x", &serde_json::json!({})).map_err(|e| e.to_string());
        drop(api);
        other.join().expect("no panic");
        result
    }

    #[test]
    fn a_fault_is_told_in_its_words_and_without_controls() {
        let done = &["HTTP/1.1 204 \r\nServer: F\r\n", "Connection: keep-alive\r\n\r\n"];
        assert_eq!(answered(done), Ok(()));
        let fault = &[
            "HTTP/1.1 400 \r\nContent-Length: 35\r\n\r\n{\"fault_message\":",
            "\"no\\u001b[2J way\"}",
        ];
        assert_eq!(answered(fault), Err("the VMM does not do PUT /x: no[2J way".into()));
        let silent = &["HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\n{}"];
        assert_eq!(answered(silent), Err("the VMM does not do PUT /x: it answers with 500".into()));
    }

    #[test]
    fn what_is_no_bounded_answer_is_refused() {
        for (pieces, why) in [
            (&["HTTP/1.1 204 \r\n"][..], "it ended"),
            (&["SSH-2.0-x\r\n\r\n"], "no HTTP"),
            (&["HTTP/1.1 204 \r\n\r\nmore"], "not asked"),
            (&["HTTP/1.1 200 \r\nContent-Length: 70000\r\n\r\n"], "too long"),
            (&["HTTP/1.1 200 \r\nContent-Length: -1\r\n\r\n"], "no length"),
            (&["HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"], "encoding"),
        ] {
            let said = answered(pieces).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_head_without_an_end_is_bounded() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let other = std::thread::spawn(move || {
            let _ = (&theirs).write_all(b"HTTP/1.1 200 \r\nX: ");
            while (&theirs).write_all(&[b'x'; 4096]).is_ok() {}
        });
        let mut api = Api::over(ours).expect("a socket");
        let error = api.ask("PUT", "/x", &serde_json::json!({})).expect_err("no end");
        assert!(error.to_string().contains("too long"), "{error}");
        drop(api);
        other.join().expect("no panic");
    }
}
