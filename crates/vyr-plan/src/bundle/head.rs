//! What is in clear: the form, the header, the signature.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vyr_artifact::{
    Namespace, SIGNATURE_BYTES_MAX, Signature, Signer, TrustError, TrustPolicy, signed_bytes,
};
use vyr_base::{Digest, canonical};

use super::{BUNDLE_VERSION, BundleError};
use crate::intent::Name;

/// Bytes of the header's line.
pub const HEADER_BYTES_MAX: usize = 4 << 10;
/// Bytes before the payload.
pub const HEAD_BYTES_MAX: usize = HEADER_BYTES_MAX + SIGNATURE_BYTES_MAX + 64;

const MAGIC: &str = "vyr-bundle ";
const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----\n";
const END: &[u8] = b"\n-----END SSH SIGNATURE-----\n";

/// What anybody may read of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The confirmed plan's epoch.
    pub epoch: u64,
    /// Which machine of the plan it makes.
    pub machine: Name,
    /// When it was made.
    pub made: Timestamp,
    /// What follows the signature.
    pub payload: Payload,
    /// The confirmed plan.
    pub plan_digest: Digest,
    /// The site's name.
    pub site: Name,
}

/// The encrypted bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// How many.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

impl Header {
    /// The two lines that are signed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let mut bytes = format!("{MAGIC}{BUNDLE_VERSION}\n").into_bytes();
        let header = canonical::to_vec(self);
        bytes.extend(header.map_err(|source| BundleError::Form { part: "header", source })?);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The bundle's name: the digest of the two lines.
    pub fn digest(&self) -> Result<Digest, BundleError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

/// All that is in clear. Whether anybody who counts signed it is for [`Head::verify`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it says of itself.
    pub header: Header,
    /// The bundle's name: the digest of the lines that are signed.
    pub digest: Digest,
    /// The id of the key that claims to have signed.
    pub key_id: String,
    /// Where the payload begins, in bytes from the start of the file.
    pub payload_at: usize,
    signature: Vec<u8>,
}

impl Head {
    /// Reads the beginning of a file: all of it, or its first [`HEAD_BYTES_MAX`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(BundleError::NotABundle)?;
        let form = line(rest, 16).ok_or(BundleError::NotABundle)?;
        if form != BUNDLE_VERSION.to_string().as_bytes() {
            return Err(BundleError::Version(
                String::from_utf8_lossy(form).escape_debug().to_string(),
            ));
        }
        let rest = &rest[form.len() + 1..];
        let most = HEADER_BYTES_MAX;
        let header =
            line(rest, most).ok_or(BundleError::Length { part: "header", most: most as u64 })?;
        let rest = &rest[header.len() + 1..];
        let header: Header = canonical::parse(header)
            .map_err(|source| BundleError::Form { part: "header", source })?;
        let signed = &bytes[..bytes.len() - rest.len()];
        if !rest.starts_with(BEGIN) {
            return Err(BundleError::Unsigned);
        }
        let within = &rest[..rest.len().min(SIGNATURE_BYTES_MAX)];
        let most = SIGNATURE_BYTES_MAX as u64;
        let end = within.windows(END.len()).position(|window| window == END);
        let end = end.ok_or(BundleError::Length { part: "signature", most })? + END.len();
        let signature = rest[..end].to_vec();
        let read = Signature::parse(&signature).map_err(BundleError::Signature)?;
        let key_id = read.key_id().to_string();
        let payload_at = signed.len() + end;
        Ok(Self { header, digest: Digest::of(signed), key_id, payload_at, signature })
    }

    /// Who vouches for it, by a list of keys.
    pub fn verify(&self, policy: &TrustPolicy, now: Timestamp) -> Result<Signer, TrustError> {
        policy.verify(Namespace::Bundle, &signed_bytes(&self.digest), &self.signature, now)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        (self.payload_at as u64).saturating_add(self.header.payload.bytes)
    }
}

/// The first line, without its end, if it has one within a bound.
fn line(bytes: &[u8], most: usize) -> Option<&[u8]> {
    let within = &bytes[..bytes.len().min(most + 1)];
    within.iter().position(|byte| *byte == b'\n').map(|end| &within[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vyr_base::Problem as _;

    /// Made once with `ssh-keygen -Y sign -n vyr-bundle`; the bytes of version 1, for good.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/bundle-head-v1");
    const OPERATOR: &str = include_str!("../../tests/golden/bundle-operator.pub");

    fn policy(line: &str) -> TrustPolicy {
        let signers = vyr_artifact::AllowedSigners::parse(line.as_bytes()).expect("a list");
        TrustPolicy { signers, ..TrustPolicy::default() }
    }

    fn verdict(bytes: &[u8], line: &str) -> Result<Head, u8> {
        let head = Head::parse(bytes).map_err(|e| e.category().exit_code())?;
        let signer = head.verify(&policy(line), Timestamp::UNIX_EPOCH);
        signer.map_err(|e| e.category().exit_code())?;
        Ok(head)
    }

    #[test]
    fn what_was_written_once_is_read() {
        let line = format!("ana namespaces=\"vyr-bundle\" {OPERATOR}");
        let head = verdict(GOLDEN, &line).expect("it is good");
        assert_eq!(head.header.machine.to_string(), "nas");
        assert_eq!(head.header.epoch, 7);
        assert_eq!(head.payload_at, GOLDEN.len());
        assert_eq!(head.file_bytes(), GOLDEN.len() as u64 + 1000);
        let signed = head.header.to_bytes().expect("JSON");
        assert!(GOLDEN.starts_with(&signed));
        assert_eq!(head.header.digest().expect("JSON"), head.digest);
    }

    #[test]
    fn who_may_sign_plans_may_not_sign_bundles() {
        let plans = format!("ana namespaces=\"vyr-plan\" {OPERATOR}");
        assert_eq!(verdict(GOLDEN, &plans), Err(3));
        assert_eq!(verdict(GOLDEN, ""), Err(3));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = String::from_utf8_lossy(GOLDEN).into_owned();
        let found = |text: &str| Head::parse(text.as_bytes()).expect_err("it is bad").to_string();
        assert!(found("").contains("not a recovery bundle"));
        assert!(found(&text.replace("vyr-bundle 1\n", "vyr-bundle 2\n")).contains("version 2"));
        let unsigned = text.replace("-----BEGIN", "age-encryption");
        assert!(found(&unsigned).contains("not signed"));
        let cut = text.replace("-----END", "");
        assert!(found(&cut).contains("cut off"));
        let long = text.replacen("{", &format!("{{{}", " ".repeat(HEADER_BYTES_MAX)), 1);
        assert!(found(&long).contains("over 4096 bytes"));
        let spelt = text.replacen("{", "{ ", 1);
        assert!(found(&spelt).contains("header"));
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_never_believed(at in any::<prop::sample::Index>(), change in 1u8..) {
            let line = format!("ana {OPERATOR}");
            prop_assert!(verdict(GOLDEN, &line).is_ok());
            let mut bytes = GOLDEN.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(verdict(&bytes, &line).is_err(), "byte {at}");
            prop_assert!(verdict(&GOLDEN[..at], &line).is_err(), "cut at {at}");
        }
    }
}
