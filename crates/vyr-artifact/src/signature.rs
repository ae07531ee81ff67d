//! OpenSSH signatures (`SSHSIG`, PROTOCOL.sshsig): making, asking for and reading them.
//!
//! ```text
//! message --hash--> "SSHSIG" namespace reserved hash-name hash --key--> raw signature
//!                                                                          |
//!   -----BEGIN SSH SIGNATURE-----  version key namespace reserved hash-name signature
//! ```
//!
//! A namespace ties a signature to one use: what signs a plan never signs an artifact. The
//! message that is signed for a digest is the line `sha256:<hex>`, so a person can do it by
//! hand: `echo sha256:... | ssh-keygen -Y sign -n vyr-artifact -f KEY`.
//!
//! Invariants:
//! 1. A signature by a key we accept has one spelling, up to where its lines break: it must encode
//!    back to the same bytes. (The library's decoder alone takes length prefixes that are too long.)
//! 2. Signing is deterministic. Ed25519 is by design, P-256 and P-384 by RFC 6979. The library
//!    signs P-521 with a random nonce, so [`sign`] refuses it; an agent may do it
//!    ([`signature_request`], [`from_agent`]).
//!
//! Not here: whether a signature is trusted (`trust`), the agent's socket (`vyr-node`).

use std::fmt;
use std::str::FromStr;

use ssh_key::private::KeypairData;
use ssh_key::public::KeyData;
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, Signature as RawSignature,
    SshSig,
};
use vyr_base::{Category, Digest, Problem};

use crate::keys::{ACCEPTED_HINT, KeyId, is_accepted};
use crate::oci::clip;

/// Most bytes of an armored signature; the largest key we accept makes about 700.
pub const SIGNATURE_BYTES_MAX: usize = 16 << 10;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// Where `ssh-keygen` and the library break lines.
const LINE_CHARS: usize = 70;
/// The only version there is.
const VERSION: u32 = 1;
/// Where the flags of a security key stand: after the 64 bytes of its Ed25519 signature.
const SK_FLAGS_AT: usize = 64;
/// "A person touched the key" (PROTOCOL.u2f).
const SK_USER_PRESENT: u8 = 0x01;

/// What a signature is for; a signature for one use is worthless for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `vyr-artifact`: this artifact may run.
    Artifact,
    /// `vyr-plan`: this plan may be applied.
    Plan,
    /// `vyr-checkpoint`: the journal had this root.
    Checkpoint,
    /// `vyr-bundle`: this recovery bundle is ours.
    Bundle,
}

/// A text that is not one of our namespaces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a namespace of vyr")]
pub struct UnknownNamespace {
    /// What was read, cut to 80 characters.
    pub found: String,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Artifact, Self::Plan, Self::Checkpoint, Self::Bundle];

    /// The name in signatures and trust files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Artifact => "vyr-artifact",
            Self::Plan => "vyr-plan",
            Self::Checkpoint => "vyr-checkpoint",
            Self::Bundle => "vyr-bundle",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Namespace {
    type Err = UnknownNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|namespace| namespace.as_str() == text)
            .ok_or_else(|| UnknownNamespace { found: clip(text) })
    }
}

/// The message that is signed for a digest: `sha256:<hex>` and a line feed.
pub fn signed_bytes(digest: &Digest) -> Vec<u8> {
    format!("{digest}\n").into_bytes()
}

/// Why a key did not sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The private key is encrypted.
    #[error("key {key_id} is encrypted")]
    Encrypted {
        /// Which.
        key_id: KeyId,
    },
    /// The private half is in a security key.
    #[error("key {key_id} is in a security key")]
    SecurityKey {
        /// Which.
        key_id: KeyId,
    },
    /// A P-521 key in a file; see the module's invariant 2.
    #[error("key {key_id} is a P-521 key in a file, which vyr does not sign with")]
    P521 {
        /// Which.
        key_id: KeyId,
    },
    /// A key of a kind we do not accept.
    #[error("key {key_id} has the type {algorithm}, which is not accepted")]
    KeyType {
        /// Which.
        key_id: KeyId,
        /// Its algorithm.
        algorithm: String,
    },
    /// The agent answered with something else than a signature by this key.
    #[error("ssh-agent did not answer with a signature by {key_id}")]
    Agent {
        /// Which key was asked for.
        key_id: KeyId,
    },
    /// The library refused.
    #[error("key {key_id} did not sign")]
    Key {
        /// Which.
        key_id: KeyId,
        /// Why.
        source: ssh_key::Error,
    },
}

