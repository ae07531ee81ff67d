//! Where the first one of a key that stands twice in a table is.
//!
//! The parser says where the second one is, no more. So the second ones are given names that nobody
//! has, the text is parsed again, and the first one of each is the key beside it that has the name
//! which was taken away.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// What names begin with that nobody has.
const NOBODY: char = '\0';

/// By the first byte of each of `seconds`, the bytes of the first one, where it is found. `seconds`
/// are keys in `text`, in order and apart.
pub(super) fn firsts(text: &str, seconds: &[Range<usize>]) -> BTreeMap<usize, Range<usize>> {
    if seconds.is_empty() {
        return BTreeMap::new();
    }
    let mut renamed = Renamed::default();
    for (number, second) in seconds.iter().enumerate() {
        renamed.keep(text, second.start);
        let name = format!("\"\\u{:04X}{number}\"", u32::from(NOBODY));
        renamed.replace(&name, second.end);
    }
    renamed.keep(text, text.len());

    let mut found = BTreeMap::new();
    let (root, _) = DeTable::parse_recoverable(&renamed.text);
    // Keys with dots go as deep as they like, so this is no recursion.
    let mut tables = vec![root.get_ref()];
    let mut lists = Vec::new();
    while let Some(table) = tables.pop() {
        for (key, value) in table {
            let number = key.get_ref().strip_prefix(NOBODY).and_then(|text| text.parse().ok());
            let second = number.and_then(|number: usize| seconds.get(number));
            if let Some(second) = second
                && let Some(name) = text.get(second.clone()).and_then(name)
                && let Some((first, _)) = table.get_key_value(name.as_str())
            {
                found.insert(second.start, renamed.before(first.span()));
            }
            match value.get_ref() {
                DeValue::Table(table) => tables.push(table),
                DeValue::Array(list) => lists.push(list),
                _ => (),
            }
        }
        while let Some(list) = lists.pop() {
            for value in list.iter() {
                match value.get_ref() {
                    DeValue::Table(table) => tables.push(table),
                    DeValue::Array(list) => lists.push(list),
                    _ => (),
                }
            }
        }
    }
    found
}

/// The name that a key stands for.
fn name(key: &str) -> Option<String> {
    let line = format!("{key} = 0");
    let table = DeTable::parse(&line).ok()?;
    table.get_ref().keys().next().map(|key| key.get_ref().to_string())
}

/// A text with parts replaced, and where its bytes were before.
#[derive(Default)]
struct Renamed {
    text: String,
    /// How much of the old text is in it or was replaced.
    taken: usize,
    /// Where parts begin that were kept: there, and in the old text.
    kept: Vec<(usize, usize)>,
}

impl Renamed {
    fn keep(&mut self, old: &str, to: usize) {
        self.kept.push((self.text.len(), self.taken));
        self.text.push_str(old.get(self.taken..to).unwrap_or_default());
        self.taken = to;
    }

    fn replace(&mut self, new: &str, to: usize) {
        self.text.push_str(new);
        self.taken = to;
    }

    /// Where bytes of a part that was kept were before.
    fn before(&self, span: Range<usize>) -> Range<usize> {
        let part = self.kept.partition_point(|(new, _)| *new <= span.start);
        let (new, old) = self.kept[part - 1];
        span.start - new + old..span.end - new + old
    }
}
