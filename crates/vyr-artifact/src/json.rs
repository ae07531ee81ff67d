//! Strict JSON: a document has one reading.
//!
//! Readers disagree about `{"a":1,"a":2}`: some keep the first, some the last. A manifest that
//! one tool shows and another runs must not exist, so duplicate keys are refused at any depth,
//! also when they differ only in spelling (`"a"` and `"\u0061"`).
//!
//! Not here: canonical form (`vyr_base::canonical`). Manifests of others need not be canonical;
//! their digest is that of the exact bytes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use vyr_base::{Category, Problem};

/// Bytes that are not JSON, or JSON with two readings.
#[derive(Debug, thiserror::Error)]
#[error("document is not strict JSON")]
pub struct StrictJsonError(#[source] serde_json::Error);

impl Problem for StrictJsonError {
    fn category(&self) -> Category {
        Category::Usage
    }
}

/// Reads JSON and refuses duplicate keys, trailing text and more than 128 levels of nesting.
///
/// The size bound is the caller's: it knows what it reads.
pub fn strict_json(bytes: &[u8]) -> Result<Value, StrictJsonError> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(StrictJsonError)
}

/// A value read with the rule above; serde_json bounds the nesting.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            let Strict(value) = fields.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::error::Error as _;

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"x":{"b":null,"c":1,"b":null}}]"#,
            r#"{"":0,"":0}"#,
        ] {
            let error = strict_json(text.as_bytes()).expect_err(text);
            let why = error.source().expect("serde_json says why").to_string();
            assert!(why.starts_with("duplicate key"), "{text}: {why}");
        }
    }

    #[test]
    fn the_same_key_in_two_objects_is_no_duplicate() {
        let text = r#"{"a":{"a":[{"a":1},{"a":-2}]},"b":1.5,"c":[true,null,"\u20ac"]}"#;
        let expected: Value = serde_json::from_str(text).expect("plain JSON");
        assert_eq!(strict_json(text.as_bytes()).expect("no duplicates"), expected);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in ["", "{", "{} x", "{a:1}", "'a'", "\u{feff}{}", "nul", &deep] {
            assert!(strict_json(text.as_bytes()).is_err(), "{text:.20} was taken");
        }
        assert!(strict_json(b"\"\xff\"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            let strict = strict_json(&bytes);
            let plain = serde_json::from_slice::<Value>(&bytes);
            // Stricter than serde_json, never laxer, and never a different value.
            match (strict, plain) {
                (Ok(strict), Ok(plain)) => prop_assert_eq!(strict, plain),
                (Ok(_), Err(_)) => prop_assert!(false, "strict took what serde_json refuses"),
                (Err(_), _) => {}
            }
        }
    }
}
