//! The keys a reader believes about checkpoints: from a file it was given, and from nowhere else.
//!
//! The file is an OpenSSH `allowed_signers` file whose lines allow `vyr-checkpoint`, or public keys
//! as a `.pub` file holds them, one a line:
//!
//! ```text
//! node-a namespaces="vyr-checkpoint" ssh-ed25519 AAAA...      ssh-ed25519 AAAA... node-a
//! ```
//!
//! A checkpoint says no time. A key's validity is therefore judged at a time the log itself
//! states: `ended` of a receipt's statement, the last event under a checkpoint of the journal. The
//! holder of the key writes those times, so `valid-before` bounds an honest node, not a stolen
//! key; what takes trust from that is [`NodeKeys::with_revoked`].

use jiff::Timestamp;
use vyr_artifact::{
    AllowedSigners, Namespace, RevokedKeys, Signer, TrustError, TrustFileError, TrustPolicy,
};

/// What the holder of a bare key is called if its comment is no plain name.
const UNNAMED: &str = "node";

/// Keys that may sign checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeKeys {
    policy: TrustPolicy,
}

impl NodeKeys {
    /// Reads a file; all its faults are reported together. An empty file trusts nobody.
    pub fn parse(file: &[u8]) -> Result<Self, TrustFileError> {
        let signers = match as_signers(file) {
            Some(lines) => AllowedSigners::parse(lines.as_bytes())?,
            None => AllowedSigners::parse(file)?,
        };
        Ok(Self { policy: TrustPolicy { signers, revoked: RevokedKeys::default() } })
    }

    /// The same without what these keys signed.
    #[must_use]
    pub fn with_revoked(mut self, revoked: RevokedKeys) -> Self {
        self.policy.revoked = revoked;
        self
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.policy.signers.entries().is_empty()
    }

    /// Who signed this text of a checkpoint, or why that is not believed; `at` is the time at
    /// which the key had to be valid.
    pub fn verify(&self, text: &str, armored: &str, at: Timestamp) -> Result<Signer, TrustError> {
        self.policy.verify(Namespace::Checkpoint, text.as_bytes(), armored.as_bytes(), at)
    }
}

/// A file of bare public keys as lines of allowed signers, each in its place so that faults name
/// the right line; `None` if any line is something else.
fn as_signers(file: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(file).ok()?;
    let mut lines = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => {}
            Some(word) if word.starts_with('#') => {}
            Some(kind) => {
                // Key data begins with the three zero bytes of a length. Where a list of signers
                // has a principal first, the second word never begins so.
                let data = words.next().filter(|data| data.starts_with("AAAA"))?;
                let name = words.next().filter(|name| is_plain(name)).unwrap_or(UNNAMED);
                lines += &format!("{name} namespaces=\"{}\" {kind} {data}", Namespace::Checkpoint);
            }
        }
        lines.push('\n');
    }
    Some(lines)
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "@._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::{at, key, public_line, sign};

    const TEXT: &str = "any text\n";

    fn verdict(file: &str) -> Result<Signer, TrustError> {
        let keys = NodeKeys::parse(file.as_bytes()).expect("valid");
        keys.verify(TEXT, &sign(&key(1), TEXT), at())
    }

    #[test]
    fn bare_keys_and_lists_are_read() {
        let (one, two) = (public_line(&key(1)), public_line(&key(2)));
        for (file, name) in [
            (one.clone(), "node"),
            (format!("{one} vyr-node@a.example\n"), "vyr-node@a.example"),
            (format!("# ours\n\n{two} b\n{one} a b c\n"), "a"),
            (format!("{one} *\n"), "node"),
            (format!("a {one}\n"), "a"),
            (format!("{two} x\n{one} y"), "y"),
            (format!("a namespaces=\"vyr-checkpoint\" {one}\nb {two}"), "a"),
            // A principal may be called like a kind of key.
            (format!("ssh-ed25519 {one}\n"), "ssh-ed25519"),
        ] {
            assert_eq!(verdict(&file).expect(&file).principal, name);
        }
    }

    #[test]
    fn other_keys_and_other_uses_are_refused() {
        let (one, two) = (public_line(&key(1)), public_line(&key(2)));
        assert!(matches!(verdict(&two), Err(TrustError::UnknownKey { .. })));
        assert!(matches!(verdict(""), Err(TrustError::UnknownKey { .. })));
        let plan = format!("a namespaces=\"vyr-plan\" {one}");
        assert!(matches!(verdict(&plan), Err(TrustError::NamespaceNotAllowed { .. })));
        let late = format!("a valid-before=\"20200101Z\" {one}");
        assert!(matches!(verdict(&late), Err(TrustError::Expired { .. })));
        let revoked = RevokedKeys::parse(one.as_bytes()).expect("valid");
        let keys = NodeKeys::parse(one.as_bytes()).expect("valid").with_revoked(revoked);
        let verdict = keys.verify(TEXT, &sign(&key(1), TEXT), at());
        assert!(matches!(verdict, Err(TrustError::Revoked { .. })));
        assert!(NodeKeys::parse(b"").expect("nobody").is_empty());
    }

    #[test]
    fn a_fault_names_its_line() {
        let one = public_line(&key(1));
        for file in [format!("{one}\n\nssh-ed25519 AAAA x\n"), format!("{one}\n\nana\n")] {
            let error = NodeKeys::parse(file.as_bytes()).expect_err("a fault");
            assert!(error.faults.iter().any(|fault| fault.line == 3), "{error}");
        }
    }
}
