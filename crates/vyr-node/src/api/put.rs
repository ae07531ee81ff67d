//! `PutArtifact`: bytes that arrive as messages, into a store that reads.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};
use vyr_api::control::PutArtifactRequest;
use vyr_api::control::put_artifact_request::Part;
use vyr_artifact::{CONFIG_BYTES_MAX, Descriptor, Manifest, check_config, check_head};
use vyr_base::{Digest, Hasher};

use super::convert::status;
use crate::artifact;
use crate::node::{Node, NodeError, is_container_manifest};
use crate::trust::{Trust, TrustedSigner};

/// Messages that wait for the disk.
pub(super) const WAITING_MAX: usize = 16;

/// Artifacts and blobs that come in at once. Each holds a thread that waits for its next piece, and
/// the runtime has 512 for everything that waits.
const PUTS_MAX: usize = 64;

/// A client that says nothing for this long, in the middle of a put, is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for what comes in at once; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Puts(Arc<Semaphore>);

impl Puts {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PUTS_MAX)))
    }

    /// A place, held until it is dropped.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, NodeError> {
        let full = NodeError::Busy { what: "artifacts and blobs on their way", most: PUTS_MAX };
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| full)
    }
}

/// The next message of a put.
pub(super) async fn next<T>(messages: &mut Streaming<T>) -> Result<Option<T>, Status> {
    match tokio::time::timeout(PATIENCE, messages.message()).await {
        Ok(message) => message,
        Err(_) => Err(status(NodeError::Silent(PATIENCE))),
    }
}

/// The blobs of one artifact as they come.
struct Incoming {
    messages: mpsc::Receiver<PutArtifactRequest>,
    /// The start of the next blob, met while the last was read.
    next: Option<String>,
    chunk: Bytes,
    ended: bool,
}

impl Incoming {
    /// The digest of the next blob; `None` at the end.
    fn next_blob(&mut self) -> io::Result<Option<String>> {
        while self.next.is_none() && !self.ended {
            if self.more()? {
                return Err(io::Error::other("more bytes than the blob has"));
            }
        }
        Ok(self.next.take())
    }

    /// Takes a message; `true` if it brought bytes.
    fn more(&mut self) -> io::Result<bool> {
        match self.messages.blocking_recv().map(|message| message.part) {
            Some(Some(Part::Chunk(bytes))) => {
                self.chunk = bytes;
                Ok(!self.chunk.is_empty())
            }
            Some(Some(Part::BlobDigest(digest))) => {
                self.next = Some(digest);
                Ok(false)
            }
            Some(_) => Err(io::Error::other("a second head, or an empty message")),
            None => {
                self.ended = true;
                Ok(false)
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            if self.next.is_some() || self.ended {
                return Ok(0);
            }
            self.more()?;
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.split_to(length).copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Keeps the first bytes of what is read through it.
struct LookedAt<'a> {
    from: &'a mut Incoming,
    seen: &'a mut Vec<u8>,
    most: u64,
}

impl Read for LookedAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let room = usize::try_from(self.most).unwrap_or(usize::MAX) - self.seen.len();
        self.seen.extend_from_slice(&buffer[..read.min(room)]);
        Ok(read)
    }
}

/// Hashes what is written to it.
struct Hashing<'a>(&'a mut Hasher);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was put.
pub(super) struct Put {
    pub(super) digest: Digest,
    pub(super) signer: TrustedSigner,
    pub(super) existed: bool,
}

/// Takes one artifact. Blocks.
pub(super) fn put(
    node: &Node,
    digest: Digest,
    manifest: &[u8],
    signature: &[u8],
    messages: mpsc::Receiver<PutArtifactRequest>,
) -> Result<Put, NodeError> {
    let invalid = |e: &dyn std::fmt::Display| NodeError::Invalid(e.to_string());
    if Digest::of(manifest) != digest {
        return Err(NodeError::Denied(format!("the manifest's digest is not {digest}")));
    }
    if is_container_manifest(manifest) {
        return Err(NodeError::Unsupported { digest: digest.to_string() });
    }
    let parsed = Manifest::parse(manifest).map_err(crate::Report::from)?;
    let trust = Trust::load(node.data())?;
    let signer = trust.verify(&digest, &[signature.to_vec()], Timestamp::now())?;
    let store = node.store();
    if store.contains(&digest).map_err(crate::Report::from)?
        && artifact::admit(store, &trust, &digest).is_ok()
    {
        return Ok(Put { digest, signer, existed: true });
    }
    let armored = String::from_utf8_lossy(signature);
    let kind = vyr_artifact::IMAGE_MANIFEST_TYPE;
    let mut transaction =
        store.begin_put(manifest, kind, BTreeMap::new()).map_err(crate::Report::from)?;
    artifact::attach(&mut transaction, &parsed.descriptor(), &armored)?;
    let mut wanted: VecDeque<&Descriptor> = [parsed.config(), parsed.wasm()].into();
    let mut incoming = Incoming { messages, next: None, chunk: Bytes::new(), ended: false };
    let (mut config, mut head) = (Vec::new(), Vec::new());
    while let Some(name) = incoming.next_blob().map_err(|e| invalid(&e))? {
        let blob: Digest = name.parse().map_err(|e: vyr_base::ParseDigestError| invalid(&e))?;
        let place = wanted.iter().position(|descriptor| descriptor.digest == blob);
        let descriptor = place.and_then(|place| wanted.remove(place));
        let descriptor = descriptor
            .ok_or_else(|| invalid(&format!("{blob} is not a blob that the manifest names")))?;
        let is_config = descriptor.digest == parsed.config().digest;
        let (seen, most) = if is_config { (&mut config, CONFIG_BYTES_MAX) } else { (&mut head, 8) };
        let mut looked_at = LookedAt { from: &mut incoming, seen, most };
        transaction
            .blob(&descriptor.digest, descriptor.size, &mut looked_at)
            .map_err(crate::Report::from)?;
        // The store does not read what it has. What came must be it all the same.
        let mut rest = Hasher::new();
        io::copy(&mut looked_at.take(descriptor.size + 1), &mut Hashing(&mut rest))
            .map_err(|e| invalid(&e))?;
        if rest.bytes() > 0 && (rest.bytes(), rest.finish()) != (descriptor.size, blob) {
            return Err(NodeError::Denied(format!("what came for {blob} is something else")));
        }
    }
    if let Some(missing) = wanted.front() {
        return Err(invalid(&format!("blob {} did not come", missing.digest)));
    }
    let kind = check_config(&parsed, &config).map_err(crate::Report::from)?;
    check_head(kind, &head).map_err(crate::Report::from)?;
    transaction.commit().map_err(crate::Report::from)?;
    Ok(Put { digest, signer, existed: false })
}
