//! Reading a bundle: its head, every byte of its payload, then what is inside.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::{DecryptError, Decryptor};
use jiff::Timestamp;
use vyr_artifact::{Signer, TrustPolicy};
use vyr_base::Hasher;
use vyr_plan::bundle::{BundleError, CONTENTS_BYTES_MAX, Contents, HEAD_BYTES_MAX, Head, Item};
use zeroize::Zeroizing;

use super::RecoveryError;
use crate::age_keys::Identities;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// A bundle whose bytes are all as its head says.
#[derive(Debug)]
pub struct Checked {
    /// What is in clear.
    pub head: Head,
    /// Who vouches for it; none: nobody was asked for.
    pub signer: Option<Signer>,
    path: PathBuf,
    file: File,
}

/// All that is inside but the artifacts.
pub(super) type Small = BTreeMap<Item, Zeroizing<Vec<u8>>>;

/// What is inside.
pub(super) struct Inside {
    pub(super) small: Small,
    /// Whether the artifacts were written where it was asked for.
    pub(super) artifacts: bool,
}

/// Reads a bundle's head, and checks its payload's digest; with `trust`, who signed it.
pub fn look(path: &Path, trust: Option<&TrustPolicy>) -> Result<Checked, RecoveryError> {
    let fail = |source| RecoveryError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut start = Vec::new();
    (&file).take(HEAD_BYTES_MAX as u64).read_to_end(&mut start).map_err(fail)?;
    let head = Head::parse(&start)?;
    // Before anything else is looked at: a stranger's file costs no more than this.
    let signer = match trust {
        Some(policy) => {
            Some(head.verify(policy, Timestamp::now()).map_err(RecoveryError::Untrusted)?)
        }
        None => None,
    };
    let bytes = file.metadata().map_err(fail)?.len();
    if bytes != head.file_bytes() {
        return Err(BundleError::Altered(format!("length ({bytes} bytes)")).into());
    }
    file.seek(SeekFrom::Start(head.payload_at as u64)).map_err(fail)?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hasher.update(&piece[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(fail(e)),
        }
    }
    if hasher.finish() != head.header.payload.digest {
        return Err(BundleError::Altered("payload".into()).into());
    }
    Ok(Checked { head, signer, path: path.to_owned(), file })
}

/// Digests what passes.
struct Tee<R> {
    from: R,
    hasher: Hasher,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl Checked {
    /// Decrypts it. The artifacts, if there are any, go to a file at `artifacts`.
    pub(super) fn open(
        mut self,
        identities: &Identities,
        key_file: &Path,
        artifacts: &Path,
    ) -> Result<Inside, RecoveryError> {
        let fail = |source| RecoveryError::File { path: self.path.clone(), source };
        self.file.seek(SeekFrom::Start(self.head.payload_at as u64)).map_err(fail)?;
        let payload = (&self.file).take(self.head.header.payload.bytes);
        let mut tee = Tee { from: payload, hasher: Hasher::new() };
        let decryptor = Decryptor::new_buffered(BufReader::new(&mut tee)).map_err(refused)?;
        if decryptor.is_scrypt() {
            return Err(RecoveryError::Decrypt("it has a passphrase, and no recipients".into()));
        }
        let opened = decryptor.decrypt(identities.iter().map(AsRef::as_ref));
        let opened = opened.map_err(|e| match e {
            DecryptError::NoMatchingKeys => RecoveryError::NotForUs(key_file.to_owned()),
            e => refused(e),
        })?;
        let mut clear = BufReader::with_capacity(PIECE, opened);
        let inside = read_inside(&mut clear, artifacts)?;
        drop(clear);
        // The file may have been changed since it was looked at.
        io::copy(&mut tee, &mut io::sink()).map_err(fail)?;
        match tee.hasher.finish() == self.head.header.payload.digest {
            true => Ok(inside),
            false => Err(BundleError::Altered("payload".into()).into()),
        }
    }
}

fn refused(e: DecryptError) -> RecoveryError {
    RecoveryError::Decrypt(crate::age_keys::said(&e))
}

fn read_inside(clear: &mut impl BufRead, artifacts: &Path) -> Result<Inside, RecoveryError> {
    let broken = |e: io::Error| RecoveryError::Decrypt(e.to_string());
    let mut list = Vec::new();
    let mut line = Read::take(&mut *clear, CONTENTS_BYTES_MAX as u64);
    line.read_until(b'\n', &mut list).map_err(broken)?;
    let contents = Contents::parse(&list)?;
    let mut inside = Inside { small: BTreeMap::new(), artifacts: false };
    for entry in contents.entries {
        let mut hasher = Hasher::new();
        let mut part = Read::take(&mut *clear, entry.bytes);
        if entry.item == Item::Artifacts {
            let file = |source| RecoveryError::File { path: artifacts.to_owned(), source };
            let mut to = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(artifacts)
                .map_err(file)?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = part.read(&mut piece).map_err(broken)?;
                if read == 0 {
                    break;
                }
                hasher.update(&piece[..read]);
                to.write_all(&piece[..read]).map_err(file)?;
            }
            inside.artifacts = true;
        } else {
            // Room for all of it, bounded by the list: what grows leaves copies of keys behind.
            let room = usize::try_from(entry.bytes).unwrap_or(usize::MAX);
            let mut bytes = Zeroizing::new(Vec::with_capacity(room));
            part.read_to_end(&mut bytes).map_err(broken)?;
            hasher.update(&bytes);
            inside.small.insert(entry.item.clone(), bytes);
        }
        if (hasher.bytes(), hasher.finish()) != (entry.bytes, entry.digest) {
            return Err(BundleError::Altered(entry.item.to_string()).into());
        }
    }
    let mut rest = [0];
    match clear.read(&mut rest).map_err(broken)? {
        0 => Ok(inside),
        _ => Err(BundleError::Altered("end".into()).into()),
    }
}
