//! Checkpoints: the log had this root at this size, says the node.
//!
//! ```text
//! vyr/journal/0123456789abcdef0123456789abcdef    the origin
//! 1042                                            the size, in events
//! qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=    the root, in base64
//! ```
//!
//! The text is the body of a C2SP tlog-checkpoint; each of its lines ends with a line feed. It
//! is signed as it stands, as SSHSIG in namespace `vyr-checkpoint`, so that
//! `ssh-keygen -Y verify -n vyr-checkpoint` checks it too.
//!
//! tlog-checkpoint allows further lines. They are refused here: a checkpoint has one spelling, and
//! what nobody reads must not be signed as if somebody had. A later version may name some.
//!
//! Invariants:
//! 1. Text and file have one spelling each: what is read is written back as the same bytes.
//! 2. A changed byte of text or signature is never believed.
//!
//! Not here: which root it is (`merkle`), whose keys are believed (`node_keys`).

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ssh_key::{LineEnding, PrivateKey, SshSig};
use vyr_artifact::{Namespace, SIGNATURE_BYTES_MAX, SignError, Signer, TrustError, sign};
use vyr_base::canonical::{self, CanonicalError};
use vyr_base::{Category, Problem};

use crate::ids::{Origin, ParseIdError};
use crate::merkle::{Hash, LEAVES_MAX};
use crate::node_keys::NodeKeys;

/// Most bytes of a checkpoint's file: the longest signature, escaped, and the text.
pub const CHECKPOINT_BYTES_MAX: usize = 2 * SIGNATURE_BYTES_MAX;

/// The version of the file.
const FILE_VERSION: u32 = 1;

/// What a log was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// How many events it had.
    pub size: u64,
    /// Its root then.
    pub root: Hash,
}

impl Checkpoint {
    /// Signs it; the same for the same key, as far as the key's algorithm allows.
    pub fn sign(self, key: &PrivateKey) -> Result<SignedCheckpoint, SignError> {
        let signature = sign(key, Namespace::Checkpoint, self.to_string().as_bytes())?;
        Ok(SignedCheckpoint { checkpoint: self, signature })
    }
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, to_base64(&self.root))
    }
}

/// A hash in base64 (RFC 4648, section 4), 44 characters.
pub(crate) fn to_base64(hash: &Hash) -> String {
    Base64::encode_string(hash.as_bytes())
}

/// Reads a hash in its one spelling.
pub(crate) fn from_base64(text: &str) -> Option<Hash> {
    let mut raw = [0; 32];
    let decoded = Base64::decode(text, &mut raw).ok()?.len() == raw.len();
    let hash = Hash::from_bytes(raw);
    // The decoder is strict already; this does not depend on it.
    (decoded && to_base64(&hash) == text).then_some(hash)
}

/// Why a text is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCheckpointError {
    /// Not three lines, each with its end.
    #[error("checkpoint does not have the lines origin, size and root")]
    Lines,
    /// More than those.
    #[error("checkpoint has more than the lines origin, size and root")]
    Extension,
    /// The first line.
    #[error("checkpoint is not of a journal")]
    Origin(#[source] ParseIdError),
    /// The second line.
    #[error("checkpoint's size {text:?} is not a number of events")]
    Size {
        /// What it says, cut to 80 characters.
        text: String,
    },
    /// The third line.
    #[error("checkpoint's root {text:?} is not 32 bytes in base64")]
    Root {
        /// What it says, cut to 80 characters.
        text: String,
    },
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Checkpoint {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.split_inclusive('\n');
        let mut line =
            || lines.next().and_then(|l| l.strip_suffix('\n')).ok_or(ParseCheckpointError::Lines);
        let (origin, size, root) = (line()?, line()?, line()?);
        if lines.next().is_some() {
            return Err(ParseCheckpointError::Extension);
        }
        let number = size.parse().ok().filter(|number: &u64| {
            // `parse` takes a plus sign and leading zeros.
            *number <= LEAVES_MAX && number.to_string() == size
        });
        Ok(Self {
            origin: origin.parse().map_err(ParseCheckpointError::Origin)?,
            size: number.ok_or_else(|| ParseCheckpointError::Size { text: clip(size) })?,
            root: from_base64(root)
                .ok_or_else(|| ParseCheckpointError::Root { text: clip(root) })?,
        })
    }
}