impl Problem for SignError {
    fn category(&self) -> Category {
        match self {
            Self::Agent { .. } | Self::Key { .. } => Category::Auth,
            _ => Category::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let agent = "ssh-add it and pass the .pub file";
        Some(match self {
            Self::Encrypted { .. } | Self::SecurityKey { .. } | Self::P521 { .. } => {
                agent.to_owned()
            }
            Self::KeyType { .. } => ACCEPTED_HINT.to_owned(),
            Self::Agent { .. } => "see what the agent holds: ssh-add -l".to_owned(),
            Self::Key { .. } => "check the key file: ssh-keygen -y -f FILE".to_owned(),
        })
    }
}

/// Signs `message`; returns the armored signature, the same for the same arguments.
pub fn sign(key: &PrivateKey, namespace: Namespace, message: &[u8]) -> Result<String, SignError> {
    let key_id = KeyId::of(key.public_key());
    let algorithm = key.public_key().algorithm();
    if key.is_encrypted() {
        return Err(SignError::Encrypted { key_id });
    }
    if matches!(key.key_data(), KeypairData::SkEd25519(_) | KeypairData::SkEcdsaSha2NistP256(_)) {
        return Err(SignError::SecurityKey { key_id });
    }
    if !is_accepted(&algorithm) {
        return Err(SignError::KeyType { key_id, algorithm: algorithm.to_string() });
    }
    if algorithm == (Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 }) {
        return Err(SignError::P521 { key_id });
    }
    key.sign(namespace.as_str(), HashAlg::Sha512, message)
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(|source| SignError::Key { key_id, source })
}

/// The bytes an ssh-agent is asked to sign for `message`.
pub fn signature_request(namespace: Namespace, message: &[u8]) -> Vec<u8> {
    SshSig::signed_data(namespace.as_str(), HashAlg::Sha512, message)
        .expect("a namespace and a hash are far below the library's limit of 1 MiB")
}

/// Wraps an agent's answer to [`signature_request`] as an armored signature.
///
/// `raw_signature` is the signature blob of the agent's answer: the algorithm's name, the
/// signature and, for a security key, its flags and counter. Whether it verifies is for
/// [`crate::TrustPolicy::verify`] to say.
pub fn from_agent(
    public_key: &PublicKey,
    namespace: Namespace,
    raw_signature: &[u8],
) -> Result<String, SignError> {
    let key_id = KeyId::of(public_key);
    let algorithm = public_key.algorithm();
    if !is_accepted(&algorithm) {
        return Err(SignError::KeyType { key_id, algorithm: algorithm.to_string() });
    }
    let raw = RawSignature::try_from(raw_signature).ok().filter(|raw| {
        raw.algorithm() == algorithm
            && Vec::try_from(raw.clone()).is_ok_and(|bytes| bytes == raw_signature)
    });
    let Some(raw) = raw else {
        return Err(SignError::Agent { key_id });
    };
    let key = public_key.key_data().clone();
    SshSig::new(key, namespace.as_str(), HashAlg::Sha512, raw)
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(|source| SignError::Key { key_id, source })
}

/// Why bytes are not a signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSignatureError {
    /// More than [`SIGNATURE_BYTES_MAX`].
    #[error("signature has {bytes} bytes, more than {SIGNATURE_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not the two marker lines with base64 between them.
    #[error("signature does not have the form {BEGIN} ... {END}")]
    Armor,
    /// The base64 does not hold an `SSHSIG`.
    #[error("signature cannot be decoded")]
    Blob(#[source] ssh_key::Error),
    /// A version other than 1.
    #[error("signature has version {found}, expected {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// It can be decoded, but is written in another way than it would be encoded.
    #[error("signature is not in its canonical encoding")]
    NotCanonical,
}

