//! The name of one life of a slot.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vyr_base::Digest;

use crate::place::SlotName;

/// An instance: 64 bits, written as 16 lower-case hex digits. It never returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u64);

/// A text that is not 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no instance (16 lower-case hex digits)")]
pub struct ParseInstanceIdError {
    /// What was read, cut to 40 characters.
    pub text: String,
}

impl InstanceId {
    /// The id of a node's `number`th instance. `seed` is the node's own, drawn once: a node that
    /// lost its state counts from the start again, and must not give the same names again.
    pub(super) fn derive(seed: &Digest, number: u64, slot: &SlotName) -> Self {
        let text = format!("vyr-instance\0{seed}\0{number}\0{slot}");
        let [a, b, c, d, e, f, g, h, ..] = *Digest::of(text.as_bytes()).as_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The id as a number.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The instance's own address: it is the lower half, the node's service prefix (/64) the upper.
    pub fn address(self, prefix: Ipv6Addr) -> Ipv6Addr {
        let upper = u128::from(prefix) >> 64 << 64;
        Ipv6Addr::from(upper | u128::from(self.0))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for InstanceId {
    type Err = ParseInstanceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() == 16
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let bits = fits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| ParseInstanceIdError { text: text.chars().take(40).collect() })
    }
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling_and_is_the_lower_half_of_an_address() {
        let id = InstanceId::from_bits(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in
            ["", "0123456789ABCDEF", "123456789abcdef", "+123456789abcdef", "0x23456789abcdef"]
        {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
        let prefix: Ipv6Addr = "fd00:1:2:3:ffff::".parse().expect("an address");
        assert_eq!(id.address(prefix).to_string(), "fd00:1:2:3:123:4567:89ab:cdef");
    }

    #[test]
    fn another_seed_number_or_slot_is_another_id() {
        let slot: SlotName = "web/http/0".parse().expect("a slot");
        let other: SlotName = "web/http/1".parse().expect("a slot");
        let seed = Digest::of(b"seed");
        let id = InstanceId::derive(&seed, 7, &slot);
        assert_eq!(id, InstanceId::derive(&seed, 7, &slot));
        assert_ne!(id, InstanceId::derive(&seed, 8, &slot));
        assert_ne!(id, InstanceId::derive(&seed, 7, &other));
        assert_ne!(id, InstanceId::derive(&Digest::of(b"another"), 7, &slot));
    }
}
