//! The host's way to a port of the guest's vsock: a line that asks for it, a line that says yes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::place::{VSOCK, connect};
use crate::channel::{Channel, ChannelError};

/// Where a guest would listen.
const PORT: u32 = 1024;

/// Bytes of `OK PORT` and its end.
const LINE_MAX: usize = 32;

/// A channel over the vsock of the VMM `pid`, whose root directory is `root`.
pub(super) fn channel(
    root: &Path,
    pid: u32,
    first: bool,
    time: Duration,
) -> Result<Channel, ChannelError> {
    let end = Instant::now() + time;
    let path = root.join(VSOCK);
    let wrong = |source: io::Error| match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ChannelError::TimedOut("the guest's answer")
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ChannelError::Closed,
        _ => ChannelError::Connect { path: path.clone(), source },
    };
    let stream = connect(root, VSOCK, pid).map_err(wrong)?;
    ask(&stream, end).map_err(wrong)?;
    let left = end.saturating_duration_since(Instant::now());
    Channel::over(stream, &path, Some(pid), first, left)
}

/// The bytes after the line are the guest's: none of them is taken.
fn ask(mut stream: &UnixStream, end: Instant) -> io::Result<()> {
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes())?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if line.len() == LINE_MAX {
            return Err(io::Error::other("the VMM says something else than yes"));
        }
        let left = end.saturating_duration_since(Instant::now());
        // Zero would be for ever.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    stream.set_read_timeout(None)?;
    match line.strip_prefix(b"OK ") {
        Some([digits @ .., b'\n']) if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(io::Error::other("the VMM says something else than yes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answer: &'static [u8]) -> (io::Result<()>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(answer).expect("room");
        theirs.shutdown(std::net::Shutdown::Write).expect("a socket");
        let result = ask(&ours, Instant::now() + Duration::from_secs(60));
        let mut rest = Vec::new();
        (&ours).read_to_end(&mut rest).expect("the rest");
        drop(ours);
        let mut question = String::new();
        theirs.read_to_string(&mut question).expect("the question");
        assert_eq!(question, "CONNECT 1024\n");
        (result, rest)
    }

    #[test]
    fn a_yes_is_taken_and_nothing_behind_it() {
        let (result, rest) = asked(b"OK 1073741824\nguest");
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(rest, b"guest");
        assert_eq!(asked(b"OK 1").0.expect_err("no end").kind(), io::ErrorKind::UnexpectedEof);
        for other in [&b"NO\n"[..], b"OK x\n", b"OK 11111111111111111111111111111111111\n"] {
            let error = asked(other).0.expect_err("no yes");
            assert!(error.to_string().contains("something else"), "{error}");
        }
    }
}