impl Problem for ParseSignatureError {
    fn category(&self) -> Category {
        Category::Auth
    }

    fn hint(&self) -> Option<String> {
        Some("pass the whole output of ssh-keygen -Y sign, unchanged".to_owned())
    }
}

/// A signature that was read; not yet one that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    inner: SshSig,
    key_id: KeyId,
}

impl Signature {
    /// Reads an armored signature, with lines of any length ending in LF or CRLF.
    pub fn parse(armored: &[u8]) -> Result<Self, ParseSignatureError> {
        if armored.len() > SIGNATURE_BYTES_MAX {
            return Err(ParseSignatureError::TooLarge { bytes: armored.len() });
        }
        let text = std::str::from_utf8(armored).map_err(|_| ParseSignatureError::Armor)?;
        let canonical = rewrap(text).ok_or(ParseSignatureError::Armor)?;
        let inner = SshSig::from_pem(&canonical).map_err(|error| match error {
            ssh_key::Error::Version { number } => ParseSignatureError::Version { found: number },
            error => ParseSignatureError::Blob(error),
        })?;
        if inner.version() != VERSION {
            return Err(ParseSignatureError::Version { found: inner.version() });
        }
        let key = inner.public_key();
        // A kind of key that is not accepted is named as such by `trust`, whatever its encoding:
        // the library does not write ECDSA signatures of security keys as it reads them.
        if is_accepted(&key.algorithm()) {
            let encoded = inner.to_pem(LineEnding::LF).map_err(ParseSignatureError::Blob)?;
            if encoded != canonical {
                return Err(ParseSignatureError::NotCanonical);
            }
        }
        let key_id = KeyId::of_data(key);
        Ok(Self { inner, key_id })
    }

    /// The id of the key it claims to be made with.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The namespace it is for, ours or another program's.
    pub fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    /// The key it claims to be made with.
    pub(crate) fn public_key(&self) -> &KeyData {
        self.inner.public_key()
    }

    /// Whether the key made it over `message`, by arithmetic alone.
    pub(crate) fn verifies(&self, message: &[u8]) -> bool {
        let key = self.public_key();
        // The library does not compare these two for security keys.
        self.inner.algorithm() == key.algorithm()
            && PublicKey::from(key.clone()).verify(self.namespace(), message, &self.inner).is_ok()
    }

    /// Whether a security key signed without a person touching it.
    pub(crate) fn lacks_user_presence(&self) -> bool {
        let flags = self.inner.signature_bytes().get(SK_FLAGS_AT).copied().unwrap_or(0);
        matches!(self.public_key(), KeyData::SkEd25519(_)) && flags & SK_USER_PRESENT == 0
    }
}

