//! A TOML file becomes a value of a type, or every fault in it.
//!
//! The type's own JSON Schema (the one editors get) is walked beside the text: unknown keys, wrong
//! types, missing keys, bad texts are all found in one pass, each with its place. What is left
//! without the faults is read into the type, with stand-ins where something must be, so that a wrong
//! port does not hide a misspelt name.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};
use vyr_base::{Diagnostic, Source};

use super::{stand_in, text, twice};

/// Bytes of one file. Ten thousand clients take two million.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// The JSON Schema of `T`, for editors.
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// What was made of a file.
pub(crate) struct Found<T> {
    /// The value, with stand-ins for what cannot be read; none: the file is not TOML.
    pub(crate) value: Option<T>,
    /// Whether all of the file is in the value: no stand-in is, and nothing was taken out that has a
    /// name or, misspelt, a meaning.
    pub(crate) whole: bool,
}

/// A file of a site: its shape is worked out once.
pub(crate) trait Form: JsonSchema + DeserializeOwned {
    fn shape() -> &'static Shape;
}

macro_rules! forms {
    ($($form:ty),*) => { $(
        impl Form for $form {
            fn shape() -> &'static Shape {
                static SHAPE: LazyLock<Shape> = LazyLock::new(Shape::of::<$form>);
                &SHAPE
            }
        }
    )* };
}

forms!(super::SiteFile, super::ClientsFile, super::ContractsFile);

