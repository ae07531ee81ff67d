//! Keys people sign with: a file, an ssh-agent, or the development key of a private directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ssh_agent_client_rs::Client;
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey};
use vyr_artifact::{KeyId, Namespace, SignError, from_agent, render_line, sign, signature_request};
use vyr_base::{Category, Problem};

use crate::data_dir::{DataDir, write_once};
use crate::report::{FileError, Result};

/// The file name and the principal of the development key.
pub const DEV: &str = "dev";

/// A key file is a few hundred bytes; a passphrase-protected one a few more.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a name for a file.
    #[error("key name {0:?} is not 1 to 64 of a-z, A-Z, 0-9, '-' and '_'")]
    Name(String),
    /// `dev` is made by `vyr run` and nobody else.
    #[error("the name dev is kept for the development key")]
    Dev,
    /// There is one of this name.
    #[error("key {path} is there already")]
    Exists {
        /// The private file.
        path: PathBuf,
    },
    /// The file is neither a private nor a public OpenSSH key.
    #[error("{path} is not an OpenSSH key")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: ssh_key::Error,
    },
    /// Others can read the private key.
    #[error("private key {path} can be read by others (mode {mode:03o})")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No agent to ask.
    #[error("{path} is a public key, and there is no ssh-agent to sign with it")]
    NoAgent {
        /// The file.
        path: PathBuf,
    },
    /// The agent does not sign.
    #[error("the ssh-agent does not sign with {key_id}")]
    Agent {
        /// The key.
        key_id: KeyId,
        /// What it said.
        source: ssh_agent_client_rs::Error,
    },
    /// No randomness, or a library fault.
    #[error("cannot make a key")]
    Make(#[source] ssh_key::Error),
}

impl Problem for KeyError {
    fn category(&self) -> Category {
        match self {
            Self::Name(_) | Self::Dev | Self::Format { .. } => Category::Usage,
            Self::Exists { .. } => Category::Conflict,
            Self::Open { .. } | Self::NoAgent { .. } | Self::Agent { .. } => Category::Auth,
            Self::Make(_) => Category::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Name(_) | Self::Dev => Some("choose another name, such as release".into()),
            Self::Exists { .. } => Some("choose another name; a key is never replaced".into()),
            Self::Format { .. } => {
                Some("pass a private key, or a .pub file whose key an ssh-agent holds".into())
            }
            Self::Open { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::NoAgent { .. } => Some("start an ssh-agent and ssh-add the key".into()),
            Self::Agent { .. } => Some("ssh-add the private key; ssh-add -l lists them".into()),
            Self::Make(_) => None,
        }
    }
}

/// Something that signs.
pub enum SigningKey {
    /// A private key in this process.
    File(Box<PrivateKey>),
    /// A key an ssh-agent holds.
    Agent(PublicKey),
}

impl SigningKey {
    /// Opens `path`: a private key (not readable by others), or a public key whose private half
    /// an ssh-agent holds, as `ssh-keygen -Y sign -f` does.
    pub fn open(path: &Path) -> Result<Self> {
        let text = read_key_file(path)?;
        if !text.contains("PRIVATE KEY-----") {
            let public = PublicKey::from_openssh(text.trim())
                .map_err(|source| KeyError::Format { path: path.to_owned(), source })?;
            if std::env::var_os("SSH_AUTH_SOCK").is_none() {
                return Err(KeyError::NoAgent { path: path.to_owned() }.into());
            }
            return Ok(Self::Agent(public));
        }
        let mode = fs::metadata(path).map_err(FileError::on("read", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode: mode & 0o777 }.into());
        }
        let key = PrivateKey::from_openssh(text)
            .map_err(|source| KeyError::Format { path: path.to_owned(), source })?;
        Ok(Self::File(Box::new(key)))
    }

    /// Its public half.
    pub fn public_key(&self) -> &PublicKey {
        match self {
            Self::File(key) => key.public_key(),
            Self::Agent(key) => key,
        }
    }

