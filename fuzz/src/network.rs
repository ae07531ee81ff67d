//! Target of `vyr-net`: the words in which a host's network is asked from elsewhere.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vyr_net::words::{
    Answer, FRAME_BYTES_MAX, Request, WordsError, parse, parse_hello, read_frame, write_frame,
};

use crate::base64;
use crate::checks::{colons, keys, problem};

/// The input is what comes over a connection, and the inside of a frame.
pub fn network_words(input: &[u8]) {
    let mut left = input;
    loop {
        let before = left;
        match read_frame(&mut left, FRAME_BYTES_MAX) {
            Ok(Some(json)) => {
                // A second reader of frames.
                let length = before[4..8].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
                assert!(before.starts_with(b"vyrn") && length <= FRAME_BYTES_MAX);
                assert_eq!(json, before[8..8 + length]);
                assert_eq!(left.len(), before.len() - 8 - length);
                words(&json);
            }
            Ok(None) => {
                assert!(before.is_empty(), "bytes were skipped");
                break;
            }
            Err(error) => {
                problem(&error);
                let ours = before.starts_with(b"vyrn");
                assert!(
                    matches!(error, WordsError::Noise(_)) == !b"vyrn".starts_with(head(before))
                );
                assert!(!matches!(error, WordsError::TooLong(..)) || ours);
                break;
            }
        }
    }
    words(input);
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(4)]
}

/// What is inside of a frame, as each of the words.
fn words(json: &[u8]) {
    let request = known::<Request>(json);
    known::<Answer>(json);
    match parse_hello(json, "0.1.0") {
        Ok(hello) => assert_eq!(hello.wire, vyr_net::words::WIRE),
        Err(error) => problem(&error),
    }
    let Some(Request::Apply(apply)) = request else { return };
    // A struct may be a list as well; its names are judged where it has them.
    let plain: Value = serde_json::from_slice(json).expect("it was read");
    if let Some(text) = plain["apply"]["plan"].as_str() {
        assert_eq!(base64::decode(text), Some(apply.plan.0), "{text}");
    }
}

/// What is taken is taken whole, and comes back as it was sent.
fn known<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(json: &[u8]) -> Option<T> {
    let word: T = match parse(json) {
        Ok(word) => word,
        Err(error) => {
            problem(&error);
            return None;
        }
    };
    let written = serde_json::to_value(&word).expect("it can be written");
    assert!(colons(json) <= keys(&written), "a key was skipped: {written}");
    let mut frame = Vec::new();
    write_frame(&mut frame, &word).expect("it fits");
    let read =
        read_frame(&mut frame.as_slice(), FRAME_BYTES_MAX).expect("a frame").expect("not the end");
    assert_eq!(parse::<T>(&read).expect("our own"), word);
    Some(word)
}
