//! Secrets of services at rest: age files in the site, opened by an operator's key or by the node's.
//!
//! ```text
//!  operator: values --seal--> secrets/web.age (in git) --unseal, --identity--> operator
//!                                   |  with the plan, as bytes
//!  node: DATA/keys/secrets (0600, made here, leaves never) --open--> platform.env, in memory only
//! ```
//!
//! Invariants:
//! 1. Nothing but ciphertext is written by anything here, except the node's own key.
//! 2. What was decrypted is believed to be secrets only after it was parsed, and is overwritten when
//!    it goes.
//! 3. No error says what was inside.
//!
//! Deliberately elsewhere: the form of what is inside (`vyr_service::secret`), which file a plan
//! wants (its digest is in the services plan).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::{DecryptError, Decryptor};
use vyr_base::{Category, Problem};
use vyr_service::secret::{self, FILE_BYTES_MAX, SecretError, Secrets};
use zeroize::Zeroizing;

use crate::age_keys::{AgeKeyError, Identities, encryptor, identities, said};
use crate::data_dir::{DataDir, write_once};
use crate::report::{FileError, Result};

/// Bytes of an encrypted file: the secrets, a tag for each 64 KiB of them, and 200 or so a recipient.
pub const SEALED_BYTES_MAX: usize = FILE_BYTES_MAX + (64 << 10);
/// Whom one file is encrypted to.
pub const RECIPIENTS_MAX: usize = 200;

/// Why secrets are not encrypted, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Nobody could open them.
    #[error("there is nobody to encrypt the secrets to")]
    NoRecipients,
    /// More than are sensible.
    #[error("there are {0} recipients, and {RECIPIENTS_MAX} are the most")]
    TooManyRecipients(usize),
    /// A key that does not encrypt, or that opens nothing.
    #[error(transparent)]
    Key(#[from] AgeKeyError),
    /// The cipher did not work.
    #[error("the secrets cannot be encrypted")]
    Seal(#[source] io::Error),
    /// It is too long to be one.
    #[error("the file of secrets has more than {SEALED_BYTES_MAX} bytes")]
    TooLarge,
    /// It is for others.
    #[error("no key of {0} opens these secrets")]
    NotForUs(PathBuf),
    /// It is no age file, or was changed.
    #[error("the secrets cannot be decrypted: {0}")]
    Unseal(String),
    /// What is inside has another form.
    #[error(transparent)]
    Inside(#[from] SecretError),
    /// The node never made its key.
    #[error("this node has no key for secrets")]
    NoKey,
}

impl Problem for SealError {
    fn category(&self) -> Category {
        match self {
            Self::NoRecipients => Category::NotFound,
            Self::TooManyRecipients(_) | Self::TooLarge => Category::Usage,
            Self::Key(e) => e.category(),
            Self::Seal(_) => Category::Internal,
            Self::NotForUs(_) | Self::Unseal(_) => Category::Auth,
            Self::Inside(e) => e.category(),
            Self::NoKey => Category::NotFound,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRecipients => {
                "on each node `vyr node key --secrets`; its line goes into secrets/recipients".into()
            }
            Self::Key(e) => return e.hint(),
            Self::NotForUs(_) => {
                "it is encrypted to others: have one of them run `vyr secret rotate` with your recipient".into()
            }
            Self::Unseal(_) => "take the file from git as it was".into(),
            Self::Inside(e) => return e.hint(),
            Self::NoKey => "make it: vyr node key --secrets".into(),
            _ => return None,
        })
    }
}

/// Encrypts secrets to everybody named. The same secrets are other bytes each time.
///
/// # Errors
/// Nobody is named, or one of them is no recipient.
pub fn seal<'a>(
    secrets: &Secrets,
    recipients: impl IntoIterator<Item = &'a str>,
) -> std::result::Result<Vec<u8>, SealError> {
    let recipients: Vec<&str> = recipients.into_iter().collect();
    if recipients.len() > RECIPIENTS_MAX {
        return Err(SealError::TooManyRecipients(recipients.len()));
    }
    let encryptor = encryptor(recipients)?.ok_or(SealError::NoRecipients)?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(SealError::Seal)?;
    writer.write_all(&secrets.to_bytes()).map_err(SealError::Seal)?;
    writer.finish().map_err(SealError::Seal)?;
    match sealed.len() {
        ..=SEALED_BYTES_MAX => Ok(sealed),
        _ => Err(SealError::TooLarge),
    }
}

