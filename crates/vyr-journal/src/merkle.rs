//! The Merkle tree of the log (RFC 6962, section 2.1) while it grows.
//!
//! ```text
//!            root                 size 7 = 0b111: three complete subtrees, the peaks
//!          /      \
//!       p2         \              a leaf:  H(0x00 || bytes)
//!      /  \       /  \            a node:  H(0x01 || left || right)
//!     .    .     p1   \
//!    / \  / \   / \    \
//!   0  1  2  3  4  5   6 = p0
//! ```
//!
//! [`Frontier`] holds the peaks only: what is needed to append and to say the root. A complete
//! subtree of 256, 65,536, .. leaves is a [`Tile`]; its hash is told once, when its last leaf
//! arrives, so that a shell can store it and `proof` reads tiles in place of leaves.
//!
//! Invariants:
//! 1. The root is that of RFC 6962 for every size.
//! 2. Appending costs less than two hashes on average and does not allocate.
//! 3. A stored frontier that is not whole is refused.
//!
//! Not here: proofs (`proof`), where hashes are stored (`vyr-journal-sql`).

use vyr_base::{Category, Digest, Hasher, Problem};

/// A hash of the tree: SHA-256.
pub type Hash = Digest;

/// Levels between one kind of tile and the next: 2^8 = 256 of one make one of the next.
pub const TILE_LEVELS: u8 = 8;

/// Most leaves: sequence numbers are integers of canonical JSON.
pub const LEAVES_MAX: u64 = 1 << 53;

/// The most peaks there can be, plus one while two are merged.
const PEAKS_MAX: usize = 64;

/// The version of the stored form.
const STORED_VERSION: u8 = 1;
/// The version and the size.
const STORED_HEAD: usize = 1 + 8;
const HASH_BYTES: usize = 32;

/// The hash of a leaf (RFC 6962: `SHA-256(0x00 || leaf)`).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(leaf);
    hasher.finish()
}

/// The hash of a node (RFC 6962: `SHA-256(0x01 || left || right)`).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 1 + 2 * HASH_BYTES];
    bytes[1..=HASH_BYTES].copy_from_slice(left.as_bytes());
    bytes[1 + HASH_BYTES..].copy_from_slice(right.as_bytes());
    Hash::of(&bytes)
}

/// The root of the tree without leaves (RFC 6962: the hash of nothing).
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

/// The root over subtrees from left to right, each larger than all after it together.
pub(crate) fn fold_peaks(peaks: &[Hash]) -> Hash {
    let joined = peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
    joined.unwrap_or_else(empty_root)
}

/// A complete subtree whose hash is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Its height: 8, 16, 24, ..; it has 2^level leaves.
    pub level: u8,
    /// Its place among those of its level, from 0.
    pub index: u64,
}

impl Tile {
    /// The leaves below it; `None` if there is no such place.
    pub fn leaves(self) -> Option<std::ops::Range<u64>> {
        let count = 1u64.checked_shl(self.level.into())?;
        let start = self.index.checked_mul(count)?;
        Some(start..start.checked_add(count)?)
    }
}

/// The right edge of the tree.
#[derive(Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The hash of one complete subtree for each bit of `size`, the largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Of the tree without leaves.
    pub fn new() -> Self {
        Self { size: 0, peaks: Vec::with_capacity(PEAKS_MAX) }
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the complete subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root. It takes up to 52 hashes, so it is for checkpoints, not for each leaf.
    pub fn root(&self) -> Hash {
        fold_peaks(&self.peaks)
    }

    /// Appends a leaf by its [`leaf_hash`]; returns its index.
    ///
    /// `tile` is told every tile this leaf completes, the smallest first.
    pub fn append(&mut self, leaf: Hash, mut tile: impl FnMut(Tile, Hash)) -> u64 {
        let index = self.size;
        let mut hash = leaf;
        let mut level = 0u8;
        // Each 1 at the low end of the index is a subtree that this leaf completes.
        while index >> level & 1 == 1 {
            let left = self.peaks.pop().unwrap_or_else(|| unreachable!("a peak for each bit"));
            hash = node_hash(&left, &hash);
            level += 1;
            if level.is_multiple_of(TILE_LEVELS) {
                tile(Tile { level, index: index >> level }, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
        index
    }

    /// The stored form: a version byte, the size (8 bytes, big endian), the peaks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STORED_HEAD + HASH_BYTES * self.peaks.len());
        bytes.push(STORED_VERSION);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for peak in &self.peaks {
            bytes.extend_from_slice(peak.as_bytes());
        }
        bytes
    }

    /// Reads the stored form. That the hashes are those of the log is for its reader to check,
    /// against a root.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let Some((head, hashes)) = bytes.split_first_chunk::<STORED_HEAD>() else {
            return Err(FrontierError::Length { found: bytes.len(), expected: STORED_HEAD });
        };
        let [version, size @ ..] = *head;
        if version != STORED_VERSION {
            return Err(FrontierError::Version { found: version });
        }
        let size = u64::from_be_bytes(size);
        if size > LEAVES_MAX {
            return Err(FrontierError::Size { found: size });
        }
        let count = usize::try_from(size.count_ones()).unwrap_or(PEAKS_MAX);
        let (chunks, rest) = hashes.as_chunks::<HASH_BYTES>();
        if chunks.len() != count || !rest.is_empty() {
            let expected = STORED_HEAD + HASH_BYTES * count;
            return Err(FrontierError::Length { found: bytes.len(), expected });
        }
        let mut frontier = Self { size, ..Self::new() };
        frontier.peaks.extend(chunks.iter().copied().map(Hash::from_bytes));
        Ok(frontier)
    }
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Frontier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frontier {{ size: {}, root: {} }}", self.size, self.root())
    }
}

