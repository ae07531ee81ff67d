//! A TOML file becomes a value of a type, or every fault in it.
//!
//! The type's own JSON Schema (the one editors get) is walked beside the text: unknown keys, wrong
//! types, missing keys, bad texts are all found in one pass, each with its place. What is left
//! without the faults is read into the type, with stand-ins where something must be, so that a wrong
//! port does not hide a misspelt name.

use std::marker::PhantomData;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::de::{DeTable, Deserializer};

use super::shape::Shape;
use super::text::TextForm;
use super::twice;
use super::walk::{Walk, shown};
use crate::{Diagnostic, Source};

/// Bytes of one file. Ten thousand clients take two million.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// The JSON Schema of `T`, for editors.
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// What was made of a file.
#[derive(Debug)]
pub struct Found<T> {
    /// The value, with stand-ins for what cannot be read; none: the file is not TOML.
    pub value: Option<T>,
    /// Whether all of the file is in the value: no stand-in is, and nothing was taken out that has a
    /// name or, misspelt, a meaning.
    pub whole: bool,
}

/// Why a key is not known, where more can be said than that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// The fault's id; none: `unknown-key`.
    pub id: Option<&'static str>,
    /// Why there is no such key.
    pub why: &'static str,
    /// What to write instead; none: the key that is nearest, or those there are.
    pub hint: Option<&'static str>,
}

/// Reads files of the form `T`: its shape is worked out once, so keep it in a static.
pub struct Reader<T> {
    shape: Shape,
    unknown: fn(&str) -> Option<Unknown>,
    value: PhantomData<fn() -> T>,
}

impl<T: JsonSchema + DeserializeOwned> Reader<T> {
    /// For files whose texts have one of the forms `texts`; a `format` of the schema that is none of
    /// them is not checked. Keys of maps are the first of them, unless the schema's `propertyNames`
    /// says otherwise. `unknown` is asked about keys that nobody knows.
    pub fn new(texts: &[TextForm], unknown: fn(&str) -> Option<Unknown>) -> Self {
        Self { shape: Shape::of(&schema::<T>(), texts), unknown, value: PhantomData }
    }

    /// Reads `source`; adds what is wrong to `faults`.
    pub fn read(&self, source: &Source, faults: &mut Vec<Diagnostic>) -> Found<T> {
        let nothing = Found { value: None, whole: false };
        if source.text().len() > FILE_BYTES_MAX {
            let what = format!("{} has {} bytes", source.name(), source.text().len());
            let fault = Diagnostic::error("too-large", what);
            faults.push(fault.why(format!("at most {FILE_BYTES_MAX}")));
            return nothing;
        }
        let conflicts = conflict_markers(source);
        if !conflicts.is_empty() {
            faults.extend(conflicts);
            return nothing;
        }
        let (mut table, errors) = DeTable::parse_recoverable(source.text());
        if !errors.is_empty() {
            faults.extend(not_toml(source, &errors));
            return nothing;
        }
        let mut walk = Walk::new(source, self.unknown);
        let span = table.span();
        if let Shape::Table { keys, others } = &self.shape {
            walk.table(keys, others.as_ref(), table.get_mut(), span, "the file");
        }
        let whole = walk.whole;
        faults.append(&mut walk.faults);
        match T::deserialize(Deserializer::from(table)) {
            Ok(value) => Found { value: Some(value), whole },
            Err(error) => {
                faults.push(syntax(source, &error));
                nothing
            }
        }
    }
}

impl<T> std::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Lines that a merge left behind.
pub fn conflict_markers(source: &Source) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let marker = ["<<<<<<< ", "=======\n", "=======\r\n", ">>>>>>> ", "||||||| "];
        if marker.iter().any(|marker| line.starts_with(marker)) {
            let fault = Diagnostic::error("merge-conflict", "a merge was not finished")
                .at(source.place(start..start + line.trim_end().len()))
                .why("git marked two versions of these lines and left the choice to you")
                .hint("choose, delete the markers, then run vyr check");
            faults.push(fault);
        }
        start += line.len();
    }
    faults
}

/// What stops the reading of a text as TOML, in order: what follows from a fault is left out.
fn not_toml(source: &Source, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let place = |error: &toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        (source.place(start..start).line, is_duplicate(error), start)
    };
    let mut errors: Vec<_> = errors.iter().map(|error| (place(error), error)).collect();
    errors.sort_by_key(|(place, _)| *place);
    let lines: Vec<&str> = source.text().lines().collect();
    let is_header = |line: usize| lines.get(line - 1).is_some_and(|line| line.starts_with('['));
    let (mut told, mut table) = (0, None);
    let mut to_tell = Vec::new();
    for ((line, duplicate, _), error) in errors {
        // Every key of a table that is there twice is there twice.
        let inside = table.is_some_and(|table| (table + 1..=line).all(|line| !is_header(line)));
        if line == told || (duplicate && inside) {
            continue;
        }
        if duplicate && is_header(line) {
            table = Some(line);
        }
        told = line;
        to_tell.push(error);
    }
    let second = |error: &&&toml::de::Error| is_duplicate(error);
    let seconds = to_tell.iter().filter(second).filter_map(|error| error.span());
    let firsts = twice::firsts(source.text(), &seconds.collect::<Vec<_>>());
    let tell = |error: &toml::de::Error| {
        let first = error.span().and_then(|span| firsts.get(&span.start)).cloned();
        let first = first.filter(|_| is_duplicate(error)).map(|span| source.place(span));
        Diagnostic { first, ..syntax(source, error) }
    };
    to_tell.into_iter().map(tell).collect()
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().contains("duplicate key")
}

fn syntax(source: &Source, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let place = source.place(span.clone());
    if is_duplicate(error) {
        let key = source.text().get(span).unwrap_or_default();
        let what = format!("`{}` is there twice", shown(key));
        return Diagnostic::error("duplicate-key", what)
            .at(place)
            .hint("keep one of them, or give the other another name");
    }
    let what = error.message().lines().next().unwrap_or("it is not TOML").to_owned();
    let fault = Diagnostic::error("syntax", what).at(place);
    let marked = source.text().get(span.start..).unwrap_or_default().chars();
    let length = span.end.saturating_sub(span.start).max(1);
    let odd = |c: &char| !c.is_ascii() || (c.is_ascii_control() && !c.is_ascii_whitespace());
    match marked.take(length).find(odd) {
        Some(c) => fault
            .why(format!("there is the character U+{:04X}, which is not plain ASCII", u32::from(c)))
            .hint("type it again: some programs replace quotes and spaces"),
        None => fault.hint("the file is TOML 1.0: https://toml.io"),
    }
}
