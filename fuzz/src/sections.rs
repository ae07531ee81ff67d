//! Inputs of several parts, as one run of bytes that a person can read and a mutator can change.
//!
//! Parts are separated by a line `%%`. A part may name the digest and the size of an earlier one
//! with `$d0` and `$s0` (`0` to `9`, then `a` to `z`): a changed blob then keeps its true name in
//! the documents that link to it, and a mutation reaches the code behind the digest check.

use vyr_base::Digest;

const SEPARATOR: &[u8] = b"\n%%\n";

/// Most parts of an input; what follows belongs to the last.
pub const PARTS_MAX: usize = 36;

/// The parts of `input`, at least one and at most `max`.
pub fn split(input: &[u8], max: usize) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    while parts.len() + 1 < max
        && let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

/// Exactly `N` parts; those that are not there are empty.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let found = split(input, N);
    std::array::from_fn(|index| found.get(index).copied().unwrap_or_default())
}

/// One input of `parts`.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(SEPARATOR)
}

/// The parts of `input` with their references to earlier parts filled in.
pub fn linked(input: &[u8]) -> Vec<Vec<u8>> {
    let mut done: Vec<Vec<u8>> = Vec::new();
    for part in split(input, PARTS_MAX) {
        let mut filled = Vec::with_capacity(part.len());
        let mut rest = part;
        while let Some((&first, tail)) = rest.split_first() {
            match reference(rest, &done) {
                Some(text) => {
                    filled.extend_from_slice(text.as_bytes());
                    rest = &rest[3..];
                }
                None => {
                    filled.push(first);
                    rest = tail;
                }
            }
        }
        done.push(filled);
    }
    done
}

/// What the reference at the start of `text` stands for.
fn reference(text: &[u8], done: &[Vec<u8>]) -> Option<String> {
    let [b'$', what, index, ..] = text else { return None };
    let index = char::from(*index).to_digit(36).and_then(|index| usize::try_from(index).ok())?;
    let part = done.get(index)?;
    match what {
        b'd' => Some(Digest::of(part).to_string()),
        b's' => Some(part.len().to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_was_joined() {
        let joined = join(&[b"a", b"", b"c\n%%"]);
        assert_eq!(split(&joined, 9), [&b"a"[..], b"", b"c\n%%"]);
        assert_eq!(parts::<2>(&joined), [&b"a"[..], b"\n%%\nc\n%%"]);
        assert_eq!(parts::<4>(b"one"), [&b"one"[..], b"", b"", b""]);
    }

    #[test]
    fn references_name_earlier_parts_only() {
        let linked = linked(b"blob\n%%\n$d0 $s0 $d1 $x0 $d");
        assert_eq!(linked[0], b"blob");
        let expected = format!("{} 4 $d1 $x0 $d", Digest::of(b"blob"));
        assert_eq!(linked[1], expected.as_bytes());
    }
}
