//! The texts and numbers inside a manifest, each with one form.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use vyr_base::form::{Name, Text, TextError, TextForm, look_alike};
use vyr_base::hostname::Hostname;
use vyr_base::{Problem, format_bytes, parse_bytes, text_as_string};

use crate::reference::Reference;

/// Bytes of one argument, value of a variable or path.
pub const WORD_BYTES_MAX: usize = 8 << 10;
/// Characters of a description and of a user.
const LINE_CHARS_MAX: usize = 200;
const USER_CHARS_MAX: usize = 65;
/// Bytes of the name of a variable or of a secret.
const VARIABLE_BYTES_MAX: usize = 128;
/// Thousandths of a processor that one instance may use: 64 processors.
pub const CPU_MILLI_MAX: u32 = 64_000;

/// The forms that texts of a manifest have; keys of maps are names.
pub(super) const FORMS: [TextForm; 12] = [
    TextForm::of::<Name>(),
    TextForm::of::<Hostname>(),
    TextForm::of::<ImageRef>(),
    TextForm::of::<Size>(),
    TextForm::of::<Cpu>(),
    TextForm::of::<Variable>(),
    TextForm::of::<SecretName>(),
    TextForm::of::<Word>(),
    TextForm::of::<GuestPath>(),
    TextForm::of::<UrlPath>(),
    TextForm::of::<User>(),
    TextForm::of::<Line>(),
];

/// An image: `REGISTRY/REPOSITORY` with `:TAG` or `@sha256:..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef(pub Reference);

impl Text for ImageRef {
    const FORMAT: &'static str = "vyr-image";
    const WHAT: &'static str = "REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:..";
    const EXAMPLE: &'static str = "stand-in.invalid/image:0";
}

impl FromStr for ImageRef {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.parse() {
            Ok(reference) => Ok(Self(reference)),
            Err(error) => Err(TextError { hint: hint(text, &error), why: error.to_string() }),
        }
    }
}

/// What was meant by what people write elsewhere: the names that a registry there fills in.
fn hint(text: &str, error: &crate::ReferenceError) -> Option<String> {
    let tagged = |text: String| match text.contains('@')
        || text.rsplit('/').next().is_some_and(|last| last.contains(':'))
    {
        true => text,
        false => format!("{text}:TAG"),
    };
    let full = [text.to_owned(), format!("docker.io/{text}"), format!("docker.io/library/{text}")];
    let single = !text.contains('/');
    let near = full.into_iter().enumerate().map(|(at, text)| (at, tagged(text)));
    let mut near =
        near.filter(|(at, text)| (*at != 1 || !single) && text.parse::<Reference>().is_ok());
    match (error, near.next()) {
        (crate::ReferenceError::Form { .. }, Some((_, near))) => Some(format!("write {near}")),
        _ => error.hint(),
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A size in bytes: a whole number with `Ki`, `Mi`, `Gi`, `k`, `M`, `G` or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Text for Size {
    const FORMAT: &'static str = "vyr-size";
    const WHAT: &'static str = "a size such as 256Mi or 4Gi";
    const EXAMPLE: &'static str = "1Gi";
}

impl FromStr for Size {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match parse_bytes(text) {
            // What JSON numbers hold.
            Ok(bytes) if bytes < 1 << 53 => Ok(Self(bytes)),
            Ok(_) => Err(TextError::write_one::<Self>("no machine has that much")),
            Err(_) => {
                let short = text.trim_end_matches(['B', 'b']).replace(' ', "");
                match short != text && parse_bytes(&short).is_ok() {
                    true => Err(TextError::mend("it is not a size", format!("write {short}"))),
                    false => Err(TextError::write_one::<Self>("it is not a size")),
                }
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_bytes(self.0))
    }
}

/// Thousandths of a processor. The file has processors: `0.25`, `1`, `2.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(pub u32);

impl Text for Cpu {
    const FORMAT: &'static str = "vyr-cpu";
    const WHAT: &'static str = "processors, from 0.01 to 64, such as 0.25, 1 or 2.5";
    const EXAMPLE: &'static str = "1";
}

impl FromStr for Cpu {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let fault = |why: &str| TextError::write_one::<Self>(why);
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        if !digits(whole) {
            return Err(fault("it is no number of processors"));
        }
        if !digits(part) {
            return Err(fault("it has more than three digits after the point"));
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| fault("it is no number"));
        let milli = number(whole)? * 1000 + number(&format!("{part:0<3}"))?;
        match milli {
            10..=CPU_MILLI_MAX => Ok(Self(milli)),
            _ => Err(fault("an instance has 0.01 to 64 processors")),
        }
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// TOML has numbers with a point and without.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Number {
            Whole(u16),
            Fraction(f64),
        }
        match Number::deserialize(deserializer)? {
            Number::Whole(whole) => Ok(Self(u32::from(whole) * 1000)),
            // Its text was checked: three digits after the point, of which a double loses none.
            Number::Fraction(number) => {
                let text = format!("{number:.3}");
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    }
}

impl JsonSchema for Cpu {
    fn schema_name() -> Cow<'static, str> {
        "Cpu".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number", "minimum": 0.01, "maximum": 64,
            "format": Self::FORMAT, "description": Self::WHAT
        })
    }
}

