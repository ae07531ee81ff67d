//! One event: the fields of an object in their order, values as written.
//!
//! Only the top level is taken apart; deeper levels are parsed when a path asks for them. The
//! whole line is validated all the same, because serde_json reads over every value.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{Config, Keep};

pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// What most events have: a cargo artifact has nine fields.
const USUAL_FIELDS: usize = 16;

/// Names this program adds. A field of the input with such a name gives way.
const SEQ: &str = "seq";
const BYTES: &str = "bytes";

pub(crate) struct Event<'a> {
    fields: Fields<'a>,
}

impl<'a> Event<'a> {
    /// Reads one line; `None` when it is not exactly one JSON object in UTF-8.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        // One pass over the bytes is cheaper than serde_json's check of every string.
        let line = str::from_utf8(line).ok()?;
        match serde_json::from_str(line).ok()? {
            Entries::Object(fields) => Some(Self { fields }),
            Entries::Array(_) => None,
        }
    }

    pub(crate) fn from_fields(fields: Fields<'a>) -> Self {
        Self { fields }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().rev().find(|(held, _)| held == name).map(|(_, value)| *value)
    }

    /// Writes the event as one line: its fields in their order, or those kept, then what
    /// `config` adds, then its number and the length of its line.
    pub(crate) fn write(&self, config: &Config, seq: u64, bytes: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (name, value) in &self.fields {
            let name = name.as_ref();
            if name == SEQ || name == BYTES || config.additions.iter().any(|(new, _)| new == name) {
                continue;
            }
            match config.keep.as_ref().map(|keep| keep.child(name)) {
                None => field(name, value.get(), out),
                Some(Some(keep)) => kept_field(name, value, keep, out),
                Some(None) => {}
            }
        }
        for (name, value) in &config.additions {
            field(name, value, out);
        }
        comma(out);
        let written = write!(out, "\"{SEQ}\":{seq},\"{BYTES}\":{bytes}}}");
        debug_assert!(written.is_ok(), "a vector takes every write");
        out.push(b'\n');
    }
}

/// Writes the parts of `value` that `keep` names, under `name`; nothing when it has none.
fn kept_field(name: &str, value: &RawValue, keep: &Keep, out: &mut Vec<u8>) {
    let before = out.len();
    comma(out);
    quoted(name, out);
    out.push(b':');
    if !kept_value(value, keep, out) {
        out.truncate(before);
    }
}

/// As [`kept_field`], for the value alone. Its depth is that of the configured paths.
fn kept_value(value: &RawValue, keep: &Keep, out: &mut Vec<u8>) -> bool {
    if keep.is_whole() {
        out.extend_from_slice(value.get().as_bytes());
        return true;
    }
    let before = out.len();
    match Entries::parse(value) {
        Some(Entries::Object(fields)) => {
            out.push(b'{');
            for (name, value) in fields {
                if let Some(keep) = keep.child(&name) {
                    kept_field(&name, value, keep, out);
                }
            }
            out.push(b'}');
        }
        Some(Entries::Array(items)) => {
            out.push(b'[');
            for (index, value) in items.into_iter().enumerate() {
                let Some(keep) = keep.child(&index.to_string()) else { continue };
                let before = out.len();
                comma(out);
                if !kept_value(value, keep, out) {
                    out.truncate(before);
                }
            }
            out.push(b']');
        }
        None => return false,
    }
    // Only the two brackets: nothing under them was kept.
    out.len() > before + 2
}

fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    comma(out);
    quoted(name, out);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// Separates what follows from what was written, unless a bracket was just opened.
fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

pub(crate) fn quoted(text: &str, out: &mut Vec<u8>) {
    // Almost every name is plain, and this is the inner loop.
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        let written = serde_json::to_writer(out, text);
        debug_assert!(written.is_ok(), "a vector takes every write");
    }
}

/// One level of an object or an array.
pub(crate) enum Entries<'a> {
    Object(Fields<'a>),
    Array(Vec<&'a RawValue>),
}

impl<'a> Entries<'a> {
    /// `None` for a value that has no parts.
    pub(crate) fn parse(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneLevel;

        impl<'de> Visitor<'de> for OneLevel {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(USUAL_FIELDS);
                while let Some(name) = map.next_key_seed(Name)? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Entries::Object(fields))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Entries::Array(items))
            }
        }

        deserializer.deserialize_any(OneLevel)
    }
}

/// A field's name, borrowed from the line unless it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
