//! Whom this data directory trusts.
//!
//! With a signer list: those on it, less the revoked. Without one, in a private directory: the
//! development key that lies there, and every result says `signer: dev`. Without one in the
//! system's directory: nobody.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ssh_key::{PrivateKey, PublicKey};
use vyr_artifact::{
    AllowedSigners, KeyId, Namespace, RevokedKeys, TrustError, TrustFileError, TrustPolicy,
    render_line, signed_bytes,
};
use vyr_base::{Category, Digest, Problem};

use crate::data_dir::{DataDir, replace};
use crate::keys::{self, DEV};
use crate::report::{FileError, Result};

/// Both trust files are read whole; the parsers bound them again.
const TRUST_FILE_BYTES_MAX: u64 = 4 << 20;

/// Why trust cannot be established at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustLoadError {
    /// A trust file has faults; none of it is believed then.
    #[error("{path} has faults")]
    File {
        /// The file.
        path: PathBuf,
        /// All of them.
        source: TrustFileError,
    },
    /// There is nothing to verify against.
    #[error("nobody may sign here: there is no {path}")]
    NoSigners {
        /// The list that is not there.
        path: PathBuf,
    },
    /// The artifact is not trusted.
    #[error("artifact {artifact} is refused: {why}")]
    Refused {
        /// What was to run or to be stored.
        artifact: Digest,
        /// The reason.
        why: TrustError,
    },
    /// There is a signer list, so the development key does not sign.
    #[error("a key is needed to sign: this data directory has a list of signers")]
    KeyNeeded,
}

impl Problem for TrustLoadError {
    fn category(&self) -> Category {
        match self {
            Self::File { .. } => Category::Usage,
            Self::KeyNeeded => Category::Usage,
            Self::NoSigners { .. } | Self::Refused { .. } => Category::Auth,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { source, .. } => source.hint(),
            Self::NoSigners { .. } => Some(
                "trust a key: vyr key trust KEY.pub --principal NAME (or use --data-dir DIR for a \
                 private directory with a development key)"
                    .into(),
            ),
            Self::Refused { why, .. } => why.hint(),
            Self::KeyNeeded => Some("pass --key FILE; vyr key new NAME makes one".into()),
        }
    }
}

/// Who vouched for an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedSigner {
    /// The name on the list, or `dev`.
    pub principal: String,
    /// The key's fingerprint.
    pub key_id: KeyId,
    /// Whether it is the development key of a private directory.
    pub dev: bool,
}

/// Whom a data directory trusts, at the moment it was loaded.
#[derive(Debug)]
pub struct Trust {
    policy: TrustPolicy,
    /// No list, so the development key counts (if the directory may have one).
    dev: bool,
    list: PathBuf,
    system: bool,
}

impl Trust {
    /// Reads the trust files of `data`.
    pub fn load(data: &DataDir) -> Result<Self> {
        let list = data.allowed_signers();
        let system = data.is_system();
        let revoked = match read(&data.revoked_keys())? {
            Some(text) => RevokedKeys::parse(&text)
                .map_err(|source| TrustLoadError::File { path: data.revoked_keys(), source })?,
            None => RevokedKeys::default(),
        };
        let (text, dev) = match read(&list)? {
            Some(text) => (text, false),
            None => (dev_list(data)?, true),
        };
        let signers = AllowedSigners::parse(&text)
            .map_err(|source| TrustLoadError::File { path: list.clone(), source })?;
        Ok(Self { policy: TrustPolicy { signers, revoked }, dev, list, system })
    }

    /// Says who vouched for `artifact` with one of `signatures`, or refuses it.
    pub fn verify(
        &self,
        artifact: &Digest,
        signatures: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<TrustedSigner> {
        if self.dev && self.system {
            return Err(TrustLoadError::NoSigners { path: self.list.clone() }.into());
        }
        let signatures: Vec<&[u8]> = signatures.iter().map(Vec::as_slice).collect();
        let signer = self
            .policy
            .verify_any(Namespace::Artifact, &signed_bytes(artifact), &signatures, now)
            .map_err(|why| TrustLoadError::Refused { artifact: *artifact, why })?;
        Ok(TrustedSigner { principal: signer.principal, key_id: signer.key_id, dev: self.dev })
    }

    /// Whether the development key is what is trusted here.
    pub fn is_dev(&self) -> bool {
        self.dev && !self.system
    }

    /// The lines of the list, as they are believed.
    pub fn signers(&self) -> &AllowedSigners {
        &self.policy.signers
    }

    /// How many keys are revoked.
    pub fn revoked(&self) -> usize {
        self.policy.revoked.len()
    }

    /// The development key, made if it is not there, where the directory may have one.
    pub(crate) fn dev_key(&self, data: &DataDir) -> Result<PrivateKey> {
        match (self.dev, self.system) {
            (true, false) => keys::dev_key(data),
            (true, true) => Err(TrustLoadError::NoSigners { path: self.list.clone() }.into()),
            (false, _) => Err(TrustLoadError::KeyNeeded.into()),
        }
    }
}

/// A list with the development key on it, or an empty one.
fn dev_list(data: &DataDir) -> Result<Vec<u8>> {
    if data.is_system() {
        return Ok(Vec::new());
    }
    let path = data.keys()?.join(format!("{DEV}.pub"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let line = render_line(DEV, &keys::public_key(&path)?, &[Namespace::Artifact])?;
    Ok(format!("{line}\n").into_bytes())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file
            .take(TRUST_FILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(FileError::on("read", path))?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::on("read", path)(e).into()),
    };
    Ok(Some(text))
}

/// Adds a line for `key` to the signer list, whole or not at all. Returns the line, and whether
/// it is new. The list is checked as it will be before it is replaced.
pub fn trust_key(
    data: &DataDir,
    principal: &str,
    key: &PublicKey,
    namespaces: &[Namespace],
) -> Result<(String, bool)> {
    let path = data.allowed_signers();
    data.directory("trust")?;
    let line = render_line(principal, key, namespaces)?;
    let mut text = read(&path)?.unwrap_or_default();
    if text.split(|byte| *byte == b'\n').any(|present| present == line.as_bytes()) {
        return Ok((line, false));
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
    AllowedSigners::parse(&text)
        .map_err(|source| TrustLoadError::File { path: path.clone(), source })?;
    replace(&path, &text).map_err(FileError::on("write", &path))?;
    Ok((line, true))
}
