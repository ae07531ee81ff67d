//! The options of a line in `allowed_signers`: `namespaces="vyr-*",valid-before="20271231Z"`.
//!
//! Names in any case, values in double quotes (`\"` is a quote inside), commas between, no
//! spaces outside quotes: the grammar of `ssh-keygen`. Stricter on purpose: no `cert-authority`,
//! no empty option, and times in UTC only.
//!
//! Every fault of the list is noted; the scan goes on after each as far as it can.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::faults::{FaultKind, Faults, Line, is_blank};
use crate::oci::clip;
use crate::pattern::PatternList;

/// The options a line gave; absent ones restrict nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) namespaces: Option<PatternList>,
    pub(crate) valid_after: Option<Timestamp>,
    pub(crate) valid_before: Option<Timestamp>,
}

const NAMESPACES: &str = "namespaces";
const VALID_AFTER: &str = "valid-after";
const VALID_BEFORE: &str = "valid-before";
/// The one flag of `ssh-keygen`, refused here.
pub(crate) const CERT_AUTHORITY: &str = "cert-authority";

/// Reads the option list at byte `start`; returns it with the byte after its end.
///
/// `None` for an unclosed quote: the rest of the line is then part of the value.
pub(crate) fn parse(
    line: &Line<'_>,
    start: usize,
    faults: &mut Faults,
) -> Option<(Options, usize)> {
    let mut options = Options::default();
    let mut seen = Vec::new();
    let mut at = start;
    loop {
        let name_at = at;
        let name = line.text[at..].split(ends_name).next().unwrap_or_default();
        at += name.len();
        let value = match value(line, &mut at) {
            Value::Unterminated { quote } => {
                faults.push(line, quote, FaultKind::Unterminated);
                return None;
            }
            value => value,
        };
        let after = line.text[at..].find(ends_option).map_or(line.text.len(), |n| at + n);
        if after != at {
            faults.push(line, at, FaultKind::AfterOption);
            at = after;
        }
        let known = [NAMESPACES, VALID_AFTER, VALID_BEFORE]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(name));
        match (known, value) {
            (Some(name), _) if seen.contains(&name) => {
                faults.push(line, name_at, FaultKind::OptionTwice { name });
            }
            (Some(name), Value::Quoted { at, text }) => {
                seen.push(name);
                options.set(name, line, at, &text, faults);
            }
            (Some(name), _) => {
                seen.push(name);
                faults.push(line, name_at, FaultKind::Unquoted { name });
            }
            (None, Value::None) if name.eq_ignore_ascii_case(CERT_AUTHORITY) => {
                faults.push(line, name_at, FaultKind::CertAuthority);
            }
            (None, Value::None) if name.is_empty() => {
                faults.push(line, name_at, FaultKind::EmptyOption);
            }
            (None, _) => {
                faults.push(line, name_at, FaultKind::UnknownOption { name: clip(name) });
            }
        }
        if !line.text[at..].starts_with(',') {
            break;
        }
        at += 1;
    }
    if let (Some(after), Some(before)) = (options.valid_after, options.valid_before)
        && before <= after
    {
        faults.push(line, start, FaultKind::NeverValid);
    }
    Some((options, at))
}

impl Options {
    fn set(&mut self, name: &str, line: &Line<'_>, at: usize, text: &str, faults: &mut Faults) {
        if name == NAMESPACES {
            match PatternList::parse(text) {
                Ok(list) => self.namespaces = Some(list),
                // Escapes may have moved it; the value's start is near enough then.
                Err(empty) => faults.push(line, at + empty.at, FaultKind::EmptyPattern),
            }
            return;
        }
        match time(text) {
            Ok(time) if name == VALID_AFTER => self.valid_after = Some(time),
            Ok(time) => self.valid_before = Some(time),
            Err(kind) => faults.push(line, at, kind),
        }
    }
}

/// What follows an option's name.
enum Value {
    None,
    /// `=` and something without quotes, which is skipped.
    Bare,
    Quoted {
        at: usize,
        text: String,
    },
    Unterminated {
        quote: usize,
    },
}

/// Reads `="..."` at `at` and moves past it.
fn value(line: &Line<'_>, at: &mut usize) -> Value {
    let Some(rest) = line.text[*at..].strip_prefix('=') else {
        return Value::None;
    };
    *at += 1;
    let Some(quoted) = rest.strip_prefix('"') else {
        *at += rest.find(ends_option).unwrap_or(rest.len());
        return Value::Bare;
    };
    let quote = *at;
    let mut text = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => {
                *at = quote + 1 + index + 1;
                return Value::Quoted { at: quote + 1, text };
            }
            '\\' if chars.next_if(|&(_, next)| next == '"').is_some() => text.push('"'),
            c => text.push(c),
        }
    }
    Value::Unterminated { quote }
}

fn ends_name(c: char) -> bool {
    matches!(c, '=' | '"') || ends_option(c)
}

fn ends_option(c: char) -> bool {
    c == ',' || is_blank(c)
}

