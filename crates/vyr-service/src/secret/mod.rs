//! `/run/secrets/platform.env`: the secrets of a service, as its instances find them.
//!
//! ```text
//! # VYR_SECRETS_V1             the first line that is not empty
//! DATABASE_URL=postgres://..   plain: UTF-8 in one line
//! TLS_KEY=base64:LS0tLS1C..    anything else
//! ```
//!
//! Invariants, each held by a test:
//! 1. One set of secrets has one canonical text: sorted, a line feed at the end of each line. A value
//!    is plain if it can be; one that begins with `base64:` itself is not, so that nobody reads
//!    another value than was meant.
//! 2. Reading the canonical text gives the same secrets, and writing those the same text.
//! 3. No error, `Debug` or `Display` says a value, or what might be one: a fault has a line's number,
//!    and a key only once it is known to be one.
//! 4. What held a value is overwritten when it goes.
//!
//! Deliberately elsewhere: age files and recipients (`vyr-node`), the guest's file (`vyr-init`).

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vyr_base::{Category, Problem};
use zeroize::Zeroizing;

use crate::manifest::SecretName;

pub use read::parse;

/// The line that such a file begins with.
pub const HEADER: &str = "# VYR_SECRETS_V1";
/// Bytes of a file.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// Secrets in a file.
pub const KEYS_MAX: usize = 256;
/// Bytes of a value that is written plainly; a longer one is written as `base64:`.
pub const PLAIN_BYTES_MAX: usize = 8 << 10;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// What a value begins with that is not plain.
const BASE64: &str = "base64:";

/// A secret's value: any bytes. It is shown to nobody, and overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// A value of at most [`VALUE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// It is longer.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        match bytes.len() {
            ..=VALUE_BYTES_MAX => Ok(Self(bytes)),
            _ => Err(SecretError::ValueTooLarge),
        }
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The secrets of a service, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    values: BTreeMap<SecretName, SecretValue>,
}

impl Secrets {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret, or gives it another value; whether there was one.
    ///
    /// # Errors
    /// There would be more than [`KEYS_MAX`], or more than [`FILE_BYTES_MAX`] bytes of them. Nothing
    /// is changed then.
    pub fn set(&mut self, name: SecretName, value: SecretValue) -> Result<bool, SecretError> {
        let before = self.values.insert(name.clone(), value);
        let fault = match () {
            () if self.values.len() > KEYS_MAX => SecretError::TooMany,
            () if self.file_bytes() > FILE_BYTES_MAX => SecretError::FileTooLarge,
            () => return Ok(before.is_some()),
        };
        match before {
            Some(before) => self.values.insert(name, before),
            None => self.values.remove(&name),
        };
        Err(fault)
    }

    /// Removes a secret; whether there was one.
    pub fn remove(&mut self, name: &SecretName) -> bool {
        self.values.remove(name).is_some()
    }

    /// A secret's value.
    pub fn get(&self, name: &SecretName) -> Option<&SecretValue> {
        self.values.get(name)
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.values.keys()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Those of `required` that are not here. An instance is not started without them.
    pub fn missing<'a>(&self, required: &'a BTreeSet<SecretName>) -> Vec<&'a SecretName> {
        required.iter().filter(|name| !self.values.contains_key(*name)).collect()
    }
}

/// Why a text is no file of secrets, or a value cannot be one. Never says a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Too many bytes.
    #[error("the secrets have more than {FILE_BYTES_MAX} bytes")]
    FileTooLarge,
    /// Too many keys.
    #[error("there are more than {KEYS_MAX} secrets")]
    TooMany,
    /// Too long a value.
    #[error("a secret has more than {VALUE_BYTES_MAX} bytes")]
    ValueTooLarge,
    /// It does not begin as it should.
    #[error("the secrets do not begin with the line {HEADER:?}")]
    NoHeader,
    /// Another version's.
    #[error("the secrets are of version {0}, and this program knows 1")]
    Version(u32),
    /// A line.
    #[error("line {line} of the secrets: {fault}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// Neither key nor value.
    #[error("it has no =")]
    NoEquals,
    /// Before the `=`.
    #[error("before the = there is no name: A-Z, 0-9 and _, no digit first")]
    Name,
    /// Twice.
    #[error("{0} is there twice")]
    Twice(SecretName),
    /// A carriage return or a NUL in a value.
    #[error("the value of {0} has a carriage return or a NUL; write it as base64:")]
    Control(SecretName),
    /// Not text.
    #[error("the value of {0} is not UTF-8; write it as base64:")]
    NotText(SecretName),
    /// Too long.
    #[error("the value of {0} has more than {PLAIN_BYTES_MAX} bytes; write it as base64:")]
    PlainTooLarge(SecretName),
    /// Too long even so.
    #[error("the value of {0} has more than {VALUE_BYTES_MAX} bytes")]
    ValueTooLarge(SecretName),
    /// Behind `base64:`.
    #[error("the value of {0} is not base64 with padding")]
    Base64(SecretName),
}

impl Problem for SecretError {
    fn category(&self) -> Category {
        match self {
            Self::Version(_) => Category::Conflict,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version(_) => Some("use a version of vyr that knows it".into()),
            Self::FileTooLarge | Self::TooMany => Some("remove some: vyr secret rm NAME".into()),
            Self::ValueTooLarge => Some("put what is large into the image, or serve it".into()),
            Self::NoHeader | Self::Line { .. } => {
                Some("write it again: vyr secret set NAME".into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
