//! Canonical JSON (RFC 8785): one value, one spelling, hence one digest.
//!
//! Our documents hold strings, booleans, null, arrays, objects and integers below 2^53 in
//! absolute value; anything else is refused rather than rounded. `parse` takes back only what
//! `to_vec` writes, so a stored document cannot have two spellings.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Integers of this size and more do not survive a reader that keeps numbers as doubles.
const INTEGER_LIMIT: u64 = 1 << 53;

/// Why a value has no canonical form, or a text is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A number with a fraction, or of 2^53 and more.
    #[error("number {0} is not an integer below 2^53")]
    Number(String),
    /// The value could not be turned into JSON at all.
    #[error("value has no JSON form")]
    Serialize(#[source] serde_json::Error),
    /// The text is not JSON of the expected shape.
    #[error("document does not have the expected shape")]
    Parse(#[source] serde_json::Error),
    /// The text is JSON, but not the one spelling RFC 8785 allows.
    #[error("document is not in canonical form (RFC 8785)")]
    NotCanonical,
}

/// The canonical bytes of `value`.
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Serialize)?;
    check_numbers(&value)?;
    serde_json_canonicalizer::to_vec(&value).map_err(CanonicalError::Serialize)
}

/// Reads a canonical document; unknown spellings of the same value are refused, and so are
/// duplicate keys, because writing the value back must give the same bytes.
pub fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonicalError> {
    let value: T = serde_json::from_slice(bytes).map_err(CanonicalError::Parse)?;
    if to_vec(&value)? == bytes { Ok(value) } else { Err(CanonicalError::NotCanonical) }
}

fn check_numbers(value: &Value) -> Result<(), CanonicalError> {
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match size {
                Some(size) if size < INTEGER_LIMIT => Ok(()),
                _ => Err(CanonicalError::Number(number.to_string())),
            }
        }
        Value::Array(items) => items.iter().try_for_each(check_numbers),
        Value::Object(fields) => fields.values().try_for_each(check_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_by_utf16_and_space_is_gone() {
        let value = json!({"\u{20ac}": 1, "\r": 2, "1": 3, "\u{1f600}": 4, "\u{fb33}": 5});
        let text = String::from_utf8(to_vec(&value).expect("integers only")).expect("UTF-8");
        // The order of RFC 8785 section 3.2.3.
        assert_eq!(text, "{\"\\r\":2,\"1\":3,\"\u{20ac}\":1,\"\u{1f600}\":4,\"\u{fb33}\":5}");
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused() {
        for number in [json!(1.5), json!(1u64 << 53), json!(-(1i64 << 53)), json!(1e300)] {
            assert!(matches!(to_vec(&number), Err(CanonicalError::Number(_))), "{number}");
        }
        assert_eq!(to_vec(&json!((1u64 << 53) - 1)).expect("fits"), b"9007199254740991");
    }

    #[test]
    fn another_spelling_is_refused() {
        for text in ["{ }", r#"{"b":1,"a":2}"#, r#"{"a":1,"a":1}"#, r#""\u0061""#, "1.0", "-0"] {
            let parsed = parse::<Value>(text.as_bytes());
            assert!(parsed.is_err(), "{text} was taken");
        }
        assert_eq!(parse::<Value>(br#"{"a":[null,true]}"#).expect("canonical")["a"][1], true);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1i64 << 53) + 1..1i64 << 53).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in json_value()) {
            let bytes = to_vec(&value).expect("integers only");
            prop_assert_eq!(parse::<Value>(&bytes).expect("canonical"), value);
        }
    }
}