    /// Signs `message`; returns an armored SSHSIG.
    pub fn sign(&self, namespace: Namespace, message: &[u8]) -> Result<String> {
        match self {
            Self::File(key) => Ok(sign(key, namespace, message)?),
            Self::Agent(key) => {
                let refused = |source| KeyError::Agent { key_id: KeyId::of(key), source };
                let socket = std::env::var_os("SSH_AUTH_SOCK").unwrap_or_default();
                let mut agent = Client::connect(Path::new(&socket)).map_err(refused)?;
                let answer =
                    agent.sign(key, &signature_request(namespace, message)).map_err(refused)?;
                let answer: Vec<u8> =
                    answer.try_into().map_err(|_| SignError::Agent { key_id: KeyId::of(key) })?;
                Ok(from_agent(key, namespace, &answer)?)
            }
        }
    }
}

/// Reads a public key from a `.pub` file or a private key file.
pub fn public_key(path: &Path) -> Result<PublicKey> {
    let text = read_key_file(path)?;
    let fail = |source| KeyError::Format { path: path.to_owned(), source };
    if text.contains("PRIVATE KEY-----") {
        return Ok(PrivateKey::from_openssh(text).map_err(fail)?.public_key().clone());
    }
    Ok(PublicKey::from_openssh(text.trim()).map_err(fail)?)
}

fn read_key_file(path: &Path) -> Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = fs::File::open(path).map_err(FileError::on("read", path))?;
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(FileError::on("read", path))?;
    Ok(text)
}

/// Makes an Ed25519 key pair in the data directory; returns the private file's path.
pub fn make(data: &DataDir, name: &str) -> Result<(PathBuf, PublicKey)> {
    if name == DEV {
        return Err(KeyError::Dev.into());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Err(KeyError::Name(name.chars().take(80).collect()).into());
    }
    let path = data.keys()?.join(name);
    if path.exists() {
        return Err(KeyError::Exists { path }.into());
    }
    let public = write_pair(&path, name)?;
    Ok((path, public))
}

/// The key pairs of the data directory, by name.
pub fn list(data: &DataDir) -> Result<Vec<(String, PublicKey)>> {
    let directory = data.keys()?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(&directory).map_err(FileError::on("list", &directory))? {
        let path = entry.map_err(FileError::on("list", &directory))?.path();
        if path.extension().is_some_and(|e| e == "pub")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            keys.push((name.to_owned(), public_key(&path)?));
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(keys)
}

/// The development key, made on first use. The caller has checked that the directory may have
/// one (`Trust`).
pub(crate) fn dev_key(data: &DataDir) -> Result<PrivateKey> {
    private(&data.keys()?.join(DEV), "vyr development key")
}

/// The node's own key, which signs its checkpoints, made on first use.
pub(crate) fn node_key(data: &DataDir) -> Result<PrivateKey> {
    private(&data.directory("node")?.join("key"), "vyr node key")
}

/// The node's public key as a line of an `allowed_signers` file; the key is made on first use.
pub fn node_key_line(data: &DataDir) -> Result<String> {
    node_line(node_key(data)?.public_key())
}

pub(crate) fn node_line(key: &PublicKey) -> Result<String> {
    Ok(render_line("vyr-node", key, &[Namespace::Checkpoint])?)
}

/// Reads a private key of ours; makes it if it is not there.
fn private(path: &Path, comment: &str) -> Result<PrivateKey> {
    // Another process may be between the two halves, or have died there.
    if !path.exists() || !path.with_extension("pub").exists() {
        write_pair(path, comment)?;
    }
    match SigningKey::open(path)? {
        SigningKey::File(key) => Ok(*key),
        SigningKey::Agent(_) => {
            let (path, source) = (path.to_owned(), ssh_key::Error::FormatEncoding);
            Err(KeyError::Format { path, source }.into())
        }
    }
}

/// Writes both halves; of several processes at once the first one's key is the one.
fn write_pair(path: &Path, comment: &str) -> Result<PublicKey> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(KeyError::Make)?;
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF).map_err(KeyError::Make)?;
    write_once(path, private.as_bytes()).map_err(FileError::on("write", path))?;
    // Of several at once the first one's key stays, so the public file is made from what is there.
    let public = public_key(path)?;
    let text = format!("{}\n", public.to_openssh().map_err(KeyError::Make)?);
    let beside = path.with_extension("pub");
    write_once(&beside, text.as_bytes()).map_err(FileError::on("write", &beside))?;
    Ok(public)
}
