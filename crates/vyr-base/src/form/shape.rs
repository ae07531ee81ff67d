//! What a schema says, with its references followed: made once, walked for each value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::TextForm;

/// The form of a value.
pub(super) enum Shape {
    Table {
        keys: BTreeMap<String, Key>,
        /// The form of other keys and of what they have.
        others: Option<(TextForm, Box<Shape>)>,
    },
    List(Box<Shape>),
    Boolean,
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    /// A number that may have a fraction, written in a form of its own.
    Number(TextForm),
    Words(Vec<String>),
    /// A text; without a form, any.
    Text(Option<TextForm>),
}

/// A key of a table.
pub(super) struct Key {
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) doc: String,
}

impl Shape {
    /// The shape that the schema `root` describes; `texts` as for [`super::Reader::new`].
    pub(super) fn of(root: &Value, texts: &[TextForm]) -> Self {
        Self::read(root, root, texts)
    }

    fn read(root: &Value, schema: &Value, texts: &[TextForm]) -> Self {
        let form = |schema: &Value| {
            let format = schema["format"].as_str()?;
            texts.iter().find(|form| form.format == format).copied()
        };
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
                        shape: Self::read(root, schema, texts),
                        required: required.contains(&name.as_str()),
                        doc: doc.unwrap_or_default().replace('\n', " "),
                    };
                    (name.clone(), key)
                };
                let others = schema.get("additionalProperties").filter(|of| of.is_object());
                let others = others.and_then(|others| {
                    let names = form(behind(root, &schema["propertyNames"]));
                    let names = names.or_else(|| texts.first().copied())?;
                    Some((names, Box::new(Self::read(root, others, texts))))
                });
                let keys = schema["properties"].as_object();
                Self::Table { keys: keys.into_iter().flatten().map(key).collect(), others }
            }
            Some("array") => Self::List(Box::new(Self::read(root, &schema["items"], texts))),
            Some("boolean") => Self::Boolean,
            Some("integer") => {
                let bound = |name: &str| schema[name].as_i64();
                Self::Integer { min: bound("minimum"), max: bound("maximum") }
            }
            Some("number") if let Some(form) = form(schema) => Self::Number(form),
            _ => Self::Text(form(schema)),
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }

    /// What a value of it is, for a message.
    pub(super) fn in_words(&self) -> &'static str {
        match self {
            Self::Table { .. } => "a table",
            Self::List(_) => "a list",
            Self::Boolean => "true or false",
            Self::Integer { .. } => "a whole number",
            Self::Number(_) => "a number",
            Self::Words(_) | Self::Text(_) => "a text in quotes",
        }
    }

    /// What to add where it is missing.
    pub(super) fn to_add(&self, name: &str) -> String {
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

/// The words of an enumeration: one list, or a choice of constants with a description each.
fn words(schema: &Value) -> Vec<String> {
    let list = schema["enum"].as_array().into_iter().flatten();
    let constants = schema["oneOf"].as_array().into_iter().flatten().map(|one| &one["const"]);
    list.chain(constants).filter_map(Value::as_str).map(str::to_owned).collect()
}