/// Declares a text that is kept as it is written and checked by a function.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $format:literal, $what:literal, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl Text for $name {
            const FORMAT: &'static str = $format;
            const WHAT: &'static str = $what;
            const EXAMPLE: &'static str = $example;
        }

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let check: fn(&str) -> Result<(), TextError> = $check;
                check(text).map(|()| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked!(
    /// The name of an environment variable.
    Variable,
    "vyr-variable",
    "the name of a variable: letters, digits and _, no digit first, at most 128",
    "STAND_IN",
    |text| variable::<Variable>(text, |c| c.is_ascii_alphabetic() || c == '_')
);

checked!(
    /// The name of a secret, as `/run/secrets/platform.env` has it.
    SecretName,
    "vyr-secret-name",
    "the name of a secret: A-Z, 0-9 and _, no digit first, at most 128",
    "STAND_IN",
    |text| variable::<SecretName>(text, |c| c.is_ascii_uppercase() || c == '_')
);

fn variable<T: Text>(text: &str, letter: fn(char) -> bool) -> Result<(), TextError> {
    let good = |text: &str| {
        text.starts_with(letter)
            && text.len() <= VARIABLE_BYTES_MAX
            && text.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    let other = text.to_ascii_uppercase().replace(['-', '.', ' '], "_");
    match good(text) {
        true => Ok(()),
        false if good(&other) => {
            Err(TextError::mend("it is no such name", format!("write {other}")))
        }
        false => Err(look_alike(text).unwrap_or(TextError::write_one::<T>("it is no such name"))),
    }
}

checked!(
    /// One argument of a command, or the value of a variable: whatever a program takes.
    Word,
    "vyr-word",
    "a text of at most 8192 bytes, without NUL",
    "stand-in",
    |text| match (text.len(), text.contains('\0')) {
        (..=WORD_BYTES_MAX, false) => Ok(()),
        (_, true) => Err(TextError::wrong("no program can take a NUL")),
        (_, false) => Err(TextError::mend(
            format!("it has {} bytes, more than {WORD_BYTES_MAX}", text.len()),
            "put it into a file of the image"
        )),
    }
);

checked!(
    /// A path inside of an instance.
    GuestPath,
    "vyr-path",
    "an absolute path such as /srv/app, without .. in it",
    "/",
    |text| {
        let part = |part: &str| part != ".." && part != ".";
        let good = text.starts_with('/')
            && text.len() <= 4096
            && !text.contains(char::is_control)
            && text.split('/').all(part);
        match good {
            true => Ok(()),
            false => Err(TextError::write_one::<GuestPath>("it is no absolute path")),
        }
    }
);

checked!(
    /// What a health check asks for.
    UrlPath,
    "vyr-url-path",
    "a path such as /healthz, at most 1024 characters of ASCII",
    "/",
    |text| {
        let good = text.starts_with('/')
            && text.len() <= 1024
            && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
        match good {
            true => Ok(()),
            false => Err(TextError::write_one::<UrlPath>("it is no path of a URL")),
        }
    }
);

checked!(
    /// Whom a process runs as: a name or a number of the image, with a group or without.
    User,
    "vyr-user",
    "a user of the image, such as app, 1000 or 1000:1000",
    "stand-in",
    |text| {
        let name = |name: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(inner)
        };
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        match text.len() <= USER_CHARS_MAX && name(user) && group.is_none_or(name) {
            true => Ok(()),
            false => Err(TextError::write_one::<User>("it is no user")),
        }
    }
);

checked!(
    /// A line for people.
    Line,
    "vyr-line",
    "1 to 200 characters on one line",
    "stand-in",
    |text| match (text.chars().count(), text.contains(char::is_control)) {
        (1..=LINE_CHARS_MAX, false) => Ok(()),
        _ => Err(TextError::write_one::<Line>("it is not one short line")),
    }
);

text_as_string!(ImageRef, Variable, SecretName, Word, GuestPath, UrlPath, User, Line);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": Self::FORMAT, "description": Self::WHAT })
    }
}
