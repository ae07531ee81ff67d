//! What can be wrong with a trust file, and where: line, column, what, how to mend.
//!
//! A trust file with one bad line is refused whole, and every fault of it is told at once.
//! `ssh-keygen` skips a line it cannot read; a signer who is silently missing, or a revocation
//! silently ignored, is worse than a loud start.
//!
//! Not here: what a line means (`signers`, `revoked`).

use std::fmt;

use vyr_base::{Category, Problem};

use crate::keys::ACCEPTED_HINT;

/// Most bytes of a trust file: about ten thousand keys.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;
/// Most lines of a trust file, comments included.
const LINES_MAX: usize = 10_000;
/// Longest line in bytes: an RSA key of 16384 bits, which a revocation list may hold, has 2800.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Most faults that are told; after so many the file is not what was meant to be passed.
const FAULTS_MAX: usize = 200;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustFile {
    /// OpenSSH `allowed_signers`.
    AllowedSigners,
    /// A list of revoked public keys.
    RevokedKeys,
}

/// All that is wrong with a trust file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFileError {
    /// Which file it was read as.
    pub file: TrustFile,
    /// At least one, in order of the lines; the first 200.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong with a trust file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong at one place of a trust file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// The file is too large to be one.
    #[error("file has {bytes} bytes, more than {FILE_BYTES_MAX}")]
    FileTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The file has too many lines to be one.
    #[error("file has more than {LINES_MAX} lines")]
    TooManyLines,
    /// The line is too long to hold a key.
    #[error("line has {bytes} bytes, more than {LINE_BYTES_MAX}")]
    LineTooLong {
        /// Its size.
        bytes: usize,
    },
    /// The line is not UTF-8.
    #[error("line is not UTF-8 here")]
    NotUtf8,
    /// A control character, or a byte order mark.
    #[error("character {character:?} cannot stand here")]
    Control {
        /// Which.
        character: char,
    },
    /// More faults than are told.
    #[error("more than {FAULTS_MAX} faults; the rest is not shown")]
    TooManyFaults,
    /// Principals in quotes.
    #[error("principals cannot be quoted")]
    QuotedPrincipals,
    /// Nothing between two commas.
    #[error("pattern list has an empty pattern")]
    EmptyPattern,
    /// The principals can match nobody.
    #[error("principals match nobody")]
    NoIdentity,
    /// An option that does not exist.
    #[error("option {name:?} is unknown")]
    UnknownOption {
        /// Its name.
        name: String,
    },
    /// An option that is there twice.
    #[error("option {name} is given twice")]
    OptionTwice {
        /// Its name.
        name: &'static str,
    },
    /// Nothing where an option should be.
    #[error("option list has an empty option")]
    EmptyOption,
    /// An option without its value, or a value without quotes.
    #[error("option {name} needs a value in double quotes")]
    Unquoted {
        /// Its name.
        name: &'static str,
    },
    /// A value whose closing quote is missing.
    #[error("value has no closing quote")]
    Unterminated,
    /// Something between an option and the next comma or space.
    #[error("unexpected text after an option")]
    AfterOption,
    /// `cert-authority`.
    #[error("certificate authorities are not accepted")]
    CertAuthority,
    /// A time that is none.
    #[error("time {text:?} is not YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ")]
    Time {
        /// What is there.
        text: String,
    },
    /// A time without zone.
    #[error("time {text:?} has no zone")]
    LocalTime {
        /// What is there.
        text: String,
    },
    /// `valid-before` is not after `valid-after`.
    #[error("key is valid at no time: valid-before is not after valid-after")]
    NeverValid,
    /// The line ends before its key.
    #[error("line has no key")]
    MissingKey,
    /// A key of a kind we do not accept.
    #[error("key type {name:?} is not accepted")]
    KeyType {
        /// Its name.
        name: String,
    },
    /// Key data that is not such a key, or not in its one spelling.
    #[error("key data is not that of a key of type {name}")]
    KeyData {
        /// The type the line gives.
        name: String,
    },
    /// A certificate in a list of keys.
    #[error("line holds a certificate, not a public key")]
    Certificate,
    /// A fingerprint in a list of keys.
    #[error("line holds a fingerprint, not a public key")]
    Fingerprint,
    /// Not a text file, but OpenSSH's binary list.
    #[error("file is a binary key revocation list (KRL)")]
    BinaryKrl,
}

