//! What is wrong with a text that a person wrote: where, what, why, and how to mend it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is made from it.
    Error,
    /// It is taken; somebody should look.
    Warning,
}

/// One fault in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// A stable name for this kind of fault: `unknown-key`, `N04`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where; a fault of a whole site has no place.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Where the first one of two is, if it is about the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Place>,
    /// What is wrong, in one line.
    pub what: String,
    /// Why it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The reader's next move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(id: &'static str, what: impl Into<String>) -> Self {
        let severity = Severity::Error;
        let what = what.into();
        Self { id, severity, place: None, first: None, what, why: None, hint: None }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same at a place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The same with a reason.
    #[must_use]
    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// The same with a next move.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Several lines: the fault, the source with a mark below it, the same of the first one of two, why,
/// how to mend.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        match &self.place {
            None => write!(f, "{severity}[{}]: {}", self.id, self.what)?,
            Some(place) => {
                write!(f, "{place}: {severity}[{}]: {}", self.id, self.what)?;
                write!(f, "\n    {}\n    {}", place.text, place.mark())?;
            }
        }
        if let Some(first) = &self.first {
            write!(f, "\n  first: {first}\n    {}\n    {}", first.text, first.mark())?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// A stretch of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As the reader of the file named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The part of the line that is shown.
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    mark: Range<usize>,
}

impl Place {
    fn mark(&self) -> String {
        format!("{}{}", " ".repeat(self.mark.start), "^".repeat(self.mark.len().max(1)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Characters of a line that are shown; a longer one is cut around the mark.
const SHOWN: usize = 96;

/// A named text that places are found in.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    /// Where each line starts, in bytes.
    lines: Vec<usize>,
}

impl Source {
    /// `text` of the file `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let after = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let lines = std::iter::once(0).chain(after).collect();
        Self { name: name.into(), text, lines }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of some bytes; a stretch over several lines is cut at the first one's end, one
    /// past the end is put there.
    pub fn place(&self, bytes: Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(bytes.start.min(self.text.len()));
        let line = self.lines.partition_point(|first| *first <= start).max(1);
        let first = self.lines[line - 1];
        let rest = &self.text[first..];
        let whole = rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r');
        let end = self.text.floor_char_boundary(bytes.end.clamp(start, self.text.len()));
        let before = self.text[first..start].chars().count();
        let marked = self.text[start..end.min(first + whole.len()).max(start)].chars().count();
        let from = if before + marked <= SHOWN { 0 } else { before.saturating_sub(SHOWN / 3) };
        // What moves the cursor, turns the writing round or cannot be seen is shown as a mark.
        let clean = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() || invisible(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        let text: String = whole.chars().skip(from).take(SHOWN).map(clean).collect();
        let mark = before - from..before - from + marked.min(SHOWN - (before - from).min(SHOWN));
        Place { file: self.name.clone(), line, column: before + 1, text, mark }
    }
}

/// Characters without a shape of their own: a line with them reads otherwise than it is.
fn invisible(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fault_shows_its_line() {
        let source = Source::new("site.toml", "version = 1\nnmae = \"office\"\n");
        let fault = Diagnostic::error("unknown-key", "unknown key nmae")
            .at(source.place(12..16))
            .why("the site has no such key")
            .hint("did you mean name?");
        assert_eq!(
            fault.to_string(),
            "site.toml:2:1: error[unknown-key]: unknown key nmae\n    nmae = \"office\"\n    \
             ^^^^\n  why: the site has no such key\n  hint: did you mean name?"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("{}KEY{}", "x".repeat(500), "y".repeat(500));
        let place = Source::new("f", text).place(500..503);
        assert!(place.text.contains("KEY") && place.text.len() <= SHOWN);
        assert_eq!(place.text.find("KEY"), place.mark().find('^'));
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let place = Source::new("f", "a\u{202e}b\u{1b}[2J\tc\u{feff}").place(0..1);
        assert_eq!(place.text, "a\u{fffd}b\u{fffd}[2J c\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_stretch_has_a_place(text in "[a-z\u{e9}\n\r]{0,200}", a in 0usize..300, b in 0usize..300) {
            let place = Source::new("f", text.clone()).place(a..b);
            prop_assert!(place.line >= 1 && place.line <= text.matches('\n').count() + 1);
            prop_assert!(place.mark().len() <= SHOWN + SHOWN);
        }
    }
}
