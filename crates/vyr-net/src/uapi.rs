//! WireGuard beside the kernel: the text protocol of its data planes ("Cross-platform Userspace
//! Implementation" on wireguard.com), over a Unix socket.
//!
//! A data plane tells its private key to whoever asks. It is turned into the public one where the
//! line is read, and the line's memory is zeroed; nothing after that has it.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use vyr_plan::intent::Key;
use zeroize::{Zeroize, Zeroizing};

use crate::device::{ALLOWED_IPS_MAX, Change, Device, DevicePeer, Devices, PEERS_MAX, PeerChange};
use crate::diff::AllowedIps;
use crate::error::NetError;
use crate::recorder::public_key;

const WHO: &str = "the data plane";
/// Bytes of a line: the longest has a key, 64 digits.
const LINE_BYTES_MAX: usize = 256;
/// Bytes of an answer: 100,000 peers have 40 MB.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// How long one question may take: wireguard-go answers about 10,000 peers within a second.
const TIMEOUT: Duration = Duration::from_secs(10);

fn bad(why: impl Into<String>) -> NetError {
    NetError::malformed(WHO, why)
}

/// Data planes that have a socket `LINK.sock` in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    directory: PathBuf,
}

impl Sockets {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self, link: &str) -> PathBuf {
        self.directory.join(format!("{link}.sock"))
    }

    fn connect(&self, link: &str) -> Result<Answers, NetError> {
        let path = self.path(link);
        let doing = || format!("connect to the data plane of {link} at {}", path.display());
        let stream = UnixStream::connect(&path).map_err(|e| NetError::io(doing(), e))?;
        let deadline = Instant::now() + TIMEOUT;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(|e| NetError::io(doing(), e))?;
        Ok(Answers {
            link: link.into(),
            stream,
            deadline,
            buffer: Zeroizing::new([0; 8192]),
            filled: 0,
            at: 0,
            total: 0,
        })
    }
}

impl Devices for Sockets {
    fn carries(&self, link: &str, _kind: Option<&str>) -> bool {
        use std::os::unix::fs::FileTypeExt;
        let found = std::fs::symlink_metadata(self.path(link));
        found.is_ok_and(|found| found.file_type().is_socket())
    }

    fn get(&mut self, link: &str) -> Result<Device, NetError> {
        let mut answers = self.connect(link)?;
        answers.send(b"get=1\n\n")?;
        let mut parser = Parser::default();
        while let Some(line) = answers.line()? {
            parser.line(&line)?;
        }
        parser.finish(link, "tell what it is")
    }

    fn set(&mut self, link: &str, change: &Change) -> Result<(), NetError> {
        let mut answers = self.connect(link)?;
        answers.send(&written(change))?;
        let mut parser = Parser::default();
        while let Some(line) = answers.line()? {
            parser.line(&line)?;
        }
        parser.finish(link, "change").map(|_| ())
    }
}

/// A connection, and what comes from it line by line.
struct Answers {
    link: String,
    stream: UnixStream,
    deadline: Instant,
    buffer: Zeroizing<[u8; 8192]>,
    filled: usize,
    at: usize,
    total: usize,
}

impl Answers {
    fn failed(&self, e: std::io::Error) -> NetError {
        match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => NetError::Silent {
                who: format!("the data plane of {}", self.link),
                within: TIMEOUT,
            },
            _ => NetError::io(format!("talk to the data plane of {}", self.link), e),
        }
    }

    fn send(&mut self, text: &[u8]) -> Result<(), NetError> {
        self.stream.write_all(text).map_err(|e| self.failed(e))
    }

    /// The next line, without its end; none after the empty one.
    fn line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, NetError> {
        // It does not grow: memory that did would be left behind with a key in it.
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
        loop {
            if self.at == self.filled {
                self.fill()?;
            }
            let byte = self.buffer[self.at];
            self.at += 1;
            match byte {
                b'\n' if line.is_empty() => return Ok(None),
                b'\n' => return Ok(Some(line)),
                _ if line.len() == LINE_BYTES_MAX => return Err(bad("a line is too long")),
                byte => line.push(byte),
            }
        }
    }

    fn fill(&mut self) -> Result<(), NetError> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = if left.is_zero() { Duration::from_millis(1) } else { left };
            self.stream.set_read_timeout(Some(left)).map_err(|e| self.failed(e))?;
            match self.stream.read(self.buffer.as_mut_slice()) {
                Ok(0) => return Err(bad("its answer has no end")),
                Ok(n) => {
                    (self.at, self.filled) = (0, n);
                    self.total += n;
                    return match self.total > ANSWER_BYTES_MAX {
                        true => Err(bad("its answer is too long")),
                        false => Ok(()),
                    };
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => return Err(self.failed(e)),
            }
        }
    }
}

/// An answer, line by line.
#[derive(Default)]
struct Parser {
    device: Device,
    allowed_ips: usize,
    code: Option<i32>,
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, NetError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| bad("a number is none"))
}