/// Reads `source`; adds what is wrong to `faults`.
pub(crate) fn read<T: Form>(source: &Source, faults: &mut Vec<Diagnostic>) -> Found<T> {
    let nothing = Found { value: None, whole: false };
    if source.text().len() > FILE_BYTES_MAX {
        let what = format!("{} has {} bytes", source.name(), source.text().len());
        faults.push(Diagnostic::error("too-large", what).why(format!("at most {FILE_BYTES_MAX}")));
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
    let mut walk = Walk { source, faults: Vec::new(), whole: true };
    let span = table.span();
    if let Shape::Table { keys, others } = T::shape() {
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

/// Lines that a merge left behind.
pub(crate) fn conflict_markers(source: &Source) -> Vec<Diagnostic> {
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

/// As much of a text as a message has room for, without what moves a cursor.
fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(64).map(clean).collect()
}

/// What a schema says, with its references followed: made once, walked for each value.
pub(crate) enum Shape {
    Table {
        keys: BTreeMap<String, Key>,
        /// The form of other keys and of what they have.
        others: Option<(String, Box<Shape>)>,
    },
    List(Box<Shape>),
    Boolean,
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Words(Vec<String>),
    Text(String),
}

pub(crate) struct Key {
    pub(super) shape: Shape,
    pub(super) required: bool,
    doc: String,
}

impl Shape {
    fn of<T: JsonSchema>() -> Self {
        let root = schema::<T>();
        Self::read(&root, &root)
    }

    fn read(root: &Value, schema: &Value) -> Self {
        let schema = behind(root, schema);
        let words = words(schema);
        if !words.is_empty() {
            return Self::Words(words);
        }
        let types = schema["type"].as_array().into_iter().flatten().chain([&schema["type"]]);
        match types.filter_map(Value::as_str).find(|name| *name != "null") {
            Some("object") => {
                let required: Vec<&str> = schema["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let doc = |schema: &Value| schema["description"].as_str().map(str::to_owned);
                let key = |(name, schema): (&String, &Value)| {
                    let doc = doc(schema).or_else(|| doc(behind(root, schema)));
                    let key = Key {
                        shape: Self::read(root, schema),
                        required: required.contains(&name.as_str()),
                        doc: doc.unwrap_or_default().replace('\n', " "),
                    };
                    (name.clone(), key)
                };
                let others = schema.get("additionalProperties").filter(|of| of.is_object());
                let others = others.map(|others| {
                    // A map's keys are names wherever they are not something else.
                    let names = behind(root, &schema["propertyNames"]);
                    let format = names["format"].as_str().unwrap_or("vyr-name").to_owned();
                    (format, Box::new(Self::read(root, others)))
                });
                let keys = schema["properties"].as_object();
                Self::Table { keys: keys.into_iter().flatten().map(key).collect(), others }
            }
            Some("array") => Self::List(Box::new(Self::read(root, &schema["items"]))),
            Some("boolean") => Self::Boolean,
            Some("integer") => {
                let bound = |name: &str| schema[name].as_i64();
                Self::Integer { min: bound("minimum"), max: bound("maximum") }
            }
            _ => Self::Text(schema["format"].as_str().unwrap_or_default().to_owned()),
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }

    fn in_words(&self) -> &'static str {
        match self {
            Self::Table { .. } => "a table",
            Self::List(_) => "a list",
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Words(_) | Self::Text(_) => "a text in quotes",
        }
    }

    /// What to add where it is missing.
    fn to_add(&self, name: &str) -> String {
        match self {
            Self::Table { .. } => format!("add a table `{name}`"),
            Self::Integer { min: Some(min), max } if Some(*min) == *max => {
                format!("add `{name} = {min}`")
            }
            _ => format!("add `{name} = ...`"),
        }
    }
}

/// The schema behind references and behind "or null", which TOML does not have.
fn behind<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut schema = schema;
    loop {
        let reference = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        let choice = schema["anyOf"]
            .as_array()
            .and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"));
        schema = match (reference, choice) {
            (Some(name), _) => &root["$defs"][name],
            (None, Some(choice)) => choice,
            (None, None) => return schema,
        };
    }
}

/// The word that was meant, if one is near.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w String>) -> Option<&'w String> {
    let lower = word.to_lowercase();
    known
        .map(|known| (strsim::jaro_winkler(known, &lower), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// Compares a file with its shape. Unknown keys and tables of lists that have faults are taken out,
/// and whatever else is wrong becomes a stand-in. Each step says whether a value was sound before.
struct Walk<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
    whole: bool,
}

impl Walk<'_> {
    fn fault(&mut self, span: Range<usize>, fault: Diagnostic) {
        self.faults.push(fault.at(self.source.place(span)));
    }

    fn table(
        &mut self,
        keys: &BTreeMap<String, Key>,
        others: Option<&(String, Box<Shape>)>,
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
                (None, Some((format, shape))) => {
                    if !self.text(format, name, key.span(), "a name") {
                        (sound, self.whole) = (false, false);
                        misnamed.push((name.to_owned(), format));
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
        for (number, (name, format)) in misnamed.into_iter().enumerate() {
            if let Some(value) = table.remove(name.as_str()) {
                table.insert(stand_in::key(format, number), value);
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
        let near = nearest(name, keys.keys());
        let fault = Diagnostic::error("unknown-key", format!("{what} takes no `{}`", shown(name)));
        let fault = match near {
            Some(key) => fault.hint(format!("did you mean `{key}`?")),
            None => {
                let names: Vec<String> = keys.keys().map(|key| format!("`{key}`")).collect();
                fault.hint(format!("it takes {}", names.join(", ")))
            }
        };
        let derived = ["allowed_ips", "allowedips", "address", "addresses", "routes", "rules"];
        self.fault(
            span,
            match derived.contains(&name.to_lowercase().as_str()) {
                true => fault.why("addresses, AllowedIPs, routes and rules are derived"),
                false => fault,
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
                    let fault = match nearest(text, words.iter()) {
                        Some(word) => fault.hint(format!("did you mean {word:?}?")),
                        None => fault,
                    };
                    self.fault(span, fault);
                }
                good
            }
            (Shape::Text(format), DeValue::String(text)) => {
                self.text(format, text, span, &format!("`{what}`"))
            }
            (shape, found) => {
                let fault =
                    Diagnostic::error("wrong-type", format!("`{what}` is {}", in_words(found)))
                        .why(format!("it must be {}", shape.in_words()));
                let hint = match (shape, &*found) {
                    (Shape::Integer { .. }, DeValue::String(text)) => {
                        text.parse::<i64>().ok().map(|number| format!("write {number}"))
                    }
                    (Shape::Boolean, _) => Some("write true or false, without quotes".into()),
                    (Shape::List(_), DeValue::String(text)) => {
                        Some(format!("write [{:?}]", shown(text)))
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
                    let name = name.filter(|name| text::check("vyr-name", name).is_ok());
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

    fn text(&mut self, format: &str, text: &str, span: Range<usize>, what: &str) -> bool {
        let Err(error) = text::check(format, text) else { return true };
        let fault = Diagnostic::error("bad-text", format!("{what} is {:?}", shown(text)));
        self.fault(span, Diagnostic { hint: error.hint, ..fault.why(error.why) });
        false
    }
}

/// The words of an enumeration: one list, or a choice of constants with a description each.
fn words(schema: &Value) -> Vec<String> {
    let list = schema["enum"].as_array().into_iter().flatten();
    let constants = schema["oneOf"].as_array().into_iter().flatten().map(|one| &one["const"]);
    list.chain(constants).filter_map(Value::as_str).map(str::to_owned).collect()
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
