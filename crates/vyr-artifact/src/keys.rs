//! Public keys: which we accept, their one spelling, and the name people know them by.
//!
//! Accepted: Ed25519, Ed25519 on a security key, ECDSA on the three NIST curves. Refused: RSA
//! and DSA (no second arithmetic to audit), ECDSA on a security key (nobody asked), and
//! certificates (a list of keys can be read and compared; a chain cannot).
//!
//! Invariant: a key has one spelling. The library's decoder takes length prefixes that are too
//! long and compressed curve points; what does not encode back to the same text is refused.

use std::fmt;

use serde::{Serialize, Serializer};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey};

/// Names of the accepted algorithms, as OpenSSH writes them.
pub(crate) const ACCEPTED: [&str; 5] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// What an error says to do about another algorithm.
pub(crate) const ACCEPTED_HINT: &str = "use ssh-ed25519, sk-ssh-ed25519@openssh.com or \
     ecdsa-sha2-nistp256/384/521; a new key: ssh-keygen -t ed25519";

/// First byte of an uncompressed curve point (SEC 1, 2.3.3); OpenSSH takes no other.
const UNCOMPRESSED: u8 = 4;

/// The OpenSSH fingerprint of a public key: `SHA256:` and unpadded base64.
///
/// `ssh-keygen -l` and `ssh-add -l` print the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The id of `key`, whatever its comment.
    pub fn of(key: &PublicKey) -> Self {
        Self::of_data(key.key_data())
    }

    pub(crate) fn of_data(key: &KeyData) -> Self {
        Self(key.fingerprint(HashAlg::Sha256).to_string())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

pub(crate) fn is_accepted(algorithm: &Algorithm) -> bool {
    ACCEPTED.contains(&algorithm.as_str())
}

/// Reads `KIND DATA` (an algorithm's name and base64), in its one spelling only.
pub(crate) fn read_key(kind: &str, data: &str) -> Option<KeyData> {
    let text = format!("{kind} {data}");
    let key = PublicKey::from_openssh(&text).ok()?;
    let key_data = key.key_data().clone();
    let canonical = line_of(&key_data)? == text && is_uncompressed(&key_data);
    canonical.then_some(key_data)
}

/// `KIND DATA` of a key, without a comment.
pub(crate) fn line_of(key: &KeyData) -> Option<String> {
    PublicKey::from(key.clone()).to_openssh().ok()
}

/// Whether a key's curve point, if it has one, is written in full.
pub(crate) fn is_uncompressed(key: &KeyData) -> bool {
    match key {
        KeyData::Ecdsa(point) => point.as_sec1_bytes().first() == Some(&UNCOMPRESSED),
        KeyData::SkEcdsaSha2NistP256(key) => {
            key.ec_point().as_bytes().first() == Some(&UNCOMPRESSED)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ecdsa, ed25519, public_line};
    use ssh_key::EcdsaCurve;
    use ssh_key::public::EcdsaPublicKey;

    fn parts(line: &str) -> (&str, &str) {
        line.split_once(' ').expect("two words")
    }

    #[test]
    fn accepted_keys_are_read_and_written_the_same() {
        let mut keys = vec![ed25519(1)];
        keys.extend([EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521].map(ecdsa));
        for key in keys {
            let line = public_line(&key);
            let (kind, data) = parts(&line);
            let read = read_key(kind, data).expect("canonical");
            assert_eq!(&read, key.public_key().key_data());
            assert!(is_accepted(&read.algorithm()));
            assert_eq!(line_of(&read).as_deref(), Some(&line[..]));
        }
    }

    #[test]
    fn the_id_is_the_fingerprint_openssh_prints() {
        // From `ssh-keygen -lf` of a public key made for this test.
        let line =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let (kind, data) = parts(line);
        let id = KeyId::of_data(&read_key(kind, data).expect("a key"));
        assert_eq!(id.as_str(), "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ");
    }

    #[test]
    fn a_second_spelling_is_refused() {
        let line = public_line(&ed25519(1));
        let (kind, data) = parts(&line);
        // The length of the point, 32, becomes 36: the library reads 32 bytes and is content.
        let longer = data.replacen("AAAAI", "AAAAJ", 1);
        assert_ne!(longer, data);
        let data_end = data.trim_end_matches('=');
        for (kind, data) in [
            (kind, longer.as_str()),
            (kind, &data[..data.len() - 1]),
            (kind, &format!("{data_end}AAAA")[..]),
            ("ecdsa-sha2-nistp256", data),
            ("ssh-ed25519 ", data),
            (kind, ""),
            ("", data),
        ] {
            assert_eq!(read_key(kind, data), None, "{kind} {data}");
        }
    }

    #[test]
    fn compressed_points_are_refused() {
        let key = ecdsa(EcdsaCurve::NistP256);
        let point = key.public_key().key_data().ecdsa().expect("ECDSA").as_sec1_bytes().to_vec();
        let sign = 2 + (point[64] & 1);
        let short = [&[sign], &point[1..33]].concat();
        let short = KeyData::from(EcdsaPublicKey::from_sec1_bytes(&short).expect("a point"));
        let line = line_of(&short).expect("encodes");
        let (kind, data) = parts(&line);
        assert_eq!(read_key(kind, data), None);
    }
}
