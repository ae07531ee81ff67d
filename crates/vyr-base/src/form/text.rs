//! Texts with a checked form: each is checked once, where it is read, and is a type afterwards.

use std::fmt;
use std::str::FromStr;

/// Characters of a name: the kernel gives an interface 15, and `vyr-` comes before a short one.
pub const NAME_CHARS_MAX: usize = 31;

/// Why a text is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct TextError {
    /// Why.
    pub why: String,
    /// What to write.
    pub hint: Option<String>,
}

impl TextError {
    /// Without a word on what to write.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None }
    }

    /// With what to write instead.
    pub fn mend(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: Some(hint.into()) }
    }

    /// With the form of `T` as what to write.
    pub fn write_one<T: Text>(why: &str) -> Self {
        Self::mend(why, format!("write {}", T::WHAT))
    }
}

/// A text with a checked form.
pub trait Text: FromStr<Err = TextError> {
    /// Its name in a schema's `format`.
    const FORMAT: &'static str;
    /// What it is, in a few words.
    const WHAT: &'static str;
    /// One that is good and means nothing. With a number after it it is another one, where it is the
    /// key of a map.
    const EXAMPLE: &'static str;
}

/// A form that texts have, for a [`super::Reader`].
#[derive(Debug, Clone, Copy)]
pub struct TextForm {
    /// Its name in a schema's `format`.
    pub format: &'static str,
    /// Whether a text has it.
    pub check: fn(&str) -> Result<(), TextError>,
    /// A text that has it and means nothing.
    pub example: &'static str,
}

impl TextForm {
    /// That of `T`.
    pub const fn of<T: Text>() -> Self {
        let check = |text: &str| text.parse::<T>().map(|_| ());
        Self { format: T::FORMAT, check, example: T::EXAMPLE }
    }
}

/// Reads and writes a [`Text`] as a string, and describes it to an editor. The crate that says it
/// has `serde` and `schemars`.
#[macro_export]
macro_rules! text_as_string {
    ($($text:ident),*) => { $(
        impl<'de> ::serde::Deserialize<'de> for $text {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as ::serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }

        impl ::serde::Serialize for $text {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl ::schemars::JsonSchema for $text {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($text).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({
                    "type": "string",
                    "format": <$text as $crate::form::Text>::FORMAT,
                    "description": <$text as $crate::form::Text>::WHAT
                })
            }
        }
    )* };
}

text_as_string!(Name);

/// A character that is no plain ASCII: who looks sees an `a`, the file has something else.
pub fn look_alike(text: &str) -> Option<TextError> {
    let odd = text.chars().find(|c| !c.is_ascii() || c.is_ascii_control())?;
    Some(TextError::mend(
        format!("it has the character U+{:04X}, which is not plain ASCII", u32::from(odd)),
        "type it again with ASCII letters",
    ))
}

/// A name: lower-case letters, digits and hyphens, a letter first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Text for Name {
    const FORMAT: &'static str = "vyr-name";
    const WHAT: &'static str =
        "1 to 31 lower-case letters, digits and hyphens; a letter first, no hyphen last";
    const EXAMPLE: &'static str = "stand-in";
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(fault) = look_alike(text) {
            return Err(fault);
        }
        let middle = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = text.len() <= NAME_CHARS_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.chars().all(middle);
        match good {
            true => Ok(Self(text.into())),
            false => {
                let why = format!("a name has {}", Self::WHAT);
                let other = text.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
                match other != text && other.parse::<Self>().is_ok() {
                    true => Err(TextError::mend(why, format!("write {other}"))),
                    false => Err(TextError::wrong(why)),
                }
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let form = TextForm::of::<Name>();
        assert_eq!((form.check)(form.example), Ok(()));
        assert_eq!((form.check)(&format!("{}99", form.example)), Ok(()));
        for bad in ["", "9a", "a-", "A", "of\u{0444}ice", "a_b", &"a".repeat(32)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
