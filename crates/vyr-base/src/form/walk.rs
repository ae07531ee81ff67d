//! A file is compared with its shape.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::read::Unknown;
use super::shape::{Key, Shape};
use super::stand_in;
use super::text::{Name, TextForm};
use crate::{Diagnostic, Source};

/// As much of a text as a message has room for, without what moves a cursor.
pub(super) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(64).map(clean).collect()
}

/// The word that was meant, if one is near.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w String>) -> Option<&'w String> {
    let lower = word.to_lowercase();
    known
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &lower), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// The key that a table needs, if it needs one text and no more.
fn only(keys: &BTreeMap<String, Key>) -> Option<&String> {
    let mut needed = keys.iter().filter(|(_, key)| key.required);
    match (needed.next(), needed.next()) {
        (Some((name, key)), None) if matches!(key.shape, Shape::Text(_)) => Some(name),
        _ => None,
    }
}

/// Compares a file with its shape. Unknown keys and tables of lists that have faults are taken out,
/// and whatever else is wrong becomes a stand-in. Each step says whether a value was sound before.
pub(super) struct Walk<'a> {
    source: &'a Source,
    unknown: fn(&str) -> Option<Unknown>,
    pub(super) faults: Vec<Diagnostic>,
    pub(super) whole: bool,
}

impl<'a> Walk<'a> {
    /// Before the first step.
    pub(super) fn new(source: &'a Source, unknown: fn(&str) -> Option<Unknown>) -> Self {
        Self { source, unknown, faults: Vec::new(), whole: true }
    }

    fn fault(&mut self, span: Range<usize>, fault: Diagnostic) {
        self.faults.push(fault.at(self.source.place(span)));
    }

    /// Compares a table, which messages call `what`.
    pub(super) fn table(
        &mut self,
        keys: &BTreeMap<String, Key>,
        others: Option<&(TextForm, Box<Shape>)>,
        table: &mut DeTable<'_>,
        span: Range<usize>,
        what: &str,
    ) -> bool {
        let (mut sound, mut unknown, mut meant) = (true, Vec::new(), Vec::new());
        let mut misnamed = Vec::new();
        for (key, value) in table.iter_mut() {
            let name = key.get_ref().as_ref();
            match (keys.get(name), others) {
                (Some(known), _) => sound &= self.value(&known.shape, value, name),
                (None, Some((form, shape))) => {
                    if !self.text(form, name, key.span(), "a name") {
                        (sound, self.whole) = (false, false);
                        misnamed.push((name.to_owned(), form));
                    }
                    sound &= self.value(shape, value, name);
                }
                (None, None) => {
                    meant.extend(self.unknown(keys, name, key.span(), what));
                    unknown.push(name.to_owned());
                }
            }
        }
        for name in unknown {
            table.remove(name.as_str());
        }
        for (number, (name, form)) in misnamed.into_iter().enumerate() {
            if let Some(value) = table.remove(name.as_str()) {
                table.insert(stand_in::key(form, number), value);
            }
        }
        for (name, key) in keys {
            let misspelt = meant.contains(&name);
            if table.contains_key(name.as_str()) || !(key.required || misspelt) {
                continue;
            }
            table.insert(Spanned::new(0..0, name.clone().into()), stand_in::value(&key.shape));
            self.whole = false;
            sound &= !key.required;
            // Who misspelt a key is told so once.
            if !misspelt {
                let fault = Diagnostic::error("missing-key", format!("{what} has no `{name}`"))
                    .why(key.doc.clone())
                    .hint(key.shape.to_add(name));
                // A table's span is its header; the file's own is all of it.
                let header = span.start..span.end.min(span.start + 64);
                self.fault(if what == "the file" { 0..0 } else { header }, fault);
            }
        }
        sound
    }