/// Opens secrets with a key of an operator: an age identity file or an SSH private key.
///
/// # Errors
/// The key is none, or opens other files; the bytes are none, or hold something else.
pub fn unseal(sealed: &[u8], identity: &Path) -> std::result::Result<Secrets, SealError> {
    decrypt(sealed, &identities(identity)?, identity)
}

fn decrypt(
    sealed: &[u8],
    identities: &Identities,
    key_file: &Path,
) -> std::result::Result<Secrets, SealError> {
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let refused = |e: DecryptError| SealError::Unseal(said(&e));
    let decryptor = Decryptor::new_buffered(sealed).map_err(refused)?;
    if decryptor.is_scrypt() {
        return Err(SealError::Unseal("it has a passphrase, and no recipients".into()));
    }
    let opened = decryptor.decrypt(identities.iter().map(AsRef::as_ref)).map_err(|e| match e {
        DecryptError::NoMatchingKeys => SealError::NotForUs(key_file.to_owned()),
        e => refused(e),
    })?;
    // Room for all there may be, and one byte to see that there is more: what grows leaves copies.
    let mut clear = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let read = opened.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut clear);
    read.map_err(|e| SealError::Unseal(e.to_string()))?;
    Ok(secret::parse(&clear)?)
}

fn key_path(data: &DataDir) -> PathBuf {
    data.path().join("keys/secrets")
}

/// The line by which secrets are encrypted to this node, `age1..`; its key is made if there is none.
/// True: it was made just now.
///
/// # Errors
/// The file cannot be written, or holds something else.
pub fn recipient(data: &DataDir) -> Result<(String, bool)> {
    data.keys()?;
    let path = key_path(data);
    let made = !path.exists();
    if made {
        let key = age::x25519::Identity::generate();
        let secret = key.to_string();
        let public = key.to_public().to_string();
        let head = "# the key of this node for secrets of services; public half: ";
        let room = head.len() + public.len() + secret.expose_secret().len() + 2;
        let mut text = Zeroizing::new(String::with_capacity(room));
        for part in [head, &public, "\n", secret.expose_secret(), "\n"] {
            text.push_str(part);
        }
        write_once(&path, text.as_bytes()).map_err(FileError::on("write", &path))?;
    }
    // Perhaps another process was first; its key is the one.
    let key = own_key(&path)?;
    Ok((key.to_public().to_string(), made))
}

fn own_key(path: &Path) -> std::result::Result<age::x25519::Identity, SealError> {
    // Its owner and mode are judged as those of any other key.
    identities(path)?;
    let fail = |source| AgeKeyError::File { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::with_capacity(1 << 10));
    File::open(path).and_then(|file| file.take(1 << 10).read_to_string(&mut text)).map_err(fail)?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let key = lines.next().and_then(|line| line.parse().ok());
    let why = || "it is not what `vyr node key --secrets` makes".to_owned();
    Ok(key.ok_or_else(|| AgeKeyError::Identity { path: path.to_owned(), why: why() })?)
}