/// A checkpoint with a signature; not yet one that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signature: String,
}

/// `{"checkpoint":..,"signature":..,"v":1}` and a line feed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    checkpoint: String,
    signature: String,
    v: u32,
}

/// Why bytes are not a signed checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFileError {
    /// More than [`CHECKPOINT_BYTES_MAX`].
    #[error("checkpoint has {bytes} bytes, more than {CHECKPOINT_BYTES_MAX}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// Not one line that ends with a line feed.
    #[error("checkpoint is not one line with its end")]
    LineEnd,
    /// Not the JSON of a checkpoint in its one spelling.
    #[error("checkpoint is not a file that vyr wrote")]
    Json(#[source] CanonicalError),
    /// A version we do not know.
    #[error("checkpoint has version {found}, expected {FILE_VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// The text is no checkpoint.
    #[error("checkpoint cannot be read")]
    Text(#[source] ParseCheckpointError),
    /// The signature is none, or written in another way than vyr and ssh-keygen write it.
    #[error("signature of the checkpoint is not in its one spelling")]
    Signature,
}

impl Problem for CheckpointFileError {
    fn category(&self) -> Category {
        Category::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("pass a file that vyr up --checkpoint-out wrote, unchanged".to_owned())
    }
}

impl SignedCheckpoint {
    /// From a text and an armored signature, as they are stored.
    pub fn from_parts(text: &str, signature: &str) -> Result<Self, CheckpointFileError> {
        if !is_one_spelling(signature) {
            return Err(CheckpointFileError::Signature);
        }
        let checkpoint = text.parse().map_err(CheckpointFileError::Text)?;
        Ok(Self { checkpoint, signature: signature.to_owned() })
    }

    /// What is signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The armored signature.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Who signed it, or why that is not believed; `at` is the time at which the key had to be
    /// valid (see [`NodeKeys`]).
    pub fn verify(&self, keys: &NodeKeys, at: Timestamp) -> Result<Signer, TrustError> {
        keys.verify(&self.checkpoint.to_string(), &self.signature, at)
    }

    /// The file: canonical JSON and one line feed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = File {
            checkpoint: self.checkpoint.to_string(),
            signature: self.signature.clone(),
            v: FILE_VERSION,
        };
        let mut bytes = canonical::to_vec(&file)
            .unwrap_or_else(|error| unreachable!("strings and a small number: {error}"));
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file, in its one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointFileError> {
        if bytes.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointFileError::TooLarge { bytes: bytes.len() });
        }
        let json = bytes.strip_suffix(b"\n").ok_or(CheckpointFileError::LineEnd)?;
        let file: File = canonical::parse(json).map_err(CheckpointFileError::Json)?;
        if file.v != FILE_VERSION {
            return Err(CheckpointFileError::Version { found: file.v });
        }
        Self::from_parts(&file.checkpoint, &file.signature)
    }
}

