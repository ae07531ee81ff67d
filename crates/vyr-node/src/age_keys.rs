//! age: to whom something is encrypted, and with what it is opened.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use age::{DecryptError, Encryptor, IdentityFile};
use vyr_base::{Category, Problem};
use zeroize::Zeroizing;

/// Bytes of a file with keys.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// Why a key does not encrypt, or opens nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgeKeyError {
    /// A recipient that cannot be encrypted to.
    #[error("nothing can be encrypted to {recipient}: {why}")]
    Recipient {
        /// As it was written.
        recipient: String,
        /// Why.
        why: String,
    },
    /// The file with the key that opens it.
    #[error("{path} opens nothing: {why}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why; never what is in it.
        why: String,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Problem for AgeKeyError {
    fn category(&self) -> Category {
        match self {
            Self::Recipient { .. } | Self::Identity { .. } => Category::Usage,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Category::NotFound,
                io::ErrorKind::PermissionDenied => Category::Auth,
                _ => Category::Failure,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Recipient { .. } => {
                Some("an age1.. recipient or an ssh-ed25519 public key".into())
            }
            Self::Identity { .. } => Some(
                "an age identity file or an unencrypted ssh-ed25519 private key, chmod 600".into(),
            ),
            Self::File { .. } => None,
        }
    }
}

/// Encrypts to everybody named; `None`: nobody is.
pub(crate) fn encryptor<'a>(
    recipients: impl IntoIterator<Item = &'a str>,
) -> Result<Option<Encryptor>, AgeKeyError> {
    let mut found: Vec<Box<dyn age::Recipient>> = Vec::new();
    let mut all = Vec::new();
    for text in recipients {
        let fail = |why: String| AgeKeyError::Recipient { recipient: text.to_owned(), why };
        all.push(text);
        found.push(match text.starts_with("age1") {
            true => {
                let read = text.parse::<age::x25519::Recipient>();
                Box::new(read.map_err(|e| fail(e.to_owned()))?)
            }
            false => {
                let read = text.parse::<age::ssh::Recipient>();
                Box::new(read.map_err(|e| fail(format!("{e:?}")))?)
            }
        });
    }
    if found.is_empty() {
        return Ok(None);
    }
    let made = Encryptor::with_recipients(found.iter().map(AsRef::as_ref));
    made.map(Some)
        .map_err(|e| AgeKeyError::Recipient { recipient: all.join(", "), why: e.to_string() })
}

/// Keys that open what was encrypted.
pub(crate) type Identities = Vec<Box<dyn age::Identity>>;

/// Reads an age identity file, or an SSH private key. Others must not be able to read it.
pub(crate) fn identities(path: &Path) -> Result<Identities, AgeKeyError> {
    let file = |source| AgeKeyError::File { path: path.to_owned(), source };
    let fail = |why: &str| AgeKeyError::Identity { path: path.to_owned(), why: why.into() };
    let opened = File::open(path).map_err(file)?;
    let mode = opened.metadata().map_err(file)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(fail("it can be read by others"));
    }
    // Room for all of it: what grows leaves copies behind.
    let most = usize::try_from(IDENTITY_BYTES_MAX).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    opened.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes).map_err(file)?;
    if bytes.starts_with(b"-----BEGIN") {
        let read = age::ssh::Identity::from_buffer(bytes.as_slice(), None);
        return match read.map_err(|_| fail("it is no SSH key"))? {
            age::ssh::Identity::Encrypted(_) => Err(fail("it has a passphrase")),
            age::ssh::Identity::Unsupported(_) => Err(fail("it is of a kind that opens nothing")),
            identity => Ok(vec![Box::new(identity)]),
        };
    }
    let read = IdentityFile::from_buffer(bytes.as_slice()).map_err(|_| fail("it has no key"))?;
    let found = read.into_identities().map_err(|_| fail("it has no key"))?;
    let found: Identities = found.into_iter().map(|one| one as Box<dyn age::Identity>).collect();
    match found.is_empty() {
        true => Err(fail("it has no key")),
        false => Ok(found),
    }
}

/// Why something is not decrypted, in words of ours: the cipher's own come from files that a confined
/// process may not read, and it would end for want of them.
pub(crate) fn said(error: &DecryptError) -> String {
    match error {
        DecryptError::DecryptionFailed => "it was changed".to_owned(),
        DecryptError::ExcessiveWork { .. } => "it asks for too much work".to_owned(),
        DecryptError::InvalidHeader => "its header is none".to_owned(),
        DecryptError::InvalidMac => "its header was changed".to_owned(),
        DecryptError::Io(e) => e.to_string(),
        DecryptError::KeyDecryptionFailed => "its key cannot be decrypted".to_owned(),
        DecryptError::NoMatchingKeys => "it is for others".to_owned(),
        // And whatever later versions of it find.
        _ => "it is no age file".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::OpenOptionsExt;

    fn file(directory: &Path, text: &str) -> PathBuf {
        use std::io::Write;
        let path = directory.join("key");
        let _ = fs::remove_file(&path);
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.expect("made").write_all(text.as_bytes()).expect("written");
        path
    }

    #[test]
    fn what_is_no_key_opens_nothing_and_is_not_quoted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for text in [
            "",
            "# a comment\n",
            "AGE-SECRET-KEY-1SECRETSECRET\n",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n",
            "-----BEGIN",
            "SECRET",
        ] {
            let path = file(directory.path(), text);
            let Err(error) = identities(&path) else { panic!("{text:?} is a key") };
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
        let good = age::x25519::Identity::generate().to_string();
        let good = age::secrecy::ExposeSecret::expose_secret(&good).to_owned();
        let path = file(directory.path(), &good);
        assert_eq!(identities(&path).map(|found| found.len()).map_err(|e| e.to_string()), Ok(1));
    }

    #[test]
    fn a_recipient_that_is_none_is_named() {
        let good = age::x25519::Identity::generate().to_public().to_string();
        assert!(encryptor([good.as_str()]).is_ok_and(|made| made.is_some()));
        for bad in ["age1qqq", "ssh-ed25519 AAAA", "ssh-rsa AAAA", ""] {
            let Err(error) = encryptor([good.as_str(), bad]) else {
                panic!("{bad} is a recipient")
            };
            assert!(matches!(&error, AgeKeyError::Recipient { recipient, .. } if recipient == bad));
        }
        assert!(encryptor([]).is_ok_and(|made| made.is_none()));
    }
}
