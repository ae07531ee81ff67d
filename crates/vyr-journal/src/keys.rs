//! Idempotency keys: which recent submission a repeated one is.
//!
//! A window, because the alternative is an index of random keys that dirties a page of the disk a
//! task. It is bounded in number: a client that retries within the last [`KEYS_MAX`] submissions
//! gets the first one's answer; later it may get a second task.

use std::collections::{HashMap, VecDeque};

use vyr_base::Hasher;

/// Submissions whose keys are remembered: thirteen seconds of them at 20,000 a second, most of an
/// hour at 100.
pub const KEYS_MAX: usize = 1 << 18;

/// With more keys than this the whole window is reserved; a short life never needs it.
const FEW: usize = 1024;

/// A submission in 16 bytes: who and which key, and what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPrint {
    /// Of submitter and key.
    pub key: u64,
    /// Of everything else that was asked for.
    pub request: u64,
}

/// The first eight bytes of SHA-256 over `parts`, each with its length.
pub(crate) fn print_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finish();
    u64::from_le_bytes(std::array::from_fn(|i| digest.as_bytes()[i]))
}

/// The window.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys {
    order: VecDeque<u64>,
    by_key: HashMap<u64, (u64, u64)>,
}

impl Keys {
    /// Remembers that event `seq` accepted the submission `print`.
    pub(crate) fn insert(&mut self, print: KeyPrint, seq: u64) {
        if self.order.len() == FEW {
            // At once, so that memory does not grow with the number of tasks from here on.
            self.order.reserve(KEYS_MAX);
            self.by_key.reserve(KEYS_MAX);
        }
        if self.order.len() == KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        if self.by_key.insert(print.key, (seq, print.request)).is_none() {
            self.order.push_back(print.key);
        }
    }

    /// The event that accepted a submission with this key, and the print of what it asked for.
    pub(crate) fn get(&self, key: u64) -> Option<(u64, u64)> {
        self.by_key.get(&key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_bounded_and_forgets_the_oldest() {
        let mut keys = Keys::default();
        for n in 0..KEYS_MAX as u64 + 2 {
            keys.insert(KeyPrint { key: n, request: 0 }, n);
        }
        assert_eq!(keys.by_key.len(), KEYS_MAX);
        assert_eq!((keys.get(1), keys.get(2)), (None, Some((2, 0))));
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(print_of([&b"ab"[..], b"c"]), print_of([&b"a"[..], b"bc"]));
    }
}
