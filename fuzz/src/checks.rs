//! What several targets ask of every error and of every document.

use serde_json::Value;

/// Longest message of an error about one input: a line or two of a terminal, whatever the input.
const MESSAGE_CHARS_MAX: usize = 1000;

/// An error says something, its message is not the whole input over again, and nothing in it
/// moves the cursor of the terminal it is printed on. (Its causes may be a library's, in words
/// that quote the input as it is; whoever prints those makes them visible.)
pub(crate) fn refusal(error: &dyn std::error::Error) {
    let message = error.to_string();
    let chars = message.chars().count();
    assert!(chars <= MESSAGE_CHARS_MAX, "a message of {chars} characters: {message:.200}");
    assert!(!message.contains(|c: char| c.is_control() && c != '\n'), "{message:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        assert!(!error.to_string().is_empty(), "an error without a message: {error:?}");
        next = error.source();
    }
}

/// A text quoted from an input is cut.
pub(crate) fn short(text: &str) {
    assert!(text.chars().count() <= 80, "{text:.100} was not cut");
}

/// Asserts that an error has a category and a hint that can be made, and a message.
pub(crate) fn problem<E: vyr_base::Problem>(error: &E) {
    assert!((1..=7).contains(&error.category().exit_code()));
    assert_ne!(error.hint().as_deref(), Some(""));
    refusal(error);
}

/// How many keys a value's objects have, at all depths.
pub(crate) fn keys(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(keys).sum(),
        Value::Object(fields) => fields.len() + fields.values().map(keys).sum::<usize>(),
        _ => 0,
    }
}

/// How many keys a valid JSON text has: each has one colon, and no other colon is outside strings.
pub(crate) fn colons(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Whether a value is a descriptor as a JSON object with these two fields.
pub(crate) fn describes(value: &Value, digest: &str, size: u64) -> bool {
    value.is_object() && value["digest"] == digest && value["size"] == size
}
