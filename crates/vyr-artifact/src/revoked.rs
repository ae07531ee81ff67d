//! Revoked keys: a text file with one OpenSSH public key a line and `#` comments.
//!
//! The same file is taken by `ssh-keygen -Y verify -r` and by `RevokedKeys` of `sshd_config`.
//! Keys of any kind may be listed (such a file often holds RSA keys for sshd); only keys we
//! accept can matter here.
//!
//! Invariant: a line that cannot be read refuses the file. A revocation that is skipped would
//! trust what somebody took trust from.

use std::collections::BTreeSet;

use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use crate::faults::{FaultKind, Faults, Line, TrustFile, TrustFileError, each_line};
use crate::keys::read_key;
use crate::oci::clip;

/// How a binary revocation list of OpenSSH begins (PROTOCOL.krl).
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// Keys whose signatures are refused, whatever `allowed_signers` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokedKeys {
    keys: BTreeSet<KeyData>,
}

impl RevokedKeys {
    /// Reads a file; all its faults are reported together. An empty file revokes nothing.
    pub fn parse(file: &[u8]) -> Result<Self, TrustFileError> {
        let mut faults = Faults::default();
        if file.starts_with(KRL_MAGIC) {
            faults = Faults::whole(FaultKind::BinaryKrl);
            return faults.finish(TrustFile::RevokedKeys, Self::default());
        }
        let keys = each_line(file, &mut faults, key).into_iter().collect();
        faults.finish(TrustFile::RevokedKeys, Self { keys })
    }

    /// Whether this key is revoked.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.contains_data(key.key_data())
    }

    pub(crate) fn contains_data(&self, key: &KeyData) -> bool {
        self.keys.contains(key)
    }

    /// How many different keys are revoked.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn key(line: &Line<'_>, faults: &mut Faults) -> Option<KeyData> {
    let kind = line.word(0)?;
    if kind.text.starts_with("SHA256:") || kind.text.starts_with("MD5:") {
        faults.push(line, kind.at, FaultKind::Fingerprint);
        return None;
    }
    if kind.text.contains("-cert-v0") {
        faults.push(line, kind.at, FaultKind::Certificate);
        return None;
    }
    let Some(data) = line.word(kind.end()) else {
        faults.push(line, kind.end(), FaultKind::MissingKey);
        return None;
    };
    let key = read_key(kind.text, data.text);
    if key.is_none() {
        faults.push(line, data.at, FaultKind::KeyData { name: clip(kind.text) });
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ed25519, public_line};
    use proptest::prelude::*;
    use vyr_base::Problem;

    /// Made for this test with `ssh-keygen -t rsa -b 1024`; the private half was not kept.
    const RSA: &str = include_str!("../tests/golden/rsa.pub");

    #[test]
    fn keys_are_read_whatever_their_kind() {
        let one = public_line(&ed25519(1));
        let file = format!("# lost in May\n{one} ana's laptop\n\n  {one}\n{RSA}");
        let revoked = RevokedKeys::parse(file.as_bytes()).expect("valid");
        assert_eq!(revoked.len(), 2);
        assert!(revoked.contains(ed25519(1).public_key()));
        assert!(!revoked.contains(ed25519(2).public_key()));
        assert!(RevokedKeys::parse(b"# none\n").expect("valid").is_empty());
    }

    #[test]
    fn a_binary_list_is_refused_with_the_way_out() {
        let error = RevokedKeys::parse(b"SSHKRL\n\0\0\0\0\x01").expect_err("a KRL");
        assert_eq!(error.faults.len(), 1);
        assert_eq!(error.faults[0].kind, FaultKind::BinaryKrl);
        assert!(error.hint().expect("has one").contains("one public key a line"));
    }

    #[test]
    fn every_fault_is_told() {
        let good = public_line(&ed25519(1));
        let file = format!(
            "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ\n{good}\nssh-ed25519\n\
             ssh-ed25519 AAAA\nssh-ed25519-cert-v01@openssh.com AAAA\nana {good}\n"
        );
        let error = RevokedKeys::parse(file.as_bytes()).expect_err("faults");
        let faults: Vec<_> = error.faults.into_iter().map(|f| (f.line, f.column, f.kind)).collect();
        assert_eq!(
            faults,
            [
                (1, 1, FaultKind::Fingerprint),
                (3, 12, FaultKind::MissingKey),
                (4, 13, FaultKind::KeyData { name: "ssh-ed25519".into() }),
                (5, 1, FaultKind::Certificate),
                (6, 5, FaultKind::KeyData { name: "ana".into() }),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            let _ = RevokedKeys::parse(&bytes);
        }

        /// A changed file is refused, or still revokes a key; it never quietly revokes nothing
        /// unless the change made a comment of the line.
        #[test]
        fn a_mutated_key_is_not_skipped(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = public_line(&ed25519(1)).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(revoked) = RevokedKeys::parse(&bytes) {
                prop_assert!(!revoked.is_empty() || bytes[0] == b'#');
            }
        }
    }
}
