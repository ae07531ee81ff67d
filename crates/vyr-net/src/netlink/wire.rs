//! Netlink's messages as bytes (`linux/netlink.h`): headers, then attributes, all aligned to four.
//!
//! What is read is checked against its own length before it is looked at; nothing is read twice.
//! What is written may hold a key, so its memory is zeroed.

use zeroize::Zeroizing;

use crate::error::NetError;

const WHO: &str = "the kernel";
/// `struct nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`: not part of an attribute's number.
pub(crate) const NESTED: u16 = 0x8000;
const FLAGS: u16 = 0xc000;

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(4)
}

fn bad(why: impl Into<String>) -> NetError {
    NetError::malformed(WHO, why)
}

/// The first `N` bytes at `at`.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], NetError> {
    let found = from.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(|| bad("a message is too short"))
}

/// Exactly `N` bytes.
pub(crate) fn exactly<const N: usize>(from: &[u8]) -> Result<[u8; N], NetError> {
    from.try_into().map_err(|_| bad(format!("{} bytes where {N} belong", from.len())))
}

pub(crate) fn u16_of(from: &[u8]) -> Result<u16, NetError> {
    exactly(from).map(u16::from_ne_bytes)
}

pub(crate) fn u32_of(from: &[u8]) -> Result<u32, NetError> {
    exactly(from).map(u32::from_ne_bytes)
}

pub(crate) fn u64_of(from: &[u8]) -> Result<u64, NetError> {
    exactly(from).map(u64::from_ne_bytes)
}

/// A text with a zero at its end.
pub(crate) fn text_of(from: &[u8]) -> Result<&str, NetError> {
    let text = from.strip_suffix(&[0]).unwrap_or(from);
    let text = std::str::from_utf8(text).map_err(|_| bad("a name is not UTF-8"))?;
    if text.contains('\0') { Err(bad("a name has a zero in it")) } else { Ok(text) }
}

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of one datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, NetError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let one = message(rest);
        rest = match &one {
            Ok((_, after)) => after,
            Err(_) => &[],
        };
        Some(one.map(|(message, _)| message))
    })
}

fn message(from: &[u8]) -> Result<(Message<'_>, &[u8]), NetError> {
    let length = usize::try_from(u32::from_ne_bytes(bytes(from, 0)?)).unwrap_or(usize::MAX);
    let body = from.get(HEADER_BYTES..length).ok_or_else(|| bad("a message has a wrong length"))?;
    let message = Message {
        kind: u16::from_ne_bytes(bytes(from, 4)?),
        flags: u16::from_ne_bytes(bytes(from, 6)?),
        sequence: u32::from_ne_bytes(bytes(from, 8)?),
        body,
    };
    // The last one may lack its padding.
    Ok((message, from.get(padded(length)..).unwrap_or(&[])))
}

/// The attributes behind a header of `skip` bytes: number and value.
pub(crate) fn attributes(
    from: &[u8],
    skip: usize,
) -> impl Iterator<Item = Result<(u16, &[u8]), NetError>> {
    let mut rest = from.get(skip..);
    std::iter::from_fn(move || {
        let at = match rest {
            None => {
                rest = Some(&[]);
                return Some(Err(bad("a message is shorter than its header")));
            }
            Some([]) => return None,
            Some(at) => at,
        };
        match attribute(at) {
            Ok((found, after)) => {
                rest = Some(after);
                Some(Ok(found))
            }
            Err(e) => {
                rest = Some(&[]);
                Some(Err(e))
            }
        }
    })
}

type Attribute<'a> = (u16, &'a [u8]);

fn attribute(from: &[u8]) -> Result<(Attribute<'_>, &[u8]), NetError> {
    let length = usize::from(u16::from_ne_bytes(bytes(from, 0)?));
    let kind = u16::from_ne_bytes(bytes(from, 2)?) & !FLAGS;
    let value =
        from.get(ATTRIBUTE_BYTES..length).ok_or_else(|| bad("an attribute has a wrong length"))?;
    Ok(((kind, value), from.get(padded(length)..).unwrap_or(&[])))
}