/// Why a stored frontier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrontierError {
    /// Another version of the form.
    #[error("stored frontier has version {found}, expected {STORED_VERSION}")]
    Version {
        /// What it says.
        found: u8,
    },
    /// More leaves than a journal can have.
    #[error("stored frontier has {found} leaves, more than {LEAVES_MAX}")]
    Size {
        /// What it says.
        found: u64,
    },
    /// Not one hash for each bit of its size.
    #[error("stored frontier has {found} bytes, expected {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

impl Problem for FrontierError {
    fn category(&self) -> Category {
        Category::Internal
    }

    fn hint(&self) -> Option<String> {
        Some("look for what else changed: vyr verify --journal".to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6962, section 2.1, word for word.
    pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
            }
        }
    }

    pub(crate) fn some_leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    pub(crate) fn hex(text: &str) -> Hash {
        Hash::from_hex(text).expect("64 hex digits")
    }

    /// The leaves of certificate-transparency's `merkletree` tests.
    pub(crate) fn published_leaves() -> Vec<Hash> {
        let wide: Vec<u8> = (0x60..0x70).collect();
        let leaves: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &wide,
        ];
        leaves.map(leaf_hash).to_vec()
    }

    /// Their roots, for one to eight leaves.
    pub(crate) const PUBLISHED_ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn the_published_roots_hold() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), Hash::of(b""));
        for (leaf, root) in published_leaves().into_iter().zip(PUBLISHED_ROOTS) {
            frontier.append(leaf, |_, _| unreachable!("no tile below 256 leaves"));
            assert_eq!(frontier.root(), hex(root));
        }
    }

    #[test]
    fn every_root_up_to_600_is_that_of_the_definition() {
        let leaves = some_leaves(600);
        let mut frontier = Frontier::new();
        let mut tiles = Vec::new();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), naive_root(&leaves[..size]), "{size}");
            let bytes = frontier.to_bytes();
            assert_eq!(Frontier::from_bytes(&bytes).expect("ours"), frontier);
            frontier.append(*leaf, |tile, hash| tiles.push((tile, hash)));
        }
        let tile = |index| Tile { level: 8, index };
        let expected =
            [(tile(0), naive_root(&leaves[..256])), (tile(1), naive_root(&leaves[256..512]))];
        assert_eq!(tiles, expected);
        assert_eq!(tile(1).leaves(), Some(256..512));
        assert_eq!(Tile { level: 64, index: 1 }.leaves(), None);
        assert_eq!(Tile { level: 8, index: u64::MAX }.leaves(), None);
    }

    /// Without the prefixes, whoever shows a node's two halves as a leaf has a leaf under the root
    /// that was never appended.
    #[test]
    fn a_node_is_no_leaf() {
        let [left, right] = [leaf_hash(b"a"), leaf_hash(b"b")];
        let halves = [&left.as_bytes()[..], right.as_bytes()].concat();
        assert_ne!(leaf_hash(&halves), node_hash(&left, &right));
        assert_ne!(leaf_hash(&[&[1], &halves[..]].concat()), node_hash(&left, &right));
        assert_eq!(node_hash(&left, &right), Hash::of(&[&[1], &halves[..]].concat()));
        assert_eq!(leaf_hash(b"a"), Hash::of(b"\0a"));
    }

    #[test]
    fn a_damaged_frontier_is_refused() {
        let mut frontier = Frontier::new();
        for leaf in some_leaves(5) {
            frontier.append(leaf, |_, _| ());
        }
        let good = frontier.to_bytes();
        assert_eq!(good.len(), 9 + 2 * 32);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Frontier::from_bytes(&bytes)
        };
        assert!(matches!(with(0, 2), Err(FrontierError::Version { found: 2 })));
        assert!(matches!(with(1, 0x80), Err(FrontierError::Size { .. })));
        assert!(matches!(with(8, 7), Err(FrontierError::Length { found: 73, expected: 105 })));
        for end in 0..good.len() {
            assert!(Frontier::from_bytes(&good[..end]).is_err(), "{end}");
        }
        assert!(Frontier::from_bytes(&[&good[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in any::<Vec<u8>>()) {
            if let Ok(frontier) = Frontier::from_bytes(&bytes) {
                prop_assert_eq!(frontier.to_bytes(), bytes);
            }
        }
    }
}
