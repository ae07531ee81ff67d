//! Layers decompressed: gzip, zstd or neither, bounded and hashed.
//!
//! Both formats may be several members one after the other (eStargz, zstd:chunked). The decoders
//! are Rust: what a stranger compressed is not given to C code in this process. A zstd window is 128 MiB at most, the decoder's own bound.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use vyr_base::{Digest, Hasher};

use super::manifest::Compression;

/// Bytes read from a blob at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The bytes of a layer's tar archive.
pub(crate) fn unpack<'a>(
    compression: Compression,
    packed: Box<dyn Read + Send + 'a>,
) -> Box<dyn Read + Send + 'a> {
    let packed = BufReader::with_capacity(BUFFER_BYTES, packed);
    match compression {
        Compression::Plain => Box::new(packed),
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            Box::new(Zstd { source: packed, decoder: FrameDecoder::new(), within: false })
        }
    }
}

/// Frames one after the other; skippable ones are skipped.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if self.within {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    let blocks = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder.decode_blocks(&mut self.source, blocks).map_err(invalid)?;
                }
                let read = self.decoder.read(into)?;
                if read > 0 {
                    return Ok(read);
                }
                self.within = false;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.begin()?;
        }
    }
}

impl<R: BufRead> Zstd<R> {
    /// Reads the next frame's header, or skips a frame.
    fn begin(&mut self) -> io::Result<()> {
        use FrameDecoderError::ReadFrameHeaderError as InHeader;
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.within = true,
            Err(InHeader(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                if skipped < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(e) => return Err(invalid(e)),
        }
        Ok(())
    }
}

fn invalid(e: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {e}"))
}

/// Counts and hashes what passes, and stops at a limit.
pub(crate) struct Counted<R> {
    source: R,
    hasher: Hasher,
    limit: u64,
    over: bool,
}

impl<R: Read> Counted<R> {
    pub(crate) fn new(source: R, limit: u64) -> Self {
        Self { source, hasher: Hasher::new(), limit, over: false }
    }

    /// Whether more came than the limit allows.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// How many bytes came.
    pub(crate) fn total(&self) -> u64 {
        self.hasher.bytes()
    }

    /// The digest of all that came.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        self.hasher.update(&into[..read]);
        if self.hasher.bytes() > self.limit {
            self.over = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "limit"));
        }
        Ok(read)
    }
}
