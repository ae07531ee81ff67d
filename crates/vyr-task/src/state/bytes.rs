//! Bytes that are overwritten when they are given up: file contents, names, keys and values.
//!
//! Invariants:
//! 1. No buffer here is ever moved by a reallocation: contents grow in chunks, and a chunk that
//!    outgrows its allocation is copied and the old one wiped.
//! 2. A chunk's allocation is at most twice what it holds, or `SMALL_BYTES`.

use std::borrow::Borrow;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

/// Contents come in pieces of this size: large enough that a gigabyte is 16,384 of them, small
/// enough that copying a growing one costs little.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// The first allocation of a chunk; what `malloc` needs beside it is paid by the node's overhead.
const SMALL_BYTES: usize = 64;

/// Overwrites `bytes`, which nobody reads again.
///
/// `black_box` keeps the compiler from leaving the stores out. That is a promise of practice, not
/// of the language: a test reads the process's memory to see that it was kept.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

/// A name or key; clones share it, the last one wipes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(Arc<Wiped>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Wiped(String);

impl Name {
    pub(super) fn new(text: &str) -> Self {
        Self(Arc::new(Wiped(text.to_owned())))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(..)")
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

/// A buffer that is wiped when it is dropped.
#[derive(Default)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes `data` at `at`; what lies between the end and `at` becomes zero.
    fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        if end > self.0.capacity() {
            let room = end.next_power_of_two().clamp(SMALL_BYTES, CHUNK_BYTES.max(end));
            let mut grown = Vec::with_capacity(room);
            grown.extend_from_slice(&self.0);
            wipe(&mut self.0);
            self.0 = grown;
        }
        if at > self.0.len() {
            self.0.resize(at, 0);
        }
        let (over, beyond) = data.split_at(data.len().min(self.0.len() - at));
        self.0[at..at + over.len()].copy_from_slice(over);
        self.0.extend_from_slice(beyond);
    }

    fn truncate(&mut self, length: usize) {
        if let Some(tail) = self.0.get_mut(length..) {
            wipe(tail);
            self.0.truncate(length);
        }
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// The contents of one file. A chunk may be shorter than its part of the file, or absent: what is
/// missing reads as zero. So a file grows in no time, whatever size it is given.
#[derive(Default)]
pub(super) struct Contents {
    size: u64,
    chunks: Vec<Secret>,
}

impl Contents {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Copies from `offset` on; returns how many bytes, none at the end.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        for (index, at, range) in pieces(offset, length) {
            let piece = &mut into[range];
            let held = self.chunks.get(index).map_or(&[][..], Secret::as_slice);
            let held = held.get(at..).unwrap_or_default();
            let copied = held.len().min(piece.len());
            piece[..copied].copy_from_slice(&held[..copied]);
            piece[copied..].fill(0);
        }
        length
    }

    /// Writes `data` at `offset`. The caller has paid for the growth.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (index, at, range) in pieces(offset, data.len()) {
            if index >= self.chunks.len() {
                self.chunks.resize_with(index + 1, Secret::default);
            }
            self.chunks[index].write(at, &data[range]);
        }
        if !data.is_empty() {
            self.size = self.size.max(offset + data.len() as u64);
        }
    }

    /// Cuts or extends to `size`. The caller has paid for the growth.
    pub(super) fn set_size(&mut self, size: u64) {
        if size < self.size {
            let (index, at) = place(size);
            self.chunks.truncate(index + usize::from(at > 0));
            if at > 0
                && let Some(last) = self.chunks.get_mut(index)
            {
                last.truncate(at);
            }
            self.chunks.shrink_to_fit();
        }
        self.size = size;
    }
}

/// The chunk that holds `offset`, and where in it.
fn place(offset: u64) -> (usize, usize) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    (offset / CHUNK_BYTES, offset % CHUNK_BYTES)
}

/// Cuts `length` bytes from `offset` on at the borders of chunks: chunk, place in it, and the range
/// of the caller's buffer.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let (index, at) = place(offset + done as u64);
        let step = (CHUNK_BYTES - at).min(length - done);
        let range = done..done + step;
        done += step;
        Some((index, at, range))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Offsets around the borders of chunks, and lengths that cross one.
    fn spots() -> impl Strategy<Value = (u64, usize)> {
        let border = prop_oneof![Just(0u64), Just(1), Just(2)];
        let near = (-70i64..70).prop_map(|d| d);
        (border, near, prop_oneof![0usize..80, Just(CHUNK_BYTES), Just(CHUNK_BYTES + 33)]).prop_map(
            |(border, near, length)| {
                let base = border * CHUNK_BYTES as u64;
                (base.saturating_add_signed(near), length)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn contents_are_what_a_plain_vector_would_be(
            steps in proptest::collection::vec((spots(), any::<u8>(), 0u8..4), 1..20),
        ) {
            let (mut contents, mut plain) = (Contents::default(), Vec::<u8>::new());
            for ((offset, length), fill, what) in steps {
                let at = usize::try_from(offset).expect("small");
                if what == 0 {
                    contents.set_size(offset);
                    plain.resize(at, 0);
                } else {
                    let data = vec![fill; length];
                    contents.write(offset, &data);
                    if length > 0 {
                        plain.resize(plain.len().max(at + length), 0);
                        plain[at..at + length].copy_from_slice(&data);
                    }
                }
                prop_assert_eq!(contents.size(), plain.len() as u64);
                let mut all = vec![0xEE; plain.len() + 1];
                prop_assert_eq!(contents.read(0, &mut all), plain.len());
                prop_assert!(all[..plain.len()] == plain[..]);
                let mut some = vec![0xEE; 100];
                let read = contents.read(offset, &mut some);
                prop_assert_eq!(&some[..read], plain.get(at..).map_or(&[][..], |p| &p[..read]));
            }
        }
    }

    #[test]
    fn a_small_file_has_a_small_allocation() {
        let mut contents = Contents::default();
        contents.write(0, b"x");
        assert_eq!(contents.chunks[0].0.capacity(), SMALL_BYTES);
        contents.write(CHUNK_BYTES as u64 - 1, b"x");
        assert_eq!(contents.chunks[0].0.capacity(), CHUNK_BYTES);
    }

    #[test]
    fn a_huge_hole_takes_no_memory() {
        let mut contents = Contents::default();
        contents.set_size(1 << 40);
        assert_eq!(contents.chunks.capacity(), 0);
        let mut some = [1; 8];
        assert_eq!(contents.read((1 << 40) - 4, &mut some), 4);
        assert_eq!(some, [0, 0, 0, 0, 1, 1, 1, 1]);
    }
}
