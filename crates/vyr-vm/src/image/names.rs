//! What is in a layer, kept beside its blob: the names that a build would otherwise unpack it for.
//!
//! ```text
//! ROOT/names/<blob hex>    SHA-256 of the rest, then the rest: version, compression, the records
//! ```
//!
//! A pull reads each layer as soon as it is here, while the next one arrives. What is kept is a copy
//! of what the blob says: a file that is missing, damaged or of another version costs the time of
//! reading the layer again, and nothing else. It is believed only together with the blob's own
//! digest, which a build checks again.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use vyr_base::{Digest, Hasher};

use super::blobs::{BlobError, Images, open_plain};
use super::fault::FsError;
use super::manifest::Compression;
use super::scan::Scan;

/// The form of the file.
const VERSION: u32 = 1;

/// Bytes of a file. Names and attributes are bounded, and a record has some 40 bytes beside them.
const BYTES_MAX: u64 = 512 << 20;

/// Bytes of the digest in front.
const DIGEST_BYTES: usize = 32;

#[derive(Serialize)]
struct Kept<'a> {
    version: u32,
    compression: Compression,
    scan: &'a Scan,
}

#[derive(Deserialize)]
struct Found {
    version: u32,
    compression: Compression,
    scan: Scan,
}

impl Images {
    fn names_path(&self, blob: &Digest) -> PathBuf {
        self.names().join(blob.hex())
    }

    /// What a pull found in a layer, if that is here and whole.
    pub(crate) fn known_names(&self, blob: &Digest, compression: Compression) -> Option<Scan> {
        let file = open_plain(&self.names_path(blob)).ok()?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (digest, rest) = bytes.split_at_checked(DIGEST_BYTES)?;
        if Digest::of(rest).as_bytes() != digest {
            return None;
        }
        let found: Found = postcard::from_bytes(rest).ok()?;
        (found.version == VERSION && found.compression == compression).then_some(found.scan)
    }

    /// Keeps what is in a layer. What cannot be kept is read again.
    pub(crate) fn keep_names(&self, blob: &Digest, compression: Compression, scan: &Scan) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let kept = Kept { version: VERSION, compression, scan };
        let Ok(rest) = postcard::to_stdvec(&kept) else { return };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.names-{}-{number}", blob.hex(), std::process::id());
        let temporary = self.partial_path(&name);
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(Digest::of(&rest).as_bytes())?;
            file.write_all(&rest)?;
            fs::rename(&temporary, self.names_path(blob))
        };
        if write().is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    /// Reads a file again and compares it with a digest: a blob's with its name, or that of what it
    /// unpacks to.
    pub(crate) fn check_file(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let mut file = open_plain(path)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer).map_err(FsError::on("read", path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        match hasher.finish() {
            found if found == *digest => Ok(()),
            found => Err(BlobError::Damaged { digest: *digest, found }),
        }
    }
}