/// 32 bytes in 64 digits.
fn key(value: &str) -> Result<Zeroizing<[u8; 32]>, NetError> {
    let digits = value.as_bytes();
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return Err(bad("a key has not 64 digits"));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit =
            |at: usize| char::from(pair[at]).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(bad("a key has other digits than those of base 16"));
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> Result<(), NetError> {
        // What is wrong with a line is said without the line: it may be a key.
        let text = std::str::from_utf8(line).map_err(|_| bad("a line is not UTF-8"))?;
        let (name, value) = text.split_once('=').ok_or_else(|| bad("a line has no value"))?;
        if self.code.is_some() {
            return Err(bad("there is something after the end"));
        }
        if name == "errno" {
            let code = value.parse().map_err(|_| bad("a number is none"))?;
            self.code = Some(code);
            return Ok(());
        }
        if name == "public_key" {
            if self.device.peers.len() >= PEERS_MAX {
                return Err(bad("a link has too many peers"));
            }
            let key = Key::from_bytes(*key(value)?);
            if self.device.peers.last().is_none_or(|last| last.public_key != key) {
                self.device.peers.push(DevicePeer::new(key));
            }
            return Ok(());
        }
        match self.device.peers.last_mut() {
            None => match name {
                "private_key" => {
                    let private = key(value)?;
                    let is_one = private.iter().any(|byte| *byte != 0);
                    self.device.public_key = is_one.then(|| public_key(&private));
                }
                "listen_port" => self.device.listen_port = number(value)?,
                "fwmark" => self.device.fwmark = number(value)?,
                // What a newer data plane says more.
                _ => (),
            },
            Some(peer) => match name {
                "preshared_key" => {
                    peer.has_preshared = key(value)?.iter().any(|byte| *byte != 0);
                }
                "endpoint" => {
                    let at = value.parse::<SocketAddr>();
                    peer.endpoint = Some(at.map_err(|_| bad("an endpoint is none"))?);
                }
                "persistent_keepalive_interval" => peer.keepalive_s = number(value)?,
                "last_handshake_time_sec" => peer.handshake_unix_s = number(value)?,
                "rx_bytes" => peer.rx_bytes = number(value)?,
                "tx_bytes" => peer.tx_bytes = number(value)?,
                "allowed_ip" => {
                    self.allowed_ips += 1;
                    if self.allowed_ips > ALLOWED_IPS_MAX {
                        return Err(bad("a link has too many allowed IPs"));
                    }
                    let net = value.parse::<IpNet>();
                    peer.allowed_ips.push(net.map_err(|_| bad("an allowed IP is none"))?);
                }
                _ => (),
            },
        }
        Ok(())
    }

    fn finish(self, link: &str, doing: &'static str) -> Result<Device, NetError> {
        match self.code {
            Some(0) => Ok(self.device),
            Some(code) => Err(NetError::DataPlane { link: link.into(), doing, code }),
            None => Err(bad("it does not say whether it did")),
        }
    }
}

fn put(text: &mut Vec<u8>, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    text.push(b'\n');
}

fn put_key(text: &mut Vec<u8>, name: &str, key: &[u8; 32]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    for byte in key {
        let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
        text.extend_from_slice(&[digit(byte >> 4), digit(*byte)]);
    }
    text.push(b'\n');
}

/// The text that makes a change.
fn written(change: &Change) -> Zeroizing<Vec<u8>> {
    let allowed = |change: &PeerChange| match change {
        PeerChange::Set {
            allowed_ips: Some(AllowedIps::Add(all) | AllowedIps::Replace(all)),
            ..
        } => all.len(),
        _ => 0,
    };
    // Enough for all of it, since memory that grows is left behind: 512 bytes for a peer's lines,
    // 64 for an allowed IP's.
    let bytes = 1024 + change.peers.iter().map(|peer| 512 + 64 * allowed(peer)).sum::<usize>();
    let mut text = Zeroizing::new(Vec::with_capacity(bytes));
    let out: &mut Vec<u8> = &mut text;
    put(out, "set", "1");
    if let Some(key) = &change.private_key {
        put_key(out, "private_key", key);
    }
    if let Some(port) = change.listen_port {
        put(out, "listen_port", &port.to_string());
    }
    if let Some(fwmark) = change.fwmark {
        put(out, "fwmark", &fwmark.to_string());
    }
    for change in &change.peers {
        match change {
            PeerChange::Remove(peer) => {
                put_key(out, "public_key", peer.bytes());
                put(out, "remove", "true");
            }
            PeerChange::Set { peer, new, allowed_ips, endpoint, keepalive_s, preshared } => {
                put_key(out, "public_key", peer.bytes());
                if !new {
                    put(out, "update_only", "true");
                }
                if let Some(key) = preshared {
                    put_key(out, "preshared_key", key);
                }
                if let Some(at) = endpoint {
                    put(out, "endpoint", &at.to_string());
                }
                if let Some(seconds) = keepalive_s {
                    put(out, "persistent_keepalive_interval", &seconds.to_string());
                }
                let (replaces, all): (bool, &[IpNet]) = match allowed_ips {
                    Some(AllowedIps::Add(all)) => (false, all),
                    Some(AllowedIps::Replace(all)) => (true, all),
                    None => (false, &[]),
                };
                if replaces {
                    put(out, "replace_allowed_ips", "true");
                }
                for net in all {
                    put(out, "allowed_ip", &net.to_string());
                }
            }
        }
    }
    out.push(b'\n');
    text
}

/// A whole answer at once, for tests.
#[cfg(test)]
fn parse(text: &[u8]) -> Result<Device, NetError> {
    let mut parser = Parser::default();
    for line in text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
        parser.line(line)?;
    }
    parser.finish("vyr-test", "answer")
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

#[cfg(test)]
mod tests;
