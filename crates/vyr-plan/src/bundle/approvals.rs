//! The approvals of a plan, as a host keeps them beside it and a bundle carries them.

use serde::{Deserialize, Serialize};
use vyr_artifact::SIGNATURE_BYTES_MAX;
use vyr_base::canonical;

use super::{BUNDLE_VERSION, BundleError};
use crate::approve::{APPROVAL_BYTES_MAX, APPROVALS_MAX, Signed};

/// Bytes of the file: all approvals that are looked at, with the longest signatures.
pub const APPROVALS_BYTES_MAX: usize = APPROVALS_MAX * (SIGNATURE_BYTES_MAX * 2 + 1024);

/// Characters of a name.
const NAME_CHARS_MAX: usize = 128;

/// Approvals of one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    signed: Vec<One>,
    version: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    signature: String,
    text: String,
}

impl Approvals {
    /// Those of a list that can be approvals at all; who they count for is `approve`'s to say.
    pub fn of(signed: &[Signed]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let one = |of: &Signed| {
            let name = of.name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
            Some(One { name, signature: text(&of.signature)?, text: text(&of.text)? })
        };
        let fits = |one: &One| one.bounded();
        let signed = signed.iter().filter_map(one).filter(fits).take(APPROVALS_MAX).collect();
        Self { signed, version: BUNDLE_VERSION }
    }

    /// The same, to be judged.
    pub fn signed(&self) -> Vec<Signed> {
        let one = |one: &One| Signed {
            name: one.name.clone(),
            text: one.text.clone().into_bytes(),
            signature: one.signature.clone().into_bytes(),
        };
        self.signed.iter().map(one).collect()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        canonical::to_vec(self).map_err(|source| BundleError::Form { part: "approvals", source })
    }

    /// Reads them in their one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let part = "approvals";
        if bytes.len() > APPROVALS_BYTES_MAX {
            return Err(BundleError::Length { part, most: APPROVALS_BYTES_MAX as u64 });
        }
        let read: Self =
            canonical::parse(bytes).map_err(|source| BundleError::Form { part, source })?;
        if read.version != BUNDLE_VERSION {
            return Err(BundleError::Version(read.version.to_string()));
        }
        if read.signed.len() > APPROVALS_MAX || !read.signed.iter().all(One::bounded) {
            let why = format!("over {APPROVALS_MAX} of them, or one that is too long");
            return Err(BundleError::Impossible { part, why });
        }
        Ok(read)
    }
}

impl One {
    fn bounded(&self) -> bool {
        self.name.chars().count() <= NAME_CHARS_MAX
            && !self.name.contains(char::is_control)
            && self.text.len() <= APPROVAL_BYTES_MAX
            && self.signature.len() <= SIGNATURE_BYTES_MAX
    }
}
