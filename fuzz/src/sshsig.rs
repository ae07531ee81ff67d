//! `SSHSIG` (PROTOCOL.sshsig) and public key lines, read again without the library.
//!
//! Strict: a length that is not exact, a left-over byte or a second spelling of the base64 makes
//! nothing of it.

use sha2::{Digest as _, Sha256, Sha512};

use crate::base64;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// The fields of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SshSig {
    pub(crate) key: Vec<u8>,
    pub(crate) namespace: Vec<u8>,
    pub(crate) reserved: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) raw: Vec<u8>,
}

/// The bytes inside an armored signature, if its base64 is their one spelling.
pub(crate) fn unarmor(armored: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(armored).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let [BEGIN, body @ .., END] = &lines[..] else { return None };
    base64::decode(&body.concat())
}

/// An armored signature around any bytes, with lines of `columns` characters.
pub(crate) fn armor(blob: &[u8], columns: usize, line_end: &str) -> String {
    let mut text = format!("{BEGIN}{line_end}");
    for line in base64::encode(blob).as_bytes().chunks(columns) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push_str(line_end);
    }
    text + END + line_end
}

impl SshSig {
    /// Reads the bytes inside an armored signature.
    pub(crate) fn read(blob: &[u8]) -> Option<Self> {
        let mut rest = blob.strip_prefix(b"SSHSIG\0\0\0\x01")?;
        let mut field = || string(&mut rest).map(<[u8]>::to_vec);
        let signature = Self {
            key: field()?,
            namespace: field()?,
            reserved: field()?,
            hash: field()?,
            raw: field()?,
        };
        rest.is_empty().then_some(signature)
    }

    /// The bytes a key signs for `message`.
    pub(crate) fn signed_data(&self, message: &[u8]) -> Option<Vec<u8>> {
        let hash = match &self.hash[..] {
            b"sha256" => Sha256::digest(message).to_vec(),
            b"sha512" => Sha512::digest(message).to_vec(),
            _ => return None,
        };
        let fields = [&self.namespace, &self.reserved, &self.hash, &hash];
        let fields = fields.into_iter().flat_map(|field| wire(field));
        Some(b"SSHSIG".iter().copied().chain(fields).collect())
    }

    /// The name of its key's kind.
    pub(crate) fn kind(&self) -> Option<&[u8]> {
        string(&mut &self.key[..])
    }
}

/// The id `ssh-keygen -l` prints for a key.
pub(crate) fn key_id(key: &[u8]) -> String {
    format!("SHA256:{}", base64::encode(&Sha256::digest(key)).trim_end_matches('='))
}

/// A length-prefixed string off the front of `rest`.
pub(crate) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(value)
}

/// A length-prefixed string.
pub(crate) fn wire(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("inputs are far below 4 GiB");
    [&length.to_be_bytes(), bytes].concat()
}

/// The words of a line of a trust file, unless it is blank or a comment.
pub(crate) fn words(line: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    (!words.first()?.starts_with('#')).then_some(words)
}

/// The lines of a trust file that say something, with their numbers.
pub(crate) fn lines(file: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = file.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines.enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, l)| words(l).is_some())
}
