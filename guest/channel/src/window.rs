//! Windows: how much of a stream may be on its way.
//!
//! ```text
//!  Outbox:  acked ------ sent ------ end of what is there      end - acked <= WINDOW
//!  Inbox:   consumed --- received                              received - consumed <= WINDOW
//! ```
//!
//! The sender keeps what was not acknowledged and sends it again after a break of the channel. The
//! receiver acknowledges what its reader has taken, so a reader that stands still holds the sender,
//! and never costs more than a window.

use std::collections::VecDeque;

/// Bytes of one stream that may be under way.
pub const WINDOW: usize = 64 << 10;

/// Bytes of one data frame; smaller than a frame may be, so that control frames wait little.
const PIECE: usize = 16 << 10;

/// Offset and the mark of the end, before the bytes.
const DATA_HEADER: usize = 9;

/// What a sender may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More than the window.
    #[error("stream {0} carries more than its window")]
    Flood(u16),
    /// Bytes are missing before these.
    #[error("stream {0} skips bytes")]
    Gap(u16),
    /// More was acknowledged than sent.
    #[error("stream {0} acknowledges what was not sent")]
    Ack(u16),
    /// Bytes after the end, or an end that moves.
    #[error("stream {0} goes on after its end")]
    AfterEnd(u16),
    /// Nobody has this stream.
    #[error("there is no stream {0}")]
    Unknown(u16),
    /// Shorter than its header.
    #[error("a data frame of stream {0} without its offset")]
    Short(u16),
}

/// The sending end of a stream.
#[derive(Debug, Default)]
pub struct Outbox {
    /// From `acked` on.
    bytes: VecDeque<u8>,
    acked: u64,
    sent: u64,
    /// What was ever sent: after a break the other end may have more than was sent again.
    highest: u64,
    ends: bool,
    end_sent: bool,
}

impl Outbox {
    /// Of a stream whose first `offset` bytes somebody else has sent.
    pub fn from_offset(offset: u64) -> Self {
        Self { acked: offset, sent: offset, highest: offset, ..Self::default() }
    }

    /// Bytes that [`Outbox::push`] would take now.
    pub fn room(&self) -> usize {
        WINDOW - self.bytes.len()
    }

    /// Takes as much as there is room for; gives how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..taken]);
        taken
    }

    /// Nothing follows.
    pub fn end(&mut self) {
        self.ends = true;
    }

    /// Whether nothing follows.
    pub fn has_ended(&self) -> bool {
        self.ends
    }

    /// The next payload to send, if there is one.
    pub fn next_payload(&mut self) -> Option<Vec<u8>> {
        let from = usize::try_from(self.sent - self.acked).unwrap_or(usize::MAX);
        let piece: Vec<u8> = self.bytes.range(from..).take(PIECE).copied().collect();
        let last = self.ends && from + piece.len() == self.bytes.len();
        if piece.is_empty() && (!last || self.end_sent) {
            return None;
        }
        let payload = data_payload(self.sent, last, &piece);
        self.sent += piece.len() as u64;
        self.highest = self.highest.max(self.sent);
        self.end_sent |= last;
        Some(payload)
    }

    /// The other end has taken everything before `offset`.
    ///
    /// # Errors
    /// It was never sent.
    pub fn ack(&mut self, stream: u16, offset: u64) -> Result<(), Violation> {
        if offset > self.highest {
            return Err(Violation::Ack(stream));
        }
        // An acknowledgement from before a break may be late: it says nothing new.
        let taken = usize::try_from(offset.saturating_sub(self.acked)).unwrap_or(usize::MAX);
        self.bytes.drain(..taken);
        self.acked = self.acked.max(offset);
        self.sent = self.sent.max(self.acked);
        Ok(())
    }

    /// After a break of the channel: what was not acknowledged is sent again.
    pub fn rewind(&mut self) {
        (self.sent, self.end_sent) = (self.acked, false);
    }

    /// Whether all was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What a data frame brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// Without what was there before.
    pub bytes: &'a [u8],
    /// Whether the stream ends here.
    pub end: bool,
}

/// The receiving end of a stream. It counts; who reads holds the bytes.
#[derive(Debug, Default, Clone)]
pub struct Inbox {
    received: u64,
    consumed: u64,
    started: bool,
    end: Option<u64>,
}

impl Inbox {
    /// Of an end that joins a stream which is under way: the first frame says where.
    pub fn joining() -> Self {
        Self::default()
    }

    /// Of a stream from its first byte on.
    pub fn from_start() -> Self {
        Self { started: true, ..Self::default() }
    }

