//! Frames: how the stream of bytes is cut.
//!
//! ```text
//!  kind u8 | stream u16 | length u32 | payload | crc32 u32      big-endian; kind 0 stands alone
//! ```

use crate::Nonce;
use crate::crc::crc;

/// Payload bytes of one frame from the host: a `Start` with secrets (256 KiB) and its environment.
pub const HOST_FRAME_MAX: usize = 1 << 20;

/// Payload bytes of one frame from the guest, which the host has to hold before it trusts them.
pub const GUEST_FRAME_MAX: usize = 20 << 10;

const HEADER: usize = 7;
const CHECKSUM: usize = 4;

/// Zeros that fill any frame of a host that was cut.
pub const FILL: usize = HEADER + HOST_FRAME_MAX + CHECKSUM;

const IDLE: u8 = 0;
const CONTROL: u8 = 1;
const DATA: u8 = 2;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Control(Vec<u8>),
    /// Bytes of a stream, with their offset.
    Data(u16, Vec<u8>),
}

/// What is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte.
    #[error("{0} is no kind of frame")]
    Kind(u8),
    /// Longer than this side takes.
    #[error("a frame of {0} bytes, and at most {1} are taken")]
    TooLong(u32, usize),
    /// Cut or changed.
    #[error("a frame whose checksum differs")]
    Checksum,
    /// A control frame on a stream.
    #[error("a control frame names stream {0}")]
    Stream(u16),
    /// No answer to a `Hello`.
    #[error("no answer in {0} bytes")]
    NoAnswer(usize),
}

/// The bytes of a frame. The payload's length is the sender's to bound.
///
/// # Panics
/// On a payload of 4 GiB.
pub fn frame(frame: &Frame) -> Vec<u8> {
    let (kind, stream, payload) = match frame {
        Frame::Control(payload) => (CONTROL, 0, payload),
        Frame::Data(stream, payload) => (DATA, *stream, payload),
    };
    let length = u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + CHECKSUM);
    bytes.push(kind);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    let sum = crc(&[&bytes]);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// Takes bytes as they come and gives frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    payload_max: usize,
}

impl Decoder {
    /// For payloads up to `payload_max` bytes.
    pub fn new(payload_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, payload_max }
    }

    /// Adds what came. Call [`Decoder::next`] until it gives nothing before adding more: then at
    /// most one frame and one addition are held.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets what is half there: the stream begins anew.
    pub fn clear(&mut self) {
        (self.buffer, self.start) = (Vec::new(), 0);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next frame, if it is whole.
    ///
    /// # Errors
    /// What is no frame. The host ends the connection; the guest, whose host may have died in the
    /// midst of a frame, goes on with what follows.
    #[expect(clippy::should_implement_trait, reason = "an iterator would not be fed in between")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let idle = self.buffer[self.start..].iter().take_while(|byte| **byte == IDLE).count();
        self.start += idle;
        let held = &self.buffer[self.start..];
        let Some(&kind) = held.first() else { return Ok(None) };
        if kind != CONTROL && kind != DATA {
            self.start += 1;
            return Err(FrameError::Kind(kind));
        }
        let Some((header, rest)) = held.split_at_checked(HEADER) else { return Ok(None) };
        let stream = u16::from_be_bytes([header[1], header[2]]);
        let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > self.payload_max {
            self.start += 1;
            return Err(FrameError::TooLong(length, self.payload_max));
        }
        let Some((payload, rest)) = rest.split_at_checked(size) else { return Ok(None) };
        let Some((sum, _)) = rest.split_at_checked(CHECKSUM) else { return Ok(None) };
        let whole = crc(&[header, payload]).to_be_bytes() == *sum;
        let payload = payload.to_vec();
        self.start += HEADER + size + CHECKSUM;
        match kind {
            _ if !whole => Err(FrameError::Checksum),
            CONTROL if stream != 0 => Err(FrameError::Stream(stream)),
            CONTROL => Ok(Some(Frame::Control(payload))),
            _ => Ok(Some(Frame::Data(stream, payload))),
        }
    }
}

/// Looks for the answer to this connection's `Hello` behind what an earlier one left over.
///
/// The nonce is the host's own and new, so nothing before it is an answer; the guest says it once,
/// raw, and frames follow.
#[derive(Debug)]
pub struct Hunt {
    nonce: Nonce,
    tail: Vec<u8>,
    seen: usize,
}

