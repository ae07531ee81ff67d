//! The keys and values of a state, under the same quota as its files.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::bytes::{Name, Secret};
use super::tree::{Serial, Tree};
use super::{EphemeralState, FileError};

/// Keys in one page of a listing.
pub(super) const PAGE_KEYS: usize = 100;

/// The longest key, and the longest value: what one call may copy.
pub(super) const KEY_MAX: usize = 1024;
pub(super) const VALUE_MAX: usize = 16 << 20;

/// Values by the order in which their keys came to be, so that a listing can go on at a number;
/// and their numbers by key.
#[derive(Default)]
pub(super) struct Keys {
    by_name: BTreeMap<Name, Serial>,
    values: BTreeMap<Serial, Value>,
}

struct Value {
    key: Name,
    bytes: Secret,
}

/// A page of keys, and the cursor of the next one if there is more.
pub(super) type Page = (Vec<String>, Option<u64>);

impl Tree {
    pub(super) fn value(&self, key: &str) -> Option<&[u8]> {
        let serial = self.keys.by_name.get(key)?;
        self.keys.values.get(serial).map(|value| value.bytes.as_slice())
    }

    /// Sets `key`; on failure nothing has changed.
    pub(super) fn set(&mut self, key: &str, bytes: Secret) -> Result<(), FileError> {
        let length = bytes.len() as u64;
        let old = self.keys.by_name.get(key).copied();
        if let Some(serial) = old {
            let before = self.keys.values.get(&serial).map_or(0, |value| value.bytes.len()) as u64;
            self.charge(length.saturating_sub(before))?;
            self.refund(before.saturating_sub(length));
            if let Some(value) = self.keys.values.get_mut(&serial) {
                value.bytes = bytes;
            }
            return Ok(());
        }
        self.charge(EphemeralState::KEY_BYTES + key.len() as u64 + length)?;
        let (key, serial) = (Name::new(key), self.next_serial());
        self.keys.by_name.insert(key.clone(), serial);
        self.keys.values.insert(serial, Value { key, bytes });
        Ok(())
    }

    /// Removes `key` if it is there.
    pub(super) fn delete(&mut self, key: &str) {
        if let Some(serial) = self.keys.by_name.remove(key)
            && let Some(value) = self.keys.values.remove(&serial)
        {
            let length = (key.len() + value.bytes.len()) as u64;
            self.refund(EphemeralState::KEY_BYTES + length);
        }
    }

    /// The keys after `cursor` in the order they were first set.
    pub(super) fn page(&self, cursor: Option<u64>) -> Page {
        let after = Serial(cursor.unwrap_or(0));
        let mut rest = self.keys.values.range((Bound::Excluded(after), Bound::Unbounded));
        let mut last = after;
        let mut keys = Vec::new();
        for (serial, value) in rest.by_ref().take(PAGE_KEYS) {
            last = *serial;
            keys.push(value.key.as_str().to_owned());
        }
        let more = rest.next().is_some();
        (keys, more.then_some(last.0))
    }
}