    /// Judges a payload that came.
    ///
    /// # Errors
    /// What its sender may not do.
    pub fn accept<'a>(&mut self, stream: u16, payload: &'a [u8]) -> Result<Arrived<'a>, Violation> {
        let (offset, end, bytes) = parse_data(stream, payload)?;
        let until = offset.checked_add(bytes.len() as u64).ok_or(Violation::Gap(stream))?;
        if !self.started {
            (self.started, self.received, self.consumed) = (true, offset, offset);
        }
        if offset > self.received {
            return Err(Violation::Gap(stream));
        }
        if until.saturating_sub(self.consumed) > WINDOW as u64 {
            return Err(Violation::Flood(stream));
        }
        if self.end.is_some_and(|at| until > at || (end && until != at))
            || (end && until < self.received)
        {
            return Err(Violation::AfterEnd(stream));
        }
        let ended_before = self.end.is_some();
        if end {
            self.end = Some(until);
        }
        // After a break the sender repeats what was not acknowledged.
        let skip = usize::try_from(self.received - offset).unwrap_or(usize::MAX);
        let new = bytes.get(skip..).unwrap_or_default();
        self.received = self.received.max(until);
        Ok(Arrived { bytes: new, end: end && !ended_before })
    }

    /// The reader took `count` bytes; gives the offset to acknowledge.
    pub fn consume(&mut self, count: usize) -> u64 {
        self.consumed = self.consumed.saturating_add(count as u64).min(self.received);
        self.consumed
    }

    /// Bytes that came and were not taken.
    pub fn waiting(&self) -> u64 {
        self.received - self.consumed
    }
}

/// The payload of a data frame.
pub fn data_payload(offset: u64, end: bool, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(DATA_HEADER + bytes.len());
    payload.extend(offset.to_be_bytes());
    payload.push(u8::from(end));
    payload.extend(bytes);
    payload
}

/// The parts of a data frame: offset, whether the stream ends, bytes.
///
/// # Errors
/// It is too short.
pub fn parse_data(stream: u16, payload: &[u8]) -> Result<(u64, bool, &[u8]), Violation> {
    let (offset, rest) = payload.split_first_chunk::<8>().ok_or(Violation::Short(stream))?;
    let (end, bytes) = rest.split_first().ok_or(Violation::Short(stream))?;
    Ok((u64::from_be_bytes(*offset), *end != 0, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize),
        Deliver,
        Lose,
        Take(usize),
        Ack,
        Break,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let one = prop_oneof![
            (1usize..40_000).prop_map(Step::Write),
            Just(Step::Deliver),
            Just(Step::Deliver),
            Just(Step::Lose),
            (1usize..40_000).prop_map(Step::Take),
            Just(Step::Ack),
            Just(Step::Break),
        ];
        proptest::collection::vec(one, 0..60)
    }

    /// Byte `n` of the stream.
    fn nth(n: usize) -> u8 {
        let bytes = n.to_le_bytes();
        bytes[0] ^ bytes[1]
    }

    proptest! {
        /// Whatever is lost before a break, the reader sees every byte once and in order.
        #[test]
        fn a_stream_arrives_whole_through_breaks(steps in steps()) {
            let (mut outbox, mut inbox) = (Outbox::default(), Inbox::from_start());
            let (mut written, mut came, mut ack) = (0, Vec::<u8>::new(), 0);
            let mut lost = false;
            for step in steps {
                match step {
                    Step::Write(size) => {
                        let bytes: Vec<u8> = (written..written + size).map(nth).collect();
                        written += outbox.push(&bytes);
                    }
                    Step::Deliver if !lost => {
                        if let Some(payload) = outbox.next_payload() {
                            came.extend(inbox.accept(1, &payload).expect("within bounds").bytes);
                        }
                    }
                    // What is lost on the way is followed by a break, never by more data.
                    Step::Lose => lost |= outbox.next_payload().is_some(),
                    Step::Take(count) => ack = inbox.consume(count),
                    Step::Ack if !lost => outbox.ack(1, ack).expect("it was sent"),
                    Step::Break => {
                        outbox.rewind();
                        lost = false;
                    }
                    Step::Deliver | Step::Ack => {}
                }
                prop_assert!(inbox.waiting() <= WINDOW as u64);
            }
            outbox.rewind();
            outbox.end();
            let mut ends = 0;
            loop {
                while let Some(payload) = outbox.next_payload() {
                    let arrived = inbox.accept(1, &payload).expect("within bounds");
                    ends += u32::from(arrived.end);
                    came.extend(arrived.bytes);
                }
                outbox.ack(1, inbox.consume(WINDOW)).expect("it was sent");
                if outbox.is_empty() {
                    break;
                }
            }
            let expected: Vec<u8> = (0..written).map(nth).collect();
            prop_assert!(came == expected);
            prop_assert_eq!(ends, 1);
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        let full = vec![0; WINDOW];
        let mut inbox = Inbox::from_start();
        assert_eq!(inbox.accept(3, &data_payload(1, false, b"x")), Err(Violation::Gap(3)));
        inbox.accept(3, &data_payload(0, false, &full)).expect("a window");
        let more = data_payload(WINDOW as u64, false, b"x");
        assert_eq!(inbox.accept(3, &more), Err(Violation::Flood(3)));
        inbox.consume(1);
        inbox.accept(3, &more).expect("there is room again");
        assert_eq!(inbox.accept(3, &[0; 8]), Err(Violation::Short(3)));
        let wraps = data_payload(u64::MAX, false, b"xy");
        assert_eq!(Inbox::joining().accept(3, &wraps), Err(Violation::Gap(3)));
        let mut ended = Inbox::from_start();
        ended.accept(3, &data_payload(0, true, b"a")).expect("the end");
        assert_eq!(ended.accept(3, &data_payload(1, false, b"b")), Err(Violation::AfterEnd(3)));
        assert_eq!(Outbox::default().ack(3, 1), Err(Violation::Ack(3)));
    }
}
