//! The first message of a TLS client, read only as far as its server name.
//!
//! ```text
//! bytes as they come --> records (22, 3.x, length) --> handshake message 1 --> extension 0 --> name
//!        \--> kept, and sent to the backend exactly as they came
//! ```
//!
//! A hello may come in any number of segments and records, also a byte at a time: each byte is
//! looked at once until the message is whole, and then the message once. What encrypted client
//! hello hides stays hidden; its outer name is what is read.
//!
//! Invariants:
//! 1. The verdict does not depend on how the bytes were cut.
//! 2. Where `rustls` takes a hello, this reader reads the same name; what it refuses, rustls does
//!    not take (`fuzz/src/hello.rs` is the judge).
//! 3. At most [`HELLO_BYTES_MAX`] bytes are read before the verdict.
//!
//! Not here: everything about a hello that does not say where it goes. The backend judges that.

use vyr_base::hostname::{Hostname, is_address};

/// A hello, records included, ends within so many bytes. One with post-quantum key shares has about
/// 1,800; eight times that leaves room for what comes.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a record's head, and of a handshake message's.
const RECORD_HEAD_BYTES: usize = 5;
const MESSAGE_HEAD_BYTES: usize = 4;
/// The longest plain record (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Content type "handshake", handshake type "client_hello", extension "server_name", name type
/// "host_name".
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Whom a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// The host of this name.
    Host(Hostname),
    /// Nobody: no server name, or an address in its place (as `rustls` reads it).
    Absent,
    /// Something that is no hostname; it reaches no route, and no default either.
    NotAHost,
}

/// Why bytes are not the beginning of a TLS connection that can be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Another protocol, or a message that contradicts itself.
    #[error("the bytes are no TLS client hello: {0}")]
    NotTls(&'static str),
    /// The limit was reached before its end.
    #[error("the client hello does not end within {HELLO_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads a hello as it comes and keeps every byte.
#[derive(Debug, Default)]
pub struct Sniffer {
    /// All that was pushed.
    seen: Vec<u8>,
    /// How much of it was looked at.
    walked: usize,
    /// Bytes of the present record that are still to come.
    record_left: usize,
    /// The handshake message without the records around it.
    message: Vec<u8>,
}

impl Sniffer {
    /// Takes the next bytes. `None`: the hello is not whole yet.
    ///
    /// # Errors
    /// It is no hello, or too long; there is nothing to be done with more bytes then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ServerName>, HelloError> {
        self.seen.extend_from_slice(bytes);
        let within = self.seen.len().min(HELLO_BYTES_MAX);
        loop {
            if self.record_left == 0 && !self.next_record(within)? {
                return self.more();
            }
            let take = self.record_left.min(within - self.walked);
            if take == 0 {
                return self.more();
            }
            self.message.extend_from_slice(&self.seen[self.walked..self.walked + take]);
            self.walked += take;
            self.record_left -= take;
            if let Some(whole) = self.whole_message()? {
                return server_name(&self.message[MESSAGE_HEAD_BYTES..whole]).map(Some);
            }
        }
    }

    /// How many bytes may still be pushed before the verdict; never 0 before it.
    pub fn room(&self) -> usize {
        HELLO_BYTES_MAX.saturating_sub(self.seen.len())
    }

    /// Every byte that was pushed, in order.
    pub fn into_bytes(self) -> Vec<u8> {
        self.seen
    }

    fn more(&self) -> Result<Option<ServerName>, HelloError> {
        match self.seen.len() >= HELLO_BYTES_MAX {
            true => Err(HelloError::TooLong),
            false => Ok(None),
        }
    }

    /// Reads a record's head, as early as each byte of it says something; `false`: not all there.
    fn next_record(&mut self, within: usize) -> Result<bool, HelloError> {
        let head = &self.seen[self.walked..within];
        if head.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(HelloError::NotTls("a record is no handshake"));
        }
        if head.get(1).is_some_and(|major| *major != 3) {
            return Err(HelloError::NotTls("a record has another version"));
        }
        if head.len() < RECORD_HEAD_BYTES {
            return Ok(false);
        }
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 {
            return Err(HelloError::NotTls("a record is empty"));
        }
        if length > RECORD_BYTES_MAX {
            return Err(HelloError::NotTls("a record is too long"));
        }
        self.walked += RECORD_HEAD_BYTES;
        self.record_left = length;
        Ok(true)
    }

    /// The message's length with its head, once it is there.
    fn whole_message(&self) -> Result<Option<usize>, HelloError> {
        if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError::NotTls("the first message is another"));
        }
        let Some(head) = self.message.get(1..MESSAGE_HEAD_BYTES) else { return Ok(None) };
        let length = head.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        let whole = MESSAGE_HEAD_BYTES + length;
        if whole > HELLO_BYTES_MAX {
            return Err(HelloError::TooLong);
        }
        // With what its record still announces: nothing may follow a hello in its flight.
        if self.message.len() + self.record_left > whole {
            return Err(HelloError::NotTls("something follows in its record"));
        }
        Ok((self.message.len() == whole).then_some(whole))
    }
}

const CUT: HelloError = HelloError::NotTls("a length leads past the end");

/// A cursor over bytes that are all there.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A field behind its length in one byte.
    fn short(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A field behind its length in two.
    fn long(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

/// The server name of a hello without its head.
fn server_name(hello: &[u8]) -> Result<ServerName, HelloError> {
    let mut fields = Fields(hello);
    // Version and random.
    fields.take(2 + 32)?;
    if fields.short()?.len() > 32 {
        return Err(HelloError::NotTls("its session id is too long"));
    }
    let suites = fields.long()?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return Err(HelloError::NotTls("its cipher suites are no list"));
    }
    if fields.short()?.is_empty() {
        return Err(HelloError::NotTls("it has no compression method"));
    }
    if fields.0.is_empty() {
        return Ok(ServerName::Absent);
    }
    let mut extensions = Fields(fields.long()?);
    if !fields.0.is_empty() {
        return Err(HelloError::NotTls("something follows its extensions"));
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.long()?;
        if kind == SERVER_NAME && found.replace(name_of(body)?).is_some() {
            return Err(HelloError::NotTls("it has two server names"));
        }
    }
    Ok(found.unwrap_or(ServerName::Absent))
}

/// The name in the extension (RFC 6066, 3).
fn name_of(extension: &[u8]) -> Result<ServerName, HelloError> {
    let mut fields = Fields(extension);
    let mut list = Fields(fields.long()?);
    if list.0.is_empty() || !fields.0.is_empty() {
        return Err(HelloError::NotTls("its server names are no list"));
    }
    let mut found = None;
    while !list.0.is_empty() {
        // A name of another kind has a form nobody knows: what follows it cannot be read.
        if list.u8()? != HOST_NAME {
            break;
        }
        let name = list.long()?;
        if name.is_empty() {
            return Err(HelloError::NotTls("its server name is empty"));
        }
        let name = match Hostname::from_wire(name) {
            Ok(host) => ServerName::Host(host),
            Err(_) if is_address(name) => ServerName::Absent,
            Err(_) => ServerName::NotAHost,
        };
        if found.replace(name).is_some() {
            return Err(HelloError::NotTls("it has two server names"));
        }
    }
    Ok(found.unwrap_or(ServerName::NotAHost))
}

#[cfg(test)]
mod tests;
