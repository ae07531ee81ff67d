//! Writing it in its one form.

use base64ct::{Base64, Encoding};
use vyr_base::Digest;
use zeroize::Zeroizing;

use super::{BASE64, HEADER, PLAIN_BYTES_MAX, SecretValue, Secrets};

impl SecretValue {
    /// Whether it stands in the file as it is.
    fn is_plain(&self) -> bool {
        let bytes = self.expose();
        let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
        bytes.len() <= PLAIN_BYTES_MAX
            && !bytes.starts_with(BASE64.as_bytes())
            && !bytes.iter().any(breaks)
            && str::from_utf8(bytes).is_ok()
    }

    fn text_bytes(&self) -> usize {
        match self.is_plain() {
            true => self.expose().len(),
            false => BASE64.len() + self.expose().len().div_ceil(3) * 4,
        }
    }
}

impl Secrets {
    /// Bytes of the canonical text.
    pub fn file_bytes(&self) -> usize {
        let lines = self.values.iter();
        let lines = lines.map(|(name, value)| name.as_str().len() + 1 + value.text_bytes() + 1);
        HEADER.len() + 1 + lines.sum::<usize>()
    }

    /// The canonical text: what an instance finds.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it: what grows leaves copies behind.
        let room = self.file_bytes();
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        text.extend_from_slice(HEADER.as_bytes());
        text.push(b'\n');
        for (name, value) in &self.values {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b'=');
            if value.is_plain() {
                text.extend_from_slice(value.expose());
            } else {
                text.extend_from_slice(BASE64.as_bytes());
                let at = text.len();
                text.resize(at + Base64::encoded_len(value.expose()), 0);
                Base64::encode(value.expose(), &mut text[at..])
                    .unwrap_or_else(|_| unreachable!("its room was made for it"));
            }
            text.push(b'\n');
        }
        assert_eq!(text.len(), room, "its length was told before");
        text
    }

    /// `data_hash`: the digest of the canonical text. Of few secrets that are easily guessed it says
    /// what they are, so it is shown where the secrets may be.
    pub fn data_hash(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
