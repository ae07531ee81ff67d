//! Who asks a registry: a name and a password from a file, or a token the registry gives.
//!
//! The file has the form that `skopeo login`, `buildah login` and `docker login` write. Nothing of
//! it is ever part of an error, a log line, an argument or the environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer};
use vyr_base::{Category, Problem};
use zeroize::Zeroizing;

/// Largest file of credentials, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read credentials from {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not have the form.
    #[error("{} is no file of registry credentials", path.display())]
    Form {
        /// Where.
        path: PathBuf,
    },
}

impl Problem for CredentialsError {
    fn category(&self) -> Category {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Category::NotFound
            }
            Self::Read { .. } => Category::Auth,
            Self::Form { .. } => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some("make one: skopeo login --authfile FILE REGISTRY".into())
    }
}

/// `NAME:PASSWORD` in base64, ready for a header.
#[derive(Clone)]
pub struct Credentials(Zeroizing<String>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// A string that leaves no copy in memory.
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<Secret>,
}

impl Credentials {
    /// Those of `registry` in a file; none if the file has none for it.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn read(path: &Path, registry: &str) -> Result<Option<Self>, CredentialsError> {
        let mut text = Zeroizing::new(Vec::new());
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(|source| CredentialsError::Read { path: path.into(), source })?;
        let form = || CredentialsError::Form { path: path.into() };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(form());
        }
        // The cause would quote the file.
        let mut file: AuthFile = serde_json::from_slice(&text).map_err(|_| form())?;
        let Some(Secret(auth)) = file.auths.remove(registry).and_then(|auth| auth.auth) else {
            return Ok(None);
        };
        let plain = Base64::decode_vec(&auth).map(Zeroizing::new).map_err(|_| form())?;
        match plain.contains(&b':') {
            true => Ok(Some(Self(auth))),
            false => Err(form()),
        }
    }

    /// Of a text that another process read: what [`Self::encoded`] gave there. None if it is no
    /// `NAME:PASSWORD` in base64.
    pub fn from_encoded(text: Zeroizing<String>) -> Option<Self> {
        let plain = Base64::decode_vec(&text).map(Zeroizing::new).ok()?;
        plain.contains(&b':').then_some(Self(text))
    }

    /// The name and the password in base64, for the process that asks the registry. A secret.
    pub fn encoded(&self) -> &str {
        &self.0
    }

    /// The value of an `Authorization` header.
    pub(crate) fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Basic {}", *self.0))
    }
}

/// What a registry wants before it answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token from this address, for this service.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let header = header.trim_start();
        let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = parameters.trim_start_matches([' ', ',']);
        while let Some((key, after)) = rest.split_once('=') {
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = next.trim_start_matches([' ', ',']);
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// A registry's answer to a request for a token.
#[derive(Deserialize)]
struct Token {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

/// The value of an `Authorization` header, from a registry's answer.
pub(crate) fn bearer(answer: &[u8]) -> Option<Zeroizing<String>> {
    let token: Token = serde_json::from_slice(answer).ok()?;
    let Secret(token) = token.token.or(token.access_token)?;
    let fits = token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Zeroizing::new(format!("Bearer {}", *token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.example/token",service="r, example",scope="x""#;
        let read = Challenge::parse(header);
        let (realm, service) = ("https://auth.example/token".into(), Some("r, example".into()));
        assert_eq!(read, Some(Challenge::Bearer { realm, service }));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for other in ["", "Digest x=y", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_one_word() {
        let read = |text: &str| bearer(text.as_bytes()).map(|token| token.to_string());
        assert_eq!(read(r#"{"token":"a.b"}"#).as_deref(), Some("Bearer a.b"));
        assert_eq!(read(r#"{"access_token":"c"}"#).as_deref(), Some("Bearer c"));
        assert_eq!(read(r#"{"token":"a\r\nX: y"}"#), None);
        assert_eq!(read("{}"), None);
    }
}