/// Reads `YYYYMMDD[HHMM[SS]]Z`, after 1970.
fn time(text: &str) -> Result<Timestamp, FaultKind> {
    let refuse = || FaultKind::Time { text: clip(text) };
    let (digits, utc) = text.strip_suffix('Z').map_or((text, false), |digits| (digits, true));
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    let number = |from: usize, to: usize| {
        digits.get(from..to).map_or(Ok(0), |part| part.parse::<i16>().map_err(|_| refuse()))
    };
    let small = |from: usize, to: usize| i8::try_from(number(from, to)?).map_err(|_| refuse());
    let (month, day) = (small(4, 6)?, small(6, 8)?);
    let (hour, minute, second) = (small(8, 10)?, small(10, 12)?, small(12, 14)?);
    let civil = DateTime::new(number(0, 4)?, month, day, hour, minute, second, 0);
    let time = civil.and_then(|civil| Offset::UTC.to_timestamp(civil)).map_err(|_| refuse())?;
    // ssh-keygen takes the epoch for "no time given" and refuses it too.
    if time <= Timestamp::UNIX_EPOCH {
        return Err(refuse());
    }
    if utc { Ok(time) } else { Err(FaultKind::LocalTime { text: clip(text) }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::TrustFile;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(Options, usize), Vec<(usize, FaultKind)>> {
        let mut faults = Faults::default();
        let read = parse(&Line { number: 1, text }, 0, &mut faults);
        faults
            .finish(TrustFile::AllowedSigners, ())
            .map(|()| read.expect("no faults, so options"))
            .map_err(|error| error.faults.into_iter().map(|f| (f.column, f.kind)).collect())
    }

    fn faults(text: &str) -> Vec<(usize, FaultKind)> {
        read(text).expect_err(text)
    }

    #[test]
    fn options_are_read_in_any_case_and_order() {
        let text = r#"Valid-Before="20271231Z",NAMESPACES="vyr-*,!vyr-plan",valid-after="202601020304Z" x"#;
        let (options, end) = read(text).expect("valid");
        assert_eq!(&text[end..], " x");
        assert_eq!(options.valid_before, Some("2027-12-31T00:00:00Z".parse().expect("time")));
        assert_eq!(options.valid_after, Some("2026-01-02T03:04:00Z".parse().expect("time")));
        let namespaces = options.namespaces.expect("given");
        assert!(namespaces.matches("vyr-bundle") && !namespaces.matches("vyr-plan"));
    }

    #[test]
    fn quotes_hold_anything() {
        let (options, end) = read(r#"namespaces="a b,c\"d\x""#).expect("valid");
        assert_eq!(end, 23);
        assert!(options.namespaces.expect("given").matches(r#"c"d\x"#));
    }

    #[test]
    fn every_fault_of_a_list_is_told_where_it_is() {
        let text =
            r#"cert-authority,namespaces="a,,b",foo="x",foo,valid-after=2026,,NameSpaces="c","#;
        assert_eq!(
            faults(text),
            [
                (1, FaultKind::CertAuthority),
                (30, FaultKind::EmptyPattern),
                (34, FaultKind::UnknownOption { name: "foo".into() }),
                (42, FaultKind::UnknownOption { name: "foo".into() }),
                (46, FaultKind::Unquoted { name: VALID_AFTER }),
                (63, FaultKind::EmptyOption),
                (64, FaultKind::OptionTwice { name: NAMESPACES }),
                (79, FaultKind::EmptyOption),
            ]
        );
        assert_eq!(faults(r#"namespaces"#), [(1, FaultKind::Unquoted { name: NAMESPACES })]);
        assert_eq!(faults(r#"namespaces="a x"#), [(12, FaultKind::Unterminated)]);
        assert_eq!(faults(r#"namespaces="a"b"#), [(15, FaultKind::AfterOption)]);
        assert_eq!(faults(r#"namespaces="""#), [(13, FaultKind::EmptyPattern)]);
    }

    #[test]
    fn a_window_must_be_one() {
        let window =
            |after, before| read(&format!("valid-after=\"{after}Z\",valid-before=\"{before}Z\""));
        assert!(window("20260101", "202601010001").is_ok());
        for (after, before) in [("20260101", "20260101"), ("20260102", "20260101")] {
            assert_eq!(window(after, before), Err(vec![(1, FaultKind::NeverValid)]));
        }
    }

    #[test]
    fn times_are_utc_and_real() {
        for (text, expected) in [
            ("20260228Z", "2026-02-28T00:00:00Z"),
            ("20240229Z", "2024-02-29T00:00:00Z"),
            ("202612312359Z", "2026-12-31T23:59:00Z"),
            ("20261231235958Z", "2026-12-31T23:59:58Z"),
        ] {
            assert_eq!(time(text), Ok(expected.parse().expect("time")), "{text}");
        }
        for text in ["20260228", "202602281200", "20260228120000"] {
            assert_eq!(time(text), Err(FaultKind::LocalTime { text: text.into() }));
        }
        for text in [
            "",
            "Z",
            "2026Z",
            "20260229Z",
            "20261301Z",
            "202601012400Z",
            "202601010060Z",
            "20260101120060Z",
            "2026010112Z",
            "2026-01-01Z",
            "20260101z",
            "20260101UTC",
            "+2026101Z",
            "\u{663}0260101Z",
            "19700101Z",
            "19691231Z",
            "00000101Z",
        ] {
            assert!(matches!(time(text), Err(FaultKind::Time { .. })), "{text} was taken");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in "[\\PC\t]{0,40}") {
            let _ = read(&text);
            let _ = time(&text);
        }

        #[test]
        fn likely_text_is_judged_without_panic(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "namespaces", "valid-after", "=", "\"", "\\", ",", " ", "a", "20260101Z", "é",
                ]),
                0..12,
            ),
        ) {
            let text = parts.concat();
            if let Ok((_, end)) = read(&text) {
                prop_assert!(end == text.len() || text[end..].starts_with(is_blank));
            }
        }
    }
}