/// Opens secrets with this node's key. What an instance finds is their canonical text.
///
/// # Errors
/// There is no such key, or they are for others; the bytes are none, or hold something else.
pub fn open(data: &DataDir, sealed: &[u8]) -> std::result::Result<Secrets, SealError> {
    let path = key_path(data);
    match identities(&path) {
        Ok(identities) => decrypt(sealed, &identities, &path),
        Err(AgeKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(SealError::NoKey)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use vyr_service::secret::SecretValue;

    fn data() -> (tempfile::TempDir, DataDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(&directory.path().join("data")).expect("it is ours");
        (directory, data)
    }

    fn secrets(text: &str) -> Secrets {
        let value = SecretValue::new(Zeroizing::new(text.as_bytes().to_vec())).expect("short");
        let mut secrets = Secrets::new();
        secrets.set("TOKEN".parse().expect("a name"), value).expect("it fits");
        secrets
    }

    #[test]
    fn a_node_opens_what_is_sealed_to_it_and_nothing_else() {
        let ((_here, ours), (_there, theirs)) = (data(), data());
        let sealed = secrets("hunter2");
        assert!(matches!(open(&ours, b""), Err(SealError::NoKey)));
        let (to, made) = recipient(&ours).expect("made");
        assert!(made && to.starts_with("age1"));
        assert_eq!(recipient(&ours).expect("there"), (to.clone(), false));
        let mode = fs::metadata(key_path(&ours)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let bytes = seal(&sealed, [to.as_str()]).expect("sealed");
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        assert_ne!(bytes, seal(&sealed, [to.as_str()]).expect("sealed"), "a rotation");
        assert_eq!(open(&ours, &bytes).expect("it is ours"), sealed);

        recipient(&theirs).expect("made");
        let error = open(&theirs, &bytes).expect_err("it is not theirs");
        assert!(matches!(error, SealError::NotForUs(_)));
        assert_eq!(error.category(), Category::Auth);
    }

    #[test]
    fn what_was_changed_is_refused_at_every_byte_and_says_nothing() {
        let (_here, data) = data();
        let (to, _) = recipient(&data).expect("made");
        let bytes = seal(&secrets("hunter2"), [to.as_str()]).expect("sealed");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let error = open(&data, &changed).expect_err("a byte was changed");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "byte {at}: {error}");
        }
        for short in 0..bytes.len() {
            assert!(open(&data, &bytes[..short]).is_err(), "{short} bytes");
        }
        let long = vec![0; SEALED_BYTES_MAX + 1];
        assert!(matches!(open(&data, &long), Err(SealError::TooLarge)));
    }

    #[test]
    fn what_is_inside_has_to_be_secrets_and_not_too_many() {
        let (_here, data) = data();
        let (to, _) = recipient(&data).expect("made");
        let sealed = |clear: &[u8]| {
            let encryptor = encryptor([to.as_str()]).expect("good").expect("one");
            let mut sealed = Vec::new();
            let mut writer = encryptor.wrap_output(&mut sealed).expect("begun");
            writer.write_all(clear).expect("written");
            writer.finish().expect("ended");
            sealed
        };
        let error = open(&data, &sealed(b"hunter2")).expect_err("no header");
        assert!(matches!(error, SealError::Inside(SecretError::NoHeader)), "{error}");
        let bomb = [b"# VYR_SECRETS_V1\n".as_slice(), &vec![b'\n'; FILE_BYTES_MAX]].concat();
        let error = open(&data, &sealed(&bomb)).expect_err("too long");
        assert!(matches!(error, SealError::Inside(SecretError::FileTooLarge)), "{error}");
        assert!(open(&data, &sealed(b"# VYR_SECRETS_V1\n")).expect("none").is_empty());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_another_thing_is_refused() {
        let (_here, data) = data();
        recipient(&data).expect("made");
        let path = key_path(&data);
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        set(0o644);
        assert_eq!(recipient(&data).expect_err("open to all").category(), Category::Usage);
        set(0o600);
        fs::write(&path, "hunter2").expect("written");
        let error = recipient(&data).expect_err("no key");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(matches!(seal(&secrets("x"), []), Err(SealError::NoRecipients)));
    }
}
