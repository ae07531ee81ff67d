//! Health checks: a connection, or the answer to one HTTP request, asked from inside the guest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vyr_channel::{Check, Phase, shortened};

use crate::guest::Guest;

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// Checks until the workload ended; the last result is told.
pub(crate) fn watch(guest: &Arc<Guest>, check: Check) {
    let guest = Arc::clone(guest);
    thread::spawn(move || {
        loop {
            let (passed, seen) = match once(&check) {
                Ok(seen) => (true, seen),
                Err(seen) => (false, seen),
            };
            let ended = guest.with(|inner| {
                inner.health = Some((passed, shortened(&seen)));
                matches!(inner.phase, Phase::Ended(_) | Phase::Failed(_))
            });
            if ended {
                return;
            }
            thread::sleep(Duration::from_millis(check.interval_ms.max(10)));
        }
    });
}

fn once(check: &Check) -> Result<String, String> {
    let end = Instant::now() + Duration::from_millis(check.timeout_ms.max(1));
    let timeout = Duration::from_millis(check.timeout_ms.max(1));
    let mut stream = TcpStream::connect_timeout(&check.at, timeout).map_err(|e| e.to_string())?;
    let Some(path) = &check.path else { return Ok("it accepts connections".into()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vyr\r\nConnection: close\r\n\r\n",
        host(check.at),
    );
    stream.set_write_timeout(Some(timeout)).map_err(|e| e.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut line = Vec::new();
    while line.len() < STATUS_LINE {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no answer in time".into());
        }
        stream.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
        let mut bytes = [0; STATUS_LINE];
        let room = STATUS_LINE - line.len();
        match stream.read(&mut bytes[..room]) {
            Ok(0) => return Err("it closed the connection".into()),
            Ok(count) => line.extend(&bytes[..count]),
            Err(e) => return Err(e.to_string()),
        }
    }
    judge(&line)
}

fn host(at: SocketAddr) -> String {
    at.to_string()
}

/// `HTTP/1.x` and a code from 200 to 399.
fn judge(line: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(line).into_owned();
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    match code {
        Some(code @ 200..400) => Ok(format!("HTTP {code}")),
        Some(code) => Err(format!("HTTP {code}")),
        None => Err(format!("no HTTP: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_good_codes_pass() {
        assert_eq!(judge(b"HTTP/1.1 204"), Ok("HTTP 204".into()));
        assert_eq!(judge(b"HTTP/1.0 399"), Ok("HTTP 399".into()));
        for bad in ["HTTP/1.1 404", "HTTP/1.1 199", "HTTP/2.0 200", "SSH-2.0-Open"] {
            assert!(judge(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_real_port_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let check = |path: Option<&str>| Check {
            at,
            path: path.map(str::to_owned),
            interval_ms: 1,
            timeout_ms: 60_000,
        };
        assert!(once(&check(None)).is_ok());
        let answers = thread::spawn(move || {
            let _first = listener.accept().expect("the plain check");
            let (mut stream, _) = listener.accept().expect("the second");
            let mut request = [0; 4];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(b"HTTP/1.1 500 no\r\n\r\n").expect("room");
            request
        });
        assert_eq!(once(&check(Some("/healthz"))), Err("HTTP 500".into()));
        assert_eq!(&answers.join().expect("no panic"), b"GET ");
        let refused = once(&check(None));
        assert!(refused.is_err(), "nobody listens any more");
    }
}
