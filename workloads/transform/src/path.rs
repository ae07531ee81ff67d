//! Paths into an event: `target.kind.0`, with `\.` for a dot that is part of a name.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::event::{Entries, Event};

/// Where a value is: names of fields and indexes of arrays, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<String>);

impl Path {
    /// Reads a dotted path; `None` when a segment is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = vec![String::new()];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '.' => segments.push(String::new()),
                '\\' => segments.last_mut()?.push(letters.next()?),
                other => segments.last_mut()?.push(other),
            }
        }
        segments.iter().all(|segment| !segment.is_empty()).then_some(Self(segments))
    }

    pub(crate) fn single(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    pub(crate) fn segments(&self) -> &[String] {
        &self.0
    }

    /// The value in `event`, if it has one there. Of fields with one name the last counts.
    pub(crate) fn find<'a>(&self, event: &Event<'a>) -> Option<&'a RawValue> {
        let (first, rest) = self.0.split_first()?;
        let mut value = event.get(first)?;
        for segment in rest {
            value = match Entries::parse(value)? {
                Entries::Object(fields) => Event::from_fields(fields).get(segment)?,
                Entries::Array(items) => *items.get(segment.parse::<usize>().ok()?)?,
            };
        }
        Some(value)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", segment.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

/// What a value is compared and grouped by: a string's contents, anything else as written.
pub(crate) fn text(value: &RawValue) -> Cow<'_, str> {
    let written = value.get();
    match written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if memchr::memchr(b'\\', inner.as_bytes()).is_none() => Cow::Borrowed(inner),
        // A lone surrogate has no contents to compare; it stays as written.
        Some(_) => serde_json::from_str(written).map_or(Cow::Borrowed(written), Cow::Owned),
        None => Cow::Borrowed(written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, event: &str) -> Option<String> {
        let event = Event::parse(event.as_bytes()).unwrap();
        Path::parse(path).unwrap().find(&event).map(|value| text(value).into_owned())
    }

    #[test]
    fn paths_reach_fields_and_items() {
        let event = r#"{"a":{"b":[1,{"c":"x\u0041"}]},"d.e":null,"a2":2.50,"a2":3}"#;
        assert_eq!(find("a.b.0", event).as_deref(), Some("1"));
        assert_eq!(find("a.b.1.c", event).as_deref(), Some("xA"));
        assert_eq!(find("a.b", event).as_deref(), Some(r#"[1,{"c":"x\u0041"}]"#));
        assert_eq!(find(r"d\.e", event).as_deref(), Some("null"));
        assert_eq!(find("a2", event).as_deref(), Some("3"));
        for absent in ["x", "a.x", "a.b.2", "a.b.c", "a2.x", "d.e"] {
            assert_eq!(find(absent, event), None, "{absent}");
        }
    }

    #[test]
    fn paths_print_as_they_are_read() {
        for path in ["a", "a.b.0", r"d\.e.f", r"a\\b"] {
            assert_eq!(Path::parse(path).unwrap().to_string(), path);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a\\"] {
            assert_eq!(Path::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_lone_surrogate_stays_as_written() {
        assert_eq!(find("a", r#"{"a":"\ud800"}"#).as_deref(), Some(r#""\ud800""#));
    }
}
