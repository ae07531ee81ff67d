//! What an image may cost: bytes, entries, time.

use std::time::Duration;

/// Largest manifest, index or config, in bytes: what registries themselves take at most (4 MiB).
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Longest path inside an image, in bytes: Linux's own PATH_MAX, without its end.
pub(crate) const PATH_BYTES_MAX: usize = 4095;

/// Longest name of a directory's entry, in bytes: Linux's NAME_MAX.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Largest extended header of an entry, in bytes: room for several attributes of the kernel's
/// largest size, 64 KiB.
pub(crate) const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// What one image may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All blobs together as they lie in the registry, in bytes.
    pub compressed_bytes: u64,
    /// All layers together once decompressed, in bytes.
    pub unpacked_bytes: u64,
    /// How many layers.
    pub layers: usize,
    /// Entries of all layers together, headers that only extend others included.
    pub entries: u64,
    /// Names, link targets and attributes of all entries together, in bytes; they are in memory.
    pub names_bytes: u64,
    /// How long one blob may take to arrive.
    pub blob_time: Duration,
    /// How long nothing may arrive.
    pub stall_time: Duration,
    /// How long a pull, or a build, may take in all.
    pub total_time: Duration,
}

impl Default for Limits {
    /// 10 GiB compressed, 50 GiB unpacked, 128 layers, a million entries with 256 MiB of names;
    /// 30 minutes a blob, 30 seconds of silence, one hour in all.
    fn default() -> Self {
        Self {
            compressed_bytes: 10 << 30,
            unpacked_bytes: 50 << 30,
            layers: 128,
            entries: 1_000_000,
            names_bytes: 256 << 20,
            blob_time: Duration::from_secs(30 * 60),
            stall_time: Duration::from_secs(30),
            total_time: Duration::from_secs(60 * 60),
        }
    }
}
