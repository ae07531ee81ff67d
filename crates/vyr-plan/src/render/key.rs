//! A device's private key: read, compared with the plan, written once, and gone.

use std::fmt;

use base64ct::{Base64, Encoding};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::RenderError;
use crate::intent::Key;

/// A WireGuard private key. Its memory is zeroed when it goes, and nothing prints it.
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// As `wg genkey` writes it.
    pub fn parse(text: &str) -> Result<Self, RenderError> {
        let mut bytes = Zeroizing::new([0; 32]);
        match Base64::decode(text.trim_end(), bytes.as_mut()) {
            Ok(found) if found.len() == 32 && found.iter().any(|byte| *byte != 0) => {}
            _ => return Err(RenderError::NotAKey),
        }
        Ok(Self(StaticSecret::from(*bytes)))
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> Key {
        Key::from_bytes(PublicKey::from(&self.0).to_bytes())
    }

    /// As a configuration has it.
    pub(super) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(self.0.as_bytes()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public_key())
    }
}
