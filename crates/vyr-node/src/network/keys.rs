//! The private keys of this host's links: made here, kept here (0600), shown nowhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use vyr_net::Keys;
use vyr_plan::intent::Key;
use vyr_plan::plan::Machine;
use vyr_plan::render::PrivateKey;
use zeroize::Zeroizing;

use super::NetworkError;
use crate::data_dir::write_once;

/// Bytes of a key's file that are looked at: a key has 44, and a line's end.
const KEY_BYTES_MAX: u64 = 256;

/// Private keys in a directory, one file a link, as `wg genkey` writes them.
#[derive(Debug, Clone)]
pub struct LinkKeys {
    directory: PathBuf,
}

impl LinkKeys {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, link: &str) -> PathBuf {
        self.directory.join(format!("{link}.key"))
    }

    /// The public half of a link's key; the key is made if there is none.
    pub fn make(&self, link: &str) -> Result<(Key, bool), NetworkError> {
        let path = self.path(link);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if link.is_empty() || link.len() > 15 || !link.bytes().all(fits) {
            return Err(NetworkError::Key { path, why: format!("`{link}` is no name of a link") });
        }
        if let Some(key) = self.read(link)? {
            return Ok((key.public_key(), false));
        }
        let file = |source| NetworkError::File { path: path.clone(), source };
        let text = private_key().map_err(file)?;
        write_once(&path, text.as_bytes()).map_err(file)?;
        // Perhaps another process was first; its key is the one.
        let key = self.read(link)?;
        let key = key.ok_or_else(|| file(io::ErrorKind::NotFound.into()))?;
        Ok((key.public_key(), true))
    }

    fn text(&self, link: &str) -> Result<Option<Zeroizing<String>>, NetworkError> {
        let path = self.path(link);
        let mut text = Zeroizing::new(String::with_capacity(64));
        let read =
            File::open(&path).and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NetworkError::File { path, source }),
        }
    }

    fn read(&self, link: &str) -> Result<Option<PrivateKey>, NetworkError> {
        let Some(text) = self.text(link)? else { return Ok(None) };
        let key = PrivateKey::parse(&text)
            .map_err(|e| NetworkError::Key { path: self.path(link), why: e.to_string() })?;
        Ok(Some(key))
    }

    /// Fails unless the keys of all links of a machine are here and are the plan's.
    pub(super) fn check(&self, machine: &Machine) -> Result<(), NetworkError> {
        for link in &machine.links {
            let fail = |why: String| NetworkError::Key { path: self.path(&link.name), why };
            match self.read(&link.name)? {
                None => return Err(fail("there is no private key".into())),
                Some(key) if key.public_key() != link.public_key => {
                    return Err(fail(format!(
                        "its public key is {}, and the plan's is {}",
                        key.public_key(),
                        link.public_key
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Keys for LinkKeys {
    fn private_key(&self, link: &str) -> Option<Zeroizing<[u8; 32]>> {
        let text = self.text(link).ok()??;
        let mut bytes = Zeroizing::new([0; 32]);
        let found = Base64::decode(text.trim_end(), bytes.as_mut()).ok()?;
        (found.len() == 32).then_some(())?;
        Some(bytes)
    }
}

/// A new WireGuard private key, as `wg genkey` writes it, with its line's end.
pub fn private_key() -> io::Result<Zeroizing<String>> {
    let mut secret = Zeroizing::new([0_u8; 32]);
    rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())?;
    // Its whole room at once: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(Base64::encoded_len(&secret[..]) + 1));
    let mut room = Zeroizing::new([0_u8; 64]);
    let encoded = Base64::encode(&secret[..], &mut room[..]).map_err(io::Error::other)?;
    text.push_str(encoded);
    text.push('\n');
    Ok(text)
}

/// Where keys lie in a network's directory.
pub(super) fn directory(network: &Path) -> PathBuf {
    network.join("keys")
}
