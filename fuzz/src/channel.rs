//! Targets of `vyr-channel`: what a hostile guest sends to its host.

use vyr_channel::{
    Decoder, Frame, FrameError, GUEST_FRAME_MAX, GuestMessage, HOST_FRAME_MAX, Inbox, LINE_MAX,
    LogDecoder, WINDOW, decode_guest, decode_host, encode, frame,
};

use crate::sections;

/// A second CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let mut value = u32::MAX;
    for byte in bytes {
        value ^= u32::from(*byte);
        for _ in 0..8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
        }
    }
    !value
}

/// The input is what comes over a connection. Frames, however they are cut.
pub fn guest_frames(input: &[u8]) {
    let whole = decode(input, input.len().max(1));
    let bytewise = decode(input, 1);
    assert_eq!(whole, bytewise, "how bytes are cut is nobody's business");
    for one in whole.0 {
        let sent = frame(&one);
        let (head, sum) = sent.split_last_chunk::<4>().expect("a checksum");
        assert_eq!(crc(head).to_be_bytes(), *sum);
        assert!(input.windows(sent.len()).any(|window| window == sent), "a frame nobody sent");
    }
}

/// The parts of the input are the insides of data frames of one stream, which no checksum keeps
/// from being changed.
pub fn guest_data(input: &[u8]) {
    let (mut inbox, mut log) = (Inbox::joining(), LogDecoder::default());
    let (mut waiting, mut next) = (0, None);
    for payload in sections::split(input, sections::PARTS_MAX) {
        let Ok(arrived) = inbox.accept(0, payload) else { break };
        // A second reader of the header: what is new is what lies past what was there.
        let offset = payload[..8].iter().fold(0u128, |all, byte| all << 8 | u128::from(*byte));
        let until = offset + (payload.len() - 9) as u128;
        assert!(until <= u128::from(u64::MAX), "an offset was believed");
        let before = *next.get_or_insert(offset);
        assert!(offset <= before, "bytes were skipped");
        assert_eq!(arrived.bytes.len() as u128, until.saturating_sub(before));
        next = Some(before.max(until));
        waiting += arrived.bytes.len();
        assert!(waiting <= WINDOW && inbox.waiting() == waiting as u64, "more than a window");
        if log.feed(arrived.bytes).is_err() {
            break;
        }
        assert!(log.held() <= LINE_MAX + 13, "more than a line is held");
        // The reader takes some, so that longer inputs go on.
        if waiting > WINDOW / 2 {
            inbox.consume(waiting);
            waiting = 0;
        }
    }
}

/// Frames until the first error, and that error.
fn decode(input: &[u8], size: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new(GUEST_FRAME_MAX);
    let mut frames = Vec::new();
    for piece in input.chunks(size) {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Ok(Some(frame)) => frames.push(frame),
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(decoder.held() <= GUEST_FRAME_MAX + 11 + size, "more than a frame is held");
    }
    (frames, None)
}

/// The input is the inside of a control frame, from either side.
pub fn guest_messages(input: &[u8]) {
    if let Ok(message) = decode_guest(input) {
        let Frame::Control(again) = encode(&message) else { panic!("a message is control") };
        assert_eq!(decode_guest(&again).expect("our own"), message);
        assert!(again.len() <= GUEST_FRAME_MAX.max(input.len()));
        if let GuestMessage::Welcome { state, .. } = &message {
            assert!(state.execs.len() <= input.len(), "a length was believed");
        }
    }
    if let Ok(message) = decode_host(input) {
        let Frame::Control(again) = encode(&message) else { panic!("a message is control") };
        assert_eq!(decode_host(&again).expect("our own"), message);
        assert!(again.len() <= HOST_FRAME_MAX.max(input.len()));
    }
}