impl FaultKind {
    /// How to mend it: one sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::FileTooLarge { .. } | Self::TooManyLines | Self::LineTooLong { .. } => {
                "check that this is the file you meant"
            }
            Self::NotUtf8 | Self::Control { .. } => "save the file as plain UTF-8 text",
            Self::TooManyFaults => "mend the first faults, then try again",
            Self::QuotedPrincipals => "write names without quotes and spaces",
            Self::EmptyPattern | Self::EmptyOption => "remove the extra comma",
            Self::NoIdentity => "name at least one identity that is not negated, such as ana",
            Self::UnknownOption { .. } => {
                "the options are namespaces=\"..\", valid-after=\"..\" and valid-before=\"..\""
            }
            Self::OptionTwice { .. } => "keep one; a second line may hold the same key",
            Self::Unquoted { .. } => "write it as name=\"value\"",
            Self::Unterminated => "close the value with a double quote",
            Self::AfterOption => "separate options by commas, without spaces",
            Self::CertAuthority => {
                "list each signer's own key: who may sign must be readable from this file alone"
            }
            Self::Time { .. } => "write it in UTC, such as 20261231Z or 202612312359Z",
            Self::LocalTime { .. } => {
                "end it with Z for UTC: local time would make this file mean different things \
                 on two machines"
            }
            Self::NeverValid => "make valid-before the later of the two",
            Self::MissingKey => {
                "write: NAME [OPTIONS] KEYTYPE KEYDATA, the last two from a .pub file"
            }
            Self::KeyType { .. } => ACCEPTED_HINT,
            Self::KeyData { .. } => "copy the whole line of the .pub file again",
            Self::Certificate => "list the public key it certifies (the .pub without -cert)",
            Self::Fingerprint => {
                "list the public key itself, so that ssh-keygen -Y verify -r reads the same file"
            }
            Self::BinaryKrl => {
                "pass a text file with one public key a line: the files given to ssh-keygen -k"
            }
        };
        Some(hint.to_owned())
    }
}

impl fmt::Display for TrustFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllowedSigners => "allowed signers",
            Self::RevokedKeys => "revoked keys",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.kind)
    }
}

impl fmt::Display for TrustFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be trusted as written", self.file)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for TrustFileError {}

impl Problem for TrustFileError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        self.faults.first().and_then(|fault| fault.kind.hint())
    }
}

/// Faults as they are found.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault at byte `at` of a line.
    pub(crate) fn push(&mut self, line: &Line<'_>, at: usize, kind: FaultKind) {
        let before = line.text.get(..at).unwrap_or(line.text);
        self.note(line.number, before.chars().count() + 1, kind);
    }

    fn note(&mut self, line: usize, column: usize, kind: FaultKind) {
        match self.0.len() {
            FAULTS_MAX.. => {}
            n if n + 1 == FAULTS_MAX => {
                self.0.push(Fault { line, column, kind: FaultKind::TooManyFaults });
            }
            _ => self.0.push(Fault { line, column, kind }),
        }
    }

    /// The value, unless there were faults.
    pub(crate) fn finish<T>(self, file: TrustFile, value: T) -> Result<T, TrustFileError> {
        if self.0.is_empty() { Ok(value) } else { Err(TrustFileError { file, faults: self.0 }) }
    }

    /// A file that is refused before it has lines.
    pub(crate) fn whole(kind: FaultKind) -> Self {
        Self(vec![Fault { line: 1, column: 1, kind }])
    }
}

/// A line that says something, without its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
}

/// A run of characters between blanks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word<'a> {
    pub(crate) at: usize,
    pub(crate) text: &'a str,
}

impl Word<'_> {
    /// The byte after its last.
    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

impl<'a> Line<'a> {
    /// The first word at or after byte `from`.
    pub(crate) fn word(&self, from: usize) -> Option<Word<'a>> {
        let rest = self.text.get(from..)?;
        let trimmed = rest.trim_start_matches(is_blank);
        let text = trimmed.split(is_blank).next().filter(|text| !text.is_empty())?;
        Some(Word { at: from + rest.len() - trimmed.len(), text })
    }
}

pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// What `read` makes of each line that is neither blank nor a comment. Lines that cannot be read
/// are noted between the faults of the others, so that all faults come in the file's order.
pub(crate) fn each_line<T>(
    file: &[u8],
    faults: &mut Faults,
    mut read: impl FnMut(&Line<'_>, &mut Faults) -> Option<T>,
) -> Vec<T> {
    if file.len() > FILE_BYTES_MAX {
        *faults = Faults::whole(FaultKind::FileTooLarge { bytes: file.len() });
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, bytes) in file.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        if index == LINES_MAX {
            // A last line end makes an empty line of no meaning.
            if !bytes.is_empty() {
                faults.note(number, 1, FaultKind::TooManyLines);
            }
            break;
        }
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t')) {
            None | Some(b'#') => continue,
            Some(_) => {}
        }
        if bytes.len() > LINE_BYTES_MAX {
            faults.note(number, 1, FaultKind::LineTooLong { bytes: bytes.len() });
            continue;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                if let Some(line) = readable(Line { number, text }, faults) {
                    found.extend(read(&line, faults));
                }
            }
            Err(error) => {
                let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                faults.note(number, before.chars().count() + 1, FaultKind::NotUtf8);
            }
        }
    }
    found
}

/// The line, unless it has characters a person would not see.
fn readable<'a>(line: Line<'a>, faults: &mut Faults) -> Option<Line<'a>> {
    let hidden = |c: char| (c.is_control() && c != '\t') || c == '\u{feff}';
    let Some((at, character)) = line.text.char_indices().find(|&(_, c)| hidden(c)) else {
        return Some(line);
    };
    faults.push(&line, at, FaultKind::Control { character });
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Places = Vec<(usize, usize, FaultKind)>;

    fn read(file: &[u8]) -> (Vec<(usize, String)>, Places) {
        let mut faults = Faults::default();
        let own = |line: &Line<'_>, _: &mut Faults| Some((line.number, line.text.to_owned()));
        (
            each_line(file, &mut faults, own),
            faults.0.into_iter().map(|fault| (fault.line, fault.column, fault.kind)).collect(),
        )
    }

    #[test]
    fn comments_and_blank_lines_say_nothing() {
        let (lines, faults) = read(b"# a\xff\n\n \t \r\n  # b\na b\r\n\tc\nlast");
        let expected = [(5, "a b"), (6, "\tc"), (7, "last")];
        assert_eq!(lines, expected.map(|(number, text)| (number, text.to_owned())));
        assert_eq!(faults, []);
    }

    #[test]
    fn unreadable_lines_are_told_by_place() {
        let (lines, faults) = read("ok\n\u{e4}b\0c\n\u{feff}x\ny\rz\n".as_bytes());
        assert_eq!(lines.len(), 1);
        let control = |character| FaultKind::Control { character };
        assert_eq!(
            faults,
            [(2, 3, control('\0')), (3, 1, control('\u{feff}')), (4, 2, control('\r'))]
        );
        assert_eq!(read(b"\xc3\xa4\xff").1, [(1, 2, FaultKind::NotUtf8)]);
    }

    #[test]
    fn bounds_are_told() {
        let long = vec![b'a'; LINE_BYTES_MAX + 1];
        assert_eq!(read(&long).1, [(1, 1, FaultKind::LineTooLong { bytes: long.len() })]);
        assert_eq!(read(&long[1..]).0.len(), 1);
        let big = vec![b'\n'; FILE_BYTES_MAX + 1];
        assert_eq!(read(&big).1, [(1, 1, FaultKind::FileTooLarge { bytes: big.len() })]);
        assert_eq!(read(&b"\n".repeat(LINES_MAX)).1, []);
        let many = [&b"\n".repeat(LINES_MAX)[..], b"a"].concat();
        assert_eq!(read(&many).1, [(LINES_MAX + 1, 1, FaultKind::TooManyLines)]);
        let faulty = read(&b"\0\n".repeat(LINES_MAX)).1;
        assert_eq!(faulty.len(), FAULTS_MAX);
        assert_eq!(faulty[FAULTS_MAX - 1].2, FaultKind::TooManyFaults);
    }

    #[test]
    fn an_error_shows_every_fault() {
        let mut faults = Faults::default();
        let line = Line { number: 3, text: "\u{e4}b c" };
        faults.push(&line, 2, FaultKind::MissingKey);
        faults.push(&line, 99, FaultKind::NoIdentity);
        let error = faults.finish(TrustFile::AllowedSigners, ()).expect_err("two faults");
        assert_eq!(
            error.to_string(),
            "allowed signers cannot be trusted as written\n  line 3, column 2: line has no key\n  \
             line 3, column 5: principals match nobody"
        );
        assert!(error.hint().expect("of the first").contains("KEYTYPE"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            let (lines, faults) = read(&bytes);
            let said = bytes.split(|&b| b == b'\n').count();
            prop_assert!(lines.len() + faults.len() <= said);
        }
    }
}
