//! Releases: what an instance is made of, in two digests, named by their own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vyr_base::form::Name;
use vyr_base::{Category, Digest, Problem, canonical};

use crate::manifest::Manifest;

/// Bytes of a canonical release.
const RELEASE_BYTES_MAX: usize = 1024;
/// Hex digits of the short form. Of a million releases of one service two share them with a chance
/// of one in five hundred.
const SHORT_DIGITS: usize = 12;

/// What an instance is made of. It never changes; what changes is which one a service has.
///
/// `description`, `routes` and `scale` of the manifest are not in it: to add an instance or a name
/// replaces none that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Of which service.
    pub service: Name,
    /// The image's manifest in its registry.
    pub image_digest: Digest,
    /// [`Manifest::release_digest`].
    pub manifest_digest: Digest,
}

/// A release's name: the digest of its canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(Digest);

/// Why bytes are no release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// There are too many of them.
    #[error("a release of {0} bytes is longer than {RELEASE_BYTES_MAX}")]
    TooLarge(usize),
    /// They are not what a writer makes.
    #[error("it is no release in canonical form")]
    Form(#[source] canonical::CanonicalError),
}

impl Problem for ReleaseError {
    fn category(&self) -> Category {
        Category::Usage
    }
}

impl Release {
    /// What `manifest` with the image `image_digest` is.
    pub fn of(manifest: &Manifest, image_digest: Digest) -> Self {
        let manifest_digest = manifest.release_digest();
        Self { service: manifest.service.clone(), image_digest, manifest_digest }
    }

    /// Its one spelling: canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).unwrap_or_else(|error| unreachable!("only texts: {error}"))
    }

    /// Its name.
    pub fn id(&self) -> ReleaseId {
        ReleaseId(Digest::of(&self.to_bytes()))
    }

    /// Reads what [`Release::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// Says why not.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        match bytes.len() {
            ..=RELEASE_BYTES_MAX => canonical::parse(bytes).map_err(ReleaseError::Form),
            long => Err(ReleaseError::TooLarge(long)),
        }
    }
}

impl ReleaseId {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.0
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        let mut hex = self.0.hex();
        hex.truncate(SHORT_DIGITS);
        hex
    }

    /// Whether `text` names it: whole, or by 4 hex digits or more from the front.
    pub fn is_named(&self, text: &str) -> bool {
        match text.parse::<Digest>() {
            Ok(digest) => digest == self.0,
            Err(_) => text.len() >= 4 && self.0.hex().starts_with(text),
        }
    }
}

impl From<Digest> for ReleaseId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ReleaseId {
    type Err = vyr_base::ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
