//! The verdict: does somebody we trust vouch for this message, now and for this use?
//!
//! Trust is a local list; nothing is learned from what is verified. The questions are asked in
//! this order, and the first "no" is the answer:
//!
//! ```text
//! readable? -> for this namespace? -> a kind of key we accept? -> a key we know?
//!   -> does it verify, with a person present? -> not revoked? -> does a line allow it now?
//! ```
//!
//! Arithmetic comes before revocation and dates, so nobody is said to have signed with an expired
//! key what they never signed. It comes after "a key we know", so strangers cost us nothing.
//!
//! Invariants:
//! 1. Whatever is accepted here, `ssh-keygen -Y verify` accepts with the same files.
//! 2. A changed byte of message or signature is never accepted.
//! 3. Several lines may hold one key: any line that allows is enough.

use jiff::Timestamp;
use serde::Serialize;
use vyr_base::{Category, Problem};

use crate::keys::{ACCEPTED_HINT, KeyId, is_accepted};
use crate::oci::clip;
use crate::revoked::RevokedKeys;
use crate::signature::{Namespace, ParseSignatureError, Signature};
use crate::signers::{AllowedSigner, AllowedSigners, Refusal};

/// Whom this machine trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Who may sign, for what, and when.
    pub signers: AllowedSigners,
    /// Whose signatures are refused all the same.
    pub revoked: RevokedKeys,
}

/// Who vouched: the answer of a successful verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// What the trust list calls the key's holder.
    pub principal: String,
    /// The key's id.
    pub key_id: KeyId,
    /// The key as `KEYTYPE KEYDATA`, without comment.
    pub public_key: String,
}

/// Why a signature is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// There is no signature at all.
    #[error("nothing is signed: there is no signature")]
    Unsigned,
    /// The signature cannot be read.
    #[error("signature is malformed")]
    Malformed(#[source] ParseSignatureError),
    /// The signature is for another use.
    #[error("signature is for namespace {found:?}, expected {expected}")]
    WrongNamespace {
        /// What it is for, cut to 80 characters.
        found: String,
        /// What it should be for.
        expected: Namespace,
    },
    /// The signature is by a kind of key we do not accept.
    #[error("signature is by a key of type {algorithm}, which is not accepted")]
    UnsupportedAlgorithm {
        /// The kind.
        algorithm: String,
    },
    /// No line of the trust list holds the key.
    #[error("key {key_id} is not in the list of allowed signers")]
    UnknownKey {
        /// Which.
        key_id: KeyId,
    },
    /// The key did not make this signature over this message.
    #[error("signature does not match: {key_id} did not sign this")]
    BadSignature {
        /// The key the signature claims.
        key_id: KeyId,
    },
    /// A security key signed, and nobody touched it.
    #[error("security key {key_id} signed without a person present")]
    UserPresenceMissing {
        /// Which.
        key_id: KeyId,
    },
    /// The key is revoked.
    #[error("key {key_id} is revoked")]
    Revoked {
        /// Which.
        key_id: KeyId,
    },
    /// The key's lines are all for other uses.
    #[error("{principal} may not sign for {namespace}")]
    NamespaceNotAllowed {
        /// Who signed.
        principal: String,
        /// For what.
        namespace: Namespace,
    },
    /// The key's time has not come.
    #[error("key of {principal} is valid only from {at}")]
    NotYetValid {
        /// Who signed.
        principal: String,
        /// From when on it is valid.
        at: Timestamp,
    },
    /// The key's time has passed.
    #[error("key of {principal} was valid until {at}")]
    Expired {
        /// Who signed.
        principal: String,
        /// The last second of its validity.
        at: Timestamp,
    },
    /// There are several signatures, and none is trusted.
    #[error("none of {} signatures is trusted: {}", .reasons.len(), joined(.reasons))]
    NoneTrusted {
        /// Why, in the order of the signatures; at least two.
        reasons: Vec<TrustError>,
    },
}

/// How many reasons a message tells; the rest is in the value.
const REASONS_TOLD: usize = 4;

fn joined(reasons: &[TrustError]) -> String {
    let told: Vec<_> = reasons.iter().take(REASONS_TOLD).map(ToString::to_string).collect();
    let more = reasons.len().saturating_sub(REASONS_TOLD);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    told.join("; ") + &tail
}

