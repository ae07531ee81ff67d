//! Layers as they unpack, kept from a pull to the build that follows it.
//!
//! ```text
//! ROOT/plain/<blob hex>    the layer's tar archive, decompressed; gone once a disk was made of it
//! ```
//!
//! A pull unpacks a layer to learn what is in it, while the next one arrives; what it sees is written
//! down on the way, so that a build does not unpack it once more. It is a copy: one that is missing costs
//! time. It is believed only if it has the digest that the image's config names, which a build checks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use vyr_base::Digest;

use super::blobs::{Images, open_plain};

/// Bytes of a layer that are kept: a larger one is unpacked twice rather than on the disk twice.
const BYTES_MAX: u64 = 4 << 30;

/// Bytes written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A reader whose bytes are written down as they pass, as long as that works.
pub(crate) struct Noted<R> {
    source: R,
    note: Option<Note>,
}

/// What was written so far, under a name of nobody else's.
struct Note {
    file: BufWriter<File>,
    bytes: u64,
    at: PathBuf,
}

impl Drop for Note {
    fn drop(&mut self) {
        // One that was kept has another name by now.
        let _ = fs::remove_file(&self.at);
    }
}

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        if let Some(note) = &mut self.note {
            note.bytes += read as u64;
            if note.bytes > BYTES_MAX || note.file.write_all(&into[..read]).is_err() {
                self.note = None;
            }
        }
        Ok(read)
    }
}

impl Images {
    fn plain_path(&self, blob: &Digest) -> PathBuf {
        self.plain().join(blob.hex())
    }

    /// Notes what a layer unpacks to.
    pub(crate) fn note_plain<R: Read>(&self, blob: &Digest, source: R) -> Noted<R> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.plain-{}-{number}", blob.hex(), std::process::id());
        // Of one who was killed, or of somebody who reads the same layer just now and then keeps none.
        for left in fs::read_dir(self.partial_path("")).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(&format!("{}.plain-", blob.hex())) {
                let _ = fs::remove_file(left.path());
            }
        }
        let at = self.partial_path(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at).ok();
        let file = file.map(|file| BufWriter::with_capacity(BUFFER_BYTES, file));
        Noted { source, note: file.map(|file| Note { file, bytes: 0, at }) }
    }

    /// Keeps what was noted of a layer that was read to its end.
    pub(crate) fn keep_plain<R>(&self, blob: &Digest, noted: Noted<R>) {
        if let Some(mut note) = noted.note
            && note.file.flush().is_ok()
        {
            let _ = fs::rename(&note.at, self.plain_path(blob));
        }
    }

    /// Where a layer is that unpacks to so many bytes, if it was kept.
    pub(crate) fn kept_plain(&self, blob: &Digest, bytes: u64) -> Option<PathBuf> {
        let path = self.plain_path(blob);
        let length = open_plain(&path).ok()?.metadata().ok()?.len();
        (length == bytes).then_some(path)
    }

    /// A layer is not needed any more, or not what it should be.
    pub(crate) fn forget_plain(&self, blob: &Digest) {
        let _ = fs::remove_file(self.plain_path(blob));
    }
}
