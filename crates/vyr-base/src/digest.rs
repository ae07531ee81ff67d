//! The one digest: SHA-256 of exact bytes, written `sha256:<64 lower-case hex>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// What the text of a digest begins with.
const PREFIX: &str = "sha256:";

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// SHA-256 of exact bytes: the name of a blob, a manifest, an input, an output, a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not `sha256:<64 lower-case hex>`.
///
/// Upper-case hex is refused as well: two spellings of one digest would make two names of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest (expected sha256: and 64 lower-case hex digits)")]
pub struct ParseDigestError {
    /// What was read, cut to 80 characters.
    pub text: String,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the `sha256:` prefix: a file name in an OCI layout.
    pub fn hex(&self) -> String {
        self.text(|text| text[PREFIX.len()..].to_owned())
    }

    /// Gives the whole text to `take`. A node writes some twenty digests a task, and formatting
    /// them byte by byte was a tenth of what its core did.
    fn text<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        let mut text = [0; PREFIX.len() + 64];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        for (pair, byte) in text[PREFIX.len()..].chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        take(str::from_utf8(&text).unwrap_or_else(|_| unreachable!("hex digits are ASCII")))
    }

    /// A digest that somebody else computed, as its raw 32 bytes.
    pub const fn from_bytes(raw: [u8; 32]) -> Self {
        Self(raw)
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex digits, the file-name form.
    pub fn from_hex(hex: &str) -> Result<Self, ParseDigestError> {
        let refuse = || ParseDigestError { text: hex.chars().take(80).collect() };
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(refuse());
        }
        let mut raw = [0u8; 32];
        for (byte, pair) in raw.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]), nibble(pair[1]));
            *byte = high.zip(low).map(|(h, l)| h << 4 | l).ok_or_else(refuse)?;
        }
        Ok(Self(raw))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX)
            .and_then(|hex| Self::from_hex(hex).ok())
            .ok_or_else(|| ParseDigestError { text: text.chars().take(80).collect() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest under construction, for bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.state.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// How many bytes were added so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all pieces in order.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_empty_string_has_its_published_digest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"");
        hasher.update(b"c");
        assert_eq!(hasher.bytes(), 3);
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn other_spellings_are_refused() {
        let upper = EMPTY.replace("e3b0", "E3B0");
        let long = format!("{EMPTY}0");
        for text in ["", "sha256:", "e3b0", &upper, &long, "sha512:00", "sha256:zz", &EMPTY[7..]] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        // A multi-byte character must not split a pair.
        assert!(Digest::from_hex(&"é".repeat(32)).is_err());
    }
}