impl Hunt {
    /// Bytes that are looked through; a guest that had much to say has a window a stream.
    const BYTES_MAX: usize = 8 << 20;

    /// For the answer with this nonce.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, tail: Vec::new(), seen: 0 }
    }

    /// What came. `Some`: the nonce was found, and these bytes come after it.
    ///
    /// # Errors
    /// Nothing was found in 8 MiB.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        self.tail.extend_from_slice(bytes);
        let size = self.nonce.0.len();
        if let Some(at) = self.tail.windows(size).position(|window| window == self.nonce.0) {
            return Ok(Some(self.tail.split_off(at + size)));
        }
        self.seen += bytes.len();
        if self.seen > Self::BYTES_MAX {
            return Err(FrameError::NoAnswer(self.seen));
        }
        let old = self.tail.len().saturating_sub(size - 1);
        self.tail.drain(..old);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..300)
    }

    fn one() -> impl Strategy<Value = Frame> {
        prop_oneof![
            payload().prop_map(Frame::Control),
            (any::<u16>(), payload()).prop_map(|(stream, payload)| Frame::Data(stream, payload)),
        ]
    }

    fn all(decoder: &mut Decoder) -> Vec<Result<Frame, FrameError>> {
        std::iter::from_fn(|| decoder.next().transpose()).collect()
    }

    proptest! {
        #[test]
        fn frames_come_as_they_were_sent_however_they_are_cut(
            sent in proptest::collection::vec(one(), 0..8), size in 1usize..40, idle in 0usize..9,
        ) {
            let mut bytes = Vec::new();
            for one in &sent {
                bytes.extend(vec![0; idle]);
                bytes.extend(frame(one));
            }
            let mut decoder = Decoder::new(GUEST_FRAME_MAX);
            let mut came = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                came.extend(all(&mut decoder));
            }
            let came: Vec<Frame> = came.into_iter().collect::<Result<_, _>>().expect("no error");
            prop_assert_eq!(came, sent);
            prop_assert_eq!(decoder.held(), 0);
        }

        #[test]
        fn a_cut_frame_is_never_another_and_zeros_mend_the_stream(
            first in one(), cut in 0usize..300, next in one(),
        ) {
            let whole = frame(&first);
            let cut = cut.min(whole.len() - 1);
            let mut decoder = Decoder::new(1024);
            decoder.feed(&whole[..cut]);
            prop_assert_eq!(all(&mut decoder), []);
            decoder.feed(&[0; 1024 + HEADER + CHECKSUM]);
            let came: Vec<_> = all(&mut decoder).into_iter().filter_map(Result::ok).collect();
            // Zeros may complete it as it was.
            prop_assert!(came.is_empty() || came == [first], "{:?}", came);
            decoder.feed(&frame(&next));
            prop_assert_eq!(all(&mut decoder), [Ok(next)]);
        }
    }

    #[test]
    fn a_length_that_is_too_long_is_refused_before_its_bytes_came() {
        let mut decoder = Decoder::new(GUEST_FRAME_MAX);
        decoder.feed(&[DATA, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong(u32::MAX, GUEST_FRAME_MAX)));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let whole = frame(&Frame::Data(7, b"hello".to_vec()));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let mut decoder = Decoder::new(64);
            decoder.feed(&changed);
            decoder.feed(&[0; 128]);
            assert!(all(&mut decoder).iter().all(Result::is_err), "byte {at}");
        }
    }

    #[test]
    fn an_answer_is_found_behind_what_is_left_over() {
        let nonce = Nonce([7; 16]);
        let mut hunt = Hunt::new(nonce);
        assert_eq!(hunt.feed(&[1, 2, 3, 7, 7]), Ok(None));
        assert_eq!(hunt.feed(&[7; 13]), Ok(None));
        assert_eq!(hunt.feed(&[7, 8, 9]), Ok(Some(vec![8, 9])));
        let mut endless = Hunt::new(nonce);
        let refused = (0..10_000).any(|_| endless.feed(&[0; 1024]).is_err());
        assert!(refused, "a hunt ends");
    }
}
