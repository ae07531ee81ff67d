//! A TOML file becomes a value of a type, or every fault in it.
//!
//! The type's own JSON Schema (the one editors get) is walked beside the text: unknown keys, wrong
//! types, missing keys, bad texts are all found in one pass, each with its place. Only a file
//! without faults is read into the type.

use std::ops::Range;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};
use vyr_base::{Diagnostic, Source};

use super::text;

/// Bytes of one file. Ten thousand clients take two million.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Faults of one file that are told; a file with more is another file.
const FAULTS_MAX: usize = 200;

/// The JSON Schema of `T`, for editors.
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Reads `source`; adds what is wrong to `faults`.
pub(crate) fn read<T: JsonSchema + DeserializeOwned>(
    source: &Source,
    faults: &mut Vec<Diagnostic>,
) -> Option<T> {
    let before = faults.len();
    let found = read_all(source, faults);
    if faults.len() > before + FAULTS_MAX {
        let more = faults.len() - before - FAULTS_MAX;
        faults.truncate(before + FAULTS_MAX);
        faults.push(Diagnostic::error(
            "too-many",
            format!("{} has {more} more faults", source.name()),
        ));
    }
    found
}

fn read_all<T: JsonSchema + DeserializeOwned>(
    source: &Source,
    faults: &mut Vec<Diagnostic>,
) -> Option<T> {
    if source.text().len() > FILE_BYTES_MAX {
        let what = format!("{} has {} bytes", source.name(), source.text().len());
        faults.push(Diagnostic::error("too-large", what).why(format!("at most {FILE_BYTES_MAX}")));
        return None;
    }
    let conflicts = conflict_markers(source);
    if !conflicts.is_empty() {
        faults.extend(conflicts);
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(source.text());
    if !errors.is_empty() {
        faults.extend(errors.iter().map(|error| syntax(source, error)));
        return None;
    }
    let root = schema::<T>();
    let mut walk = Walk { source, root: &root, faults: Vec::new() };
    walk.table(&root, table.get_ref(), table.span(), "the file");
    if !walk.faults.is_empty() {
        // The order of the text, not of the keys.
        walk.faults.sort_by_key(|(at, _)| *at);
        faults.extend(walk.faults.into_iter().map(|(_, fault)| fault));
        return None;
    }
    match T::deserialize(Deserializer::from(table)) {
        Ok(value) => Some(value),
        Err(error) => {
            faults.push(syntax(source, &error));
            None
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

fn syntax(source: &Source, error: &toml::de::Error) -> Diagnostic {
    let what = error.message().lines().next().unwrap_or("it is not TOML").to_owned();
    let duplicate = what.contains("duplicate key");
    let fault = Diagnostic::error(if duplicate { "duplicate-key" } else { "syntax" }, what)
        .at(source.place(error.span().unwrap_or(0..0)));
    match duplicate {
        true => fault.hint("keep one of them"),
        false => fault.hint("the file is TOML 1.0: https://toml.io"),
    }
}

struct Walk<'a> {
    source: &'a Source,
    root: &'a Value,
    faults: Vec<(usize, Diagnostic)>,
}

impl Walk<'_> {
    fn fault(&mut self, span: Range<usize>, fault: Diagnostic) {
        self.faults.push((span.start, fault.at(self.source.place(span))));
    }

    /// The schema behind references and behind "or null", which TOML does not have.
    fn behind<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        loop {
            let reference = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
            let choice = schema["anyOf"]
                .as_array()
                .and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"));
            schema = match (reference, choice) {
                (Some(name), _) => &self.root["$defs"][name],
                (None, Some(choice)) => choice,
                (None, None) => return schema,
            };
        }
    }

    fn table(&mut self, schema: &Value, table: &DeTable<'_>, span: Range<usize>, what: &str) {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none).clone();
        let others =
            schema.get("additionalProperties").filter(|others| others.is_object()).cloned();
        let names = schema["propertyNames"].clone();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            match (known.get(name), &others) {
                (Some(schema), _) => self.value(schema, value, name),
                (None, Some(schema)) => {
                    // A map's keys are names wherever they are not something else.
                    let format =
                        self.behind(&names)["format"].as_str().unwrap_or("vyr-name").to_owned();
                    self.text(&format, name, key.span(), "a name");
                    self.value(schema, value, name);
                }
                (None, None) => self.unknown(&known, name, key.span(), what),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.keys().any(|key| key.get_ref().as_ref() == name) {
                let doc =
                    self.behind(&known[name])["description"].as_str().unwrap_or("").to_owned();
                let doc = known[name]["description"].as_str().map_or(doc, str::to_owned);
                let fault = Diagnostic::error("missing-key", format!("{what} has no `{name}`"))
                    .why(doc.replace('\n', " "))
                    .hint(format!("add `{name} = ...`"));
                // A table's span is its header; the file's own is all of it.
                let header = span.start..span.end.min(span.start + 64);
                self.fault(if what == "the file" { 0..0 } else { header }, fault);
            }
        }
    }

    fn unknown(&mut self, known: &Map<String, Value>, name: &str, span: Range<usize>, what: &str) {
        let near = known
            .keys()
            .map(|key| (strsim::jaro_winkler(key, name), key))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let fault = Diagnostic::error("unknown-key", format!("{what} takes no `{name}`"));
        let names = known.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        self.fault(
            span,
            match near {
                Some((_, key)) => fault.hint(format!("did you mean `{key}`?")),
                None => fault.hint(format!("it takes {names}")),
            },
        );
    }

    fn value(&mut self, schema: &Value, value: &Spanned<DeValue<'_>>, what: &str) {
        let schema = self.behind(schema).clone();
        let span = value.span();
        let one = schema["type"].as_str();
        let wanted = one.or_else(|| {
            let types = schema["type"].as_array()?;
            types.iter().filter_map(Value::as_str).find(|name| *name != "null")
        });
        let words = words(&schema);
        match (wanted, value.get_ref()) {
            (Some("object"), DeValue::Table(table)) => {
                self.table(&schema, table, span, &format!("`{what}`"));
            }
            (Some("array"), DeValue::Array(items)) => {
                let item = schema["items"].clone();
                items.iter().for_each(|value| self.value(&item, value, what));
            }
            (Some("boolean"), DeValue::Boolean(_)) => (),
            (Some("integer"), DeValue::Integer(number)) => {
                let radix = number.radix();
                let found = i64::from_str_radix(&number.as_str().replace('_', ""), radix).ok();
                let bound = |name: &str| schema[name].as_i64();
                let (min, max) = (bound("minimum"), bound("maximum"));
                let good = found.is_some_and(|n| {
                    min.is_none_or(|min| min <= n) && max.is_none_or(|max| n <= max)
                });
                if !good {
                    let range = match (min, max) {
                        (Some(min), Some(max)) if min == max => format!("it must be {min}"),
                        (Some(min), Some(max)) => format!("it must be {min} to {max}"),
                        _ => "it must be a small whole number".into(),
                    };
                    let what = format!("`{what}` is {}", number.as_str());
                    self.fault(span, Diagnostic::error("out-of-range", what).why(range));
                }
            }
            (_, DeValue::String(text)) if !words.is_empty() => {
                if !words.iter().any(|word| word == text.as_ref()) {
                    let near = words
                        .iter()
                        .map(|word| (strsim::jaro_winkler(word, text), word))
                        .filter(|(likeness, _)| *likeness > 0.8)
                        .max_by(|a, b| a.0.total_cmp(&b.0));
                    let fault = Diagnostic::error("unknown-word", format!("`{what}` is {text:?}"))
                        .why(format!("it must be one of {}", words.join(", ")));
                    let fault = match near {
                        Some((_, word)) => fault.hint(format!("did you mean {word:?}?")),
                        None => fault,
                    };
                    self.fault(span, fault);
                }
            }
            (Some("string"), DeValue::String(text)) => {
                let format = schema["format"].as_str().unwrap_or_default().to_owned();
                self.text(&format, text, span, &format!("`{what}`"));
            }
            (wanted, found) => {
                let wanted = if words.is_empty() { wanted.unwrap_or("value") } else { "string" };
                let (wanted, found) = (in_toml(wanted), in_toml(found.type_str()));
                let fault = Diagnostic::error("wrong-type", format!("`{what}` is {found}"))
                    .why(format!("it must be {wanted}"));
                self.fault(span, fault);
            }
        }
    }

    fn text(&mut self, format: &str, text: &str, span: Range<usize>, what: &str) {
        if let Err(error) = text::check(format, text) {
            let shown: String = text.chars().take(64).collect();
            let fault =
                Diagnostic::error("bad-text", format!("{what} is {shown:?}")).why(error.why);
            let fault = Diagnostic { hint: error.hint, ..fault };
            self.fault(span, fault);
        }
    }
}

/// The words of an enumeration: one list, or a choice of constants with a description each.
fn words(schema: &Value) -> Vec<String> {
    let list = schema["enum"].as_array().into_iter().flatten();
    let constants = schema["oneOf"].as_array().into_iter().flatten().map(|one| &one["const"]);
    list.chain(constants).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn in_toml(name: &str) -> &str {
    match name {
        "object" | "table" => "a table",
        "array" => "a list",
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "float" => "a number with a fraction",
        "boolean" => "true or false",
        "datetime" => "a date",
        other => other,
    }
}