/// Writes one message's body: a header of its kind, then attributes.
pub(crate) struct Writer {
    bytes: Zeroizing<Vec<u8>>,
    too_long: bool,
}

impl Writer {
    pub(crate) fn new(header: &[u8]) -> Self {
        // Memory that grows is copied and not zeroed behind: there is enough of it from the start.
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
        bytes.extend_from_slice(header);
        Self { bytes, too_long: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    pub(crate) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn put_text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Begins an attribute that has others in it; ends with [`Writer::close`].
    pub(crate) fn nest(&mut self, kind: u16) -> usize {
        self.open(kind | NESTED)
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    pub(crate) fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        let whole = padded(self.bytes.len());
        self.bytes.resize(whole, 0);
    }

    /// The whole message.
    pub(crate) fn finish(
        &self,
        kind: u16,
        flags: u16,
        sequence: u32,
    ) -> Result<Zeroizing<Vec<u8>>, NetError> {
        let length = u32::try_from(HEADER_BYTES + self.bytes.len());
        let length = length.ok().filter(|_| !self.too_long);
        let length = length.ok_or_else(|| {
            NetError::malformed("this process", "a message does not fit into netlink's lengths")
        })?;
        let mut all = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + self.bytes.len()));
        all.extend_from_slice(&length.to_ne_bytes());
        all.extend_from_slice(&kind.to_ne_bytes());
        all.extend_from_slice(&flags.to_ne_bytes());
        all.extend_from_slice(&sequence.to_ne_bytes());
        // The kernel knows who asks.
        all.extend_from_slice(&[0; 4]);
        all.extend_from_slice(&self.bytes);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(&[1, 2, 3, 4]);
        writer.put(5, b"abc");
        let nest = writer.nest(6);
        writer.put_u16(1, 515);
        writer.close(nest);
        let all = writer.finish(16, 1, 7).expect("it fits");
        let [message] = &messages(&all).collect::<Result<Vec<_>, _>>().expect("whole")[..] else {
            panic!("one message");
        };
        assert_eq!((message.kind, message.flags, message.sequence), (16, 1, 7));
        let found = attributes(message.body, 4).collect::<Result<Vec<_>, _>>().expect("whole");
        assert_eq!(found[0], (5, &b"abc"[..]));
        let (kind, inner) = found[1];
        assert_eq!(kind, 6, "the flag of nesting is no part of the number");
        let inner = attributes(inner, 0).collect::<Result<Vec<_>, _>>().expect("whole");
        assert_eq!(u16_of(inner[0].1).expect("two bytes"), 515);
    }

    #[test]
    fn an_attribute_that_is_too_long_is_not_sent() {
        let mut writer = Writer::new(&[]);
        let nest = writer.nest(1);
        writer.put(2, &[0; 65_000]);
        writer.put(2, &[0; 1_000]);
        writer.close(nest);
        assert!(writer.finish(16, 1, 7).is_err());
    }

    #[test]
    fn every_cut_is_an_error_or_fewer_messages() {
        let mut writer = Writer::new(&[0; 4]);
        writer.put(5, b"abc");
        let all = writer.finish(16, 1, 7).expect("it fits");
        for cut in 1..all.len() {
            assert!(messages(&all[..cut]).any(|one| one.is_err()), "{cut}");
        }
        for length in [0u32, 15, 1 << 31, u32::MAX] {
            let mut wrong = all.to_vec();
            wrong[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(messages(&wrong).any(|one| one.is_err()), "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut wrong = all.to_vec();
            wrong[20..22].copy_from_slice(&length.to_ne_bytes());
            let found = messages(&wrong).next().expect("one").expect("whole");
            assert!(attributes(found.body, 4).any(|one| one.is_err()), "{length}");
        }
    }

    proptest! {
        #[test]
        fn garbage_ends(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
            for message in messages(&datagram).flatten() {
                prop_assert!(attributes(message.body, 4).count() <= datagram.len());
            }
        }
    }
}
