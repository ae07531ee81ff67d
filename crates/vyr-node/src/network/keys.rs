//! The private keys of this host's links: made here, kept here (0600), shown nowhere.
//!
//! A link has one, and beside it perhaps the next one, which takes over with a plan that names it.
//! Until that plan is confirmed both are there: the way back needs the old one.

use std::fs::{self, File};
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

/// Which of a link's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The one in use.
    Own,
    /// The one that takes over.
    Next,
}

/// Private keys in a directory, one file a link, as `wg genkey` writes them.
#[derive(Debug, Clone)]
pub struct LinkKeys {
    directory: PathBuf,
}

impl LinkKeys {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where they lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, link: &str, which: Which) -> PathBuf {
        self.directory.join(match which {
            Which::Own => format!("{link}.key"),
            Which::Next => format!("{link}.next.key"),
        })
    }

    /// The public half of a link's key, or of the next one; the key is made if there is none.
    pub fn make(&self, link: &str, next: bool) -> Result<(Key, bool), NetworkError> {
        let which = if next { Which::Next } else { Which::Own };
        let path = self.path(link, which);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if link.is_empty() || link.len() > 15 || !link.bytes().all(fits) {
            return Err(NetworkError::Key { path, why: format!("`{link}` is no name of a link") });
        }
        if let Some(key) = self.read(link, which)? {
            return Ok((key.public_key(), false));
        }
        let file = |source| NetworkError::File { path: path.clone(), source };
        let text = private_key().map_err(file)?;
        write_once(&path, text.as_bytes()).map_err(file)?;
        // Perhaps another process was first; its key is the one.
        let key = self.read(link, which)?;
        let key = key.ok_or_else(|| file(io::ErrorKind::NotFound.into()))?;
        Ok((key.public_key(), true))
    }

    fn text(&self, link: &str, which: Which) -> Result<Option<Zeroizing<String>>, NetworkError> {
        let path = self.path(link, which);
        let mut text = Zeroizing::new(String::with_capacity(64));
        let read =
            File::open(&path).and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NetworkError::File { path, source }),
        }
    }

    fn read(&self, link: &str, which: Which) -> Result<Option<PrivateKey>, NetworkError> {
        let Some(text) = self.text(link, which)? else { return Ok(None) };
        let key = PrivateKey::parse(&text)
            .map_err(|e| NetworkError::Key { path: self.path(link, which), why: e.to_string() })?;
        Ok(Some(key))
    }

    /// Which of a link's keys has this public half.
    fn which(&self, link: &str, public: &Key) -> Result<Option<Which>, NetworkError> {
        for which in [Which::Own, Which::Next] {
            if self.read(link, which)?.is_some_and(|key| key.public_key() == *public) {
                return Ok(Some(which));
            }
        }
        Ok(None)
    }

    /// With the plan confirmed, a next key that it names is the link's own, and the one before it
    /// is gone: nothing leads back to it.
    pub(super) fn promote(&self, machine: &Machine) -> Result<(), NetworkError> {
        for link in &machine.links {
            if self.which(&link.name, &link.public_key)? == Some(Which::Next) {
                let (next, own) =
                    (self.path(&link.name, Which::Next), self.path(&link.name, Which::Own));
                let moved =
                    fs::rename(&next, &own).and_then(|()| File::open(&self.directory)?.sync_all());
                moved.map_err(|source| NetworkError::File { path: own, source })?;
            }
        }
        Ok(())
    }

    /// Fails unless the keys of all links of a machine are here and are the plan's.
    pub(super) fn check(&self, machine: &Machine) -> Result<(), NetworkError> {
        for link in &machine.links {
            let path = self.path(&link.name, Which::Own);
            let fail = |why: String| NetworkError::Key { path, why };
            if let Some(staged) = link.staged_key
                && self.which(&link.name, &staged)?.is_none()
            {
                // The plan after this one could not be applied.
                let path = self.path(&link.name, Which::Next);
                let why = format!("the plan stages {staged}, whose private half is not here");
                return Err(NetworkError::Key { path, why });
            }
            if self.which(&link.name, &link.public_key)?.is_some() {
                continue;
            }
            match self.read(&link.name, Which::Own)? {
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
        self.bytes(link, Which::Own)
    }

    fn private_key_of(&self, link: &str, public: &Key) -> Option<Zeroizing<[u8; 32]>> {
        // If neither is it, who asked says whose the one is that was found.
        let which = self.which(link, public).ok()?.unwrap_or(Which::Own);
        self.bytes(link, which)
    }
}

impl LinkKeys {
    /// The private key that takes over from a link's own, if there is one.
    pub(super) fn next_private_key(&self, link: &str) -> Option<Zeroizing<[u8; 32]>> {
        self.bytes(link, Which::Next)
    }

    fn bytes(&self, link: &str, which: Which) -> Option<Zeroizing<[u8; 32]>> {
        let text = self.text(link, which).ok()??;
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

#[cfg(test)]
mod tests {
    use super::*;
    use vyr_plan::plan::{Link, LinkKind};

    const LINK: &str = "vyr-mesh";

    fn machine(public_key: Key, staged_key: Option<Key>) -> Machine {
        Machine {
            name: "n".parse().expect("a name"),
            management: Vec::new(),
            management_port: 22,
            uplink_mtu: 1500,
            links: vec![Link {
                name: LINK.into(),
                interface: vyr_plan::intent::mesh(),
                kind: LinkKind::Mesh,
                public_key,
                staged_key,
                second_of: None,
                retired_keys: Vec::new(),
                endpoint: None,
                listen_port: 1,
                mtu: 1420,
                addresses: Vec::new(),
                routes: Vec::new(),
                peers: Vec::new(),
                tunnels: Vec::new(),
            }],
            sets: Vec::new(),
            rules: Vec::new(),
            masquerade: Vec::new(),
        }
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_own_one_and_not_before_its_plan() {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = LinkKeys::new(directory.path().to_owned());
        let public = |private: Option<Zeroizing<[u8; 32]>>| {
            let text = Zeroizing::new(Base64::encode_string(&*private.expect("a key")));
            PrivateKey::parse(&text).expect("a key").public_key()
        };
        let (own, new) = keys.make(LINK, false).expect("made");
        assert!(new);
        let staging = machine(own, Some(Key::from_bytes([7; 32])));
        let error = keys.check(&staging).expect_err("nobody has that one");
        assert!(error.to_string().contains("private half is not here"), "{error}");
        let (next, _) = keys.make(LINK, true).expect("made");
        assert_eq!(keys.make(LINK, true).expect("there"), (next, false));
        assert_ne!(own, next);

        // Staged, in use, taken back: each plan finds its own.
        keys.check(&machine(own, Some(next))).expect("both are here");
        keys.check(&machine(next, None)).expect("the next one is here");
        assert_eq!(public(keys.private_key_of(LINK, &own)), own);
        assert_eq!(public(keys.private_key_of(LINK, &next)), next);
        // A stranger's is not found: the caller compares, and is told whose it got.
        assert_eq!(public(keys.private_key_of(LINK, &Key::from_bytes([7; 32]))), own);

        keys.promote(&machine(own, Some(next))).expect("nothing to do");
        assert_eq!(public(keys.private_key(LINK)), own, "not before its plan");
        keys.promote(&machine(next, None)).expect("promoted");
        assert_eq!(public(keys.private_key(LINK)), next);
        assert!(!keys.path(LINK, Which::Next).exists());
        keys.promote(&machine(next, None)).expect("done twice is done once");
        assert!(keys.check(&machine(own, None)).is_err(), "the old one is gone");
    }
}