/// The armor with its lines broken where the library wants them; `None` if it is no armor.
fn rewrap(text: &str) -> Option<String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    if lines.next()? != BEGIN || lines.next_back()? != END {
        return None;
    }
    let mut canonical = format!("{BEGIN}\n");
    let mut column = 0;
    for line in lines {
        if line.is_empty() || !line.chars().all(is_base64) {
            return None;
        }
        for c in line.chars() {
            if column == LINE_CHARS {
                canonical.push('\n');
                column = 0;
            }
            canonical.push(c);
            column += 1;
        }
    }
    canonical.push_str(&format!("\n{END}\n"));
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{armor, ecdsa, ed25519, raw_signature, unarmor, wire};
    use proptest::prelude::*;

    const MESSAGE: &[u8] = b"sha256:...\n";

    fn signed() -> String {
        sign(&ed25519(1), Namespace::Artifact, MESSAGE).expect("signs")
    }

    #[test]
    fn namespaces_have_fixed_names() {
        let names = Namespace::ALL.map(Namespace::as_str);
        assert_eq!(names, ["vyr-artifact", "vyr-plan", "vyr-checkpoint", "vyr-bundle"]);
        for namespace in Namespace::ALL {
            assert_eq!(namespace.as_str().parse(), Ok(namespace));
        }
        assert!("file".parse::<Namespace>().is_err());
    }

    #[test]
    fn the_message_of_a_digest_is_the_line_echo_prints() {
        let digest = Digest::of(b"");
        assert_eq!(signed_bytes(&digest), [digest.to_string().as_bytes(), b"\n"].concat());
    }

    #[test]
    fn what_is_signed_is_read_back_and_verifies() {
        let keys = [ed25519(1), ecdsa(EcdsaCurve::NistP256), ecdsa(EcdsaCurve::NistP384)];
        for key in keys {
            let armored = sign(&key, Namespace::Plan, MESSAGE).expect("signs");
            assert_eq!(sign(&key, Namespace::Plan, MESSAGE).expect("signs"), armored);
            let signature = Signature::parse(armored.as_bytes()).expect("ours");
            assert_eq!(signature.namespace(), "vyr-plan");
            assert_eq!(signature.key_id(), &KeyId::of(key.public_key()));
            assert!(signature.verifies(MESSAGE));
            assert!(!signature.verifies(b"other"));
            assert!(!signature.lacks_user_presence());
        }
    }

    #[test]
    fn p521_is_left_to_the_agent() {
        let key = ecdsa(EcdsaCurve::NistP521);
        let error = sign(&key, Namespace::Plan, MESSAGE).expect_err("not deterministic");
        assert!(matches!(error, SignError::P521 { .. }));
        assert_eq!(error.hint().as_deref(), Some("ssh-add it and pass the .pub file"));
        let raw = raw_signature(&key, &signature_request(Namespace::Plan, MESSAGE));
        let armored = from_agent(key.public_key(), Namespace::Plan, &raw).expect("wraps");
        assert!(Signature::parse(armored.as_bytes()).expect("ours").verifies(MESSAGE));
    }

    #[test]
    fn an_agent_makes_the_same_signature_as_the_file() {
        let key = ed25519(1);
        let raw = raw_signature(&key, &signature_request(Namespace::Artifact, MESSAGE));
        let wrapped = from_agent(key.public_key(), Namespace::Artifact, &raw).expect("wraps");
        assert_eq!(wrapped, signed());
        for broken in [&raw[..raw.len() - 1], &[&raw[..], b"x"].concat(), b"", b"\xff\xff\xff\xff"]
        {
            let refused = from_agent(key.public_key(), Namespace::Artifact, broken);
            assert!(matches!(refused, Err(SignError::Agent { .. })));
        }
        let other = ecdsa(EcdsaCurve::NistP256);
        let refused = from_agent(other.public_key(), Namespace::Artifact, &raw);
        assert!(matches!(refused, Err(SignError::Agent { .. })));
    }

    #[test]
    fn lines_may_break_anywhere_and_end_as_on_windows() {
        let blob = unarmor(&signed());
        let expected = Signature::parse(signed().as_bytes()).expect("ours");
        assert_eq!(armor(&blob, 70), signed());
        for columns in [1, 64, 70, 76, 10_000] {
            let text = armor(&blob, columns);
            assert_eq!(Signature::parse(text.as_bytes()).expect("valid"), expected);
            let windows = text.replace('\n', "\r\n");
            assert_eq!(Signature::parse(windows.as_bytes()).expect("valid"), expected);
            assert_eq!(Signature::parse(text.trim_end().as_bytes()).expect("valid"), expected);
        }
    }

    #[test]
    fn other_armor_is_refused() {
        let text = signed();
        for broken in [
            String::new(),
            format!("\n{text}"),
            format!("x\n{text}"),
            format!("{text}\n"),
            format!("{text}x"),
            text.replace('\n', "\r"),
            text.replace('\n', " "),
            text.replacen("\nU1NIU0lH", "\n\nU1NIU0lH", 1),
            text.replacen("\nU1NIU0lH", "\n U1NIU0lH", 1),
            text.replacen("\nU1NIU0lH", "\nU1NIU0lH ", 1),
            text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
            format!("{BEGIN}\n{END}\n{END}\n"),
            format!("{BEGIN}\n"),
        ] {
            assert_ne!(broken, text);
            let error = Signature::parse(broken.as_bytes()).expect_err(&broken);
            assert!(matches!(error, ParseSignatureError::Armor), "{broken}: {error}");
        }
        let long = text + &"\n".repeat(SIGNATURE_BYTES_MAX);
        assert!(matches!(
            Signature::parse(long.as_bytes()),
            Err(ParseSignatureError::TooLarge { .. })
        ));
        let empty = format!("{BEGIN}\n{END}\n");
        assert!(Signature::parse(empty.as_bytes()).is_err());
    }

    #[test]
    fn only_version_one_is_read() {
        let blob = unarmor(&signed());
        for version in [0, 2, u8::MAX] {
            let mut blob = blob.clone();
            blob[9] = version;
            let error = Signature::parse(armor(&blob, 70).as_bytes()).expect_err("a version");
            let found = u32::from(version);
            assert!(matches!(error, ParseSignatureError::Version { found: f } if f == found));
        }
    }

    /// The library alone reads these; each is a second spelling of the same signature.
    #[test]
    fn a_second_encoding_is_refused() {
        let blob = unarmor(&signed());
        // The length of the public key (offset 10) says one byte more than is there.
        let mut longer = blob.clone();
        longer[13] += 1;
        assert!(SshSig::from_pem(armor(&longer, 70)).is_ok(), "the library has become strict");
        let error = Signature::parse(armor(&longer, 70).as_bytes()).expect_err("two spellings");
        assert!(matches!(error, ParseSignatureError::NotCanonical));
        let trailing = [&blob[..], b"x"].concat();
        assert!(Signature::parse(armor(&trailing, 70).as_bytes()).is_err());
    }

    #[test]
    fn a_reserved_field_is_ignored_and_signed() {
        let key = ed25519(1);
        let digest = SshSig::signed_data("x", HashAlg::Sha256, MESSAGE).expect("encodes");
        // Of what is signed, only the last field is needed: the message's hash.
        let hash = &digest[digest.len() - 32..];
        let head = |reserved: &[u8]| [wire(b"vyr-plan"), wire(reserved), wire(b"sha256")].concat();
        let to_sign = [b"SSHSIG", &head(b"later")[..], &wire(hash)].concat();
        let raw = wire(&raw_signature(&key, &to_sign));
        let public = wire(&key.public_key().to_bytes().expect("encodes"));
        let blob =
            |reserved: &[u8]| [b"SSHSIG\0\0\0\x01", &public[..], &head(reserved), &raw].concat();
        let read = |reserved: &[u8]| {
            Signature::parse(armor(&blob(reserved), 70).as_bytes()).expect("valid")
        };
        assert!(read(b"later").verifies(MESSAGE));
        assert!(!read(b"").verifies(MESSAGE));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(Signature::parse(&bytes).is_err());
            let _ = Signature::parse(armor(&bytes, 70).as_bytes());
            let _ = from_agent(ed25519(1).public_key(), Namespace::Plan, &bytes);
        }

        #[test]
        fn a_mutated_blob_is_judged_without_panic(
            at in any::<prop::sample::Index>(), bytes in any::<[u8; 4]>(), curve in 0..3,
        ) {
            let key = match curve {
                0 => ed25519(1),
                1 => ecdsa(EcdsaCurve::NistP256),
                _ => ecdsa(EcdsaCurve::NistP384),
            };
            let mut blob = unarmor(&sign(&key, Namespace::Plan, MESSAGE).expect("signs"));
            let at = at.index(blob.len() - 4);
            blob[at..at + 4].copy_from_slice(&bytes);
            let read = Signature::parse(armor(&blob, 70).as_bytes());
            if let Ok(signature) = read && is_accepted(&signature.public_key().algorithm()) {
                prop_assert_eq!(unarmor(&signature.inner.to_pem(LineEnding::LF).expect("encodes")), blob);
            }
        }
    }
}
