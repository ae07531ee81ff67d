//! Hostnames: the exact names by which routes are found.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::form::{Text, TextError, look_alike};
use crate::text_as_string;

/// The longest name in bytes, and the longest label of one (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A hostname as DNS and SNI carry it: lowercase ASCII labels, no dot at the end, no wildcard. Names
/// in other scripts are written in punycode (`xn--..`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Box<str>);

/// Why a text is no hostname.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostnameError {
    /// Nothing, or more than 253 bytes.
    #[error("a hostname has 1 to 253 bytes")]
    Length,
    /// A label is empty or longer than 63 bytes; a dot at the end makes an empty one.
    #[error("each part of a hostname has 1 to 63 bytes, and there is no dot at its end")]
    Label,
    /// A letter that is not lowercase ASCII, or another character.
    #[error("a hostname has the characters a-z, 0-9, - and _")]
    Character,
    /// A hyphen where none may stand.
    #[error("no part of a hostname begins or ends with -")]
    Hyphen,
    /// An address, or something that reads like one.
    #[error("an address is no hostname, and no hostname ends with a number")]
    Address,
    /// `*` as a label.
    #[error("hostnames are exact, without wildcards")]
    Wildcard,
}

impl HostnameError {
    /// The reader's next move.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Character => "write it in lowercase, and other scripts in punycode: xn--..",
            Self::Wildcard => "name each host",
            Self::Address => "who asks for an address names no host: the default route is for them",
            Self::Length | Self::Label | Self::Hyphen => "write it as app.example.org",
        }
    }
}

impl Hostname {
    /// Takes a name that is written exactly as it must be.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        check(text.as_bytes())?;
        Ok(Self(text.into()))
    }

    /// Takes a name as a client sends it: letters of either case.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, HostnameError> {
        let lower = bytes.to_ascii_lowercase();
        check(&lower)?;
        let text = String::from_utf8(lower).map_err(|_| HostnameError::Character)?;
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for Hostname {
    const FORMAT: &'static str = "vyr-hostname";
    const WHAT: &'static str = "an exact host name in lowercase, such as app.example.org";
    const EXAMPLE: &'static str = "stand-in.invalid";
}

impl FromStr for Hostname {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(fault) = look_alike(text) {
            return Err(TextError { hint: Some(HostnameError::Character.hint().into()), ..fault });
        }
        Self::parse(text).map_err(|error| {
            let lower = text.trim_end_matches('.').to_ascii_lowercase();
            match Self::parse(&lower) {
                Ok(name) => TextError::mend(error.to_string(), format!("write {name}")),
                Err(_) => TextError::mend(error.to_string(), error.hint()),
            }
        })
    }
}

text_as_string!(Hostname);

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether `bytes` are an address instead of a name.
pub fn is_address(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

fn check(name: &[u8]) -> Result<(), HostnameError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(HostnameError::Length);
    }
    let mut last: &[u8] = &[];
    for label in name.split(|byte| *byte == b'.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return Err(HostnameError::Label);
        }
        if label == b"*" {
            return Err(HostnameError::Wildcard);
        }
        let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        match label.iter().find(|byte| !allowed(byte)) {
            Some(b':') => return Err(HostnameError::Address),
            Some(_) => return Err(HostnameError::Character),
            None => {}
        }
        if label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(HostnameError::Hyphen);
        }
        last = label;
    }
    // As in pki-types: what ends with a number could be read as an IPv4 address.
    match last.iter().all(u8::is_ascii_digit) {
        true => Err(HostnameError::Address),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_they_are_written() {
        for name in ["a", "app.example.org", "xn--bcher-kva.example", "_acme.a-b.c1", "1.a"] {
            assert_eq!(Hostname::parse(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
        assert_eq!(Hostname::from_wire(b"App.Example.ORG"), Hostname::parse("app.example.org"));
    }

    #[test]
    fn what_is_no_exact_name_is_refused_with_the_rule() {
        use HostnameError::*;
        let long = format!("{}.example", "a".repeat(64));
        let longer = "abcdefghi.".repeat(26);
        for (text, why) in [
            ("", Length),
            (longer.as_str(), Length),
            (long.as_str(), Label),
            ("a..b", Label),
            ("app.example.", Label),
            ("App.example", Character),
            ("b\u{fc}cher.example", Character),
            ("a b", Character),
            ("-a.example", Hyphen),
            ("a-.example", Hyphen),
            ("10.0.0.1", Address),
            ("::1", Address),
            ("a.1", Address),
            ("*.example.org", Wildcard),
        ] {
            assert_eq!(Hostname::parse(text), Err(why), "{text:?}");
        }
    }
}
