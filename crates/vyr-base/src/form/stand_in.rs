//! What stands in for a value that cannot be read, so that the rest of its file still can.
//!
//! A stand-in is of the right form and means nothing. It has an empty span: nobody wrote it
//! ([`super::At::is_written`]). Whoever looks names up says nothing about it, nor about what would
//! be otherwise if the value were there. Each replaces something that is a fault, so no value
//! with a stand-in is one that may be used.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::shape::Shape;
use super::text::TextForm;

/// The stand-in for a value of `shape`.
pub(super) fn value(shape: &Shape) -> Spanned<DeValue<'static>> {
    nowhere(match shape {
        Shape::Table { keys, others } => {
            let mut table = DeTable::new();
            for (name, key) in keys.iter().filter(|(_, key)| key.required) {
                table.insert(nowhere(Cow::Owned(name.clone())), value(&key.shape));
            }
            if let Some((form, shape)) = others {
                table.insert(key(form, 0), value(shape));
            }
            DeValue::Table(table)
        }
        Shape::List(item) if item.is_table() => DeValue::Array(DeArray::new()),
        // With an item, so that the list is known as one of which something is missing.
        Shape::List(item) => DeValue::Array(DeArray::from_iter([value(item)])),
        Shape::Boolean => DeValue::Boolean(false),
        Shape::Words(words) => string(words.first().map_or("", String::as_str).to_owned()),
        // A whole number is taken where one with a fraction may be.
        Shape::Integer { .. } | Shape::Number(_) => DeValue::Integer(DeInteger::default()),
        Shape::Text(form) => string(form.map_or("", |form| form.example).to_owned()),
    })
}

/// The stand-in for a key of a map; several of one map differ by their number.
pub(super) fn key(form: &TextForm, number: usize) -> Spanned<Cow<'static, str>> {
    nowhere(Cow::Owned(format!("{}{number}", form.example)))
}

fn string(text: String) -> DeValue<'static> {
    DeValue::String(Cow::Owned(text))
}

fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
