//! A rebuild of a host elsewhere: the bundle is carried there, the key that opens bundles is not.
//!
//! An age file is encrypted with a key of its own, which is wrapped for each recipient. That one key is
//! unwrapped here and sent along: it opens this bundle, which is that host's to have, and no other.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::{DecryptError, Decryptor};
use age_core::format::{FileKey, Stanza};
use vyr_artifact::{AllowedSigners, TrustPolicy};
use vyr_net::words::{self, Bytes, FRAME_BYTES_MAX};
use zeroize::Zeroizing;

use super::open::look;
use super::rebuild::{Opener, RebuildRequest, rebuild};
use super::{Rebuilt, RecoveryError};
use crate::age_keys::{Identities, identities, said};
use crate::data_dir::replace;
use crate::{DataDir, Result};

/// Bytes of a bundle that is carried: with what becomes of them they fit into one frame.
const BUNDLE_BYTES_MAX: u64 = (FRAME_BYTES_MAX as u64 / 4 - (1 << 20)) * 3;

/// Bytes of a file's key.
const FILE_KEY_BYTES: usize = 16;

type Key = Zeroizing<[u8; FILE_KEY_BYTES]>;

/// What a host elsewhere needs of a bundle: its bytes, and the key of this one file.
pub fn carry(bundle: &Path, trust: &TrustPolicy, identity: &Path) -> Result<(Bytes, Bytes)> {
    let checked = look(bundle, Some(trust))?;
    let bytes = checked.head.file_bytes();
    if bytes > BUNDLE_BYTES_MAX {
        return Err(RecoveryError::TooLarge { bytes, most: BUNDLE_BYTES_MAX }.into());
    }
    let fail = |source| RecoveryError::File { path: bundle.to_owned(), source };
    let mut file = File::open(bundle).map_err(fail)?;
    file.seek(SeekFrom::Start(checked.head.payload_at as u64)).map_err(fail)?;
    let keys = identities(identity)?;
    let catch = Catch { inner: &keys, found: RefCell::new(None) };
    let decryptor = Decryptor::new(&file).map_err(|e| RecoveryError::Decrypt(said(&e)))?;
    let opened = decryptor.decrypt(std::iter::once(&catch as &dyn age::Identity));
    opened.map(drop).map_err(|e| match e {
        DecryptError::NoMatchingKeys => RecoveryError::NotForUs(identity.to_owned()),
        e => RecoveryError::Decrypt(said(&e)),
    })?;
    let key = catch.found.into_inner();
    let key = key.ok_or_else(|| RecoveryError::NotForUs(identity.to_owned()))?;
    file.rewind().map_err(fail)?;
    let mut all = Vec::new();
    file.take(BUNDLE_BYTES_MAX).read_to_end(&mut all).map_err(fail)?;
    Ok((Bytes(all), Bytes(key.to_vec())))
}

/// Makes this host the node that a bundle is of which was carried here.
pub fn rebuild_carried(data: &DataDir, asked: words::Rebuild) -> Result<words::Rebuilt> {
    let signers = AllowedSigners::parse(&asked.trust.0)?;
    let trust = TrustPolicy { signers, ..TrustPolicy::default() };
    let key = Zeroizing::new(asked.file_key.0);
    let key = <[u8; FILE_KEY_BYTES]>::try_from(key.as_slice())
        .map_err(|_| RecoveryError::Decrypt("the key of the file has another length".into()))?;
    data.directory("network")?;
    let path = data.path().join("network/carried.bundle");
    let file = |source| RecoveryError::File { path: path.clone(), source };
    replace(&path, &asked.bundle.0).map_err(file)?;
    let _gone = Gone(path.clone());
    let made = rebuild(
        data,
        &RebuildRequest {
            bundle: &path,
            trust: &trust,
            opener: Opener::File(Zeroizing::new(key)),
            machine: asked.machine.as_deref(),
            at_least: asked.at_least,
            threshold: asked.threshold,
            anyway: asked.anyway,
            by: &asked.by,
            backend: asked.backend.into(),
        },
    )?;
    Ok(made.into())
}

impl From<Rebuilt> for words::Rebuilt {
    fn from(made: Rebuilt) -> Self {
        let header = made.header;
        Self {
            bundle: made.bundle,
            site: header.site.to_string(),
            machine: header.machine.to_string(),
            plan: header.plan_digest,
            epoch: header.epoch,
            made: header.made,
            signer: made.signer,
            approvers: made.approvers,
            nothing: made.outcome == crate::network::Outcome::Nothing,
            found: made.state,
            artifacts: made.artifacts as u64,
            artifacts_missing: made.missing_artifacts as u64,
            unasked: made.unasked,
        }
    }
}

/// A file that goes when this does.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0)
            && e.kind() != io::ErrorKind::NotFound
        {
            eprintln!("vyr: {} stays: {e}", self.0.display());
        }
    }
}

/// Keeps the key of the file that the others unwrap.
struct Catch<'a> {
    inner: &'a Identities,
    found: RefCell<Option<Key>>,
}

impl age::Identity for Catch<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<std::result::Result<FileKey, DecryptError>> {
        let found = self.inner.iter().find_map(|one| one.unwrap_stanza(stanza))?;
        if let Ok(key) = &found {
            *self.found.borrow_mut() = Some(Zeroizing::new(*key.expose_secret()));
        }
        Some(found)
    }
}

/// Opens one file, with its own key.
pub(super) struct OneFile(pub(super) Key);

impl age::Identity for OneFile {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<std::result::Result<FileKey, DecryptError>> {
        Some(Ok(FileKey::init_with_mut(|key| key.copy_from_slice(self.0.as_slice()))))
    }
}