impl TrustPolicy {
    /// Says who vouched for `message` with `armored`, or why that is not trusted.
    ///
    /// For a digest, `message` is [`crate::signed_bytes`] of it.
    pub fn verify(
        &self,
        namespace: Namespace,
        message: &[u8],
        armored: &[u8],
        now: Timestamp,
    ) -> Result<Signer, TrustError> {
        let signature = Signature::parse(armored).map_err(TrustError::Malformed)?;
        if signature.namespace() != namespace.as_str() {
            let found = clip(signature.namespace());
            return Err(TrustError::WrongNamespace { found, expected: namespace });
        }
        let key = signature.public_key();
        if !is_accepted(&key.algorithm()) {
            let algorithm = clip(key.algorithm().as_str());
            return Err(TrustError::UnsupportedAlgorithm { algorithm });
        }
        let key_id = signature.key_id().clone();
        let lines: Vec<_> = self.signers.of_key(key).collect();
        let revoked = self.revoked.contains_data(key);
        if lines.is_empty() && !revoked {
            return Err(TrustError::UnknownKey { key_id });
        }
        if !signature.verifies(message) {
            return Err(TrustError::BadSignature { key_id });
        }
        if signature.lacks_user_presence() {
            return Err(TrustError::UserPresenceMissing { key_id });
        }
        if revoked {
            return Err(TrustError::Revoked { key_id });
        }
        allowed(&lines, namespace, now).map(|line| Signer {
            principal: line.principal().to_owned(),
            key_id,
            public_key: line.public_key().to_owned(),
        })
    }

