//! Targets of `vyr-base`: digests, canonical JSON, sizes and durations.

use std::collections::BTreeMap;

use serde_json::Value;
use vyr_base::{Digest, Hasher, canonical, format_bytes, parse_bytes, parse_duration_ms};

use crate::checks::{refusal, short};

/// A digest has one spelling, and bytes have one digest however they arrive.
pub fn digest(input: &[u8]) {
    let whole = Digest::of(input);
    let mut hasher = Hasher::new();
    let (head, tail) = input.split_at(input.len() / 3);
    [head, &[], tail].into_iter().for_each(|piece| hasher.update(piece));
    assert_eq!(hasher.bytes(), input.len() as u64);
    assert_eq!(hasher.finish(), whole, "pieces and the whole disagree");
    assert_eq!(whole.to_string().parse(), Ok(whole));

    let Ok(text) = std::str::from_utf8(input) else { return };
    let is_hex = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert!(text.strip_prefix("sha256:").is_some_and(is_hex), "{text:?} is no digest");
            assert_eq!(digest.to_string(), text, "a second spelling was taken");
            assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
        }
        Err(error) => {
            assert!(!text.strip_prefix("sha256:").is_some_and(is_hex), "{text:?} is a digest");
            assert!(text.starts_with(&error.text));
            short(&error.text);
        }
    }
    assert_eq!(Digest::from_hex(text).is_ok(), is_hex(text));
    let json = Value::from(text).to_string();
    assert_eq!(serde_json::from_str::<Digest>(&json).ok(), text.parse().ok());
}

/// Canonical JSON is exactly what a second writer of RFC 8785 writes.
pub fn canonical_json(input: &[u8]) {
    let plain = serde_json::from_slice::<Value>(input).ok();
    let written = plain.as_ref().and_then(|value| {
        let expected = canonical_text(value);
        let actual = canonical::to_vec(value);
        assert_eq!(actual.as_ref().ok(), expected.as_ref(), "two writers disagree");
        expected
    });
    let is_canonical = written.as_deref() == Some(input);
    let parsed = canonical::parse::<Value>(input);
    match &parsed {
        Ok(value) => {
            assert!(is_canonical, "another spelling was taken");
            assert_eq!(Some(value), plain.as_ref());
            let strict = vyr_artifact::strict_json(input).expect("canonical JSON is strict JSON");
            assert_eq!(&strict, value);
        }
        Err(error) => {
            assert!(!is_canonical, "canonical JSON was refused: {error}");
            refusal(error);
        }
    }
    if let Some(written) = &written {
        let again = canonical::parse::<Value>(written).expect("what is written is read");
        assert_eq!(Some(&again), plain.as_ref());
    }
    // The two shapes of an artifact's declarations.
    let is_text = Value::is_string;
    let texts = parsed.as_ref().ok().and_then(Value::as_array);
    let texts = texts.is_some_and(|items| items.iter().all(is_text));
    assert_eq!(canonical::parse::<Vec<String>>(input).is_ok(), texts);
    let map = parsed.as_ref().ok().and_then(Value::as_object);
    let map = map.is_some_and(|fields| fields.values().all(is_text));
    assert_eq!(canonical::parse::<BTreeMap<String, String>>(input).is_ok(), map);
}

/// RFC 8785 once more, for the values we allow; nothing for others.
fn canonical_text(value: &Value) -> Option<Vec<u8>> {
    let mut text = String::new();
    write_value(value, &mut text)?;
    Some(text.into_bytes())
}

fn write_value(value: &Value, text: &mut String) -> Option<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => {
            let number = number.as_i64().filter(|number| number.unsigned_abs() < 1 << 53)?;
            text.push_str(&number.to_string());
        }
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_value(item, text)?;
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (key, item)) in fields.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_string(key, text);
                text.push(':');
                write_value(item, text)?;
            }
            text.push('}');
        }
    }
    Some(())
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// Sizes and durations are exact products, or refused.
pub fn units(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let bytes = product(
        text,
        &[
            ("", 1),
            ("k", 1000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
        ],
    );
    assert_eq!(parse_bytes(text).ok(), bytes, "{text:?}");
    let millis = product(text, &[("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]);
    assert_eq!(parse_duration_ms(text).ok(), millis, "{text:?}");
    for error in [parse_bytes(text).err(), parse_duration_ms(text).err()].into_iter().flatten() {
        refusal(&error);
    }
    if let Some(bytes) = bytes {
        near(bytes, &format_bytes(bytes));
    }
}

/// The value by the longest run of digits in front, in numbers that cannot overflow.
fn product(text: &str, suffixes: &[(&str, u128)]) -> Option<u64> {
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text[..text.len() - suffix.len()].trim_start_matches('0');
    let (_, unit) = suffixes.iter().find(|(name, _)| *name == suffix)?;
    if suffix.len() == text.len() || digits.len() > 20 {
        return None;
    }
    let number = digits.bytes().fold(0, |number, digit| number * 10 + u128::from(digit - b'0'));
    u64::try_from(number * unit).ok()
}

/// What a person reads is the size to three digits.
fn near(bytes: u64, text: &str) {
    let (number, unit) = text.split_once(' ').expect("a number and a unit");
    let power = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|name| *name == unit);
    let power = i32::try_from(power.expect("a unit we know")).expect("small");
    let told = number.parse::<f64>().expect("a number") * 1024f64.powi(power);
    let off = (told - bytes as f64).abs();
    assert!(off <= bytes as f64 * 0.0051, "{bytes} was written as {text}");
}
