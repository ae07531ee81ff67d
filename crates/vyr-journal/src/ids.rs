//! Names of journals, tasks and states.
//!
//! A task's and a state's name holds the sequence number of the event that made it, so a name leads
//! to its event without an index, and eight digits of the journal's origin, so that a name from
//! another node is told apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a checkpoint's origin line begins with; the rest is the journal's own 32 hex digits.
const ORIGIN_PREFIX: &str = "vyr/journal/";

/// The name of one journal: made once from 16 random bytes, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(u128);

impl Origin {
    /// From 16 random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    /// The eight digits that ids carry.
    pub fn short(self) -> u32 {
        u32::try_from(self.0 >> 96).unwrap_or_default()
    }
}

/// A text that is not an id of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    /// What was read, cut to 80 characters.
    pub text: String,
    /// What an id of this kind looks like.
    pub expected: &'static str,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ORIGIN_PREFIX}{:032x}", self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Origin {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(ORIGIN_PREFIX)
            .filter(|hex| hex.len() == 32 && is_lower_hex(hex))
            .and_then(|hex| u128::from_str_radix(hex, 16).ok())
            .map(Self)
            .ok_or_else(|| refuse(text, "an origin (vyr/journal/ and 32 hex digits)"))
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn refuse(text: &str, expected: &'static str) -> ParseIdError {
    ParseIdError { text: text.chars().take(80).collect(), expected }
}

/// Reads `<letter>-<8 hex>-<decimal>`, in its one spelling.
fn parse(letter: char, text: &str) -> Option<(u32, u64)> {
    let (short, seq) = text.strip_prefix(letter)?.strip_prefix('-')?.split_once('-')?;
    if short.len() != 8 || !is_lower_hex(short) {
        return None;
    }
    let number: u64 = seq.parse().ok()?;
    (number.to_string() == seq).then_some((u32::from_str_radix(short, 16).ok()?, number))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            short: u32,
            seq: u64,
        }

        impl $name {
            /// Made by event `seq` of the journal `origin`.
            pub fn new(origin: Origin, seq: u64) -> Self {
                Self { short: origin.short(), seq }
            }

            /// The sequence number of the event that made it.
            pub fn seq(self) -> u64 {
                self.seq
            }

            /// Whether it is of this journal.
            pub fn is_of(self, origin: Origin) -> bool {
                self.short == origin.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "-{:08x}-{}"), self.short, self.seq)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse($letter, text)
                    .map(|(short, seq)| Self { short, seq })
                    .ok_or_else(|| refuse(text, $expected))
            }
        }

        serde_as_text!($name);
    };
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Origin);
id!(
    /// The name of one task: `t-<8 hex>-<number>`.
    TaskId, 't', "a task id (t-<8 hex digits>-<number>)"
);
id!(
    /// The name of one ephemeral state: `s-<8 hex>-<number>`.
    StateId, 's', "a state id (s-<8 hex digits>-<number>)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_in_one_spelling() {
        let origin = Origin::new([0xab; 16]);
        assert_eq!(origin.to_string().parse(), Ok(origin));
        let task = TaskId::new(origin, 1042);
        assert_eq!(task.to_string(), "t-abababab-1042");
        assert_eq!(task.to_string().parse(), Ok(task));
        for text in
            ["", "t-abababab", "t-ABABABAB-1", "t-abababab-01", "t-abababab-+1", "s-abababab-1"]
        {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
        assert!(task.is_of(origin) && !task.is_of(Origin::new([1; 16])));
    }
}
