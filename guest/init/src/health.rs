//! Health checks: a connection, or the answer to one HTTP request, asked from inside the guest.
//!
//! Who has just begun is asked often, so that nobody waits an interval for what took a moment. That
//! is between the check and the workload: failures are told no more often than once an interval, as
//! they are counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vyr_channel::{Check, Phase, shortened};

use crate::guest::Guest;

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// Between the first checks; each further pause is twice as long, up to the last one.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LAST: Duration = Duration::from_millis(100);

/// Whoever waits is told what is wrong after this, however long the interval is.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Checks until the workload ended; the last result is told.
pub(crate) fn watch(guest: &Arc<Guest>, check: Check) {
    let guest = Arc::clone(guest);
    thread::spawn(move || {
        let interval = Duration::from_millis(check.interval_ms).max(PAUSE_FIRST);
        let mut pace = Pace::new(interval, Instant::now());
        loop {
            let (passed, seen) = match once(&check) {
                Ok(seen) => (true, seen),
                Err(seen) => (false, seen),
            };
            let (is_told, pause) = pace.after(passed, Instant::now());
            let ended = guest.with(|inner| {
                if is_told {
                    inner.health = Some((passed, shortened(&seen)));
                }
                matches!(inner.phase, Phase::Ended(_) | Phase::Failed(_))
            });
            if ended {
                return;
            }
            thread::sleep(pause);
        }
    });
}

/// When it is asked, and what of it is told.
struct Pace {
    interval: Duration,
    /// Until it first passed: the next pause.
    eager: Option<Duration>,
    /// When a failure is told.
    told_from: Instant,
}

impl Pace {
    fn new(interval: Duration, now: Instant) -> Self {
        let told_from = now + interval.min(FIRST_WORD);
        Self { interval, eager: Some(PAUSE_FIRST), told_from }
    }

    /// Whether the result of a check is told, and the pause until the next one.
    fn after(&mut self, passed: bool, now: Instant) -> (bool, Duration) {
        let is_told = passed || now >= self.told_from;
        if is_told {
            self.told_from = now + self.interval;
        }
        self.eager = self.eager.filter(|_| !passed);
        let pause = self.eager.unwrap_or(self.interval).min(self.interval);
        self.eager = self.eager.map(|pause| (pause * 2).min(PAUSE_LAST));
        (is_told, pause)
    }
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

    /// What is told of checks of which the first `failing` fail, up to `end`: when, and what.
    fn told(interval: Duration, failing: Duration, end: Duration) -> Vec<(Duration, bool)> {
        let start = Instant::now();
        let (mut pace, mut at, mut all) = (Pace::new(interval, start), Duration::ZERO, Vec::new());
        while at < end {
            let passed = at >= failing;
            let (is_told, pause) = pace.after(passed, start + at);
            if is_told {
                all.push((at, passed));
            }
            at += pause;
        }
        all
    }

    #[test]
    fn what_begins_is_found_in_a_moment_whatever_the_interval_is() {
        for interval in [Duration::from_secs(1), Duration::from_secs(10)] {
            for ms in [0, 5, 40, 300, 900] {
                let begins = Duration::from_millis(ms);
                let all = told(interval, begins, Duration::from_secs(60));
                let (at, passed) = all[0];
                assert!(passed && at < begins + PAUSE_LAST, "{ms}: {all:?}");
                // From then on the interval is what was asked for.
                let steps = all.windows(2).map(|pair| pair[1].0 - pair[0].0);
                assert!(steps.into_iter().all(|step| step == interval), "{all:?}");
            }
        }
    }

    #[test]
    fn failures_are_told_once_an_interval() {
        let (interval, never) = (Duration::from_secs(10), Duration::MAX);
        let all = told(interval, never, Duration::from_secs(60));
        assert!((FIRST_WORD..FIRST_WORD + PAUSE_LAST).contains(&all[0].0), "{all:?}");
        assert_eq!(all.len(), 6, "{all:?}");
        assert!(all.windows(2).all(|pair| pair[1].0 - pair[0].0 >= interval), "{all:?}");
        // One that passed and fails later is told of each failure at once.
        let start = Instant::now();
        let mut pace = Pace::new(interval, start);
        assert_eq!(pace.after(true, start), (true, interval));
        assert_eq!(pace.after(false, start + interval), (true, interval));
        assert_eq!(pace.after(false, start + 2 * interval), (true, interval));
    }

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