/// Whether an armored signature is as vyr and ssh-keygen write it: lines of 70 characters that end
/// with a line feed. Other breaks are the same signature, and in a receipt a second spelling.
fn is_one_spelling(armored: &str) -> bool {
    armored.len() <= SIGNATURE_BYTES_MAX
        && SshSig::from_pem(armored)
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .is_ok_and(|again| again == armored)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use ssh_key::private::Ed25519Keypair;

    /// A key, the same for the same seed.
    pub(crate) fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    /// `ssh-ed25519 AAAA..` of a key.
    pub(crate) fn public_line(key: &PrivateKey) -> String {
        key.public_key().to_openssh().expect("encodes").trim_end().to_owned()
    }

    pub(crate) fn keys_of(key: &PrivateKey) -> NodeKeys {
        NodeKeys::parse(public_line(key).as_bytes()).expect("a key")
    }

    pub(crate) fn sign(key: &PrivateKey, text: &str) -> String {
        vyr_artifact::sign(key, Namespace::Checkpoint, text.as_bytes()).expect("signs")
    }

    pub(crate) fn at() -> Timestamp {
        "2026-06-15T12:00:00Z".parse().expect("a time")
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: Origin::new([7; 16]), size: 1042, root: Hash::of(b"root") }
    }

    #[test]
    fn the_text_is_that_of_the_specification() {
        let text = "vyr/journal/07070707070707070707070707070707\n1042\n\
                    SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n";
        assert_eq!(checkpoint().to_string(), text);
        assert_eq!(text.parse(), Ok(checkpoint()));
    }

    #[test]
    fn another_spelling_is_refused() {
        use ParseCheckpointError as E;
        let text = checkpoint().to_string();
        let with = |from: &str, to: &str| {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            other.parse::<Checkpoint>().expect_err(to)
        };
        assert_eq!(text.trim_end().parse::<Checkpoint>(), Err(E::Lines));
        assert_eq!("".parse::<Checkpoint>(), Err(E::Lines));
        assert_eq!(format!("{text}x\n").parse::<Checkpoint>(), Err(E::Extension));
        assert_eq!(format!("{text}\n").parse::<Checkpoint>(), Err(E::Extension));
        assert!(matches!(with("vyr/", "vyr"), E::Origin(_)));
        assert!(matches!(with("\n", "\r\n"), E::Origin(_)));
        for size in ["01042", "+1042", "", "1042 ", "0x1", "-1", "9007199254740993"] {
            assert_eq!(with("1042", size), E::Size { text: size.into() });
        }
        assert!(matches!(with("=", ""), E::Root { .. }));
        assert!(matches!(with("=", "=="), E::Root { .. }));
        assert!(matches!(with("=", "A="), E::Root { .. }));
    }

    #[test]
    fn a_signature_is_believed_from_keys_that_were_given() {
        let signed = checkpoint().sign(&key(1)).expect("signs");
        let signer = signed.verify(&keys_of(&key(1)), at()).expect("trusted");
        assert_eq!(signer.principal, "node");
        let stranger = signed.verify(&keys_of(&key(2)), at());
        assert!(matches!(stranger, Err(TrustError::UnknownKey { .. })));
        let file = signed.to_bytes();
        assert_eq!(SignedCheckpoint::parse(&file).expect("ours"), signed);
    }

    /// The verdict on a file.
    fn believed(file: &[u8]) -> bool {
        SignedCheckpoint::parse(file)
            .is_ok_and(|signed| signed.verify(&keys_of(&key(1)), at()).is_ok())
    }

    #[test]
    fn every_changed_byte_of_a_file_is_refused() {
        let file = checkpoint().sign(&key(1)).expect("signs").to_bytes();
        assert!(believed(&file));
        for place in 0..file.len() {
            for bit in 0..8 {
                let mut other = file.clone();
                other[place] ^= 1 << bit;
                assert!(!believed(&other), "byte {place}, bit {bit}");
            }
            assert!(!believed(&[&file[..place], &file[place + 1..]].concat()), "without {place}");
            assert!(!believed(&[&file[..=place], &file[place..]].concat()), "twice {place}");
        }
        let wide = "x".repeat(CHECKPOINT_BYTES_MAX + 1);
        let error = SignedCheckpoint::parse(wide.as_bytes()).expect_err("too large");
        assert!(matches!(error, CheckpointFileError::TooLarge { .. }));
        assert_eq!(error.category(), Category::Usage);
    }

    #[test]
    fn other_line_breaks_of_a_signature_are_refused() {
        let signed = checkpoint().sign(&key(1)).expect("signs");
        let (text, signature) = (signed.checkpoint().to_string(), signed.signature());
        let lines: Vec<_> = signature.lines().collect();
        let joined = format!("{}\n{}\n{}\n", lines[0], lines[1..5].concat(), lines[5]);
        for other in [signature.replace('\n', "\r\n"), signature.trim_end().to_owned(), joined] {
            // The same signature, and yet not the same bytes.
            assert!(keys_of(&key(1)).verify(&text, &other, at()).is_ok(), "{other}");
            let error = SignedCheckpoint::from_parts(&text, &other).expect_err("a second spelling");
            assert!(matches!(error, CheckpointFileError::Signature));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            origin in any::<[u8; 16]>(), size in 0..=LEAVES_MAX, root in any::<[u8; 32]>(),
        ) {
            let root = Hash::from_bytes(root);
            let checkpoint = Checkpoint { origin: Origin::new(origin), size, root };
            prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
            let _ = SignedCheckpoint::parse(&bytes);
        }
    }
}