    /// The same for several signatures of one message: the first trusted one decides.
    ///
    /// The caller bounds their number; each costs at most one verification.
    pub fn verify_any(
        &self,
        namespace: Namespace,
        message: &[u8],
        signatures: &[&[u8]],
        now: Timestamp,
    ) -> Result<Signer, TrustError> {
        let mut reasons = Vec::new();
        for armored in signatures {
            match self.verify(namespace, message, armored, now) {
                Ok(signer) => return Ok(signer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(match reasons.len() {
            0 => TrustError::Unsigned,
            1 => reasons.remove(0),
            _ => TrustError::NoneTrusted { reasons },
        })
    }
}

/// The first line that allows, else the refusal that tells most.
fn allowed<'a>(
    lines: &[&'a AllowedSigner],
    namespace: Namespace,
    now: Timestamp,
) -> Result<&'a AllowedSigner, TrustError> {
    let mut refusals = Vec::new();
    for line in lines {
        match line.allows(namespace, now) {
            Ok(()) => return Ok(line),
            Err(refusal) => refusals.push((refusal, line.principal().to_owned())),
        }
    }
    let (refusal, principal) = refusals
        .into_iter()
        .max_by_key(|(refusal, _)| *refusal)
        .expect("a key that is known and not revoked has a line");
    Err(match refusal {
        Refusal::Namespace => TrustError::NamespaceNotAllowed { principal, namespace },
        Refusal::NotYetValid(at) => TrustError::NotYetValid { principal, at },
        Refusal::Expired(at) => TrustError::Expired { principal, at },
    })
}

impl Problem for TrustError {
    fn category(&self) -> Category {
        Category::Auth
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unsigned => "sign it: vyr artifact sign DIGEST --key FILE".to_owned(),
            Self::Malformed(source) => return source.hint(),
            Self::WrongNamespace { expected, .. } => {
                format!("sign it for this use: ssh-keygen -Y sign -n {expected} -f KEY")
            }
            Self::UnsupportedAlgorithm { .. } => ACCEPTED_HINT.to_owned(),
            Self::UnknownKey { key_id } => {
                format!("ask who holds {key_id} before adding it to the allowed signers")
            }
            Self::BadSignature { .. } => {
                "check that signature and artifact belong together, then sign again".to_owned()
            }
            Self::UserPresenceMissing { .. } => {
                "use a security key that asks for a touch (made without no-touch-required)"
                    .to_owned()
            }
            Self::Revoked { .. } => "sign it again with a key that is not revoked".to_owned(),
            Self::NamespaceNotAllowed { principal, namespace } => {
                format!("add {namespace} to the namespaces of {principal}, or let another sign")
            }
            Self::NotYetValid { .. } => {
                "check this machine's clock and the line's valid-after".to_owned()
            }
            Self::Expired { .. } => {
                "sign it again with a current key, or extend the line's valid-before".to_owned()
            }
            Self::NoneTrusted { reasons } => {
                return reasons.iter().find_map(Problem::hint);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{from_agent, sign, signature_request, signed_bytes};
    use crate::testing::{armor, ecdsa, ed25519, public_line, raw_signature, unarmor, wire};
    use proptest::prelude::*;
    use ssh_key::public::{KeyData, SkEd25519};
    use ssh_key::{EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
    use vyr_base::Digest;

    const MESSAGE: &[u8] = b"m";

    fn policy(signers: &str, revoked: &str) -> TrustPolicy {
        TrustPolicy {
            signers: AllowedSigners::parse(signers.as_bytes()).expect("valid"),
            revoked: RevokedKeys::parse(revoked.as_bytes()).expect("valid"),
        }
    }

    fn ana() -> String {
        public_line(&ed25519(1))
    }

    fn signed_by(key: &PrivateKey) -> String {
        sign(key, Namespace::Artifact, MESSAGE).expect("signs")
    }

    fn now() -> Timestamp {
        "2026-06-15T12:00:00Z".parse().expect("a time")
    }

    /// The verdict on ana's signature.
    fn verdict(policy: &TrustPolicy) -> Result<Signer, TrustError> {
        policy.verify(Namespace::Artifact, MESSAGE, signed_by(&ed25519(1)).as_bytes(), now())
    }

    #[test]
    fn a_trusted_signer_is_named() {
        let signer = verdict(&policy(&format!("ana@x {} laptop", ana()), "")).expect("trusted");
        let key_id = KeyId::of(ed25519(1).public_key());
        assert_eq!(signer, Signer { principal: "ana@x".into(), key_id, public_key: ana() });
        for key in [ecdsa(EcdsaCurve::NistP256), ecdsa(EcdsaCurve::NistP384)] {
            let policy = policy(&format!("bob {}", public_line(&key)), "");
            let signature = signed_by(&key);
            let found = policy.verify(Namespace::Artifact, MESSAGE, signature.as_bytes(), now());
            assert_eq!(found.expect("trusted").principal, "bob");
        }
    }

    #[test]
    fn every_refusal_says_which() {
        use TrustError as E;
        let with = |options: &str| verdict(&policy(&format!("ana {options} {}", ana()), ""));
        let trusting = policy(&format!("ana {}", ana()), "");
        assert!(matches!(verdict(&TrustPolicy::default()), Err(E::UnknownKey { .. })));
        assert!(matches!(verdict(&policy("", &ana())), Err(E::Revoked { .. })));
        let both = policy(&format!("ana {}", ana()), &ana());
        assert!(matches!(verdict(&both), Err(E::Revoked { .. })));
        assert!(matches!(with("namespaces=\"file\""), Err(E::NamespaceNotAllowed { .. })));
        assert!(matches!(with("valid-after=\"20270101Z\""), Err(E::NotYetValid { .. })));
        assert!(matches!(with("valid-before=\"20260101Z\""), Err(E::Expired { .. })));

        let signature = signed_by(&ed25519(1));
        let verify = |namespace, message, signature: &str| {
            trusting.verify(namespace, message, signature.as_bytes(), now())
        };
        let other_use = verify(Namespace::Plan, MESSAGE, &signature);
        assert!(matches!(other_use, Err(E::WrongNamespace { expected: Namespace::Plan, .. })));
        let other_message = verify(Namespace::Artifact, b"n", &signature);
        assert!(matches!(other_message, Err(E::BadSignature { .. })));
        assert!(matches!(verify(Namespace::Artifact, MESSAGE, "x"), Err(E::Malformed(_))));
        // A signature with bob's key in place of ana's.
        let blob = unarmor(&signature);
        let of_key = |n| ed25519(n).public_key().to_bytes().expect("encodes");
        let at = blob.windows(51).position(|part| part == of_key(1)).expect("holds her key");
        let swapped = [&blob[..at], &of_key(2), &blob[at + 51..]].concat();
        let stranger = verify(Namespace::Artifact, MESSAGE, &armor(&swapped, 70));
        assert!(matches!(stranger, Err(E::UnknownKey { .. })));
    }

    #[test]
    fn every_refusal_has_a_hint_and_is_about_trust() {
        let key_id = KeyId::of(ed25519(1).public_key());
        let error = verdict(&TrustPolicy::default()).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            format!("key {key_id} is not in the list of allowed signers")
        );
        assert!(error.hint().expect("has one").contains(key_id.as_str()));
        assert_eq!(error.category().exit_code(), 3);
    }

    #[test]
    fn a_forged_signature_accuses_nobody_of_an_expired_key() {
        let signers = format!("ana valid-before=\"20260101Z\" {}", ana());
        let policy = policy(&signers, "");
        let signature = signed_by(&ed25519(1));
        let forged = policy.verify(Namespace::Artifact, b"n", signature.as_bytes(), now());
        assert!(matches!(forged, Err(TrustError::BadSignature { .. })));
    }

    #[test]
    fn any_line_that_allows_is_enough() {
        let key = ana();
        let signers = format!(
            "one namespaces=\"file\" {key}\ntwo valid-before=\"20200101Z\" {key}\n\
             three namespaces=\"vyr-*\" {key}\nfour {key}\n"
        );
        assert_eq!(verdict(&policy(&signers, "")).expect("trusted").principal, "three");
    }

    #[test]
    fn of_several_refusals_the_one_that_tells_most_is_told() {
        let lines = [
            "a namespaces=\"file\"",
            "b valid-after=\"20300101Z\"",
            "c valid-before=\"20200101Z\"",
            "d valid-before=\"20210101Z\"",
        ];
        let told = |lines: &[&str]| {
            let file: String = lines.iter().map(|line| format!("{line} {}\n", ana())).collect();
            verdict(&policy(&file, "")).expect_err("refused").to_string()
        };
        assert_eq!(told(&lines[..1]), "a may not sign for vyr-artifact");
        assert_eq!(told(&lines[..2]), "key of b is valid only from 2030-01-01T00:00:00Z");
        assert_eq!(told(&lines), "key of d was valid until 2021-01-01T00:00:00Z");
    }

    #[test]
    fn of_several_signatures_the_first_trusted_one_decides() {
        let policy = policy(&format!("ana {}", ana()), "");
        let (good, strange) = (signed_by(&ed25519(1)), signed_by(&ed25519(2)));
        let any = |signatures: &[&str]| {
            let signatures: Vec<_> = signatures.iter().map(|s| s.as_bytes()).collect();
            policy.verify_any(Namespace::Artifact, MESSAGE, &signatures, now())
        };
        assert_eq!(any(&["x", &strange, &good]).expect("trusted").principal, "ana");
        assert!(matches!(any(&[]), Err(TrustError::Unsigned)));
        assert!(matches!(any(&[&strange]), Err(TrustError::UnknownKey { .. })));
        let error = any(&["x"; 6]).expect_err("none");
        assert_eq!(
            error.to_string(),
            "none of 6 signatures is trusted: signature is malformed; signature is malformed; \
             signature is malformed; signature is malformed; and 2 more"
        );
    }

    #[test]
    fn both_hashes_are_accepted_and_other_kinds_of_key_are_not() {
        let policy = policy(&format!("ana {}", ana()), "");
        for hash in [HashAlg::Sha256, HashAlg::Sha512] {
            let signature = ed25519(1).sign("vyr-artifact", hash, MESSAGE).expect("signs");
            let armored = signature.to_pem(LineEnding::LF).expect("encodes");
            let found = policy.verify(Namespace::Artifact, MESSAGE, armored.as_bytes(), now());
            assert!(found.is_ok());
        }
        let point = ecdsa(EcdsaCurve::NistP256);
        let point = point.public_key().key_data().ecdsa().expect("ECDSA").as_sec1_bytes().to_vec();
        let kind = b"sk-ecdsa-sha2-nistp256@openssh.com";
        let key = [wire(kind), wire(b"nistp256"), wire(&point), wire(b"ssh:")].concat();
        // Its numbers are nonsense; the kind is refused before they are looked at.
        let raw = [wire(kind), wire(&[wire(b"\x01"), wire(b"\x01")].concat()), vec![1, 0, 0, 0, 0]];
        let blob = [
            b"SSHSIG\0\0\0\x01".to_vec(),
            wire(&key),
            wire(b"vyr-artifact"),
            wire(b""),
            wire(b"sha512"),
            wire(&raw.concat()),
        ];
        let armored = armor(&blob.concat(), 70);
        let found = policy.verify(Namespace::Artifact, MESSAGE, armored.as_bytes(), now());
        let error = found.expect_err("refused");
        assert!(matches!(error, TrustError::UnsupportedAlgorithm { .. }), "{error}");
    }

    /// What a FIDO authenticator does, in software (PROTOCOL.u2f).
    fn touch(flags: u8) -> (PublicKey, String) {
        let key = ed25519(9);
        let inner = key.public_key().key_data().ed25519().expect("Ed25519");
        let public = PublicKey::from(KeyData::SkEd25519(SkEd25519::new(*inner, "ssh:")));
        let request = signature_request(Namespace::Artifact, MESSAGE);
        let trailer = [flags, 0, 0, 0, 7];
        let data = [&Digest::of(b"ssh:").as_bytes()[..], &trailer, Digest::of(&request).as_bytes()]
            .concat();
        let ed25519_raw = raw_signature(&key, &data);
        let signature = &ed25519_raw[ed25519_raw.len() - 64..];
        let raw = [wire(b"sk-ssh-ed25519@openssh.com"), wire(signature), trailer.to_vec()].concat();
        let armored = from_agent(&public, Namespace::Artifact, &raw).expect("wraps");
        (public, armored)
    }

    #[test]
    fn a_security_key_must_be_touched() {
        let line = touch(1).0.to_openssh().expect("encodes");
        let policy = policy(&format!("ana {line}"), "");
        let verify =
            |armored: &str| policy.verify(Namespace::Artifact, MESSAGE, armored.as_bytes(), now());
        for flags in [0x01, 0x05, 0xff] {
            assert_eq!(verify(&touch(flags).1).expect("touched").principal, "ana", "{flags}");
        }
        for flags in [0x00, 0x04, 0xfe] {
            let untouched = verify(&touch(flags).1);
            assert!(matches!(untouched, Err(TrustError::UserPresenceMissing { .. })), "{flags}");
        }
        // The flags are signed: claiming a touch afterwards breaks the signature.
        let mut blob = unarmor(&touch(0).1);
        let flags_at = blob.len() - 5;
        blob[flags_at] = 1;
        assert!(matches!(verify(&armor(&blob, 70)), Err(TrustError::BadSignature { .. })));
    }

    #[test]
    fn a_security_key_s_signature_must_be_of_its_own_kind() {
        let (public, armored) = touch(1);
        let blob = unarmor(&armored);
        // The same 64 bytes, flags and counter under another name; the library verifies that.
        let kind = wire(b"sk-ssh-ed25519@openssh.com");
        let raw_at = blob.len() - 5 - 68 - kind.len() - 4;
        let values = [&blob[blob.len() - 69..blob.len() - 5], &blob[blob.len() - 5..]].concat();
        let raw = [wire(b"other@example.com"), wire(&values)].concat();
        let renamed = armor(&[&blob[..raw_at], &wire(&raw)].concat(), 70);
        let parsed = SshSig::from_pem(&renamed).expect("the library reads it");
        let verified = public.verify("vyr-artifact", MESSAGE, &parsed);
        assert!(verified.is_ok(), "the library has become strict");
        let policy = policy(&format!("ana {}", public.to_openssh().expect("encodes")), "");
        let found = policy.verify(Namespace::Artifact, MESSAGE, renamed.as_bytes(), now());
        assert!(matches!(found, Err(TrustError::BadSignature { .. })));
    }

    fn any_key() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            Just(ed25519(1)),
            Just(ecdsa(EcdsaCurve::NistP256)),
            Just(ecdsa(EcdsaCurve::NistP384)),
        ]
        .prop_map(|key| (public_line(&key), signed_by(&key)))
        .boxed()
        .prop_union(Just(touch(1)).prop_map(|(key, s)| (key.to_openssh().expect("ok"), s)).boxed())
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_never_accepted(
            (key, armored) in any_key(), at in any::<prop::sample::Index>(), change in 1u8..,
        ) {
            let policy = policy(&format!("ana {key}"), "");
            let verify = |message: &[u8], armored: &[u8]| {
                policy.verify(Namespace::Artifact, message, armored, now())
            };
            prop_assert!(verify(MESSAGE, armored.as_bytes()).is_ok());
            let mut text = armored.clone().into_bytes();
            let place = at.index(text.len());
            text[place] ^= change;
            prop_assert!(verify(MESSAGE, &text).is_err(), "text at {place}");
            let mut blob = unarmor(&armored);
            let place = at.index(blob.len());
            blob[place] ^= change;
            prop_assert!(verify(MESSAGE, armor(&blob, 70).as_bytes()).is_err(), "blob at {place}");
            prop_assert!(verify(&[MESSAGE[0] ^ change], armored.as_bytes()).is_err());
        }

        #[test]
        fn a_changed_digest_is_never_accepted(
            artifact in any::<[u8; 8]>(), at in any::<prop::sample::Index>(), change in 1u8..,
        ) {
            let policy = policy(&format!("ana {}", ana()), "");
            let signature = sign(&ed25519(1), Namespace::Artifact, &signed_bytes(&Digest::of(&artifact)))
                .expect("signs");
            let verdict = |artifact: &[u8]| {
                let message = signed_bytes(&Digest::of(artifact));
                policy.verify(Namespace::Artifact, &message, signature.as_bytes(), now())
            };
            prop_assert!(verdict(&artifact).is_ok());
            let mut changed = artifact;
            changed[at.index(8)] ^= change;
            prop_assert!(verdict(&changed).is_err());
        }
    }
}