    fn unknown<'k>(
        &mut self,
        keys: &'k BTreeMap<String, Key>,
        name: &str,
        span: Range<usize>,
        what: &str,
    ) -> Option<&'k String> {
        let told = (self.unknown)(name);
        // What is known not to be there was not misspelt.
        let known = told.is_some_and(|told| told.hint.is_some());
        let near = nearest(name, keys.keys()).filter(|_| !known);
        let id = told.and_then(|told| told.id).unwrap_or("unknown-key");
        let fault = Diagnostic::error(id, format!("{what} takes no `{}`", shown(name)));
        let fault = match (told.and_then(|told| told.hint), near) {
            (Some(hint), _) => fault.hint(hint),
            (None, Some(key)) => fault.hint(format!("did you mean `{key}`?")),
            (None, None) => {
                let names: Vec<String> = keys.keys().map(|key| format!("`{key}`")).collect();
                fault.hint(format!("it takes {}", names.join(", ")))
            }
        };
        self.fault(
            span,
            match told {
                Some(told) => fault.why(told.why),
                None => fault,
            },
        );
        near
    }

    fn value(&mut self, shape: &Shape, value: &mut Spanned<DeValue<'_>>, what: &str) -> bool {
        let sound = self.is_sound(shape, value, what);
        // Of tables and lists the parts have been replaced.
        let parts = matches!(
            (shape, value.get_ref()),
            (Shape::Table { .. }, DeValue::Table(_)) | (Shape::List(_), DeValue::Array(_))
        );
        if !sound && !parts {
            self.whole = false;
            *value = stand_in::value(shape);
        }
        sound
    }

    fn is_sound(&mut self, shape: &Shape, value: &mut Spanned<DeValue<'_>>, what: &str) -> bool {
        let span = value.span();
        match (shape, value.get_mut()) {
            (Shape::Table { keys, others }, DeValue::Table(table)) => {
                self.table(keys, others.as_ref(), table, span, &format!("`{what}`"))
            }
            (Shape::List(item), DeValue::Array(items)) => self.list(item, items, what),
            (Shape::Boolean, DeValue::Boolean(_)) => true,
            (Shape::Integer { min, max }, DeValue::Integer(number)) => {
                let digits = number.as_str().replace('_', "");
                let found = i64::from_str_radix(&digits, number.radix()).ok();
                let good = found.is_some_and(|n| {
                    min.is_none_or(|min| min <= n) && max.is_none_or(|max| n <= max)
                });
                if !good {
                    let range = match (min, max) {
                        (Some(min), Some(max)) if min == max => format!("it must be {min}"),
                        (Some(min), Some(max)) => format!("it must be {min} to {max}"),
                        _ => "it must be a small whole number".into(),
                    };
                    let written = self.source.text().get(span.clone()).unwrap_or_default();
                    let fault = format!("`{what}` is {}", shown(written));
                    let fault = Diagnostic::error("out-of-range", fault).why(range);
                    let fault = match what == "version" {
                        true => fault.hint("a file of another form is read by another vyr"),
                        false => fault,
                    };
                    self.fault(span, fault);
                }
                good
            }
            (Shape::Words(words), DeValue::String(text)) => {
                let good = words.iter().any(|word| word == text.as_ref());
                if !good {
                    let written = shown(text);
                    let fault =
                        Diagnostic::error("unknown-word", format!("`{what}` is {written:?}"))
                            .why(format!("it must be one of {}", words.join(", ")));
                    let fault = match ((self.unknown)(text), nearest(text, words.iter())) {
                        (Some(Unknown { id, why, hint: Some(hint) }), _) => {
                            Diagnostic { id: id.unwrap_or(fault.id), ..fault }.why(why).hint(hint)
                        }
                        (_, Some(word)) => fault.hint(format!("did you mean {word:?}?")),
                        (_, None) => fault,
                    };
                    self.fault(span, fault);
                }
                good
            }
            (Shape::Text(form), DeValue::String(text)) => match form {
                Some(form) => self.text(form, text, span, &format!("`{what}`")),
                None => true,
            },
            (Shape::Number(form), DeValue::Float(_) | DeValue::Integer(_)) => {
                let written = self.source.text().get(span.clone()).unwrap_or_default();
                self.text(form, written, span, &format!("`{what}`"))
            }
            (shape, found) => {
                let fault =
                    Diagnostic::error("wrong-type", format!("`{what}` is {}", in_words(found)))
                        .why(format!("it must be {}", shape.in_words()));
                let hint = match (shape, &*found) {
                    (Shape::Integer { .. }, DeValue::String(text)) => {
                        text.parse::<i64>().ok().map(|number| format!("write {number}"))
                    }
                    (Shape::Number(form), DeValue::String(text)) => {
                        (form.check)(text).is_ok().then(|| format!("write {text}"))
                    }
                    (Shape::Boolean, _) => Some("write true or false, without quotes".into()),
                    (Shape::List(_), DeValue::String(text)) => {
                        Some(format!("write [{:?}]", shown(text)))
                    }
                    (Shape::Table { keys, .. }, DeValue::String(text)) => {
                        only(keys).map(|key| format!("write {{ {key} = {:?} }}", shown(text)))
                    }
                    _ => None,
                };
                self.fault(span, Diagnostic { hint, ..fault });
                false
            }
        }
    }

    fn list(&mut self, shape: &Shape, items: &mut DeArray<'_>, what: &str) -> bool {
        let mut wrong = Vec::new();
        for (at, value) in items.iter_mut().enumerate() {
            let sound = match (shape, value.span(), value.get_mut()) {
                (Shape::Table { keys, others }, span, DeValue::Table(table)) => {
                    let name =
                        ["id", "name"].iter().find_map(|key| table.get(*key)?.get_ref().as_str());
                    let name = name.filter(|name| name.parse::<Name>().is_ok());
                    let name = match name {
                        Some(name) => format!("`{name}`"),
                        None => format!("an entry of `{what}`"),
                    };
                    self.table(keys, others.as_ref(), table, span, &name)
                }
                _ => self.value(shape, value, what),
            };
            if !sound {
                wrong.push(at);
            }
        }
        if !shape.is_table() || wrong.is_empty() {
            return wrong.is_empty();
        }
        self.whole = false;
        let all = std::mem::replace(items, DeArray::from_iter([]));
        let rest = all.into_iter().enumerate().filter(|(at, _)| wrong.binary_search(at).is_err());
        *items = rest.map(|(_, value)| value).collect();
        true
    }

    fn text(&mut self, form: &TextForm, text: &str, span: Range<usize>, what: &str) -> bool {
        let Err(error) = (form.check)(text) else { return true };
        let fault = Diagnostic::error("bad-text", format!("{what} is {:?}", shown(text)));
        self.fault(span, Diagnostic { hint: error.hint, ..fault.why(error.why) });
        false
    }
}

fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list",
        DeValue::String(_) => "a text in quotes",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
    }
}
