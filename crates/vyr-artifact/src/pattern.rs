//! OpenSSH pattern lists: `ana@example.com,*@ci.example.com,!old@ci.example.com`.
//!
//! Used twice in a line of `allowed_signers`: for its principals and for its namespaces. The
//! meaning is that of `match_pattern_list` in OpenSSH: `*` is any run of bytes, `?` any one byte,
//! and a list matches when some pattern matches and no negated (`!`) pattern does.
//!
//! Invariant: matching takes time proportional to text times pattern, never exponential.

/// A comma-separated list of patterns, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternList {
    text: String,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    text: String,
}

/// The list has an empty pattern at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EmptyPattern {
    pub(crate) at: usize,
}

impl PatternList {
    pub(crate) fn parse(text: &str) -> Result<Self, EmptyPattern> {
        let mut at = 0;
        let mut patterns = Vec::new();
        for item in text.split(',') {
            let (negated, pattern) =
                item.strip_prefix('!').map_or((false, item), |rest| (true, rest));
            if pattern.is_empty() {
                return Err(EmptyPattern { at });
            }
            patterns.push(Pattern { negated, text: pattern.to_owned() });
            at += item.len() + 1;
        }
        Ok(Self { text: text.to_owned(), patterns })
    }

    /// The list as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether some pattern matches `text` and no negated one does.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut found = false;
        for pattern in &self.patterns {
            if matches_pattern(text.as_bytes(), pattern.text.as_bytes()) {
                if pattern.negated {
                    return false;
                }
                found = true;
            }
        }
        found
    }

    /// The name to call a holder of this list by: the first literal the list matches, else the
    /// first pattern with a wildcard; none if the list can match nobody that way. A name with `#`
    /// in front would be a comment where the line is written again, so it is none.
    pub(crate) fn identity(&self) -> Option<&str> {
        let names = |pattern: &&Pattern| !pattern.negated && !pattern.text.starts_with('#');
        let mut positive = self.patterns.iter().filter(names);
        let literal = positive.clone().find(|p| !p.is_wild() && self.matches(&p.text));
        literal.or_else(|| positive.find(|p| p.is_wild())).map(|p| p.text.as_str())
    }
}

impl Pattern {
    fn is_wild(&self) -> bool {
        self.text.contains(['*', '?'])
    }
}

/// Glob matching with one point to fall back to: the last `*` seen.
fn matches_pattern(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((t, p));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match retry {
                // Let the last `*` take one byte more.
                Some((from, after)) => {
                    t = from + 1;
                    p = after;
                    retry = Some((t, p));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> PatternList {
        PatternList::parse(text).expect("no empty pattern")
    }

    #[test]
    fn lists_match_as_in_openssh() {
        for (patterns, text, expected) in [
            ("ana", "ana", true),
            ("ana", "anab", false),
            ("ana", "Ana", false),
            ("*", "", true),
            ("vyr-*", "vyr-plan", true),
            ("vyr-*", "vyr", false),
            ("?", "", false),
            ("a?a", "ana", true),
            ("*a*b", "xaybzab", true),
            ("*a*b", "xaybza", false),
            ("ana,bob", "bob", true),
            ("*,!bob", "bob", false),
            ("!bob,*", "bob", false),
            ("!bob,*", "ana", true),
            ("!bob", "ana", false),
            ("!!a", "!a", false),
            ("*,!!a", "!a", false),
            ("*,!!a", "a", true),
        ] {
            assert_eq!(list(patterns).matches(text), expected, "{patterns} on {text}");
        }
    }

    #[test]
    fn a_list_has_a_name_if_it_can_match_anyone() {
        for (patterns, expected) in [
            ("ana@x,bob@x", Some("ana@x")),
            ("*@x,bob@x", Some("bob@x")),
            ("!eve,*@x", Some("*@x")),
            ("ana,!ana,bob", Some("bob")),
            ("ana,!a*", None),
            ("!eve", None),
        ] {
            assert_eq!(list(patterns).identity(), expected, "{patterns}");
        }
    }

    #[test]
    fn empty_patterns_are_refused_where_they_are() {
        for (text, at) in [("", 0), ("a,", 2), (",a", 0), ("a,,b", 2), ("ab,!", 3)] {
            assert_eq!(PatternList::parse(text), Err(EmptyPattern { at }), "{text}");
        }
    }

    /// The definition, exponential and obvious.
    fn slow(text: &[u8], pattern: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|n| slow(&text[n..], rest)),
            [byte, rest @ ..] => {
                !text.is_empty() && (*byte == b'?' || *byte == text[0]) && slow(&text[1..], rest)
            }
        }
    }

    proptest! {
        #[test]
        fn fast_matching_agrees_with_the_definition(text in "[ab]{0,8}", pattern in "[ab*?]{0,6}") {
            let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
            prop_assert_eq!(matches_pattern(text, pattern), slow(text, pattern));
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        assert!(!matches_pattern(&[b'a'; 4000], &[&b"*a".repeat(400)[..], b"b"].concat()));
    }
}
