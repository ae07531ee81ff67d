//! Rust source with comments and literals blanked, so that a word found in it is code.
//!
//! Invariants: the result has as many lines as the source, and every character that is left
//! stands in its column. A lexer of one page, not a parser: enough for words, no more.

/// Replaces each character of a comment, string or character literal by a space.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            // A word is copied whole, so that the `r` of `for"` does not open a raw string.
            let mut end = at + 1;
            if is_word(chars[at]) {
                while end < chars.len() && is_word(chars[end]) {
                    end += 1;
                }
            }
            out.extend(&chars[at..end]);
            at = end;
        }
    }
    out
}

/// Whether `word` stands in `line` with no letter, digit or `_` beside it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The index past the comment or literal that starts at `at`; `at` itself if none does.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied();
    match (chars[at], next(1)) {
        ('/', Some('/')) => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('b' | 'c', Some('"')) => string_end(chars, at + 2),
        ('r', _) => raw_string_end(chars, at, at + 1),
        ('b' | 'c', Some('r')) => raw_string_end(chars, at, at + 2),
        ('\'', Some('\\')) => char_end(chars, at + 1),
        // 'a' is a character, 'a is a lifetime.
        ('\'', Some(_)) if next(2) == Some('\'') => at + 3,
        ('b', Some('\'')) => char_end(chars, at + 2),
        _ => at,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], first: usize) -> usize {
    quoted_end(chars, first, '"')
}

fn char_end(chars: &[char], first: usize) -> usize {
    quoted_end(chars, first, '\'')
}

fn quoted_end(chars: &[char], first: usize, quote: char) -> usize {
    let mut at = first;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `hashes` is where the `#`s or the quote of a raw string would begin.
fn raw_string_end(chars: &[char], at: usize, hashes: usize) -> usize {
    let mut quote = hashes;
    while chars.get(quote) == Some(&'#') {
        quote += 1;
    }
    if chars.get(quote) != Some(&'"') {
        return at;
    }
    let count = quote - hashes;
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= count
    };
    (quote + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays_in_its_place() {
        let source = r##"let a = "unsafe \" {"; // unsafe
/* unsafe /* deep */ unsafe */ let b: &'a str = r#"unsafe " "#;
let c = ['"', '\'', b'"']; let d = br"unsafe"; for_unsafe();"##;
        let code = code_only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        assert!(!code.lines().any(|line| has_word(line, "unsafe")), "{code}");
        for kept in ["let a =", "let b: &'a str =", "let d =", "for_unsafe();"] {
            assert!(code.contains(kept), "{kept} in {code}");
        }
        let column = |text: &str| text.lines().nth(2).and_then(|line| line.find("for_unsafe"));
        assert_eq!(column(&code), column(source));
    }

    #[test]
    fn code_after_a_literal_is_still_seen() {
        for source in ["f(\"x\"); unsafe { }", "f('\"'); unsafe { }", "x::<'a>(); unsafe { }"] {
            assert!(has_word(&code_only(source), "unsafe"), "{source}");
        }
    }

    #[test]
    fn a_word_needs_edges() {
        assert!(has_word("unsafe{", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
    }

    #[test]
    fn a_literal_that_never_ends_ends_with_the_file() {
        for source in ["\"abc", "r#\"abc\"", "/* abc", "'\\", "b'"] {
            let blank = code_only(source);
            assert_eq!(blank.chars().count(), source.chars().count(), "{source}");
        }
    }
}
